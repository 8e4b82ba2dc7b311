//! All stream connections of one worker: accepting, connecting, framing, queues, timeouts, caps.
//!
//! [`Streams`] is the worker's hand (cheap to clone, stays on the worker), [`StreamEvents`] its ear. Each connection is one
//! local task. A connection is known by the 64-bit id in [`Flow::connection`], unique in the process and carrying the
//! worker's number ([`worker_of`]), so that any worker can tell whose connection a flow token means.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use bytes::Bytes;
use sps_wire::Limits;
use sps_wire::flow::{Destination, Flow, Transport};
use sps_wire::frame::FrameError;
use tokio::io::{AsyncRead, AsyncWrite};

/// Bounds and times of a worker's streams.
#[derive(Debug, Clone)]
pub struct StreamConf {
    /// Member number put into flows.
    pub member: u16,
    /// Worker number put into connection ids.
    pub worker: u16,
    /// Low 48 bits of the first connection id, minus one. Give a value that no earlier generation reached (see
    /// [`first_connection_now`]), so that a flow token that outlived its connection meets none.
    pub first_connection: u64,
    /// Most connections in all. The last eighth is kept for connections we open ourselves.
    pub max_connections: usize,
    /// Most accepted connections from one address (IPv6: from one /64).
    pub max_connections_per_source: usize,
    /// Most bytes waiting in one connection's write queue.
    pub write_queue_len: usize,
    /// A connection without a byte in either direction for so long is closed.
    pub idle_timeout: Duration,
    /// A message that has begun must be complete within this time, else the connection is closed.
    pub header_timeout: Duration,
    /// How long a connection may take to be opened.
    pub connect_timeout: Duration,
    /// Bytes that wait to be written and do not get fewer for so long close the connection.
    pub write_timeout: Duration,
    /// Messages that may wait for the worker before connections are no longer read.
    pub event_queue: usize,
    /// Limits of one message.
    pub limits: Limits,
}

impl Default for StreamConf {
    fn default() -> Self {
        StreamConf {
            member: 0,
            worker: 0,
            first_connection: first_connection_now(),
            max_connections: 8192,
            max_connections_per_source: 1024,
            write_queue_len: 512 * 1024,
            idle_timeout: Duration::from_secs(900),
            header_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(3),
            write_timeout: Duration::from_secs(32),
            event_queue: 1024,
            limits: Limits::default(),
        }
    }
}

/// A start for [`StreamConf::first_connection`] taken from the wall clock: seconds in the upper bits, so that a new
/// generation never repeats an id unless 65,536 connections were made in every second since.
pub fn first_connection_now() -> u64 {
    let seconds = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    (seconds & 0xffff_ffff) << 16
}

/// The worker whose connection this id (from [`Flow::connection`]) is.
pub fn worker_of(connection: u64) -> u16 {
    (connection >> 48) as u16
}

/// What happened on a worker's streams. In order for each connection.
#[derive(Debug)]
pub enum StreamEvent {
    /// A connection is open: accepted, handed over, or (`outgoing`) opened by a send.
    Opened {
        /// Its flow.
        flow: Flow,
        /// We opened it.
        outgoing: bool,
    },
    /// One whole message.
    Message {
        /// Where it came from.
        flow: Flow,
        /// Start line to end of body.
        bytes: Bytes,
    },
    /// The peer's bytes are no SIP any more (no Content-Length, too long, …). Nothing further is read; what the worker still
    /// sends is written, then, within a second, the connection is closed.
    Broken {
        /// Where it came from.
        flow: Flow,
        /// What is wrong.
        error: FrameError,
        /// What there is of the message, for an answer if the needed header fields are in it.
        bytes: Bytes,
    },
    /// A connection that was `Opened` is gone. Every message that did not leave was told by `SendFailed` before.
    Closed {
        /// Its flow.
        flow: Flow,
        /// Why.
        reason: CloseReason,
    },
    /// Messages that did not leave, because their connection could not be opened or was lost.
    SendFailed {
        /// The connection's id as [`Streams::send_to`] gave it.
        connection: u64,
        /// Where they were to go.
        transport: Transport,
        /// Where they were to go.
        remote: SocketAddr,
        /// The tokens of the messages, in the order of sending.
        tokens: Vec<u64>,
        /// Why.
        reason: CloseReason,
    },
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer closed it.
    Peer,
    /// The peer's bytes could not be framed.
    Broken(FrameError),
    /// Nothing moved for `idle_timeout`.
    Idle,
    /// A message was begun and not finished within `header_timeout`.
    HeaderTimeout,
    /// The peer did not take our bytes for `write_timeout`.
    WriteTimeout,
    /// It was not opened within `connect_timeout`.
    ConnectTimeout,
    /// Opening it failed (refused, unreachable, …).
    ConnectFailed(io::ErrorKind),
    /// Reading or writing failed.
    Failed(io::ErrorKind),
    /// [`Streams::close`] or [`Streams::close_all`].
    Ours,
}

/// Why a message was not queued. Nothing else will be heard of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No such connection (any more).
    #[error("no such connection")]
    NoConnection,
    /// The connection's write queue is full.
    #[error("write queue full")]
    QueueFull,
    /// No further connection may be opened.
    #[error("too many connections")]
    TooManyConnections,
    /// A transport that has no streams here.
    #[error("transport not available")]
    NoTransport,
}

/// Figures of a worker's streams; all but `open` and `connecting` only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamCounters {
    /// Connections open now.
    pub open: u64,
    /// Connections being opened now.
    pub connecting: u64,
    /// Connections accepted or handed over.
    pub accepted: u64,
    /// Connections opened by us.
    pub connected: u64,
    /// Connections that could not be opened.
    pub connect_failed: u64,
    /// Connections refused because there were `max_connections`.
    pub refused_total: u64,
    /// Connections refused because one source had its share.
    pub refused_source: u64,
    /// `accept` failures of our own machine (out of descriptors, …).
    pub accept_errors: u64,
    /// Messages received.
    pub messages_in: u64,
    /// Messages written whole.
    pub messages_out: u64,
    /// Messages that were queued and did not leave.
    pub messages_lost: u64,
    /// Messages refused because a write queue was full.
    pub queue_full: u64,
    /// Keep-alives answered.
    pub keepalives: u64,
    /// Connections closed as idle.
    pub idle_closed: u64,
    /// Connections closed because a message did not become complete in time.
    pub header_timeouts: u64,
    /// Connections closed because the peer took no bytes.
    pub write_timeouts: u64,
    /// Connections closed because framing was lost.
    pub broken: u64,
}

/// A worker's streams. Clones are the same thing.
#[derive(Clone)]
pub struct Streams {}

/// Where a worker's stream events come out.
pub struct StreamEvents {}

impl Streams {
    /// Makes an empty set of streams and its event queue.
    pub fn new(conf: StreamConf) -> (Streams, StreamEvents) {
        let _ = conf;
        unimplemented!()
    }

    /// Accepts from a bound and listening socket from now on. Must be called inside the worker's `LocalSet`.
    ///
    /// # Errors
    /// What the reactor said.
    pub fn listen(&self, listener: TcpListener) -> io::Result<()> {
        let _ = listener;
        unimplemented!()
    }

    /// Takes an open stream over, such as one that `sps-tls` hands on. Must be called inside the worker's `LocalSet`.
    ///
    /// # Errors
    /// [`SendError::TooManyConnections`]; the stream is dropped.
    pub fn adopt<S>(
        &self,
        stream: S,
        transport: Transport,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<Flow, SendError>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let _ = (stream, transport, local, remote);
        unimplemented!()
    }

    /// Queues a message on an existing connection. `token` comes back in [`StreamEvent::SendFailed`] if it does not leave.
    ///
    /// # Errors
    /// [`SendError::NoConnection`] if the connection is gone (try [`send_to`](Self::send_to)), [`SendError::QueueFull`].
    pub fn send_on(&self, flow: &Flow, bytes: Bytes, token: u64) -> Result<(), SendError> {
        let _ = (flow, bytes, token);
        unimplemented!()
    }

    /// Queues a message to a destination: on a connection that leads there (accepted ones included), else on a new one, which
    /// is opened from `source` if that is given. Returns the connection's id. Must be called inside the worker's `LocalSet`.
    ///
    /// # Errors
    /// [`SendError::QueueFull`], [`SendError::TooManyConnections`], [`SendError::NoTransport`]. What fails later comes as an event.
    pub fn send_to(
        &self,
        destination: &Destination,
        source: Option<IpAddr>,
        bytes: Bytes,
        token: u64,
    ) -> Result<u64, SendError> {
        let _ = (destination, source, bytes, token);
        unimplemented!()
    }

    /// Whether the connection is open.
    pub fn is_open(&self, connection: u64) -> bool {
        let _ = connection;
        unimplemented!()
    }

    /// Closes a connection once its queue is written (within a second). Unknown ids are ignored.
    pub fn close(&self, connection: u64) {
        let _ = connection;
        unimplemented!()
    }

    /// Stops accepting and closes all connections as [`close`](Self::close) does.
    pub fn close_all(&self) {
        unimplemented!()
    }

    /// The figures.
    pub fn counters(&self) -> StreamCounters {
        unimplemented!()
    }
}

impl StreamEvents {
    /// Waits for events and appends up to `limit` of them to `events`. May be dropped and asked again at any time.
    pub async fn receive(&mut self, events: &mut Vec<StreamEvent>, limit: usize) {
        let _ = (events, limit);
        unimplemented!()
    }

    /// Appends what is there now, without waiting. Returns how many.
    pub fn take(&mut self, events: &mut Vec<StreamEvent>, limit: usize) -> usize {
        let _ = (events, limit);
        unimplemented!()
    }
}
