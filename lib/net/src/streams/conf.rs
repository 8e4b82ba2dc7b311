//! What bounds a worker's streams, and how connections are numbered.

use std::time::Duration;

use sps_wire::Limits;

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
    /// Most bytes that all connections may hold together: messages not whole yet, and messages not written yet.
    pub buffered_len: usize,
    /// A connection that somebody else opened and that brings no whole message for so long is closed.
    pub first_message_timeout: Duration,
    /// A connection without a byte in either direction for so long is closed.
    pub idle_timeout: Duration,
    /// A message that has begun must be complete within this time, else the connection is closed.
    pub header_timeout: Duration,
    /// How long a connection may take to be opened.
    pub connect_timeout: Duration,
    /// Bytes that wait to be written and do not get fewer for so long close the connection.
    pub write_timeout: Duration,
    /// Events that may wait for the worker before connections are no longer read and accepted.
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
            buffered_len: 256 << 20,
            first_message_timeout: Duration::from_secs(30),
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

/// The worker whose connection this id (from [`Flow::connection`](sps_wire::Flow::connection)) is.
pub fn worker_of(connection: u64) -> u16 {
    (connection >> 48) as u16
}
