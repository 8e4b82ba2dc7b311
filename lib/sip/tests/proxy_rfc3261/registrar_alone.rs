//! A server that is nothing but a registrar (§10.3): what it says to everything else.

use sps_sip::proxy::{Conf, Mode};

use crate::house::*;

fn registrar() -> House {
    house_with(Conf {
        mode: Mode::Registrar,
        ..conf()
    })
}

/// §8.2.1: "MUST generate a 405 ... MUST also add an Allow header field"; §21.5.2 for what is not even known
#[test]
fn other_methods_are_not_allowed() {
    let mut house = registrar();
    for (n, method) in ["INVITE", "MESSAGE", "SUBSCRIBE", "BYE"].iter().enumerate() {
        for uri in ["sip:bob@example.com", "sip:bob@foreign.example", "sip:example.com"] {
            let sent = house.feed(CALLER, &request(method, uri, &format!("{n}{}", uri.len()), ""));
            assert_eq!(lines(&sent), ["SIP/2.0 405 Method Not Allowed"], "{method} {uri}");
            assert_eq!(sent[0].header("Allow"), ["ACK, CANCEL, OPTIONS, REGISTER"]);
        }
    }
    let sent = house.feed(CALLER, &request("FROBNICATE", "sip:example.com", "x", ""));
    assert_eq!(lines(&sent), ["SIP/2.0 501 Not Implemented"]);
    assert_eq!(house.core.transactions(), 0, "refused without keeping anything");
    house.ends();
}

/// §17.1.1.3: the ACK of a refused INVITE, and one that nobody waits for
#[test]
fn an_ack_is_absorbed() {
    let mut house = registrar();
    let sent = house.feed(CALLER, &invite());
    let to = sent[0].header("To")[0].to_owned();
    let ack = request("ACK", "sip:bob@example.com", "a", "");
    assert!(
        house
            .feed(CALLER, &ack.replace("To: <sip:bob@example.com>", &format!("To: {to}")))
            .is_empty()
    );
    assert!(house.feed(CALLER, &ack).is_empty());
    assert_eq!(
        lines(&house.feed(CALLER, &cancel())),
        ["SIP/2.0 481 Call/Transaction Does Not Exist"]
    );
    house.ends();
}

/// §11.2: OPTIONS about the server; §8.2.2.1: about somebody else
#[test]
fn options_about_the_server_are_answered_with_what_it_allows() {
    let mut house = registrar();
    let sent = house.feed(CALLER, &request("OPTIONS", "sip:example.com", "a", ""));
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK"]);
    assert_eq!(sent[0].header("Allow"), ["ACK, CANCEL, OPTIONS, REGISTER"]);
    for (branch, uri) in [("b", "sip:bob@example.com"), ("c", "sip:foreign.example")] {
        let sent = house.feed(CALLER, &request("OPTIONS", uri, branch, ""));
        assert_eq!(lines(&sent), ["SIP/2.0 404 Not Found"], "{uri}");
    }
    house.ends();
}

/// §10.3 step 1: a REGISTER for another domain would be forwarded by a proxy
#[test]
fn a_register_for_another_domain_is_404() {
    let mut house = registrar();
    let sent = house.feed(CALLER, &request("REGISTER", "sip:foreign.example", "a", ""));
    assert_eq!(lines(&sent), ["SIP/2.0 404 Not Found"]);
    assert!(
        house
            .feed(CALLER, &request("REGISTER", "sip:example.com", "b", ""))
            .is_empty()
    );
    assert_eq!(house.core.transactions(), 1, "the registrar has been asked");
    house.core.reconfigure(conf());
    house.pass_ms(1);
}
