//! The access log, line by line, and the error log's level; both after they were moved away.

use std::fs;

use sps_tests::net::V4;
use sps_tests::{Agent, Instance, Options, Uas, bounded, wait_until};

/// Takes an access log line apart; panics with the line where it is not as documented.
struct Line {
    source: String,
    user: String,
    time: String,
    request: String,
    status: u16,
    fields: Vec<(String, String)>,
}

fn parse(line: &str) -> Line {
    let wrong = |what: &str| -> ! { panic!("{what}: {line}") };
    let Some((head, rest)) = line.split_once(" [") else {
        wrong("no time")
    };
    let words: Vec<&str> = head.split(' ').collect();
    let [source, "-", user] = words[..] else {
        wrong("the head is SOURCE - USER")
    };
    let Some((time, rest)) = rest.split_once("] \"") else {
        wrong("no request")
    };
    let Some((request, rest)) = rest.split_once("\" ") else {
        wrong("the request has no end")
    };
    let mut words = rest.split(' ');
    let status = words
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or_else(|| wrong("no status"));
    let took: Option<u64> = words.next().and_then(|word| word.parse().ok());
    if took.is_none() {
        wrong("no milliseconds");
    }
    let fields = words
        .map(|word| word.split_once('=').unwrap_or_else(|| wrong("not key=value")))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    Line {
        source: source.into(),
        user: user.into(),
        time: time.into(),
        request: request.into(),
        status,
        fields,
    }
}

impl Line {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

#[test]
fn each_transaction_leaves_one_line_as_documented() {
    bounded(|| {
        let callee = Uas::answering(V4);
        let mut agent = Agent::udp(V4);
        let sps = Instance::start(Options::new());
        sps.route("1555*", callee.addr());
        sps.register("bob", callee.uri(), "1.0");
        for (user, stage, status) in [
            ("15550100", "number-route", 200),
            ("bob", "registry", 200),
            ("nobody", "", 404),
        ] {
            let request = agent.request("MESSAGE", &sps.uri(user));
            agent.ask(sps.addr(), &request);
            let call_id = request.must("Call-ID");
            let line = parse(&sps.wait_access(&[call_id]));
            assert_eq!(line.source, agent.addr().to_string());
            assert_eq!(line.user, "-");
            assert_eq!(line.request, format!("MESSAGE {} SIP/2.0", sps.uri(user)));
            assert!(
                line.status == status || (status == 404 && line.status == 480),
                "{}",
                line.status
            );
            assert_eq!(line.field("call-id"), Some(call_id));
            if status == 200 {
                assert_eq!(line.field("next"), Some(format!("{}/udp", callee.addr()).as_str()));
                assert_eq!(line.field("branches"), Some("1"));
                assert_eq!(line.field("stage"), Some(stage));
            }
            // 20/Nov/2026:06:01:02.123 +0000
            let shape: String = line
                .time
                .chars()
                .map(|c| {
                    if c.is_ascii_digit() {
                        '9'
                    } else if c.is_alphabetic() {
                        'a'
                    } else {
                        c
                    }
                })
                .collect();
            assert_eq!(shape, "99/aaa/9999:99:99:99.999 +9999", "{}", line.time);
        }
        // One line each, and none for anything else.
        let log = sps.log("access_log");
        assert_eq!(log.lines().filter(|line| line.contains("MESSAGE")).count(), 3, "{log}");
        for line in log.lines() {
            parse(line);
        }
    });
}

/// What strangers put into a request cannot break a line or forge another (CWE-117).
#[test]
fn a_hostile_request_cannot_forge_a_line() {
    bounded(|| {
        let mut agent = Agent::udp(V4);
        let sps = Instance::start(Options::new());
        let request = agent
            .request("MESSAGE", "sip:a%0d%0a\"b@sps.test")
            .set("Call-ID", "x\"y\u{1b}[31m\u{7f}status=200");
        agent.send(sps.addr(), &request);
        let answer = agent.receive();
        assert!(answer.message.status().is_some());
        let honest = agent.request("MESSAGE", &sps.uri("nobody"));
        agent.ask(sps.addr(), &honest);
        sps.wait_access(&[honest.must("Call-ID")]);
        let log = fs::read(sps.root().join("log/access_log")).expect("the log is there");
        assert!(
            log.iter().all(|byte| *byte == b'\n' || (0x20..0x7f).contains(byte)),
            "{}",
            String::from_utf8_lossy(&log)
        );
    });
}

/// What logrotate does: move, reopen; every line is in one of the two files.
#[test]
fn reopening_loses_no_line() {
    bounded(|| {
        let callee = Uas::answering(V4);
        let mut agent = Agent::udp(V4);
        let sps = Instance::start(Options::new());
        sps.route("1555*", callee.addr());
        let (log, old) = (sps.root().join("log/access_log"), sps.root().join("log/access_log.1"));
        let mut call_ids = Vec::new();
        for n in 0..60 {
            if n == 30 {
                fs::rename(&log, &old).expect("the log can be moved");
                fs::rename(sps.root().join("log/error_log"), sps.root().join("log/error_log.1"))
                    .expect("it can be moved");
                sps.spsctl(&["log", "reopen"]).ok();
                assert!(
                    log.exists() && sps.root().join("log/error_log").exists(),
                    "open when the command returns"
                );
            }
            let request = agent.request("MESSAGE", &sps.uri("15550100"));
            assert_eq!(agent.ask(sps.addr(), &request).status(), Some(200));
            call_ids.push(request.must("Call-ID").to_owned());
        }
        sps.wait_access(&[call_ids.last().expect("sixty calls")]);
        let both = fs::read_to_string(&old).expect("it was moved") + &sps.log("access_log");
        for call_id in &call_ids {
            assert_eq!(both.matches(call_id.as_str()).count(), 1, "{call_id}");
        }
    });
}

#[test]
fn the_level_changes_at_run_time() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        let debug = || sps.log("error_log").to_lowercase().matches("debug").count();
        assert_eq!(debug(), 0, "{}", sps.log("error_log"));
        let mut agent = Agent::udp(V4);
        // A refusal of the registrar is worth a line to one who looks for faults, and to nobody else.
        let mut refused = |sps: &Instance| {
            let request = agent
                .request("REGISTER", "sip:sps.test")
                .set("To", "<sip:a@elsewhere.example>");
            assert!(
                agent
                    .ask(sps.addr(), &request)
                    .status()
                    .is_some_and(|status| status >= 400)
            );
        };
        refused(&sps);
        sps.spsctl(&["log", "level", "sps-registrar", "debug"]).ok();
        wait_until("the registrar says more", || {
            refused(&sps);
            debug() > 0
        });
        let wrong = sps.spsctl(&["log", "level", "sps-proxy", "loud"]);
        assert_ne!(wrong.code, 0);
        let wrong = sps.spsctl(&["log", "level", "sps-nobody", "debug"]);
        assert_ne!(wrong.code, 0);
    });
}

/// A start and a stop are told, each with daemon and level.
#[test]
fn the_error_log_tells_starts_and_stops() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        sps.stop();
        let log = sps.log("error_log");
        for daemon in ["sps-master", "sps-proxy", "sps-registrar"] {
            assert!(log.lines().any(|line| line.contains(daemon)), "{daemon} in\n{log}");
        }
    });
}
