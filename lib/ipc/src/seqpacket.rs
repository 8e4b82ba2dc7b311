//! Sockets that keep messages whole (`SOCK_SEQPACKET`), with a deadline on every wait.
//!
//! [`Listener`] and [`Connection`] are for plain threads; [`AsyncListener`] and [`AsyncConnection`] are the same sockets under
//! tokio. A message of no bytes cannot be told from the end and is never sent.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, recv,
    recvmsg, send, sendmsg, socket_with, sockopt,
};
use tokio::io::Interest;

use crate::{MAX_FRAME_LEN, Peer};

/// Room for the messages of one connection, to be reused from one to the next.
pub type Buffer = Box<[u8]>;

/// A buffer that takes every message.
pub fn buffer() -> Buffer {
    vec![0; MAX_FRAME_LEN].into_boxed_slice()
}

/// What the kernel may hold of messages not yet read: a batch being read, and one behind it.
const SOCKET_BUFFER_LEN: usize = 4 * MAX_FRAME_LEN;

/// A socket at a path that others connect to.
#[derive(Debug)]
pub struct Listener(OwnedFd);

/// One end of a conversation.
#[derive(Debug)]
pub struct Connection(OwnedFd);

impl Listener {
    /// Binds `path`, in place of whatever socket lay there, with these permission bits, and listens. Who owns the folder
    /// decides who may do this.
    ///
    /// # Errors
    /// The path is too long for a socket (107 bytes), or its folder cannot be written.
    pub fn bind(path: &Path, mode: u32, backlog: u16) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let socket = socket()?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        rustix::fs::chmod(path, Mode::from_raw_mode(mode))?;
        listen(&socket, i32::from(backlog))?;
        Ok(Self(socket))
    }

    /// The next connection; waits until `deadline`, or for ever.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] at the deadline; what accept(2) says.
    pub fn accept(&self, deadline: Option<Instant>) -> io::Result<Connection> {
        retry(self.0.as_fd(), PollFlags::IN, deadline, || self.try_accept())
    }

    /// The next connection if there is one, else [`ErrorKind::WouldBlock`].
    ///
    /// # Errors
    /// What accept(2) says.
    pub fn try_accept(&self) -> io::Result<Connection> {
        let socket = accept_with(&self.0, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        enlarge(&socket);
        Ok(Connection(socket))
    }
}

impl Connection {
    /// Connects to `path`; waits until `deadline` while the listener's queue is full.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] and [`ErrorKind::ConnectionRefused`] when nobody listens, [`ErrorKind::TimedOut`].
    pub fn connect(path: &Path, deadline: Instant) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path)?;
        let socket = socket()?;
        enlarge(&socket);
        // A full queue gives EAGAIN, and no event tells when there is room again: a blocking connect under a send timeout waits.
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(left(deadline)?))?;
        rustix::io::ioctl_fionbio(&socket, false)?;
        connect(&socket, &address).map_err(|error| match error {
            rustix::io::Errno::AGAIN => io::Error::from(ErrorKind::TimedOut),
            error => error.into(),
        })?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self(socket))
    }

    /// Who is at the other end.
    ///
    /// # Errors
    /// What getsockopt(2) says.
    pub fn peer(&self) -> io::Result<Peer> {
        Peer::of(&self.0)
    }

    /// Sends one message, waiting until `deadline` for room.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`], [`ErrorKind::BrokenPipe`], [`ErrorKind::InvalidInput`] for a message empty or too long.
    pub fn send(&self, message: &[u8], deadline: Instant) -> io::Result<()> {
        retry(self.0.as_fd(), PollFlags::OUT, Some(deadline), || {
            self.try_send(message)
        })
    }

    /// Sends one message if there is room, else [`ErrorKind::WouldBlock`].
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn try_send(&self, message: &[u8]) -> io::Result<()> {
        send_now(self.0.as_fd(), message)
    }

    /// Receives one message into `buffer` and gives its length; 0 when the other end has hung up. Waits until `deadline`, or
    /// for ever.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`]; [`ErrorKind::InvalidData`] when the message was longer than `buffer`.
    pub fn recv(&self, buffer: &mut [u8], deadline: Option<Instant>) -> io::Result<usize> {
        retry(self.0.as_fd(), PollFlags::IN, deadline, || self.try_recv(buffer))
    }

    /// Receives one message if there is one, else [`ErrorKind::WouldBlock`].
    ///
    /// # Errors
    /// As [`Connection::recv`].
    pub fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        receive_now(self.0.as_fd(), buffer)
    }
}

/// [`Listener`] under tokio, which knows it as a stream listener: accepting is the same for both.
#[derive(Debug)]
pub struct AsyncListener(tokio::net::UnixListener);

/// [`Connection`] under tokio, which knows it as a stream; only its readiness is used, never its reading and writing, which
/// would not keep messages whole.
#[derive(Debug)]
pub struct AsyncConnection(tokio::net::UnixStream);

impl AsyncListener {
    /// Call within a runtime.
    ///
    /// # Errors
    /// When the runtime takes no more sockets.
    pub fn new(listener: Listener) -> io::Result<Self> {
        tokio::net::UnixListener::from_std(listener.0.into()).map(Self)
    }

    /// The next connection. May be dropped and asked again.
    ///
    /// # Errors
    /// What accept(2) says; wait a little before the next call when descriptors have run out.
    pub async fn accept(&self) -> io::Result<AsyncConnection> {
        let (socket, _) = self.0.accept().await?;
        enlarge(&socket);
        Ok(AsyncConnection(socket))
    }
}

impl AsyncConnection {
    /// Call within a runtime.
    ///
    /// # Errors
    /// When the runtime takes no more sockets.
    pub fn new(connection: Connection) -> io::Result<Self> {
        tokio::net::UnixStream::from_std(connection.0.into()).map(Self)
    }

    /// Who is at the other end.
    ///
    /// # Errors
    /// What getsockopt(2) says.
    pub fn peer(&self) -> io::Result<Peer> {
        Peer::of(&self.0)
    }

    /// Sends one message as soon as there is room. Sent wholly or, when dropped, not at all. Has no deadline of its own.
    ///
    /// # Errors
    /// As [`Connection::try_send`] but for `WouldBlock`.
    pub async fn send(&self, message: &[u8]) -> io::Result<()> {
        self.0
            .async_io(Interest::WRITABLE, || send_now(self.0.as_fd(), message))
            .await
    }

    /// Sends one message if there is room, else [`ErrorKind::WouldBlock`]; [`AsyncConnection::writable`] tells when to try again.
    ///
    /// # Errors
    /// As [`Connection::try_send`].
    pub fn try_send(&self, message: &[u8]) -> io::Result<()> {
        self.0.try_io(Interest::WRITABLE, || send_now(self.0.as_fd(), message))
    }

    /// As [`AsyncConnection::try_send`], with a descriptor, of which the other end gets a double.
    ///
    /// # Errors
    /// As [`AsyncConnection::try_send`].
    pub fn try_send_with(&self, message: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<()> {
        self.0.try_io(Interest::WRITABLE, || {
            send_now_with(self.0.as_fd(), message, descriptor)
        })
    }

    /// As [`AsyncConnection::try_recv`], with the descriptor that came along, closed on exec.
    ///
    /// # Errors
    /// As [`AsyncConnection::try_recv`].
    pub fn try_recv_with(&self, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
        self.0
            .try_io(Interest::READABLE, || receive_now_with(self.0.as_fd(), buffer))
    }

    /// Waits until a send may go through.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub async fn writable(&self) -> io::Result<()> {
        self.0.writable().await
    }

    /// Waits until there may be something to receive.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    /// Receives one message into `buffer`; 0 when the other end has hung up. May be dropped and asked again.
    ///
    /// # Errors
    /// As [`Connection::try_recv`] but for `WouldBlock`.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0
            .async_io(Interest::READABLE, || receive_now(self.0.as_fd(), buffer))
            .await
    }

    /// Receives one message if there is one, else [`ErrorKind::WouldBlock`].
    ///
    /// # Errors
    /// As [`Connection::try_recv`].
    pub fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0
            .try_io(Interest::READABLE, || receive_now(self.0.as_fd(), buffer))
    }
}

fn send_now(socket: BorrowedFd<'_>, message: &[u8]) -> io::Result<()> {
    if message.is_empty() || message.len() > MAX_FRAME_LEN {
        return Err(ErrorKind::InvalidInput.into());
    }
    send(
        socket,
        message,
        SendFlags::DONTWAIT | SendFlags::NOSIGNAL | SendFlags::EOR,
    )?;
    Ok(())
}

fn send_now_with(socket: BorrowedFd<'_>, message: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<()> {
    if message.is_empty() || message.len() > MAX_FRAME_LEN {
        return Err(ErrorKind::InvalidInput.into());
    }
    let descriptors = [descriptor];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL | SendFlags::EOR;
    match sendmsg(socket, &[IoSlice::new(message)], &mut control, flags) {
        Ok(_) => Ok(()),
        // The kernel counts what a user has in flight; the receiver takes it out.
        Err(rustix::io::Errno::TOOMANYREFS) => Err(ErrorKind::WouldBlock.into()),
        Err(error) => Err(error.into()),
    }
}

fn receive_now_with(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = match recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
        Ok(message) => message,
        Err(rustix::io::Errno::CONNRESET) => return Ok((0, None)),
        Err(error) => return Err(error.into()),
    };
    if message.flags.contains(ReturnFlags::TRUNC) {
        return Err(ErrorKind::InvalidData.into());
    }
    // A descriptor that found no room in our table is missing, which is for the reader of the message to see.
    let mut descriptor = None;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = part {
            descriptor = descriptors.last().or(descriptor);
        }
    }
    Ok((message.bytes, descriptor))
}

fn receive_now(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let room = buffer.len();
    let len = match recv(socket, buffer, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
        Ok((_, len)) => len,
        // The other end went away with something of ours unread: the end all the same.
        Err(rustix::io::Errno::CONNRESET) => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    if len > room {
        Err(ErrorKind::InvalidData.into())
    } else {
        Ok(len)
    }
}

/// Performs `step` until it does not want to wait any more.
fn retry<T>(
    socket: BorrowedFd<'_>,
    event: PollFlags,
    deadline: Option<Instant>,
    mut step: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    loop {
        match step() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait(socket, event, deadline)?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Waits for an event (or a hang-up) until the deadline.
pub(crate) fn wait(socket: BorrowedFd<'_>, event: PollFlags, deadline: Option<Instant>) -> io::Result<()> {
    loop {
        let timeout = match deadline {
            Some(deadline) => Some(Timespec::try_from(left(deadline)?).map_err(|_| ErrorKind::InvalidInput)?),
            None => None,
        };
        match poll(&mut [PollFd::from_borrowed_fd(socket, event)], timeout.as_ref()) {
            Ok(0) => return Err(ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The time until `deadline`; an error when it has passed.
fn left(deadline: Instant) -> io::Result<std::time::Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(ErrorKind::TimedOut.into())
    } else {
        Ok(left)
    }
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Asks for a larger buffer; the default takes one whole frame, so that a refusal does no harm.
fn enlarge(socket: impl AsFd) {
    let _ = sockopt::set_socket_send_buffer_size(socket, SOCKET_BUFFER_LEN);
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    fn pair() -> (tempfile::TempDir, Listener, Connection, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = Listener::bind(&path, 0o600, 1).unwrap();
        let asker = Connection::connect(&path, soon()).unwrap();
        let answerer = listener.accept(Some(soon())).unwrap();
        (folder, listener, asker, answerer)
    }

    #[test]
    fn messages_stay_whole_and_the_end_is_told() {
        let (_folder, _listener, asker, answerer) = pair();
        let whole = vec![7; MAX_FRAME_LEN];
        asker.send(&whole, soon()).unwrap();
        asker.send(b"short", soon()).unwrap();
        drop(asker);
        let mut room = buffer();
        assert_eq!(answerer.recv(&mut room, Some(soon())).unwrap(), MAX_FRAME_LEN);
        assert!(room[..] == whole[..]);
        assert_eq!(answerer.recv(&mut room, Some(soon())).unwrap(), 5);
        assert_eq!(answerer.recv(&mut room, Some(soon())).unwrap(), 0);
        assert_eq!(answerer.send(b"x", soon()).unwrap_err().kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn what_is_too_long_is_refused_at_both_ends() {
        let (_folder, _listener, asker, answerer) = pair();
        for message in [vec![0; MAX_FRAME_LEN + 1], Vec::new()] {
            assert_eq!(
                asker.send(&message, soon()).unwrap_err().kind(),
                ErrorKind::InvalidInput
            );
        }
        asker.send(b"longer", soon()).unwrap();
        assert_eq!(
            answerer.recv(&mut [0; 3], Some(soon())).unwrap_err().kind(),
            ErrorKind::InvalidData
        );
    }

    #[test]
    fn every_wait_has_an_end() {
        let (folder, listener, asker, answerer) = pair();
        let past = Instant::now() + Duration::from_millis(1);
        assert_eq!(
            answerer.recv(&mut buffer(), Some(past)).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        assert_eq!(listener.accept(Some(past)).unwrap_err().kind(), ErrorKind::TimedOut);
        // Nobody reads: the kernel's buffer fills up.
        let message = vec![0; MAX_FRAME_LEN];
        while asker.try_send(&message).is_ok() {}
        assert_eq!(
            asker.send(&message, Instant::now()).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        // Nobody accepts: the queue fills up.
        let path = folder.path().join("socket");
        let mut waiting = Vec::new();
        let refused = loop {
            match Connection::connect(&path, Instant::now() + Duration::from_millis(10)) {
                Ok(connection) => waiting.push(connection),
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn nobody_there_is_told_from_nobody_answering() {
        let (folder, listener, _asker, _answerer) = pair();
        drop(listener);
        let path = folder.path().join("socket");
        assert_eq!(
            Connection::connect(&path, soon()).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
        let nowhere = folder.path().join("nowhere");
        assert_eq!(
            Connection::connect(&nowhere, soon()).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        // What a process that died left behind is no obstacle.
        let _listener = Listener::bind(&path, 0o600, 1).unwrap();
        Connection::connect(&path, soon()).unwrap();
    }

    #[test]
    fn the_kernel_says_who_asks() {
        let (_folder, _listener, _asker, answerer) = pair();
        let peer = answerer.peer().unwrap();
        assert_eq!(u32::try_from(peer.pid), Ok(std::process::id()));
        assert!(peer.may_order());
        let stranger = Peer {
            uid: peer.uid + 1,
            ..peer
        };
        assert!(!stranger.may_order());
    }

    #[test]
    fn under_tokio_it_is_the_same_socket() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = Listener::bind(&path, 0o600, 1).unwrap();
        let asking = std::thread::spawn(move || {
            let asker = Connection::connect(&path, soon()).unwrap();
            let mut room = buffer();
            for i in 0..100_u8 {
                asker.send(&vec![i; 60_000], soon()).unwrap();
            }
            let len = asker.recv(&mut room, Some(soon())).unwrap();
            room[..len].to_vec()
        });
        runtime.block_on(async {
            let listener = AsyncListener::new(listener).unwrap();
            let answerer = listener.accept().await.unwrap();
            let mut room = buffer();
            for i in 0..100_u8 {
                let len = answerer.recv(&mut room).await.unwrap();
                assert!(len == 60_000 && room[..len].iter().all(|&byte| byte == i));
            }
            assert_eq!(answerer.try_recv(&mut room).unwrap_err().kind(), ErrorKind::WouldBlock);
            answerer.send(b"done").await.unwrap();
            assert_eq!(answerer.recv(&mut room).await.unwrap(), 0);
        });
        assert_eq!(asking.join().unwrap(), b"done");
    }
}
