//! The machine that decides who a request goes to and by which next hop (RFC 3261 §16.5 and §16.6 steps 6 and 7).
//!
//! Stages, in this order, each of which may end the routing:
//! 1. *request-uri*: a scheme we do not understand is 416, an unreadable URI 400.
//! 2. *access*: a listed source, an open proxy, or a request inside a dialog of ours may go anywhere. Others may only reach those
//!    who registered here: what would take them to a foreign domain or a gateway is 403.
//! 3. *flow*: a flow token of ours in the Route that was taken off leads back along that flow.
//! 4. *route-header*: a Route header that remains is the next hop; translation and next-hop stages are not asked.
//! 5. translation, if the Request-URI is ours: *registry*; without contacts there, the Request-URI itself.
//! 6. next hop of each contact: *number-route* where its host is ours; else *domain-route*, then *address* or *dns*.
//!
//! A contact at a domain of ours is looked up in the registry in its turn, instead of sending the request to ourselves.

mod next_hop;
mod translation;

use crate::bindings::Bindings;
use crate::conf::Conf;
use crate::number::Number;
use crate::route::RouteSet;
use crate::target::TargetSet;
use crate::trace::{Stage, Trace};
use crate::walk::{Answer, Ask};
use sps_wire::flow::Flow;
use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

/// What routing needs to know of a request. Built anew for each step from the message that the response context keeps.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// After strict-route repair (§16.4).
    pub request_uri: &'a [u8],
    /// As received.
    pub method: &'a [u8],
    /// The URI of From, for stages that depend on the caller.
    pub from_uri: &'a [u8],
    /// Where the request came from.
    pub source: SocketAddr,
    /// The URI of the top Route header that remains after §16.4.
    pub route: Option<&'a [u8]>,
    /// The request bore a Route of ours with a valid MAC.
    pub in_dialog: bool,
    /// The flow that our Route named, if it is alive.
    pub flow: Option<Flow>,
}

/// Lookups in the mapped files; they take no time worth waiting for. Implemented at the edge.
pub trait Tables {
    /// The routes of the most specific pattern for a number.
    fn number(&self, number: &Number, out: &mut RouteSet);
    /// The routes of the most specific domain for a host that is not ours: lower case, an IPv6 address in brackets.
    fn domain(&self, host: &str, out: &mut RouteSet);
    /// The live bindings of an AOR, given as [`Conf::canonical_aor`] writes it.
    fn registered(&self, aor: &[u8], out: &mut Bindings);
}

/// What a step of routing may use.
pub struct Surroundings<'a> {
    /// The configuration the request started with.
    pub conf: &'a Conf,
    /// Routes and registrations.
    pub tables: &'a dyn Tables,
    /// Uniformly distributed numbers.
    pub random: &'a mut dyn FnMut() -> u64,
    /// Who listens, if anybody does.
    pub trace: Option<&'a mut dyn Trace>,
}

impl Surroundings<'_> {
    pub(crate) fn note(&mut self, stage: Stage, finding: fmt::Arguments<'_>) {
        if let Some(trace) = &mut self.trace {
            trace.note(stage, finding);
        }
    }
}

/// What comes out of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Come back with the answer, or without one at the deadline.
    Ask(Ask),
    /// Send to these.
    Targets(TargetSet),
    /// Answer the request.
    Reply(Reply),
}

/// A final response that routing decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// 400 to 699.
    pub status: u16,
    /// `None`: the usual phrase of the status.
    pub reason: Option<&'static str>,
    /// The stage that decided, for the access log.
    pub stage: Stage,
}

/// Routing of one request.
#[derive(Debug, Default)]
pub struct Routing {}

impl Routing {
    /// Before the first step.
    pub fn start() -> Routing {
        Routing {}
    }

    /// Goes on until the decision is made or something has to be waited for.
    pub fn step(
        &mut self,
        now: Instant,
        facts: &Facts<'_>,
        answer: Option<Answer>,
        around: &mut Surroundings<'_>,
    ) -> Step {
        let _ = (now, facts, answer, around);
        unimplemented!()
    }
}
