//! The child's end of the channel to `sps-master`: configuration, descriptors, readiness, heartbeat, orders.
//!
//! The channel package blocks, so it stays in threads of its own: one reads orders, one sends heartbeats and answers. Orders about the
//! logs are carried out here; the rest comes out of [`Parent::next_order`]. A TERM signal comes out there too, as an order to
//! stop. When the master dies the daemon goes on serving and says so in the log.

use std::io::{Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use sps_ipc::parent::{
    CONNECT_TIMEOUT, ChannelError, ChildEnd, Frozen, HANG_TIMEOUT, HEARTBEAT_WAIT, ListenerInfo, Order as Wire, Report,
    Reporter,
};
use tokio::sync::mpsc;

use crate::{Exit, Fatal, OrFatal};

/// What every daemon's command line has. Started by sps-master only.
#[derive(Debug, Clone, clap::Args)]
pub struct ChildArgs {
    /// Where sps-master waits for this process; given by sps-master, nobody else starts daemons
    #[arg(long = "ipc", value_name = "NAME")]
    pub door: String,
}

/// The way to the master.
pub struct Parent {
    name: &'static str,
    frozen: Arc<Frozen>,
    listeners: Vec<Listener>,
    /// Held locked for life: who finds it locked knows that the process id in it is ours.
    _pid_file: std::fs::File,
    pulses: Arc<Mutex<Vec<Beat>>>,
    /// Taken by the order thread.
    end: Option<ChildEnd>,
    reporter: Reporter,
    orders: Option<mpsc::Receiver<Delivered>>,
}

/// A listening socket of ours.
#[derive(Debug)]
pub struct Listener {
    /// What and where.
    pub info: ListenerInfo,
    /// The socket, non-blocking, bound, for TCP listening.
    pub socket: OwnedFd,
}

/// What a daemon is told to do; see [`sps_ipc::parent::Order`].
#[derive(Debug, Clone)]
pub enum Order {
    /// Make ready for this configuration and go on by the old one. May be refused.
    Prepare(Arc<Frozen>),
    /// Work by the prepared configuration of that number from now on.
    Commit(u64),
    /// Forget the prepared configuration of that number.
    Abort(u64),
    /// Take no new work, finish what is begun within the time, return from `main`.
    Stop {
        /// What is open then is cut.
        within: Duration,
    },
}

/// An order (those about the logs are carried out already), to be answered by [`Delivered::done`] or [`Delivered::refuse`]. Dropped, it is refused.
#[derive(Debug)]
pub struct Delivered {
    /// What to do.
    pub order: Order,
    answer: Option<(u64, Sender<Report>)>,
}

impl Delivered {
    /// It is carried out (a stop: begun). Never blocks.
    pub fn done(mut self) {
        self.answer(|id| Report::Done { id });
    }

    /// It cannot be carried out, and everything is as before. Never blocks.
    pub fn refuse(mut self, reason: impl Into<String>) {
        self.answer(|id| Report::Refused {
            id,
            reason: reason.into(),
        });
    }

    fn answer(&mut self, report: impl FnOnce(u64) -> Report) {
        if let Some((id, reports)) = self.answer.take() {
            // The report thread ends with the master only.
            let _ = reports.send(report(id));
        }
    }
}

impl Drop for Delivered {
    fn drop(&mut self) {
        self.answer(|id| Report::Refused {
            id,
            reason: "the order was dropped".into(),
        });
    }
}

/// A loop's sign of life. While one is older than [`Pulse::STALE_AFTER`] no heartbeat goes to the master, and the daemon is
/// restarted as hung. Dropped, it is asked no more.
#[derive(Debug, Clone)]
pub struct Pulse(Arc<AtomicU64>);

#[derive(Debug)]
struct Beat {
    count: std::sync::Weak<AtomicU64>,
    seen: u64,
    seen_at: Instant,
}

impl Pulse {
    /// How often a loop must beat at the least, busy or idle.
    pub const STALE_AFTER: Duration = Duration::from_secs(3);

    /// One store. Call it each time round, and once a second when there is nothing to do.
    pub fn beat(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// Orders that can wait to be taken. The master has one outstanding, TERM may add one.
const ORDERS_QUEUED: usize = 4;

/// How long a daemon takes to stop when somebody else than the master sends TERM.
const STOP_WITHIN: Duration = Duration::from_secs(5);

static REPORTER: OnceLock<Reporter> = OnceLock::new();

impl Parent {
    /// Reaches the master, gets the configuration and the listening sockets (over descriptor 0), and claims the pid file.
    ///
    /// # Errors
    /// Not started by a master, or it went away, or another process of this name runs in this generation.
    pub fn connect(name: &'static str, args: &ChildArgs) -> Result<Self, Fatal> {
        let (end, frozen) = ChildEnd::connect(&args.door).or_fatal(Exit::Software, "reach sps-master")?;
        let _ = REPORTER.set(end.reporter());
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let sockets = sps_ipc::rights::receive_descriptors(std::io::stdin().as_fd(), frozen.handed(), deadline)
            .or_fatal(Exit::Software, "receive listening sockets from sps-master")?;
        let listeners = frozen
            .listeners
            .iter()
            .filter(|info| info.handed)
            .cloned()
            .zip(sockets)
            .map(|(info, socket)| Listener { info, socket })
            .collect();
        let pid_file = claim_pid_file(name, &frozen)?;
        let reporter = end.reporter();
        Ok(Self {
            name,
            frozen: Arc::new(frozen),
            listeners,
            _pid_file: pid_file,
            pulses: Arc::default(),
            end: Some(end),
            reporter,
            orders: None,
        })
    }

    /// The frozen configuration, the same for every process of this number.
    pub fn configuration(&self) -> Arc<Frozen> {
        self.frozen.clone()
    }

    /// The listening sockets that were handed over, in the order of [`Frozen::listeners`]; empty the second time.
    pub fn take_listeners(&mut self) -> Vec<Listener> {
        std::mem::take(&mut self.listeners)
    }

    /// Tells the operator why starting takes long. Only before [`Parent::ready`].
    pub fn progress(&self, text: &str) {
        // A master that is gone is noticed by `ready`.
        let _ = self.reporter.send(Report::Progress(text.to_owned()));
    }

    /// A sign of life for one loop of this daemon.
    pub fn pulse(&self) -> Pulse {
        let count = Arc::new(AtomicU64::new(0));
        let beat = Beat {
            count: Arc::downgrade(&count),
            seen: 0,
            seen_at: Instant::now(),
        };
        lock(&self.pulses).push(beat);
        Pulse(count)
    }

    /// Tells the master that everything is prepared, and starts the threads: log, heartbeat, orders, signals. Call it after
    /// [`crate::confine`].
    ///
    /// # Errors
    /// The master is gone: a daemon that never was ready has nobody to serve. Or the system gives no thread.
    pub fn ready(&mut self) -> Result<(), Fatal> {
        let Some(end) = self.end.take() else { return Ok(()) };
        crate::log::start_log_thread()?;
        let (deliver, orders) = mpsc::channel(ORDERS_QUEUED);
        let (reports, to_send) = std::sync::mpsc::channel();
        self.reporter
            .send(Report::Ready)
            .or_fatal(Exit::Software, "report to sps-master")?;
        tracing::info!(configuration = self.frozen.number, pid = std::process::id(), "ready");

        let (reporter, pulses, name) = (self.reporter.clone(), self.pulses.clone(), self.name);
        spawn("report", move || send_reports(&reporter, &to_send, &pulses, name))?;
        let answers = reports.clone();
        let to_task = deliver.clone();
        spawn("orders", move || take_orders(&end, &answers, &to_task))?;
        let mut signals =
            signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP]).or_fatal(Exit::System, "take signals")?;
        spawn("signals", move || {
            for signal in signals.forever() {
                if signal == SIGTERM {
                    tracing::info!("told to stop by a signal");
                    let _ = deliver.blocking_send(Delivered {
                        order: Order::Stop { within: STOP_WITHIN },
                        answer: None,
                    });
                }
                // HUP and INT are the master's business; it passes on what concerns us.
            }
        })?;
        self.orders = Some(orders);
        Ok(())
    }

    /// The next order. May be dropped and asked again. Waits for ever when the master is gone (TERM still comes), or before
    /// [`Parent::ready`].
    pub async fn next_order(&mut self) -> Delivered {
        if let Some(orders) = &mut self.orders
            && let Some(delivered) = orders.recv().await
        {
            return delivered;
        }
        std::future::pending().await
    }
}

/// Reports a fatal error to the master, without waiting long for one that does not read. False when there is no master.
pub(crate) fn report_fatal(fatal: &Fatal) -> bool {
    let Some(reporter) = REPORTER.get().cloned() else {
        return false;
    };
    let report = Report::Fatal {
        code: fatal.exit.code(),
        text: fatal.text.clone(),
    };
    let (told, sent) = std::sync::mpsc::channel();
    let sending = std::thread::Builder::new().spawn(move || {
        let _ = told.send(reporter.send(report).is_ok());
    });
    sending.is_ok() && sent.recv_timeout(HEARTBEAT_WAIT) == Ok(true)
}

/// Writes our process id into the pid file and locks it for life.
fn claim_pid_file(name: &str, frozen: &Frozen) -> Result<std::fs::File, Fatal> {
    let path = frozen.pid_file(name);
    let what = || format!("claim {}", path.display());
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .or_fatal(Exit::CantCreate, what())?;
    crate::instance::lock_for_life(&file).or_fatal(Exit::Later, what())?;
    file.set_len(0).or_fatal(Exit::Storage, what())?;
    file.rewind().or_fatal(Exit::Storage, what())?;
    writeln!(file, "{}", std::process::id()).or_fatal(Exit::Storage, what())?;
    Ok(file)
}

/// The report thread: answers as they come, a heartbeat each second.
fn send_reports(
    reporter: &Reporter,
    to_send: &std::sync::mpsc::Receiver<Report>,
    pulses: &Mutex<Vec<Beat>>,
    name: &str,
) {
    let mut beat_at = Instant::now();
    loop {
        let report = match to_send.recv_timeout(beat_at.saturating_duration_since(Instant::now())) {
            Ok(report) => report,
            Err(RecvTimeoutError::Timeout) => {
                beat_at = Instant::now() + HEARTBEAT_WAIT;
                if !all_alive(&mut lock(pulses), Instant::now()) {
                    tracing::error!(kill_after = ?HANG_TIMEOUT, "a loop of {name} stands still");
                    continue;
                }
                Report::Alive
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if reporter.send(report).is_err() {
            // The order thread says that the master is gone.
            return;
        }
    }
}

/// Whether every loop has beaten lately.
fn all_alive(pulses: &mut Vec<Beat>, now: Instant) -> bool {
    let mut alive = true;
    pulses.retain_mut(|beat| {
        let Some(count) = beat.count.upgrade() else {
            return false;
        };
        let count = count.load(Relaxed);
        if count != beat.seen {
            (beat.seen, beat.seen_at) = (count, now);
        }
        alive &= now.saturating_duration_since(beat.seen_at) < Pulse::STALE_AFTER;
        true
    });
    alive
}

/// The order thread: carries out what concerns the logs, delivers the rest.
fn take_orders(end: &ChildEnd, answers: &Sender<Report>, to_task: &mpsc::Sender<Delivered>) {
    let mut prepared = None;
    loop {
        let (id, order) = match end.recv() {
            Ok(order) => order,
            Err(ChannelError::Gone) => {
                tracing::warn!("sps-master is gone; serving on");
                return;
            }
            Err(error) => {
                tracing::error!(%error, "no more orders from sps-master");
                return;
            }
        };
        let answer = |result: Result<(), String>| {
            let _ = answers.send(match result {
                Ok(()) => Report::Done { id },
                Err(reason) => Report::Refused { id, reason },
            });
        };
        let order = match order {
            Wire::LogReopen => {
                answer(reopen_logs());
                continue;
            }
            Wire::LogLevel { module, level } => {
                crate::log::log_level(module.as_deref(), level);
                tracing::info!(
                    module = module.as_deref().unwrap_or("all"),
                    level = level.as_str(),
                    "log level changed"
                );
                answer(Ok(()));
                continue;
            }
            Wire::Prepare(frozen) => {
                let frozen = Arc::new(*frozen);
                prepared = Some(frozen.clone());
                Order::Prepare(frozen)
            }
            Wire::Commit { number } => {
                if let Some(frozen) = prepared.take().filter(|frozen| frozen.number == number) {
                    configure_logs(&frozen);
                }
                Order::Commit(number)
            }
            Wire::Abort { number } => {
                prepared = None;
                Order::Abort(number)
            }
            Wire::Stop { within_ms } => Order::Stop {
                within: Duration::from_millis(within_ms),
            },
        };
        let delivered = Delivered {
            order,
            answer: Some((id, answers.clone())),
        };
        // Nobody takes orders any more: dropped, and thereby refused.
        let _ = to_task.blocking_send(delivered);
    }
}

/// The logs of this process follow the new configuration. It is in force whatever they say.
fn configure_logs(frozen: &Frozen) {
    let error = crate::log::log_configure(&frozen.error_log(), frozen.conf.log.level);
    for (module, level) in &frozen.levels {
        crate::log::log_level(Some(module), *level);
    }
    if let Err(error) = error {
        tracing::error!(%error, "the error log stays where it is");
    }
    if let Err(error) = crate::access::configure_all(frozen.access_log().as_deref()) {
        tracing::error!(%error, "the access log stays as it is");
    }
}

/// Opens all log files of this process anew.
fn reopen_logs() -> Result<(), String> {
    let access = crate::access::reopen_all();
    let error = crate::log::log_reopen().map_err(|error| format!("reopen the error log: {error}"));
    access.and(error)
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Fatal> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .map(drop)
        .or_fatal(Exit::System, format!("start the {name} thread"))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stands_still_stops_the_heartbeat_until_it_is_gone() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let counts: Vec<_> = (0..2).map(|_| Arc::new(AtomicU64::new(0))).collect();
        let beat = |count| Beat {
            count: Arc::downgrade(count),
            seen: 0,
            seen_at: now,
        };
        let mut beats: Vec<_> = counts.iter().map(beat).collect();
        let [one, other] = [0, 1].map(|i| Pulse(counts[i].clone()));
        drop(counts);
        assert!(all_alive(&mut beats, now + 2 * second));
        one.beat();
        assert!(!all_alive(&mut beats, now + 3 * second));
        other.beat();
        assert!(all_alive(&mut beats, now + 4 * second));
        drop(other);
        one.beat();
        assert!(all_alive(&mut beats, now + 9 * second));
        assert_eq!(beats.len(), 1);
    }

    #[test]
    fn an_order_that_is_dropped_is_refused() {
        let (answers, answered) = std::sync::mpsc::channel();
        let deliver = |id| Delivered {
            order: Order::Commit(1),
            answer: Some((id, answers.clone())),
        };
        deliver(1).done();
        deliver(2).refuse("no");
        drop(deliver(3));
        drop(Delivered {
            order: Order::Commit(1),
            answer: None,
        });
        assert_eq!(
            answered.try_iter().collect::<Vec<_>>(),
            [
                Report::Done { id: 1 },
                Report::Refused {
                    id: 2,
                    reason: "no".into()
                },
                Report::Refused {
                    id: 3,
                    reason: "the order was dropped".into()
                },
            ]
        );
    }
}
