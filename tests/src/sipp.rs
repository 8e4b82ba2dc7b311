//! SIPp as caller or callee, driven by the scenarios in `tests/sipp/`.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::net::{free_addr, wait_tcp_listening, wait_udp_bound};
use crate::process::{Process, find};

/// How to run one SIPp.
pub struct Sipp {
    scenario: PathBuf,
    target: Option<SocketAddr>,
    local: SocketAddr,
    tcp: bool,
    arguments: Vec<String>,
    limit: Duration,
}

impl Sipp {
    /// A callee on a free port of `ip`.
    pub fn callee(scenario: &str, ip: IpAddr) -> Sipp {
        Sipp {
            scenario: scenario_file(scenario),
            target: None,
            local: free_addr(ip),
            tcp: false,
            arguments: Vec::new(),
            limit: Duration::from_secs(60),
        }
    }

    /// A caller that sends to `proxy`.
    pub fn caller(scenario: &str, proxy: SocketAddr) -> Sipp {
        Sipp {
            target: Some(proxy),
            ..Sipp::callee(scenario, proxy.ip())
        }
    }

    /// TCP, one connection for all calls.
    pub fn tcp(mut self) -> Sipp {
        self.tcp = true;
        self
    }

    /// Ends after this many calls.
    pub fn calls(self, calls: u32) -> Sipp {
        self.option("-m", calls)
    }

    /// New calls in a second.
    pub fn rate(self, calls: u32) -> Sipp {
        self.option("-r", calls)
    }

    /// Calls at the same time.
    pub fn at_once(self, calls: u32) -> Sipp {
        self.option("-l", calls)
    }

    /// The user part that is called, `[service]`.
    pub fn number(self, user: &str) -> Sipp {
        self.option("-s", user)
    }

    /// A word for the scenario: `[name]` becomes `value`.
    pub fn key(mut self, name: &str, value: &str) -> Sipp {
        self.arguments
            .extend(["-key".to_owned(), name.to_owned(), value.to_owned()]);
        self
    }

    /// Any other option with a value.
    pub fn option(mut self, name: &str, value: impl ToString) -> Sipp {
        self.arguments.extend([name.to_owned(), value.to_string()]);
        self
    }

    /// Longest time the whole run may take.
    pub fn within(mut self, limit: Duration) -> Sipp {
        self.limit = limit;
        self
    }

    /// Starts it; for a callee, waits until its port is bound.
    pub fn start(self, folder: &Path) -> Running {
        let name = self
            .scenario
            .file_stem()
            .expect("a scenario has a name")
            .to_string_lossy()
            .into_owned();
        let files = (0..)
            .map(|n| folder.join(format!("sipp-{name}-{n}")))
            .find(|path| fs::create_dir(path).is_ok())
            .expect("numbers do not run out");
        let mut command = Command::new(find("sipp").expect("the test asked for sipp first"));
        command.current_dir(&files).env("TERM", "dumb");
        command.args(["-nostdin", "-sf"]).arg(&self.scenario);
        command.args(["-i", &bare(self.local.ip()), "-p", &self.local.port().to_string()]);
        command.args(["-mi", &bare(self.local.ip())]);
        command.args(["-t", if self.tcp { "t1" } else { "u1" }]);
        command.args(["-timeout", &format!("{}s", self.limit.as_secs()), "-timeout_error"]);
        command.args(["-trace_err", "-error_file", "errors.log"]);
        command.args(["-trace_msg", "-message_file", "messages.log"]);
        command.args(["-trace_stat", "-stf", "statistics.csv", "-fd", "1"]);
        command.args([
            "-watchdog_major_threshold",
            "60000",
            "-watchdog_minor_threshold",
            "60000",
        ]);
        command.args(&self.arguments);
        if let Some(target) = self.target {
            command.arg(target.to_string());
        }
        let mut process = Process::start(&format!("sipp-{name}"), command, folder);
        if self.target.is_none() {
            let port = self.local.port();
            if self.tcp {
                wait_tcp_listening(port)
            } else {
                wait_udp_bound(port)
            }
            assert!(!process.has_ended(), "sipp {name} ended at once:\n{}", process.output());
        }
        Running {
            process,
            files,
            addr: self.local,
            limit: self.limit + Duration::from_secs(10),
        }
    }
}

/// A SIPp that has been started.
pub struct Running {
    process: Process,
    files: PathBuf,
    addr: SocketAddr,
    limit: Duration,
}

impl Running {
    /// Its own address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Waits for its end and demands that every call succeeded.
    #[track_caller]
    pub fn success(mut self) -> Outcome {
        let status = self.process.wait(self.limit);
        assert!(
            status.success(),
            "sipp: {status}\n{}\n{}",
            fs::read_to_string(self.files.join("errors.log")).unwrap_or_default(),
            crate::process::tail(&self.messages(), 6_000),
        );
        self.outcome()
    }

    /// Waits for its end, whatever it is.
    pub fn finish(mut self) -> Outcome {
        self.process.wait(self.limit);
        self.outcome()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.process.has_ended()
    }

    /// Everything it sent and received so far.
    pub fn messages(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.files.join("messages.log")).unwrap_or_default()).into_owned()
    }

    fn outcome(&self) -> Outcome {
        let statistics = fs::read_to_string(self.files.join("statistics.csv")).unwrap_or_default();
        Outcome {
            statistics,
            messages: self.messages(),
        }
    }
}

/// What one SIPp run came to.
pub struct Outcome {
    statistics: String,
    /// The message log.
    pub messages: String,
}

impl Outcome {
    /// A cumulative column of the statistics, for example `SuccessfulCall`.
    #[track_caller]
    pub fn count(&self, name: &str) -> u64 {
        let mut lines = self.statistics.lines();
        let head = lines.next().expect("sipp wrote statistics");
        let column = head.split(';').position(|title| title == format!("{name}(C)"));
        let column = column.unwrap_or_else(|| panic!("no column {name} in {head}"));
        let last = lines.next_back().expect("sipp wrote a line of statistics");
        last.split(';')
            .nth(column)
            .and_then(|text| text.trim().parse().ok())
            .expect("a count is a number")
    }

    /// The messages in the order in which they were sent or received: direction and first line.
    pub fn flow(&self) -> Vec<String> {
        let mut flow = Vec::new();
        let mut direction = None;
        for line in self.messages.lines() {
            if line.contains(" message sent ") || line.contains(" message sent [") {
                direction = Some("->");
            } else if line.contains(" message received ") {
                direction = Some("<-");
            } else if let Some(arrow) = direction
                && !line.trim().is_empty()
            {
                let words: Vec<_> = line.trim().split(' ').collect();
                let what = if words[0] == "SIP/2.0" { words[1] } else { words[0] };
                flow.push(format!("{arrow}{what}"));
                direction = None;
            }
        }
        flow
    }

    /// The messages received, whole, that start with `start`.
    pub fn received(&self, start: &str) -> Vec<crate::Message> {
        let mut found = Vec::new();
        for block in self.messages.split("-----------------------------------------------") {
            let Some((head, message)) = block.split_once("\n\n") else {
                continue;
            };
            if head.contains("message received") && message.starts_with(start) {
                let message = message.replace("\r\n", "\n").replace('\n', "\r\n");
                found.extend(crate::Message::parse(message.as_bytes()));
            }
        }
        found
    }
}

/// The file of a scenario in `tests/sipp/`.
fn scenario_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("sipp")
        .join(format!("{name}.xml"))
}

fn bare(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}
