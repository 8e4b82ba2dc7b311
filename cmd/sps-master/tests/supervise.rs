//! The master over real processes, sockets and signals, with daemons that misbehave on order.
//!
//! This program is the tests, and, started by the master under a daemon's name, that daemon: what it does then stands in
//! `ROOT/NAME.do`, and what it was told goes to `ROOT/NAME.told`. Each test has an instance of its own, and all run at once.
#![forbid(unsafe_code)]

use std::fs;
use std::io::Write;
use std::net::UdpSocket;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use sps_conf::{Level, Paths};
use sps_daemon::{ChildArgs, Exit, Fatal, Order, Parent};
use sps_ipc::operator::{Daemon, Reply, Request, State, Status, decode_reply, encode_request};
use sps_ipc::seqpacket::{Connection, buffer};
use sps_ipc::starter::{self, Report};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--ipc") {
        let name = Path::new(&arguments[0])
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let name = if name == "sps-proxy" {
            "sps-proxy"
        } else {
            "sps-registrar"
        };
        return sps_daemon::exit(fake_daemon(name, arguments[at + 1].clone()));
    }
    run_tests(&arguments[1..])
}

/// A daemon that does what its file says.
fn fake_daemon(name: &'static str, door: String) -> Result<(), Fatal> {
    let mut parent = Parent::connect(name, &ChildArgs { door })?;
    let frozen = parent.configuration();
    sps_daemon::start_log(name, &frozen)?;
    let root = frozen.paths.root.clone().unwrap_or_default();
    let told = |text: String| append(&root.join(format!("{name}.told")), &text);
    let wants = |what: &str| {
        fs::read_to_string(root.join(format!("{name}.do")))
            .unwrap_or_default()
            .lines()
            .any(|line| line == what)
    };
    if wants("fail") {
        return Err(Fatal::new(Exit::Storage, "there is no room"));
    }
    if wants("crash") {
        std::process::abort();
    }
    told(format!(
        "start {} with {} sockets",
        frozen.number,
        parent.take_listeners().len()
    ));
    parent.ready()?;
    if wants("die") {
        std::process::abort();
    }
    sps_daemon::block_on(async move {
        loop {
            let delivered = parent.next_order().await;
            match delivered.order.clone() {
                Order::Prepare(_) if wants("refuse") => delivered.refuse("it does not suit"),
                Order::Prepare(_) if wants("die-preparing") => std::process::abort(),
                Order::Prepare(frozen) => {
                    told(format!("prepare {}", frozen.number));
                    delivered.done();
                }
                Order::Commit(number) => {
                    told(format!("commit {number}"));
                    tracing::debug!("committed");
                    delivered.done();
                }
                Order::Abort(number) => {
                    told(format!("abort {number}"));
                    delivered.done();
                }
                Order::Stop { .. } => {
                    delivered.done();
                    told("stop".into());
                    return Ok(());
                }
            }
        }
    })
}

fn append(path: &Path, line: &str) {
    let mut file = fs::File::options()
        .append(true)
        .create(true)
        .open(path)
        .expect("the root can be written");
    writeln!(file, "{line}").expect("the root can be written");
}

/// A root with programs, and the master that runs on it.
struct Instance {
    root: tempfile::TempDir,
    port: u16,
    master: Option<Child>,
}

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

impl Instance {
    fn new() -> Self {
        let root = tempfile::Builder::new()
            .prefix("spsm-")
            .tempdir_in("/tmp")
            .expect("/tmp can be written");
        let programs = root.path().join("bin");
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::create_dir(&programs).unwrap();
        // The master looks for the others beside itself, wherever it was linked from.
        fs::copy(env!("CARGO_BIN_EXE_sps-master"), programs.join("sps-master")).unwrap();
        for name in ["sps-registrar", "sps-proxy"] {
            std::os::unix::fs::symlink(std::env::current_exe().unwrap(), programs.join(name)).unwrap();
        }
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let instance = Self {
            root,
            port,
            master: None,
        };
        instance.configure("");
        instance
    }

    fn paths(&self) -> Paths {
        Paths::new(Some(self.root.path()))
    }

    fn configure(&self, more: &str) {
        let text = format!(
            "[server]\ndomain = \"example.com\"\nworkers = 2\n[[listen]]\ntransport = \"udp\"\naddress = \"127.0.0.1\"\n\
             port = {}\n[log]\nlevel = \"debug\"\n{more}",
            self.port
        );
        fs::write(self.paths().config, text).unwrap();
    }

    /// What a daemon is to do from now on.
    fn behave(&self, name: &str, what: &str) {
        fs::write(self.root.path().join(format!("{name}.do")), what).unwrap();
    }

    fn told(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.root.path().join(format!("{name}.told"))).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Starts a master and gives its last report.
    fn start(&mut self) -> Report {
        let program = self.root.path().join("bin/sps-master");
        let mut command = Command::new(program);
        command
            .arg("--root")
            .arg(self.root.path())
            .arg("--background")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        // A copy that another thread's fork holds open for writing cannot be executed for a moment.
        let mut master = wait_for("the master's program", || command.spawn().ok());
        let mut pipe = master.stdout.take().unwrap();
        let last = loop {
            match starter::read(&mut pipe).unwrap() {
                Some(Report::Progress(_)) => {}
                Some(last) => break last,
                None => panic!("the master died: {:?}\n{}", master.wait(), self.log()),
            }
        };
        if matches!(last, Report::Ready { .. }) {
            self.master = Some(master);
        } else {
            let code = master.wait().unwrap().code();
            assert!(
                matches!(last, Report::Failed { code: said, .. } if Some(i32::from(said)) == code),
                "{last:?} {code:?}"
            );
        }
        last
    }

    fn start_well(&mut self) {
        let last = self.start();
        assert!(matches!(last, Report::Ready { .. }), "{last:?}\n{}", self.log());
    }

    /// Asks the running master.
    fn ask(&self, request: &Request) -> Reply {
        let deadline = Instant::now() + PATIENCE;
        let connection = Connection::connect(&self.paths().master_socket(), deadline).unwrap();
        connection.send(&encode_request(request).unwrap(), deadline).unwrap();
        let mut room = buffer();
        loop {
            let len = connection.recv(&mut room, Some(deadline)).unwrap();
            assert!(len > 0, "the master hung up");
            match decode_reply(&room[..len]).unwrap() {
                Reply::Progress(_) => {}
                reply => return reply,
            }
        }
    }

    fn status(&self) -> Status {
        match self.ask(&Request::Status) {
            Reply::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    fn daemon(&self, name: &str) -> Daemon {
        self.status()
            .daemons
            .into_iter()
            .find(|daemon| daemon.name == name)
            .expect("every daemon has a status")
    }

    fn pid(&self, name: &str) -> u32 {
        self.daemon(name).pid.expect("it runs")
    }

    /// Waits until another process than `old` is up.
    fn wait_for_successor(&self, name: &str, old: u32) -> Daemon {
        wait_for(&format!("{name} is up again"), || {
            let daemon = self.daemon(name);
            (daemon.state == State::Up && daemon.pid != Some(old)).then_some(daemon)
        })
    }

    fn log(&self) -> String {
        fs::read_to_string(self.paths().log.join("error_log")).unwrap_or_default()
    }

    /// Stops it and waits for the master's end, which must be a good one.
    fn stop(&mut self) {
        assert_eq!(
            self.ask(&Request::Stop { within_ms: 5_000 }),
            Reply::Done(String::new())
        );
        let status = self.master.take().expect("it runs").wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.log());
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        if let Some(mut master) = self.master.take() {
            let _ = master.kill();
            let _ = master.wait();
        }
        sps_daemon::end_orphans(&sps_daemon::find_orphans(&self.paths().run), Duration::ZERO);
    }
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

fn lives(pid: u32) -> bool {
    test_kill_process(Pid::from_raw(pid.cast_signed()).unwrap()).is_ok()
}

fn refused(reply: Reply) -> (u8, String) {
    match reply {
        Reply::Refused { code, reason } => (code, reason),
        other => panic!("{other:?}"),
    }
}

fn a_life_from_start_to_stop() {
    let mut instance = Instance::new();
    let Report::Ready {
        pid,
        generation: 1,
        listening,
    } = instance.start()
    else {
        panic!("{}", instance.log())
    };
    assert_eq!(listening.len(), 1);
    assert_eq!((listening[0].address.port(), listening[0].sockets), (instance.port, 2));
    assert_eq!(instance.told("sps-registrar"), ["start 1 with 0 sockets"]);
    assert_eq!(instance.told("sps-proxy"), ["start 1 with 2 sockets"]);
    let status = instance.status();
    assert!(
        status.ready
            && status
                .daemons
                .iter()
                .all(|daemon| daemon.state == State::Up && daemon.memory_len > 0)
    );
    assert_eq!(
        fs::read_to_string(instance.paths().pid()).unwrap().trim(),
        pid.to_string()
    );

    let master = instance.master.take();
    let Report::Failed { code: 75, text } = instance.start() else {
        panic!("a second master")
    };
    assert!(
        text.contains("already running") && text.contains(&pid.to_string()),
        "{text}"
    );
    instance.master = master;

    let pids: Vec<_> = status.daemons.iter().filter_map(|daemon| daemon.pid).collect();
    instance.stop();
    assert!(!pids.into_iter().any(lives));
    assert_eq!(instance.told("sps-proxy").last().map(String::as_str), Some("stop"));
    let left: Vec<_> = fs::read_dir(instance.paths().run)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["sps.lock"]);
}

fn term_stops_everything() {
    let mut instance = Instance::new();
    instance.start_well();
    let status = instance.status();
    signal(status.daemons[0].pid.unwrap(), Signal::TERM);
    assert!(instance.master.take().unwrap().wait().unwrap().success());
    assert!(!status.daemons.iter().filter_map(|daemon| daemon.pid).any(lives));
}

fn who_is_killed_comes_back_and_the_others_stay() {
    let mut instance = Instance::new();
    instance.start_well();
    for (name, other) in [("sps-proxy", "sps-registrar"), ("sps-registrar", "sps-proxy")] {
        let (old, stays) = (instance.pid(name), instance.pid(other));
        signal(old, Signal::KILL);
        let successor = instance.wait_for_successor(name, old);
        assert_eq!(
            (successor.restarts, successor.last_end.as_str()),
            (1, "killed by signal 9")
        );
        assert_eq!(instance.pid(other), stays);
    }
    // The sockets were the master's all the time.
    assert_eq!(instance.told("sps-proxy"), ["start 1 with 2 sockets"; 2]);
    instance.stop();
}

fn who_hangs_is_killed_and_comes_back() {
    let mut instance = Instance::new();
    instance.start_well();
    let old = instance.pid("sps-registrar");
    signal(old, Signal::STOP);
    let successor = instance.wait_for_successor("sps-registrar", old);
    assert!(successor.last_end.contains("no sign of life"), "{}", successor.last_end);
    instance.stop();
}

fn a_reload_reaches_everybody() {
    let mut instance = Instance::new();
    instance.start_well();
    instance.configure("[registrar]\nmax_contacts = 3\n");
    assert_eq!(instance.ask(&Request::Reload), Reply::Done(String::new()));
    assert_eq!(instance.status().configuration, 2);
    for name in ["sps-registrar", "sps-proxy"] {
        assert_eq!(instance.told(name)[1..], ["prepare 2", "commit 2"]);
    }
    // Who comes later works by it too.
    let old = instance.pid("sps-proxy");
    signal(old, Signal::KILL);
    instance.wait_for_successor("sps-proxy", old);
    assert_eq!(instance.told("sps-proxy").last().unwrap(), "start 2 with 2 sockets");
    instance.stop();
}

fn one_refusal_and_everybody_keeps_the_old_configuration() {
    let mut instance = Instance::new();
    instance.start_well();
    instance.behave("sps-proxy", "refuse");
    assert_eq!(
        refused(instance.ask(&Request::Reload)),
        (78, "sps-proxy: it does not suit".into())
    );
    assert_eq!(instance.status().configuration, 1);
    assert_eq!(instance.told("sps-registrar")[1..], ["prepare 2", "abort 2"]);
    assert_eq!(instance.told("sps-proxy").len(), 1);

    instance.behave("sps-proxy", "");
    assert_eq!(instance.ask(&Request::Reload), Reply::Done(String::new()));
    assert_eq!(instance.told("sps-proxy")[1..], ["prepare 2", "commit 2"]);
    instance.stop();
}

fn who_dies_of_a_configuration_does_not_get_it() {
    let mut instance = Instance::new();
    instance.start_well();
    let old = instance.pid("sps-proxy");
    instance.behave("sps-proxy", "die-preparing");
    let (code, reason) = refused(instance.ask(&Request::Reload));
    assert!(code == 78 && reason.contains("sps-proxy died"), "{reason}");
    instance.wait_for_successor("sps-proxy", old);
    assert_eq!(instance.told("sps-proxy"), ["start 1 with 2 sockets"; 2]);
    assert_eq!(instance.told("sps-registrar")[1..], ["prepare 2", "abort 2"]);
    instance.stop();
}

fn a_bad_file_never_replaces_a_good_one() {
    let mut instance = Instance::new();
    instance.start_well();
    instance.configure("colour = \"red\"\n");
    let (code, reason) = refused(instance.ask(&Request::Reload));
    assert!(
        code == 78 && reason.contains("sps.toml:10:1") && reason.contains("colour"),
        "{reason}"
    );
    // Good in itself, but not while it runs.
    instance.port += 1;
    instance.configure("");
    let (code, reason) = refused(instance.ask(&Request::Reload));
    assert!(
        code == 78 && reason.contains("needs a restart") && reason.contains("[[listen]]"),
        "{reason}"
    );
    instance.port -= 1;
    assert_eq!(
        (instance.status().configuration, instance.told("sps-proxy").len()),
        (1, 1)
    );
    instance.stop();

    instance.configure("colour = \"red\"\n");
    let Report::Failed { code: 78, text } = instance.start() else {
        panic!("it started")
    };
    assert!(text.contains("sps.toml:10:1"), "{text}");
}

fn a_first_start_that_fails_says_why_and_leaves_nothing() {
    let mut instance = Instance::new();
    instance.behave("sps-proxy", "fail");
    let Report::Failed { code: 74, text } = instance.start() else {
        panic!("it started")
    };
    assert_eq!(text, "sps-proxy: there is no room");
    instance.behave("sps-proxy", "crash");
    let Report::Failed { code: 70, text } = instance.start() else {
        panic!("it started")
    };
    assert!(
        text.starts_with("sps-proxy killed by signal 6 before it was ready"),
        "{text}"
    );
    assert!(sps_daemon::find_orphans(&instance.paths().run).is_empty());
    instance.behave("sps-proxy", "");
    instance.start_well();
    instance.stop();
}

fn who_dies_again_and_again_is_given_up_until_the_operator_acts() {
    let mut instance = Instance::new();
    instance.start_well();
    instance.behave("sps-registrar", "die");
    signal(instance.pid("sps-registrar"), Signal::KILL);
    let failed = wait_for("it is given up", || {
        Some(instance.daemon("sps-registrar")).filter(|daemon| daemon.state == State::Failed)
    });
    assert_eq!((failed.pid, failed.restarts), (None, 7));
    assert_eq!(instance.daemon("sps-proxy").state, State::Up);
    assert!(instance.log().contains("given up"));

    instance.behave("sps-registrar", "");
    assert_eq!(instance.ask(&Request::Reload), Reply::Done(String::new()));
    instance.wait_for_successor("sps-registrar", 0);
    instance.stop();
}

fn daemons_outlive_their_master_until_the_next_one() {
    let mut instance = Instance::new();
    instance.start_well();
    let pids: Vec<_> = ["sps-registrar", "sps-proxy"].map(|name| instance.pid(name)).to_vec();
    let mut master = instance.master.take().unwrap();
    master.kill().unwrap();
    master.wait().unwrap();
    wait_for("both have noticed", || {
        (instance.log().matches("sps-master is gone; serving on").count() == 2).then_some(())
    });
    assert!(pids.iter().all(|&pid| lives(pid)));
    let orphans = sps_daemon::find_orphans(&instance.paths().run);
    assert_eq!(
        orphans.iter().map(|orphan| orphan.pid).collect::<Vec<_>>(),
        [pids[1], pids[0]]
    );

    let Report::Ready { generation: 2, .. } = instance.start() else {
        panic!("{}", instance.log())
    };
    assert_eq!(sps_daemon::find_orphans(&instance.paths().run).len(), 2);
    assert!(
        ["sps-registrar", "sps-proxy"]
            .iter()
            .all(|name| !pids.contains(&instance.pid(name)))
    );
    assert!(instance.log().contains("left over from an sps-master that was killed"));
    instance.stop();
}

fn a_port_in_use_is_named() {
    let mut one = Instance::new();
    one.start_well();
    let mut other = Instance::new();
    other.port = one.port;
    other.configure("");
    let Report::Failed { code: 75, text } = other.start() else {
        panic!("both run")
    };
    assert!(text.contains(&format!("127.0.0.1:{}", one.port)), "{text}");
    one.stop();
}

fn logs_move_and_levels_change_while_it_runs() {
    let mut instance = Instance::new();
    instance.start_well();
    let log = instance.paths().log.join("error_log");
    fs::rename(&log, log.with_extension("1")).unwrap();
    assert_eq!(instance.ask(&Request::LogReopen), Reply::Done(String::new()));
    let level = |daemon: &str, module: Option<&str>, level| Request::LogLevel {
        daemon: daemon.into(),
        module: module.map(Into::into),
        level,
    };
    let (code, reason) = refused(instance.ask(&level("nobody", None, Level::Debug)));
    assert!(code == 64 && reason.contains("sps-proxy"), "{reason}");
    assert!(matches!(
        instance.ask(&level("proxy", None, Level::Error)),
        Reply::Done(_)
    ));
    // Its module is that of this very program.
    assert!(matches!(
        instance.ask(&level("sps-registrar", Some("sps_nothing"), Level::Error)),
        Reply::Done(_)
    ));
    // Who comes later logs like the one before.
    let old = instance.pid("sps-proxy");
    signal(old, Signal::KILL);
    instance.wait_for_successor("sps-proxy", old);
    assert!(matches!(
        instance.ask(&level("master", None, Level::Warn)),
        Reply::Done(_)
    ));
    let text = instance.log();
    assert!(text.contains("sps-master/1") && !text.contains("sps-proxy/1"), "{text}");
    assert!(
        fs::read_to_string(log.with_extension("1"))
            .unwrap()
            .contains("sps-proxy/1 INFO")
    );
    instance.stop();
}

/// design §8: a hostile or broken asker costs a conversation at most.
fn askers_that_talk_rubbish_or_nothing_hold_up_nobody() {
    let mut instance = Instance::new();
    instance.start_well();
    let deadline = Instant::now() + PATIENCE;
    let path: PathBuf = instance.paths().master_socket();
    let silent: Vec<_> = (0..4).map(|_| Connection::connect(&path, deadline).unwrap()).collect();
    let rubbish = Connection::connect(&path, deadline).unwrap();
    rubbish.send(&[1, 0, 250, 250], deadline).unwrap();
    let mut room = buffer();
    let len = rubbish.recv(&mut room, Some(deadline)).unwrap();
    assert_eq!(refused(decode_reply(&room[..len]).unwrap()).0, 76);
    let future = Connection::connect(&path, deadline).unwrap();
    future.send(&[99, 0, 0], deadline).unwrap();
    let len = future.recv(&mut room, Some(deadline)).unwrap();
    assert!(matches!(decode_reply(&room[..len]).unwrap(), Reply::Version { .. }));
    assert!(instance.status().ready);
    drop(silent);
    instance.stop();
}

type Test = (&'static str, fn());

macro_rules! tests {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), $name as fn())),*] };
}

const TESTS: &[Test] = tests![
    a_life_from_start_to_stop,
    term_stops_everything,
    who_is_killed_comes_back_and_the_others_stay,
    who_hangs_is_killed_and_comes_back,
    a_reload_reaches_everybody,
    one_refusal_and_everybody_keeps_the_old_configuration,
    who_dies_of_a_configuration_does_not_get_it,
    a_bad_file_never_replaces_a_good_one,
    a_first_start_that_fails_says_why_and_leaves_nothing,
    who_dies_again_and_again_is_given_up_until_the_operator_acts,
    daemons_outlive_their_master_until_the_next_one,
    a_port_in_use_is_named,
    logs_move_and_levels_change_while_it_runs,
    askers_that_talk_rubbish_or_nothing_hold_up_nobody,
];

/// The usual test runner cannot also be a daemon, so this stands in for it: names as filters, `--list`, the usual last line.
fn run_tests(arguments: &[String]) -> ExitCode {
    let filters: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let chosen: Vec<&Test> = TESTS
        .iter()
        .filter(|(name, _)| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str())))
        .collect();
    if arguments.iter().any(|argument| argument == "--list") {
        for (name, _) in &chosen {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", chosen.len());
    let failed = std::thread::scope(|scope| {
        let running: Vec<_> = chosen
            .iter()
            .map(|(name, test)| {
                (
                    name,
                    scope.spawn(move || std::panic::catch_unwind(AssertUnwindSafe(test)).is_ok()),
                )
            })
            .collect();
        let mut failed = 0;
        for (name, test) in running {
            let good = test.join().unwrap_or(false);
            println!("test {name} ... {}", if good { "ok" } else { "FAILED" });
            failed += usize::from(!good);
        }
        failed
    });
    let (word, passed) = (if failed == 0 { "ok" } else { "FAILED" }, chosen.len() - failed);
    let out = TESTS.len() - chosen.len();
    println!("\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {out} filtered out");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(101)
    }
}
