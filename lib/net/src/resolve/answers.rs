//! What lookups came to a while ago: answers for as long as they say, failures for some seconds (the resolver package caches
//! neither failures of servers nor silence).

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::ResolveError;
use super::dns::Answer;
use super::lookups::Key;

/// Outcome of one lookup.
pub(super) type Outcome = Result<Answer, ResolveError>;

/// Remembers outcomes until their time is over, at most [`CAPACITY`] of them.
#[derive(Debug, Default)]
pub(super) struct Answers {
    by_key: HashMap<Key, (u64, Instant, Outcome)>,
    /// By their ends; the number tells equal ends apart.
    ends: BTreeMap<(Instant, u64), Key>,
    number: u64,
}

/// A stranger can make us look up any number of names: those that end first make room.
const CAPACITY: usize = 8192;

impl Answers {
    /// The outcome of a lookup that is not over yet.
    pub(super) fn find(&mut self, now: Instant, key: &Key) -> Option<Outcome> {
        while self.ends.first_key_value().is_some_and(|((until, _), _)| *until <= now) {
            self.forget_first();
        }
        self.by_key.get(key).map(|(_, _, outcome)| outcome.clone())
    }

    /// Remembers an outcome from `now` on, in place of an earlier one.
    pub(super) fn remember(&mut self, now: Instant, keep_for: Duration, key: Key, outcome: Outcome) {
        if let Some((number, until, _)) = self.by_key.remove(&key) {
            self.ends.remove(&(until, number));
        }
        if keep_for.is_zero() {
            return;
        }
        while self.ends.len() >= CAPACITY {
            self.forget_first();
        }
        self.number += 1;
        let until = now + keep_for.min(LONGEST);
        self.ends.insert((until, self.number), key.clone());
        self.by_key.insert(key, (self.number, until, outcome));
    }

    fn forget_first(&mut self) {
        if let Some((_, key)) = self.ends.pop_first() {
            self.by_key.remove(&key);
        }
    }
}

/// Whatever a record says: a day.
const LONGEST: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::super::lookups::Kind;
    use super::*;

    fn key(name: &str) -> Key {
        (Kind::A, name.into())
    }

    const FIVE: Duration = Duration::from_secs(5);

    #[test]
    fn an_outcome_ends_by_itself() {
        let start = Instant::now();
        let mut answers = Answers::default();
        answers.remember(start, FIVE, key("a"), Err(ResolveError::Timeout));
        let find = |answers: &mut Answers, after_ms: u64, key: Key| {
            answers
                .find(start + Duration::from_millis(after_ms), &key)
                .map(|outcome| outcome.err())
        };
        assert_eq!(find(&mut answers, 4_999, key("a")), Some(Some(ResolveError::Timeout)));
        assert_eq!(find(&mut answers, 0, key("b")), None);
        assert_eq!(find(&mut answers, 0, (Kind::Srv, "a".into())), None);
        let later = start + Duration::from_secs(3);
        answers.remember(later, FIVE, key("a"), Err(ResolveError::ServerFailed));
        assert_eq!(
            find(&mut answers, 6_000, key("a")),
            Some(Some(ResolveError::ServerFailed))
        );
        assert_eq!(find(&mut answers, 8_000, key("a")), None);
        assert!(answers.ends.is_empty() && answers.by_key.is_empty());
        answers.remember(start, Duration::ZERO, key("a"), Err(ResolveError::Timeout));
        assert!(answers.by_key.is_empty(), "not worth remembering");
    }

    #[test]
    fn what_ends_first_makes_room() {
        let start = Instant::now();
        let mut answers = Answers::default();
        for i in 0..=CAPACITY {
            let wait = FIVE + Duration::from_secs(i as u64);
            answers.remember(start, wait, key(&i.to_string()), Err(ResolveError::NotFound));
        }
        assert!(answers.find(start, &key("0")).is_none());
        assert!(answers.find(start, &key("1")).is_some());
        assert_eq!((answers.ends.len(), answers.by_key.len()), (CAPACITY, CAPACITY));
    }
}
