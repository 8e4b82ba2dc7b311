//! A hashed hierarchical timing wheel: the one place where a worker keeps its deadlines.
//!
//! Nothing is cancelled. A key whose deadline moved or went away comes out at the old time, its owner looks at the
//! machine, finds nothing due, and inserts it again if there is still something to wait for.

use std::time::Instant;

/// Deadlines of many keys, to the millisecond, never early.
#[derive(Debug)]
pub struct Wheel<K>(std::marker::PhantomData<K>);

impl<K: Copy> Wheel<K> {
    /// An empty wheel. `now` is where its time begins; deadlines before it are due at once.
    pub fn new(_now: Instant) -> Self {
        unimplemented!()
    }

    /// Wakes `key` at `at`, rounded up to a millisecond.
    pub fn insert(&mut self, _at: Instant, _key: K) {
        unimplemented!()
    }

    /// Moves time on to `now` and appends the keys that are due to `due`, earliest millisecond first.
    pub fn advance(&mut self, _now: Instant, _due: &mut Vec<K>) {
        unimplemented!()
    }

    /// When to call [`Self::advance`] next: never after the earliest deadline, sometimes before it. `None` when empty.
    pub fn next(&self) -> Option<Instant> {
        unimplemented!()
    }

    /// Keys that wait.
    pub fn len(&self) -> usize {
        unimplemented!()
    }

    /// Whether no key waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
