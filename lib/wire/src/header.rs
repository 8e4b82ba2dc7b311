//! Header lines and the comma-separated values in them (RFC 3261 §7.3.1).

use crate::{
    Index, Name,
    index::HeaderLine,
    text::{self, LWS},
};
use std::ops::Range;

/// One header of a message, folded lines included.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    bytes: &'a [u8],
    line: HeaderLine,
}

impl<'a> Header<'a> {
    pub(crate) fn new(bytes: &'a [u8], line: HeaderLine) -> Header<'a> {
        Header { bytes, line }
    }

    /// Which header.
    pub fn name(&self) -> Name {
        self.line.name
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
        Values {
            rest: None,
            current: Some(*self),
            at: self.line.value_start as usize,
        }
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
    /// A value that stands alone, without a message.
    pub(crate) fn alone(text: &'a [u8]) -> Value<'a> {
        let len = text.len() as u32;
        let line = HeaderLine {
            start: 0,
            value_start: 0,
            value_end: len,
            end: len,
            name_len: 0,
            name: Name::Other,
        };
        Value {
            header: Header { bytes: text, line },
            start: 0,
            end: len,
        }
    }

    /// The whole value of a header that holds one.
    pub(crate) fn whole(header: Header<'a>) -> Value<'a> {
        Value {
            header,
            start: header.line.value_start,
            end: header.line.value_end,
        }
    }

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
        let Header { bytes, line } = self.header;
        let value_end = line.value_end as usize;
        let after = text::skip_lws(&bytes[..value_end], self.end as usize);
        if after < value_end {
            // Up to where the next element begins; its own white space goes too.
            return self.start as usize..text::skip_lws(&bytes[..value_end], after + 1);
        }
        let mut before = self.start as usize;
        while before > line.value_start as usize && text::is(bytes[before - 1], LWS) {
            before -= 1;
        }
        if before > line.value_start as usize && bytes[before - 1] == b',' {
            before -= 1;
            while before > line.value_start as usize && text::is(bytes[before - 1], LWS) {
                before -= 1;
            }
            return before..self.end as usize;
        }
        self.header.line()
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

impl<'a> Headers<'a> {
    pub(crate) fn all(bytes: &'a [u8], index: &'a Index) -> Headers<'a> {
        Headers {
            bytes,
            index,
            position: 0,
            only: None,
        }
    }

    pub(crate) fn only(bytes: &'a [u8], index: &'a Index, name: Name) -> Headers<'a> {
        Headers {
            bytes,
            index,
            position: index.first[name as usize] as usize,
            only: Some(name),
        }
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        loop {
            let line = *self.index.lines.get(self.position)?;
            self.position += 1;
            if self.only.is_none_or(|name| name == line.name) {
                return Some(Header {
                    bytes: self.bytes,
                    line,
                });
            }
        }
    }
}

/// Iterator over headers found by their spelling.
#[derive(Clone, Debug)]
pub struct HeadersNamed<'a, 'n> {
    pub(crate) headers: Headers<'a>,
    pub(crate) name: &'n [u8],
}

impl<'a> Iterator for HeadersNamed<'a, '_> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.headers
            .find(|header| crate::eq_ignore_case(header.raw_name(), self.name))
    }
}

/// Iterator over the values of all headers of one name, in order. A header with nothing in it has no values.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    rest: Option<Headers<'a>>,
    current: Option<Header<'a>>,
    /// Where in the current header the next element begins.
    at: usize,
}

impl<'a> Values<'a> {
    pub(crate) fn of(headers: Headers<'a>) -> Values<'a> {
        let mut values = Values {
            rest: Some(headers),
            current: None,
            at: 0,
        };
        values.enter_next();
        values
    }

    fn enter_next(&mut self) {
        self.current = self.rest.as_mut().and_then(Headers::next);
        self.at = self.current.map_or(0, |header| header.line.value_start as usize);
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        loop {
            let header = self.current?;
            let value_end = header.line.value_end as usize;
            if header.line.value_start as usize == value_end {
                self.enter_next();
                continue;
            }
            let text = &header.bytes[..value_end];
            let start = text::skip_lws(text, self.at);
            let comma = element_end(text, start);
            let end = start + text::trimmed_len(&text[start..comma]);
            if comma < value_end {
                self.at = comma + 1;
            } else {
                self.enter_next();
            }
            return Some(Value {
                header,
                start: start as u32,
                end: end as u32,
            });
        }
    }
}

/// Iterator over option tags (Require, Proxy-Require, Supported, Unsupported), empty ones skipped.
#[derive(Clone, Debug)]
pub struct OptionTags<'a> {
    pub(crate) values: Values<'a>,
}

impl<'a> Iterator for OptionTags<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.values
            .find(|value| !value.text().is_empty())
            .map(|value| value.text())
    }
}

/// Where the element that begins at `start` ends: at a comma outside quotes and angle brackets, or at the end of the text.
/// A quote or bracket that does not close takes the rest with it. Linear over all elements of a list.
pub(crate) fn element_end(text: &[u8], start: usize) -> usize {
    let Some(len) = memchr::memchr(b',', &text[start..]) else {
        return text.len();
    };
    if memchr::memchr2(b'"', b'<', &text[start..start + len]).is_none() {
        return start + len;
    }
    let mut at = start;
    while let Some(found) = memchr::memchr3(b',', b'"', b'<', &text[at..]) {
        at += found;
        let closed = match text[at] {
            b',' => return at,
            b'"' => text::skip_quoted(text, at),
            _ => memchr::memchr(b'>', &text[at..]).map(|len| at + len + 1),
        };
        match closed {
            Some(behind) => at = behind,
            None => return text.len(),
        }
    }
    text.len()
}
