//! CANCEL: before any answer, while it rings, when the answer is already there, and for something unknown.

use sps_tests::net::V4;
use sps_tests::sipp::Sipp;
use sps_tests::{Agent, Dialog, Instance, Message, Options, Uas, bounded, need};

const NUMBER: &str = "15550100";

/// §9.1: the CANCEL of a request.
fn cancel_of(request: &Message) -> Message {
    let mut cancel = Message::request("CANCEL", request.uri().expect("a request has a Request-URI"));
    for name in ["Via", "Max-Forwards", "From", "To", "Call-ID"] {
        cancel = cancel.with(name, request.must(name));
    }
    cancel.with("CSeq", format!("{} CANCEL", request.cseq().0))
}

/// §17.1.1.3: the ACK of a refusal.
fn ack_of(invite: &Message, refusal: &Message) -> Message {
    cancel_of(invite)
        .set("To", refusal.must("To"))
        .set("CSeq", format!("{} ACK", invite.cseq().0))
        .retitled("ACK", invite)
}

trait Retitled {
    fn retitled(self, method: &str, like: &Message) -> Message;
}

impl Retitled for Message {
    fn retitled(mut self, method: &str, like: &Message) -> Message {
        self.start = format!("{method} {} SIP/2.0", like.uri().expect("a request has a Request-URI"));
        self
    }
}

#[test]
fn a_ringing_call_is_cancelled_at_every_hop() {
    bounded(|| {
        let (mut caller, callee) = (Agent::udp(V4), Uas::ringing(V4));
        let sps = Instance::start(Options::new());
        sps.route("1555*", callee.addr());
        let invite = caller.request("INVITE", &sps.uri(NUMBER));
        caller.send(sps.addr(), &invite);
        caller.expect_status(100);
        caller.expect_status(180);
        caller.send(sps.addr(), &cancel_of(&invite));
        // §16.10 and §9.2: the CANCEL is answered here, the INVITE by the callee.
        let answers = [caller.final_response(), caller.final_response()];
        let of = |method: &str| {
            answers
                .iter()
                .find(|answer| answer.cseq().1 == method)
                .map(|answer| answer.status())
        };
        assert_eq!((of("CANCEL"), of("INVITE")), (Some(Some(200)), Some(Some(487))));
        let refusal = answers
            .iter()
            .find(|answer| answer.status() == Some(487))
            .expect("just seen");
        caller.send(sps.addr(), &ack_of(&invite, refusal));

        let at_callee = callee.wait_for("INVITE", 1);
        let cancel = callee.wait_for("CANCEL", 1);
        assert_eq!(
            cancel.branch(),
            at_callee.branch(),
            "§9.1: the CANCEL has the branch of its INVITE"
        );
        assert_eq!(cancel.values("Via").len(), 1, "§9.1: a CANCEL is hop by hop");
        assert_eq!(cancel.uri(), at_callee.uri());
        let ack = callee.wait_for("ACK", 1);
        assert_eq!(ack.branch(), at_callee.branch(), "§17.1.1.3");
    });
}

/// §9.1: a CANCEL may not overtake; the proxy holds it until the callee has said anything at all.
#[test]
fn a_cancel_before_any_answer_waits_for_the_first_one() {
    bounded(|| {
        let (mut caller, mut callee) = (Agent::udp(V4), Agent::udp(V4));
        let sps = Instance::start(Options::new());
        sps.route("1555*", callee.addr());
        let invite = caller.request("INVITE", &sps.uri(NUMBER));
        caller.send(sps.addr(), &invite);
        let at_callee = callee.expect_request("INVITE");
        caller.expect_status(100);
        caller.send(sps.addr(), &cancel_of(&invite));
        let answer = caller.final_response();
        assert_eq!((answer.status(), answer.cseq().1), (Some(200), "CANCEL"));
        // Nothing but the INVITE may have come; the 180 sets the CANCEL free.
        callee.reply(&at_callee, &at_callee.message.response(180, "Ringing").to_tag("c"));
        let cancel = callee.expect_request("CANCEL");
        callee.reply(&cancel, &cancel.message.response(200, "OK").to_tag("c"));
        callee.reply(
            &at_callee,
            &at_callee.message.response(487, "Request Terminated").to_tag("c"),
        );
        callee.expect_request("ACK");
        let refusal = caller.final_response();
        assert_eq!((refusal.status(), refusal.cseq().1), (Some(487), "INVITE"));
        caller.send(sps.addr(), &ack_of(&invite, &refusal));
    });
}

/// §9.2: after a final answer a CANCEL changes nothing, and the call stands.
#[test]
fn a_cancel_after_the_answer_has_no_effect() {
    bounded(|| {
        let (mut caller, callee) = (Agent::udp(V4), Uas::answering(V4));
        let sps = Instance::start(Options::new());
        sps.route("1555*", callee.addr());
        let invite = caller.request("INVITE", &sps.uri(NUMBER));
        caller.send(sps.addr(), &invite);
        let answer = caller.final_response();
        assert_eq!(answer.status(), Some(200));
        let mut dialog = Dialog::of_caller(&invite, &answer);
        let ack = dialog.ack(&mut caller, 1);
        caller.send(sps.addr(), &ack);
        callee.wait_for("ACK", 1);
        caller.send(sps.addr(), &cancel_of(&invite));
        let refused = caller.final_response();
        assert_eq!(refused.cseq().1, "CANCEL");
        assert!(matches!(refused.status(), Some(200 | 481)), "{refused}");
        let bye = dialog.request(&mut caller, "BYE");
        assert_eq!(caller.ask(sps.addr(), &bye).status(), Some(200));
        assert!(callee.requests("CANCEL").is_empty(), "the CANCEL ended at the proxy");
    });
}

/// A CANCEL that crosses the answer on the way: the callee's 2xx wins and reaches the caller (§16.7 step 5).
#[test]
fn an_answer_that_crosses_the_cancel_is_forwarded() {
    bounded(|| {
        let (mut caller, mut callee) = (Agent::udp(V4), Agent::udp(V4));
        let sps = Instance::start(Options::new());
        sps.route("1555*", callee.addr());
        let invite = caller.request("INVITE", &sps.uri(NUMBER));
        caller.send(sps.addr(), &invite);
        let at_callee = callee.expect_request("INVITE");
        callee.reply(&at_callee, &at_callee.message.response(180, "Ringing").to_tag("c"));
        caller.expect_status(100);
        caller.expect_status(180);
        caller.send(sps.addr(), &cancel_of(&invite));
        let cancel = callee.expect_request("CANCEL");
        let contact = format!("<{}>", callee.uri("c"));
        callee.reply(
            &at_callee,
            &at_callee
                .message
                .response(200, "OK")
                .to_tag("c")
                .with("Contact", contact),
        );
        callee.reply(&cancel, &cancel.message.response(200, "OK").to_tag("c"));
        let answers = [caller.final_response(), caller.final_response()];
        for answer in &answers {
            assert_eq!(answer.status(), Some(200), "{answer}");
        }
        let answer = answers
            .iter()
            .find(|answer| answer.cseq().1 == "INVITE")
            .expect("the 2xx comes through");
        let mut dialog = Dialog::of_caller(&invite, answer);
        let ack = dialog.ack(&mut caller, 1);
        caller.send(sps.addr(), &ack);
        callee.expect_request("ACK");
    });
}

/// §9.2: nothing matches, 481. The proxy keeps state, so it does not forward what it never saw (§16.10).
#[test]
fn a_cancel_for_nothing_is_answered_481() {
    bounded(|| {
        let (mut caller, callee) = (Agent::udp(V4), Uas::answering(V4));
        let sps = Instance::start(Options::new());
        sps.route("1555*", callee.addr());
        let invite = caller.request("INVITE", &sps.uri(NUMBER));
        assert_eq!(caller.ask(sps.addr(), &cancel_of(&invite)).status(), Some(481));
        assert!(callee.seen().is_empty());
    });
}

#[test]
fn sipp_hangs_up_while_it_rings() {
    need!("sipp");
    bounded(|| {
        let callee = Uas::scripted(Agent::udp(V4), {
            let mut ringing = std::collections::HashMap::new();
            move |message| match message.method() {
                Some("INVITE") => {
                    ringing.insert(message.branch(), message.clone());
                    vec![message.response(180, "Ringing").to_tag("r")]
                }
                Some("CANCEL") => {
                    let invite = ringing.remove(&message.branch());
                    let ended = invite.map(|invite| invite.response(487, "Request Terminated").to_tag("r"));
                    std::iter::once(message.response(200, "OK").to_tag("r"))
                        .chain(ended)
                        .collect()
                }
                _ => Vec::new(),
            }
        });
        let sps = Instance::start(Options::new());
        sps.route("1555*", callee.addr());
        let caller = Sipp::caller("uac_cancel", sps.addr())
            .calls(30)
            .rate(50)
            .number(NUMBER)
            .key("domain", "sps.test");
        let outcome = caller.start(sps.root()).success();
        assert_eq!((outcome.count("SuccessfulCall"), outcome.count("FailedCall")), (30, 0));
        callee.wait_for("ACK", 30);
    });
}
