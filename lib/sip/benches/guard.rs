//! What the guard costs a message of a good source: at most 20 ns. Times are for a batch of 1,000.

use std::hint::black_box;
use std::net::IpAddr;
use std::time::Instant;

use divan::Bencher;
use sps_sip::guard::{Guard, GuardConf, Kind, Network, OperatorBan};

const BATCH: usize = 1_000;

fn main() {
    divan::main();
}

fn guard(bans: u32) -> (Guard, Instant) {
    let now = Instant::now();
    let mut guard = Guard::new(GuardConf::default(), 7, now);
    let bans: Vec<OperatorBan> = (0..bans)
        .filter_map(|n| {
            let network = Network::new(IpAddr::from((0xc612_0000 + n * 256).to_be_bytes()), 24)?;
            Some(OperatorBan { network, until: None })
        })
        .collect();
    guard.deny(&bans, now);
    (guard, now)
}

fn sources(count: u32) -> Vec<IpAddr> {
    (0..count)
        .map(|n| IpAddr::from((0x0a00_0000 + n.wrapping_mul(7919) % 0xff_ffff).to_be_bytes()))
        .collect()
}

/// As a worker does it for each message it reads.
#[divan::bench(args = [1, 100, 10_000])]
fn admit(bencher: Bencher, count: u32) {
    let (mut guard, now) = guard(1000);
    let sources = sources(count);
    let mut all = sources.iter().cycle();
    bencher.bench_local(|| {
        for source in all.by_ref().take(BATCH) {
            black_box(guard.admit(now, *source));
        }
    });
}

/// The same for a request that begins a transaction.
#[divan::bench(args = [1, 100, 10_000])]
fn admit_and_note(bencher: Bencher, count: u32) {
    let (mut guard, now) = guard(1000);
    let sources = sources(count);
    for source in &sources {
        guard.prove(now, *source);
    }
    let mut all = sources.iter().cycle();
    bencher.bench_local(|| {
        for source in all.by_ref().take(BATCH) {
            black_box(guard.admit(now, *source) && guard.note(now, *source, true, black_box(Kind::New)));
        }
    });
}

/// What an attacker costs: a new source with every message.
#[divan::bench]
fn forged(bencher: Bencher) {
    let (mut guard, now) = guard(1000);
    let mut at = 0u32;
    bencher.bench_local(|| {
        at = at.wrapping_add(2_654_435_769);
        let source = IpAddr::from(at.to_be_bytes());
        guard.admit(now, source) && guard.note(now, source, true, Kind::Malformed)
    });
}
