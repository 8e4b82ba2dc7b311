//! sps-proxy: routes SIP requests between phones, gateways and other proxies. See sps-proxy(8).
#![forbid(unsafe_code)]

mod access;
mod bans;
mod conf;
mod ctl;
mod engine;
mod figures;
mod mail;
mod names;
mod owners;
mod registrar;
mod serve;
mod tables;
mod tls;
mod worker;

use std::process::ExitCode;

use clap::Parser;
use sps_daemon::{ChildArgs, Confine, Exit, Fatal, OrFatal, Parent};

/// The C library's allocator extends a thread's heap a page at a time, one system call each; this was a third of a REGISTER's cost.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Routes SIP requests. Started by sps-master; there is nothing to be gained from starting it by hand.
#[derive(Parser)]
#[command(name = "sps-proxy", version)]
struct Args {
    #[command(flatten)]
    child: ChildArgs,
}

fn main() -> ExitCode {
    sps_daemon::main(|args: Args| run(&args))
}

/// Meet the parent, claim, report ready, serve: each step relies on the ones above it.
fn run(args: &Args) -> Result<(), Fatal> {
    let mut parent = Parent::connect("sps-proxy", &args.child)?;
    let frozen = parent.configuration();
    sps_daemon::start_log("sps-proxy", &frozen)?;
    sps_daemon::raise_open_files();
    let door = ctl::listen(&frozen)?;
    let figures = figures::Page::create(&frozen).or_fatal(Exit::CantCreate, "make the page of counters")?;
    sps_daemon::confine(&Confine::of(&frozen).with_tcp())?;
    let workers = serve::start_workers(&mut parent, &frozen, &figures)?;
    parent.ready()?;
    sps_daemon::block_on(serve::run(parent, frozen, workers, door))
}
