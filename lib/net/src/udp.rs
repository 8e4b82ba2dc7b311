//! One UDP socket of a worker: readiness from tokio, batches from `sps-mmsg`.
//!
//! The worker's loop:
//! ```text
//! select! {
//!     r = udp.readable() => { r?; udp.receive(|datagram| …)?; udp.errors(|failure| …); }
//!     r = udp.writable() => { r?; udp.flush(|failure| …)?; }      // never ready unless a flush was blocked
//!     …
//! }
//! udp.flush(|failure| …)?;                                        // once at the end of each turn
//! ```

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use bytes::Bytes;

/// Bounds of one socket.
#[derive(Debug, Clone)]
pub struct UdpConf {
    /// Most datagrams taken by one [`Udp::receive`], so that one busy socket does not starve the worker's other work.
    pub datagrams_per_turn: usize,
    /// Most datagrams waiting to be sent; [`Udp::send`] refuses more.
    pub send_queue: usize,
}

impl Default for UdpConf {
    fn default() -> Self {
        UdpConf { datagrams_per_turn: 256, send_queue: 4096 }
    }
}

/// One datagram, valid until the closure returns.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// The payload.
    pub bytes: &'a [u8],
    /// Who sent it.
    pub remote: SocketAddr,
    /// Where it came to: on a wildcard address the address the peer used, not the wildcard.
    pub local: SocketAddr,
}

/// A datagram that did not go out, or that ICMP says did not arrive.
#[derive(Debug)]
pub struct UdpFailure {
    /// Where it was to go.
    pub remote: SocketAddr,
    /// The token given to [`Udp::send`]; `None` if the news came by ICMP, which names only the destination (every client
    /// transaction that waits for an answer from `remote` may take it as its transport error, RFC 3261 §18.4).
    pub token: Option<u64>,
    /// `ConnectionRefused`, `HostUnreachable`, `NetworkUnreachable`, message too long, …
    pub error: io::Error,
}

/// Figures since the socket was taken over; all only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UdpCounters {
    /// Datagrams received.
    pub received: u64,
    /// Datagrams handed to the kernel.
    pub sent: u64,
    /// Datagrams the kernel dropped because the receive buffer was full (`SO_RXQ_OVFL`).
    pub kernel_drops: u64,
    /// Datagrams refused by [`Udp::send`] because the queue was full.
    pub refused: u64,
    /// Datagrams the kernel would not take.
    pub send_errors: u64,
    /// ICMP errors read.
    pub icmp_errors: u64,
    /// Times a flush found the socket's send buffer full.
    pub blocked: u64,
}

/// One bound UDP socket inside a tokio runtime.
#[derive(Debug)]
pub struct Udp {}

impl Udp {
    /// Takes a bound socket over: makes it non-blocking and switches on `IP_PKTINFO` (wildcard addresses only),
    /// `IP_RECVERR` and `SO_RXQ_OVFL`. Must be called inside a runtime.
    ///
    /// # Errors
    /// What the socket options or the reactor said.
    pub fn new(socket: UdpSocket, conf: &UdpConf) -> io::Result<Udp> {
        let _ = (socket, conf);
        unimplemented!()
    }

    /// The address bound, wildcard included.
    pub fn local_addr(&self) -> SocketAddr {
        unimplemented!()
    }

    /// Waits until there is something to [`receive`](Self::receive) or to read from [`errors`](Self::errors).
    /// May be dropped and asked again at any time.
    ///
    /// # Errors
    /// Only if the runtime is shutting down.
    pub async fn readable(&self) -> io::Result<()> {
        unimplemented!()
    }

    /// Takes what has arrived, in batches, until the socket is empty or the turn's bound is reached; in the latter case
    /// [`readable`](Self::readable) is ready at once. Returns how many datagrams were handed to `take`; zero is no error.
    ///
    /// # Errors
    /// What `recvmmsg` said, `WouldBlock` and pending ICMP errors excepted.
    pub fn receive(&mut self, take: impl FnMut(Datagram<'_>)) -> io::Result<usize> {
        let _ = take;
        unimplemented!()
    }

    /// Queues a datagram for the next [`flush`](Self::flush); flushes by itself when a batch is full.
    ///
    /// `source` is the address to leave from ([`Datagram::local`]'s address); `None` lets the kernel choose.
    /// Returns `false` if the queue is full: the datagram is dropped and counted.
    #[must_use]
    pub fn send(&mut self, remote: SocketAddr, source: Option<IpAddr>, bytes: Bytes, token: u64) -> bool {
        let _ = (remote, source, bytes, token);
        unimplemented!()
    }

    /// Sends what is queued. Datagrams that the kernel will not take are dropped and told to `failed`; what the send
    /// buffer has no room for stays queued and makes [`writable`](Self::writable) worth waiting for.
    pub fn flush(&mut self, failed: impl FnMut(UdpFailure)) {
        let _ = failed;
        unimplemented!()
    }

    /// Waits until a blocked flush can go on. Stays pending for ever while nothing is blocked.
    ///
    /// # Errors
    /// What the reactor said.
    pub async fn writable(&self) -> io::Result<()> {
        unimplemented!()
    }

    /// Reads what ICMP said about datagrams sent earlier. Call after each [`readable`](Self::readable).
    /// Returns how many there were.
    pub fn errors(&mut self, failed: impl FnMut(UdpFailure)) -> usize {
        let _ = failed;
        unimplemented!()
    }

    /// Datagrams waiting to be sent.
    pub fn queued(&self) -> usize {
        unimplemented!()
    }

    /// The figures.
    pub fn counters(&self) -> UdpCounters {
        unimplemented!()
    }
}
