//! RFC 3263 §4.3 and RFC 3261 §16.7: from one destination of a target to the next; §18.1.1: what is too large for UDP.

use std::time::Duration;

use sps_sip::proxy::{Conf, Leave};
use sps_wire::flow::Transport;

use crate::house::*;

/// One target with two destinations, the next one tried after three seconds of silence.
fn two() -> House {
    let mut house = house_with(Conf {
        next_hop_timeout: Some(Duration::from_secs(3)),
        ..conf()
    });
    house.targets = vec![place("sip:bob@example.net", 1000, &["10.0.0.2:5060", "10.0.0.3:5060"])];
    house
}

/// RFC 3263 §4.3: identical but for the branch, to the next element of the list.
fn is_the_same_request(first: &Sent, second: &Sent) {
    assert_ne!(first.branch(), second.branch());
    assert_eq!(first.text.replace(first.branch(), second.branch()), second.text);
}

/// RFC 3263 §4.3
#[test]
fn a_silent_destination_gives_way_to_the_next_and_is_sent_nothing_more() {
    let mut house = two();
    let sent = house.feed(CALLER, &invite());
    let first = only(&sent, "INVITE").clone();
    // Timer A: at 0.5 and 1.5 s.
    assert_eq!(count(&house.pass_ms(2_999), "INVITE"), 2);
    let sent = house.pass_ms(1);
    let second = only(&sent, "INVITE").clone();
    assert_eq!((&*first.to, &*second.to), ("10.0.0.2:5060", "10.0.0.3:5060"));
    is_the_same_request(&first, &second);
    assert_eq!(house.said, ["avoid 10.0.0.2:5060/udp"]);
    let sent = house.pass_ms(900);
    assert!(sent.iter().all(|sent| sent.to == "10.0.0.3:5060"), "{sent:#?}");
    let sent = house.answer(&second, "200 OK");
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK"]);
    assert_eq!(house.statuses(), [200]);
    assert_eq!(house.core.counters().failovers, 1);
    house.ends();
}

/// §16.6 step 7: without another destination the one there is has all of Timer B.
#[test]
fn the_only_destination_keeps_its_time() {
    let mut house = two();
    house.targets[0].hops.pop();
    house.feed(CALLER, &invite());
    house.pass_ms(31_000);
    assert_eq!(house.statuses(), Vec::<u16>::new());
    assert!(house.said.is_empty());
    let mut late = house.pass_ms(900);
    assert_eq!(count(&late, "SIP/2.0"), 0);
    late = house.pass_ms(200);
    assert_eq!(count(&late, "SIP/2.0 408"), 1, "{late:#?}");
    assert_eq!(house.said, ["avoid 10.0.0.2:5060/udp"]);
    house.ends();
}

#[test]
fn any_response_ends_the_wait_for_another_destination() {
    for status in ["100 Trying", "180 Ringing"] {
        let mut house = two();
        let sent = house.feed(CALLER, &invite());
        let first = only(&sent, "INVITE").clone();
        house.pass_ms(2_000);
        house.answer(&first, status);
        let sent = house.pass_ms(60_000);
        assert_eq!(count(&sent, "INVITE"), 0, "{status}");
        assert_eq!(house.said, ["answered 10.0.0.2:5060/udp"]);
        house.answer(&first, "486 Busy Here");
        assert_eq!(house.statuses(), [486]);
        house.ends();
    }
}

/// §9.1: who comes to life after the call has gone on elsewhere is cancelled, and the caller hears nothing of its ringing.
#[test]
fn who_rings_too_late_is_cancelled() {
    let mut house = two();
    let sent = house.feed(CALLER, &invite());
    let first = only(&sent, "INVITE").clone();
    let second = house.pass_ms(3_000).pop().expect("a second try");
    let sent = house.answer(&first, "180 Ringing");
    assert_eq!(lines(&sent), ["CANCEL sip:bob@example.net SIP/2.0"]);
    assert_eq!(
        (sent[0].to.as_str(), sent[0].branch()),
        ("10.0.0.2:5060", first.branch())
    );
    let sent = house.answer(&first, "487 Request Terminated");
    assert_eq!(lines(&sent), ["ACK sip:bob@example.net SIP/2.0"]);
    let sent = house.answer(&second, "180 Ringing");
    assert_eq!(lines(&sent), ["SIP/2.0 180 Ringing"]);
    house.answer(&second, "200 OK");
    assert_eq!(house.statuses(), [200]);
    house.ends();
}

/// A late one that rings on whatever we say takes nothing from the call that goes on.
#[test]
fn who_rings_too_late_and_for_ever_ends_alone() {
    let mut house = two();
    let sent = house.feed(CALLER, &invite());
    let first = only(&sent, "INVITE").clone();
    let second = house.pass_ms(3_000).pop().expect("a second try");
    house.answer(&second, "180 Ringing");
    house.answer(&first, "180 Ringing");
    house.pass_ms(60_000);
    assert_eq!(house.statuses(), Vec::<u16>::new());
    house.answer(&second, "200 OK");
    assert_eq!(house.statuses(), [200]);
    house.ends();
}

/// §16.7 step 5: a 2xx goes upstream whoever sends it; the destination that rings meanwhile is cancelled.
#[test]
fn a_late_2xx_is_the_answer() {
    let mut house = two();
    let sent = house.feed(CALLER, &invite());
    let first = only(&sent, "INVITE").clone();
    let second = house.pass_ms(3_000).pop().expect("a second try");
    house.answer(&second, "180 Ringing");
    let sent = house.answer(&first, "200 OK");
    let answer = only(&sent, "SIP/2.0 200");
    assert_eq!(answer.to, CALLER);
    assert_eq!(only(&sent, "CANCEL").to, "10.0.0.3:5060");
    assert_eq!(house.statuses(), [200]);
    house.answer(&second, "487 Request Terminated");
    house.ends();
}

/// RFC 3263 §4.3, RFC 4321 §1.3: without this a request other than INVITE had no time left for a second try.
#[test]
fn a_request_other_than_invite_reaches_the_second_destination_in_time() {
    let mut house = two();
    let sent = house.feed(CALLER, &request("MESSAGE", "sip:bob@example.com", "m", ""));
    let first = only(&sent, "MESSAGE").clone();
    let sent = house.pass_ms(3_000);
    let second = sent.last().expect("a second try").clone();
    is_the_same_request(&first, &second);
    house.answer(&second, "200 OK");
    assert_eq!(house.statuses(), [200]);
    let sent = house.answer(&first, "200 OK");
    assert!(sent.is_empty(), "one answer is enough: {sent:#?}");
    house.ends();
}

/// RFC 3263 §4.3: a timeout is a failure of the destination only if no response at all has come.
#[test]
fn who_has_said_trying_is_not_replaced_at_timer_f() {
    let mut house = two();
    let sent = house.feed(CALLER, &request("MESSAGE", "sip:bob@example.com", "m", ""));
    house.answer(only(&sent, "MESSAGE"), "100 Trying");
    let sent = house.pass_ms(40_000);
    assert!(sent.iter().all(|sent| sent.to != "10.0.0.3:5060"), "{sent:#?}");
    assert_eq!(house.statuses(), [408]);
    house.ends();
}

/// §21.5.4, RFC 3263 §4.3
#[test]
fn a_503_leads_on_and_its_retry_after_is_handed_out() {
    for (header, said) in [
        ("", None),
        (
            "Retry-After: 7 (lunch);duration=3600\r\n",
            Some("avoid 10.0.0.2:5060/udp for 7s"),
        ),
        ("Retry-After: soon\r\n", None),
    ] {
        let mut house = two();
        let sent = house.feed(CALLER, &invite());
        let first = only(&sent, "INVITE").clone();
        let text = answer_with(&first, "503 Service Unavailable", header);
        let sent = house.feed("10.0.0.2:5060", &text);
        let second = only(&sent, "INVITE").clone();
        is_the_same_request(&first, &second);
        assert_eq!(only(&sent, "ACK").to, "10.0.0.2:5060");
        assert_eq!(house.said.first().map(String::as_str), said);
        house.answer(&second, "503 Service Unavailable");
        assert_eq!(house.statuses(), [500], "§16.7 step 6");
        house.ends();
    }
}

/// §16.9, RFC 3263 §4.3: ICMP, a connection that is refused, one that is lost before anything came back.
#[test]
fn a_transport_failure_leads_on() {
    let mut house = two();
    house.feed(CALLER, &invite());
    let sent = house.unreachable("10.0.0.2:5060");
    assert_eq!(only(&sent, "INVITE").to, "10.0.0.3:5060");
    assert_eq!(house.said, ["avoid 10.0.0.2:5060/udp"]);
    house.ends();

    for lost in [false, true] {
        let mut house = two();
        house.targets[0].hops = vec!["tcp:10.0.0.2:5060", "10.0.0.3:5060"];
        let sent = house.feed(CALLER, &invite());
        let first = only(&sent, "INVITE").clone();
        assert!(house.unreachable("10.0.0.2:5060").is_empty(), "ICMP is about UDP");
        let sent = if lost {
            house.stream_lost("10.0.0.2:5060")
        } else {
            house.connect_failed(&first)
        };
        assert_eq!(only(&sent, "INVITE").to, "10.0.0.3:5060");
        assert_eq!(house.said, ["avoid 10.0.0.2:5060/tcp"]);
        house.ends();
    }
}

/// §18.2.2: once something has come by a connection the rest may come by another.
#[test]
fn a_connection_that_is_lost_while_it_rings_changes_nothing() {
    let mut house = two();
    house.targets[0].hops = vec!["tcp:10.0.0.2:5060", "10.0.0.3:5060"];
    let sent = house.feed(CALLER, &invite());
    let first = only(&sent, "INVITE").clone();
    house.answer(&first, "180 Ringing");
    assert!(house.stream_lost("10.0.0.2:5060").is_empty());
    house.answer(&first, "200 OK");
    assert_eq!(house.statuses(), [200]);
    house.ends();
}

/// §16.10: what is cancelled does not go on elsewhere, also while that is being looked for.
#[test]
fn a_cancelled_call_goes_nowhere_else() {
    for searching in [false, true] {
        let mut house = two();
        house.walks_at_once = false;
        house.feed(CALLER, &invite());
        let ticket = house.walking.remove(0);
        house.walk(ticket);
        if searching {
            house.pass_ms(3_000);
            assert_eq!(house.walking.len(), 1);
        }
        house.feed(CALLER, &cancel());
        let sent = house.pass_ms(3_000);
        assert!(sent.iter().all(|sent| sent.to == "10.0.0.2:5060"), "{sent:#?}");
        if searching {
            let ticket = house.walking.remove(0);
            assert!(house.walk(ticket).is_empty());
        }
        house.pass_ms(40_000);
        assert_eq!(house.statuses(), [487]);
        house.ends();
    }
}

/// While another destination is looked for the first one may still answer, or fail.
#[test]
fn what_happens_while_another_destination_is_looked_for() {
    for status in ["180 Ringing", "503 Service Unavailable"] {
        let mut house = two();
        house.walks_at_once = false;
        house.feed(CALLER, &invite());
        let ticket = house.walking.remove(0);
        let sent = house.walk(ticket);
        let first = only(&sent, "INVITE").clone();
        house.pass_ms(3_000);
        house.answer(&first, status);
        let ticket = house.walking.remove(0);
        let sent = house.walk(ticket);
        if status.starts_with("180") {
            assert!(sent.is_empty(), "{sent:#?}");
            house.answer(&first, "200 OK");
        } else {
            let second = only(&sent, "INVITE").clone();
            assert_eq!(second.to, "10.0.0.3:5060");
            house.answer(&second, "200 OK");
        }
        assert_eq!(house.statuses(), [200]);
        house.ends();
    }
}

/// An INVITE with a body of this length.
fn large(len: usize) -> String {
    invite().replace(
        "Content-Length: 0\r\n\r\n",
        &format!("Content-Length: {len}\r\n\r\n{}", "x".repeat(len)),
    )
}

fn sized() -> House {
    house_with(Conf {
        udp_max_request: 1300,
        ..conf()
    })
}

/// §18.1.1: too large for UDP, hence TCP, and the top Via says so; what belongs to it follows.
#[test]
fn a_large_request_takes_tcp() {
    let mut house = sized();
    let sent = house.feed(CALLER, &large(3_000));
    let sent = only(&sent, "INVITE").clone();
    assert!(matches!(&sent.leave, Leave::Onward { destination, .. } if destination.transport == Transport::Tcp));
    assert!(
        sent.header("Via")[0].starts_with("SIP/2.0/TCP 127.0.0.1:5060;"),
        "{}",
        sent.text
    );
    assert!(sent.header("Record-Route")[0].contains("transport=tcp"));
    house.answer(&sent, "180 Ringing");
    let cancelled = house.feed(CALLER, &cancel());
    let follows = only(&cancelled, "CANCEL");
    assert!(matches!(&follows.leave, Leave::Onward { destination, .. } if destination.transport == Transport::Tcp));
    let sent = house.answer(&sent, "487 Request Terminated");
    assert!(
        matches!(&only(&sent, "ACK").leave, Leave::Onward { destination, .. } if destination.transport == Transport::Tcp)
    );
    assert_eq!(house.core.counters().moved_to_tcp, 1);
    house.ends();
}

/// §18.1.1: what counts is the size of what leaves, to the byte.
#[test]
fn the_bound_is_the_size_of_what_leaves() {
    let leaves = |body: usize| {
        let mut house = sized();
        let sent = house.feed(CALLER, &large(body));
        let sent = only(&sent, "INVITE").clone();
        (sent.text.len(), sent.header("Via")[0].starts_with("SIP/2.0/UDP"))
    };
    let (len, by_udp) = leaves(100);
    assert!(by_udp && len < 1_300);
    let fitting = 100 + 1_300 - len;
    assert_eq!(leaves(fitting), (1_300, true));
    assert!(!leaves(fitting + 1).1);
}

/// §18.1.1: refused, it goes by UDP after all, to the same destination, as a transaction of its own.
#[test]
fn a_large_request_falls_back_to_udp_when_tcp_is_refused() {
    let mut house = sized();
    house.targets[0].hops.push("10.0.0.3:5060");
    let sent = house.feed(CALLER, &large(3_000));
    let by_tcp = only(&sent, "INVITE").clone();
    let sent = house.connect_failed(&by_tcp);
    let by_udp = only(&sent, "INVITE").clone();
    assert_eq!(by_udp.to, "10.0.0.2:5060");
    assert!(by_udp.header("Via")[0].starts_with("SIP/2.0/UDP"), "{}", by_udp.text);
    assert_ne!(by_tcp.branch(), by_udp.branch());
    assert!(house.said.is_empty(), "the server is not to blame");
    // Only when that fails too, the next one.
    let sent = house.unreachable("10.0.0.2:5060");
    assert_eq!(only(&sent, "INVITE").to, "10.0.0.3:5060");
    house.ends();
}

/// A connection that breaks later is a failure like others; so is one for a request that was to take TCP.
#[test]
fn only_a_refusal_leads_back_to_udp() {
    let mut house = sized();
    let sent = house.feed(CALLER, &large(3_000));
    let sent = house.send_failed(only(&sent, "INVITE"));
    assert_eq!(count(&sent, "INVITE"), 0);
    assert_eq!(house.statuses(), [500]);
    house.ends();
    let mut house = sized();
    house.targets[0].hops = vec!["tcp:10.0.0.2:5060"];
    let sent = house.feed(CALLER, &large(3_000));
    let sent = house.connect_failed(only(&sent, "INVITE"));
    assert_eq!(count(&sent, "INVITE"), 0);
    assert_eq!(house.statuses(), [500]);
    house.ends();
}

#[test]
fn what_has_no_tcp_or_a_fixed_flow_is_not_moved() {
    // There is no TCP listener for IPv6.
    let mut house = sized();
    house.targets[0].hops = vec!["[2001:db8::2]:5060"];
    let sent = house.feed(CALLER, &large(3_000));
    assert!(only(&sent, "INVITE").header("Via")[0].starts_with("SIP/2.0/UDP"));
    house.ends();
    let mut house = sized();
    house.targets[0].hops = vec!["flow:10.0.0.2:40000"];
    let sent = house.feed(CALLER, &large(3_000));
    assert!(matches!(only(&sent, "INVITE").leave, Leave::Flow(_)));
    assert_eq!(house.core.counters().moved_to_tcp, 0);
    house.ends();
    let mut house = house_with(Conf {
        udp_max_request: 0,
        ..conf()
    });
    let sent = house.feed(CALLER, &large(3_000));
    assert!(only(&sent, "INVITE").header("Via")[0].starts_with("SIP/2.0/UDP"));
    house.ends();
}
