//! What a worker hears of its streams.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use sps_wire::flow::{Flow, Transport};
use sps_wire::frame::FrameError;

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
        /// The connection's id as [`Streams::send_to`](super::Streams::send_to) gave it.
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
    /// All connections together held `buffered_len` bytes, or a newer connection took its place.
    Crowded,
    /// It was not opened within `connect_timeout`.
    ConnectTimeout,
    /// Opening it failed (refused, unreachable, …).
    ConnectFailed(io::ErrorKind),
    /// Reading or writing failed.
    Failed(io::ErrorKind),
    /// [`Streams::close`](super::Streams::close) or [`Streams::close_all`](super::Streams::close_all).
    Ours,
}

/// Why a message was not queued. Nothing else will be heard of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No such connection (any more).
    #[error("no such connection")]
    NoConnection,
    /// The source of the connection is not welcome.
    #[error("not welcome")]
    Unwelcome,
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
