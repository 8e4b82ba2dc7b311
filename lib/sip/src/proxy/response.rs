//! What comes back: responses to their branch and upstream, the best one when all have failed (RFC 3261 §16.7 to §16.9).

use bytes::Bytes;
use sps_wire::flow::Flow;
use sps_wire::{Message, Method, Name, Patch, Response, feedback};

use super::context::{Active, Best, Client, ClientMachine, Server, Standing};
use super::token::BranchToken;
use super::{Action, BranchTicket, Clock, Finished, Journal, Proxy, Ticket, best, breadth, check, failover};
use crate::guard::Kind;
use crate::transaction;

impl<W, J: Journal> Proxy<W, J> {
    /// A response: to its client transaction by our branch token, or dropped (RFC 6026 §8.9). Gives the worker that has the
    /// transaction if it is another one.
    pub(super) fn on_response(
        &mut self,
        clock: Clock,
        flow: Flow,
        message: Message<'_>,
        todo: &mut Vec<Action>,
    ) -> Option<u8> {
        // §18.1.2: what does not bear a sent-by of ours was not asked for by us.
        let token = message
            .top_via()
            .ok()
            .filter(|via| self.sent_by.is_ours(via))
            .and_then(|via| via.branch())
            .and_then(BranchToken::parse);
        let cseq = message.cseq().ok().map(|cseq| cseq.method);
        let (Some(token), Some(method), Some(status)) = (token, cseq, message.status()) else {
            if !self.return_response(clock, flow, message, todo) {
                self.on_stray(clock, flow);
            }
            return None;
        };
        // §16.7 step 3: without a Via below ours it answers something of our own making, which CANCEL alone is.
        // Mostly each stands in a line of its own and need not be read.
        let answers_others = || message.all(Name::Via).nth(1).is_some() || message.vias().nth(1).is_some();
        if method != Method::Cancel && !answers_others() {
            self.on_stray(clock, flow);
            return None;
        }
        let ours = token.generation == self.conf.generation;
        if ours && token.worker != self.conf.worker && self.owners.is_some() {
            return Some(token.worker);
        }
        let ours = ours && token.worker == self.conf.worker;
        self.counters.responses += 1;
        let ticket = Ticket {
            slot: token.slot,
            serial: token.serial,
        };
        let mut steps = std::mem::take(&mut self.client_steps);
        let client = self
            .clients
            .get_mut(ticket.slot as usize)
            .filter(|client| ours && client.serial == ticket.serial);
        // §17.1.3: all of the branch must be the one sent. Its last part is known while the request is.
        let client = client.filter(|client| {
            self.contexts
                .get(client.context.slot as usize)
                .filter(|context| context.serial == client.context.serial)
                .and_then(|context| context.active.as_ref())
                .is_none_or(|active| active.loop_hash == token.loop_hash)
        });
        let mut of_cancel = false;
        let mut stray = false;
        match client {
            Some(Client {
                cancel: super::context::Cancel::Sent(machine),
                ..
            }) if method == Method::Cancel => {
                machine.on_response(clock.now, status, &self.conf.timers, &mut steps);
                of_cancel = true;
            }
            Some(Client {
                machine: ClientMachine::Invite(machine),
                ..
            }) if method == Method::Invite => {
                let out = &mut self.out;
                let ack = |sent: &Bytes| {
                    out.clear();
                    // Bytes of ours always yield an ACK; if not, an empty send is dropped at the edge.
                    let _ = sps_wire::request::write_ack(sent, message, out);
                    Bytes::copy_from_slice(out)
                };
                machine.on_response(clock.now, status, ack, &self.conf.timers, &mut steps);
            }
            Some(Client {
                machine: ClientMachine::Other(machine),
                ..
            }) if method != Method::Invite && method != Method::Cancel => {
                machine.on_response(clock.now, status, &self.conf.timers, &mut steps);
            }
            Some(_) | None => stray = true,
        }
        if !stray && let Ok(via) = message.top_via() {
            self.note_feedback(clock, ticket, &via);
        }
        if stray {
            self.counters.stray_responses += 1;
            self.note(clock, flow, Kind::Stray);
        } else if of_cancel {
            self.perform_cancel(ticket, &mut steps, todo);
        } else {
            self.perform_client(clock, ticket, Some(message), &mut steps, todo);
            if status >= 200 {
                // It knows what only the one asked can know.
                self.prove(clock, flow);
            }
        }
        self.client_steps = steps;
        None
    }

    /// A response that nobody waits for.
    fn on_stray(&mut self, clock: Clock, flow: Flow) {
        self.counters.responses += 1;
        self.counters.stray_responses += 1;
        self.note(clock, flow, Kind::Stray);
    }

    /// The edge could not send what bore this token.
    pub fn on_send_failed(&mut self, clock: Clock, token: u64, todo: &mut Vec<Action>) {
        let ticket = Ticket::from_u64(token);
        let mut steps = std::mem::take(&mut self.client_steps);
        let client = self
            .clients
            .get_mut(ticket.slot as usize)
            .filter(|client| client.serial == ticket.serial);
        match client.map(|client| &mut client.machine) {
            Some(ClientMachine::Invite(machine)) => machine.on_transport_error(&mut steps),
            Some(ClientMachine::Other(machine)) => machine.on_transport_error(&mut steps),
            None => {}
        }
        self.perform_client(clock, ticket, None, &mut steps, todo);
        self.client_steps = steps;
    }

    /// The registrar answered the request behind `ticket`; `bytes` go upstream as they are.
    ///
    /// Nothing is kept of it: what comes again is put to the registrar again, whose answer to a REGISTER repeated with the same
    /// Call-ID and CSeq is the same (a stateless UAS, RFC 3261 §8.2.7). A million phones that boot at once leave no trace.
    pub fn on_service_response(
        &mut self,
        clock: Clock,
        ticket: Ticket,
        status: u16,
        bytes: Bytes,
        todo: &mut Vec<Action>,
    ) {
        if self.undecided(ticket)
            && let Some(flow) = self.active(ticket).map(|active| active.flow)
        {
            match status {
                200..=299 => self.prove(clock, flow),
                401 | 403 | 404 | 407 => drop(self.note(clock, flow, Kind::Refused)),
                _ => {}
            }
            self.set_stage(ticket, "registrar");
            self.decide(clock, ticket, status, bytes, todo);
            if self.context(ticket).is_some() {
                self.remove_context(ticket, todo);
            }
        }
    }

    /// The registrar cannot be asked: the request behind `ticket` is answered here.
    pub fn on_service_failed(&mut self, clock: Clock, ticket: Ticket, response: &Response<'_>, todo: &mut Vec<Action>) {
        if self.undecided(ticket) && self.active(ticket).is_some() {
            self.set_stage(ticket, "registrar");
            self.respond(clock, ticket, response, todo);
        }
    }

    /// Carries out what a client machine asked for. `message` is the response just fed, if one was.
    pub(super) fn perform_client(
        &mut self,
        clock: Clock,
        ticket: Ticket,
        message: Option<Message<'_>>,
        steps: &mut Vec<transaction::Action<Bytes>>,
        todo: &mut Vec<Action>,
    ) {
        let Some(client) = self
            .clients
            .get_mut(ticket.slot as usize)
            .filter(|client| client.serial == ticket.serial)
        else {
            steps.clear();
            return;
        };
        let (request, branch) = (client.context, client.branch);
        let (mut deliver, mut failed, mut ended) = (false, None, false);
        for step in steps.drain(..) {
            match step {
                transaction::Action::Transmit(bytes) => {
                    if let Some(leave) = client.leave.as_deref() {
                        todo.push(Action::Send {
                            leave: leave.clone(),
                            bytes,
                            token: ticket.to_u64(),
                        });
                    }
                }
                transaction::Action::Deliver => deliver = true,
                transaction::Action::Timeout => failed = Some((408, client.standing != Standing::Heard)),
                // §16.9: as if the next hop had answered 503; of a flow there is more to say.
                transaction::Action::TransportFailed => {
                    let by_flow = matches!(client.leave.as_deref(), Some(super::Leave::Flow(_)));
                    let status = if by_flow { super::forward::FLOW_FAILED } else { 503 };
                    failed = Some((status, true));
                }
                transaction::Action::Terminated => ended = true,
            }
        }
        // RFC 3263 §4.3: a timeout is a failure of the destination if nothing at all has come from there.
        if let Some((_, true)) = failed
            && client.standing != Standing::Left
            && let Some(destination) = client.destination()
        {
            todo.push(Action::Avoid {
                destination: destination.clone(),
                retry_after: None,
            });
        }
        if let Some(message) = message.filter(|_| deliver) {
            self.deliver(clock, ticket, message, todo);
        }
        if ended {
            // `deliver` may have ended it already, by way of a cancelled branch.
            if self
                .clients
                .get(ticket.slot as usize)
                .is_some_and(|client| client.serial == ticket.serial)
            {
                self.clients.remove(ticket.slot as usize);
            }
        } else {
            self.schedule_client(ticket);
        }
        if let Some((status, may_go_on)) = failed {
            self.branch_failed(clock, ticket, request, branch, status, Bytes::new(), may_go_on, todo);
        }
    }

    /// §16.7 steps 3 to 5: a response that its client transaction passed up.
    fn deliver(&mut self, clock: Clock, ticket: Ticket, message: Message<'_>, todo: &mut Vec<Action>) {
        let Some(client) = self.clients.get_mut(ticket.slot as usize) else {
            return;
        };
        let (request, branch, status) = (client.context, client.branch, message.status().unwrap_or(0));
        let invite = matches!(client.machine, ClientMachine::Invite(_));
        let left = client.standing == Standing::Left;
        if client.standing != Standing::Heard {
            if !left {
                client.standing = Standing::Heard;
                client.give_up_at = client.timer_c_at(clock, &self.conf.timers);
            }
            if status != 503
                && let Some(destination) = client.destination()
            {
                todo.push(Action::Answered(destination.clone()));
            }
        }
        match status {
            100..=199 => {
                if invite && status > 100 && matches!(client.cancel, super::context::Cancel::No) {
                    // §16.7 step 2.
                    client.give_up_at = Some(clock.now + self.conf.timers.timer_c);
                }
                if matches!(client.cancel, super::context::Cancel::Wanted) {
                    self.send_cancel(clock, ticket, todo);
                }
                // RFC 4320 §4.1: to a request other than INVITE no provisional response but 100 is sent.
                if invite && status > 100 && !left && self.undecided(request) {
                    let bytes = self.upstream_copy(request, message);
                    self.respond_bytes(clock, request, status, bytes, todo);
                }
            }
            200..=299 => {
                client.give_up_at = None;
                if invite {
                    // Nothing is ever sent from Accepted.
                    client.leave = None;
                }
                self.on_success(clock, ticket, request, branch, status, invite, message, todo);
            }
            _ => {
                client.give_up_at = None;
                if status == 503
                    && let Some(wait) = failover::retry_after(message)
                    && let Some(destination) = client.destination()
                {
                    todo.push(Action::Avoid {
                        destination: destination.clone(),
                        retry_after: Some(wait),
                    });
                }
                let bytes = self.upstream_copy(request, message);
                self.branch_failed(clock, ticket, request, branch, status, bytes, status == 503, todo);
            }
        }
    }

    /// §16.7 step 5: a 2xx goes upstream at once, every one of them for an INVITE; step 10: the others are cancelled.
    #[allow(clippy::too_many_arguments)]
    fn on_success(
        &mut self,
        clock: Clock,
        client: Ticket,
        request: Ticket,
        branch: u16,
        status: u16,
        invite: bool,
        message: Message<'_>,
        todo: &mut Vec<Action>,
    ) {
        let bytes = self.upstream_copy(request, message);
        let Some(active) = self.active(request) else {
            if invite && let Some(context) = self.context(request) {
                let reply = context.reply.flow();
                if !self.respond_bytes(clock, request, status, bytes.clone(), todo) {
                    // A failure went upstream already; §16.7 step 5 has the 2xx follow it all the same.
                    todo.push(Action::Send {
                        leave: super::Leave::Reply(reply),
                        bytes,
                        token: 0,
                    });
                }
            }
            return;
        };
        let mut other = None;
        if let Some(branch) = active.branches.get_mut(usize::from(branch)) {
            branch.done = true;
            other = branch.client.filter(|other| *other != client);
        }
        active.waiting.clear();
        if invite {
            // Its branch had gone on elsewhere when this one answered after all.
            active.cancel_reason = super::cancel::COMPLETED_ELSEWHERE.to_vec();
            if let Some(other) = other {
                self.cancel_client(clock, other, todo);
            }
        }
        let Some(active) = self.active(request) else { return };
        if invite {
            active.cancel_reason = super::cancel::COMPLETED_ELSEWHERE.to_vec();
            self.cancel_branches(clock, request, todo);
        }
        self.decide(clock, request, status, bytes, todo);
    }

    /// A client transaction ended without success: its branch tries the next destination where that may help (`may_go_on`:
    /// RFC 3263 §4.3), else it is done.
    ///
    /// Departs from §16.7 step 4: a 416 to a tel URI that somebody registered as contact is not followed by a SIP URI in its place,
    /// since there is none but the one that led to it.
    #[allow(clippy::too_many_arguments)]
    fn branch_failed(
        &mut self,
        clock: Clock,
        client: Ticket,
        request: Ticket,
        branch: u16,
        status: u16,
        bytes: Bytes,
        may_go_on: bool,
        todo: &mut Vec<Action>,
    ) {
        let Some(active) = self.active(request) else { return };
        let stopped = active.cancelled;
        // One that the branch has left for another destination may still fail, at an ACK it repeats: no news to anybody.
        let Some(entry) = active
            .branches
            .get_mut(usize::from(branch))
            .filter(|entry| !entry.done && entry.client == Some(client))
        else {
            return;
        };
        if !stopped && may_go_on {
            // §16.6 step 7: it counts only if there is no other destination; the branch remembers it until then.
            entry.client = None;
            entry.status = status;
            todo.push(Action::Walk(BranchTicket { request, branch }));
            return;
        }
        if !stopped && self.recurse(request, branch, status, &bytes, todo) {
            self.settle(clock, request, todo);
            return;
        }
        self.end_branch(request, branch, status, bytes);
        if status >= 600 {
            // §16.7 step 5: no new branch, and those that ring are cancelled.
            if let Some(active) = self.active(request) {
                active.cancelled = true;
                active.redirections.clear();
            }
            self.cancel_branches(clock, request, todo);
        }
        self.settle(clock, request, todo);
    }

    /// Marks a branch as done with what it ended with.
    pub(super) fn end_branch(&mut self, request: Ticket, branch: u16, status: u16, bytes: Bytes) {
        let Some(active) = self.active(request) else { return };
        let Some(entry) = active.branches.get_mut(usize::from(branch)) else {
            return;
        };
        entry.done = true;
        entry.status = status;
        note_best(active, status, bytes);
    }

    /// Goes on when no branch is pending: with the next targets, or with the best response (§16.7 step 6).
    pub(super) fn settle(&mut self, clock: Clock, ticket: Ticket, todo: &mut Vec<Action>) {
        let fork = self.conf.fork;
        let Some(active) = self.active(ticket) else { return };
        if active.pending() {
            if breadth::has_room(active, fork) {
                self.begin_branches(ticket, todo);
            }
            return;
        }
        if !active.cancelled && !active.waiting.is_empty() {
            self.begin_branches(ticket, todo);
            return;
        }
        let (caller_cancelled, held_back) = (active.caller_cancelled, active.held_back);
        let challenges = std::mem::take(&mut active.challenges);
        let alternatives = std::mem::take(&mut active.alternatives);
        match active.best.take() {
            Some(Best { status: 487, bytes }) if !bytes.is_empty() => self.decide(clock, ticket, 487, bytes, todo),
            // §16.7 step 6: a 6xx and a lower class come first; of 4xx and 5xx we choose what a CANCEL asks for.
            best if caller_cancelled && best.as_ref().is_none_or(|best| (400..600).contains(&best.status)) => {
                self.respond(clock, ticket, &Response::new(487), todo);
            }
            Some(Best { status, bytes }) if !bytes.is_empty() && best::upstream_status(status) == status => {
                let bytes = match status {
                    401 | 407 => with_lines(bytes, &challenges),
                    300..=302 => with_lines(bytes, &alternatives),
                    _ => bytes,
                };
                self.decide(clock, ticket, status, bytes, todo);
            }
            // RFC 7339 §5.10: nobody answered 503, so that §16.7 does not make it 500.
            Some(Best { status: 503, bytes }) if held_back && bytes.is_empty() => {
                let response = Response {
                    reason: Some("Overload Downstream"),
                    ..Response::new(503)
                };
                self.respond(clock, ticket, &response, todo);
            }
            Some(Best { status, .. }) => {
                self.respond(clock, ticket, &Response::new(best::upstream_status(status)), todo)
            }
            // No branch ever began: routing gave no target.
            None => self.respond(clock, ticket, &Response::new(480), todo),
        }
    }

    /// Answers the request behind `ticket` ourselves.
    pub(super) fn respond(&mut self, clock: Clock, ticket: Ticket, response: &Response<'_>, todo: &mut Vec<Action>) {
        let Some(reply) = self.context(ticket).map(|context| context.reply.flow()) else {
            return;
        };
        let Some(bytes) = self.response_bytes(clock, ticket, response) else {
            return;
        };
        let before = todo.len();
        if response.status < 200 {
            self.respond_bytes(clock, ticket, response.status, bytes, todo);
        } else {
            self.decide(clock, ticket, response.status, bytes, todo);
        }
        if !self.may_answer(clock, reply) {
            // The transaction goes on as if it had been lost on the way.
            let mut at = 0;
            todo.retain(|action| {
                at += 1;
                at <= before
                    || !matches!(
                        action,
                        Action::Send {
                            leave: super::Leave::Reply(_),
                            ..
                        }
                    )
            });
        }
    }

    /// A response of ours to the request behind `ticket`.
    pub(super) fn response_bytes(&mut self, clock: Clock, ticket: Ticket, response: &Response<'_>) -> Option<Bytes> {
        let context = self
            .contexts
            .get(ticket.slot as usize)
            .filter(|context| context.serial == ticket.serial)?;
        let active = context.active.as_deref()?;
        let message = active.message();
        let tag = check::stateless_tag(&self.conf, message);
        let response = Response {
            to_tag: Some(&tag),
            stamp: self.response_stamp(active.flow, message),
            delay: clock.now.saturating_duration_since(active.received_at),
            ..*response
        };
        self.out.clear();
        sps_wire::write_response(message, &response, &mut self.out);
        Some(Bytes::copy_from_slice(&self.out))
    }

    pub(super) fn set_stage(&mut self, ticket: Ticket, stage: &'static str) {
        if let Some(active) = self.active(ticket) {
            active.stage = stage;
        }
    }

    /// The final response is known: tells the journal, sends it, and lets go of the request.
    pub(super) fn decide(&mut self, clock: Clock, ticket: Ticket, status: u16, bytes: Bytes, todo: &mut Vec<Action>) {
        let Some(context) = self
            .contexts
            .get_mut(ticket.slot as usize)
            .filter(|context| context.serial == ticket.serial)
        else {
            return;
        };
        let Some(active) = context.active.take() else { return };
        if matches!(context.server, Server::Ack) {
            self.counters.stray_acks += 1;
        } else {
            self.journal.finished(&finished(clock, &active, status));
        }
        if matches!(context.server, Server::Deferred) {
            self.answer_deferred(clock, ticket, *active, status, bytes, todo);
            return;
        }
        let of_ack = matches!(context.server, Server::Ack);
        // RFC 4320 §4.2: a 408 to a request other than INVITE comes too late to be of use, so it is not sent.
        let silent = status == 408 && matches!(context.server, Server::Other(_));
        let asked_until = active.received_at + self.conf.timers.timer_f();
        self.retire(ticket, *active, todo);
        if of_ack || (silent && asked_until <= clock.now) {
            self.remove_context(ticket, todo);
        } else if silent {
            // The request may be repeated until then, and a repetition must not pass for a new request.
            self.wake_context_at(ticket, asked_until);
        } else {
            self.respond_bytes(clock, ticket, status, bytes, todo);
        }
    }

    /// Hands a whole response to the server machine. Gives whether it was taken.
    pub(super) fn respond_bytes(
        &mut self,
        clock: Clock,
        ticket: Ticket,
        status: u16,
        bytes: Bytes,
        todo: &mut Vec<Action>,
    ) -> bool {
        let Some(context) = self
            .contexts
            .get_mut(ticket.slot as usize)
            .filter(|context| context.serial == ticket.serial)
        else {
            return false;
        };
        if status >= 200 {
            // Kept for who asks again.
            let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            context.kept_len = context.kept_len.saturating_add(len);
            self.stored_len += len as usize;
        }
        let mut steps = std::mem::take(&mut self.server_steps);
        let taken = match &mut context.server {
            Server::Invite(machine) => machine.respond(clock.now, status, bytes, &self.conf.timers, &mut steps),
            Server::Other(machine) => machine.respond(clock.now, status, bytes, &self.conf.timers, &mut steps),
            Server::Ack | Server::Deferred => false,
        };
        self.perform_server(ticket, &mut steps, todo);
        self.server_steps = steps;
        taken
    }

    /// §16.7 steps 3 and 9: the response without our Via; what lower ones say about overload is nobody's business but ours
    /// (RFC 7339 §5.2, §5.4).
    fn upstream_copy(&mut self, ticket: Ticket, message: Message<'_>) -> Bytes {
        let asked = self
            .context(ticket)
            .and_then(|context| context.active.as_ref())
            .is_some_and(|active| active.asks_for_feedback);
        self.without_our_via(asked, message)
    }

    /// The same, told what is asked.
    pub(super) fn without_our_via(&mut self, asks_for_feedback: bool, message: Message<'_>) -> Bytes {
        let feedback = asks_for_feedback.then(|| self.feedback());
        let mut patch = Patch::reuse(message.bytes(), std::mem::take(&mut self.edits));
        patch.remove_first(message, Name::Via, 1);
        feedback::strip_lower_vias(message, &mut patch);
        if let Some(feedback) = feedback
            && let Some(Ok(via)) = message.vias().nth(1)
        {
            patch.insert_with(via.range().end, |out| feedback.write(out));
        }
        self.out.clear();
        patch.write(&mut self.out);
        self.edits = patch.into_edits();
        Bytes::copy_from_slice(&self.out)
    }
}

fn finished<'a, W>(clock: Clock, active: &'a Active<W>, status: u16) -> Finished<'a> {
    Finished {
        request: active.message(),
        flow: active.flow,
        status,
        received_ms: active.received_ms,
        took_ms: clock.now.saturating_duration_since(active.received_at).as_millis() as u64,
        next: active.next.as_ref(),
        stage: active.stage,
        branches: active.branches.len(),
    }
}

/// §16.7 step 6 for one more response; step 7 for the challenges of those that lose, and the same for where they redirect to.
pub(super) fn note_best<W>(active: &mut Active<W>, status: u16, bytes: Bytes) {
    let wins = active
        .best
        .as_ref()
        .is_none_or(|best| best::better(status, best.status).is_lt());
    let loser = if wins {
        active.best.replace(Best { status, bytes })
    } else {
        Some(Best { status, bytes })
    };
    match loser {
        Some(Best {
            status: 401 | 407,
            bytes,
        }) => collect_lines(
            &bytes,
            &[Name::WwwAuthenticate, Name::ProxyAuthenticate],
            &mut active.challenges,
        ),
        Some(Best {
            status: 300..=302,
            bytes,
        }) => collect_lines(&bytes, &[Name::Contact], &mut active.alternatives),
        Some(_) | None => {}
    }
}

/// Bounds what many branches' challenges or contacts may add to one response.
const MAX_LINES_LEN: usize = 16 * 1024;

fn collect_lines(response: &[u8], names: &[Name], into: &mut Vec<u8>) {
    let mut index = sps_wire::Index::default();
    let Ok(message) = sps_wire::parse(response, &mut index, &sps_wire::Limits::default()) else {
        return;
    };
    for name in names {
        for header in message.all(*name) {
            if into.len() + header.raw().len() <= MAX_LINES_LEN {
                into.extend_from_slice(header.raw());
            }
        }
    }
}

/// §16.7 step 7: what one branch says must carry what the others of its kind say.
fn with_lines(bytes: Bytes, lines: &[u8]) -> Bytes {
    if lines.is_empty() {
        return bytes;
    }
    let mut index = sps_wire::Index::default();
    let Ok(message) = sps_wire::parse(&bytes, &mut index, &sps_wire::Limits::default()) else {
        return bytes;
    };
    let mut patch = Patch::new(message.bytes());
    patch.insert(message.head_len().saturating_sub(2), lines);
    let mut out = Vec::with_capacity(bytes.len() + lines.len());
    patch.write(&mut out);
    out.into()
}
