//! The order of things: a fresh contender for each load, contenders interleaved over rounds, CPU read once everything a load
//! left behind has expired.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::contender::{Contender, Cpus, IP, Name, cpus, on_contenders_cpu, pin};
use crate::report::{Kind, Measured, Memory, Report};
use crate::{meter, option, option_or, overload};
use sps_tests::load::calls::{self, Ends, Pace};
use sps_tests::load::port::Port;
use sps_tests::load::registers;

/// `sps-bench run`.
pub fn main(arguments: &[String]) -> Result<(), String> {
    let settings = Settings {
        seconds: option_or(arguments, "--seconds", 5.0)?,
        rounds: option_or(arguments, "--rounds", 3)?,
        stored: option_or(arguments, "--stored", 0)?,
        apart: arguments.iter().any(|argument| argument == "--apart"),
        only: option(arguments, "--only").map(|list| list.split(',').map(str::to_owned).collect()),
    };
    let cpus = cpus()?;
    pin(cpus.generator);
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut bench = Bench {
        settings,
        cpus,
        folder,
        waiting: Vec::new(),
        report: Report::default(),
    };
    bench.everything()?;
    let ours = bench
        .settings
        .only
        .as_ref()
        .is_none_or(|only| only.iter().any(|name| name == "sps"));
    let overload = match ours {
        true => overload::measure(cpus, bench.settings.seconds, None, overload::LOADS)?,
        false => overload::Overload::default(),
    };
    print!("{}{}", bench.report.text(), overload.text());
    if let Some(path) = option(arguments, "--results") {
        std::fs::write(path, bench.report.markdown() + &overload.markdown())
            .map_err(|error| format!("{path}: {error}"))?;
        println!("written to {path}");
    }
    bench.report.verdict()
}

/// Runs one part of this program where the harness finds the programs that `--bin-dir` names.
pub fn with_programs(
    part: &str,
    arguments: &[String],
    run: impl FnOnce(&[String]) -> Result<(), String>,
) -> Result<(), String> {
    match option(arguments, "--bin-dir") {
        Some(folder) if std::env::var_os("SPS_BIN_DIR").is_none() => reexecute(part, &PathBuf::from(folder), arguments),
        _ => run(arguments),
    }
}

/// Starts this program again with `SPS_BIN_DIR` set: the environment of a process that runs already is not to be touched.
fn reexecute(part: &str, folder: &std::path::Path, arguments: &[String]) -> Result<(), String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let status = std::process::Command::new(own)
        .arg(part)
        .args(arguments)
        .env("SPS_BIN_DIR", folder)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => Err(error.to_string()),
    }
}

struct Settings {
    seconds: f64,
    rounds: u32,
    apart: bool,
    stored: u32,
    only: Option<Vec<String>>,
}

struct Bench {
    settings: Settings,
    cpus: Cpus,
    folder: tempfile::TempDir,
    waiting: Vec<Pending>,
    report: Report,
}

/// A load that is over, of a contender that still has transactions.
struct Pending {
    contender: Contender,
    cpu_before: u64,
    ended_at: Instant,
    measured: Measured,
}

impl Bench {
    fn everything(&mut self) -> Result<(), String> {
        let mut names = [Name::Forwarder, Name::Kamailio, Name::Sps].to_vec();
        if let Some(only) = &self.settings.only {
            if let Some(unknown) = only
                .iter()
                .find(|wanted| names.iter().all(|name| name.as_str() != *wanted))
            {
                return Err(format!(
                    "--only {unknown}: the contenders are forwarder, kamailio and sps"
                ));
            }
            names.retain(|name| only.iter().any(|wanted| wanted == name.as_str()));
        }
        if sps_tests::process::find("kamailio").is_none() {
            println!("kamailio is not installed: no comparison");
            names.retain(|name| *name != Name::Kamailio);
        }
        for round in 0..self.settings.rounds {
            // Nobody always comes first.
            names.rotate_left(usize::from(round > 0));
            for &name in &names {
                self.calls(name, Pace::Window(WINDOW), Kind::Calls)?;
                if name != Name::Forwarder {
                    self.registers(name)?;
                }
            }
        }
        for &name in &names {
            let Some(rate) = self.report.closed_rate(name) else {
                continue;
            };
            self.calls(name, Pace::Rate(rate * 0.5), Kind::HalfLoad)?;
            self.calls(name, Pace::Rate(rate * 0.1), Kind::TenthLoad)?;
        }
        if self.settings.stored > 0 && names.contains(&Name::Sps) {
            self.calls(Name::Sps, Pace::Window(WINDOW), Kind::Stored)?;
        }
        self.settle();
        Ok(())
    }

    fn calls(&mut self, name: Name, pace: Pace, kind: Kind) -> Result<(), String> {
        let mut ends = Ends::bind(IP).map_err(|error| error.to_string())?;
        let (caller, callee) = (ends.caller.addr(), ends.callee.addr());
        let folder = self.folder.path();
        let contender = on_contenders_cpu(self.cpus, || Contender::proxy(name, caller, callee, folder))?;
        if kind == Kind::Stored {
            self.fill(&contender)?;
        }
        let duration = Duration::from_secs_f64(self.settings.seconds);
        let plan = calls::Plan {
            pace,
            ..calls::Plan::window(contender.addr, &contender.target, WINDOW, duration)
        };
        let (cpu_before, before_kib) = (meter::cpu_ns(contender.root), meter::memory_kib(contender.root));
        let outcome = calls::play(&plan, &mut ends);
        let memory = Memory {
            before_kib,
            after_kib: meter::memory_kib(contender.root),
        };
        let measured = Measured::of_calls(name, kind, &outcome, memory);
        println!("{measured}");
        self.report.note_rate(&measured);
        self.leave(contender, cpu_before, measured);
        Ok(())
    }

    /// As many routes and as many bindings as `--stored` says: what a call costs must not depend on them.
    fn fill(&self, contender: &Contender) -> Result<(), String> {
        let stored = self.settings.stored;
        println!("storing {stored} routes and {stored} bindings");
        contender.import_routes(stored)?;
        let mut port = Port::bind(SocketAddr::new(IP, 0)).map_err(|error| error.to_string())?;
        let plan = registers::Plan {
            registrar: contender.addr,
            domain: contender.domain.clone(),
            users: stored,
            window: REGISTER_WINDOW,
            first_cseq: 1,
            duration: Duration::from_secs(600),
            limit: u64::from(stored),
            run: 1,
        };
        let outcome = registers::play(&plan, &mut port);
        match outcome.first_failure {
            Some(failure) => Err(format!("filling the registry: {failure}")),
            None => {
                // Their transactions are not part of what is measured next.
                let until = Instant::now() + SETTLE;
                while let Some(left) = until.checked_duration_since(Instant::now()) {
                    std::thread::park_timeout(left);
                }
                Ok(())
            }
        }
    }

    fn registers(&mut self, name: Name) -> Result<(), String> {
        let mut port = Port::bind(SocketAddr::new(IP, 0)).map_err(|error| error.to_string())?;
        let folder = self.folder.path();
        let contender = on_contenders_cpu(self.cpus, || Contender::registrar(name, folder))?;
        let mut plan = registers::Plan {
            registrar: contender.addr,
            domain: contender.domain.clone(),
            users: USERS,
            window: REGISTER_WINDOW,
            first_cseq: 1,
            duration: Duration::from_secs(60),
            limit: u64::from(USERS),
            run: u64::from(contender.root) << 16 | u64::from(contender.addr.port()),
        };
        let (cpu_before, before_kib) = (meter::cpu_ns(contender.root), meter::memory_kib(contender.root));
        let first = registers::play(&plan, &mut port);
        let cpu_between = meter::cpu_ns(contender.root);
        let between_kib = meter::memory_kib(contender.root);
        let memory = Memory {
            before_kib,
            after_kib: between_kib,
        };
        let mut measured = Measured::of_registers(name, Kind::FirstRegisters, &first, memory);
        measured.cpu_ns = cpu_between - cpu_before;
        println!("{measured}");
        self.report.add(measured);

        plan.first_cseq = 2;
        plan.duration = Duration::from_secs_f64(self.settings.seconds);
        plan.limit = MAX_REFRESHES;
        let refreshes = registers::play(&plan, &mut port);
        let memory = Memory {
            before_kib: between_kib,
            after_kib: meter::memory_kib(contender.root),
        };
        let measured = Measured::of_registers(name, Kind::Refreshes, &refreshes, memory);
        println!("{measured}");
        self.leave(contender, cpu_between, measured);
        Ok(())
    }

    fn leave(&mut self, contender: Contender, cpu_before: u64, measured: Measured) {
        self.waiting.push(Pending {
            contender,
            cpu_before,
            ended_at: Instant::now(),
            measured,
        });
        if self.settings.apart {
            self.settle();
        }
    }

    /// Waits until the transactions of all loads have expired, then reads what they cost in the end.
    fn settle(&mut self) {
        for mut pending in self.waiting.drain(..) {
            let settled_at = pending.ended_at + SETTLE;
            while let Some(left) = settled_at.checked_duration_since(Instant::now()) {
                std::thread::park_timeout(left);
            }
            pending.measured.cpu_ns = meter::cpu_ns(pending.contender.root) - pending.cpu_before;
            self.report.add(pending.measured);
        }
    }
}

/// `sps-bench load`: one load on something that runs already, without counting its CPU.
pub fn load(arguments: &[String]) -> Result<(), String> {
    let proxy: SocketAddr = option(arguments, "--proxy")
        .ok_or("--proxy is missing")?
        .parse()
        .map_err(|_| "--proxy: not an address")?;
    let duration = Duration::from_secs_f64(option_or(arguments, "--seconds", 5.0)?);
    let domain = option(arguments, "--domain").unwrap_or("sps.test").to_owned();
    match arguments.first().map(String::as_str) {
        Some("calls") => {
            let callee: SocketAddr = option_or(arguments, "--callee", SocketAddr::new(IP, 0))?;
            let mut ends = Ends {
                caller: Port::bind(SocketAddr::new(IP, 0)).map_err(|error| error.to_string())?,
                callee: Port::bind(callee).map_err(|error| error.to_string())?,
                callee_contact: None,
            };
            println!("callee at {}", ends.callee.addr());
            let pace = match option(arguments, "--rate") {
                Some(_) => Pace::Rate(option_or(arguments, "--rate", 100.0)?),
                None => Pace::Window(option_or(arguments, "--window", WINDOW)?),
            };
            let number = option(arguments, "--number").unwrap_or("+15550100");
            let target = format!("{number}@{domain}");
            let plan = calls::Plan {
                pace,
                ..calls::Plan::window(proxy, &target, WINDOW, duration)
            };
            let outcome = calls::play(&plan, &mut ends);
            println!(
                "{}",
                Measured::of_calls(Name::Sps, Kind::Calls, &outcome, Memory::default())
            );
            outcome.first_failure.map_or(Ok(()), Err)
        }
        Some("registers") => {
            let mut port = Port::bind(SocketAddr::new(IP, 0)).map_err(|error| error.to_string())?;
            let plan = registers::Plan {
                registrar: proxy,
                domain,
                users: USERS,
                window: option_or(arguments, "--window", REGISTER_WINDOW)?,
                first_cseq: 1,
                duration,
                limit: u64::MAX,
                run: u64::from(std::process::id()),
            };
            let outcome = registers::play(&plan, &mut port);
            println!(
                "{}",
                Measured::of_registers(Name::Sps, Kind::Refreshes, &outcome, Memory::default())
            );
            outcome.first_failure.map_or(Ok(()), Err)
        }
        _ => Err("load: calls or registers".into()),
    }
}

/// Calls at a time in the closed loop.
const WINDOW: usize = 64;
/// REGISTERs on the way at a time.
const REGISTER_WINDOW: u32 = 32;
/// Users that register.
const USERS: u32 = 10_000;
/// Bounds what a long run leaves in transaction tables.
const MAX_REFRESHES: u64 = 200_000;
/// Timers H, J, L and M end after 64 × T1 = 32 s; then nothing of a load is left.
const SETTLE: Duration = Duration::from_secs(34);
