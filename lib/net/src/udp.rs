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

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::task::{Context, Poll};

use bytes::Bytes;
use sps_mmsg::options::{self, Family};
use sps_mmsg::{IcmpError, Outgoing, Receiver, Sender, Trouble, errors};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

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
        UdpConf {
            datagrams_per_turn: 256,
            send_queue: 4096,
        }
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
    /// When the kernel took it, nanoseconds since 1970; zero if that is not known.
    pub arrived_ns: u64,
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
    /// Datagrams of line ends and zeros alone, or of nothing, by which phones keep their NAT open: dropped unseen.
    pub keepalives: u64,
    /// Datagrams longer than a slot (none can be): dropped.
    pub truncated: u64,
    /// Datagrams refused by [`Udp::send`] because the queue was full.
    pub refused: u64,
    /// Datagrams the kernel would not take, or lost in a device's queue.
    pub send_errors: u64,
    /// ICMP errors read.
    pub icmp_errors: u64,
    /// Times a flush found the socket's send buffer full.
    pub blocked: u64,
}

/// One bound UDP socket inside a tokio runtime.
#[derive(Debug)]
pub struct Udp {
    socket: AsyncFd<UdpSocket>,
    /// The same socket once more, for a registration of its own whenever a flush is blocked. `socket` is not watched for
    /// room to write: tokio takes writable together with an ICMP error for "closed for writing" and never forgets it.
    write_side: OwnedFd,
    local: SocketAddr,
    receiver: Receiver,
    sender: Sender<Bytes>,
    datagrams_per_turn: usize,
    blocked: bool,
    /// ICMP errors met while receiving, for the next [`Udp::errors`].
    met: Vec<IcmpError>,
    counters: UdpCounters,
}

impl Udp {
    /// Takes a bound socket over: makes it non-blocking and switches on `IP_PKTINFO` (wildcard addresses only),
    /// `IP_RECVERR`, `SO_RXQ_OVFL` and `SO_TIMESTAMPNS`. Must be called inside a runtime.
    ///
    /// # Errors
    /// What the socket options or the reactor said.
    pub fn new(socket: UdpSocket, conf: &UdpConf) -> io::Result<Udp> {
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        let family = if local.is_ipv4() { Family::V4 } else { Family::V6 };
        if local.ip().is_unspecified() {
            options::tell_local_address(socket.as_fd(), family)?;
        }
        options::queue_errors(socket.as_fd(), family)?;
        options::count_drops(socket.as_fd())?;
        options::stamp_arrivals(socket.as_fd())?;
        let write_side = socket.as_fd().try_clone_to_owned()?;
        Ok(Udp {
            socket: watch(socket, Interest::READABLE | Interest::PRIORITY | Interest::ERROR)?,
            write_side,
            local,
            receiver: Receiver::new(sps_mmsg::BATCH, sps_mmsg::SLOT_LEN),
            sender: Sender::new(sps_mmsg::BATCH, conf.send_queue),
            datagrams_per_turn: conf.datagrams_per_turn.max(1),
            blocked: false,
            met: Vec::new(),
            counters: UdpCounters::default(),
        })
    }

    /// The address bound, wildcard included.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Waits until there is something to [`receive`](Self::receive) or to read from [`errors`](Self::errors).
    /// May be dropped and asked again at any time. One task may wait, the last that asked.
    ///
    /// # Errors
    /// Only if the runtime is shutting down.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_readable(cx)).await
    }

    /// As [`readable`](Self::readable), for a task that waits for many things.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.met.is_empty() {
            return Poll::Ready(Ok(()));
        }
        // News from ICMP comes as priority data, which counts as readable.
        self.socket.poll_read_ready(cx).map_ok(drop)
    }

    /// Takes what has arrived, in batches, until the socket is empty or the turn's bound is reached; in the latter case
    /// [`readable`](Self::readable) is ready at once. Returns how many datagrams came, keep-alives included, which `take`
    /// does not get to see; zero is no error.
    ///
    /// # Errors
    /// What `recvmmsg` said, `WouldBlock` and pending ICMP errors excepted.
    pub fn receive(&mut self, mut take: impl FnMut(Datagram<'_>)) -> io::Result<usize> {
        let mut taken = 0;
        let mut failures = 0;
        let mut result = Ok(());
        while taken < self.datagrams_per_turn {
            let receiver = &mut self.receiver;
            let mut count = 0;
            let drained = self.socket.try_io(Interest::READABLE, |socket| {
                count = receiver.receive(socket.as_fd())?;
                // Less than was asked for: the socket is empty, and saying so here saves the call that would find out.
                // What comes from now on makes it ready again.
                if count < receiver.batch() {
                    Err(io::ErrorKind::WouldBlock.into())
                } else {
                    Ok(())
                }
            });
            for datagram in self.receiver.datagrams().take(count) {
                if datagram.truncated {
                    self.counters.truncated += 1;
                    continue;
                }
                taken += 1;
                if is_keepalive(datagram.bytes) {
                    self.counters.keepalives += 1;
                    continue;
                }
                take(Datagram {
                    bytes: datagram.bytes,
                    remote: datagram.remote,
                    local: datagram
                        .local
                        .map_or(self.local, |ip| SocketAddr::new(ip, self.local.port())),
                    arrived_ns: datagram.arrived_ns.unwrap_or(0),
                });
            }
            match drained {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // News of a datagram sent earlier that the socket holds against this call. The error queue has the
                // whole story; reading it clears the way.
                Err(error) => {
                    let met = &mut self.met;
                    errors::read(self.socket.get_ref().as_fd(), |icmp| met.push(icmp));
                    failures += 1;
                    if failures > MAX_FAILURES || self.met.len() > MAX_MET {
                        result = if self.met.is_empty() { Err(error) } else { Ok(()) };
                        break;
                    }
                }
            }
        }
        self.counters.received += taken as u64;
        self.counters.kernel_drops = self.receiver.drops();
        result.map(|()| taken)
    }

    /// Queues a datagram for the next [`flush`](Self::flush).
    ///
    /// `source` is the address to leave from ([`Datagram::local`]'s address); `None` lets the kernel choose, and so does a socket
    /// that is not bound to a wildcard. Returns `false` if the queue is full: the datagram is dropped and counted.
    #[must_use]
    pub fn send(&mut self, remote: SocketAddr, source: Option<IpAddr>, bytes: Bytes, token: u64) -> bool {
        let source = source.filter(|source| {
            self.local.ip().is_unspecified() && !source.is_unspecified() && source.is_ipv4() == remote.is_ipv4()
        });
        let queued = self
            .sender
            .push(Outgoing {
                remote,
                source,
                bytes,
                token,
            })
            .is_ok();
        self.counters.refused += u64::from(!queued);
        queued
    }

    /// Sends what is queued. Datagrams that the kernel will not take are dropped and told to `failed`; what the send
    /// buffer has no room for stays queued and makes [`writable`](Self::writable) worth waiting for.
    pub fn flush(&mut self, mut failed: impl FnMut(UdpFailure)) {
        if self.sender.is_empty() {
            return;
        }
        let flushed = self.sender.flush(self.socket.get_ref().as_fd(), |trouble| {
            failed(match trouble {
                Trouble::Refused(outgoing, error) => UdpFailure {
                    remote: outgoing.remote,
                    token: Some(outgoing.token),
                    error,
                },
                Trouble::Icmp(icmp) => icmp.into(),
            });
        });
        self.blocked = flushed.blocked;
        self.counters.sent += flushed.sent as u64;
        self.counters.send_errors += (flushed.failed + flushed.lost) as u64;
        self.counters.icmp_errors += flushed.icmp as u64;
        self.counters.blocked += u64::from(flushed.blocked);
    }

    /// Waits until a blocked flush can go on. Stays pending for ever while nothing is blocked.
    ///
    /// # Errors
    /// What the reactor said.
    pub async fn writable(&self) -> io::Result<()> {
        if !self.blocked {
            return std::future::pending().await;
        }
        let watched = watch(self.write_side.as_fd(), Interest::WRITABLE)?;
        let _ready = watched.writable().await?;
        Ok(())
    }

    /// Reads what ICMP said about datagrams sent earlier. Call after each [`readable`](Self::readable).
    /// Returns how many there were.
    pub fn errors(&mut self, mut failed: impl FnMut(UdpFailure)) -> usize {
        let mut count = self.met.len();
        self.met.drain(..).for_each(|icmp| failed(icmp.into()));
        // Costs nothing unless the reactor saw an error.
        let _ = self.socket.try_io(Interest::ERROR, |socket| {
            let read = errors::read(socket.as_fd(), |icmp| failed(icmp.into()));
            count += read;
            if read < errors::ERRORS_PER_CALL {
                Err(io::Error::from(io::ErrorKind::WouldBlock))
            } else {
                Ok(())
            }
        });
        self.counters.icmp_errors += count as u64;
        count
    }

    /// Datagrams waiting to be sent.
    pub fn queued(&self) -> usize {
        self.sender.len()
    }

    /// The figures.
    pub fn counters(&self) -> UdpCounters {
        self.counters
    }
}

impl From<IcmpError> for UdpFailure {
    fn from(icmp: IcmpError) -> Self {
        UdpFailure {
            remote: icmp.destination,
            token: None,
            error: icmp.error,
        }
    }
}

/// Waits until one of several sockets is [readable](Udp::readable).
pub async fn any_readable(sockets: &[Udp]) {
    poll_fn(|cx| {
        // Every socket is asked, so that each will wake us.
        let ready = sockets.iter().filter(|udp| udp.poll_readable(cx).is_ready()).count();
        if ready > 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Waits until a blocked one of several sockets is [writable](Udp::writable); for ever if none is blocked.
pub async fn any_writable(sockets: &[Udp]) {
    // Those after the first blocked one get their turn when it has had its.
    match sockets.iter().find(|udp| udp.blocked) {
        Some(udp) => drop(udp.writable().await),
        None => std::future::pending().await,
    }
}

/// Nothing but line ends and zeros. RFC 5626 §4.4.1 forbids CRLF on UDP, and phones send it there all the same, or four zeros.
fn is_keepalive(bytes: &[u8]) -> bool {
    bytes.len() <= MAX_KEEPALIVE_LEN && bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

/// Registers with the reactor for `interest` alone. A tokio `UdpSocket` would also watch for room to write and be woken after
/// every datagram it sent.
// The replacement of this constructor is unsafe: it trusts the caller that `T` keeps its descriptor. `UdpSocket` and
// `BorrowedFd`, the only ones used here, do.
#[allow(deprecated)]
fn watch<T: AsRawFd>(descriptor: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(descriptor, interest)
}

/// What is longer is noise of another kind.
const MAX_KEEPALIVE_LEN: usize = 32;
/// Failed calls in one turn before the socket's error is believed.
const MAX_FAILURES: usize = 8;
/// ICMP errors kept for [`Udp::errors`] before receiving stops for this turn.
const MAX_MET: usize = 256;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const ANY: &str = "127.0.0.1:0";
    const LONG: Duration = Duration::from_secs(10);

    fn open(addr: &str) -> Udp {
        Udp::new(UdpSocket::bind(addr).unwrap(), &UdpConf::default()).unwrap()
    }

    fn no_failure(failure: UdpFailure) {
        panic!("{failure:?}");
    }

    async fn next(udp: &mut Udp) -> (Vec<u8>, SocketAddr, SocketAddr) {
        let mut found = None;
        while found.is_none() {
            timeout(LONG, udp.readable()).await.unwrap().unwrap();
            udp.receive(|datagram| found = Some((datagram.bytes.to_vec(), datagram.remote, datagram.local)))
                .unwrap();
            udp.errors(no_failure);
        }
        found.unwrap()
    }

    /// RFC 5626 §4.4.1, and what phones make of it: dropped without an answer, counted, and nobody is woken for it.
    #[tokio::test]
    async fn keepalives_are_counted_and_nobody_sees_them() {
        let (mut ours, mut theirs) = (open(ANY), open(ANY));
        for bytes in [&b""[..], b"\r\n", b"\r\n\r\n", b"\0\0\0\0", b"\0\r\nx"] {
            assert!(ours.send(theirs.local_addr(), None, Bytes::from_static(bytes), 0));
        }
        ours.flush(no_failure);
        assert_eq!(next(&mut theirs).await.0, b"\0\r\nx");
        let counters = theirs.counters();
        assert_eq!((counters.received, counters.keepalives), (5, 4));
    }

    /// What a controller of overload goes by.
    #[tokio::test]
    async fn a_datagram_tells_when_it_arrived() {
        let unix_ns = || {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            since.unwrap().as_nanos() as u64
        };
        let (mut theirs, mut ours) = (open(ANY), open(ANY));
        assert!(ours.send(theirs.local_addr(), None, Bytes::from_static(b"x"), 0));
        let before = unix_ns();
        ours.flush(no_failure);
        let sent = unix_ns();
        tokio::time::sleep(Duration::from_millis(30)).await;
        let mut arrived = 0;
        timeout(LONG, theirs.readable()).await.unwrap().unwrap();
        theirs.receive(|datagram| arrived = datagram.arrived_ns).unwrap();
        assert!((before..=sent).contains(&arrived), "{before} {arrived} {sent}");
    }

    #[tokio::test]
    async fn a_burst_is_taken_in_turns_and_none_is_forgotten() {
        let conf = UdpConf {
            datagrams_per_turn: 40,
            ..UdpConf::default()
        };
        let mut theirs = Udp::new(UdpSocket::bind(ANY).unwrap(), &conf).unwrap();
        let mut ours = open(ANY);
        for round in 1..4 {
            for i in 1..=200 {
                assert!(ours.send(theirs.local_addr(), None, Bytes::from(vec![round; i]), 0));
            }
            ours.flush(no_failure);
            let mut lens = Vec::new();
            while lens.len() < 200 {
                timeout(LONG, theirs.readable()).await.unwrap().unwrap();
                let taken = theirs.receive(|datagram| lens.push(datagram.bytes.len())).unwrap();
                assert!(taken < 40 + sps_mmsg::BATCH, "{taken} in one turn");
            }
            assert_eq!(lens, (1..=200).collect::<Vec<_>>());
        }
        assert_eq!((ours.counters().sent, theirs.counters().received), (600, 600));
        // Drained: not ready any more, until something comes.
        assert!(timeout(Duration::ZERO, theirs.readable()).await.is_err());
        assert!(ours.send(theirs.local_addr(), None, Bytes::from_static(b"one more"), 0));
        ours.flush(no_failure);
        assert_eq!(next(&mut theirs).await.0, b"one more");
    }

    #[tokio::test]
    async fn on_a_wildcard_the_answer_leaves_from_where_the_question_came_to() {
        let (mut ours, mut theirs) = (open("0.0.0.0:0"), open(ANY));
        let asked = SocketAddr::from(([127, 0, 0, 2], ours.local_addr().port()));
        assert!(theirs.send(asked, None, Bytes::from_static(b"?"), 0));
        theirs.flush(no_failure);
        let (_, remote, local) = next(&mut ours).await;
        assert_eq!((remote, local), (theirs.local_addr(), asked));
        assert!(ours.send(remote, Some(local.ip()), Bytes::from_static(b"!"), 0));
        ours.flush(no_failure);
        assert_eq!(next(&mut theirs).await, (b"!".to_vec(), asked, theirs.local_addr()));
    }

    #[tokio::test]
    async fn a_refusal_wakes_the_reader_and_names_the_destination() {
        for any in [ANY, "[::1]:0"] {
            let mut ours = open(any);
            for _ in 0..3 {
                let closed = UdpSocket::bind(any).unwrap().local_addr().unwrap();
                let mut told = Vec::new();
                assert!(ours.send(closed, None, Bytes::from_static(b"?"), 7));
                ours.flush(|failure| told.push((failure.remote, failure.token, failure.error.kind())));
                while told.is_empty() {
                    timeout(LONG, ours.readable()).await.unwrap().unwrap();
                    assert_eq!(ours.receive(|_| panic!("nobody sent")).unwrap(), 0);
                    ours.errors(|failure| told.push((failure.remote, failure.token, failure.error.kind())));
                }
                assert_eq!(told, [(closed, None, io::ErrorKind::ConnectionRefused)]);
                assert!(timeout(Duration::ZERO, ours.readable()).await.is_err(), "told once");
            }
            assert_eq!(ours.counters().icmp_errors, 3);
        }
    }

    #[tokio::test]
    async fn one_of_many_sockets_wakes() {
        let mut sockets = [open(ANY), open("[::1]:0"), open(ANY)];
        assert!(timeout(Duration::ZERO, any_readable(&sockets)).await.is_err());
        assert!(timeout(Duration::ZERO, any_writable(&sockets)).await.is_err());
        for round in 0..6 {
            let which = round % sockets.len();
            let to = sockets[which].local_addr();
            assert!(sockets[which].send(to, None, Bytes::from_static(b"x"), 0));
            sockets[which].flush(no_failure);
            timeout(LONG, any_readable(&sockets)).await.unwrap();
            let taken: Vec<_> = sockets.iter_mut().map(|udp| udp.receive(|_| {}).unwrap()).collect();
            assert_eq!(taken.iter().sum::<usize>(), 1);
            assert_eq!(taken[which], 1);
        }
    }

    #[tokio::test]
    async fn a_datagram_that_cannot_go_comes_back_by_its_token() {
        let mut ours = open(ANY);
        let to = ours.local_addr();
        assert!(ours.send(to, None, Bytes::from(vec![0; 65_508]), 11));
        assert!(ours.send(to, None, Bytes::from_static(b"fits"), 12));
        let mut told = Vec::new();
        ours.flush(|failure| told.push((failure.remote, failure.token)));
        assert_eq!(told, [(to, Some(11))]);
        assert_eq!(next(&mut ours).await.0, b"fits");
    }

    #[tokio::test]
    async fn the_send_queue_is_bounded() {
        let conf = UdpConf {
            send_queue: 2,
            ..UdpConf::default()
        };
        let mut ours = Udp::new(UdpSocket::bind(ANY).unwrap(), &conf).unwrap();
        let to = ours.local_addr();
        let sent: Vec<bool> = (0..4).map(|token| ours.send(to, None, Bytes::new(), token)).collect();
        assert_eq!(sent, [true, true, false, false]);
        assert_eq!((ours.queued(), ours.counters().refused), (2, 2));
    }

    /// Over the loopback a UDP socket never blocks, so a TCP connection stands in: it ignores the address and blocks when the peer does
    /// not read.
    #[tokio::test]
    async fn a_blocked_flush_goes_on_when_there_is_room() {
        let listener = std::net::TcpListener::bind(ANY).unwrap();
        let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (theirs, _) = listener.accept().unwrap();
        let mut ours = Udp::new(UdpSocket::from(OwnedFd::from(ours)), &UdpConf::default()).unwrap();
        let to = "127.0.0.1:9".parse().unwrap();
        assert!(
            timeout(Duration::ZERO, ours.writable()).await.is_err(),
            "nothing is blocked"
        );
        let mut filled = 0;
        while !ours.blocked {
            assert!(ours.send(to, None, Bytes::from(vec![0; 60_000]), filled));
            ours.flush(no_failure);
            filled += 1;
        }
        assert!(ours.queued() > 0);
        assert!(timeout(Duration::ZERO, ours.writable()).await.is_err(), "still full");
        let reader = std::thread::spawn(move || io::copy(&mut &theirs, &mut io::sink()).unwrap());
        while ours.queued() > 0 {
            timeout(LONG, ours.writable()).await.unwrap().unwrap();
            ours.flush(no_failure);
        }
        assert!(ours.counters().blocked > 0);
        assert_eq!(ours.counters().sent, filled);
        drop(ours);
        reader.join().unwrap();
    }
}
