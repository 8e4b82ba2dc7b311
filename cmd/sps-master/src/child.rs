//! One of the master's daemons: what it is, how it is, and what it has been told.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use sps_conf::Level;
use sps_daemon::Ids;
use sps_ipc::operator;
use sps_ipc::parent::{ORDER_TIMEOUT, Order, ToChild};

use crate::backoff::Backoff;
use crate::life::Life;

/// What a daemon is.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// The program's name.
    pub name: &'static str,
    /// Which listening sockets it gets.
    pub listens: Listens,
    /// Started only where TLS is spoken; gets the private keys, and has a user of its own.
    pub tls: bool,
}

/// Which listening sockets a daemon gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listens {
    /// None.
    No,
    /// All but those for TLS, of which it is told.
    Plain,
    /// Those for TLS.
    Tls,
}

/// All daemons, in the order of starting; they are stopped the other way round.
pub const SPECS: [Spec; 3] = [
    Spec {
        name: "sps-registrar",
        listens: Listens::No,
        tls: false,
    },
    Spec {
        name: "sps-tls",
        listens: Listens::Tls,
        tls: true,
    },
    Spec {
        name: "sps-proxy",
        listens: Listens::Plain,
        tls: false,
    },
];

/// A daemon over all its lives.
pub struct Child {
    pub spec: Spec,
    pub program: PathBuf,
    /// Whom to run as, unless as ourselves.
    pub owner: Option<Ids>,
    pub state: State,
    /// Lives so far.
    pub lives: u64,
    pub backoff: Backoff,
    /// How the last life ended; empty in the first.
    pub last_end: String,
    /// What this life said about its own end, with its exit code.
    pub last_words: Option<(u8, String)>,
    /// Why we killed this life.
    pub killed_for: Option<String>,
    /// Log levels set at run time; an empty name means everything.
    pub levels: Vec<(String, Level)>,
}

/// How a daemon is.
pub enum State {
    /// To be started at this time.
    Waiting { start_at: Instant },
    /// There is a process.
    Alive {
        life: Life,
        how: How,
        outstanding: Option<Outstanding>,
        orders: u64,
    },
    /// Given up until the operator does something.
    Failed,
    /// Not to be started.
    Stopped,
}

/// How its process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Not ready yet; killed after `until`.
    Starting { until: Instant },
    /// Ready `since`; killed when silent for too long after `heard_at`.
    Up { since: Instant, heard_at: Instant },
    /// Told to stop; killed after `until`.
    Stopping { until: Instant },
}

/// An order not yet answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outstanding {
    pub id: u64,
    /// Killed when not answered by then.
    until: Instant,
}

impl Child {
    pub fn new(spec: Spec, program: PathBuf, owner: Option<Ids>) -> Self {
        Self {
            spec,
            program,
            owner,
            state: State::Stopped,
            lives: 0,
            backoff: Backoff::default(),
            last_end: String::new(),
            last_words: None,
            killed_for: None,
            levels: Vec::new(),
        }
    }

    pub fn life(&self) -> Option<&Life> {
        match &self.state {
            State::Alive { life, .. } => Some(life),
            State::Waiting { .. } | State::Failed | State::Stopped => None,
        }
    }

    pub fn is_up(&self) -> bool {
        matches!(
            self.state,
            State::Alive {
                how: How::Up { .. },
                ..
            }
        )
    }

    pub fn is_starting(&self) -> bool {
        matches!(
            self.state,
            State::Alive {
                how: How::Starting { .. },
                ..
            }
        )
    }

    /// How long it has been ready; `None` when it is not.
    pub fn served(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Alive {
                how: How::Up { since, .. },
                ..
            } => Some(now.saturating_duration_since(since)),
            State::Alive { .. } | State::Waiting { .. } | State::Failed | State::Stopped => None,
        }
    }

    /// Gives an order; a child that does not take or answer it in time is killed. False when it could not be given.
    pub fn order(&mut self, now: Instant, order: Order) -> bool {
        let State::Alive {
            life,
            outstanding,
            orders,
            ..
        } = &mut self.state
        else {
            return false;
        };
        *orders += 1;
        *outstanding = Some(Outstanding {
            id: *orders,
            until: now + ORDER_TIMEOUT,
        });
        life.send(ToChild::Order { id: *orders, order })
    }

    /// Whether `id` answers the outstanding order; it is outstanding no more then.
    pub fn answered(&mut self, id: u64) -> bool {
        match &mut self.state {
            State::Alive { outstanding, .. } if outstanding.is_some_and(|order| order.id == id) => {
                *outstanding = None;
                true
            }
            State::Alive { .. } | State::Waiting { .. } | State::Failed | State::Stopped => false,
        }
    }

    /// It has said something: it lives.
    pub fn heard(&mut self, now: Instant) {
        if let State::Alive {
            how: How::Up { heard_at, .. },
            ..
        } = &mut self.state
        {
            *heard_at = now;
        }
    }

    /// Why it has to be killed now, if it has to.
    pub fn overdue(&self, now: Instant, hang_timeout: Duration) -> Option<String> {
        let State::Alive { how, outstanding, .. } = &self.state else {
            return None;
        };
        match how {
            How::Starting { until } if now >= *until => Some("was not ready in time".into()),
            How::Stopping { until } if now >= *until => Some("did not stop in time".into()),
            How::Up { heard_at, .. } if now.saturating_duration_since(*heard_at) >= hang_timeout => {
                Some(format!("gave no sign of life for {} s", hang_timeout.as_secs()))
            }
            How::Up { .. } if outstanding.is_some_and(|order| now >= order.until) => {
                Some(format!("did not answer an order for {} s", ORDER_TIMEOUT.as_secs()))
            }
            How::Starting { .. } | How::Up { .. } | How::Stopping { .. } => None,
        }
    }

    /// When to look at it again, if ever.
    pub fn deadline(&self, hang_timeout: Duration) -> Option<Instant> {
        match &self.state {
            State::Waiting { start_at } => Some(*start_at),
            State::Alive {
                how: How::Starting { until } | How::Stopping { until },
                ..
            } => Some(*until),
            State::Alive {
                how: How::Up { heard_at, .. },
                outstanding,
                ..
            } => {
                let hung_at = *heard_at + hang_timeout;
                Some(outstanding.map_or(hung_at, |order| order.until.min(hung_at)))
            }
            State::Failed | State::Stopped => None,
        }
    }

    /// As the operator is told.
    pub fn status(&self, now: Instant) -> operator::Daemon {
        let pid = self.life().map(|life| life.pid);
        let (memory_len, cpu_ms) = pid.map_or((0, 0), crate::process::figures);
        operator::Daemon {
            name: self.spec.name.into(),
            pid,
            state: match &self.state {
                State::Waiting { .. } => operator::State::Waiting,
                State::Alive {
                    how: How::Starting { .. },
                    ..
                } => operator::State::Starting,
                State::Alive {
                    how: How::Up { .. }, ..
                } => operator::State::Up,
                State::Alive {
                    how: How::Stopping { .. },
                    ..
                } => operator::State::Stopping,
                State::Failed => operator::State::Failed,
                State::Stopped => operator::State::Stopped,
            },
            uptime_ms: self
                .served(now)
                .map_or(0, |served| u64::try_from(served.as_millis()).unwrap_or(u64::MAX)),
            restarts: self.lives.saturating_sub(1),
            memory_len,
            cpu_ms,
            last_end: self.last_end.clone(),
        }
    }
}
