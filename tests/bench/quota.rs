//! Less than a whole processor for one process: a control group with a CPU quota (version 2, else version 1), and where no
//! control group may be made, stopping and continuing the process by turns. All three look the same from inside: the process
//! stands still for most of each period and knows nothing of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::Signal;
use sps_tests::process::send_signal;

/// Holds a process to its share until dropped.
pub struct Quota {
    kind: Kind,
}

enum Kind {
    Group {
        folder: PathBuf,
        parent: PathBuf,
        name: &'static str,
    },
    Turns {
        id: u32,
        stop: Arc<AtomicBool>,
        thread: Option<JoinHandle<()>>,
    },
}

impl Quota {
    /// Holds the process `id` to `share` of one processor.
    pub fn new(id: u32, share: f64) -> Quota {
        let kind = version_2(id, share).or_else(|| version_1(id, share));
        Quota {
            kind: kind.unwrap_or_else(|| turns(id, share)),
        }
    }

    /// How it is done, for the report.
    pub fn means(&self) -> &'static str {
        match &self.kind {
            Kind::Group { name, .. } => name,
            Kind::Turns { .. } => "SIGSTOP and SIGCONT, period 10 ms",
        }
    }
}

const PERIOD_US: f64 = 100_000.0;

fn version_2(id: u32, share: f64) -> Option<Kind> {
    let parent = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .map(PathBuf::from)
        .into_iter()
        .find(|folder| {
            let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
            let has_cpu = |name: &str| read(name).split_whitespace().any(|word| word == "cpu");
            has_cpu("cgroup.controllers")
                && (has_cpu("cgroup.subtree_control")
                    || fs::write(folder.join("cgroup.subtree_control"), "+cpu").is_ok())
        })?;
    let max = format!("{} {PERIOD_US}", share * PERIOD_US);
    group(
        id,
        parent,
        "cpu.max (cgroup version 2), period 100 ms",
        &[("cpu.max", max)],
    )
}

fn version_1(id: u32, share: f64) -> Option<Kind> {
    let parent = PathBuf::from("/sys/fs/cgroup/cpu");
    let settings = [
        ("cpu.cfs_period_us", PERIOD_US.to_string()),
        ("cpu.cfs_quota_us", (share * PERIOD_US).to_string()),
    ];
    group(
        id,
        parent,
        "cpu.cfs_quota_us (cgroup version 1), period 100 ms",
        &settings,
    )
}

fn group(id: u32, parent: PathBuf, name: &'static str, settings: &[(&str, String)]) -> Option<Kind> {
    let folder = parent.join(format!("sps-bench-{id}"));
    fs::create_dir(&folder).ok()?;
    let set = settings
        .iter()
        .all(|(file, value)| fs::write(folder.join(file), value).is_ok());
    if set && fs::write(folder.join("cgroup.procs"), id.to_string()).is_ok() {
        return Some(Kind::Group { folder, parent, name });
    }
    let _ = fs::remove_dir(&folder);
    None
}

fn turns(id: u32, share: f64) -> Kind {
    let stop = Arc::new(AtomicBool::new(false));
    let period = Duration::from_millis(10);
    let told = stop.clone();
    let thread = std::thread::spawn(move || {
        while !told.load(Ordering::Relaxed) {
            send_signal(id, Signal::SIGCONT);
            std::thread::park_timeout(period.mul_f64(share));
            send_signal(id, Signal::SIGSTOP);
            std::thread::park_timeout(period.mul_f64(1.0 - share));
        }
        send_signal(id, Signal::SIGCONT);
    });
    Kind::Turns {
        id,
        stop,
        thread: Some(thread),
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        match &mut self.kind {
            Kind::Group { folder, parent, .. } => {
                let members = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
                for member in members.split_whitespace() {
                    let _ = fs::write(Path::new(parent).join("cgroup.procs"), member);
                }
                let _ = fs::remove_dir(folder);
            }
            Kind::Turns { id, stop, thread } => {
                stop.store(true, Ordering::Relaxed);
                if let Some(thread) = thread.take() {
                    let _ = thread.join();
                }
                send_signal(*id, Signal::SIGCONT);
            }
        }
    }
}
