//! Who counts as one: an IPv4 address, or an IPv6 /64, which one host may use up freely.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A source as one number; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Source(pub u64);

/// No IPv6 network in use begins like this (0000:0001::/32): what follows is an IPv4 address.
const V4: u64 = 1 << 32;

/// `::1` and its like, which have no /64 of their own.
const V6_SPECIAL: u64 = u64::MAX;

impl From<IpAddr> for Source {
    fn from(ip: IpAddr) -> Source {
        match ip {
            IpAddr::V4(v4) => Source(V4 | u64::from(v4.to_bits())),
            IpAddr::V6(v6) => match (v6.to_bits() >> 64) as u64 {
                0 => match v6.to_ipv4_mapped() {
                    Some(v4) => Source(V4 | u64::from(v4.to_bits())),
                    None => Source(V6_SPECIAL),
                },
                prefix => Source(prefix),
            },
        }
    }
}

impl Source {
    /// The address, or the first one of the /64.
    pub fn address(self) -> IpAddr {
        match self.0 {
            V6_SPECIAL => IpAddr::V6(Ipv6Addr::LOCALHOST),
            key if key >> 32 == 1 => IpAddr::V4(Ipv4Addr::from_bits(key as u32)),
            prefix => IpAddr::V6(Ipv6Addr::from_bits(u128::from(prefix) << 64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_leads_back_to_its_address() {
        for (text, back) in [
            ("192.0.2.7", "192.0.2.7"),
            ("0.0.0.0", "0.0.0.0"),
            ("255.255.255.255", "255.255.255.255"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("::1", "::1"),
            ("fe80::1", "fe80::"),
        ] {
            let source = Source::from(text.parse::<IpAddr>().expect("an address"));
            assert_eq!(source.address().to_string(), back);
            assert_ne!(source.0, 0);
        }
    }
}
