//! Forwarding by splicing: the original bytes with a few edits.

use crate::{Message, Name};
use smallvec::SmallVec;
use std::ops::Range;

/// Edits to a message. What no edit touches leaves byte for byte as it came.
///
/// Edits may be given in any order. Removals may overlap; a replacement must not overlap anything else (both texts
/// come out, and what either covers goes). Inserts at one place come out in the order given, before a replacement
/// that starts there.
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
        let text_start = self.edits.texts.len() as u32;
        write(&mut self.edits.texts);
        let text_end = self.edits.texts.len() as u32;
        let end = range.end.min(self.bytes.len()) as u32;
        let edit = Edit {
            start: (range.start as u32).min(end),
            end,
            text_start,
            text_end,
        };
        // Edits come nearly in order: look for the place from the end. Inserts go before the replacement of what they
        // stand before.
        let rank = |edit: &Edit| (edit.start, edit.end > edit.start);
        let list = &mut self.edits.list;
        let place = list
            .iter()
            .rposition(|other| rank(other) <= rank(&edit))
            .map_or(0, |position| position + 1);
        list.insert(place, edit);
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
        let mut left = count;
        for header in message.all(name) {
            let mut values = header.values();
            let Some(first) = values.next().filter(|_| left > 0) else {
                continue;
            };
            left -= 1;
            let mut kept = values.next();
            while left > 0 && kept.is_some() {
                left -= 1;
                kept = values.next();
            }
            match kept {
                Some(kept) => self.remove(first.range().start..kept.range().start),
                None => self.remove(header.line()),
            }
        }
    }

    /// Leaves out all headers of one name.
    pub fn remove_all(&mut self, message: Message<'_>, name: Name) {
        for header in message.all(name) {
            self.remove(header.line());
        }
    }

    /// Appends the edited message to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.reserve(self.bytes.len() + self.edits.texts.len());
        let mut at = 0;
        for edit in &self.edits.list {
            if edit.start as usize > at {
                out.extend_from_slice(&self.bytes[at..edit.start as usize]);
            }
            out.extend_from_slice(&self.edits.texts[edit.text_start as usize..edit.text_end as usize]);
            at = at.max(edit.end as usize);
        }
        out.extend_from_slice(&self.bytes[at..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Index, Limits, parse};

    fn written(patch: &Patch<'_>) -> String {
        let mut out = Vec::new();
        patch.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn edits_in_any_order_and_inserts_in_the_order_given() {
        let mut patch = Patch::new(b"0123456789");
        patch.replace(8..9, b"eight");
        patch.remove(2..4);
        patch.insert(2, b"a");
        patch.insert(2, b"b");
        patch.insert(0, b"<");
        patch.insert(10, b">");
        patch.insert(8, b"|");
        assert_eq!(written(&patch), "<01ab4567|eight9>");
    }

    #[test]
    fn removals_may_overlap_and_lie_outside() {
        let mut patch = Patch::new(b"0123456789");
        patch.remove(2..5);
        patch.remove(4..7);
        patch.remove(9..99);
        patch.remove(50..60);
        assert_eq!(written(&patch), "0178");
    }

    #[test]
    fn memory_is_used_again() {
        let mut patch = Patch::new(b"abc");
        patch.replace(0..1, b"x");
        let patch = patch.reset(b"def");
        assert_eq!(written(&patch), "def");
        assert_eq!(written(&Patch::reuse(b"ghi", patch.into_edits())), "ghi");
    }

    #[test]
    fn the_first_values_go_with_lines_that_become_empty() {
        let text = "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h\r\nRoute: <sip:1;lr> ,\r\n <sip:2;lr>\r\nFrom: <sip:f@x>;tag=1\r\nTo: <sip:t@x>\r\n\
                    Route: <sip:3;lr>,<sip:4;lr>,<sip:5;lr>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n";
        let mut index = Index::default();
        let message = parse(text.as_bytes(), &mut index, &Limits::default()).unwrap();
        let first = "Route: <sip:1;lr> ,\r\n <sip:2;lr>\r\n";
        let second = "Route: <sip:3;lr>,<sip:4;lr>,<sip:5;lr>\r\n";
        for (count, one, two) in [
            (0, first, second),
            (1, "Route: <sip:2;lr>\r\n", second),
            (2, "", second),
            (3, "", "Route: <sip:4;lr>,<sip:5;lr>\r\n"),
            (4, "", "Route: <sip:5;lr>\r\n"),
            (5, "", ""),
            (9, "", ""),
        ] {
            let mut patch = Patch::new(message.bytes());
            patch.remove_first(message, Name::Route, count);
            assert_eq!(
                written(&patch),
                text.replace(first, one).replace(second, two),
                "{count}"
            );
        }
        for (position, expected) in [
            (0, text.replace("<sip:1;lr> ,\r\n ", "")),
            (1, text.replace(" ,\r\n <sip:2;lr>", "")),
            (4, text.replace(",<sip:5;lr>", "")),
        ] {
            let mut patch = Patch::new(message.bytes());
            patch.remove(message.values(Name::Route).nth(position).unwrap().removal_range());
            assert_eq!(written(&patch), expected);
        }
    }
}
