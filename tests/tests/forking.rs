//! Forking: an AOR with several contacts, tried at once or one after the other (RFC 3261 §16.6, §16.7).

use std::time::Duration;

use sps_tests::net::V4;
use sps_tests::{Agent, Dialog, Instance, Message, Options, Uas, bounded, wait_until};

/// An AOR `team` with these contacts, all of equal standing.
fn team(sps: &Instance, contacts: &[&str]) {
    for contact in contacts {
        sps.register("team", contact, "1.0");
    }
}

fn call(caller: &mut Agent, sps: &Instance) -> Message {
    let invite = caller.request("INVITE", &sps.uri("team"));
    caller.send(sps.addr(), &invite);
    invite
}

#[test]
fn of_three_phones_one_answers_and_the_others_stop_ringing() {
    bounded(|| {
        let phones = [Uas::ringing(V4), Uas::ringing(V4)];
        let (mut caller, mut answering) = (Agent::udp(V4), Agent::udp(V4));
        let sps = Instance::start(Options::new());
        team(&sps, &[phones[0].uri(), &answering.uri("c"), phones[1].uri()]);
        let invite = call(&mut caller, &sps);
        let at_callee = answering.expect_request("INVITE");
        let branches: Vec<String> = phones
            .iter()
            .map(|phone| phone.wait_for("INVITE", 1).branch())
            .collect();
        assert!(
            branches[0] != branches[1] && branches[0] != at_callee.message.branch(),
            "§16.6 step 8"
        );
        assert_eq!(
            at_callee.message.uri(),
            Some(answering.uri("c").as_str()),
            "§16.6 step 2"
        );
        let contact = format!("<{}>", answering.uri("c"));
        let answer = at_callee
            .message
            .response(200, "OK")
            .to_tag("winner")
            .with("Contact", contact);
        answering.reply(&at_callee, &answer);
        let got = caller.final_response();
        assert_eq!(
            (got.status(), got.to_tag_value().as_deref()),
            (Some(200), Some("winner"))
        );
        // §16.7 step 10.
        for phone in &phones {
            phone.wait_for("CANCEL", 1);
            phone.wait_for("ACK", 1);
        }
        let mut dialog = Dialog::of_caller(&invite, &got);
        let ack = dialog.ack(&mut caller, 1);
        caller.send(sps.addr(), &ack);
        answering.expect_request("ACK");
        let bye = dialog.request(&mut caller, "BYE");
        caller.send(sps.addr(), &bye);
        let bye = answering.expect_request("BYE");
        answering.reply(&bye, &bye.message.response(200, "OK"));
        // The 487s of the others are not the caller's business: the next thing it gets is the end of its BYE.
        assert_eq!(caller.final_response().cseq(), (2, "BYE"));
    });
}

/// §16.7 step 5: every 2xx goes upstream, the second one too.
#[test]
fn two_phones_answer_at_once_and_the_caller_hears_both() {
    bounded(|| {
        let (mut caller, mut one, mut two) = (Agent::udp(V4), Agent::udp(V4), Agent::udp(V4));
        let sps = Instance::start(Options::new());
        team(&sps, &[&one.uri("c"), &two.uri("c")]);
        let invite = call(&mut caller, &sps);
        let (at_one, at_two) = (one.expect_request("INVITE"), two.expect_request("INVITE"));
        for (phone, got, tag) in [(&mut one, &at_one, "one"), (&mut two, &at_two, "two")] {
            let contact = format!("<{}>", phone.uri("c"));
            phone.reply(
                got,
                &got.message.response(200, "OK").to_tag(tag).with("Contact", contact),
            );
        }
        let answers = [caller.final_response(), caller.final_response()];
        let mut tags: Vec<_> = answers.iter().filter_map(Message::to_tag_value).collect();
        tags.sort();
        assert_eq!(tags, ["one", "two"]);
        for answer in &answers {
            assert_eq!(answer.status(), Some(200));
            let mut dialog = Dialog::of_caller(&invite, answer);
            let ack = dialog.ack(&mut caller, 1);
            caller.send(sps.addr(), &ack);
        }
        // A CANCEL may have crossed the second answer; it must not keep the ACK away.
        for phone in [&mut one, &mut two] {
            let mut got = phone.receive();
            if got.message.method() == Some("CANCEL") {
                phone.reply(&got, &got.message.response(200, "OK").to_tag("x"));
                got = phone.receive();
            }
            assert_eq!(got.message.method(), Some("ACK"), "{}", got.message);
        }
    });
}

/// §16.7 step 6: the lowest class wins, 6xx beats all, and 503 is the worst.
#[test]
fn of_three_refusals_the_best_one_goes_up() {
    bounded(|| {
        let cases = [
            ([404, 486, 503], vec![404, 486]),
            ([302, 486, 500], vec![302]),
            ([503, 500, 501], vec![500, 501]),
            ([404, 603, 486], vec![603]),
        ];
        for (refusals, expected) in cases {
            let phones = refusals.map(|status| Uas::refusing(V4, status, "Refused"));
            let mut caller = Agent::udp(V4);
            let sps = Instance::start(Options::new());
            team(&sps, &[phones[0].uri(), phones[1].uri(), phones[2].uri()]);
            call(&mut caller, &sps);
            let answer = caller.final_response();
            let status = answer.status().expect("a response");
            assert!(expected.contains(&status), "{refusals:?} gave {answer}");
            for phone in &phones {
                phone.wait_for("ACK", 1);
            }
        }
    });
}

/// §16.7 step 5: a 6xx ends the other branches; what they say then does not replace it.
#[test]
fn a_6xx_stops_the_phones_that_still_ring() {
    bounded(|| {
        let (decline, ringing) = (Uas::refusing(V4, 603, "Decline"), Uas::ringing(V4));
        let mut caller = Agent::udp(V4);
        let sps = Instance::start(Options::new());
        team(&sps, &[decline.uri(), ringing.uri()]);
        call(&mut caller, &sps);
        assert_eq!(caller.final_response().status(), Some(603));
        ringing.wait_for("CANCEL", 1);
    });
}

/// Groups of falling q: the second phone is only tried when the first has refused.
#[test]
fn a_lower_q_waits_until_the_higher_has_failed() {
    bounded(|| {
        let (mut caller, mut first, mut second) = (Agent::udp(V4), Agent::udp(V4), Agent::udp(V4));
        let sps = Instance::start(Options::new());
        sps.register("team", &second.uri("c"), "0.4");
        sps.register("team", &first.uri("c"), "0.9");
        call(&mut caller, &sps);
        let at_first = first.expect_request("INVITE");
        first.reply(&at_first, &at_first.message.response(180, "Ringing").to_tag("1"));
        caller.expect_status(100);
        caller.expect_status(180);
        first.reply(&at_first, &at_first.message.response(480, "Not here").to_tag("1"));
        first.expect_request("ACK");
        let at_second = second.expect_request("INVITE");
        second.reply(&at_second, &at_second.message.response(486, "Busy Here").to_tag("2"));
        let answer = caller.final_response();
        assert!(matches!(answer.status(), Some(480 | 486)), "{answer}");
    });
}

#[test]
fn sequential_forking_tries_equals_one_after_the_other() {
    bounded(|| {
        let phones = [Uas::refusing(V4, 486, "Busy Here"), Uas::refusing(V4, 404, "Not Found")];
        let (mut caller, last) = (Agent::udp(V4), Uas::answering(V4));
        let sps = Instance::start(Options::new().section("[proxy]\nfork = \"sequential\""));
        team(&sps, &[phones[0].uri(), phones[1].uri()]);
        sps.register("team", last.uri(), "0.1");
        call(&mut caller, &sps);
        assert_eq!(caller.final_response().status(), Some(200));
        for phone in &phones {
            assert_eq!(phone.requests("INVITE").len(), 1);
            assert!(
                phone.requests("CANCEL").is_empty(),
                "a branch that has ended needs no CANCEL"
            );
        }
    });
}

/// A phone that answers ends the sequence: nobody else ever rings.
#[test]
fn sequential_forking_stops_at_the_first_answer() {
    bounded(|| {
        let (mut caller, first, second) = (Agent::udp(V4), Uas::answering(V4), Uas::answering(V4));
        let sps = Instance::start(Options::new().section("[proxy]\nfork = \"sequential\""));
        sps.register("team", first.uri(), "0.9");
        sps.register("team", second.uri(), "0.5");
        let invite = call(&mut caller, &sps);
        let answer = caller.final_response();
        let mut dialog = Dialog::of_caller(&invite, &answer);
        let ack = dialog.ack(&mut caller, 1);
        caller.send(sps.addr(), &ack);
        wait_until("the ACK is there", || !first.requests("ACK").is_empty());
        let bye = dialog.request(&mut caller, "BYE");
        assert_eq!(caller.ask(sps.addr(), &bye).status(), Some(200));
        assert!(second.seen().is_empty());
    });
}

/// A request that is not INVITE forks as well, and has one answer (§16.7 step 5 is for INVITE alone).
#[test]
fn a_message_forks_and_has_one_answer() {
    bounded(|| {
        let phones = [Uas::answering(V4), Uas::answering(V4)];
        let mut caller = Agent::udp(V4);
        let sps = Instance::start(Options::new());
        team(&sps, &[phones[0].uri(), phones[1].uri()]);
        let message = caller.request("MESSAGE", &sps.uri("team"));
        assert_eq!(caller.ask(sps.addr(), &message).status(), Some(200));
        for phone in &phones {
            phone.wait_for("MESSAGE", 1);
        }
        let options = caller.request("OPTIONS", &sps.uri("team"));
        let answer = caller.ask(sps.addr(), &options);
        assert_eq!(
            answer.cseq().1,
            "OPTIONS",
            "no second answer to the MESSAGE came in between"
        );
    });
}

/// RFC 5393 §5.3.3, §5.3.3.1: phones beyond the request's Max-Breadth ring when others have ended; the configuration bounds
/// what comes in.
#[test]
fn max_breadth_bounds_how_many_phones_ring_at_once() {
    bounded(|| {
        let mut caller = Agent::udp(V4);
        let mut phones = [Agent::udp(V4), Agent::udp(V4), Agent::udp(V4)];
        let sps = Instance::start(Options::new().section("[proxy]\nmax_breadth = 2"));
        let contacts: Vec<String> = phones.iter().map(|phone| phone.uri("c")).collect();
        team(&sps, &contacts.iter().map(String::as_str).collect::<Vec<_>>());
        let invite = caller.request("INVITE", &sps.uri("team")).with("Max-Breadth", "50");
        caller.send(sps.addr(), &invite);
        let mut ringing = Vec::new();
        let mut silent = Vec::new();
        for (at, phone) in phones.iter_mut().enumerate() {
            match phone.try_receive(Duration::from_millis(300)) {
                Some(got) => ringing.push((at, got)),
                None => silent.push(at),
            }
        }
        let breadths: Vec<_> = ringing
            .iter()
            .map(|(_, got)| got.message.values("Max-Breadth"))
            .collect();
        assert_eq!(breadths, [["1"], ["1"]]);
        let (busy, got) = &ringing[0];
        phones[*busy].reply(got, &got.message.response(486, "Busy Here").to_tag("busy"));
        let third = &mut phones[silent[0]];
        let got = third.expect_request("INVITE");
        assert_eq!(got.message.values("Max-Breadth"), ["1"]);
        third.reply(&got, &got.message.response(603, "Decline").to_tag("no"));
        let (other, got) = &ringing[1];
        phones[*other].reply(got, &got.message.response(486, "Busy Here").to_tag("busy"));
        assert_eq!(caller.final_response().status(), Some(603));
    });
}
