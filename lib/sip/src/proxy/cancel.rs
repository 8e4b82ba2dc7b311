//! CANCEL in both directions, and Timer C (RFC 3261 §9, §16.8, §16.10; RFC 3326 for the reason).

use bytes::Bytes;
use sps_wire::flow::Flow;
use sps_wire::{Message, Response};

use super::check::{self, Refusal};
use super::context::{Cancel, ClientMachine, Standing};
use super::mode::Mode;
use super::{Action, Clock, Journal, Leave, Proxy, Ticket};
use crate::transaction::{self, NonInviteClient, State};

/// RFC 3326 §2: told to branches that lose because another one answered.
pub(super) const COMPLETED_ELSEWHERE: &[u8] = b"Reason: SIP;cause=200;text=\"Call completed elsewhere\"\r\n";

/// Seconds after which a server that ends is worth another try: its successor starts in one.
const RETRY_AFTER: &[u8] = b"2";

/// Longest Reason of a CANCEL that is handed on.
const MAX_REASON_LEN: usize = 512;

impl<W, J: Journal> Proxy<W, J> {
    /// A CANCEL from upstream. It has no memory of its own: its repetition finds the same INVITE and gets the same answer.
    ///
    /// Departs from §16.10, which has a CANCEL that matches nothing forwarded statelessly: only a core that has forwarded requests
    /// so does that. Of others nobody downstream can know what it is about, and 481 is the truth (§9.2).
    ///
    /// Departs from §8.2.7, which has a stateless server ignore CANCEL: the CANCEL of a request that was refused without keeping
    /// state cannot be told from any other that matches nothing, and gets 481 like it. A stateless redirect server says 200, as
    /// §8.3 asks of redirect servers: its request has had its answer, and silence would only have the CANCEL repeated.
    pub(super) fn on_cancel(
        &mut self,
        clock: Clock,
        flow: Flow,
        reply: Flow,
        invite: Option<u32>,
        message: Message<'_>,
        todo: &mut Vec<Action>,
    ) {
        let Some(slot) = invite else {
            if self.conf.mode == Mode::StatelessRedirect {
                self.answer_statelessly(clock, flow, reply, message, &Refusal::plain(200), todo);
            } else {
                self.refuse(clock, flow, reply, message, &Refusal::plain(481), todo);
            }
            return;
        };
        let serial = self.contexts.get(slot as usize).map_or(0, |context| context.serial);
        let tag = check::stateless_tag(&self.conf, message);
        let response = Response {
            to_tag: Some(&tag),
            stamp: self.response_stamp(reply, message),
            ..Response::new(200)
        };
        self.out.clear();
        sps_wire::write_response(message, &response, &mut self.out);
        todo.push(Action::Send {
            leave: Leave::Reply(reply),
            bytes: Bytes::copy_from_slice(&self.out),
            token: 0,
        });
        let mut reason = Vec::new();
        for header in message.named(b"Reason") {
            if reason.len() + header.raw().len() <= MAX_REASON_LEN {
                reason.extend_from_slice(header.raw());
            }
        }
        self.cancel_request(clock, Ticket { slot, serial }, reason, todo);
    }

    /// §16.10: cancels all that is pending of a request its caller gave up. Without effect once the final response is known.
    fn cancel_request(&mut self, clock: Clock, ticket: Ticket, reason: Vec<u8>, todo: &mut Vec<Action>) {
        if !self.undecided(ticket) {
            return;
        }
        let Some(active) = self.active(ticket) else { return };
        active.cancelled = true;
        active.caller_cancelled = true;
        active.cancel_reason = reason;
        active.waiting.clear();
        let asked = active.routing || active.redirections.iter().any(super::recurse::Redirection::is_open);
        active.routing = false;
        active.redirections.clear();
        if asked {
            todo.push(Action::Forget(ticket));
        }
        self.cancel_branches(clock, ticket, todo);
        self.settle(clock, ticket, todo);
    }

    /// The process ends: every request still undecided gets 503 with Retry-After (§21.5.4), so that its caller need not find out
    /// by waiting, and what rings for it is cancelled. Gives how many there were.
    pub fn give_up(&mut self, clock: Clock, todo: &mut Vec<Action>) -> usize {
        let undecided: Vec<Ticket> = self
            .contexts
            .iter()
            .filter(|(_, context)| context.active.is_some())
            .map(|(slot, context)| Ticket {
                slot: slot as u32,
                serial: context.serial,
            })
            .collect();
        for ticket in &undecided {
            if let Some(active) = self.active(*ticket) {
                active.cancelled = true;
                active.waiting.clear();
            }
            self.cancel_branches(clock, *ticket, todo);
            let response = Response {
                extra: &[("Retry-After", RETRY_AFTER)],
                ..Response::new(503)
            };
            self.respond(clock, *ticket, &response, todo);
        }
        undecided.len()
    }

    /// Cancels every branch that is still pending (§16.7 step 10, §16.10).
    pub(super) fn cancel_branches(&mut self, clock: Clock, ticket: Ticket, todo: &mut Vec<Action>) {
        let Some(active) = self.active(ticket) else { return };
        let mut asked = false;
        let mut clients = smallvec::SmallVec::<[Ticket; 4]>::new();
        for branch in active.branches.iter_mut().filter(|branch| !branch.done) {
            match branch.client {
                Some(client) => clients.push(client),
                // Its destination is still being looked for.
                None => {
                    branch.done = true;
                    asked = true;
                }
            }
        }
        if asked {
            todo.push(Action::Forget(ticket));
        }
        for client in clients {
            self.cancel_client(clock, client, todo);
        }
    }

    /// §9.1: a CANCEL may leave only after a provisional response has come.
    pub(super) fn cancel_client(&mut self, clock: Clock, ticket: Ticket, todo: &mut Vec<Action>) {
        let Some(client) = self
            .clients
            .get_mut(ticket.slot as usize)
            .filter(|client| client.serial == ticket.serial)
        else {
            return;
        };
        let ClientMachine::Invite(machine) = &client.machine else {
            return;
        };
        if !matches!(client.cancel, Cancel::No) {
            return;
        }
        match machine.state() {
            State::Calling => client.cancel = Cancel::Wanted,
            State::Proceeding => {
                self.send_cancel(clock, ticket, todo);
            }
            State::Trying | State::Accepted | State::Completed | State::Confirmed | State::Terminated => {}
        }
    }

    /// Gives whether there was something to cancel.
    pub(super) fn send_cancel(&mut self, clock: Clock, ticket: Ticket, todo: &mut Vec<Action>) -> bool {
        let Some(client) = self
            .clients
            .get(ticket.slot as usize)
            .filter(|client| client.serial == ticket.serial)
        else {
            return false;
        };
        let ClientMachine::Invite(machine) = &client.machine else {
            return false;
        };
        let (Some(sent), Some(leave)) = (machine.request(), client.leave.as_deref()) else {
            return false;
        };
        self.out.clear();
        if sps_wire::request::write_cancel(sent, &mut self.out).is_err() {
            return false;
        }
        // The request it belongs to says why; where that is gone, another branch has answered it.
        let active = self
            .contexts
            .get(client.context.slot as usize)
            .filter(|context| context.serial == client.context.serial);
        let reason = active
            .and_then(|context| context.active.as_deref())
            .map_or(COMPLETED_ELSEWHERE, |active| &active.cancel_reason);
        if self.out.ends_with(b"\r\n\r\n") {
            self.out.truncate(self.out.len() - 2);
            self.out.extend_from_slice(reason);
            self.out.extend_from_slice(b"\r\n");
        }
        let bytes = Bytes::copy_from_slice(&self.out);
        let reliable = leave.is_reliable();
        let mut steps = Vec::new();
        let machine = NonInviteClient::start(clock.now, bytes, reliable, &self.conf.timers, &mut steps);
        if let Some(client) = self.clients.get_mut(ticket.slot as usize) {
            client.cancel = Cancel::Sent(Box::new(machine));
            // §9.1: without a final response by then the INVITE counts as cancelled.
            client.give_up_at = Some(clock.now + self.conf.timers.timer_f());
        }
        self.perform_cancel(ticket, &mut steps, todo);
        self.schedule_client(ticket);
        true
    }

    /// Carries out what the CANCEL's own machine asked for; what comes of it interests nobody.
    pub(super) fn perform_cancel(
        &mut self,
        ticket: Ticket,
        steps: &mut Vec<transaction::Action<Bytes>>,
        todo: &mut Vec<Action>,
    ) {
        let client = self
            .clients
            .get(ticket.slot as usize)
            .filter(|client| client.serial == ticket.serial);
        let leave = client.and_then(|client| client.leave.as_deref());
        for step in steps.drain(..) {
            if let (transaction::Action::Transmit(bytes), Some(leave)) = (step, leave) {
                todo.push(Action::Send {
                    leave: leave.clone(),
                    bytes,
                    token: 0,
                });
            }
        }
    }

    /// Timer C (§16.8), or the end of the wait for what a CANCEL brings (§9.1).
    pub(super) fn on_timer_c(&mut self, clock: Clock, ticket: Ticket, todo: &mut Vec<Action>) {
        let Some(client) = self
            .clients
            .get_mut(ticket.slot as usize)
            .filter(|client| client.serial == ticket.serial)
        else {
            return;
        };
        let (request, branch) = (client.context, client.branch);
        client.give_up_at = None;
        let left = client.standing == Standing::Left;
        let ClientMachine::Invite(machine) = &client.machine else {
            return;
        };
        let sent = matches!(client.cancel, Cancel::Sent(_));
        match machine.state() {
            State::Proceeding if !sent && self.send_cancel(clock, ticket, todo) => {}
            State::Proceeding | State::Calling if left => drop(self.clients.remove(ticket.slot as usize)),
            State::Proceeding | State::Calling => {
                self.clients.remove(ticket.slot as usize);
                self.end_branch(request, branch, 408, Bytes::new());
                self.settle(clock, request, todo);
            }
            State::Trying | State::Accepted | State::Completed | State::Confirmed | State::Terminated => {}
        }
    }
}
