//! One worker's decisions joined up: the proxy core, routing, the registrar. No sockets here: messages go in, and what is to
//! be sent gathers in [`Engine::outbox`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use smallvec::SmallVec;
use sps_daemon::RateLimit;
use sps_net::Streams;
use sps_route::routing::Scratch;
use sps_route::{Answer, DeadTargets, Facts, Routing, Step, Surroundings, Walk, WalkStep};
use sps_sip::guard::Guard;
use sps_sip::proxy::{Action, BranchTicket, Clock, Conf, Leave, Mode, Proxy, Reach, RecursionTicket, Target, Ticket};
use sps_wire::Response;
use sps_wire::flow::{Destination, Flow, Transport};

use crate::access::Access;
use crate::conf::WorkerConf;
use crate::figures::Own;
use crate::names::{Asker, Names};
use crate::registrar::{Outcome, RegistrarLink};
use crate::tables::{KnownPhones, Tables};

/// A message ready to leave.
pub struct Outgoing {
    pub leave: Leave,
    pub bytes: Bytes,
    pub token: u64,
}

/// See the module.
pub struct Engine {
    pub core: Proxy<Walk, Access>,
    pub outbox: Vec<Outgoing>,
    pub registrar: RegistrarLink,
    pub own: Own,
    /// Shared with the core, and with who accepts connections.
    pub guard: Rc<RefCell<Guard>>,
    route: Arc<sps_route::Conf>,
    tables: Rc<Tables>,
    names: Names,
    streams: Streams,
    dead: DeadTargets,
    /// Stays empty.
    nothing_dead: DeadTargets,
    /// Routing that waits for an answer.
    routings: HashMap<Asked, Routing>,
    steadiness: Steadiness,
    scratch: Scratch,
    match_via: bool,
    todo: Vec<Action>,
    doing: Vec<Action>,
    random: u64,
}

/// What routing was asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Asked {
    /// A request as it came.
    Request(Ticket),
    /// A contact that it was redirected to.
    Recursion(RecursionTicket),
}

impl Asked {
    fn request(self) -> Ticket {
        match self {
            Asked::Request(ticket) => ticket,
            Asked::Recursion(ticket) => ticket.request,
        }
    }
}

/// The time now, for everything that happens in one turn of the worker.
pub fn clock() -> Clock {
    let unix_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64);
    Clock {
        now: Instant::now(),
        unix_ms,
    }
}

static AVOIDED: RateLimit = RateLimit::per_second(2);

/// Said when the registrar cannot be asked: the phone tries again soon (design: one helper dead is 500 with Retry-After).
const RETRY_AFTER: &[(&str, &[u8])] = &[("Retry-After", b"5")];

impl Engine {
    pub fn new(
        mut core: Proxy<Walk, Access>,
        conf: &WorkerConf,
        tables: Tables,
        names: Names,
        streams: Streams,
        registrar: RegistrarLink,
        seed: u64,
    ) -> Engine {
        let steadiness = Steadiness::new(tables.routes_version());
        let tables = Rc::new(tables);
        core.prefer(Box::new(KnownPhones::new(tables.clone(), conf.route.clone())));
        let guard = Guard::new(conf.guard.clone(), seed.rotate_left(14), Instant::now());
        let guard = Rc::new(RefCell::new(guard));
        core.guard_by(guard.clone());
        Engine {
            steadiness,
            core,
            guard,
            outbox: Vec::new(),
            registrar,
            own: Own::default(),
            route: conf.route.clone(),
            tables,
            names,
            streams,
            dead: DeadTargets::default(),
            nothing_dead: DeadTargets::default(),
            routings: HashMap::new(),
            scratch: Scratch::default(),
            match_via: conf.match_via,
            todo: Vec::new(),
            doing: Vec::new(),
            random: seed | 1,
        }
    }

    /// Works by another configuration from now on. What drains goes on draining.
    pub fn reconfigure(&mut self, clock: Clock, conf: &WorkerConf) {
        if self.core.conf().mode == Mode::Stateless {
            self.steadiness.shake(clock.now, self.core.conf().timers.timer_b());
        }
        self.steadiness.routes_version = self.tables.routes_version();
        self.route = conf.route.clone();
        self.guard.borrow_mut().reconfigure(conf.guard.clone());
        self.match_via = conf.match_via;
        let draining = self.core.conf().draining;
        self.core.reconfigure(Conf {
            draining,
            ..conf.core.clone()
        });
        self.core
            .prefer(Box::new(KnownPhones::new(self.tables.clone(), self.route.clone())));
    }

    /// Takes no new requests from now on.
    pub fn drain(&mut self) {
        let conf = self.core.conf().clone();
        self.core.reconfigure(Conf { draining: true, ..conf });
    }

    /// A message came. Gives the worker it belongs to if that is another one.
    pub fn on_message(&mut self, clock: Clock, flow: Flow, bytes: &[u8]) -> Option<u8> {
        let elsewhere = self.core.on_message(clock, flow, bytes, &mut self.todo);
        self.perform(clock);
        elsewhere
    }

    /// Whether a message names in its Via what its sender has proved to be by a certificate, where that is demanded. A request that
    /// does not is refused here.
    pub fn is_who_it_says(&mut self, clock: Clock, flow: Flow, names: &[Arc<str>], bytes: &[u8]) -> bool {
        static IMPOSTORS: RateLimit = RateLimit::per_second(5);
        if !self.match_via {
            return true;
        }
        let good = self.core.check_via(clock, flow, names, bytes, &mut self.todo);
        if !good && let Some(held_back) = IMPOSTORS.pass() {
            let names = names.join(", ");
            tracing::warn!(remote = %flow.remote, held_back, "request refused: its Via names somebody else than its certificate ({names})");
        }
        self.perform(clock);
        good
    }

    /// Time has passed.
    pub fn on_deadline(&mut self, clock: Clock) {
        self.core.on_deadline(clock, &mut self.todo);
        self.perform(clock);
        for id in self.registrar.expired(clock.now) {
            self.own.registrar_timeouts += 1;
            self.registrar_failed(clock, Ticket::from_u64(id));
        }
    }

    /// A message did not leave.
    pub fn on_send_failed(&mut self, clock: Clock, token: u64) {
        if token != 0 {
            self.core.on_send_failed(clock, token, &mut self.todo);
            self.perform(clock);
        }
    }

    /// A message did not leave because its connection could not be opened.
    pub fn on_connect_failed(&mut self, clock: Clock, token: u64) {
        if token != 0 {
            self.core.on_connect_failed(clock, token, &mut self.todo);
            self.perform(clock);
        }
    }

    /// Connections that we had opened are gone.
    pub fn on_streams_lost(&mut self, clock: Clock, lost: &[(Transport, SocketAddr)]) {
        self.core.on_streams_lost(clock, lost, &mut self.todo);
        self.perform(clock);
    }

    /// Nothing listens there.
    pub fn on_unreachable(&mut self, clock: Clock, addrs: &[std::net::SocketAddr]) {
        self.core.on_unreachable(clock, addrs, &mut self.todo);
        self.perform(clock);
    }

    /// A question has its answer.
    pub fn on_answer(&mut self, clock: Clock, asker: Asker, answer: Answer) {
        self.own.questions_open = self.own.questions_open.saturating_sub(1);
        match asker {
            Asker::Routing(asked) => self.route(clock, asked, Some(answer)),
            Asker::Branch(ticket) => self.walk(clock, ticket, Some(answer)),
        }
        self.perform(clock);
    }

    /// Looks after the registrar's connection: connects it anew, takes what came.
    pub fn on_registrar(&mut self, clock: Clock) {
        if self.registrar.reconnect(clock.now) {
            for id in self.registrar.open_ids() {
                if let Some((message, flow)) = self.core.request_for_service(Ticket::from_u64(id)) {
                    self.registrar.push_again(id, flow, clock.unix_ms, message);
                }
            }
        }
        let (core, todo) = (&mut self.core, &mut self.todo);
        let busy = &mut self.own.registrar_busy;
        self.registrar.receive(|id, outcome| {
            let ticket = Ticket::from_u64(id);
            match outcome {
                Outcome::Response(message) => {
                    let status = status_of(message);
                    core.on_service_response(clock, ticket, status, Bytes::copy_from_slice(message), todo);
                }
                Outcome::Busy => {
                    *busy += 1;
                    core.on_service_failed(
                        clock,
                        ticket,
                        &Response {
                            extra: RETRY_AFTER,
                            ..Response::new(500)
                        },
                        todo,
                    );
                }
            }
        });
        self.perform(clock);
    }

    /// The process ends: who still waits is told. Gives how many there were.
    pub fn give_up(&mut self, clock: Clock) -> usize {
        let cut = self.core.give_up(clock, &mut self.todo);
        self.perform(clock);
        cut
    }

    /// Looks for mapped files that were made anew.
    pub fn refresh_tables(&self) {
        self.tables.refresh();
    }

    /// Some times a second.
    pub fn on_slow_turn(&mut self, clock: Clock) {
        self.core.go_on_looking(clock, &mut self.todo);
        self.perform(clock);
    }

    /// Once a second.
    pub fn on_second(&mut self, clock: Clock) {
        self.refresh_tables();
        let mut guard = self.guard.borrow_mut();
        guard.on_second(clock.now);
        self.own.guard = guard.counters();
        let summaries = guard.take_summaries(clock.now);
        drop(guard);
        for summary in &summaries {
            self.core.journal_mut().dropped(summary, clock.unix_ms);
        }
        self.own.stored_len = self.core.stored_len() as u64;
        self.own.refused_names = self.names.refused();
        self.own.transactions = self.core.transactions() as u64;
        self.own.client_transactions = self.core.client_transactions() as u64;
        self.own.dns = self.names.counters();
        self.own.dead_targets = self.dead.len() as u64;
    }

    /// Does all that the core asked for, and all that follows from that.
    fn perform(&mut self, clock: Clock) {
        while !self.todo.is_empty() {
            std::mem::swap(&mut self.todo, &mut self.doing);
            let mut doing = std::mem::take(&mut self.doing);
            for action in doing.drain(..) {
                match action {
                    Action::Send { leave, bytes, token } => self.outbox.push(Outgoing { leave, bytes, token }),
                    Action::Route(ticket) => self.route(clock, Asked::Request(ticket), None),
                    Action::Recurse(ticket) => self.route(clock, Asked::Recursion(ticket), None),
                    Action::Walk(ticket) => self.walk(clock, ticket, None),
                    Action::Serve(ticket) => self.serve(clock, ticket),
                    Action::Forget(ticket) => self.routings.retain(|asked, _| asked.request() != ticket),
                    Action::Avoid {
                        destination,
                        retry_after,
                    } => self.avoid(clock, &destination, retry_after),
                    Action::Answered(destination) => drop(self.dead.revive(&destination)),
                }
            }
            self.doing = doing;
        }
    }

    /// One step of a request's routing.
    fn route(&mut self, clock: Clock, asked: Asked, answer: Option<Answer>) {
        let ticket = asked.request();
        let settled = self.is_settled(clock, ticket);
        let Some((message, flow)) = self.core.request(ticket) else {
            return;
        };
        let mut routing = match (&answer, asked) {
            (Some(_), _) => match self.routings.remove(&asked) {
                Some(routing) => routing,
                None => return,
            },
            (None, Asked::Request(_)) => Routing::start(),
            (None, Asked::Recursion(_)) => Routing::onward(),
        };
        let received = self.core.routed_uri(ticket).unwrap_or_default();
        let (in_dialog, dialog_flow) = self.core.dialog(ticket);
        let facts = Facts {
            request_uri: received,
            method: message.method().map_or(b"", |method| method.as_bytes()),
            from_uri: message.from().map_or(b"", |from| from.uri),
            source: flow.remote,
            route: self.core.remaining_route(ticket),
            in_dialog,
            flow: dialog_flow,
        };
        let facts = match asked {
            Asked::Request(_) => facts,
            Asked::Recursion(ticket) => match self.core.recursion_uri(ticket) {
                // A URI of somebody else's choice: what the request may do on its own way does not count for it.
                Some(request_uri) => Facts {
                    request_uri,
                    route: None,
                    in_dialog: false,
                    flow: None,
                    ..facts
                },
                None => return,
            },
        };
        let mut thrown = self.core.dice_of(ticket).map(|dice| dice | 1);
        let random = thrown.as_mut().unwrap_or(&mut self.random);
        let mut around = Surroundings {
            conf: &self.route,
            tables: &*self.tables,
            random: &mut || next_random(random),
            scratch: &mut self.scratch,
            trace: None,
        };
        match (routing.step(clock.now, &facts, answer, &mut around), asked) {
            (Step::Ask(ask), _) => {
                self.routings.insert(asked, routing);
                self.core.takes_time(clock, ticket, &mut self.todo);
                self.ask(clock, Asker::Routing(asked), ask);
            }
            (Step::Reply(reply), Asked::Request(_)) => {
                let response = Response {
                    reason: reply.reason,
                    ..Response::new(reply.status)
                };
                self.core
                    .on_refused(clock, ticket, reply.stage.as_str(), &response, &mut self.todo);
            }
            (Step::Targets(targets), Asked::Request(_)) => {
                let stage = targets.first().map_or("", |target| target.stage.as_str());
                let targets: SmallVec<[Target<Walk>; 1]> = targets
                    .into_iter()
                    .map(|target| to_core(target, received, settled))
                    .collect();
                self.core.on_targets(clock, ticket, stage, targets, &mut self.todo);
            }
            (Step::Reply(_), Asked::Recursion(ticket)) => {
                self.core.on_recursion(clock, ticket, SmallVec::new(), &mut self.todo);
            }
            (Step::Targets(targets), Asked::Recursion(ticket)) => {
                let targets = targets
                    .into_iter()
                    .map(|target| to_core(target, received, settled))
                    .collect();
                self.core.on_recursion(clock, ticket, targets, &mut self.todo);
            }
        }
    }

    /// Whether a repetition of this request is led where this one is.
    fn is_settled(&mut self, clock: Clock, ticket: Ticket) -> bool {
        let conf = self.core.conf();
        if conf.mode != Mode::Stateless {
            return true;
        }
        let window = conf.timers.timer_b();
        let version = self.tables.routes_version();
        self.steadiness.is_settled(clock.now, version, window) || self.core.must_follow(ticket)
    }

    /// One step towards a branch's next destination.
    fn walk(&mut self, clock: Clock, ticket: BranchTicket, mut answer: Option<Answer>) {
        let mut flow_failed = false;
        loop {
            if self.is_led_elsewhere(clock, ticket) {
                self.core.takes_time(clock, ticket.request, &mut self.todo);
            }
            let dead = match self.core.is_deferred(ticket.request) {
                true => &self.nothing_dead,
                false => &self.dead,
            };
            let Some(walk) = self.core.walk(ticket) else { return };
            let reach = match walk.step(clock.now, answer.take(), &self.route, dead) {
                WalkStep::Flow(flow) if self.is_dead(&flow) => {
                    flow_failed = true;
                    continue;
                }
                WalkStep::Flow(flow) => Ok(Reach::Flow(flow)),
                WalkStep::Destination(destination) => Ok(Reach::Destination(destination)),
                // RFC 5626 §5.3.1.
                WalkStep::Exhausted(_) if flow_failed => Err(430),
                WalkStep::Exhausted(exhausted) => Err(exhausted.status()),
                WalkStep::Wait(_) => return,
                WalkStep::Ask(ask) => {
                    self.core.takes_time(clock, ticket.request, &mut self.todo);
                    return self.ask(clock, Asker::Branch(ticket), ask);
                }
            };
            return self.core.on_destination(clock, ticket, reach, &mut self.todo);
        }
    }

    /// Whether what failed lately has a say in where a request goes that might else be forwarded without state: a repetition may
    /// come when that is forgotten. What must go where something else went does not care.
    fn is_led_elsewhere(&mut self, clock: Clock, ticket: BranchTicket) -> bool {
        if self.dead.is_empty() || !self.core.is_deferred(ticket.request) || self.core.must_follow(ticket.request) {
            return false;
        }
        let Some(walk) = self.core.walk(ticket) else {
            return false;
        };
        let step = |dead| walk.clone().step(clock.now, None, &self.route, dead);
        step(&self.dead) != step(&self.nothing_dead)
    }

    /// A destination is to be tried after all others for a while.
    fn avoid(&mut self, clock: Clock, destination: &Destination, retry_after: Option<Duration>) {
        let wait = match retry_after {
            Some(wait) => wait.min(self.route.retry_after_max),
            None => self.route.dead_for,
        };
        if !wait.is_zero()
            && !self.dead.is_dead(clock.now, destination)
            && let Some(held_back) = AVOIDED.pass()
        {
            let (addr, transport) = (destination.addr, destination.transport.as_str());
            let why = if retry_after.is_some() {
                "asked for it"
            } else {
                "failed"
            };
            tracing::info!(%addr, transport, why, for_s = wait.as_secs(), held_back, "destination tried last");
        }
        self.dead.bury(clock.now, destination, wait, retry_after.is_some());
    }

    fn ask(&mut self, clock: Clock, asker: Asker, ask: sps_route::Ask) {
        self.own.questions_open += 1;
        let request = match asker {
            Asker::Routing(asked) => asked.request(),
            Asker::Branch(ticket) => ticket.request,
        };
        let stranger = self.core.is_stranger(request);
        if let Some(answer) = self.names.ask(asker, ask, stranger) {
            self.on_answer(clock, asker, answer);
        }
    }

    /// A stream of this worker that is gone. Of another worker's streams only sending tells.
    fn is_dead(&self, flow: &Flow) -> bool {
        flow.transport.is_reliable()
            && u16::from(self.core.conf().worker) == sps_net::streams::worker_of(flow.connection)
            && !self.streams.is_open(flow.connection)
    }

    fn serve(&mut self, clock: Clock, ticket: Ticket) {
        let pushed = match self.core.request_for_service(ticket) {
            Some((message, flow)) => self
                .registrar
                .push(clock.now, ticket.to_u64(), flow, clock.unix_ms, message),
            None => return,
        };
        if !pushed {
            self.own.registrar_busy += 1;
            self.registrar_failed(clock, ticket);
        }
    }

    fn registrar_failed(&mut self, clock: Clock, ticket: Ticket) {
        let response = Response {
            extra: RETRY_AFTER,
            ..Response::new(500)
        };
        self.core.on_service_failed(clock, ticket, &response, &mut self.todo);
        self.perform(clock);
    }
}

/// Since when the same request has always been led the same way (RFC 3261 §16.11).
struct Steadiness {
    /// Of the routes last looked at.
    routes_version: u64,
    /// Until then a repetition may be of something that was led by other routes or another configuration.
    shaken_until: Option<Instant>,
}

impl Steadiness {
    fn new(routes_version: u64) -> Steadiness {
        Steadiness {
            routes_version,
            shaken_until: None,
        }
    }

    fn shake(&mut self, now: Instant, window: Duration) {
        self.shaken_until = Some(now + window);
    }

    fn is_settled(&mut self, now: Instant, routes_version: u64, window: Duration) -> bool {
        if routes_version != self.routes_version {
            self.routes_version = routes_version;
            self.shake(now, window);
        }
        self.shaken_until.is_none_or(|until| until <= now)
    }
}

fn to_core(mut target: sps_route::Target, received: &[u8], settled: bool) -> Target<Walk> {
    Target {
        // An unchanged Request-URI need not be written again.
        uri: if target.uri[..] == *received && !target.redirect {
            Bytes::new()
        } else {
            Bytes::copy_from_slice(&target.uri)
        },
        q: target.q,
        path: target.path.drain(..).map(Bytes::from).collect(),
        flow: target.flow,
        secure: false,
        redirect: target.redirect,
        steady: target.steady && settled,
        walk: target.take_walk(),
    }
}

/// The status in a response's first line; responses of our own registrar are well-formed.
fn status_of(message: &[u8]) -> u16 {
    message
        .get(8..11)
        .and_then(sps_wire::parse_u32)
        .map_or(500, |status| status as u16)
}

/// xorshift64*: for weights among routes, where nobody gains by foreseeing it.
pub fn next_random(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}
