//! Cutting a stream into messages by Content-Length (RFC 3261 §18.3, RFC 5626 §4.4.1).
//!
//! Reads lines and Content-Length by the same rules as [`crate::parse`], or the two would disagree about where a
//! message ends.

use crate::{Limits, Name, number::parse_u32, parse::split_header, text::TOKEN};

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

/// Why a stream cannot be cut into messages. The bytes unread may still be given to [`crate::parse`], to answer what
/// can be answered before the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Head or message longer than the limits.
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
    /// A header line without a name or a colon.
    #[error("malformed header line")]
    HeaderLine,
}

/// Reads message boundaries; remembers how far it looked, so that bytes trickling in are looked at once.
#[derive(Clone, Debug, Default)]
pub struct Framer {
    /// Bytes of the unread ones already looked at.
    scanned: usize,
    /// Where the line being looked at begins.
    line_start: usize,
    content_length: Option<usize>,
    /// Length of head and body, once the head is whole.
    message_len: Option<usize>,
}

impl Framer {
    /// What stands at the start of `unread`: all bytes of the stream not consumed yet.
    ///
    /// After anything but [`Frame::NeedMore`] the caller consumes the told number of bytes before calling again.
    pub fn next(&mut self, unread: &[u8], limits: &Limits) -> Frame {
        if unread.len() < self.scanned {
            // Not the same bytes: something was consumed that was not told.
            *self = Framer::default();
        }
        if self.line_start == 0 && self.message_len.is_none() {
            match *unread {
                [] | [b'\r'] | [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] => return Frame::NeedMore,
                [b'\r', b'\n', b'\r', b'\n', ..] => return Frame::KeepAlive(4),
                [b'\r', b'\n', ..] => return Frame::Skip(2),
                // What cannot begin a method or `SIP/` never becomes a message.
                [first, ..] if !crate::text::is(first, TOKEN) => return Frame::Broken(FrameError::NotSip),
                _ => {}
            }
        }
        match self.message_len(unread, limits) {
            Err(error) => Frame::Broken(error),
            Ok(Some(len)) if len <= unread.len() => {
                *self = Framer::default();
                Frame::Message { len }
            }
            Ok(_) => Frame::NeedMore,
        }
    }

    /// Whether a message has begun and is not whole yet: the header timeout runs. Tells about the bytes last shown.
    pub fn is_inside(&self) -> bool {
        self.scanned > 0 || self.message_len.is_some()
    }

    /// Length of the message that begins here; none while its head is not whole.
    fn message_len(&mut self, unread: &[u8], limits: &Limits) -> Result<Option<usize>, FrameError> {
        if self.message_len.is_some() {
            return Ok(self.message_len);
        }
        while let Some(found) = memchr::memchr3(b'\r', b'\n', 0, &unread[self.scanned..]) {
            let line_end = self.scanned + found;
            match unread[line_end..] {
                // Whether the line goes on behind a CRLF tells the byte after it; the empty line ends without one.
                [b'\r'] => return self.wait_at(line_end, limits),
                [b'\r', b'\n'] if line_end > self.line_start => return self.wait_at(line_end, limits),
                [b'\r', b'\n', b' ' | b'\t', ..] if line_end > self.line_start => self.scanned = line_end + 2,
                [b'\r', b'\n', ..] => {
                    let head_len = line_end + 2;
                    if head_len > limits.head_len {
                        return Err(FrameError::TooLong);
                    }
                    if line_end == self.line_start {
                        return self.end_head(head_len, limits).map(Some);
                    }
                    self.end_line(&unread[self.line_start..line_end])?;
                    self.line_start = head_len;
                    self.scanned = head_len;
                }
                [0, ..] if line_end > self.line_start && unread[line_end - 1] == b'\\' => self.scanned = line_end + 1,
                _ => return Err(FrameError::StrayControl),
            }
        }
        self.wait_at(unread.len(), limits)
    }

    /// All before `at` has been looked at, and more bytes are needed.
    fn wait_at(&mut self, at: usize, limits: &Limits) -> Result<Option<usize>, FrameError> {
        self.scanned = at;
        if at > limits.head_len {
            Err(FrameError::TooLong)
        } else {
            Ok(None)
        }
    }

    fn end_line(&mut self, line: &[u8]) -> Result<(), FrameError> {
        if self.line_start == 0 {
            // Request and status lines both bear the version; what has none is another protocol.
            return mentions_sip(line).then_some(()).ok_or(FrameError::NotSip);
        }
        let header = split_header(line, 0, line.len()).ok_or(FrameError::HeaderLine)?;
        if header.name != Name::ContentLength {
            return Ok(());
        }
        let length = parse_u32(&line[header.value_start as usize..header.value_end as usize])
            .map(|length| length as usize)
            .filter(|length| self.content_length.is_none_or(|other| other == *length))
            .ok_or(FrameError::BadContentLength)?;
        self.content_length = Some(length);
        Ok(())
    }

    fn end_head(&mut self, head_len: usize, limits: &Limits) -> Result<usize, FrameError> {
        let body_len = self.content_length.ok_or(FrameError::NoContentLength)?;
        let message_len = head_len.saturating_add(body_len);
        if message_len > limits.message_len {
            return Err(FrameError::TooLong);
        }
        self.message_len = Some(message_len);
        Ok(message_len)
    }
}

/// Whether a start line names our protocol, in any case as the version may be written (§7.1).
pub(crate) fn mentions_sip(line: &[u8]) -> bool {
    memchr::memchr_iter(b'/', line).any(|slash| slash >= 3 && crate::eq_ignore_case(&line[slash - 3..slash], b"SIP"))
}

/// [`Framer::next`] without memory, for a buffer looked at once.
pub fn next(unread: &[u8], limits: &Limits) -> Frame {
    Framer::default().next(unread, limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP h\r\nSubject: x\r\n y\r\nl : 5\r\nContent-Length: 005\r\n\r\nhello";

    /// Shows the bytes one by one; what comes out and after how many.
    fn trickle(bytes: &[u8], limits: &Limits) -> (Frame, usize) {
        let mut framer = Framer::default();
        for len in 0..=bytes.len() {
            let frame = framer.next(&bytes[..len], limits);
            if frame != Frame::NeedMore {
                return (frame, len);
            }
        }
        (Frame::NeedMore, bytes.len())
    }

    #[test]
    fn a_message_is_found_whole_or_byte_by_byte() {
        let len = MESSAGE.len();
        let two = [MESSAGE, MESSAGE].concat();
        assert_eq!(next(two.as_bytes(), &Limits::default()), Frame::Message { len });
        assert_eq!(
            trickle(two.as_bytes(), &Limits::default()),
            (Frame::Message { len }, len)
        );
        let mut framer = Framer::default();
        assert_eq!(
            framer.next(&two.as_bytes()[..len + 9], &Limits::default()),
            Frame::Message { len }
        );
        assert!(!framer.is_inside());
        assert_eq!(
            framer.next(&two.as_bytes()[len..len + 9], &Limits::default()),
            Frame::NeedMore
        );
        assert!(framer.is_inside());
        assert_eq!(
            framer.next(&two.as_bytes()[len..], &Limits::default()),
            Frame::Message { len }
        );
    }

    /// RFC 5626 §4.4.1, RFC 3261 §7.5
    #[test]
    fn pings_and_line_ends_between_messages() {
        let limits = Limits::default();
        assert_eq!(next(b"\r\n", &limits), Frame::NeedMore);
        assert_eq!(next(b"\r\n\r", &limits), Frame::NeedMore);
        assert_eq!(next(b"\r\n\r\nX", &limits), Frame::KeepAlive(4));
        assert_eq!(next(b"\r\nO", &limits), Frame::Skip(2));
        let mut framer = Framer::default();
        assert_eq!(framer.next(b"\r\n", &limits), Frame::NeedMore);
        assert!(!framer.is_inside());
    }

    #[test]
    fn streams_that_cannot_be_followed_are_broken() {
        let small = Limits {
            message_len: 200,
            head_len: 150,
            ..Limits::default()
        };
        for (bytes, limits, error) in [
            (
                MESSAGE.replace("005", "6"),
                Limits::default(),
                FrameError::BadContentLength,
            ),
            (
                MESSAGE.replace("005", "-5"),
                Limits::default(),
                FrameError::BadContentLength,
            ),
            (
                MESSAGE.replace("005", "99999999999"),
                Limits::default(),
                FrameError::BadContentLength,
            ),
            (
                MESSAGE.replace("l : 5\r\nContent-Length: 005\r\n", ""),
                Limits::default(),
                FrameError::NoContentLength,
            ),
            (
                MESSAGE.replace("\r\nVia", "\nVia"),
                Limits::default(),
                FrameError::StrayControl,
            ),
            (
                MESSAGE.replace("h\r\n", "h\rx\r\n"),
                Limits::default(),
                FrameError::StrayControl,
            ),
            (
                MESSAGE.replace("h\r\n", "\0\r\n"),
                Limits::default(),
                FrameError::StrayControl,
            ),
            (
                MESSAGE.replace("Subject:", "Subject"),
                Limits::default(),
                FrameError::HeaderLine,
            ),
            (
                MESSAGE.replace("Subject:", "Content Length:"),
                Limits::default(),
                FrameError::HeaderLine,
            ),
            (
                "GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
                Limits::default(),
                FrameError::NotSip,
            ),
            ("\u{16}\u{3}\u{1}".to_owned(), Limits::default(), FrameError::NotSip),
            (" OPTIONS".to_owned(), Limits::default(), FrameError::NotSip),
            (
                MESSAGE.replace("l : 5\r\n", "").replace("005", "198"),
                small,
                FrameError::TooLong,
            ),
            (format!("OPTIONS {}", "x".repeat(200)), small, FrameError::TooLong),
        ] {
            assert_eq!(next(bytes.as_bytes(), &limits), Frame::Broken(error), "{bytes:?}");
            assert_eq!(trickle(bytes.as_bytes(), &limits).0, Frame::Broken(error), "{bytes:?}");
        }
    }

    /// §7.1: the version is compared without case, on a stream as in a datagram. Found by fuzzing.
    #[test]
    fn a_version_in_small_letters_is_one_too() {
        let text = MESSAGE.replace("SIP/2.0\r", "sIp/2.0\r");
        let len = text.len();
        assert_eq!(next(text.as_bytes(), &Limits::default()), Frame::Message { len });
    }

    /// The framer and the parser read the same length, or bytes of one message would become the next.
    #[test]
    fn the_parser_agrees() {
        let mut index = crate::Index::default();
        let limits = Limits {
            message_len: MESSAGE.len(),
            ..Limits::default()
        };
        let error = crate::parse(MESSAGE.as_bytes(), &mut index, &limits).unwrap_err();
        assert_eq!(error.fault, crate::Fault::Missing(Name::From));
        assert_eq!(index.message_len as usize, MESSAGE.len());
    }
}
