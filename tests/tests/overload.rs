//! Overload as others see it: what is refused and how, what a neighbour that knows RFC 7339 is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sps_tests::load::storm::{self, Ends};
use sps_tests::net::V4;
use sps_tests::process::send_signal;
use sps_tests::{Agent, Instance, Options, Uas, bounded};

/// Lets a process run for a fifth of the time only, until dropped.
struct Held {
    id: u32,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Held {
    fn new(id: u32) -> Held {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                send_signal(id, Signal::SIGSTOP);
                std::thread::park_timeout(Duration::from_millis(20));
                send_signal(id, Signal::SIGCONT);
                std::thread::park_timeout(Duration::from_millis(5));
            }
        });
        Held {
            id,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        send_signal(self.id, Signal::SIGCONT);
    }
}

/// RFC 7339 §5.10.2; RFC 3261 §21.5.4
#[test]
fn overload_is_503_without_retry_after() {
    let mut ends = Ends::bind(V4).expect("free ports");
    let sps = Instance::start(
        Options::new()
            .server("workers = 1")
            .section("[overload]\ntarget_wait_ms = 1"),
    );
    sps.route("1555*", ends.callees.addr());
    let plan = storm::Plan {
        proxy: sps.addr(),
        target: format!("15550100@{}", sps_tests::instance::DOMAIN),
        rate: 1_500.0,
        warm_up: Duration::ZERO,
        duration: Duration::from_secs(3),
        patience: Duration::from_secs(4),
        hold: Duration::from_millis(200),
        honours_oc: false,
        phones: (String::new(), 0, 0.0),
    };
    let outcome = {
        let _held = Held::new(sps.pid("sps-proxy"));
        storm::play(&plan, &mut ends)
    };
    assert!(
        outcome.refused > 0 && outcome.answered > 0,
        "{:?}",
        outcome.first_refusal
    );
    assert_eq!(outcome.retry_after, 0, "{:?}", outcome.first_refusal);
    assert_eq!(outcome.byes_answered, outcome.byes, "what was let in is ended");
    let line = sps.wait_access(&["stage=overload", "count=", " 503 "]);
    assert!(line.contains("127.0.0.1:0 "), "{line}");
    assert!(
        sps.log("error_log")
            .contains("overload: new requests are refused by 503")
    );
}

/// RFC 3261 §21.5.4: who stops means all requests, and says how long.
#[test]
fn a_stop_is_503_with_retry_after() {
    bounded(|| {
        let callee = Uas::ringing(V4);
        let sps = Instance::start(Options::new().server("workers = 1"));
        sps.route("1555*", callee.addr());
        let mut agent = Agent::udp(V4);
        let ringing = agent.request("INVITE", &sps.uri("15550100"));
        agent.send(sps.addr(), &ringing);
        agent.expect_status(100);
        agent.expect_status(180);
        let mut stop = sps
            .command("spsctl", &["stop", "--timeout", "5"])
            .spawn()
            .expect("spsctl was built");
        let give_up_at = Instant::now() + Duration::from_secs(4);
        let refused = loop {
            assert!(Instant::now() < give_up_at, "no 503 while a call holds up the stop");
            let invite = agent.request("INVITE", &sps.uri("15550100"));
            agent.send(sps.addr(), &invite);
            let said = agent.receive().message;
            if said.status() == Some(503) && said.header("Call-ID") != ringing.header("Call-ID") {
                break said;
            }
        };
        assert!(refused.header("Retry-After").is_some(), "{refused}");
        let ended = stop.wait().expect("it was started");
        assert!(ended.success());
    });
}

/// RFC 7339 §5.1, §5.6: who asks is told, who does not ask is not; and the next hop sees our question, not his.
#[test]
fn a_neighbour_that_asks_sees_the_parameters() {
    bounded(|| {
        let callee = Uas::answering(V4);
        let sps = Instance::start(Options::new().server("workers = 1"));
        sps.route("1555*", callee.addr());
        let mut agent = Agent::udp(V4);
        let plain = agent.request("OPTIONS", &sps.uri("15550100"));
        let answer = agent.ask(sps.addr(), &plain);
        assert!(!answer.header("Via").unwrap_or_default().contains("oc"), "{answer}");
        let asking = agent.request("OPTIONS", &sps.uri("15550100"));
        let via = format!("{};oc;oc-algo=\"loss\"", asking.header("Via").expect("a Via"));
        let asking = asking.set("Via", &via);
        let answer = agent.ask(sps.addr(), &asking);
        let told = answer.header("Via").expect("a Via").to_owned();
        for part in [";oc=0;", "oc-algo=\"loss\"", "oc-validity=0", "oc-seq="] {
            assert!(told.contains(part), "{part} in {told}");
        }
        let seen = callee.seen();
        let last = seen.last().expect("it was forwarded").values("Via").join("\n");
        assert_eq!(last.matches(";oc;oc-algo=\"loss\"").count(), 1, "{last}");
    });
}
