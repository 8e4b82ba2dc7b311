//! The words that values are made of: names, addresses, networks. Each takes the text and says why it will not do; an empty
//! reason means that the expectation in the message says it all.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use crate::{Advertise, Cidr};

type Word<T> = Result<T, String>;

/// A domain of ours: a host name in lower case without the final dot, or an address literal (IPv6 with brackets, as in a URI).
pub(crate) fn domain(text: &str) -> Word<String> {
    if let Some(v6) = unbracket(text) {
        return Ok(format!("[{}]", v6?));
    }
    if text.contains(':') {
        return Err("a domain has no port and no scheme; an IPv6 address stands in brackets".into());
    }
    host_name(text)
}

/// Whom the daemons run as: what useradd(8) takes.
pub(crate) fn user(text: &str) -> Word<String> {
    let mut bytes = text.bytes();
    let starts_well = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    let goes_on_well = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
    if starts_well && goes_on_well && text.len() <= 32 {
        Ok(text.to_owned())
    } else {
        Err("lower-case letters, digits, - and _, at most 32".into())
    }
}

/// Where to listen.
pub(crate) fn listen_address(text: &str) -> Word<IpAddr> {
    let text = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    let address: IpAddr = text.parse().map_err(|_| {
        if text.contains(':') && text.matches(':').count() == 1 {
            "the port has a key of its own"
        } else {
            ""
        }
    })?;
    match address {
        address if address.is_multicast() => Err("a multicast address cannot be listened on".into()),
        IpAddr::V4(v4) if v4.is_broadcast() => Err("the broadcast address cannot be listened on".into()),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Err("write the IPv4 address itself".into()),
        _ => Ok(address),
    }
}

/// `HOST`, `HOST:PORT`, `[V6]`, `[V6]:PORT`.
pub(crate) fn advertise(text: &str) -> Word<Advertise> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = match port.map(str::parse::<u16>) {
        None => None,
        Some(Ok(port)) if port > 0 => Some(port),
        Some(_) => return Err("the port is a number from 1 to 65535".into()),
    };
    let host = match unbracket(host) {
        Some(v6) => format!("[{}]", v6?),
        None if host.contains(':') => return Err("an IPv6 address stands in brackets".into()),
        None => host_name(host)?,
    };
    let wildcard = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .is_ok_and(|a: IpAddr| a.is_unspecified());
    if wildcard {
        return Err("nobody can answer to a wildcard address".into());
    }
    Ok(Advertise { host, port })
}

/// `ADDRESS` or `ADDRESS/BITS`.
pub(crate) fn cidr(text: &str) -> Word<Cidr> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| String::new())?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match bits {
        None => longest,
        Some(bits) => match bits.parse::<u8>() {
            Ok(prefix) if prefix <= longest => prefix,
            _ => return Err(format!("the bits after the slash are 0 to {longest}")),
        },
    };
    let network = Cidr {
        address: masked(address, prefix),
        prefix,
    };
    if network.address != address {
        return Err(format!("the network of that address is {network}"));
    }
    Ok(network)
}

/// The address with only its first `prefix` bits.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

/// A name server; port 53 unless given.
pub(crate) fn dns_server(text: &str) -> Word<SocketAddr> {
    let found = text
        .parse::<SocketAddr>()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53)));
    match found {
        None => Err(String::new()),
        Some(address) if address.port() == 0 => Err("the port is 1 to 65535".into()),
        Some(address) if address.ip().is_unspecified() => Err("a wildcard address answers nobody".into()),
        Some(address) => Ok(address),
    }
}

/// A file's path.
pub(crate) fn file(text: &str) -> Word<PathBuf> {
    if text.is_empty() || text.ends_with('/') || text.contains('\0') {
        return Err("with a file name at its end".into());
    }
    Ok(PathBuf::from(text))
}

/// The address in brackets, if there are brackets.
fn unbracket(text: &str) -> Option<Word<Ipv6Addr>> {
    let rest = text.strip_prefix('[')?;
    Some(
        rest.strip_suffix(']')
            .and_then(|v6| v6.parse().ok())
            .ok_or_else(|| "not an IPv6 address in brackets".into()),
    )
}

/// A host name (RFC 1123, with the underscore that is met in the field) or an IPv4 address, in lower case.
fn host_name(text: &str) -> Word<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() || name.len() > 253 {
        return Err("a name has 1 to 253 characters".into());
    }
    for label in name.split('.') {
        let good = label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !good || label.is_empty() || label.len() > 63 || label.starts_with('-') || label.ends_with('-') {
            return Err(format!("{label:?} is no part of a name"));
        }
    }
    // RFC 3261 §25.1: the last label of a host name begins with a letter, so that no address looks like a name.
    let last = name.rsplit('.').next().unwrap_or(name);
    if last.bytes().next().is_some_and(|b| b.is_ascii_digit()) && name.parse::<IpAddr>().is_err() {
        return Err("neither a name nor a whole address".into());
    }
    Ok(name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_come_out_in_one_form() {
        assert_eq!(domain("Example.COM.").unwrap(), "example.com");
        assert_eq!(domain("192.0.2.1").unwrap(), "192.0.2.1");
        assert_eq!(domain("[2001:DB8:0::1]").unwrap(), "[2001:db8::1]");
        for wrong in [
            "",
            ".",
            "a..b",
            "-a.example",
            "exa mple",
            "example.com:5060",
            "sip:example.com",
            "::1",
            "1.2.3",
            "[::1",
            "a/b",
        ] {
            assert!(domain(wrong).is_err(), "{wrong}");
        }
        assert!(domain(&"a.".repeat(127)).is_err() || domain(&"a.".repeat(127)).is_ok_and(|d| d.len() == 253));
        assert!(domain(&"a".repeat(64)).is_err());
    }

    #[test]
    fn advertised_names_take_a_port() {
        let parts = |text| advertise(text).map(|a| (a.host, a.port));
        assert_eq!(parts("sip.example.com").unwrap(), ("sip.example.com".into(), None));
        assert_eq!(
            parts("sip.example.com:5070").unwrap(),
            ("sip.example.com".into(), Some(5070))
        );
        assert_eq!(parts("[2001:db8::1]").unwrap(), ("[2001:db8::1]".into(), None));
        assert_eq!(
            parts("[2001:db8::1]:5070").unwrap(),
            ("[2001:db8::1]".into(), Some(5070))
        );
        for wrong in [
            "2001:db8::1",
            "host:0",
            "host:65536",
            "host:",
            ":5060",
            "0.0.0.0",
            "[::]:5060",
            "",
        ] {
            assert!(parts(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn networks_have_no_bits_beyond_their_prefix() {
        assert_eq!(cidr("192.0.2.7").unwrap().to_string(), "192.0.2.7/32");
        assert_eq!(cidr("0.0.0.0/0").unwrap().prefix, 0);
        assert_eq!(cidr("2001:db8::/32").unwrap().to_string(), "2001:db8::/32");
        assert!(cidr("192.0.2.7/24").unwrap_err().contains("192.0.2.0/24"));
        for wrong in ["", "192.0.2/24", "192.0.2.0/33", "192.0.2.0/", "::/129", "::/-1"] {
            assert!(cidr(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_network_contains_its_addresses_and_mapped_ones() {
        let net = cidr("192.0.2.0/25").unwrap();
        assert!(net.contains("192.0.2.127".parse().unwrap()));
        assert!(!net.contains("192.0.2.128".parse().unwrap()));
        assert!(net.contains("::ffff:192.0.2.1".parse().unwrap()));
        assert!(!net.contains("2001:db8::1".parse().unwrap()));
        assert!(cidr("0.0.0.0/0").unwrap().contains("255.1.2.3".parse().unwrap()));
        assert!(cidr("::/0").unwrap().contains("ffff::1".parse().unwrap()));
        assert!(
            cidr("2001:db8::/33")
                .unwrap()
                .contains("2001:db8:7fff::1".parse().unwrap())
        );
        assert!(
            !cidr("2001:db8::/33")
                .unwrap()
                .contains("2001:db8:8000::1".parse().unwrap())
        );
    }

    #[test]
    fn name_servers_default_to_port_53() {
        assert_eq!(dns_server("192.0.2.53").unwrap().port(), 53);
        assert_eq!(dns_server("[2001:db8::53]:5353").unwrap().port(), 5353);
        assert_eq!(dns_server("2001:db8::53").unwrap().port(), 53);
        for wrong in ["ns.example.com", "192.0.2.53:0", "0.0.0.0", ""] {
            assert!(dns_server(wrong).is_err(), "{wrong}");
        }
    }
}
