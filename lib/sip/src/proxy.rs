//! The proxy core (RFC 3261 §16): what a transaction-stateful proxy does with a message, sans-IO.
//!
//! One [`Proxy`] belongs to one worker and owns all protocol state of it: server transactions with their response
//! contexts, client transactions, one timing wheel. Feed it messages, answers and the time; do every [`Action`] it pushes,
//! in order, before the next event. It never waits: what it does not know (where a request goes, what a name resolves to)
//! it asks for by an action that carries a ticket, and goes on when the answer comes. A ticket whose request has ended
//! meanwhile is simply unknown.
//!
//! `W` is the edge's own state of a target (its list of next hops); the core carries it and hands it back. `J` is told
//! of every finished server transaction (the access log).

mod best;
mod breadth;
mod cancel;
mod check;
mod conf;
mod context;
mod failover;
mod feedback;
mod forward;
mod matching;
mod mode;
mod neighbours;
mod receive;
mod recurse;
mod redirect;
mod request_uri;
mod response;
mod room;
mod sent_by;
mod shedding;
mod sips;
mod size;
mod stateless;
#[cfg(test)]
mod tests;
mod token;

use std::cell::RefCell;
use std::hash::Hasher;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;
use sps_wire::flow::{Destination, Flow, Transport};
use sps_wire::{Edits, Index, Limits, Message, Response};

pub use conf::{Conf, Denies, Fork, Listener, Ours, Overload, Trusts};
pub use context::Leave;
pub use mode::Mode;
pub use recurse::RecursionTicket;
pub use shedding::{Registrations, Shed};
pub use token::{BranchToken, Keys, MAGIC_COOKIE, MacKey, RouteToken, Travel};

use crate::guard::{Guard, GuardConf, Kind};
use crate::overload::Controller;
use crate::table::Table;
use crate::transaction::{self, State};
use crate::wheel::Wheel;
use context::{Active, Client, ClientMachine, Context, Server, Standing};
use feedback::Saying;
use matching::Matching;
use neighbours::Neighbours;
use sent_by::SentBy;
use shedding::Shedding;

/// The time of an event, as the edge saw it.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// For timers.
    pub now: Instant,
    /// For what others read: milliseconds since 1970.
    pub unix_ms: u64,
}

/// Names a server transaction (or, in [`BranchTicket`], a branch of one) while a question about it is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    slot: u32,
    serial: u32,
}

impl Ticket {
    /// The ticket as one number, for tables of the edge and for messages between processes.
    pub fn to_u64(self) -> u64 {
        u64::from(self.slot) << 32 | u64::from(self.serial)
    }

    /// The reverse of [`Self::to_u64`].
    pub fn from_u64(number: u64) -> Ticket {
        Ticket {
            slot: (number >> 32) as u32,
            serial: number as u32,
        }
    }
}

/// Names one branch of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BranchTicket {
    /// The request it belongs to.
    pub request: Ticket,
    branch: u16,
}

/// What the edge must do, in the order pushed.
#[derive(Debug)]
pub enum Action {
    /// Send `bytes`. If that is found impossible, [`Proxy::on_send_failed`] wants `token` back, unless it is zero.
    Send {
        /// How it leaves.
        leave: Leave,
        /// A whole message.
        bytes: Bytes,
        /// Which client transaction it belongs to.
        token: u64,
    },
    /// Find targets for this request, then call [`Proxy::on_targets`] or [`Proxy::on_refused`].
    Route(Ticket),
    /// Find targets for one more URI ([`Proxy::recursion_uri`]), then call [`Proxy::on_recursion`].
    Recurse(RecursionTicket),
    /// Find the next destination of this branch ([`Proxy::walk`]), then call [`Proxy::on_destination`].
    Walk(BranchTicket),
    /// Let the registrar answer this request ([`Proxy::request_for_service`]), then call [`Proxy::on_service_response`].
    Serve(Ticket),
    /// Nobody waits for answers to questions about this request any more.
    Forget(Ticket),
    /// Others are to be tried before this destination for a while: it failed, kept silent, or (with its `Retry-After`) asked for it
    /// by 503 (§21.5.4).
    Avoid {
        /// Which one.
        destination: Destination,
        /// What the 503 said.
        retry_after: Option<Duration>,
    },
    /// This destination gave a request its first response: it is alive.
    Answered(Destination),
}

/// One place a request may go (§16.5), with the edge's state of how to get there.
#[derive(Debug, Clone)]
pub struct Target<W> {
    /// The new Request-URI; empty to keep the one received.
    pub uri: Bytes,
    /// Preference in thousandths.
    pub q: u16,
    /// Route values to put on top, in order (RFC 3327 §5.2).
    pub path: SmallVec<[Bytes; 1]>,
    /// The flow it is bound to, if it is: to the core no more than what tells two targets of one URI apart.
    pub flow: Option<Flow>,
    /// Reached by TLS only; the core sets it where a SIPS contact is tried for a SIP URI (RFC 5630 §5.3).
    pub secure: bool,
    /// The edge's list of flows and next hops, and how far it has come.
    pub walk: W,
    /// The caller is told of it (§8.3); nothing is sent there.
    pub redirect: bool,
    /// A repetition of the request would be led here too, by what it says itself: it may be forwarded without state (§16.11).
    pub steady: bool,
}

/// Where a branch goes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Along a flow that a binding or a dialog left us.
    Flow(Flow),
    /// To an address.
    Destination(Destination),
}

impl Reach {
    /// What it is reached by.
    pub fn transport(&self) -> Transport {
        match self {
            Reach::Flow(flow) => flow.transport,
            Reach::Destination(destination) => destination.transport,
        }
    }
}

/// Which worker has which server transaction, for installations with more than one. Keyed by fingerprint (§17.2.3).
///
/// Kept outside the workers and shared by them; must not block.
pub trait Owners: Send + Sync {
    /// The worker that has this transaction.
    fn owner(&self, fingerprint: u128) -> Option<u8>;
    /// Notes that `worker` has it from now on, unless another one has.
    ///
    /// # Errors
    /// The worker that has it already.
    fn claim(&self, fingerprint: u128, worker: u8) -> Result<(), u8>;
    /// Forgets it.
    fn release(&self, fingerprint: u128, worker: u8);
}

/// One finished server transaction, for the access log.
#[derive(Debug)]
pub struct Finished<'a> {
    /// The request as received.
    pub request: Message<'a>,
    /// Where it came from.
    pub flow: Flow,
    /// The status that went upstream; 408 also where RFC 4320 §4.2 lets nothing be sent.
    pub status: u16,
    /// When the request came, milliseconds since 1970.
    pub received_ms: u64,
    /// Milliseconds from the request to the final response.
    pub took_ms: u64,
    /// Where it went last.
    pub next: Option<&'a Destination>,
    /// The stage of routing that decided.
    pub stage: &'static str,
    /// Branches begun.
    pub branches: usize,
}

/// Is told of every finished server transaction.
pub trait Journal {
    /// Called once for each, when its final response is decided.
    fn finished(&mut self, finished: &Finished<'_>);

    /// Called about once a second for each source whose requests were refused for overload; none of those is `finished`.
    fn shed(&mut self, shed: &Shed) {
        let _ = shed;
    }
}

/// What the core has seen, since it began. Every refusal and drop is counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Requests received, retransmissions included.
    pub requests: u64,
    /// Responses received.
    pub responses: u64,
    /// Requests that matched a transaction and were absorbed.
    pub retransmissions: u64,
    /// Messages that could not be read and got no answer.
    pub garbage: u64,
    /// Requests refused by the checks of §16.3.
    pub refused: u64,
    /// Requests refused because there was too much to do, or the transaction table was full.
    pub overload: u64,
    /// Of these, new requests of unknown sources.
    pub full_unknown: u64,
    /// Of these, new requests of proven sources and friends.
    pub full_known: u64,
    /// Of these, requests of dialogs.
    pub full_dialog: u64,
    /// Requests refused as forbidden.
    pub refused_forbidden: u64,
    /// Requests for nobody here.
    pub refused_not_found: u64,
    /// CANCELs that match nothing.
    pub refused_unmatched: u64,
    /// Branches not begun because there were too many client transactions.
    pub full_clients: u64,
    /// New INVITEs dropped unread because refusing them would have been too much.
    pub overload_dropped: u64,
    /// Requests that did not go where they should because a server there asked us to hold back (RFC 7339).
    pub held_back: u64,
    /// Responses that belong to no transaction of ours (RFC 6026 §8.9).
    pub stray_responses: u64,
    /// ACKs that nothing waits for.
    pub stray_acks: u64,
    /// Requests that took TCP because they were too large for UDP (§18.1.1).
    pub moved_to_tcp: u64,
    /// Times a request went on to another destination of the same target (RFC 3263 §4.3).
    pub failovers: u64,
    /// Requests forwarded without keeping anything of them (§16.11).
    pub stateless_requests: u64,
    /// Responses to such requests.
    pub stateless_responses: u64,
    /// Requests answered, or to be answered if nothing better comes, with where to go (§8.3).
    pub redirected: u64,
    /// Targets that a 3xx from downstream has added (§16.7 step 4).
    pub recursions: u64,
}

/// The proxy core of one worker.
pub struct Proxy<W, J> {
    conf: Conf,
    sent_by: SentBy,
    limits: Limits,
    journal: J,
    contexts: Table<Context<W>>,
    clients: Table<Client>,
    /// Server transactions by fingerprint (§17.2.3).
    matching: Matching,
    owners: Option<Arc<dyn Owners>>,
    guard: Rc<RefCell<Guard>>,
    /// Connections of sources that have been proven since it was last asked.
    proved: RefCell<Vec<u64>>,
    silent: failover::Silent,
    /// Bytes that contexts keep, about.
    stored_len: usize,
    wheel: Wheel<Wake>,
    counters: Counters,
    shedding: Shedding,
    saying: Saying,
    neighbours: Neighbours,
    /// Requests have been forwarded without state, or may have been: their CANCEL and ACK may come at any time.
    has_forgotten: bool,
    /// Makes the numbers of this core unlike those of others, and of its former lives.
    seed: u64,
    serial: u64,
    /// Scratch, kept for its memory. What a client machine asks for may lead to a server machine; hence two lists.
    client_steps: Vec<transaction::Action<Bytes>>,
    server_steps: Vec<transaction::Action<Bytes>>,
    due: Vec<Wake>,
    out: Vec<u8>,
    edits: Edits,
    #[expect(clippy::vec_box, reason = "the boxes move into response contexts and back")]
    indexes: Vec<Box<Index>>,
}

#[derive(Debug, Clone, Copy)]
enum Wake {
    Context(Ticket),
    Client(Ticket),
}

/// Connections noted between two times of asking; one that is left out is noted with its next message.
const MAX_PROVED: usize = 1024;

/// Indexes kept for the next request.
const INDEX_POOL: usize = 256;

impl<W, J: Journal> Proxy<W, J> {
    /// A core without a transaction. `seed` makes serials unlike those of other cores.
    pub fn new(conf: Conf, limits: Limits, journal: J, seed: u64, now: Instant) -> Self {
        let mut sent_by = SentBy::default();
        sent_by.add(&conf.listeners);
        let shedding = Shedding::new(Controller::new(conf.overload.control, now));
        Proxy {
            sent_by,
            limits,
            journal,
            contexts: Table::new(),
            clients: Table::new(),
            matching: Matching::default(),
            owners: None,
            guard: Rc::new(RefCell::new(Guard::new(GuardConf::off(), seed, now))),
            proved: RefCell::default(),
            silent: failover::Silent::default(),
            stored_len: 0,
            wheel: Wheel::new(now),
            counters: Counters::default(),
            shedding,
            saying: Saying::default(),
            neighbours: Neighbours::default(),
            has_forgotten: conf.mode == Mode::Stateless,
            conf,
            seed,
            serial: 0,
            client_steps: Vec::new(),
            server_steps: Vec::new(),
            due: Vec::new(),
            out: Vec::new(),
            edits: Edits::default(),
            indexes: Vec::new(),
        }
    }

    /// Shares the work with other cores: what another one has is handed back by [`Proxy::on_message`].
    pub fn share(&mut self, owners: Arc<dyn Owners>) {
        self.owners = Some(owners);
    }

    /// Has `guard` judge who sends. Until then everybody is trusted.
    pub fn guard_by(&mut self, guard: Rc<RefCell<Guard>>) {
        self.guard = guard;
    }

    /// Puts a new configuration in force for what comes from now on. Transactions under way keep the listeners they use
    /// by number, so the list of listeners must be the same. Transactions are matched by the key they were begun under, so
    /// that one stays for the life of the core.
    pub fn reconfigure(&mut self, mut conf: Conf) {
        conf.keys.keep_hashes_of(&self.conf.keys);
        self.sent_by.add(&conf.listeners);
        self.shedding.controller.configure(conf.overload.control);
        self.has_forgotten |= conf.mode == Mode::Stateless;
        self.conf = conf;
    }

    /// The configuration in force.
    pub fn conf(&self) -> &Conf {
        &self.conf
    }

    /// What has been counted so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Server transactions that live, those waiting for retransmissions included.
    pub fn transactions(&self) -> usize {
        self.contexts.len()
    }

    /// Requests without a final response so far.
    pub fn undecided_requests(&self) -> usize {
        self.contexts
            .iter()
            .filter(|(_, context)| context.active.is_some())
            .count()
    }

    /// Bytes that transactions keep, about.
    pub fn stored_len(&self) -> usize {
        self.stored_len
    }

    /// Client transactions that live.
    pub fn client_transactions(&self) -> usize {
        self.clients.len()
    }

    /// The journal handed in.
    pub fn journal_mut(&mut self) -> &mut J {
        &mut self.journal
    }

    /// When to call [`Self::on_deadline`] next.
    pub fn deadline(&self) -> Option<Instant> {
        self.wheel.next()
    }

    /// Time has passed: lets every machine that waited for it act.
    pub fn on_deadline(&mut self, clock: Clock, todo: &mut Vec<Action>) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(clock.now, &mut due);
        for wake in due.drain(..) {
            match wake {
                Wake::Context(ticket) => self.wake_context(clock, ticket, todo),
                Wake::Client(ticket) => self.wake_client(clock, ticket, todo),
            }
        }
        self.due = due;
    }

    /// The request behind `ticket`, as received, with the flow it came by.
    pub fn request(&self, ticket: Ticket) -> Option<(Message<'_>, Flow)> {
        let active = self.context(ticket)?.active.as_ref()?;
        Some((active.message(), active.flow))
    }

    /// Whether the request behind `ticket` was let through as part of a dialog, and the flow to its other side if known.
    pub fn dialog(&self, ticket: Ticket) -> (bool, Option<Flow>) {
        match self.context(ticket).and_then(|context| context.active.as_ref()) {
            Some(active) => (active.route.token.is_some(), active.route.flow),
            None => (false, None),
        }
    }

    /// Whether nothing speaks for who sent the request behind `ticket`: it goes first where there is little room.
    pub fn is_stranger(&self, ticket: Ticket) -> bool {
        self.context(ticket)
            .and_then(|context| context.active.as_ref())
            .is_some_and(|active| active.stranger)
    }

    /// The Request-URI by which `ticket` is routed: as received, or as §16.4 repaired it.
    pub fn routed_uri(&self, ticket: Ticket) -> Option<&[u8]> {
        let active = self.context(ticket)?.active.as_ref()?;
        match &active.route.request_uri {
            Some(uri) => Some(uri),
            None => active.message().request_uri(),
        }
    }

    /// The topmost Route URI that is left after ours are taken off (§16.4), if any.
    pub fn remaining_route(&self, ticket: Ticket) -> Option<&[u8]> {
        let active = self.context(ticket)?.active.as_ref()?;
        forward::remaining_routes(active).next()
    }

    /// The edge's state of a target, to find its next destination with.
    pub fn walk(&mut self, ticket: BranchTicket) -> Option<&mut W> {
        let context = self
            .contexts
            .get_mut(ticket.request.slot as usize)
            .filter(|c| c.serial == ticket.request.serial)?;
        let branch = context.active.as_mut()?.branches.get_mut(usize::from(ticket.branch))?;
        Some(&mut branch.target.walk)
    }

    fn context(&self, ticket: Ticket) -> Option<&Context<W>> {
        self.contexts
            .get(ticket.slot as usize)
            .filter(|context| context.serial == ticket.serial)
    }

    fn active(&mut self, ticket: Ticket) -> Option<&mut Active<W>> {
        let context = self
            .contexts
            .get_mut(ticket.slot as usize)
            .filter(|context| context.serial == ticket.serial)?;
        context.active.as_deref_mut()
    }

    /// Tells successive owners of one place in a table apart; nobody else gets to see it.
    fn next_serial(&mut self) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        self.serial as u32
    }

    /// A number that only who holds the installation's keys can foresee: it goes into branch tokens, and who guesses one may
    /// answer for others.
    fn unforeseeable(&mut self) -> u32 {
        let mut hasher = self.conf.keys.matching_hasher();
        hasher.write_u64(self.seed);
        self.serial = self.serial.wrapping_add(1);
        hasher.write_u64(self.serial);
        hasher.finish() as u32
    }

    fn wake_context(&mut self, clock: Clock, ticket: Ticket, todo: &mut Vec<Action>) {
        let Some(context) = self
            .contexts
            .get_mut(ticket.slot as usize)
            .filter(|c| c.serial == ticket.serial)
        else {
            return;
        };
        let woken_for = context.wake_at.take();
        if let Server::Other(machine) = &context.server
            && matches!(machine.state(), State::Trying | State::Proceeding)
        {
            return self.wake_undecided(clock, ticket, woken_for, todo);
        }
        let mut steps = std::mem::take(&mut self.server_steps);
        match &mut context.server {
            Server::Invite(machine) => machine.on_deadline(clock.now, &self.conf.timers, &mut steps),
            Server::Other(machine) => machine.on_deadline(clock.now, &self.conf.timers, &mut steps),
            Server::Ack | Server::Deferred => {}
        }
        self.hold_back(clock, ticket, &mut steps);
        self.perform_server(ticket, &mut steps, todo);
        self.server_steps = steps;
    }

    /// A response that is repeated, by Timer G or because the request was: who never asked, for his address was forged, must
    /// not be told eleven times.
    fn hold_back(&self, clock: Clock, ticket: Ticket, steps: &mut Vec<transaction::Action<Bytes>>) {
        let repeats = |step: &transaction::Action<Bytes>| matches!(step, transaction::Action::Transmit(_));
        if steps.iter().any(repeats)
            && let Some(reply) = self.context(ticket).map(|context| context.reply.flow())
            && !self.may_answer(clock, reply)
        {
            steps.retain(|step| !repeats(step));
        }
    }

    /// Whether a response that we made ourselves may go this way: the source of a datagram may be forged.
    fn may_answer(&self, clock: Clock, reply: Flow) -> bool {
        reply.transport.is_reliable() || self.guard.borrow_mut().may_answer(clock.now, reply.remote.ip())
    }

    /// What came by `flow` led nowhere; `false`: say nothing about it.
    fn note(&self, clock: Clock, flow: Flow, kind: Kind) -> bool {
        let forgeable = !flow.transport.is_reliable();
        self.guard
            .borrow_mut()
            .note(clock.now, flow.remote.ip(), forgeable, kind)
    }

    /// We refuse a request with `status`, of our own accord.
    fn count_refusal(&mut self, status: u16) {
        match status {
            403 => self.counters.refused_forbidden += 1,
            404 => self.counters.refused_not_found += 1,
            481 => self.counters.refused_unmatched += 1,
            _ => {}
        }
    }

    /// Who is behind `flow` gets what we send.
    fn prove(&self, clock: Clock, flow: Flow) {
        self.guard.borrow_mut().prove(clock.now, flow.remote.ip());
        if flow.connection != 0 {
            let mut proved = self.proved.borrow_mut();
            if proved.last() != Some(&flow.connection) && proved.len() < MAX_PROVED {
                proved.push(flow.connection);
            }
        }
    }

    /// Connections that something speaks for, since it was last asked.
    pub fn take_proved(&self, take: impl FnMut(u64)) {
        self.proved.borrow_mut().drain(..).for_each(take);
    }

    /// A request other than INVITE that has no final response: RFC 4320 §4.1 wants a 100 when Timer E of who sent it has
    /// come to T2; one that gets no answer at all (§4.2) is forgotten.
    fn wake_undecided(&mut self, clock: Clock, ticket: Ticket, woken_for: Option<Instant>, todo: &mut Vec<Action>) {
        let due = match self.active(ticket).map(|active| active.received_at) {
            Some(received_at) => Some(received_at + receive::late_trying_wait(&self.conf.timers)),
            None => woken_for,
        };
        match due.filter(|at| *at > clock.now) {
            Some(at) => self.wake_context_at(ticket, at),
            None if self.active(ticket).is_none() => self.remove_context(ticket, todo),
            None if self.undecided_and_silent(ticket) => self.respond(clock, ticket, &Response::new(100), todo),
            None => {}
        }
    }

    fn undecided_and_silent(&self, ticket: Ticket) -> bool {
        self.context(ticket).is_some_and(
            |context| matches!(&context.server, Server::Other(machine) if machine.state() == State::Trying),
        )
    }

    /// Wakes a context at a time that no machine of it knows.
    fn wake_context_at(&mut self, ticket: Ticket, at: Instant) {
        if let Some(context) = self
            .contexts
            .get_mut(ticket.slot as usize)
            .filter(|c| c.serial == ticket.serial)
        {
            context.wake_at = Some(at);
            self.wheel.insert(at, Wake::Context(ticket));
        }
    }

    /// Carries out what a server machine asked for, then looks after its next wake-up or its end.
    fn perform_server(&mut self, ticket: Ticket, steps: &mut Vec<transaction::Action<Bytes>>, todo: &mut Vec<Action>) {
        let Some(context) = self
            .contexts
            .get_mut(ticket.slot as usize)
            .filter(|c| c.serial == ticket.serial)
        else {
            steps.clear();
            return;
        };
        let mut ended = false;
        for step in steps.drain(..) {
            match step {
                transaction::Action::Transmit(bytes) => {
                    todo.push(Action::Send {
                        leave: Leave::Reply(context.reply.flow()),
                        bytes,
                        token: 0,
                    });
                }
                transaction::Action::Terminated => ended = true,
                // Nobody acknowledged our final response: there is nobody left to tell.
                transaction::Action::Timeout | transaction::Action::TransportFailed | transaction::Action::Deliver => {}
            }
        }
        if ended {
            self.remove_context(ticket, todo);
            return;
        }
        let deadline = match &context.server {
            Server::Invite(machine) => machine.deadline(),
            Server::Other(machine) => machine.deadline(),
            Server::Ack | Server::Deferred => None,
        };
        if let Some(at) = deadline
            && context.wake_at.is_none_or(|wake_at| at < wake_at)
        {
            context.wake_at = Some(at);
            self.wheel.insert(at, Wake::Context(ticket));
        }
    }

    fn remove_context(&mut self, ticket: Ticket, todo: &mut Vec<Action>) {
        let Some(context) = self.contexts.get(ticket.slot as usize) else {
            return;
        };
        self.stored_len = self
            .stored_len
            .saturating_sub(room::CONTEXT_LEN + context.kept_len as usize);
        if let Some(fingerprint) = context.fingerprint {
            self.matching.remove(&self.contexts, fingerprint, ticket.slot);
            if let Some(owners) = &self.owners {
                owners.release(fingerprint.to_u128(), self.conf.worker);
            }
        }
        let Some(context) = self.contexts.remove(ticket.slot as usize) else {
            return;
        };
        if let Some(active) = context.active {
            self.retire(ticket, *active, todo);
        }
    }

    /// Lets go of what only an undecided request needs.
    fn retire(&mut self, ticket: Ticket, active: Active<W>, todo: &mut Vec<Action>) {
        if active.pending() {
            todo.push(Action::Forget(ticket));
        }
        self.stored_len = self.stored_len.saturating_sub(active.kept_len);
        if self.indexes.len() < INDEX_POOL {
            self.indexes.push(active.index);
        }
    }

    /// Begins a wake-up entry for a client transaction if its next deadline is earlier than the one that stands.
    fn schedule_client(&mut self, ticket: Ticket) {
        let Some(client) = self
            .clients
            .get_mut(ticket.slot as usize)
            .filter(|c| c.serial == ticket.serial)
        else {
            return;
        };
        let machine = match &client.machine {
            ClientMachine::Invite(machine) => machine.deadline(),
            ClientMachine::Other(machine) => machine.deadline(),
        };
        let cancel = client.cancel.deadline();
        let own = [machine, cancel, client.give_up_at];
        if let Some(at) = own.into_iter().flatten().min()
            && client.wake_at.is_none_or(|wake_at| at < wake_at)
        {
            client.wake_at = Some(at);
            self.wheel.insert(at, Wake::Client(ticket));
        }
    }

    fn wake_client(&mut self, clock: Clock, ticket: Ticket, todo: &mut Vec<Action>) {
        let Some(client) = self
            .clients
            .get_mut(ticket.slot as usize)
            .filter(|c| c.serial == ticket.serial)
        else {
            return;
        };
        client.wake_at = None;
        let gives_up = client.give_up_at.is_some_and(|at| at <= clock.now);
        let is_silent = client.standing == Standing::Silent;
        let mut steps = std::mem::take(&mut self.client_steps);
        if client.cancel.on_deadline(clock.now, &self.conf.timers, &mut steps) {
            self.perform_cancel(ticket, &mut steps, todo);
        }
        if let Some(client) = self.clients.get_mut(ticket.slot as usize) {
            match &mut client.machine {
                ClientMachine::Invite(machine) => machine.on_deadline(clock.now, &self.conf.timers, &mut steps),
                ClientMachine::Other(machine) => machine.on_deadline(clock.now, &self.conf.timers, &mut steps),
            }
        }
        self.perform_client(clock, ticket, None, &mut steps, todo);
        self.client_steps = steps;
        match (gives_up, is_silent) {
            (true, true) => self.on_silence(clock, ticket, todo),
            (true, false) => self.on_timer_c(clock, ticket, todo),
            (false, _) => {}
        }
        self.schedule_client(ticket);
    }

    /// A server transaction whose request is still undecided.
    fn undecided(&self, ticket: Ticket) -> bool {
        match self.context(ticket) {
            Some(context) => match &context.server {
                Server::Invite(machine) => machine.state() == State::Proceeding,
                Server::Other(machine) => matches!(machine.state(), State::Trying | State::Proceeding),
                Server::Ack | Server::Deferred => true,
            },
            None => false,
        }
    }
}
