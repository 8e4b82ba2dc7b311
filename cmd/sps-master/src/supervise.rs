//! The master's loop: one queue of events, one owner of all state. Starts the daemons one after the other, starts again what dies,
//! kills what hangs, and stops everything in the end. Orders of operators are carried out in `jobs.rs`.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant, SystemTime};

use sps_conf::{Material, Paths};
use sps_daemon::{Exit, Fatal, Ids, open_log_file};
use sps_ipc::operator;
use sps_ipc::parent::{Frozen, HANG_TIMEOUT, Order, Report, START_TIMEOUT};

use crate::backoff::Verdict;
use crate::child::{Child, How, State};
use crate::clock::Clock;
use crate::event::{ChildEvent, Event};
use crate::jobs::Jobs;
use crate::life::{Life, Start, how_it_ended};
use crate::listen::Listeners;
use crate::starter::Starter;

/// How long daemons may take to stop when a signal says so.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// What a daemon gets beyond what it was given to stop, before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// The clock is looked at, and hung children are looked for, at least this often.
const TICK: Duration = Duration::from_secs(1);

/// Longer than this between two ticks, and we ourselves were stopped: what the children said meanwhile has still to be read.
const PAUSE: Duration = Duration::from_secs(3);

/// Everything the master knows.
pub struct Supervisor {
    pub paths: Paths,
    pub owner: Option<Ids>,
    /// The configuration in force. Its `listeners` and `levels` are those of nobody, its `tls` is for sps-tls; see [`Supervisor::frozen_for`].
    pub frozen: Frozen,
    pub configured_at: SystemTime,
    pub listeners: Arc<Listeners>,
    pub children: Vec<Child>,
    pub events: SyncSender<Event>,
    pub starter: Starter,
    /// The daemons' stderr goes to the error log.
    pub quiet: bool,
    pub open_files_limit: u64,
    pub started_at: Instant,
    pub clock: Clock,
    pub phase: Phase,
    pub jobs: Jobs,
}

/// How far the whole is.
#[derive(Debug)]
pub enum Phase {
    /// Daemons are started for the first time, one after the other.
    Coming,
    /// All have been ready.
    Serving,
    /// Daemons are stopped, the last one first. With the reason when it is not the operator's will.
    Going { within: Duration, because: Option<Fatal> },
}

impl Supervisor {
    /// Runs until everything has stopped.
    ///
    /// # Errors
    /// Why it stopped, when nobody wanted that.
    pub fn run(&mut self, events: &Receiver<Event>) -> Result<(), Fatal> {
        self.start_next(Instant::now());
        loop {
            let now = Instant::now();
            let wait = self
                .next_deadline()
                .map_or(TICK, |at| at.saturating_duration_since(now).min(TICK));
            match events.recv_timeout(wait) {
                Ok(event) => self.on_event(Instant::now(), event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Fatal::new(Exit::Software, "the queue of events ended"));
                }
            }
            // Everything that has been said is heard before anybody is judged silent.
            while let Ok(event) = events.try_recv() {
                self.on_event(Instant::now(), event);
            }
            self.on_tick(Instant::now(), SystemTime::now());
            if let Phase::Going { because, .. } = &mut self.phase
                && self.children.iter().all(|child| matches!(child.state, State::Stopped))
            {
                return because.take().map_or(Ok(()), Err);
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.children
            .iter()
            .filter_map(|child| child.deadline(HANG_TIMEOUT))
            .min()
    }

    fn on_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Signal(signal) => self.on_signal(now, signal),
            Event::Asked { request, reply } => self.on_request(now, request, reply),
            Event::Child {
                child: index,
                life,
                what,
            } => {
                // Of an earlier life: its end was told long ago.
                if self.children[index].life().is_none_or(|current| current.number != life) {
                    return;
                }
                match what {
                    ChildEvent::Said(report) => self.on_report(now, index, report),
                    ChildEvent::NoChannel(reason) => self.kill(index, &reason),
                    ChildEvent::Exited(status) => self.on_death(now, index, how_it_ended(status), status.code()),
                }
            }
        }
    }

    fn on_signal(&mut self, now: Instant, signal: i32) {
        if matches!(self.phase, Phase::Going { .. }) {
            tracing::warn!(signal, "told to stop again: killing what is left");
            for child in &self.children {
                if let Some(life) = child.life() {
                    life.kill();
                }
            }
        } else {
            tracing::info!(signal, "told to stop by a signal");
            self.stop(now, STOP_WITHIN, None);
        }
    }

    fn on_report(&mut self, now: Instant, index: usize, report: Report) {
        let child = &mut self.children[index];
        child.heard(now);
        match report {
            Report::Alive => {}
            Report::Progress(text) => {
                let text = format!("{}: {text}", child.spec.name);
                tracing::info!("{text}");
                self.starter.progress(&text);
            }
            Report::Ready => self.on_ready(now, index),
            Report::Done { id } => {
                if child.answered(id) {
                    self.on_answer(now, index, Ok(()));
                }
            }
            Report::Refused { id, reason } => {
                if child.answered(id) {
                    let reason = format!("{}: {reason}", child.spec.name);
                    self.on_answer(now, index, Err(reason));
                }
            }
            Report::Fatal { code, text } => child.last_words = Some((code, text)),
        }
    }

    fn on_ready(&mut self, now: Instant, index: usize) {
        let child = &mut self.children[index];
        let State::Alive {
            life,
            how: how @ How::Starting { .. },
            ..
        } = &mut child.state
        else {
            return;
        };
        *how = How::Up {
            since: now,
            heard_at: now,
        };
        let outdated = life.configuration != self.frozen.number;
        tracing::info!(daemon = child.spec.name, pid = life.pid, "up");
        match self.phase {
            Phase::Coming => self.start_next(now),
            // The configuration was replaced between its start and now. Rare enough for the simplest cure.
            Phase::Serving if outdated => self.kill(index, "works by an old configuration"),
            Phase::Serving => self.next_job(now),
            Phase::Going { .. } => {}
        }
    }

    /// The first time round: each daemon once the one before is ready.
    fn start_next(&mut self, now: Instant) {
        match self.children.iter().position(|child| child.lives == 0) {
            Some(index) => {
                self.starter
                    .progress(&format!("starting {}", self.children[index].spec.name));
                self.start(now, index);
            }
            None => {
                self.phase = Phase::Serving;
                tracing::info!(generation = self.frozen.generation, "every daemon is ready");
                self.starter
                    .ready(&self.paths, self.frozen.generation, self.listeners.listening());
                self.next_job(now);
            }
        }
    }

    fn start(&mut self, now: Instant, index: usize) {
        let frozen = self.frozen_for(index, &self.frozen);
        let child = &mut self.children[index];
        child.lives += 1;
        let stderr = if self.quiet {
            open_log_file(&self.frozen.error_log()).ok().map(Into::into)
        } else {
            None
        };
        let start = Start {
            program: &child.program,
            child: index,
            life: child.lives,
            owner: child.owner,
            frozen,
            listeners: self.listeners.clone(),
            listens: child.spec.listens,
            stderr,
        };
        match Life::start(start, &self.events) {
            Ok(life) => {
                tracing::info!(daemon = child.spec.name, pid = life.pid, life = child.lives, "started");
                let how = How::Starting {
                    until: now + START_TIMEOUT,
                };
                child.state = State::Alive {
                    life,
                    how,
                    outstanding: None,
                    orders: 0,
                };
            }
            Err(fatal) => {
                child.last_words = Some((fatal.exit.code(), fatal.text.clone()));
                self.on_death(now, index, "could not be started".into(), None);
            }
        }
    }

    /// A process has ended, or never came to be.
    fn on_death(&mut self, now: Instant, index: usize, how: String, code: Option<i32>) {
        let child = &mut self.children[index];
        let served = child.served(now);
        let name = child.spec.name;
        let words = child.last_words.take();
        child.last_end = match (child.killed_for.take(), &words) {
            (Some(reason), _) => format!("killed: {reason}"),
            (None, Some((_, text))) => format!("{how}: {text}"),
            (None, None) => how,
        };
        let end = child.last_end.clone();
        match self.phase {
            Phase::Going { .. } => {
                child.state = State::Stopped;
                tracing::info!(daemon = name, "stopped ({end})");
                self.stop_next(now);
                return;
            }
            Phase::Coming => {
                child.state = State::Stopped;
                // Started for the first time with an operator looking on: trying again would only hide the reason.
                let exit = words
                    .as_ref()
                    .map(|(code, _)| *code)
                    .or(code.and_then(|code| u8::try_from(code).ok()));
                let exit = exit.and_then(Exit::from_code).unwrap_or(Exit::Software);
                let text = match words {
                    Some((_, text)) => format!("{name}: {text}"),
                    None => format!("{name} {end} before it was ready; the error log may say more"),
                };
                tracing::error!(daemon = name, "died while starting ({end})");
                self.stop(now, Duration::ZERO, Some(Fatal::new(exit, text)));
                return;
            }
            Phase::Serving => {}
        }
        match child.backoff.on_death(served) {
            Verdict::Again(wait) => {
                tracing::error!(daemon = name, again_in = ?wait, "died ({end})");
                child.state = State::Waiting { start_at: now + wait };
            }
            Verdict::GiveUp => {
                tracing::error!(
                    daemon = name,
                    "died ({end}) and is given up: it died too often in a row; spsctl reload tries again"
                );
                child.state = State::Failed;
            }
        }
        self.on_answer(now, index, Err(format!("{name} died ({end})")));
        // At once means at once, not with the next tick. What is not to be started again holds up no job.
        self.start_due(now);
        self.next_job(now);
    }

    fn start_due(&mut self, now: Instant) {
        for index in 0..self.children.len() {
            if matches!(self.children[index].state, State::Waiting { start_at } if start_at <= now) {
                self.start(now, index);
            }
        }
    }

    fn on_tick(&mut self, now: Instant, wall: SystemTime) {
        let (passed, jump_ms) = self.clock.look(now, wall);
        if jump_ms != 0 {
            tracing::warn!(by_ms = %jump_ms, "the clock was set");
        }
        if passed > PAUSE {
            tracing::warn!(for_ms = passed.as_millis(), "sps-master itself stood still");
            for child in &mut self.children {
                child.heard(now);
            }
        }
        for index in 0..self.children.len() {
            if let Some(reason) = self.children[index].overdue(now, HANG_TIMEOUT) {
                self.kill(index, &reason);
            }
        }
        if matches!(self.phase, Phase::Serving) {
            self.start_due(now);
        }
    }

    /// Ends a process that does not do what it should; its death comes back as an event.
    fn kill(&mut self, index: usize, reason: &str) {
        let child = &mut self.children[index];
        let State::Alive { life, how, .. } = &mut child.state else {
            return;
        };
        tracing::error!(daemon = child.spec.name, pid = life.pid, "killed: {reason}");
        child.killed_for = Some(reason.to_owned());
        life.kill();
        // Not a second time, unless the kernel takes its time.
        match how {
            How::Starting { until } | How::Stopping { until } => *until += STOP_GRACE,
            How::Up { heard_at, .. } => *heard_at = Instant::now(),
        }
    }

    /// Begins to stop everything; `because` when it is not the operator's will.
    pub fn stop(&mut self, now: Instant, within: Duration, because: Option<Fatal>) {
        if matches!(self.phase, Phase::Going { .. }) {
            return;
        }
        self.phase = Phase::Going { within, because };
        crate::starter::notify_stopping();
        self.drop_jobs();
        for child in &mut self.children {
            if let State::Waiting { .. } | State::Failed = child.state {
                child.state = State::Stopped;
            }
        }
        self.stop_next(now);
    }

    /// Stops the last daemon that runs, unless one is being stopped: the proxy needs the registrar for what it has begun.
    fn stop_next(&mut self, now: Instant) {
        let Phase::Going { within, .. } = self.phase else {
            return;
        };
        let stopping = |child: &Child| {
            matches!(
                child.state,
                State::Alive {
                    how: How::Stopping { .. },
                    ..
                }
            )
        };
        if self.children.iter().any(stopping) {
            return;
        }
        let Some(child) = self.children.iter_mut().rev().find(|child| child.life().is_some()) else {
            return;
        };
        let was_up = child.is_up();
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let told = child.order(now, Order::Stop { within_ms });
        if let State::Alive { life, how, .. } = &mut child.state {
            *how = How::Stopping {
                until: now + within + STOP_GRACE,
            };
            tracing::info!(daemon = child.spec.name, ?within, "stopping");
            if !was_up || !told {
                // It is not listening to orders yet, and has nothing that could be lost.
                life.kill();
            }
        }
    }

    /// `base` as the daemon gets it.
    pub fn frozen_for(&self, index: usize, base: &Frozen) -> Frozen {
        let child = &self.children[index];
        Frozen {
            listeners: self.listeners.infos(child.spec.listens),
            // Keys are for one daemon alone.
            tls: if child.spec.tls {
                base.tls.clone()
            } else {
                Material::default()
            },
            levels: child.levels.clone(),
            ..base.clone()
        }
    }

    /// How everything is.
    pub fn status(&self, now: Instant) -> operator::Status {
        let pid = std::process::id();
        let (memory_len, cpu_ms) = crate::process::figures(pid);
        let master = operator::Daemon {
            name: "sps-master".into(),
            pid: Some(pid),
            state: match self.phase {
                Phase::Coming => operator::State::Starting,
                Phase::Serving => operator::State::Up,
                Phase::Going { .. } => operator::State::Stopping,
            },
            uptime_ms: u64::try_from(now.saturating_duration_since(self.started_at).as_millis()).unwrap_or(u64::MAX),
            restarts: 0,
            memory_len,
            cpu_ms,
            last_end: String::new(),
        };
        let since_epoch = self
            .configured_at
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        operator::Status {
            release: env!("CARGO_PKG_VERSION").into(),
            generation: self.frozen.generation,
            configuration: self.frozen.number,
            configured_at_ms: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
            ready: matches!(self.phase, Phase::Serving),
            daemons: std::iter::once(master)
                .chain(self.children.iter().map(|child| child.status(now)))
                .collect(),
            listening: self.listeners.listening(),
            open_files_limit: self.open_files_limit,
            clock_jumps: self.clock.jumps,
        }
    }
}
