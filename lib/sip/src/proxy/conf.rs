//! What the proxy core is told about itself: its listeners, names, keys and bounds. Frozen; a reload hands in a new one.

use std::net::{IpAddr, SocketAddr};

use sps_wire::flow::Transport;
use sps_wire::uri::Host;

use super::token::Keys;
use crate::timers::TimerConf;

/// Everything the core decides by, besides the message itself.
#[derive(Debug, Clone)]
pub struct Conf {
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
    /// Sockets that messages come by and leave by.
    pub listeners: Vec<Listener>,
    /// Domains this installation serves, lower case.
    pub domains: Vec<String>,
    /// Installation secrets.
    pub keys: Keys,
    /// Server transactions at once; over it a request gets 503 without Retry-After.
    pub max_transactions: usize,
    /// Targets of one request at most; the rest of the target set is left out, worst q first.
    pub max_targets: usize,
    /// Whether REGISTER for our domains is answered by the registrar behind us.
    pub registrar: bool,
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
    /// Advertised host, if it is a name; compared lower case.
    pub host: String,
    /// Advertised port.
    pub port: u16,
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

    /// Whether a URI's host and port name this installation: a domain it serves, a listener's address, or an advertised
    /// name. `local` is the address the request came to, which names us too behind a wildcard listener.
    pub fn is_ours(&self, host: &Host<'_>, port: Option<u16>, local: IpAddr) -> bool {
        let ip = match host {
            Host::V4(ip) => IpAddr::V4(*ip),
            Host::V6(ip) => IpAddr::V6(*ip),
            Host::Name(name) => {
                let name = name.strip_suffix(b".").unwrap_or(name);
                let same = |ours: &str| ours.as_bytes().eq_ignore_ascii_case(name);
                return self.domains.iter().any(|domain| same(domain))
                    && port.is_none_or(|port| self.listeners.iter().any(|l| l.port == port || l.addr.port() == port))
                    || self.listeners.iter().any(|l| same(&l.host) && self.port_fits(l, port));
            }
        };
        self.listeners.iter().any(|l| {
            self.port_fits(l, port)
                && (l.addr.ip() == ip
                    || l.addr.ip().is_unspecified() && ip == local
                    || l.host.trim_matches(['[', ']']).parse() == Ok(ip))
        })
    }

    fn port_fits(&self, listener: &Listener, port: Option<u16>) -> bool {
        let port = port.unwrap_or(listener.transport.default_port());
        port == listener.port || port == listener.addr.port()
    }
}
