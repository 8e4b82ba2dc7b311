//! sps-registrar: answers REGISTER and keeps the registry file. See sps-registrar(8).
#![forbid(unsafe_code)]

mod operator;
mod record;
mod registrar;
mod rekey;
mod serve;
mod setup;
mod statics;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Parser;
use sps_conf::Paths;
use sps_daemon::{ChildArgs, Confine, Exit, Fatal, OrFatal, Parent};
use sps_ipc::seqpacket::Listener;

use registrar::Registrar;
use setup::Setup;
use statics::Statics;

/// The C library's allocator extends a thread's heap a page at a time, one system call each; this was a third of a REGISTER's cost.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Answers REGISTER and keeps the registry file. Started by sps-master; there is nothing to be gained from starting it by hand.
#[derive(Parser)]
#[command(name = "sps-registrar", version)]
struct Args {
    #[command(flatten)]
    child: ChildArgs,
}

fn main() -> ExitCode {
    sps_daemon::main(|args: Args| run(&args))
}

/// Meet the parent, claim, report ready, serve: each step relies on the ones above it.
fn run(args: &Args) -> Result<(), Fatal> {
    let mut parent = Parent::connect("sps-registrar", &args.child)?;
    let frozen = parent.configuration();
    sps_daemon::start_log("sps-registrar", &frozen)?;
    sps_daemon::raise_open_files();
    // Before the registry is opened: it has a thread of its own, and what is given up holds for threads begun later.
    sps_daemon::confine(&Confine::of(&frozen))?;
    let mut registrar = Registrar::open(&frozen.paths.registry_map(), Setup::of(&frozen))?;
    let statics = Statics::new(frozen.paths.database());
    registrar.restore(&statics);
    publish_routes(&frozen.paths);
    let folder = frozen.folder();
    let service = listen(&Paths::registrar_socket(&folder), serve::MAX_PROXIES)?;
    let operators = listen(
        &Paths::registrar_ctl(&folder),
        sps_ipc::registrar_ctl::MAX_CONVERSATIONS,
    )?;
    parent.ready()?;
    sps_daemon::block_on(serve::run(parent, registrar, statics, service, operators))
}

/// Has `routes.map` made, or brought up to date, where `spsroute` was cut off between its commit and the map: the proxy, which
/// starts after us, then maps what is in force. Without it calls still pass by registrations and names.
fn publish_routes(paths: &Paths) {
    if let Err(error) = sps_store::RouteStore::open(&paths.database(), &paths.routes_map()) {
        tracing::error!(%error, "publish the static routes; those in force before stay so");
    }
}

/// A socket that only our own user and root may connect to.
fn listen(path: &std::path::Path, backlog: usize) -> Result<Listener, Fatal> {
    let backlog = u16::try_from(backlog).unwrap_or(u16::MAX);
    Listener::bind(path, 0o600, backlog).or_fatal(Exit::Network, format!("listen at {}", path.display()))
}
