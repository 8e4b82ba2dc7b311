//! Listeners and who may use them: wildcards, advertised names, access rules, numbers in other schemes, a full house.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use sps_tests::net::{V4, free_port};
use sps_tests::{Agent, Instance, Options, Uas, bounded};

/// On a wildcard address an answer leaves from the address its request came to, else no phone behind a firewall would take it.
#[test]
fn an_answer_leaves_from_the_address_it_was_asked_at() {
    bounded(|| {
        let callee = Uas::answering(V4);
        let port = free_port(Ipv4Addr::UNSPECIFIED.into());
        let sps = Instance::init(Options::new().port(port));
        let text = format!(
            "[server]\ndomain = \"sps.test\"\nopen_relay = true\n\
             [[listen]]\ntransport = \"udp\"\naddress = \"0.0.0.0\"\nport = {port}\n"
        );
        fs::write(sps.config(), text).expect("sps.toml can be written");
        sps.spsctl(&["start"]).ok();
        sps.route("1555*", callee.addr());
        for last in 1..4 {
            let at = SocketAddr::new(Ipv4Addr::new(127, 0, 0, last).into(), port);
            let mut agent = Agent::udp(V4);
            let request = agent.request("MESSAGE", &sps.uri("15550100"));
            agent.send(at, &request);
            let answer = agent.receive();
            assert_eq!((answer.message.status(), answer.peer), (Some(200), at));
        }
    });
}

/// `advertise` is what Via and Record-Route say, and what is addressed to it is ours.
#[test]
fn via_and_record_route_say_the_advertised_name() {
    bounded(|| {
        let (mut caller, mut callee) = (Agent::udp(V4), Agent::udp(V4));
        let port = free_port(V4);
        let sps = Instance::init(Options::new().port(port));
        let text = format!(
            "[server]\ndomain = \"sps.test\"\n\
             [[listen]]\ntransport = \"udp\"\naddress = \"127.0.0.1\"\nport = {port}\nadvertise = \"edge.sps.example:5099\"\n"
        );
        fs::write(sps.config(), text).expect("sps.toml can be written");
        sps.spsctl(&["start"]).ok();
        sps.route("1555*", callee.addr());
        let request = caller.request("SUBSCRIBE", "sip:15550100@edge.sps.example:5099");
        caller.send(sps.addr(), &request);
        let got = callee.expect_request("SUBSCRIBE");
        assert!(
            got.message.values("Via")[0].starts_with("SIP/2.0/UDP edge.sps.example:5099;"),
            "{}",
            got.message
        );
        assert!(
            got.message.must("Record-Route").contains("@edge.sps.example:5099;"),
            "{}",
            got.message
        );
        let contact = format!("<{}>", callee.uri("c"));
        let accepted = got.message.response(200, "OK").to_tag("c").with("Contact", contact);
        callee.reply(&got, &accepted);
        assert_eq!(caller.final_response().status(), Some(200));
        // The callee's own request comes by the address; its Route says the name.
        let notify = sps_tests::Dialog::of_callee(&got.message, &accepted).request(&mut callee, "NOTIFY");
        callee.send(sps.addr(), &notify);
        let got = caller.expect_request("NOTIFY");
        assert!(got.message.header("Route").is_none(), "{}", got.message);
    });
}

/// First match wins; whom no rule names may call our users and nobody else.
#[test]
fn access_rules_decide_by_source() {
    bounded(|| {
        let callee = Uas::answering(V4);
        let rules = "[[access]]\nsource = \"127.0.0.2/32\"\naction = \"deny\"\n\
                     [[access]]\nsource = \"127.0.0.3/32\"\naction = \"allow\"";
        let sps = Instance::start(Options::new().section(rules));
        sps.route("1555*", callee.addr());
        sps.register("bob", callee.uri(), "1.0");
        let ask = |from: u8, uri: &str| {
            let mut agent = Agent::udp(Ipv4Addr::new(127, 0, 0, from).into());
            let request = agent.request("MESSAGE", uri);
            agent.ask(sps.addr(), &request).status().expect("a response")
        };
        let ours = format!("sip:{}", sps.addr());
        for (from, options, register) in [(2, 403, 403), (3, 200, 200), (4, 200, 200)] {
            let mut agent = Agent::udp(Ipv4Addr::new(127, 0, 0, from).into());
            let request = agent.request("OPTIONS", &ours);
            assert_eq!(
                agent.ask(sps.addr(), &request).status(),
                Some(options),
                "OPTIONS from {from}"
            );
            let to = sps.uri(&format!("user{from}"));
            let request = agent.request("REGISTER", &ours).set("To", format!("<{to}>"));
            assert_eq!(
                agent.ask(sps.addr(), &request).status(),
                Some(register),
                "REGISTER from {from}"
            );
        }
        let (number, user, foreign) = (sps.uri("15550100"), sps.uri("bob"), format!("sip:x@{}", callee.addr()));
        for uri in [&number, &user, &foreign] {
            assert_eq!(ask(2, uri), 403, "denied: {uri}");
            assert_eq!(ask(3, uri), 200, "allowed: {uri}");
        }
        assert_eq!(ask(4, &user), 200, "our users may be called by all");
        assert_eq!(ask(4, &number), 403, "a gateway is for listed sources");
        assert_eq!(ask(4, &foreign), 403, "and so are foreign domains");
        assert_eq!(callee.requests("MESSAGE").len(), 4);
    });
}

/// RFC 3966: the same number in another scheme takes the same route, and the wire keeps what it said.
#[test]
fn a_tel_uri_takes_the_route_of_its_number() {
    bounded(|| {
        let callee = Uas::answering(V4);
        let sps = Instance::start(Options::new());
        sps.route("+1555*", callee.addr());
        let mut agent = Agent::udp(V4);
        for uri in [
            "tel:+15550100",
            "tel:+1-555-0100",
            "sip:+1-555-0100@sps.test;user=phone",
        ] {
            let request = agent.request("MESSAGE", uri);
            let answer = agent.ask(sps.addr(), &request);
            assert_eq!(answer.status(), Some(200), "{uri}: {answer}");
            assert!(
                callee.requests("MESSAGE").iter().any(|got| got.uri() == Some(uri)),
                "{uri} arrives as it was"
            );
        }
    });
}

/// §26.2.2: a SIPS URI may not travel in the clear.
#[test]
fn a_sips_uri_does_not_leave_over_udp() {
    bounded(|| {
        let callee = Uas::answering(V4);
        let sps = Instance::start(Options::new());
        let mut agent = Agent::udp(V4);
        let request = agent.request("MESSAGE", &format!("sips:bob@{}", callee.addr()));
        let answer = agent.ask(sps.addr(), &request);
        assert!(answer.status().is_some_and(|status| status >= 400), "{answer}");
        assert!(callee.seen().is_empty());
    });
}

/// Over the bound new requests are refused with 503 and no Retry-After (RFC 7339 §5.10.2: it would silence us whole), and what
/// is begun goes on.
#[test]
fn a_full_house_refuses_what_comes_next() {
    bounded(|| {
        let callee = Uas::ringing(V4);
        let sps = Instance::start(
            Options::new()
                .server("workers = 1")
                .section("[proxy]\nmax_transactions = 10"),
        );
        sps.route("1555*", callee.addr());
        let mut agent = Agent::udp(V4);
        let mut refused = None;
        for _ in 0..40 {
            let invite = agent.request("INVITE", &sps.uri("15550100"));
            agent.send(sps.addr(), &invite);
            let first = loop {
                let message = agent.receive().message;
                if message.header("Call-ID") == invite.header("Call-ID") {
                    break message;
                }
            };
            if first.status() != Some(100) {
                refused = Some(first);
                break;
            }
        }
        let refused = refused.expect("forty calls do not fit into ten transactions");
        assert_eq!(refused.status(), Some(503), "{refused}");
        assert!(refused.header("Retry-After").is_none(), "{refused}");
        assert_eq!(sps.daemon("sps-proxy")["restarts"], 0);
    });
}

/// Without a registrar REGISTER is not ours to answer.
#[test]
fn a_proxy_without_registrar_says_so() {
    bounded(|| {
        let sps = Instance::start(Options::new().section("[registrar]\nenabled = false"));
        let mut agent = Agent::udp(V4);
        let request = agent
            .request("REGISTER", "sip:sps.test")
            .set("To", "<sip:alice@sps.test>");
        let answer = agent.ask(sps.addr(), &request);
        assert!(matches!(answer.status(), Some(403 | 404 | 405 | 501)), "{answer}");
    });
}

/// A method that we would have to understand, sent to ourselves, is refused by name (§8.2.1, §16.3).
#[test]
fn an_unknown_method_for_the_proxy_itself_is_refused() {
    bounded(|| {
        let sps = Instance::start(Options::new());
        let mut agent = Agent::udp(V4);
        let request = agent.request("JUGGLE", &format!("sip:{}", sps.addr()));
        let answer = agent.ask(sps.addr(), &request);
        assert!(matches!(answer.status(), Some(404 | 405 | 480 | 501)), "{answer}");
        if answer.status() == Some(405) {
            assert!(answer.header("Allow").is_some(), "§21.4.6: {answer}");
        }
    });
}
