//! `spsctl status`: each daemon, what SPS listens on, its limits and counters. 0 when SPS runs, 69 when it does not or a daemon has
//! been given up.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use sps_cli::{Exit, Failure, Output, Table};
use sps_conf::Paths;
use sps_daemon::{Orphan, find_orphans};
use sps_ipc::operator::{self, Reply, Request, State};
use sps_mapped::{BlockSnapshot, CountersReader};

use crate::fail;
use crate::master::{self, Master};
use crate::tls;

/// What `--json` prints; the names are those of spsctl(1) and stay.
#[derive(Debug, Serialize)]
struct Shown {
    running: bool,
    /// True once every daemon has been ready.
    ready: bool,
    release: Option<String>,
    generation: Option<u32>,
    configuration: Option<u64>,
    /// Milliseconds since 1970.
    configured_at_ms: Option<u64>,
    /// As `[proxy] mode` says it; null when nobody is there to say, or a master of another release.
    mode: Option<String>,
    daemons: Vec<ShownDaemon>,
    listen: Vec<ShownListen>,
    open_files_limit: Option<u64>,
    clock_jumps: Option<u64>,
    disks: Vec<ShownDisk>,
    /// Null where TLS is not spoken.
    tls: Option<tls::Shown>,
    /// What was refused or dropped, by reason, all workers together.
    refused: BTreeMap<&'static str, u64>,
    /// By block (a daemon, a worker), then by name.
    counters: BTreeMap<String, BTreeMap<String, u64>>,
}

#[derive(Debug, Serialize)]
struct ShownDaemon {
    name: String,
    pid: Option<u32>,
    state: &'static str,
    uptime_s: u64,
    restarts: u64,
    memory_bytes: u64,
    cpu_ms: u64,
    /// How the last process of it ended; null while the first one lives.
    last_end: Option<String>,
}

#[derive(Debug, Serialize)]
struct ShownListen {
    transport: &'static str,
    address: String,
    sockets: u16,
    receive_buffer_bytes: u32,
    send_buffer_bytes: u32,
}

#[derive(Debug, Serialize)]
struct ShownDisk {
    folder: PathBuf,
    free_bytes: u64,
}

pub fn run(paths: &Paths, out: Output) -> Result<(), Failure> {
    let Some(mut master) = Master::connect(paths)? else {
        return without_master(paths, out);
    };
    let status = match master.ask(out, &Request::Status)? {
        Reply::Status(status) => status,
        other => {
            master::done(out, other)?;
            return fail(Exit::Protocol, "sps-master answers what was not asked");
        }
    };
    let failed: Vec<_> = status
        .daemons
        .iter()
        .filter(|daemon| daemon.state == State::Failed)
        .collect();
    let failed = failed
        .iter()
        .map(|daemon| daemon.name.clone())
        .collect::<Vec<_>>()
        .join(", ");
    // A master of an earlier release does not know the question; everything else is shown all the same.
    let mode = match Master::connect(paths)?.map(|mut master| master.ask(out, &Request::Mode)) {
        Some(Ok(Reply::Mode(mode))) => Some(mode),
        Some(_) | None => None,
    };
    show(out, &shown(paths, status, mode))?;
    if failed.is_empty() {
        return Ok(());
    }
    fail(
        Exit::Unavailable,
        format!("given up, because it died too often in a row: {failed}"),
    )
    .map_err(|failure: Failure| failure.cure("the error log says why; spsctl reload tries again"))
}

/// Daemons may have outlived their master.
fn without_master(paths: &Paths, out: Output) -> Result<(), Failure> {
    let orphans = find_orphans(&paths.run);
    let daemon = |orphan: &Orphan| ShownDaemon {
        name: orphan.name.clone(),
        pid: Some(orphan.pid),
        state: "orphaned",
        uptime_s: 0,
        restarts: 0,
        memory_bytes: 0,
        cpu_ms: 0,
        last_end: None,
    };
    let shown = Shown {
        running: false,
        ready: false,
        release: None,
        generation: None,
        configuration: None,
        configured_at_ms: None,
        mode: None,
        daemons: orphans.iter().map(daemon).collect(),
        listen: Vec::new(),
        open_files_limit: None,
        clock_jumps: None,
        disks: disks(paths),
        tls: None,
        refused: BTreeMap::new(),
        counters: BTreeMap::new(),
    };
    if out.is_json() || !orphans.is_empty() {
        show(out, &shown)?;
    }
    if orphans.is_empty() {
        return fail(Exit::Unavailable, master::NOT_RUNNING);
    }
    fail(
        Exit::Unavailable,
        "sps-master does not run; these daemons outlived it and go on serving",
    )
    .map_err(|failure: Failure| failure.cure("spsctl start ends them and starts all anew; spsctl stop ends them"))
}

/// Counters of what was refused or dropped, with the reason that the table and `--json` name. sps-proxy(8) explains them.
const REFUSALS: &[(&str, &str)] = &[
    ("refused_banned", "banned"),
    ("refused_excess", "over_budget"),
    ("refused_unanswered", "unanswered"),
    ("garbage", "malformed"),
    ("refused", "checks"),
    ("refused_forbidden", "forbidden"),
    ("refused_not_found", "not_found"),
    ("refused_unmatched", "cancel_unmatched"),
    ("stray_responses", "stray_responses"),
    ("stray_acks", "stray_acks"),
    ("overload", "overload"),
    ("refused_unknown_full", "full_for_unknown"),
    ("refused_known_full", "full_for_known"),
    ("refused_dialog_full", "full_for_dialogs"),
    ("refused_branches_full", "full_of_branches"),
    ("refused_names", "names"),
    ("dns_refused", "lookups"),
    ("registrar_busy", "registrar_busy"),
    ("mail_lost", "mail_between_workers"),
    ("send_refused", "datagram_queue"),
    ("kernel_drops", "kernel_drops"),
    ("refused_streams_banned", "connections_banned"),
    ("refused_streams_full", "connections_full"),
    ("refused_streams_source", "connections_of_one_source"),
    ("evicted_streams", "connections_replaced"),
    ("stream_buffers_full", "connection_buffers"),
    ("stream_queues_full", "connection_queues"),
    ("accept_errors", "accept_errors"),
];

fn refused(counters: &BTreeMap<String, BTreeMap<String, u64>>) -> BTreeMap<&'static str, u64> {
    let sum = |counter: &str| counters.values().filter_map(|block| block.get(counter)).sum();
    REFUSALS
        .iter()
        .map(|(counter, reason)| (*reason, sum(counter)))
        .collect()
}

fn shown(paths: &Paths, status: operator::Status, mode: Option<String>) -> Shown {
    // No page yet: nobody has counted anything.
    let counters = CountersReader::open(&Paths::counters(&paths.generation(status.generation)))
        .map(|reader| by_name(reader.snapshot()))
        .unwrap_or_default();
    Shown {
        running: true,
        ready: status.ready,
        release: Some(status.release),
        generation: Some(status.generation),
        configuration: Some(status.configuration),
        configured_at_ms: Some(status.configured_at_ms),
        mode,
        daemons: status.daemons.into_iter().map(daemon).collect(),
        listen: status.listening.into_iter().map(listen).collect(),
        open_files_limit: Some(status.open_files_limit),
        clock_jumps: Some(status.clock_jumps),
        disks: disks(paths),
        tls: tls::state(paths),
        refused: refused(&counters),
        counters,
    }
}

fn daemon(daemon: operator::Daemon) -> ShownDaemon {
    ShownDaemon {
        name: daemon.name,
        pid: daemon.pid,
        state: daemon.state.as_str(),
        uptime_s: daemon.uptime_ms / 1_000,
        restarts: daemon.restarts,
        memory_bytes: daemon.memory_len,
        cpu_ms: daemon.cpu_ms,
        last_end: Some(daemon.last_end).filter(|end| !end.is_empty()),
    }
}

fn listen(listening: operator::Listening) -> ShownListen {
    ShownListen {
        transport: listening.transport.as_str(),
        address: listening.address.to_string(),
        sockets: listening.sockets,
        receive_buffer_bytes: listening.receive_buffer_len,
        send_buffer_bytes: listening.send_buffer_len,
    }
}

fn by_name(blocks: Vec<BlockSnapshot>) -> BTreeMap<String, BTreeMap<String, u64>> {
    blocks
        .into_iter()
        .map(|block| (block.label, block.values.into_iter().collect()))
        .collect()
}

/// Room where data and logs are written.
fn disks(paths: &Paths) -> Vec<ShownDisk> {
    let free = |folder: &PathBuf| {
        let stat = rustix::fs::statvfs(folder).ok()?;
        Some(ShownDisk {
            folder: folder.clone(),
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    };
    [&paths.data, &paths.log].into_iter().filter_map(free).collect()
}

/// For people: the daemons, where they listen, and the counters that are not zero, summed over the workers.
fn show(out: Output, shown: &Shown) -> Result<(), Failure> {
    if out.is_json() {
        return out.json(shown);
    }
    let mut table = Table::new(["name", "state", "pid", "uptime", "restarts", "memory", "last end"]).right([2, 4, 5]);
    for daemon in &shown.daemons {
        // Nobody counts for a daemon whose master is gone.
        let known = |figure: String| if shown.running { figure } else { String::new() };
        table.row([
            daemon.name.clone(),
            daemon.state.into(),
            daemon.pid.map_or(String::new(), |pid| pid.to_string()),
            known(duration(daemon.uptime_s)),
            known(daemon.restarts.to_string()),
            known(bytes(daemon.memory_bytes)),
            daemon.last_end.clone().unwrap_or_default(),
        ]);
    }
    let mut text = table.to_string();
    if let Some(mode) = &shown.mode {
        let mut table = Table::new(["server mode"]);
        table.row([mode.clone()]);
        text.push('\n');
        text.push_str(&table.to_string());
    }
    if !shown.listen.is_empty() {
        let mut table = Table::new(["listen", "address", "sockets", "receive buffer", "send buffer"]).right([2, 3, 4]);
        for listen in &shown.listen {
            table.row([
                listen.transport.into(),
                listen.address.clone(),
                listen.sockets.to_string(),
                bytes(listen.receive_buffer_bytes.into()),
                bytes(listen.send_buffer_bytes.into()),
            ]);
        }
        text.push('\n');
        text.push_str(&table.to_string());
    }
    for certificates in shown.tls.iter().map(|tls| &tls.certificates) {
        let mut table = Table::new(["certificate", "names", "expires in"]).right([2]);
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        for certificate in certificates {
            let left = match certificate.days_left(now.as_secs().cast_signed()) {
                0.. => format!("{} days", certificate.days_left(now.as_secs().cast_signed())),
                _ => "EXPIRED".into(),
            };
            table.row([certificate.file.clone(), certificate.names.join(" "), left]);
        }
        text.push('\n');
        text.push_str(&table.to_string());
    }
    let limits = limits(shown);
    if !limits.is_empty() {
        let mut table = Table::new(["limit", "value"]).right([1]);
        limits.into_iter().for_each(|row| table.row(row));
        text.push('\n');
        text.push_str(&table.to_string());
    }
    if shown.refused.values().any(|count| *count > 0) {
        let mut table = Table::new(["refused", "count"]).right([1]);
        for (reason, count) in shown.refused.iter().filter(|(_, count)| **count > 0) {
            table.row([(*reason).to_owned(), count.to_string()]);
        }
        text.push('\n');
        text.push_str(&table.to_string());
    }
    let mut counters = sums(&shown.counters);
    for (name, value) in shown
        .tls
        .iter()
        .flat_map(|tls| &tls.figures)
        .filter(|(_, value)| **value != 0)
    {
        counters.insert(format!("tls {name}"), *value);
    }
    if !counters.is_empty() {
        let mut table = Table::new(["counter", "value"]).right([1]);
        for (name, value) in counters {
            table.row([name, value.to_string()]);
        }
        text.push('\n');
        text.push_str(&table.to_string());
    }
    out.text(&text)
}

/// What there is left, and what the clock did when it did something.
fn limits(shown: &Shown) -> Vec<[String; 2]> {
    let mut rows = Vec::new();
    if !shown.running {
        return rows;
    }
    for disk in &shown.disks {
        rows.push([format!("free in {}", disk.folder.display()), bytes(disk.free_bytes)]);
    }
    if let Some(limit) = shown.open_files_limit {
        rows.push(["open files".into(), limit.to_string()]);
    }
    if let Some(jumps) = shown.clock_jumps.filter(|jumps| *jumps > 0) {
        rows.push(["clock jumps".into(), jumps.to_string()]);
    }
    rows
}

/// Counters of the blocks of one daemon (`proxy/0`, `proxy/1`) added up, of shares the highest; zeros left out.
fn sums(counters: &BTreeMap<String, BTreeMap<String, u64>>) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (block, values) in counters {
        let daemon = block.split('/').next().unwrap_or(block);
        for (name, value) in values.iter().filter(|(_, value)| **value != 0) {
            let sum = sums.entry(format!("{daemon} {name}")).or_insert(0);
            *sum = if name.ends_with("_percent") {
                (*sum).max(*value)
            } else {
                *sum + value
            };
        }
    }
    sums
}

/// `3d 04:05:06`, `00:00:07`
fn duration(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let clock = format!("{:02}:{:02}:{:02}", rest / 3_600, rest / 60 % 60, rest % 60);
    if days > 0 { format!("{days}d {clock}") } else { clock }
}

/// `5.2 MiB`
fn bytes(len: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if len < 1024 {
        return format!("{len} B");
    }
    let mut tenths = len * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_for_people() {
        assert_eq!([duration(7), duration(86_400 * 3 + 3_661)], ["00:00:07", "3d 01:01:01"]);
        assert_eq!(
            [
                bytes(0),
                bytes(1_023),
                bytes(1_536),
                bytes(5_452_595),
                bytes(u64::from(u32::MAX))
            ],
            ["0 B", "1023 B", "1.5 KiB", "5.1 MiB", "3.9 GiB"]
        );
    }

    #[test]
    fn counters_of_the_workers_are_added_up_and_zeros_left_out() {
        let block = |label: &str, value| BlockSnapshot {
            label: label.into(),
            values: vec![("received".into(), value), ("dropped".into(), 0)],
        };
        let sums = sums(&by_name(vec![
            block("proxy/0", 3),
            block("proxy/1", 4),
            block("registrar", 5),
        ]));
        assert_eq!(
            sums.into_iter().collect::<Vec<_>>(),
            [("proxy received".into(), 7), ("registrar received".into(), 5)]
        );
    }
}
