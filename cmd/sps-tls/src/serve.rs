//! The main thread: carries the master's orders, lets workers in, and looks after what expires.

use std::collections::HashSet;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sps_daemon::{Exit, Fatal, Listener, OrFatal, Order, Parent, Pulse};
use sps_ipc::seqpacket::{AsyncListener, Listener as Door};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::context::{Context, InForce};
use crate::handshakes::Handshakes;
use crate::peers::Peers;
use crate::workers::Workers;
use crate::{accept, ctl, workers};

/// What all tasks share.
pub struct Shared {
    pub context: InForce,
    pub peers: Peers,
    pub handshakes: Handshakes,
    pub workers: Workers,
}

/// The main loop beats, and certificates are looked at, this often.
const TICK: Duration = Duration::from_secs(1);

/// A certificate that expires within this is told once a day.
const EXPIRES_SOON: i64 = 14 * 86_400;

/// The threads that shake hands and pump. They have nothing to do with the main thread, which answers the master.
pub fn start_pumps(threads: usize) -> Result<Runtime, Fatal> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("pump")
        .enable_all()
        .build()
        .or_fatal(Exit::System, "start the event loops")
}

/// Serves until told to stop.
pub async fn run(
    mut parent: Parent,
    context: Context,
    listeners: Vec<Listener>,
    door: Door,
    ctl_door: Door,
    pumps: Runtime,
) -> Result<(), Fatal> {
    let shared = Arc::new(Shared {
        context: InForce::new(context),
        peers: Peers::default(),
        handshakes: Handshakes::default(),
        workers: Workers::default(),
    });
    let beats = parent.pulse();
    {
        let _within = pumps.enter();
        for listener in listeners {
            let what = || format!("take over the socket {}", listener.info.address);
            let socket = StdListener::from(listener.socket);
            socket.set_nonblocking(true).or_fatal(Exit::Network, what())?;
            let socket = TcpListener::from_std(socket).or_fatal(Exit::Network, what())?;
            pumps.spawn(accept::run(shared.clone(), socket, listener.info.listen));
        }
        let door = AsyncListener::new(door).or_fatal(Exit::Network, "listen for sps-proxy")?;
        pumps.spawn(let_workers_in(shared.clone(), door));
        let ctl_door = AsyncListener::new(ctl_door).or_fatal(Exit::Network, "listen for operators")?;
        pumps.spawn(ctl::run(shared.clone(), ctl_door));
        // The pumps themselves, not only this thread, must be alive.
        pumps.spawn(beat(parent.pulse()));
    }
    let mut told = Told::default();
    let mut prepared = None;
    let mut tick = tokio::time::interval(TICK);
    loop {
        let delivered = tokio::select! {
            delivered = parent.next_order() => delivered,
            _ = tick.tick() => {
                beats.beat();
                told.look(&shared);
                continue;
            }
        };
        match &delivered.order {
            Order::Prepare(frozen) => match Context::new(frozen) {
                Ok(context) => {
                    prepared = Some((frozen.number, context));
                    delivered.done();
                }
                Err(text) => {
                    tracing::warn!("configuration refused: [tls] {text}");
                    delivered.refuse(format!("[tls] {text}"));
                }
            },
            Order::Abort(_) => {
                prepared = None;
                delivered.done();
            }
            Order::Commit(number) => match prepared.take().filter(|(prepared, _)| prepared == number) {
                Some((number, context)) => {
                    shared.context.replace(context);
                    told = Told::default();
                    tracing::info!(configuration = number, "in force for new connections");
                    delivered.done();
                }
                None => delivered.refuse("that configuration was not prepared"),
            },
            Order::Stop { .. } => {
                // The proxy has stopped before: nothing is under way. What its last messages are is written already.
                delivered.done();
                pumps.shutdown_background();
                return Ok(());
            }
        }
    }
}

async fn beat(pulse: Pulse) {
    let mut tick = tokio::time::interval(TICK);
    loop {
        tick.tick().await;
        pulse.beat();
    }
}

async fn let_workers_in(shared: Arc<Shared>, door: AsyncListener) {
    loop {
        match door.accept().await {
            Ok(connection) if connection.peer().is_ok_and(|peer| peer.is_of_us()) => {
                tokio::spawn(workers::serve(shared.clone(), connection));
            }
            Ok(_) => tracing::warn!("a stranger at tls.sock is sent away"),
            Err(error) => {
                tracing::error!(%error, "accept at tls.sock");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Certificates of which it was said that they expire, and the day of that.
#[derive(Default)]
struct Told {
    day: i64,
    files: HashSet<String>,
}

impl Told {
    fn look(&mut self, shared: &Shared) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        if self.day != now / 86_400 {
            self.day = now / 86_400;
            self.files.clear();
        }
        for certificate in &shared.context.get().certificates {
            let left_s = certificate.expires_at_s.saturating_sub(now);
            if left_s > EXPIRES_SOON || !self.files.insert(certificate.file.clone()) {
                continue;
            }
            let file = &certificate.file;
            if left_s < 0 {
                tracing::error!(
                    file,
                    "this certificate has expired: nobody who looks will talk TLS with us"
                );
            } else {
                tracing::warn!(file, days = left_s / 86_400, "this certificate expires soon");
            }
        }
    }
}
