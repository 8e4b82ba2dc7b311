//! `spsroute explain`: the running proxy is asked to route a made-up request; without one the same machine runs here.

use crate::Explain;
use crate::change::is_not_running;
use crate::here::{self, Tables};
use serde::Serialize;
use sps_cli::{Exit, Failure, OrFail, Output, Table, printable};
use sps_conf::{Config, Paths};
use sps_ipc::ask::Asker;
use sps_ipc::proxy_ctl::{REPLY_TIMEOUT, Reply, Request, Step as Found};
use sps_route::{
    Answer, Conf, DeadTargets, Facts, Question, Resolved, Routing, Scratch, Stage, Step, Surroundings, Target, Trace,
    Unresolved, WalkStep,
};
use sps_wire::uri::Uri;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::time::Instant;

/// What `--json` prints. The names are promised in spsroute(1).
#[derive(Serialize)]
struct Explanation {
    uri: String,
    /// `proxy`, or `files` when none runs.
    by: &'static str,
    steps: Vec<Finding>,
    /// In the order of trying.
    targets: Vec<String>,
    /// Set when the request is answered instead of forwarded.
    answer: Option<Status>,
}

#[derive(Serialize)]
struct Finding {
    stage: String,
    text: String,
    took_us: u64,
}

#[derive(Serialize)]
struct Status {
    status: u16,
    reason: String,
}

pub fn explain(paths: &Paths, out: Output, asked: &Explain) -> Result<(), Failure> {
    let config = Config::load(&paths.config)?;
    let uri = complete(&asked.uri, &config.server.domain);
    let explanation = match (answered_here(&config, asked, &uri), ask_proxy(paths, asked, &uri)?) {
        (Some(explanation), _) | (None, Some(explanation)) => explanation,
        (None, None) => {
            out.note("no proxy runs: explained by the configuration and the files as they are");
            here::unreadable(paths).for_each(|file| out.note(&format!("{file}, and counts as empty")));
            explain_here(paths, &config, asked, uri)
        }
    };
    if out.is_json() {
        return out.json(&explanation);
    }
    let mut table = Table::new(["STAGE", "FINDING"]);
    explanation
        .steps
        .iter()
        .for_each(|step| table.row([&step.stage, &step.text]));
    let mut text = table.to_string();
    for target in &explanation.targets {
        text.push_str(&format!("-> {}\n", printable(target)));
    }
    if let Some(answer) = &explanation.answer {
        text.push_str(&format!("-> {} {}\n", answer.status, printable(&answer.reason)));
    }
    out.text(&text)
}

/// What SPS answers itself and never routes: REGISTER for our domains, and OPTIONS for us without a user. A source that
/// `[[access]]` denies does not come so far.
fn answered_here(config: &Config, asked: &Explain, request_uri: &str) -> Option<Explanation> {
    let uri = Uri::parse(request_uri.as_bytes()).ok().filter(Uri::is_sip)?;
    let conf = here::conf(config, uri.host.ip());
    let source = asked
        .source
        .map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |source| source.ip());
    let denied = conf.access_of(source).is_some_and(|rule| !rule.allow);
    if denied || !conf.is_ours(&uri) {
        return None;
    }
    let (stage, text, answer) = match asked.method.as_deref()? {
        "REGISTER" if config.registrar.enabled => ("registrar", "REGISTER for us: sps-registrar answers it", None),
        "OPTIONS" if uri.user.is_none() => ("self", "OPTIONS for us: sps-proxy answers it", Some((200, "OK"))),
        _ => return None,
    };
    Some(Explanation {
        uri: request_uri.into(),
        by: "files",
        steps: vec![Finding {
            stage: stage.into(),
            text: text.into(),
            took_us: 0,
        }],
        targets: Vec::new(),
        answer: answer.map(|(status, reason): (u16, &str)| Status {
            status,
            reason: reason.into(),
        }),
    })
}

/// A number or a user is one at our domain.
fn complete(text: &str, domain: &str) -> String {
    let has_scheme = text
        .split_once(':')
        .is_some_and(|(scheme, _)| scheme.bytes().all(|byte| byte.is_ascii_alphabetic()));
    match (has_scheme, text.contains('@')) {
        (true, _) => text.into(),
        (false, true) => format!("sip:{text}"),
        (false, false) => format!("sip:{text}@{domain}"),
    }
}

/// `None` if no proxy runs.
fn ask_proxy(paths: &Paths, asked: &Explain, uri: &str) -> Result<Option<Explanation>, Failure> {
    let request = Request::Explain {
        uri: uri.into(),
        from: asked.from.clone(),
        method: asked.method.clone(),
        source: asked.source,
    };
    let mut asker = match Asker::connect(&Paths::proxy_ctl(&paths.current()), REPLY_TIMEOUT) {
        Err(error) if is_not_running(&error) => return Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            return Err(Failure::new(
                Exit::NoPermission,
                "only root and the user sps runs as may do this",
            ));
        }
        connected => connected.or_fail(Exit::Unavailable, "ask the proxy")?,
    };
    match asker.ask(&request).or_fail(Exit::Unavailable, "ask the proxy")? {
        Reply::Explained { steps, targets, answer } => Ok(Some(Explanation {
            uri: uri.into(),
            by: "proxy",
            steps: steps.into_iter().map(Finding::from).collect(),
            targets,
            answer: answer.map(|(status, reason)| Status { status, reason }),
        })),
        Reply::Refused { reason, .. } => Err(Failure::new(Exit::Unavailable, format!("the proxy says: {reason}"))),
        Reply::Done | Reply::Figures(_) | Reply::Lifted(_) | Reply::Bans(..) => Err(Failure::new(
            Exit::Protocol,
            "the proxy gives another answer than asked for",
        )),
    }
}

impl From<Found> for Finding {
    fn from(found: Found) -> Finding {
        Finding {
            stage: found.stage,
            text: found.text,
            took_us: found.took_us,
        }
    }
}

/// Takes the time between findings.
struct Findings {
    steps: Vec<Finding>,
    since: Instant,
}

impl Trace for Findings {
    fn note(&mut self, stage: Stage, finding: fmt::Arguments<'_>) {
        let took_us = self.since.elapsed().as_micros() as u64;
        self.steps.push(Finding {
            stage: stage.to_string(),
            text: finding.to_string(),
            took_us,
        });
        self.since = Instant::now();
    }
}

fn explain_here(paths: &Paths, config: &Config, asked: &Explain, uri: String) -> Explanation {
    let conf = here::conf(config, Uri::parse(uri.as_bytes()).ok().and_then(|uri| uri.host.ip()));
    let from = asked
        .from
        .clone()
        .unwrap_or_else(|| format!("sip:anonymous@{}", conf.domain()));
    let facts = Facts {
        request_uri: uri.as_bytes(),
        method: asked.method.as_deref().unwrap_or("INVITE").as_bytes(),
        from_uri: from.as_bytes(),
        source: asked
            .source
            .unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5060)),
        route: None,
        in_dialog: false,
        flow: None,
    };
    let mut findings = Findings {
        steps: Vec::new(),
        since: Instant::now(),
    };
    let (targets, answer) = route(&conf, &Tables::open(paths), &facts, &mut findings);
    Explanation {
        by: "files",
        steps: findings.steps,
        targets,
        answer,
        uri,
    }
}

fn route(conf: &Conf, tables: &Tables, facts: &Facts<'_>, findings: &mut Findings) -> (Vec<String>, Option<Status>) {
    let mut routing = Routing::start();
    let mut answer = None;
    loop {
        let mut around = Surroundings {
            conf,
            tables,
            random: &mut || RandomState::new().build_hasher().finish(),
            scratch: &mut Scratch::default(),
            trace: Some(findings),
        };
        match routing.step(Instant::now(), facts, answer.take(), &mut around) {
            Step::Targets(targets) => {
                return (
                    targets
                        .into_iter()
                        .map(|target| describe(target, conf, findings))
                        .collect(),
                    None,
                );
            }
            Step::Reply(reply) => {
                let reason = reply.reason.unwrap_or(sps_wire::reason_phrase(reply.status)).into();
                return (
                    Vec::new(),
                    Some(Status {
                        status: reply.status,
                        reason,
                    }),
                );
            }
            Step::Ask(ask) => {
                answer = Some(Answer {
                    ticket: ask.ticket,
                    resolved: resolve(&ask.question, findings),
                })
            }
        }
    }
}

/// One target with all destinations it would be tried at.
fn describe(mut target: Target, conf: &Conf, findings: &mut Findings) -> String {
    let mut line = format!(
        "{} q={}.{:03}",
        target.uri.escape_ascii(),
        target.q / 1000,
        target.q % 1000
    );
    let mut walk = target.take_walk();
    let mut answer = None;
    loop {
        match walk.step(Instant::now(), answer.take(), conf, &DeadTargets::default()) {
            WalkStep::Flow(flow) => line.push_str(&format!(" flow={}/{}", flow.remote, flow.transport.as_str())),
            WalkStep::Destination(to) => line.push_str(&format!(" next={}/{}", to.addr, to.transport.as_str())),
            WalkStep::Ask(ask) => {
                answer = Some(Answer {
                    ticket: ask.ticket,
                    resolved: resolve(&ask.question, findings),
                });
            }
            WalkStep::Wait(_) => return line,
            WalkStep::Exhausted(exhausted) => {
                if exhausted.tried == 0 {
                    line.push_str(&format!(" unreachable status={}", exhausted.status()));
                }
                return line;
            }
        }
    }
}

/// By the machine's own resolver, addresses alone; the proxy asks the servers of `[dns]`, for NAPTR and SRV records too.
fn resolve(question: &Question, findings: &mut Findings) -> Resolved {
    let Question::Resolve { host, .. } = question;
    match (&**host, 0).to_socket_addrs() {
        Ok(found) => {
            let mut addrs: Vec<IpAddr> = Vec::new();
            found.map(|addr| addr.ip()).for_each(|ip| {
                if !addrs.contains(&ip) {
                    addrs.push(ip)
                }
            });
            let texts: Vec<String> = addrs.iter().map(IpAddr::to_string).collect();
            let text = texts.join(", ");
            findings.note(
                Stage::Dns,
                format_args!("{host} is {text}; NAPTR and SRV are asked for only while SPS runs"),
            );
            Resolved::Addresses(addrs)
        }
        Err(error) => {
            findings.note(Stage::Dns, format_args!("{host}: {error}"));
            Resolved::Failed(Unresolved::Absent)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_users_are_at_our_domain() {
        for (text, uri) in [
            ("5012", "sip:5012@example.com"),
            ("+1408", "sip:+1408@example.com"),
            ("bob@example.org", "sip:bob@example.org"),
            ("bob@example.org:5070", "sip:bob@example.org:5070"),
            ("sip:bob@example.org", "sip:bob@example.org"),
            ("tel:+1408", "tel:+1408"),
        ] {
            assert_eq!(complete(text, "example.com"), uri);
        }
    }
}
