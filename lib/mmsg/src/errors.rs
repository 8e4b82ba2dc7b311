//! What ICMP said about datagrams sent earlier: the socket's error queue (`IP_RECVERR`, ip(7)).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::address::{self, ADDRESS_LEN, Address};
use crate::control;

/// One entry of the error queue.
#[derive(Debug)]
pub struct IcmpError {
    /// Where the datagram was going.
    pub destination: SocketAddr,
    /// Who complained: the destination itself or a router on the way, where the kernel knows.
    pub offender: Option<IpAddr>,
    /// The complaint as an error: `ConnectionRefused` for a closed port, `HostUnreachable`, …
    pub error: io::Error,
}

/// Most entries read by one call, so that a flood of ICMP cannot hold its reader.
pub const ERRORS_PER_CALL: usize = 64;

/// Reads the error queue and returns how many entries there were (at most [`ERRORS_PER_CALL`]).
///
/// Reading also clears the pending error that a later send or receive on the socket would otherwise be blamed for.
pub fn read(socket: BorrowedFd<'_>, mut take: impl FnMut(IcmpError)) -> usize {
    for count in 0..ERRORS_PER_CALL {
        match read_one(socket) {
            // Not from ICMP, or without a destination: read, but of no use.
            Ok(None) => {}
            Ok(Some(error)) => take(error),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return count,
        }
    }
    ERRORS_PER_CALL
}

/// Room for packet information, the drop counter and the error with the offender's address.
#[repr(C, align(8))]
struct Control([u8; 256]);

fn read_one(socket: BorrowedFd<'_>) -> io::Result<Option<IcmpError>> {
    let mut destination = Address::EMPTY;
    let mut control = Control([0; 256]);
    // SAFETY: all-zero is a valid msghdr: null pointers with zero lengths.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = (&raw mut destination).cast();
    header.msg_namelen = ADDRESS_LEN as libc::socklen_t;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = size_of::<Control>();
    // SAFETY: the descriptor is open while borrowed; name and control point to live buffers of the stated lengths, and
    // without an iovec the quoted payload is cut off.
    let result = unsafe {
        libc::recvmsg(
            socket.as_raw_fd(),
            &raw mut header,
            libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let Some(destination) = destination.read(header.msg_namelen as usize) else {
        return Ok(None);
    };
    let filled = control.0.get(..header.msg_controllen).unwrap_or_default();
    let found = control::items(filled).find_map(|item| match (item.level, item.kind) {
        (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => extended(item.data),
        _ => None,
    });
    Ok(found.map(|(error, offender)| IcmpError {
        destination,
        offender,
        error,
    }))
}

/// `struct sock_extended_err`: errno (4), origin, type, code, pad, info (4), data (4); the offender's address follows.
fn extended(data: &[u8]) -> Option<(io::Error, Option<IpAddr>)> {
    let errno = u32::from_ne_bytes(*data.first_chunk::<4>()?);
    // What this machine has against a datagram (too long, say) the send call has said already.
    if !matches!(*data.get(4)?, libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6) {
        return None;
    }
    if is_passing(*data.get(4)?, *data.get(5)?, errno) {
        return None;
    }
    let offender = data.get(16..).and_then(address::parse).map(|addr| addr.ip());
    Some((io::Error::from_raw_os_error(errno.try_into().ok()?), offender))
}

/// RFC 3261 §18.4: source quench and exceeded TTL are no failure, for the next try may arrive. Nor is "fragmentation needed":
/// the kernel has learnt the path's MTU by it and cuts the next try itself.
fn is_passing(origin: u8, kind: u8, errno: u32) -> bool {
    const SOURCE_QUENCH: u8 = 4;
    const TIME_EXCEEDED: u8 = 11;
    const TIME_EXCEEDED_V6: u8 = 3;
    let passing = match origin {
        libc::SO_EE_ORIGIN_ICMP6 => kind == TIME_EXCEEDED_V6,
        _ => matches!(kind, SOURCE_QUENCH | TIME_EXCEEDED),
    };
    passing || errno == libc::EMSGSIZE as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `sock_extended_err` without an offender.
    fn entry(errno: i32, origin: u8, kind: u8) -> Vec<u8> {
        let mut data = (errno as u32).to_ne_bytes().to_vec();
        data.extend([origin, kind, 0, 0]);
        data.extend([0; 8]);
        data
    }

    /// RFC 3261 §18.4
    #[test]
    fn unreachable_is_a_failure_and_what_passes_is_none() {
        let told = |errno, origin, kind| extended(&entry(errno, origin, kind)).is_some();
        let (v4, v6) = (libc::SO_EE_ORIGIN_ICMP, libc::SO_EE_ORIGIN_ICMP6);
        // Destination unreachable (network, host, protocol, port) and parameter problem.
        for errno in [
            libc::ENETUNREACH,
            libc::EHOSTUNREACH,
            libc::ENOPROTOOPT,
            libc::ECONNREFUSED,
        ] {
            assert!(told(errno, v4, 3), "{errno}");
            assert!(told(errno, v6, 1), "{errno}");
        }
        assert!(told(libc::EPROTO, v4, 12) && told(libc::EPROTO, v6, 4));
        // Source quench, TTL exceeded, too big for a link on the way.
        assert!(!told(libc::EHOSTUNREACH, v4, 4));
        assert!(!told(libc::EHOSTUNREACH, v4, 11));
        assert!(!told(libc::EHOSTUNREACH, v6, 3));
        assert!(!told(libc::EMSGSIZE, v4, 3) && !told(libc::EMSGSIZE, v6, 2));
        // Of our own machine, which the send call told already.
        assert!(!told(libc::EMSGSIZE, 1, 0));
    }
}
