//! What the proxy core is told about itself: its listeners, names, keys and bounds. Frozen; a reload hands in a new one.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use sps_wire::flow::Transport;
use sps_wire::uri::Uri;

use super::mode::Mode;
use super::token::Keys;
use crate::overload::OverloadConf;
use crate::timers::TimerConf;

/// Everything the core decides by, besides the message itself.
#[derive(Debug, Clone)]
pub struct Conf {
    /// What is done with requests.
    pub mode: Mode,
    /// Whether the contacts of a 3xx are followed (§16.5, §16.7 step 4).
    pub recurse: bool,
    /// Member number in a farm; goes into flow tokens.
    pub member: u16,
    /// Generation of daemons, in every branch token.
    pub generation: u16,
    /// Which worker this core belongs to, in every branch token.
    pub worker: u8,
    /// Timers of RFC 3261 and Timer C.
    pub timers: TimerConf,
    /// Whether we stay on the path of dialogs (§16.6 step 4).
    pub record_route: bool,
    /// How targets of one target set are tried.
    pub fork: Fork,
    /// How long a destination may say nothing before the next one of its branch is tried, if there is one; `None`: as long as
    /// Timers B and F let it (RFC 3263 §4.3).
    pub next_hop_timeout: Option<Duration>,
    /// Bytes of the largest request that leaves by UDP where we have TCP (§18.1.1); 0: any.
    pub udp_max_request: usize,
    /// Sockets that messages come by and leave by.
    pub listeners: Vec<Listener>,
    /// Which URIs name this installation.
    pub ours: Ours,
    /// Installation secrets.
    pub keys: Keys,
    /// Server transactions at once; who is refused first when they become many is written down in `room.rs`.
    pub max_transactions: usize,
    /// RFC 5393 §5.3.3: branches of one request at once, here and further on; what a request without Max-Breadth gets.
    pub max_breadth: u16,
    /// Bytes that transactions may keep, messages and what is known of them; counts towards being full as transactions do.
    pub max_stored_len: usize,
    /// Targets of one request at most; the rest of the target set is left out, worst q first.
    pub max_targets: usize,
    /// Who gets nothing answered by us: neither the registrar nor OPTIONS.
    pub denies: Denies,
    /// Whether REGISTER for our domains is answered by the registrar behind us.
    pub registrar: bool,
    /// Begins nothing new: requests outside dialogs get 503 with Retry-After (RFC 3261 §21.5.4, design: only while draining).
    pub draining: bool,
    /// What happens when there is more to do than can be done.
    pub overload: Overload,
}

/// Overload control: our own, and that of RFC 7339 with our neighbours.
#[derive(Debug, Clone, Default)]
pub struct Overload {
    /// When we refuse.
    pub control: OverloadConf,
    /// Whose word about himself we take: that he sheds load by himself, that a request has priority.
    pub trusts: Trusts,
    /// Whether we tell neighbours how much to hold back, and hold back what they ask for (RFC 7339).
    pub feedback: bool,
}

/// Tells whether a source belongs to somebody the operator knows.
#[derive(Clone)]
pub struct Trusts(pub Arc<dyn Fn(IpAddr) -> bool + Send + Sync>);

impl Default for Trusts {
    /// Nobody.
    fn default() -> Self {
        Trusts(Arc::new(|_| false))
    }
}

impl fmt::Debug for Trusts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trusts")
    }
}

/// Tells whether a source is denied everything by the operator.
#[derive(Clone)]
pub struct Denies(pub Arc<dyn Fn(IpAddr) -> bool + Send + Sync>);

impl Default for Denies {
    /// Nobody.
    fn default() -> Self {
        Denies(Arc::new(|_| false))
    }
}

impl fmt::Debug for Denies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Denies")
    }
}

/// How targets of one target set are tried (§16.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    /// All that share the highest q at once, then the next lower q.
    Parallel,
    /// One after the other, in order of q.
    Sequential,
}

/// One socket messages come by and leave by.
#[derive(Debug, Clone)]
pub struct Listener {
    /// What it speaks.
    pub transport: Transport,
    /// Where it is bound; the address may be a wildcard.
    pub addr: SocketAddr,
    /// Host and port that Via and Record-Route say: `192.0.2.1:5060`, `[2001:db8::1]:5060` or an advertised name.
    pub sent_by: String,
}

/// Tells whether a URI names this installation: a domain it serves, an address it listens on, a name it advertises. Routing
/// asks the same question, so the answer is handed in and not worked out twice.
#[derive(Clone)]
pub struct Ours(pub Arc<dyn Fn(&Uri<'_>) -> bool + Send + Sync>);

impl fmt::Debug for Ours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ours")
    }
}

impl Conf {
    /// The listener by which a new message leaves towards `remote`: the first of that transport and address family.
    pub fn listener_towards(&self, transport: Transport, remote: &SocketAddr) -> Option<usize> {
        self.listeners
            .iter()
            .position(|l| l.transport == transport && l.addr.is_ipv4() == remote.is_ipv4())
    }

    /// The listener whose socket has the address `local`; a wildcard one serves every address of its port.
    pub fn listener_at(&self, transport: Transport, local: &SocketAddr) -> Option<usize> {
        let serves = |l: &&Listener| {
            l.transport == transport && l.addr.is_ipv4() == local.is_ipv4() && l.addr.port() == local.port()
        };
        let exact = self
            .listeners
            .iter()
            .position(|l| serves(&l) && l.addr.ip() == local.ip());
        exact.or_else(|| {
            self.listeners
                .iter()
                .position(|l| serves(&l) && l.addr.ip().is_unspecified())
        })
    }
}
