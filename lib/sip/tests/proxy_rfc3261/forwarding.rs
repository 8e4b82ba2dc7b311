//! §16.6 Request Forwarding, §17.1.1.3 the ACK of a failure, §13.2.2.4 the ACK of a success.

use sps_sip::proxy::Leave;
use sps_wire::flow::Transport;

use crate::house::*;

/// §16.6 step 2, §19.1.1 table 1: no method parameter, no headers in a Request-URI
#[test]
fn what_may_not_stand_in_a_request_uri_is_removed_from_the_targets() {
    let mut house = house();
    house.targets = vec![place(
        "sip:bob@10.0.0.2;x-odd=1;method=BYE;user=phone;transport=udp;maddr=10.0.0.2;ttl=1?Subject=x&Priority=y",
        1000,
        &["10.0.0.2:5060"],
    )];
    let sent = house.feed(CALLER, &invite());
    assert_eq!(
        only(&sent, "INVITE").first_line(),
        "INVITE sip:bob@10.0.0.2;x-odd=1;user=phone;transport=udp;maddr=10.0.0.2;ttl=1 SIP/2.0"
    );
    assert_eq!(
        only(&sent, "INVITE").header("Subject"),
        [""; 0],
        "§19.1.5: no header is taken from a contact"
    );
    house.ends();
}

/// §20.7, §20.28: credentials hold commas; several lines of them "MUST NOT be combined into a single header line".
#[test]
fn credentials_stay_lines_of_their_own() {
    let mut house = house();
    let lines = [
        "Authorization: Digest username=\"a\", realm=\"one\"",
        "Authorization: Digest username=\"a\", realm=\"two\"",
        "Proxy-Authorization: Digest username=\"a\", realm=\"three\"",
        "Proxy-Authorization: Digest username=\"a\", realm=\"four\"",
    ];
    let sent = house.feed(
        CALLER,
        &request("INVITE", "sip:bob@example.com", "a", &(lines.join("\r\n") + "\r\n")),
    );
    let forwarded = only(&sent, "INVITE");
    let found: Vec<&str> = forwarded
        .text
        .lines()
        .filter(|line| line.contains("uthorization: "))
        .collect();
    assert_eq!(found, lines);
    house.ends();
}

/// §16.6 step 1: order kept, nothing added to, changed in or removed from the body
#[test]
fn headers_keep_their_order_and_the_body_its_bytes() {
    let mut house = house();
    let body = "v=0\r\n\r\nVia: not a header\r\n\u{0}\u{1}";
    let text = request(
        "INVITE",
        "sip:bob@example.com",
        "a",
        "Accept: b\r\nSubject: one\r\nAccept: a\r\nContent-Type: application/sdp\r\n",
    )
    .replace(
        "Content-Length: 0\r\n\r\n",
        &format!("Content-Length: {}\r\n\r\n{body}", body.len()),
    );
    let sent = house.feed(CALLER, &text);
    let forwarded = only(&sent, "INVITE");
    assert!(forwarded.text.ends_with(&format!("\r\n\r\n{body}")));
    assert_eq!(forwarded.header("Accept"), ["b", "a"]);
    let names = |text: &str| -> Vec<String> {
        text.split("\r\n\r\n")
            .next()
            .expect("a head")
            .lines()
            .skip(1)
            .map(|line| line.split(':').next().expect("a name").to_owned())
            .filter(|name| !["Via", "Record-Route", "Max-Breadth"].contains(&name.as_str()))
            .collect()
    };
    assert_eq!(names(&forwarded.text), names(&text));
    house.ends();
}

/// §16.6 step 4: "before any existing Record-Route header field values"
#[test]
fn our_record_route_stands_above_those_of_others() {
    let mut house = house();
    let sent = house.feed(
        CALLER,
        &request(
            "INVITE",
            "sip:bob@example.com",
            "a",
            "Record-Route: <sip:edge.example.net;lr>\r\n",
        ),
    );
    let routes = only(&sent, "INVITE").header("Record-Route").join(", ");
    assert!(routes.contains("127.0.0.1:5060;lr"), "{routes}");
    assert!(routes.ends_with("<sip:edge.example.net;lr>"), "{routes}");
    house.ends();
}

/// §16.6 step 4: a request within a dialog, too: "SHOULD insert a Record-Route"; §16.4 takes our Route off first.
#[test]
fn a_re_invite_is_routed_by_our_route_and_recorded_again() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let sent = house.answer(only(&sent, "INVITE"), "200 OK");
    let route = sent[0].header("Record-Route")[0].to_owned();
    house.targets = vec![place("", 1000, &["10.0.0.2:5060"])];
    let text = request_with(
        "10.0.0.1:5060",
        "INVITE",
        "sip:bob@10.0.0.2:5060",
        ";branch=z9hG4bKre",
        ";tag=at-10.0.0.2-5060",
        &format!("Route: {route}\r\nContact: <sip:alice@10.0.0.1>\r\n"),
    )
    .replace("CSeq: 1", "CSeq: 2");
    house.routes_at_once = false;
    assert_eq!(lines(&house.feed(CALLER, &text)), ["SIP/2.0 100 Trying"]);
    let ticket = house.open.remove(0);
    assert!(house.core.dialog(ticket).0);
    let sent = house.route(ticket);
    let again = only(&sent, "INVITE sip:bob@10.0.0.2:5060 SIP/2.0").clone();
    assert!(again.header("Route").is_empty());
    assert_eq!(again.header("Record-Route").len(), 1);
    let sent = house.answer(&again, "200 OK");
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK"]);
    house.ends();
}

/// §16.6 step 6: pushed "ahead of any existing values"
#[test]
fn a_path_is_pushed_above_the_route_that_is_there() {
    let mut house = house();
    house.targets[0].path = vec!["<sip:edge1.example.net;lr>", "<sip:edge2.example.net;lr;ob>"];
    let sent = house.feed(
        CALLER,
        &request(
            "MESSAGE",
            "sip:bob@example.com",
            "a",
            "Route: <sip:127.0.0.1;lr>, <sip:last.example.net;lr>\r\n",
        ),
    );
    let routes = only(&sent, "MESSAGE").header("Route").join(", ");
    assert_eq!(
        routes,
        "<sip:edge1.example.net;lr>, <sip:edge2.example.net;lr;ob>, <sip:last.example.net;lr>"
    );
    house.ends();
}

/// §16.6 step 6: a pushed value without lr makes the next hop a strict router.
#[test]
fn a_strict_path_takes_the_request_uri() {
    let mut house = house();
    house.targets[0].path = vec!["<sip:strict.example.net>"];
    let sent = house.feed(CALLER, &request("MESSAGE", "sip:bob@example.com", "a", ""));
    let forwarded = only(&sent, "MESSAGE");
    assert_eq!(forwarded.first_line(), "MESSAGE sip:strict.example.net SIP/2.0");
    assert_eq!(forwarded.header("Route"), ["<sip:bob@10.0.0.2>"]);
    house.ends();
}

/// §16.6 step 9, §18.3
#[test]
fn towards_a_stream_a_missing_content_length_is_added() {
    let mut house = house();
    house.targets = vec![place("sip:bob@10.0.0.2;transport=tcp", 1000, &["tcp:10.0.0.2:5060"])];
    let text = request("MESSAGE", "sip:bob@example.com", "a", "Content-Type: text/plain\r\n")
        .replace("Content-Length: 0\r\n\r\n", "\r\nhello");
    let sent = house.feed(CALLER, &text);
    let forwarded = only(&sent, "MESSAGE");
    assert_eq!(forwarded.header("Content-Length"), ["5"]);
    assert!(forwarded.text.ends_with("\r\n\r\nhello"));
    assert!(forwarded.header("Via")[0].starts_with("SIP/2.0/TCP "), "§18.1.1");
    house.ends();
}

/// §18.3: bytes beyond Content-Length "MUST be discarded", and do not go on to a stream where they would be a message.
#[test]
fn bytes_behind_the_body_of_a_datagram_are_not_forwarded() {
    let mut house = house();
    house.targets = vec![place("sip:bob@10.0.0.2;transport=tcp", 1000, &["tcp:10.0.0.2:5060"])];
    let sent = house.feed(
        CALLER,
        &(request("MESSAGE", "sip:bob@example.com", "a", "") + "INVITE sip:smuggled SIP/2.0\r\n\r\n"),
    );
    assert!(!only(&sent, "MESSAGE").text.contains("smuggled"));
    house.ends();
}

/// §18.3: a datagram shorter than it says is 400; a response is dropped.
#[test]
fn a_truncated_datagram_is_answered_400_and_a_truncated_response_dropped() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    let cut = answer(&forwarded, "200 OK").replace("Content-Length: 0", "Content-Length: 5");
    assert!(house.feed(&forwarded.to, &cut).is_empty());
    let cut = request("MESSAGE", "sip:bob@example.com", "b", "").replace("Content-Length: 0", "Content-Length: 5");
    let sent = house.feed(CALLER, &cut);
    assert_eq!(sent.len(), 1);
    assert!(sent[0].first_line().starts_with("SIP/2.0 400 "));
    house.ends();
}

/// §16.6 step 7: a timeout leads to the next address of the set, by a new branch each.
#[test]
fn a_destination_that_is_silent_is_followed_by_the_next() {
    let mut house = house();
    house.targets = vec![place("sip:bob@gw", 1000, &["10.0.0.2:5060", "10.0.0.3:5060"])];
    let sent = house.feed(CALLER, &request("MESSAGE", "sip:bob@example.com", "a", ""));
    let first = only(&sent, "MESSAGE").clone();
    assert_eq!(first.to, "10.0.0.2:5060");
    let sent: Vec<_> = house.pass_ms(32_500);
    let second = sent
        .iter()
        .find(|sent| sent.to == "10.0.0.3:5060")
        .expect("the second destination")
        .clone();
    assert_ne!(first.branch(), second.branch());
    house.ends();
}

/// RFC 3263 §4.3: an answer other than 503 is an answer; the next destination is not asked.
#[test]
fn only_silence_and_503_lead_to_the_next_destination() {
    for status in [
        "500 Server Internal Error",
        "408 Request Timeout",
        "404 Not Found",
        "302 Moved Temporarily",
    ] {
        let mut house = house();
        house.targets = vec![place("sip:bob@gw", 1000, &["10.0.0.2:5060", "10.0.0.3:5060"])];
        let sent = house.feed(CALLER, &invite());
        let sent = house.answer(only(&sent, "INVITE"), status);
        assert_eq!(
            lines(&sent),
            ["ACK sip:bob@gw SIP/2.0".to_owned(), format!("SIP/2.0 {status}")]
        );
        house.ends();
    }
}

/// §17.1.1.2: the ACK "MUST be sent to the same address, port, and transport to which the original request was sent"
#[test]
fn after_a_failover_each_ack_goes_where_its_invite_went() {
    let mut house = house();
    house.targets = vec![place("sip:bob@gw", 1000, &["10.0.0.2:5060", "tcp:10.0.0.3:5070"])];
    let sent = house.feed(CALLER, &invite());
    let first = only(&sent, "INVITE").clone();
    let sent = house.answer(&first, "503 Service Unavailable");
    let (ack, second) = (only(&sent, "ACK").clone(), only(&sent, "INVITE").clone());
    assert_eq!(
        (ack.to.as_str(), second.to.as_str()),
        ("10.0.0.2:5060", "10.0.0.3:5070")
    );
    assert_eq!(ack.branch(), first.branch());
    let sent = house.feed_by(Transport::Tcp, "10.0.0.3:5070", &answer(&second, "486 Busy Here"));
    let ack = only(&sent, "ACK");
    assert_eq!(ack.leave, second.leave);
    assert_eq!(ack.branch(), second.branch());
    // §17.1.1.2: a repeated final response gets its ACK again, from the transaction it belongs to.
    let sent = house.answer(&first, "503 Service Unavailable");
    assert_eq!(lines(&sent), ["ACK sip:bob@gw SIP/2.0"]);
    assert_eq!(sent[0].to, "10.0.0.2:5060");
    house.ends();
}

/// §17.1.1.3
#[test]
fn the_ack_of_a_failure_is_built_by_the_book() {
    let mut house = house();
    house.targets = vec![place("", 1000, &["10.0.0.2:5060"])];
    let text = request(
        "INVITE",
        "sip:bob@example.net",
        "a",
        "Route: <sip:one.example.net;lr>, <sip:two.example.net;lr>\r\nRequire: 100rel\r\nContent-Type: text/plain\r\n",
    )
    .replace("Content-Length: 0\r\n\r\n", "Content-Length: 2\r\n\r\nhi");
    let sent = house.feed(CALLER, &text);
    let forwarded = only(&sent, "INVITE").clone();
    let sent = house.answer(&forwarded, "404 Not Found");
    let ack = only(&sent, "ACK");
    assert_eq!(ack.first_line(), "ACK sip:bob@example.net SIP/2.0");
    assert_eq!(ack.header("Via"), [forwarded.header("Via")[0]]);
    assert_eq!(ack.header("From"), forwarded.header("From"));
    assert_eq!(ack.header("Call-ID"), forwarded.header("Call-ID"));
    assert_eq!(ack.header("To"), ["<sip:bob@example.com>;tag=at-10.0.0.2-5060"]);
    assert_eq!(ack.header("CSeq"), ["1 ACK"]);
    assert_eq!(
        ack.header("Route").join(", "),
        "<sip:one.example.net;lr>, <sip:two.example.net;lr>"
    );
    assert_eq!(
        ack.header("Max-Forwards").len(),
        1,
        "§8.1.1 asks for one in every request"
    );
    assert!(ack.text.ends_with("\r\n\r\n"), "no body");
    house.ends();
}

/// §13.2.2.4: the ACK of a 2xx is a request of its own: forwarded along its Route set, never answered.
#[test]
fn the_ack_of_a_success_follows_its_route_set() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let sent = house.answer(only(&sent, "INVITE"), "200 OK");
    let route = sent[0].header("Record-Route")[0].to_owned();
    house.targets = vec![place("", 1000, &["10.0.0.9:5060"])];
    let ack = request_with(
        "10.0.0.1:5060",
        "ACK",
        "sip:bob@10.0.0.2:5060",
        ";branch=z9hG4bKack",
        ";tag=at-10.0.0.2-5060",
        &format!("Route: {route}, <sip:10.0.0.9;lr>\r\n"),
    );
    let sent = house.feed(CALLER, &ack);
    assert_eq!(lines(&sent), ["ACK sip:bob@10.0.0.2:5060 SIP/2.0"]);
    assert_eq!(sent[0].header("Route"), ["<sip:10.0.0.9;lr>"]);
    assert_eq!(sent[0].header("Max-Forwards"), ["69"]);
    assert_eq!(sent[0].header("Via").len(), 2);
    assert!(
        house.pass_ms(40_000).iter().all(|sent| !sent.text.starts_with("ACK")),
        "nobody repeats an ACK"
    );
    // The callee repeats its 200 because that ACK was lost: so does the caller, with the same branch.
    let sent = house.feed(CALLER, &ack);
    assert_eq!(count(&sent, "ACK"), 1, "every ACK goes on");
    house.ends();
}

/// An ACK cannot fail: when its destination cannot be reached it is tried at the next, and then forgotten.
#[test]
fn an_ack_that_cannot_be_sent_ends_in_silence() {
    let mut house = house();
    house.targets = vec![place("", 1000, &["tcp:10.0.0.2:5060"])];
    let ack = request_with(
        "10.0.0.1:5060",
        "ACK",
        "sip:bob@10.0.0.2",
        ";branch=z9hG4bKk",
        ";tag=x",
        "",
    );
    let sent = house.feed(CALLER, &ack);
    let forwarded = only(&sent, "ACK").clone();
    assert!(house.send_failed(&forwarded).is_empty());
    house.targets.clear();
    assert!(
        house.feed(CALLER, &ack.replace("z9hG4bKk", "z9hG4bKl")).is_empty(),
        "no target, no answer"
    );
    house.ends();
}

/// §16.6 step 8, §8.1.1.7
#[test]
fn every_branch_has_a_token_of_its_own_with_the_cookie() {
    let mut house = house();
    house.targets = callees(3);
    let sent = house.feed(CALLER, &invite());
    let mut branches: Vec<_> = sent
        .iter()
        .filter(|sent| sent.text.starts_with("INVITE"))
        .map(Sent::branch)
        .collect();
    assert_eq!(branches.len(), 3);
    assert!(branches.iter().all(|branch| branch.starts_with("z9hG4bK")));
    branches.sort_unstable();
    branches.dedup();
    assert_eq!(branches.len(), 3);
    house.ends();
}

/// §16.6 step 11, §16.7 step 2: a 100 does not begin Timer C anew.
#[test]
fn a_100_does_not_hold_timer_c_off() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    assert!(house.answer(&forwarded, "100 Trying").is_empty());
    house.pass_ms(100_000);
    assert!(house.answer(&forwarded, "100 Trying").is_empty());
    let sent = house.pass_ms(81_300);
    assert_eq!(count(&sent, "CANCEL"), 1, "181 s after it was forwarded");
    house.ends();
}

/// §16.8, §9.1: after Timer C and a CANCEL that nobody heeds, the caller still gets a final response.
#[test]
fn timer_c_ends_the_call_even_if_the_callee_is_dead() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    house.answer(only(&sent, "INVITE"), "180 Ringing");
    let sent = house.pass_ms(181_300);
    assert_eq!(count(&sent, "CANCEL"), 1);
    let sent = house.pass_ms(33_000);
    assert_eq!(
        sent.iter()
            .filter(|s| s.text.starts_with("SIP/2.0 4"))
            .map(Sent::first_line)
            .next(),
        Some("SIP/2.0 408 Request Timeout")
    );
    assert_eq!(house.statuses(), [408]);
    house.ends();
}

/// §16.9: an error of the transport counts as a 503; and that goes upstream as 500 (§16.7 step 6).
#[test]
fn a_destination_that_cannot_be_reached_is_a_503_and_goes_up_as_500() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let sent = house.send_failed(only(&sent, "INVITE"));
    assert_eq!(lines(&sent), ["SIP/2.0 500 Server Internal Error"]);
    house.ends();
}

/// §18.4, §16.9: an ICMP error ends the wait for a first response; a peer that has answered is not disturbed by it.
#[test]
fn an_icmp_error_fails_only_what_has_not_been_answered() {
    let mut house = house();
    house.targets = vec![
        place("sip:bob@10.0.0.2", 1000, &["10.0.0.2:5060"]),
        place("sip:bob@gw", 1000, &["10.0.0.3:5060", "10.0.0.4:5060"]),
    ];
    let sent = house.feed(CALLER, &invite());
    house.answer(only(&sent, "INVITE sip:bob@10.0.0.2"), "180 Ringing");
    assert!(house.unreachable("10.0.0.2:5060").is_empty());
    let sent = house.unreachable("10.0.0.3:5060");
    assert_eq!(lines(&sent), ["INVITE sip:bob@gw SIP/2.0"]);
    assert_eq!(sent[0].to, "10.0.0.4:5060");
    house.ends();
}

/// Design: a branch that is reached by a flow uses that flow or none.
#[test]
fn to_a_destination_a_message_leaves_by_the_listener_of_its_transport() {
    let mut house = house();
    house.targets = vec![
        place("sip:bob@10.0.0.2", 1000, &["tcp:10.0.0.2:5060"]),
        place("sip:bob@6", 1000, &["[2001:db8::2]:5060"]),
    ];
    let sent = house.feed(CALLER, &invite());
    let listener = |start: &str| match &only(&sent, start).leave {
        Leave::Onward { listener, .. } => *listener,
        other => panic!("{other:?}"),
    };
    assert_eq!(listener("INVITE sip:bob@10.0.0.2"), 1);
    assert_eq!(listener("INVITE sip:bob@6"), 2);
    assert!(only(&sent, "INVITE sip:bob@6").header("Via")[0].starts_with("SIP/2.0/UDP [::1]:5060;"));
    house.ends();
}

/// RFC 6665 §4.3: "it MUST add a Record-Route header field to the initial SUBSCRIBE request and all NOTIFY requests"
#[test]
fn a_notify_is_recorded_though_it_has_a_to_tag() {
    let mut house = house();
    let text = request_with(
        "10.0.0.1:5060",
        "NOTIFY",
        "sip:bob@example.com",
        ";branch=z9hG4bKn",
        ";tag=x",
        "",
    );
    let sent = house.feed(CALLER, &text);
    assert_eq!(only(&sent, "NOTIFY").header("Record-Route").len(), 1);
    house.ends();
}

/// §16.6 step 8, §17.1.3: nobody can answer for a branch by guessing: the whole token must be the one sent.
#[test]
fn a_branch_token_that_differs_in_any_digit_is_a_stranger() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    let branch = forwarded.branch().to_owned();
    for at in "z9hG4bKsps".len()..branch.len() {
        let mut bytes = branch.clone().into_bytes();
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        let other = String::from_utf8(bytes).expect("text");
        let text = answer(&forwarded, "200 OK").replacen(&branch, &other, 1);
        assert!(house.feed(&forwarded.to, &text).is_empty(), "digit {at}");
    }
    assert_eq!(lines(&house.answer(&forwarded, "200 OK")), ["SIP/2.0 200 OK"]);
    house.ends();
}

/// §16.9: what no socket of ours can reach is unavailable; it has not timed out, which a non-INVITE would not even be told.
#[test]
fn a_destination_that_no_socket_leads_to_is_a_500() {
    let mut house = house();
    house.targets = vec![place("sip:bob@6", 1000, &["tcp:[2001:db8::2]:5060"])];
    let sent = house.feed(CALLER, &request("MESSAGE", "sip:bob@example.com", "a", ""));
    assert_eq!(lines(&sent), ["SIP/2.0 500 Server Internal Error"]);
    house.ends();
}

/// RFC 5626 §5.3, §11.5: a binding whose flow is dead leads to the next; if there is none, the caller hears 480 and not 430.
#[test]
fn a_binding_whose_flow_is_dead_is_followed_by_the_next_and_then_480() {
    let mut house = house();
    house.targets = vec![
        place("sip:bob@10.0.0.2;transport=tcp", 1000, &["flow:10.0.0.2:41000"]),
        place("sip:bob@10.0.0.3;transport=tcp", 500, &["flow:10.0.0.3:42000"]),
    ];
    let sent = house.feed(CALLER, &request("MESSAGE", "sip:bob@example.com", "a", ""));
    let first = only(&sent, "MESSAGE sip:bob@10.0.0.2").clone();
    let sent = house.send_failed(&first);
    let second = only(&sent, "MESSAGE sip:bob@10.0.0.3").clone();
    let sent = house.send_failed(&second);
    assert_eq!(lines(&sent), ["SIP/2.0 480 Temporarily Unavailable"]);
    house.ends();
}

/// RFC 5626 §5.3.1: who sends a request along our Route to a flow that is gone is told so.
#[test]
fn a_request_in_a_dialog_over_a_dead_flow_is_430() {
    let mut house = house();
    let text = invite().replace("SIP/2.0/UDP", "SIP/2.0/TCP");
    let sent = house.feed_by(Transport::Tcp, "10.0.0.1:40000", &text);
    let forwarded = only(&sent, "INVITE").clone();
    house.answer(&forwarded, "200 OK");
    let routes: String = forwarded
        .header("Record-Route")
        .iter()
        .map(|route| format!("Route: {route}\r\n"))
        .collect();
    house.targets = vec![place("", 1000, &["flow:10.0.0.1:40000"])];
    let bye = request_with(
        "10.0.0.2",
        "BYE",
        "sip:alice@10.0.0.1",
        ";branch=z9hG4bKb",
        ";tag=caller",
        &routes,
    )
    .replace(
        "From: <sip:alice@example.com>;tag=caller",
        "From: <sip:bob@example.com>;tag=at-10.0.0.2-5060",
    );
    let sent = house.feed("10.0.0.2:5060", &bye);
    let sent = house.send_failed(only(&sent, "BYE"));
    assert_eq!(lines(&sent), ["SIP/2.0 430 Flow Failed"]);
    house.ends();
}

/// §16.6 step 6: what a Route value bears besides its URI is nobody's to drop, also where the Route is written anew.
#[test]
fn route_values_keep_their_names_and_parameters() {
    let mut house = house();
    house.targets = vec![place("", 1000, &["10.0.0.9:5060"])];
    let routes = "Route: \"Old, one\" <sip:old.example.net>;a=1, \"New\" <sip:new.example.net;lr>;b=\"2,3\"\r\n";
    let sent = house.feed(CALLER, &request("MESSAGE", "sip:bob@example.net", "a", routes));
    let forwarded = only(&sent, "MESSAGE sip:old.example.net SIP/2.0");
    assert_eq!(
        forwarded.header("Route"),
        ["\"New\" <sip:new.example.net;lr>;b=\"2,3\"", "<sip:bob@example.net>"]
    );
    house.ends();
}

/// RFC 3327 §5.3: the Path of a binding is the Route of its requests, header parameters and all; without angle brackets what
/// follows a semicolon is meant for the URI.
#[test]
fn path_values_become_routes_as_they_are() {
    for (path, route) in [
        (
            "\"Edge\" <sip:edge.example.net;lr;ob>;x=\"a,b\"",
            "\"Edge\" <sip:edge.example.net;lr;ob>;x=\"a,b\"",
        ),
        ("sip:edge.example.net;lr", "<sip:edge.example.net;lr>"),
    ] {
        let mut house = house();
        house.targets[0].path = vec![path];
        let sent = house.feed(CALLER, &request("MESSAGE", "sip:bob@example.com", "a", ""));
        let forwarded = only(&sent, "MESSAGE sip:bob@10.0.0.2 SIP/2.0");
        assert_eq!(forwarded.header("Route"), [route]);
        house.ends();
    }
}

/// §16.6 step 4: a method that we do not know may make a dialog, in which we want to stay.
#[test]
fn an_unknown_method_is_recorded_with_a_sip_uri_that_is_a_loose_router() {
    let mut house = house();
    let sent = house.feed(CALLER, &request("JUGGLE", "sip:bob@example.com", "a", ""));
    let recorded = only(&sent, "JUGGLE").header("Record-Route").join("");
    assert!(
        recorded.starts_with("<sip:") && recorded.ends_with(";lr>"),
        "{recorded}"
    );
    assert!(!recorded.contains("transport="), "{recorded}");
    house.ends();
}

/// §16.6 step 8, RFC 5393 §4.2.1: the second part of the branch depends on what routing and admission look at, and not on the
/// method.
#[test]
fn the_second_part_of_a_branch_tells_what_was_decided_by() {
    let second_part = |method: &str, uri: &str, more: &str| {
        let mut house = house();
        house.targets = vec![place("", 1000, &["10.0.0.2:5060"])];
        let sent = house.feed(CALLER, &request(method, uri, "a", more));
        let branch = only(&sent, method).branch().to_owned();
        branch[branch.len() - 16..].to_owned()
    };
    let plain = second_part("INVITE", "sip:bob@example.com", "");
    assert_eq!(plain, second_part("MESSAGE", "sip:bob@example.com", ""));
    assert_eq!(
        plain,
        second_part("INVITE", "sip:bob@example.com", "Subject: other\r\n")
    );
    for (uri, more) in [
        ("sip:bob@example.com;x=y", ""),
        ("sip:bob@example.com", "Route: <sip:10.0.0.7;lr>\r\n"),
        ("sip:bob@example.com", "Proxy-Authorization: Digest username=\"a\"\r\n"),
    ] {
        assert_ne!(plain, second_part("INVITE", uri, more), "{uri} {more}");
    }
}
