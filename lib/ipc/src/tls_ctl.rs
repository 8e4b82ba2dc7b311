//! `spsctl` to `sps-tls`, over `run/gen-N/tls.ctl`.
//!
//! The asker sends a [`Request`] a frame and gets one [`Reply`] for each, in order; [`crate::ask::Asker`] does it. Nothing within
//! [`REPLY_TIMEOUT`]: the asker does without. Changes nothing.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long the asker waits for a reply.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// Conversations at a time; further ones are closed.
pub const MAX_CONVERSATIONS: usize = 8;

/// Peers in one reply.
pub const MAX_PAGE: usize = 100;

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Certificates and figures. Answered by [`Reply::State`].
    State,
    /// Connections, by number. Answered by [`Reply::Peers`].
    Peers {
        /// Those behind this number; 0 for the first page.
        after: u64,
    },
}

/// What `sps-tls` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Request::State`].
    State {
        /// In the order of the configuration.
        certificates: Vec<Certificate>,
        /// By name, in an order that stays.
        figures: Vec<(String, u64)>,
    },
    /// To [`Request::Peers`].
    Peers {
        /// At most [`MAX_PAGE`], by rising number.
        peers: Vec<Peer>,
        /// Whether there are more behind the last one.
        more: bool,
    },
}

/// One of our certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The file.
    pub file: String,
    /// Names that it is chosen by.
    pub names: Vec<String>,
    /// Seconds since 1970 at which it, or the first of its chain, expires.
    pub expires_at_s: i64,
}

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its number.
    pub connection: u64,
    /// Whether we opened it.
    pub outgoing: bool,
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
    /// What the peer has proved to be; unset when it showed no certificate, or need not prove anything.
    pub names: Option<Vec<String>>,
    /// The cipher suite.
    pub cipher: String,
    /// Seconds since it was opened.
    pub age_s: u64,
}
