//! `spsroute` and `spsctl` to `sps-proxy`, over `run/gen-N/proxy.ctl`.
//!
//! The asker sends a [`Request`] a frame and gets one [`Reply`] for each, in order; [`crate::ask::Asker`] does it. Nothing within
//! [`REPLY_TIMEOUT`]: the asker gives up and says so; all requests may be repeated.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long the asker waits for a reply. An explanation may ask name servers.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Conversations at a time; further ones are closed.
pub const MAX_CONVERSATIONS: usize = 16;

/// What may be asked. The sender's rights come from the kernel ([`crate::Peer::may_order`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Routes one made-up request, sends nothing, and tells every stage. Answered by [`Reply::Explained`].
    Explain {
        /// The Request-URI.
        uri: String,
        /// The From URI; unset: an anonymous one of ours.
        from: Option<String>,
        /// The method; unset: INVITE.
        method: Option<String>,
        /// Where it is to come from; unset: a source without rights of its own, on loopback.
        source: Option<SocketAddr>,
    },
    /// `routes.map` has a new version: answer [`Reply::Done`] when every worker routes by it.
    RoutesChanged {
        /// The database version that the map carries.
        version: u64,
    },
    /// Transactions and connections open now. Answered by [`Reply::Figures`].
    Figures,
    /// Whether the operator may ban this network (`ADDRESS/BITS`). [`Reply::Done`], or [`Reply::Refused`] with the reason: it is
    /// a friend.
    MayBan {
        /// The network.
        network: String,
    },
    /// The bans in `sps.db` have changed: answer [`Reply::Lifted`] when they are in force in every worker.
    BansChanged {
        /// End the bans of sources in this network that the guard began itself.
        lift: Option<String>,
    },
    /// Who is banned now, and how often that was felt. Answered by [`Reply::Bans`].
    Bans,
}

/// What the proxy answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// How a request would go.
    Explained {
        /// In the order in which they were passed.
        steps: Vec<Step>,
        /// One line a target, in the order of trying; empty when it is answered.
        targets: Vec<String>,
        /// What the asker would get instead: status and reason.
        answer: Option<(u16, String)>,
    },
    /// Done.
    Done,
    /// Done; so many bans of the guard's own making ended.
    Lifted(u32),
    /// Bans in force, those of the operator first, then those hit most; at most [`MAX_BANS`], and how many more there are.
    Bans(Vec<Ban>, u32),
    /// By name, in the proxy's order.
    Figures(Vec<(String, u64)>),
    /// Nothing was done.
    Refused {
        /// Exit code for the tool, after sysexits(3).
        code: u8,
        /// Why.
        reason: String,
    },
}

/// Bans in one reply.
pub const MAX_BANS: usize = 1_000;

/// One ban in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// `ADDRESS/BITS`.
    pub network: String,
    /// One word of the guard's; unset: the operator's, whose words are in `sps.db`.
    pub reason: Option<String>,
    /// Seconds ago.
    pub since_s: u64,
    /// Seconds to go; unset: until it is removed.
    pub left_s: Option<u64>,
    /// Messages and connections dropped.
    pub hits: u64,
    /// How often the source has been banned in a row.
    pub strikes: u8,
}

/// What one stage of routing said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name as in the access log.
    pub stage: String,
    /// What it found, and what follows from it.
    pub text: String,
    /// Microseconds it took.
    pub took_us: u64,
}
