//! Calls that do not succeed: engaged, nobody answers, nobody there, next hops that are down, and the way on to alternates.

use std::time::Duration;

use sps_tests::net::{V4, free_addr};
use sps_tests::{Agent, Instance, Options, Uas, bounded};

const NUMBER: &str = "15550100";

/// T1 of a tenth: Timer B and F end after 3.2 s instead of 32.
const FAST: &str = "[proxy]\nt1_ms = 50\nt2_ms = 400\nt4_ms = 500";

#[test]
fn a_refusal_comes_through_and_the_proxy_acknowledges_it() {
    bounded(|| {
        let mut caller = Agent::udp(V4);
        let sps = Instance::start(Options::new());
        let refusals = [
            (486, "Busy Here"),
            (404, "Not Found"),
            (480, "Gone Fishing"),
            (603, "Decline"),
            (302, "Moved"),
        ];
        for (n, (status, reason)) in refusals.into_iter().enumerate() {
            let callee = Uas::refusing(V4, status, reason);
            let number = format!("1777000{n}");
            sps.route(&number, callee.addr());
            let invite = caller.request("INVITE", &sps.uri(&number));
            let refusal = caller.ask(sps.addr(), &invite);
            assert_eq!((refusal.status(), refusal.reason()), (Some(status), Some(reason)));
            let ack = callee.wait_for("ACK", 1);
            assert_eq!(ack.branch(), callee.requests("INVITE")[0].branch(), "§17.1.1.3");
        }
    });
}

/// §16.7 step 6: a 503 says something about the next hop, not about us; the caller gets 500.
#[test]
fn a_503_of_the_only_next_hop_becomes_500() {
    bounded(|| {
        let (mut caller, callee) = (Agent::udp(V4), Uas::refusing(V4, 503, "Service Unavailable"));
        let sps = Instance::start(Options::new());
        sps.route("1555*", callee.addr());
        let invite = caller.request("INVITE", &sps.uri(NUMBER));
        assert_eq!(caller.ask(sps.addr(), &invite).status(), Some(500));
        callee.wait_for("ACK", 1);
    });
}

#[test]
fn a_number_without_route_and_an_unknown_user_are_not_found() {
    bounded(|| {
        let mut caller = Agent::udp(V4);
        let sps = Instance::start(Options::new());
        for (user, method) in [("18005550199", "INVITE"), ("nobody", "INVITE"), ("nobody", "MESSAGE")] {
            let request = caller.request(method, &sps.uri(user));
            let answer = caller.ask(sps.addr(), &request);
            assert!(matches!(answer.status(), Some(404 | 480)), "{method} {user}: {answer}");
        }
    });
}

/// Timer B: a next hop that says nothing gives 408 (§16.7), and the request was repeated meanwhile.
#[test]
fn a_silent_next_hop_gives_408() {
    bounded(|| {
        let (mut caller, mut callee) = (Agent::udp(V4), Agent::udp(V4));
        let sps = Instance::start(Options::new().section(FAST));
        sps.route("1555*", callee.addr());
        let invite = caller.request("INVITE", &sps.uri(NUMBER));
        caller.send(sps.addr(), &invite);
        callee.expect_request("INVITE");
        let answer = caller.final_response();
        assert_eq!(answer.status(), Some(408), "{answer}");
        assert!(callee.try_receive(Duration::from_millis(1)).is_none());
        assert_eq!(callee.repeats, 6, "Timer A: after T1, 2, 4, 8, 16 and 32 T1");
    });
}

/// Timer F: a request that is not INVITE is repeated too, and then silence meets silence, because a late 408 would only meet a
/// caller who has timed out himself (RFC 4320 §4.2). The access log knows.
#[test]
fn a_silent_next_hop_gives_nothing_to_a_non_invite() {
    bounded(|| {
        let (mut caller, mut callee) = (Agent::udp(V4), Agent::udp(V4));
        let sps = Instance::start(Options::new().section(FAST));
        sps.route("1555*", callee.addr());
        let info = caller.request("INFO", &sps.uri(NUMBER));
        caller.send(sps.addr(), &info);
        callee.expect_request("INFO");
        sps.wait_access(&[info.must("Call-ID"), "\"INFO", " 408 "]);
        assert!(callee.try_receive(Duration::from_millis(1)).is_none());
        // Timer E: after T1, doubling up to T2 = 8 T1, until 64 T1.
        assert!((8..=11).contains(&callee.repeats), "{} repetitions", callee.repeats);
        // Nothing went to the caller: what it gets next belongs to its next request.
        let unknown = caller.request("MESSAGE", &sps.uri("nobody"));
        let answer = caller.ask(sps.addr(), &unknown);
        assert_eq!(answer.header("Call-ID"), unknown.header("Call-ID"));
    });
}

/// §16.8: a phone that rings too long is cancelled by Timer C, and the caller learns 408 or the callee's 487.
#[test]
fn a_call_that_nobody_answers_ends_by_timer_c() {
    bounded(|| {
        let (mut caller, callee) = (Agent::udp(V4), Uas::ringing(V4));
        let sps = Instance::start(Options::new().section("[proxy]\ntimer_c_s = 2"));
        sps.route("1555*", callee.addr());
        let invite = caller.request("INVITE", &sps.uri(NUMBER));
        let answer = caller.ask(sps.addr(), &invite);
        assert!(matches!(answer.status(), Some(408 | 487)), "{answer}");
        callee.wait_for("CANCEL", 1);
        callee.wait_for("ACK", 1);
    });
}

/// A closed port on this machine answers by ICMP; that is a transport error and need not wait for Timer B, whichever worker
/// sent the request and whichever the error came to.
#[test]
fn a_closed_port_fails_at_once() {
    bounded(|| {
        // Timer B as the RFC has it: 32 s, far above the harness' patience.
        let sps = Instance::start(Options::new());
        sps.route("1555*", free_addr(V4));
        for _ in 0..8 {
            let mut caller = Agent::udp(V4);
            let invite = caller.request("INVITE", &sps.uri(NUMBER));
            let answer = caller.ask(sps.addr(), &invite);
            assert!(matches!(answer.status(), Some(408 | 480 | 500 | 503)), "{answer}");
        }
        sps.spsroute(&["add", "1666*", &free_addr(V4).to_string(), "--transport", "tcp"])
            .ok();
        let mut caller = Agent::udp(V4);
        let invite = caller.request("INVITE", &sps.uri("16660000"));
        let answer = caller.ask(sps.addr(), &invite);
        assert!(matches!(answer.status(), Some(408 | 480 | 500 | 503)), "{answer}");
    });
}

/// Alternates in order of priority: on 503, on a transport error, on silence; a busy callee ends the search.
#[test]
fn alternates_are_tried_in_order() {
    bounded(|| {
        let (unavailable, silent) = (Uas::refusing(V4, 503, "No"), Uas::silent(V4));
        let answering = Uas::answering(V4);
        let mut caller = Agent::udp(V4);
        let sps = Instance::start(Options::new().section(FAST));
        let hops = [unavailable.addr(), free_addr(V4), silent.addr(), answering.addr()];
        for (priority, hop) in (1..).zip(hops) {
            sps.spsroute(&["add", "1555*", &hop.to_string(), "--priority", &priority.to_string()])
                .ok();
        }
        let invite = caller.request("INVITE", &sps.uri(NUMBER));
        let answer = caller.ask(sps.addr(), &invite);
        assert_eq!(answer.status(), Some(200), "{answer}");
        assert_eq!(unavailable.requests("INVITE").len(), 1);
        assert_eq!(silent.requests("INVITE").len(), 1);
        assert_eq!(answering.requests("INVITE").len(), 1);

        let (busy, second) = (Uas::refusing(V4, 486, "Busy Here"), Uas::answering(V4));
        for (priority, hop) in [("1", &busy), ("2", &second)] {
            sps.spsroute(&["add", "1777*", &hop.addr().to_string(), "--priority", priority])
                .ok();
        }
        let invite = caller.request("INVITE", &sps.uri("17770000"));
        assert_eq!(caller.ask(sps.addr(), &invite).status(), Some(486));
        assert!(second.seen().is_empty(), "a callee that is busy has been found");
    });
}

/// RFC 2782 among equals: all get a share, about as their weights say.
#[test]
fn equal_alternates_share_by_weight() {
    bounded(|| {
        let (heavy, light) = (Uas::answering(V4), Uas::answering(V4));
        let mut caller = Agent::udp(V4);
        let sps = Instance::start(Options::new());
        for (hop, weight) in [(&heavy, "30"), (&light, "10")] {
            sps.spsroute(&[
                "add",
                "1555*",
                &hop.addr().to_string(),
                "--priority",
                "1",
                "--weight",
                weight,
            ])
            .ok();
        }
        let calls = 200;
        for _ in 0..calls {
            let request = caller.request("MESSAGE", &sps.uri(NUMBER));
            assert_eq!(caller.ask(sps.addr(), &request).status(), Some(200));
        }
        let shares = (heavy.requests("MESSAGE").len(), light.requests("MESSAGE").len());
        assert_eq!(shares.0 + shares.1, calls);
        // 150 expected of 200; five standard deviations are 31.
        assert!((119..=181).contains(&shares.0), "{shares:?}");
    });
}

/// Longest literal prefix wins, then fewer wildcards.
#[test]
fn the_most_exact_pattern_wins() {
    bounded(|| {
        let targets = [
            Uas::answering(V4),
            Uas::answering(V4),
            Uas::answering(V4),
            Uas::answering(V4),
        ];
        let mut caller = Agent::udp(V4);
        let sps = Instance::start(Options::new());
        for (pattern, target) in ["1*", "15....", "1555*", "15551234"].iter().zip(&targets) {
            sps.route(pattern, target.addr());
        }
        for (number, expected) in [
            ("1999", 0),
            ("152345", 1),
            ("15559", 2),
            ("15551234", 3),
            ("1523456", 0),
        ] {
            let request = caller.request("MESSAGE", &sps.uri(number));
            let answer = caller.ask(sps.addr(), &request);
            assert_eq!(answer.status(), Some(200), "{number}: {answer}");
            let reached: Vec<usize> = (0..4)
                .filter(|n| {
                    targets[*n]
                        .requests("MESSAGE")
                        .iter()
                        .any(|got| got.must("Call-ID") == request.must("Call-ID"))
                })
                .collect();
            assert_eq!(reached, [expected], "{number}");
        }
    });
}

/// Routes by domain: somebody else's name space, sent to a next hop of ours.
#[test]
fn a_domain_route_leads_to_its_next_hop() {
    bounded(|| {
        let (mut caller, callee) = (Agent::udp(V4), Uas::answering(V4));
        let sps = Instance::start(Options::new());
        sps.spsroute(&["add", "--domain", "far.example", &callee.addr().to_string()])
            .ok();
        let request = caller.request("MESSAGE", "sip:bob@FAR.example;x=1");
        assert_eq!(caller.ask(sps.addr(), &request).status(), Some(200));
        assert_eq!(
            callee.requests("MESSAGE")[0].uri(),
            Some("sip:bob@FAR.example;x=1"),
            "the wire keeps what it said"
        );
    });
}
