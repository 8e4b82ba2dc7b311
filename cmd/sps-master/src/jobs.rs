//! What operators order: reload in two phases, log files opened anew, log levels. One job at a time; the others wait in a queue.
//!
//! Reload: every daemon prepares configuration N+1 (*prepare*); one refusal, and those that prepared forget it (*abort*) and the
//! operator is told why; else it is in force and every daemon is told so (*commit*). A daemon that dies while preparing counts as a
//! refusal: what killed it may be the new configuration. One that dies later is started again by what is in force then.

use std::collections::VecDeque;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant, SystemTime};

use sps_conf::{Config, Level};
use sps_daemon::Exit;
use sps_ipc::operator::{Reply, Request};
use sps_ipc::parent::{Frozen, Order};

use crate::child::State;
use crate::supervise::{Phase, Supervisor};
use crate::{folders, keys};

/// Jobs that may wait; as many as operators may ask at once.
const MAX_WAITING: usize = sps_ipc::operator::MAX_CONVERSATIONS;

/// The job in hand, and those that wait.
#[derive(Default)]
pub struct Jobs {
    current: Option<Job>,
    waiting: VecDeque<(Request, Sender<Reply>)>,
}

/// Something that daemons have been told and have to answer.
struct Job {
    step: Step,
    /// Daemons that have not answered.
    open: Vec<usize>,
    /// Why some did not do it.
    refusals: Vec<String>,
    reply: Sender<Reply>,
}

/// How far a job is, and what is needed to go on.
enum Step {
    Prepare {
        frozen: Box<Frozen>,
        prepared: Vec<usize>,
        words: String,
    },
    Abort {
        refusals: Vec<String>,
    },
    Commit {
        words: String,
    },
    /// Nothing follows.
    Logs {
        words: String,
    },
}

impl Supervisor {
    /// An operator asks.
    pub fn on_request(&mut self, now: Instant, request: Request, reply: Sender<Reply>) {
        // Whoever asked may have gone away: then nobody hears the reply, and that is all.
        match request {
            Request::Status => drop(reply.send(Reply::Status(self.status(now)))),
            Request::Mode => drop(reply.send(Reply::Mode(self.frozen.conf.proxy.mode.as_str().into()))),
            Request::Stop { within_ms } => {
                tracing::info!(within_ms, "told to stop by an operator");
                // The door has answered already.
                self.stop(now, Duration::from_millis(within_ms), None);
            }
            Request::Reload | Request::LogReopen | Request::LogLevel { .. } => {
                if matches!(self.phase, Phase::Going { .. }) {
                    refuse(&reply, Exit::Later, "sps is stopping");
                } else if self.jobs.waiting.len() >= MAX_WAITING {
                    refuse(&reply, Exit::Later, "too many orders wait; try again");
                } else {
                    self.jobs.waiting.push_back((request, reply));
                    self.next_job(now);
                }
            }
        }
    }

    /// Begins the next job that waits, if none is in hand. A job waits for daemons that are starting: they would miss it.
    pub fn next_job(&mut self, now: Instant) {
        while self.jobs.current.is_none() {
            let starting = self.children.iter().find(|child| child.is_starting());
            if matches!(self.phase, Phase::Coming) || starting.is_some() {
                if let Some((_, reply)) = self.jobs.waiting.front() {
                    let name = starting.map_or("the daemons", |child| child.spec.name);
                    let _ = reply.send(Reply::Progress(format!("waiting for {name} to start")));
                }
                return;
            }
            let Some((request, reply)) = self.jobs.waiting.pop_front() else {
                return;
            };
            match request {
                Request::Reload => self.reload(now, reply),
                Request::LogReopen => self.log_reopen(now, reply),
                Request::LogLevel { daemon, module, level } => self.log_level(now, &daemon, module, level, reply),
                // Answered at once in `on_request`.
                Request::Status | Request::Mode | Request::Stop { .. } => {}
            }
        }
    }

    /// Nothing is carried out any more.
    pub fn drop_jobs(&mut self) {
        let current = self.jobs.current.take().map(|job| job.reply);
        for reply in current
            .into_iter()
            .chain(self.jobs.waiting.drain(..).map(|(_, reply)| reply))
        {
            refuse(&reply, Exit::Later, "sps is stopping");
        }
    }

    /// A daemon has answered its order, or died.
    pub fn on_answer(&mut self, now: Instant, index: usize, result: Result<(), String>) {
        let Some(job) = &mut self.jobs.current else { return };
        let answered = job.open.iter().position(|&open| open == index);
        if let Some(at) = answered {
            job.open.swap_remove(at);
        }
        match (&mut job.step, result) {
            (Step::Prepare { prepared, .. }, Ok(())) if answered.is_some() => prepared.push(index),
            // Also one that had prepared and died since.
            (Step::Prepare { prepared, .. }, Err(reason)) => {
                prepared.retain(|&child| child != index);
                job.refusals.push(reason);
            }
            (Step::Logs { .. }, Err(reason)) if answered.is_some() => job.refusals.push(reason),
            // Committing cannot be refused; who died is started again by the new configuration.
            (Step::Prepare { .. } | Step::Abort { .. } | Step::Commit { .. } | Step::Logs { .. }, _) => {}
        }
        if job.open.is_empty() {
            self.finish_step(now);
        }
    }

    /// Gives every daemon that is up an order, and makes that the job in hand.
    fn give(&mut self, now: Instant, step: Step, reply: Sender<Reply>, order: impl Fn(&Self, usize) -> Option<Order>) {
        let mut job = Job {
            step,
            open: Vec::new(),
            refusals: Vec::new(),
            reply,
        };
        for index in 0..self.children.len() {
            let Some(order) = order(self, index).filter(|_| self.children[index].is_up()) else {
                continue;
            };
            if self.children[index].order(now, order) {
                job.open.push(index);
            } else {
                job.refusals
                    .push(format!("{} takes no orders", self.children[index].spec.name));
            }
        }
        let finished = job.open.is_empty();
        self.jobs.current = Some(job);
        if finished {
            self.finish_step(now);
        }
    }

    /// Everybody has answered.
    fn finish_step(&mut self, now: Instant) {
        let Some(Job {
            step, refusals, reply, ..
        }) = self.jobs.current.take()
        else {
            return;
        };
        match step {
            Step::Prepare { frozen, words, .. } if refusals.is_empty() => self.commit(now, *frozen, words, reply),
            Step::Prepare { frozen, prepared, .. } => {
                let number = frozen.number;
                tracing::warn!(configuration = number, "reload refused: {}", refusals.join("; "));
                self.give(now, Step::Abort { refusals }, reply, |_, index| {
                    prepared.contains(&index).then_some(Order::Abort { number })
                });
            }
            Step::Abort { refusals } => refuse(&reply, Exit::Config, &refusals.join("\n")),
            Step::Commit { words } => drop(reply.send(Reply::Done(words))),
            Step::Logs { words } if refusals.is_empty() => drop(reply.send(Reply::Done(words))),
            Step::Logs { .. } => refuse(&reply, Exit::Storage, &refusals.join("\n")),
        }
        self.next_job(now);
    }

    fn reload(&mut self, now: Instant, reply: Sender<Reply>) {
        let (conf, warnings) = match Config::load_noting(&self.paths.config) {
            Ok(loaded) => loaded,
            Err(problems) => {
                let file = self.paths.config.display();
                for problem in problems.iter().filter(|problem| !problem.warning) {
                    let (line, text) = (problem.line, &problem.text);
                    tracing::warn!(%file, line, "reload refused: {text}");
                }
                let exit = if problems.is_unreadable() {
                    Exit::NoInput
                } else {
                    Exit::Config
                };
                return refuse(&reply, exit, &problems.to_string());
            }
        };
        let obstacles = Config::reload_obstacles(&self.frozen.conf, &conf);
        if !obstacles.is_empty() {
            tracing::warn!("reload refused: {}", obstacles.join("; "));
            let text = format!(
                "needs a restart (spsctl stop, spsctl start):\n  {}",
                obstacles.join("\n  ")
            );
            return refuse(&reply, Exit::Config, &text);
        }
        let ready = folders::make_logs(&self.paths, &conf, self.owner)
            .and_then(|()| keys::load_or_make(&self.paths.mac_keys()));
        let mac_keys = match ready {
            Ok(keys) => keys,
            Err(fatal) => return refuse(&reply, fatal.exit, &fatal.text),
        };
        let tls = match conf.tls_material(&self.paths) {
            Ok(material) => material,
            Err(error) => {
                tracing::warn!("reload refused: {error}");
                return refuse(&reply, Exit::Config, &error.to_string());
            }
        };
        let words = if warnings.is_empty() {
            String::new()
        } else {
            warnings.to_string()
        };
        let frozen = Frozen {
            number: self.frozen.number + 1,
            conf,
            mac_keys,
            tls,
            ..self.frozen.clone()
        };
        let step = Step::Prepare {
            frozen: Box::new(frozen.clone()),
            prepared: Vec::new(),
            words,
        };
        self.give(now, step, reply, |this, index| {
            Some(Order::Prepare(Box::new(this.frozen_for(index, &frozen))))
        });
    }

    fn commit(&mut self, now: Instant, frozen: Frozen, words: String, reply: Sender<Reply>) {
        let number = frozen.number;
        self.frozen = frozen;
        self.configured_at = SystemTime::now();
        if let Err(error) = sps_daemon::log_configure(&self.frozen.error_log(), self.frozen.conf.log.level) {
            tracing::warn!(%error, "the error log stays where it is");
        }
        tracing::info!(configuration = number, "configuration in force");
        self.give(now, Step::Commit { words }, reply, |_, _| {
            Some(Order::Commit { number })
        });
        for child in &mut self.children {
            match &mut child.state {
                State::Alive { life, .. } => life.configuration = number,
                State::Failed | State::Waiting { .. } => {
                    // It may have been the configuration that killed it.
                    child.backoff.forgive();
                    child.state = State::Waiting { start_at: now };
                }
                State::Stopped => {}
            }
        }
    }

    fn log_reopen(&mut self, now: Instant, reply: Sender<Reply>) {
        // As root we make the files first, so that they belong to the daemons.
        let ours = folders::make_logs(&self.paths, &self.frozen.conf, self.owner)
            .map_err(|fatal| fatal.text)
            .and_then(|()| sps_daemon::log_reopen().map_err(|error| format!("reopen the error log: {error}")));
        match ours {
            Ok(()) => self.give(now, Step::Logs { words: String::new() }, reply, |_, _| {
                Some(Order::LogReopen)
            }),
            Err(text) => refuse(&reply, Exit::Storage, &text),
        }
    }

    fn log_level(&mut self, now: Instant, daemon: &str, module: Option<String>, level: Level, reply: Sender<Reply>) {
        let name = if daemon.starts_with("sps-") {
            daemon.to_owned()
        } else {
            format!("sps-{daemon}")
        };
        if let Some(module) = module.as_deref().filter(|module| !is_module(module)) {
            let text = format!("`{module}` is no module; they are named as in the error log, such as net::udp");
            return refuse(&reply, Exit::Usage, &text);
        }
        let module = module.map(|module| target(&name, &module));
        let words = match &module {
            Some(module) => format!("{name} logs {module} from level {} up", level.as_str()),
            None => format!("{name} logs from level {} up", level.as_str()),
        };
        if name == "sps-master" {
            sps_daemon::log_level(module.as_deref(), level);
            drop(reply.send(Reply::Done(words)));
            return;
        }
        let Some(child) = self.children.iter_mut().find(|child| child.spec.name == name) else {
            let known: Vec<_> = self.children.iter().map(|child| child.spec.name).collect();
            let text = format!(
                "there is no daemon {daemon}; there are sps-master, {}",
                known.join(", ")
            );
            return refuse(&reply, Exit::Usage, &text);
        };
        // So that it is the same after its next start.
        let key = module.clone().unwrap_or_default();
        if key.is_empty() {
            child.levels.clear();
        }
        child.levels.retain(|(known, _)| *known != key);
        child.levels.push((key, level));
        self.give(now, Step::Logs { words }, reply, |this, index| {
            (this.children[index].spec.name == name).then(|| Order::LogLevel {
                module: module.clone(),
                level,
            })
        });
    }
}

/// Whether a text can be the name of a module: words of letters, digits and `_`, joined by `::`.
fn is_module(text: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    text.split("::").all(is_word)
}

/// The crates of ours and of others whose names an operator may leave the `sps_` away from, or not.
const OURS: [&str; 9] = [
    "conf", "daemon", "ipc", "mapped", "mmsg", "net", "registry", "route", "sip",
];
const OTHERS: [&str; 3] = ["hickory_proto", "hickory_resolver", "tokio"];

/// The log's name of a module: `net::udp` is `sps_net::udp`, `serve` is `sps_proxy::serve`.
fn target(daemon: &str, module: &str) -> String {
    let first = module.split("::").next().unwrap_or(module);
    if first.starts_with("sps_") || OTHERS.contains(&first) || first == "panic" {
        module.to_owned()
    } else if OURS.contains(&first) {
        format!("sps_{module}")
    } else {
        format!("{}::{module}", daemon.replace('-', "_"))
    }
}

fn refuse(reply: &Sender<Reply>, exit: Exit, reason: &str) {
    let _ = reply.send(Reply::Refused {
        code: exit.code(),
        reason: reason.to_owned(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_words_and_colons() {
        for text in ["net", "net::udp", "sps_net"] {
            assert!(is_module(text), "{text}");
        }
        for text in ["", "net::", "::udp", "net:udp", "net udp", "net=trace"] {
            assert!(!is_module(text), "{text}");
        }
    }

    #[test]
    fn modules_may_be_named_the_short_way() {
        for (module, named) in [
            ("net::udp", "sps_net::udp"),
            ("sps_net", "sps_net"),
            ("serve", "sps_proxy::serve"),
            ("hickory_resolver::caching", "hickory_resolver::caching"),
        ] {
            assert_eq!(target("sps-proxy", module), named);
        }
    }
}
