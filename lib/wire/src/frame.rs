//! Cutting a stream into messages by Content-Length (RFC 3261 §18.3, RFC 5626 §4.4.1).

use crate::Limits;

/// What stands at the start of a stream's unread bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Not enough bytes to tell; call again with more behind the same ones.
    NeedMore,
    /// A ping, CRLF CRLF: answer with one CRLF and consume so many bytes.
    KeepAlive(usize),
    /// A lone CRLF in front of a message, or a pong: consume so many bytes.
    Skip(usize),
    /// A whole message: parse so many bytes, then consume them.
    Message {
        /// Head and body.
        len: usize,
    },
    /// The stream cannot be followed any further: close it.
    Broken(FrameError),
}

/// Why a stream cannot be cut into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Head or message longer than the limits. The head, if complete, can still be answered.
    #[error("message too large")]
    TooLong,
    /// A lone CR or LF, or a NUL, in a head.
    #[error("stray control byte in the head")]
    StrayControl,
    /// No Content-Length, which streams need (RFC 3261 §18.3, §20.14).
    #[error("missing content-length")]
    NoContentLength,
    /// Content-Length that is no number, or two that differ.
    #[error("bad content-length")]
    BadContentLength,
    /// The first line is neither a request line nor a status line.
    #[error("not sip")]
    NotSip,
}

/// Reads message boundaries; remembers how far it looked, so that bytes trickling in are looked at once.
#[derive(Clone, Debug, Default)]
pub struct Framer {
    /// Bytes of the unread ones already looked at.
    scanned: usize,
}

impl Framer {
    /// What stands at the start of `unread`: all bytes of the stream not consumed yet.
    ///
    /// After anything but [`Frame::NeedMore`] the caller consumes the told number of bytes before calling again.
    pub fn next(&mut self, unread: &[u8], limits: &Limits) -> Frame {
        let _ = (unread, limits, self.scanned);
        unimplemented!()
    }

    /// Whether a message has begun and is not whole yet: the header timeout runs.
    pub fn is_inside(&self) -> bool {
        unimplemented!()
    }
}

/// [`Framer::next`] without memory, for a buffer looked at once.
pub fn next(unread: &[u8], limits: &Limits) -> Frame {
    Framer::default().next(unread, limits)
}
