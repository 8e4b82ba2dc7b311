//! One worker: a thread with its own runtime, sockets, timers and transactions (design: nothing that touches a transaction
//! runs elsewhere, no lock around protocol state).

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use sps_daemon::{Exit, Fatal, Listener, OrFatal, Pulse};
use sps_net::streams::CloseReason;
use sps_net::udp::{any_readable, any_writable};
use sps_net::{Resolver, StreamEvent, StreamEvents, Streams, Udp, UdpConf};
use sps_route::Answer;
use sps_sip::proxy::{Clock, Conf, Leave, Owners, Proxy};
use sps_wire::flow::{Destination, Flow, Transport};
use tokio::sync::{mpsc, oneshot};

use crate::access::Access;
use crate::conf::WorkerConf;
use crate::engine::{self, Engine, Outgoing};
use crate::figures::Figures;
use crate::mail::{Mail, Post};
use crate::names::{Asker, Names};
use crate::registrar::RegistrarLink;
use crate::tables::Tables;

/// What a worker is started with.
pub struct Start {
    pub number: u16,
    pub conf: WorkerConf,
    pub paths: sps_conf::Paths,
    pub registrar_socket: std::path::PathBuf,
    pub conf_number: u64,
    pub listeners: Vec<Listener>,
    pub owners: Option<std::sync::Arc<dyn Owners>>,
    pub access: sps_daemon::AccessWriter,
    pub figures: Figures,
    pub pulse: Pulse,
    pub mail: mpsc::Receiver<Mail>,
    pub post: Post,
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
    mail: mpsc::Receiver<Mail>,
    post: Post,
    figures: Figures,
    pulse: Pulse,
    /// Where ICMP says nobody listens; told to the core once a turn of the slow clock.
    unreachable: Vec<SocketAddr>,
    draining: Option<oneshot::Sender<()>>,
    events: Vec<StreamEvent>,
}

/// What woke the worker.
enum Woken {
    Datagrams,
    Room,
    Stream,
    Registrar,
    Answer(Option<(Asker, Answer)>),
    Mail(Option<Mail>),
    Time,
}

/// Figures are published, and quiet sockets noticed, this often.
const SLOW_TURN: Duration = Duration::from_millis(100);

/// Stream events taken in one turn, and letters.
const EVENTS_PER_TURN: usize = 256;

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
        let mut udp_of_listener = Vec::new();
        let (streams, stream_events) = Streams::new(conf.streams.clone());
        for listener in listeners {
            match listener.info.transport.into() {
                Transport::Udp => {
                    let socket = Udp::new(UdpSocket::from(listener.socket), &UdpConf::default()).or_fatal(
                        Exit::Network,
                        format!("take over the UDP socket {}", listener.info.address),
                    )?;
                    udp_of_listener.push(Some(udp.len()));
                    udp.push(socket);
                }
                Transport::Tcp | Transport::Tls => {
                    streams.listen(TcpListener::from(listener.socket)).or_fatal(
                        Exit::Network,
                        format!("take over the TCP socket {}", listener.info.address),
                    )?;
                    udp_of_listener.push(None);
                }
            }
        }
        let (names, answers) = Names::new(Resolver::new(&conf.dns));
        let seed = random_seed()?;
        let mut core = Proxy::new(conf.core.clone(), conf.limits, Access(start.access), seed, now);
        if let Some(owners) = start.owners {
            core.share(owners);
        }
        let registrar = RegistrarLink::new(start.registrar_socket, start.conf_number, now);
        let tables = Tables::open(&start.paths);
        let engine = Engine::new(
            core,
            &conf,
            tables,
            names,
            streams.clone(),
            registrar,
            seed.rotate_left(17),
        );
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
            draining: None,
            events: Vec::new(),
        })
    }

    async fn serve(mut self) {
        let mut slow_at = Instant::now() + SLOW_TURN;
        let mut turns = 0u32;
        loop {
            let woken = self.wait(slow_at).await;
            let clock = engine::clock();
            match woken {
                Woken::Datagrams => {}
                Woken::Room | Woken::Time => {}
                Woken::Stream => self.take_stream_events(clock),
                Woken::Registrar => self.engine.on_registrar(clock),
                Woken::Answer(Some((asker, answer))) => self.engine.on_answer(clock, asker, answer),
                Woken::Mail(Some(mail)) => self.take_mail(clock, mail),
                // The main thread is gone, and with it the process.
                Woken::Answer(None) | Woken::Mail(None) => return,
            }
            // Whatever woke us, datagrams and deadlines are looked after in every turn.
            self.receive_datagrams(clock);
            self.engine.on_deadline(clock);
            self.send_all(clock);
            if clock.now >= slow_at {
                slow_at = clock.now + SLOW_TURN;
                turns = turns.wrapping_add(1);
                self.slow_turn(clock, turns);
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
        tokio::select! {
            biased;
            () = any_readable(&self.udp) => Woken::Datagrams,
            () = self.stream_events.receive(&mut self.events, EVENTS_PER_TURN) => Woken::Stream,
            () = self.engine.registrar.ready() => Woken::Registrar,
            answer = self.answers.recv() => Woken::Answer(answer),
            mail = self.mail.recv() => Woken::Mail(mail),
            () = any_writable(&self.udp) => Woken::Room,
            () = tokio::time::sleep_until(at.into()) => Woken::Time,
        }
    }

    fn receive_datagrams(&mut self, clock: Clock) {
        let member = self.engine.core.conf().member;
        for udp in &mut self.udp {
            let (engine, post) = (&mut self.engine, &self.post);
            let received = udp.receive(|datagram| {
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
            let mut failed = Vec::new();
            udp.errors(|failure| match failure.token {
                Some(token) => failed.push(token),
                None if self.unreachable.len() < MAX_UNREACHABLE && !self.unreachable.contains(&failure.remote) => {
                    self.unreachable.push(failure.remote);
                }
                None => {}
            });
            for token in failed {
                self.engine.on_send_failed(clock, token);
            }
        }
    }

    fn take_stream_events(&mut self, clock: Clock) {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            match event {
                StreamEvent::Opened { .. } => {}
                StreamEvent::Message { flow, bytes } => feed(&mut self.engine, &self.post, clock, flow, &bytes),
                StreamEvent::Broken { flow, bytes, .. } => feed(&mut self.engine, &self.post, clock, flow, &bytes),
                StreamEvent::Closed { flow, reason } => {
                    if !matches!(reason, CloseReason::Peer | CloseReason::Idle | CloseReason::Ours) {
                        tracing::debug!(remote = %flow.remote, ?reason, "stream closed");
                    }
                }
                StreamEvent::SendFailed { tokens, .. } => {
                    for token in tokens {
                        match asked_by(token) {
                            Some((from, token)) => drop(self.post.send(from, Mail::SendFailed { token })),
                            None => self.engine.on_send_failed(clock, token),
                        }
                    }
                }
            }
        }
        self.events = events;
    }

    fn take_mail(&mut self, clock: Clock, mail: Mail) {
        let mut next = Some(mail);
        for _ in 0..EVENTS_PER_TURN {
            let Some(mail) = next.take().or_else(|| self.mail.try_recv().ok()) else {
                return;
            };
            match mail {
                Mail::Message { flow, bytes } => {
                    // What is not this worker's either (its owner has just ended) goes nowhere.
                    let _ = self.engine.on_message(clock, flow, &bytes);
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
                    if self.streams.send_on(&flow, bytes, marked).is_err() && token != 0 {
                        let _ = self.post.send(from, Mail::SendFailed { token });
                    }
                }
                Mail::SendFailed { token } => self.engine.on_send_failed(clock, token),
                Mail::Unreachable(addrs) => self.engine.on_unreachable(clock, &addrs),
                Mail::Conf(conf, done) => {
                    self.engine.reconfigure(&conf);
                    let _ = done.send(());
                }
                Mail::Refresh(done) => {
                    self.engine.refresh_tables();
                    let _ = done.send(());
                }
                Mail::Drain(done) => {
                    let conf = Conf {
                        draining: true,
                        ..self.engine.core.conf().clone()
                    };
                    self.engine.core.reconfigure(conf);
                    self.draining = Some(done);
                }
            }
        }
    }

    /// Sends what has gathered, and what follows from sends that fail.
    fn send_all(&mut self, clock: Clock) {
        let mut failed = Vec::new();
        // A failed send may lead to another try; the walk over destinations bounds how often.
        while !self.engine.outbox.is_empty() {
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
                udp.flush(|failure| failed.extend(failure.token));
            }
            for token in failed.drain(..) {
                self.engine.on_send_failed(clock, token);
            }
        }
        for udp in self.udp.iter_mut().filter(|udp| udp.queued() > 0) {
            udp.flush(|failure| failed.extend(failure.token));
        }
        for token in failed {
            self.engine.on_send_failed(clock, token);
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
            Leave::Reply(flow) => {
                if self.send_on_stream(flow, bytes.clone(), token) {
                    return true;
                }
                // §18.2.2: the connection is gone; a new one goes to where the Via says.
                let Some(addr) = via_address(&bytes, flow) else {
                    return false;
                };
                let destination = Destination {
                    transport: flow.transport,
                    addr,
                    tls_name: None,
                };
                self.streams.send_to(&destination, None, bytes, token).is_ok()
            }
        }
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
        if turns.is_multiple_of(10) {
            self.engine.on_second();
        }
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

fn via_address(response: &[u8], flow: Flow) -> Option<SocketAddr> {
    let mut index = sps_wire::Index::default();
    let message = sps_wire::parse(response, &mut index, &sps_wire::Limits::default()).ok()?;
    let via = message.top_via().ok()?;
    Some(SocketAddr::new(
        flow.remote.ip(),
        via.port.unwrap_or(flow.transport.default_port()),
    ))
}

fn add(a: sps_net::udp::UdpCounters, b: sps_net::udp::UdpCounters) -> sps_net::udp::UdpCounters {
    sps_net::udp::UdpCounters {
        received: a.received + b.received,
        sent: a.sent + b.sent,
        kernel_drops: a.kernel_drops + b.kernel_drops,
        truncated: a.truncated + b.truncated,
        refused: a.refused + b.refused,
        send_errors: a.send_errors + b.send_errors,
        icmp_errors: a.icmp_errors + b.icmp_errors,
        blocked: a.blocked + b.blocked,
    }
}

fn random_seed() -> Result<u64, Fatal> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| Fatal::new(Exit::System, format!("get random numbers: {error}")))?;
    Ok(u64::from_ne_bytes(bytes))
}
