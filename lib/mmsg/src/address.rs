//! Socket addresses as the kernel lays them out (`sockaddr_in`, `sockaddr_in6`), written and read byte by byte: no casts.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Room for either family, aligned for both.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Address([u8; ADDRESS_LEN]);

/// `sizeof(struct sockaddr_in6)`, the longer of the two.
pub(crate) const ADDRESS_LEN: usize = 28;
const V4_LEN: usize = 16;

impl Address {
    pub(crate) const EMPTY: Address = Address([0; ADDRESS_LEN]);

    /// Writes an address and returns how many bytes of it count.
    pub(crate) fn write(&mut self, addr: &SocketAddr) -> usize {
        let bytes = &mut self.0;
        match addr {
            SocketAddr::V4(v4) => {
                bytes[0..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                bytes[2..4].copy_from_slice(&v4.port().to_be_bytes());
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                bytes[8..V4_LEN].fill(0);
                V4_LEN
            }
            SocketAddr::V6(v6) => {
                bytes[0..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                bytes[2..4].copy_from_slice(&v6.port().to_be_bytes());
                bytes[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                ADDRESS_LEN
            }
        }
    }

    /// Reads the first `len` bytes as an address; `None` for any other family or a short one.
    pub(crate) fn read(&self, len: usize) -> Option<SocketAddr> {
        parse(self.0.get(..len.min(ADDRESS_LEN))?)
    }
}

/// Reads a `sockaddr` from bytes.
pub(crate) fn parse(bytes: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = bytes.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => {
            let octets = rest.first_chunk::<4>()?;
            Some(SocketAddrV4::new(Ipv4Addr::from(*octets), port).into())
        }
        libc::AF_INET6 => {
            let (flowinfo, rest) = rest.split_first_chunk::<4>()?;
            let (octets, rest) = rest.split_first_chunk::<16>()?;
            let scope = rest.first_chunk::<4>()?;
            let ip = Ipv6Addr::from(*octets);
            Some(SocketAddrV6::new(ip, port, u32::from_be_bytes(*flowinfo), u32::from_ne_bytes(*scope)).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in [
            "127.0.0.2:5060",
            "255.1.2.3:65535",
            "[::1]:5060",
            "[2001:db8::ff]:1",
            "[fe80::1%7]:5062",
        ] {
            let addr: SocketAddr = text.parse().unwrap();
            let mut address = Address::EMPTY;
            let len = address.write(&addr);
            assert_eq!(address.read(len), Some(addr));
            assert_eq!(address.read(len - 9), None, "a cut address is none");
        }
    }

    #[test]
    fn the_layout_is_the_one_of_libc() {
        assert_eq!(size_of::<libc::sockaddr_in6>(), ADDRESS_LEN);
        assert_eq!(size_of::<libc::sockaddr_in>(), V4_LEN);
        assert_eq!(std::mem::offset_of!(libc::sockaddr_in6, sin6_addr), 8);
        assert_eq!(std::mem::offset_of!(libc::sockaddr_in6, sin6_scope_id), 24);
        assert_eq!(std::mem::offset_of!(libc::sockaddr_in, sin_addr), 4);
        assert!(align_of::<Address>() >= align_of::<libc::sockaddr_in6>());
    }

    #[test]
    fn another_family_is_none() {
        assert_eq!(parse(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(parse(&[]), None);
    }
}
