//! Destinations that failed a moment ago: tried last, not never (RFC 3263 §4.3, RFC 3261 §21.5.4, RFC 4321 §1.3).

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sps_wire::flow::{Destination, Transport};

/// What the walks of a worker are told of destinations. Sans-IO; one a worker.
#[derive(Debug, Default)]
pub struct DeadTargets {
    by_target: HashMap<Key, Entry>,
    /// By their ends; the number tells equal ends apart.
    ends: BTreeMap<(Instant, u64), Key>,
    number: u64,
}

type Key = (Transport, SocketAddr);

#[derive(Debug, Clone, Copy)]
struct Entry {
    end: (Instant, u64),
    /// The target itself asked to be left alone: an answer to what was on its way already does not end that.
    asked: bool,
}

/// Strangers may name any number of targets that do not answer: those that end first make room.
pub const MAX_DEAD: usize = 4096;

impl DeadTargets {
    /// Whether others are to be tried before this one.
    pub fn is_dead(&self, now: Instant, destination: &Destination) -> bool {
        // Mostly nothing is, and then nothing is hashed.
        !self.by_target.is_empty()
            && self
                .by_target
                .get(&key(destination))
                .is_some_and(|entry| entry.end.0 > now)
    }

    /// A destination failed, or `asked` by Retry-After to be left alone for so long. A longer wait that stands is not cut short.
    pub fn bury(&mut self, now: Instant, destination: &Destination, wait: Duration, asked: bool) {
        while self.ends.first_key_value().is_some_and(|((until, _), _)| *until <= now) {
            self.forget_first();
        }
        let (key, until) = (key(destination), now + wait);
        if wait.is_zero() || self.by_target.get(&key).is_some_and(|entry| entry.end.0 >= until) {
            return;
        }
        if let Some(entry) = self.by_target.remove(&key) {
            self.ends.remove(&entry.end);
        }
        while self.ends.len() >= MAX_DEAD {
            self.forget_first();
        }
        self.number += 1;
        self.ends.insert((until, self.number), key);
        let end = (until, self.number);
        self.by_target.insert(key, Entry { end, asked });
    }

    /// A destination answered: it is not dead. Gives whether it was thought so.
    pub fn revive(&mut self, destination: &Destination) -> bool {
        if self.by_target.is_empty() {
            return false;
        }
        let key = key(destination);
        let Some(entry) = self.by_target.get(&key).filter(|entry| !entry.asked) else {
            return false;
        };
        self.ends.remove(&entry.end);
        self.by_target.remove(&key);
        true
    }

    /// How many are remembered, those included whose time has just ended.
    pub fn len(&self) -> usize {
        self.by_target.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.by_target.is_empty()
    }

    fn forget_first(&mut self) {
        if let Some((_, key)) = self.ends.pop_first() {
            self.by_target.remove(&key);
        }
    }
}

fn key(destination: &Destination) -> Key {
    (destination.transport, destination.addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(last: u8, port: u16) -> Destination {
        Destination {
            transport: Transport::Udp,
            addr: ([192, 0, 2, last], port).into(),
            tls_name: None,
        }
    }

    const HALF_A_MINUTE: Duration = Duration::from_secs(30);

    #[test]
    fn a_target_is_dead_for_its_time_and_an_answer_ends_it() {
        let now = Instant::now();
        let mut dead = DeadTargets::default();
        dead.bury(now, &to(1, 5060), HALF_A_MINUTE, false);
        assert!(dead.is_dead(now + Duration::from_millis(29_999), &to(1, 5060)));
        assert!(!dead.is_dead(now + HALF_A_MINUTE, &to(1, 5060)));
        let tcp = Destination {
            transport: Transport::Tcp,
            ..to(1, 5060)
        };
        assert!(!dead.is_dead(now, &tcp) && !dead.is_dead(now, &to(1, 5061)));
        assert!(dead.revive(&to(1, 5060)) && !dead.revive(&to(1, 5060)));
        assert!(!dead.is_dead(now, &to(1, 5060)));
        assert!(dead.is_empty() && dead.ends.is_empty());
        dead.bury(now, &to(1, 5060), Duration::ZERO, false);
        assert!(dead.is_empty(), "switched off");
    }

    /// RFC 3261 §21.5.4: who asked for a minute is not asked after half of one because a datagram was lost.
    #[test]
    fn the_longer_wait_stands() {
        let now = Instant::now();
        let mut dead = DeadTargets::default();
        dead.bury(now, &to(1, 5060), HALF_A_MINUTE * 2, true);
        assert!(!dead.revive(&to(1, 5060)), "it asked for that itself");
        dead.bury(now, &to(1, 5060), HALF_A_MINUTE, false);
        assert!(dead.is_dead(now + HALF_A_MINUTE, &to(1, 5060)));
        dead.bury(now, &to(1, 5060), HALF_A_MINUTE * 3, false);
        assert!(dead.is_dead(now + HALF_A_MINUTE * 2, &to(1, 5060)));
        assert_eq!((dead.len(), dead.ends.len()), (1, 1));
    }

    #[test]
    fn memory_is_bounded_and_what_has_ended_goes() {
        let now = Instant::now();
        let mut dead = DeadTargets::default();
        for port in 1..=5_000 {
            dead.bury(now, &to(1, port), HALF_A_MINUTE, false);
        }
        assert_eq!((dead.len(), dead.ends.len()), (MAX_DEAD, MAX_DEAD));
        assert!(dead.is_dead(now, &to(1, 5_000)) && !dead.is_dead(now, &to(1, 1)));
        dead.bury(now + HALF_A_MINUTE, &to(2, 1), HALF_A_MINUTE, false);
        assert_eq!((dead.len(), dead.ends.len()), (1, 1));
    }
}
