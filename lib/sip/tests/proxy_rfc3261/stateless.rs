//! §16.11 Stateless Proxy.

use sps_sip::proxy::{Conf, Leave, Mode};
use sps_wire::flow::Transport;

use crate::house::*;

fn stateless_conf() -> Conf {
    Conf {
        mode: Mode::Stateless,
        ..conf()
    }
}

fn stateless() -> House {
    let mut house = house_with(stateless_conf());
    house.targets = vec![place("", 1000, &["10.0.0.2:5060"]).steady()];
    house
}

/// What is left of a house in which nothing happened.
fn is_empty(house: &House) -> bool {
    house.core.transactions() == 0 && house.core.client_transactions() == 0 && house.core.deadline().is_none()
}

fn a_response(sent: &[Sent]) -> &Sent {
    only(sent, "SIP/2.0")
}

/// §16.11: "MUST NOT generate its own 100 (Trying)", "do not retransmit messages on their own", no notion of a transaction
#[test]
fn a_request_is_forwarded_and_forgotten() {
    let mut house = stateless();
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE");
    assert_eq!(sent.len(), 1);
    assert_eq!((forwarded.to.as_str(), forwarded.token), ("10.0.0.2:5060", 0));
    assert_eq!(forwarded.header("Max-Forwards"), ["69"], "§16.6 step 3");
    assert_eq!(forwarded.header("Record-Route").len(), 1, "§16.6 step 4");
    assert!(is_empty(&house));
    assert!(house.pass_ms(200_000).is_empty());
    assert_eq!(house.core.counters().stateless_requests, 1);
    house.ends();
}

/// §16.11: "a retransmitted request ... identical branch", "MUST place the same values in retransmissions"
#[test]
fn a_repetition_leaves_as_the_same_bytes() {
    let mut house = stateless();
    let first = house.feed(CALLER, &invite());
    house.pass_ms(16_000);
    house.clock.unix_ms += 16_000;
    let second = house.feed(CALLER, &invite());
    assert_eq!(first[0].text, second[0].text);
    // Another core of the installation, and the same after a restart.
    let mut another = stateless();
    assert_eq!(another.feed(CALLER, &invite())[0].text, first[0].text);
    house.ends();
}

/// §16.11, §9.1, §17.1.1.3: CANCEL and the ACK of a failure bear the branch of their INVITE
#[test]
fn cancel_and_the_ack_of_a_failure_leave_with_the_branch_of_their_invite() {
    let mut house = stateless();
    let with_credentials = request(
        "INVITE",
        "sip:bob@example.com",
        "a",
        "Proxy-Authorization: Digest username=\"alice\"\r\nContact: <sip:alice@10.0.0.1>\r\n",
    );
    let sent = house.feed(CALLER, &with_credentials);
    let forwarded = only(&sent, "INVITE").clone();
    let sent = house.feed(CALLER, &cancel());
    assert_eq!(lines(&sent), ["CANCEL sip:bob@example.com SIP/2.0"], "no 200 of ours");
    assert_eq!(sent[0].branch(), forwarded.branch());
    assert_eq!(sent[0].to, forwarded.to);
    let ok = house.answer(&sent[0].clone(), "200 OK");
    assert_eq!(a_response(&ok).to, CALLER);
    let failed = house.answer(&forwarded, "487 Request Terminated");
    let to = a_response(&failed).header("To")[0].to_owned();
    let ack = request("ACK", "sip:bob@example.com", "a", "").replace("To: <sip:bob@example.com>", &format!("To: {to}"));
    let sent = house.feed(CALLER, &ack);
    assert_eq!(only(&sent, "ACK").branch(), forwarded.branch());
    assert_eq!(sent[0].to, forwarded.to);
    assert!(is_empty(&house));
    house.ends();
}

/// §8.1.1.7: the branch of another transaction is another; §16.11 for peers whose branch says nothing
#[test]
fn every_transaction_has_a_branch_of_its_own() {
    let mut house = stateless();
    let mut seen = std::collections::HashSet::new();
    for (via, cseq) in [
        (";branch=z9hG4bKa", "1"),
        (";branch=z9hG4bKb", "1"),
        (";branch=1", "1"),
        (";branch=1", "2"),
        ("", "1"),
        ("", "2"),
    ] {
        for sent_by in ["10.0.0.1:5060", "10.0.0.1:5070", "pc.example.net"] {
            let text = request_with(sent_by, "INVITE", "sip:bob@example.com", via, "", "")
                .replace("CSeq: 1", &format!("CSeq: {cseq}"));
            let branch = house.feed(CALLER, &text)[0].branch().to_owned();
            assert_eq!(house.feed(CALLER, &text)[0].branch(), branch);
            assert!(seen.insert(branch), "{sent_by}{via} {cseq}");
        }
    }
    // Of a peer of RFC 2543 the ACK of a failure has a tag that its INVITE had not.
    let invite = request_with("10.0.0.1", "INVITE", "sip:bob@example.com", "", "", "");
    let ack = request_with("10.0.0.1", "ACK", "sip:bob@example.com", "", ";tag=x", "");
    let branch = house.feed(CALLER, &invite)[0].branch().to_owned();
    assert_eq!(house.feed(CALLER, &ack)[0].branch(), branch);
    house.ends();
}

/// §16.11: "MUST remove that header field value from the response and forward the result"; 100 is a response like others
#[test]
fn every_response_goes_back_to_where_its_request_came_from() {
    let mut house = stateless();
    let text = request_with(
        "pc.example.net",
        "INVITE",
        "sip:bob@example.com",
        ";branch=z9hG4bKa;rport",
        "",
        "",
    );
    let sent = house.feed("10.0.0.1:40000", &text);
    let forwarded = only(&sent, "INVITE").clone();
    for status in [
        "100 Trying",
        "183 Session Progress",
        "200 OK",
        "200 OK",
        "486 Busy Here",
    ] {
        let sent = house.answer(&forwarded, status);
        let response = a_response(&sent);
        assert_eq!(response.first_line(), format!("SIP/2.0 {status}"));
        assert_eq!(response.to, "10.0.0.1:40000", "RFC 3581 §4");
        assert_eq!(
            response.header("Via"),
            ["SIP/2.0/UDP pc.example.net;branch=z9hG4bKa;rport=40000;received=10.0.0.1"]
        );
    }
    assert_eq!(house.core.counters().stateless_responses, 5);
    assert!(is_empty(&house));
    house.ends();
}

/// §18.2.2: "MUST be sent using the existing connection to the source of the original request"
#[test]
fn a_response_takes_the_connection_that_its_request_came_by() {
    let mut house = stateless();
    let text = invite().replace("SIP/2.0/UDP", "SIP/2.0/TCP");
    let sent = house.feed_by(Transport::Tcp, "10.0.0.1:40000", &text);
    let forwarded = only(&sent, "INVITE").clone();
    let sent = house.answer(&forwarded, "180 Ringing");
    let Leave::Reply(flow) = &sent[0].leave else {
        panic!("{sent:?}")
    };
    assert_eq!((flow.transport, flow.connection), (Transport::Tcp, CONNECTION));
    // The same request by another connection is the same transaction, and its CANCEL too.
    let branch = forwarded.branch().to_owned();
    let sent = house.feed(CALLER, &cancel());
    assert_eq!(sent[0].branch(), branch);
    house.ends();
}

/// §16.11: "If the address does not match the proxy, the message MUST be silently discarded"; nobody can aim our answers
#[test]
fn what_we_have_not_written_is_dropped() {
    let mut house = stateless();
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    let good = answer(&forwarded, "200 OK");
    let back = good
        .split(";back=")
        .nth(1)
        .expect("a way back")
        .split("\r\n")
        .next()
        .expect("a value");
    let other = request_with(
        "10.0.0.7:5060",
        "INVITE",
        "sip:bob@example.com",
        ";branch=z9hG4bKz",
        "",
        "",
    );
    let elsewhere = house.feed("10.0.0.7:5060", &other)[0].text.clone();
    let elsewhere = elsewhere
        .split(";back=")
        .nth(1)
        .expect("a way back")
        .split("\r\n")
        .next()
        .expect("a value");
    for bad in [
        good.replace("127.0.0.1:5060;branch", "10.9.9.9:5060;branch"),
        good.replace(&format!(";back={back}"), ""),
        good.replace(back, elsewhere),
        good.replace(
            forwarded.branch(),
            &format!("{}0", &forwarded.branch()[..forwarded.branch().len() - 1]),
        ),
        good.replace(&format!("Via: {}\r\n", forwarded.header("Via")[1]), ""),
    ] {
        assert_ne!(bad, good);
        assert!(house.feed(&forwarded.to, &bad).is_empty(), "{bad}");
    }
    assert_eq!(house.core.counters().stray_responses, 5);
    assert_eq!(house.feed(&forwarded.to, &good).len(), 1);
    house.ends();
}

/// §16.3 steps 3 to 5, RFC 5393 §4.2
#[test]
fn a_request_is_checked_as_by_any_proxy() {
    let mut house = stateless();
    let sent = house.feed(CALLER, &invite().replace("Max-Forwards: 70", "Max-Forwards: 0"));
    assert_eq!(lines(&sent), ["SIP/2.0 483 Too Many Hops"]);
    let sent = house.feed(
        CALLER,
        &request("INVITE", "sip:bob@example.com", "b", "Proxy-Require: x\r\n"),
    );
    assert_eq!(lines(&sent), ["SIP/2.0 420 Bad Extension"]);
    // It comes back as it left: a loop. With another Request-URI: a spiral.
    let sent = house.feed(CALLER, &invite());
    let looped = only(&sent, "INVITE").text.clone();
    assert_eq!(
        lines(&house.feed("10.0.0.2:5060", &looped)),
        ["SIP/2.0 482 Loop Detected"]
    );
    let spiral = looped.replace("INVITE sip:bob@", "INVITE sip:carol@");
    assert_eq!(count(&house.feed("10.0.0.2:5060", &spiral), "INVITE"), 1);
    // A loop that began when we were stateful.
    let mut before = house_with(conf());
    let sent = before.feed(CALLER, &request("INVITE", "sip:bob@example.com", "c", ""));
    let looped = only(&sent, "INVITE")
        .text
        .clone()
        .replace("sip:bob@10.0.0.2 ", "sip:bob@example.com ");
    before.core.reconfigure(stateless_conf());
    assert_eq!(
        lines(&before.feed("10.0.0.2:5060", &looped)),
        ["SIP/2.0 482 Loop Detected"]
    );
    house.ends();
    before.ends();
}

/// §8.2.7: what we say ourselves is said by a stateless UAS
#[test]
fn refusals_and_answers_about_us_are_forgotten_too() {
    let mut house = stateless();
    house.targets.clear();
    let sent = house.feed(CALLER, &invite());
    assert!(sent[0].text.starts_with("SIP/2.0 480"), "{}", sent[0].text);
    assert_eq!(
        house.feed(CALLER, &invite())[0].text,
        sent[0].text,
        "the same tag each time"
    );
    let sent = house.feed(CALLER, &request("OPTIONS", "sip:example.com", "b", ""));
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK"]);
    assert!(is_empty(&house));
    assert_eq!(house.statuses(), [480, 480, 200]);
    house.ends();
}

/// §16.11: what cannot be decided by the message and the configuration alone
#[test]
fn what_must_be_remembered_has_a_transaction() {
    let not_steady = vec![place("sip:bob@10.0.0.2", 1000, &["10.0.0.2:5060"])];
    let several = callees(2).into_iter().map(Place::steady).collect();
    for targets in [not_steady, several] {
        let mut house = stateless();
        house.targets = targets;
        let sent = house.feed(CALLER, &invite());
        assert_eq!(lines(&sent)[0], "SIP/2.0 100 Trying");
        let forwarded = sent
            .iter()
            .find(|sent| sent.text.starts_with("INVITE"))
            .expect("an INVITE")
            .clone();
        assert!(
            house.feed(CALLER, &invite())[0].text.starts_with("SIP/2.0 100"),
            "absorbed"
        );
        assert_eq!(count(&house.pass_ms(600), "INVITE"), count(&sent, "INVITE"), "Timer A");
        house.answer(&forwarded, "180 Ringing");
        let sent = house.feed(CALLER, &cancel());
        assert_eq!(lines(&sent)[0], "SIP/2.0 200 OK");
        assert_eq!(only(&sent, "CANCEL").branch(), forwarded.branch());
        house.ends();
        let mut house = stateless();
        house.targets = callees(1);
        house.feed(CALLER, &request("MESSAGE", "sip:bob@example.com", "m", ""));
        assert_eq!(count(&house.pass_ms(3_600), "SIP/2.0 100"), 1, "RFC 4320 §4.1");
        house.ends();
    }
}

/// §18.1.1: what is too large for a datagram needs a connection, and its CANCEL is small.
#[test]
fn what_is_too_large_for_udp_has_a_transaction() {
    let mut house = house_with(Conf {
        udp_max_request: 1300,
        ..stateless_conf()
    });
    house.targets = stateless().targets.clone();
    let large = invite().replace("Contact:", &format!("Subject: {}\r\nContact:", "x".repeat(1200)));
    let sent = house.feed(CALLER, &large);
    assert_eq!(lines(&sent)[0], "SIP/2.0 100 Trying");
    let forwarded = only(&sent, "INVITE").clone();
    assert!(forwarded.text.contains("Via: SIP/2.0/TCP"), "{}", forwarded.text);
    assert!(house.feed(CALLER, &large)[0].text.starts_with("SIP/2.0 100"));
    assert_eq!(lines(&house.answer(&forwarded, "200 OK")), ["SIP/2.0 200 OK"]);
    house.ends();
}

/// §16.10: a CANCEL whose INVITE would have a transaction, and has none, is about nothing
#[test]
fn a_cancel_of_nothing_is_481_where_its_invite_would_be_remembered() {
    let mut house = stateless();
    house.targets = callees(1);
    assert_eq!(
        lines(&house.feed(CALLER, &cancel())),
        ["SIP/2.0 481 Call/Transaction Does Not Exist"]
    );
    assert!(is_empty(&house));
    house.ends();
}

/// The answer takes time: the request is not lost, and not asked for twice.
#[test]
fn a_question_that_takes_time_makes_a_transaction() {
    let mut house = stateless();
    house.routes_at_once = false;
    assert!(house.feed(CALLER, &invite()).is_empty());
    let mut todo = Vec::new();
    let ticket = house.open[0];
    house.core.takes_time(house.clock, ticket, &mut todo);
    assert_eq!(lines(&house.perform(todo)), ["SIP/2.0 100 Trying"]);
    assert!(house.feed(CALLER, &invite())[0].text.starts_with("SIP/2.0 100"));
    assert_eq!(house.open.len(), 1);
    let ticket = house.open.remove(0);
    assert_eq!(count(&house.route(ticket), "INVITE"), 1);
    house.ends();
}

/// What was begun without state ends without: CANCEL, ACK and responses find their way whatever we have become.
#[test]
fn what_was_forgotten_ends_well_after_the_mode_has_changed() {
    for mode in [Mode::Stateful, Mode::Redirect, Mode::StatelessRedirect, Mode::Registrar] {
        let mut house = stateless();
        let sent = house.feed(CALLER, &invite());
        let forwarded = only(&sent, "INVITE").clone();
        house.core.reconfigure(Conf { mode, ..conf() });
        let ringing = house.answer(&forwarded, "180 Ringing");
        assert_eq!(a_response(&ringing).to, CALLER, "{mode:?}");
        let sent = house.feed(CALLER, &cancel());
        assert_eq!(only(&sent, "CANCEL").branch(), forwarded.branch(), "{mode:?}");
        let failed = house.answer(&forwarded, "487 Request Terminated");
        let to = a_response(&failed).header("To")[0].to_owned();
        let ack =
            request("ACK", "sip:bob@example.com", "a", "").replace("To: <sip:bob@example.com>", &format!("To: {to}"));
        let sent = house.feed(CALLER, &ack);
        assert_eq!(only(&sent, "ACK").branch(), forwarded.branch(), "{mode:?}");
        house.ends();
    }
}

/// What was begun with state ends with it.
#[test]
fn what_was_remembered_ends_by_its_transaction_after_the_mode_has_changed() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    house.core.reconfigure(stateless_conf());
    house.targets = vec![place("", 1000, &["10.0.0.9:5060"]).steady()];
    assert!(
        house.feed(CALLER, &invite())[0].text.starts_with("SIP/2.0 100"),
        "no second INVITE"
    );
    house.answer(&forwarded, "180 Ringing");
    let sent = house.feed(CALLER, &cancel());
    assert_eq!(lines(&sent)[0], "SIP/2.0 200 OK");
    assert_eq!(only(&sent, "CANCEL").to, "10.0.0.2:5060");
    house.ends();
}

/// §16.12: a dialog recorded without state is one of ours later, in any mode
#[test]
fn a_dialog_set_up_without_state_has_a_valid_route() {
    let mut house = stateless();
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    let ok = house.answer(&forwarded, "200 OK");
    let route = a_response(&ok).header("Record-Route").join(", ");
    let to = a_response(&ok).header("To")[0].to_owned();
    house.core.reconfigure(Conf {
        mode: Mode::Redirect,
        ..conf()
    });
    let bye = request("BYE", "sip:bob@10.0.0.2", "b", &format!("Route: {route}\r\n"))
        .replace("To: <sip:bob@example.com>", &format!("To: {to}"));
    let sent = house.feed(CALLER, &bye);
    assert_eq!(only(&sent, "BYE").to, "10.0.0.2:5060");
    house.ends();
}

/// §16.11: of a response nothing is changed but the Via that is ours.
#[test]
fn a_response_passes_with_all_its_fields_and_its_body() {
    let mut house = stateless();
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    let text = answer_with(
        &forwarded,
        "183 Session Progress",
        "X-Odd:  a ,, b\t;\r\n more\r\nRSeq: 1\r\n",
    )
    .replace("Content-Length: 0\r\n\r\n", "Content-Length: 4\r\n\r\nv=0\n");
    let sent = house.feed(&forwarded.to, &text);
    assert_eq!(
        a_response(&sent).text,
        text.replacen(&format!("Via: {}\r\n", forwarded.header("Via")[0]), "", 1)
    );
    house.ends();
}
