//! The machine that decides who a request goes to and by which next hop (RFC 3261 §16.5 and §16.6 steps 6 and 7).
//!
//! Stages, in this order, each of which may end the routing:
//! 1. *request-uri*: a scheme we do not understand is 416, an unreadable URI 400.
//! 2. *access*: a listed source, an open proxy, or a request inside a dialog of ours may go anywhere. Others may only
//!    reach those who registered here: what would take them to a foreign domain or a gateway is 403.
//! 3. *flow*: a flow token of ours in the Route that was taken off leads back along that flow.
//! 4. *route-header*: a Route header that remains is the next hop; translation and next-hop stages are not asked.
//! 5. translation, if the Request-URI is ours: *registry*; without contacts there, the Request-URI itself.
//! 6. next hop of each contact: *number-route* where its host is ours; else *domain-route*, then *address* or *dns*.
//!
//! Where the house redirects, or a binding asks for it, a target is not forwarded to but told to the caller ([`redirect`]); a
//! redirect server asks neither *flow* nor *route-header* about requests outside dialogs, and takes the Route for noise.
//!
//! A contact at a domain of ours is looked up in the registry in its turn, instead of sending the request to ourselves.

mod next_hop;
mod redirect;
mod translation;

use crate::bindings::Bindings;
use crate::conf::{Conf, Service};
use crate::host::Host;
use crate::number::Number;
use crate::route::RouteSet;
use crate::target::{MAX_Q, Target, TargetSet};
use crate::trace::{Stage, Trace};
use crate::walk::{Answer, Ask};
use smallvec::smallvec;
use sps_wire::Handling;
use sps_wire::flow::Flow;
use sps_wire::uri::{Scheme, Uri};
use std::fmt;
use std::net::SocketAddr;
use std::ops::ControlFlow;
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
    /// The routes of the most specific domain for a host that is not ours.
    fn domain(&self, host: &Host, out: &mut RouteSet);
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
    /// Room that is used again from request to request.
    pub scratch: &'a mut Scratch,
    /// Who listens, if anybody does.
    pub trace: Option<&'a mut dyn Trace>,
}

/// Room for lookups; keep one per thread.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) aor: Vec<u8>,
    pub(crate) bindings: Bindings,
    pub(crate) routes: RouteSet,
}

impl Surroundings<'_> {
    pub(crate) fn note(&mut self, stage: Stage, finding: fmt::Arguments<'_>) {
        if let Some(trace) = &mut self.trace {
            trace.note(stage, finding);
        }
    }
}

/// What comes out of a step.
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every step gives targets, and a box would be one allocation a call"
)]
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
///
/// Resumable: it may be dropped at any time, and a step starts where the last one ended. No stage of this version has
/// anything to ask; names are asked for by [`crate::Walk`] when their turn comes.
#[derive(Debug)]
pub struct Routing {
    at: At,
    /// May reach foreign domains and gateways.
    trusted: bool,
    /// Forwards whatever the mode of the house is.
    forwards: bool,
}

/// The stage that is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    RequestUri,
    Access,
    Flow,
    RouteHeader,
    Registry,
    /// Next hop of the Request-URI itself.
    NextHop(Translated),
}

/// What translation found out about a Request-URI that it has no contacts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Translated {
    /// The host is not ours.
    Foreign,
    /// It is, and the registry has a record without live bindings.
    Away,
    /// It is, and the registry knows nothing.
    Unknown,
}

/// What a stage gives: the stage after it, or the end.
type Found = ControlFlow<Step, At>;

impl Routing {
    /// Before the first step.
    pub fn start() -> Routing {
        Routing {
            at: At::RequestUri,
            trusted: false,
            forwards: false,
        }
    }

    /// The same for a request that is being forwarded already, and now to one more URI (§16.5, after a 3xx).
    pub fn onward() -> Routing {
        Routing {
            forwards: true,
            ..Routing::start()
        }
    }

    /// Goes on until the decision is made or something has to be waited for.
    pub fn step(
        &mut self,
        _now: Instant,
        facts: &Facts<'_>,
        _answer: Option<Answer>,
        around: &mut Surroundings<'_>,
    ) -> Step {
        let uri = match Uri::parse(facts.request_uri) {
            Ok(uri) => uri,
            Err(malformed) => {
                around.note(Stage::RequestUri, format_args!("unreadable: {malformed}"));
                return reply(400, Stage::RequestUri);
            }
        };
        let manner = Manner::of(facts, self.forwards, around.conf);
        loop {
            let found = match self.at {
                At::RequestUri if manner.service == Service::Registrar => refuse_service(around),
                At::RequestUri => check_scheme(&uri, around),
                At::Access => self.check_access(facts, around),
                At::Flow => follow_flow(facts, around),
                At::RouteHeader if manner.service == Service::Redirect => Found::Continue(At::Registry),
                At::RouteHeader => self.follow_route(facts, around),
                At::Registry => translation::by_registry(&uri, self.trusted, manner, around),
                At::NextHop(translated) => next_hop::of_request_uri(&uri, self.trusted, translated, manner, around),
            };
            match found {
                Found::Continue(at) => self.at = at,
                Found::Break(step) => return step,
            }
        }
    }

    fn check_access(&mut self, facts: &Facts<'_>, around: &mut Surroundings<'_>) -> Found {
        let source = facts.source.ip();
        let rule = around.conf.access_of(source).map(|rule| rule.allow);
        let (trusted, because) = match rule {
            // The other party of a dialog we set up may be anywhere, listed or not.
            _ if facts.in_dialog => (true, "inside a dialog of ours"),
            Some(true) => (true, "listed source"),
            Some(false) => {
                around.note(Stage::Access, format_args!("{source}: denied by [[access]]"));
                return Found::Break(reply(403, Stage::Access));
            }
            None if around.conf.open => (true, "open to everyone"),
            None => (false, "unlisted source, may reach registered users only"),
        };
        around.note(Stage::Access, format_args!("{source}: {because}"));
        self.trusted = trusted;
        Found::Continue(At::Flow)
    }

    fn follow_route(&mut self, facts: &Facts<'_>, around: &mut Surroundings<'_>) -> Found {
        let Some(route) = facts.route else {
            return Found::Continue(At::Registry);
        };
        let stage = Stage::RouteHeader;
        around.note(stage, format_args!("{}", Printed(route)));
        let Ok(uri) = Uri::parse(route) else {
            return Found::Break(reply(400, stage));
        };
        if !self.trusted {
            return Found::Break(next_hop::refuse(around));
        }
        // Those of ours were taken off: what is left would only lead back here.
        if around.conf.is_ours(&uri) {
            return Found::Break(reply(482, stage));
        }
        Found::Break(match next_hop::by_uri(&uri, around) {
            Some((hop, _)) => Step::Targets(smallvec![Target {
                steady: next_hop::is_steady(&hop, around),
                ..Target::forward(facts.request_uri, smallvec![hop], stage)
            }]),
            None => reply(500, stage),
        })
    }
}

/// What is done with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Manner {
    service: Service,
    /// Bindings may ask for something else.
    preferences: bool,
}

impl Manner {
    /// A dialog that was let through once is served to its end, whatever the house does today. ACK and CANCEL go where their
    /// INVITE has gone, and nobody can be redirected by an answer to them.
    fn of(facts: &Facts<'_>, forwards: bool, conf: &Conf) -> Manner {
        if forwards || facts.in_dialog || matches!(facts.method, b"ACK" | b"CANCEL") {
            return Manner {
                service: Service::Proxy,
                preferences: false,
            };
        }
        Manner {
            service: conf.service,
            preferences: conf.caller_preferences,
        }
    }

    /// Whether a contact with this wish is told to the caller.
    fn redirects(self, wish: Option<Handling>) -> bool {
        match wish.filter(|_| self.preferences) {
            Some(wish) => wish == Handling::Redirect,
            None => self.service == Service::Redirect,
        }
    }
}

/// RFC 3261 §8.2.1. The proxy core says so itself, before it asks where to; this is for who wants it explained.
fn refuse_service(around: &mut Surroundings<'_>) -> Found {
    around.note(Stage::RequestUri, format_args!("a registrar takes REGISTER only"));
    Found::Break(reply(405, Stage::RequestUri))
}

fn check_scheme(uri: &Uri<'_>, around: &mut Surroundings<'_>) -> Found {
    let is_known = match uri.scheme {
        Scheme::Sip | Scheme::Tel => true,
        Scheme::Sips => around.conf.tls,
        Scheme::Other(_) => false,
    };
    if !is_known {
        around.note(
            Stage::RequestUri,
            format_args!("{}: unsupported scheme", Printed(uri.text)),
        );
        return Found::Break(reply(416, Stage::RequestUri));
    }
    if around.trace.is_some() {
        let whose = if around.conf.is_ours(uri) { "ours" } else { "not ours" };
        around.note(Stage::RequestUri, format_args!("{}: {whose}", Printed(uri.text)));
    }
    Found::Continue(At::Access)
}

fn follow_flow(facts: &Facts<'_>, around: &mut Surroundings<'_>) -> Found {
    let Some(flow) = facts.flow else {
        return Found::Continue(At::RouteHeader);
    };
    around.note(Stage::Flow, format_args!("{}/{}", flow.remote, flow.transport.as_str()));
    Found::Break(Step::Targets(smallvec![Target {
        flow: Some(flow),
        steady: !flow.transport.is_reliable(),
        ..Target::forward(facts.request_uri, smallvec![], Stage::Flow)
    }]))
}

fn reply(status: u16, stage: Stage) -> Step {
    Step::Reply(Reply {
        status,
        reason: None,
        stage,
    })
}

/// Bytes from the network for a trace.
struct Printed<'a>(&'a [u8]);

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests;
