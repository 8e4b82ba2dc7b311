//! Next hops by name: A records by a name server of the tests, alternates, and routing that waits without holding anybody up.

use std::net::Ipv4Addr;

use sps_tests::dns::Dns;
use sps_tests::net::V4;
use sps_tests::{Agent, Instance, Options, Uas, bounded, wait_until};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// An instance that asks this name server, patiently.
fn asking(dns: &Dns) -> Options {
    Options::new().section(&format!(
        "[dns]\nservers = [\"{}\"]\ntimeout_ms = 15000\nattempts = 1\ntotal_timeout_ms = 15000",
        dns.addr()
    ))
}

#[test]
fn a_route_by_name_leads_to_the_address_of_that_name() {
    bounded(|| {
        let callee = Uas::answering(V4);
        let dns = Dns::start(&[("gw.sps.example", &[HERE])]);
        let sps = Instance::start(asking(&dns));
        sps.spsroute(&["add", "1555*", &format!("gw.sps.example:{}", callee.addr().port())])
            .ok();
        let mut agent = Agent::udp(V4);
        for _ in 0..2 {
            let request = agent.request("MESSAGE", &sps.uri("15550100"));
            assert_eq!(agent.ask(sps.addr(), &request).status(), Some(200));
        }
        let uri = format!("sip:bob@gw.sps.example:{}", callee.addr().port());
        let request = agent.request("MESSAGE", &uri);
        assert_eq!(
            agent.ask(sps.addr(), &request).status(),
            Some(200),
            "a foreign domain by DNS alone"
        );
        assert_eq!(callee.requests("MESSAGE").len(), 3);
    });
}

/// While the name server thinks, others are served; a CANCEL ends the waiting call with 487 and the late answer starts nothing.
#[test]
fn a_late_name_blocks_nobody_and_can_be_cancelled() {
    bounded(|| {
        let (named, direct) = (Uas::answering(V4), Uas::answering(V4));
        let dns = Dns::start(&[("late.sps.example", &[HERE])]);
        let sps = Instance::start(asking(&dns));
        sps.spsroute(&["add", "1555*", &format!("late.sps.example:{}", named.addr().port())])
            .ok();
        sps.route("1666*", direct.addr());
        dns.silent(true);

        let mut caller = Agent::udp(V4);
        let invite = caller.request("INVITE", &sps.uri("15550100"));
        caller.send(sps.addr(), &invite);
        assert_eq!(caller.expect_status(100).cseq(), (1, "INVITE"));
        wait_until("the name server is asked", || dns.asked() > 0);
        // Repeated meanwhile: absorbed.
        caller.send(sps.addr(), &invite);

        let mut other = Agent::udp(V4);
        for _ in 0..20 {
            let request = other.request("MESSAGE", &sps.uri("16660100"));
            assert_eq!(other.ask(sps.addr(), &request).status(), Some(200));
        }

        let mut cancel = invite.clone().set("CSeq", "1 CANCEL").without("Contact");
        cancel.start = invite.start.replace("INVITE", "CANCEL");
        caller.send(sps.addr(), &cancel);
        let mut answers = [caller.final_response(), caller.final_response()];
        answers.sort_by_key(sps_tests::Message::status);
        assert_eq!((answers[0].status(), answers[0].cseq().1), (Some(200), "CANCEL"));
        assert_eq!((answers[1].status(), answers[1].cseq().1), (Some(487), "INVITE"));

        // The answer comes, and a second call uses it: had the first one been started, it would be there before.
        dns.silent(false);
        let request = other.request("MESSAGE", &sps.uri("15550100"));
        assert_eq!(other.ask(sps.addr(), &request).status(), Some(200));
        assert!(
            named.requests("INVITE").is_empty(),
            "nothing was sent for the cancelled call"
        );
    });
}

#[test]
fn a_name_that_does_not_exist_fails_and_the_next_route_is_tried() {
    bounded(|| {
        let callee = Uas::answering(V4);
        let dns = Dns::start(&[]);
        let sps = Instance::start(asking(&dns));
        sps.spsroute(&["add", "1555*", "nowhere.sps.example:5070", "--priority", "1"])
            .ok();
        sps.spsroute(&["add", "1555*", &callee.addr().to_string(), "--priority", "2"])
            .ok();
        sps.spsroute(&["add", "1666*", "nowhere.sps.example:5070"]).ok();
        let mut agent = Agent::udp(V4);
        let request = agent.request("MESSAGE", &sps.uri("15550100"));
        assert_eq!(
            agent.ask(sps.addr(), &request).status(),
            Some(200),
            "the alternate is reached"
        );
        let request = agent.request("INVITE", &sps.uri("16660100"));
        let answer = agent.ask(sps.addr(), &request);
        assert_eq!(answer.status(), Some(500), "a route that leads nowhere: {answer}");
    });
}

/// The deadline of the stage gives its fallback: a name server that never answers costs its timeout, not Timer B.
#[test]
fn a_dead_name_server_has_its_deadline() {
    bounded(|| {
        let dns = Dns::start(&[]);
        dns.silent(true);
        let sps = Instance::start(Options::new().section(&format!(
            "[dns]\nservers = [\"{}\"]\ntimeout_ms = 200\nattempts = 1",
            dns.addr()
        )));
        sps.spsroute(&["add", "1555*", "late.sps.example:5070"]).ok();
        let mut agent = Agent::udp(V4);
        let request = agent.request("INVITE", &sps.uri("15550100"));
        let answer = agent.ask(sps.addr(), &request);
        assert_eq!(answer.status(), Some(504), "{answer}");
    });
}
