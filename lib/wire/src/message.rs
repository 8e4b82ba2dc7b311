//! A parsed message: bytes and index, read on demand.

use crate::{
    CSeq, Contacts, Header, Headers, HeadersNamed, Index, Malformed, Method, Name, NameAddr, NameAddrs, OptionTags, Values, Via,
    Vias,
};
use std::ops::Range;

/// A message that [`crate::parse`] accepted. Two references; copy it freely.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    index: &'a Index,
}

/// The start line (RFC 3261 §7.1, §7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start<'a> {
    /// `METHOD uri SIP/2.0`
    Request {
        /// Any token.
        method: Method<'a>,
        /// Not looked into; no white space, not empty.
        uri: &'a [u8],
    },
    /// `SIP/2.0 status reason`
    Response {
        /// 100 to 699.
        status: u16,
        /// As received, may be empty.
        reason: &'a [u8],
    },
}

impl<'a> Message<'a> {
    /// The whole message, without what stood behind its body in the datagram.
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes of start line, headers and empty line.
    pub fn head_len(self) -> usize {
        unimplemented!()
    }

    /// The body, as long as Content-Length says; without that header all that follows the head.
    pub fn body(self) -> &'a [u8] {
        &self.bytes[self.head_len()..]
    }

    /// The start line.
    pub fn start(self) -> Start<'a> {
        unimplemented!()
    }

    /// Place of the start line, CRLF included: headers begin at its end.
    pub fn start_range(self) -> Range<usize> {
        unimplemented!()
    }

    /// Whether it is a request.
    pub fn is_request(self) -> bool {
        unimplemented!()
    }

    /// A request's method.
    pub fn method(self) -> Option<Method<'a>> {
        unimplemented!()
    }

    /// A response's status code.
    pub fn status(self) -> Option<u16> {
        unimplemented!()
    }

    /// A request's Request-URI.
    pub fn request_uri(self) -> Option<&'a [u8]> {
        unimplemented!()
    }

    /// Place of the Request-URI; empty for a response.
    pub fn request_uri_range(self) -> Range<usize> {
        unimplemented!()
    }

    /// All headers in order.
    pub fn headers(self) -> Headers<'a> {
        let _ = self.index;
        unimplemented!()
    }

    /// All headers of one name, in order. With [`Name::Other`]: all that have no name here.
    pub fn all(self, name: Name) -> Headers<'a> {
        let _ = name;
        unimplemented!()
    }

    /// The first header of that name. Constant time.
    pub fn first(self, name: Name) -> Option<Header<'a>> {
        let _ = name;
        unimplemented!()
    }

    /// Whether a header of that name is there. Constant time.
    pub fn has(self, name: Name) -> bool {
        let _ = name;
        unimplemented!()
    }

    /// All headers spelt so (case-insensitive), for names that have no [`Name`].
    pub fn named<'n>(self, name: &'n [u8]) -> HeadersNamed<'a, 'n> {
        let _ = name;
        unimplemented!()
    }

    /// The comma-separated values of all headers of one name, top to bottom. Only for headers whose grammar is a list.
    pub fn values(self, name: Name) -> Values<'a> {
        let _ = name;
        unimplemented!()
    }

    /// Where in the message a part obtained from it stands. None for bytes from elsewhere.
    pub fn range_of(self, part: &[u8]) -> Option<Range<usize>> {
        let _ = part;
        unimplemented!()
    }

    /// The topmost Via.
    ///
    /// # Errors
    /// [`Malformed`] when it does not follow the grammar.
    pub fn top_via(self) -> Result<Via<'a>, Malformed> {
        unimplemented!()
    }

    /// All Via values from the top.
    pub fn vias(self) -> Vias<'a> {
        unimplemented!()
    }

    /// The Call-ID. Compared byte by byte (§20.8).
    pub fn call_id(self) -> &'a [u8] {
        unimplemented!()
    }

    /// The CSeq.
    ///
    /// # Errors
    /// [`Malformed`]; not for a message that [`crate::parse`] accepted.
    pub fn cseq(self) -> Result<CSeq<'a>, Malformed> {
        unimplemented!()
    }

    /// The From address.
    ///
    /// # Errors
    /// [`Malformed`] when it does not follow the grammar.
    pub fn from(self) -> Result<NameAddr<'a>, Malformed> {
        unimplemented!()
    }

    /// The To address.
    ///
    /// # Errors
    /// [`Malformed`] when it does not follow the grammar.
    pub fn to(self) -> Result<NameAddr<'a>, Malformed> {
        unimplemented!()
    }

    /// Max-Forwards; none if absent.
    ///
    /// # Errors
    /// [`Malformed`] when it is no number from 0 to 255 (§20.22).
    pub fn max_forwards(self) -> Result<Option<u8>, Malformed> {
        unimplemented!()
    }

    /// The Expires header in seconds; none if absent, 2³²−1 if larger.
    ///
    /// # Errors
    /// [`Malformed`] when it is no number.
    pub fn expires(self) -> Result<Option<u32>, Malformed> {
        unimplemented!()
    }

    /// The Content-Length header; none if absent.
    ///
    /// # Errors
    /// [`Malformed`]; not for a message that [`crate::parse`] accepted.
    pub fn content_length(self) -> Result<Option<usize>, Malformed> {
        unimplemented!()
    }

    /// The Contact headers.
    ///
    /// # Errors
    /// [`Malformed`] when `*` stands beside other values. Faults of single addresses come from the iterator.
    pub fn contacts(self) -> Result<Contacts<'a>, Malformed> {
        unimplemented!()
    }

    /// The Route set from the top.
    pub fn routes(self) -> NameAddrs<'a> {
        self.addresses(Name::Route)
    }

    /// The Record-Route set from the top.
    pub fn record_routes(self) -> NameAddrs<'a> {
        self.addresses(Name::RecordRoute)
    }

    /// The Path set from the top (RFC 3327).
    pub fn paths(self) -> NameAddrs<'a> {
        self.addresses(Name::Path)
    }

    /// The addresses in all headers of one name.
    pub fn addresses(self, name: Name) -> NameAddrs<'a> {
        let _ = name;
        unimplemented!()
    }

    /// The option tags in Require, Proxy-Require, Supported or Unsupported.
    pub fn option_tags(self, name: Name) -> OptionTags<'a> {
        let _ = name;
        unimplemented!()
    }
}
