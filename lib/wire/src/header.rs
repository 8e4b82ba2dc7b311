//! Header lines and the comma-separated values in them (RFC 3261 §7.3.1).

use crate::{Index, Name, index::HeaderLine};
use std::ops::Range;

/// One header of a message, folded lines included.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    bytes: &'a [u8],
    line: HeaderLine,
    name: Name,
}

impl<'a> Header<'a> {
    /// Which header.
    pub fn name(&self) -> Name {
        self.name
    }

    /// The name as received.
    pub fn raw_name(&self) -> &'a [u8] {
        let start = self.line.start as usize;
        &self.bytes[start..start + self.line.name_len as usize]
    }

    /// The value: outer white space trimmed, folding inside kept.
    pub fn value(&self) -> &'a [u8] {
        &self.bytes[self.value_range()]
    }

    /// Place of the value in the message.
    pub fn value_range(&self) -> Range<usize> {
        self.line.value_start as usize..self.line.value_end as usize
    }

    /// Place of the whole header in the message: name to the last CRLF, both included.
    pub fn line(&self) -> Range<usize> {
        self.line.start as usize..self.line.end as usize
    }

    /// The whole header as received, last CRLF included.
    pub fn raw(&self) -> &'a [u8] {
        &self.bytes[self.line()]
    }

    /// The comma-separated values of this one header.
    pub fn values(&self) -> Values<'a> {
        unimplemented!()
    }
}

/// One element of a comma-separated list.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    header: Header<'a>,
    start: u32,
    end: u32,
}

impl<'a> Value<'a> {
    /// The element, outer white space trimmed. Empty between two commas.
    pub fn text(&self) -> &'a [u8] {
        &self.header.bytes[self.range()]
    }

    /// Place of the element in the message.
    pub fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The header it stands in.
    pub fn header(&self) -> Header<'a> {
        self.header
    }

    /// What to remove so that this element goes and the list stays well-formed: the element with one comma, or the entire
    /// header if it is the only one. For several elements use [`crate::Patch::remove_first`].
    pub fn removal_range(&self) -> Range<usize> {
        unimplemented!()
    }
}

/// Iterator over header lines of any name, or of one.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    index: &'a Index,
    position: usize,
    only: Option<Name>,
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        let _ = (self.bytes, self.index, self.position, self.only);
        unimplemented!()
    }
}

/// Iterator over headers found by their spelling.
#[derive(Clone, Debug)]
pub struct HeadersNamed<'a, 'n> {
    headers: Headers<'a>,
    name: &'n [u8],
}

impl<'a> Iterator for HeadersNamed<'a, '_> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.headers.find(|header| crate::eq_ignore_case(header.raw_name(), self.name))
    }
}

/// Iterator over the values of all headers of one name, in order.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    headers: Headers<'a>,
    current: Option<Header<'a>>,
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let _ = (&self.headers, &self.current);
        unimplemented!()
    }
}

/// Iterator over option tags (Require, Proxy-Require, Supported, Unsupported), empty ones skipped.
#[derive(Clone, Debug)]
pub struct OptionTags<'a> {
    values: Values<'a>,
}

impl<'a> Iterator for OptionTags<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.values.find(|value| !value.text().is_empty()).map(|value| value.text())
    }
}
