//! One worker's conversation with `sps-tls` (see `sps_ipc::tls`): connections that it accepted come in, those that we want are asked
//! for. When it dies, it is found again when it is back, and what it had not answered is asked once more.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use sps_daemon::RateLimit;
use sps_ipc::seqpacket::{AsyncConnection, Buffer, Connection, buffer};
use sps_ipc::tls::{Connect, FromTls, RECONNECT_WAIT, Refusal, Secured, ToTls, WINDOW};
use sps_ipc::{VERSION, frame};
use sps_net::Streams;
use sps_net::streams::{CloseReason, Opened, Opener, Opening, Want};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

/// Longest wait for the socket to take a connection; it is there or it is not.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(20);

/// Messages taken in one turn, so that the rest of the worker has its turn too.
const FRAMES_PER_TURN: usize = 64;

static ODD: RateLimit = RateLimit::per_second(1);

/// Begins the conversation; it lasts as long as the worker.
pub fn start(path: PathBuf, streams: &Streams) {
    let (asks, asked) = mpsc::channel(WINDOW);
    streams.open_tls_by(Rc::new(Door(asks)));
    let link = Link {
        path,
        streams: streams.clone(),
        asked,
        open: HashMap::new(),
        last: 0,
        room: buffer(),
    };
    tokio::task::spawn_local(link.run());
}

type Answer = oneshot::Sender<Result<Opened, CloseReason>>;

/// Where streams ask for a connection.
struct Door(mpsc::Sender<(Want, Answer)>);

impl Opener for Door {
    fn open(&self, want: Want) -> Opening {
        let (answer, answered) = oneshot::channel();
        let asked = self.0.try_send((want, answer));
        Box::pin(async move {
            match asked {
                Ok(()) => answered
                    .await
                    .unwrap_or(Err(CloseReason::ConnectFailed(ErrorKind::BrokenPipe))),
                Err(_) => Err(CloseReason::ConnectFailed(ErrorKind::QuotaExceeded)),
            }
        })
    }
}

struct Link {
    path: PathBuf,
    streams: Streams,
    asked: mpsc::Receiver<(Want, Answer)>,
    /// Wants that wait for their answer.
    open: HashMap<u64, Waiting>,
    last: u64,
    room: Buffer,
}

struct Waiting {
    want: Want,
    answer: Answer,
    /// It was asked of a sps-tls that died. What outlives two of them may be what kills them.
    again: bool,
}

impl Link {
    async fn run(mut self) {
        let mut lost_at: Option<Instant> = None;
        loop {
            let connection = match self.connect().await {
                Ok(connection) => connection,
                Err(_) => {
                    tokio::time::sleep(RECONNECT_WAIT).await;
                    continue;
                }
            };
            if let Some(at) = lost_at {
                tracing::info!(after = ?at.elapsed(), "connected to sps-tls again");
            }
            // Nothing of what a dead one was asked has been done. How long it is worth waiting for, the streams know. Dropped answers
            // are refusals: the next destination has its turn.
            for (_, waiting) in std::mem::take(&mut self.open) {
                if !waiting.again {
                    self.ask(&connection, waiting.want, waiting.answer, true);
                }
            }
            let why = self.converse(&connection).await;
            tracing::warn!(
                open = self.open.len(),
                "connection to sps-tls lost ({why}); trying again"
            );
            lost_at = Some(Instant::now());
        }
    }

    async fn connect(&self) -> io::Result<AsyncConnection> {
        let connection = Connection::connect(&self.path, Instant::now() + CONNECT_TIMEOUT)?;
        let connection = AsyncConnection::new(connection)?;
        let hello = frame::encode(&ToTls::Hello { version: VERSION }).map_err(io::Error::other)?;
        // The runtime knows only after a look that a new socket can be written.
        tokio::time::timeout(CONNECT_TIMEOUT, connection.send(&hello)).await??;
        Ok(connection)
    }

    /// Until the other end hangs up or cannot be understood.
    async fn converse(&mut self, connection: &AsyncConnection) -> &'static str {
        loop {
            tokio::select! {
                readable = connection.readable() => {
                    if readable.is_err() {
                        return "not readable";
                    }
                    if let Err(why) = self.take(connection) {
                        return why;
                    }
                    tokio::task::yield_now().await;
                }
                Some((want, answer)) = self.asked.recv() => self.ask(connection, want, answer, false),
            }
        }
    }

    fn ask(&mut self, connection: &AsyncConnection, want: Want, answer: Answer, again: bool) {
        self.open.retain(|_, waiting| !waiting.answer.is_closed());
        if answer.is_closed() {
            return;
        }
        self.last += 1;
        let connect = ToTls::Connect(Connect {
            id: self.last,
            remote: want.remote,
            source: want.source,
            name: want.name.to_string(),
            within_ms: u32::try_from(want.within.as_millis()).unwrap_or(u32::MAX),
        });
        match send(connection, &connect) {
            // It takes nothing: it hangs. Whoever asked need not wait for that.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                drop(answer.send(Err(CloseReason::ConnectFailed(error.kind()))));
            }
            // An error is that it has just died, which is noticed in a moment.
            Ok(()) | Err(_) => drop(self.open.insert(self.last, Waiting { want, answer, again })),
        }
    }

    fn take(&mut self, connection: &AsyncConnection) -> Result<(), &'static str> {
        for _ in 0..FRAMES_PER_TURN {
            let (len, descriptor) = match connection.try_recv_with(&mut self.room) {
                Ok((0, _)) => return Err("it hung up"),
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err("it cannot be read"),
            };
            match frame::decode(&self.room[..len]) {
                Ok(FromTls::Accepted(secured)) => self.accepted(secured, descriptor),
                Ok(FromTls::Connected { id, secured }) => {
                    if let Some(Waiting { answer, .. }) = self.open.remove(&id) {
                        let opened = stream(descriptor).map(|stream| Opened {
                            stream,
                            local: secured.local,
                        });
                        let _ = answer.send(opened.map_err(|error| CloseReason::ConnectFailed(error.kind())));
                    }
                }
                Ok(FromTls::Refused { id, why }) => {
                    if let Some(Waiting { answer, .. }) = self.open.remove(&id) {
                        let _ = answer.send(Err(reason(why)));
                    }
                }
                Err(_) => return Err("it is not understood"),
            }
        }
        Ok(())
    }

    fn accepted(&self, secured: Secured, descriptor: Option<OwnedFd>) {
        let (local, remote) = (secured.local, secured.remote);
        let taken = stream(descriptor).and_then(|stream| {
            let adopted = self.streams.adopt_secured(stream, local, remote, secured.names);
            adopted.map_err(io::Error::other)
        });
        if let Err(error) = taken
            && let Some(held_back) = ODD.pass()
        {
            tracing::warn!(%remote, held_back, %error, "a TLS connection could not be taken over");
        }
    }
}

fn send(connection: &AsyncConnection, message: &ToTls) -> io::Result<()> {
    let bytes = frame::encode(message).map_err(io::Error::other)?;
    connection.try_send(&bytes)
}

/// The stream that came with a message; without one this process has too many descriptors open.
fn stream(descriptor: Option<OwnedFd>) -> io::Result<UnixStream> {
    let descriptor = descriptor.ok_or_else(|| io::Error::other("its descriptor is missing: too many files open"))?;
    let stream = std::os::unix::net::UnixStream::from(descriptor);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

fn reason(why: Refusal) -> CloseReason {
    match why {
        Refusal::TimedOut => CloseReason::ConnectTimeout,
        Refusal::Unreachable => CloseReason::ConnectFailed(ErrorKind::HostUnreachable),
        Refusal::Handshake => CloseReason::ConnectFailed(ErrorKind::ConnectionAborted),
        Refusal::Name => CloseReason::ConnectFailed(ErrorKind::PermissionDenied),
        Refusal::Busy => CloseReason::ConnectFailed(ErrorKind::QuotaExceeded),
    }
}
