//! The socket options that batches rely on.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The two families; options come in pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Each datagram received tells the local address it came to (`IP_PKTINFO`, `IPV6_RECVPKTINFO`). Needed on wildcard
/// addresses only.
///
/// # Errors
/// What `setsockopt` said.
pub fn tell_local_address(socket: BorrowedFd<'_>, family: Family) -> io::Result<()> {
    match family {
        Family::V4 => set(socket, libc::IPPROTO_IP, libc::IP_PKTINFO),
        Family::V6 => set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    }
}

/// ICMP errors are queued with the destination they belong to (`IP_RECVERR`, `IPV6_RECVERR`), for
/// [`errors::read`](crate::errors::read), and announce themselves as priority data (`SO_SELECT_ERR_QUEUE`).
///
/// # Errors
/// What `setsockopt` said.
pub fn queue_errors(socket: BorrowedFd<'_>, family: Family) -> io::Result<()> {
    match family {
        Family::V4 => set(socket, libc::IPPROTO_IP, libc::IP_RECVERR),
        Family::V6 => set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    }?;
    set(socket, libc::SOL_SOCKET, libc::SO_SELECT_ERR_QUEUE)
}

/// Datagrams received tell how many the kernel dropped before them for want of room (`SO_RXQ_OVFL`).
///
/// # Errors
/// What `setsockopt` said.
pub fn count_drops(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL)
}

/// Each datagram received tells when it arrived (`SO_TIMESTAMPNS`), so that the time it waited in the socket is known.
///
/// # Errors
/// What `setsockopt` said.
pub fn stamp_arrivals(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS)
}

/// A socket bound to an address and port 0 gets its port on connecting, so that one local port serves connections to
/// different peers (`IP_BIND_ADDRESS_NO_PORT`). Either family.
///
/// # Errors
/// What `setsockopt` said.
pub fn choose_port_on_connect(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT)
}

/// Asks for socket buffers of `len` bytes in both directions: beyond the system's limits where this process may
/// (`SO_RCVBUFFORCE`, `CAP_NET_ADMIN`), else up to them.
pub fn ask_for_buffers(socket: BorrowedFd<'_>, len: usize) {
    let len = len.try_into().unwrap_or(libc::c_int::MAX / 2);
    for (force, ask) in [
        (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
        (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
    ] {
        if set_to(socket, libc::SOL_SOCKET, force, len).is_err() {
            // Granted in part is no error: the kernel counts what is dropped.
            let _ = set_to(socket, libc::SOL_SOCKET, ask, len);
        }
    }
}

fn set(socket: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<()> {
    set_to(socket, level, name, 1)
}

fn set_to(socket: BorrowedFd<'_>, level: i32, name: i32, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open while borrowed, and the option value is an int that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
