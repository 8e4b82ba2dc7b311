//! Control messages (`cmsg(3)`) written and read byte by byte: no pointer walks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Room for the control messages of one datagram: packet information of either family, the drop counter and
/// the time of arrival.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Control(pub(crate) [u8; CONTROL_LEN]);

pub(crate) const CONTROL_LEN: usize = 96;
const HEADER_LEN: usize = size_of::<libc::cmsghdr>();
const WORD: usize = size_of::<usize>();

impl Control {
    pub(crate) const EMPTY: Control = Control([0; CONTROL_LEN]);

    /// Writes the one control message that makes a datagram leave from `source`; returns how many bytes of it count.
    pub(crate) fn write_source(&mut self, source: &IpAddr) -> usize {
        match source {
            IpAddr::V4(v4) => {
                // struct in_pktinfo: interface index, address to send from, destination (unused when sending).
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&v4.octets());
                self.write(libc::IPPROTO_IP, libc::IP_PKTINFO, &info)
            }
            IpAddr::V6(v6) => {
                // struct in6_pktinfo: address, interface index.
                let mut info = [0; 20];
                info[0..16].copy_from_slice(&v6.octets());
                self.write(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info)
            }
        }
    }

    fn write(&mut self, level: i32, kind: i32, data: &[u8]) -> usize {
        let len = HEADER_LEN + data.len();
        let bytes = &mut self.0;
        bytes[..WORD].copy_from_slice(&len.to_ne_bytes());
        bytes[WORD..WORD + 4].copy_from_slice(&level.to_ne_bytes());
        bytes[WORD + 4..WORD + 8].copy_from_slice(&kind.to_ne_bytes());
        bytes[HEADER_LEN..len].copy_from_slice(data);
        len.next_multiple_of(WORD)
    }
}

/// One control message.
pub(crate) struct Item<'a> {
    pub(crate) level: i32,
    pub(crate) kind: i32,
    pub(crate) data: &'a [u8],
}

/// The control messages in `bytes`; ends at the first that does not fit.
pub(crate) fn items(bytes: &[u8]) -> impl Iterator<Item = Item<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let len = usize::from_ne_bytes(*rest.first_chunk::<WORD>()?);
        let level = i32::from_ne_bytes(*rest.get(WORD..)?.first_chunk::<4>()?);
        let kind = i32::from_ne_bytes(*rest.get(WORD + 4..)?.first_chunk::<4>()?);
        let data = rest.get(HEADER_LEN..len)?;
        rest = rest.get(len.next_multiple_of(WORD)..).unwrap_or_default();
        Some(Item { level, kind, data })
    })
}

/// The local address in a packet information message: for a unicast datagram the one it was sent to.
pub(crate) fn local_address(item: &Item<'_>) -> Option<IpAddr> {
    match (item.level, item.kind) {
        // `ipi_spec_dst`, not `ipi_addr`: the same for unicast, and an address of ours for broadcast.
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            let octets = item.data.get(4..8)?.first_chunk::<4>()?;
            Some(Ipv4Addr::from(*octets).into())
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            let octets = item.data.first_chunk::<16>()?;
            Some(Ipv6Addr::from(*octets).into())
        }
        _ => None,
    }
}

/// The socket's drop counter, if this is it. It wraps at 2³².
pub(crate) fn drop_counter(item: &Item<'_>) -> Option<u32> {
    match (item.level, item.kind) {
        (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => Some(u32::from_ne_bytes(*item.data.first_chunk::<4>()?)),
        _ => None,
    }
}

/// When the datagram arrived, nanoseconds since 1970, if this says so.
pub(crate) fn arrival(item: &Item<'_>) -> Option<u64> {
    match (item.level, item.kind) {
        // struct timespec: seconds, nanoseconds, a word each. The kernel answers by the number it was asked by.
        (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS) => {
            let word = |at: usize| Some(i64::from_ne_bytes(*item.data.get(at..)?.first_chunk::<8>()?));
            let (seconds, nanoseconds) = (u64::try_from(word(0)?).ok()?, u64::try_from(word(8)?).ok()?);
            seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_one_of_libc() {
        assert_eq!(HEADER_LEN.next_multiple_of(WORD), HEADER_LEN);
        assert_eq!(std::mem::offset_of!(libc::cmsghdr, cmsg_level), WORD);
        assert_eq!(std::mem::offset_of!(libc::cmsghdr, cmsg_type), WORD + 4);
        assert_eq!(size_of::<libc::in_pktinfo>(), 12);
        assert_eq!(size_of::<libc::in6_pktinfo>(), 20);
        assert_eq!(std::mem::offset_of!(libc::in_pktinfo, ipi_spec_dst), 4);
    }

    #[test]
    fn a_source_written_reads_as_a_local_address() {
        for ip in ["127.0.0.2", "2001:db8::1"] {
            let ip: IpAddr = ip.parse().unwrap();
            let mut control = Control::EMPTY;
            let len = control.write_source(&ip);
            let found: Vec<_> = items(&control.0[..len])
                .filter_map(|item| local_address(&item))
                .collect();
            assert_eq!(found, [ip]);
        }
    }

    #[test]
    fn a_lying_length_ends_the_walk() {
        let mut control = Control::EMPTY;
        let len = control.write_source(&"::1".parse().unwrap());
        for lie in [0, 1, HEADER_LEN - 1, len + 1, usize::MAX] {
            control.0[..WORD].copy_from_slice(&lie.to_ne_bytes());
            assert!(items(&control.0[..len]).take(9).all(|item| item.data.is_empty()));
        }
    }
}
