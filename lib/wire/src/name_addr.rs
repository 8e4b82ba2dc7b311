//! `name-addr` and `addr-spec` with parameters: From, To, Contact, Route and their like (RFC 3261 §20.10, §25.1).

use crate::{
    Malformed, Name, Params, Q, Uri, Value, Values,
    number::parse_seconds,
    params::{self, MAX_PARAMS},
    text::{self, LWS, URI_STOP},
};
use std::ops::Range;

/// One address: display name, URI, header parameters.
#[derive(Clone, Copy, Debug)]
pub struct NameAddr<'a> {
    value: Value<'a>,
    name: Name,
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
    /// [`Malformed`]: unbalanced quotes or brackets, an empty URI, empty parameters, a tag that is empty, quoted or not the
    /// only one. The URI itself is not looked into.
    pub fn parse(text: &'a [u8]) -> Result<NameAddr<'a>, Malformed> {
        NameAddr::of(Value::alone(text), Name::Other)
    }

    #[inline]
    pub(crate) fn of(value: Value<'a>, name: Name) -> Result<NameAddr<'a>, Malformed> {
        read(value, name).map_err(|offset| malformed(name, value.range().start + offset))
    }

    /// The URI, parsed.
    ///
    /// # Errors
    /// As [`Uri::parse`].
    pub fn parse_uri(&self) -> Result<Uri<'a>, Malformed> {
        Uri::parse(self.uri)
    }

    /// The tag parameter; none if absent.
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.tag
    }

    /// The q parameter.
    ///
    /// # Errors
    /// [`Malformed`] when it is there and no q-value.
    pub fn q(&self) -> Result<Option<Q>, Malformed> {
        match self.params.get(b"q") {
            None => Ok(None),
            Some(value) => match value.and_then(Q::parse) {
                Some(q) => Ok(Some(q)),
                None => Err(malformed(self.name, self.range().start)),
            },
        }
    }

    /// The expires parameter in seconds, none if absent. A malformed one counts as 3600, one too large as 2³²−1
    /// (RFC 3261 §10.2).
    pub fn expires(&self) -> Option<u32> {
        self.params
            .get(b"expires")
            .map(|value| value.and_then(parse_seconds).unwrap_or(3600))
    }

    /// What the `action` parameter asks for (RFC 2543 §6.13); none if it is absent or says something else.
    pub fn handling(&self) -> Option<Handling> {
        let value = self.params.get(b"action").flatten()?;
        [Handling::Proxy, Handling::Redirect]
            .into_iter()
            .find(|handling| crate::eq_ignore_case(value, handling.as_str().as_bytes()))
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

/// What the owner of a contact wants done with requests for it: the `action` parameter of RFC 2543 §6.13.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Handling {
    /// Forwarded.
    Proxy,
    /// Their senders told where to go.
    Redirect,
}

impl Handling {
    /// The value of the parameter.
    pub fn as_str(self) -> &'static str {
        match self {
            Handling::Proxy => "proxy",
            Handling::Redirect => "redirect",
        }
    }
}

/// Reads a value, or tells the offset of what breaks the grammar.
#[inline]
fn read(value: Value<'_>, name: Name) -> Result<NameAddr<'_>, usize> {
    let text = value.text();
    let Parts {
        display_end,
        uri,
        params_start,
    } = parts(text)?;
    if uri.is_empty() || text::seen(&text[uri.clone()]) & URI_STOP != 0 {
        return Err(uri.start);
    }
    let mut name_addr = NameAddr {
        value,
        name,
        display: &text[..display_end],
        uri: &text[uri],
        params: Params::new(&text[params_start..]),
        tag: None,
    };
    let mut at = params_start;
    let mut count = 0;
    while let Some((param, end)) = params::take(text, at)? {
        count += 1;
        if count > MAX_PARAMS {
            return Err(at);
        }
        if text::is_spelt(param.name, b"tag") {
            // §7.3.1: no parameter twice. Kamailio takes the last tag and others the first: two dialogs in one message.
            // §25.1: a token, not in quotes, which are part of it to some, and not empty, which would have us add a second one.
            let tag = param
                .value
                .filter(|tag| !tag.is_empty() && !param.text.ends_with(b"\""));
            if name_addr.tag.is_some() || tag.is_none() {
                return Err(at);
            }
            name_addr.tag = tag;
        }
        at = end;
    }
    Ok(name_addr)
}

#[cold]
fn malformed(name: Name, offset: usize) -> Malformed {
    let field = if name == Name::Other { "address" } else { name.text() };
    Malformed::new(field, offset)
}

/// Where the parts of an address are.
struct Parts {
    display_end: usize,
    uri: Range<usize>,
    params_start: usize,
}

fn parts(text: &[u8]) -> Result<Parts, usize> {
    if text.first() == Some(&b'<') {
        return bracketed(text, 0, 0);
    }
    if text.first() == Some(&b'"') {
        let display_end = text::skip_quoted(text, 0).ok_or(0usize)?;
        let open = text::skip_lws(text, display_end);
        return bracketed(text, display_end, open);
    }
    match memchr::memchr2(b'<', b';', text) {
        Some(open) if text[open] == b'<' => {
            let display_end = text::trimmed_len(&text[..open]);
            match text[..display_end].iter().position(|byte| is_no_display(*byte)) {
                Some(offset) => Err(offset),
                None => bracketed(text, display_end, open),
            }
        }
        semicolon => {
            let end = text::trimmed_len(&text[..semicolon.unwrap_or(text.len())]);
            // §20.10: a URI with a comma, question mark or semicolon must stand in brackets; behind the mark nobody
            // would know whose the parameters are.
            match text[..end].iter().position(|byte| matches!(byte, b'?' | b',')) {
                Some(offset) => Err(offset),
                None => Ok(Parts {
                    display_end: 0,
                    uri: 0..end,
                    params_start: end,
                }),
            }
        }
    }
}

/// The parts when the URI stands in brackets that open at `open`.
#[inline]
fn bracketed(text: &[u8], display_end: usize, open: usize) -> Result<Parts, usize> {
    if text.get(open) != Some(&b'<') {
        return Err(open);
    }
    let close = text::find_byte(text, open, b'>').ok_or(open)?;
    Ok(Parts {
        display_end,
        uri: open + 1..close,
        params_start: close + 1,
    })
}

/// What an unquoted display name cannot contain without being something else. Other bytes are no tokens either, but
/// clear.
fn is_no_display(byte: u8) -> bool {
    matches!(byte, b'"' | b',' | b';' | b':' | b'\\' | b'>' | 127) || byte < b' ' && !text::is(byte, LWS)
}

/// Iterator over the addresses of one header name.
#[derive(Clone, Debug)]
pub struct NameAddrs<'a> {
    pub(crate) values: Values<'a>,
    pub(crate) name: Name,
}

impl<'a> Iterator for NameAddrs<'a> {
    type Item = Result<NameAddr<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.values.next().map(|value| NameAddr::of(value, self.name))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> NameAddr<'_> {
        NameAddr::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn display_names_quoted_bare_and_none() {
        for (text, display, uri, tag) in [
            (
                "\"Bob, \\\"the\\\" <one>\" <sip:bob@biloxi.com>;tag=a6c85cf",
                "\"Bob, \\\"the\\\" <one>\"",
                "sip:bob@biloxi.com",
                Some("a6c85cf"),
            ),
            (
                "A. G. Bell <sip:agb@bell.example.com> ;tag = a48s",
                "A. G. Bell",
                "sip:agb@bell.example.com",
                Some("a48s"),
            ),
            (
                "caller<sip:caller@example.com>;tag=323",
                "caller",
                "sip:caller@example.com",
                Some("323"),
            ),
            (
                "sip:+12125551212@server.phone2net.com;tag=887s",
                "",
                "sip:+12125551212@server.phone2net.com",
                Some("887s"),
            ),
            ("<sip:a@b;tag=no>", "", "sip:a@b;tag=no", None),
            ("\"\"\r\n <sip:a@b>;Tag=x", "\"\"", "sip:a@b", Some("x")),
            ("tel:+1-201-555-0123", "", "tel:+1-201-555-0123", None),
            ("sip:a@b;+sip.instance=\"<urn:uuid:0>\"", "", "sip:a@b", None),
            ("J\u{fc}rgen <sip:a@b>", "J\u{fc}rgen", "sip:a@b", None),
        ] {
            let address = read(text);
            assert_eq!(address.display, display.as_bytes(), "{text}");
            assert_eq!(address.uri, uri.as_bytes(), "{text}");
            assert_eq!(address.tag(), tag.map(str::as_bytes), "{text}");
        }
    }

    #[test]
    fn broken_ones_are_refused() {
        for text in [
            "",
            "<>",
            "<sip:a@b",
            "\"open <sip:a@b>",
            "\"q\" sip:a@b",
            "Bell, Alexander <sip:a@b>",
            "<sip:a@b> x",
            "< sip:a@b >",
            "<sip:a b>",
            "sip:a@b?Route=%3Csip:x%3E",
            "<sip:a@b>;;tag=x",
            "<sip:a@b>;tag=x y",
            "sip:a b",
            "<sip:a@b>,",
            "sip:a <sip:b>",
            ";tag=x",
            "<<sip:a@b>>",
            "<sip:a@b>;tag=1;tag=2",
            "<sip:a@b>;tag=;x;TAG=2",
            "sip:a@b;tag;tag=2",
            "<sip:a@b>;tag=\"1\"",
            "<sip:a@b>;tag=",
            "<sip:a@b>;tag;x",
        ] {
            assert!(NameAddr::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        let many = format!("<sip:a@b>{}", ";a".repeat(MAX_PARAMS + 1));
        assert!(NameAddr::parse(many.as_bytes()).is_err());
    }

    #[test]
    fn q_and_expires() {
        assert_eq!(read("<sip:a@b>;q=0.5;expires=60").q(), Ok(Some(Q(500))));
        assert_eq!(read("<sip:a@b>").q(), Ok(None));
        assert!(read("<sip:a@b>;q=7").q().is_err());
        assert_eq!(read("<sip:a@b>;expires=60").expires(), Some(60));
        assert_eq!(read("<sip:a@b>;Expires=soon").expires(), Some(3600));
        assert_eq!(read("<sip:a@b>;expires=280297596632815").expires(), Some(u32::MAX));
        assert_eq!(read("<sip:a@b>").expires(), None);
    }
}
