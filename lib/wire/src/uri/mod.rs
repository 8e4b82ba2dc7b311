//! SIP, SIPS and tel URIs (RFC 3261 §19.1, RFC 3966).

mod aor;
mod compare;
mod host;
mod typed;

pub use aor::canonical_aor;
pub use compare::equal;
pub use host::Host;
pub use typed::with_scheme;

use crate::{
    Malformed, Params,
    number::parse_port,
    params::MAX_PARAMS,
    text::{self, AT, PERCENT, QUESTION, URI_STOP},
};

/// A URI's scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Scheme<'a> {
    Sip,
    Sips,
    Tel,
    /// Any other, as received.
    Other(&'a [u8]),
}

/// A parsed URI; every part is a piece of the text. Copy.
#[derive(Clone, Copy, Debug)]
pub struct Uri<'a> {
    /// The whole.
    pub text: &'a [u8],
    /// What stands before the first colon.
    pub scheme: Scheme<'a>,
    /// SIP: what stands before `@` or its password, escapes kept. tel: the number, visual separators kept. Otherwise
    /// none.
    pub user: Option<&'a [u8]>,
    /// SIP: the password; may be empty.
    pub password: Option<&'a [u8]>,
    /// SIP: the host. Otherwise an empty name.
    pub host: Host<'a>,
    /// SIP: the port if given.
    pub port: Option<u16>,
    /// SIP, tel: the parameters.
    pub params: Params<'a>,
    /// SIP: what stands behind `?`, without it; empty if nothing.
    pub headers: &'a [u8],
}

impl<'a> Uri<'a> {
    /// Reads a URI. Of a scheme that is not sip, sips or tel only the scheme is read.
    ///
    /// # Errors
    /// [`Malformed`] with the offset in `text`.
    pub fn parse(text: &'a [u8]) -> Result<Uri<'a>, Malformed> {
        read(text).map_err(|offset| Malformed::new("uri", offset))
    }

    /// Whether it is sip or sips.
    pub fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// The transport parameter's value, as received.
    pub fn transport(&self) -> Option<&'a [u8]> {
        self.params.get(b"transport").flatten()
    }

    /// The maddr parameter's value.
    pub fn maddr(&self) -> Option<&'a [u8]> {
        self.params.get(b"maddr").flatten()
    }

    /// Whether the lr parameter is there: a loose router (§19.1.1).
    pub fn is_loose(&self) -> bool {
        self.params.has(b"lr")
    }

    /// Whether `user=phone` is there: the user part is a telephone number (§19.1.1).
    pub fn is_phone(&self) -> bool {
        self.params
            .get(b"user")
            .flatten()
            .is_some_and(|value| crate::eq_ignore_case(value, b"phone"))
    }
}

/// Reads a URI, or tells the offset of what breaks the grammar.
fn read(text: &[u8]) -> Result<Uri<'_>, usize> {
    let (scheme, start) = scheme(text)?;
    let bare = Uri {
        text,
        scheme,
        user: None,
        password: None,
        host: Host::Name(b""),
        port: None,
        params: Params::default(),
        headers: b"",
    };
    let seen = text::seen(&text[start..]);
    if start == text.len() || seen & URI_STOP != 0 {
        return Err(start);
    }
    if seen & PERCENT != 0 && !matches!(scheme, Scheme::Other(_)) {
        check_escapes(text, start)?;
    }
    match scheme {
        Scheme::Sip | Scheme::Sips => sip(bare, start, seen),
        Scheme::Tel => tel(bare, start),
        Scheme::Other(_) => Ok(bare),
    }
}

/// The scheme and where its colon ends.
#[inline]
fn scheme(text: &[u8]) -> Result<(Scheme<'_>, usize), usize> {
    match *text {
        [b's' | b'S', b'i' | b'I', b'p' | b'P', b':', ..] => Ok((Scheme::Sip, 4)),
        [b's' | b'S', b'i' | b'I', b'p' | b'P', b's' | b'S', b':', ..] => Ok((Scheme::Sips, 5)),
        [b't' | b'T', b'e' | b'E', b'l' | b'L', b':', ..] => Ok((Scheme::Tel, 4)),
        _ => {
            let is_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
            let len = text.iter().position(|byte| !is_scheme(byte)).ok_or(text.len())?;
            match text[len] {
                b':' if text[0].is_ascii_alphabetic() => Ok((Scheme::Other(&text[..len]), len + 1)),
                _ => Err(len),
            }
        }
    }
}

/// Reads what follows `sip:` or `sips:`.
fn sip(mut uri: Uri<'_>, start: usize, seen: u16) -> Result<Uri<'_>, usize> {
    let text = uri.text;
    let mut at = start;
    if seen & AT != 0 {
        let user_end = text::find_byte(text, start, b'@').unwrap_or(start);
        at = user_end + 1;
        if let Some(second) = text::find_byte(text, at, b'@') {
            // Nobody knows which host is meant.
            return Err(second);
        }
        let userinfo = &text[start..user_end];
        let user_len = text::find_byte(userinfo, 0, b':').unwrap_or(userinfo.len());
        if user_len == 0 {
            return Err(start);
        }
        uri.user = Some(&userinfo[..user_len]);
        uri.password = userinfo.get(user_len + 1..);
    }
    let (host, host_end) = Host::take(text, at).ok_or(at)?;
    uri.host = host;
    at = host_end;
    if text.get(at) == Some(&b':') {
        let len = text[at + 1..]
            .iter()
            .position(|byte| !byte.is_ascii_digit())
            .unwrap_or(text.len() - at - 1);
        uri.port = Some(parse_port(&text[at + 1..at + 1 + len]).ok_or(at)?);
        at += 1 + len;
    }
    if at == text.len() {
        return Ok(uri);
    }
    let question = if seen & QUESTION != 0 {
        text::find_byte(text, at, b'?')
    } else {
        None
    };
    uri.params = parameters(text, at, question.unwrap_or(text.len()))?;
    if let Some(question) = question {
        uri.headers = &text[question + 1..];
    }
    Ok(uri)
}

/// Reads what follows `tel:` (RFC 3966 §3).
fn tel(mut uri: Uri<'_>, start: usize) -> Result<Uri<'_>, usize> {
    let text = uri.text;
    let end = memchr::memchr(b';', &text[start..]).map_or(text.len(), |len| start + len);
    let number = &text[start..end];
    let digits = number.strip_prefix(b"+").unwrap_or(number);
    let is_global = digits.len() < number.len();
    let is_digit =
        |byte: &u8| byte.is_ascii_digit() || !is_global && (byte.is_ascii_hexdigit() || matches!(byte, b'*' | b'#'));
    if let Some(offset) = digits.iter().position(|byte| !is_digit(byte) && !is_separator(*byte)) {
        return Err(end - digits.len() + offset);
    }
    if !digits.iter().any(is_digit) {
        return Err(start);
    }
    uri.user = Some(number);
    uri.params = parameters(text, end, text.len())?;
    Ok(uri)
}

/// RFC 3966 §3 `visual-separator`
pub(crate) fn is_separator(byte: u8) -> bool {
    matches!(byte, b'-' | b'.' | b'(' | b')')
}

/// The parameters between two places, which begin with `;` if there are any.
fn parameters(text: &[u8], start: usize, end: usize) -> Result<Params<'_>, usize> {
    let params = &text[start..end];
    if params.is_empty() {
        return Ok(Params::default());
    }
    if params[0] != b';' {
        return Err(start);
    }
    // Empty parameters, as in `;lr;`, are against the grammar, common, and no riddle.
    if params.len() > MAX_PARAMS && memchr::memchr_iter(b';', params).count() > MAX_PARAMS {
        return Err(start);
    }
    Ok(Params::new(params))
}

/// Every `%` begins an escape.
fn check_escapes(text: &[u8], start: usize) -> Result<(), usize> {
    let mut at = start;
    while let Some(len) = memchr::memchr(b'%', &text[at..]) {
        at += len;
        match text[at + 1..] {
            [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => at += 3,
            _ => return Err(at),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn read(text: &str) -> Uri<'_> {
        Uri::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn all_parts_of_a_sip_uri() {
        let uri = read(
            "sips:alice;day=tuesday:pa%20ss@192.0.2.4:5061;transport=TCP;lr;maddr=239.255.255.1;;?subject=x&priority=urgent",
        );
        assert_eq!(uri.scheme, Scheme::Sips);
        assert_eq!(uri.user, Some(&b"alice;day=tuesday"[..]));
        assert_eq!(uri.password, Some(&b"pa%20ss"[..]));
        assert_eq!(
            (uri.host, uri.port),
            (Host::V4(Ipv4Addr::new(192, 0, 2, 4)), Some(5061))
        );
        assert_eq!(
            (uri.transport(), uri.maddr(), uri.is_loose()),
            (Some(&b"TCP"[..]), Some(&b"239.255.255.1"[..]), true)
        );
        assert_eq!(uri.headers, b"subject=x&priority=urgent");
        let uri = read("SIP:example.com");
        assert_eq!(
            (uri.scheme, uri.user, uri.host, uri.port),
            (Scheme::Sip, None, Host::Name(b"example.com"), None)
        );
        assert_eq!(read("sip:a:@b").password, Some(&b""[..]));
        assert!(read("sip:+1@b;user=Phone").is_phone());
        assert_eq!(read("sip:b?x=y").headers, b"x=y");
    }

    #[test]
    fn tel_and_unknown_schemes() {
        let uri = read("tel:+1-(201)-555.0123;ext=5;isub=1");
        assert_eq!((uri.scheme, uri.user), (Scheme::Tel, Some(&b"+1-(201)-555.0123"[..])));
        assert_eq!(uri.params.get(b"ext"), Some(Some(&b"5"[..])));
        assert_eq!(read("tel:7042;phone-context=example.com").user, Some(&b"7042"[..]));
        assert_eq!(
            read("nobodyKnowsThisScheme:totallyopaquecontent").scheme,
            Scheme::Other(b"nobodyKnowsThisScheme")
        );
        assert_eq!(read("urn:service:sos").scheme, Scheme::Other(b"urn"));
    }

    #[test]
    fn broken_ones_are_refused() {
        for text in [
            "",
            "sip",
            "sip:",
            ":x",
            "1sip:x",
            "sip:@host",
            "sip::pw@host",
            "sip:a@",
            "sip:a@b@c",
            "sip:a@b:",
            "sip:a@b:port",
            "sip:a@b:99999",
            "sip:a@b:0",
            "sip:a b@c",
            "sip:a@b c",
            "<sip:a@b>",
            "sip:a%4@b",
            "sip:a%zz@b",
            "sip:a@[::1",
            "sip:a@::1",
            "sip:a@b,c",
            "sip:a@1.2.3.4.5",
            "sip:a@b;x=%",
            "sip:a@b;x=@",
            "sip:a@b\0",
            "sip:a@b/c",
            "tel:",
            "tel:+",
            "tel:-",
            "tel:+12a",
            "tel:x",
            "tel:1?x=y",
            "sip:a@-",
            "sip:a@b?x=%2",
            "http:",
        ] {
            assert!(Uri::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(Uri::parse(format!("sip:a@b{}", ";x".repeat(MAX_PARAMS + 1)).as_bytes()).is_err());
    }
}
