//! The main thread: starts the workers, then carries the master's orders to them and answers the operator's tools.

use std::sync::Arc;
use std::time::Duration;

use sps_daemon::{AccessLog, Exit, Fatal, Order, Parent};
use sps_ipc::parent::Frozen;
use sps_ipc::seqpacket::Listener as Door;
use sps_sip::guard::OperatorBan;
use sps_sip::proxy::Owners;
use tokio::sync::oneshot;

use crate::bans;
use crate::conf::WorkerConf;
use crate::ctl;
use crate::figures::Page;
use crate::mail::{self, Mail, Post};
use crate::owners::OwnerTable;
use crate::worker;

/// The workers of this process, and the log they share.
pub struct Workers {
    post: Post,
    access: AccessLog,
}

/// How long a worker may take to open what it needs.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a worker may take to see a new configuration: it looks at its mail in every turn.
const CONF_TIMEOUT: Duration = Duration::from_secs(5);

/// Starts every worker and waits until each has its sockets.
///
/// # Errors
/// What the first worker that failed says.
pub fn start_workers(parent: &mut Parent, frozen: &Arc<Frozen>, figures: &Page) -> Result<Workers, Fatal> {
    let access = AccessLog::start(frozen.access_log().as_deref(), usize::from(frozen.workers))?;
    let (post, boxes) = mail::boxes(frozen.workers);
    let owners: Option<Arc<dyn Owners>> =
        (frozen.workers > 1).then(|| Arc::new(OwnerTable::new(frozen.conf.proxy.max_transactions)) as Arc<dyn Owners>);
    let mut listeners = parent.take_listeners();
    let most: usize = WorkerConf::new(frozen, 0).streams.max_connections * usize::from(frozen.workers);
    let wanted = frozen.conf.proxy.max_connections;
    // Rounding among the workers is no news.
    if most + usize::from(frozen.workers) <= wanted {
        tracing::warn!(
            wanted,
            granted = most,
            open_files = sps_daemon::open_files(),
            "fewer connections than [proxy] max_connections: raise the limit on open files (LimitNOFILE)"
        );
    }
    // A database that cannot be read must not keep calls from going through.
    let bans: Arc<[OperatorBan]> = bans::load(&frozen.paths)
        .inspect_err(|error| tracing::error!(%error, "read the operator's bans; none is in force"))
        .unwrap_or_default()
        .into();
    let (started, news) = std::sync::mpsc::channel();
    for (number, mail) in (0..frozen.workers).zip(boxes) {
        let (own, others) = listeners
            .into_iter()
            .partition(|listener| listener.info.worker == number);
        listeners = others;
        let start = worker::Start {
            number,
            conf: WorkerConf::new(frozen, number),
            paths: frozen.paths.clone(),
            registrar_socket: sps_conf::Paths::registrar_socket(&frozen.folder()),
            tls_socket: frozen
                .conf
                .speaks_tls()
                .then(|| sps_conf::Paths::tls_socket(&frozen.folder())),
            conf_number: frozen.number,
            listeners: own,
            owners: owners.clone(),
            access: access.worker(usize::from(number)),
            figures: figures.worker(number),
            pulse: parent.pulse(),
            mail,
            post: post.clone(),
            bans: bans.clone(),
        };
        let started = started.clone();
        std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || worker::run(start, &started))
            .map_err(|error| Fatal::new(Exit::System, format!("start a worker thread: {error}")))?;
    }
    for _ in 0..frozen.workers {
        news.recv_timeout(START_TIMEOUT)
            .map_err(|_| Fatal::new(Exit::Software, "a worker did not start in time"))??;
    }
    Ok(Workers { post, access })
}

/// Serves until told to stop.
///
/// # Errors
/// The operator's socket cannot be watched.
pub async fn run(mut parent: Parent, frozen: Arc<Frozen>, workers: Workers, door: Door) -> Result<(), Fatal> {
    let ctl = ctl::Desk::new(door, frozen.clone(), workers.post.clone())?;
    let mut prepared: Option<Arc<Frozen>> = None;
    let pulse = parent.pulse();
    let mut beat = tokio::time::interval(Duration::from_millis(500));
    loop {
        let delivered = tokio::select! {
            delivered = parent.next_order() => delivered,
            () = ctl.serve_one() => continue,
            _ = beat.tick() => {
                pulse.beat();
                continue;
            }
        };
        match delivered.order.clone() {
            Order::Prepare(frozen) => {
                prepared = Some(frozen);
                delivered.done();
            }
            Order::Abort(number) => {
                prepared = prepared.filter(|frozen| frozen.number != number);
                delivered.done();
            }
            Order::Commit(number) => match prepared.take().filter(|frozen| frozen.number == number) {
                Some(frozen) => {
                    commit(&workers, &frozen).await;
                    ctl.reconfigure(frozen);
                    delivered.done();
                }
                None => delivered.refuse("that configuration was not prepared"),
            },
            Order::Stop { within } => {
                delivered.done();
                drain(&workers, within).await;
                workers.access.flush();
                return Ok(());
            }
        }
    }
}

/// Every worker works by `frozen` when this returns.
async fn commit(workers: &Workers, frozen: &Arc<Frozen>) {
    if let Err(error) = workers.access.set_path(frozen.access_log().as_deref()) {
        tracing::error!(%error, "change the access log; lines go on where they went");
    }
    for number in 0..workers.post.workers() {
        let (done, seen) = oneshot::channel();
        let conf = Box::new(WorkerConf::new(frozen, number));
        workers.post.deliver(number, Mail::Conf(conf, done)).await;
        if tokio::time::timeout(CONF_TIMEOUT, seen).await.is_err() {
            tracing::error!(worker = number, "did not take the new configuration in time");
        }
    }
    tracing::info!(configuration = frozen.number, "in force");
}

/// No new requests; waits until the last one is decided. When the time is over the others are told so.
async fn drain(workers: &Workers, within: Duration) {
    let all = async {
        let mut waiting = Vec::new();
        for number in 0..workers.post.workers() {
            let (done, seen) = oneshot::channel();
            workers.post.deliver(number, Mail::Drain(done)).await;
            waiting.push(seen);
        }
        for seen in waiting {
            let _ = seen.await;
        }
    };
    if tokio::time::timeout(within, all).await.is_ok() {
        return;
    }
    let mut cut = 0;
    for number in 0..workers.post.workers() {
        let (done, seen) = oneshot::channel();
        workers.post.deliver(number, Mail::GiveUp(done)).await;
        if let Ok(Ok(here)) = tokio::time::timeout(GIVE_UP_TIMEOUT, seen).await {
            cut += here;
        }
    }
    tracing::warn!(
        ?within,
        requests = cut,
        "stopping with requests under way; they got 503"
    );
}

/// How long a worker may take to answer what is undecided.
const GIVE_UP_TIMEOUT: Duration = Duration::from_secs(1);
