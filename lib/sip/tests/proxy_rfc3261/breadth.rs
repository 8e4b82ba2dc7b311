//! RFC 5393 §5: Max-Breadth.

use crate::house::*;
use sps_sip::proxy::Fork;

/// The caller's INVITE with this Max-Breadth line.
fn invite_with(line: &str) -> String {
    request(
        "INVITE",
        "sip:bob@example.com",
        "a",
        &format!("Contact: <sip:alice@10.0.0.1>\r\n{line}"),
    )
}

/// The Max-Breadth of every INVITE that left, in order.
fn breadths(sent: &[Sent]) -> Vec<&str> {
    sent.iter()
        .filter(|sent| sent.text.starts_with("INVITE "))
        .map(|sent| {
            let values = sent.header("Max-Breadth");
            assert_eq!(values.len(), 1, "{}", sent.text);
            values[0]
        })
        .collect()
}

fn invites(sent: &[Sent]) -> Vec<Sent> {
    sent.iter()
        .filter(|sent| sent.text.starts_with("INVITE "))
        .cloned()
        .collect()
}

/// RFC 5393 §5.3.3: a request without one "MUST" get one, 60 unless configured otherwise
#[test]
fn a_request_without_max_breadth_gets_one() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    assert_eq!(breadths(&sent), ["60"]);
    house.ends();

    let mut house = house_with(sps_sip::proxy::Conf {
        max_breadth: 7,
        ..conf()
    });
    let sent = house.feed(CALLER, &invite());
    assert_eq!(breadths(&sent), ["7"]);
    house.ends();
}

/// RFC 5393 §5.3.3: "All proxied requests": in a dialog, without a transaction, of any method
#[test]
fn every_proxied_request_has_one_max_breadth() {
    let mut house = house();
    for method in ["ACK", "BYE", "MESSAGE", "JUGGLE"] {
        let text = request_with(
            "10.0.0.1:5060",
            method,
            "sip:bob@example.com",
            &format!(";branch=z9hG4bK{method}"),
            ";tag=x",
            "",
        );
        let sent = house.feed(CALLER, &text);
        assert_eq!(only(&sent, method).header("Max-Breadth"), ["60"], "{method}");
    }
    house.ends();
}

/// RFC 5393 §5.3.3: it is no hop counter: "MUST NOT decrement Max-Breadth for each hop", and no less leaves than came
#[test]
fn without_a_fork_max_breadth_stays() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite_with("max-breadth : 17\r\n"));
    assert!(only(&sent, "INVITE").text.contains("max-breadth : 17\r\n"));
    house.ends();
}

/// RFC 5393 §5.3.3: more than the maximum allowed is overwritten
#[test]
fn more_than_is_allowed_is_cut() {
    for large in ["61", "255", "70000", "99999999999999999999"] {
        let mut house = house();
        let sent = house.feed(CALLER, &invite_with(&format!("Max-Breadth: {large}\r\n")));
        assert_eq!(breadths(&sent), ["60"]);
        house.ends();
    }
}

/// RFC 5393 §5.3.3: the Outgoing Max-Breadth is the incoming one, shared out among parallel branches
#[test]
fn parallel_branches_share_what_came_in() {
    let mut house = house();
    house.targets = callees(3);
    let sent = house.feed(CALLER, &invite_with("Max-Breadth: 11\r\n"));
    assert_eq!(breadths(&sent), ["4", "4", "3"]);
    house.ends();
}

/// RFC 5393 §5.2 (figure "Sequential Forking"), §5.5: one after the other each branch has the whole
#[test]
fn sequential_branches_have_the_whole_each() {
    let mut house = house_with(sps_sip::proxy::Conf {
        fork: Fork::Sequential,
        ..conf()
    });
    house.targets = callees(2);
    let sent = house.feed(CALLER, &invite_with("Max-Breadth: 5\r\n"));
    assert_eq!(breadths(&sent), ["5"]);
    let sent = house.answer(&invites(&sent)[0], "486 Busy Here");
    assert_eq!(breadths(&sent), ["5"]);
    house.ends();
}

/// RFC 5393 §5.3.3.1, §5.5: with less breadth than targets the rest wait, and each takes the place of one that ended
#[test]
fn what_exceeds_the_breadth_waits_for_a_branch_to_end() {
    let mut house = house();
    house.targets = callees(3);
    let sent = house.feed(CALLER, &invite_with("Max-Breadth: 2\r\n"));
    assert_eq!(breadths(&sent), ["1", "1"]);
    let first = invites(&sent);
    // A provisional response frees nothing.
    assert_eq!(breadths(&house.answer(&first[1], "180 Ringing")), [""; 0]);
    let sent = house.answer(&first[0], "486 Busy Here");
    assert_eq!(breadths(&sent), ["1"]);
    let third = invites(&sent).remove(0);
    assert!(third.first_line().contains("10.0.0.4"), "{}", third.first_line());
    // The repeated final response of one branch frees nothing a second time (§5.4.2).
    assert_eq!(breadths(&house.answer(&first[0], "486 Busy Here")), [""; 0]);
    assert_eq!(breadths(&house.answer(&first[1], "486 Busy Here")), [""; 0]);
    let sent = house.answer(&third, "486 Busy Here");
    assert_eq!(count(&sent, "SIP/2.0 486"), 1);
    house.ends();
}

/// RFC 5393 §5.3.3: with a Max-Breadth of 1 forking is serial, whatever `fork` says
#[test]
fn a_breadth_of_one_forks_serially() {
    let mut house = house();
    house.targets = callees(3);
    let mut sent = house.feed(CALLER, &invite_with("Max-Breadth: 1\r\n"));
    for callee in ["10.0.0.2", "10.0.0.3", "10.0.0.4"] {
        assert_eq!(breadths(&sent), ["1"]);
        let invite = invites(&sent).remove(0);
        assert!(invite.first_line().contains(callee));
        sent = house.answer(&invite, "480 Temporarily Unavailable");
    }
    assert_eq!(count(&sent, "SIP/2.0 480"), 1);
    house.ends();
}

/// RFC 5393 §5.3.3.1: a branch that never answers ends by its timer, and its breadth is used again
#[test]
fn silence_frees_breadth_too() {
    let mut house = house();
    house.targets = callees(2);
    house.feed(CALLER, &invite_with("Max-Breadth: 1\r\n"));
    let sent = house.pass_ms(32_000);
    let second: Vec<_> = invites(&sent)
        .into_iter()
        .filter(|sent| sent.first_line().contains("10.0.0.3"))
        .collect();
    assert_eq!(second[0].header("Max-Breadth"), ["1"]);
    house.ends();
}

/// §16.6, RFC 5393 §5.3.3.1: breadth set free while others of a higher q still ring is no reason to try a lower q
#[test]
fn targets_of_a_lower_q_wait_for_all_of_the_higher() {
    let mut house = house();
    house.targets = callees(3);
    house.targets[2].q = 500;
    let sent = house.feed(CALLER, &invite_with("Max-Breadth: 6\r\n"));
    assert_eq!(breadths(&sent), ["3", "3"]);
    let first = invites(&sent);
    assert_eq!(breadths(&house.answer(&first[0], "486 Busy Here")), [""; 0]);
    let sent = house.answer(&first[1], "486 Busy Here");
    assert_eq!(breadths(&sent), ["6"]);
    house.ends();
}

/// §16.7 step 5 and 10, RFC 5393 §5.4.2: after a 2xx, a 6xx or a CANCEL nothing is begun with the breadth that became free
#[test]
fn free_breadth_begins_nothing_once_the_search_is_over() {
    for end in ["200 OK", "603 Decline", "cancel"] {
        let mut house = house();
        house.targets = callees(3);
        let sent = house.feed(CALLER, &invite_with("Max-Breadth: 2\r\n"));
        let first = invites(&sent);
        house.answer(&first[1], "180 Ringing");
        let sent = match end {
            "cancel" => house.feed(CALLER, &cancel()),
            _ => house.answer(&first[0], end),
        };
        assert_eq!(breadths(&sent), [""; 0], "{end}");
        let sent = house.answer(&first[1], "487 Request Terminated");
        assert_eq!(breadths(&sent), [""; 0], "{end}");
        house.ends();
    }
}

/// RFC 5393 §5.3.3: a breadth of which not even one branch can be made is exceeded: 440
#[test]
fn a_breadth_of_zero_is_440() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite_with("Max-Breadth: 0\r\n"));
    assert_eq!(lines(&sent), ["SIP/2.0 440 Max-Breadth Exceeded"]);
    house.ends();
}

/// RFC 5393 §5.3.1, §5.8: one integer, no parameters; RFC 3261 §16.3 step 1: what a proxy acts upon must be well-formed
#[test]
fn a_malformed_max_breadth_is_400() {
    for bad in [
        "Max-Breadth: many\r\n",
        "Max-Breadth:\r\n",
        "Max-Breadth: 6;x=y\r\n",
        "Max-Breadth: -1\r\n",
        "Max-Breadth: 6, 6\r\n",
        "Max-Breadth: 6\r\nMax-Breadth: 6\r\n",
    ] {
        let mut house = house();
        let sent = house.feed(CALLER, &invite_with(bad));
        assert_eq!(lines(&sent), ["SIP/2.0 400 Malformed Max-Breadth"], "{bad}");
        house.ends();
    }
}

/// RFC 5393 §5.3.5: who answers himself ignores it
#[test]
fn what_we_answer_ourselves_may_say_what_it_likes() {
    let mut house = house();
    let text = request("OPTIONS", "sip:example.com", "a", "Max-Breadth: none\r\n");
    assert_eq!(lines(&house.feed(CALLER, &text)), ["SIP/2.0 200 OK"]);
    house.ends();
}

/// RFC 5393 §5.4.1: a CANCEL has none, and none of it is read; nor has the ACK of a failure, which is not proxied
#[test]
fn cancel_and_our_own_ack_bear_no_breadth() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let invite = only(&sent, "INVITE").clone();
    house.answer(&invite, "180 Ringing");
    let text = request("CANCEL", "sip:bob@example.com", "a", "Max-Breadth: none\r\n");
    let sent = house.feed(CALLER, &text);
    assert_eq!(only(&sent, "CANCEL").header("Max-Breadth"), [""; 0]);
    assert_eq!(count(&sent, "SIP/2.0 200"), 1);
    let sent = house.answer(&invite, "487 Request Terminated");
    assert_eq!(only(&sent, "ACK").header("Max-Breadth"), [""; 0]);
    house.ends();
}

/// §16.6 step 7: the next address of the same target goes on with the branch's share
#[test]
fn a_branch_keeps_its_breadth_over_a_failover() {
    let mut house = house();
    house.targets = vec![
        place("sip:bob@gw1", 1000, &["10.0.0.2:5060", "10.0.0.12:5060"]),
        place("sip:bob@gw2", 1000, &["10.0.0.3:5060"]),
    ];
    let sent = house.feed(CALLER, &invite_with("Max-Breadth: 2\r\n"));
    assert_eq!(breadths(&sent), ["1", "1"]);
    let sent = house.answer(&invites(&sent)[0], "503 Service Unavailable");
    assert_eq!(breadths(&sent), ["1"]);
    house.ends();
}
