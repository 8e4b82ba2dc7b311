//! Opening listeners: the options that a SIP listener needs, in the order the kernel wants them.
//!
//! Used by `sps-master`, which binds before anything else happens and passes the descriptors on.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

/// What the system granted to a UDP listener, for `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// Receive buffer in bytes as the kernel counts (twice what was asked for, at most twice `net.core.rmem_max`).
    pub receive_buffer_len: usize,
    /// Send buffer in bytes, likewise.
    pub send_buffer_len: usize,
}

/// Binds `sockets` UDP sockets to one address, one for each worker.
///
/// The first is bound *without* `SO_REUSEPORT`, so that an address somebody else holds is an error even if he shares it;
/// the others join it then. IPv6 sockets are IPv6 only. Port 0 lets the system choose one port for all.
/// `buffer_len` is asked for in both directions and may not be granted in full: see [`granted`].
///
/// # Errors
/// What `socket` or `bind` said; `AddrInUse` if anybody holds the address.
pub fn udp(addr: SocketAddr, sockets: usize, buffer_len: usize) -> io::Result<Vec<UdpSocket>> {
    let _ = (addr, sockets, buffer_len);
    unimplemented!()
}

/// Binds and listens with `listeners` TCP sockets on one address, one for each worker. As [`udp`] in all else.
///
/// # Errors
/// What `socket`, `bind` or `listen` said; `AddrInUse` if anybody holds the address.
pub fn tcp(addr: SocketAddr, listeners: usize, backlog: u32) -> io::Result<Vec<TcpListener>> {
    let _ = (addr, listeners, backlog);
    unimplemented!()
}

/// What a UDP socket got of the buffers it asked for.
///
/// # Errors
/// What `getsockopt` said.
pub fn granted(socket: &UdpSocket) -> io::Result<Granted> {
    let _ = socket;
    unimplemented!()
}
