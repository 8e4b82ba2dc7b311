//! `spsctl registration` to `sps-registrar`, over `run/gen-N/registrar.ctl`.
//!
//! The asker sends a [`Request`] a frame and gets one [`Reply`] for each, in order; [`crate::ask::Asker`] does it. Long lists go by
//! pages of at most [`MAX_PAGE`] records, each with the cursor of the next. Nothing within [`REPLY_TIMEOUT`]: the asker gives up and
//! says that the registrar does not answer; a change may have been made all the same, and repeating it is harmless.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long the asker waits for a reply.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// AOR records in one page; fewer when they are so big that the frame is full.
pub const MAX_PAGE: u16 = 100;

/// Conversations at a time; further ones are closed.
pub const MAX_CONVERSATIONS: usize = 16;

/// What an operator may ask. The sender's rights come from the kernel ([`crate::Peer::may_order`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The first, or another, page of all AORs. Answered by [`Reply::Page`].
    List {
        /// [`Reply::Page`]'s `next`; 0 for the first page.
        cursor: u64,
        /// Records wanted, at most [`MAX_PAGE`].
        limit: u16,
    },
    /// One AOR. Answered by [`Reply::Page`] with one record or none.
    Show {
        /// As the operator wrote it (`sip:` may be left out).
        aor: String,
    },
    /// A new binding, or another expiry and q for one that exists. Answered by [`Reply::Done`].
    Add {
        /// As the operator wrote it.
        aor: String,
        /// The contact's URI.
        contact: String,
        /// How long.
        lifetime: Lifetime,
        /// Thousandths, 0 to 1000.
        q: u16,
    },
    /// One contact of an AOR, or all of them. Answered by [`Reply::Done`].
    Remove {
        /// As the operator wrote it.
        aor: String,
        /// Unset: all.
        contact: Option<String>,
    },
}

/// How long a binding is to last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lifetime {
    /// Seconds from now.
    Seconds(u32),
    /// As the configuration says for a REGISTER without a wish.
    Default,
    /// Static: until an operator removes it, over every restart.
    Permanent,
}

/// What the registrar answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Some records.
    Page {
        /// In the file's order.
        records: Vec<Record>,
        /// Where the next page begins; unset after the last.
        next: Option<u64>,
    },
    /// The change is made and survives the death of any process.
    Done {
        /// Bindings changed; 0 when it was so already.
        changed: u32,
    },
    /// Nothing was changed.
    Refused {
        /// Exit code for the tool, after sysexits(3).
        code: u8,
        /// Why.
        reason: String,
    },
}

/// One AOR with its bindings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The canonical AOR.
    pub aor: String,
    /// By falling q.
    pub bindings: Vec<Binding>,
}

/// One binding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The contact's URI as received.
    pub contact: String,
    /// Thousandths.
    pub q: u16,
    /// Seconds left; unset for a static one.
    pub expires_in_s: Option<u32>,
    /// Of the REGISTER that made it; empty for one made by an operator.
    pub call_id: String,
    /// Of the same.
    pub cseq: u32,
    /// Path values as received (RFC 3327).
    pub path: Vec<String>,
    /// `udp 192.0.2.1:5060 -> 192.0.2.7:40000`; empty without a flow.
    pub flow: String,
    /// The instance-id (RFC 5626), or empty.
    pub instance_id: String,
    /// What the phone calls itself, or empty.
    pub user_agent: String,
}
