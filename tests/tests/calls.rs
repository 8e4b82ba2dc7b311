//! A call from end to end through a static route, message by message: the flows of a gateway call by a proxy with and without
//! Record-Route, over UDP, TCP and IPv6, and what a proxy must not touch.

use std::net::IpAddr;

use sps_tests::call::{Dialog, SDP};
use sps_tests::net::{V4, V6, has_v6};
use sps_tests::sipp::Sipp;
use sps_tests::{Agent, Instance, Message, Options, bounded, need, skip};

const NUMBER: &str = "15550100";

/// One whole call; what came to either side beyond what is awaited fails it.
struct Call {
    invite_sent: Message,
    invite_got: Message,
    answer_got: Message,
    ack_got: Message,
    bye_got: Message,
}

/// Plays INVITE, 180, 200, ACK, BYE, 200 with the caller ending the call. In-dialog requests go where the route set says.
fn play(sps: &Instance, caller: &mut Agent, callee: &mut Agent) -> Call {
    let invite = caller
        .request("INVITE", &sps.uri(NUMBER))
        .with("X-Odd", " \tspaced,  \"quoted, comma\" ;p ")
        .with_body("application/sdp", SDP);
    caller.send(sps.addr(), &invite);

    let at_callee = callee.expect_request("INVITE");
    let contact = format!("<{}>", callee.uri("callee"));
    let ringing = at_callee
        .message
        .response(180, "Ringing")
        .to_tag("callee")
        .with("Contact", contact.clone());
    callee.reply(&at_callee, &ringing);
    let answer = at_callee
        .message
        .response(200, "OK")
        .to_tag("callee")
        .with("Contact", contact)
        .with_body("application/sdp", SDP);
    callee.reply(&at_callee, &answer);

    assert_eq!(caller.expect_status(100).cseq(), (1, "INVITE"));
    assert_eq!(caller.expect_status(180).to_tag_value().as_deref(), Some("callee"));
    let answer_got = caller.expect_status(200);

    let mut dialog = Dialog::of_caller(&invite, &answer_got);
    let hop = dialog.next_hop();
    let ack = dialog.ack(caller, 1);
    caller.send(hop, &ack);
    let ack_got = callee.expect_request("ACK").message;
    let bye = dialog.request(caller, "BYE");
    caller.send(hop, &bye);
    let bye_got = callee.expect_request("BYE");
    callee.reply(&bye_got, &bye_got.message.response(200, "OK"));
    assert_eq!(caller.expect_status(200).cseq(), (2, "BYE"));
    Call {
        invite_sent: invite,
        invite_got: at_callee.message,
        answer_got,
        ack_got,
        bye_got: bye_got.message,
    }
}

fn assert_passed_through_proxy(request: &Message, sps: &Instance) {
    let vias = request.values("Via");
    assert_eq!(vias.len(), 2, "one Via of the caller, one of the proxy:\n{request}");
    assert!(
        vias[0].contains(&sps.addr().to_string()),
        "the top Via is the proxy's:\n{request}"
    );
    assert!(request.branch().starts_with("z9hG4bK"), "RFC 3261 §8.1.1.7:\n{request}");
    assert_eq!(request.must("Max-Forwards"), "69", "§16.6 step 3:\n{request}");
    assert!(
        request.header("Route").is_none(),
        "§16.4 took our own Route off:\n{request}"
    );
}

/// Document 002, figure 9: the proxy stays in the path.
#[test]
fn with_record_route_every_message_passes_the_proxy() {
    bounded(|| {
        let (mut caller, mut callee) = (Agent::udp(V4), Agent::udp(V4));
        let sps = Instance::start(Options::new());
        sps.route("1555*", callee.addr());
        let call = play(&sps, &mut caller, &mut callee);

        let routes = call.invite_got.values("Record-Route");
        assert_eq!(routes.len(), 1, "{}", call.invite_got);
        assert!(
            routes[0].contains(&sps.addr().to_string()) && routes[0].contains(";lr"),
            "{routes:?}"
        );
        assert_eq!(call.answer_got.values("Record-Route"), routes);
        for request in [&call.invite_got, &call.ack_got, &call.bye_got] {
            assert_passed_through_proxy(request, &sps);
        }
        assert_eq!((caller.repeats, callee.repeats), (0, 0));
    });
}

/// Document 002, figure 10: after the answer the two ends talk directly.
#[test]
fn without_record_route_ack_and_bye_go_straight() {
    bounded(|| {
        let (mut caller, mut callee) = (Agent::udp(V4), Agent::udp(V4));
        let sps = Instance::start(Options::new().section("[proxy]\nrecord_route = false"));
        sps.route("1555*", callee.addr());
        let call = play(&sps, &mut caller, &mut callee);

        assert_passed_through_proxy(&call.invite_got, &sps);
        assert!(call.invite_got.header("Record-Route").is_none(), "{}", call.invite_got);
        assert!(call.answer_got.header("Record-Route").is_none(), "{}", call.answer_got);
        for request in [&call.ack_got, &call.bye_got] {
            assert_eq!(request.values("Via").len(), 1, "straight from the caller:\n{request}");
        }
    });
}

/// §16.6: what a proxy has no business with leaves as it came, byte for byte and in its order.
#[test]
fn foreign_headers_and_bodies_leave_as_they_came() {
    bounded(|| {
        let (mut caller, mut callee) = (Agent::udp(V4), Agent::udp(V4));
        let sps = Instance::start(Options::new());
        sps.route("1555*", callee.addr());
        let uri = sps.uri(NUMBER);
        let via = caller.via();
        let kept = "f:\t\"O'Hara, \\\"Q\\\"\" <sip:a%20b@[::1];x=y>  ;tag=keep\r\n\
            To : <sip:15550100@SPS.test>\r\ni: Odd+Call%ID@x\r\nCSEQ: 00041   JUGGLE\r\n\
            X-Unknown: caf\u{e9}, \"a,b\" ,<c>;;=\r\nSubject: first\r\n second\r\n\tthird\r\n\
            m: <sip:tester@127.0.0.1:1>;+sip.instance=\"<urn:uuid:0>\"\r\nP-Empty:\r\n";
        let head = format!("JUGGLE {uri} SIP/2.0\r\nv: {via}\r\nMax-Forwards: 9\r\n{kept}c: x/y\r\nl: 8\r\n\r\n");
        let body = b"\x00\xff\r\n\r\n\x80z";
        let sent = [head.as_bytes(), body].concat();
        caller.send_bytes(sps.addr(), &sent);

        let got = callee.expect_request("JUGGLE");
        let text = got.bytes.windows(kept.len()).any(|window| window == kept.as_bytes());
        assert!(
            text,
            "the untouched headers are one unbroken run:\n{}",
            String::from_utf8_lossy(&got.bytes)
        );
        assert!(
            got.bytes.ends_with(&[b"\r\n\r\n".as_slice(), body].concat()),
            "the body is the same"
        );
        assert_eq!(got.message.must("Max-Forwards"), "8");
        callee.reply(
            &got,
            &got.message.response(299, "Caf\u{e9}  so so").with("X-Back", "1, 2 ,3"),
        );
        let answer = caller.final_response();
        assert_eq!(
            (answer.status(), answer.reason()),
            (Some(299), Some("Caf\u{e9}  so so"))
        );
        assert_eq!(answer.must("X-Back"), "1, 2 ,3");
        assert!(answer.values("Via")[0].starts_with(&via), "{answer}");
    });
}

/// §17.2.1, §17.2.2: what the caller repeats is answered from the transaction and reaches the callee once.
#[test]
fn repeated_requests_are_absorbed_and_answered_again() {
    bounded(|| {
        let (mut caller, mut callee) = (Agent::udp(V4), Agent::udp(V4));
        let sps = Instance::start(Options::new());
        sps.route("1555*", callee.addr());
        let invite = caller
            .request("INVITE", &sps.uri(NUMBER))
            .with_body("application/sdp", SDP);
        caller.send(sps.addr(), &invite);
        let at_callee = callee.expect_request("INVITE");
        caller.expect_status(100);
        callee.reply(&at_callee, &at_callee.message.response(180, "Ringing").to_tag("c"));
        caller.expect_status(180);
        // Repetitions now get the 180 again, the same bytes.
        for expected in 1..=3 {
            caller.send(sps.addr(), &invite);
            sps_tests::wait_until("the 180 comes again", || {
                assert!(caller.try_receive(std::time::Duration::from_millis(20)).is_none());
                caller.repeats >= expected
            });
        }
        callee.reply(&at_callee, &at_callee.message.response(486, "Busy Here").to_tag("c"));
        callee.expect_request("ACK");
        let refusal = caller.expect_status(486);
        let ack = invite_ack(&invite, &refusal);
        caller.send(sps.addr(), &ack);

        // A request of another kind, sent twice: one arrives, two identical answers leave.
        let options = caller.request("INFO", &sps.uri(NUMBER));
        caller.send(sps.addr(), &options);
        let at_callee = callee.expect_request("INFO");
        caller.send(sps.addr(), &options);
        callee.reply(&at_callee, &at_callee.message.response(200, "OK").to_tag("c"));
        caller.expect_status(200);
        let repeats = caller.repeats;
        caller.send(sps.addr(), &options);
        sps_tests::wait_until("the 200 comes again", || {
            assert!(caller.try_receive(std::time::Duration::from_millis(20)).is_none());
            caller.repeats > repeats
        });
        assert_eq!(callee.repeats, 0, "nothing reached the callee twice");
    });
}

/// The ACK that the caller's own transaction sends for a refusal (§17.1.1.3).
fn invite_ack(invite: &Message, refusal: &Message) -> Message {
    let mut ack = Message::request("ACK", invite.uri().expect("an INVITE has a Request-URI"));
    for name in ["Via", "Max-Forwards", "From", "Call-ID"] {
        ack = ack.with(name, invite.must(name));
    }
    ack.with("To", refusal.must("To"))
        .with("CSeq", format!("{} ACK", invite.cseq().0))
}

fn over(caller_tcp: bool, callee_tcp: bool, ip: IpAddr) {
    let mut caller = if caller_tcp { Agent::tcp(ip) } else { Agent::udp(ip) };
    let mut callee = if callee_tcp { Agent::tcp(ip) } else { Agent::udp(ip) };
    let sps = Instance::start(Options::new().ip(ip));
    let transport = if callee_tcp { "tcp" } else { "udp" };
    sps.spsroute(&["add", "1555*", &callee.addr().to_string(), "--transport", transport])
        .ok();
    let call = play(&sps, &mut caller, &mut callee);
    let top = &call.invite_got.values("Via")[0];
    assert!(
        top.starts_with(&format!("SIP/2.0/{} {}", callee.transport(), sps.addr())),
        "{top}"
    );
    assert_eq!(call.bye_got.values("Via").len(), 2, "{}", call.bye_got);
    assert_eq!(call.answer_got.values("Via"), call.invite_sent.values("Via"));
}

#[test]
fn a_call_over_tcp() {
    bounded(|| over(true, true, V4));
}

/// The two sides of a dialog may speak different transports; in-dialog requests still find their way.
#[test]
fn a_call_from_tcp_to_udp() {
    bounded(|| over(true, false, V4));
}

#[test]
fn a_call_from_udp_to_tcp() {
    bounded(|| over(false, true, V4));
}

#[test]
fn a_call_over_ipv6() {
    if !has_v6() {
        skip!("ipv6: no IPv6 on the loopback");
    }
    bounded(|| over(false, false, V6));
}

#[test]
fn a_call_over_tcp_and_ipv6() {
    if !has_v6() {
        skip!("ipv6: no IPv6 on the loopback");
    }
    bounded(|| over(true, true, V6));
}

/// RFC 3581, §18.2.1: the answer goes to where the request came from, and Via says where that was.
#[test]
fn an_answer_finds_a_caller_whose_via_lies() {
    bounded(|| {
        let (mut caller, mut callee) = (Agent::udp(V4), Agent::udp(V4));
        let sps = Instance::start(Options::new());
        sps.route("1555*", callee.addr());
        let request = caller
            .request("MESSAGE", &sps.uri(NUMBER))
            .set("Via", "SIP/2.0/UDP 192.0.2.1:9;branch=z9hG4bKlies;rport");
        caller.send(sps.addr(), &request);
        let got = callee.expect_request("MESSAGE");
        let below = got.message.values("Via").swap_remove(1);
        assert!(below.contains("received=127.0.0.1"), "{below}");
        assert!(below.contains(&format!("rport={}", caller.addr().port())), "{below}");
        callee.reply(&got, &got.message.response(200, "OK").to_tag("x"));
        assert_eq!(caller.final_response().status(), Some(200));
    });
}

/// One worker: SIPp's scenarios demand an order of messages that UDP does not promise. With two workers a response that came
/// by the other one's socket is handed over, and the next request may overtake it.
fn sipp_calls(options: Options, caller: &str, callee: &str, tcp: bool) {
    let sps = Instance::start(options.server("workers = 1"));
    let with_transport = |sipp: Sipp| if tcp { sipp.tcp() } else { sipp };
    let callee = with_transport(Sipp::callee(callee, V4).calls(50)).start(sps.root());
    let transport = if tcp { "tcp" } else { "udp" };
    sps.spsroute(&["add", "1555*", &callee.addr().to_string(), "--transport", transport])
        .ok();
    let caller = with_transport(Sipp::caller(caller, sps.addr()).calls(50).rate(100).at_once(50))
        .number(NUMBER)
        .key("domain", sps_tests::instance::DOMAIN)
        .start(sps.root());
    let (called, answered) = (caller.success(), callee.success());
    assert_eq!((called.count("SuccessfulCall"), called.count("FailedCall")), (50, 0));
    assert_eq!(
        (answered.count("SuccessfulCall"), answered.count("FailedCall")),
        (50, 0)
    );
}

#[test]
fn sipp_calls_sipp_with_record_route() {
    need!("sipp");
    bounded(|| sipp_calls(Options::new(), "uac", "uas", false));
}

#[test]
fn sipp_calls_sipp_without_record_route() {
    need!("sipp");
    bounded(|| {
        sipp_calls(
            Options::new().section("[proxy]\nrecord_route = false"),
            "uac_direct",
            "uas_direct",
            false,
        );
    });
}

#[test]
fn sipp_calls_sipp_over_tcp() {
    need!("sipp");
    bounded(|| sipp_calls(Options::new(), "uac", "uas", true));
}

#[test]
fn sipp_talks_to_sipp_inside_a_long_dialog() {
    need!("sipp");
    bounded(|| sipp_calls(Options::new(), "uac_dialog", "uas_dialog", false));
}

#[test]
fn sipp_finds_sipp_engaged() {
    need!("sipp");
    bounded(|| sipp_calls(Options::new(), "uac_busy", "uas_busy", false));
}
