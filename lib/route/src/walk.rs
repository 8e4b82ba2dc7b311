//! The destinations of one target, one after the other (RFC 3263 §4.3, RFC 3261 §16.6 step 7).
//!
//! An address literal is a destination at once; a name is a question, and only asked when its turn comes. Every
//! destination is tried once, none is one of our own sockets, and their number is bounded. Those that failed a moment ago
//! ([`DeadTargets`]) come last.

use crate::conf::Conf;
use crate::dead::DeadTargets;
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
        /// Of a SIPS URI: nothing but TLS will do.
        secure: bool,
        /// Whether NAPTR may be asked: for a URI, but not for the next hop of a static route, where SRV comes first.
        naptr: bool,
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
    /// The next hop has no destinations.
    Failed(Unresolved),
}

/// Why a name has no destinations, in rising order of what it says of the next try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unresolved {
    /// There is no such name, no such service, or none that we can reach.
    Absent,
    /// A name server failed, or too much is being asked already.
    Failed,
    /// No answer in time.
    Unanswered,
}

/// Walks the destinations of one target.
#[derive(Debug, Clone)]
pub struct Walk {
    flow: Option<Flow>,
    /// What [`Exhausted`] says about the flow.
    flow_given: bool,
    by_token: bool,
    hops: SmallVec<[NextHop; 1]>,
    /// The next of `hops` to look at.
    at: usize,
    /// Resolved and not yet given out, the next one last.
    ready: SmallVec<[Destination; 1]>,
    /// Dead a moment ago: tried when nothing else is left, in their order.
    postponed: Vec<Destination>,
    tried: SmallVec<[(Transport, SocketAddr); 2]>,
    waiting: Option<(Ticket, Instant)>,
    asked: u32,
    unresolved: Option<Unresolved>,
    /// What a name that does not exist means to the caller.
    absent_status: u16,
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

/// Why nothing is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// How many flows and destinations were given out.
    pub tried: usize,
    /// The only way was a flow.
    pub flow_alone: bool,
    /// The flow came from a token of ours in a Route, not from the registry.
    pub by_token: bool,
    /// A name gave no address: the most promising reason among all names.
    pub unresolved: Option<Unresolved>,
    /// The status when no name exists.
    pub absent_status: u16,
    /// A destination was one of our own sockets and was left out.
    pub ourselves: bool,
}

impl Exhausted {
    /// The status of a branch of which nothing could be sent; what was sent and failed has a status of its own.
    ///
    /// 430 when a flow token leads nowhere (RFC 5626 §5.3.1), 480 when the flow of a contact is dead, for which endpoints
    /// must not hear 430 (§11.5); 482 when the only destination was ourselves. RFC 3263 names no status for a name that cannot be
    /// resolved: one that does not exist is 404 where it is the domain that the caller asked for and 480 where it is a phone's
    /// contact; silence of the name servers is what 504 is for (RFC 3261 §21.5.5). Else 503 as if the transport had failed (§16.9;
    /// §16.7 step 6 turns it into 500 upstream).
    pub fn status(&self) -> u16 {
        match self {
            Exhausted {
                flow_alone: true,
                by_token: true,
                ..
            } => 430,
            Exhausted { flow_alone: true, .. } => 480,
            Exhausted {
                tried: 0,
                ourselves: true,
                unresolved: None,
                ..
            } => 482,
            Exhausted {
                tried: 0,
                unresolved: Some(Unresolved::Absent),
                absent_status,
                ..
            } => *absent_status,
            Exhausted {
                tried: 0,
                unresolved: Some(Unresolved::Unanswered),
                ..
            } => 504,
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
            flow_given: flow.is_some(),
            by_token: false,
            hops,
            at: 0,
            ready: SmallVec::new(),
            postponed: Vec::new(),
            tried: SmallVec::new(),
            waiting: None,
            asked: 0,
            unresolved: None,
            absent_status: 503,
            ourselves: false,
        }
    }

    /// The same with the status that a name which does not exist is answered by.
    pub fn with_absent_status(self, absent_status: u16) -> Walk {
        Walk { absent_status, ..self }
    }

    /// The same for a flow that a token of ours names.
    pub fn by_token(flow: Flow) -> Walk {
        Walk {
            by_token: true,
            ..Walk::start(Some(flow), SmallVec::new())
        }
    }

    /// The next thing to do. Call it first, after each destination that failed (transport error, timeout, 503), with
    /// each answer, and at the deadline of an open question.
    pub fn step(&mut self, now: Instant, answer: Option<Answer>, conf: &Conf, dead: &DeadTargets) -> WalkStep {
        if let Some(flow) = self.flow.take() {
            self.tried.push((flow.transport, flow.remote));
            return WalkStep::Flow(flow);
        }
        if let Some((ticket, deadline)) = self.waiting {
            match answer {
                Some(answer) if answer.ticket == ticket => self.on_answer(answer.resolved, conf),
                _ if now >= deadline => self.on_answer(Resolved::Failed(Unresolved::Unanswered), conf),
                _ => return WalkStep::Wait(deadline),
            }
        }
        loop {
            while let Some(destination) = self.ready.pop() {
                if !self.is_new(&destination, conf) {
                    continue;
                }
                if dead.is_dead(now, &destination) {
                    self.postponed.push(destination);
                    continue;
                }
                self.tried.push((destination.transport, destination.addr));
                return WalkStep::Destination(destination);
            }
            if self.tried.len() >= MAX_DESTINATIONS {
                return WalkStep::Exhausted(self.exhausted());
            }
            if self.at == self.hops.len() {
                if self.postponed.is_empty() {
                    return WalkStep::Exhausted(self.exhausted());
                }
                let destination = self.postponed.remove(0);
                self.tried.push((destination.transport, destination.addr));
                return WalkStep::Destination(destination);
            }
            let hop = &self.hops[self.at];
            match &hop.host {
                Host::Addr(addr) => {
                    let destination = literal(*addr, hop.port, hop.fixed_transport(), conf, None);
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
                            secure: hop.secure,
                            naptr: hop.route_id.is_none(),
                        },
                        deadline: now + conf.question_timeout,
                    };
                    self.waiting = Some((ask.ticket, ask.deadline));
                    return WalkStep::Ask(ask);
                }
                Host::Name(_) => {
                    self.unresolved = self.unresolved.max(Some(Unresolved::Failed));
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
                    .extend(all.map(|addr| literal(addr, hop.port, hop.fixed_transport(), conf, name)));
            }
            Resolved::Failed(reason) => self.unresolved = self.unresolved.max(Some(reason)),
        }
        if self.ready.is_empty() {
            self.unresolved = self.unresolved.max(Some(Unresolved::Absent));
        }
        self.ready.reverse();
    }

    fn is_new(&mut self, destination: &Destination, conf: &Conf) -> bool {
        let ours = conf.is_own_socket(destination.addr);
        self.ourselves |= ours;
        let known = |known: &Destination| (known.transport, known.addr) == (destination.transport, destination.addr);
        !ours
            && !self.tried.contains(&(destination.transport, destination.addr))
            && !self.postponed.iter().any(known)
            && self.postponed.len() < MAX_DESTINATIONS
    }

    fn exhausted(&self) -> Exhausted {
        Exhausted {
            tried: self.tried.len(),
            flow_alone: self.flow_given && self.tried.len() == 1,
            by_token: self.by_token,
            unresolved: self.unresolved,
            absent_status: self.absent_status,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::OwnSocket;
    use std::time::Duration;

    fn conf() -> Conf {
        let own = OwnSocket {
            host: Host::parse("192.0.2.1").unwrap(),
            port: 5060,
            transport: Transport::Udp,
        };
        Conf::new("example.com").with_own(own)
    }

    fn hop(text: &str, transport: Option<Transport>) -> NextHop {
        let hop: crate::HopAddress = text.parse().unwrap();
        NextHop {
            host: hop.host,
            port: hop.port,
            transport,
            secure: false,
            route_id: Some(u64::from(hop.port.unwrap_or(0))),
        }
    }

    fn walk(hops: &[&str]) -> Walk {
        Walk::start(None, hops.iter().map(|text| hop(text, None)).collect())
    }

    /// Walks to the end; every name has these addresses.
    fn all(walk: Walk, addresses: &[&str]) -> (Vec<String>, Exhausted) {
        all_but(walk, addresses, &DeadTargets::default())
    }

    fn all_but(mut walk: Walk, addresses: &[&str], dead: &DeadTargets) -> (Vec<String>, Exhausted) {
        let (now, conf) = (Instant::now(), conf());
        let (mut found, mut answer) = (Vec::new(), None);
        loop {
            match walk.step(now, answer.take(), &conf, dead) {
                WalkStep::Flow(flow) => found.push(format!("flow {}", flow.remote)),
                WalkStep::Destination(to) => found.push(format!("{}/{}", to.addr, to.transport.as_str())),
                WalkStep::Ask(ask) => {
                    let resolved = Resolved::Addresses(addresses.iter().map(|text| text.parse().unwrap()).collect());
                    answer = Some(Answer {
                        ticket: ask.ticket,
                        resolved,
                    });
                }
                WalkStep::Exhausted(exhausted) => return (found, exhausted),
                WalkStep::Wait(_) => panic!("there is no open question"),
            }
        }
    }

    #[test]
    fn literals_need_no_question_and_have_their_defaults() {
        let hops = [
            hop("203.0.113.1", None),
            hop("203.0.113.2:5070", Some(Transport::Tcp)),
            hop("[::2]", Some(Transport::Tls)),
        ];
        let (found, exhausted) = all(Walk::start(None, hops.into_iter().collect()), &[]);
        assert_eq!(
            found,
            ["203.0.113.1:5060/udp", "203.0.113.2:5070/tcp", "[::2]:5061/tls"]
        );
        assert_eq!((exhausted.tried, exhausted.status()), (3, 503));
    }

    #[test]
    fn a_name_is_asked_only_when_its_turn_comes() {
        let (now, conf) = (Instant::now(), conf());
        let mut walk = walk(&["203.0.113.1", "gw.example.org:5070"]);
        assert!(matches!(
            walk.step(now, None, &conf, &DeadTargets::default()),
            WalkStep::Destination(_)
        ));
        let WalkStep::Ask(ask) = walk.step(now, None, &conf, &DeadTargets::default()) else {
            panic!()
        };
        let Question::Resolve {
            host,
            port,
            transport,
            secure,
            naptr,
        } = ask.question;
        assert_eq!((&*host, port, transport), ("gw.example.org", Some(5070), None));
        assert_eq!((secure, naptr), (false, false), "a static route asks for SRV first");
        assert_eq!(ask.deadline, now + conf.question_timeout);
        assert_eq!(
            walk.step(now, None, &conf, &DeadTargets::default()),
            WalkStep::Wait(ask.deadline)
        );
        let answer = Answer {
            ticket: ask.ticket,
            resolved: Resolved::Addresses(vec!["203.0.113.9".parse().unwrap()]),
        };
        let WalkStep::Destination(to) = walk.step(now, Some(answer), &conf, &DeadTargets::default()) else {
            panic!()
        };
        assert_eq!(to.addr, "203.0.113.9:5070".parse().unwrap());
        assert_eq!(walk.route_id(), Some(5070));
    }

    #[test]
    fn every_destination_is_tried_once_in_the_order_of_the_answer() {
        let (found, _) = all(
            walk(&["gw.example.org", "203.0.113.8", "gw2.example.org"]),
            &["203.0.113.9", "203.0.113.8"],
        );
        assert_eq!(found, ["203.0.113.9:5060/udp", "203.0.113.8:5060/udp"]);
    }

    /// RFC 3263 §4.3: last, not never; among themselves in their order, and behind other next hops too.
    #[test]
    fn what_failed_a_moment_ago_is_tried_last() {
        let now = Instant::now();
        let mut dead = DeadTargets::default();
        for addr in ["203.0.113.1:5060", "203.0.113.9:5060"] {
            let to = Destination {
                transport: Transport::Udp,
                addr: addr.parse().unwrap(),
                tls_name: None,
            };
            dead.bury(now, &to, Duration::from_secs(30), false);
        }
        let hops = ["203.0.113.1", "gw.example.org", "203.0.113.3", "203.0.113.9"];
        let (found, exhausted) = all_but(walk(&hops), &["203.0.113.9", "203.0.113.8"], &dead);
        assert_eq!(
            found,
            [
                "203.0.113.8:5060/udp",
                "203.0.113.3:5060/udp",
                "203.0.113.1:5060/udp",
                "203.0.113.9:5060/udp"
            ]
        );
        assert_eq!(exhausted.tried, 4);
        assert_eq!(all_but(walk(&["203.0.113.1"]), &[], &dead).0.len(), 1, "the only one");
    }

    #[test]
    fn a_name_without_addresses_has_its_status() {
        let (now, conf, dead) = (Instant::now(), conf(), DeadTargets::default());
        let status = |reason: Unresolved| {
            let mut walk = walk(&["a.example.org"]).with_absent_status(404);
            let WalkStep::Ask(ask) = walk.step(now, None, &conf, &dead) else {
                panic!()
            };
            let answer = Answer {
                ticket: ask.ticket,
                resolved: Resolved::Failed(reason),
            };
            match walk.step(now, Some(answer), &conf, &dead) {
                WalkStep::Exhausted(exhausted) => exhausted.status(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(status(Unresolved::Absent), 404);
        assert_eq!(status(Unresolved::Failed), 503);
        assert_eq!(status(Unresolved::Unanswered), 504);
    }

    #[test]
    fn our_own_sockets_are_left_out() {
        let (found, exhausted) = all(walk(&["gw.example.org", "192.0.2.1"]), &["192.0.2.1"]);
        assert!(found.is_empty());
        assert_eq!((exhausted.status(), exhausted.ourselves), (482, true));
        let (found, _) = all(walk(&["192.0.2.1:5070"]), &[]);
        assert_eq!(
            found,
            ["192.0.2.1:5070/udp"],
            "another program on our machine is not us"
        );
    }

    #[test]
    fn no_answer_in_time_is_no_address_and_a_late_one_is_ignored() {
        let (now, conf) = (Instant::now(), conf());
        let mut walk = walk(&["a.example.org", "b.example.org"]);
        let WalkStep::Ask(first) = walk.step(now, None, &conf, &DeadTargets::default()) else {
            panic!()
        };
        let WalkStep::Ask(second) = walk.step(first.deadline, None, &conf, &DeadTargets::default()) else {
            panic!()
        };
        assert_ne!(first.ticket, second.ticket);
        let late = Answer {
            ticket: first.ticket,
            resolved: Resolved::Addresses(vec!["203.0.113.1".parse().unwrap()]),
        };
        assert_eq!(
            walk.step(first.deadline, Some(late), &conf, &DeadTargets::default()),
            WalkStep::Wait(second.deadline)
        );
        let failed = Answer {
            ticket: second.ticket,
            resolved: Resolved::Failed(Unresolved::Absent),
        };
        let end = walk.step(
            first.deadline + Duration::from_millis(1),
            Some(failed),
            &conf,
            &DeadTargets::default(),
        );
        let WalkStep::Exhausted(exhausted) = end else {
            panic!("{end:?}")
        };
        assert_eq!(
            (exhausted.status(), exhausted.unresolved, exhausted.tried),
            (504, Some(Unresolved::Unanswered), 0),
            "one name may still exist"
        );
    }

    #[test]
    fn the_certificate_must_bear_the_name_that_was_asked_for() {
        let conf = conf();
        let mut walk = Walk::start(None, smallvec::smallvec![hop("gw.example.org", Some(Transport::Tls))]);
        let WalkStep::Ask(ask) = walk.step(Instant::now(), None, &conf, &DeadTargets::default()) else {
            panic!()
        };
        let answer = Answer {
            ticket: ask.ticket,
            resolved: Resolved::Addresses(vec!["203.0.113.1".parse().unwrap()]),
        };
        let WalkStep::Destination(to) = walk.step(Instant::now(), Some(answer), &conf, &DeadTargets::default()) else {
            panic!()
        };
        assert_eq!((to.tls_name.as_deref(), to.addr.port()), (Some("gw.example.org"), 5061));
    }

    #[test]
    fn the_number_of_destinations_and_questions_is_bounded() {
        let many: Vec<String> = (0..200).map(|n| format!("10.0.0.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(all(walk(&["gw.example.org"]), &many).0.len(), MAX_DESTINATIONS);
        assert_eq!(all(walk(&many), &[]).0.len(), MAX_DESTINATIONS);
        let names: Vec<String> = (0..200).map(|n| format!("gw{n}.example.org")).collect();
        let (found, exhausted) = all(walk(&names.iter().map(String::as_str).collect::<Vec<_>>()), &[]);
        assert!(found.is_empty() && exhausted.unresolved.is_some());
    }

    #[test]
    fn a_flow_comes_first() {
        let remote = "203.0.113.7:40000".parse().unwrap();
        let flow = Flow {
            member: 0,
            transport: Transport::Tcp,
            local: remote,
            remote,
            connection: 1,
        };
        let walk = Walk::start(
            Some(flow),
            smallvec::smallvec![hop("203.0.113.7:5060", Some(Transport::Tcp))],
        );
        assert_eq!(all(walk, &[]).0, ["flow 203.0.113.7:40000", "203.0.113.7:5060/tcp"]);
        assert_eq!(all(Walk::start(Some(flow), SmallVec::new()), &[]).1.status(), 480);
        assert_eq!(all(Walk::by_token(flow), &[]).1.status(), 430);
    }
}
