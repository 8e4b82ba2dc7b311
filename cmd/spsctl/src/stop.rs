//! `spsctl stop`: has the master stop everything, or ends what a killed master left behind. Stopped already is good too.

use std::time::{Duration, Instant};

use sps_cli::{Exit, Failure, Output};
use sps_conf::Paths;
use sps_ipc::operator::Request;

use crate::fail;
use crate::master::{self, Master};

/// Enough for every transaction but a call that rings.
pub const DEFAULT_TIMEOUT_S: u64 = 5;

/// An hour.
pub const MAX_TIMEOUT_S: u64 = 3_600;

/// Daemons are stopped one after the other, each with a second of grace.
const DAEMONS: u32 = 2;
const GRACE: Duration = Duration::from_secs(5);

pub fn run(paths: &Paths, out: Output, timeout_s: u64) -> Result<(), Failure> {
    let within = Duration::from_secs(timeout_s);
    let Some(mut master) = Master::connect(paths)? else {
        return end_orphans(paths, out, within);
    };
    let within_ms = timeout_s * 1_000;
    master::done(out, master.ask(out, &Request::Stop { within_ms })?)?;
    let stopping_at = Instant::now();
    let deadline = stopping_at + DAEMONS * within + GRACE;
    while !master.wait_for_end((Instant::now() + Duration::from_secs(1)).min(deadline)) {
        if Instant::now() >= deadline {
            return fail(Exit::TempFail, "sps has not stopped yet")
                .map_err(|failure: Failure| failure.cure("look at it with spsctl status and in the error log"));
        }
        master::progress(out, stopping_at, "stopping");
    }
    Ok(())
}

/// No master: there may be daemons that outlived theirs.
fn end_orphans(paths: &Paths, out: Output, within: Duration) -> Result<(), Failure> {
    let orphans = sps_daemon::find_orphans(&paths.run);
    if orphans.is_empty() {
        out.note(master::NOT_RUNNING);
        return Ok(());
    }
    for orphan in &orphans {
        out.note(&format!(
            "ending {} (process {}), whose sps-master was killed",
            orphan.name, orphan.pid
        ));
    }
    for killed in sps_daemon::end_orphans(&orphans, within) {
        out.note(&format!("{killed} did not stop and was killed"));
    }
    if sps_daemon::find_orphans(&paths.run).is_empty() {
        Ok(())
    } else {
        fail(Exit::NoPermission, "they could not be ended")
    }
}
