//! Names that could not be resolved a moment ago (the resolver caches neither failures of servers nor silence).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ResolveError;

/// Remembers failures for a fixed time, at most [`CAPACITY`] of them.
#[derive(Debug)]
pub(super) struct Failures {
    keep_for: Duration,
    by_name: HashMap<Arc<str>, (Instant, ResolveError)>,
    /// In the order of their ends, which is the order of remembering; may hold names that were remembered anew.
    order: VecDeque<(Instant, Arc<str>)>,
}

/// A stranger can make us look up any number of names: the oldest make room.
const CAPACITY: usize = 4096;

impl Failures {
    pub(super) fn new(keep_for: Duration) -> Failures {
        Failures {
            keep_for,
            by_name: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// The failure of a name that is not over yet.
    pub(super) fn find(&mut self, now: Instant, name: &str) -> Option<ResolveError> {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_oldest();
        }
        self.by_name.get(name).map(|(_, error)| *error)
    }

    /// Remembers a failure from `now` on.
    pub(super) fn remember(&mut self, now: Instant, name: Arc<str>, error: ResolveError) {
        if self.keep_for.is_zero() {
            return;
        }
        while self.order.len() >= CAPACITY {
            self.forget_oldest();
        }
        let until = now + self.keep_for;
        self.order.push_back((until, Arc::clone(&name)));
        self.by_name.insert(name, (until, error));
    }

    fn forget_oldest(&mut self) {
        if let Some((until, name)) = self.order.pop_front()
            && self.by_name.get(&name).is_some_and(|(newest, _)| *newest <= until)
        {
            self.by_name.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_ends_by_itself() {
        let start = Instant::now();
        let mut failures = Failures::new(Duration::from_secs(5));
        failures.remember(start, "a".into(), ResolveError::Timeout);
        assert_eq!(
            failures.find(start + Duration::from_millis(4_999), "a"),
            Some(ResolveError::Timeout)
        );
        assert_eq!(failures.find(start, "b"), None);
        failures.remember(start + Duration::from_secs(3), "a".into(), ResolveError::ServerFailed);
        assert_eq!(
            failures.find(start + Duration::from_secs(6), "a"),
            Some(ResolveError::ServerFailed)
        );
        assert_eq!(failures.find(start + Duration::from_secs(8), "a"), None);
        assert!(failures.order.is_empty() && failures.by_name.is_empty());
    }

    #[test]
    fn the_oldest_make_room() {
        let start = Instant::now();
        let mut failures = Failures::new(Duration::from_secs(5));
        for i in 0..=CAPACITY {
            failures.remember(start, i.to_string().into(), ResolveError::NotFound);
        }
        assert_eq!(failures.find(start, "0"), None);
        assert_eq!(failures.find(start, "1"), Some(ResolveError::NotFound));
        assert_eq!(failures.order.len(), CAPACITY);
    }
}
