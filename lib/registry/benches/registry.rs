//! Lookups and refreshes at a million bindings, their room in the file, and how soon a registrar is ready.
//! `cargo bench -p sps-registry`.

use sps_registry::{AorRecord, Binding, Buffer, Expiry, RegistryConf, RegistryReader, RegistryWriter};
use sps_wire::{Flow, Transport};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const RECORDS: u64 = 1_000_000;
const NOW: u64 = 1_900_000_000;

fn main() {
    print_figures(&path());
    divan::main();
    std::fs::remove_dir_all(folder()).expect("it was there");
}

fn print_figures(path: &Path) {
    let began = Instant::now();
    let mut registry = open(path);
    let mut record = phone(0);
    for n in 0..RECORDS {
        renew(&mut record, n, 1);
        registry.put(&mut record, NOW).expect("room");
    }
    let stats = registry.stats();
    println!("{RECORDS} bindings registered in {:?}; {stats:?}", began.elapsed());
    println!(
        "bytes a binding: {} in its place, {} of the file",
        stats.used_len / RECORDS,
        stats.file_len / RECORDS
    );
    // As if killed.
    drop(registry);
    let began = Instant::now();
    let mut registry = open(path);
    let ready = began.elapsed();
    let mut expired = Vec::new();
    let (mut longest, mut calls) = (Duration::ZERO, 0);
    while registry.next_expiry() == Some(0) {
        let began = Instant::now();
        registry.expire_due(NOW, 1000, &mut expired);
        longest = longest.max(began.elapsed());
        calls += 1;
    }
    println!("ready {ready:?} after being killed; every end known after {calls} calls, the longest {longest:?}");

    let mut next = order();
    let reader = RegistryReader::open(path).expect("a registry");
    let mut buffer = Buffer::new();
    for _ in 0..2 {
        per_turn("lookup of a contact", || {
            let n = next();
            black_box(reader.lookup(&aor(n), &mut buffer, |view| contact_len(&view)));
        });
        per_turn("refresh: record taken, renewed, stored", || {
            let n = next();
            let mut record = registry.record(&aor(n)).expect("it was stored");
            record.bindings[0].cseq += 1;
            record.bindings[0].expires = Expiry::At(NOW + 7200);
            registry.put(&mut record, NOW + 1).expect("room");
        });
    }
    registry.close().expect("a disk");
}

fn contact_len(view: &sps_registry::RecordView<'_>) -> usize {
    view.current(NOW).map(|binding| binding.contact.len()).sum()
}

/// Processor time of this thread so far, from the scheduler: what others do on this machine does not count.
fn on_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
    let nanoseconds = text.split(' ').next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanoseconds.expect("nanoseconds"))
}

fn per_turn(what: &str, mut turn: impl FnMut()) {
    const TURNS: u32 = 1_000_000;
    let before = on_cpu();
    for _ in 0..TURNS {
        turn();
    }
    println!("{what}: {:?} of processor time", (on_cpu() - before) / TURNS);
}

fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().expect("a folder").keep())
}

fn path() -> PathBuf {
    folder().join("registry.map")
}

fn open(path: &Path) -> RegistryWriter {
    RegistryWriter::open(path, &RegistryConf::default())
        .expect("the writer before has been dropped")
        .0
}

fn aor(n: u64) -> Vec<u8> {
    format!("sip:user.{n:07}@example.com").into_bytes()
}

/// A phone behind a NAT, with what such a phone sends.
fn phone(n: u64) -> AorRecord {
    let flow = Flow {
        member: 0,
        transport: Transport::Udp,
        local: "192.0.2.1:5060".parse().expect("an address"),
        remote: "198.51.100.77:31337".parse().expect("an address"),
        connection: 0,
    };
    let mut record = AorRecord {
        bindings: vec![Binding {
            instance_id: Some(b"<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>".to_vec()),
            reg_id: Some(1),
            flow: Some(flow),
            received: Some(flow.remote),
            user_agent: Some(b"Example Phone 5 1.2.3.4567".to_vec()),
            ..Binding::default()
        }],
        ..AorRecord::default()
    };
    renew(&mut record, n, 1);
    record
}

fn renew(record: &mut AorRecord, n: u64, cseq: u32) {
    record.aor = aor(n);
    record.to_uri = aor(n);
    let binding = &mut record.bindings[0];
    binding.contact = format!("sip:user.{n:07}@10.0.0.17:5060;transport=udp;ob").into_bytes();
    binding.call_id = format!("3c26709b6d1f-{n:014x}@10.0.0.17").into_bytes();
    binding.cseq = cseq;
    binding.expires = Expiry::At(NOW + 3600 + n % 3600);
}

fn order() -> impl FnMut() -> u64 {
    let mut state = 1u64;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % RECORDS
    }
}

#[divan::bench(sample_count = 50, sample_size = 10_000)]
fn lookup(bencher: divan::Bencher) {
    let reader = RegistryReader::open(&path()).expect("the figures were printed first");
    let (mut next, mut buffer) = (order(), Buffer::new());
    bencher.bench_local(|| reader.lookup(&aor(next()), &mut buffer, |view| contact_len(&view)));
}

#[divan::bench(sample_count = 50, sample_size = 10_000)]
fn refresh(bencher: divan::Bencher) {
    let mut registry = open(&path());
    let mut next = order();
    let mut record = phone(0);
    let mut cseq = 2;
    bencher.bench_local(|| {
        cseq += 1;
        renew(&mut record, next(), cseq);
        registry.put(&mut record, NOW).expect("room");
    });
}
