//! BIND's `named` as a name server with a zone of the test's own.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::net::{V4, free_addr, wait_tcp_listening, wait_udp_bound};
use crate::process::{Process, find};

/// A running `named`, authoritative for `sps.example` and, without being able to read it, for `broken.example`.
pub struct Named {
    addr: SocketAddr,
    process: Process,
}

impl Named {
    /// Serves `records`, lines of a zone file whose origin is `sps.example.`, from a free port of 127.0.0.1 (UDP and TCP).
    pub fn start(folder: &Path, records: &str) -> Named {
        let addr = free_addr(V4);
        let run = (0..)
            .map(|n| folder.join(format!("named.{n}")))
            .find(|run| !run.exists())
            .expect("numbers do not run out");
        fs::create_dir_all(&run).expect("the test folder can be written");
        let head = "$TTL 300\n@ SOA ns hostmaster 1 3600 600 86400 300\n@ NS ns\nns A 127.0.0.1\n";
        fs::write(run.join("zone"), format!("{head}{records}\n")).expect("the test folder can be written");
        fs::write(run.join("named.conf"), configuration(&run, addr)).expect("the test folder can be written");
        // Debian's AppArmor profile goes by the path of the program and would not let it read this folder.
        let program = run.join("named");
        fs::copy(find("named").expect("the test asked for named first"), &program).expect("named can be copied");
        let mut command = Command::new(&program);
        command.args(["-g", "-4", "-n", "1", "-c"]).arg(run.join("named.conf"));
        let mut process = Process::start("named", command, folder);
        process.wait_output("all zones loaded");
        assert!(!process.has_ended(), "named ended at once:\n{}", process.output());
        assert!(
            process.output().contains("sps.example/IN: loaded"),
            "the zone is wrong:\n{}",
            process.output()
        );
        wait_udp_bound(addr.port());
        wait_tcp_listening(addr.port());
        Named { addr, process }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Makes it a black hole: it takes questions and answers none.
    pub fn freeze(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.process.signal(Signal::SIGCONT);
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        // One that stands still does not hear that it is to end.
        self.thaw();
    }
}

fn configuration(run: &Path, addr: SocketAddr) -> String {
    format!(
        r#"options {{
    directory "{run}";
    listen-on port {port} {{ {ip}; }};
    listen-on-v6 {{ none; }};
    pid-file none;
    session-keyfile "{run}/session.key";
    managed-keys-directory "{run}";
    recursion no;
    allow-query {{ any; }};
    dnssec-validation no;
    empty-zones-enable no;
    rrset-order {{ order none; }};
    notify no;
}};
controls {{ }};
zone "sps.example" {{ type primary; file "{run}/zone"; }};
zone "broken.example" {{ type primary; file "{run}/nowhere"; }};
"#,
        run = run.display(),
        port = addr.port(),
        ip = addr.ip(),
    )
}
