//! §8.3 Redirect Servers, with state and without (§8.2.7); §21.3; the `action` parameter of RFC 2543 §6.13.

use sps_sip::proxy::{Conf, Mode};

use crate::house::*;

fn redirecting(mode: Mode) -> House {
    let mut house = house_with(Conf { mode, ..conf() });
    house.targets = vec![place("sip:bob@10.0.0.2:5070", 1000, &[]).told()];
    house
}

const BOTH: [Mode; 2] = [Mode::Redirect, Mode::StatelessRedirect];

/// §8.3, §21.3.3: a 302 with every place, in the order of preference
#[test]
fn the_caller_is_told_every_place_with_its_q() {
    for mode in BOTH {
        let mut house = redirecting(mode);
        house.targets = vec![
            place("sip:bob@10.0.0.3", 250, &[]).told(),
            place("sip:bob@10.0.0.2;transport=tcp", 1000, &[]).told(),
            place("mailto:bob@example.com", 5, &[]).told(),
            place("sip:bob@10.0.0.2;transport=TCP", 700, &[]).told(),
        ];
        let sent = house.feed(CALLER, &invite());
        assert_eq!(lines(&sent), ["SIP/2.0 302 Moved Temporarily"]);
        assert_eq!(
            sent[0].header("Contact"),
            [
                "<sip:bob@10.0.0.2;transport=tcp>;q=1.0",
                "<sip:bob@10.0.0.3>;q=0.25",
                "<mailto:bob@example.com>;q=0.005",
            ],
            "no place twice"
        );
        assert!(sent[0].header("To")[0].contains(";tag="), "§8.2.6.2");
        assert_eq!(sent[0].to, CALLER);
        house.ends();
    }
}

#[test]
fn a_single_place_needs_no_q_and_keeps_its_headers() {
    let mut house = redirecting(Mode::Redirect);
    house.targets = vec![place("sip:bob@10.0.0.2?Subject=x&Priority=y", 300, &[]).told()];
    let sent = house.feed(CALLER, &invite());
    assert_eq!(sent[0].header("Contact"), ["<sip:bob@10.0.0.2?Subject=x&Priority=y>"]);
    house.ends();
}

/// §8.3: "The redirect server maintains transaction state for an entire SIP transaction"
#[test]
fn with_state_the_answer_is_repeated_until_its_ack() {
    let mut house = redirecting(Mode::Redirect);
    let sent = house.feed(CALLER, &invite());
    assert_eq!(house.core.transactions(), 1);
    // The place has changed meanwhile: a repetition is no news of it.
    house.targets = vec![place("sip:bob@10.0.0.9", 1000, &[]).told()];
    let again = house.feed(CALLER, &invite());
    assert_eq!(again[0].text, sent[0].text);
    assert_eq!(count(&house.pass_ms(600), "SIP/2.0 302"), 1, "Timer G");
    house.feed(CALLER, &request("ACK", "sip:bob@example.com", "a", ""));
    assert_eq!(count(&house.pass_ms(10_000), "SIP/2.0"), 0);
    assert_eq!(house.statuses(), [302]);
    house.ends();
}

/// §8.2.7: nothing is kept, nothing is repeated, the tag is the same each time, ACK is ignored
#[test]
fn without_state_every_repetition_is_answered_anew() {
    let mut house = redirecting(Mode::StatelessRedirect);
    let sent = house.feed(CALLER, &invite());
    assert_eq!(house.core.transactions(), 0);
    assert_eq!(house.core.deadline(), None, "no timer");
    assert_eq!(house.feed(CALLER, &invite())[0].text, sent[0].text);
    let to = sent[0].header("To")[0].to_owned();
    let ack = request("ACK", "sip:bob@example.com", "a", "").replace("To: <sip:bob@example.com>", &format!("To: {to}"));
    assert!(house.feed(CALLER, &ack).is_empty());
    assert!(house.pass_ms(40_000).is_empty());
    assert_eq!(house.core.counters().redirected, 2);
    house.ends();
}

/// §8.3: "For well-formed CANCEL requests, it SHOULD return a 2xx response"
#[test]
fn a_cancel_is_answered() {
    for mode in BOTH {
        let mut house = redirecting(mode);
        house.feed(CALLER, &invite());
        assert_eq!(lines(&house.feed(CALLER, &cancel())), ["SIP/2.0 200 OK"]);
        house.ends();
    }
}

/// §8.3: "MUST ignore features that are not understood", §16.3 is for proxies
#[test]
fn what_only_a_proxy_cares_for_is_ignored() {
    for mode in BOTH {
        let mut house = redirecting(mode);
        let text = request(
            "INVITE",
            "sip:bob@example.com",
            "a",
            "Proxy-Require: mystery\r\nRequire: other\r\nRoute: <sip:10.9.9.9;lr>\r\n",
        )
        .replace("Max-Forwards: 70", "Max-Forwards: 0");
        assert_eq!(lines(&house.feed(CALLER, &text)), ["SIP/2.0 302 Moved Temporarily"]);
        let text = request("FROBNICATE", "sip:bob@example.com", "b", "");
        assert_eq!(lines(&house.feed(CALLER, &text)), ["SIP/2.0 302 Moved Temporarily"]);
        house.ends();
    }
}

/// §8.2.2, §16.3 steps 1 and 2 hold for everybody
#[test]
fn what_cannot_be_read_is_refused_as_ever() {
    for mode in BOTH {
        let mut house = redirecting(mode);
        let sent = house.feed(CALLER, &request("INVITE", "http://example.com", "a", ""));
        assert_eq!(lines(&sent), ["SIP/2.0 416 Unsupported URI Scheme"]);
        house.ends();
    }
}

/// §12.2.2: a dialog that we never saw
#[test]
fn a_request_within_a_foreign_dialog_is_481() {
    for mode in BOTH {
        let mut house = redirecting(mode);
        let bye = request_with(
            "10.0.0.1:5060",
            "BYE",
            "sip:bob@example.com",
            ";branch=z9hG4bKb",
            ";tag=callee",
            "",
        );
        assert_eq!(
            lines(&house.feed(CALLER, &bye)),
            ["SIP/2.0 481 Call/Transaction Does Not Exist"]
        );
        let ack = request_with(
            "10.0.0.1:5060",
            "ACK",
            "sip:bob@example.com",
            ";branch=z9hG4bKc",
            ";tag=callee",
            "",
        );
        assert!(house.feed(CALLER, &ack).is_empty());
        house.ends();
    }
}

/// Nothing that began under one mode ends badly because another came.
#[test]
fn a_call_that_was_forwarded_ends_as_one_after_the_mode_has_changed() {
    for mode in BOTH {
        let mut house = house();
        let sent = house.feed(CALLER, &invite());
        let forwarded = only(&sent, "INVITE").clone();
        house.answer(&forwarded, "180 Ringing");
        house.core.reconfigure(Conf { mode, ..conf() });
        house.targets = vec![place("sip:bob@10.0.0.9", 1000, &["10.0.0.2:5060"])];
        assert!(house.feed(CALLER, &invite())[0].text.starts_with("SIP/2.0 180"));
        let sent = house.answer(&forwarded, "200 OK");
        assert_eq!(lines(&sent), ["SIP/2.0 200 OK"]);
        let route = sent[0].header("Record-Route").join(", ");
        let to = sent[0].header("To")[0].to_owned();
        for (method, branch) in [("ACK", "b"), ("BYE", "c")] {
            let text = request(method, "sip:bob@10.0.0.2", branch, &format!("Route: {route}\r\n"))
                .replace("To: <sip:bob@example.com>", &format!("To: {to}"));
            let sent = house.feed(CALLER, &text);
            let onward = only(&sent, method).clone();
            assert_eq!(onward.to, "10.0.0.2:5060");
            if method == "BYE" {
                assert_eq!(lines(&house.answer(&onward, "200 OK")), ["SIP/2.0 200 OK"]);
            }
        }
        house.ends();
    }
}

/// RFC 2543 §6.13: one who wants to be called is, and then a proxy's rules hold (§16.3)
#[test]
fn a_redirect_server_forwards_to_who_asks_for_it_as_a_proxy_does() {
    for mode in BOTH {
        let mut house = redirecting(mode);
        house.targets = callees(1);
        let sent = house.feed(CALLER, &invite());
        assert_eq!(lines(&sent)[0], "SIP/2.0 100 Trying");
        let forwarded = only(&sent, "INVITE").clone();
        assert!(house.feed(CALLER, &invite())[0].text.starts_with("SIP/2.0 100"));
        assert_eq!(lines(&house.answer(&forwarded, "200 OK")), ["SIP/2.0 200 OK"]);
        let text = request("INVITE", "sip:bob@example.com", "b", "").replace("Max-Forwards: 70", "Max-Forwards: 0");
        assert_eq!(lines(&house.feed(CALLER, &text)), ["SIP/2.0 483 Too Many Hops"]);
        let text = request("OPTIONS", "sip:bob@example.com", "c", "Proxy-Require: mystery\r\n");
        let sent = house.feed(CALLER, &text);
        assert_eq!(lines(&sent), ["SIP/2.0 420 Bad Extension"]);
        assert_eq!(sent[0].header("Unsupported"), ["mystery"]);
        house.ends();
    }
}

/// §16.7 step 6: who wants his callers redirected counts as a branch that has answered 302.
#[test]
fn among_several_the_redirecting_one_is_told_when_the_others_fail() {
    for (answers, expected) in [
        (["486 Busy Here", "404 Not Found"], 302),
        (["486 Busy Here", "603 Decline"], 603),
        (["486 Busy Here", "200 OK"], 200),
    ] {
        let mut house = house();
        house.targets = callees(2);
        house.targets.push(place("sip:told@10.0.0.9", 1000, &[]).told());
        let sent = house.feed(CALLER, &invite());
        assert_eq!(count(&sent, "INVITE"), 2);
        let mut last = Vec::new();
        for (callee, status) in sent.iter().filter(|sent| sent.text.starts_with("INVITE")).zip(answers) {
            last = house.answer(callee, status);
        }
        let response = only(&last, "SIP/2.0");
        assert!(
            response.text.starts_with(&format!("SIP/2.0 {expected}")),
            "{}",
            response.text
        );
        if expected == 302 {
            assert_eq!(response.header("Contact"), ["<sip:told@10.0.0.9>"]);
        }
        assert_eq!(house.statuses(), [expected]);
        house.ends();
    }
}
