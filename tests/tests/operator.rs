//! The life of an instance as an operator sees it: set up, start, status, check, reload, stop, and what each says when it
//! cannot.

use std::fs;
use std::net::UdpSocket;

use sps_tests::instance::processes_of;
use sps_tests::net::{V4, wait_tcp_listening};
use sps_tests::process::{Process, is_alive, run_within};
use sps_tests::{Agent, Instance, Options, Uas, bounded, wait_until};

const CANT_CREATE: i32 = 73;
const TEMPORARY: i32 = 75;
const USAGE: i32 = 64;
const CONFIG: i32 = 78;
const UNAVAILABLE: i32 = 69;

#[test]
fn a_second_start_says_so_and_exits_75() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        let pid = sps.pid("sps-proxy");
        let said = sps.spsctl(&["start"]).code(TEMPORARY);
        assert!(said.stderr.contains("run"), "{}", said.stderr);
        assert_eq!(sps.pid("sps-proxy"), pid, "the first one was left alone");
    });
}

#[test]
fn a_port_in_use_is_named_and_nothing_stays_behind() {
    bounded(|| {
        let taken = UdpSocket::bind((V4, 0)).expect("a port is free");
        let port = taken.local_addr().expect("a bound socket has an address").port();
        let sps = Instance::init(Options::new().port(port));
        let said = sps.spsctl(&["start"]);
        assert_ne!(said.code, 0, "{said:?}");
        assert!(said.stderr.contains(&port.to_string()), "{}", said.stderr);
        wait_until("nothing is left of it", || processes_of(sps.root()).is_empty());
        drop(taken);
        sps.spsctl(&["start"]).ok();
    });
}

/// A wrong file is told with file, line and column by all that read it, and the good one stays in force.
#[test]
fn a_bad_configuration_names_file_line_and_column() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        let good = fs::read_to_string(sps.config()).expect("init wrote it");
        let lines = good.lines().count();
        let pid = sps.pid("sps-proxy");
        let faults = [
            ("[proxy]\nrecord_root = true\n", lines + 3, "record_root"),
            ("[proxy]\nt1_ms = \"soon\"\n", lines + 3, "t1_ms"),
            ("[proxy\n", lines + 2, ""),
            ("[registrar]\nmin_expires_s = 900\nmax_expires_s = 60\n", 0, "expires"),
        ];
        for (fault, line, word) in faults {
            // The same sections may stand in the sample already; a file of our own keeps the count of lines plain.
            sps.configure("", &format!("# good\n{fault}"));
            let text = fs::read_to_string(sps.config()).expect("just written");
            let at = text.lines().position(|known| known == "# good").expect("just written") + 1;
            let line = if line == 0 { 0 } else { at + line - lines - 1 };
            for command in [&["check"][..], &["reload"], &["start"]] {
                let said = sps.spsctl(command);
                if command == ["start"] {
                    assert!(matches!(said.code, CONFIG | TEMPORARY), "{said:?}");
                    continue;
                }
                let said = said.code(CONFIG);
                let place = format!("{}:{line}:", sps.config().display());
                let named = if line == 0 {
                    said.stderr.contains("sps.toml:")
                } else {
                    said.stderr.contains(&place)
                };
                assert!(
                    named && said.stderr.contains(word),
                    "{command:?}: {place} {word} in\n{}",
                    said.stderr
                );
            }
            assert_eq!(sps.pid("sps-proxy"), pid);
            let mut agent = Agent::udp(V4);
            let request = agent.request("MESSAGE", &sps.uri("nobody"));
            assert!(
                agent.ask(sps.addr(), &request).status().is_some(),
                "the old configuration serves on"
            );
        }
        sps.stop();
        sps.configure("", "[proxy]\nrecord_root = true\n");
        let said = sps.spsctl(&["start"]).code(CONFIG);
        assert!(said.stderr.contains("record_root"), "{}", said.stderr);
        assert!(processes_of(sps.root()).is_empty());
    });
}

#[test]
fn reload_puts_a_changed_file_in_force_without_a_restart() {
    bounded(|| {
        let callee = Uas::answering(V4);
        let sps = Instance::start(Options::new());
        sps.route("1555*", callee.addr());
        let mut agent = Agent::udp(V4);
        let pid = sps.pid("sps-proxy");
        for (n, record_route) in [(1, true), (2, false), (3, true)] {
            sps.configure(
                "domains = [\"second.test\"]",
                &format!("[proxy]\nrecord_route = {record_route}"),
            );
            sps.spsctl(&["reload"]).ok();
            let request = agent.request("SUBSCRIBE", "sip:15550100@second.test");
            assert_eq!(agent.ask(sps.addr(), &request).status(), Some(200));
            let got = callee.wait_for("SUBSCRIBE", n);
            assert_eq!(got.header("Record-Route").is_some(), record_route, "{got}");
        }
        assert_eq!(sps.pid("sps-proxy"), pid);
        assert_eq!(sps.daemon("sps-proxy")["restarts"], 0);
    });
}

#[test]
fn status_tells_each_daemon_in_words_and_json() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        let status = sps.status();
        let names: Vec<_> = status["daemons"]
            .as_array()
            .expect("an array")
            .iter()
            .map(|one| one["name"].clone())
            .collect();
        for name in ["sps-master", "sps-proxy", "sps-registrar"] {
            assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
        }
        for daemon in status["daemons"].as_array().expect("an array") {
            let pid = daemon["pid"].as_u64().expect("pid is a number");
            assert!(is_alive(u32::try_from(pid).expect("process ids are small")), "{daemon}");
            assert_eq!(daemon["state"], "up", "{daemon}");
            assert!(daemon["uptime_s"].is_number(), "{daemon}");
            assert_eq!(daemon["restarts"], 0, "{daemon}");
            let memory = daemon
                .as_object()
                .expect("an object")
                .iter()
                .find(|(key, _)| key.starts_with("memory"));
            assert!(
                memory.is_some_and(|(_, value)| value.as_u64().is_some_and(|value| value > 0)),
                "{daemon}"
            );
        }
        let words = sps.spsctl(&["status"]).ok().stdout;
        for word in ["sps-proxy", "sps-registrar", "up", &sps.addr().to_string()] {
            assert!(words.contains(word), "{word} in\n{words}");
        }
    });
}

#[test]
fn stop_ends_every_process_and_can_be_said_twice() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        assert!(processes_of(sps.root()).len() >= 3);
        sps.stop();
        assert_eq!(processes_of(sps.root()), Vec::<u32>::new());
        UdpSocket::bind(sps.addr()).expect("the port is free again");
        let again = sps.spsctl(&["stop"]);
        assert!(again.code == 0 || !again.stderr.is_empty(), "{again:?}");
        let status = sps.spsctl(&["status"]);
        assert!(matches!(status.code, UNAVAILABLE | TEMPORARY), "{status:?}");
        assert!(!status.stderr.is_empty());
        sps.spsctl(&["start"]).ok();
    });
}

#[test]
fn init_never_writes_over_what_is_there() {
    bounded(|| {
        let sps = Instance::init(Options::new());
        fs::write(sps.config(), "# mine\n").expect("sps.toml can be written");
        let said = sps.spsctl(&["init", "--domain", "other.test"]);
        assert!(
            said.code == 0 || said.code == CANT_CREATE || said.code == TEMPORARY,
            "{said:?}"
        );
        assert!(!said.stderr.is_empty(), "it says that it did nothing");
        assert_eq!(fs::read_to_string(sps.config()).expect("still there"), "# mine\n");
    });
}

#[test]
fn a_root_too_long_for_a_socket_is_refused_at_init() {
    bounded(|| {
        let folder = tempfile::tempdir().expect("/tmp can be written");
        let root = folder.path().join("x".repeat(100));
        let root = root.to_str().expect("it is ASCII");
        let program = sps_tests::instance::program("spsctl");
        let said = run_within(sps_tests::PATIENCE, program, &["--root", root, "init"]);
        assert_ne!(said.code, 0);
        assert!(said.stderr.contains("too long"), "{}", said.stderr);
    });
}

/// `init` alone gives a file that `check` takes and `start` runs; what it listens on is loopback.
#[test]
fn what_init_writes_is_sound() {
    bounded(|| {
        let sps = Instance::init(Options::new());
        sps.spsctl(&["check"]).ok();
        let text = fs::read_to_string(sps.config()).expect("init wrote it");
        assert!(text.contains('#') && text.contains("[[listen]]"), "{text}");
    });
}

/// Not an open relay by accident: beyond loopback somebody must have said who may call.
#[test]
fn a_listener_beyond_loopback_needs_access_rules() {
    bounded(|| {
        let sps = Instance::init(Options::new());
        let wide =
            "[server]\ndomain = \"sps.test\"\n[[listen]]\ntransport = \"udp\"\naddress = \"0.0.0.0\"\nport = 5999\n";
        fs::write(sps.config(), wide).expect("sps.toml can be written");
        let said = sps.spsctl(&["check"]).code(CONFIG);
        assert!(
            said.stderr.contains("open_relay") || said.stderr.contains("access"),
            "{}",
            said.stderr
        );
        let listed = format!("{wide}[[access]]\nsource = \"192.0.2.0/24\"\naction = \"allow\"\n");
        fs::write(sps.config(), listed).expect("sps.toml can be written");
        sps.spsctl(&["check"]).ok();
        fs::write(
            sps.config(),
            wide.replace("[server]\n", "[server]\nopen_relay = true\n"),
        )
        .expect("it can be written");
        sps.spsctl(&["check"]).ok();
    });
}

#[test]
fn wrong_command_lines_exit_64() {
    bounded(|| {
        let sps = Instance::init(Options::new());
        sps.spsctl(&["frobnicate"]).code(USAGE);
        sps.spsctl(&["start", "--no-such-flag"]).code(USAGE);
        sps.spsctl(&["registration", "add", "sip:a@sps.test"]).code(USAGE);
        sps.spsroute(&["add"]).code(USAGE);
        sps.spsctl(&["--help"]).ok();
        sps.spsroute(&["--version"]).ok();
    });
}

/// In the foreground it serves until a signal, then everything is gone.
#[test]
fn start_in_the_foreground_ends_on_a_signal() {
    bounded(|| {
        let sps = Instance::init(Options::new());
        let mut process = Process::start(
            "foreground",
            sps.command("spsctl", &["start", "--foreground"]),
            sps.root(),
        );
        wait_tcp_listening(sps.addr().port());
        wait_until("it is ready", || sps.spsctl(&["status"]).code == 0);
        let mut agent = Agent::udp(V4);
        let request = agent.request("MESSAGE", &sps.uri("nobody"));
        assert!(agent.ask(sps.addr(), &request).status().is_some());
        process.signal(nix::sys::signal::Signal::SIGTERM);
        process.wait(sps_tests::PATIENCE);
        wait_until("its daemons are gone", || processes_of(sps.root()).is_empty());
    });
}

/// OPTIONS for the proxy itself (§11.2): it answers without a route, as monitors want it.
#[test]
fn options_to_the_proxy_itself_are_answered() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        let mut agent = Agent::udp(V4);
        let request = agent.request("OPTIONS", &format!("sip:{}", sps.addr()));
        let answer = agent.ask(sps.addr(), &request);
        assert_eq!(answer.status(), Some(200), "{answer}");
    });
}
