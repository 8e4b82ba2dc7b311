//! The host part of URIs and Via (RFC 3261 §25.1 `host`).

use crate::text::{self, HOST};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Host<'a> {
    /// A name as received, compared without case.
    Name(&'a [u8]),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, without its brackets.
    V6(Ipv6Addr),
}

impl<'a> Host<'a> {
    /// Reads a host that fills the whole text: a name, an IPv4 address, or an IPv6 address in brackets.
    pub fn parse(text: &'a [u8]) -> Option<Host<'a>> {
        Host::take(text, 0)
            .filter(|(_, end)| *end == text.len())
            .map(|(host, _)| host)
    }

    /// The address, if it is one.
    pub fn ip(self) -> Option<std::net::IpAddr> {
        match self {
            Host::Name(_) => None,
            Host::V4(addr) => Some(addr.into()),
            Host::V6(addr) => Some(addr.into()),
        }
    }

    /// Same address, or same name but for case (RFC 3261 §19.1.4, RFC 5954 §4.2 for IPv6).
    pub fn equals(self, other: Host<'_>) -> bool {
        match (self, other) {
            (Host::Name(left), Host::Name(right)) => crate::eq_ignore_case(left, right),
            (left, right) => left.ip().is_some() && left.ip() == right.ip(),
        }
    }

    /// Appends it as it stands in a URI: names lower-case, IPv6 in brackets.
    pub fn write(self, out: &mut Vec<u8>) {
        match self {
            Host::Name(name) => out.extend(name.iter().map(u8::to_ascii_lowercase)),
            Host::V4(addr) => crate::write::write_host(addr.into(), out),
            Host::V6(addr) => crate::write::write_host(addr.into(), out),
        }
    }

    /// The host that begins at `at`, and where it ends; none if there is none.
    #[inline]
    pub(crate) fn take(text: &'a [u8], at: usize) -> Option<(Host<'a>, usize)> {
        if text.get(at) == Some(&b'[') {
            let end = at + memchr::memchr(b']', &text[at..])?;
            return Some((Host::V6(parse_ipv6(&text[at + 1..end])?), end + 1));
        }
        if let Some((addr, end)) = take_ipv4(text, at)
            && !text.get(end).is_some_and(|byte| text::is(*byte, HOST))
        {
            return Some((Host::V4(addr), end));
        }
        let end = text::skip(text, at, HOST);
        let name = &text[at..end];
        // The last label of a name begins with a letter: what has none but digits and dots is an address or nothing
        // (§25.1 toplabel).
        if name.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.') {
            return None;
        }
        name.iter()
            .any(u8::is_ascii_alphanumeric)
            .then_some((Host::Name(name), end))
    }
}

/// The address that begins at `at`, and where it ends. Leading zeros are refused, since some would read them as octal.
#[inline]
fn take_ipv4(text: &[u8], at: usize) -> Option<(Ipv4Addr, usize)> {
    let mut octets = [0u8; 4];
    let mut at = at;
    for (position, octet) in octets.iter_mut().enumerate() {
        if position > 0 {
            if text.get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
        let start = at;
        let mut value = 0u32;
        while at < text.len() && at < start + 4 && text[at].is_ascii_digit() {
            value = value * 10 + u32::from(text[at] - b'0');
            at += 1;
        }
        if at == start || at > start + 1 && text[start] == b'0' {
            return None;
        }
        *octet = u8::try_from(value).ok()?;
    }
    Some((Ipv4Addr::from(octets), at))
}

/// What stands between the brackets. `:::` before an IPv4 part is read as `::`: a mistake of RFC 3261's own grammar
/// that RFC 5118 §4.10 wants tolerated.
fn parse_ipv6(text: &[u8]) -> Option<Ipv6Addr> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(addr) = text.parse() {
        return Some(addr);
    }
    let (before, after) = text.split_once(":::")?;
    let after: Ipv4Addr = after.parse().ok()?;
    let [a, b, c, d] = after.octets();
    // The groups before the gap, read as an address whose rest is zeros, and the four bytes behind it.
    let mut buffer = [0; 40];
    let room = buffer.get_mut(..before.len() + 2)?;
    room[..before.len()].copy_from_slice(before.as_bytes());
    room[before.len()..].copy_from_slice(b"::");
    let prefix: Ipv6Addr = std::str::from_utf8(room).ok()?.parse().ok()?;
    let mut segments = prefix.segments();
    if segments[6..] != [0, 0] {
        return None;
    }
    segments[6] = u16::from_be_bytes([a, b]);
    segments[7] = u16::from_be_bytes([c, d]);
    Some(segments.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses() {
        assert_eq!(
            Host::parse(b"192.0.2.255"),
            Some(Host::V4(Ipv4Addr::new(192, 0, 2, 255)))
        );
        assert_eq!(
            Host::parse(b"[2001:db8::1]"),
            Some(Host::V6("2001:db8::1".parse().unwrap()))
        );
        assert_eq!(
            Host::parse(b"[::ffff:192.0.2.1]"),
            Some(Host::V6("::ffff:192.0.2.1".parse().unwrap()))
        );
        for name in ["a", "Example.COM", "example.com.", "my_host", "3com.com", "1.2.3.x"] {
            assert_eq!(Host::parse(name.as_bytes()), Some(Host::Name(name.as_bytes())));
        }
        for text in [
            "",
            ".",
            "-",
            "1.2.3",
            "1.2.3.4.",
            "1.2.3.256",
            "1.2.3.04",
            "1..2.3",
            "[",
            "[]",
            "[::1",
            "[::1]x",
            "[1.2.3.4]",
            "[fe80::1%eth0]",
            "a b",
            "a/b",
            "::1",
        ] {
            assert_eq!(Host::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    /// RFC 5118 §4.10
    #[test]
    fn the_colon_too_many_of_the_old_grammar_is_tolerated() {
        let expected = Some(Host::V6("2001:db8::192.0.2.1".parse().unwrap()));
        assert_eq!(Host::parse(b"[2001:db8:::192.0.2.1]"), expected);
        for text in [
            "[2001:db8:::1]",
            "[1:2:3:4:5:6:7:::192.0.2.1]",
            "[:::]",
            "[1::2:::192.0.2.1]",
            "[1:::2:::192.0.2.1]",
        ] {
            assert_eq!(Host::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn equal_and_written() {
        assert!(Host::Name(b"Example.com").equals(Host::Name(b"eXample.COM")));
        assert!(!Host::Name(b"a").equals(Host::Name(b"b")));
        let [long, short] = ["[2001:db8:0:0:0::1]", "[2001:DB8::1]"].map(|text| Host::parse(text.as_bytes()).unwrap());
        assert!(long.equals(short));
        assert!(!long.equals(Host::Name(b"x")) && !Host::Name(b"x").equals(Host::Name(b"")));
        let mut out = Vec::new();
        long.write(&mut out);
        Host::Name(b"ExA").write(&mut out);
        assert_eq!(out, b"[2001:db8::1]exa");
    }
}
