//! Any daemon may be killed at any instant: the others go on, it is back, nothing acknowledged is lost.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use sps_tests::instance::{DOMAIN, processes_of};
use sps_tests::load::calls::{Ends, Outcome, Plan, play};
use sps_tests::load::port::Port;
use sps_tests::load::registers;
use sps_tests::net::V4;
use sps_tests::process::{is_alive, send_signal};
use sps_tests::wait::{bounded_by, wait_until_within};
use sps_tests::{Agent, Instance, Options, Uas, bounded, wait_until};

/// Registers `user` and demands that it is accepted.
fn register(agent: &mut Agent, sps: &Instance, user: &str, contact: &str) {
    let aor = format!("<{}>", sps.uri(user));
    let request = agent
        .request("REGISTER", &format!("sip:{DOMAIN}"))
        .set("To", aor.clone())
        .set("Contact", format!("<{contact}>"))
        .with("Expires", "3600");
    let answer = agent.ask(sps.addr(), &request);
    assert_eq!(answer.status(), Some(200), "{answer}");
}

/// Asks until a request gets through: a proxy that was killed comes back, and until then nobody answers.
fn wait_served(agent: &mut Agent, sps: &Instance, user: &str) {
    wait_until_within(Duration::from_secs(20), &format!("{user} is reached"), || {
        let request = agent.request("MESSAGE", &sps.uri(user));
        agent.send(sps.addr(), &request);
        let answer = agent.try_receive(Duration::from_millis(500));
        answer.is_some_and(|answer| {
            answer.message.status() == Some(200) && answer.message.header("Call-ID") == request.header("Call-ID")
        })
    });
}

/// No call is to fail: each gets what time there is.
const PATIENT: Duration = Duration::from_secs(8);

/// A call that had its 100 when the proxy died is not repeated by its caller (RFC 3261 §17.1.1.2) and never ends: it must make room
/// for others before the traffic does.
const IMPATIENT: Duration = Duration::from_secs(2);

fn traffic(sps: &Instance, seconds: u64, give_up: Duration) -> (thread::JoinHandle<Outcome>, std::net::SocketAddr) {
    let mut ends = Ends::bind(V4).expect("two ports are free");
    let callee = ends.callee.addr();
    sps.route("1555*", callee);
    let plan = Plan {
        give_up,
        ..Plan::window(sps.addr(), "15550100@sps.test", 16, Duration::from_secs(seconds))
    };
    (thread::spawn(move || play(&plan, &mut ends)), callee)
}

/// Calls need no registrar: none fails while it is killed again and again, and its bindings are all there after each time.
#[test]
fn killing_the_registrar_costs_no_call_and_no_registration() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        let callee = Uas::answering(V4);
        let mut agent = Agent::udp(V4);
        let (load, _) = traffic(&sps, 8, PATIENT);
        let proxy = sps.pid("sps-proxy");
        for round in 0..3 {
            let user = format!("user{round}");
            register(&mut agent, &sps, &user, callee.uri());
            sps.kill_and_wait("sps-registrar");
            for known in 0..=round {
                let request = agent.request("MESSAGE", &sps.uri(&format!("user{known}")));
                assert_eq!(
                    agent.ask(sps.addr(), &request).status(),
                    Some(200),
                    "user{known} after kill {round}"
                );
            }
        }
        register(&mut agent, &sps, "late", callee.uri());
        let outcome = load.join().expect("the load does not panic");
        assert_eq!(outcome.failed, 0, "{:?}", outcome.first_failure);
        assert!(outcome.completed > 100, "{} calls", outcome.completed);
        assert_eq!(sps.pid("sps-proxy"), proxy);
        assert_eq!(sps.daemon("sps-registrar")["restarts"], 3);
    });
}

/// Every REGISTER that was answered 200 before the kill is there after it.
#[test]
fn killing_the_registrar_in_a_storm_loses_nothing_acknowledged() {
    bounded_by(Duration::from_secs(180), || {
        let sps = Instance::start(Options::new());
        let mut port = Port::bind((V4, 0).into()).expect("a port is free");
        let plan = registers::Plan {
            registrar: sps.addr(),
            domain: DOMAIN.into(),
            users: 20_000,
            window: 32,
            first_cseq: 1,
            duration: Duration::from_secs(60),
            limit: 20_000,
            run: 1,
        };
        let storm = thread::spawn(move || registers::play(&plan, &mut port));
        let mut kills = 0;
        while !storm.is_finished() && kills < 3 {
            sps.kill_and_wait("sps-registrar");
            kills += 1;
        }
        let outcome = storm.join().expect("the storm does not panic");
        // While it was away some were told to come again; what counts is what was accepted.
        assert!(kills > 0 && outcome.completed > 0, "{outcome:?}");
        let listed = sps.spsctl(&["--json", "registration", "list"]).ok().stdout;
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("list gives JSON");
        let rows = listed
            .as_array()
            .or_else(|| listed["registrations"].as_array())
            .expect("a list gives an array");
        let known = rows.iter().filter(|row| row.to_string().contains("sip:u")).count() as u64;
        assert!(
            known >= outcome.completed,
            "{known} known, {} acknowledged",
            outcome.completed
        );
    });
}

/// The proxy comes back on the same sockets, and with it the calls; the registrar and its bindings are untouched.
#[test]
fn killing_the_proxy_under_traffic_is_over_in_a_moment() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        let callee = Uas::answering(V4);
        let mut agent = Agent::udp(V4);
        register(&mut agent, &sps, "alice", callee.uri());
        let (load, _) = traffic(&sps, 8, IMPATIENT);
        let registrar = sps.pid("sps-registrar");
        for _ in 0..2 {
            sps.kill_and_wait("sps-proxy");
            wait_served(&mut agent, &sps, "alice");
        }
        let outcome = load.join().expect("the load does not panic");
        // What was on the way at a kill may be lost, sixteen at a time; what came later is not.
        assert!(
            outcome.failed <= 32,
            "{} failed, first {:?}",
            outcome.failed,
            outcome.first_failure
        );
        assert!(outcome.completed > 100, "{} calls", outcome.completed);
        assert_eq!(sps.pid("sps-registrar"), registrar, "the registrar kept serving");
        assert_eq!(sps.daemon("sps-proxy")["restarts"], 2);

        // Nothing lingers: the next hundred calls all succeed.
        let mut ends = Ends::bind(V4).expect("two ports are free");
        sps.route("1666*", ends.callee.addr());
        let plan = Plan::window(sps.addr(), "16660100@sps.test", 8, Duration::from_secs(1));
        let after = play(&plan, &mut ends);
        assert_eq!(after.failed, 0, "{:?}", after.first_failure);
    });
}

/// A dialog outlives the proxy that helped to make it: its BYE still finds the way (the MAC keys are the same).
#[test]
fn a_dialog_survives_the_death_of_the_proxy() {
    bounded(|| {
        let (mut caller, mut callee) = (Agent::udp(V4), Agent::udp(V4));
        let sps = Instance::start(Options::new());
        sps.route("1555*", callee.addr());
        let invite = caller.request("INVITE", &sps.uri("15550100"));
        caller.send(sps.addr(), &invite);
        let got = callee.expect_request("INVITE");
        let contact = format!("<{}>", callee.uri("c"));
        let response = got.message.response(200, "OK").to_tag("c").with("Contact", contact);
        callee.reply(&got, &response);
        let answer = caller.final_response();
        let mut dialog = sps_tests::Dialog::of_caller(&invite, &answer);
        let ack = dialog.ack(&mut caller, 1);
        caller.send(sps.addr(), &ack);
        callee.expect_request("ACK");
        sps.kill_and_wait("sps-proxy");
        let bye = dialog.request(&mut caller, "BYE");
        caller.send(sps.addr(), &bye);
        let bye = callee.expect_request("BYE");
        callee.reply(&bye, &bye.message.response(200, "OK"));
        assert_eq!(caller.expect_status(200).cseq(), (2, "BYE"));
    });
}

/// A daemon that hangs is as good as dead: the master finds it by its silence.
#[test]
fn a_hung_daemon_is_replaced() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        let callee = Uas::answering(V4);
        let mut agent = Agent::udp(V4);
        register(&mut agent, &sps, "alice", callee.uri());
        for name in ["sps-registrar", "sps-proxy"] {
            let hung = sps.pid(name);
            send_signal(hung, Signal::SIGSTOP);
            wait_until_within(Duration::from_secs(40), &format!("{name} is replaced"), || {
                !is_alive(hung)
            });
            wait_until(&format!("{name} is up"), || {
                let daemon = sps.daemon(name);
                daemon["state"] == "up" && daemon["pid"].as_u64() != Some(u64::from(hung))
            });
            wait_served(&mut agent, &sps, "alice");
            register(&mut agent, &sps, name, callee.uri());
        }
    });
}

/// Daemons outlive their master; the next start takes over what it finds, and nothing is there twice.
#[test]
fn without_the_master_the_others_serve_on_until_the_next_start() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        let callee = Uas::answering(V4);
        let mut agent = Agent::udp(V4);
        register(&mut agent, &sps, "alice", callee.uri());
        let (master, proxy) = (sps.pid("sps-master"), sps.pid("sps-proxy"));
        send_signal(master, Signal::SIGKILL);
        wait_until("the master is dead", || !is_alive(master));
        for _ in 0..20 {
            let request = agent.request("MESSAGE", &sps.uri("alice"));
            assert_eq!(agent.ask(sps.addr(), &request).status(), Some(200));
        }
        assert!(is_alive(proxy));
        register(&mut agent, &sps, "bob", callee.uri());

        sps.spsctl(&["start"]).ok();
        for user in ["alice", "bob"] {
            let request = agent.request("MESSAGE", &sps.uri(user));
            assert_eq!(agent.ask(sps.addr(), &request).status(), Some(200), "{user}");
        }
        let masters = processes_of(sps.root());
        let named = sps.status()["daemons"].as_array().map(Vec::len);
        wait_until("what the old master left is gone", || {
            Some(processes_of(sps.root()).len()) == named
        });
        assert!(masters.len() >= 3);
    });
}
