//! §17.2.3 Matching Requests to Server Transactions, §17.2.1 and §17.2.2 with their timers, RFC 6026.

use sps_wire::flow::Transport;

use crate::house::*;

/// A request as RFC 2543 wrote it: no branch, or one without the cookie.
fn old(method: &str, via: &str, to_tag: &str) -> String {
    request_with("10.0.0.1:5060", method, "sip:bob@example.com", via, to_tag, "")
}

/// §17.2.3
#[test]
fn an_invite_without_a_branch_is_matched_by_its_fields() {
    for via in ["", ";branch=1"] {
        let mut house = house();
        let sent = house.feed(CALLER, &old("INVITE", via, ""));
        assert_eq!(lines(&sent), ["SIP/2.0 100 Trying", "INVITE sip:bob@10.0.0.2 SIP/2.0"]);
        assert!(sent[1].branch().starts_with("z9hG4bK"), "ours has the cookie");
        let sent = house.feed(CALLER, &old("INVITE", via, ""));
        assert_eq!(lines(&sent), ["SIP/2.0 100 Trying"], "a retransmission");
        house.ends();
    }
}

/// §17.2.3: each of Request-URI, From tag, To tag, Call-ID, CSeq, Via tells two such requests apart.
#[test]
fn old_requests_that_differ_in_one_field_are_two() {
    for (from, to) in [
        ("INVITE sip:bob@example.com", "INVITE sip:carol@example.com"),
        ("tag=caller", "tag=other"),
        ("To: <sip:bob@example.com>", "To: <sip:bob@example.com>;tag=x"),
        ("Call-ID: call-1", "Call-ID: call-2"),
        ("CSeq: 1 INVITE", "CSeq: 2 INVITE"),
        ("10.0.0.1:5060;branch=1", "10.0.0.1:5060;branch=2"),
    ] {
        let mut house = house();
        let text = old("INVITE", ";branch=1", "");
        assert_eq!(count(&house.feed(CALLER, &text), "INVITE"), 1);
        let other = text.replacen(from, to, 1);
        assert_ne!(text, other);
        assert_eq!(count(&house.feed(CALLER, &other), "INVITE"), 1, "{to}");
        house.ends();
    }
}

/// §17.2.3: the ACK of an old client: its CSeq method differs, its To tag is that of our response.
#[test]
fn the_ack_of_an_old_client_ends_the_repetitions() {
    let mut house = house();
    let sent = house.feed(CALLER, &old("INVITE", "", ""));
    let sent = house.answer(only(&sent, "INVITE"), "486 Busy Here");
    assert!(only(&sent, "SIP/2.0 486").header("To")[0].ends_with(";tag=at-10.0.0.2-5060"));
    assert_eq!(count(&house.pass_ms(600), "SIP/2.0 486"), 1);
    let sent = house.feed(CALLER, &old("ACK", "", ";tag=at-10.0.0.2-5060"));
    assert!(sent.is_empty(), "{sent:?}");
    assert_eq!(count(&house.pass_ms(20_000), "SIP/2.0 486"), 0);
    house.ends();
}

/// §17.2.3: the To tag tells the ACK of a 2xx, which is to be forwarded, from that of another response.
#[test]
fn the_ack_of_an_old_client_for_a_2xx_is_forwarded() {
    let mut house = house();
    let sent = house.feed(CALLER, &old("INVITE", "", ""));
    let sent = house.answer(only(&sent, "INVITE"), "200 OK");
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK"]);
    house.targets = vec![place("", 1000, &["10.0.0.2:5060"])];
    let ack = request_with(
        "10.0.0.1:5060",
        "ACK",
        "sip:bob@10.0.0.2",
        "",
        ";tag=at-10.0.0.2-5060",
        "",
    );
    assert_eq!(lines(&house.feed(CALLER, &ack)), ["ACK sip:bob@10.0.0.2 SIP/2.0"]);
    house.ends();
}

/// §9.2, §17.2.3: the CANCEL of an old client is matched as if it were its INVITE.
#[test]
fn the_cancel_of_an_old_client_finds_its_invite() {
    for via in ["", ";branch=1"] {
        let mut house = house();
        let sent = house.feed(CALLER, &old("INVITE", via, ""));
        house.answer(only(&sent, "INVITE"), "180 Ringing");
        let sent = house.feed(CALLER, &old("CANCEL", via, ""));
        assert_eq!(lines(&sent), ["SIP/2.0 200 OK", "CANCEL sip:bob@10.0.0.2 SIP/2.0"]);
        house.ends();
    }
}

/// §17.2.3 point 2
#[test]
fn one_branch_of_two_clients_is_two_transactions() {
    let mut house = house();
    house.feed(CALLER, &invite());
    let other = invite().replace("10.0.0.1:5060;branch", "10.0.0.7:5060;branch");
    assert_eq!(count(&house.feed("10.0.0.7:5060", &other), "INVITE"), 1);
    house.ends();
}

/// §17.2.3 point 3
#[test]
fn one_branch_with_two_methods_is_two_transactions() {
    let mut house = house();
    house.feed(CALLER, &invite());
    let sent = house.feed(CALLER, &request("MESSAGE", "sip:bob@example.com", "a", ""));
    assert_eq!(lines(&sent), ["MESSAGE sip:bob@10.0.0.2 SIP/2.0"]);
    house.ends();
}

/// §17.2.2: before anything was sent, a repetition is discarded.
#[test]
fn a_repeated_non_invite_waits_in_silence() {
    let mut house = house();
    let text = request("OPTIONS", "sip:bob@example.com", "a", "");
    let sent = house.feed(CALLER, &text);
    let forwarded = only(&sent, "OPTIONS").clone();
    assert!(house.feed(CALLER, &text).is_empty());
    assert_eq!(lines(&house.answer(&forwarded, "200 OK")), ["SIP/2.0 200 OK"]);
    assert_eq!(lines(&house.feed(CALLER, &text)), ["SIP/2.0 200 OK"]);
    house.pass_ms(33_000);
    assert_eq!(
        count(&house.feed(CALLER, &text), "OPTIONS"),
        1,
        "Timer J is over: a new transaction"
    );
    house.ends();
}

/// §17.2.1: Timer G doubles up to T2, Timer H ends it.
#[test]
fn a_failure_that_nobody_acknowledges_is_repeated_by_timer_g_until_timer_h() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    house.answer(only(&sent, "INVITE"), "486 Busy Here");
    // At 0.5, 1.5, 3.5 and then every 4 s below 32 s.
    assert_eq!(count(&house.pass_ms(31_900), "SIP/2.0 486"), 10);
    assert_eq!(count(&house.pass_ms(60_000), "SIP/2.0 486"), 0);
    assert_eq!(house.core.transactions(), 0);
    house.ends();
}

/// §17.2.1: no Timer G on a reliable transport, Timer H all the same.
#[test]
fn over_tcp_a_failure_is_sent_once_and_still_forgotten() {
    let mut house = house();
    let text = invite().replace("SIP/2.0/UDP", "SIP/2.0/TCP");
    let sent = house.feed_by(Transport::Tcp, "10.0.0.1:40000", &text);
    house.answer(only(&sent, "INVITE"), "486 Busy Here");
    assert_eq!(count(&house.pass_ms(31_900), "SIP/2.0 486"), 0);
    assert_eq!(house.core.transactions(), 1);
    house.pass_ms(200);
    assert_eq!(house.core.transactions(), 0);
    house.ends();
}

/// §17.2.1: a retransmitted INVITE in Completed gets the failure again; in Confirmed nothing; after Timer I it is new.
#[test]
fn a_late_invite_after_its_failure_is_absorbed() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    house.answer(only(&sent, "INVITE"), "486 Busy Here");
    assert_eq!(lines(&house.feed(CALLER, &invite())), ["SIP/2.0 486 Busy Here"]);
    let ack = request("ACK", "sip:bob@example.com", "a", "").replace(
        "To: <sip:bob@example.com>",
        "To: <sip:bob@example.com>;tag=at-10.0.0.2-5060",
    );
    assert!(house.feed(CALLER, &ack).is_empty());
    assert!(house.feed(CALLER, &ack).is_empty(), "a second ACK, too");
    assert!(house.feed(CALLER, &invite()).is_empty());
    house.pass_ms(5_100);
    assert_eq!(count(&house.feed(CALLER, &invite()), "INVITE"), 1);
    house.ends();
}

/// RFC 6026 §7.1: "If an ACK is received while in the Accepted state, then the ACK must be passed up to the TU", and that
/// forwards it: clients that send the ACK of a 2xx with the branch of the INVITE must not lose it.
#[test]
fn an_ack_with_the_branch_of_an_accepted_invite_is_forwarded() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let sent = house.answer(only(&sent, "INVITE"), "200 OK");
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK"]);
    let route = sent[0].header("Record-Route")[0].to_owned();
    house.targets = vec![place("", 1000, &["10.0.0.2:5060"])];
    let ack = request_with(
        "10.0.0.1:5060",
        "ACK",
        "sip:bob@10.0.0.2",
        ";branch=z9hG4bKa",
        ";tag=at-10.0.0.2-5060",
        &format!("Route: {route}\r\n"),
    );
    assert_eq!(lines(&house.feed(CALLER, &ack)), ["ACK sip:bob@10.0.0.2 SIP/2.0"]);
    house.ends();
}

/// RFC 6026 §7.1: Timer L: 64·T1 after the 2xx the transaction is gone.
#[test]
fn an_accepted_invite_is_remembered_for_timer_l() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    house.answer(only(&sent, "INVITE"), "200 OK");
    house.pass_ms(31_900);
    assert!(house.feed(CALLER, &invite()).is_empty());
    house.pass_ms(200);
    assert_eq!(house.core.transactions(), 0);
    house.ends();
}

/// §17.1.1.2: Timer A only over unreliable transports, Timer B over all.
#[test]
fn over_tcp_nothing_is_repeated() {
    let mut house = house();
    house.targets = vec![place("sip:bob@10.0.0.2;transport=tcp", 1000, &["tcp:10.0.0.2:5060"])];
    house.feed(CALLER, &invite());
    assert_eq!(count(&house.pass_ms(31_900), "INVITE"), 0);
    let sent = house.pass_ms(200);
    assert_eq!(count(&sent, "SIP/2.0 408"), 1);
    house.ends();
}

/// §17.1.2.2: Timer E doubles up to T2; after a provisional it waits T2 each time; Timer F ends it.
#[test]
fn a_non_invite_is_repeated_by_timer_e() {
    let mut house = house();
    let sent = house.feed(CALLER, &request("MESSAGE", "sip:bob@example.com", "a", ""));
    let forwarded = only(&sent, "MESSAGE").clone();
    assert_eq!(count(&house.pass_ms(3_600), "MESSAGE"), 3, "at 0.5, 1.5 and 3.5 s");
    house.answer(&forwarded, "100 Trying");
    assert_eq!(count(&house.pass_ms(8_100), "MESSAGE"), 2, "every 4 s");
    assert_eq!(count(&house.pass_ms(21_000), "MESSAGE"), 5);
    house.ends();
}

/// §17.1.1.2: after a provisional the INVITE is not repeated any more.
#[test]
fn a_provisional_stops_the_repetitions_of_an_invite() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    house.answer(only(&sent, "INVITE"), "100 Trying");
    assert_eq!(count(&house.pass_ms(100_000), "INVITE"), 0);
    house.ends();
}
