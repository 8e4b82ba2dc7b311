//! The operator's socket `proxy.ctl`: explanations of routes, by the very code and tables that route, and news of new ones.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sps_daemon::{Exit, Fatal, OrFatal};
use sps_ipc::frame;
use sps_ipc::parent::Frozen;
use sps_ipc::proxy_ctl::{MAX_CONVERSATIONS, REPLY_TIMEOUT, Reply, Request, Step};
use sps_ipc::seqpacket::{AsyncConnection, AsyncListener, Listener, buffer};
use sps_mapped::CountersReader;
use sps_net::Resolver;
use sps_net::resolve::Notes;
use sps_route::routing::Scratch;
use sps_route::{
    Answer, Ask, DeadTargets, Facts, Resolved, Routing, Stage, Surroundings, Target, Trace, Unresolved, WalkStep,
};
use sps_wire::flow::Destination;
use tokio::sync::oneshot;

use crate::bans;
use crate::conf::{self, WorkerConf};
use crate::mail::{Mail, Post};
use crate::tables::Tables;

/// Binds the socket; only our own user may use it.
///
/// # Errors
/// Its folder cannot be written.
pub fn listen(frozen: &Frozen) -> Result<Listener, Fatal> {
    let path = sps_conf::Paths::proxy_ctl(&frozen.folder());
    Listener::bind(&path, 0o600, MAX_CONVERSATIONS as u16)
        .or_fatal(Exit::CantCreate, format!("listen at {}", path.display()))
}

/// Where the operator's tools are answered.
pub struct Desk {
    door: AsyncListener,
    shared: Rc<Shared>,
    local: tokio::task::LocalSet,
}

struct Shared {
    frozen: RefCell<Arc<Frozen>>,
    tables: Tables,
    resolver: Resolver,
    post: Post,
}

impl Desk {
    /// Opens readers of its own. Call within the runtime.
    ///
    /// # Errors
    /// The socket cannot be watched.
    pub fn new(door: Listener, frozen: Arc<Frozen>, post: Post) -> Result<Desk, Fatal> {
        let door = AsyncListener::new(door).or_fatal(Exit::System, "watch the operator's socket")?;
        let mut random = crate::engine::clock().unix_ms | 1;
        let resolver = Resolver::new(&WorkerConf::new(&frozen, 0).dns, move || {
            crate::engine::next_random(&mut random)
        });
        let tables = Tables::open(&frozen.paths);
        let shared = Rc::new(Shared {
            frozen: RefCell::new(frozen),
            tables,
            resolver,
            post,
        });
        Ok(Desk {
            door,
            shared,
            local: tokio::task::LocalSet::new(),
        })
    }

    /// Explains by another configuration from now on.
    pub fn reconfigure(&self, frozen: Arc<Frozen>) {
        self.shared.frozen.replace(frozen);
    }

    /// Goes on with the conversations, and begins one that comes. May be dropped and asked again.
    pub async fn serve_one(&self) {
        let accepted = self.local.run_until(self.door.accept()).await;
        match accepted {
            // Nobody speaks long; who comes when all places are taken is hung up on.
            Ok(connection) if Rc::strong_count(&self.shared) <= MAX_CONVERSATIONS => {
                let shared = self.shared.clone();
                self.local.spawn_local(async move {
                    let _ = tokio::time::timeout(CONVERSATION_TIMEOUT, converse(&shared, &connection)).await;
                });
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "accept on the operator's socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A tool asks a few things and goes.
const CONVERSATION_TIMEOUT: Duration = Duration::from_secs(60);

async fn converse(shared: &Shared, connection: &AsyncConnection) {
    if !connection.peer().is_ok_and(|peer| peer.may_order()) {
        return;
    }
    let mut buffer = buffer();
    loop {
        let len = match connection.recv(&mut buffer).await {
            Ok(0) => return,
            Ok(len) => len,
            Err(error) => {
                if error.kind() != ErrorKind::UnexpectedEof {
                    tracing::debug!(%error, "operator's conversation");
                }
                return;
            }
        };
        let Ok(request) = frame::decode::<Request>(&buffer[..len]) else {
            return;
        };
        let reply = answer(shared, request).await;
        let Ok(bytes) = frame::encode(&reply) else { return };
        if !matches!(
            tokio::time::timeout(REPLY_TIMEOUT, connection.send(&bytes)).await,
            Ok(Ok(()))
        ) {
            return;
        }
    }
}

async fn answer(shared: &Shared, request: Request) -> Reply {
    shared.tables.refresh();
    match request {
        Request::RoutesChanged { version } => routes_changed(shared, version).await,
        Request::MayBan { network } => bans::may_ban(&shared.frozen.borrow(), &network),
        Request::BansChanged { lift } => {
            let paths = shared.frozen.borrow().paths.clone();
            bans::changed(&shared.post, &paths, lift.as_deref().and_then(bans::network)).await
        }
        Request::Bans => {
            let paths = shared.frozen.borrow().paths.clone();
            bans::list(&shared.post, &paths).await
        }
        Request::Figures => {
            let path = sps_conf::Paths::counters(&shared.frozen.borrow().folder());
            let blocks = CountersReader::open(&path)
                .map(|reader| reader.snapshot())
                .unwrap_or_default();
            let named = |(label, (name, value)): (&str, (String, u64))| (format!("{label}/{name}"), value);
            let figures = blocks
                .iter()
                .flat_map(|block| block.values.iter().cloned().map(|value| named((&block.label, value))));
            Reply::Figures(figures.collect())
        }
        Request::Explain {
            uri,
            from,
            method,
            source,
        } => {
            let frozen = shared.frozen.borrow().clone();
            let conf = conf::routing(&frozen);
            let from = from.unwrap_or_else(|| format!("sip:anonymous@{}", conf.domain()));
            let source = source.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5060));
            let facts = Facts {
                request_uri: uri.as_bytes(),
                method: method.as_deref().unwrap_or("INVITE").as_bytes(),
                from_uri: from.as_bytes(),
                source,
                route: None,
                in_dialog: false,
                flow: None,
            };
            explain(shared, &conf, &facts).await
        }
    }
}

/// A map that a worker has open tells of its changes by itself; one that was not there before is found by looking.
async fn routes_changed(shared: &Shared, version: u64) -> Reply {
    let in_force = shared.tables.routes_version();
    if in_force < version {
        let reason = format!("routes.map carries version {in_force}, not {version}");
        return Reply::Refused {
            code: Exit::Storage.code(),
            reason,
        };
    }
    for worker in 0..shared.post.workers() {
        let (done, seen) = oneshot::channel();
        shared.post.deliver(worker, Mail::Refresh(done)).await;
        let _ = seen.await;
    }
    Reply::Done
}

/// Findings with the time each took.
struct Findings {
    steps: Vec<Step>,
    since: Instant,
}

impl Trace for Findings {
    fn note(&mut self, stage: Stage, finding: std::fmt::Arguments<'_>) {
        let now = Instant::now();
        let took_us = now.duration_since(self.since).as_micros() as u64;
        self.since = now;
        self.steps.push(Step {
            stage: stage.as_str().to_owned(),
            text: finding.to_string(),
            took_us,
        });
    }
}

async fn explain(shared: &Shared, conf: &sps_route::Conf, facts: &Facts<'_>) -> Reply {
    let mut findings = Findings {
        steps: Vec::new(),
        since: Instant::now(),
    };
    let mut routing = Routing::start();
    let mut scratch = Scratch::default();
    let mut seed = findings.since.elapsed().as_nanos() as u64 ^ crate::engine::clock().unix_ms | 1;
    let mut answer = None;
    let targets = loop {
        let mut random = || crate::engine::next_random(&mut seed);
        let mut around = Surroundings {
            conf,
            tables: &shared.tables,
            random: &mut random,
            scratch: &mut scratch,
            trace: Some(&mut findings),
        };
        match routing.step(Instant::now(), facts, answer.take(), &mut around) {
            sps_route::Step::Targets(targets) => break targets,
            sps_route::Step::Reply(reply) => {
                let reason = reply.reason.unwrap_or(sps_wire::reason_phrase(reply.status)).to_owned();
                let answer = Some((reply.status, reason));
                return Reply::Explained {
                    steps: findings.steps,
                    targets: Vec::new(),
                    answer,
                };
            }
            sps_route::Step::Ask(ask) => answer = Some(resolve(shared, ask, &mut findings).await),
        }
    };
    let mut lines = Vec::new();
    for target in targets {
        lines.push(describe(shared, conf, target, &mut findings).await);
    }
    Reply::Explained {
        steps: findings.steps,
        targets: lines,
        answer: None,
    }
}

/// One target with all destinations it would be tried at.
async fn describe(shared: &Shared, conf: &sps_route::Conf, mut target: Target, findings: &mut Findings) -> String {
    let mut line = format!(
        "{} q={}.{:03}",
        String::from_utf8_lossy(&target.uri),
        target.q / 1000,
        target.q % 1000
    );
    let mut walk = target.take_walk();
    let mut answer = None;
    loop {
        match walk.step(Instant::now(), answer.take(), conf, &DeadTargets::default()) {
            WalkStep::Flow(flow) => {
                line.push_str(&format!(" flow={}/{}", flow.remote, flow.transport.as_str()));
            }
            WalkStep::Destination(Destination { addr, transport, .. }) => {
                line.push_str(&format!(" next={addr}/{}", transport.as_str()));
            }
            WalkStep::Ask(ask) => answer = Some(resolve(shared, ask, findings).await),
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

/// A question as the workers ask it, each record and choice noted.
async fn resolve(shared: &Shared, ask: Ask, findings: &mut Findings) -> Answer {
    let ticket = ask.ticket;
    let heard = Rc::new(RefCell::new(Vec::new()));
    let ear = heard.clone();
    let notes: Notes = Rc::new(move |text| ear.borrow_mut().push(text));
    let resolved = crate::names::answer(&shared.resolver, ask, Some(notes)).await;
    for text in heard.take() {
        findings.note(Stage::Dns, format_args!("{text}"));
    }
    if let Resolved::Failed(reason) = &resolved {
        let what = match reason {
            Unresolved::Absent => "leads nowhere",
            Unresolved::Failed => "name servers failed",
            Unresolved::Unanswered => "no answer in time",
        };
        findings.note(Stage::Dns, format_args!("{what}"));
    }
    Answer { ticket, resolved }
}
