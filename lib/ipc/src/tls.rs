//! `sps-proxy` and `sps-tls`: TLS connections as plain streams.
//!
//! Each proxy worker keeps one connection to `run/gen-N/tls.sock` and speaks first: [`ToTls::Hello`]; another [`crate::VERSION`] is
//! hung up on. From then on each frame is one message.
//!
//! *Inwards* `sps-tls` accepts and shakes hands, then says [`FromTls::Accepted`] to one worker after the other, with one end of a
//! Unix stream as descriptor: what the worker reads there the peer has sent, what it writes the peer gets. Nothing is answered. A
//! worker that takes none for [`HAND_OVER_TIMEOUT`] loses its turn; when none does, the connection is closed.
//!
//! *Outwards* the worker says [`ToTls::Connect`] and gets exactly one [`FromTls::Connected`] with such a stream, or
//! [`FromTls::Refused`], within [`Connect::within_ms`]. Not more than [`WINDOW`] may be open. The worker waits a second longer than
//! that, also for an `sps-tls` that is being started again, and counts it as a destination that failed.
//!
//! Either end closes a stream as it would a TCP connection; half of it may be closed. When `sps-tls` dies its streams end.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Connects of one worker that may be open at a time.
pub const WINDOW: usize = 1024;

/// How long a worker may take to accept a connection that is handed over.
pub const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(1);

/// Between two tries to reach an `sps-tls` that went away.
pub const RECONNECT_WAIT: Duration = Duration::from_millis(50);

/// Names of one peer that are told; a certificate for more is a web farm's.
pub const MAX_NAMES: usize = 64;

/// What a worker says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToTls {
    /// First.
    Hello {
        /// [`crate::VERSION`].
        version: u16,
    },
    /// Open a connection.
    Connect(Connect),
}

/// A connection wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connect {
    /// Chosen by the worker, unique among its open ones.
    pub id: u64,
    /// Where to.
    pub remote: SocketAddr,
    /// Where from; unset: as the system likes.
    pub source: Option<IpAddr>,
    /// What the certificate must bear (RFC 5922): a host name, or an address without brackets.
    pub name: String,
    /// Milliseconds that all of it may take.
    pub within_ms: u32,
}

/// What `sps-tls` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromTls {
    /// A peer has connected. Comes with a descriptor.
    Accepted(Secured),
    /// A connection that was wanted is open. Comes with a descriptor.
    Connected {
        /// Of the [`Connect`].
        id: u64,
        /// What came of it.
        secured: Secured,
    },
    /// It could not be opened; the error log of `sps-tls` says more.
    Refused {
        /// Of the [`Connect`].
        id: u64,
        /// Why.
        why: Refusal,
    },
}

/// A TLS connection that stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secured {
    /// Numbers the connections of one `sps-tls`.
    pub connection: u64,
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
    /// The SIP domain identities of the peer's certificate (RFC 5922 §7.1), in lower case, and addresses; its chain has been verified.
    /// Unset when the peer showed none, or need not prove anything.
    pub names: Option<Vec<String>>,
    /// `TLS_AES_128_GCM_SHA256` and so on; the name tells the version too.
    pub cipher: String,
}

/// Why a connection was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// Nobody listens there, or the way is blocked.
    Unreachable,
    /// Not in time.
    TimedOut,
    /// No TLS came about: versions, certificates.
    Handshake,
    /// The certificate is good, and another's.
    Name,
    /// Too many are open.
    Busy,
}
