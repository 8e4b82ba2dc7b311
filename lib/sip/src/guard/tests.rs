use std::sync::Arc;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A guard of a few places whose only friend is 192.0.2.1.
fn guard(sources: usize) -> (Guard, Instant) {
    let now = Instant::now();
    let conf = GuardConf {
        friends: Friends(Arc::new(|source| source == ip("192.0.2.1"))),
        malformed_per_s: 1.0,
        refused_per_s: 2.0,
        ban_for: Duration::from_secs(10),
        max_ban_for: Duration::from_secs(30),
        sources,
        ..GuardConf::default()
    };
    (Guard::new(conf, 99, now), now)
}

/// Notes so many and gives how many were let pass.
fn noted(guard: &mut Guard, now: Instant, source: IpAddr, kind: Kind, forgeable: bool, count: usize) -> usize {
    (0..count).filter(|_| guard.note(now, source, forgeable, kind)).count()
}

const S: Duration = Duration::from_secs(1);

#[test]
fn ten_seconds_worth_may_come_at_once_and_then_it_is_over() {
    let (mut guard, start) = guard(1024);
    let bad = ip("198.51.100.7");
    assert!(guard.admit(start, bad));
    assert_eq!(noted(&mut guard, start, bad, Kind::Malformed, true, 50), 10);
    assert!(
        !guard.admit(start, bad) && !guard.admit(start + 9 * S, bad),
        "banned for ten seconds"
    );
    assert!(guard.admit(start, ip("198.51.100.8")), "its neighbour is not");
    assert!(guard.admit(start + 11 * S, bad));
    assert_eq!(guard.counters().bans, 1);
    let news = guard.take_news();
    assert_eq!(
        (news.len(), news[0].source, news[0].reason.as_str()),
        (1, bad, "malformed")
    );
}

#[test]
fn who_stays_within_its_budget_is_never_noticed() {
    let (mut guard, start) = guard(1024);
    let slow = ip("2001:db8::1");
    for second in 0..1000 {
        let now = start + second * S;
        assert!(guard.admit(now, slow));
        assert!(guard.note(now, slow, true, Kind::Malformed));
        assert!(guard.note(now, slow, true, Kind::Refused));
    }
}

#[test]
fn each_ban_in_a_row_is_twice_as_long_until_it_has_behaved() {
    let (mut guard, start) = guard(1024);
    let bad = ip("198.51.100.7");
    let mut now = start;
    for expected in [10, 20, 30, 30] {
        noted(&mut guard, now, bad, Kind::Refused, true, 100);
        let ban = guard.bans(now)[0];
        assert_eq!(ban.left, Duration::from_secs(expected));
        now += ban.left + S;
        assert!(guard.admit(now, bad));
    }
    // It has behaved for longer than ten times the last one.
    now += 400 * S;
    assert!(guard.admit(now, ip("203.0.113.1")));
    noted(&mut guard, now, bad, Kind::Refused, true, 100);
    assert_eq!(guard.bans(now)[0].left, 10 * S);
}

#[test]
fn friends_are_never_banned() {
    let (mut guard, start) = guard(1024);
    let friend = ip("192.0.2.1");
    assert_eq!(noted(&mut guard, start, friend, Kind::Malformed, false, 10_000), 10_000);
    assert!(guard.admit(start, friend) && guard.standing(start, friend) == Standing::Friend);
    let all = [OperatorBan {
        network: Network::new(ip("192.0.2.0"), 24).expect("a network"),
        until: None,
    }];
    guard.deny(&all, start);
    assert!(guard.admit(start, friend) && !guard.admit(start, ip("192.0.2.2")));
    assert_eq!(guard.operator_hits()[0].1, 1);
}

/// A datagram's source may be forged: nobody gets a proven one banned by that, and a stream takes eight times the evidence.
#[test]
fn forged_datagrams_do_not_ban_who_is_proven() {
    let (mut guard, start) = guard(1024);
    let phone = ip("203.0.113.5");
    guard.prove(start, phone);
    assert_eq!(guard.standing(start, phone), Standing::Proven);
    assert_eq!(noted(&mut guard, start, phone, Kind::Malformed, true, 10_000), 80);
    assert!(guard.admit(start, phone), "only the excess is dropped");
    assert_eq!(guard.counters().excess, 10_000 - 80);
    assert_eq!(noted(&mut guard, start, phone, Kind::Refused, false, 10_000), 160);
    assert!(!guard.admit(start, phone), "a stream's source is not forged");
}

#[test]
fn a_proof_wears_off() {
    let (mut guard, start) = guard(1024);
    let phone = ip("203.0.113.5");
    guard.prove(start, phone);
    assert_eq!(guard.standing(start + PROVEN_FOR - S, phone), Standing::Proven);
    assert_eq!(guard.standing(start + PROVEN_FOR + S, phone), Standing::Unknown);
}

/// Sixty-four times as many forged sources as there are places: who is banned stays banned, who is proven stays proven.
#[test]
fn a_flood_of_sources_frees_nobody_and_harms_nobody() {
    let (mut guard, start) = guard(256);
    let (bad, phone) = (ip("198.51.100.7"), ip("203.0.113.5"));
    noted(&mut guard, start, bad, Kind::Malformed, true, 50);
    guard.prove(start, phone);
    for n in 0..16_384u32 {
        let forged = IpAddr::from((0x0a00_0000 + n).to_be_bytes());
        let now = start + Duration::from_micros(u64::from(n) * 100);
        assert!(guard.admit(now, forged));
        guard.note(now, forged, true, Kind::Malformed);
    }
    let now = start + 2 * S;
    assert!(!guard.admit(now, bad));
    assert!(guard.admit(now, phone) && guard.standing(now, phone) == Standing::Proven);
    guard.on_second(now);
    assert!(guard.counters().sources <= 256);
}

/// An attacker with few addresses cannot hide what he has done behind forged ones that have done nothing.
#[test]
fn a_flood_of_sources_hides_nobody() {
    let (mut guard, start) = guard(64);
    let bad = ip("198.51.100.7");
    let mut passed = 0;
    for n in 0..10_000u32 {
        let now = start + Duration::from_micros(u64::from(n));
        guard.admit(now, IpAddr::from((0x0a00_0000 + n).to_be_bytes()));
        if n.is_multiple_of(10) && guard.admit(now, bad) {
            passed += usize::from(guard.note(now, bad, true, Kind::Malformed));
        }
    }
    assert!(passed <= 20, "{passed} of 1000 passed");
    assert!(!guard.admit(start + S, bad));
}

/// A table full of those who must stay leaves newcomers without a place: they pass, and share a budget.
#[test]
fn who_finds_no_place_shares_a_budget() {
    let (mut guard, start) = guard(8);
    for n in 0..8u8 {
        guard.prove(start, IpAddr::from([203, 0, 113, n]));
    }
    let others = || (0..10_000u32).map(|n| IpAddr::from((0x0a00_0000 + n).to_be_bytes()));
    assert!(others().all(|source| guard.admit(start, source)));
    let passed = others()
        .filter(|source| guard.note(start, *source, true, Kind::Malformed))
        .count();
    assert_eq!(passed, 160);
    assert!(guard.counters().untracked >= 10_000);
    assert!((0..8u8).all(|n| guard.standing(start, IpAddr::from([203, 0, 113, n])) == Standing::Proven));
}

#[test]
fn an_unknown_source_is_answered_so_often_and_no_more() {
    let (mut guard, start) = guard(1024);
    let victim = ip("203.0.113.5");
    let answered = (0..10_000).filter(|_| guard.may_answer(start, victim)).count();
    assert_eq!(answered, 100, "two seconds' worth");
    assert_eq!(guard.counters().unanswered, 9_900);
    guard.prove(start, victim);
    assert!((0..10_000).all(|_| guard.may_answer(start, victim)));
}

#[test]
fn a_ban_of_another_worker_holds_here_unless_it_is_proven_here() {
    let (mut one, start) = guard(1024);
    let (mut other, _) = guard(1024);
    let (bad, phone) = (ip("198.51.100.7"), ip("203.0.113.5"));
    for source in [bad, phone] {
        noted(&mut one, start, source, Kind::Malformed, true, 50);
    }
    other.prove(start, phone);
    for ban in one.take_news() {
        other.adopt(start, &ban);
    }
    assert!(!other.admit(start, bad) && other.admit(start, phone));
    assert_eq!(
        other.lift(start, &Network::new(ip("198.51.100.0"), 24).expect("a network")),
        1
    );
    assert!(other.admit(start, bad) && other.bans(start).is_empty());
    assert!(!one.admit(start, bad), "each worker is told");
}

#[test]
fn bans_outlive_another_configuration() {
    let (mut guard, start) = guard(1024);
    let bad = ip("198.51.100.7");
    noted(&mut guard, start, bad, Kind::Malformed, true, 50);
    for sources in [4096, 512] {
        guard.reconfigure(GuardConf {
            sources,
            ..GuardConf::default()
        });
        assert!(!guard.admit(start, bad), "{sources}");
        assert_eq!(guard.bans(start).len(), 1);
    }
    let friendly = GuardConf {
        friends: Friends(Arc::new(|_| true)),
        ..GuardConf::default()
    };
    guard.reconfigure(friendly);
    assert!(guard.admit(start, bad), "a friend now");
    guard.reconfigure(GuardConf::off());
    assert!(guard.admit(start, bad));
}

#[test]
fn the_operators_bans_hold_with_the_guard_off() {
    let now = Instant::now();
    let mut guard = Guard::new(GuardConf::off(), 1, now);
    let bans = [OperatorBan {
        network: Network::new(ip("198.51.100.0"), 24).expect("a network"),
        until: Some(now + 5 * S),
    }];
    guard.deny(&bans, now);
    assert!(!guard.admit(now, ip("198.51.100.7")) && guard.admit(now, ip("198.51.101.7")));
    guard.on_second(now + 6 * S);
    assert!(guard.admit(now + 6 * S, ip("198.51.100.7")));
}

#[test]
fn summaries_name_each_source_once_and_not_too_many() {
    let (mut guard, start) = guard(4096);
    for n in 0..200u8 {
        let source = IpAddr::from([198, 51, 100, n]);
        noted(&mut guard, start, source, Kind::Malformed, true, 20);
        assert!(!guard.admit(start, source));
    }
    let summaries = guard.take_summaries(start);
    assert_eq!(summaries.len(), MAX_SUMMARIES + 1);
    assert!(
        summaries[..MAX_SUMMARIES]
            .iter()
            .all(|said| said.reason == "malformed" && said.dropped == 2)
    );
    assert_eq!(summaries[MAX_SUMMARIES].source, None);
    assert_eq!(summaries[MAX_SUMMARIES].dropped, 2 * (200 - MAX_SUMMARIES as u64));
    assert!(guard.take_summaries(start).is_empty());
}
