//! The target set (RFC 3261 §16.5): where copies of the request go, best first.

use crate::host::Host;
use crate::trace::Stage;
use crate::walk::Walk;
use smallvec::SmallVec;
use sps_wire::flow::{Flow, Transport};
use std::fmt;

/// Bytes of a URI, inline up to the usual length.
pub type UriBytes = SmallVec<[u8; 88]>;

/// Targets in order of descending q; targets of equal q may be tried at once (§16.6).
pub type TargetSet = SmallVec<[Target; 1]>;

/// One URI the request may go to, with all that is needed to find its destinations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The new Request-URI.
    pub uri: UriBytes,
    /// Preference in thousandths, 0 to 1000.
    pub q: u16,
    /// Route header values to put in front, top one first; mostly empty.
    pub path: Vec<Box<[u8]>>,
    /// Send along this flow. With a UDP flow it is the only way; with a dead stream `next_hops` say what else may be
    /// tried.
    pub flow: Option<Flow>,
    /// Next hops in the order they are to be tried: priority and weight are already applied.
    pub next_hops: SmallVec<[NextHop; 1]>,
    /// The stage that decided, for the access log.
    pub stage: Stage,
    /// The sender is told this URI instead of the request being forwarded to it.
    pub redirect: bool,
    /// The message and the configuration, static routes included, alone led here, and what is tried first is an address
    /// that takes datagrams: no registration, no name, no connection, and no route in reserve. A repetition of the request
    /// is led here too, so that it can be forwarded without remembering it (RFC 3261 §16.11).
    pub steady: bool,
}

impl Target {
    /// A target that its stage sends the request to as it stands.
    pub(crate) fn forward(uri: &[u8], next_hops: SmallVec<[NextHop; 1]>, stage: Stage) -> Target {
        Target {
            uri: UriBytes::from_slice(uri),
            q: MAX_Q,
            path: Vec::new(),
            flow: None,
            next_hops,
            stage,
            redirect: false,
            steady: false,
        }
    }

    /// A place to send the caller to.
    pub(crate) fn redirect(uri: UriBytes, q: u16, stage: Stage) -> Target {
        Target {
            q,
            redirect: true,
            ..Target::forward(&uri, SmallVec::new(), stage)
        }
    }

    /// Starts the walk over this target's destinations, taking its next hops.
    pub fn take_walk(&mut self) -> Walk {
        match self.flow {
            Some(flow) if self.stage == Stage::Flow => Walk::by_token(flow),
            flow => {
                // What a name that does not exist says to the caller: that the domain asked for is nowhere, that this phone cannot be
                // reached now; a route that leads nowhere is a fault of this server.
                let absent_status = match self.stage {
                    Stage::Dns => 404,
                    Stage::Registry => 480,
                    _ => 503,
                };
                Walk::start(flow, std::mem::take(&mut self.next_hops)).with_absent_status(absent_status)
            }
        }
    }
}

/// q of a target that nobody gave one, in thousandths.
pub(crate) const MAX_Q: u16 = 1000;

/// A host to resolve (or not), with what is already decided about port and transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHop {
    /// Address or name.
    pub host: Host,
    /// `None`: SRV or the transport's default port.
    pub port: Option<u16>,
    /// `None`: NAPTR/SRV, else UDP or with `secure` TLS (RFC 3263 §4.1).
    pub transport: Option<Transport>,
    /// Of a SIPS URI: TLS, whatever records say (RFC 3261 §26.2.2).
    pub secure: bool,
    /// The static route it came from.
    pub route_id: Option<u64>,
}

impl NextHop {
    /// The transport as far as it is certain without DNS.
    pub fn fixed_transport(&self) -> Option<Transport> {
        if self.secure {
            Some(Transport::Tls)
        } else {
            self.transport
        }
    }
}

impl fmt::Display for Target {
    /// One line for people: the URI and the ways to it in the order of trying.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{} q={}.{:03}",
            if self.redirect { "redirect to " } else { "" },
            self.uri.escape_ascii(),
            self.q / 1000,
            self.q % 1000
        )?;
        for route in &self.path {
            write!(f, " route {}", route.escape_ascii())?;
        }
        let mut word = "by";
        if let Some(flow) = &self.flow {
            write!(f, " {word} flow {}/{}", flow.remote, flow.transport.as_str())?;
            word = "then";
        }
        for hop in &self.next_hops {
            write!(f, " {word} {hop}")?;
            word = "then";
        }
        write!(f, " stage={}", self.stage)
    }
}

impl fmt::Display for NextHop {
    /// `gw.example.com:5060/udp (route 7)`, without what is not decided.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        if let Some(transport) = self.fixed_transport() {
            write!(f, "/{}", transport.as_str())?;
        }
        match self.route_id {
            Some(id) => write!(f, " (route {id})"),
            None => Ok(()),
        }
    }
}
