//! One worker: a thread with its own runtime, sockets, timers and transactions (design: nothing that touches a transaction
//! runs elsewhere, no lock around protocol state).

use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sps_daemon::{Exit, Fatal, Listener, OrFatal, Pulse, RateLimit};
use sps_net::streams::{CloseReason, Welcome};
use sps_net::udp::{UdpFailure, any_readable, any_writable};
use sps_net::{Resolver, StreamEvent, StreamEvents, Streams, Udp, UdpConf};
use sps_route::Answer;
use sps_sip::guard::{self, Ban, Guard, Kind, OperatorBan};
use sps_sip::overload::{Standing, Turn};
use sps_sip::proxy::{Clock, Leave, Owners, Proxy};
use sps_wire::flow::{Destination, Flow, Transport};
use tokio::sync::{mpsc, oneshot};

use crate::access::Access;
use crate::conf::WorkerConf;
use crate::engine::{self, Engine, Outgoing};
use crate::figures::Figures;
use crate::mail::{Letterbox, Mail, Post};
use crate::names::{Asker, Names};
use crate::registrar::RegistrarLink;
use crate::tables::Tables;

/// What a worker is started with.
pub struct Start {
    pub number: u16,
    pub conf: WorkerConf,
    pub paths: sps_conf::Paths,
    pub registrar_socket: std::path::PathBuf,
    /// Where `sps-tls` is, when TLS is spoken.
    pub tls_socket: Option<std::path::PathBuf>,
    pub conf_number: u64,
    pub listeners: Vec<Listener>,
    pub owners: Option<std::sync::Arc<dyn Owners>>,
    pub access: sps_daemon::AccessWriter,
    pub figures: Figures,
    pub pulse: Pulse,
    pub mail: Letterbox,
    pub post: Post,
    pub bans: Arc<[OperatorBan]>,
}

struct Worker {
    number: u16,
    engine: Engine,
    /// UDP sockets; beside them, for each of the core's listeners, which of them it is.
    udp: Vec<Udp>,
    udp_of_listener: Vec<Option<usize>>,
    streams: Streams,
    stream_events: StreamEvents,
    answers: mpsc::Receiver<(Asker, Answer)>,
    mail: Letterbox,
    post: Post,
    figures: Figures,
    pulse: Pulse,
    /// Where ICMP says nobody listens; told to the core once a turn of the slow clock.
    unreachable: Vec<SocketAddr>,
    /// Connections we had opened that are gone; told likewise.
    lost: Vec<(Transport, SocketAddr)>,
    draining: Option<oneshot::Sender<()>>,
    events: Vec<StreamEvent>,
}

/// What woke the worker, where it is more than a reason to look around.
enum Woken {
    Around,
    Registrar,
    Answer(Option<(Asker, Answer)>),
    Mail(Option<Mail>),
}

/// Figures are published, and quiet sockets noticed, this often.
const SLOW_TURN: Duration = Duration::from_millis(100);

/// Stream events taken in one turn, and letters, and answers.
const EVENTS_PER_TURN: usize = 256;

/// After so many turns without a pause the tasks beside the worker (streams, lookups) get theirs.
const TURNS_TO_YIELD: u32 = 16;

/// Destinations that ICMP may name in one slow turn.
const MAX_UNREACHABLE: usize = 64;

/// Runs a worker to the end of its process.
///
/// # Errors
/// The runtime or a socket could not be made; `started` has the same news.
pub fn run(start: Start, started: &std::sync::mpsc::Sender<Result<(), Fatal>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(Fatal::new(Exit::System, format!("start an event loop: {error}"))));
            return;
        }
    };
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        match Worker::new(start) {
            Ok(worker) => {
                let _ = started.send(Ok(()));
                worker.serve().await;
            }
            Err(fatal) => drop(started.send(Err(fatal))),
        }
    });
}

impl Worker {
    fn new(start: Start) -> Result<Worker, Fatal> {
        let Start {
            number,
            conf,
            listeners,
            ..
        } = start;
        let now = Instant::now();
        let mut udp = Vec::new();
        let mut udp_of_listener = vec![None; conf.core.listeners.len()];
        let (streams, stream_events) = Streams::new(conf.streams.clone());
        for listener in listeners {
            match listener.info.transport.into() {
                Transport::Udp => {
                    let socket = Udp::new(UdpSocket::from(listener.socket), &UdpConf::default()).or_fatal(
                        Exit::Network,
                        format!("take over the UDP socket {}", listener.info.address),
                    )?;
                    udp_of_listener[usize::from(listener.info.listen)] = Some(udp.len());
                    udp.push(socket);
                }
                // Those for TLS are not handed to us.
                Transport::Tcp | Transport::Tls => {
                    streams.listen(TcpListener::from(listener.socket)).or_fatal(
                        Exit::Network,
                        format!("take over the TCP socket {}", listener.info.address),
                    )?;
                }
            }
        }
        if let Some(path) = start.tls_socket {
            crate::tls::start(path, &streams);
        }
        let seed = random_seed()?;
        let mut weights = seed.rotate_left(31) | 1;
        let resolver = Resolver::new(&conf.dns, move || engine::next_random(&mut weights));
        let (names, answers) = Names::new(resolver);
        let mut core = Proxy::new(conf.core.clone(), conf.limits, Access(start.access), seed, now);
        if let Some(owners) = start.owners {
            core.share(owners);
        }
        let registrar = RegistrarLink::new(start.registrar_socket, start.conf_number, now);
        let tables = Tables::open(&start.paths);
        let mut engine = Engine::new(
            core,
            &conf,
            tables,
            names,
            streams.clone(),
            registrar,
            seed.rotate_left(17),
        );
        engine.own.streams_limit = conf.streams.max_connections as u64;
        engine.guard.borrow_mut().deny(&start.bans, now);
        streams.set_gate(gate(engine.guard.clone()));
        Ok(Worker {
            number,
            engine,
            udp,
            udp_of_listener,
            streams,
            stream_events,
            answers,
            mail: start.mail,
            post: start.post,
            figures: start.figures,
            pulse: start.pulse,
            unreachable: Vec::new(),
            lost: Vec::new(),
            draining: None,
            events: Vec::new(),
        })
    }

    async fn serve(mut self) {
        let mut slow_at = Instant::now() + SLOW_TURN;
        let (mut turns, mut slow_turns) = (0u32, 0u32);
        loop {
            turns = turns.wrapping_add(1);
            if turns.is_multiple_of(TURNS_TO_YIELD) {
                tokio::task::yield_now().await;
            }
            let woken = self.wait(slow_at).await;
            let clock = engine::clock();
            match woken {
                Woken::Around => {}
                Woken::Registrar => self.engine.on_registrar(clock),
                Woken::Answer(Some((asker, answer))) => self.engine.on_answer(clock, asker, answer),
                Woken::Mail(Some(mail)) => self.take_letter(clock, mail),
                // The main thread is gone, and with it the process.
                Woken::Answer(None) | Woken::Mail(None) => return,
            }
            // Whatever woke us, all others are looked after too: under load there is always something from some of them, and
            // none may wait for that to end.
            self.take_mail(clock);
            self.take_answers(clock);
            self.take_stream_events(clock);
            self.receive_datagrams(clock);
            self.engine.on_deadline(clock);
            self.engine.core.take_proved(|connection| self.streams.know(connection));
            self.tell_bans(clock);
            if let Some(turn) = self.engine.core.watch_load(clock) {
                self.tell_load(turn);
            }
            self.send_all(clock);
            if clock.now >= slow_at {
                slow_at = clock.now + SLOW_TURN;
                slow_turns = slow_turns.wrapping_add(1);
                self.slow_turn(clock, slow_turns);
            }
        }
    }

    async fn wait(&mut self, slow_at: Instant) -> Woken {
        let deadlines = [
            Some(slow_at),
            self.engine.core.deadline(),
            self.engine.registrar.deadline(),
        ];
        let at = deadlines.into_iter().flatten().min().unwrap_or(slow_at);
        // The registrar first: it is the only one that is not looked after without having woken us.
        tokio::select! {
            biased;
            () = self.engine.registrar.ready() => Woken::Registrar,
            () = any_readable(&self.udp) => Woken::Around,
            () = self.stream_events.receive(&mut self.events, EVENTS_PER_TURN) => Woken::Around,
            answer = self.answers.recv() => Woken::Answer(answer),
            mail = self.mail.recv() => Woken::Mail(mail),
            () = any_writable(&self.udp) => Woken::Around,
            () = tokio::time::sleep_until(at.into()) => Woken::Around,
        }
    }

    fn receive_datagrams(&mut self, clock: Clock) {
        let member = self.engine.core.conf().member;
        let now_ns = unix_ns();
        for udp in &mut self.udp {
            let (engine, post) = (&mut self.engine, &self.post);
            let lost_before = udp.counters().kernel_drops;
            let received = udp.receive(|datagram| {
                engine.core.waited(wait(now_ns, datagram.arrived_ns));
                let flow = Flow {
                    member,
                    transport: Transport::Udp,
                    local: datagram.local,
                    remote: datagram.remote,
                    connection: 0,
                };
                feed(engine, post, clock, flow, datagram.bytes);
            });
            if let Err(error) = received {
                tracing::error!(%error, socket = %udp.local_addr(), "receive");
            }
            engine.core.lost(udp.counters().kernel_drops - lost_before);
            let mut failed = Vec::new();
            let unreachable = &mut self.unreachable;
            udp.errors(|failure| note_failure(&failure, &mut failed, unreachable));
            for token in failed {
                self.engine.on_send_failed(clock, token);
            }
        }
    }

    fn take_stream_events(&mut self, clock: Clock) {
        let mut events = std::mem::take(&mut self.events);
        if events.is_empty() {
            self.stream_events.take(&mut events, EVENTS_PER_TURN);
        }
        for event in events.drain(..) {
            match event {
                StreamEvent::Opened { .. } => {}
                StreamEvent::Message { flow, bytes } => {
                    if flow.transport == Transport::Tls
                        && let Some(names) = self.streams.proved(flow.connection)
                        && !self.engine.is_who_it_says(clock, flow, &names, &bytes)
                    {
                        continue;
                    }
                    feed(&mut self.engine, &self.post, clock, flow, &bytes);
                }
                StreamEvent::Broken { flow, bytes, .. } => feed(&mut self.engine, &self.post, clock, flow, &bytes),
                StreamEvent::Closed { flow, reason } => {
                    self.note_lost(&flow, reason);
                    if !matches!(reason, CloseReason::Peer | CloseReason::Idle | CloseReason::Ours) {
                        tracing::debug!(remote = %flow.remote, ?reason, "stream closed");
                    }
                }
                StreamEvent::SendFailed { tokens, reason, .. } => {
                    for token in tokens {
                        match asked_by(token) {
                            Some((from, token)) => self.tell_send_failed(from, token),
                            None if matches!(reason, CloseReason::ConnectFailed(_)) => {
                                self.engine.on_connect_failed(clock, token);
                            }
                            None => self.engine.on_send_failed(clock, token),
                        }
                    }
                }
            }
        }
        self.events = events;
    }

    /// A connection that we had opened ended otherwise than by our own wish: told to the core once a turn of the slow clock.
    fn note_lost(&mut self, flow: &Flow, reason: CloseReason) {
        let ours = matches!(reason, CloseReason::Idle | CloseReason::Ours);
        // What was accepted has a listener's port at our end. Nobody waits for first responses there but by flow, and such a request
        // has failed with its sending.
        let accepted = self
            .engine
            .core
            .conf()
            .listener_at(flow.transport, &flow.local)
            .is_some();
        if !ours && !accepted && self.lost.len() < MAX_UNREACHABLE {
            self.lost.push((flow.transport, flow.remote));
        }
    }

    fn take_answers(&mut self, clock: Clock) {
        for _ in 0..EVENTS_PER_TURN {
            let Ok((asker, answer)) = self.answers.try_recv() else {
                return;
            };
            self.engine.on_answer(clock, asker, answer);
        }
    }

    fn take_mail(&mut self, clock: Clock) {
        for _ in 0..EVENTS_PER_TURN {
            let Some(mail) = self.mail.try_recv() else { return };
            self.take_letter(clock, mail);
        }
    }

    fn take_letter(&mut self, clock: Clock, mail: Mail) {
        match mail {
            Mail::Message { flow, bytes } => {
                if self.engine.on_message(clock, flow, &bytes).is_some() {
                    // Not this worker's either: its owner has just ended.
                    self.engine.own.mail_lost += 1;
                }
            }
            Mail::Send {
                flow,
                bytes,
                token,
                from,
            } => {
                let marked = if token == 0 {
                    0
                } else {
                    u64::from(from + 1) << ASKER_SHIFT | token
                };
                if self.streams.send_on(&flow, bytes.clone(), marked).is_ok() {
                    return;
                }
                if token != 0 {
                    self.tell_send_failed(from, token);
                } else {
                    self.reply_anew(flow, bytes);
                }
            }
            Mail::SendFailed { token } => self.engine.on_send_failed(clock, token),
            Mail::Unreachable(addrs) => self.engine.on_unreachable(clock, &addrs),
            Mail::Proved(sources) => self.engine.guard.borrow_mut().adopt_proofs(clock.now, &sources),
            Mail::Banned(bans) => {
                for ban in bans.iter() {
                    self.engine.guard.borrow_mut().adopt(clock.now, ban);
                }
                self.put_out(clock);
            }
            Mail::Deny(bans, lift, done) => {
                let mut guard = self.engine.guard.borrow_mut();
                guard.deny(&bans, clock.now);
                let lifted = lift.map_or(0, |network| guard.lift(clock.now, &network));
                drop(guard);
                self.put_out(clock);
                let _ = done.send(lifted);
            }
            Mail::Bans(done) => {
                let guard = self.engine.guard.borrow();
                let _ = done.send((guard.bans(clock.now), guard.operator_hits()));
            }
            Mail::Conf(conf, done) => {
                self.engine.reconfigure(clock, &conf);
                let _ = done.send(());
            }
            Mail::Refresh(done) => {
                self.engine.refresh_tables();
                let _ = done.send(());
            }
            Mail::Drain(done) => {
                self.engine.drain();
                self.draining = Some(done);
            }
            Mail::GiveUp(done) => {
                let cut = self.engine.give_up(clock);
                self.send_all(clock);
                let _ = done.send(cut);
            }
        }
    }

    /// Tells the other workers and the error log whom the guard has banned.
    fn tell_bans(&mut self, clock: Clock) {
        if !self.engine.guard.borrow().has_news() {
            return;
        }
        let proofs = self.engine.guard.borrow_mut().take_proofs();
        if !proofs.is_empty() {
            let proofs: Arc<[std::net::IpAddr]> = proofs.into();
            for other in (0..self.post.workers()).filter(|other| *other != self.number) {
                // A lost one comes again with the source's next proof.
                let _ = self.post.send(other, Mail::Proved(proofs.clone()));
            }
        }
        let bans = self.engine.guard.borrow_mut().take_news();
        if bans.is_empty() {
            return;
        }
        for ban in &bans {
            if let Some(held_back) = BANS.pass() {
                tracing::warn!(
                    source = %ban.source,
                    reason = ban.reason.as_str(),
                    for_s = ban.left.as_secs_f32().round() as u64,
                    strikes = ban.strikes,
                    held_back,
                    "source banned"
                );
            }
        }
        let bans: Arc<[Ban]> = bans.into();
        for other in (0..self.post.workers()).filter(|other| *other != self.number) {
            if self.post.send(other, Mail::Banned(bans.clone())).is_err() {
                self.engine.own.mail_lost += 1;
            }
        }
        self.put_out(clock);
    }

    /// Closes the connections of those who are banned.
    fn put_out(&mut self, clock: Clock) {
        let guard = self.engine.guard.borrow();
        self.streams
            .close_unwelcome(|source| guard.is_banned(clock.now, source));
    }

    /// Another worker's message did not leave by a stream of ours.
    fn tell_send_failed(&mut self, to: u16, token: u64) {
        if self.post.send(to, Mail::SendFailed { token }).is_err() {
            // Its transaction ends by its timer.
            self.engine.own.mail_lost += 1;
        }
    }

    /// Sends what has gathered, and what follows from sends that fail.
    fn send_all(&mut self, clock: Clock) {
        let mut failed = Vec::new();
        // A failed send may lead to another try; the walk over destinations bounds how often.
        loop {
            let mut outbox = std::mem::take(&mut self.engine.outbox);
            for outgoing in outbox.drain(..) {
                let token = outgoing.token;
                if !self.send(outgoing) {
                    failed.push(token);
                }
            }
            if self.engine.outbox.is_empty() {
                self.engine.outbox = outbox;
            }
            for udp in &mut self.udp {
                let unreachable = &mut self.unreachable;
                udp.flush(|failure| note_failure(&failure, &mut failed, unreachable));
            }
            for token in failed.drain(..) {
                self.engine.on_send_failed(clock, token);
            }
            if self.engine.outbox.is_empty() {
                break;
            }
        }
        self.engine.registrar.flush();
    }

    /// Hands one message to its socket. `false`: it did not and will not leave.
    fn send(&mut self, Outgoing { leave, bytes, token }: Outgoing) -> bool {
        match leave {
            Leave::Reply(flow) | Leave::Flow(flow) if flow.transport == Transport::Udp => {
                // A flow may be older than today's listeners; another socket of its family then does what it can.
                let conf = self.engine.core.conf();
                let listener = conf
                    .listener_at(Transport::Udp, &flow.local)
                    .or_else(|| conf.listener_towards(Transport::Udp, &flow.remote));
                let udp = listener.and_then(|listener| self.udp_of_listener.get(listener).copied().flatten());
                udp.is_some_and(|udp| self.udp[udp].send(flow.remote, Some(flow.local.ip()), bytes, token))
            }
            Leave::Onward { listener, destination } if destination.transport == Transport::Udp => {
                let udp = self.udp_of_listener.get(listener).copied().flatten();
                udp.is_some_and(|udp| self.udp[udp].send(destination.addr, None, bytes, token))
            }
            Leave::Onward { listener, destination } => {
                let source = self
                    .engine
                    .core
                    .conf()
                    .listeners
                    .get(listener)
                    .map(|listener| listener.addr.ip());
                let source = source.filter(|ip| !ip.is_unspecified());
                self.streams.send_to(&destination, source, bytes, token).is_ok()
            }
            Leave::Flow(flow) => self.send_on_stream(flow, bytes, token),
            Leave::Reply(flow) => self.send_on_stream(flow, bytes.clone(), token) || self.reply_anew(flow, bytes),
        }
    }

    /// §18.2.2: the connection a request came by is gone; its response takes a new one to where the Via says. Nothing else
    /// does: a request that was to take that flow is lost with it.
    ///
    /// Departs from RFC 3263 §5: a name in Via is not looked up, it would let anybody aim our responses at a third party.
    /// Departs from §18.2.2 by the same: if that connection fails too, the client repeats its request or gives up.
    fn reply_anew(&mut self, flow: Flow, response: bytes::Bytes) -> bool {
        let Some(destination) = via_destination(&response, flow) else {
            return false;
        };
        self.streams.send_to(&destination, None, response, 0).is_ok()
    }

    fn send_on_stream(&mut self, flow: Flow, bytes: bytes::Bytes, token: u64) -> bool {
        let owner = sps_net::streams::worker_of(flow.connection);
        if owner != self.number && owner < self.post.workers() {
            return self
                .post
                .send(
                    owner,
                    Mail::Send {
                        flow,
                        bytes,
                        token,
                        from: self.number,
                    },
                )
                .is_ok();
        }
        self.streams.send_on(&flow, bytes, token).is_ok()
    }

    /// Twice for each overload at most, and those are seconds apart.
    fn tell_load(&self, turn: Turn) {
        let counters = self.engine.core.counters();
        match turn {
            Turn::Began => tracing::warn!(
                worker = self.number,
                refused = counters.overload,
                "overload: new requests are refused by 503"
            ),
            Turn::Ended { lasted } => tracing::warn!(
                worker = self.number,
                refused = counters.overload,
                lasted_s = lasted.as_secs(),
                "overload is over"
            ),
        }
    }

    fn slow_turn(&mut self, clock: Clock, turns: u32) {
        self.pulse.beat();
        if !self.unreachable.is_empty() {
            let addrs = std::mem::take(&mut self.unreachable);
            for other in (0..self.post.workers()).filter(|other| *other != self.number) {
                if self.post.send(other, Mail::Unreachable(addrs.clone())).is_err() {
                    self.engine.own.mail_lost += 1;
                }
            }
            self.engine.on_unreachable(clock, &addrs);
            self.send_all(clock);
        }
        if !self.lost.is_empty() {
            let lost = std::mem::take(&mut self.lost);
            self.engine.on_streams_lost(clock, &lost);
            self.send_all(clock);
        }
        self.engine.on_slow_turn(clock);
        if turns.is_multiple_of(10) {
            self.engine.on_second(clock);
        }
        let load = self.engine.core.load();
        self.engine.own.overload_percent = (100.0 * (1.0 - load.share(Standing::Ordinary))).round() as u64;
        let udp = self.udp.iter().map(Udp::counters).fold(Default::default(), add);
        self.figures.publish(
            &self.engine.core.counters(),
            &udp,
            &self.streams.counters(),
            &self.engine.own,
        );
        if self.draining.is_some()
            && self.engine.core.undecided_requests() == 0
            && let Some(done) = self.draining.take()
        {
            let _ = done.send(());
        }
    }
}

/// Who may connect, as the guard knows him.
fn gate(guard: Rc<RefCell<Guard>>) -> sps_net::streams::Gate {
    Box::new(move |source| {
        let now = Instant::now();
        let mut guard = guard.borrow_mut();
        if !guard.admit(now, source) {
            return Welcome::No;
        }
        if guard.standing(now, source) > guard::Standing::Unknown {
            return Welcome::Known;
        }
        match guard.note(now, source, false, Kind::New) {
            true => Welcome::Stranger,
            false => Welcome::No,
        }
    })
}

static BANS: RateLimit = RateLimit::per_second(5);

/// Tokens of a core fit below this bit (see [`crate::conf::MAX_TRANSACTIONS`]); above it stands who asked for a send, plus one.
const ASKER_SHIFT: u32 = 56;

/// The worker that asked for a send, and its token, if it was another one.
fn asked_by(token: u64) -> Option<(u16, u64)> {
    let from = (token >> ASKER_SHIFT) as u16;
    (from != 0).then(|| (from - 1, token & ((1 << ASKER_SHIFT) - 1)))
}

/// A message to the worker it belongs to, which mostly is this one.
fn feed(engine: &mut Engine, post: &Post, clock: Clock, flow: Flow, bytes: &[u8]) {
    if let Some(worker) = engine.on_message(clock, flow, bytes) {
        let mail = Mail::Message {
            flow,
            bytes: bytes::Bytes::copy_from_slice(bytes),
        };
        if post.send(u16::from(worker), mail).is_err() {
            engine.own.mail_lost += 1;
        }
    }
}

/// What a socket says of datagrams that went out: the send that failed, or that nobody listens at an address.
fn note_failure(failure: &UdpFailure, failed: &mut Vec<u64>, unreachable: &mut Vec<SocketAddr>) {
    match failure.token {
        Some(token) => failed.push(token),
        None if unreachable.len() < MAX_UNREACHABLE && !unreachable.contains(&failure.remote) => {
            unreachable.push(failure.remote);
        }
        None => {}
    }
}

/// Where the Via of a response says that its connection comes from; over TLS whoever is there must be whom it names.
fn via_destination(response: &[u8], flow: Flow) -> Option<Destination> {
    let mut index = sps_wire::Index::default();
    let message = sps_wire::parse(response, &mut index, &sps_wire::Limits::default()).ok()?;
    message.status()?;
    let via = message.top_via().ok()?;
    let port = via.port.unwrap_or(flow.transport.default_port());
    let tls_name = match via.host {
        sps_wire::Host::Name(name) if flow.transport == Transport::Tls => Some(std::str::from_utf8(name).ok()?.into()),
        _ => None,
    };
    Some(Destination {
        transport: flow.transport,
        addr: SocketAddr::new(flow.remote.ip(), port),
        tls_name,
    })
}

fn add(a: sps_net::udp::UdpCounters, b: sps_net::udp::UdpCounters) -> sps_net::udp::UdpCounters {
    sps_net::udp::UdpCounters {
        received: a.received + b.received,
        sent: a.sent + b.sent,
        kernel_drops: a.kernel_drops + b.kernel_drops,
        keepalives: a.keepalives + b.keepalives,
        truncated: a.truncated + b.truncated,
        refused: a.refused + b.refused,
        send_errors: a.send_errors + b.send_errors,
        icmp_errors: a.icmp_errors + b.icmp_errors,
        blocked: a.blocked + b.blocked,
    }
}

/// How long a datagram waited until now. A clock that was set meanwhile must not look like a queue.
fn wait(now_ns: u64, arrived_ns: u64) -> Duration {
    let waited = Duration::from_nanos(now_ns.saturating_sub(arrived_ns));
    if arrived_ns == 0 || waited > LONGEST_WAIT {
        Duration::ZERO
    } else {
        waited
    }
}

/// No socket buffer holds messages for longer, unless the process stood still: then they are late, but no sign of load.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

fn unix_ns() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}

fn random_seed() -> Result<u64, Fatal> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| Fatal::new(Exit::System, format!("get random numbers: {error}")))?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_no_queue() {
        const SECOND: u64 = 1_000_000_000;
        let now = 1_800_000_000 * SECOND;
        assert_eq!(wait(now, now - SECOND), Duration::from_secs(1));
        assert_eq!(wait(now, now + SECOND), Duration::ZERO);
        assert_eq!(wait(now, now - 3_600 * SECOND), Duration::ZERO);
        assert_eq!(wait(now, 0), Duration::ZERO, "the kernel did not say");
    }

    #[test]
    fn a_token_tells_which_worker_asked() {
        let largest = (1u64 << ASKER_SHIFT) - 1;
        for token in [1, 77, largest] {
            assert_eq!(asked_by(token), None, "one of our own");
            assert_eq!(asked_by(u64::from(1u16) << ASKER_SHIFT | token), Some((0, token)));
            assert_eq!(asked_by(u64::from(64u16) << ASKER_SHIFT | token), Some((63, token)));
        }
    }

    #[test]
    fn what_icmp_says_is_kept_once_and_within_bounds() {
        let (mut failed, mut unreachable) = (Vec::new(), Vec::new());
        let mut note = |port: u16, token| {
            let failure = UdpFailure {
                remote: ([192, 0, 2, 1], port).into(),
                token,
                error: std::io::ErrorKind::ConnectionRefused.into(),
            };
            note_failure(&failure, &mut failed, &mut unreachable);
        };
        note(1, Some(7));
        for port in 0..1000 {
            note(port, None);
            note(port, None);
        }
        assert_eq!(failed, [7]);
        assert_eq!(unreachable.len(), MAX_UNREACHABLE);
        assert_eq!(unreachable[1].port(), 1);
    }

    #[test]
    fn only_a_response_takes_another_connection() {
        let flow = Flow {
            member: 0,
            transport: Transport::Tcp,
            local: ([127, 0, 0, 1], 5060).into(),
            remote: ([192, 0, 2, 1], 40000).into(),
            connection: 1,
        };
        let rest = "Via: SIP/2.0/TCP 192.0.2.9:5070;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\n\
                    Call-ID: 1\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n";
        let response = format!("SIP/2.0 200 OK\r\n{rest}");
        let destination = |response: &str| via_destination(response.as_bytes(), flow);
        let found = destination(&response).unwrap();
        assert_eq!((found.addr, found.tls_name), (([192, 0, 2, 1], 5070).into(), None));
        let request = format!("BYE sip:c@d SIP/2.0\r\n{rest}");
        assert_eq!(destination(&request), None);
        let named = Flow {
            transport: Transport::Tls,
            ..flow
        };
        let response = response.replace("192.0.2.9:5070", "peer.example");
        let found = via_destination(response.as_bytes(), named).unwrap();
        assert_eq!(found.addr.port(), 5061);
        assert_eq!(found.tls_name.as_deref(), Some("peer.example"));
    }
}
