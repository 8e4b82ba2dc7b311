//! Time and allocations of sps-wire beside rsip and rsipstack, on the same INVITE, in the same run.
//!
//! `cargo run --release` in this folder prints the table. *Tokenise*: start line and headers found, nothing typed. *View*: what a proxy
//! reads of a request before it forwards it, each by the crate's own typed access. The times are the median of many short rounds in
//! which the three take turns, so that a busy machine slows all of them alike; the allocator counts in all of them too.
#![forbid(unsafe_code)]

mod rsip_case;
mod rsipstack_case;
mod sps_case;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

/// The INVITE that the benchmarks of sps-wire use.
const INVITE: &[u8] = include_bytes!("../../../lib/wire/benches/invite.sip");
const ROUNDS: usize = 301;
const CALLS_PER_ROUND: u32 = 400;

/// What is asked of every crate. Gives a number that depends on all that was read, so that nothing is left out.
trait Case {
    const NAME: &'static str;
    fn tokenise(&mut self, bytes: &[u8]) -> usize;
    fn view(&mut self, bytes: &[u8]) -> View;
}

/// The view, for checking that all three read the same.
#[derive(Debug, PartialEq)]
struct View {
    branch_len: usize,
    asks_rport: bool,
    from_tag_len: usize,
    has_to_tag: bool,
    call_id_len: usize,
    cseq: u32,
    max_forwards: u32,
    contact_port: Option<u16>,
    has_route: bool,
    has_record_route: bool,
    content_length: usize,
    uri_port: Option<u16>,
}

fn main() -> ExitCode {
    let mut sps = sps_case::Sps::default();
    let mut rsip = rsip_case::Rsip;
    let mut rsipstack = rsipstack_case::Rsipstack;

    let expected = sps.view(INVITE);
    if rsip.view(INVITE) != expected || rsipstack.view(INVITE) != expected {
        eprintln!(
            "the three do not read the same:\n{:?}\n{:?}\n{:?}",
            expected,
            rsip.view(INVITE),
            rsipstack.view(INVITE)
        );
        return ExitCode::FAILURE;
    }

    println!(
        "one INVITE of {} bytes, median of {ROUNDS} rounds of {CALLS_PER_ROUND} calls",
        INVITE.len()
    );
    println!(
        "{:<10} {:>13} {:>7} {:>7}   {:>9} {:>7} {:>7}",
        "crate", "tokenise ns", "allocs", "ratio", "view ns", "allocs", "ratio"
    );
    let mut tokenise: [Vec<f64>; 3] = Default::default();
    let mut view: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        tokenise[0].push(time(|bytes| sps.tokenise(bytes)));
        tokenise[1].push(time(|bytes| rsip.tokenise(bytes)));
        tokenise[2].push(time(|bytes| rsipstack.tokenise(bytes)));
        view[0].push(time(|bytes| sps.view(bytes)));
        view[1].push(time(|bytes| rsip.view(bytes)));
        view[2].push(time(|bytes| rsipstack.view(bytes)));
    }
    let rows = [
        (sps_case::Sps::NAME, allocations(&mut sps)),
        (rsip_case::Rsip::NAME, allocations(&mut rsip)),
        (rsipstack_case::Rsipstack::NAME, allocations(&mut rsipstack)),
    ];
    let [tokenise, view] = [tokenise, view].map(|times| times.map(median));
    for (position, (name, (tokenise_allocs, view_allocs))) in rows.into_iter().enumerate() {
        let (tokenise_ratio, view_ratio) = (tokenise[position] / tokenise[0], view[position] / view[0]);
        println!(
            "{name:<10} {:>13.0} {tokenise_allocs:>7} {tokenise_ratio:>6.1}×   {:>9.0} {view_allocs:>7} {view_ratio:>6.1}×",
            tokenise[position], view[position],
        );
    }
    ExitCode::SUCCESS
}

/// Nanoseconds of one call.
fn time<T>(mut call: impl FnMut(&[u8]) -> T) -> f64 {
    let start = Instant::now();
    for _ in 0..CALLS_PER_ROUND {
        black_box(call(black_box(INVITE)));
    }
    start.elapsed().as_nanos() as f64 / f64::from(CALLS_PER_ROUND)
}

/// Allocations of one call of each kind.
fn allocations<C: Case>(case: &mut C) -> (u64, u64) {
    let tokenise = allocation_counter::measure(|| {
        black_box(case.tokenise(INVITE));
    });
    let view = allocation_counter::measure(|| {
        black_box(case.view(INVITE));
    });
    (tokenise.count_total, view.count_total)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
