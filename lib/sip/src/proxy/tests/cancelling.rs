//! CANCEL in both directions, and Timer C (RFC 3261 §9, §16.8, §16.10).

use super::*;

/// §16.7 steps 5 and 10, RFC 3326
#[test]
fn of_three_forks_the_first_answer_wins_and_the_others_are_cancelled() {
    let mut house = house();
    house.targets = vec![
        ("sip:bob@10.0.0.2", 1000, vec!["10.0.0.2:5060"]),
        ("sip:bob@10.0.0.3", 1000, vec!["10.0.0.3:5060"]),
        ("sip:bob@10.0.0.4", 1000, vec!["10.0.0.4:5060"]),
    ];
    let sent = house.feed(CALLER, &invite());
    let (two, three, four) = (
        only(&sent, "INVITE sip:bob@10.0.0.2"),
        only(&sent, "INVITE sip:bob@10.0.0.3"),
        only(&sent, "INVITE sip:bob@10.0.0.4"),
    );
    house.feed("10.0.0.2:5060", &answer(two, "180 Ringing"));
    let sent3 = house.feed("10.0.0.3:5060", &answer(three, "200 OK"));
    assert_eq!(
        lines(&sent3),
        ["CANCEL sip:bob@10.0.0.2 SIP/2.0", "SIP/2.0 200 OK"],
        "no CANCEL before a provisional (§9.1)"
    );
    assert_eq!(
        sent3[0].header("Via")[0],
        two.header("Via")[0],
        "§9.1: the Via of the INVITE it cancels"
    );
    assert_eq!(sent3[0].header("Via").len(), 1);
    assert_eq!(
        sent3[0].header("Reason"),
        ["SIP;cause=200;text=\"Call completed elsewhere\""]
    );
    let sent4 = house.feed("10.0.0.4:5060", &answer(four, "180 Ringing"));
    assert_eq!(
        lines(&sent4),
        ["CANCEL sip:bob@10.0.0.4 SIP/2.0"],
        "and the 180 comes too late"
    );
    let acks = house.feed("10.0.0.2:5060", &answer(two, "487 Request Terminated"));
    assert_eq!(lines(&acks), ["ACK sip:bob@10.0.0.2 SIP/2.0"]);
    // §16.7 step 5: a second 2xx, from a branch whose CANCEL crossed it, goes upstream too.
    let late = house.feed("10.0.0.4:5060", &answer(four, "200 OK"));
    assert_eq!(lines(&late), ["SIP/2.0 200 OK"]);
    house.pass(Duration::from_secs(70));
    assert_eq!((house.core.transactions(), house.core.client_transactions()), (0, 0));
    assert_eq!(house.statuses(), [200]);
}

/// §9.2, §16.10
#[test]
fn a_cancel_is_answered_200_goes_downstream_and_ends_in_487() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = sent[1].clone();
    house.feed("10.0.0.2:5060", &answer(&forwarded, "180 Ringing"));
    let cancel = request(
        "CANCEL",
        "sip:bob@example.com",
        "a",
        "Reason: SIP;cause=600;text=\"Busy Everywhere\"\r\n",
    );
    let sent = house.feed(CALLER, &cancel);
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK", "CANCEL sip:bob@10.0.0.2:5060 SIP/2.0"]);
    assert_eq!(
        sent[1].header("Reason"),
        ["SIP;cause=600;text=\"Busy Everywhere\""],
        "RFC 3326: the caller's reason"
    );
    assert!(house.feed("10.0.0.2:5060", &answer(&sent[1], "200 OK")).is_empty());
    let sent = house.feed("10.0.0.2:5060", &answer(&forwarded, "487 Request Terminated"));
    assert_eq!(
        lines(&sent),
        ["ACK sip:bob@10.0.0.2:5060 SIP/2.0", "SIP/2.0 487 Request Terminated"]
    );
    assert_eq!(house.statuses(), [487]);
}

/// §16.7 step 6: what the callee said about all its phones outweighs that the caller gave up.
#[test]
fn a_6xx_that_crosses_the_cancel_goes_upstream() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = sent[1].clone();
    house.feed("10.0.0.2:5060", &answer(&forwarded, "180 Ringing"));
    house.feed(CALLER, &request("CANCEL", "sip:bob@example.com", "a", ""));
    let sent = house.feed("10.0.0.2:5060", &answer(&forwarded, "603 Decline"));
    assert_eq!(
        lines(&sent),
        ["ACK sip:bob@10.0.0.2:5060 SIP/2.0", "SIP/2.0 603 Decline"]
    );
}

/// §9.2: no effect on a request that has its final response.
#[test]
fn a_cancel_after_the_answer_changes_nothing() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    house.feed("10.0.0.2:5060", &answer(&sent[1], "200 OK"));
    let sent = house.feed(CALLER, &request("CANCEL", "sip:bob@example.com", "a", ""));
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK"]);
}

#[test]
fn a_cancel_of_nothing_is_481() {
    let mut house = house();
    let sent = house.feed(CALLER, &request("CANCEL", "sip:bob@example.com", "zzz", ""));
    assert_eq!(lines(&sent), ["SIP/2.0 481 Call/Transaction Does Not Exist"]);
}

/// Design: routing can wait, and a CANCEL meanwhile gives 487.
#[test]
fn a_cancel_while_routing_is_out_gives_487_and_the_late_answer_is_dropped() {
    let mut house = house();
    house.routes_at_once = false;
    assert_eq!(lines(&house.feed(CALLER, &invite())), ["SIP/2.0 100 Trying"]);
    let sent = house.feed(CALLER, &request("CANCEL", "sip:bob@example.com", "a", ""));
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK", "SIP/2.0 487 Request Terminated"]);
    assert_eq!(house.forgotten, 1);
    let ticket = house.open.remove(0);
    assert!(house.route(ticket).is_empty());
}

/// §9.1
#[test]
fn a_cancel_waits_for_a_provisional_response() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = sent[1].clone();
    assert_eq!(
        lines(&house.feed(CALLER, &request("CANCEL", "sip:bob@example.com", "a", ""))),
        ["SIP/2.0 200 OK"]
    );
    let sent = house.feed("10.0.0.2:5060", &answer(&forwarded, "100 Trying"));
    assert_eq!(lines(&sent), ["CANCEL sip:bob@10.0.0.2:5060 SIP/2.0"]);
}

/// §9.1: a callee that answers the CANCEL and then nothing.
#[test]
fn a_cancelled_invite_without_a_final_response_is_given_up() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    house.feed("10.0.0.2:5060", &answer(&sent[1], "180 Ringing"));
    let sent = house.feed(CALLER, &request("CANCEL", "sip:bob@example.com", "a", ""));
    house.feed("10.0.0.2:5060", &answer(&sent[1], "200 OK"));
    let sent = house.pass(Duration::from_secs(33));
    assert!(
        sent.iter()
            .any(|sent| sent.first_line() == "SIP/2.0 487 Request Terminated"),
        "{:?}",
        lines(&sent)
    );
}

/// §16.8
#[test]
fn timer_c_cancels_what_rings_for_ever() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = sent[1].clone();
    house.feed("10.0.0.2:5060", &answer(&forwarded, "180 Ringing"));
    house.pass(Duration::from_secs(170));
    house.feed("10.0.0.2:5060", &answer(&forwarded, "180 Ringing"));
    assert!(
        house.pass(Duration::from_secs(170)).is_empty(),
        "§16.7 step 2: each provisional begins it anew"
    );
    let sent = house.pass(Duration::from_secs(12));
    assert_eq!(sent[0].first_line(), "CANCEL sip:bob@10.0.0.2:5060 SIP/2.0");
    assert!(sent[0].header("Reason").is_empty());
    let sent = house.feed("10.0.0.2:5060", &answer(&forwarded, "487 Request Terminated"));
    assert!(lines(&sent).contains(&"SIP/2.0 487 Request Terminated"));
}

/// §21.5.4
#[test]
fn who_still_waits_when_the_process_ends_is_told_and_what_rings_is_cancelled() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    house.feed("10.0.0.2:5060", &answer(&sent[1], "180 Ringing"));
    let mut todo = Vec::new();
    assert_eq!(house.core.give_up(house.clock, &mut todo), 1);
    let sent = house.perform(todo);
    assert_eq!(
        lines(&sent),
        [
            "CANCEL sip:bob@10.0.0.2:5060 SIP/2.0",
            "SIP/2.0 503 Service Unavailable"
        ]
    );
    assert_eq!(sent[1].header("Retry-After"), ["2"]);
    assert_eq!(house.statuses(), [503]);
    assert_eq!(house.core.undecided_requests(), 0);
}
