//! Where the header lines of one message are.

use crate::{Message, Method, Name, name::NAMES};
use smallvec::SmallVec;

/// One header's place. Offsets count from the start of the message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderLine {
    /// First byte of the name.
    pub start: u32,
    /// Trimmed value.
    pub value_start: u32,
    pub value_end: u32,
    /// Behind the CRLF of its last line.
    pub end: u32,
    pub name_len: u16,
    pub name: Name,
}

/// Where the parts of the start line are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StartLine {
    Request {
        method_end: u32,
        uri_end: u32,
    },
    Response {
        status: u16,
        reason_start: u32,
        reason_end: u32,
    },
}

/// The places of one message's start line and headers; filled by [`crate::parse`], reusable, no allocation up to 48
/// headers.
///
/// Keep it beside the bytes to look at the same message again by [`Index::message`] without parsing.
#[derive(Clone, Debug)]
pub struct Index {
    pub(crate) start: StartLine,
    /// Behind the start line's CRLF.
    pub(crate) start_end: u32,
    pub(crate) lines: SmallVec<[HeaderLine; 48]>,
    /// Position in `lines` of the first header of each name, [`NONE`] if absent.
    pub(crate) first: [u16; NAMES],
    pub(crate) message_len: u32,
    pub(crate) head_len: u32,
    /// Number, and place of the method, of the CSeq.
    pub(crate) cseq: Option<(u32, u32, u32)>,
    pub(crate) state: State,
}

/// What became of the last parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    Accepted,
    /// Refused, and every line an answer needs is known.
    Refused,
    /// Refused, and the lines found may not be what the sender meant: no answer can be trusted to find its way.
    Unclear,
}

/// No such header.
pub(crate) const NONE: u16 = u16::MAX;

impl Default for Index {
    fn default() -> Index {
        Index {
            start: StartLine::Request {
                method_end: 0,
                uri_end: 0,
            },
            start_end: 0,
            lines: SmallVec::new(),
            first: [NONE; NAMES],
            message_len: 0,
            head_len: 0,
            cseq: None,
            state: State::Empty,
        }
    }
}

impl Index {
    /// The message this index was made of, without parsing again. None if these cannot be the same bytes, or were
    /// refused.
    ///
    /// `bytes` must be what [`Message::bytes`] gave (or the datagram it was cut from); with other bytes the fields
    /// are nonsense, though never out of range.
    pub fn message<'a>(&'a self, bytes: &'a [u8]) -> Option<Message<'a>> {
        (self.state == State::Accepted).then(|| self.attach(bytes)).flatten()
    }

    /// After [`crate::parse`] refused these bytes: what was found, for writing the error response.
    ///
    /// None unless it is a request other than ACK with a readable top Via. Other mandatory headers may be missing in
    /// it.
    pub fn salvage<'a>(&'a self, bytes: &'a [u8]) -> Option<Message<'a>> {
        if self.state != State::Refused {
            return None;
        }
        let message = self.attach(bytes)?;
        let answerable = message.method().is_some_and(|method| method != Method::Ack) && message.top_via().is_ok();
        answerable.then_some(message)
    }

    fn attach<'a>(&'a self, bytes: &'a [u8]) -> Option<Message<'a>> {
        Some(Message::new(bytes.get(..self.message_len as usize)?, self))
    }

    pub(crate) fn clear(&mut self) {
        self.start = StartLine::Request {
            method_end: 0,
            uri_end: 0,
        };
        self.start_end = 0;
        self.lines.clear();
        self.first = [NONE; NAMES];
        self.message_len = 0;
        self.head_len = 0;
        self.cseq = None;
        self.state = State::Empty;
    }

    /// The first header of that name.
    #[inline]
    pub(crate) fn line(&self, name: Name) -> Option<HeaderLine> {
        self.lines.get(self.first[name as usize] as usize).copied()
    }
}
