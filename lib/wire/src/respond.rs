//! Responses made by us (RFC 3261 §8.2.6, §18.2.1, RFC 3581).

use crate::{Message, Patch, Via};
use std::net::IpAddr;

/// What the transport saw of a request's sender, to be written into its top Via.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViaStamp {
    /// Source address: set when it differs from sent-by or when rport was asked for.
    pub received: Option<IpAddr>,
    /// Source port: set when rport was asked for (RFC 3581 §4).
    pub rport: Option<u16>,
}

impl ViaStamp {
    /// What a request from `source` needs in its top Via (RFC 3261 §18.2.1, RFC 3581 §4).
    pub fn of(via: &Via<'_>, source: std::net::SocketAddr) -> ViaStamp {
        let _ = (via, source);
        unimplemented!()
    }

    /// Whether nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.received.is_none() && self.rport.is_none()
    }

    /// Puts the stamp into the top Via of a message about to be forwarded; a `received` or `rport` value already there is replaced.
    pub fn patch(&self, via: &Via<'_>, patch: &mut Patch<'_>) {
        let _ = (via, patch);
        unimplemented!()
    }
}

/// A response to be written by [`write_response`].
#[derive(Clone, Copy, Debug)]
pub struct Response<'r> {
    /// 100 to 699.
    pub status: u16,
    /// Reason phrase; the usual one if none.
    pub reason: Option<&'r str>,
    /// Tag for To: used unless To has one or the status is 100.
    pub to_tag: Option<&'r [u8]>,
    /// For the top Via, unless the request's bytes bear it already.
    pub stamp: ViaStamp,
    /// Further headers, name and value.
    pub extra: &'r [(&'r str, &'r [u8])],
    /// The body; its Content-Type goes into `extra`.
    pub body: &'r [u8],
}

impl<'r> Response<'r> {
    /// A bare response.
    pub fn new(status: u16) -> Response<'r> {
        Response { status, reason: None, to_tag: None, stamp: ViaStamp::default(), extra: &[], body: b"" }
    }
}

/// Appends a response to a request (RFC 3261 §8.2.6.2): status line, all Via with the stamp in the topmost, From, To, Call-ID, CSeq, Timestamp
/// in a 100, all Record-Route in 101 to 299 (§12.1.1), `extra`, Content-Length and the body.
pub fn write_response(request: Message<'_>, response: &Response<'_>, out: &mut Vec<u8>) {
    let _ = (request, response, out);
    unimplemented!()
}
