//! Lookups and updates at a million records, how long opening takes, and the longest single change while the table grows.
//! `cargo bench -p sps-mapped`.

use sps_mapped::{Buffer, Reader, TableConf, Verify, Writer};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const RECORDS: u64 = 1_000_000;
const VALUE_LEN: usize = 200;

fn main() {
    let folder = folder();
    let path = folder.join("grown.map");
    println!("{RECORDS} records of {VALUE_LEN} bytes in {}", folder.display());

    let conf = TableConf::default();
    let (mut writer, _) = Writer::open(&path, &conf).expect("a new table");
    let began = Instant::now();
    let mut longest = Vec::new();
    for n in 0..RECORDS {
        let before = Instant::now();
        writer.put(&key(n), &[n as u8; VALUE_LEN]).expect("room");
        longest.push(before.elapsed());
    }
    longest.sort_unstable();
    let share = |of: f64| longest[((longest.len() - 1) as f64 * of) as usize];
    println!(
        "filled from 64 Ki on in {:?}: median {:?}, 99 % {:?}, 99.99 % {:?}, longest {:?}; {:?}",
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

    divan::main();
    std::fs::remove_dir_all(folder).expect("it was there");
}

fn opened(how: &str, path: &std::path::Path, conf: &TableConf, close: bool) {
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
