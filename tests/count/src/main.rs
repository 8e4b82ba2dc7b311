//! Workloads whose instructions are counted.
//!
//! `sps-count NAME TURNS` sets NAME up and does it TURNS times. Run under valgrind with two numbers of turns, the
//! difference between the two counts is what the turns cost and nothing of the set-up is in it; `tests/tests/instructions.rs` does that and
//! compares with `tests/count/counts.toml`. No clock is read and nothing is random, so that a count is the same on every run.
#![forbid(unsafe_code)]

mod call;
mod message;
mod registry;
mod route;

use std::process::ExitCode;

/// A workload: sets itself up, then does its work so many times.
type Workload = fn(turns: u64);

const WORKLOADS: [(&str, Workload); 8] = [
    ("parse", message::parse),
    ("call", call::call),
    ("non-invite", call::non_invite),
    ("register", message::register),
    ("registry-lookup", registry::lookup),
    ("registry-refresh", registry::refresh),
    ("route-lookup", route::lookup),
    ("route-decide", route::decide),
];

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (Some(name), Some(turns)) = (args.next(), args.next().and_then(|turns| turns.parse().ok())) else {
        for (name, _) in WORKLOADS {
            println!("{name}");
        }
        return ExitCode::SUCCESS;
    };
    match WORKLOADS.iter().find(|(known, _)| *known == name) {
        Some((_, workload)) => {
            workload(turns);
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("no workload is called {name}");
            ExitCode::from(64)
        }
    }
}
