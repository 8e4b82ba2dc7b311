//! Overload control with the neighbours (RFC 7339): what we ask of who sends to us, and what we do about what those ask that
//! we send to.

use std::net::SocketAddr;

use sps_wire::feedback::{Feedback, Seq, asks_for_feedback};
use sps_wire::flow::Flow;
use sps_wire::{Message, Method, OverloadStamp, ViaStamp};

use super::conf::Trusts;
use super::context::{Active, Leave};
use super::neighbours::Category;
use super::{Clock, Journal, Proxy, Ticket, receive, shedding};
use crate::overload::Controller;

/// How long what we ask for is in force (§4.3): it is renewed by every response to a request that came a tenth of a second later.
const VALIDITY_MS: u32 = 1_000;

/// What is sent to others about ourselves, and what it is worked out from.
#[derive(Debug)]
pub(super) struct Saying {
    /// §4.4: higher with every new word.
    seq_ms: u64,
    /// Requests of clients that hold back by themselves since the last step: new ones, and others.
    new: u32,
    others: u32,
    /// What they would send if nobody held anything back, smoothed.
    would_new: f64,
    would_others: f64,
    /// The share they let through, as far as they have heard of it: what they are told takes its time to arrive.
    let_through: f64,
}

impl Default for Saying {
    fn default() -> Self {
        Saying {
            seq_ms: 0,
            new: 0,
            others: 0,
            would_new: 0.0,
            would_others: 0.0,
            let_through: 1.0,
        }
    }
}

impl Saying {
    /// A request of a client that holds back by itself.
    pub fn count(&mut self, is_new: bool) {
        if is_new {
            self.new += 1;
        } else {
            self.others += 1;
        }
    }

    /// The controller has taken a step: `asked` was in force until now.
    pub fn step(&mut self, unix_ms: u64, asked: f64) {
        self.seq_ms = unix_ms.max(self.seq_ms + 1);
        self.let_through += SMOOTHING * (1.0 - asked - self.let_through);
        self.would_new += SMOOTHING * (f64::from(self.new) / self.let_through - self.would_new);
        self.would_others += SMOOTHING * (f64::from(self.others) - self.would_others);
        (self.new, self.others) = (0, 0);
    }

    /// What clients are asked for: we count by new requests, they by all that they would send (§5.3).
    fn feedback(&self, controller: &Controller) -> Feedback {
        let seq = Seq::of_ms(self.seq_ms);
        if !controller.is_active() {
            // §5.1, §5.7.
            return Feedback {
                percent: 0,
                validity_ms: 0,
                seq,
            };
        }
        let all = self.would_new + self.would_others;
        let of_all = if all > 0.0 { self.would_new / all } else { 1.0 };
        Feedback {
            percent: (100.0 * controller.asked() * of_all).round().clamp(1.0, 100.0) as u8,
            validity_ms: VALIDITY_MS,
            seq,
        }
    }
}

/// Of what one step saw, so much counts.
const SMOOTHING: f64 = 0.2;

impl<W, J: Journal> Proxy<W, J> {
    /// Whether the sender of this request wants to know how much to hold back, and is told.
    pub(super) fn asks_for_feedback(&self, message: Message<'_>) -> bool {
        self.conf.overload.feedback && message.top_via().is_ok_and(|via| asks_for_feedback(&via))
    }

    /// What we ask for now.
    pub(super) fn feedback(&self) -> Feedback {
        self.saying.feedback(&self.shedding.controller)
    }

    /// What the top Via of a response of ours is told.
    // Departs from RFC 7339 §5.2: a response that is repeated is the one kept and says what was true when it was made, as §5.2
    // lets who will not make it anew; what is true now is in the next one.
    pub(super) fn response_stamp(&self, flow: Flow, message: Message<'_>) -> ViaStamp {
        let mut stamp = receive::stamp(message, flow);
        if self.asks_for_feedback(message) {
            stamp.overload = OverloadStamp::Say(self.feedback());
        }
        stamp
    }

    /// A server has answered a request that we sent it (§5.4).
    pub(super) fn note_feedback(&mut self, clock: Clock, ticket: Ticket, via: &sps_wire::Via<'_>) {
        if !self.conf.overload.feedback {
            return;
        }
        let Some(feedback) = Feedback::of(via) else { return };
        let client = self.clients.get(ticket.slot as usize);
        if let Some(leave) = client.and_then(|client| client.leave.as_deref()) {
            self.neighbours.note(clock.now, address(leave), feedback);
        }
    }

    /// Whether the request behind `ticket` may go there now (§5.5).
    pub(super) fn may_send(&mut self, clock: Clock, ticket: Ticket, leave: &Leave) -> bool {
        if !self.conf.overload.feedback || self.neighbours.is_empty() {
            return true;
        }
        let draw = self.unforeseeable();
        let trusts = self.conf.overload.trusts.clone();
        let Some(active) = self.active(ticket) else { return true };
        let category = category(active, &trusts);
        let allowed = self.neighbours.allows(clock.now, address(leave), category, draw);
        if !allowed {
            self.counters.held_back += 1;
        }
        allowed
    }

    /// Servers that ask us to hold back now.
    pub fn asking_neighbours(&self, clock: Clock) -> usize {
        self.neighbours.len(clock.now)
    }
}

fn address(leave: &Leave) -> SocketAddr {
    match leave {
        Leave::Reply(flow) | Leave::Flow(flow) => flow.remote,
        Leave::Onward { destination, .. } => destination.addr,
    }
}

/// §5.10.1: what belongs to a call that was let in comes before new ones, and so do emergencies and what a known neighbour says is
/// urgent.
fn category<W>(active: &Active<W>, trusts: &Trusts) -> Category {
    let message = active.message();
    if message.method() == Some(Method::Ack) {
        return Category::Exempt;
    }
    let urgent = || (trusts.0)(active.flow.remote.ip()) && shedding::has_priority(message);
    if active.route.token.is_some() || shedding::is_emergency(message) || urgent() {
        return Category::Second;
    }
    Category::First
}
