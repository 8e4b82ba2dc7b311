//! Where the header lines of one message are.

use crate::{Message, Name, name::NAMES};
use smallvec::SmallVec;

/// One header's place. Offsets count from the start of the message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeaderLine {
    /// First byte of the name.
    pub start: u32,
    /// Trimmed value.
    pub value_start: u32,
    pub value_end: u32,
    /// Behind the CRLF of its last line.
    pub end: u32,
    pub name_len: u16,
    pub name: u8,
}

/// The places of one message's start line and headers; filled by [`crate::parse`], reusable, no allocation up to 48 headers.
///
/// Keep it beside the bytes to look at the same message again by [`Index::message`] without parsing.
#[derive(Clone, Debug)]
pub struct Index {
    pub(crate) lines: SmallVec<[HeaderLine; 48]>,
    /// Position in `lines` of the first header of each name, [`NONE`] if absent.
    pub(crate) first: [u16; NAMES],
    pub(crate) message_len: u32,
    pub(crate) head_len: u32,
}

/// No such header.
pub(crate) const NONE: u16 = u16::MAX;

impl Default for Index {
    fn default() -> Index {
        Index { lines: SmallVec::new(), first: [NONE; NAMES], message_len: 0, head_len: 0 }
    }
}

impl Index {
    /// The message this index was made of, without parsing again. None if these cannot be the same bytes.
    ///
    /// `bytes` must be what [`Message::bytes`] gave (or the datagram it was cut from); with other bytes the fields are nonsense,
    /// though never out of range.
    pub fn message<'a>(&'a self, bytes: &'a [u8]) -> Option<Message<'a>> {
        let _ = (bytes, self.lines.len(), self.message_len, self.head_len);
        unimplemented!()
    }

    /// After [`crate::parse`] refused these bytes: what was found, for writing the error response.
    ///
    /// None unless it is a request with a readable top Via, From, To, Call-ID and CSeq.
    pub fn salvage<'a>(&'a self, bytes: &'a [u8]) -> Option<Message<'a>> {
        let _ = (bytes, self.first[Name::Via as usize]);
        unimplemented!()
    }
}
