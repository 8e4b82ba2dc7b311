//! Calls over wires that lose three datagrams of ten in both directions, at both sides of the proxy.

use std::collections::HashMap;
use std::time::Duration;

use sps_tests::load::calls::{Ends, Pace, Plan, play};
use sps_tests::net::V4;
use sps_tests::relay::Relay;
use sps_tests::wait::bounded_by;
use sps_tests::{Instance, Message, Options};

const CALLS: usize = 40;

/// Every call completes, and each INVITE reaches the callee as one transaction: what it sees again is a retransmission.
#[test]
fn every_call_completes_and_each_invite_reaches_the_callee_once() {
    bounded_by(Duration::from_secs(240), || {
        let mut ends = Ends::bind(V4).expect("two ports are free");
        let sps = Instance::start(Options::new());
        let to_callee = Relay::start(V4, ends.callee.addr(), 30, 11);
        let to_proxy = Relay::start(V4, sps.addr(), 30, 12);
        sps.route("1555*", to_callee.addr());
        ends.callee_contact = Some(to_callee.addr());
        let plan = Plan {
            pace: Pace::Rate(20.0),
            // An answer and its ACK cross two such wires end to end: they need more tries than 32 s hold.
            give_up: Duration::from_secs(120),
            ..Plan::window(
                to_proxy.addr(),
                "15550100@sps.test",
                0,
                Duration::from_millis(50 * CALLS as u64 - 25),
            )
        };
        let outcome = play(&plan, &mut ends);
        assert_eq!(outcome.failed, 0, "{:?}", outcome.first_failure);
        assert_eq!(outcome.completed, CALLS as u64);

        let mut branches: HashMap<String, Vec<String>> = HashMap::new();
        for invite in to_callee.inward().iter().filter_map(|bytes| Message::parse(bytes)) {
            if invite.method() == Some("INVITE") {
                let seen = branches.entry(invite.must("Call-ID").to_owned()).or_default();
                if !seen.contains(&invite.branch()) {
                    seen.push(invite.branch());
                }
            }
        }
        assert_eq!(branches.len(), CALLS);
        for (call, branches) in &branches {
            assert_eq!(branches.len(), 1, "call {call} reached the callee as {branches:?}");
        }
        for relay in [&to_proxy, &to_callee] {
            let (passed, lost) = relay.counts();
            let share = lost * 100 / (lost + passed);
            assert!((20..=40).contains(&share), "{lost} of {} were lost", lost + passed);
        }
    });
}
