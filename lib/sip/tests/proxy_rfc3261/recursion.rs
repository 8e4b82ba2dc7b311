//! §16.5, §16.7 step 4: contacts of a 3xx that become targets.

use sps_sip::proxy::{Conf, Fork};

use crate::house::*;

fn recursing() -> House {
    let mut house = house_with(Conf {
        recurse: true,
        ..conf()
    });
    house.onward = vec![
        place("sip:mobile@10.0.0.5", 1000, &["10.0.0.5:5060"]),
        place("sip:desk@10.0.0.6", 1000, &["10.0.0.6:5060"]),
        place("sips:safe@10.0.0.7", 1000, &["tls:10.0.0.7:5061"]),
        place("sip:bob@10.0.0.3", 1000, &["10.0.0.3:5060"]),
    ];
    house
}

fn redirected(to: &Sent, contacts: &str) -> String {
    answer_with(to, "302 Moved Temporarily", &format!("{contacts}\r\n"))
}

fn invites(sent: &[Sent]) -> Vec<Sent> {
    sent.iter()
        .filter(|sent| sent.text.starts_with("INVITE"))
        .cloned()
        .collect()
}

fn uris(sent: &[Sent]) -> Vec<String> {
    invites(sent)
        .iter()
        .map(|sent| sent.first_line().split(' ').nth(1).expect("a URI").to_owned())
        .collect()
}

/// Lets the one branch of a new call answer 302 with these contacts.
fn begin(house: &mut House, contacts: &str) -> Vec<Sent> {
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    let text = redirected(&forwarded, contacts);
    house.feed(&forwarded.to, &text)
}

#[test]
fn off_the_answer_goes_upstream_as_it_came() {
    let mut house = house();
    let sent = begin(&mut house, "Contact: <sip:mobile@10.0.0.5>");
    assert_eq!(count(&sent, "INVITE"), 0);
    let response = only(&sent, "SIP/2.0 302");
    assert_eq!(response.header("Contact"), ["<sip:mobile@10.0.0.5>"]);
    house.ends();
}

#[test]
fn on_the_new_place_is_called_and_the_caller_sees_nothing_of_it() {
    let mut house = recursing();
    let sent = begin(
        &mut house,
        "Contact: \"Mobile\" <sip:mobile@10.0.0.5;method=BYE?Subject=x>;q=0.7",
    );
    assert!(uris(&sent).is_empty(), "routing knows no such URI: {sent:?}");
    let mut house = recursing();
    let sent = begin(&mut house, "Contact: \"Mobile\" <sip:mobile@10.0.0.5>;q=0.7");
    assert_eq!(uris(&sent), ["sip:mobile@10.0.0.5"]);
    assert_eq!(count(&sent, "SIP/2.0"), 0);
    let mobile = only(&sent, "INVITE").clone();
    assert_eq!(lines(&house.answer(&mobile, "200 OK")), ["SIP/2.0 200 OK"]);
    assert_eq!(house.statuses(), [200]);
    assert_eq!(house.core.counters().recursions, 1);
    house.ends();
}

/// §16.6: by q, groups of equal q at once
#[test]
fn contacts_are_tried_in_the_order_of_their_q() {
    let mut house = recursing();
    let sent = begin(
        &mut house,
        "Contact: <sip:desk@10.0.0.6>;q=0.2, <sip:mobile@10.0.0.5>;q=0.9\r\nm: <sip:bob@10.0.0.3>;q=0.9",
    );
    let first = invites(&sent);
    assert_eq!(uris(&sent), ["sip:mobile@10.0.0.5", "sip:bob@10.0.0.3"]);
    assert!(uris(&house.answer(&first[0], "486 Busy Here")).is_empty());
    let sent = house.answer(&first[1], "486 Busy Here");
    assert_eq!(uris(&sent), ["sip:desk@10.0.0.6"]);
    let sent = house.answer(&invites(&sent)[0], "404 Not Found");
    assert_eq!(
        lines(&sent).last(),
        Some(&"SIP/2.0 486 Busy Here"),
        "the 302 is used up"
    );
    house.ends();
}

/// §16.5: "MUST NOT be added again", which "prevents infinite recursion"
#[test]
fn nobody_is_called_twice_and_no_circle_is_endless() {
    let mut house = recursing();
    let sent = begin(
        &mut house,
        "Contact: <sip:mobile@10.0.0.5>, <sip:mobile@10.0.0.5;ob>, <sip:MOBILE@10.0.0.5>, <sip:mobile@10.0.0.5>",
    );
    assert_eq!(uris(&sent), ["sip:mobile@10.0.0.5"], "§19.1.4: one is another user");
    let mobile = only(&sent, "INVITE").clone();
    let text = redirected(&mobile, "Contact: <sip:bob@10.0.0.2>, <sip:mobile@10.0.0.5>");
    let sent = house.feed(&mobile.to, &text);
    assert!(uris(&sent).is_empty());
    // What is left of the first answer: a contact that routing had no way for.
    let response = only(&sent, "SIP/2.0 302");
    assert_eq!(response.header("Contact"), ["<sip:MOBILE@10.0.0.5>"]);
    house.ends();
    // Two who redirect to each other and nothing else: nothing is left to tell.
    let mut house = recursing();
    house.targets = vec![place("sip:bob@10.0.0.3", 1000, &["10.0.0.3:5060"])];
    let sent = begin(&mut house, "Contact: <sip:mobile@10.0.0.5>");
    let mobile = only(&sent, "INVITE").clone();
    let sent = house.feed(&mobile.to, &redirected(&mobile, "Contact: <sip:bob@10.0.0.3>"));
    assert_eq!(count(&sent, "INVITE"), 0);
    assert!(
        lines(&sent).last().expect("an answer").starts_with("SIP/2.0 480"),
        "{sent:?}"
    );
    house.ends();
}

/// §16.7 step 4: "place the remainder into the response context to be returned, potentially in the final response"
#[test]
fn what_is_no_sip_uri_stays_in_the_answer() {
    let mut house = recursing();
    let sent = begin(
        &mut house,
        "Contact: <mailto:bob@example.com>;q=0.1, <sip:mobile@10.0.0.5>, <http://example.com/bob,x>",
    );
    assert_eq!(uris(&sent), ["sip:mobile@10.0.0.5"]);
    let mobile = only(&sent, "INVITE").clone();
    let sent = house.answer(&mobile, "486 Busy Here");
    let response = only(&sent, "SIP/2.0 302");
    assert_eq!(
        response.header("Contact"),
        ["<mailto:bob@example.com>;q=0.1", "<http://example.com/bob,x>"]
    );
    house.ends();
}

/// What a caller may not reach by himself he does not reach by being redirected; he is told, and may try.
#[test]
fn a_contact_that_routing_refuses_stays_in_the_answer() {
    let mut house = recursing();
    let sent = begin(&mut house, "Contact: <sip:+15550100@gateway.example>");
    assert_eq!(count(&sent, "INVITE"), 0);
    assert_eq!(
        only(&sent, "SIP/2.0 302").header("Contact"),
        ["<sip:+15550100@gateway.example>"]
    );
    house.ends();
}

/// §16.7 step 4: "SHOULD NOT recurse to a non-SIPS URI if the Request-URI of the original request was a SIPS URI"
#[test]
fn a_sips_request_goes_to_sips_contacts_alone() {
    let mut house = recursing();
    house.targets = vec![place("sips:bob@10.0.0.2", 1000, &["tls:10.0.0.2:5061"])];
    let sent = house.feed(CALLER, &request("INVITE", "sips:bob@example.com", "a", ""));
    let forwarded = only(&sent, "INVITE").clone();
    let text = redirected(&forwarded, "Contact: <sip:mobile@10.0.0.5>, <sips:safe@10.0.0.7>");
    let sent = house.feed(&forwarded.to, &text);
    assert_eq!(uris(&sent), ["sips:safe@10.0.0.7"]);
    let sent = house.answer(&invites(&sent)[0], "480 Temporarily Unavailable");
    assert_eq!(only(&sent, "SIP/2.0 302").header("Contact"), ["<sip:mobile@10.0.0.5>"]);
    house.ends();
}

/// §16.5: "MUST NOT add additional targets ... if the Request-URI ... does not indicate a resource this proxy is responsible for"
#[test]
fn for_others_users_the_answer_goes_upstream() {
    for (uri, more) in [
        ("sip:bob@foreign.example", ""),
        ("sip:bob@example.com", "Route: <sip:10.0.0.2;lr>\r\n"),
    ] {
        let mut house = recursing();
        let sent = house.feed(CALLER, &request("INVITE", uri, "a", more));
        let forwarded = only(&sent, "INVITE").clone();
        let sent = house.feed(&forwarded.to, &redirected(&forwarded, "Contact: <sip:mobile@10.0.0.5>"));
        assert_eq!(count(&sent, "INVITE"), 0, "{uri} {more}");
        assert_eq!(only(&sent, "SIP/2.0 302").header("Contact"), ["<sip:mobile@10.0.0.5>"]);
        house.ends();
    }
}

/// §21.3.4, §21.3.5: their Contact is no new place of the callee
#[test]
fn other_classes_of_redirection_pass() {
    for status in ["305 Use Proxy", "380 Alternative Service", "302 Moved Temporarily"] {
        let mut house = recursing();
        let sent = house.feed(CALLER, &invite());
        let forwarded = only(&sent, "INVITE").clone();
        let contact = if status.starts_with("302") {
            ""
        } else {
            "Contact: <sip:mobile@10.0.0.5>\r\n"
        };
        let sent = house.feed(&forwarded.to, &answer_with(&forwarded, status, contact));
        assert_eq!(count(&sent, "INVITE"), 0, "{status}");
        assert_eq!(only(&sent, "SIP/2.0").first_line(), format!("SIP/2.0 {status}"));
        house.ends();
    }
}

#[test]
fn the_number_of_targets_is_bounded_and_the_rest_is_told() {
    let mut house = house_with(Conf {
        recurse: true,
        max_targets: 2,
        ..conf()
    });
    house.onward = recursing().onward;
    let sent = begin(
        &mut house,
        "Contact: <sip:mobile@10.0.0.5>, <sip:desk@10.0.0.6>, <sip:bob@10.0.0.3>",
    );
    assert_eq!(uris(&sent), ["sip:mobile@10.0.0.5"]);
    let sent = house.answer(&invites(&sent)[0], "486 Busy Here");
    assert_eq!(
        only(&sent, "SIP/2.0 302").header("Contact"),
        ["<sip:desk@10.0.0.6>", "<sip:bob@10.0.0.3>"]
    );
    house.ends();
}

/// §16.6: a phone that redirects rings elsewhere at once while the others ring on; one after the other, it comes next.
#[test]
fn a_new_place_joins_those_that_ring() {
    let mut house = recursing();
    house.targets = callees(2);
    house.targets.push(place("sip:last@10.0.0.9", 100, &["10.0.0.9:5060"]));
    let sent = house.feed(CALLER, &invite());
    let phones = invites(&sent);
    let text = redirected(&phones[0], "Contact: <sip:mobile@10.0.0.5>, <sip:desk@10.0.0.6>;q=0.5");
    let sent = house.feed(&phones[0].to, &text);
    assert_eq!(uris(&sent), ["sip:mobile@10.0.0.5"], "the desk has to wait for both");
    house.answer(&invites(&sent)[0], "486 Busy Here");
    let sent = house.answer(&phones[1], "486 Busy Here");
    assert_eq!(uris(&sent), ["sip:desk@10.0.0.6"]);
    let sent = house.answer(&invites(&sent)[0], "486 Busy Here");
    assert_eq!(uris(&sent), ["sip:last@10.0.0.9"]);
    house.ends();

    let mut house = house_with(Conf {
        recurse: true,
        fork: Fork::Sequential,
        ..conf()
    });
    house.onward = recursing().onward;
    house.targets = callees(2);
    house.targets[1].q = 500;
    let sent = house.feed(CALLER, &invite());
    assert_eq!(uris(&sent), ["sip:bob@10.0.0.2"]);
    let first = invites(&sent)[0].clone();
    let sent = house.feed(&first.to, &redirected(&first, "Contact: <sip:mobile@10.0.0.5>"));
    assert_eq!(uris(&sent), ["sip:mobile@10.0.0.5"]);
    let sent = house.answer(&invites(&sent)[0], "486 Busy Here");
    assert_eq!(uris(&sent), ["sip:bob@10.0.0.3"]);
    house.ends();
}

/// §16.10, §16.7 step 5: no new branch once the caller has given up, or somebody said no for all
#[test]
fn nothing_is_followed_after_a_cancel_or_a_6xx() {
    let mut house = recursing();
    house.recurses_at_once = false;
    begin(&mut house, "Contact: <sip:mobile@10.0.0.5>");
    assert_eq!(house.recursing.len(), 1);
    let sent = house.feed(CALLER, &cancel());
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK", "SIP/2.0 487 Request Terminated"]);
    let ticket = house.recursing.remove(0);
    assert!(house.recurse(ticket).is_empty());
    house.ends();

    let mut house = recursing();
    house.recurses_at_once = false;
    house.targets = callees(2);
    let sent = house.feed(CALLER, &invite());
    let phones = invites(&sent);
    house.feed(&phones[0].to, &redirected(&phones[0], "Contact: <sip:mobile@10.0.0.5>"));
    let sent = house.answer(&phones[1], "603 Decline");
    assert_eq!(lines(&sent).last(), Some(&"SIP/2.0 603 Decline"));
    let ticket = house.recursing.remove(0);
    assert!(house.recurse(ticket).is_empty());
    house.ends();
}

/// The answer of routing takes time: the request waits for it.
#[test]
fn a_call_waits_until_it_is_known_where_its_contacts_lead() {
    let mut house = recursing();
    house.recurses_at_once = false;
    let sent = begin(&mut house, "Contact: <sip:mobile@10.0.0.5>, <sip:no@10.0.0.8>");
    assert_eq!(lines(&sent), ["ACK sip:bob@10.0.0.2 SIP/2.0"]);
    let (second, first) = (house.recursing.remove(1), house.recursing.remove(0));
    assert!(house.recurse(second).is_empty());
    let sent = house.recurse(first);
    assert_eq!(uris(&sent), ["sip:mobile@10.0.0.5"]);
    assert!(house.recurse(first).is_empty(), "asked once");
    let sent = house.answer(&invites(&sent)[0], "486 Busy Here");
    assert_eq!(only(&sent, "SIP/2.0 302").header("Contact"), ["<sip:no@10.0.0.8>"]);
    house.ends();
}

/// §16.7 step 6: several that redirect, none of them followed: the caller learns of all places.
#[test]
fn the_contacts_of_all_redirections_go_upstream() {
    let mut house = house();
    house.targets = callees(2);
    let sent = house.feed(CALLER, &invite());
    let phones = invites(&sent);
    house.feed(&phones[0].to, &redirected(&phones[0], "Contact: <sip:mobile@10.0.0.5>"));
    let sent = house.feed(&phones[1].to, &redirected(&phones[1], "m: <sip:desk@10.0.0.6>"));
    let response = only(&sent, "SIP/2.0 302");
    assert!(response.text.contains("<sip:mobile@10.0.0.5>") && response.text.contains("<sip:desk@10.0.0.6>"));
    house.ends();
}
