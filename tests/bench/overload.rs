//! What refusing costs, and what is left of a proxy under more load than it can carry: `sps-bench overload`, and part of
//! `make bench`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::contender::{Contender, Cpus, IP, PLENTY, cpus, on_contenders_cpu, pin};
use crate::quota::Quota;
use crate::{meter, option, option_or};
use sps_tests::load::port::Port;
use sps_tests::load::{calls, refusals, storm};

/// `sps-bench overload`: this part alone.
pub fn main(arguments: &[String]) -> Result<(), String> {
    let seconds = option_or(arguments, "--seconds", 5.0)?;
    let only = option(arguments, "--only");
    let loads = match option(arguments, "--loads") {
        Some(list) => list.split(',').map(load).collect::<Result<Vec<_>, _>>()?,
        None => LOADS.to_vec(),
    };
    let cpus = cpus()?;
    pin(cpus.generator);
    let overload = measure(cpus, seconds, only, &loads)?;
    print!("{}", overload.text());
    Ok(())
}

/// Times what the proxy can carry, and whether the callers honour `oc`.
pub const LOADS: &[(f64, bool)] = &[(1.0, false), (2.0, false), (4.0, false), (2.0, true), (4.0, true)];

/// `2` or `2oc`.
fn load(text: &str) -> Result<(f64, bool), String> {
    let number = text.strip_suffix("oc").unwrap_or(text);
    let load = number.parse().map_err(|_| format!("--loads {text}: not understood"))?;
    Ok((load, number.len() < text.len()))
}

/// Everything measured here.
#[derive(Debug, Default)]
pub struct Overload {
    refusals: Vec<Refusal>,
    means: &'static str,
    /// Calls a second under the quota in a closed loop: what it can carry.
    capacity: f64,
    storms: Vec<Storm>,
}

#[derive(Debug)]
struct Refusal {
    what: &'static str,
    count: u64,
    repeated: u64,
    cpu_us: f64,
}

#[derive(Debug)]
struct Storm {
    load: f64,
    honours_oc: bool,
    outcome: storm::Outcome,
    /// Share of a processor that the proxy used.
    cpu: f64,
}

/// Measures SPS: `only` is `refuse` or `overload`, or nothing for both.
pub fn measure(cpus: Cpus, seconds: f64, only: Option<&str>, loads: &[(f64, bool)]) -> Result<Overload, String> {
    let mut overload = Overload::default();
    if only.is_none_or(|only| only == "refuse") {
        overload.refusals = refuse(cpus, seconds)?;
    }
    if only.is_none_or(|only| only == "overload") {
        overload.storms(cpus, seconds, loads)?;
    }
    Ok(overload)
}

/// CPU of an INVITE that is refused, its ACK included, until nothing of it is left.
fn refuse(cpus: Cpus, seconds: f64) -> Result<Vec<Refusal>, String> {
    let mut waiting = Vec::new();
    for (what, sections, status, user) in [
        (
            "503, more transactions than allowed",
            "[proxy]\nmax_transactions = 1",
            503,
            "+15550100",
        ),
        (
            "403, [[access]] denies the source",
            "[[access]]\nsource = \"127.0.0.0/8\"\naction = \"deny\"",
            403,
            "+15550100",
        ),
        (
            "404, nobody of that name",
            "[proxy]\nmax_transactions = 4000000",
            404,
            "nobody",
        ),
    ] {
        let mut port = Port::bind(SocketAddr::new(IP, 0)).map_err(|error| error.to_string())?;
        let mut silent = Port::bind(SocketAddr::new(IP, 0)).map_err(|error| error.to_string())?;
        let contender = on_contenders_cpu(cpus, || Contender::sps_with(sections, silent.addr()))?;
        let target = contender.target.replace("+15550100", user);
        let mut plan = refusals::Plan {
            proxy: contender.addr,
            target,
            window: WINDOW,
            duration: Duration::from_secs_f64(seconds),
        };
        if status == 503 {
            // One call that rings for ever takes the only place.
            plan.window = 1;
            plan.duration = Duration::ZERO;
            refusals::begin_one(&plan, &mut port);
            silent.receive(|_, _| {});
            plan.window = WINDOW;
            plan.duration = Duration::from_secs_f64(seconds);
        }
        let before = meter::cpu_ns(contender.root);
        let outcome = refusals::play(&plan, &mut port);
        println!(
            "{what}: {:?} in {:.1} s",
            outcome.refused,
            outcome.elapsed.as_secs_f64()
        );
        if outcome.refused.keys().any(|got| *got != status) || outcome.count() == 0 {
            return Err(format!("{what}: answered {:?}", outcome.refused));
        }
        waiting.push((what, contender, before, outcome, silent));
    }
    let until = Instant::now() + SETTLE;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
    let done = waiting
        .into_iter()
        .map(|(what, contender, before, outcome, _silent)| Refusal {
            what,
            count: outcome.count(),
            repeated: outcome.repeated,
            cpu_us: (meter::cpu_ns(contender.root) - before) as f64 / 1e3 / outcome.count() as f64,
        });
    Ok(done.collect())
}

impl Overload {
    fn storms(&mut self, cpus: Cpus, seconds: f64, loads: &[(f64, bool)]) -> Result<(), String> {
        self.capacity = self.capacity_under_quota(cpus, seconds)?;
        println!("capacity: {:.0} calls/s ({})", self.capacity, self.means);
        for &(load, honours_oc) in loads {
            let mut ends = storm::Ends::bind(IP).map_err(|error| error.to_string())?;
            let callee = ends.callees.addr();
            let contender = on_contenders_cpu(cpus, || Contender::sps_with(PLENTY, callee))?;
            let proxy = contender.proxy_pid()?;
            let _quota = Quota::new(proxy, SHARE);
            let plan = storm::Plan {
                proxy: contender.addr,
                target: contender.target.clone(),
                rate: self.capacity * load,
                warm_up: WARM_UP,
                duration: Duration::from_secs_f64(seconds),
                patience: PATIENCE,
                hold: HOLD,
                honours_oc,
                phones: (contender.domain.clone(), PHONES, PHONE_RATE),
            };
            let (before, began_at) = (meter::cpu_ns(proxy), Instant::now());
            let outcome = storm::play(&plan, &mut ends);
            let cpu = (meter::cpu_ns(proxy) - before) as f64 / began_at.elapsed().as_nanos() as f64;
            let storm = Storm {
                load,
                honours_oc,
                outcome,
                cpu,
            };
            println!("{}", storm.line(self.capacity));
            if std::env::var_os("SPS_BENCH_COUNTERS").is_some() {
                println!("{}", contender.status());
            }
            self.storms.push(storm);
        }
        Ok(())
    }

    /// A closed loop that is wide enough to bridge the time the proxy stands still.
    fn capacity_under_quota(&mut self, cpus: Cpus, seconds: f64) -> Result<f64, String> {
        let mut ends = calls::Ends::bind(IP).map_err(|error| error.to_string())?;
        let callee = ends.callee.addr();
        // The loop itself limits the load: nothing is to be refused.
        let sections = format!("{PLENTY}\n[overload]\nenabled = false");
        let contender = on_contenders_cpu(cpus, || Contender::sps_with(&sections, callee))?;
        let quota = Quota::new(contender.proxy_pid()?, SHARE);
        self.means = quota.means();
        let duration = Duration::from_secs_f64(seconds);
        let plan = calls::Plan::window(contender.addr, &contender.target, CLOSED_WINDOW, duration);
        let outcome = calls::play(&plan, &mut ends);
        match outcome.first_failure {
            Some(failure) => Err(format!("capacity under a quota: {failure}")),
            None => Ok(outcome.rate()),
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        if !self.refusals.is_empty() {
            let _ = writeln!(out, "\nan INVITE refused, its ACK included");
        }
        for refusal in &self.refusals {
            let _ = writeln!(
                out,
                "  {:<40} {:>6.2} us CPU each, {} done, {} again",
                refusal.what, refusal.cpu_us, refusal.count, refusal.repeated
            );
        }
        if self.capacity > 0.0 {
            let _ = writeln!(
                out,
                "\noverload, the proxy held to {SHARE} of a processor by {}; it can carry {:.0} calls/s",
                self.means, self.capacity
            );
        }
        for storm in &self.storms {
            let _ = writeln!(out, "  {}", storm.line(self.capacity));
        }
        out
    }

    /// For RESULTS.md.
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        if !self.refusals.is_empty() {
            out.push_str("## INVITE refused, its ACK included\n\n| refused by | CPU each, µs | done | sent again |\n|---|---|---|---|\n");
            for refusal in &self.refusals {
                let _ = writeln!(
                    out,
                    "| {} | {:.2} | {} | {} |",
                    refusal.what, refusal.cpu_us, refusal.count, refusal.repeated
                );
            }
            out.push('\n');
        }
        if self.storms.is_empty() {
            return out;
        }
        let _ = writeln!(
            out,
            "## more load than it can carry\n\nThe proxy is held to {SHARE} of a processor ({}), and carries {:.0} calls a second \
             so, in a closed loop of {CLOSED_WINDOW}.\nThen callers begin calls at a rate of their own: they repeat an INVITE \
             after 0.5, 1.5, 3.5 s, acknowledge refusals, give up\nafter {} s, and hang up {} s after the answer. {PHONES} \
             registered phones place {PHONE_RATE} calls a second besides. Goodput is calls answered in time.\n",
            self.means,
            self.capacity,
            PATIENCE.as_secs(),
            HOLD.as_secs()
        );
        out.push_str("| load | callers | goodput | of capacity | refused | held back | gave up | INVITEs again | BYEs answered | phones' calls answered | set-up 50 % / 99 %, ms | CPU |\n");
        out.push_str("|---|---|---|---|---|---|---|---|---|---|---|---|\n");
        for storm in &self.storms {
            let o = &storm.outcome;
            let (p50, p99) = storm.setup_ms();
            let _ = writeln!(
                out,
                "| {}× | {} | {:.0}/s | {:.0} % | {} | {} | {} | {} | {:.2} % | {:.1} % | {p50:.0} / {p99:.0} | {:.2} |",
                storm.load,
                storm.callers(),
                o.goodput(),
                100.0 * o.goodput() / self.capacity,
                o.refused,
                o.held_back,
                o.given_up,
                o.repeated,
                percent(o.byes_answered, o.byes),
                percent(o.phone_calls_answered, o.phone_calls),
                storm.cpu
            );
        }
        out.push('\n');
        out
    }
}

impl Storm {
    fn callers(&self) -> &'static str {
        if self.honours_oc { "honour oc" } else { "plain" }
    }

    fn setup_ms(&self) -> (f64, f64) {
        let setup = &self.outcome.setup_us;
        let at = |share: f64| {
            let index = (setup.len().saturating_sub(1)) as f64 * share;
            setup.get(index as usize).map_or(0.0, |us| f64::from(*us) / 1e3)
        };
        (at(0.5), at(0.99))
    }

    fn line(&self, capacity: f64) -> String {
        let o = &self.outcome;
        let (p50, p99) = self.setup_ms();
        format!(
            "{}x {:<9} goodput {:>5.0}/s = {:>3.0} %, of {} wanted: refused {} held back {} gave up {}; again {}; \
             BYE {:.2} %, phones {:.1} %, set-up {p50:.0}/{p99:.0} ms, CPU {:.2}, Retry-After {}{}",
            self.load,
            self.callers(),
            o.goodput(),
            100.0 * o.goodput() / capacity,
            o.wanted,
            o.refused,
            o.held_back,
            o.given_up,
            o.repeated,
            percent(o.byes_answered, o.byes),
            percent(o.phone_calls_answered, o.phone_calls),
            self.cpu,
            o.retry_after,
            o.first_refusal
                .as_ref()
                .map_or_else(String::new, |line| format!(" ({line})"))
        )
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

/// Of one processor, for the proxy.
const SHARE: f64 = 0.25;
/// Refusals on the way at a time.
const WINDOW: usize = 64;
/// Calls at a time in the closed loop under a quota: what comes while the proxy stands still, and more.
const CLOSED_WINDOW: usize = 1_024;
const WARM_UP: Duration = Duration::from_secs(3);
/// How long a caller waits for an answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long a call lasts.
const HOLD: Duration = Duration::from_secs(1);
const PHONES: u32 = 20;
const PHONE_RATE: f64 = 50.0;
/// As for the other loads.
const SETTLE: Duration = Duration::from_secs(34);
