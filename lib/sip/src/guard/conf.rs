//! What the guard is told.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Rates;

/// Budgets of one source for each second, and what follows when they are passed. Ten seconds' worth may come at once.
#[derive(Debug, Clone)]
pub struct GuardConf {
    /// Whether sources are judged at all. The operator's bans hold either way.
    pub enabled: bool,
    /// Sources that are never banned.
    pub friends: Friends,
    /// Messages that cannot be read.
    pub malformed_per_s: f32,
    /// Requests that we refuse.
    pub refused_per_s: f32,
    /// Responses that nobody waits for.
    pub stray_per_s: f32,
    /// Requests that begin a transaction, and connections.
    pub new_per_s: f32,
    /// Responses of our own making to an unknown source whose address may be forged.
    pub answers_per_s: f32,
    /// How long the first ban lasts; zero: excess is dropped, nobody banned.
    pub ban_for: Duration,
    /// How long a ban can become: each in a row is twice as long as the one before.
    pub max_ban_for: Duration,
    /// Sources remembered.
    pub sources: usize,
}

/// Tells whether the operator vouches for a source: listed as a friend, or let through gateways by an access rule.
#[derive(Clone)]
pub struct Friends(pub Arc<dyn Fn(IpAddr) -> bool + Send + Sync>);

impl fmt::Debug for Friends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Friends")
    }
}

impl GuardConf {
    /// A guard that judges nobody.
    pub fn off() -> GuardConf {
        GuardConf {
            enabled: false,
            ..GuardConf::default()
        }
    }

    /// In the order of [`Kind`], answers last.
    pub(super) fn rates(&self) -> Rates {
        [
            self.malformed_per_s,
            self.refused_per_s,
            self.stray_per_s,
            self.new_per_s,
            self.answers_per_s,
        ]
    }

    /// Places of the table.
    pub(super) fn places(&self) -> usize {
        if self.enabled { self.sources } else { 0 }
    }
}

impl Default for GuardConf {
    fn default() -> GuardConf {
        GuardConf {
            enabled: true,
            friends: Friends(Arc::new(|_| false)),
            malformed_per_s: 10.0,
            refused_per_s: 20.0,
            stray_per_s: 50.0,
            new_per_s: 500.0,
            answers_per_s: 50.0,
            ban_for: Duration::from_secs(60),
            max_ban_for: Duration::from_secs(3600),
            sources: 65_536,
        }
    }
}
