//! An address of record and its bindings as owned values, for those who change them.

use sps_wire::{Flow, Handling};
use std::net::SocketAddr;

/// Everything known about one address of record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AorRecord {
    /// The canonical, expanded address of record: the key.
    pub aor: Vec<u8>,
    /// The URI of To as it was received (§10.3 step 5 made [`AorRecord::aor`] of it).
    pub to_uri: Vec<u8>,
    /// Hash of the rules that made the key. When rules change, records with another hash are re-keyed.
    pub rules_hash: u64,
    /// Set by [`crate::RegistryWriter::put`].
    pub version: Version,
    /// In the order they were registered.
    pub bindings: Vec<Binding>,
}

/// Which change of a record is the newer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Seconds since 1970, wall clock.
    pub time: u64,
    /// Goes up by one with every change a member makes.
    pub counter: u64,
    /// The member of the farm that made the change.
    pub member: u16,
}

/// One contact of an address of record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The contact's URI as received, without angle brackets.
    pub contact: Vec<u8>,
    /// Preference in thousandths: 0 … 1000.
    pub q: u16,
    /// When it ends.
    pub expires: Expiry,
    /// Call-ID of the REGISTER that set it.
    pub call_id: Vec<u8>,
    /// CSeq number of that REGISTER.
    pub cseq: u32,
    /// Path values as received, top first (RFC 3327).
    pub path: Vec<Vec<u8>>,
    /// `+sip.instance` as received (RFC 5626 §4.1).
    pub instance_id: Option<Vec<u8>>,
    /// `reg-id` (RFC 5626 §4.2).
    pub reg_id: Option<u32>,
    /// What its owner wants done with requests for it (RFC 2543 §6.13).
    pub handling: Option<Handling>,
    /// The flow the REGISTER came by, to be used for requests back.
    pub flow: Option<Flow>,
    /// Where the REGISTER came from, as far as it differs from what it says of itself (RFC 3581 §4).
    pub received: Option<SocketAddr>,
    /// User-Agent of the REGISTER.
    pub user_agent: Option<Vec<u8>>,
    /// Who made it.
    pub kind: Kind,
}

impl Default for Binding {
    fn default() -> Self {
        Binding {
            contact: Vec::new(),
            q: 1000,
            expires: Expiry::Permanent,
            call_id: Vec::new(),
            cseq: 0,
            path: Vec::new(),
            instance_id: None,
            reg_id: None,
            handling: None,
            flow: None,
            received: None,
            user_agent: None,
            kind: Kind::Dynamic,
        }
    }
}

/// When a binding ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expiry {
    /// At this second since 1970, wall clock; the binding is gone from that second on.
    At(u64),
    /// Never.
    Permanent,
}

impl Expiry {
    /// Whether it is over at `now` (seconds since 1970).
    pub fn is_past(self, now: u64) -> bool {
        matches!(self, Expiry::At(at) if at <= now)
    }

    /// Seconds left at `now`: 0 if it is over, `None` if it never ends.
    pub fn left(self, now: u64) -> Option<u64> {
        match self {
            Expiry::At(at) => Some(at.saturating_sub(now)),
            Expiry::Permanent => None,
        }
    }
}

/// Who made a binding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A REGISTER.
    #[default]
    Dynamic,
    /// The operator.
    Static,
}
