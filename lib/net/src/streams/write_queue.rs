//! Bytes that wait to be written to one connection.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Messages in the order of sending; the first may be partly written.
#[derive(Debug, Default)]
pub(super) struct WriteQueue {
    items: VecDeque<Item>,
    len: usize,
}

#[derive(Debug)]
struct Item {
    /// What is left of it.
    bytes: Bytes,
    /// Whose message it is; `None` for a pong.
    token: Option<u64>,
}

/// Pieces given to one write.
pub(super) const PIECES: usize = 32;

impl WriteQueue {
    /// Appends a message unless that takes the queue beyond `limit` bytes; an empty queue takes one of any length.
    #[must_use]
    pub(super) fn push(&mut self, bytes: Bytes, token: Option<u64>, limit: usize) -> bool {
        if !self.items.is_empty() && self.len.saturating_add(bytes.len()) > limit {
            return false;
        }
        self.len += bytes.len();
        self.items.push_back(Item { bytes, token });
        true
    }

    /// Bytes not written yet.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Fills `slices` with what is to be written next and returns how many there are.
    pub(super) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; PIECES]) -> usize {
        let count = self.items.len().min(PIECES);
        for (slice, item) in slices.iter_mut().zip(&self.items) {
            *slice = IoSlice::new(&item.bytes);
        }
        count
    }

    /// Takes off what was written and returns how many messages that finished, pongs not counted.
    pub(super) fn advance(&mut self, written: usize) -> u64 {
        let mut left = written.min(self.len);
        self.len -= left;
        let mut finished = 0;
        while let Some(first) = self.items.front_mut() {
            if left < first.bytes.len() {
                first.bytes.advance(left);
                break;
            }
            left -= first.bytes.len();
            finished += u64::from(first.token.is_some());
            self.items.pop_front();
        }
        finished
    }

    /// Empties the queue and returns the tokens of messages that were not written whole.
    pub(super) fn take_tokens(&mut self) -> Vec<u64> {
        self.len = 0;
        self.items.drain(..).filter_map(|item| item.token).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(texts: &[&'static str]) -> WriteQueue {
        let mut queue = WriteQueue::default();
        for (token, text) in (1..).zip(texts) {
            assert!(queue.push(Bytes::from_static(text.as_bytes()), Some(token), 1_000));
        }
        queue
    }

    fn rest(queue: &WriteQueue) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); PIECES];
        let count = queue.slices(&mut slices);
        slices[..count].iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn any_number_of_bytes_may_have_been_written() {
        for cut in 0..=9 {
            let mut queue = filled(&["abc", "", "defg", "hi"]);
            let finished = queue.advance(cut);
            assert_eq!(rest(&queue), &b"abcdefghi"[cut..]);
            assert_eq!(finished, [0, 0, 0, 2, 2, 2, 2, 3, 3, 4][cut]);
            let lost = queue.take_tokens();
            assert_eq!(
                lost,
                (finished + 1..=4).collect::<Vec<_>>(),
                "a message cut in two is lost"
            );
            assert!(queue.is_empty());
        }
    }

    #[test]
    fn the_limit_counts_what_is_not_written_yet() {
        let mut queue = WriteQueue::default();
        assert!(queue.push(Bytes::from_static(b"longer than the limit"), Some(1), 8));
        assert!(!queue.push(Bytes::from_static(b"x"), Some(2), 8));
        queue.advance(15);
        assert!(queue.push(Bytes::from_static(b"xy"), Some(3), 8));
        assert!(!queue.push(Bytes::from_static(b"z"), Some(4), 8));
    }
}
