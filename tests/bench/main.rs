//! sps-bench: CPU, calls per second and memory of SPS beside Debian's Kamailio and a bare datagram forwarder, under the
//! same load from a generator of ours. `make bench` runs it; the figures go to RESULTS.md beside this file.
//!
//! One thread plays all callers and callees with batched sockets, pinned to one processor; each contender has another
//! one to itself while it is loaded.
#![forbid(unsafe_code)]

mod contender;
mod forward;
mod meter;
mod overload;
mod quota;
mod report;
mod run;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Release builds abort on panic: what was started must not outlive that.
    let show = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        show(panic);
        sps_tests::process::end_everything();
    }));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some("run") => run::with_programs("run", &arguments[1..], run::main),
        Some("load") => run::load(&arguments[1..]),
        Some("overload") => run::with_programs("overload", &arguments[1..], overload::main),
        Some("forward") => forward::main(&arguments[1..]),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("sps-bench: {problem}");
            ExitCode::FAILURE
        }
    }
}

const USAGE: &str = "usage:
  sps-bench run [--bin-dir DIR] [--seconds N] [--rounds N] [--only NAME,NAME] [--apart] [--stored N]
                [--results FILE]
  sps-bench overload [--bin-dir DIR] [--seconds N] [--only refuse|overload] [--loads 1,2oc]
  sps-bench load calls|registers --proxy ADDR [--callee ADDR] [--seconds N] [--window N | --rate N] [--number N] [--domain D]
  sps-bench forward --listen ADDR --caller ADDR --callee ADDR";

/// The value after `name`.
fn option<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let at = arguments.iter().position(|argument| argument == name)?;
    arguments.get(at + 1).map(String::as_str)
}

/// The value after `name`, read; the default when it is not there.
fn option_or<T: std::str::FromStr>(arguments: &[String], name: &str, default: T) -> Result<T, String> {
    match option(arguments, name) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| format!("{name} {text}: not understood")),
    }
}
