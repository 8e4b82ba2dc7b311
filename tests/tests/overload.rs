//! Overload as others see it: what is refused and how, what a neighbour that knows RFC 7339 is told.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sps_tests::message::Message;
use sps_tests::net::V4;
use sps_tests::process::send_signal;
use sps_tests::{Agent, Instance, Options, Uas, bounded};

/// Makes sps-proxy find messages that waited, by having it stand still while they come, until it refuses one; gives that.
fn overloaded(sps: &Instance, agent: &mut Agent) -> Message {
    let proxy = sps.pid("sps-proxy");
    let give_up_at = Instant::now() + Duration::from_secs(15);
    while Instant::now() < give_up_at {
        send_signal(proxy, Signal::SIGSTOP);
        let invites: Vec<Message> = (0..40).map(|_| agent.request("INVITE", &sps.uri("15550100"))).collect();
        for invite in &invites {
            agent.send(sps.addr(), invite);
        }
        std::thread::park_timeout(Duration::from_millis(150));
        send_signal(proxy, Signal::SIGCONT);
        // Every INVITE gets something.
        for _ in &invites {
            let message = agent.receive().message;
            if message.status() == Some(503) {
                return message;
            }
        }
    }
    panic!("nothing was refused although messages waited 150 ms in every interval");
}

/// RFC 7339 §5.10.2; RFC 3261 §21.5.4
#[test]
fn overload_is_503_without_retry_after() {
    bounded(|| {
        let callee = Uas::ringing(V4);
        let sps = Instance::start(
            Options::new()
                .server("workers = 1")
                .section("[overload]\ntarget_wait_ms = 5"),
        );
        sps.route("1555*", callee.addr());
        let mut agent = Agent::udp(V4);
        let refused = overloaded(&sps, &mut agent);
        assert!(refused.header("Retry-After").is_none(), "{refused}");
        let counters = &sps.status()["counters"]["proxy/0"];
        assert!(counters["overload"].as_u64().is_some(), "{counters}");
        sps.wait_access(&["stage=overload", "count=", " 503 "]);
        assert!(
            sps.log("error_log")
                .contains("overload: new requests are refused by 503")
        );
    });
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
            if said.status() == Some(503) && said.header("Call-ID") == invite.header("Call-ID") {
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
        let last = callee.seen().last().expect("it was forwarded").text();
        assert_eq!(last.matches(";oc;oc-algo=\"loss\"").count(), 1, "{last}");
    });
}
