//! The writer is killed at random instants, a thousand times, in the middle of a registration storm: every acknowledged change is there
//! afterwards, and a reader in another process, which reads all the while, never sees a record that was not stored as it is.
//!
//! `cargo test -p sps-registry --test kill [-- KILLS]`. This program is all three processes: the judge starts itself again as the
//! writer, for each life of it, and as the reader.

use sps_registry::{
    AorRecord, Binding, Buffer, Cursor, Expiry, RecordView, RegistryConf, RegistryReader, RegistryWriter,
};
use std::collections::{HashMap, HashSet};
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const KILLS: u64 = 1000;
/// A new registry from time to time, so that its first growths are killed as well.
const KILLS_PER_FILE: u64 = 50;
const AORS: u64 = 20_000;
/// Of each so many AORs one is also removed; the others, once there, must always be found.
const REMOVED_ONE_IN: u64 = 5;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("--write") => write(
            Path::new(&arguments[2]),
            arguments[3].parse().expect("the judge gives a number"),
        ),
        Some("--read") => read(Path::new(&arguments[2])),
        Some("--list") => println!("kill: test"),
        // Another test is asked for.
        Some(name) if !name.starts_with("--") && name.parse::<u64>().is_err() && !"kill".contains(name) => {}
        number => judge(number.and_then(|number| number.parse().ok()).unwrap_or(KILLS)),
    }
    ExitCode::SUCCESS
}

/// A small generator: the same seed, the same storm.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) ^ (self.0 >> 11 & 0xffff)
    }
}

fn aor(n: u64) -> Vec<u8> {
    format!("sip:user-{n}@example.com").into_bytes()
}

/// The record that change number `change` makes of AOR `n`: every part of it tells both.
fn record(n: u64, change: u64) -> AorRecord {
    let mut random = Random(change ^ n << 32);
    let mut binding = |i| Binding {
        contact: format!("sip:{n}-{change}-{i}@192.0.2.1").into_bytes(),
        call_id: vec![b'a' + (random.next() % 26) as u8; (random.next() % 300) as usize],
        cseq: change as u32,
        expires: Expiry::At(1 << 40 | change),
        user_agent: Some(vec![b'a' + (change % 26) as u8; (random.next() % 100) as usize]),
        ..Binding::default()
    };
    AorRecord {
        aor: aor(n),
        to_uri: format!("sip:{change}@example.com").into_bytes(),
        rules_hash: change,
        bindings: (0..1 + change % 3).map(&mut binding).collect(),
        ..AorRecord::default()
    }
}

/// The change that made this record; an error if it is not exactly what that change made.
fn check(n: u64, view: RecordView<'_>) -> Result<u64, String> {
    let mut found = view.to_record();
    found.version = Default::default();
    let change = found.rules_hash;
    if found == record(n, change) {
        Ok(change)
    } else {
        Err(format!("user {n}, change {change}: {found:?}"))
    }
}

/// One life of the writer: says what it is about to do, does it, says that it is done. `first` is the number of its first change.
fn write(path: &Path, first: u64) {
    let mut out = std::io::stdout();
    let mut say = |line: String| {
        out.write_all(line.as_bytes())
            .expect("the judge listens until it has killed us")
    };
    say("opening\n".to_owned());
    let conf = RegistryConf {
        initial_records: 100,
        sync_interval: Some(Duration::from_millis(20)),
        ..RegistryConf::default()
    };
    let (mut registry, report) = RegistryWriter::open(path, &conf).expect("it opens after every death");
    say(format!(
        "open {} {} {}\n",
        report.dropped,
        report.missing,
        u8::from(report.recreated.is_some())
    ));
    let mut random = Random(first);
    let mut done = String::new();
    for change in first.. {
        let n = random.next() % AORS;
        let remove = n.is_multiple_of(REMOVED_ONE_IN) && random.next().is_multiple_of(3);
        // What is done is acknowledged together with what comes next: half as many turns between the processes.
        say(format!("{done}{} {n} {change}\n", if remove { '-' } else { '+' }));
        if remove {
            registry.remove(&aor(n), 1);
        } else {
            registry.put(&mut record(n, change), 1).expect("there is room");
        }
        done = format!("= {n} {change}\n");
    }
}

/// Reads until its standard input ends; then says how much. Any record that is not whole, older than one seen before, or gone ends it.
fn read(path: &Path) {
    let registry = RegistryReader::open_or_wait(path);
    let done = std::thread::spawn(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let mut seen: HashMap<u64, u64> = HashMap::new();
    let mut random = Random(1);
    let (mut lookups, mut buffer) = (0u64, Buffer::new());
    while !done.is_finished() {
        registry.refresh();
        for _ in 0..1000 {
            let n = random.next() % AORS;
            let found = registry.lookup(&aor(n), &mut buffer, |view| check(n, view).expect("a whole record"));
            lookups += 1;
            match (found, seen.get(&n)) {
                (Some(change), Some(before)) => assert!(change >= *before, "user {n} went back to {change}"),
                (None, Some(before)) => assert!(n.is_multiple_of(REMOVED_ONE_IN), "user {n} is gone, was {before}"),
                _ => {}
            }
            if let Some(change) = found {
                seen.insert(n, change);
            }
        }
        let mut cursor = Some(Cursor::from_u64(random.next() << 31));
        for _ in 0..3 {
            cursor = cursor.and_then(|cursor| {
                registry.page(cursor, 100, |view| {
                    let digits = &view.aor()["sip:user-".len()..view.aor().len() - "@example.com".len()];
                    let n = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
                    check(n.expect("a key that was stored"), view).expect("a whole record");
                })
            });
        }
    }
    println!("{lookups} {} {}", seen.len(), registry.failed_lookups());
}

/// What the judge knows: the last acknowledged change of each AOR (`None`: removed).
#[derive(Default)]
struct Truth {
    acknowledged: HashMap<u64, Option<u64>>,
    /// Said to be coming, but not acknowledged: either is right.
    open: Option<(u64, Option<u64>)>,
    last: u64,
}

impl Truth {
    fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |word: usize| words[word].parse::<u64>().expect("the writer says numbers");
        match words[0] {
            "+" => (self.open, self.last) = (Some((number(1), Some(number(2)))), number(2)),
            "-" => (self.open, self.last) = (Some((number(1), None)), number(2)),
            "=" => {
                let (n, change) = self
                    .open
                    .take()
                    .expect("a change is announced before it is acknowledged");
                self.acknowledged.insert(n, change);
            }
            "open" => assert_eq!(&words[1..], ["0", "0", "0"], "dropped, missing, recreated"),
            "opening" => {}
            other => panic!("{other}"),
        }
    }

    fn check(&mut self, path: &Path, of: Option<&HashSet<u64>>) {
        let open = self.open.take();
        if self.acknowledged.is_empty() && !path.exists() {
            return;
        }
        let registry = RegistryReader::open(path).expect("the file is there and whole");
        let mut buffer = Buffer::new();
        let mut find = |n| registry.lookup(&aor(n), &mut buffer, |view| check(n, view).expect("a whole record"));
        if let Some((n, change)) = open {
            let found = find(n);
            let before = self.acknowledged.get(&n).copied().flatten();
            assert!(
                found == change || found == before,
                "user {n}: {found:?}, not {before:?} or {change:?}"
            );
            self.acknowledged.insert(n, found);
        }
        for (n, change) in &self.acknowledged {
            if of.is_none_or(|of| of.contains(n)) {
                assert_eq!(find(*n), *change, "user {n}");
            }
        }
        assert_eq!(registry.failed_lookups(), 0);
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(role: &str, path: &Path, more: &str) -> Killed {
    let program = std::env::current_exe().expect("this test is a program");
    let child = Command::new(program)
        .arg(role)
        .arg(path)
        .arg(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    Killed(child.expect("it can be started again"))
}

fn judge(kills: u64) {
    let began = Instant::now();
    let mut random = Random(0x5eed);
    let (mut acknowledged, mut lookups) = (0u64, 0u64);
    // The disk is not what is tested, and processes share memory files as they share others.
    let in_memory = Path::new("/dev/shm");
    for file in 0..kills.div_ceil(KILLS_PER_FILE) {
        let folder = if in_memory.is_dir() {
            tempfile::tempdir_in(in_memory)
        } else {
            tempfile::tempdir()
        };
        let folder = folder.expect("a folder for the test");
        let path = folder.path().join("registry.map");
        let mut truth = Truth::default();
        let mut reader = start("--read", &path, "");
        for kill in 0..KILLS_PER_FILE.min(kills - file * KILLS_PER_FILE) {
            let touched = one_life(&path, &mut truth, &mut random, &mut acknowledged);
            let all = kill % 10 == 9;
            truth.check(&path, (!all).then_some(&touched));
            let ended = reader.0.try_wait().expect("it is our child");
            assert!(ended.is_none(), "the reader has ended: {ended:?}");
        }
        drop(reader.0.stdin.take());
        let mut said = String::new();
        reader
            .0
            .stdout
            .take()
            .expect("piped")
            .read_to_string(&mut said)
            .expect("it says how much it read");
        assert!(reader.0.wait().expect("it is our child").success());
        let numbers: Vec<u64> = said
            .split_whitespace()
            .map(|word| word.parse().expect("numbers"))
            .collect();
        assert!(
            numbers[0] > 0 && numbers[2] == 0,
            "lookups, users seen, failed lookups: {numbers:?}"
        );
        lookups += numbers[0];
    }
    let seconds = began.elapsed().as_secs_f32();
    println!(
        "{kills} kills, {acknowledged} acknowledged changes, {lookups} lookups meanwhile, in {seconds:.1} s: nothing lost"
    );
}

/// Starts a writer, kills it some time later, and hears all that it said. Gives the AORs it touched.
fn one_life(path: &Path, truth: &mut Truth, random: &mut Random, acknowledged: &mut u64) -> HashSet<u64> {
    let mut writer = start("--write", path, &(truth.last + 1).to_string());
    let mut lines = BufReader::new(writer.0.stdout.take().expect("piped")).lines();
    let mut touched = HashSet::new();
    let mut hear = |line: &str, truth: &mut Truth| {
        *acknowledged += u64::from(line.starts_with('='));
        truth.hear(line);
        touched.extend(truth.open.map(|(n, _)| n));
    };
    // Sometimes while it opens, mostly after so many lines, and then some instructions more.
    let wait_for = if random.next().is_multiple_of(8) {
        1
    } else {
        2 + random.next() % 200
    };
    for _ in 0..wait_for {
        let line = lines.next().expect("it lives until it is killed").expect("text");
        hear(&line, truth);
    }
    (0..random.next() % 20_000).for_each(|turn| {
        black_box(turn);
    });
    writer.0.kill().expect("it is our child");
    // What it said before it died counts; a line cut short does not.
    for line in lines {
        let line = line.expect("text");
        hear(&line, truth);
    }
    touched
}
