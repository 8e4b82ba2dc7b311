//! Opening listeners: the options that a SIP listener needs, in the order the kernel wants them.
//!
//! Used by `sps-master`, which binds before anything else happens and passes the descriptors on.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use sps_mmsg::options;

/// What the system granted to a UDP listener, for `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// Receive buffer in bytes as the kernel counts (twice what was asked for; without `CAP_NET_ADMIN` at most twice
    /// `net.core.rmem_max`).
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
    group(addr, sockets, Type::DGRAM, Protocol::UDP, |socket| {
        options::ask_for_buffers(socket.as_fd(), buffer_len);
        Ok(())
    })
    .map(|sockets| sockets.into_iter().map(UdpSocket::from).collect())
}

/// Binds and listens with `listeners` TCP sockets on one address, one for each worker. As [`udp`] in all else.
///
/// # Errors
/// What `socket`, `bind` or `listen` said; `AddrInUse` if anybody holds the address.
pub fn tcp(addr: SocketAddr, listeners: usize, backlog: u32) -> io::Result<Vec<TcpListener>> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    let sockets = group(addr, listeners, Type::STREAM, Protocol::TCP, |socket| {
        // Connections of an earlier run that linger in TIME_WAIT do not hold the port; a listener does.
        socket.set_reuse_address(true)
    })?;
    for socket in &sockets {
        socket.listen(backlog)?;
    }
    Ok(sockets.into_iter().map(TcpListener::from).collect())
}

/// What a UDP socket got of the buffers it asked for.
///
/// # Errors
/// What `getsockopt` said.
pub fn granted(socket: &UdpSocket) -> io::Result<Granted> {
    let socket = SockRef::from(socket);
    Ok(Granted {
        receive_buffer_len: socket.recv_buffer_size()?,
        send_buffer_len: socket.send_buffer_size()?,
    })
}

/// Binds `count` sockets (at least one) to one address, the first alone, the others by sharing.
fn group(
    addr: SocketAddr,
    count: usize,
    kind: Type,
    protocol: Protocol,
    prepare: impl Fn(&Socket) -> io::Result<()>,
) -> io::Result<Vec<Socket>> {
    let open = || {
        let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        prepare(&socket)?;
        Ok::<_, io::Error>(socket)
    };
    let first = open()?;
    first.bind(&addr.into())?;
    let mut sockets = vec![first];
    if count > 1 {
        let bound = sockets[0].local_addr()?;
        // Only now: with SO_REUSEPORT from the start, a second SPS of the same user would share the port unnoticed.
        sockets[0].set_reuse_port(true)?;
        for _ in 1..count {
            let socket = open()?;
            socket.set_reuse_port(true)?;
            socket.bind(&bound)?;
            sockets.push(socket);
        }
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY_V4: &str = "127.0.0.1:0";

    #[test]
    fn all_sockets_of_a_listener_share_one_port() {
        for addr in [ANY_V4, "[::1]:0"] {
            let sockets = udp(addr.parse().unwrap(), 3, 1 << 20).unwrap();
            let first = sockets[0].local_addr().unwrap();
            assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == first));
            let granted = granted(&sockets[2]).unwrap();
            assert!(granted.receive_buffer_len >= 1 << 16 && granted.send_buffer_len >= 1 << 16);
            let listeners = tcp(addr.parse().unwrap(), 3, 128).unwrap();
            let first = listeners[0].local_addr().unwrap();
            assert!(listeners.iter().all(|listener| listener.local_addr().unwrap() == first));
        }
    }

    #[test]
    fn a_port_in_use_is_an_error_even_if_it_is_shared() {
        let sockets = udp(ANY_V4.parse().unwrap(), 2, 1 << 16).unwrap();
        let taken = udp(sockets[0].local_addr().unwrap(), 2, 1 << 16).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        let listeners = tcp(ANY_V4.parse().unwrap(), 2, 16).unwrap();
        let taken = tcp(listeners[0].local_addr().unwrap(), 2, 16).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn an_ipv6_wildcard_leaves_ipv4_alone() {
        let v6 = udp("[::]:0".parse().unwrap(), 1, 1 << 16).unwrap();
        let port = v6[0].local_addr().unwrap().port();
        udp(SocketAddr::from(([0, 0, 0, 0], port)), 1, 1 << 16).unwrap();
    }
}
