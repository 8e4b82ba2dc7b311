//! The one pass over a message's head.

use crate::{Index, Limits, Message, ParseError};

/// Parses one datagram or one framed message.
///
/// Leading CRLFs are not skipped; a datagram's body longer than Content-Length is cut off (RFC 3261 §18.3).
///
/// # Errors
/// [`ParseError`]: what is wrong and whether to answer. Indexing goes on behind the first fault where that is safe, so that
/// [`Index::salvage`] can find the headers an error response needs.
pub fn parse<'a>(bytes: &'a [u8], index: &'a mut Index, limits: &Limits) -> Result<Message<'a>, ParseError> {
    let _ = (bytes, index, limits);
    unimplemented!()
}
