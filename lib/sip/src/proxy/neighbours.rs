//! Overload control with the servers we send to (RFC 7339 §5.4 to §5.7, §7.2): what each has asked for, for how long, and
//! which requests it does not get because of that.
//!
//! Only a response that matches a client transaction of ours is listened to, and what it says concerns the address that the
//! request went to: nobody else can know the branch (§11). §5.9, a server that answers nothing, is the walk over destinations
//! that remembers who is dead.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sps_wire::feedback::Feedback;
use sps_wire::feedback::Seq;

/// §7.2's two categories, and what is not subject to reduction at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Category {
    /// Reduced first.
    First,
    /// Reduced when the first category has nothing left.
    Second,
    /// ACK: nobody could be told that it did not go.
    Exempt,
}

/// What servers have asked for; only those that ask for something are in it.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    asking: HashMap<SocketAddr, Neighbour>,
}

#[derive(Debug)]
struct Neighbour {
    percent: u8,
    until: Instant,
    seq: Seq,
    /// Requests of each category since `sampled_at`, and the share of the first before that.
    first: u32,
    second: u32,
    share_of_first: f64,
    sampled_at: Instant,
}

/// Servers that ask for something at one time; one more is not listened to.
const MAX_NEIGHBOURS: usize = 1_024;

/// §4.3 has no bound; without one a server could silence us for good by mistake, since who gets no request sends no response.
const LONGEST_VALIDITY: Duration = Duration::from_secs(60);

/// §4.4: a number this much lower is no late response but a count that began anew.
const BEGAN_ANEW: u64 = 1_000;

/// §7.2: the mix of categories is sampled this often, and taken for this before there is a sample.
const SAMPLE_FOR: Duration = Duration::from_secs(5);
const FIRST_GUESS: f64 = 0.8;

impl Neighbours {
    /// The server at `addr` has said something (§5.4).
    pub fn note(&mut self, now: Instant, addr: SocketAddr, feedback: Feedback) {
        let asks = feedback.validity_ms > 0 && feedback.percent > 0;
        if !self.asking.contains_key(&addr) && (!asks || !self.has_room(now)) {
            return;
        }
        let neighbour = self.asking.entry(addr).or_insert_with(|| Neighbour {
            percent: 0,
            until: now,
            seq: Seq::default(),
            first: 0,
            second: 0,
            share_of_first: FIRST_GUESS,
            sampled_at: now,
        });
        if !neighbour.is_news(now, feedback.seq) {
            return;
        }
        neighbour.seq = feedback.seq;
        // §5.7: a validity of zero ends it, whatever `oc` says.
        neighbour.percent = if asks { feedback.percent } else { 0 };
        let validity = Duration::from_millis(feedback.validity_ms.into());
        neighbour.until = now + validity.min(LONGEST_VALIDITY);
    }

    /// Whether a request may go to `addr` (§5.5); `draw` is random.
    pub fn allows(&mut self, now: Instant, addr: SocketAddr, category: Category, draw: u32) -> bool {
        let Some(neighbour) = self.asking.get_mut(&addr) else {
            return true;
        };
        neighbour.count(now, category);
        if now >= neighbour.until {
            return true;
        }
        f64::from(draw) >= neighbour.held_back(category) * 2f64.powi(32)
    }

    /// How many servers ask for something now.
    pub fn len(&self, now: Instant) -> usize {
        let asks = |neighbour: &&Neighbour| neighbour.percent > 0 && now < neighbour.until;
        self.asking.values().filter(asks).count()
    }

    /// Nobody has asked for anything of late.
    pub fn is_empty(&self) -> bool {
        self.asking.is_empty()
    }

    fn has_room(&mut self, now: Instant) -> bool {
        if self.asking.len() >= MAX_NEIGHBOURS {
            self.asking.retain(|_, neighbour| now < neighbour.until);
        }
        self.asking.len() < MAX_NEIGHBOURS
    }
}

impl Neighbour {
    /// §5.4: a higher number than the last; any, once what was said has run out (§5.7) or the count began anew (§4.4).
    fn is_news(&self, now: Instant, seq: Seq) -> bool {
        // Without a number nobody can tell; then what comes last counts.
        seq > self.seq || now >= self.until || seq == Seq::default() || seq.whole + BEGAN_ANEW < self.seq.whole
    }

    fn count(&mut self, now: Instant, category: Category) {
        if now.saturating_duration_since(self.sampled_at) >= SAMPLE_FOR {
            let all = self.first + self.second;
            if all > 0 {
                self.share_of_first = f64::from(self.first) / f64::from(all);
            }
            (self.first, self.second, self.sampled_at) = (0, 0, now);
        }
        match category {
            Category::First => self.first += 1,
            Category::Second | Category::Exempt => self.second += 1,
        }
    }

    /// §7.2: the share of a category that is not sent.
    fn held_back(&self, category: Category) -> f64 {
        let asked = f64::from(self.percent) / 100.0;
        let first = self.share_of_first.max(1e-6);
        match category {
            Category::First => (asked / first).min(1.0),
            Category::Second => ((asked - first) / (1.0 - first).max(1e-6)).clamp(0.0, 1.0),
            Category::Exempt => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feedback(percent: u8, validity_ms: u32, seq_ms: u64) -> Feedback {
        Feedback {
            percent,
            validity_ms,
            seq: Seq::of_ms(seq_ms),
        }
    }

    fn addr(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 5060))
    }

    /// Of a thousand requests evenly drawn, how many go.
    fn sent(neighbours: &mut Neighbours, now: Instant, category: Category) -> usize {
        let draws = (0..1_000u32).map(|n| n * 4_294_967 + 2_000_000);
        draws
            .filter(|draw| neighbours.allows(now, addr(1), category, *draw))
            .count()
    }

    /// RFC 7339 §7.2: of requests that are all of the first category, `oc` percent are held back.
    #[test]
    fn as_many_are_held_back_as_asked() {
        let now = Instant::now();
        let mut neighbours = Neighbours::default();
        neighbours.note(now, addr(1), feedback(20, 60_000, 1));
        sent(&mut neighbours, now, Category::First);
        let later = now + SAMPLE_FOR;
        assert_eq!(sent(&mut neighbours, later, Category::First), 800);
        assert_eq!(sent(&mut neighbours, later, Category::Second), 1_000);
        assert!(
            neighbours.allows(now, addr(2), Category::First, 0),
            "another server is another matter"
        );
    }

    /// RFC 7339 §7.2: with 40 of a hundred in the first category, `oc=10` is a quarter of those, `oc=70` all of them and half of
    /// the others.
    #[test]
    fn the_first_category_carries_the_reduction_as_far_as_it_can() {
        let now = Instant::now();
        let mut neighbours = Neighbours::default();
        neighbours.note(now, addr(1), feedback(10, 60_000, 1));
        for n in 0..1_000 {
            let category = if n % 10 < 4 { Category::First } else { Category::Second };
            neighbours.allows(now, addr(1), category, 0);
        }
        let later = now + SAMPLE_FOR;
        assert_eq!(sent(&mut neighbours, later, Category::First), 750);
        assert_eq!(sent(&mut neighbours, later, Category::Second), 1_000);
        neighbours.note(later, addr(1), feedback(70, 60_000, 2));
        assert_eq!(sent(&mut neighbours, later, Category::First), 0);
        assert_eq!(sent(&mut neighbours, later, Category::Second), 500);
        assert_eq!(sent(&mut neighbours, later, Category::Exempt), 1_000);
    }

    /// RFC 7339 §5.7
    #[test]
    fn it_ends_by_time_or_by_a_validity_of_zero() {
        let now = Instant::now();
        let mut neighbours = Neighbours::default();
        neighbours.note(now, addr(1), feedback(100, 500, 1));
        assert_eq!(
            sent(&mut neighbours, now + Duration::from_millis(499), Category::First),
            0
        );
        assert_eq!(
            sent(&mut neighbours, now + Duration::from_millis(500), Category::First),
            1_000
        );
        neighbours.note(now, addr(1), feedback(100, 500, 2));
        neighbours.note(now, addr(1), feedback(100, 0, 3));
        assert_eq!(sent(&mut neighbours, now, Category::First), 1_000);
        assert_eq!(neighbours.len(now), 0);
    }

    /// RFC 7339 §5.4, §4.4
    #[test]
    fn what_is_late_changes_nothing_and_a_new_count_does() {
        let now = Instant::now();
        let mut neighbours = Neighbours::default();
        neighbours.note(now, addr(1), feedback(100, 500, 50_000_000));
        neighbours.note(now, addr(1), feedback(0, 0, 49_999_000));
        assert_eq!(sent(&mut neighbours, now, Category::First), 0, "an older word");
        let later = now + Duration::from_millis(400);
        neighbours.note(later, addr(1), feedback(100, 500, 50_000_000));
        assert_eq!(
            sent(&mut neighbours, now + Duration::from_millis(600), Category::First),
            1_000,
            "the same word again does not last longer"
        );
        neighbours.note(now, addr(1), feedback(100, 500, 50_001_000));
        neighbours.note(now, addr(1), feedback(0, 0, 1_000));
        assert_eq!(sent(&mut neighbours, now, Category::First), 1_000, "it began anew");
    }

    /// Nobody silences us for good, and nobody fills our memory.
    #[test]
    fn words_are_bounded_in_time_and_number() {
        let now = Instant::now();
        let mut neighbours = Neighbours::default();
        neighbours.note(now, addr(1), feedback(100, u32::MAX, 1));
        assert_eq!(sent(&mut neighbours, now + LONGEST_VALIDITY, Category::First), 1_000);
        for port in 1..=2_000 {
            neighbours.note(now, SocketAddr::from(([192, 0, 2, 9], port)), feedback(50, 1_000, 1));
        }
        assert_eq!(neighbours.asking.len(), MAX_NEIGHBOURS);
        let later = now + Duration::from_secs(61);
        neighbours.note(later, addr(7), feedback(50, 1_000, 1));
        assert_eq!(neighbours.asking.len(), 1);
        // Who asks for nothing is not kept at all.
        neighbours.note(later, addr(8), feedback(0, 0, 1));
        assert_eq!(neighbours.asking.len(), 1);
    }
}
