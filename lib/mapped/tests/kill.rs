//! A program that opens a table, replaces its whole content or changes one record, and closes it, is killed at random instants: what was
//! acknowledged is in force afterwards, and a reader in another process sees only whole contents, never an older one again.
//!
//! `cargo test -p sps-mapped --test kill [-- KILLS]`. This program is all three processes, as the registry's test of the same name is,
//! which kills a writer that stays.

use sps_mapped::{Cursor, Reader, TableConf, Writer};
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Instant;

const KILLS: u64 = 200;

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

/// Records in content number `n`: some need a larger file than others.
fn count(n: u64) -> u64 {
    100 + n * 37 % 1500
}

fn value(n: u64) -> Vec<u8> {
    n.to_string().repeat(1 + n as usize % 30).into_bytes()
}

fn key(record: u64) -> Vec<u8> {
    format!("49{record:08}").into_bytes()
}

/// One change after the other, each by a writer that opens and closes. Words: content, changes made to it since.
fn write(path: &Path, first: u64) {
    let mut out = std::io::stdout();
    let mut say = |line: String| {
        out.write_all(line.as_bytes())
            .expect("the judge listens until it has killed us")
    };
    let conf = TableConf {
        initial_records: 100,
        ..TableConf::short_lived()
    };
    for n in first.. {
        say(format!("+ {n}\n"));
        let (mut writer, report) = Writer::open(path, &conf).expect("it opens after every death");
        assert_eq!((report.dropped, report.missing, report.recreated), (0, 0, None));
        if n.is_multiple_of(4) {
            let records = (0..count(n)).map(|record| (key(record), value(n)));
            writer.replace_all(records, &[(0, n), (1, n)]).expect("room");
        } else {
            writer.put(b"latest", &value(n)).expect("room");
            writer.set_meta(1, n);
        }
        if !n.is_multiple_of(3) {
            writer.close().expect("a disk");
        }
        say(format!("= {n}\n"));
    }
}

/// The number of the content, if the table is one whole content and perhaps a later change.
fn check(reader: &Reader) -> u64 {
    let (mut records, mut values, mut latest) = (0, Vec::new(), None);
    let end = reader.scan(Cursor::START, usize::MAX, |key, value| {
        if key == b"latest" {
            latest = Some(value.to_vec());
        } else {
            records += 1;
            values.push(value.to_vec());
        }
    });
    assert_eq!(end, None);
    values.dedup();
    assert!(
        values.len() <= 1,
        "of several contents: {} records, {} values",
        records,
        values.len()
    );
    let Some(value_found) = values.first() else { return 0 };
    // A value repeats its number; the content says how often.
    let n = (1..=value_found.len())
        .filter_map(|len| std::str::from_utf8(&value_found[..len]).ok()?.parse().ok())
        .find(|n| value(*n) == *value_found && count(*n) == records);
    n.expect("a whole content")
}

fn read(path: &Path) {
    let reader = Reader::open_or_wait(path);
    let done = std::thread::spawn(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let (mut before, mut contents, mut scans) = ((0, 0), 0u64, 0u64);
    while !done.is_finished() {
        reader.refresh();
        // The word first: what is read after it is at least as new.
        let word = reader.meta(1);
        let content = check(&reader);
        assert!(content >= before.0, "content {content} after {}", before.0);
        assert!(word >= before.1, "change {word} after {}", before.1);
        contents += u64::from(content > before.0);
        before = (content, word);
        scans += 1;
    }
    println!("{scans} {contents} {}", reader.damaged() + reader.contended());
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
    let in_memory = Path::new("/dev/shm");
    let folder = if in_memory.is_dir() {
        tempfile::tempdir_in(in_memory)
    } else {
        tempfile::tempdir()
    };
    let folder = folder.expect("a folder for the test");
    let path = folder.path().join("routes.map");
    let mut reader = start("--read", &path, "");
    let (mut announced, mut acknowledged, mut whole, mut state) = (0u64, 0u64, 0u64, 0x5eedu64);
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    for _ in 0..kills {
        let mut writer = start("--write", &path, &(announced + 1).to_string());
        let mut lines = BufReader::new(writer.0.stdout.take().expect("piped")).lines();
        let mut hear = |line: &str| {
            let (sign, number) = line.split_at(2);
            let number: u64 = number.parse().expect("the writer says numbers");
            if sign == "+ " {
                announced = number;
                return;
            }
            acknowledged = number;
            if number.is_multiple_of(4) {
                whole = number;
            }
        };
        for _ in 0..1 + random() % 20 {
            hear(&lines.next().expect("it lives until it is killed").expect("text"));
        }
        // Somewhere in the next change, which takes about a millisecond.
        (0..random() % 200_000).for_each(|turn| {
            black_box(turn);
        });
        writer.0.kill().expect("it is our child");
        lines.for_each(|line| hear(&line.expect("text")));
        if path.exists() {
            let table = Reader::open(&path).expect("the file is there and whole");
            let (content, word) = (check(&table), table.meta(1));
            assert!(
                (acknowledged..=announced).contains(&word),
                "{word}, not {acknowledged} or {announced}"
            );
            // The last replacement that was acknowledged, or the one that was not.
            let is_open = announced > acknowledged && content == announced;
            assert!(
                content == whole || is_open,
                "content {content}, not {whole} or {announced}"
            );
            whole = content;
            assert_eq!((table.damaged(), table.meta(0)), (0, content));
        }
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
        numbers[1] > 0 && numbers[2] == 0,
        "scans, contents seen, failed lookups: {numbers:?}"
    );
    let seconds = began.elapsed().as_secs_f32();
    println!(
        "{kills} kills, {acknowledged} changes, {} whole readings of {} contents meanwhile, in {seconds:.1} s: nothing lost",
        numbers[0], numbers[1]
    );
}
