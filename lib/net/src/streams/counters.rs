//! Figures.

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
    /// Connections refused because their source is not welcome.
    pub refused_unwelcome: u64,
    /// Connections of unknown sources closed to make room for newer ones.
    pub evicted: u64,
    /// Connections closed, and messages not queued, because all connections together held too many bytes.
    pub buffers_full: u64,
    /// Bytes that all connections hold now.
    pub buffered_len: u64,
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
