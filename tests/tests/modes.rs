//! Server modes: what is forwarded without state, what callers are told, what is followed, and that a change of mode costs no call.

use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use sps_tests::instance::DOMAIN;
use sps_tests::load::calls::{self, Ends, Plan};
use sps_tests::message::addr_uri;
use sps_tests::net::V4;
use sps_tests::{Agent, Dialog, Instance, Message, Options, Uas, bounded, wait_until};

/// `[proxy]` with short timers and these lines; strangers of the tests may send as fast as they like, on a machine as busy as it is.
fn proxy(lines: &str) -> String {
    format!(
        "[proxy]\nt1_ms = 50\nt2_ms = 200\nt4_ms = 250\n{lines}\n[guard]\nenabled = false\n[overload]\nenabled = false\n"
    )
}

/// An instance with these routes, in force before it starts: a change of routes is handled statefully for a while.
fn with_routes(lines: &str, routes: &[&[&str]]) -> Instance {
    let sps = Instance::init(Options::new().section(&proxy(lines)));
    for route in routes {
        let words: Vec<&str> = [&["add"], *route].concat();
        sps.spsroute(&words).ok();
    }
    sps.spsctl(&["start"]).ok();
    sps
}

/// A figure, summed over the workers.
fn figure(sps: &Instance, name: &str) -> u64 {
    let status = sps.status();
    let Value::Object(blocks) = &status["counters"] else {
        panic!("no counters in {status}")
    };
    let of_proxy = blocks.iter().filter(|(label, _)| label.starts_with("proxy/"));
    of_proxy.filter_map(|(_, block)| block[name].as_u64()).sum()
}

fn wait_figure(sps: &Instance, name: &str, at_least: u64) {
    wait_until(&format!("{name} is {at_least}"), || figure(sps, name) >= at_least);
}

/// Resident kilobytes of sps-proxy.
fn resident(sps: &Instance) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", sps.pid("sps-proxy"))).expect("it runs");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("Linux says so");
    line.split_whitespace()
        .nth(1)
        .and_then(|kb| kb.parse().ok())
        .expect("a number")
}

fn mode(sps: &Instance) -> String {
    sps.status()["mode"]
        .as_str()
        .expect("a running SPS has a mode")
        .to_owned()
}

/// Puts `[proxy]` with these lines in force.
fn reload(sps: &Instance, lines: &str) {
    sps.configure("", &proxy(lines));
    sps.spsctl(&["reload"]).ok();
}

/// MODE-03, RFC 3261 §16.11: thousands of calls leave nothing behind, and each is whole.
#[test]
fn thousands_of_calls_without_state_keep_neither_memory_nor_transactions() {
    bounded(|| {
        let mut ends = Ends::bind(V4).expect("ports are free");
        let hop = ends.callee.addr().to_string();
        let sps = with_routes("mode = \"stateless\"", &[&["1555*", &hop]]);
        assert_eq!(mode(&sps), "stateless");
        let target = format!("15550100@{DOMAIN}");
        let mut play = |calls| {
            let plan = Plan {
                limit: Some(calls),
                ..Plan::window(sps.addr(), &target, 32, Duration::from_secs(60))
            };
            let outcome = calls::play(&plan, &mut ends);
            assert_eq!(outcome.first_failure, None);
            assert_eq!((outcome.completed, outcome.failed), (u64::from(calls), 0));
        };
        play(500);
        let before = resident(&sps);
        play(4_000);
        let after = resident(&sps);
        wait_figure(&sps, "stateless_requests", 2 * 4_500);
        assert_eq!(figure(&sps, "client_transactions"), 0);
        assert_eq!(figure(&sps, "transactions"), 0);
        assert!(after < before + 1_024, "{before} kB became {after} kB");
    });
}

/// MODE-04, §16.11: "a retransmitted request MUST be forwarded to the same destination each time it is processed"
#[test]
fn a_repeated_invite_goes_the_same_way_and_new_ones_share_the_load() {
    bounded(|| {
        let (one, two) = (Uas::silent(V4), Uas::silent(V4));
        let (first, second) = (one.addr().to_string(), two.addr().to_string());
        let sps = with_routes(
            "mode = \"stateless\"",
            &[
                &["1555*", &first, "--weight", "1"],
                &["1555*", &second, "--weight", "1"],
            ],
        );
        let mut caller = Agent::udp(V4);
        let mut invites = Vec::new();
        for _ in 0..40 {
            let invite = caller.request("INVITE", &sps.uri("15550100"));
            // Another From each time a copy is sent: to SPS a repetition, to the callees' journal another message.
            for copy in 0..4 {
                caller.send(sps.addr(), &invite.clone().with("X-Copy", copy.to_string()));
            }
            invites.push(invite);
        }
        wait_until("all copies have come", || {
            one.requests("INVITE").len() + two.requests("INVITE").len() == 160
        });
        let mut ways: HashMap<String, [usize; 2]> = HashMap::new();
        let mut branches: HashMap<String, Vec<String>> = HashMap::new();
        for (way, callee) in [&one, &two].into_iter().enumerate() {
            for got in callee.requests("INVITE") {
                let call = got.must("Call-ID").to_owned();
                ways.entry(call.clone()).or_default()[way] += 1;
                branches.entry(call).or_default().push(got.branch());
            }
        }
        assert!(ways.values().all(|way| way.contains(&4)), "{ways:?}");
        assert!(branches.values().all(|all| all.iter().all(|branch| *branch == all[0])));
        assert!(
            !one.requests("INVITE").is_empty() && !two.requests("INVITE").is_empty(),
            "by weight"
        );
        // CANCEL takes the way and the branch of its INVITE (§9.1).
        for invite in &invites {
            let cancel = Message::request("CANCEL", invite.uri().expect("a request"))
                .with("Via", invite.must("Via"))
                .with("Max-Forwards", "70")
                .with("From", invite.must("From"))
                .with("To", invite.must("To"))
                .with("Call-ID", invite.must("Call-ID"))
                .with("CSeq", "1 CANCEL");
            caller.send(sps.addr(), &cancel);
        }
        wait_until("every CANCEL has come", || {
            one.requests("CANCEL").len() + two.requests("CANCEL").len() == 40
        });
        for callee in [&one, &two] {
            for cancel in callee.requests("CANCEL") {
                assert_eq!(cancel.branch(), branches[cancel.must("Call-ID")][0]);
            }
        }
        assert_eq!(figure(&sps, "transactions"), 0);
    });
}

/// Design: what a registration leads to, and everything for a while after the routes have changed, has a transaction.
#[test]
fn what_must_be_remembered_is_remembered_in_stateless_mode_too() {
    bounded(|| {
        let callee = Uas::answering(V4);
        let sps = with_routes("mode = \"stateless\"", &[&["1555*", &callee.addr().to_string()]]);
        sps.register("bob", callee.uri(), "1.0");
        let mut caller = Agent::udp(V4);
        let to = |caller: &mut Agent, user: &str| {
            let request = caller.request("MESSAGE", &sps.uri(user));
            assert_eq!(caller.ask(sps.addr(), &request).status(), Some(200));
        };
        to(&mut caller, "15550100");
        wait_figure(&sps, "stateless_requests", 1);
        to(&mut caller, "bob");
        wait_figure(&sps, "transactions", 1);
        sps.route("1666*", callee.addr());
        to(&mut caller, "15550100");
        wait_figure(&sps, "transactions", 2);
        assert_eq!(figure(&sps, "stateless_requests"), 1, "64 times T1 have not passed");
        // Then they have, and transactions are over as well.
        wait_until("the transactions are over", || figure(&sps, "transactions") == 0);
        to(&mut caller, "15550100");
        wait_figure(&sps, "stateless_requests", 2);
    });
}

/// MODE-05, MODE-07, §8.3: a caller follows a 302 in the order of q.
#[test]
fn a_caller_follows_what_it_is_told() {
    bounded(|| {
        for mode_word in ["redirect", "stateless-redirect"] {
            let (busy, callee) = (Uas::refusing(V4, 486, "Busy Here"), Uas::answering(V4));
            let sps = with_routes(&format!("mode = \"{mode_word}\""), &[]);
            sps.register("bob", callee.uri(), "0.5");
            sps.register("bob", busy.uri(), "0.9");
            sps.register("bob", "mailto:bob@example.com", "0.1");
            let mut caller = Agent::udp(V4);
            let invite = caller.request("INVITE", &sps.uri("bob"));
            let told = caller.ask(sps.addr(), &invite);
            assert_eq!(told.status(), Some(302), "{told}");
            let contacts = told.values("Contact");
            assert_eq!(
                contacts,
                [
                    format!("<{}>;q=0.9", busy.uri()),
                    format!("<{}>;q=0.5", callee.uri()),
                    "<mailto:bob@example.com>;q=0.1".to_owned()
                ]
            );
            // §8.1.3.4: one after the other, until one answers.
            let mut answered = None;
            for (callee, uri) in [(&busy, &contacts[0]), (&callee, &contacts[1])] {
                let invite = caller.request("INVITE", &addr_uri(uri));
                let answer = caller.ask(callee.addr(), &invite);
                if answer.status() == Some(200) {
                    answered = Some(answer);
                    break;
                }
            }
            assert!(answered.is_some(), "the second one answers");
            let ask = |caller: &mut Agent, uri: &str| {
                let request = caller.request("INVITE", uri);
                caller.ask(sps.addr(), &request).status()
            };
            assert_eq!(ask(&mut caller, &sps.uri("nobody")), Some(404));
            assert_eq!(
                ask(&mut caller, "sip:x@127.0.0.99"),
                Some(404),
                "nothing but what was asked for"
            );
            let left = if mode_word == "redirect" { 3 } else { 0 };
            wait_figure(&sps, "redirected", 1);
            wait_until("MODE-06", || figure(&sps, "transactions") == left);
        }
    });
}

/// MODE-06: no control block, at any rate.
#[test]
fn a_redirect_server_without_state_has_no_transaction_at_any_rate() {
    bounded(|| {
        let sps = with_routes("mode = \"stateless-redirect\"", &[&["1555*", "192.0.2.9:5080"]]);
        let mut caller = Agent::udp(V4);
        let mut most = 0;
        for round in 0..10 {
            for _ in 0..100 {
                let invite = caller.request("INVITE", &sps.uri("15550100"));
                let told = caller.ask(sps.addr(), &invite);
                assert_eq!(told.values("Contact"), ["<sip:15550100@192.0.2.9:5080>"]);
                let ack = Message::request("ACK", &sps.uri("15550100"))
                    .with("Via", invite.must("Via"))
                    .with("From", invite.must("From"))
                    .with("To", told.must("To"))
                    .with("Call-ID", invite.must("Call-ID"))
                    .with("CSeq", "1 ACK");
                caller.send(sps.addr(), &ack);
            }
            wait_figure(&sps, "redirected", 100 * (round + 1));
            most = most.max(figure(&sps, "transactions"));
        }
        assert_eq!(most, 0);
    });
}

/// A callee that answers 302 with this Contact.
fn redirecting(contact: String) -> Uas {
    Uas::scripted(Agent::udp(V4), move |message| match message.method() {
        Some("INVITE" | "MESSAGE") => vec![
            message
                .response(302, "Moved Temporarily")
                .to_tag("moved")
                .with("Contact", contact.clone()),
        ],
        _ => Vec::new(),
    })
}

/// FORK-05, §16.5, §16.7 step 4
#[test]
fn a_redirection_is_followed_when_configured_and_told_when_not() {
    bounded(|| {
        let mobile = Uas::answering(V4);
        let desk = redirecting(format!("<{}>;q=0.8, <mailto:bob@example.com>", mobile.uri()));
        let sps = with_routes("", &[]);
        sps.register("bob", desk.uri(), "1.0");
        let mut caller = Agent::udp(V4);
        let invite = caller.request("INVITE", &sps.uri("bob"));
        let told = caller.ask(sps.addr(), &invite);
        assert_eq!(told.status(), Some(302));
        assert_eq!(told.values("Contact").len(), 2, "{told}");
        assert!(mobile.seen().is_empty());
        reload(&sps, "recurse = true");
        let invite = caller.request("INVITE", &sps.uri("bob"));
        let answer = caller.ask(sps.addr(), &invite);
        assert_eq!(answer.status(), Some(200), "{answer}");
        assert_eq!(answer.contact(), mobile.uri());
        let got = mobile.wait_for("INVITE", 1);
        assert_eq!(got.uri(), Some(mobile.uri()), "§16.6 step 2");
        wait_figure(&sps, "recursions", 1);
    });
}

/// Who may not call abroad is not brought there by being redirected; he is told.
#[test]
fn a_redirection_opens_no_gateway() {
    bounded(|| {
        let gateway = Uas::answering(V4);
        let sps = Instance::init(Options::new().section(&format!(
            "{}[[access]]\nsource = \"192.0.2.0/24\"\naction = \"allow\"\n",
            proxy("recurse = true")
        )));
        sps.route("1900*", gateway.addr());
        sps.spsctl(&["start"]).ok();
        for (user, contact) in [("bob", sps.uri("19005550100")), ("carol", gateway.uri().to_owned())] {
            let desk = redirecting(format!("<{contact}>"));
            sps.register(user, desk.uri(), "1.0");
            let mut stranger = Agent::udp(V4);
            let request = stranger.request("MESSAGE", &sps.uri(user));
            let told = stranger.ask(sps.addr(), &request);
            assert_eq!((told.status(), told.contact()), (Some(302), contact));
            assert_eq!(desk.requests("MESSAGE").len(), 1);
        }
        assert!(gateway.seen().is_empty());
    });
}

/// MODE-11, RFC 2543 §6.13
#[test]
fn a_phone_chooses_whether_its_callers_are_redirected() {
    bounded(|| {
        let phone = Uas::answering(V4);
        let sps = with_routes("caller_preferences = true", &[]);
        let mut agent = Agent::udp(V4);
        let register = |agent: &mut Agent, action: &str| {
            let register = agent
                .request("REGISTER", "sip:sps.test")
                .set("To", format!("<{}>", sps.uri("bob")))
                .set("From", format!("<{}>;tag=x", sps.uri("bob")))
                .set("Contact", format!("<{}>;action={action}", phone.uri()));
            let answer = agent.ask(sps.addr(), &register);
            assert_eq!(answer.status(), Some(200), "{answer}");
            answer
        };
        let call = |agent: &mut Agent| {
            let invite = agent.request("INVITE", &sps.uri("bob"));
            agent.ask(sps.addr(), &invite)
        };
        let answer = register(&mut agent, "redirect");
        assert!(answer.values("Contact")[0].contains(";action=redirect"), "{answer}");
        let told = call(&mut agent);
        assert_eq!((told.status(), told.contact()), (Some(302), phone.uri().to_owned()));
        register(&mut agent, "proxy");
        assert_eq!(call(&mut agent).status(), Some(200));
        // Against the mode of the house, too.
        reload(&sps, "mode = \"redirect\"\ncaller_preferences = true");
        assert_eq!(call(&mut agent).status(), Some(200));
        register(&mut agent, "redirect");
        assert_eq!(call(&mut agent).status(), Some(302));
        // Off: without effect, the registration is what it was.
        reload(&sps, "");
        assert_eq!(call(&mut agent).status(), Some(200));
        assert_eq!(phone.requests("INVITE").len(), 3);
    });
}

/// §8.2.1: what a registrar alone says
#[test]
fn a_registrar_alone_registers_and_nothing_else() {
    bounded(|| {
        let sps = with_routes("mode = \"registrar\"", &[&["1555*", "192.0.2.9"]]);
        let mut agent = Agent::udp(V4);
        let register = agent
            .request("REGISTER", "sip:sps.test")
            .set("To", format!("<{}>", sps.uri("bob")))
            .set("From", format!("<{}>;tag=x", sps.uri("bob")));
        assert_eq!(agent.ask(sps.addr(), &register).status(), Some(200));
        for user in ["bob", "15550100"] {
            let invite = agent.request("INVITE", &sps.uri(user));
            let answer = agent.ask(sps.addr(), &invite);
            assert_eq!(answer.status(), Some(405));
            assert_eq!(answer.must("Allow"), "ACK, CANCEL, OPTIONS, REGISTER");
        }
        let options = agent.request("OPTIONS", "sip:sps.test");
        assert_eq!(agent.ask(sps.addr(), &options).status(), Some(200));
        assert_eq!(mode(&sps), "registrar");
        sps.configure("", "[proxy]\nmode = \"registrar\"\n[registrar]\nenabled = false\n");
        sps.spsctl(&["check"]).code(78);
    });
}

/// A call from INVITE to BYE; `hold` is done while it stands.
fn call(sps: &Instance, caller: &mut Agent, number: &str, hold: impl FnOnce()) -> Result<(), String> {
    let invite = caller.request("INVITE", &sps.uri(number));
    caller.send(sps.addr(), &invite);
    let answer = caller.final_response();
    if answer.status() != Some(200) {
        return Err(format!("INVITE: {answer}"));
    }
    let mut dialog = Dialog::of_caller(&invite, &answer);
    let ack = dialog.ack(caller, 1);
    caller.send(dialog.next_hop(), &ack);
    hold();
    let bye = dialog.request(caller, "BYE");
    let answer = caller.ask(dialog.next_hop(), &bye);
    match answer.status() {
        Some(200) => Ok(()),
        _ => Err(format!("BYE: {answer}")),
    }
}

/// A change of mode while calls come and go: none fails, and those that stand end well in any mode.
#[test]
fn modes_change_under_traffic_without_a_failed_call() {
    bounded(|| {
        let callee = Uas::answering(V4);
        let sps = Arc::new(with_routes("", &[&["1555*", &callee.addr().to_string()]]));
        let stop = Arc::new(AtomicBool::new(false));
        let failed = Arc::new(Mutex::new(Vec::new()));
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let (sps, stop, failed) = (sps.clone(), stop.clone(), failed.clone());
                std::thread::spawn(move || {
                    let (mut caller, mut calls) = (Agent::udp(V4), 0);
                    while !stop.load(Ordering::Relaxed) {
                        if let Err(why) = call(&sps, &mut caller, "15550100", || {}) {
                            failed.lock().expect("no holder panics").push(why);
                        }
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        for _ in 0..4 {
            reload(&sps, "mode = \"stateless\"");
            let before = figure(&sps, "stateless_requests");
            wait_figure(&sps, "stateless_requests", before + 20);
            reload(&sps, "mode = \"stateful\"");
            let before = figure(&sps, "requests");
            wait_figure(&sps, "requests", before + 20);
        }
        stop.store(true, Ordering::Relaxed);
        let calls: usize = callers.into_iter().map(|caller| caller.join().expect("no panic")).sum();
        let failed = failed.lock().expect("no holder panics");
        assert!(failed.is_empty(), "{} of {calls}: {failed:?}", failed.len());
        assert!(calls > 50, "{calls}");
        // A call that stands while everything becomes something else.
        let mut caller = Agent::udp(V4);
        for (from, to) in [
            ("stateless", "redirect"),
            ("stateful", "stateless-redirect"),
            ("stateless", "registrar"),
            ("stateful", "stateless"),
        ] {
            reload(&sps, &format!("mode = \"{from}\""));
            let hold = || reload(&sps, &format!("mode = \"{to}\""));
            call(&sps, &mut caller, "15550100", hold).unwrap_or_else(|why| panic!("{from} to {to}: {why}"));
        }
    });
}
