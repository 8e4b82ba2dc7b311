//! The registrar core (RFC 3261 §10.3 with Path, RFC 3327), sans-IO: what a REGISTER asks, what becomes of an AOR's
//! bindings, and what is answered.
//!
//! Three steps, so that the edge can look things up and store them in between and allocates nothing in steady state:
//! [`Asked::read`] checks the request and makes the key of its AOR; [`decide`] takes the AOR's bindings and gives the new
//! ones, all of them or none; [`Answers`] writes the response, after the edge has stored the change. Bindings are borrowed
//! ([`Bound`]) from the stored record and from the request, whatever the store is.
//!
//! What the RFCs leave open is decided so:
//! - A contact that the operator registered permanently cannot be bound or removed by REGISTER: 403 with a Warning that says
//!   so. `*` removes all the others.
//! - More contacts than allowed: 403, since repeating the request would not help.
//! - An outdated CSeq: 500, as a request out of order within a dialog gets (§12.2.2). The same Call-ID and CSeq with the
//!   outcome that is stored already is a repetition and gets 200; the binding is not prolonged by it.
//! - Path without `Supported: path` gets 420, the policy RFC 3327 §5.3 recommends, unless configured otherwise. `outbound` (RFC 5626) is not offered, its
//!   instance-id and reg-id are kept for those who read them.
//! - Departs from §8.2.2.2: a REGISTER that comes twice by two ways is not refused with 482. It has one Call-ID and one CSeq,
//!   so the second is a repetition of the first and changes nothing.
//! - Departs from §8.2.3: a body is not looked at and never a reason for 415, since it has no say in what is bound, and phones
//!   are out there that send one.
//! - Departs from §10.3: steps 3 and 4 are missing, nobody is authenticated. Who can reach the registrar can register.
//! - The flow a REGISTER came by is kept for requests back only if it leads to the contact (see [`leads_to`]).

mod answer;
mod ask;
mod date;
mod decide;
mod flow;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use smallvec::SmallVec;
use sps_wire::{Flow, Handling, Q};

pub use answer::{Answers, Setting};
pub use ask::{Asked, Wish, Wishes};
pub use date::write_date;
pub use decide::{Decision, decide};
pub use flow::leads_to;

/// What a REGISTER may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conf {
    /// Shorter wishes get 423, in seconds. Has no effect on wishes of an hour and more (§10.3 step 7).
    pub min_expires_s: u32,
    /// Longer wishes are cut to this, in seconds.
    pub max_expires_s: u32,
    /// For requests without a wish, in seconds.
    pub default_expires_s: u32,
    /// Bindings of one AOR, permanent ones included.
    pub max_contacts: usize,
    /// Whether Path is taken from a REGISTER that does not say `Supported: path`, instead of 420 (RFC 3327 §5.3).
    pub path_without_support: bool,
    /// Whether the `action` parameter is obeyed.
    pub caller_preferences: bool,
    /// Who warns, in Warning headers (§20.43): our domain.
    pub host: String,
}

/// Path values, top first.
pub type Path<'a> = SmallVec<[&'a [u8]; 2]>;

/// The bindings of one AOR.
pub type Bindings<'a> = SmallVec<[Bound<'a>; 2]>;

/// One binding, borrowed from wherever it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound<'a> {
    /// The URI as received, without angle brackets.
    pub contact: &'a [u8],
    /// Preference.
    pub q: Q,
    /// When it ends.
    pub expires: Expiry,
    /// Call-ID of the REGISTER that set it; empty for one made by an operator.
    pub call_id: &'a [u8],
    /// CSeq number of that REGISTER.
    pub cseq: u32,
    /// Path values as received (RFC 3327).
    pub path: Path<'a>,
    /// The value of `+sip.instance`, without its quotes (RFC 5626 §4.1).
    pub instance_id: Option<&'a [u8]>,
    /// `reg-id` (RFC 5626 §4.2).
    pub reg_id: Option<u32>,
    /// The `action` parameter: what its owner wants done with requests for it (RFC 2543 §6.13).
    pub handling: Option<Handling>,
    /// The flow for requests back.
    pub flow: Option<Flow>,
    /// Where the REGISTER came from, if that flow is kept and the contact says otherwise.
    pub received: Option<SocketAddr>,
    /// User-Agent of the REGISTER.
    pub user_agent: Option<&'a [u8]>,
}

/// When a binding ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// From this second since 1970 on it is gone.
    At(u64),
    /// Never: made by the operator.
    Permanent,
}

impl Bound<'_> {
    /// Whether it is over at `now`, seconds since 1970.
    pub fn is_past(&self, now: u64) -> bool {
        matches!(self.expires, Expiry::At(at) if at <= now)
    }

    /// Whether the operator made it, for ever.
    pub fn is_permanent(&self) -> bool {
        self.expires == Expiry::Permanent
    }
}

/// Why a REGISTER is not carried out: the response it gets. Borrows from nothing, so that the record may be changed meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status} {reason}")]
pub struct Refusal {
    /// 400 to 599.
    pub status: u16,
    /// Reason phrase.
    pub reason: &'static str,
    /// The header that goes with it.
    pub with: With,
}

/// What a refusal says besides its status line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum With {
    /// Nothing.
    Nothing,
    /// `Unsupported` with this list of option tags.
    Unsupported(Vec<u8>),
    /// `Min-Expires` in seconds.
    MinExpires(u32),
    /// `Warning` 399 with this text.
    Warning(&'static str),
    /// `Retry-After` in seconds.
    RetryAfter(u32),
    /// `Allow: REGISTER`.
    Allow,
}

impl Refusal {
    /// A refusal without further headers.
    pub fn new(status: u16, reason: &'static str) -> Self {
        Refusal {
            status,
            reason,
            with: With::Nothing,
        }
    }

    /// The store has no room for another binding.
    pub fn store_full() -> Self {
        Refusal {
            status: 500,
            reason: "Registry Full",
            with: With::RetryAfter(60),
        }
    }

    /// The record would be longer than the store takes.
    pub fn too_large() -> Self {
        Refusal::new(513, "Registration Too Large")
    }
}
