//! The loop of the daemon: proxies, operators, the master, and the clock.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use sps_daemon::{Exit, Fatal, OrFatal, Parent, RateLimit};
use sps_ipc::registrar_ctl::MAX_CONVERSATIONS;
use sps_ipc::seqpacket::{AsyncConnection, AsyncListener, Listener, buffer};
use sps_ipc::service::{Batch, FromService, ToService, to_service};
use tokio::sync::{Mutex, Notify};
use tokio::task::{LocalSet, spawn_local, yield_now};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::operator::{self, Shared};
use crate::registrar::Registrar;
use crate::setup::Setup;
use crate::statics::Statics;

/// Connections of proxy workers at a time: 64 workers of a serving and two draining generations, and room.
pub const MAX_PROXIES: usize = 256;

/// A proxy that takes no answers for so long is hung up on; it connects anew and asks again.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);

/// Frames of one proxy handled before others get their turn.
const FRAMES_AT_ONCE: usize = 16;

/// How often bindings that are over are looked for.
const TICK: Duration = Duration::from_secs(1);

/// After a connection could not be accepted (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

static BAD_FRAME: RateLimit = RateLimit::per_second(1);

/// Serves until the master says stop.
pub async fn run(
    parent: Parent,
    registrar: Registrar,
    statics: Statics,
    service: Listener,
    operators: Listener,
) -> Result<(), Fatal> {
    let shared = Rc::new(Shared {
        registrar: RefCell::new(registrar),
        statics,
        changing: Mutex::new(()),
    });
    LocalSet::new()
        .run_until(serve(parent, shared.clone(), service, operators))
        .await?;
    // The tasks went with their set, and their hold on what they shared.
    if let Some(shared) = Rc::into_inner(shared) {
        shared.registrar.into_inner().close();
    }
    Ok(())
}

async fn serve(mut parent: Parent, shared: Rc<Shared>, service: Listener, operators: Listener) -> Result<(), Fatal> {
    let service = AsyncListener::new(service).or_fatal(Exit::System, "wait for sps-proxy")?;
    let operators = AsyncListener::new(operators).or_fatal(Exit::System, "wait for operators")?;
    let proxies = Rc::new(Guests::default());
    let asking = Rc::new(Guests::default());
    let pulse = parent.pulse();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut prepared: Option<Setup> = None;
    let mut expired = Vec::new();
    let within = loop {
        tokio::select! {
            connection = accept(&service) => {
                let shared = shared.clone();
                proxies.admit(connection, MAX_PROXIES, |connection| answer_proxy(connection, shared));
            }
            connection = accept(&operators) => {
                let shared = shared.clone();
                asking.admit(connection, MAX_CONVERSATIONS, |connection| operator::converse(connection, shared));
            }
            delivered = parent.next_order() => match delivered.order.clone() {
                sps_daemon::Order::Prepare(frozen) => {
                    prepared = Some(Setup::of(&frozen));
                    delivered.done();
                }
                sps_daemon::Order::Commit(number) => match prepared.take_if(|setup| setup.number == number) {
                    Some(setup) => {
                        commit(&shared, setup).await;
                        delivered.done();
                    }
                    None => delivered.refuse(format!("configuration {number} was not prepared")),
                },
                sps_daemon::Order::Abort(number) => {
                    prepared.take_if(|setup| setup.number == number);
                    delivered.done();
                }
                sps_daemon::Order::Stop { within } => {
                    delivered.done();
                    break within;
                }
            },
            _ = tick.tick() => {
                pulse.beat();
                expire(&shared, &mut expired).await;
            }
        }
    };
    drop((service, operators));
    drain(&proxies, within, &pulse).await;
    Ok(())
}

/// Works by a prepared configuration. If our domains have changed, static registrations may belong elsewhere now.
async fn commit(shared: &Shared, setup: Setup) {
    let number = setup.number;
    let rules_changed = setup.rules_hash != shared.registrar.borrow().setup.rules_hash;
    shared.registrar.borrow_mut().change_setup(setup);
    tracing::info!(configuration = number, "configuration in force");
    if !rules_changed {
        return;
    }
    let _changing = shared.changing.lock().await;
    match shared.statics.read_aside().await {
        Ok(kept) => {
            let moved = shared.registrar.borrow_mut().restore_these(kept);
            if let Err(error) = shared.statics.rewrite_aside(moved).await {
                tracing::error!(error, "static registrations keep their old keys in the database");
            }
        }
        Err(error) => tracing::error!(error, "static registrations stay as the registry has them"),
    }
}

/// Takes out all that is over, a little at a time.
async fn expire(shared: &Shared, expired: &mut Vec<sps_registry::Expired>) {
    loop {
        let more = shared.registrar.borrow_mut().expire(expired);
        if !more {
            return;
        }
        yield_now().await;
    }
}

/// What is asked already is answered: waits until the proxies have hung up, or the time is over.
async fn drain(proxies: &Guests, within: Duration, pulse: &sps_daemon::Pulse) {
    let end = Instant::now() + within;
    while proxies.count.get() > 0 && Instant::now() < end {
        pulse.beat();
        let wait = TICK.min(end.saturating_duration_since(Instant::now()));
        let _ = timeout(wait, proxies.left.notified()).await;
    }
    if proxies.count.get() > 0 {
        tracing::info!(proxies = proxies.count.get(), "stopping with proxies still connected");
    }
}

/// The next connection; errors are told and waited out.
async fn accept(listener: &AsyncListener) -> AsyncConnection {
    loop {
        match listener.accept().await {
            Ok(connection) => return connection,
            Err(error) => {
                tracing::warn!(%error, "accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The tasks of one kind of connection.
#[derive(Default)]
struct Guests {
    count: Cell<usize>,
    left: Notify,
}

impl Guests {
    /// Begins a task for `connection` unless there are `most` already.
    fn admit<F: Future<Output = ()> + 'static>(
        self: &Rc<Self>,
        connection: AsyncConnection,
        most: usize,
        task: impl FnOnce(AsyncConnection) -> F,
    ) {
        if self.count.get() >= most {
            tracing::warn!(most, "too many connections; hung up on one");
            return;
        }
        self.count.set(self.count.get() + 1);
        let (task, guests) = (task(connection), self.clone());
        spawn_local(async move {
            task.await;
            guests.count.set(guests.count.get() - 1);
            guests.left.notify_one();
        });
    }
}

/// Answers one proxy worker until it hangs up: for each frame of requests a frame of responses.
pub(crate) async fn answer_proxy(connection: AsyncConnection, shared: Rc<Shared>) {
    if !connection.peer().is_ok_and(|peer| peer.may_order()) {
        tracing::warn!("a stranger at the socket for sps-proxy; hung up");
        return;
    }
    let mut buffer = buffer();
    let mut desk = Desk::default();
    let mut frames = 0;
    loop {
        // More is there mostly under load; then the poll is saved.
        let received = match connection.try_recv(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => connection.recv(&mut buffer).await,
            received => received,
        };
        let frame = match received {
            Ok(0) => return,
            Ok(len) => &buffer[..len],
            Err(error) => {
                tracing::debug!(%error, "a proxy is gone");
                return;
            }
        };
        if let Err(hang_up) = desk.handle(frame, &connection, &shared).await {
            if let Some(held_back) = BAD_FRAME.pass() {
                tracing::warn!(reason = %hang_up, held_back, "hung up on a proxy");
            }
            return;
        }
        frames += 1;
        if frames % FRAMES_AT_ONCE == 0 {
            yield_now().await;
        }
    }
}

/// Why a proxy is hung up on.
#[derive(Debug, thiserror::Error)]
enum HangUp {
    #[error(transparent)]
    Malformed(#[from] sps_ipc::Malformed),
    #[error("it is of version {0}")]
    Version(u16),
    #[error("it did not say hello")]
    NoHello,
    #[error("it takes no answers")]
    Stuck,
    #[error(transparent)]
    Gone(#[from] std::io::Error),
}

/// One conversation with a proxy worker.
#[derive(Default)]
struct Desk {
    greeted: bool,
    /// Answers to the frame at hand.
    answers: Batch,
    /// The response at hand.
    response: Vec<u8>,
}

impl Desk {
    async fn handle(&mut self, frame: &[u8], connection: &AsyncConnection, shared: &Shared) -> Result<(), HangUp> {
        for entry in to_service(frame) {
            match entry? {
                ToService::Hello { version, .. } if version == sps_ipc::VERSION => self.greeted = true,
                ToService::Hello { version, .. } => return Err(HangUp::Version(version)),
                ToService::Request { .. } | ToService::Answer { .. } if !self.greeted => return Err(HangUp::NoHello),
                ToService::Request { id, flow, message, .. } => {
                    self.response.clear();
                    let answered = shared.registrar.borrow_mut().answer(&flow, message, &mut self.response);
                    if !self.push(id, answered.is_ok()) {
                        self.flush(connection).await?;
                        // Too long even for a frame of its own.
                        if !self.push(id, answered.is_ok()) && !self.push(id, false) {
                            return Err(HangUp::Stuck);
                        }
                    }
                }
                // We originate nothing, so this answers nobody.
                ToService::Answer { .. } => {}
            }
        }
        self.flush(connection).await
    }

    /// Adds the answer to request `id`; false if the frame has no room for it.
    fn push(&mut self, id: u64, has_response: bool) -> bool {
        let entry = match has_response {
            true => FromService::Response {
                id,
                message: &self.response,
            },
            false => FromService::Busy { id },
        };
        self.answers.push(&entry).is_ok()
    }

    async fn flush(&mut self, connection: &AsyncConnection) -> Result<(), HangUp> {
        if self.answers.is_empty() {
            return Ok(());
        }
        if let Err(error) = connection.try_send(self.answers.bytes()) {
            if error.kind() != ErrorKind::WouldBlock {
                return Err(error.into());
            }
            timeout(SEND_TIMEOUT, connection.send(self.answers.bytes()))
                .await
                .map_err(|_| HangUp::Stuck)??;
        }
        self.answers.clear();
        Ok(())
    }
}
