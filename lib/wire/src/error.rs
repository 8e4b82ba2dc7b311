//! What can be wrong with bytes, and the one function that turns it into a status code.

use crate::Name;

/// A field that does not follow its grammar. Arises when the field is asked for, not when the message is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {field} at byte {offset}")]
pub struct Malformed {
    /// Which part: a header's name, or `"request-uri"`, `"uri"`.
    pub field: &'static str,
    /// Where: counted from the start of the message, or of the text when it was parsed on its own.
    pub offset: usize,
}

impl Malformed {
    pub(crate) fn new(field: &'static str, offset: usize) -> Malformed {
        Malformed { field, offset }
    }

    /// The same, of a text that begins at `start` in the message.
    pub(crate) fn behind(self, start: usize) -> Malformed {
        Malformed {
            offset: self.offset + start,
            ..self
        }
    }
}

/// Why [`crate::parse`] refused a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct ParseError {
    /// The first thing found wrong.
    pub fault: Fault,
    /// A request that may be answered: not a response, not an ACK, not something that is no SIP at all.
    pub answerable: bool,
}

/// What is wrong with a refused message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The bytes do not begin like a SIP message; never answered.
    #[error("not sip")]
    NotSip,
    /// A start line that begins like one and then breaks the grammar.
    #[error("malformed start line")]
    StartLine,
    /// A request of another SIP version (505).
    #[error("sip version not supported")]
    Version,
    /// The message or its head is longer than [`crate::Limits`] allow (513).
    #[error("message too large")]
    TooLong,
    /// One header is longer than allowed (513).
    #[error("header too large")]
    HeaderTooLong,
    /// More headers than allowed (513).
    #[error("too many headers")]
    TooManyHeaders,
    /// A lone CR, a lone LF or a NUL in the head, at this byte.
    #[error("stray control byte at byte {0}")]
    StrayControl(usize),
    /// A header line without a name or a colon, at this byte.
    #[error("malformed header line at byte {0}")]
    HeaderLine(usize),
    /// The head does not end.
    #[error("no empty line after the headers")]
    NoEnd,
    /// A mandatory header is not there (RFC 3261 §8.1.1, §20).
    #[error("missing {}", .0.text())]
    Missing(Name),
    /// A header that may stand once stands more than once with different meaning.
    #[error("repeated {}", .0.text())]
    Repeated(Name),
    /// A header needed for framing or matching does not follow its grammar.
    #[error(transparent)]
    Malformed(Malformed),
    /// The method in CSeq is not the request's (RFC 3261 §8.1.1.5).
    #[error("method of cseq differs from the request's")]
    CSeqMethod,
    /// The body is shorter than Content-Length says (RFC 3261 §18.3).
    #[error("body shorter than content-length")]
    BodyTooShort,
}

impl ParseError {
    /// The status to answer with; none when no answer is due.
    pub fn status(&self) -> Option<u16> {
        self.answerable.then(|| self.fault.status())
    }

    /// A reason phrase that names the fault, for the status line.
    pub fn reason(&self) -> &'static str {
        self.fault.reason()
    }
}

impl Fault {
    /// The status code this fault calls for (RFC 3261 §21).
    pub fn status(&self) -> u16 {
        match self {
            Fault::Version => 505,
            Fault::TooLong | Fault::HeaderTooLong | Fault::TooManyHeaders => 513,
            _ => 400,
        }
    }

    /// A reason phrase that names the fault.
    pub fn reason(&self) -> &'static str {
        match self {
            Fault::NotSip | Fault::StartLine => "Malformed Start Line",
            Fault::Version => "Version Not Supported",
            Fault::TooLong => "Message Too Large",
            Fault::HeaderTooLong => "Header Too Large",
            Fault::TooManyHeaders => "Too Many Headers",
            Fault::StrayControl(_) => "Stray Control Byte",
            Fault::HeaderLine(_) => "Malformed Header Line",
            Fault::NoEnd => "Unterminated Headers",
            Fault::Missing(name) => match name {
                Name::Via => "Missing Via",
                Name::From => "Missing From",
                Name::To => "Missing To",
                Name::CallId => "Missing Call-ID",
                Name::CSeq => "Missing CSeq",
                _ => "Missing Header",
            },
            Fault::Repeated(name) => match name {
                Name::From => "Repeated From",
                Name::To => "Repeated To",
                Name::CallId => "Repeated Call-ID",
                Name::CSeq => "Repeated CSeq",
                Name::ContentLength => "Repeated Content-Length",
                Name::MaxForwards => "Repeated Max-Forwards",
                _ => "Repeated Header",
            },
            Fault::Malformed(malformed) => match malformed.field {
                "CSeq" => "Malformed CSeq",
                "Content-Length" => "Malformed Content-Length",
                "Call-ID" => "Malformed Call-ID",
                _ => "Malformed Header",
            },
            Fault::CSeqMethod => "CSeq Method Mismatch",
            Fault::BodyTooShort => "Body Shorter Than Content-Length",
        }
    }
}
