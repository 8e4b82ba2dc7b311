//! The destinations of one target, one after the other (RFC 3263 §4.3, RFC 3261 §16.6 step 7).
//!
//! An address literal is a destination at once; a name is a question, and only asked when its turn comes. Every destination is
//! tried once, none is one of our own sockets, and their number is bounded.

use crate::conf::Conf;
use crate::host::Host;
use crate::target::NextHop;
use smallvec::SmallVec;
use sps_wire::flow::{Destination, Flow, Transport};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

/// Ties an answer to its question. A late answer to an earlier question is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub u32);

/// A question with the moment after which no answer is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// To be given back with the answer.
    pub ticket: Ticket,
    /// What is wanted.
    pub question: Question,
    /// Step without an answer at this time: the stage then goes on with its fallback.
    pub deadline: Instant,
}

/// What routing may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Addresses of a host name (RFC 3263).
    Resolve {
        /// In lower case, without a trailing dot.
        host: Arc<str>,
        /// Given: A and AAAA only. `None`: SRV may be asked.
        port: Option<u16>,
        /// Given: no NAPTR.
        transport: Option<Transport>,
    },
}

/// An answer to the question with this ticket.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The ticket of the question.
    pub ticket: Ticket,
    /// What came out.
    pub resolved: Resolved,
}

/// Outcome of [`Question::Resolve`].
#[derive(Debug, Clone)]
pub enum Resolved {
    /// In the order they are to be tried; may be empty.
    Destinations(Vec<Destination>),
    /// Addresses only, port and transport as asked or by default.
    Addresses(Vec<IpAddr>),
    /// No such name, no answer in time, server failure: all the same here, the next hop has no destinations.
    Failed,
}

/// Walks the destinations of one target.
#[derive(Debug)]
pub struct Walk {
    flow: Option<Flow>,
    hops: SmallVec<[NextHop; 1]>,
    /// The next of `hops` to look at.
    at: usize,
    /// Resolved and not yet given out, the next one last.
    ready: SmallVec<[Destination; 1]>,
    tried: SmallVec<[(Transport, SocketAddr); 2]>,
    waiting: Option<(Ticket, Instant)>,
    asked: u32,
    unresolved: bool,
    ourselves: bool,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalkStep {
    /// Send along this flow.
    Flow(Flow),
    /// Send to this destination.
    Destination(Destination),
    /// Ask, and come back with the answer or at the deadline.
    Ask(Ask),
    /// The question asked before is still open; only given when stepped too early.
    Wait(Instant),
    /// Nothing left.
    Exhausted(Exhausted),
}

/// Why nothing is left: the status of a target for which nobody answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// How many flows and destinations were given out.
    pub tried: usize,
    /// A name gave no address.
    pub unresolved: bool,
    /// A destination was one of our own sockets and was left out.
    pub ourselves: bool,
}

impl Exhausted {
    /// The status this branch counts as: 408 when destinations were tried in vain, 482 when the only one was ourselves, else
    /// 503 as if the transport had failed (RFC 3261 §16.9; §16.7 step 6 turns it into 500 upstream).
    pub fn status(&self) -> u16 {
        match self {
            Exhausted { tried: 1.., .. } => 408,
            Exhausted {
                ourselves: true,
                unresolved: false,
                ..
            } => 482,
            _ => 503,
        }
    }
}

/// The most destinations tried for one target.
pub const MAX_DESTINATIONS: usize = 16;
/// The most names asked for one target.
pub const MAX_QUESTIONS: u32 = 8;

impl Walk {
    /// A walk over a flow, if there is one, and then the next hops in their order.
    pub fn start(flow: Option<Flow>, hops: SmallVec<[NextHop; 1]>) -> Walk {
        Walk {
            flow,
            hops,
            at: 0,
            ready: SmallVec::new(),
            tried: SmallVec::new(),
            waiting: None,
            asked: 0,
            unresolved: false,
            ourselves: false,
        }
    }

    /// The next thing to do. Call it first, after each destination that failed (transport error, timeout, 503), with each
    /// answer, and at the deadline of an open question.
    pub fn step(&mut self, now: Instant, answer: Option<Answer>, conf: &Conf) -> WalkStep {
        if let Some(flow) = self.flow.take() {
            self.tried.push((flow.transport, flow.remote));
            return WalkStep::Flow(flow);
        }
        if let Some((ticket, deadline)) = self.waiting {
            match answer {
                Some(answer) if answer.ticket == ticket => self.on_answer(answer.resolved, conf),
                _ if now >= deadline => self.on_answer(Resolved::Failed, conf),
                _ => return WalkStep::Wait(deadline),
            }
        }
        loop {
            while let Some(destination) = self.ready.pop() {
                if self.is_new(&destination, conf) {
                    self.tried.push((destination.transport, destination.addr));
                    return WalkStep::Destination(destination);
                }
            }
            if self.at == self.hops.len() || self.tried.len() >= MAX_DESTINATIONS {
                return WalkStep::Exhausted(self.exhausted());
            }
            let hop = &self.hops[self.at];
            match &hop.host {
                Host::Addr(addr) => {
                    let destination = literal(*addr, hop.port, hop.transport, conf, None);
                    self.at += 1;
                    self.ready.push(destination);
                }
                Host::Name(name) if self.asked < MAX_QUESTIONS => {
                    self.asked += 1;
                    let ask = Ask {
                        ticket: Ticket(self.asked),
                        question: Question::Resolve {
                            host: Arc::from(&**name),
                            port: hop.port,
                            transport: hop.transport,
                        },
                        deadline: now + conf.question_timeout,
                    };
                    self.waiting = Some((ask.ticket, ask.deadline));
                    return WalkStep::Ask(ask);
                }
                Host::Name(_) => {
                    self.unresolved = true;
                    self.at += 1;
                }
            }
        }
    }

    /// The static route behind the destination given out last, if one was.
    pub fn route_id(&self) -> Option<u64> {
        self.at
            .checked_sub(1)
            .and_then(|at| self.hops.get(at))
            .and_then(|hop| hop.route_id)
    }

    fn on_answer(&mut self, resolved: Resolved, conf: &Conf) {
        let hop = &self.hops[self.at];
        self.at += 1;
        self.waiting = None;
        match resolved {
            Resolved::Destinations(found) => self.ready.extend(found.into_iter().take(MAX_DESTINATIONS)),
            Resolved::Addresses(found) => {
                let name = match &hop.host {
                    Host::Name(name) => Some(&**name),
                    Host::Addr(_) => None,
                };
                let all = found.into_iter().take(MAX_DESTINATIONS);
                self.ready
                    .extend(all.map(|addr| literal(addr, hop.port, hop.transport, conf, name)));
            }
            Resolved::Failed => {}
        }
        self.unresolved |= self.ready.is_empty();
        self.ready.reverse();
    }

    fn is_new(&mut self, destination: &Destination, conf: &Conf) -> bool {
        let ours = conf.is_own_socket(destination.addr);
        self.ourselves |= ours;
        !ours && !self.tried.contains(&(destination.transport, destination.addr))
    }

    fn exhausted(&self) -> Exhausted {
        Exhausted {
            tried: self.tried.len(),
            unresolved: self.unresolved,
            ourselves: self.ourselves,
        }
    }
}

/// RFC 3263 §4.1 and §4.2 for an address: UDP unless said otherwise, and the transport's default port.
fn literal(
    addr: IpAddr,
    port: Option<u16>,
    transport: Option<Transport>,
    conf: &Conf,
    name: Option<&str>,
) -> Destination {
    let transport = transport.unwrap_or(conf.default_transport);
    let port = port.unwrap_or_else(|| transport.default_port());
    let tls_name = match (transport, name) {
        (Transport::Tls, Some(name)) => Some(Arc::from(name)),
        _ => None,
    };
    Destination {
        transport,
        addr: SocketAddr::new(addr, port),
        tls_name,
    }
}
