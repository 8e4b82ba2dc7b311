//! Requests a proxy makes out of one it sent: ACK for non-2xx and CANCEL (RFC 3261 §17.1.1.3, §9.1).

use crate::{Malformed, Message, ParseError};

/// Why no ACK or CANCEL could be made of a sent request. All are faults of the caller: such bytes should not have been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The sent bytes are no message.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// Its Via or CSeq cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A response was given.
    #[error("not a request")]
    NotRequest,
}

/// Appends the ACK for a non-2xx final response (§17.1.1.3): Request-URI, top Via, From, Call-ID, CSeq number and Route headers of the
/// INVITE as sent, To of the response.
///
/// # Errors
/// [`Unfit`] when `sent` is not a request as this crate reads it.
pub fn write_ack(sent: &[u8], response: Message<'_>, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let _ = (sent, response, out);
    unimplemented!()
}

/// Appends the CANCEL for a request as sent (§9.1).
///
/// # Errors
/// [`Unfit`] when `sent` is not a request as this crate reads it.
pub fn write_cancel(sent: &[u8], out: &mut Vec<u8>) -> Result<(), Unfit> {
    let _ = (sent, out);
    unimplemented!()
}
