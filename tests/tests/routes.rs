//! Routes by the shipped tool: in force when the command returns, a hundred thousand at once, all or nothing, explained.

use std::fmt::Write as _;
use std::fs;
use std::thread;
use std::time::Duration;

use sps_tests::load::calls::{Ends, Plan, play};
use sps_tests::net::V4;
use sps_tests::wait::bounded_by;
use sps_tests::{Agent, Instance, Options, Uas, bounded};

/// A route decides for the first request after the command that made or took it, while calls run at full speed, and none of
/// these fails.
#[test]
fn a_change_is_in_force_when_the_command_returns_under_load() {
    bounded(|| {
        let mut ends = Ends::bind(V4).expect("two ports are free");
        let callee = Uas::answering(V4);
        let sps = Instance::start(Options::new());
        sps.route("1555*", ends.callee.addr());
        let plan = Plan::window(sps.addr(), "15550100@sps.test", 16, Duration::from_secs(6));
        let load = thread::spawn(move || play(&plan, &mut ends));

        let mut agent = Agent::udp(V4);
        let mut changes = 0;
        while !load.is_finished() {
            let number = format!("17770{changes:04}");
            let added = sps
                .spsroute(&["--json", "add", &number, &callee.addr().to_string()])
                .ok();
            let request = agent.request("MESSAGE", &sps.uri(&number));
            assert_eq!(
                agent.ask(sps.addr(), &request).status(),
                Some(200),
                "{number} was just added"
            );
            let id = id_of(&added.stdout);
            sps.spsroute(&["remove", &id]).ok();
            let request = agent.request("MESSAGE", &sps.uri(&number));
            let answer = agent.ask(sps.addr(), &request);
            assert!(
                matches!(answer.status(), Some(404 | 480)),
                "{number} was just removed: {answer}"
            );
            changes += 1;
        }
        let outcome = load.join().expect("the load does not panic");
        assert_eq!(outcome.failed, 0, "{:?}", outcome.first_failure);
        assert!(
            outcome.completed > 100 && changes > 3,
            "{} calls, {changes} changes",
            outcome.completed
        );
    });
}

fn id_of(json: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error} in {json}"));
    let route = if value.is_array() { &value[0] } else { &value };
    let id = if route["id"].is_null() {
        &route["route"]["id"]
    } else {
        &route["id"]
    };
    id.as_u64().unwrap_or_else(|| panic!("no id in {json}")).to_string()
}

/// A file of routes as `export` writes it, with this many patterns.
fn csv(sps: &Instance, hop: &str, count: u32) -> String {
    sps.spsroute(&["add", "4999*", hop]).ok();
    let exported = sps.spsroute(&["export"]).ok().stdout;
    let mut lines = exported.lines();
    let head = lines.next().expect("export writes a head").to_owned();
    let line = lines
        .find(|line| line.contains("4999*"))
        .expect("export writes the route")
        .to_owned();
    let listed = sps.spsroute(&["--json", "list"]).ok().stdout;
    let id = id_of(&listed);
    sps.spsroute(&["remove", &id]).ok();
    // An id column, if there is one, is the tool's own business: left empty it makes a new one.
    let columns: Vec<&str> = head.split(',').collect();
    let mut text = format!("{head}\n");
    for n in 0..count {
        let fields: Vec<String> = line
            .split(',')
            .zip(&columns)
            .map(|(field, column)| match *column {
                "id" => String::new(),
                _ => field.replace("4999*", &format!("4{n:06}")),
            })
            .collect();
        let _ = writeln!(text, "{}", fields.join(","));
    }
    text
}

#[test]
fn a_hundred_thousand_routes_are_imported_at_once_and_used() {
    bounded_by(Duration::from_secs(180), || {
        let callee = Uas::answering(V4);
        let sps = Instance::start(Options::new());
        sps.route("1555*", callee.addr());
        let file = sps.root().join("routes.csv");
        fs::write(&file, csv(&sps, &callee.addr().to_string(), 100_000)).expect("the folder can be written");
        let path = file.to_str().expect("it is ASCII");
        sps.spsroute(&["import", path]).ok();
        let mut agent = Agent::udp(V4);
        for number in ["4000000", "4012345", "4099999", "15550100"] {
            let request = agent.request("MESSAGE", &sps.uri(number));
            let answer = agent.ask(sps.addr(), &request);
            // Whether import replaces or adds, what it brought is there.
            if number != "15550100" {
                assert_eq!(answer.status(), Some(200), "{number}: {answer}");
            }
        }
        let request = agent.request("MESSAGE", &sps.uri("4100000"));
        assert!(matches!(agent.ask(sps.addr(), &request).status(), Some(404 | 480)));
        let exported = sps.spsroute(&["export"]).ok().stdout;
        let count = exported
            .lines()
            .filter(|line| line.contains(&callee.addr().port().to_string()))
            .count();
        assert!((100_000..=100_001).contains(&count), "{count} lines");
        // One more among many is a matter of moments, and in force.
        sps.route("4777777", callee.addr());
        let request = agent.request("MESSAGE", &sps.uri("4777777"));
        assert_eq!(agent.ask(sps.addr(), &request).status(), Some(200));
    });
}

#[test]
fn a_bad_line_is_named_and_nothing_of_the_file_is_applied() {
    bounded(|| {
        let callee = Uas::answering(V4);
        let sps = Instance::start(Options::new());
        let mut lines: Vec<String> = csv(&sps, &callee.addr().to_string(), 500)
            .lines()
            .map(str::to_owned)
            .collect();
        lines[300] = lines[300].replace("4000299", "4x!299");
        let file = sps.root().join("routes.csv");
        fs::write(&file, lines.join("\n")).expect("the folder can be written");
        let said = sps.spsroute(&["import", file.to_str().expect("it is ASCII")]);
        assert_ne!(said.code, 0, "{said:?}");
        assert!(said.stderr.contains("301"), "the line is named: {}", said.stderr);
        let mut agent = Agent::udp(V4);
        let request = agent.request("MESSAGE", &sps.uri("4000001"));
        assert!(
            matches!(agent.ask(sps.addr(), &request).status(), Some(404 | 480)),
            "nothing is half applied"
        );
        let listed: serde_json::Value =
            serde_json::from_str(&sps.spsroute(&["--json", "list"]).ok().stdout).expect("list gives JSON");
        assert_eq!(listed.as_array().map(Vec::len), Some(0), "{listed}");
    });
}

/// What export writes, import takes, and nothing has changed.
#[test]
fn export_and_import_are_each_others_inverse() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        sps.spsroute(&[
            "add",
            "+4930*",
            "gw.example:5070",
            "--transport",
            "tcp",
            "--priority",
            "3",
            "--weight",
            "7",
        ])
        .ok();
        sps.spsroute(&["add", "49..5*", "[2001:db8::1]:5080"]).ok();
        sps.spsroute(&["add", "--domain", "far.example", "192.0.2.4"]).ok();
        let first = sps.spsroute(&["export"]).ok().stdout;
        assert_eq!(first.lines().count(), 4, "{first}");
        let file = sps.root().join("routes.csv");
        fs::write(&file, &first).expect("the folder can be written");
        let other = Instance::init(Options::new());
        other.spsroute(&["import", file.to_str().expect("it is ASCII")]).ok();
        assert_eq!(other.spsroute(&["export"]).ok().stdout, first);
    });
}

#[test]
fn explain_tells_the_stages_of_a_decision() {
    bounded(|| {
        let callee = Uas::answering(V4);
        let sps = Instance::start(Options::new());
        sps.route("1555*", callee.addr());
        sps.register("bob", callee.uri(), "1.0");
        for (uri, expected) in [
            (sps.uri("15550100"), callee.addr().to_string()),
            (sps.uri("bob"), callee.addr().to_string()),
        ] {
            let words = sps.spsroute(&["explain", &uri]).ok().stdout;
            assert!(words.contains(&expected), "{uri}:\n{words}");
            assert!(words.lines().count() > 1, "stage by stage:\n{words}");
            let json = sps.spsroute(&["--json", "explain", &uri]).ok().stdout;
            serde_json::from_str::<serde_json::Value>(&json).unwrap_or_else(|error| panic!("{error} in {json}"));
        }
        let nobody = sps.spsroute(&["explain", &sps.uri("nobody")]);
        assert!(
            nobody.stdout.contains("404") || nobody.stdout.contains("480"),
            "{nobody:?}"
        );
        // The same decision with the daemons stopped, from the same files.
        sps.stop();
        let words = sps.spsroute(&["explain", &sps.uri("15550100")]).ok().stdout;
        assert!(words.contains(&callee.addr().to_string()), "{words}");
    });
}

#[test]
fn wrong_routes_are_refused_with_a_reason() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        let wrong: [&[&str]; 6] = [
            &["add", "49x*", "192.0.2.1"],
            &["add", "49*30", "192.0.2.1"],
            &["add", "49*", "192.0.2.1:99999"],
            &["add", "49*", ""],
            &["add", "--domain", "not a domain", "192.0.2.1"],
            &["remove", "4711"],
        ];
        for arguments in wrong {
            let said = sps.spsroute(arguments);
            assert_ne!(said.code, 0, "{arguments:?}: {said:?}");
            assert!(!said.stderr.trim().is_empty(), "{arguments:?}");
        }
        assert_eq!(sps.spsroute(&["--json", "list"]).ok().stdout.trim(), "[]");
    });
}

/// Commands at the same time do not lose each other's routes.
#[test]
fn two_operators_at_once_lose_nothing() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|worker| {
                    let sps = &sps;
                    scope.spawn(move || {
                        for n in 0..5 {
                            sps.spsroute(&["add", &format!("9{worker}{n}*"), "192.0.2.1"]).ok();
                        }
                    })
                })
                .collect();
            for worker in workers {
                worker.join().expect("every add succeeds");
            }
        });
        let listed: serde_json::Value =
            serde_json::from_str(&sps.spsroute(&["--json", "list"]).ok().stdout).expect("list gives JSON");
        assert_eq!(listed.as_array().map(Vec::len), Some(20), "{listed}");
    });
}
