//! `name-addr` and `addr-spec` with their parameters: From, To, Contact, Route and their like (RFC 3261 §20.10, §25.1).

use crate::{Malformed, Params, Q, Uri, Value, Values};
use std::ops::Range;

/// One address: display name, URI, header parameters.
#[derive(Clone, Copy, Debug)]
pub struct NameAddr<'a> {
    value: Value<'a>,
    /// The display name as received, quotes included; empty if none.
    pub display: &'a [u8],
    /// The URI as received, without angle brackets.
    pub uri: &'a [u8],
    /// Header parameters (not the URI's).
    pub params: Params<'a>,
    tag: Option<&'a [u8]>,
}

impl<'a> NameAddr<'a> {
    /// Reads one value that stands alone.
    ///
    /// # Errors
    /// [`Malformed`]: unbalanced quotes or brackets, an empty URI, empty parameters. The URI itself is not looked into.
    pub fn parse(text: &'a [u8]) -> Result<NameAddr<'a>, Malformed> {
        let _ = text;
        unimplemented!()
    }

    /// The URI, parsed.
    ///
    /// # Errors
    /// As [`Uri::parse`].
    pub fn parse_uri(&self) -> Result<Uri<'a>, Malformed> {
        Uri::parse(self.uri)
    }

    /// The tag parameter; none if absent or empty.
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.tag
    }

    /// The q parameter.
    ///
    /// # Errors
    /// [`Malformed`] when it is there and no q-value.
    pub fn q(&self) -> Result<Option<Q>, Malformed> {
        unimplemented!()
    }

    /// The expires parameter in seconds. A malformed one counts as 3600, one too large as 2³²−1 (RFC 3261 §10.3 step 6, §20.10, §25.1).
    pub fn expires(&self) -> Option<u32> {
        unimplemented!()
    }

    /// Place of the whole value in the message.
    pub fn range(&self) -> Range<usize> {
        self.value.range()
    }

    /// The whole value as received.
    pub fn text(&self) -> &'a [u8] {
        self.value.text()
    }

    /// The value with its header, for [`Value::removal_range`].
    pub fn value(&self) -> Value<'a> {
        self.value
    }
}

/// Iterator over the addresses of one header name.
#[derive(Clone, Debug)]
pub struct NameAddrs<'a> {
    values: Values<'a>,
    field: &'static str,
}

impl<'a> Iterator for NameAddrs<'a> {
    type Item = Result<NameAddr<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let _ = (&self.values, self.field);
        unimplemented!()
    }
}

/// All Contact headers of a message.
#[derive(Clone, Debug)]
pub enum Contacts<'a> {
    /// `Contact: *`, alone (RFC 3261 §10.2.2).
    Star,
    /// Any number of addresses, also none.
    List(NameAddrs<'a>),
}
