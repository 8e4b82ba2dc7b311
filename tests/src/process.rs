//! Child processes: output to files, ended by id, never left behind.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::{PATIENCE, wait_until_within};

/// A running peer. Dropping it ends it (TERM, then KILL) and, when the test is failing, prints what it said.
pub struct Process {
    child: Child,
    name: String,
    output: PathBuf,
}

impl Process {
    /// Starts `command` with its output going to `folder/NAME.out`.
    pub fn start(name: &str, mut command: Command, folder: &Path) -> Process {
        let output = (0..)
            .map(|n| folder.join(format!("{name}.{n}.out")))
            .find(|path| !path.exists())
            .expect("numbers do not run out");
        let file = File::create(&output).expect("the test folder can be written");
        command.stdin(Stdio::null());
        command
            .stdout(file.try_clone().expect("a file handle can be doubled"))
            .stderr(file);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        remember(Owned::Child(child.id()));
        Process {
            child,
            name: name.to_owned(),
            output,
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far, both streams.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_some()
    }

    /// Waits for the end; panics with its output after `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let name = self.name.clone();
        wait_until_within(limit, &format!("{name} has ended"), || self.has_ended());
        self.child.wait().expect("a child can be waited for")
    }

    /// Waits for the end and demands success.
    pub fn wait_success(&mut self, limit: Duration) {
        let status = self.wait(limit);
        assert!(status.success(), "{}: {status}\n{}", self.name, self.output());
    }

    /// Waits until its output contains `text`.
    pub fn wait_output(&mut self, text: &str) {
        wait_until_within(PATIENCE, &format!("{} says {text:?}", self.name), || {
            self.output().contains(text) || (self.has_ended() && self.output().contains(text))
        });
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = kill(pid(self.child.id()), signal);
    }

    /// Ends it: TERM first, KILL after two seconds.
    pub fn end(&mut self) {
        if self.has_ended() {
            return;
        }
        self.signal(Signal::SIGTERM);
        let give_up_at = std::time::Instant::now() + Duration::from_secs(2);
        while !self.has_ended() && std::time::Instant::now() < give_up_at {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        if !self.has_ended() {
            self.signal(Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
        forget(&Owned::Child(self.child.id()));
        if std::thread::panicking() {
            eprintln!("--- {} said:\n{}", self.name, tail(&self.output(), 4_000));
        }
    }
}

/// The end of a long text, cut at a character.
pub fn tail(text: &str, len: usize) -> &str {
    let mut from = text.len().saturating_sub(len);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// The typed form of a process id.
pub fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).expect("process ids are small"))
}

/// Sends `signal` to the process `id`.
pub fn send_signal(id: u32, signal: Signal) {
    kill(pid(id), signal).unwrap_or_else(|error| panic!("signal {signal} to {id}: {error}"));
}

/// Whether a process with this id exists and is not a zombie.
pub fn is_alive(id: u32) -> bool {
    match fs::read_to_string(format!("/proc/{id}/stat")) {
        Ok(stat) => !matches!(
            stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()),
            Some('Z' | 'X')
        ),
        Err(_) => false,
    }
}

/// The process `root` and all that descend from it.
pub fn tree(root: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let parent = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        parents.push((id, parent.unwrap_or(0)));
    }
    let mut found = HashSet::from([root]);
    loop {
        let before = found.len();
        for (id, parent) in &parents {
            if found.contains(parent) {
                found.insert(*id);
            }
        }
        if found.len() == before {
            return found.into_iter().filter(|id| is_alive(*id)).collect();
        }
    }
}

/// Where `program` lies: `PATH`, then the folders where Debian keeps daemons, which a user's `PATH` lacks.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// What a test has running, by the name of its thread: a child, or an instance of SPS by its folder.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Owned {
    /// A child process.
    Child(u32),
    /// The `--root` of an instance.
    Root(PathBuf),
}

static OWNED: Mutex<Vec<(String, Owned)>> = Mutex::new(Vec::new());

/// Remembers what this test has running.
pub(crate) fn remember(owned: Owned) {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    OWNED.lock().expect("no holder panics").push((name, owned));
}

/// Forgets it: it has been ended.
pub(crate) fn forget(owned: &Owned) {
    OWNED
        .lock()
        .expect("no holder panics")
        .retain(|(_, known)| known != owned);
}

/// Ends what the test called `name` left running, when its body hangs and can no longer do so itself.
pub(crate) fn end_all_of(name: &str) {
    end_all(|owner| owner == name);
}

/// Ends everything that this program has running: for a program whose panics do not unwind.
pub fn end_everything() {
    end_all(|_| true);
}

fn end_all(whose: impl Fn(&str) -> bool) {
    let chosen: Vec<(String, Owned)> = {
        let mut all = OWNED.lock().expect("no holder panics");
        let (chosen, others) = std::mem::take(&mut *all)
            .into_iter()
            .partition(|(owner, _)| whose(owner));
        *all = others;
        chosen
    };
    for (_, owned) in chosen {
        match owned {
            Owned::Child(id) => {
                let _ = kill(pid(id), Signal::SIGKILL);
            }
            Owned::Root(root) => crate::instance::end_root(&root),
        }
    }
}

/// What a finished command said.
#[derive(Debug)]
pub struct Said {
    /// Exit code; 128 + signal when it was killed.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Said {
    /// Itself, if the exit code is 0.
    #[track_caller]
    pub fn ok(self) -> Said {
        self.code(0)
    }

    /// Itself, if the exit code is `code`.
    #[track_caller]
    pub fn code(self, code: i32) -> Said {
        assert_eq!(
            self.code, code,
            "exit code; stdout:\n{}\nstderr:\n{}",
            self.stdout, self.stderr
        );
        self
    }
}

/// Runs a command to its end, at most `limit`.
#[track_caller]
pub fn run_within<S: AsRef<OsStr>>(limit: Duration, program: impl AsRef<OsStr>, arguments: &[S]) -> Said {
    let mut command = Command::new(program);
    command.args(arguments);
    run_command(limit, command)
}

/// Runs a prepared command to its end, at most `limit`. Its output goes through files, so that a daemon which keeps
/// the streams open holds nobody up.
#[track_caller]
pub fn run_command(limit: Duration, command: Command) -> Said {
    try_run(limit, command).unwrap_or_else(|problem| panic!("{problem}"))
}

/// The same without a panic: for clearing up, which must not fail twice.
pub(crate) fn try_run(limit: Duration, mut command: Command) -> Result<Said, String> {
    use std::os::unix::process::ExitStatusExt;
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    command.stdin(Stdio::null());
    command
        .stdout(File::create(&out).expect("a file can be made"))
        .stderr(File::create(&err).expect("a file can be made"));
    let mut child = command.spawn().map_err(|error| format!("start {command:?}: {error}"))?;
    let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let give_up_at = std::time::Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break status;
        }
        if std::time::Instant::now() > give_up_at {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!(
                "{command:?} has not ended after {limit:?}\n{}{}",
                read(&out),
                read(&err)
            ));
        }
        std::thread::park_timeout(Duration::from_millis(2));
    };
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(Said {
        code,
        stdout: read(&out),
        stderr: read(&err),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_found_in_the_tree_and_gone_after_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        command.arg("60");
        let mut child = Process::start("sleep", command, folder.path());
        assert!(tree(std::process::id()).contains(&child.pid()));
        assert!(is_alive(child.pid()));
        child.end();
        assert!(!is_alive(child.pid()));
    }

    #[test]
    fn a_command_reports_code_and_both_streams() {
        let said = run_within(PATIENCE, "sh", &["-c", "echo out; echo err >&2; exit 75"]).code(75);
        assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("out\n", "err\n"));
    }

    #[test]
    #[should_panic(expected = "has not ended")]
    fn a_command_that_hangs_is_ended() {
        run_within(Duration::from_millis(30), "sleep", &["60"]);
    }
}
