//! Every method a proxy carries, outside of dialogs and inside, in both directions. The proxy knows none of them beyond
//! INVITE, ACK, CANCEL and REGISTER, and must not need to.

use sps_tests::call::{Dialog, SDP};
use sps_tests::net::V4;
use sps_tests::{Agent, Instance, Message, Options, bounded};

const NUMBER: &str = "15550100";

/// Answers the next request at `to` and sees the answer at `from`.
fn exchange(from: &mut Agent, to: &mut Agent, request: &Message, hop: std::net::SocketAddr, status: u16) -> Message {
    let (_, method) = request.cseq();
    from.send(hop, request);
    let got = to.expect_request(method);
    assert_eq!(got.message.body, request.body, "{method}: the body is the same");
    assert_eq!(
        got.message.uri(),
        request.uri(),
        "{method}: the Request-URI is the same"
    );
    let contact = format!("<{}>", to.uri("callee"));
    to.reply(
        &got,
        &got.message
            .response(status, "Fine")
            .to_tag("callee")
            .with("Contact", contact),
    );
    let answer = from.final_response();
    assert_eq!(answer.status(), Some(status), "{method}:\n{answer}");
    assert_eq!(answer.cseq(), request.cseq());
    got.message
}

#[test]
fn each_method_passes_outside_of_dialogs() {
    bounded(|| {
        let (mut caller, mut callee) = (Agent::udp(V4), Agent::udp(V4));
        let sps = Instance::start(Options::new());
        sps.route("1555*", callee.addr());
        for method in [
            "OPTIONS", "MESSAGE", "INFO", "PUBLISH", "REFER", "UPDATE", "NOTIFY", "BYE", "PRACK", "JUGGLE",
        ] {
            let request = caller
                .request(method, &sps.uri(NUMBER))
                .with_body("text/plain", method.as_bytes());
            caller.send(sps.addr(), &request);
            let got = callee.expect_request(method);
            assert_eq!(got.message.text(), method);
            assert_eq!(got.message.values("Via").len(), 2, "{}", got.message);
            callee.reply(&got, &got.message.response(202, "Accepted").to_tag("c"));
            let answer = caller.final_response();
            assert_eq!((answer.status(), answer.cseq()), (Some(202), (1, method)));
        }
    });
}

/// SUBSCRIBE makes a dialog of its own; NOTIFY comes back in it, by the proxy that record-routed.
#[test]
fn subscribe_and_notify_both_pass_the_proxy() {
    bounded(|| {
        let (mut watcher, mut source) = (Agent::udp(V4), Agent::udp(V4));
        let sps = Instance::start(Options::new());
        sps.route("1555*", source.addr());
        let subscribe = watcher
            .request("SUBSCRIBE", &sps.uri(NUMBER))
            .with("Event", "presence")
            .with("Expires", "600");
        watcher.send(sps.addr(), &subscribe);
        let got = source.expect_request("SUBSCRIBE");
        assert_eq!(got.message.values("Record-Route").len(), 1, "{}", got.message);
        let contact = format!("<{}>", source.uri("source"));
        let accepted = got
            .message
            .response(200, "OK")
            .to_tag("s")
            .with("Contact", contact)
            .with("Expires", "600");
        source.reply(&got, &accepted);
        assert_eq!(watcher.final_response().status(), Some(200));

        let mut dialog = Dialog::of_callee(&got.message, &accepted);
        assert_eq!(dialog.next_hop(), sps.addr());
        let notify = dialog
            .request(&mut source, "NOTIFY")
            .with("Event", "presence")
            .with("Subscription-State", "active;expires=599")
            .with_body("application/pidf+xml", "<presence/>");
        let hop = dialog.next_hop();
        let arrived = exchange(&mut source, &mut watcher, &notify, hop, 200);
        assert_eq!(arrived.values("Via").len(), 2);
        assert!(arrived.header("Route").is_none(), "{arrived}");
    });
}

#[test]
fn each_method_passes_inside_a_dialog_both_ways() {
    bounded(|| {
        let (mut caller, mut callee) = (Agent::udp(V4), Agent::udp(V4));
        let sps = Instance::start(Options::new());
        sps.route("1555*", callee.addr());
        let (mut ours, mut theirs) = establish(&sps, &mut caller, &mut callee);

        for method in ["INFO", "UPDATE", "MESSAGE", "REFER", "OPTIONS", "NOTIFY", "JUGGLE"] {
            let request = ours
                .request(&mut caller, method)
                .with_body("text/plain", "from the caller");
            let got = exchange(&mut caller, &mut callee, &request, sps.addr(), 200);
            assert_eq!(got.values("Via").len(), 2, "{got}");
            let request = theirs
                .request(&mut callee, method)
                .with_body("text/plain", "from the callee");
            let got = exchange(&mut callee, &mut caller, &request, sps.addr(), 200);
            assert_eq!(got.values("Via").len(), 2, "{got}");
        }

        // A re-INVITE from either side, with its ACK.
        for from_callee in [false, true] {
            let (dialog, from, to) = if from_callee {
                (&mut theirs, &mut callee, &mut caller)
            } else {
                (&mut ours, &mut caller, &mut callee)
            };
            let again = dialog.request(from, "INVITE").with_body("application/sdp", SDP);
            let got = exchange(from, to, &again, sps.addr(), 200);
            assert_eq!(got.text(), SDP);
            let ack = dialog.ack(from, again.cseq().0);
            from.send(sps.addr(), &ack);
            let got = to.expect_request("ACK");
            assert_eq!(got.message.cseq(), (again.cseq().0, "ACK"));
        }

        let bye = theirs.request(&mut callee, "BYE");
        exchange(&mut callee, &mut caller, &bye, sps.addr(), 200);
    });
}

/// RFC 3262: a provisional response that is acknowledged by PRACK, in the early dialog, before the answer.
#[test]
fn prack_travels_in_the_early_dialog() {
    bounded(|| {
        let (mut caller, mut callee) = (Agent::udp(V4), Agent::udp(V4));
        let sps = Instance::start(Options::new());
        sps.route("1555*", callee.addr());
        let invite = caller.request("INVITE", &sps.uri(NUMBER)).with("Supported", "100rel");
        caller.send(sps.addr(), &invite);
        let at_callee = callee.expect_request("INVITE");
        let contact = format!("<{}>", callee.uri("callee"));
        let progress = at_callee
            .message
            .response(183, "Session Progress")
            .to_tag("callee")
            .with("Contact", contact.clone())
            .with("Require", "100rel")
            .with("RSeq", "813520")
            .with_body("application/sdp", SDP);
        callee.reply(&at_callee, &progress);
        caller.expect_status(100);
        let got = caller.expect_status(183);
        assert_eq!((got.must("RSeq"), got.text().as_str()), ("813520", SDP));

        let mut dialog = Dialog::of_caller(&invite, &got);
        let prack = dialog.request(&mut caller, "PRACK").with("RAck", "813520 1 INVITE");
        exchange(&mut caller, &mut callee, &prack, sps.addr(), 200);
        callee.reply(
            &at_callee,
            &at_callee
                .message
                .response(200, "OK")
                .to_tag("callee")
                .with("Contact", contact),
        );
        assert_eq!(caller.final_response().cseq(), (1, "INVITE"));
        let ack = dialog.ack(&mut caller, 1);
        caller.send(sps.addr(), &ack);
        callee.expect_request("ACK");
    });
}

/// §16.12: with Record-Route the Request-URI of an in-dialog request is the Contact, and the proxy neither translates nor routes
/// it again, even when a route for that number leads elsewhere by now.
#[test]
fn a_new_route_does_not_divert_a_dialog_that_stands() {
    bounded(|| {
        let (mut caller, mut callee, mut other) = (Agent::udp(V4), Agent::udp(V4), Agent::udp(V4));
        let sps = Instance::start(Options::new());
        sps.route("1555*", callee.addr());
        let (mut ours, _) = establish(&sps, &mut caller, &mut callee);
        sps.route("15550100", other.addr());
        let info = ours.request(&mut caller, "INFO");
        exchange(&mut caller, &mut callee, &info, sps.addr(), 200);
        let options = caller.request("OPTIONS", &sps.uri(NUMBER));
        caller.send(sps.addr(), &options);
        let got = other.expect_request("OPTIONS");
        other.reply(&got, &got.message.response(200, "OK").to_tag("o"));
        caller.expect_status(200);
    });
}

/// A call that stands: the dialog as either end sees it.
fn establish(sps: &Instance, caller: &mut Agent, callee: &mut Agent) -> (Dialog, Dialog) {
    let invite = caller
        .request("INVITE", &sps.uri(NUMBER))
        .with_body("application/sdp", SDP);
    caller.send(sps.addr(), &invite);
    let at_callee = callee.expect_request("INVITE");
    let contact = format!("<{}>", callee.uri("callee"));
    let answer = at_callee
        .message
        .response(200, "OK")
        .to_tag("callee")
        .with("Contact", contact);
    callee.reply(&at_callee, &answer);
    let got = caller.final_response();
    assert_eq!(got.status(), Some(200), "{got}");
    let mut ours = Dialog::of_caller(&invite, &got);
    let theirs = Dialog::of_callee(&at_callee.message, &answer);
    let ack = ours.ack(caller, 1);
    caller.send(ours.next_hop(), &ack);
    callee.expect_request("ACK");
    (ours, theirs)
}
