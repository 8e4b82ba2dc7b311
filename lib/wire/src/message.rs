//! A parsed message: bytes and index, read on demand.

use crate::{
    CSeq, Contacts, Header, Headers, HeadersNamed, Index, Malformed, Method, Name, NameAddr, NameAddrs, OptionTags,
    Value, Values, Via, Vias,
    index::{NONE, StartLine},
    number::{parse_seconds, parse_u32},
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
    pub(crate) fn new(bytes: &'a [u8], index: &'a Index) -> Message<'a> {
        Message { bytes, index }
    }

    /// The whole message, without what stood behind its body in the datagram.
    #[inline]
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes of start line, headers and empty line.
    #[inline]
    pub fn head_len(self) -> usize {
        self.index.head_len as usize
    }

    /// The body, as long as Content-Length says; without that header all that follows the head.
    pub fn body(self) -> &'a [u8] {
        &self.bytes[self.head_len()..]
    }

    /// The start line.
    #[inline]
    pub fn start(self) -> Start<'a> {
        match self.index.start {
            StartLine::Request { method_end, uri_end } => Start::Request {
                method: Method::from_bytes(&self.bytes[..method_end as usize]),
                uri: &self.bytes[method_end as usize + 1..uri_end as usize],
            },
            StartLine::Response {
                status,
                reason_start,
                reason_end,
            } => Start::Response {
                status,
                reason: &self.bytes[reason_start as usize..reason_end as usize],
            },
        }
    }

    /// Place of the start line, CRLF included: headers begin at its end.
    pub fn start_range(self) -> Range<usize> {
        0..self.index.start_end as usize
    }

    /// Whether it is a request.
    #[inline]
    pub fn is_request(self) -> bool {
        matches!(self.index.start, StartLine::Request { .. })
    }

    /// A request's method.
    #[inline]
    pub fn method(self) -> Option<Method<'a>> {
        match self.start() {
            Start::Request { method, .. } => Some(method),
            Start::Response { .. } => None,
        }
    }

    /// A response's status code.
    #[inline]
    pub fn status(self) -> Option<u16> {
        match self.start() {
            Start::Request { .. } => None,
            Start::Response { status, .. } => Some(status),
        }
    }

    /// A request's Request-URI.
    #[inline]
    pub fn request_uri(self) -> Option<&'a [u8]> {
        match self.start() {
            Start::Request { uri, .. } => Some(uri),
            Start::Response { .. } => None,
        }
    }

    /// Place of the Request-URI; empty for a response.
    #[inline]
    pub fn request_uri_range(self) -> Range<usize> {
        match self.index.start {
            StartLine::Request { method_end, uri_end } => method_end as usize + 1..uri_end as usize,
            StartLine::Response { .. } => 0..0,
        }
    }

    /// All headers in order.
    #[inline]
    pub fn headers(self) -> Headers<'a> {
        Headers::all(self.bytes, self.index)
    }

    /// All headers of one name, in order. With [`Name::Other`]: all that have no name here.
    #[inline]
    pub fn all(self, name: Name) -> Headers<'a> {
        Headers::only(self.bytes, self.index, name)
    }

    /// The first header of that name. Constant time.
    #[inline]
    pub fn first(self, name: Name) -> Option<Header<'a>> {
        self.index.line(name).map(|line| Header::new(self.bytes, line))
    }

    /// Whether a header of that name is there. Constant time.
    #[inline]
    pub fn has(self, name: Name) -> bool {
        self.index.first[name as usize] != NONE
    }

    /// All headers spelt so (case-insensitive), for names that have no [`Name`].
    pub fn named<'n>(self, name: &'n [u8]) -> HeadersNamed<'a, 'n> {
        HeadersNamed {
            headers: self.headers(),
            name,
        }
    }

    /// The comma-separated values of all headers of one name, top to bottom. Only for headers whose grammar is a list.
    #[inline]
    pub fn values(self, name: Name) -> Values<'a> {
        Values::of(self.bytes, self.index, name)
    }

    /// Where in the message a part obtained from it stands. None for bytes from elsewhere.
    pub fn range_of(self, part: &[u8]) -> Option<Range<usize>> {
        let start = (part.as_ptr() as usize).checked_sub(self.bytes.as_ptr() as usize)?;
        let end = start.checked_add(part.len())?;
        (end <= self.bytes.len()).then_some(start..end)
    }

    /// The topmost Via.
    ///
    /// # Errors
    /// [`Malformed`] when it does not follow the grammar.
    #[inline]
    pub fn top_via(self) -> Result<Via<'a>, Malformed> {
        let value = self.values(Name::Via).next().ok_or(Malformed::new("Via", 0))?;
        Via::of(value)
    }

    /// All Via values from the top.
    pub fn vias(self) -> Vias<'a> {
        Vias {
            values: self.values(Name::Via),
        }
    }

    /// The Call-ID. Compared byte by byte (§20.8).
    #[inline]
    pub fn call_id(self) -> &'a [u8] {
        self.first(Name::CallId).map_or(b"", |header| header.value())
    }

    /// The CSeq.
    ///
    /// # Errors
    /// [`Malformed`]; not for a message that [`crate::parse`] accepted.
    #[inline]
    pub fn cseq(self) -> Result<CSeq<'a>, Malformed> {
        if let Some((number, method_start, method_end)) = self.index.cseq {
            let method = Method::from_bytes(&self.bytes[method_start as usize..method_end as usize]);
            return Ok(CSeq { number, method });
        }
        let header = self.first(Name::CSeq).ok_or(Malformed::new("CSeq", 0))?;
        CSeq::parse(header.value()).map_err(|malformed| malformed.behind(header.value_range().start))
    }

    /// The From address.
    ///
    /// # Errors
    /// [`Malformed`] when it does not follow the grammar.
    #[inline]
    pub fn from(self) -> Result<NameAddr<'a>, Malformed> {
        self.address(Name::From)
    }

    /// The To address.
    ///
    /// # Errors
    /// [`Malformed`] when it does not follow the grammar.
    #[inline]
    pub fn to(self) -> Result<NameAddr<'a>, Malformed> {
        self.address(Name::To)
    }

    /// Max-Forwards; none if absent.
    ///
    /// # Errors
    /// [`Malformed`] when it is no number from 0 to 255 (§20.22).
    #[inline]
    pub fn max_forwards(self) -> Result<Option<u8>, Malformed> {
        self.number(Name::MaxForwards, |text| {
            parse_u32(text).and_then(|number| u8::try_from(number).ok())
        })
    }

    /// The Expires header in seconds; none if absent, 2³²−1 if larger.
    ///
    /// # Errors
    /// [`Malformed`] when it is no number.
    #[inline]
    pub fn expires(self) -> Result<Option<u32>, Malformed> {
        self.number(Name::Expires, parse_seconds)
    }

    /// The Content-Length header; none if absent.
    ///
    /// # Errors
    /// [`Malformed`]; not for a message that [`crate::parse`] accepted.
    #[inline]
    pub fn content_length(self) -> Result<Option<usize>, Malformed> {
        self.number(Name::ContentLength, |text| {
            parse_u32(text).map(|number| number as usize)
        })
    }

    /// The Contact headers.
    ///
    /// # Errors
    /// [`Malformed`] when `*` stands beside other values. Faults of single addresses come from the iterator.
    pub fn contacts(self) -> Result<Contacts<'a>, Malformed> {
        let mut values = self.values(Name::Contact);
        let is_star = |value: Value<'_>| value.text() == b"*";
        let Some(star) = values.clone().find(|value| is_star(*value)) else {
            return Ok(Contacts::List(self.addresses(Name::Contact)));
        };
        match (values.next().is_some_and(is_star), values.next()) {
            (true, None) => Ok(Contacts::Star),
            _ => Err(Malformed::new("Contact", star.range().start)),
        }
    }

    /// The Route set from the top.
    #[inline]
    pub fn routes(self) -> NameAddrs<'a> {
        self.addresses(Name::Route)
    }

    /// The Record-Route set from the top.
    #[inline]
    pub fn record_routes(self) -> NameAddrs<'a> {
        self.addresses(Name::RecordRoute)
    }

    /// The Path set from the top (RFC 3327).
    pub fn paths(self) -> NameAddrs<'a> {
        self.addresses(Name::Path)
    }

    /// The addresses in all headers of one name.
    #[inline]
    pub fn addresses(self, name: Name) -> NameAddrs<'a> {
        NameAddrs {
            values: self.values(name),
            name,
        }
    }

    /// The option tags in Require, Proxy-Require, Supported or Unsupported.
    pub fn option_tags(self, name: Name) -> OptionTags<'a> {
        OptionTags {
            values: self.values(name),
        }
    }

    /// The address in a header that holds one.
    #[inline]
    fn address(self, name: Name) -> Result<NameAddr<'a>, Malformed> {
        let header = self.first(name).ok_or(Malformed::new(name.text(), 0))?;
        NameAddr::of(Value::whole(header), name)
    }

    /// The number in a header that holds one; none if absent.
    fn number<T>(self, name: Name, parse: impl FnOnce(&[u8]) -> Option<T>) -> Result<Option<T>, Malformed> {
        match self.first(name) {
            None => Ok(None),
            Some(header) => match parse(header.value()) {
                Some(number) => Ok(Some(number)),
                None => Err(Malformed::new(name.text(), header.value_range().start)),
            },
        }
    }
}
