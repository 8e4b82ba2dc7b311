//! Forwarding by splicing: the original bytes with a few edits.

use crate::{Message, Name};
use smallvec::SmallVec;
use std::ops::Range;

/// Edits to a message. What no edit touches leaves byte for byte as it came.
///
/// Edits may be given in any order. Removals may overlap; a replacement must not overlap anything else (it then wins over what starts
/// later). Inserts at one place come out in the order given, before a replacement that starts there.
#[derive(Debug)]
pub struct Patch<'a> {
    bytes: &'a [u8],
    edits: Edits,
}

/// The memory of a [`Patch`], to be used again for the next message: nothing is allocated in the long run.
#[derive(Debug, Default)]
pub struct Edits {
    list: SmallVec<[Edit; 16]>,
    /// All new texts, one after the other.
    texts: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Edit {
    start: u32,
    end: u32,
    text_start: u32,
    text_end: u32,
}

impl<'a> Patch<'a> {
    /// No edits yet.
    pub fn new(bytes: &'a [u8]) -> Patch<'a> {
        Patch::reuse(bytes, Edits::default())
    }

    /// No edits yet, in memory used before.
    pub fn reuse(bytes: &'a [u8], edits: Edits) -> Patch<'a> {
        let mut edits = edits;
        edits.list.clear();
        edits.texts.clear();
        Patch { bytes, edits }
    }

    /// Gives the memory back for [`Patch::reuse`].
    pub fn into_edits(self) -> Edits {
        self.edits
    }

    /// Forgets all edits and starts on other bytes.
    pub fn reset(self, bytes: &[u8]) -> Patch<'_> {
        Patch::reuse(bytes, self.edits)
    }

    /// Puts `text` in place of a range.
    pub fn replace(&mut self, range: Range<usize>, text: &[u8]) {
        self.replace_with(range, |out| out.extend_from_slice(text));
    }

    /// Puts what `write` appends in place of a range.
    pub fn replace_with(&mut self, range: Range<usize>, write: impl FnOnce(&mut Vec<u8>)) {
        let _ = (range, write);
        unimplemented!()
    }

    /// Puts `text` before the byte at `at`.
    pub fn insert(&mut self, at: usize, text: &[u8]) {
        self.replace(at..at, text);
    }

    /// Puts what `write` appends before the byte at `at`.
    pub fn insert_with(&mut self, at: usize, write: impl FnOnce(&mut Vec<u8>)) {
        self.replace_with(at..at, write);
    }

    /// Leaves a range out.
    pub fn remove(&mut self, range: Range<usize>) {
        self.replace(range, b"");
    }

    /// Leaves out the first `count` comma-separated values of one header name, with lines that become empty.
    ///
    /// `message` must be the one this patch is for.
    pub fn remove_first(&mut self, message: Message<'_>, name: Name, count: usize) {
        let _ = (message, name, count);
        unimplemented!()
    }

    /// Leaves out all headers of one name.
    pub fn remove_all(&mut self, message: Message<'_>, name: Name) {
        for header in message.all(name) {
            self.remove(header.line());
        }
    }

    /// Length of the result.
    pub fn written_len(&self) -> usize {
        let _ = self.bytes;
        unimplemented!()
    }

    /// Appends the edited message to `out`.
    pub fn write(&mut self, out: &mut Vec<u8>) {
        let _ = out;
        let _ = self.edits.list.first().map(|e| (e.start, e.end, e.text_start, e.text_end));
        unimplemented!()
    }
}
