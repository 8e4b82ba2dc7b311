//! An SPS of its own for one test: fresh folder, free ports, started and stopped with the shipped tools.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::net::{V4, free_port};
use crate::process::{self, Owned, Said, is_alive, run_command, send_signal, tail};
use crate::wait::{PATIENCE, wait_until};

/// The domain of every instance unless told otherwise.
pub const DOMAIN: &str = "sps.test";

/// How an instance is to be set up.
#[derive(Debug, Clone)]
pub struct Options {
    ip: IpAddr,
    port: Option<u16>,
    server: String,
    more: String,
    extra_listen: Vec<(&'static str, IpAddr)>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            ip: V4,
            port: None,
            server: String::new(),
            more: String::new(),
            extra_listen: Vec::new(),
        }
    }
}

impl Options {
    /// Loopback IPv4, one port for UDP and TCP, everything else as `spsctl init` leaves it.
    pub fn new() -> Self {
        Options::default()
    }

    /// Listens on this address of the loopback instead.
    pub fn ip(mut self, ip: IpAddr) -> Self {
        self.ip = ip;
        self
    }

    /// Listens on this port instead of a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// One more listener with the same port number, for example `("udp", V6)`.
    pub fn listen(mut self, transport: &'static str, ip: IpAddr) -> Self {
        self.extra_listen.push((transport, ip));
        self
    }

    /// A line for `[server]`.
    pub fn server(mut self, line: &str) -> Self {
        self.server.push_str(line);
        self.server.push('\n');
        self
    }

    /// Further sections of `sps.toml`, whole.
    pub fn section(mut self, text: &str) -> Self {
        self.more.push_str(text);
        self.more.push('\n');
        self
    }

    fn is_plain(&self) -> bool {
        self.server.is_empty() && self.more.is_empty()
    }
}

/// An instance with its folder. Dropping it stops it; when the test is failing, it first shows the logs.
pub struct Instance {
    folder: tempfile::TempDir,
    addr: SocketAddr,
    listeners: Vec<String>,
}

impl Instance {
    /// Sets up and starts an instance.
    #[track_caller]
    pub fn start(options: Options) -> Instance {
        let instance = Instance::init(options);
        instance.spsctl(&["start"]).ok();
        instance
    }

    /// Sets up an instance and does not start it.
    #[track_caller]
    pub fn init(options: Options) -> Instance {
        // Short, because a socket path below it has to fit into 108 bytes.
        let folder = tempfile::Builder::new()
            .prefix("sps-")
            .tempdir_in("/tmp")
            .expect("/tmp can be written");
        let port = options.port.unwrap_or_else(|| free_port(options.ip));
        let addr = SocketAddr::new(options.ip, port);
        let mut listeners = vec![format!("udp:{addr}"), format!("tcp:{addr}")];
        for (transport, ip) in &options.extra_listen {
            listeners.push(format!("{transport}:{}", SocketAddr::new(*ip, port)));
        }
        let instance = Instance {
            folder,
            addr,
            listeners,
        };
        process::remember(Owned::Root(instance.root().to_owned()));
        let mut arguments = vec!["init", "--domain", DOMAIN];
        for listener in &instance.listeners {
            arguments.extend(["--listen", listener]);
        }
        instance.spsctl(&arguments).ok();
        if !options.is_plain() {
            instance.configure(&options.server, &options.more);
        }
        instance
    }

    /// Replaces `sps.toml` by one with the same listeners, these lines in `[server]` and these sections.
    pub fn configure(&self, server: &str, sections: &str) {
        let mut text = format!("[server]\ndomain = \"{DOMAIN}\"\n{server}\n");
        for listener in &self.listeners {
            let (transport, addr) = listener.split_once(':').expect("a listener names its transport");
            let addr: SocketAddr = addr.parse().expect("a listener has an address");
            let _ = write!(
                text,
                "[[listen]]\ntransport = \"{transport}\"\naddress = \"{}\"\nport = {}\n",
                addr.ip(),
                addr.port()
            );
        }
        text.push_str(sections);
        fs::write(self.config(), text).expect("sps.toml can be written");
    }

    /// `--root` of this instance.
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Where it takes SIP, over UDP and TCP.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The path of `sps.toml`.
    pub fn config(&self) -> PathBuf {
        self.root().join("etc/sps.toml")
    }

    /// A SIP URI in its domain.
    pub fn uri(&self, user: &str) -> String {
        format!("sip:{user}@{DOMAIN}")
    }

    /// Runs `spsctl --root ROOT …`.
    pub fn spsctl(&self, arguments: &[&str]) -> Said {
        self.tool("spsctl", arguments)
    }

    /// Runs `spsroute --root ROOT …`.
    pub fn spsroute(&self, arguments: &[&str]) -> Said {
        self.tool("spsroute", arguments)
    }

    /// Runs one of the tools on this instance, at most a minute.
    pub fn tool(&self, name: &str, arguments: &[&str]) -> Said {
        run_command(Duration::from_secs(60), self.command(name, arguments))
    }

    /// The same, prepared and not run.
    pub fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program(name));
        command.arg("--root").arg(self.root()).args(arguments);
        command
    }

    /// Adds a static route for numbers over UDP.
    #[track_caller]
    pub fn route(&self, pattern: &str, next_hop: SocketAddr) {
        self.spsroute(&["add", pattern, &next_hop.to_string()]).ok();
    }

    /// Adds a permanent registration.
    #[track_caller]
    pub fn register(&self, user: &str, contact: &str, q: &str) {
        self.spsctl(&["registration", "add", &self.uri(user), contact, "--permanent", "--q", q])
            .ok();
    }

    /// `spsctl status --json`.
    #[track_caller]
    pub fn status(&self) -> Value {
        let said = self.spsctl(&["--json", "status"]).ok();
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error} in {}", said.stdout))
    }

    /// The entry of one daemon in the status.
    #[track_caller]
    pub fn daemon(&self, name: &str) -> Value {
        let status = self.status();
        let daemons = status["daemons"]
            .as_array()
            .unwrap_or_else(|| panic!("no daemons in {status}"));
        daemons
            .iter()
            .find(|daemon| daemon["name"] == name)
            .unwrap_or_else(|| panic!("no {name} in {status}"))
            .clone()
    }

    /// Process id of one daemon.
    #[track_caller]
    pub fn pid(&self, name: &str) -> u32 {
        let daemon = self.daemon(name);
        daemon["pid"]
            .as_u64()
            .and_then(|pid| u32::try_from(pid).ok())
            .unwrap_or_else(|| panic!("no pid in {daemon}"))
    }

    /// Kills one daemon outright and waits until another process has its job.
    #[track_caller]
    pub fn kill_and_wait(&self, name: &str) {
        let old = self.pid(name);
        send_signal(old, Signal::SIGKILL);
        wait_until(&format!("{name} runs again"), || {
            let daemon = self.daemon(name);
            daemon["state"] == "up" && daemon["pid"].as_u64().is_some_and(|pid| pid != u64::from(old))
        });
    }

    /// Text of a log, `access_log` or `error_log`.
    pub fn log(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.root().join("log").join(name)).unwrap_or_default()).into_owned()
    }

    /// Waits until a line of the access log contains all of `words`, and gives it.
    #[track_caller]
    pub fn wait_access(&self, words: &[&str]) -> String {
        let found = || {
            let log = self.log("access_log");
            log.lines()
                .find(|line| words.iter().all(|word| line.contains(word)))
                .map(str::to_owned)
        };
        wait_until(&format!("the access log has a line with {words:?}"), || {
            found().is_some()
        });
        found().expect("a line that was there stays there")
    }

    /// Stops it as an operator does, and demands that it works.
    #[track_caller]
    pub fn stop(&self) {
        self.spsctl(&["stop", "--timeout", "10"]).ok();
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in ["error_log", "access_log"] {
                eprintln!(
                    "--- {log} of {}:\n{}",
                    self.root().display(),
                    tail(&self.log(log), 6_000)
                );
            }
        }
        end_root(self.root());
        process::forget(&Owned::Root(self.root().to_owned()));
    }
}

/// Ends whatever runs below `root`: by `spsctl stop`, and what is left then by id.
pub(crate) fn end_root(root: &Path) {
    let ids = processes_of(root);
    if ids.is_empty() {
        return;
    }
    let mut command = Command::new(program("spsctl"));
    command.arg("--root").arg(root).args(["stop", "--timeout", "2"]);
    let clean = process::try_run(PATIENCE, command).is_ok_and(|said| said.code == 0);
    for id in processes_of(root) {
        eprintln!(
            "--- left behind after stop{}: process {id}",
            if clean { "" } else { " (which failed)" }
        );
        let _ = nix::sys::signal::kill(process::pid(id), Signal::SIGKILL);
    }
}

/// Processes that have something below `root` open or were started with it: what must be gone after `stop`.
pub fn processes_of(root: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if id == std::process::id() || !is_alive(id) {
            continue;
        }
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if !name.starts_with("sps") {
            continue;
        }
        let root_text = root.as_os_str().as_encoded_bytes();
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let named = arguments.windows(root_text.len()).any(|window| window == root_text);
        let opened = fs::read_dir(entry.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten()
            .any(|file| fs::read_link(file.path()).is_ok_and(|target| target.starts_with(root)));
        if named || opened {
            found.push(id);
        }
    }
    found
}

/// Where a built program lies: `SPS_BIN_DIR`, set by make, else beside the test programs.
pub fn program(name: &str) -> PathBuf {
    let folder = std::env::var_os("SPS_BIN_DIR").map_or_else(
        || {
            // target/debug/deps/test-program
            let own = std::env::current_exe().expect("a program knows its own file");
            own.ancestors().nth(2).expect("a test program lies in deps").to_owned()
        },
        PathBuf::from,
    );
    let file = folder.join(name);
    assert!(
        file.exists(),
        "{} is not built: set SPS_BIN_DIR or run make test",
        file.display()
    );
    file
}
