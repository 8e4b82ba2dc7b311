//! What a deadline costs: in, and out again, with as many waiting as a busy worker has.

use std::time::{Duration, Instant};

use divan::Bencher;
use divan::counter::ItemsCount;
use sps_sip::wheel::Wheel;

fn main() {
    divan::main();
}

const BATCH: u64 = 1_000;

/// Timer A, T4 and 64·T1 in turn, the mix of a proxy.
fn wait(n: u64) -> Duration {
    Duration::from_millis([500, 5_000, 32_000][(n % 3) as usize] + n % 97)
}

#[divan::bench(args = [0, 100_000])]
fn insert(bencher: Bencher<'_, '_>, waiting: u64) {
    bencher
        .counter(ItemsCount::new(BATCH))
        .with_inputs(|| {
            let now = Instant::now();
            let mut wheel = Wheel::new(now);
            for n in 0..waiting + BATCH {
                wheel.insert(now + wait(n), n as u32);
            }
            // The arena has room, as in a worker that has been running for a while.
            let mut due = Vec::new();
            for n in 0..BATCH {
                wheel.insert(now, n as u32);
            }
            wheel.advance(now, &mut due);
            (wheel, now)
        })
        .bench_local_refs(|(wheel, now)| {
            for n in 0..BATCH {
                wheel.insert(*now + wait(n), n as u32);
            }
        });
}

/// A key's whole life: a second of time passes for every thousand keys.
#[divan::bench]
fn insert_and_come_out(bencher: Bencher<'_, '_>) {
    let mut now = Instant::now();
    let mut wheel = Wheel::new(now);
    let mut due = Vec::new();
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for n in 0..BATCH {
            now += Duration::from_millis(1);
            wheel.insert(now + wait(n), n as u32);
            wheel.advance(now, &mut due);
            due.clear();
        }
    });
}
