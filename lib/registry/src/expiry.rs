//! Which record ends when, without looking at all of them.
//!
//! A queue by second of the records' hashes. An entry is a reminder, not a promise: a record that was refreshed keeps its old entry, and is
//! put to its new second when that comes up. So a refresh costs nothing here, and each record comes up once in its lifetime.

use std::collections::BTreeMap;

/// What ends when.
#[derive(Debug, Default)]
pub(crate) struct ExpiryQueue {
    seconds: BTreeMap<u64, Vec<u64>>,
    /// Has come up and is to be looked at.
    due: Vec<u64>,
}

impl ExpiryQueue {
    /// Reminds of the record with that hash at second `at`.
    pub fn insert(&mut self, at: u64, hash: u64) {
        self.seconds.entry(at).or_default().push(hash);
    }

    /// The record's next binding ends at `new`; before this change it was `old`. Only an earlier end needs an entry more.
    pub fn on_change(&mut self, hash: u64, old: Option<u64>, new: Option<u64>) {
        if let Some(new) = new
            && old.is_none_or(|old| old > new)
        {
            self.insert(new, hash);
        }
    }

    /// The second something may end; 0 if something is due.
    pub fn next(&self) -> Option<u64> {
        if self.due.is_empty() {
            self.seconds.first_key_value().map(|(at, _)| *at)
        } else {
            Some(0)
        }
    }

    /// A record to look at, each at most once for its second.
    pub fn pop(&mut self, now: u64) -> Option<u64> {
        if self.due.is_empty() {
            let entry = self.seconds.first_entry().filter(|entry| *entry.key() <= now)?;
            self.due = entry.remove();
            // Two entries for one record that met here go on as one.
            self.due.sort_unstable();
            self.due.dedup();
        }
        self.due.pop()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.due.len() + self.seconds.values().map(Vec::len).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_up_in_their_second_and_once() {
        let mut queue = ExpiryQueue::default();
        queue.insert(10, 1);
        queue.insert(12, 2);
        queue.insert(10, 3);
        queue.insert(10, 1);
        assert_eq!((queue.next(), queue.pop(9)), (Some(10), None));
        assert_eq!(
            (queue.pop(11), queue.next(), queue.pop(11), queue.pop(11)),
            (Some(3), Some(0), Some(1), None)
        );
        assert_eq!((queue.next(), queue.pop(12), queue.next()), (Some(12), Some(2), None));
    }

    #[test]
    fn a_refresh_needs_no_entry() {
        let mut queue = ExpiryQueue::default();
        queue.on_change(1, None, Some(100));
        queue.on_change(1, Some(100), Some(200));
        queue.on_change(1, Some(100), None);
        assert_eq!(queue.len(), 1);
        queue.on_change(1, Some(200), Some(50));
        queue.on_change(1, None, Some(50));
        assert_eq!(queue.len(), 3);
    }
}
