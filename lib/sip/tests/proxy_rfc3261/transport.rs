//! §18 Transport as far as it is the core's: received and rport (RFC 3581), where responses go.

use sps_sip::proxy::Leave;
use sps_wire::flow::Transport;

use crate::house::*;

/// The INVITE with another top Via.
fn via(sent_by: &str) -> String {
    invite().replace("10.0.0.1:5060;branch", &format!("{sent_by};branch"))
}

/// §18.2.1
#[test]
fn received_is_added_when_the_sent_by_is_not_the_source_and_only_then() {
    for (sent_by, wanted) in [
        ("10.0.0.1:5060", None),
        ("10.0.0.1", None),
        ("10.0.0.99:5060", Some("received=10.0.0.1")),
        ("phone.example.net", Some("received=10.0.0.1")),
    ] {
        let mut house = house();
        let sent = house.feed(CALLER, &via(sent_by));
        let below = only(&sent, "INVITE").header("Via")[1];
        match wanted {
            Some(received) => assert!(below.contains(received), "{below}"),
            None => assert!(!below.contains("received"), "{below}"),
        }
        house.ends();
    }
}

/// §18.2.2: to the received address, at the port of the sent-by or 5060.
#[test]
fn a_response_goes_to_the_source_address_and_the_port_of_the_sent_by() {
    for (sent_by, to) in [
        ("10.0.0.1:5070", "10.0.0.1:5070"),
        ("10.0.0.1", "10.0.0.1:5060"),
        ("phone.example.net:5080", "10.0.0.1:5080"),
        ("phone.example.net", "10.0.0.1:5060"),
        ("10.0.0.99:5090", "10.0.0.1:5090"),
    ] {
        let mut house = house();
        let sent = house.feed("10.0.0.1:31234", &via(sent_by));
        assert_eq!(only(&sent, "SIP/2.0 100").to, to, "{sent_by}");
        let sent = house.answer(&only(&sent, "INVITE").clone(), "200 OK");
        assert_eq!(sent[0].to, to, "{sent_by}");
        house.ends();
    }
}

/// RFC 3581 §4: rport without a value is filled in, and received with it even if the address is the same.
#[test]
fn rport_brings_received_with_it() {
    let mut house = house();
    let sent = house.feed("10.0.0.1:31234", &via("10.0.0.1:5060;rport"));
    assert_eq!(sent[0].to, "10.0.0.1:31234");
    let below = only(&sent, "INVITE").header("Via")[1];
    assert!(
        below.contains("rport=31234") && below.contains("received=10.0.0.1"),
        "{below}"
    );
    house.ends();
}

/// Nobody may say from elsewhere where a response goes: a received of the sender's own is overruled.
#[test]
fn a_received_that_the_sender_wrote_is_not_believed() {
    let mut house = house();
    let sent = house.feed(CALLER, &via("10.0.0.1:5060;received=6.6.6.6"));
    assert_eq!(only(&sent, "SIP/2.0 100").to, "10.0.0.1:5060");
    let sent = house.feed("10.0.0.5:5060", &via("10.0.0.77:5060;received=6.6.6.6;x=y"));
    assert_eq!(only(&sent, "SIP/2.0 100").to, "10.0.0.5:5060");
    let below = only(&sent, "INVITE").header("Via")[1];
    assert!(
        below.contains("received=10.0.0.5") && !below.contains("6.6.6.6"),
        "{below}"
    );
    house.ends();
}

/// §18.2.1 speaks of the top value only.
#[test]
fn the_vias_below_the_top_one_are_not_stamped() {
    let mut house = house();
    let text = invite().replacen(
        "\r\nMax",
        "\r\nVia: SIP/2.0/UDP deep.example.net;rport;branch=z9hG4bKd\r\nMax",
        1,
    );
    let sent = house.feed(CALLER, &text);
    assert_eq!(
        only(&sent, "INVITE").header("Via")[2],
        "SIP/2.0/UDP deep.example.net;rport;branch=z9hG4bKd"
    );
    house.ends();
}

/// IPv6: the source is compared as an address and written without brackets (§20.42, §25.1 via-received).
#[test]
fn received_and_rport_work_over_ipv6() {
    let mut house = house();
    let sent = house.feed("[2001:db8::1]:31234", &via("[2001:DB8:0::1]:5060"));
    assert_eq!(only(&sent, "SIP/2.0 100").to, "[2001:db8::1]:5060");
    assert!(
        !only(&sent, "INVITE").header("Via")[1].contains("received"),
        "the same address, written otherwise"
    );
    let sent = house.feed("[2001:db8::1]:31234", &via("[2001:db8::5]:5060;rport"));
    assert_eq!(only(&sent, "SIP/2.0 100").to, "[2001:db8::1]:31234");
    let below = only(&sent, "INVITE").header("Via")[1];
    assert!(
        below.contains("received=2001:db8::1") || below.contains("received=[2001:db8::1]"),
        "{below}"
    );
    house.ends();
}

/// §18.2.2: over TCP "using the existing connection to the source of the original request"
#[test]
fn over_tcp_responses_take_the_connection_of_the_request() {
    let mut house = house();
    let text = via("10.0.0.1:5060").replace("SIP/2.0/UDP", "SIP/2.0/TCP");
    let sent = house.feed_by(Transport::Tcp, "10.0.0.1:40000", &text);
    let forwarded = only(&sent, "INVITE").clone();
    let mut all = vec![only(&sent, "SIP/2.0 100").clone()];
    all.extend(house.answer(&forwarded, "180 Ringing"));
    all.extend(house.answer(&forwarded, "200 OK"));
    assert_eq!(all.len(), 3);
    for response in all {
        match response.leave {
            Leave::Reply(flow) => assert_eq!((flow.transport, flow.connection), (Transport::Tcp, CONNECTION)),
            other => panic!("{other:?}"),
        }
    }
    house.ends();
}

/// RFC 3581 §4: "The response MUST be sent from the same address and port that the corresponding request was received on."
#[test]
fn a_response_leaves_by_the_socket_its_request_came_to() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    match &only(&sent, "SIP/2.0 100").leave {
        Leave::Reply(flow) => assert_eq!(flow.local.to_string(), "127.0.0.1:5060"),
        other => panic!("{other:?}"),
    }
    house.ends();
}

/// §18.2.2 has the response forwarded to an maddr; SPS departs from that, or anybody could aim our responses at others.
#[test]
fn an_maddr_in_the_via_is_not_obeyed() {
    let mut house = house();
    let sent = house.feed(CALLER, &via("10.0.0.1:5070;maddr=10.0.0.50"));
    assert_eq!(only(&sent, "SIP/2.0 100").to, "10.0.0.1:5070");
    house.ends();
}

/// §8.2.6.1: a 100 bears the Timestamp; §8.2.6.2: no response of ours to the INVITE but the 100 lacks a To tag.
#[test]
fn our_own_responses_are_built_by_the_book() {
    let mut house = house();
    house.targets.clear();
    let sent = house.feed(
        CALLER,
        &request("INVITE", "sip:bob@example.com", "a", "Timestamp: 54.2\r\n"),
    );
    let (trying, failure) = (only(&sent, "SIP/2.0 100"), only(&sent, "SIP/2.0 480"));
    assert!(trying.header("Timestamp")[0].starts_with("54.2"));
    for response in [trying, failure] {
        assert_eq!(response.header("Via"), ["SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKa"]);
        assert_eq!(response.header("From"), ["<sip:alice@example.com>;tag=caller"]);
        assert_eq!(response.header("Call-ID"), ["call-1"]);
        assert_eq!(response.header("CSeq"), ["1 INVITE"]);
    }
    assert_eq!(trying.header("To"), ["<sip:bob@example.com>"]);
    assert!(failure.header("To")[0].starts_with("<sip:bob@example.com>;tag="));
    house.ends();
}
