//! Hosts as routing knows them (an address, or a name still to be resolved) and the NEXT-HOP words operators write.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address, or a name in lower case without a trailing dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// An address literal: nothing to resolve.
    Addr(IpAddr),
    /// A name that RFC 3263 has to turn into addresses.
    Name(Box<str>),
}

impl Host {
    /// Reads an address (IPv6 with or without brackets) or a name; `None` for anything else.
    pub fn parse(text: &str) -> Option<Host> {
        let inside = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        match inside.parse::<Ipv6Addr>() {
            Ok(addr) => Some(Host::Addr(addr.into())),
            Err(_) => parse_host(text).ok(),
        }
    }
}

impl fmt::Display for Host {
    /// As it stands in a URI: an IPv6 address in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Addr(IpAddr::V4(addr)) => write!(f, "{addr}"),
            Host::Addr(IpAddr::V6(addr)) => write!(f, "[{addr}]"),
            Host::Name(name) => f.write_str(name),
        }
    }
}

/// A host and perhaps a port: `HOST`, `HOST:PORT`, `[V6]` or `[V6]:PORT`. Port 0 is the same as none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HopAddress {
    /// Where to.
    pub host: Host,
    /// `None`: the port comes from DNS or is the transport's default (RFC 3263 §4.2).
    pub port: Option<u16>,
}

/// Why a text is no next hop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHop {
    /// Nothing there.
    #[error("next hop is empty")]
    Empty,
    /// The part after the last colon is no port.
    #[error("`{0}` is not a port (0 to 65535)")]
    Port(String),
    /// `[` without a valid IPv6 address and `]`.
    #[error("`{0}` is not an IPv6 address in brackets")]
    V6(String),
    /// Neither an address nor a name.
    #[error("`{0}` is neither a host name nor an address")]
    Host(String),
}

impl FromStr for HopAddress {
    type Err = BadHop;

    fn from_str(text: &str) -> Result<HopAddress, BadHop> {
        if text.is_empty() {
            return Err(BadHop::Empty);
        }
        if let Ok(addr) = text.parse::<Ipv6Addr>() {
            return Ok(HopAddress {
                host: Host::Addr(addr.into()),
                port: None,
            });
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (inside, after) = rest.split_once(']').ok_or_else(|| BadHop::V6(text.into()))?;
                let addr = inside.parse::<Ipv6Addr>().map_err(|_| BadHop::V6(text.into()))?;
                let port = match after {
                    "" => None,
                    _ => Some(after.strip_prefix(':').ok_or_else(|| BadHop::V6(text.into()))?),
                };
                (Host::Addr(addr.into()), port)
            }
            None => match text.rsplit_once(':') {
                Some((host, port)) => (parse_host(host)?, Some(port)),
                None => (parse_host(text)?, None),
            },
        };
        Ok(HopAddress {
            host,
            port: port.map(parse_port).transpose()?.filter(|port| *port != 0),
        })
    }
}

impl fmt::Display for HopAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => write!(f, "{}", self.host),
        }
    }
}

/// Reads an IPv4 address or a host name; a name is put into lower case and loses a trailing dot.
pub fn parse_host(text: &str) -> Result<Host, BadHop> {
    if let Ok(addr) = text.parse::<Ipv4Addr>() {
        return Ok(Host::Addr(addr.into()));
    }
    match is_name(text.strip_suffix('.').unwrap_or(text)) {
        true => Ok(Host::Name(
            text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase().into(),
        )),
        false => Err(BadHop::Host(text.into())),
    }
}

/// RFC 1123 names, with the underscore that people use all the same. A last label of digits only would be a mistyped
/// address.
fn is_name(text: &str) -> bool {
    let label_is_good = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= MAX_NAME_LEN && text.split('.').all(label_is_good) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// RFC 1035 §2.3.4.
pub const MAX_NAME_LEN: usize = 253;

fn parse_port(text: &str) -> Result<u16, BadHop> {
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse().map_err(|_| BadHop::Port(text.into())),
        false => Err(BadHop::Port(text.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_hops_are_read_and_written_back() {
        for (text, back) in [
            ("gw.example.com", "gw.example.com"),
            ("GW.Example.com.:5070", "gw.example.com:5070"),
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:5062", "192.0.2.1:5062"),
            ("192.0.2.1:0", "192.0.2.1"),
            ("[2001:db8::1]:5060", "[2001:db8::1]:5060"),
            ("[2001:DB8::1]", "[2001:db8::1]"),
            ("2001:db8::1", "[2001:db8::1]"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(
                text.parse::<HopAddress>().map(|hop| hop.to_string()).as_deref(),
                Ok(back),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_next_hop_is_refused() {
        for text in [
            "",
            ":",
            "gw:",
            "gw:abc",
            "gw:65536",
            "gw:+1",
            "192.168.1.300",
            "300",
            "[::1",
            "[::1]x",
            "[gw]:1",
            "a b",
            "-gw",
            "gw..com",
            "sip:gw",
            "gw;x",
            "a@b",
        ] {
            assert!(text.parse::<HopAddress>().is_err(), "{text}");
        }
    }
}
