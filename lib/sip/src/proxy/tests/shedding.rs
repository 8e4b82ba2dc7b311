//! What is refused under overload, what is not, and how.

use super::*;
use crate::overload::{INTERVAL, Standing, Turn};

impl House {
    /// Everything that comes waits for longer than anybody puts up with, until nearly nothing new is let in.
    fn overload(&mut self) {
        let (mut began, mut wait_ms) = (false, 40);
        while self.core.load().share(Standing::Ordinary) > 0.02 {
            wait_ms += 20;
            (0..10).for_each(|_| self.core.waited(Duration::from_millis(wait_ms)));
            self.clock.now += INTERVAL;
            self.clock.unix_ms += INTERVAL.as_millis() as u64;
            began |= self.core.watch_load(self.clock) == Some(Turn::Began);
        }
        self.core.shedding.waited = Duration::ZERO;
        assert!(began && self.core.load().share(Standing::Preferred) >= 1.0);
    }

    /// Nothing waits any more, for long enough.
    fn relief(&mut self) {
        for _ in 0..200 {
            self.clock.now += INTERVAL;
            let _ = self.core.watch_load(self.clock);
        }
        assert!(!self.core.load().is_active());
    }
}

fn one(branch: u32) -> String {
    request("INVITE", "sip:bob@example.com", &format!("b{branch}"), "").replace("call-1", &format!("call-{branch}"))
}

/// RFC 7339 §5.10.2; RFC 3261 §21.5.4 keeps Retry-After for who means all requests.
#[test]
fn overload_is_503_without_retry_after_and_leaves_nothing_behind() {
    let mut house = house();
    house.overload();
    let sent = house.feed_by(Transport::Tcp, CALLER, &one(1));
    assert_eq!(lines(&sent), ["SIP/2.0 503 Overload"]);
    assert!(sent[0].header("Retry-After").is_empty());
    assert_eq!((house.core.transactions(), house.core.counters().overload), (0, 1));
    assert_eq!(house.statuses(), Vec::<u16>::new(), "no line each in the access log");
    // Its ACK ends here.
    let tag = sent[0].header("To")[0].split("tag=").nth(1).expect("a tag").to_owned();
    let ack = request("ACK", "sip:bob@example.com", "b1", "").replace("tag=callee", &format!("tag={tag}"));
    assert!(house.feed(CALLER, &ack).is_empty());
}

/// RFC 3261 §8.2.7
#[test]
fn what_was_refused_stays_refused() {
    let mut house = house();
    house.overload();
    let first = house.feed_by(Transport::Tcp, CALLER, &one(1));
    house.clock.now += Duration::from_millis(500);
    let again = house.feed_by(Transport::Tcp, CALLER, &one(1));
    assert_eq!(first[0].text, again[0].text);
    house.relief();
    let late = house.feed_by(Transport::Tcp, CALLER, &one(1));
    assert_eq!(first[0].text, late[0].text, "its caller may have had the 503 by now");
    let other = house.feed_by(Transport::Tcp, CALLER, &one(2));
    assert!(lines(&other).contains(&"SIP/2.0 100 Trying"));
}

/// A copy that was on its way before our answer was needs none of its own.
#[test]
fn a_copy_that_waited_beside_the_original_is_dropped() {
    let mut house = house();
    house.overload();
    house.core.waited(Duration::from_millis(700));
    assert_eq!(house.feed_by(Transport::Tcp, CALLER, &one(1)).len(), 1);
    house.core.waited(Duration::from_millis(200));
    house.clock.now += Duration::from_millis(1);
    assert!(house.feed_by(Transport::Tcp, CALLER, &one(1)).is_empty());
    assert_eq!(house.core.counters().retransmissions, 1);
}

/// RFC 7339 §5.10.1: what was begun is ended; emergencies, who asks whether we live, and registered phones come before
/// strangers.
#[test]
fn begun_calls_go_on_and_some_come_first() {
    struct Alice;
    impl Registrations for Alice {
        fn is_registered(&self, aor: &[u8], flow: &Flow) -> bool {
            aor == b"sip:alice@example.com" && flow.remote.port() == 5060
        }
    }
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    let sent = house.feed("10.0.0.2:5060", &answer(&forwarded, "200 OK"));
    let route = only(&sent, "SIP/2.0 200").header("Record-Route")[0].to_owned();
    house.overload();
    let bye = request("BYE", "sip:bob@10.0.0.2:5060", "bye", &format!("Route: {route}\r\n"));
    assert!(house.feed(CALLER, &bye)[0].text.starts_with("BYE "));
    let ack = request("ACK", "sip:bob@10.0.0.2:5060", "ack", &format!("Route: {route}\r\n"));
    assert!(house.feed(CALLER, &ack)[0].text.starts_with("ACK "));
    let emergency = one(3).replace("INVITE sip:bob@example.com", "INVITE urn:service:sos");
    assert_ne!(lines(&house.feed(CALLER, &emergency)), ["SIP/2.0 503 Overload"]);
    let alive = request("OPTIONS", "sip:example.com", "o", "");
    assert_eq!(lines(&house.feed(CALLER, &alive)), ["SIP/2.0 200 OK"]);
    assert_eq!(
        lines(&house.feed_by(Transport::Tcp, CALLER, &one(4))),
        ["SIP/2.0 503 Overload"]
    );
    house.core.prefer(Box::new(Alice));
    assert!(lines(&house.feed_by(Transport::Tcp, CALLER, &one(5))).contains(&"SIP/2.0 100 Trying"));
    assert_eq!(
        lines(&house.feed_by(Transport::Tcp, "10.0.0.1:9", &one(6))),
        ["SIP/2.0 503 Overload"]
    );
}

/// A Route of somebody else's making opens no door.
#[test]
fn a_forged_dialog_is_no_dialog() {
    let mut house = house();
    house.overload();
    let forged = request(
        "BYE",
        "sip:bob@10.0.0.2:5060",
        "x",
        "Route: <sip:AAAA@127.0.0.1:5060;lr>\r\n",
    );
    let mut refused = 0;
    // It is only preferred; when all are, they are refused as well.
    for step in 0..100 {
        (0..10).for_each(|_| house.core.waited(Duration::from_millis(900 + step * 20)));
        house.clock.now += INTERVAL;
        let _ = house.core.watch_load(house.clock);
        let text = forged.replace("z9hG4bKx", &format!("z9hG4bKx{step}"));
        refused += usize::from(lines(&house.feed(CALLER, &text)) == ["SIP/2.0 503 Overload"]);
    }
    assert!(refused > 10, "{refused}");
}

/// RFC 7339 §5.10.1, RFC 4412: priority is a known neighbour's to claim.
#[test]
fn priority_is_believed_of_known_neighbours_only() {
    let with = |text: String| text.replace("Contact:", "Resource-Priority: dsn.flash, ets.0\r\nContact:");
    let mut house = house();
    house.overload();
    assert_eq!(
        lines(&house.feed_by(Transport::Tcp, CALLER, &with(one(1)))),
        ["SIP/2.0 503 Overload"]
    );
    let mut conf = conf();
    conf.overload.trusts = Trusts(Arc::new(|source| source == std::net::IpAddr::from([10, 0, 0, 1])));
    let mut house = house_with(conf);
    house.overload();
    assert!(lines(&house.feed_by(Transport::Tcp, CALLER, &with(one(1)))).contains(&"SIP/2.0 100 Trying"));
    assert_eq!(
        lines(&house.feed_by(Transport::Tcp, "10.0.0.7:5060", &with(one(2)))),
        ["SIP/2.0 503 Overload"]
    );
}

/// Design §5: refusals are summed up by source and second.
#[test]
fn the_journal_hears_of_refusals_in_sums() {
    let mut house = house();
    house.overload();
    for branch in 0..5 {
        house.feed_by(Transport::Tcp, CALLER, &one(branch));
    }
    house.clock.unix_ms += 1_000;
    let _ = house.core.watch_load(house.clock);
    let sums: Vec<_> = house.core.journal_mut().1.iter().map(|shed| shed.count).collect();
    assert_eq!(sums, [5]);
}

/// §8.2.7: who is denied is refused without a trace, the same each time; a dialog that was let through goes on.
#[test]
fn a_denied_source_gets_403_and_no_transaction() {
    let mut conf = conf();
    conf.denies = Denies(Arc::new(|source| source == std::net::IpAddr::from([10, 0, 0, 9])));
    let mut house = house_with(conf);
    let sent = house.feed("10.0.0.9:5060", &one(1));
    assert_eq!(lines(&sent), ["SIP/2.0 403 Forbidden"]);
    assert_eq!(house.feed("10.0.0.9:5060", &one(1))[0].text, sent[0].text);
    assert_eq!(house.core.transactions(), 0);
    assert_eq!(house.core.journal_mut().0[0], (403, "access", 0));
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    let sent = house.feed("10.0.0.2:5060", &answer(&forwarded, "200 OK"));
    let route = only(&sent, "SIP/2.0 200").header("Record-Route")[0].to_owned();
    let bye = request("BYE", "sip:bob@10.0.0.2:5060", "bye", &format!("Route: {route}\r\n"));
    assert!(house.feed("10.0.0.9:5060", &bye)[0].text.starts_with("BYE "));
}

/// When refusing itself is too much most new INVITEs are dropped unread; nothing else is, and a phone that was found registered
/// is heard.
#[test]
fn when_refusing_is_too_much_new_invites_are_dropped_unread() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    let sent = house.feed("10.0.0.2:5060", &answer(&forwarded, "200 OK"));
    let route = only(&sent, "SIP/2.0 200").header("Record-Route")[0].to_owned();
    house.overload();
    let answered = (0..200)
        .filter(|n| !house.feed(CALLER, &one(1_000 + n)).is_empty())
        .count();
    assert!((3..60).contains(&answered), "{answered}");
    assert_eq!(house.core.counters().overload_dropped, 200 - answered as u64);
    for n in 0..50 {
        let again = request(
            "INVITE",
            "sip:bob@10.0.0.2:5060",
            &format!("re{n}"),
            &format!("Route: {route}\r\n"),
        );
        assert!(!house.feed(CALLER, &again).is_empty(), "inside a dialog");
        let message = request("MESSAGE", "sip:bob@example.com", &format!("m{n}"), "");
        assert!(
            !house.feed(CALLER, &message).is_empty(),
            "refused, perhaps, but not dropped"
        );
    }
    struct Everybody;
    impl Registrations for Everybody {
        fn is_registered(&self, _: &[u8], _: &Flow) -> bool {
            true
        }
    }
    house.core.prefer(Box::new(Everybody));
    let first = request("MESSAGE", "sip:bob@example.com", "known", "");
    house.feed("10.0.0.3:5060", &first);
    for n in 0..50 {
        assert!(!house.feed("10.0.0.3:5060", &one(2_000 + n)).is_empty());
    }
}
