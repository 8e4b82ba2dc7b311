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
        Values::begin(self.bytes, Some(self.line), &[])
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

    /// What to remove so that this element goes and the list stays well-formed: the element with one comma, or the
    /// entire header if it is the only one. For several elements use [`crate::Patch::remove_first`].
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
    bytes: &'a [u8],
    /// The header being read, while there is one.
    line: Option<HeaderLine>,
    /// Where in it the next element begins; behind its value when there is none.
    at: u32,
    /// The headers behind it, of any name.
    rest: &'a [HeaderLine],
}

impl<'a> Values<'a> {
    #[inline]
    pub(crate) fn of(bytes: &'a [u8], index: &'a Index, name: Name) -> Values<'a> {
        match index.lines.get(index.first[name as usize] as usize..) {
            Some([line, rest @ ..]) => Values::begin(bytes, Some(*line), rest),
            _ => Values::begin(bytes, None, &[]),
        }
    }

    #[inline]
    fn begin(bytes: &'a [u8], line: Option<HeaderLine>, rest: &'a [HeaderLine]) -> Values<'a> {
        let at = match line {
            Some(line) if line.value_start < line.value_end => line.value_start,
            _ => u32::MAX,
        };
        Values { bytes, line, at, rest }
    }

    /// Goes on to the next header of the same name.
    fn enter_next(&mut self, name: Name) {
        let next = self.rest.iter().position(|line| line.name == name);
        let behind = next.map_or(&[][..], |position| &self.rest[position + 1..]);
        *self = Values::begin(self.bytes, next.map(|position| self.rest[position]), behind);
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    #[inline]
    fn next(&mut self) -> Option<Value<'a>> {
        loop {
            let line = self.line?;
            if self.at > line.value_end {
                // Only now, for many ask for the first value alone.
                self.enter_next(line.name);
                continue;
            }
            let text = &self.bytes[..line.value_end as usize];
            let start = text::skip_lws(text, self.at as usize);
            let comma = element_end(text, start);
            let end = start + text::trimmed_len(&text[start..comma]);
            self.at = if comma < text.len() { comma as u32 + 1 } else { u32::MAX };
            return Some(Value {
                header: Header {
                    bytes: self.bytes,
                    line,
                },
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

/// Where the element that begins at `start` ends: at a comma outside quotes and angle brackets, or at the end of the
/// text. A quote or bracket that does not close takes the rest with it. Linear over all elements of a list.
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

#[cfg(test)]
mod tests {
    use crate::{Index, Limits, Message, Name, parse};

    fn with(lines: &str, look: impl FnOnce(Message<'_>)) {
        let text = format!(
            "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h\r\nFrom: <sip:f@x>;tag=1\r\nTo: <sip:t@x>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n{}\r\n\r\n",
            lines.trim_end_matches("\r\n")
        );
        let mut index = Index::default();
        look(parse(text.as_bytes(), &mut index, &Limits::default()).unwrap());
    }

    fn values(lines: &str) -> Vec<String> {
        let mut found = Vec::new();
        with(lines, |message| {
            for value in message.values(Name::Supported) {
                assert_eq!(&message.bytes()[value.range()], value.text());
                found.push(String::from_utf8(value.text().to_vec()).unwrap());
            }
        });
        found
    }

    /// §7.3.1
    #[test]
    fn lists_run_over_commas_and_lines_in_order() {
        assert_eq!(
            values("Supported: a , b,\r\n c\r\nX: no,no\r\nk: d\r\nSupported:\r\nSUPPORTED: e"),
            ["a", "b", "c", "d", "e"]
        );
        assert_eq!(values("Supported: \r\n"), [""; 0]);
        assert_eq!(values("Supported: ,a,,b,"), ["", "a", "", "b", ""]);
    }

    #[test]
    fn commas_in_quotes_and_brackets_part_nothing() {
        let list = "\"a,\\\",b\" <sip:x,y@z>;p=\",\", <sip:\"@z>,c";
        assert_eq!(
            values(&format!("Supported: {list}")),
            ["\"a,\\\",b\" <sip:x,y@z>;p=\",\"", "<sip:\"@z>", "c"]
        );
        assert_eq!(values("Supported: a,\"b,c"), ["a", "\"b,c"]);
        assert_eq!(values("Supported: a,<b,c"), ["a", "<b,c"]);
    }

    #[test]
    fn headers_by_name_and_by_spelling() {
        with("X-One: 1\r\nx-one : 2\r\nSubject:\r\nx-two: \t3 \t", |message| {
            let ones: Vec<_> = message.named(b"X-ONE").map(|header| header.value()).collect();
            assert_eq!(ones, [b"1", b"2"]);
            assert_eq!(message.named(b"x-two").next().unwrap().value(), b"3");
            assert_eq!(message.all(Name::Other).count(), 3);
            assert_eq!(message.headers().count(), 9);
            assert_eq!(message.first(Name::Subject).unwrap().raw(), b"Subject:\r\n");
            assert!(message.first(Name::Route).is_none() && !message.has(Name::Route) && message.has(Name::To));
            assert_eq!(message.option_tags(Name::Require).count(), 0);
            let header = message.first(Name::CallId).unwrap();
            assert_eq!(message.range_of(header.value()), Some(header.value_range()));
            assert_eq!(message.range_of(b"elsewhere"), None);
        });
    }
}
