//! `spsctl start`: finds sps-master, starts it, and waits until every daemon is ready.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use sps_cli::{Exit, Failure, OrFail, Output};
use sps_conf::Paths;
use sps_ipc::parent::START_TIMEOUT;
use sps_ipc::starter::{self, Report};

use crate::{fail, master};

/// How long all daemons together may take: they start one after the other, and what an earlier master left is ended before.
const TIMEOUT: Duration = Duration::from_secs(2 * START_TIMEOUT.as_secs() + 30);

/// When nothing was said for so long, it is said again what is being done.
const PROGRESS_WAIT: Duration = Duration::from_secs(1);

/// Becomes sps-master: it has our terminal, and the service manager's eye.
pub fn foreground(paths: &Paths) -> Result<(), Failure> {
    let mut command = command(paths)?;
    command.arg("--foreground");
    // Only comes back when it fails.
    Err(command.exec()).or_fail(Exit::Unavailable, "start sps-master")
}

/// Starts sps-master in the background.
pub fn background(paths: &Paths, out: Output) -> Result<(), Failure> {
    let mut command = command(paths)?;
    // What it has to say comes by the pipe; later it has its log.
    command
        .arg("--background")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut process = command.spawn().or_fail(Exit::Unavailable, "start sps-master")?;
    let reports = read_reports(&mut process)?;
    let begun_at = Instant::now();
    let mut doing = String::from("starting sps-master");
    loop {
        match reports.recv_timeout(PROGRESS_WAIT) {
            Ok(Report::Progress(text)) => {
                doing = text;
                master::progress(out, begun_at, &doing);
            }
            Ok(Report::Ready { listening, .. }) => {
                out.note(&starter::greeting(&listening, &paths.config));
                return Ok(());
            }
            Ok(Report::Failed { code, text }) => {
                let _ = process.wait();
                return Err(master::refused(code, &text));
            }
            Err(RecvTimeoutError::Timeout) if begun_at.elapsed() < TIMEOUT => master::progress(out, begun_at, &doing),
            Err(RecvTimeoutError::Timeout) => {
                return fail(
                    Exit::TempFail,
                    format!("sps is not ready after {} s, and goes on: {doing}", TIMEOUT.as_secs()),
                )
                .map_err(|failure: Failure| failure.cure("look at it with spsctl status and in the error log"));
            }
            Err(RecvTimeoutError::Disconnected) => {
                let how = process
                    .wait()
                    .map_or_else(|error| error.to_string(), |status| status.to_string());
                return fail(Exit::Software, format!("sps-master died while starting ({how})"))
                    .map_err(|failure: Failure| failure.cure("the error log may say more"));
            }
        }
    }
}

/// Reads the pipe in a thread of its own, so that waiting for it has an end.
fn read_reports(process: &mut Child) -> Result<Receiver<Report>, Failure> {
    let Some(mut pipe) = process.stdout.take() else {
        return fail(Exit::Software, "sps-master has no stdout");
    };
    let (say, reports) = channel();
    std::thread::Builder::new()
        .spawn(move || {
            while let Ok(Some(report)) = starter::read(&mut pipe) {
                if say.send(report).is_err() {
                    return;
                }
            }
        })
        .or_fail(Exit::Software, "wait for sps-master")?;
    Ok(reports)
}

fn command(paths: &Paths) -> Result<Command, Failure> {
    let mut command = Command::new(program()?);
    if let Some(root) = &paths.root {
        command.arg("--root").arg(root);
    } else {
        // An empty SPS_ROOT meant the system's folders; there it means the same.
        command.env_remove("SPS_ROOT");
    }
    Ok(command)
}

/// sps-master beside our own program, in the `sbin` beside our `bin`, or in PATH.
fn program() -> Result<PathBuf, Failure> {
    const NAME: &str = "sps-master";
    let us = std::env::current_exe().or_fail(Exit::Software, "find sps-master")?;
    let beside = us.parent().map(|folder| folder.join(NAME));
    let sbin = us
        .parent()
        .and_then(|folder| folder.parent())
        .map(|prefix| prefix.join("sbin").join(NAME));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join(NAME));
    beside
        .into_iter()
        .chain(sbin)
        .chain(in_path)
        .find(|program| program.is_file())
        .ok_or_else(|| {
            Failure::new(
                Exit::Unavailable,
                format!("there is no sps-master beside {} or in PATH", us.display()),
            )
        })
}
