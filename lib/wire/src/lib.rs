//! SIP words: bytes to values and back (RFC 3261 §7, §19, §20, §25).
//!
//! [`parse`] makes an index of a message's header lines and checks what must never be misread; everything else is
//! read from the bytes when asked for, without copying or allocating. [`Patch`] forwards a message by splicing: what
//! is not edited leaves byte for byte as it came. Knows no time, no network, no transaction.
//!
//! All text is `&[u8]`: SIP carries UTF-8 by rule and other bytes in practice, and both pass through.
//!
//! # Line ends
//! A line ends with CRLF and nothing else. A lone CR, a lone LF or a NUL in the head is refused with 400: whoever
//! reads one of them as a line end sees other headers than whoever does not, and that difference is what request
//! smuggling lives on (RFC 3261 §7 and §25.1 allow none of them outside of a body).
#![forbid(unsafe_code)]

pub mod error;
pub mod feedback;
pub mod flow;
pub mod frame;
mod header;
mod index;
mod limits;
mod message;
mod method;
mod name;
mod name_addr;
mod number;
mod params;
mod parse;
mod patch;
mod reason;
pub mod request;
pub mod respond;
pub mod text;
pub mod uri;
mod via;
pub mod write;

pub use error::{Fault, Malformed, ParseError};
pub use feedback::Feedback;
pub use flow::{Destination, Flow, Transport};
pub use header::{Header, Headers, HeadersNamed, OptionTags, Value, Values};
pub use index::Index;
pub use limits::Limits;
pub use message::{Message, Start};
pub use method::Method;
pub use name::Name;
pub use name_addr::{Contacts, Handling, NameAddr, NameAddrs};
pub use number::{CSeq, Q, parse_u32};
pub use params::{Param, Params};
pub use parse::parse;
pub use patch::{Edits, Patch};
pub use reason::reason_phrase;
pub use respond::{OverloadStamp, Response, ViaStamp, write_response};
pub use text::eq_ignore_case;
pub use uri::{Host, Scheme, Uri};
pub use via::{Via, Vias};
