//! §9 Canceling a Request, §16.10 CANCEL Processing, RFC 3326.

use crate::house::*;

/// §9.1
#[test]
fn a_cancel_is_built_by_the_book() {
    let mut house = house();
    house.targets = vec![place("", 1000, &["10.0.0.2:5060"])];
    let text = request(
        "INVITE",
        "sip:bob@example.net",
        "a",
        "Route: <sip:one.example.net;lr>\r\nRoute: <sip:two.example.net;lr>\r\nRequire: 100rel\r\nContent-Type: text/plain\r\n",
    )
    .replace("Content-Length: 0\r\n\r\n", "Content-Length: 2\r\n\r\nhi");
    let sent = house.feed(CALLER, &text);
    let forwarded = only(&sent, "INVITE").clone();
    house.answer(&forwarded, "180 Ringing");
    let sent = house.feed(CALLER, &request("CANCEL", "sip:bob@example.net", "a", ""));
    let cancel = only(&sent, "CANCEL");
    assert_eq!(cancel.first_line(), "CANCEL sip:bob@example.net SIP/2.0");
    assert_eq!(cancel.header("Via"), [forwarded.header("Via")[0]]);
    assert_eq!(
        cancel.header("To"),
        forwarded.header("To"),
        "no tag, whatever the 180 had"
    );
    assert_eq!(cancel.header("From"), forwarded.header("From"));
    assert_eq!(cancel.header("Call-ID"), forwarded.header("Call-ID"));
    assert_eq!(cancel.header("CSeq"), ["1 CANCEL"]);
    assert_eq!(
        cancel.header("Route").join(", "),
        "<sip:one.example.net;lr>, <sip:two.example.net;lr>"
    );
    assert!(cancel.header("Require").is_empty());
    assert_eq!(cancel.leave, forwarded.leave);
    assert!(cancel.text.ends_with("\r\n\r\n"));
    house.ends();
}

/// §9.2, §16.10: the CANCEL's own transaction answers a repeated CANCEL; downstream it goes once.
#[test]
fn a_repeated_cancel_is_absorbed() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    house.answer(only(&sent, "INVITE"), "180 Ringing");
    let first = house.feed(CALLER, &cancel());
    let second = house.feed(CALLER, &cancel());
    assert_eq!(lines(&second), ["SIP/2.0 200 OK"]);
    assert_eq!(first[0].text, second[0].text, "the same To tag, too");
    house.ends();
}

/// §9.2: "the To tag of the response to the CANCEL and the To tag in the response to the original request SHOULD be the same"
#[test]
fn the_200_of_a_cancel_bears_the_tag_of_the_487() {
    let mut house = house();
    house.routes_at_once = false;
    house.feed(CALLER, &invite());
    let sent = house.feed(CALLER, &cancel());
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK", "SIP/2.0 487 Request Terminated"]);
    assert!(sent[0].header("To")[0].contains(";tag="));
    assert_eq!(sent[0].header("To"), sent[1].header("To"));
    house.ends();
}

/// §17.2.3 point 2: another sent-by is another client.
#[test]
fn a_cancel_of_somebody_else_does_not_match() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    house.answer(only(&sent, "INVITE"), "180 Ringing");
    let foreign = request_with(
        "10.0.0.66:5060",
        "CANCEL",
        "sip:bob@example.com",
        ";branch=z9hG4bKa",
        "",
        "",
    );
    let sent = house.feed("10.0.0.66:5060", &foreign);
    assert_eq!(lines(&sent), ["SIP/2.0 481 Call/Transaction Does Not Exist"]);
    let other_port = request_with(
        "10.0.0.1:5070",
        "CANCEL",
        "sip:bob@example.com",
        ";branch=z9hG4bKa",
        "",
        "",
    );
    assert_eq!(count(&house.feed(CALLER, &other_port), "CANCEL"), 0);
    house.ends();
}

/// §9.2: "A CANCEL request has no impact on the processing of transactions with any other method"
#[test]
fn a_cancel_of_a_non_invite_is_answered_and_changes_nothing() {
    let mut house = house();
    let sent = house.feed(CALLER, &request("MESSAGE", "sip:bob@example.com", "a", ""));
    let forwarded = only(&sent, "MESSAGE").clone();
    assert_eq!(lines(&house.feed(CALLER, &cancel())), ["SIP/2.0 200 OK"]);
    assert_eq!(lines(&house.answer(&forwarded, "200 OK")), ["SIP/2.0 200 OK"]);
    assert_eq!(house.statuses(), [200]);
    house.ends();
}

/// §16.7 step 5: the CANCEL crossed a 2xx: that is what the caller gets.
#[test]
fn a_2xx_after_the_cancel_goes_upstream() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    house.answer(&forwarded, "180 Ringing");
    house.feed(CALLER, &cancel());
    let sent = house.answer(&forwarded, "200 OK");
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK"]);
    assert_eq!(
        lines(&house.answer(&forwarded, "200 OK")),
        ["SIP/2.0 200 OK"],
        "and its repetitions"
    );
    assert_eq!(count(&house.pass_ms(40_000), "SIP/2.0"), 0);
    assert_eq!(house.statuses(), [200]);
    house.ends();
}

/// §9.1, §16.7: a 2xx before any provisional: the CANCEL that waited is never sent.
#[test]
fn a_cancel_that_waited_is_dropped_when_the_final_response_comes_first() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    assert_eq!(lines(&house.feed(CALLER, &cancel())), ["SIP/2.0 200 OK"]);
    assert_eq!(lines(&house.answer(&forwarded, "200 OK")), ["SIP/2.0 200 OK"]);
    assert_eq!(count(&house.pass_ms(40_000), "CANCEL"), 0);
    house.ends();
}

/// §16.10: a branch whose peer never answers is not pending; the INVITE ends by Timer B and the caller by a final response.
#[test]
fn a_cancelled_invite_that_nobody_answers_ends() {
    let mut house = house();
    house.feed(CALLER, &invite());
    house.feed(CALLER, &cancel());
    let sent = house.pass_ms(33_000);
    assert_eq!(count(&sent, "CANCEL"), 0);
    let finals: Vec<_> = house.statuses();
    assert_eq!(finals, [487]);
    assert!(count(&sent, "SIP/2.0 487") >= 1);
    house.ends();
}

/// §16.10, §16.7 step 5: after a CANCEL no further target and no further destination is tried.
#[test]
fn a_cancel_ends_the_search() {
    let mut house = house();
    house.targets = vec![
        place("sip:bob@gw", 1000, &["10.0.0.2:5060", "10.0.0.3:5060"]),
        place("sip:bob@10.0.0.4", 500, &["10.0.0.4:5060"]),
    ];
    let sent = house.feed(CALLER, &invite());
    let first = only(&sent, "INVITE").clone();
    house.answer(&first, "100 Trying");
    house.feed(CALLER, &cancel());
    let sent = house.answer(&first, "503 Service Unavailable");
    assert_eq!(count(&sent, "INVITE"), 0);
    assert_eq!(count(&sent, "SIP/2.0 487"), 1, "§9.2");
    house.ends();
}

/// §16.10: the destination is still being looked for: nothing is pending, so 487 at once, and what is found late is not used.
#[test]
fn a_cancel_while_the_destination_is_looked_for_gives_487() {
    let mut house = house();
    house.walks_at_once = false;
    house.feed(CALLER, &invite());
    let walk = house.walking.remove(0);
    let sent = house.feed(CALLER, &cancel());
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK", "SIP/2.0 487 Request Terminated"]);
    assert!(house.walk(walk).is_empty());
    house.ends();
}

/// The same between two destinations.
#[test]
fn a_cancel_between_two_destinations_gives_487() {
    let mut house = house();
    house.targets = vec![place("sip:bob@gw", 1000, &["10.0.0.2:5060", "10.0.0.3:5060"])];
    house.walks_at_once = false;
    house.feed(CALLER, &invite());
    let walk = house.walking.remove(0);
    let sent = house.walk(walk);
    let first = only(&sent, "INVITE").clone();
    house.answer(&first, "503 Service Unavailable");
    let walk = house.walking.remove(0);
    let sent = house.feed(CALLER, &cancel());
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK", "SIP/2.0 487 Request Terminated"]);
    assert!(house.walk(walk).is_empty());
    house.ends();
}

/// §16.7 step 5: until a final response any provisional is forwarded, cancelled or not.
#[test]
fn a_provisional_between_cancel_and_487_goes_upstream() {
    let mut house = house();
    house.targets = callees(2);
    let sent = house.feed(CALLER, &invite());
    let (two, three) = (sent[1].clone(), sent[2].clone());
    house.answer(&two, "180 Ringing");
    house.feed(CALLER, &cancel());
    let sent = house.answer(&three, "183 Session Progress");
    assert_eq!(count(&sent, "SIP/2.0 183"), 1);
    assert_eq!(
        count(&sent, "CANCEL sip:bob@10.0.0.3"),
        1,
        "§9.1: now it may be cancelled"
    );
    house.ends();
}

/// RFC 3326 §2: "SHOULD copy it into the new CANCEL request"; more than one value has more than one protocol.
#[test]
fn every_reason_of_the_caller_goes_into_every_cancel() {
    let mut house = house();
    house.targets = callees(2);
    let sent = house.feed(CALLER, &invite());
    house.answer(&sent[1].clone(), "180 Ringing");
    house.answer(&sent[2].clone(), "180 Ringing");
    let reasons = "Reason: SIP ;cause=600 ;text=\"Busy, everywhere\"\r\nReason: Q.850;cause=16;text=\"Terminated\"\r\n";
    let sent = house.feed(CALLER, &request("CANCEL", "sip:bob@example.com", "a", reasons));
    assert_eq!(count(&sent, "CANCEL"), 2);
    for cancel in sent.iter().filter(|sent| sent.text.starts_with("CANCEL")) {
        assert_eq!(
            cancel.header("Reason"),
            [
                "SIP ;cause=600 ;text=\"Busy, everywhere\"",
                "Q.850;cause=16;text=\"Terminated\""
            ]
        );
    }
    house.ends();
}

/// §17.2.1, §9.2: after the 487 the transaction waits for its ACK as after any failure.
#[test]
fn the_487_is_repeated_until_acknowledged() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    house.answer(&forwarded, "180 Ringing");
    house.feed(CALLER, &cancel());
    let sent = house.answer(&forwarded, "487 Request Terminated");
    let tag = only(&sent, "SIP/2.0 487").header("To")[0].to_owned();
    assert_eq!(count(&house.pass_ms(600), "SIP/2.0 487"), 1);
    let ack =
        request("ACK", "sip:bob@example.com", "a", "").replace("To: <sip:bob@example.com>", &format!("To: {tag}"));
    assert!(house.feed(CALLER, &ack).is_empty());
    assert_eq!(count(&house.pass_ms(10_000), "SIP/2.0 487"), 0);
    house.ends();
}
