//! Who runs on a root: the instance lock of the master, and daemons that outlived theirs.
//!
//! The evidence is a lock on a file, which the kernel drops with the process that holds it; a process id in a file proves nothing by
//! itself. Used by the master and by `spsctl`.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FlockOperation;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use sps_conf::Paths;

use crate::{Exit, Fatal, OrFatal};

/// The instance lock, held until dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a root.
    ///
    /// # Errors
    /// [`Exit::Later`] when a master runs there, [`Exit::CantCreate`] when the file cannot be made.
    pub fn take(paths: &Paths) -> Result<Self, Fatal> {
        let path = paths.lock();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .or_fatal(Exit::CantCreate, format!("open {}", path.display()))?;
        // A tool that looks whether we run holds the lock for a moment.
        let deadline = Instant::now() + LOOK_TIMEOUT;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() >= deadline => {
                    let pid = read_pid(&paths.pid()).map_or(String::new(), |pid| format!(" (process {pid})"));
                    let what = paths
                        .root
                        .as_ref()
                        .map_or("".into(), |root| format!(" on {}", root.display()));
                    return Err(Fatal::new(Exit::Later, format!("sps is already running{what}{pid}")));
                }
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => std::thread::sleep(LOOK_WAIT),
                Err(error) => return Err(error).or_fatal(Exit::CantCreate, format!("lock {}", path.display())),
            }
        }
    }
}

/// How long a tool's look at a lock can last.
const LOOK_TIMEOUT: Duration = Duration::from_millis(200);
const LOOK_WAIT: Duration = Duration::from_millis(5);

/// A master that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// Its process id, when it could be read.
    pub pid: Option<u32>,
}

/// Whether a master runs on this root.
pub fn running(paths: &Paths) -> Option<Running> {
    let file = File::open(paths.lock()).ok()?;
    is_locked(&file).then(|| Running {
        pid: read_pid(&paths.pid()),
    })
}

/// A daemon that lives.
#[derive(Debug)]
pub struct Orphan {
    /// `sps-proxy` and so on.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    handle: OwnedFd,
}

/// Daemons of any generation that live below `run`. They are orphans when no master runs.
pub fn find_orphans(run: &Path) -> Vec<Orphan> {
    let mut found = Vec::new();
    let Ok(folders) = std::fs::read_dir(run) else {
        return found;
    };
    for folder in folders
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"gen-"))
    {
        // The link `current` leads to one of them and is left out by its name.
        let Ok(files) = std::fs::read_dir(folder.path()) else {
            continue;
        };
        for path in files
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "pid"))
        {
            found.extend(living(&path));
        }
    }
    // The order in which they are best ended: a proxy needs the registrar for what it has begun.
    found.sort_by_key(|orphan| orphan.name == "sps-registrar");
    found
}

/// The process that holds `path` locked. The lock is looked at again after the process is held on to, so that a number that has
/// been given to another process meanwhile is not taken for it.
fn living(path: &Path) -> Option<Orphan> {
    let file = open_no_link(path).ok()?;
    if !is_locked(&file) {
        return None;
    }
    let pid = read_pid(path)?;
    let handle = pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()?;
    let name = path.file_stem()?.to_str()?.to_owned();
    is_locked(&file).then_some(Orphan { name, pid, handle })
}

/// Ends them one after the other: TERM, after `within` (each) KILL. Gives the names and process ids of those that had to be killed.
pub fn end_orphans(orphans: &[Orphan], within: Duration) -> Vec<String> {
    let mut killed = Vec::new();
    for orphan in orphans {
        // One that is gone already is what we want.
        let _ = pidfd_send_signal(&orphan.handle, Signal::TERM);
        if !wait_for_end(orphan, Instant::now() + within) {
            let _ = pidfd_send_signal(&orphan.handle, Signal::KILL);
            wait_for_end(orphan, Instant::now() + KILL_TIMEOUT);
            killed.push(format!("{} (process {})", orphan.name, orphan.pid));
        }
    }
    killed
}

/// How long the kernel may take to end a process.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether the process has ended by `deadline`.
fn wait_for_end(orphan: &Orphan, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        match poll(
            &mut [PollFd::new(&orphan.handle.as_fd(), PollFlags::IN)],
            Some(&timeout),
        ) {
            Ok(ended) => return ended > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// Whether somebody else holds the lock.
fn is_locked(file: &File) -> bool {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            let _ = rustix::fs::flock(file, FlockOperation::Unlock);
            false
        }
        Err(error) => error == rustix::io::Errno::WOULDBLOCK,
    }
}

/// Locks a daemon's own file for life. Whoever looks holds it for a moment.
pub(crate) fn lock_for_life(file: &File) -> Result<(), std::io::Error> {
    let deadline = Instant::now() + LOOK_TIMEOUT;
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(LOOK_WAIT),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(std::io::Error::new(ErrorKind::WouldBlock, "already running"));
            }
            other => return Ok(other?),
        }
    }
}

fn read_pid(path: &Path) -> Option<u32> {
    let mut text = String::new();
    open_no_link(path).ok()?.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn open_no_link(path: &Path) -> std::io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn instance() -> (tempfile::TempDir, Paths) {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(Some(root.path()));
        std::fs::create_dir_all(paths.generation(3)).unwrap();
        (root, paths)
    }

    #[test]
    fn one_master_a_root() {
        let (_root, paths) = instance();
        assert_eq!(running(&paths), None);
        let lock = Lock::take(&paths).unwrap();
        std::fs::write(paths.pid(), "4711\n").unwrap();
        assert_eq!(running(&paths), Some(Running { pid: Some(4711) }));
        let fatal = Lock::take(&paths).unwrap_err();
        assert_eq!(fatal.exit, Exit::Later);
        assert!(
            fatal.text.contains("already running") && fatal.text.contains("4711"),
            "{fatal}"
        );
        drop(lock);
        assert_eq!(running(&paths), None);
        Lock::take(&paths).unwrap();
    }

    #[test]
    fn a_process_number_without_a_lock_proves_nothing() {
        let (_root, paths) = instance();
        let path = paths.generation(3).join("sps-proxy.pid");
        std::fs::write(&path, format!("{}\n", std::process::id())).unwrap();
        assert!(find_orphans(&paths.run).is_empty());
        let file = File::open(&path).unwrap();
        lock_for_life(&file).unwrap();
        let found = find_orphans(&paths.run);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].name.as_str(), found[0].pid),
            ("sps-proxy", std::process::id())
        );
        assert_eq!(
            lock_for_life(&File::open(&path).unwrap()).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
    }

    #[test]
    fn orphans_end_by_term_and_the_deaf_by_kill() {
        let (_root, paths) = instance();
        let mut held = Vec::new();
        let mut processes = Vec::new();
        for (name, script) in [
            ("sps-registrar", "trap '' TERM; echo; read x"),
            ("sps-proxy", "echo; read x"),
        ] {
            let mut process = Command::new("sh")
                .args(["-c", script])
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            // Its line says that the trap is set.
            process.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
            let path = paths.generation(3).join(format!("{name}.pid"));
            std::fs::write(&path, process.id().to_string()).unwrap();
            let file = File::open(&path).unwrap();
            lock_for_life(&file).unwrap();
            held.push(file);
            processes.push(process);
        }
        let orphans = find_orphans(&paths.run);
        assert_eq!(
            orphans.iter().map(|orphan| orphan.name.as_str()).collect::<Vec<_>>(),
            ["sps-proxy", "sps-registrar"]
        );
        let killed = end_orphans(&orphans, Duration::from_millis(300));
        assert_eq!(killed, [format!("sps-registrar (process {})", processes[0].id())]);
        for process in &mut processes {
            assert!(!process.wait().unwrap().success());
        }
    }
}
