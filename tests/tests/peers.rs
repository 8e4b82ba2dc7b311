//! Foreign software: baresip phones, sipsak, a Kamailio in the chain, Wireshark's eyes.

use std::net::UdpSocket;
use std::time::Duration;

use sps_tests::baresip::Baresip;
use sps_tests::instance::DOMAIN;
use sps_tests::kamailio::Kamailio;
use sps_tests::load::calls::{Ends, Plan, play};
use sps_tests::net::V4;
use sps_tests::relay::Relay;
use sps_tests::sipsak::sipsak;
use sps_tests::wait::bounded_by;
use sps_tests::{Agent, Dialog, Instance, Options, bounded, need, pcap, wait_until};

/// Two phones register, one calls the other, both hear the same: the session descriptions arrive as they left.
#[test]
fn baresip_calls_baresip() {
    need!("baresip");
    bounded(|| {
        let sps = Instance::start(Options::new());
        let mut alice = Baresip::start(sps.root(), "alice", DOMAIN, sps.addr());
        let mut bob = Baresip::start(sps.root(), "bob", DOMAIN, sps.addr());
        alice.wait_registered();
        bob.wait_registered();
        let listed = sps.spsctl(&["registration", "list"]).ok().stdout;
        assert!(listed.contains("alice") && listed.contains("bob"), "{listed}");

        alice.command("dial", &format!("sip:bob@{DOMAIN}"));
        alice.wait_established();
        bob.wait_established();
        let sent = |phone: &Baresip, start: &str, via: usize| {
            phone
                .trace()
                .into_iter()
                .find(|message| {
                    message.start.starts_with(start)
                        && message.cseq().1 == "INVITE"
                        && message.values("Via").len() == via
                        && !message.body.is_empty()
                })
                .unwrap_or_else(|| panic!("{start} with {via} Via in the trace"))
                .text()
        };
        assert_eq!(sent(&alice, "INVITE", 1), sent(&bob, "INVITE", 2), "the offer");
        assert_eq!(
            sent(&bob, "SIP/2.0 200", 2),
            sent(&alice, "SIP/2.0 200", 1),
            "the answer"
        );
        alice.command("hangup", "");
        bob.wait_output("session closed");
        sps.wait_access(&["\"BYE ", " 200 "]);
    });
}

#[test]
fn sipsak_asks_and_registers() {
    need!("sipsak");
    bounded(|| {
        // sipsak 0.9.8.1 writes only four digits of a port into the Request-URI.
        let port = (2_000..10_000)
            .find(|port| UdpSocket::bind((V4, *port)).is_ok())
            .expect("a short port is free");
        let sps = Instance::start(Options::new().port(port));
        let uri = format!("sip:{}", sps.addr());
        sipsak(&["-s", &uri]).ok();
        let user = format!("sip:walter@{}", sps.addr());
        // -U registers (-C: the contact), -x: for so many seconds.
        let said = sipsak(&[
            "-vv",
            "-U",
            "-C",
            "sip:walter@127.0.0.1:40404",
            "-x",
            "300",
            "-s",
            &user,
        ]);
        assert_eq!(said.code, 0, "{}\n{}", said.stdout, said.stderr);
        wait_until("walter is registered", || {
            sps.spsctl(&["registration", "list"]).stdout.contains("walter")
        });
    });
}

/// A thousand calls through SPS, Kamailio and SPS again; all three stay in the path.
#[test]
fn a_thousand_calls_through_sps_kamailio_and_sps() {
    need!("kamailio");
    bounded_by(Duration::from_secs(240), || {
        let mut ends = Ends::bind(V4).expect("two ports are free");
        let (first, last) = (Instance::start(Options::new()), Instance::start(Options::new()));
        let middle = Kamailio::start(first.root(), V4, last.addr());
        first.route("1555*", middle.addr());
        last.route("1555*", ends.callee.addr());
        let plan = Plan {
            limit: Some(1_000),
            ..Plan::window(first.addr(), "15550100@sps.test", 20, Duration::from_secs(180))
        };
        let outcome = play(&plan, &mut ends);
        assert_eq!(
            (outcome.completed, outcome.failed),
            (1_000, 0),
            "{:?}",
            outcome.first_failure
        );
        for sps in [&first, &last] {
            wait_until("every BYE is in the log", || {
                sps.log("access_log")
                    .lines()
                    .filter(|line| line.contains("\"BYE ") && line.contains(" 200 "))
                    .count()
                    == 1_000
            });
        }
    });
}

/// RFC 3327 §5.3, §5.4: Kamailio as edge proxy puts itself on the Path of a registration; a call to the phone comes back through it,
/// and the whole dialog passes both.
#[test]
fn a_call_comes_back_by_the_path_that_kamailio_added() {
    need!("kamailio");
    bounded(|| {
        let sps = Instance::start(Options::new());
        let edge = Kamailio::edge(sps.root(), V4, sps.addr());
        let (mut phone, mut caller) = (Agent::udp(V4), Agent::udp(V4));
        let aor = sps.uri("alice");
        let register = |phone: &mut Agent, supported: &str| {
            let request = phone.request("REGISTER", &format!("sip:{DOMAIN}"));
            let contact = format!("<{}>", phone.uri("alice"));
            request
                .set("From", format!("<{aor}>;tag=x"))
                .set("To", format!("<{aor}>"))
                .set("Contact", contact)
                .with("Supported", supported)
        };
        // §5.3: the edge adds Path though the phone does not know it; the phone learns that.
        let request = register(&mut phone, "replaces");
        let refused = phone.ask(edge.addr(), &request);
        assert_eq!(
            (refused.status(), refused.header("Unsupported")),
            (Some(420), Some("path"))
        );

        let request = register(&mut phone, "replaces, path");
        let answer = phone.ask(edge.addr(), &request);
        assert_eq!(answer.status(), Some(200), "{answer}");
        let path = answer.values("Path");
        assert!(
            path.len() == 1 && path[0].contains(&edge.addr().to_string()),
            "{path:?}"
        );

        let invite = caller.request("INVITE", &aor);
        caller.send(sps.addr(), &invite);
        let got = phone.expect_request("INVITE");
        assert_eq!(
            got.peer,
            edge.addr(),
            "it comes by the edge: {} {}",
            sps.addr(),
            got.message
        );
        assert_eq!(got.message.values("Via").len(), 3, "{}", got.message);
        assert_eq!(got.message.uri(), Some(phone.uri("alice").as_str()));
        assert!(
            got.message.values("Route").is_empty(),
            "the edge took itself off: {}",
            got.message
        );
        let contact = format!("<{}>", phone.uri("alice"));
        phone.reply(
            &got,
            &got.message
                .response(200, "OK")
                .to_tag("callee")
                .with("Contact", contact),
        );
        let answer = caller.final_response();
        let mut dialog = Dialog::of_caller(&invite, &answer);
        let ack = dialog.ack(&mut caller, 1);
        caller.send(sps.addr(), &ack);
        assert_eq!(phone.expect_request("ACK").peer, edge.addr());
        let bye = dialog.request(&mut caller, "BYE");
        caller.send(sps.addr(), &bye);
        let bye = phone.expect_request("BYE");
        assert_eq!(bye.peer, edge.addr());
        phone.reply(&bye, &bye.message.response(200, "OK"));
        assert_eq!(caller.final_response().cseq(), (2, "BYE"));
    });
}

/// Wireshark reads every message of a few calls that SPS wrote, and finds nothing malformed.
#[test]
fn wireshark_finds_nothing_malformed() {
    need!("tshark");
    bounded(|| {
        let mut ends = Ends::bind(V4).expect("two ports are free");
        let sps = Instance::start(Options::new());
        // Relays that lose nothing, to see what SPS writes to either side.
        let to_callee = Relay::start(V4, ends.callee.addr(), 0, 1);
        sps.route("1555*", to_callee.addr());
        ends.callee_contact = Some(to_callee.addr());
        let plan = Plan {
            limit: Some(5),
            ..Plan::window(sps.addr(), "15550100@sps.test", 1, Duration::from_secs(30))
        };
        let outcome = play(&plan, &mut ends);
        assert_eq!(
            (outcome.completed, outcome.failed),
            (5, 0),
            "{:?}",
            outcome.first_failure
        );
        let written = to_callee.inward();
        assert!(
            written.len() >= 15,
            "INVITE, ACK and BYE of five calls: {}",
            written.len()
        );
        let read = pcap::tshark(sps.root(), &written, "sip.Method");
        assert_eq!(read.len(), written.len(), "every one is SIP");
        let bad = pcap::tshark(sps.root(), &written, "_ws.malformed || _ws.expert.severity >= 6291456");
        assert!(bad.is_empty(), "{bad:#?}");
    });
}
