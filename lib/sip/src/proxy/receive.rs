//! A message has come: to which transaction it belongs, and if to none, whether it begins one (RFC 3261 §16.3 to §16.5, §17.2.3).

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;
use sps_wire::flow::Flow;
use sps_wire::uri::Uri;
use sps_wire::{Index, Message, Method, Name, Response, ViaStamp};

use super::check::{self, Refusal};
use super::context::{Active, Context, Fingerprint, RouteFacts, Server, Way};
use super::mode::Mode;
use super::room::{Rank, Taken};
use super::token::Travel;
use super::{Action, Clock, Finished, Journal, Leave, Proxy, Ticket, breadth, request_uri, room};
use crate::guard::Kind as Useless;
use crate::guard::Standing;
use crate::timers::TimerConf;
use crate::transaction::{InviteServer, NonInviteServer};

/// What SPS answers to OPTIONS about itself (§11.2). No Allow, but from a registrar alone: a proxy takes any method.
fn options_headers(mode: Mode) -> impl Iterator<Item = (&'static str, &'static [u8])> {
    const OF_ALL: [(&str, &[u8]); 4] = [
        ("Accept", b"*/*"),
        ("Accept-Encoding", b"*"),
        ("Accept-Language", b"*"),
        ("Supported", b"path"),
    ];
    OF_ALL.into_iter().chain(mode.allow().map(|methods| ("Allow", methods)))
}

/// A request that belongs to no transaction and passed all checks.
struct Fresh {
    fingerprint: Option<u128>,
    reply: Flow,
    route: RouteFacts,
    loop_hash: u64,
    asks_for_feedback: bool,
    breadth: u16,
    kind: Kind,
    duty: Duty,
    stranger: bool,
}

#[expect(
    clippy::large_enum_variant,
    reason = "lives for one call; boxing it would allocate for every request"
)]
enum Sorted {
    /// Nothing more to do.
    Done,
    /// Another worker's.
    Elsewhere(u8),
    /// It begins a transaction.
    Fresh(Fresh),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Invite,
    Ack,
    /// Of something that was forwarded without state.
    Cancel,
    Other,
}

/// Who answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Duty {
    Route,
    Registrar,
    Ourselves,
}

impl<W, J: Journal> Proxy<W, J> {
    /// One message as framed by the transport, and the flow it came by.
    ///
    /// Gives the worker whose message it is if that is another one: nothing was done then, and it must be handed there.
    pub fn on_message(&mut self, clock: Clock, flow: Flow, bytes: &[u8], todo: &mut Vec<Action>) -> Option<u8> {
        if !self.guard.borrow_mut().admit(clock.now, flow.remote.ip()) {
            return None;
        }
        if !self.hears(flow, bytes) {
            return None;
        }
        let mut index = self.indexes.pop().unwrap_or_default();
        let sorted = match sps_wire::parse(bytes, &mut index, &self.limits) {
            Ok(message) if flow.transport.is_reliable() && !message.has(Name::ContentLength) => {
                self.refuse_unframed(clock, flow, message, todo);
                Sorted::Done
            }
            Ok(message) if message.is_request() => self.sort(clock, flow, message, todo),
            Ok(message) => self
                .on_response(clock, flow, message, todo)
                .map_or(Sorted::Done, Sorted::Elsewhere),
            Err(error) => {
                self.refuse_unreadable(clock, flow, bytes, &index, error, todo);
                Sorted::Done
            }
        };
        match sorted {
            Sorted::Fresh(fresh) => {
                self.begin(clock, flow, bytes, index, fresh, todo);
                None
            }
            Sorted::Done => {
                self.indexes.push(index);
                None
            }
            Sorted::Elsewhere(worker) => {
                self.indexes.push(index);
                Some(worker)
            }
        }
    }

    /// Finds the transaction a request belongs to, or that it begins one.
    fn sort(&mut self, clock: Clock, flow: Flow, message: Message<'_>, todo: &mut Vec<Action>) -> Sorted {
        let Some(method) = message.method() else {
            return Sorted::Done;
        };
        let Some(reply) = reply_flow(flow, message) else {
            self.counters.garbage += 1;
            let refusal = Refusal::new(400, "Malformed Via");
            self.refuse(clock, flow, likely_reply_flow(flow, message), message, &refusal, todo);
            return Sorted::Done;
        };
        let fingerprint = match method {
            // §17.2.3, §9.2: an ACK and a CANCEL carry the branch of what they are about.
            Method::Ack | Method::Cancel => check::fingerprint(&self.conf, message, b"INVITE"),
            other => check::fingerprint(&self.conf, message, other.as_bytes()),
        };
        let mut known = None;
        let mut elsewhere = None;
        self.find(fingerprint, &mut known, &mut elsewhere);
        if known.is_none() && elsewhere.is_none() {
            match method {
                Method::Cancel => {
                    for other in CANCELLED_IN_VAIN {
                        self.find(
                            check::fingerprint(&self.conf, message, other.as_bytes()),
                            &mut known,
                            &mut elsewhere,
                        );
                    }
                }
                Method::Ack => self.find(
                    check::older_ack_fingerprint(&self.conf, message),
                    &mut known,
                    &mut elsewhere,
                ),
                _ => {}
            }
        }
        if let Some(worker) = elsewhere.filter(|_| known.is_none()) {
            return Sorted::Elsewhere(worker);
        }
        self.counters.requests += 1;
        // §16.10: a CANCEL that matches nothing may be about what was forwarded without state.
        if method == Method::Cancel && (known.is_some() || !self.has_forgotten) {
            self.on_cancel(clock, flow, reply, known, message, todo);
            return Sorted::Done;
        }
        if let Some(slot) = known {
            let serial = self.contexts.get(slot as usize).map_or(0, |context| context.serial);
            if !self.on_known(clock, Ticket { slot, serial }, method, todo) {
                return Sorted::Done;
            }
            // RFC 6026 §7.1: an ACK in Accepted acknowledges the 2xx and goes on to who sent that.
        }
        if method == Method::Ack
            && message
                .to()
                .is_ok_and(|to| to.tag() == Some(&check::stateless_tag(&self.conf, message)[..]))
        {
            // It acknowledges a response that we made and forgot.
            return Sorted::Done;
        }
        let begins = !matches!(method, Method::Ack | Method::Cancel);
        let asks_for_feedback = self.asks_for_feedback(message);
        if asks_for_feedback {
            let is_new = begins && message.to().is_ok_and(|to| to.tag().is_none());
            self.saying.count(is_new);
        }
        if begins && self.shed(clock, flow, reply, message, fingerprint, asks_for_feedback, todo) {
            return Sorted::Done;
        }
        if method != Method::Ack && self.is_denied(flow, message) {
            self.refuse_at(clock, flow, reply, message, &Refusal::plain(403), "access", todo);
            return Sorted::Done;
        }
        let loop_hash = check::loop_hash(&self.conf, message);
        let mut checked = check::check(message);
        if self.conf.mode.forwards() {
            checked = checked.and_then(|()| check::check_onward(&self.conf, message, &self.sent_by, loop_hash));
        }
        if let Err(refusal) = checked {
            self.counters.refused += 1;
            self.refuse(clock, flow, reply, message, &refusal, todo);
            return Sorted::Done;
        }
        let route = self.preprocess_route(flow, message);
        let duty = self.duty(method, message, &route);
        // What is forwarded is for routing to allow, which knows dialogs.
        if duty != Duty::Route && (self.conf.denies.0)(flow.remote.ip()) {
            self.counters.refused += 1;
            self.refuse(clock, flow, reply, message, &Refusal::plain(403), todo);
            return Sorted::Done;
        }
        let is_onward = duty == Duty::Route && self.is_onward(&route);
        if let Err(refusal) = check::check_as_server(message, duty == Duty::Ourselves, is_onward) {
            self.counters.refused += 1;
            self.refuse(clock, flow, reply, message, &refusal, todo);
            return Sorted::Done;
        }
        let rank = self.rank(clock, flow, message, &route);
        if rank != Rank::Dialog && method != Method::Cancel && !self.note(clock, flow, Useless::New) {
            return Sorted::Done;
        }
        if self.taken().is_full_for(rank, &self.conf) {
            self.refuse_for_room(clock, flow, reply, message, fingerprint, rank, todo);
            return Sorted::Done;
        }
        if self.conf.draining && begins && message.to().is_ok_and(|to| to.tag().is_none()) {
            let header = Some(("Retry-After", b"2".to_vec()));
            let refusal = Refusal {
                status: 503,
                reason: Some("Restarting"),
                header,
            };
            self.refuse(clock, flow, reply, message, &refusal, todo);
            return Sorted::Done;
        }
        let breadth = match breadth::incoming(message, &self.conf) {
            Ok(breadth) => breadth,
            Err(refusal) if is_onward => {
                self.counters.refused += 1;
                self.refuse(clock, flow, reply, message, &refusal, todo);
                return Sorted::Done;
            }
            // RFC 5393 §5.3.5: to who answers himself it says nothing.
            Err(_) => 0,
        };
        if !self.conf.mode.forwards() && !self.admits(clock, flow, reply, message, loop_hash, &route, duty, todo) {
            return Sorted::Done;
        }
        let fingerprint = fingerprint.filter(|_| begins);
        if let (Some(owners), Some(fingerprint)) = (&self.owners, fingerprint)
            && let Err(worker) = owners.claim(fingerprint, self.conf.worker)
        {
            // The same request came to another worker just now.
            return Sorted::Elsewhere(worker);
        }
        let kind = match method {
            Method::Invite => Kind::Invite,
            Method::Ack => Kind::Ack,
            Method::Cancel => Kind::Cancel,
            _ => Kind::Other,
        };
        Sorted::Fresh(Fresh {
            fingerprint,
            reply,
            route,
            loop_hash,
            asks_for_feedback,
            breadth,
            kind,
            duty,
            stranger: rank == Rank::Stranger,
        })
    }

    /// The operator wants nothing to do with the source. The other party of a dialog that we set up may be anywhere all the same.
    fn is_denied(&self, flow: Flow, message: Message<'_>) -> bool {
        (self.conf.denies.0)(flow.remote.ip())
            && !(message.has(Name::Route) && self.preprocess_route(flow, message).token.is_some())
    }

    /// What a request is worth, by what is known of who sent it.
    fn rank(&self, clock: Clock, flow: Flow, message: Message<'_>, route: &RouteFacts) -> Rank {
        if route.token.is_some() {
            self.prove(clock, flow);
            return Rank::Dialog;
        }
        match self.guard.borrow_mut().standing(clock.now, flow.remote.ip()) {
            Standing::Proven | Standing::Friend => return Rank::Known,
            Standing::Unknown => {}
        }
        if self.is_of_registered_phone(flow, message) {
            self.prove(clock, flow);
            return Rank::Known;
        }
        Rank::Stranger
    }

    fn taken(&self) -> Taken {
        Taken {
            transactions: self.contexts.len(),
            stored_len: self.stored_len,
        }
    }

    /// The table is too full for a request of that rank. An ACK, which nobody answers, is only dropped.
    #[allow(clippy::too_many_arguments)]
    fn refuse_for_room(
        &mut self,
        clock: Clock,
        flow: Flow,
        reply: Flow,
        message: Message<'_>,
        fingerprint: Option<u128>,
        rank: Rank,
        todo: &mut Vec<Action>,
    ) {
        match rank {
            Rank::Stranger => self.counters.full_unknown += 1,
            Rank::Known => self.counters.full_known += 1,
            Rank::Dialog => self.counters.full_dialog += 1,
        }
        if message.method() == Some(Method::Ack) {
            self.counters.stray_acks += 1;
        } else {
            self.refuse_as_overload(clock, flow, reply, message, fingerprint, todo);
        }
    }

    /// What a server that is no proxy turns away ([`Mode::turn_away`]), and what of a dialog that it serves on.
    #[allow(clippy::too_many_arguments)]
    fn admits(
        &mut self,
        clock: Clock,
        flow: Flow,
        reply: Flow,
        message: Message<'_>,
        loop_hash: u64,
        route: &RouteFacts,
        duty: Duty,
        todo: &mut Vec<Action>,
    ) -> bool {
        let method = message.method().unwrap_or(Method::Ack);
        let refusal = if duty != Duty::Route {
            None
        } else if route.token.is_some() {
            check::check_onward(&self.conf, message, &self.sent_by, loop_hash).err()
        } else if matches!(method, Method::Ack | Method::Cancel) {
            if !self.has_forgotten {
                self.counters.stray_acks += 1;
                return false;
            }
            check::check_onward(&self.conf, message, &self.sent_by, loop_hash).err()
        } else {
            self.conf.mode.turn_away(method, message)
        };
        let Some(refusal) = refusal else { return true };
        self.counters.refused += 1;
        self.refuse(clock, flow, reply, message, &refusal, todo);
        false
    }

    /// Whether a request that nobody here answers is forwarded for all we know before routing.
    fn is_onward(&self, route: &RouteFacts) -> bool {
        self.conf.mode.forwards() || route.token.is_some()
    }

    /// Looks for a transaction here and, if it is not here, among those of the other workers.
    fn find(&self, fingerprint: Option<u128>, known: &mut Option<u32>, elsewhere: &mut Option<u8>) {
        let Some(fingerprint) = fingerprint else { return };
        *known = known.or_else(|| self.matching.find(&self.contexts, Fingerprint::new(fingerprint)));
        if known.is_none()
            && let Some(owners) = &self.owners
        {
            *elsewhere = elsewhere.or_else(|| owners.owner(fingerprint).filter(|worker| *worker != self.conf.worker));
        }
    }

    /// A request that matches a server transaction. Gives whether it goes on as a request of its own.
    fn on_known(&mut self, clock: Clock, ticket: Ticket, method: Method<'_>, todo: &mut Vec<Action>) -> bool {
        let mut steps = std::mem::take(&mut self.server_steps);
        if let Some(context) = self.contexts.get_mut(ticket.slot as usize) {
            match &mut context.server {
                Server::Invite(machine) if method == Method::Ack => {
                    machine.on_ack(clock.now, &self.conf.timers, &mut steps)
                }
                Server::Invite(machine) => machine.on_retransmission(&mut steps),
                Server::Other(machine) => machine.on_retransmission(&mut steps),
                Server::Ack | Server::Deferred => {}
            }
        }
        if method != Method::Ack {
            self.counters.retransmissions += 1;
        }
        let goes_on = steps.contains(&crate::transaction::Action::Deliver);
        self.hold_back(clock, ticket, &mut steps);
        self.perform_server(ticket, &mut steps, todo);
        self.server_steps = steps;
        goes_on
    }

    /// Makes the server transaction and asks whoever must decide.
    fn begin(
        &mut self,
        clock: Clock,
        flow: Flow,
        bytes: &[u8],
        index: Box<Index>,
        fresh: Fresh,
        todo: &mut Vec<Action>,
    ) {
        let reliable = flow.transport.is_reliable();
        let serial = self.next_serial();
        // A CANCEL that comes this far belongs to no transaction and gets none.
        let deferred = fresh.kind != Kind::Ack
            && fresh.duty != Duty::Registrar
            && (self.conf.mode.defers() || fresh.kind == Kind::Cancel);
        let server = match fresh.kind {
            _ if deferred => Server::Deferred,
            Kind::Invite => Server::Invite(InviteServer::start(reliable)),
            Kind::Other | Kind::Cancel => Server::Other(NonInviteServer::start(reliable)),
            Kind::Ack => Server::Ack,
        };
        let active = Active {
            request: Bytes::copy_from_slice(bytes),
            index,
            flow,
            received_at: clock.now,
            received_ms: clock.unix_ms,
            kept_len: room::ACTIVE_LEN + bytes.len(),
            stranger: fresh.stranger,
            route: fresh.route,
            loop_hash: fresh.loop_hash,
            breadth: fresh.breadth,
            waiting: SmallVec::new(),
            branches: SmallVec::new(),
            best: None,
            challenges: Vec::new(),
            redirections: Vec::new(),
            alternatives: Vec::new(),
            stage: "",
            next: None,
            routing: fresh.duty == Duty::Route,
            cancelled: false,
            asks_for_feedback: fresh.asks_for_feedback,
            held_back: false,
            caller_cancelled: false,
            cancel_reason: Vec::new(),
        };
        self.stored_len += room::CONTEXT_LEN + active.kept_len;
        let slot = self.contexts.insert(Context {
            serial,
            fingerprint: fresh.fingerprint.map(Fingerprint::new),
            server,
            reply: Way::new(fresh.reply),
            wake_at: None,
            kept_len: 0,
            active: Some(Box::new(active)),
        }) as u32;
        if let Some(fingerprint) = fresh.fingerprint {
            self.matching
                .insert(&self.contexts, Fingerprint::new(fingerprint), slot);
        }
        let ticket = Ticket { slot, serial };
        if fresh.kind == Kind::Other && fresh.duty != Duty::Ourselves && !deferred {
            self.wake_context_at(ticket, clock.now + late_trying_wait(&self.conf.timers));
        }
        match fresh.duty {
            Duty::Route => {
                if fresh.kind == Kind::Invite && !deferred {
                    // §17.2.1: at once, since nobody knows how long routing will take.
                    self.respond(clock, ticket, &Response::new(100), todo);
                }
                todo.push(Action::Route(ticket));
            }
            Duty::Registrar => todo.push(Action::Serve(ticket)),
            Duty::Ourselves => {
                let headers: SmallVec<[_; 5]> = options_headers(self.conf.mode).collect();
                let response = Response {
                    extra: &headers,
                    ..Response::new(200)
                };
                self.set_stage(ticket, "self");
                self.respond(clock, ticket, &response, todo);
            }
        }
    }

    /// §16.4: takes our own Route off, repairs what a strict router did, and finds out whether the dialog is one we let through.
    pub(super) fn preprocess_route(&self, flow: Flow, message: Message<'_>) -> RouteFacts {
        let mut facts = RouteFacts::default();
        let mut checked = None;
        if message.has(Name::Route) {
            if let Some(uri) = message.request_uri().and_then(|uri| Uri::parse(uri).ok())
                && self.names_us(&uri)
                && let Some(found) = self.read_route_token(&uri, message)
            {
                // The Request-URI is what we wrote into Record-Route: the previous hop is a strict router and moved the
                // real Request-URI to the end of the route set.
                if let Some(Ok(last)) = message.routes().last() {
                    facts.request_uri = Some(Bytes::copy_from_slice(last.uri));
                    facts.last_route_moved = true;
                    checked = Some(found);
                }
            }
            for route in message.routes() {
                let Some(uri) = route.ok().and_then(|route| route.parse_uri().ok()) else {
                    break;
                };
                if facts.own_routes == MAX_OWN_ROUTES || !self.names_us(&uri) {
                    break;
                }
                facts.own_routes += 1;
                checked = checked.or_else(|| self.read_route_token(&uri, message));
            }
        }
        // §19.1.1 table 1, RFC 4475 §3.1.2.11: headers that came in a Request-URI go no further.
        if let Some(uri) = facts.request_uri.as_deref().or(message.request_uri())
            && let Some(stripped) = request_uri::without_forbidden(uri)
        {
            facts.request_uri = Some(stripped.into());
        }
        // Most have no parameter at all.
        let uri = facts.request_uri.as_deref().or(message.request_uri());
        if let Some(uri) = uri.filter(|uri| uri.contains(&b';'))
            && let Ok(uri) = Uri::parse(uri)
            && let Some(stripped) = request_uri::without_own_maddr(&uri, flow, |uri| self.names_us(uri))
        {
            facts.request_uri = Some(stripped.into());
        }
        if let Some((token, travel)) = checked {
            facts.flow = match travel {
                Travel::Down => token.down,
                Travel::Up => token.up,
            };
            facts.token = Some(token);
        }
        facts
    }

    pub(super) fn names_us(&self, uri: &Uri<'_>) -> bool {
        uri.is_sip() && self.is_ours(uri)
    }

    pub(super) fn is_ours(&self, uri: &Uri<'_>) -> bool {
        (self.conf.ours.0)(uri)
    }

    /// Departs from RFC 5626 §5.3.1: a token that does not hold is not answered by 403 but ignored: the request is then outside of any
    /// dialog and needs leave like all others. Keys change and dialogs outlive them.
    fn read_route_token(&self, uri: &Uri<'_>, message: Message<'_>) -> Option<(super::RouteToken, Travel)> {
        let from = message.from().ok()?;
        let to = message.to().ok()?;
        self.conf
            .keys
            .read_route_token(uri.user?, message.call_id(), from.tag().unwrap_or_default(), to.tag())
    }

    fn duty(&self, method: Method<'_>, message: Message<'_>, route: &RouteFacts) -> Duty {
        if self.is_onward(route) && (route.last_route_moved || message.routes().nth(route.own_routes).is_some()) {
            return Duty::Route;
        }
        let request_uri = route.request_uri.as_deref().or(message.request_uri());
        let ours = request_uri
            .and_then(|uri| Uri::parse(uri).ok())
            .filter(|uri| self.names_us(uri));
        match (method, ours) {
            (Method::Register, Some(_)) if self.conf.registrar => Duty::Registrar,
            (Method::Options, Some(uri)) if uri.user.is_none() => Duty::Ourselves,
            _ => Duty::Route,
        }
    }

    /// Answers a request without keeping anything of it (§8.2.7).
    pub(super) fn refuse(
        &mut self,
        clock: Clock,
        flow: Flow,
        reply: Flow,
        message: Message<'_>,
        refusal: &Refusal,
        todo: &mut Vec<Action>,
    ) {
        self.refuse_at(clock, flow, reply, message, refusal, "check", todo);
    }

    /// As [`Self::refuse`]; `stage` decided, for the access log.
    #[allow(clippy::too_many_arguments)]
    fn refuse_at(
        &mut self,
        clock: Clock,
        flow: Flow,
        reply: Flow,
        message: Message<'_>,
        refusal: &Refusal,
        stage: &'static str,
        todo: &mut Vec<Action>,
    ) {
        if message.method() == Some(Method::Ack) {
            self.counters.stray_acks += 1;
            return;
        }
        self.count_refusal(refusal.status);
        // What we have no room for is not the asker's fault.
        if refusal.status < 500 && !self.note(clock, flow, Useless::Refused) {
            return;
        }
        self.answer_statelessly(clock, flow, reply, message, refusal, todo);
        self.journal.finished(&Finished {
            request: message,
            flow,
            status: refusal.status,
            received_ms: clock.unix_ms,
            took_ms: 0,
            next: None,
            stage,
            branches: 0,
        });
    }

    /// Sends a response and keeps nothing; the To tag is the same for the same request.
    pub(super) fn answer_statelessly(
        &mut self,
        clock: Clock,
        flow: Flow,
        reply: Flow,
        message: Message<'_>,
        refusal: &Refusal,
        todo: &mut Vec<Action>,
    ) {
        if !self.may_answer(clock, reply) {
            return;
        }
        let tag = check::stateless_tag(&self.conf, message);
        let extra = refusal.header.as_ref().map(|(name, value)| [(*name, &value[..])]);
        let response = Response {
            reason: refusal.reason,
            to_tag: Some(&tag),
            stamp: self.response_stamp(flow, message),
            extra: extra.as_ref().map_or(&[], |extra| extra),
            ..Response::new(refusal.status)
        };
        self.out.clear();
        sps_wire::write_response(message, &response, &mut self.out);
        todo.push(Action::Send {
            leave: Leave::Reply(reply),
            bytes: Bytes::copy_from_slice(&self.out),
            token: 0,
        });
    }

    /// §18.3, §20.14: on a stream a message without Content-Length has no known end. The stream is closed by who cuts it.
    fn refuse_unframed(&mut self, clock: Clock, flow: Flow, message: Message<'_>, todo: &mut Vec<Action>) {
        self.counters.garbage += 1;
        if message.is_request()
            && let Some(reply) = reply_flow(flow, message)
        {
            let refusal = Refusal::new(400, "Missing Content-Length");
            self.refuse(clock, flow, reply, message, &refusal, todo);
        }
    }

    fn refuse_unreadable(
        &mut self,
        clock: Clock,
        flow: Flow,
        bytes: &[u8],
        index: &Index,
        error: sps_wire::ParseError,
        todo: &mut Vec<Action>,
    ) {
        self.counters.garbage += 1;
        if !is_keep_alive(bytes) && !self.note(clock, flow, Useless::Malformed) {
            return;
        }
        let (Some(status), Some(message)) = (error.status(), index.salvage(bytes)) else {
            return;
        };
        if let Some(reply) = reply_flow(flow, message) {
            self.refuse(clock, flow, reply, message, &Refusal::new(status, error.reason()), todo);
        }
    }
}

/// What phones send to keep the way through a NAT open: no message, and no offence. Line ends, zeros and the like, or STUN
/// (RFC 5626 §3.5.2).
pub(super) fn is_keep_alive(bytes: &[u8]) -> bool {
    bytes.len() <= 4
        || bytes.get(4..8) == Some(&[0x21, 0x12, 0xa4, 0x42])
        || (bytes.len() <= 16 && bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n' | b' ' | 0)))
}

/// RFC 4320 §4.1: how long Timer E of the previous hop takes to be reset to T2. Not before then, and then at the latest, a
/// request other than INVITE is answered 100.
pub(super) fn late_trying_wait(timers: &TimerConf) -> Duration {
    let (mut total, mut wait) = (Duration::ZERO, timers.t1.max(Duration::from_millis(1)));
    while wait < timers.t2 {
        total += wait;
        wait *= 2;
    }
    total.max(timers.t1)
}

/// What a CANCEL may be about besides an INVITE: it is answered 200 and has no effect (§9.2).
const CANCELLED_IN_VAIN: &[Method<'_>] = &[
    Method::Bye,
    Method::Register,
    Method::Options,
    Method::Info,
    Method::Update,
    Method::Prack,
    Method::Refer,
    Method::Message,
    Method::Subscribe,
    Method::Notify,
    Method::Publish,
];

/// Our Record-Route may stand twice, once for each side, where the sides speak different transports.
const MAX_OWN_ROUTES: usize = 2;

/// Where responses go (§18.2.2, RFC 3581 §4): to the source address; to its port if rport asks so or a stream brought the
/// request, else to the port the Via names.
///
/// Departs from §18.2.2: `maddr` is not obeyed, since it lets anybody aim our responses at a third party.
pub(super) fn reply_flow(flow: Flow, message: Message<'_>) -> Option<Flow> {
    let via = message.top_via().ok()?;
    if flow.transport.is_reliable() || via.rport().is_some() {
        return Some(flow);
    }
    let port = via.port.unwrap_or(flow.transport.default_port());
    Some(Flow {
        remote: SocketAddr::new(flow.remote.ip(), port),
        ..flow
    })
}

/// Where the refusal of a request goes whose top Via cannot be read (RFC 4475 §3.1.2.1): as [`reply_flow`] has it if its sent-by
/// makes sense alone, else whence it came.
fn likely_reply_flow(flow: Flow, message: Message<'_>) -> Flow {
    let value = message.first(Name::Via).map(|via| via.value()).unwrap_or_default();
    let end = value.iter().position(|byte| matches!(byte, b';' | b','));
    match sps_wire::Via::parse(&value[..end.unwrap_or(value.len())]) {
        Ok(via) if !flow.transport.is_reliable() => {
            let port = via.port.unwrap_or(flow.transport.default_port());
            let remote = SocketAddr::new(flow.remote.ip(), port);
            Flow { remote, ..flow }
        }
        _ => flow,
    }
}

/// What the top Via must be told about its sender (§18.2.1, RFC 3581 §4).
pub(super) fn stamp(message: Message<'_>, flow: Flow) -> ViaStamp {
    match message.top_via() {
        Ok(via) => ViaStamp::of(&via, flow.remote),
        Err(_) => ViaStamp::default(),
    }
}
