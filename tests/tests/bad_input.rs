//! What strangers may send: each kind gets the response RFC 3261 names or is dropped, and the proxy serves on.

use std::time::Duration;

use sps_tests::net::V4;
use sps_tests::{Agent, Instance, Message, Options, Uas, bounded};

/// A complete MESSAGE for the callee, of which one line is then spoiled.
fn message(agent: &mut Agent, sps: &Instance) -> Message {
    agent.request("MESSAGE", &sps.uri("15550100"))
}

fn assert_serves(agent: &mut Agent, sps: &Instance) {
    let request = message(agent, sps);
    let answer = agent.ask(sps.addr(), &request);
    assert_eq!(answer.status(), Some(200), "it does not serve any more: {answer}");
}

/// §16.3 and §21: one spoiled request a line, with the statuses that are right for it.
#[test]
fn each_fault_has_its_response() {
    bounded(|| {
        let callee = Uas::answering(V4);
        let mut agent = Agent::udp(V4);
        let sps = Instance::start(Options::new());
        sps.route("1555*", callee.addr());
        type Spoil = fn(Message) -> Message;
        let faults: &[(&str, &[u16], Spoil)] = &[
            ("Max-Forwards is used up (§16.3 step 3)", &[483], |m| {
                m.set("Max-Forwards", "0")
            }),
            ("Max-Forwards is no number", &[400], |m| m.set("Max-Forwards", "many")),
            ("Max-Forwards is beyond 255", &[400], |m| m.set("Max-Forwards", "4711")),
            ("a scheme nobody knows (§16.3 step 2)", &[416], |mut m| {
                m.start = "MESSAGE nobody:knows.this SIP/2.0".into();
                m
            }),
            ("an extension we do not know (§16.3 step 5)", &[420], |m| {
                m.with("Proxy-Require", "x-teleport")
            }),
            ("another version (§21.5.7)", &[505], |mut m| {
                m.start = m.start.replace("SIP/2.0", "SIP/7.0");
                m
            }),
            ("the method of CSeq is another one (§8.1.1.5)", &[400], |m| {
                m.set("CSeq", "1 INVITE")
            }),
            ("CSeq is no number", &[400], |m| m.set("CSeq", "one MESSAGE")),
            ("CSeq is beyond 2^31 (§8.1.1.5)", &[400], |m| {
                m.set("CSeq", "4294967296 MESSAGE")
            }),
            ("no From", &[400], |m| m.without("From")),
            ("no To", &[400], |m| m.without("To")),
            ("no Call-ID", &[400], |m| m.without("Call-ID")),
            ("no CSeq", &[400], |m| m.without("CSeq")),
            ("Content-Length beyond the datagram (§18.3)", &[400], |m| {
                m.set("Content-Length", "99")
            }),
            ("Content-Length is no number", &[400], |m| m.set("Content-Length", "-1")),
            ("a Request-URI with a space", &[400], |mut m| {
                m.start = m.start.replace("@", " @");
                m
            }),
            ("a Request-URI in angle brackets (RFC 4475 3.1.2.7)", &[400], |mut m| {
                m.start = m.start.replace("sip:", "<sip:").replace("test ", "test> ");
                m
            }),
            ("an empty host", &[400, 416], |mut m| {
                m.start = "MESSAGE sip:bob@ SIP/2.0".into();
                m
            }),
            ("a port beyond 65535", &[400], |mut m| {
                m.start = "MESSAGE sip:bob@sps.test:99999 SIP/2.0".into();
                m
            }),
            ("From is broken", &[400], |m| m.set("From", "<sip:unclosed;tag=1")),
        ];
        for (what, expected, spoil) in faults {
            let good = message(&mut agent, &sps);
            let bad = spoil(good);
            agent.send(sps.addr(), &bad);
            let answer = agent
                .try_receive(std::time::Duration::from_secs(5))
                .unwrap_or_else(|| panic!("{what}: no answer"))
                .message;
            let status = answer.status().expect("a response");
            assert!(
                expected.contains(&status),
                "{what}: expected {expected:?}, got\n{answer}"
            );
            if let Some(call_id) = bad.header("Call-ID") {
                assert_eq!(answer.header("Call-ID"), Some(call_id), "{what}");
            }
            if status == 420 {
                assert_eq!(answer.must("Unsupported"), "x-teleport", "{what}");
            }
            assert_serves(&mut agent, &sps);
        }
        let spoiled = callee.requests("MESSAGE").len();
        assert_eq!(spoiled, faults.len(), "none of the spoiled ones reached the callee");
    });
}

/// A message that is too long gets 513 (§21.5.8), over UDP and TCP.
#[test]
fn a_message_beyond_the_limit_gets_513() {
    bounded(|| {
        let callee = Uas::answering(V4);
        let sps = Instance::start(Options::new().section("[proxy]\nmax_message_bytes = 4096"));
        sps.route("1555*", callee.addr());
        let mut udp = Agent::udp(V4);
        let request = message(&mut udp, &sps).with_body("text/plain", vec![b'x'; 8_000]);
        assert_eq!(udp.ask(sps.addr(), &request).status(), Some(513));
        let mut tcp = Agent::tcp(V4);
        let request = message(&mut tcp, &sps).with_body("text/plain", vec![b'x'; 8_000]);
        assert_eq!(tcp.ask(sps.addr(), &request).status(), Some(513));
        assert_serves(&mut udp, &sps);
        assert_eq!(callee.requests("MESSAGE").len(), 1);
    });
}

/// What is no SIP, or SIP that asks for no answer, is dropped without a word.
#[test]
fn noise_is_dropped_in_silence() {
    bounded(|| {
        let callee = Uas::answering(V4);
        let mut agent = Agent::udp(V4);
        let sps = Instance::start(Options::new());
        sps.route("1555*", callee.addr());
        let stray_ack = agent.request("ACK", &sps.uri("nobody"));
        let noise: Vec<Vec<u8>> = vec![
            Vec::new(),
            b"\r\n\r\n".to_vec(),
            vec![0; 4_000],
            vec![0xff; 65_000],
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            b"SIP/2.0 200 OK\r\n\r\n".to_vec(),
            b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx\r\nCSeq: 1 INVITE\r\n\r\n".to_vec(),
            b"INVITE sip:x SIP/2.0\r\n".to_vec(),
            b": : :\r\n\r\n".to_vec(),
            stray_ack.bytes(),
        ];
        for bytes in &noise {
            agent.send_bytes(sps.addr(), bytes);
        }
        let mut random = sps_tests::random::Random::seeded(5);
        let whole = message(&mut agent, &sps).bytes();
        // Every prefix of a request, and requests with octets struck by chance: nothing of it may stall the next one.
        for len in (0..whole.len()).step_by(7) {
            agent.send_bytes(sps.addr(), &whole[..len]);
        }
        for _ in 0..500 {
            let mut struck = whole.clone();
            for _ in 0..3 {
                let at = random.number() as usize % struck.len();
                struck[at] = random.number() as u8;
            }
            agent.send_bytes(sps.addr(), &struck);
        }
        // Answers to some of it may come, more than the socket holds; what counts is that a whole request is still served.
        let request = message(&mut agent, &sps);
        agent.send(sps.addr(), &request);
        loop {
            match agent.try_receive(Duration::from_millis(500)) {
                Some(answer) if answer.message.header("Call-ID") == request.header("Call-ID") => {
                    assert_eq!(answer.message.status(), Some(200));
                    break;
                }
                Some(_) => {}
                None => agent.send(sps.addr(), &request),
            }
        }
        assert_eq!(sps.daemon("sps-proxy")["restarts"], 0, "the proxy never fell");
    });
}

/// Streams: rubbish closes the connection, and others are not disturbed by it.
#[test]
fn rubbish_on_a_stream_costs_its_connection_only() {
    bounded(|| {
        let callee = Uas::answering(V4);
        let sps = Instance::start(Options::new().section("[proxy]\nstream_header_timeout_ms = 300"));
        sps.route("1555*", callee.addr());
        let (mut good, mut bad, mut slow) = (Agent::tcp(V4), Agent::tcp(V4), Agent::tcp(V4));
        assert_serves(&mut good, &sps);
        bad.send_bytes(sps.addr(), &[0xfe; 10_000]);
        bad.wait_closed(sps.addr());
        // A head that never ends.
        slow.send_bytes(sps.addr(), b"OPTIONS sip:x@y SIP/2.0\r\nVia: SIP/2.0/TCP");
        slow.wait_closed(sps.addr());
        assert_serves(&mut good, &sps);
        // Without Content-Length a stream cannot be framed (§18.3): 400, then the end.
        let mut unframed = Agent::tcp(V4);
        let request = message(&mut unframed, &sps);
        let text = String::from_utf8(request.bytes())
            .expect("the request is text")
            .replace("Content-Length: 0\r\n", "");
        unframed.send_bytes(sps.addr(), text.as_bytes());
        let answer = unframed.final_response();
        assert_eq!(answer.status(), Some(400), "{answer}");
        unframed.wait_closed(sps.addr());
        assert!(
            callee
                .requests("MESSAGE")
                .iter()
                .all(|got| got.branch() != request.branch())
        );
        assert_serves(&mut good, &sps);
    });
}

/// §16.3 step 4 and RFC 5393: a route that leads back to ourselves ends with 482 instead of going round until Max-Forwards.
#[test]
fn a_loop_is_seen_at_its_first_turn() {
    bounded(|| {
        let mut agent = Agent::udp(V4);
        let sps = Instance::start(Options::new());
        sps.route("1555*", sps.addr());
        let request = message(&mut agent, &sps);
        let answer = agent.ask(sps.addr(), &request);
        assert_eq!(answer.status(), Some(482), "{answer}");
        let turns = sps.log("access_log").lines().count();
        assert!(turns <= 3, "seen after {turns} turns");
    });
}

/// A spiral comes back changed, and that is allowed: here a registration leads to another of our addresses.
#[test]
fn a_spiral_goes_on() {
    bounded(|| {
        let callee = Uas::answering(V4);
        let mut agent = Agent::udp(V4);
        let sps = Instance::start(Options::new());
        sps.register("alias", &sps.uri("alice"), "1.0");
        sps.register("alice", callee.uri(), "1.0");
        // The domain of the instance has no DNS: it must be known as ours without asking.
        let request = agent.request("MESSAGE", &sps.uri("alias"));
        let answer = agent.ask(sps.addr(), &request);
        assert_eq!(answer.status(), Some(200), "{answer}");
        assert_eq!(callee.requests("MESSAGE").len(), 1);
    });
}

/// A Route header that names us without our MAC is no ticket: the request is out of dialog, and routed as such.
#[test]
fn a_forged_record_route_opens_nothing() {
    bounded(|| {
        let (callee, victim) = (Uas::answering(V4), Uas::answering(V4));
        let mut agent = Agent::udp(V4);
        // Somebody who may not use gateways; the listed source is not this one.
        let access = "[[access]]\nsource = \"192.0.2.0/24\"\naction = \"allow\"\n[[access]]\nsource = \"0.0.0.0/0\"\naction = \"deny\"";
        let sps = Instance::start(Options::new().section(access));
        sps.route("1555*", callee.addr());
        let request = agent
            .request("BYE", &format!("sip:victim@{}", victim.addr()))
            .with("Route", format!("<sip:{};lr;m=forged>", sps.addr()))
            .to_tag("made-up");
        let answer = agent.ask(sps.addr(), &request);
        assert!(matches!(answer.status(), Some(403 | 404 | 481)), "{answer}");
        assert!(victim.seen().is_empty() && callee.seen().is_empty());
    });
}
