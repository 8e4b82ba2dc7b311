//! Instructions of the hot paths, counted by valgrind: steady where a stopwatch is not. A workload that has grown by more
//! than a tenth fails; `make count` writes the figures of `tests/count/counts.txt` anew, and the diff is reviewed like code.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sps_tests::process::run_command;
use sps_tests::{need, skip};

const LIMIT: Duration = Duration::from_secs(300);

/// Few enough to be quick under valgrind, many enough that what happens now and then (a table that grows) is paid by many.
const TURNS: [u64; 2] = [1_000, 3_000];

#[test]
fn no_hot_path_has_grown_by_a_tenth() {
    need!("valgrind");
    let Some(program) = std::env::var_os("SPS_COUNT").map(PathBuf::from) else {
        skip!("sps-count: no release build of it is named by SPS_COUNT");
    };
    let (compiler, known) = read_counts();
    let here = compiler_here();
    let write = std::env::var_os("SPS_COUNT_WRITE").is_some();
    if here != compiler && !write {
        skip!("compiler: counts are of {compiler}, this is {here}");
    }
    let listed = run_command(LIMIT, Command::new(&program)).ok().stdout;
    let counted: BTreeMap<&str, u64> = listed.lines().map(|name| (name, per_turn(&program, name))).collect();
    if write {
        return write_counts(&here, &counted);
    }
    let mut grown = String::new();
    for (name, count) in &counted {
        let Some(before) = known.get(*name) else {
            let _ = writeln!(grown, "{name}: {count}, and no count is stored");
            continue;
        };
        println!("{name}: {count} instructions, stored {before}");
        if *count > before + before / 10 {
            let _ = writeln!(grown, "{name}: {count} instructions, {before} before");
        }
    }
    for name in known.keys().filter(|name| !counted.contains_key(name.as_str())) {
        let _ = writeln!(grown, "{name}: stored, and no workload");
    }
    assert!(grown.is_empty(), "make count, if this is meant:\n{grown}");
}

/// What one more turn costs: set-up and end cancel out.
fn per_turn(program: &Path, name: &str) -> u64 {
    let [few, many] = TURNS.map(|turns| count(program, name, turns));
    (many - few) / (TURNS[1] - TURNS[0])
}

fn count(program: &Path, name: &str, turns: u64) -> u64 {
    let mut command = Command::new("valgrind");
    command.args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]);
    command.arg(program).args([name, &turns.to_string()]);
    let said = run_command(LIMIT, command).ok();
    // "I   refs:" in some releases, "I refs:" in others.
    let line = said.stderr.lines().find(|line| line.contains(" refs:"));
    let number = line
        .and_then(|line| line.rsplit(' ').next())
        .map(|number| number.replace(',', ""));
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("valgrind counts instructions:\n{}", said.stderr))
}

fn counts_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("count/counts.txt")
}

/// The compiler that the counts are of, and the counts.
fn read_counts() -> (String, BTreeMap<String, u64>) {
    let text = std::fs::read_to_string(counts_file()).unwrap_or_default();
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let compiler = lines.next().unwrap_or_default().to_owned();
    let counts = lines
        .map(|line| line.split_once(' ').expect("a name and a number"))
        .map(|(name, number)| (name.to_owned(), number.parse().expect("a number")));
    (compiler, counts.collect())
}

fn write_counts(compiler: &str, counts: &BTreeMap<&str, u64>) {
    let mut text = String::from("# Instructions a turn of each workload of tests/count. Written by `make count`.\n");
    let _ = writeln!(text, "{compiler}");
    for (name, count) in counts {
        let _ = writeln!(text, "{name} {count}");
    }
    std::fs::write(counts_file(), text).expect("the tree can be written");
}

/// Another release of the compiler makes other code, and so does another processor family.
fn compiler_here() -> String {
    let said = run_command(LIMIT, {
        let mut command = Command::new("rustc");
        command.arg("--version");
        command
    });
    let version = said.ok().stdout.split(' ').nth(1).unwrap_or_default().to_owned();
    format!("rustc {version} {}", std::env::consts::ARCH)
}
