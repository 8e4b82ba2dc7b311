//! Lookups and updates at a million records, how long opening takes, and the longest single change while the table grows.
//! `cargo bench -p sps-mapped`.

use sps_mapped::{Buffer, Reader, TableConf, Verify, Writer};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const RECORDS: u64 = 1_000_000;
const VALUE_LEN: usize = 200;

fn main() {
    // With the name of a bench, that alone.
    if std::env::args().skip(1).all(|argument| argument.starts_with("--")) {
        print_figures(folder());
    }
    print_means();
    divan::main();
    std::fs::remove_dir_all(folder()).expect("it was there");
}

fn print_figures(folder: &Path) {
    let path = folder.join("grown.map");
    println!("{RECORDS} records of {VALUE_LEN} bytes in {}", folder.display());

    let conf = TableConf::default();
    let (mut writer, _) = Writer::open(&path, &conf).expect("a new table");
    let began = Instant::now();
    let (mut longest, mut busiest) = (Vec::new(), Duration::ZERO);
    for n in 0..RECORDS {
        let (before, busy_before) = (Instant::now(), on_cpu());
        writer.put(&key(n), &[n as u8; VALUE_LEN]).expect("room");
        busiest = busiest.max(on_cpu() - busy_before);
        longest.push(before.elapsed());
    }
    longest.sort_unstable();
    let share = |of: f64| longest[((longest.len() - 1) as f64 * of) as usize];
    println!(
        "filled from 64 Ki on in {:?}: median {:?}, 99 % {:?}, 99.99 % {:?}, longest {:?}, by processor time {busiest:?}; {:?}",
        began.elapsed(),
        share(0.5),
        share(0.99),
        share(0.9999),
        share(1.0),
        writer.stats()
    );
    let began = Instant::now();
    writer.close().expect("a disk");
    println!("closed in {:?}", began.elapsed());
    opened("after closing", &path, &conf, true);
    opened("by a short-lived writer", &path, &TableConf::short_lived(), true);
    opened("after closing, in order to die", &path, &conf, false);
    opened("after being killed", &path, &conf, false);
    opened(
        "reading every record",
        &path,
        &TableConf {
            verify: Verify::Always,
            ..conf.clone()
        },
        true,
    );

    let began = Instant::now();
    let (mut writer, _) = Writer::open(&path, &TableConf::short_lived()).expect("a table");
    writer
        .put(b"one more", b"by a program that makes one change")
        .expect("room");
    writer.close().expect("a disk");
    println!(
        "one change by a short-lived writer, opening and closing included: {:?}",
        began.elapsed()
    );

    let (mut writer, _) = Writer::open(&path, &conf).expect("a table");
    let began = Instant::now();
    let value = [7; VALUE_LEN];
    writer
        .replace_all((0..RECORDS).map(|n| (key(n), value)), &[])
        .expect("room");
    println!("replaced whole in {:?}", began.elapsed());
    drop(writer);
    std::fs::remove_file(&path).expect("it was there");
}

/// Processor time of this thread so far: what others do on this machine does not count.
fn on_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local that the call fills in.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(done, 0, "Linux has this clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn per_turn(what: &str, mut turn: impl FnMut()) {
    const TURNS: u32 = 2_000_000;
    let before = on_cpu();
    for _ in 0..TURNS {
        turn();
    }
    println!("{what}: {:?} of processor time", (on_cpu() - before) / TURNS);
}

/// Means over millions, by processor time: to be compared between runs on a machine that has other work as well.
fn print_means() {
    let mut writer = filled();
    let reader = Reader::open(&folder().join("bench.map")).expect("a table");
    let (mut next, mut buffer) = (order(), Buffer::new());
    let mut memory = Memory::new();
    per_turn("memory alone", || {
        std::hint::black_box(memory.look(next()));
    });
    for _ in 0..2 {
        per_turn("lookup", || {
            std::hint::black_box(reader.view(&key(next()), &mut buffer));
        });
    }
    per_turn("lookup of one and the same", || {
        std::hint::black_box(reader.view(&key(1), &mut buffer));
    });
    per_turn("lookup of what is not there", || {
        std::hint::black_box(reader.view(&key(next() + RECORDS), &mut buffer));
    });
    for round in 0..2 {
        per_turn("update", || {
            writer.put(&key(next()), &[round; VALUE_LEN]).expect("room")
        });
    }
    per_turn("update of one and the same", || {
        writer.put(&key(1), &[0; VALUE_LEN]).expect("room")
    });
}

fn opened(how: &str, path: &Path, conf: &TableConf, close: bool) {
    let (writer, report) = Writer::open(path, conf).expect("a table");
    println!(
        "opened {how} in {:?}: {} records, {} dropped",
        report.took, report.records, report.dropped
    );
    if close {
        writer.close().expect("a disk")
    } else {
        drop(writer)
    }
}

fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().expect("a folder").keep())
}

fn key(n: u64) -> [u8; 28] {
    let mut key = *b"sip:user-0000000@example.com";
    let mut n = n;
    for digit in key[9..16].iter_mut().rev() {
        *digit = b'0' + (n % 10) as u8;
        n /= 10;
    }
    key
}

fn filled() -> Writer {
    let conf = TableConf {
        initial_records: RECORDS,
        sync_interval: Some(Duration::from_secs(1)),
        ..TableConf::default()
    };
    let (mut writer, _) = Writer::open(&folder().join("bench.map"), &conf).expect("the writer before has been dropped");
    for n in writer.len()..RECORDS {
        writer.put(&key(n), &[n as u8; VALUE_LEN]).expect("room");
    }
    writer
}

/// The same sequence for all: a lookup must not be helped by the one before it.
fn order() -> impl FnMut() -> u64 {
    let mut state = 1u64;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % RECORDS
    }
}

#[divan::bench(sample_count = 50, sample_size = 20_000)]
fn lookup(bencher: divan::Bencher) {
    let _writer = filled();
    let reader = Reader::open(&folder().join("bench.map")).expect("a table");
    let (mut next, mut buffer) = (order(), Buffer::new());
    for n in 0..RECORDS {
        assert!(reader.view(&key(n), &mut buffer).is_some());
    }
    bencher.bench_local(|| reader.view(&key(next()), &mut buffer).map(|value| value[0]));
}

#[divan::bench(sample_count = 50, sample_size = 20_000)]
fn lookup_of_what_is_not_there(bencher: divan::Bencher) {
    let _writer = filled();
    let reader = Reader::open(&folder().join("bench.map")).expect("a table");
    let (mut next, mut buffer) = (order(), Buffer::new());
    bencher.bench_local(|| reader.view(&key(next() + RECORDS), &mut buffer).map(|value| value[0]));
}

#[divan::bench(sample_count = 50, sample_size = 20_000)]
fn update(bencher: divan::Bencher) {
    let mut writer = filled();
    let mut next = order();
    let mut round = 0;
    bencher.bench_local(|| {
        round += 1;
        writer.put(&key(next()), &[round as u8; VALUE_LEN]).expect("room");
    });
}

/// What the machine takes by itself for a lookup's two steps in as much memory, with no table around them: to be set against `lookup`.
struct Memory {
    slots: Vec<u64>,
    records: Vec<[u64; 32]>,
    last: u64,
}

impl Memory {
    fn new() -> Memory {
        let slots = (0..RECORDS * 2).map(|n| n / 2 * 7919 % RECORDS).collect();
        Memory {
            slots,
            records: (0..RECORDS).map(|n| [n; 32]).collect(),
            last: 0,
        }
    }

    /// Waits for the step before, as one lookup's caller does: processors would overlap them otherwise.
    fn look(&mut self, n: u64) -> u64 {
        let slot = self.slots[((n * 2) | (self.last & 1)) as usize];
        self.last = self.records[slot as usize]
            .iter()
            .fold(0, |sum: u64, word| sum.wrapping_add(*word) ^ (sum >> 7));
        self.last
    }
}

#[divan::bench(sample_count = 50, sample_size = 20_000)]
fn memory_alone(bencher: divan::Bencher) {
    let (mut memory, mut next) = (Memory::new(), order());
    bencher.bench_local(|| memory.look(next()));
}
