//! sps-tls: terminates TLS and opens it outwards; hands plain streams to the proxy. See sps-tls(8).
#![forbid(unsafe_code)]

mod accept;
mod connect;
mod context;
mod ctl;
mod der;
mod handshakes;
mod identity;
mod material;
mod peers;
mod pump;
mod serve;
mod trust;
mod words;
mod workers;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use sps_conf::Paths;
use sps_daemon::{ChildArgs, Confine, Exit, Fatal, OrFatal, Parent};
use sps_ipc::parent::Frozen;
use sps_ipc::seqpacket::Listener;

use crate::context::Context;

/// Terminates TLS and opens it outwards. Started by sps-master; there is nothing to be gained from starting it by hand.
#[derive(Parser)]
#[command(name = "sps-tls", version)]
struct Args {
    #[command(flatten)]
    child: ChildArgs,
}

fn main() -> ExitCode {
    sps_daemon::main(|args: Args| run(&args))
}

/// Meet the parent, claim, report ready, serve: each step relies on the ones above it.
fn run(args: &Args) -> Result<(), Fatal> {
    // Private keys are in here: no core dump, and no looking in for others of the same user.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .or_fatal(Exit::Privilege, "keep others from looking in")?;
    let mut parent = Parent::connect("sps-tls", &args.child)?;
    let frozen = parent.configuration();
    sps_daemon::start_log("sps-tls", &frozen)?;
    sps_daemon::raise_open_files();
    let context = context::or_fatal(Context::new(&frozen))?;
    let folder = frozen.folder();
    let door = listen(&Paths::tls_socket(&folder), workers::MAX_WORKERS)?;
    let ctl_door = listen(&Paths::tls_ctl(&folder), sps_ipc::tls_ctl::MAX_CONVERSATIONS)?;
    let listeners = parent.take_listeners();
    sps_daemon::confine(&keep(&frozen))?;
    let pumps = serve::start_pumps(frozen.workers.into())?;
    parent.ready()?;
    sps_daemon::block_on(serve::run(parent, context, listeners, door, ctl_door, pumps))
}

/// What is needed from here on: our sockets and the log. No data, no key file.
fn keep(frozen: &Frozen) -> Confine {
    let mut keep = Confine::system();
    keep.write.push(frozen.folder());
    keep.write.extend(frozen.error_log().parent().map(Path::to_owned));
    keep.with_tcp()
}

/// A socket for our own user and group, which the proxy has as well.
fn listen(path: &Path, backlog: usize) -> Result<Listener, Fatal> {
    let backlog = u16::try_from(backlog).unwrap_or(u16::MAX);
    Listener::bind(path, 0o660, backlog).or_fatal(Exit::Network, format!("listen at {}", path.display()))
}
