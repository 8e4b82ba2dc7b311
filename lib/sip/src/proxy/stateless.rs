//! Forward and forget (RFC 3261 §16.11).
//!
//! **What is forwarded without state.** In mode *stateless*, a request for which routing gives one target that is *steady*:
//! message and configuration alone led there, and a datagram to an address is all that it takes. Everything else is handled
//! by a transaction as in mode *stateful*: what a registration leads to; what forks; what has a name to be resolved; what
//! leaves over a stream, for its size too (§18.1.1), since connecting may fail with nobody left to be told; what has routes of
//! lower priority in reserve; what would go to a destination that has failed a moment ago; and all requests for the length of Timer B after routes or configuration have changed, since a repetition must not be led
//! elsewhere than what it repeats. REGISTER goes to the registrar, who keeps nothing of it either.
//!
//! **How.** A request is deferred: its context stands until routing has answered, which takes no time in the cases above, and
//! goes with the message. No 100, no timer. What is refused is refused by a stateless UAS (§8.2.7).
//!
//! **The same way each time.** The branch is a keyed hash of what a request shares with its repetitions, its CANCEL and the ACK
//! of its failure ([`check::transaction_key`]), and the dice that choose among routes by weight are thrown with it
//! ([`Proxy::dice_of`]). Our Record-Route carries no time.
//!
//! **Back.** A response is known by the form of our branch. Where it goes stands beside the branch, in the Via parameter
//! `back`, under a MAC: it is the flow the request came by, so that the answer leaves by the very socket or connection, and
//! nobody can make us send to where nothing came from. This works in every mode, in every worker and after a restart.
//!
//! **CANCEL** (§16.10) that belongs to no transaction is forwarded like its INVITE, and **ACK** too, from the first moment on
//! that this core has forwarded without state: also when the mode has changed since.

use bytes::Bytes;
use sps_wire::flow::Flow;
use sps_wire::{Message, Method, Response, Via};

use super::check;
use super::conf::Conf;
use super::context::{Active, Server};
use super::mode::Mode;
use super::token::StatelessBranch;
use super::{Action, Clock, Journal, Leave, Proxy, Target, Ticket, receive};
use crate::transaction::{InviteServer, NonInviteServer};

/// The Via parameter that tells where responses go.
pub(super) const WAY_BACK: &[u8] = b"back";

/// What our Via says of a request that nothing is kept of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trail {
    pub branch: StatelessBranch,
    /// Where responses go; an ACK has none.
    pub back: Option<Flow>,
}

impl Trail {
    pub fn of(conf: &Conf, message: Message<'_>, back: Option<Flow>) -> Trail {
        let branch = StatelessBranch {
            key: check::transaction_key(conf, message),
            loop_hash: check::stateless_loop_hash(conf, message),
        };
        Trail { branch, back }
    }

    /// Appends the branch value and the parameters that go with it.
    pub fn write(&self, conf: &Conf, out: &mut Vec<u8>) {
        self.branch.write(out);
        if let Some(back) = &self.back {
            out.push(b';');
            out.extend_from_slice(WAY_BACK);
            out.push(b'=');
            conf.keys.write_way_back(back, self.branch, out);
        }
    }
}

impl<W, J: Journal> Proxy<W, J> {
    /// The number by which routing throws its dice for this request, so that all that belongs to one transaction goes one
    /// way. `None` if nothing depends on that.
    pub fn dice_of(&self, ticket: Ticket) -> Option<u64> {
        if !self.has_forgotten {
            return None;
        }
        let active = self.context(ticket)?.active.as_ref()?;
        Some(check::transaction_key(&self.conf, active.message()))
    }

    /// Whether the request is a repetition or an end of something that this core may have forwarded and forgotten, and must
    /// go where that went, whatever has changed since: CANCEL and ACK.
    pub fn must_follow(&self, ticket: Ticket) -> bool {
        let method = self
            .context(ticket)
            .and_then(|context| context.active.as_ref())
            .and_then(|active| active.message().method());
        self.has_forgotten && matches!(method, Some(Method::Cancel | Method::Ack))
    }

    /// An answer that routing needs will take time: from now on there is a transaction.
    pub fn takes_time(&mut self, clock: Clock, ticket: Ticket, todo: &mut Vec<Action>) {
        if self.is_deferred(ticket) {
            self.make_transaction(clock, ticket, todo);
        }
    }

    /// Whether there is no transaction so far, and perhaps need be none.
    pub fn is_deferred(&self, ticket: Ticket) -> bool {
        self.context(ticket)
            .is_some_and(|context| matches!(context.server, Server::Deferred))
    }

    /// A request has these targets: makes the transaction that forwarding to them needs, if one is needed. Gives whether they may
    /// be tried; if not, the request has been answered.
    pub(super) fn is_ready(
        &mut self,
        clock: Clock,
        ticket: Ticket,
        targets: &[Target<W>],
        todo: &mut Vec<Action>,
    ) -> bool {
        if !self.is_deferred(ticket) || targets.is_empty() || self.may_forget(ticket, targets) {
            return true;
        }
        self.may_go_onward(clock, ticket, todo) && self.make_transaction(clock, ticket, todo)
    }

    /// Whether these targets let a deferred request be forwarded and forgotten.
    fn may_forget(&self, ticket: Ticket, targets: &[Target<W>]) -> bool {
        let forgets = self.conf.mode == Mode::Stateless || self.must_follow(ticket);
        forgets && matches!(targets, [target] if target.steady)
    }

    /// A deferred request needs a transaction after all (§17.2). A CANCEL gets none: what it is about would have one too, and is
    /// not here. Gives whether there is one now.
    pub(super) fn make_transaction(&mut self, clock: Clock, ticket: Ticket, todo: &mut Vec<Action>) -> bool {
        let Some(context) = self
            .contexts
            .get_mut(ticket.slot as usize)
            .filter(|context| context.serial == ticket.serial)
        else {
            return false;
        };
        let Some(active) = context.active.as_deref() else {
            return false;
        };
        let reliable = active.flow.transport.is_reliable();
        let received_at = active.received_at;
        match active.message().method() {
            Some(Method::Cancel) => {
                self.respond(clock, ticket, &Response::new(481), todo);
                return false;
            }
            Some(Method::Invite) => {
                context.server = Server::Invite(InviteServer::start(reliable));
                self.respond(clock, ticket, &Response::new(100), todo);
            }
            _ => {
                context.server = Server::Other(NonInviteServer::start(reliable));
                let at = received_at + receive::late_trying_wait(&self.conf.timers);
                self.wake_context_at(ticket, at);
            }
        }
        true
    }

    /// A final response of ours to a deferred request: with the transaction it needs, or with none.
    pub(super) fn answer_deferred(
        &mut self,
        clock: Clock,
        ticket: Ticket,
        active: Active<W>,
        status: u16,
        bytes: Bytes,
        todo: &mut Vec<Action>,
    ) {
        let Some(context) = self.contexts.get_mut(ticket.slot as usize) else {
            return;
        };
        let reply = context.reply.flow();
        let reliable = active.flow.transport.is_reliable();
        let method = active.message().method();
        if self.conf.mode == Mode::Redirect && method != Some(Method::Cancel) {
            context.server = match method {
                Some(Method::Invite) => Server::Invite(InviteServer::start(reliable)),
                _ => Server::Other(NonInviteServer::start(reliable)),
            };
            self.retire(ticket, active, todo);
            self.respond_bytes(clock, ticket, status, bytes, todo);
            return;
        }
        self.retire(ticket, active, todo);
        todo.push(Action::Send {
            leave: Leave::Reply(reply),
            bytes,
            token: 0,
        });
        self.remove_context(ticket, todo);
    }

    /// A response to something that was forwarded and forgotten goes where its request came from. `false` if it is none.
    pub(super) fn return_response(
        &mut self,
        clock: Clock,
        flow: Flow,
        message: Message<'_>,
        todo: &mut Vec<Action>,
    ) -> bool {
        let Some(back) = message.top_via().ok().and_then(|via| self.way_back(&via)) else {
            return false;
        };
        // §16.7 step 3: without a Via below ours nobody else is meant.
        let Some(status) = message.status().filter(|_| message.vias().nth(1).is_some()) else {
            return false;
        };
        if status >= 200 {
            // It knows what only the one asked can know.
            self.prove(clock, flow);
        }
        let bytes = self.without_our_via(false, message);
        todo.push(Action::Send {
            leave: Leave::Reply(back),
            bytes,
            token: 0,
        });
        self.counters.responses += 1;
        self.counters.stateless_responses += 1;
        true
    }

    /// §16.11: the sent-by must be ours; and what else stands there must have been written by us.
    fn way_back(&self, via: &Via<'_>) -> Option<Flow> {
        let branch = StatelessBranch::parse(via.branch()?)?;
        let text = via.params.get(WAY_BACK).flatten()?;
        if !self.sent_by.is_ours(via) {
            return None;
        }
        self.conf.keys.read_way_back(text, branch)
    }
}
