//! From one destination of a branch to the next (RFC 3263 §4.3, RFC 3261 §16.7, §16.9, RFC 4321 §1.3).
//!
//! Each attempt is a client transaction of its own with a branch token of its own. One that is left because its server kept
//! silent lives on until its own end: a 2xx that still comes is forwarded, what still rings is cancelled.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sps_wire::flow::{Destination, Transport};
use sps_wire::{Message, Name};

use super::context::{Cancel, Client, ClientMachine, Leave, Standing};
use super::{Action, BranchTicket, Clock, Journal, Proxy, Ticket};
use crate::timers::TimerConf;
use crate::transaction::State;

impl<W, J: Journal> Proxy<W, J> {
    /// A destination has said nothing for [`super::Conf::next_hop_timeout`]: is there another one? Until that is known it may
    /// still answer, and if there is none it has all of Timer B or F (§16.6 step 7).
    pub(super) fn on_silence(&mut self, clock: Clock, ticket: Ticket, todo: &mut Vec<Action>) {
        let Some(client) = self
            .clients
            .get_mut(ticket.slot as usize)
            .filter(|client| client.serial == ticket.serial)
        else {
            return;
        };
        client.standing = Standing::Alone;
        client.give_up_at = client.timer_c_at(clock, &self.conf.timers);
        let (request, branch) = (client.context, client.branch);
        if !matches!(client.cancel, Cancel::No) || !self.is_attempt_of(ticket, request, branch) {
            return;
        }
        if let Some(client) = self.clients.get_mut(ticket.slot as usize) {
            client.standing = Standing::Searching;
        }
        todo.push(Action::Walk(BranchTicket { request, branch }));
    }

    /// Whether a branch that goes on elsewhere has a client transaction that keeps it from doing so.
    pub(super) fn is_waited_for(&self, client: Ticket) -> bool {
        self.clients
            .get(client.slot as usize)
            .is_some_and(|known| known.serial == client.serial && known.standing != Standing::Searching)
    }

    /// There is no other destination: what was silent goes on being waited for.
    pub(super) fn wait_on(&mut self, ticket: Ticket) {
        if let Some(client) = self
            .clients
            .get_mut(ticket.slot as usize)
            .filter(|client| client.serial == ticket.serial)
        {
            client.standing = Standing::Alone;
        }
    }

    /// The branch goes on at another destination. Nothing more is sent to this one but, for an INVITE, a CANCEL should it
    /// show a sign of life (§9.1).
    pub(super) fn leave_behind(&mut self, ticket: Ticket, todo: &mut Vec<Action>) {
        let Some(client) = self
            .clients
            .get_mut(ticket.slot as usize)
            .filter(|client| client.serial == ticket.serial)
        else {
            return;
        };
        client.standing = Standing::Left;
        match &mut client.machine {
            ClientMachine::Invite(machine) => {
                machine.stop_resending();
                client.cancel = Cancel::Wanted;
            }
            ClientMachine::Other(machine) => machine.stop_resending(),
        }
        if let Some(destination) = client.destination() {
            todo.push(Action::Avoid {
                destination: destination.clone(),
                retry_after: None,
            });
        }
        let (request, branch) = (client.context, client.branch);
        if let Some(entry) = self
            .active(request)
            .and_then(|active| active.branches.get_mut(usize::from(branch)))
        {
            entry.client = None;
        }
    }

    /// The edge could not open the connection for what bore this token: refused, unreachable. What took TCP for its size alone
    /// takes UDP (§18.1.1); all else has failed.
    pub fn on_connect_failed(&mut self, clock: Clock, token: u64, todo: &mut Vec<Action>) {
        let ticket = Ticket::from_u64(token);
        let waiting = |client: &&Client| client.serial == ticket.serial && client.moved && client.is_waiting();
        let moved = self.clients.get(ticket.slot as usize).filter(waiting);
        let by_udp = moved.and_then(|client| {
            let destination = client.destination()?;
            let listener = self.conf.listener_towards(Transport::Udp, &destination.addr)?;
            let destination = Destination {
                transport: Transport::Udp,
                ..destination.clone()
            };
            let leave = Leave::Onward { listener, destination };
            Some((client.context, client.branch, leave))
        });
        let Some((request, branch, leave)) =
            by_udp.filter(|(request, branch, _)| self.is_attempt_of(ticket, *request, *branch))
        else {
            return self.on_send_failed(clock, token, todo);
        };
        self.clients.remove(ticket.slot as usize);
        if let Some(entry) = self
            .active(request)
            .and_then(|active| active.branches.get_mut(usize::from(branch)))
        {
            entry.client = None;
        }
        self.launch(clock, BranchTicket { request, branch }, leave, true, todo);
    }

    /// ICMP said that nothing listens at `addrs` any more: every request that waits for its first response from there by UDP fails.
    pub fn on_unreachable(&mut self, clock: Clock, addrs: &[SocketAddr], todo: &mut Vec<Action>) {
        let places = addrs.iter().map(|addr| (Transport::Udp, *addr));
        self.silent.next.extend(places.take(MAX_SILENT));
        self.go_on_looking(clock, todo);
    }

    /// Connections that we had opened are gone, whoever was to answer by them with them.
    pub fn on_streams_lost(&mut self, clock: Clock, lost: &[(Transport, SocketAddr)], todo: &mut Vec<Action>) {
        self.silent.next.extend(lost.iter().take(MAX_SILENT));
        self.go_on_looking(clock, todo);
    }

    /// Looks for requests that wait for places known to be silent. A stranger can have ICMP sent as often as he likes, so one
    /// call looks at a bounded number: call it some times a second, until all have been looked at.
    pub fn go_on_looking(&mut self, clock: Clock, todo: &mut Vec<Action>) {
        let mut left = LOOKED_AT;
        while left > 0 {
            if self.silent.now.is_empty() {
                if self.silent.next.is_empty() {
                    return;
                }
                std::mem::swap(&mut self.silent.now, &mut self.silent.next);
                self.silent.at = 0;
            }
            let (from, end) = (self.silent.at, self.clients.end());
            let to = end.min(from.saturating_add(left));
            left -= to.saturating_sub(from).clamp(1, left);
            let concerned = |slot: usize| {
                let client = self.clients.get(slot).filter(|client| client.is_waiting())?;
                let place = match client.leave.as_deref()? {
                    Leave::Onward { destination, .. } => (destination.transport, destination.addr),
                    Leave::Flow(flow) => (flow.transport, flow.remote),
                    Leave::Reply(_) => return None,
                };
                let ticket = Ticket {
                    slot: slot as u32,
                    serial: client.serial,
                };
                self.silent.now.contains(&place).then(|| ticket.to_u64())
            };
            let tokens: Vec<u64> = (from..to).filter_map(concerned).collect();
            self.silent.at = to;
            if to >= end {
                self.silent.now.clear();
            }
            for token in tokens {
                self.on_send_failed(clock, token, todo);
            }
        }
    }

    /// Whether this client transaction is the one by which its branch goes on, and the branch still may.
    fn is_attempt_of(&self, client: Ticket, request: Ticket, branch: u16) -> bool {
        let active = self.context(request).and_then(|context| context.active.as_deref());
        active.is_some_and(|active| {
            let entry = active.branches.get(usize::from(branch));
            !active.cancelled && entry.is_some_and(|entry| !entry.done && entry.client == Some(client))
        })
    }
}

impl Client {
    /// Nothing has come back yet.
    fn is_waiting(&self) -> bool {
        let state = match &self.machine {
            ClientMachine::Invite(machine) => machine.state(),
            ClientMachine::Other(machine) => machine.state(),
        };
        matches!(state, State::Calling | State::Trying)
    }

    /// §16.6 step 11: from now on; only an INVITE has it.
    pub(super) fn timer_c_at(&self, clock: Clock, conf: &TimerConf) -> Option<Instant> {
        match self.machine {
            ClientMachine::Invite(_) => Some(clock.now + conf.timer_c),
            ClientMachine::Other(_) => None,
        }
    }

    /// The destination it tries, unless it goes along a flow.
    pub(super) fn destination(&self) -> Option<&Destination> {
        match self.leave.as_deref() {
            Some(Leave::Onward { destination, .. }) => Some(destination),
            Some(Leave::Flow(_) | Leave::Reply(_)) | None => None,
        }
    }
}

/// §20.33: how long the sender of a 503 wants to be left alone (§21.5.4). Comments and parameters play no part.
pub(super) fn retry_after(message: Message<'_>) -> Option<Duration> {
    let header = message.first(Name::RetryAfter)?;
    let digits = header.value();
    let len = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let seconds = sps_wire::parse_u32(&digits[..len])?;
    Some(Duration::from_secs(seconds.into()))
}

/// Places that are known to be silent, and how far the look for who waits for them has come.
#[derive(Debug, Default)]
pub(super) struct Silent {
    now: HashSet<(Transport, SocketAddr)>,
    /// Heard of since that look began.
    next: HashSet<(Transport, SocketAddr)>,
    at: usize,
}

/// Client transactions looked at in one call: all there are, but for a storm.
const LOOKED_AT: usize = 16 * 1024;

/// Places taken from one call.
const MAX_SILENT: usize = 256;
