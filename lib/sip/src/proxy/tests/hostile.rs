//! Peers that mean harm: what the core keeps, answers and refuses when a guard judges who sends.

use super::*;
use crate::guard::{Friends, Guard, GuardConf, Standing};

const ATTACKER: &str = "10.6.6.6:5060";

fn guarded(conf: Conf) -> House {
    let mut house = house_with(conf);
    let guard = GuardConf {
        friends: Friends(Arc::new(|source| source.to_string() == "10.0.0.9")),
        malformed_per_s: 1.0,
        refused_per_s: 1.0,
        stray_per_s: 1.0,
        new_per_s: 10.0,
        answers_per_s: 5.0,
        ban_for: Duration::from_secs(10),
        ..GuardConf::default()
    };
    house
        .core
        .guard_by(Rc::new(RefCell::new(Guard::new(guard, 7, house.clock.now))));
    house
}

fn standing(house: &House, source: &str) -> Standing {
    house
        .core
        .guard
        .borrow_mut()
        .standing(house.clock.now, source.parse().expect("an address"))
}

fn admitted(house: &House, source: &str) -> bool {
    house
        .core
        .guard
        .borrow_mut()
        .admit(house.clock.now, source.parse().expect("an address"))
}

fn numbered(method: &str, n: usize) -> String {
    request(method, "sip:bob@example.com", &n.to_string(), "").replace("call-1", &format!("call-{n}"))
}

#[test]
fn garbage_gets_its_sender_banned_and_no_answer() {
    let mut house = guarded(conf());
    let answers: usize = (0..100)
        .map(|_| house.feed(ATTACKER, "INVITE nonsense\r\n\r\n").len())
        .sum();
    assert_eq!(answers, 0);
    assert!(!admitted(&house, "10.6.6.6"));
    assert_eq!(house.core.counters().garbage, 11, "the others were not read");
    assert!(
        house.feed(ATTACKER, &numbered("OPTIONS", 1)).is_empty(),
        "nor is what is well-formed"
    );
}

/// Phones keep their way through a NAT open by line ends, zeros, STUN: no evidence, however many stand behind one address.
#[test]
fn keep_alives_are_no_evidence() {
    let mut house = guarded(conf());
    let stun = "\0\u{1}\0\0\u{21}\u{12}";
    for _ in 0..1000 {
        for bytes in ["\r\n\r\n", "\0\0\0\0", "\r\n", "", "jaK", "   \r\n\r\n"] {
            assert!(house.feed(ATTACKER, bytes).is_empty());
        }
    }
    let _ = stun;
    assert!(admitted(&house, "10.6.6.6"));
    assert!(super::receive::is_keep_alive(&[
        0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 9, 9
    ]));
}

#[test]
fn a_storm_of_stray_responses_gets_its_sender_banned() {
    let mut house = guarded(conf());
    let stray = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKsps0001000000000100000001aaaaaaaaaaaaaaaa\r\n\
                 Via: SIP/2.0/UDP 10.0.0.1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n\r\n";
    for _ in 0..100 {
        assert!(house.feed(ATTACKER, stray).is_empty());
    }
    assert!(!admitted(&house, "10.6.6.6"));
    assert_eq!(house.core.counters().stray_responses, 11);
}

/// CANCELs that match nothing: 481 each, until it is enough.
#[test]
fn a_flood_of_cancels_is_answered_so_often_and_no_more() {
    let mut house = guarded(conf());
    let answers: usize = (0..100)
        .map(|n| house.feed(ATTACKER, &numbered("CANCEL", n)).len())
        .sum();
    assert_eq!(answers, 10);
    assert!(!admitted(&house, "10.6.6.6"));
}

/// RFC 3261 §18.2.2 sends responses to the source address, which may be forged: an unknown one gets two seconds' worth.
#[test]
fn a_forged_source_is_sent_no_storm() {
    let mut house = guarded(conf());
    house.targets.clear();
    let mut sent = 0;
    for n in 0..9 {
        sent += house.feed(ATTACKER, &numbered("INVITE", n)).len();
    }
    assert_eq!(sent, 10, "100 and 480 of five; of the others nothing");
    // Timer G would repeat each ten times more within 32 seconds: 90 messages.
    let repeated = house.pass(Duration::from_secs(32)).len();
    assert!(repeated <= 5 * 32, "{repeated}");
    let same = numbered("INVITE", 1);
    let mut again = 0;
    for _ in 0..1000 {
        again += house.feed("10.6.6.7:5060", &same).len();
    }
    assert!(again <= 10, "{again} answers to one request repeated");
}

#[test]
fn who_answers_our_requests_is_proven() {
    let mut house = guarded(conf());
    let sent = house.feed(CALLER, &request("OPTIONS", "sip:bob@example.com", "a", ""));
    assert_eq!(standing(&house, "10.0.0.2"), Standing::Unknown);
    let onward = sent
        .iter()
        .find(|sent| sent.first_line().starts_with("OPTIONS"))
        .expect("it goes on")
        .clone();
    house.feed("10.0.0.2:5060", &answer(&onward, "200 OK"));
    assert_eq!(standing(&house, "10.0.0.2"), Standing::Proven);
    assert_eq!(standing(&house, "10.0.0.9"), Standing::Friend);
    assert_eq!(standing(&house, "10.0.0.1"), Standing::Unknown, "asking is no proof");
}

/// The table's last eighth is not for strangers, its last sixteenth for dialogs alone.
#[test]
fn strangers_are_refused_first() {
    let mut house = guarded(Conf {
        max_transactions: 16,
        ..conf()
    });
    let statuses = |sent: Vec<Sent>| -> Vec<String> { sent.iter().map(|sent| sent.first_line().to_owned()).collect() };
    for n in 0..14 {
        house.feed(&format!("10.7.0.{n}:5060"), &numbered("INVITE", n));
    }
    assert_eq!(
        statuses(house.feed("10.7.1.1:5060", &numbered("INVITE", 90))),
        ["SIP/2.0 503 Overload"]
    );
    let friend = statuses(house.feed("10.0.0.9:5060", &numbered("INVITE", 91)));
    assert!(friend[0].contains("100"), "{friend:?}");
    assert_eq!(
        statuses(house.feed("10.0.0.9:5060", &numbered("INVITE", 92))),
        ["SIP/2.0 503 Overload"]
    );
    let counters = house.core.counters();
    assert_eq!(
        (counters.full_unknown, counters.full_known, counters.full_dialog),
        (1, 1, 0)
    );
}

#[test]
fn messages_that_are_kept_count_towards_being_full() {
    let mut house = guarded(Conf {
        max_stored_len: 100_000,
        ..conf()
    });
    let big = |n| {
        let body = "x".repeat(20_000);
        numbered("INVITE", n).replace(
            "Content-Length: 0\r\n\r\n",
            &format!("Content-Length: 20000\r\n\r\n{body}"),
        )
    };
    let mut full = 0;
    for n in 0..9 {
        let sent = house.feed(&format!("10.7.0.{n}:5060"), &big(n));
        full += usize::from(sent[0].first_line().contains("503"));
    }
    assert!(full >= 6, "{full} refused");
    assert!(house.core.stored_len() < 150_000);
    house.pass(Duration::from_secs(300));
    assert_eq!(
        (house.core.transactions(), house.core.stored_len()),
        (0, 0),
        "all is given back"
    );
}

/// A storm of ICMP costs a bounded look each time; in the end every request that waits there has failed.
#[test]
fn who_waits_for_a_silent_place_is_found_a_part_at_a_time() {
    let mut house = house_with(Conf {
        max_transactions: 100_000,
        ..conf()
    });
    for n in 0..20_000 {
        house.feed(CALLER, &numbered("INVITE", n));
    }
    let mut todo = Vec::new();
    let silent = ["10.0.0.2:5060".parse().expect("an address")];
    house.core.on_unreachable(house.clock, &silent, &mut todo);
    house.perform(std::mem::take(&mut todo));
    let left = house.core.undecided_requests();
    assert!((1..20_000).contains(&left), "{left}");
    house.core.go_on_looking(house.clock, &mut todo);
    house.perform(std::mem::take(&mut todo));
    assert_eq!(house.core.undecided_requests(), 0);
    house.core.go_on_looking(house.clock, &mut todo);
    assert!(todo.is_empty());
}
