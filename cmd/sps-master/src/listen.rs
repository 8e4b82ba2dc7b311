//! Binds what `[[listen]]` says: one socket a worker, all sharing the port, held open for the master's life so that a second of
//! traffic waits in the kernel while a daemon is started again.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};
use sps_conf::{Listen, Transport};
use sps_daemon::{Exit, Fatal};
use sps_ipc::operator::Listening;
use sps_ipc::parent::ListenerInfo;

use crate::child::Listens;

/// Bytes of datagrams that may wait. The kernel counts its own overhead too (about 2 KiB for a SIP message): some 14,000 messages.
const RECEIVE_BUFFER_LEN: usize = 16 << 20;

/// Bytes of datagrams on their way out.
const SEND_BUFFER_LEN: usize = 4 << 20;

/// Streams that may wait to be accepted; the kernel cuts it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// The sockets of all listeners, in the order in which the proxy gets them.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<(ListenerInfo, Socket)>,
}

impl Listeners {
    /// Binds everything, or says which address and port could not be bound and why.
    pub fn bind(listen: &[Listen], workers: u16) -> Result<Self, Fatal> {
        let mut sockets = Vec::with_capacity(listen.len() * usize::from(workers));
        for (index, entry) in (0..).zip(listen) {
            // sps-tls accepts for all workers.
            let sockets_wanted = if entry.transport == Transport::Tls { 1 } else { workers };
            let group = bind_group(entry, sockets_wanted).map_err(|error| refused(entry, &error))?;
            for (worker, (address, socket)) in (0..).zip(group) {
                let (transport, advertise) = (entry.transport, entry.advertise.clone());
                sockets.push((
                    ListenerInfo {
                        listen: index,
                        worker,
                        transport,
                        address,
                        advertise,
                        handed: true,
                    },
                    socket,
                ));
            }
        }
        Ok(Self { sockets })
    }

    /// What a daemon is told of them, in order.
    pub fn infos(&self, listens: Listens) -> Vec<ListenerInfo> {
        let told = self.sockets.iter().filter_map(|(info, _)| {
            let handed = is_for(info.transport, listens);
            (handed || listens == Listens::Plain).then(|| ListenerInfo { handed, ..info.clone() })
        });
        told.collect()
    }

    /// The descriptors that go with [`Listeners::infos`], in order.
    pub fn descriptors(&self, listens: Listens) -> Vec<BorrowedFd<'_>> {
        let handed = self.sockets.iter().filter(|(info, _)| is_for(info.transport, listens));
        handed.map(|(_, socket)| socket.as_fd()).collect()
    }

    /// One an address, with what the kernel granted.
    pub fn listening(&self) -> Vec<Listening> {
        let mut all: Vec<Listening> = Vec::new();
        for (info, socket) in &self.sockets {
            match all.last_mut() {
                Some(last) if info.worker > 0 => last.sockets += 1,
                Some(_) | None => all.push(Listening {
                    transport: info.transport,
                    address: info.address,
                    sockets: 1,
                    receive_buffer_len: granted(sockopt::socket_recv_buffer_size(socket)),
                    send_buffer_len: granted(sockopt::socket_send_buffer_size(socket)),
                }),
            }
        }
        all
    }
}

/// Whether a daemon gets sockets of that transport.
fn is_for(transport: Transport, listens: Listens) -> bool {
    match listens {
        Listens::No => false,
        Listens::Plain => transport != Transport::Tls,
        Listens::Tls => transport == Transport::Tls,
    }
}

fn granted(len: rustix::io::Result<usize>) -> u32 {
    len.ok().and_then(|len| u32::try_from(len).ok()).unwrap_or(0)
}

/// One socket a worker on one address. Port 0: the system chooses once for all of them.
fn bind_group(listen: &Listen, workers: u16) -> io::Result<Vec<(SocketAddr, Socket)>> {
    // With SO_REUSEPORT we would bind beside another process of the same user and share its traffic: one without it finds out.
    let probe = socket(listen)?;
    probe.bind(&listen.socket_addr().into())?;
    let address = probe.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    drop(probe);
    (0..workers)
        .map(|_| Ok((address, bind_one(listen, address)?)))
        .collect()
}

fn bind_one(listen: &Listen, address: SocketAddr) -> io::Result<Socket> {
    let socket = socket(listen)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    match listen.transport {
        Transport::Udp => {
            enlarge(&socket);
            Ok(socket)
        }
        // Streams have buffers that the kernel sizes by itself unless told.
        Transport::Tcp | Transport::Tls => socket.listen(BACKLOG).map(|()| socket),
    }
}

fn socket(listen: &Listen) -> io::Result<Socket> {
    let (kind, protocol) = match listen.transport {
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
        Transport::Tcp | Transport::Tls => (Type::STREAM, Protocol::TCP),
    };
    let domain = Domain::for_address(listen.socket_addr());
    let socket = Socket::new(domain, kind.nonblocking().cloexec(), Some(protocol))?;
    if domain == Domain::IPV6 {
        // One listener, one family: IPv4 has its own.
        socket.set_only_v6(true)?;
    }
    if listen.transport != Transport::Udp {
        // Streams of an earlier generation that still close must not keep the port. (For datagrams it would share the port.)
        socket.set_reuse_address(true)?;
    }
    Ok(socket)
}

/// As large as we may: beyond the system's limit with the right for it (CAP_NET_ADMIN), else up to it. `status` tells what it came to.
fn enlarge(socket: &Socket) {
    if sockopt::set_socket_recv_buffer_size_force(socket, RECEIVE_BUFFER_LEN).is_err() {
        let _ = sockopt::set_socket_recv_buffer_size(socket, RECEIVE_BUFFER_LEN);
    }
    if sockopt::set_socket_send_buffer_size_force(socket, SEND_BUFFER_LEN).is_err() {
        let _ = sockopt::set_socket_send_buffer_size(socket, SEND_BUFFER_LEN);
    }
}

fn refused(listen: &Listen, error: &io::Error) -> Fatal {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
    let (address, port) = (listen.socket_addr(), listen.port);
    let transport = listen.transport;
    match error.kind() {
        AddrInUse => Fatal::new(
            Exit::Later,
            format!(
                "cannot listen on {transport} {address}: port {port} is in use by another program (ss -lnp shows which)"
            ),
        ),
        AddrNotAvailable => Fatal::new(
            Exit::Config,
            format!(
                "cannot listen on {transport} {address}: {} is no address of this machine",
                listen.address
            ),
        ),
        PermissionDenied => Fatal::new(
            Exit::Privilege,
            format!("cannot listen on {transport} {address}: ports below 1024 need root (or CAP_NET_BIND_SERVICE)"),
        ),
        _ => Fatal::new(
            Exit::Network,
            format!("cannot listen on {transport} {address}: {error}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> Listen {
        text.parse().unwrap()
    }

    #[test]
    fn workers_share_the_port_that_the_system_chose() {
        let entries = [listen("udp:127.0.0.1:0"), listen("tcp:127.0.0.1:0")];
        let listeners = Listeners::bind(&entries, 3).unwrap();
        let infos = listeners.infos(Listens::Plain);
        assert_eq!(
            infos.iter().map(|info| (info.listen, info.worker)).collect::<Vec<_>>(),
            [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
        );
        assert!(
            infos[..3]
                .iter()
                .all(|info| info.address == infos[0].address && info.address.port() != 0)
        );
        let listening = listeners.listening();
        assert_eq!(listening.iter().map(|one| one.sockets).collect::<Vec<_>>(), [3, 3]);
        assert!(listening[0].receive_buffer_len > 0);
    }

    #[test]
    fn sockets_for_tls_go_to_sps_tls_and_the_proxy_knows_of_them() {
        let entries = [listen("tls:127.0.0.1:0"), listen("udp:127.0.0.1:0")];
        let listeners = Listeners::bind(&entries, 2).unwrap();
        let told = |listens| -> Vec<_> {
            let infos = listeners.infos(listens);
            assert_eq!(
                infos.iter().filter(|info| info.handed).count(),
                listeners.descriptors(listens).len()
            );
            infos
                .iter()
                .map(|info| (info.listen, info.worker, info.handed))
                .collect()
        };
        assert_eq!(told(Listens::Tls), [(0, 0, true)]);
        assert_eq!(told(Listens::Plain), [(0, 0, false), (1, 0, true), (1, 1, true)]);
        assert_eq!(told(Listens::No), []);
    }

    /// Two instances of one user would otherwise share the traffic without a word.
    #[test]
    fn a_port_in_use_is_named_even_where_it_could_be_shared() {
        for transport in ["udp", "tcp"] {
            let held = Listeners::bind(&[listen(&format!("{transport}:127.0.0.1:0"))], 1).unwrap();
            let address = held.infos(Listens::Plain)[0].address;
            let fatal = Listeners::bind(&[listen(&format!("{transport}:{address}"))], 1).unwrap_err();
            assert_eq!(fatal.exit, Exit::Later);
            assert!(fatal.text.contains(&address.to_string()), "{fatal}");
        }
    }

    #[test]
    fn a_foreign_address_is_a_fault_of_the_configuration() {
        let fatal = Listeners::bind(&[listen("udp:192.0.2.1:5060")], 1).unwrap_err();
        assert_eq!(fatal.exit, Exit::Config);
        assert!(fatal.text.contains("192.0.2.1"));
    }
}
