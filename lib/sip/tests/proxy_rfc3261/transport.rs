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
        assert_eq!(response.header("Content-Length"), ["0"], "§20.14");
        // §20: what is mandatory, and nothing that does not apply.
        let known = ["Via", "From", "To", "Call-ID", "CSeq", "Timestamp", "Content-Length"];
        let mut names = response.text.lines().skip(1).filter_map(|line| line.split_once(':'));
        assert!(names.all(|(name, _)| known.contains(&name)), "{}", response.text);
    }
    assert_eq!(trying.header("To"), ["<sip:bob@example.com>"]);
    assert!(failure.header("To")[0].starts_with("<sip:bob@example.com>;tag="));
    house.ends();
}

/// §18.3, §20.14: "The Content-Length header field MUST be used with stream oriented transports": a request without one is 400,
/// a response without one is dropped; over UDP both are well.
#[test]
fn on_a_stream_a_message_needs_content_length() {
    let mut house = house();
    let text = invite().replace("Content-Length: 0\r\n", "");
    let sent = house.feed_by(
        Transport::Tcp,
        "10.0.0.1:40000",
        &text.replace("SIP/2.0/UDP", "SIP/2.0/TCP"),
    );
    assert_eq!(lines(&sent), ["SIP/2.0 400 Missing Content-Length"]);
    let sent = house.feed(CALLER, &text);
    let forwarded = only(&sent, "INVITE").clone();
    let ringing = answer(&forwarded, "180 Ringing").replace("Content-Length: 0\r\n", "");
    assert_eq!(
        count(&house.feed_by(Transport::Tcp, "10.0.0.2:40000", &ringing), "SIP/2.0"),
        0
    );
    assert_eq!(count(&house.feed("10.0.0.2:5060", &ringing), "SIP/2.0 180"), 1);
    house.ends();
}

/// §18.1.1: a response may come by the connection its request went out on or by one to our sent-by, from any port.
#[test]
fn a_response_is_taken_from_whichever_connection_brings_it() {
    for (transport, from) in [
        (Transport::Tcp, "10.0.0.2:5060"),
        (Transport::Tcp, "10.0.0.2:41234"),
        (Transport::Udp, "10.0.0.2:5060"),
    ] {
        let mut house = house();
        house.targets = vec![place("", 1000, &["tcp:10.0.0.2:5060"])];
        let sent = house.feed(CALLER, &invite());
        let forwarded = only(&sent, "INVITE").clone();
        assert!(forwarded.header("Via")[0].starts_with("SIP/2.0/TCP 127.0.0.1:5060;"));
        let sent = house.feed_by(transport, from, &answer(&forwarded, "486 Busy Here"));
        assert_eq!(count(&sent, "SIP/2.0 486"), 1, "{from}");
        house.ends();
    }
}

/// §19.3: our To tags have more than 32 bits, differ from call to call, and nobody without our keys can foresee them.
#[test]
fn our_tags_are_long_differ_and_cannot_be_foreseen() {
    let tag_of = |house: &mut House, call_id: &str| {
        let text = request("CANCEL", "sip:bob@example.com", call_id, "").replace("call-1", call_id);
        let sent = house.feed(CALLER, &text);
        let to = only(&sent, "SIP/2.0 481").header("To")[0].to_owned();
        to.split_once(";tag=").expect("a tag").1.to_owned()
    };
    let mut house = house();
    let mut tags: Vec<String> = (0..500).map(|call| tag_of(&mut house, &format!("c{call}"))).collect();
    // Each of the digits takes nearly all values at each place.
    for place in 0..16 {
        let mut digits: Vec<u8> = tags.iter().map(|tag| tag.as_bytes()[place]).collect();
        digits.sort_unstable();
        digits.dedup();
        assert_eq!(digits.len(), 16, "hexadecimal digits at {place}");
    }
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len(), 500);
    let mut other = house_with(sps_sip::proxy::Conf {
        keys: sps_sip::proxy::Keys::new(&[sps_sip::proxy::MacKey { id: 1, secret: [8; 32] }]),
        ..conf()
    });
    assert_ne!(tag_of(&mut house, "same"), tag_of(&mut other, "same"));
    assert_eq!(
        tag_of(&mut house, "again"),
        tag_of(&mut house, "again"),
        "§8.2.7: a stateless server says the same twice"
    );
    house.ends();
    other.ends();
}

/// §18.4: what could not be sent over a stream is told to the transaction, which counts it as 503 (§16.9) and goes on.
#[test]
fn a_connection_that_fails_leads_to_the_next_destination() {
    let mut house = house();
    house.targets = vec![place("", 1000, &["tcp:10.0.0.2:5060", "10.0.0.3:5060"])];
    let sent = house.feed(CALLER, &invite());
    let sent = house.send_failed(&only(&sent, "INVITE").clone());
    assert_eq!(only(&sent, "INVITE").to, "10.0.0.3:5060");
    house.ends();
}

/// §18.2.1, §20.42: a Via of another host, with a name we cannot know, keeps its name and its parameters.
#[test]
fn received_is_added_behind_what_the_via_says() {
    let mut house = house();
    let sent = house.feed(CALLER, &via("phone.example.net:5080;alias;x=\"a;b\""));
    let below = only(&sent, "INVITE").header("Via")[1];
    assert!(
        below.starts_with("SIP/2.0/UDP phone.example.net:5080;alias;x=\"a;b\";branch=z9hG4bKa"),
        "{below}"
    );
    assert!(below.ends_with(";received=10.0.0.1"), "{below}");
    house.ends();
}
