//! Sending a request on: targets in order of preference, and the copy each branch gets (RFC 3261 §16.5, §16.6).

use bytes::Bytes;
use smallvec::SmallVec;
use sps_wire::flow::{Destination, Flow, Transport};
use sps_wire::uri::Uri;
use sps_wire::{Edits, Message, Method, Name, NameAddr, OverloadStamp, Patch, Response, ViaStamp};

use super::conf::Conf;
use super::context::{Active, Branch, Cancel, Client, ClientMachine, Leave, Server, Standing};
use super::stateless::Trail;
use super::token::{BranchToken, RouteToken};
use super::{
    Action, BranchTicket, Clock, Journal, Proxy, Reach, Target, Ticket, breadth, receive, request_uri, sips, size,
};
use crate::guard::Kind;
use crate::transaction::{InviteClient, NonInviteClient};

impl<W, J: Journal> Proxy<W, J> {
    /// Routing found where the request behind `ticket` goes; `stage` is the stage that decided, for the access log.
    pub fn on_targets(
        &mut self,
        clock: Clock,
        ticket: Ticket,
        stage: &'static str,
        mut targets: SmallVec<[Target<W>; 1]>,
        todo: &mut Vec<Action>,
    ) {
        let most = self.conf.max_targets;
        let Some(active) = self.active(ticket).filter(|active| active.routing) else {
            return;
        };
        active.routing = false;
        active.stage = stage;
        for target in targets.iter_mut().filter(|target| !target.redirect) {
            // §16.6 step 2.
            if let Some(uri) = request_uri::without_forbidden(&target.uri) {
                target.uri = uri.into();
            }
        }
        let only_plain = sips::keep_to_scheme(active, &mut targets);
        if only_plain {
            let agent = self.conf.listeners.first().map_or("sps", |listener| &listener.sent_by);
            let warning = format!("380 {agent} \"SIPS Not Allowed\"");
            let response = Response {
                extra: &[("Warning", warning.as_bytes())],
                ..Response::new(480)
            };
            return self.respond(clock, ticket, &response, todo);
        }
        if targets.len() > 1 {
            targets.sort_by_key(|target| std::cmp::Reverse(target.q));
            remove_repeated(&mut targets, most);
        }
        if !self.tell_redirects(clock, ticket, &mut targets, todo) {
            return;
        }
        if !self.is_ready(clock, ticket, &targets, todo) {
            return;
        }
        let Some(active) = self.active(ticket) else { return };
        // A target is taken from the end, so that the rest need not move.
        targets.reverse();
        active.waiting = targets;
        self.settle(clock, ticket, todo);
    }

    /// Routing decided that the request behind `ticket` goes nowhere.
    pub fn on_refused(
        &mut self,
        clock: Clock,
        ticket: Ticket,
        stage: &'static str,
        response: &Response<'_>,
        todo: &mut Vec<Action>,
    ) {
        let Some(active) = self.active(ticket).filter(|active| active.routing) else {
            return;
        };
        active.routing = false;
        active.stage = stage;
        let flow = active.flow;
        self.count_refusal(response.status);
        if (400..500).contains(&response.status) {
            self.note(clock, flow, Kind::Refused);
        }
        self.respond(clock, ticket, response, todo);
    }

    /// The edge found the next destination of a branch, or says with which status the branch ends when there is none left
    /// and none was tried.
    pub fn on_destination(
        &mut self,
        clock: Clock,
        ticket: BranchTicket,
        found: Result<Reach, u16>,
        todo: &mut Vec<Action>,
    ) {
        let request = ticket.request;
        let Some(active) = self.active(request) else { return };
        let Some(branch) = active.branches.get(usize::from(ticket.branch)) else {
            return;
        };
        let (done, client, last_status) = (branch.done, branch.client, branch.status);
        let secure = sips::must_be_tls(active, &branch.target);
        let cancelled = active.cancelled;
        if done || client.is_some_and(|client| self.is_waited_for(client)) {
            return;
        }
        // Cancelled meanwhile: what is on its way is waited for, nothing new is begun (§16.10).
        let found = match client {
            Some(_) if cancelled => Err(0),
            _ => found,
        };
        let leave = match found {
            // §26.2.2: never by anything else, whatever is left then.
            Ok(reach) if secure && reach.transport() != Transport::Tls => return todo.push(Action::Walk(ticket)),
            Ok(Reach::Flow(flow)) => Ok(Leave::Flow(flow)),
            Ok(Reach::Destination(destination)) => {
                let listener = self.conf.listener_towards(destination.transport, &destination.addr);
                let Some(listener) = listener else {
                    // No socket of ours speaks that transport or address family.
                    return todo.push(Action::Walk(ticket));
                };
                Ok(Leave::Onward { listener, destination })
            }
            Err(status) => Err(status),
        };
        match (leave, client) {
            (Ok(leave), silent) => {
                if let Some(silent) = silent {
                    self.leave_behind(silent, todo);
                }
                if silent.is_some() || last_status != 0 {
                    self.counters.failovers += 1;
                }
                self.launch(clock, ticket, leave, false, todo);
            }
            (Err(_), Some(silent)) => self.wait_on(silent),
            (Err(status), None) => {
                let Some(active) = self.active(request) else { return };
                let status = match (last_status, status) {
                    // Nothing was sent, so that nothing can have timed out: no socket of ours leads there (§16.9).
                    (0, 408) => 503,
                    (0, status) => status,
                    // What its last destination came to.
                    (status, _) => status,
                };
                // RFC 5626 §5.3.1: 430 is the answer to who asked for that very flow by our Route, §11.5: and to nobody else.
                let status = match status {
                    FLOW_FAILED if active.route.flow.is_none() => 480,
                    status => status,
                };
                self.end_branch(request, ticket.branch, status, Bytes::new());
                self.settle(clock, request, todo);
            }
        }
    }

    /// Begins the next targets: all of the highest q, or one if forking is sequential (§16.6), but no more than the request has
    /// breadth for (RFC 5393 §5.3.3).
    pub(super) fn begin_branches(&mut self, ticket: Ticket, todo: &mut Vec<Action>) {
        let fork = self.conf.fork;
        let Some(active) = self.active(ticket) else { return };
        let first = active.branches.len();
        for breadth in breadth::shares(active, fork) {
            let Some(target) = active.waiting.pop() else { break };
            active.branches.push(Branch {
                target,
                client: None,
                done: false,
                breadth,
                status: 0,
            });
        }
        for branch in first..active.branches.len() {
            let ticket = BranchTicket {
                request: ticket,
                branch: branch as u16,
            };
            todo.push(Action::Walk(ticket));
        }
    }

    /// §16.6 steps 8 to 11: the copy leaves, and a client transaction looks after it. `any_size`: TCP has been tried and refused.
    pub(super) fn launch(
        &mut self,
        clock: Clock,
        ticket: BranchTicket,
        mut leave: Leave,
        any_size: bool,
        todo: &mut Vec<Action>,
    ) {
        if self.clients.len()
            >= self
                .conf
                .max_transactions
                .saturating_mul(CLIENTS_PER_SERVER)
                .min(MAX_CLIENTS)
        {
            self.counters.full_clients += 1;
            self.end_branch(ticket.request, ticket.branch, 503, Bytes::new());
            return self.settle(clock, ticket.request, todo);
        }
        if !self.must_follow(ticket.request) && !self.may_send(clock, ticket.request, &leave) {
            // What goes elsewhere now would not when it is repeated.
            if self.is_deferred(ticket.request) && !self.make_transaction(clock, ticket.request, todo) {
                return;
            }
            // RFC 7339 §5.10: another destination may do, if there is one.
            if let Some(active) = self.active(ticket.request) {
                active.held_back = true;
                if let Some(branch) = active.branches.get_mut(usize::from(ticket.branch)) {
                    branch.status = 503;
                }
            }
            return todo.push(Action::Walk(ticket));
        }
        let serial = self.unforeseeable();
        let client = Ticket {
            slot: self.clients.next_place() as u32,
            serial,
        };
        let Some(context) = self.contexts.get_mut(ticket.request.slot as usize) else {
            return;
        };
        let Some(active) = context.active.as_deref_mut() else {
            return;
        };
        let mark = match &context.server {
            Server::Deferred => Mark::Forgotten(Trail::of(&self.conf, active.message(), Some(context.reply.flow()))),
            // Nobody can tell the ACK of a failure that was forwarded without state from that of a 2xx.
            Server::Ack if self.has_forgotten => Mark::Forgotten(Trail::of(&self.conf, active.message(), None)),
            Server::Ack | Server::Invite(_) | Server::Other(_) => Mark::Kept(BranchToken {
                generation: self.conf.generation,
                worker: self.conf.worker,
                slot: client.slot,
                serial,
                loop_hash: active.loop_hash,
            }),
        };
        let Some(branch) = active.branches.get(usize::from(ticket.branch)) else {
            return;
        };
        let mut write = |leave: &Leave, out: &mut Vec<u8>| {
            out.clear();
            let copy = BranchCopy {
                conf: &self.conf,
                clock,
                active,
                target: &branch.target,
                breadth: branch.breadth,
                leave,
            };
            copy.write(&mark, &mut self.edits, out);
        };
        write(&leave, &mut self.out);
        let is_deferred = matches!(context.server, Server::Deferred);
        if is_deferred && size::moved_to_tcp(&self.conf, &leave, self.out.len()).is_some() {
            // Whether the connection that it needs can be opened only a transaction can tell; and its CANCEL, which is small, must go
            // the same way.
            if self.make_transaction(clock, ticket.request, todo) {
                self.launch(clock, ticket, leave, any_size, todo);
            }
            return;
        }
        // Departs from §18.1.1: an ACK for a 2xx stays, for nothing would tell us that TCP was refused to it.
        let may_move = !any_size && !matches!(context.server, Server::Ack);
        let moved = match size::moved_to_tcp(&self.conf, &leave, self.out.len()).filter(|_| may_move) {
            Some(by_tcp) => {
                leave = by_tcp;
                write(&leave, &mut self.out);
                self.counters.moved_to_tcp += 1;
                true
            }
            None => false,
        };
        let bytes = Bytes::copy_from_slice(&self.out);
        if let Leave::Onward { destination, .. } = &leave {
            active.next = Some(destination.clone());
        } else if let Leave::Flow(flow) = &leave {
            active.next = Some(Destination {
                transport: flow.transport,
                addr: flow.remote,
                tls_name: None,
            });
        }
        active.kept_len += bytes.len();
        self.stored_len += bytes.len();
        let mut steps = std::mem::take(&mut self.client_steps);
        let reliable = leave.is_reliable();
        let (machine, give_up_at) = match &context.server {
            Server::Invite(_) => {
                let machine = InviteClient::start(clock.now, bytes, reliable, &self.conf.timers, &mut steps);
                (
                    ClientMachine::Invite(machine),
                    Some(clock.now + self.conf.timers.timer_c),
                )
            }
            Server::Other(_) => {
                let machine = NonInviteClient::start(clock.now, bytes, reliable, &self.conf.timers, &mut steps);
                (ClientMachine::Other(machine), None)
            }
            Server::Ack | Server::Deferred => {
                // Sent once, and nobody waits for what comes back; the branch belongs to no transaction.
                if is_deferred {
                    self.counters.stateless_requests += 1;
                }
                todo.push(Action::Send { leave, bytes, token: 0 });
                self.client_steps = steps;
                self.forget(ticket.request, todo);
                return;
            }
        };
        if let Some(branch) = active.branches.get_mut(usize::from(ticket.branch)) {
            branch.client = Some(client);
        }
        let (standing, give_up_at) = match self.conf.next_hop_timeout {
            Some(wait) => (Standing::Silent, Some(clock.now + wait)),
            None => (Standing::Alone, give_up_at),
        };
        self.clients.insert(Client {
            serial,
            context: ticket.request,
            branch: ticket.branch,
            machine,
            wake_at: None,
            give_up_at,
            standing,
            moved,
            cancel: Cancel::No,
            leave: Some(Box::new(leave)),
        });
        self.perform_client(clock, client, None, &mut steps, todo);
        self.client_steps = steps;
    }

    fn forget(&mut self, ticket: Ticket, todo: &mut Vec<Action>) {
        if let Some(active) = self.active(ticket) {
            active.branches.iter_mut().for_each(|branch| branch.done = true);
        }
        self.remove_context(ticket, todo);
    }

    /// The request as the registrar behind us gets it: as received, its top Via stamped so that the response comes out right.
    pub fn request_for_service(&mut self, ticket: Ticket) -> Option<(&[u8], Flow)> {
        let context = self
            .contexts
            .get(ticket.slot as usize)
            .filter(|context| context.serial == ticket.serial)?;
        let active = context.active.as_deref()?;
        let message = active.message();
        let stamp = self.response_stamp(active.flow, message);
        if stamp.is_empty() {
            return Some((message.bytes(), active.flow));
        }
        let mut patch = Patch::reuse(message.bytes(), std::mem::take(&mut self.edits));
        if let Ok(via) = message.top_via() {
            stamp.patch(&via, &mut patch);
        }
        self.out.clear();
        patch.write(&mut self.out);
        self.edits = patch.into_edits();
        Some((&self.out, active.flow))
    }
}

/// A flow that a binding or a dialog left us leads nowhere any more (RFC 5626 §11.5).
pub(super) const FLOW_FAILED: u16 = 430;

/// Client transactions at once for each server transaction there may be: most requests have one branch, a few have many.
const CLIENTS_PER_SERVER: usize = 4;

/// Client transactions of one core at once: their places in its table fit into 24 bits of a send token, above which an edge
/// with several cores keeps who asked.
const MAX_CLIENTS: usize = 1 << 24;

/// §16.5: a URI is tried once, however often it was found: the one of the highest q stays. Behind different Path values, and
/// along different flows, the same URI may name different devices: two networks may have the same private addresses. Keeps no
/// more than `most`.
fn remove_repeated<W>(targets: &mut SmallVec<[Target<W>; 1]>, most: usize) {
    let same = |a: &Target<W>, b: &Target<W>| {
        a.path == b.path
            && a.flow == b.flow
            && (a.uri == b.uri
                || matches!((Uri::parse(&a.uri), Uri::parse(&b.uri)), (Ok(a), Ok(b)) if sps_wire::uri::equal(&a, &b)))
    };
    let mut at = 1;
    while at < targets.len().min(most) {
        if targets[..at].iter().any(|earlier| same(earlier, &targets[at])) {
            targets.remove(at);
        } else {
            at += 1;
        }
    }
    targets.truncate(most);
}

/// The Route URIs that are left after ours are taken off and a strict router's work is undone (§16.4).
pub(super) fn remaining_routes<W>(active: &Active<W>) -> impl Iterator<Item = &[u8]> {
    remaining_route_values(active).map(|route| route.uri)
}

/// The same with display names and parameters.
fn remaining_route_values<W>(active: &Active<W>) -> impl Iterator<Item = NameAddr<'_>> {
    let message = active.message();
    let own = active.route.own_routes;
    // The last value is the Request-URI that the strict router moved there.
    let last = if active.route.last_route_moved {
        message.routes().count().saturating_sub(1)
    } else {
        usize::MAX
    };
    message
        .routes()
        .enumerate()
        .filter(move |(at, _)| *at >= own && *at < last)
        .filter_map(|(_, route)| route.ok())
}

/// What our Via says of a request.
enum Mark {
    /// Where its client transaction lives.
    Kept(BranchToken),
    /// That nothing is kept of it.
    Forgotten(Trail),
}

/// The copy of a request that one branch sends (§16.6). Everything a proxy need not change leaves as it came.
struct BranchCopy<'a, W> {
    conf: &'a Conf,
    clock: Clock,
    active: &'a Active<W>,
    target: &'a Target<W>,
    breadth: u16,
    leave: &'a Leave,
}

impl<W> BranchCopy<'_, W> {
    fn write(&self, mark: &Mark, edits: &mut Edits, out: &mut Vec<u8>) {
        let BranchCopy {
            conf,
            active,
            target,
            leave,
            ..
        } = *self;
        let message = active.message();
        let (transport, listener) = leaving_listener(conf, leave);
        let sent_by = conf
            .listeners
            .get(listener)
            .map_or("localhost", |listener| &listener.sent_by);
        let mut patch = Patch::reuse(message.bytes(), std::mem::take(edits));

        // Step 2: the Request-URI, unless it stays as it came.
        let mut uri: &[u8] = match &active.route.request_uri {
            Some(uri) => uri,
            None => message.request_uri().unwrap_or_default(),
        };
        if !target.uri.is_empty() {
            uri = &target.uri;
        }

        // Steps 6 and 7: routes of the target on top of those that are left. A first one without `lr` is a strict router: it
        // gets its own URI as Request-URI, and the real one goes last.
        let mut first_route = target.path.first().map(|route| bracketless(route));
        if first_route.is_none() {
            first_route = remaining_routes(active).next();
        }
        let strict =
            first_route.is_some_and(|route| Uri::parse(route).is_ok_and(|uri| uri.is_sip() && !uri.is_loose()));
        let rewrite_routes = strict || active.route.last_route_moved;
        let start = message.start_range().end;

        // Step 8: our Via.
        patch.insert_with(start, |out| {
            out.extend_from_slice(b"Via: SIP/2.0/");
            out.extend_from_slice(transport.via_str().as_bytes());
            out.push(b' ');
            out.extend_from_slice(sent_by.as_bytes());
            out.extend_from_slice(b";branch=");
            match mark {
                Mark::Kept(branch) => branch.write(out),
                Mark::Forgotten(trail) => trail.write(conf, out),
            }
            // Of what is forgotten nobody knows whose feedback came back.
            if conf.overload.feedback && matches!(mark, Mark::Kept(_)) {
                // RFC 7339 §4.1, §4.2.
                out.extend_from_slice(b";oc;oc-algo=\"loss\"");
            }
            out.extend_from_slice(b"\r\n");
        });

        // Step 4.
        // §16.6 step 4: what is to be secure all the way must come by us again when it did not come to us by TLS.
        let is_sips = sips::is_sips(uri) || first_route.is_some_and(sips::is_sips);
        let unsafe_before = is_sips && active.flow.transport != Transport::Tls;
        if (conf.record_route || unsafe_before) && forms_dialog(message) {
            let made_s = match mark {
                Mark::Kept(_) => (self.clock.unix_ms / 1000) as u32,
                // §16.11: a repetition must look the same.
                Mark::Forgotten(_) => 0,
            };
            self.write_record_route(listener, is_sips, made_s, message, &mut patch);
        }

        if rewrite_routes {
            patch.remove_all(message, Name::Route);
            let mut routes: SmallVec<[&[u8]; 8]> = target.path.iter().map(|route| &route[..]).collect();
            routes.extend(remaining_route_values(active).map(|route| route.text()));
            if strict {
                routes.push(uri);
                uri = bracketless(routes.remove(0));
            }
            for route in routes {
                insert_route(&mut patch, start, route);
            }
        } else {
            for route in &target.path {
                insert_route(&mut patch, start, route);
            }
            if active.route.own_routes > 0 {
                patch.remove_first(message, Name::Route, active.route.own_routes);
            }
        }
        if Some(uri) != message.request_uri() {
            patch.replace(message.request_uri_range(), uri);
        }

        // Step 3.
        match (message.max_forwards(), message.first(Name::MaxForwards)) {
            (Ok(Some(hops)), Some(header)) => {
                patch.replace_with(header.value_range(), |out| {
                    sps_wire::write::write_u32(u32::from(hops.saturating_sub(1)), out)
                });
            }
            _ => patch.insert(start, b"Max-Forwards: 70\r\n"),
        }

        // RFC 5393 §5.3.3: one Max-Breadth in every copy.
        match message.first(Name::MaxBreadth) {
            Some(header) => patch.replace_with(header.value_range(), |out| {
                sps_wire::write::write_u32(u32::from(self.breadth), out)
            }),
            None => patch.insert_with(start, |out| {
                out.extend_from_slice(b"Max-Breadth: ");
                sps_wire::write::write_u32(u32::from(self.breadth), out);
                out.extend_from_slice(b"\r\n");
            }),
        }

        // §18.2.1: what the transport saw of the previous hop. Step 10: a stream needs Content-Length.
        if let Ok(via) = message.top_via() {
            let stamp = ViaStamp {
                // RFC 7339 §5.6: what the previous hop asks of us it does not ask of the next.
                overload: OverloadStamp::Strip,
                ..receive::stamp(message, active.flow)
            };
            stamp.patch(&via, &mut patch);
        }
        if transport.is_reliable() && !message.has(Name::ContentLength) {
            patch.insert_with(start, |out| {
                out.extend_from_slice(b"Content-Length: ");
                sps_wire::write::write_u32(message.body().len() as u32, out);
                out.extend_from_slice(b"\r\n");
            });
        }
        patch.write(out);
        *edits = patch.into_edits();
    }

    /// §16.6 step 4: one Record-Route; two where the request leaves by another listener than it came by, so that each side
    /// finds the one it can reach on its side (RFC 5658 §3).
    ///
    /// Departs from RFC 5658 §6.2: towards TLS it says `transport=tls` and not `sips:`, which would oblige the other end to a SIPS
    /// contact (RFC 3261 §12.1.1) that phones which call without TLS could not reach; every stack knows what is meant.
    fn write_record_route(
        &self,
        leaving: usize,
        is_sips: bool,
        made_s: u32,
        message: Message<'_>,
        patch: &mut Patch<'_>,
    ) {
        let BranchCopy {
            conf,
            active,
            target,
            leave,
            ..
        } = *self;
        let came_by = conf
            .listener_at(active.flow.transport, &active.flow.local)
            // By a connection that we opened: its local port is no listener's.
            .or_else(|| conf.listener_towards(active.flow.transport, &active.flow.remote))
            .unwrap_or(leaving);
        let tag = message.from().ok().and_then(|from| from.tag()).unwrap_or_default();
        let token = RouteToken {
            made_s,
            up: needs_flow(active.flow, message).then_some(active.flow),
            down: match leave {
                Leave::Flow(flow) if !leads_to(&target.uri, flow) => Some(*flow),
                Leave::Flow(_) | Leave::Reply(_) | Leave::Onward { .. } => None,
            },
        };
        let start = message.start_range().end;
        for listener in std::iter::once(leaving).chain((came_by != leaving).then_some(came_by)) {
            let Some(listener) = conf.listeners.get(listener) else {
                continue;
            };
            if is_sips && listener.transport != Transport::Tls {
                // A SIPS URI of a listener for something else leads nowhere.
                continue;
            }
            patch.insert_with(start, |out| {
                out.extend_from_slice(b"Record-Route: <");
                out.extend_from_slice(if is_sips { b"sips:" } else { b"sip:" });
                conf.keys.write_route_token(&token, message.call_id(), tag, out);
                out.push(b'@');
                out.extend_from_slice(listener.sent_by.as_bytes());
                // Departs from RFC 5630 §5.3, which forbids `transport=tls`: without it a `sip:` URI with a port of TLS says UDP.
                if listener.transport != Transport::Udp && !is_sips {
                    out.extend_from_slice(b";transport=");
                    out.extend_from_slice(listener.transport.as_str().as_bytes());
                }
                out.extend_from_slice(b";lr>\r\n");
            });
        }
    }
}

/// A value as it was received, with display name and parameters; a bare URI gets its angle brackets, so that its parameters stay its own.
fn insert_route(patch: &mut Patch<'_>, at: usize, route: &[u8]) {
    let is_bare = !route.contains(&b'<');
    patch.insert_with(at, |out| {
        out.extend_from_slice(if is_bare { b"Route: <" } else { b"Route: " });
        out.extend_from_slice(route);
        out.extend_from_slice(if is_bare { b">\r\n" } else { b"\r\n" });
    });
}

/// The URI of a Path value, which is kept as received. One without angle brackets is all URI.
pub(super) fn bracketless(route: &[u8]) -> &[u8] {
    if !route.contains(&b'<') {
        return route;
    }
    NameAddr::parse(route).map_or(route, |address| address.uri)
}

/// Whether a request may begin a dialog in which we want to stay (§16.6 step 4). Unknown methods may. Within a dialog they
/// are recorded too: an endpoint that has lost its dialog learns it anew from them, and the first NOTIFY, which has a To tag,
/// makes the subscriber's dialog (RFC 6665 §4.3).
fn forms_dialog(message: Message<'_>) -> bool {
    use Method::*;
    match message.method() {
        Some(Invite | Subscribe | Refer | Notify | Other(_)) => true,
        Some(Ack | Bye | Cancel | Register | Options | Info | Update | Prack | Message | Publish) | None => false,
    }
}

/// Whether later requests towards the caller must take the flow this one came by: it came over a stream, or its sender
/// does not know its own address (RFC 5626 §5.2).
fn needs_flow(flow: Flow, message: Message<'_>) -> bool {
    if flow.transport.is_reliable() {
        return true;
    }
    message
        .top_via()
        .is_ok_and(|via| via.host.ip() != Some(flow.remote.ip()) || via.port.unwrap_or(5060) != flow.remote.port())
}

/// Whether a contact's own address is where its flow ends anyway, so that the dialog needs no memory of the flow.
fn leads_to(contact: &[u8], flow: &Flow) -> bool {
    !flow.transport.is_reliable()
        && Uri::parse(contact)
            .is_ok_and(|uri| uri.host.ip() == Some(flow.remote.ip()) && uri.port.unwrap_or(5060) == flow.remote.port())
}

/// Which listener speaks for a message that leaves this way.
fn leaving_listener(conf: &Conf, leave: &Leave) -> (Transport, usize) {
    match leave {
        Leave::Onward { listener, destination } => (destination.transport, *listener),
        Leave::Flow(flow) | Leave::Reply(flow) => {
            let at = conf
                .listener_at(flow.transport, &flow.local)
                .or_else(|| conf.listener_towards(flow.transport, &flow.remote));
            (flow.transport, at.unwrap_or(0))
        }
    }
}
