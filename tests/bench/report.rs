//! Figures: one line a load while it runs, medians and ratios at the end, the same as Markdown for RESULTS.md.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use crate::contender::Name;
use sps_tests::load::{calls, registers};

/// Which load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Calls, closed loop.
    Calls,
    /// Calls, closed loop, with many routes and bindings in store.
    Stored,
    /// Calls, open loop at half the closed loop's rate.
    HalfLoad,
    /// Calls, open loop at a tenth of it.
    TenthLoad,
    /// First registrations.
    FirstRegisters,
    /// Refreshes.
    Refreshes,
}

impl Kind {
    fn title(self) -> &'static str {
        match self {
            Kind::Calls => "calls, closed loop of 64",
            Kind::Stored => "calls, closed loop, many routes, bindings",
            Kind::HalfLoad => "calls, open loop at 50 % of that rate",
            Kind::TenthLoad => "calls, open loop at 10 %",
            Kind::FirstRegisters => "REGISTER, first, window 32",
            Kind::Refreshes => "REGISTER, refresh, window 32",
        }
    }
}

/// Memory of a contender around a load.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// Before the first packet.
    pub before_kib: u64,
    /// After the last one, before transactions expire.
    pub after_kib: u64,
}

impl Memory {
    fn left_each(self, count: u64) -> u64 {
        self.after_kib.saturating_sub(self.before_kib) * 1_024 / count.max(1)
    }
}

/// One load on one contender.
#[derive(Debug, Clone)]
pub struct Measured {
    name: Name,
    kind: Kind,
    completed: u64,
    failed: u64,
    retransmissions: u64,
    rate: f64,
    setup_p50_us: Option<u32>,
    setup_p99_us: Option<u32>,
    memory_kib: u64,
    /// What each call or REGISTER of the load still occupies at its end, in bytes.
    left_each: u64,
    first_failure: Option<String>,
    /// CPU of the contender's process tree for all of it.
    pub cpu_ns: u64,
}

impl Measured {
    /// Of calls.
    pub fn of_calls(name: Name, kind: Kind, outcome: &calls::Outcome, memory: Memory) -> Measured {
        let at = |share: f64| {
            let index = (outcome.setup_us.len().saturating_sub(1)) as f64 * share;
            outcome.setup_us.get(index as usize).copied()
        };
        Measured {
            name,
            kind,
            completed: outcome.completed,
            failed: outcome.failed,
            retransmissions: outcome.retransmissions,
            rate: outcome.rate(),
            setup_p50_us: at(0.5),
            setup_p99_us: at(0.99),
            memory_kib: memory.after_kib,
            left_each: memory.left_each(outcome.completed),
            first_failure: outcome.first_failure.clone(),
            cpu_ns: 0,
        }
    }

    /// Of REGISTERs.
    pub fn of_registers(name: Name, kind: Kind, outcome: &registers::Outcome, memory: Memory) -> Measured {
        Measured {
            name,
            kind,
            completed: outcome.completed,
            failed: outcome.failed,
            retransmissions: outcome.retransmissions,
            rate: outcome.completed as f64 / outcome.elapsed.as_secs_f64().max(1e-9),
            setup_p50_us: None,
            setup_p99_us: None,
            memory_kib: memory.after_kib,
            left_each: memory.left_each(outcome.completed),
            first_failure: outcome.first_failure.clone(),
            cpu_ns: 0,
        }
    }

    fn cpu_us_each(&self) -> f64 {
        self.cpu_ns as f64 / 1e3 / (self.completed.max(1) as f64)
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<10} {:<38} {:>8} done {:>4} failed {:>5} again {:>8.0}/s {:>7} KiB",
            self.name.as_str(),
            self.kind.title(),
            self.completed,
            self.failed,
            self.retransmissions,
            self.rate,
            self.memory_kib
        )?;
        if let Some(failure) = &self.first_failure {
            write!(f, "  first failure: {failure}")?;
        }
        Ok(())
    }
}

/// All loads of a run.
#[derive(Debug, Default)]
pub struct Report {
    all: Vec<Measured>,
    rates: BTreeMap<Name, Vec<f64>>,
}

/// Medians of one contender's loads of one kind.
struct Line {
    name: Name,
    cpu_us: f64,
    rate: f64,
    completed: u64,
    failed: u64,
    retransmissions: u64,
    memory_kib: u64,
    left_each: u64,
    setup: Option<(u32, u32)>,
    spread: (f64, f64),
}

impl Report {
    /// Takes a finished load.
    pub fn add(&mut self, measured: Measured) {
        self.all.push(measured);
    }

    /// Remembers the rate of a closed loop before its CPU is known.
    pub fn note_rate(&mut self, measured: &Measured) {
        if measured.kind == Kind::Calls {
            self.rates.entry(measured.name).or_default().push(measured.rate);
        }
    }

    /// Calls a second of this contender in the closed loop.
    pub fn closed_rate(&self, name: Name) -> Option<f64> {
        self.rates.get(&name).map(|rates| median(rates))
    }

    /// Medians by kind, contenders beside each other.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (kind, lines) in self.lines() {
            let _ = writeln!(out, "\n{}", kind.title());
            for line in &lines {
                let _ = write!(
                    out,
                    "  {:<10} {:>8.1} us CPU each ({:.1}..{:.1})  {:>8.0}/s  {:>7} done  {} failed  {} again  {} KiB, {} B each",
                    line.name.as_str(),
                    line.cpu_us,
                    line.spread.0,
                    line.spread.1,
                    line.rate,
                    line.completed,
                    line.failed,
                    line.retransmissions,
                    line.memory_kib,
                    line.left_each
                );
                if let Some((p50, p99)) = line.setup {
                    let _ = write!(out, "  set-up {p50}/{p99} us (median/99 %)");
                }
                out.push('\n');
            }
            for ratio in ratios(&lines) {
                let _ = writeln!(out, "  {ratio}");
            }
        }
        out
    }

    /// The content of RESULTS.md.
    pub fn markdown(&self) -> String {
        let mut out = String::from(HEAD);
        let _ = writeln!(out, "\n{}\n", machine());
        for (kind, lines) in self.lines() {
            let _ = writeln!(out, "## {}\n", kind.title());
            out.push_str("| contender | CPU each, µs | lowest–highest | per second | done | failed | sent again | memory, MiB | left by each, B | set-up 50 % / 99 %, µs |\n");
            out.push_str("|---|---|---|---|---|---|---|---|---|---|\n");
            for line in &lines {
                let setup = line
                    .setup
                    .map_or_else(|| "–".to_owned(), |(p50, p99)| format!("{p50} / {p99}"));
                let _ = writeln!(
                    out,
                    "| {} | {:.1} | {:.1}–{:.1} | {:.0} | {} | {} | {} | {:.1} | {} | {setup} |",
                    line.name.as_str(),
                    line.cpu_us,
                    line.spread.0,
                    line.spread.1,
                    line.rate,
                    line.completed,
                    line.failed,
                    line.retransmissions,
                    line.memory_kib as f64 / 1024.0,
                    line.left_each
                );
            }
            out.push('\n');
            for ratio in ratios(&lines) {
                let _ = writeln!(out, "{ratio}.");
            }
            out.push('\n');
        }
        out
    }

    /// Fails when SPS or the forwarder failed a call: figures with failures mean nothing.
    pub fn verdict(&self) -> Result<(), String> {
        let ours = self.all.iter().filter(|measured| measured.name != Name::Kamailio);
        let failed: Vec<_> = ours
            .filter(|measured| measured.failed > 0 || measured.completed == 0)
            .collect();
        match failed.first() {
            None => Ok(()),
            Some(first) => Err(format!("{} loads had failures, the first: {first}", failed.len())),
        }
    }

    fn lines(&self) -> BTreeMap<Kind, Vec<Line>> {
        let mut groups: BTreeMap<(Kind, Name), Vec<&Measured>> = BTreeMap::new();
        for measured in &self.all {
            groups.entry((measured.kind, measured.name)).or_default().push(measured);
        }
        let mut lines: BTreeMap<Kind, Vec<Line>> = BTreeMap::new();
        for ((kind, name), group) in groups {
            let of = |what: &dyn Fn(&Measured) -> f64| median(&group.iter().map(|one| what(one)).collect::<Vec<_>>());
            let cpu: Vec<f64> = group.iter().map(|one| one.cpu_us_each()).collect();
            let middle = |what: &dyn Fn(&Measured) -> Option<u32>| -> Option<u32> {
                let values: Option<Vec<f64>> = group.iter().map(|one| what(one).map(f64::from)).collect();
                values.map(|values| median(&values) as u32)
            };
            lines.entry(kind).or_default().push(Line {
                name,
                cpu_us: median(&cpu),
                rate: of(&|one| one.rate),
                completed: group.iter().map(|one| one.completed).sum(),
                failed: group.iter().map(|one| one.failed).sum(),
                retransmissions: group.iter().map(|one| one.retransmissions).sum(),
                memory_kib: of(&|one| one.memory_kib as f64) as u64,
                left_each: of(&|one| one.left_each as f64) as u64,
                setup: middle(&|one| one.setup_p50_us).zip(middle(&|one| one.setup_p99_us)),
                spread: (
                    cpu.iter().copied().fold(f64::MAX, f64::min),
                    cpu.iter().copied().fold(0.0, f64::max),
                ),
            });
        }
        lines
    }
}

fn ratios(lines: &[Line]) -> Vec<String> {
    let Some(sps) = lines.iter().find(|line| line.name == Name::Sps) else {
        return Vec::new();
    };
    let others = lines.iter().filter(|line| line.name != Name::Sps);
    others
        .map(|other| {
            let ratio = sps.cpu_us / other.cpu_us.max(1e-9);
            format!("SPS takes {ratio:.2} × the CPU of {}", other.name.as_str())
        })
        .collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        len if len % 2 == 1 => sorted[len / 2],
        len => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
    }
}

/// What the figures were taken on: ratios travel, absolute values do not.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or_default();
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let count = info.lines().filter(|line| line.starts_with("processor")).count();
    // The first two numbers: what comes after them is the distribution's.
    let release = read("/proc/sys/kernel/osrelease");
    let kernel = release.split('.').take(2).collect::<Vec<_>>().join(".");
    let kamailio = sps_tests::process::find("kamailio").map(|program| {
        let said = sps_tests::process::run_within(sps_tests::PATIENCE, program, &["-v"]).stdout;
        said.lines().next().unwrap_or_default().to_owned()
    });
    format!(
        "Taken on: {model}, {count} processors, Linux {}; {}; SPS {}.",
        kernel.trim(),
        kamailio.unwrap_or_else(|| "no kamailio".into()),
        env!("CARGO_PKG_VERSION")
    )
}

const HEAD: &str = "# Benchmark results

Written by `make bench` (`BENCH_SECONDS=n` sets the length of each load; 5 by default). Do not edit.

A generator in one thread plays all callers and callees over UDP on loopback, with batched sockets, pinned to one processor;
the contender has another one to itself. Every load gets a fresh contender; contenders take turns over the rounds; the figures
are medians of the rounds. A call is INVITE-100-180-200-ACK-BYE-200, stateful and record-routed: 6 datagrams into the proxy, 7
out; the forwarder moves 6 in, 6 out and looks at nothing.

CPU is that of the contender's whole process tree, kernel time included, from the first packet until every transaction has
expired (34 s after the last answer), except for first registrations, where it ends with the last answer. Kamailio runs at its
best here: one worker, the TLSF allocator (Debian's default one costs it four times the CPU), no log, registrations in memory
only. SPS writes its access log and its registry file meanwhile.

Memory is what the process tree holds at the end of the load, shared pages counted once (PSS). What each call leaves is the
growth during the load by the number of calls: calls that are over, whose transactions absorb retransmissions for 32 s yet (5 s
in Kamailio).
";
