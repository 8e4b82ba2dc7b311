//! Via (RFC 3261 §20.42, RFC 3581).

use crate::{
    Host, Malformed, Param, Params, Value, Values,
    number::parse_port,
    params::{self, MAX_PARAMS},
    text::{self, TOKEN},
};
use std::ops::Range;

/// One Via value.
#[derive(Clone, Copy, Debug)]
pub struct Via<'a> {
    value: Value<'a>,
    /// The transport as received, such as `UDP`; any token.
    pub transport: &'a [u8],
    /// Sent-by host.
    pub host: Host<'a>,
    /// Sent-by port, if given.
    pub port: Option<u16>,
    /// All parameters.
    pub params: Params<'a>,
    branch: Option<&'a [u8]>,
    received: Option<&'a [u8]>,
    rport: Option<Option<u16>>,
}

impl<'a> Via<'a> {
    /// Reads one Via value that stands alone.
    ///
    /// # Errors
    /// [`Malformed`] when it is not `protocol/version/transport sent-by *(;param)`. Protocol and version may be any
    /// token, as the grammar has it: a request of another version is answered too (§21.5.6).
    pub fn parse(text: &'a [u8]) -> Result<Via<'a>, Malformed> {
        Via::of(Value::alone(text))
    }

    #[inline]
    pub(crate) fn of(value: Value<'a>) -> Result<Via<'a>, Malformed> {
        read(value).map_err(|offset| Malformed::new("Via", value.range().start + offset))
    }

    /// The branch parameter (§8.1.1.7); none if absent or empty.
    pub fn branch(&self) -> Option<&'a [u8]> {
        self.branch
    }

    /// The received parameter (§18.2.1). An IPv6 address may or may not stand in brackets (RFC 5118 §4.5).
    pub fn received(&self) -> Option<&'a [u8]> {
        self.received
    }

    /// The rport parameter (RFC 3581): `Some(None)` asks for one, `Some(Some(port))` is filled in.
    pub fn rport(&self) -> Option<Option<u16>> {
        self.rport
    }

    /// Place of the value in the message.
    pub fn range(&self) -> Range<usize> {
        self.value.range()
    }

    /// Place of one of its parameters in the message, semicolon included.
    pub fn place_of(&self, param: &Param<'_>) -> Range<usize> {
        // A parameter is a piece of the value: where it stands follows from where its bytes are.
        let offset = (param.text.as_ptr() as usize).saturating_sub(self.value.text().as_ptr() as usize);
        let start = self.value.range().start + offset;
        start..start + param.text.len()
    }

    /// The value with its header, for [`Value::removal_range`].
    pub fn value(&self) -> Value<'a> {
        self.value
    }
}

/// Reads a value, or tells the offset of what breaks the grammar.
#[inline]
fn read(value: Value<'_>) -> Result<Via<'_>, usize> {
    let text = value.text();
    let transport_start = sent_protocol(text)?;
    let transport_end = text::skip(text, transport_start, TOKEN);
    let host_start = text::skip_lws(text, transport_end);
    if transport_end == transport_start || host_start == transport_end {
        return Err(transport_end);
    }
    let (host, host_end) = Host::take(text, host_start).ok_or(host_start)?;
    let mut at = text::skip_lws(text, host_end);
    let mut port = None;
    if text.get(at) == Some(&b':') {
        let port_start = text::skip_lws(text, at + 1);
        let port_end = text[port_start..]
            .iter()
            .position(|byte| !byte.is_ascii_digit())
            .map_or(text.len(), |len| port_start + len);
        port = Some(parse_port(&text[port_start..port_end]).ok_or(port_start)?);
        at = port_end;
    }
    let params_start = at;
    let mut via = Via {
        value,
        transport: &text[transport_start..transport_end],
        host,
        port,
        params: Params::new(&text[params_start..]),
        branch: None,
        received: None,
        rport: None,
    };
    let mut count = 0;
    let mut seen = 0u8;
    while let Some((param, end)) = params::take(text, at)? {
        count += 1;
        if count > MAX_PARAMS {
            return Err(at);
        }
        let value = param.value.filter(|value| !value.is_empty());
        let mut is_first = |parameter| {
            seen & parameter == 0 && {
                seen |= parameter;
                true
            }
        };
        // §7.3.1: no parameter twice. Which one counts decides where a response goes and what it matches.
        let fits = if text::is_spelt(param.name, b"branch") {
            via.branch = value;
            is_first(1)
        } else if text::is_spelt(param.name, b"rport") {
            via.rport = Some(value.map(|digits| parse_port(digits).ok_or(at)).transpose()?);
            is_first(2)
        } else if text::is_spelt(param.name, b"received") {
            via.received = value;
            is_first(4)
        } else {
            true
        };
        if !fits {
            return Err(at);
        }
        at = end;
    }
    Ok(via)
}

/// Behind protocol, version and white space: where the transport begins.
fn sent_protocol(text: &[u8]) -> Result<usize, usize> {
    if text.starts_with(b"SIP/2.0/") && text.get(8).is_some_and(|byte| text::is(*byte, TOKEN)) {
        return Ok(8);
    }
    let mut at = 0;
    for _ in ["protocol", "version"] {
        let end = text::skip(text, at, TOKEN);
        if end == at {
            return Err(at);
        }
        let slash = text::skip_lws(text, end);
        if text.get(slash) != Some(&b'/') {
            return Err(slash);
        }
        at = text::skip_lws(text, slash + 1);
    }
    Ok(at)
}

/// Iterator over all Via values from the top.
#[derive(Clone, Debug)]
pub struct Vias<'a> {
    pub(crate) values: Values<'a>,
}

impl<'a> Iterator for Vias<'a> {
    type Item = Result<Via<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.values.next().map(Via::of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn the_usual_one() {
        let via =
            Via::parse(b"SIP/2.0/UDP pc33.atlanta.com:5066;branch=z9hG4bK776asdhds;rport;received=192.0.2.1").unwrap();
        assert_eq!(via.transport, b"UDP");
        assert_eq!(via.host, Host::Name(b"pc33.atlanta.com"));
        assert_eq!(via.port, Some(5066));
        assert_eq!(via.branch(), Some(&b"z9hG4bK776asdhds"[..]));
        assert_eq!(via.rport(), Some(None));
        assert_eq!(via.received(), Some(&b"192.0.2.1"[..]));
        assert_eq!(
            Via::parse(b"SIP/2.0/TCP 192.0.2.9;rport=99").unwrap().rport(),
            Some(Some(99))
        );
    }

    /// RFC 3261 §25.1: SLASH, COLON, SEMI and EQUAL take white space on both sides.
    #[test]
    fn white_space_and_folding_everywhere() {
        let via =
            Via::parse(b"SIP  / 2.0\r\n /UDP\r\n    192.0.2.2 : 5060 ; branch\t=  390skdjuw ;\r\n rport").unwrap();
        assert_eq!(
            (via.transport, via.host, via.port),
            (&b"UDP"[..], Host::V4(Ipv4Addr::new(192, 0, 2, 2)), Some(5060))
        );
        assert_eq!((via.branch(), via.rport()), (Some(&b"390skdjuw"[..]), Some(None)));
    }

    #[test]
    fn ipv6_with_and_without_port() {
        let host = Host::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 9, 1));
        let via = Via::parse(b"SIP/2.0/UDP [2001:db8::9:1]:6050;received=[2001:db8::9:255]").unwrap();
        assert_eq!((via.host, via.port), (host, Some(6050)));
        let via = Via::parse(b"SIP/2.0/UDP [2001:db8::9:1];branch=x").unwrap();
        assert_eq!((via.host, via.port), (host, None));
    }

    #[test]
    fn broken_ones_are_refused() {
        for text in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "SIP/2.0 h",
            "//UDP h",
            "SIP/ /UDP h",
            "SIP/2.0/UDP h:",
            "SIP/2.0/UDP h:0",
            "SIP/2.0/UDP h:65536",
            "SIP/2.0/UDP h;;branch=x",
            "SIP/2.0/UDP h;",
            "SIP/2.0/UDP h;branch=x y",
            "SIP/2.0/UDP [::1",
            "SIP/2.0/UDP h h",
            "SIP/2.0/UDP h;rport=abc",
            "SIP/2.0/UDP 1.2.3.4.5",
            "SIP/2.0/ h",
            "SIP/2.0/UDP h;x=\"open",
            "SIP/2.0/UDP h;branch=z9hG4bKa;branch=z9hG4bKb",
            "SIP/2.0/UDP h;received=192.0.2.1;x;Received=192.0.2.2",
            "SIP/2.0/UDP h;rport;rport=9",
        ] {
            assert!(Via::parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
