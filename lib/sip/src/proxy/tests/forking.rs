//! Several targets, several destinations, and which response wins (RFC 3261 §16.5 to §16.7).

use super::*;

/// §16.7 step 6
#[test]
fn when_all_forks_fail_the_best_response_goes_upstream_once_all_are_in() {
    let mut house = house();
    house.targets = vec![
        ("sip:bob@10.0.0.2", 1000, vec!["10.0.0.2:5060"]),
        ("sip:bob@10.0.0.3", 1000, vec!["10.0.0.3:5060"]),
    ];
    let sent = house.feed(CALLER, &invite());
    let (two, three) = (
        only(&sent, "INVITE sip:bob@10.0.0.2").clone(),
        only(&sent, "INVITE sip:bob@10.0.0.3").clone(),
    );
    let sent = house.feed("10.0.0.2:5060", &answer(&two, "500 Server Internal Error"));
    assert_eq!(
        lines(&sent),
        ["ACK sip:bob@10.0.0.2 SIP/2.0"],
        "§17.1.1.3: the proxy acknowledges, and waits for the other"
    );
    let sent = house.feed("10.0.0.3:5060", &answer(&three, "486 Busy Here"));
    assert_eq!(lines(&sent), ["ACK sip:bob@10.0.0.3 SIP/2.0", "SIP/2.0 486 Busy Here"]);
    let ack = request("ACK", "sip:bob@example.com", "a", "");
    assert!(house.feed(CALLER, &ack).is_empty(), "the ACK of a failure is for us");
    assert!(
        house.pass(Duration::from_secs(4)).is_empty(),
        "and ends the repetitions of Timer G"
    );
}

/// §16.7 step 7
#[test]
fn a_challenge_carries_those_of_all_branches() {
    let mut house = house();
    house.targets = vec![
        ("sip:bob@10.0.0.2", 1000, vec!["10.0.0.2:5060"]),
        ("sip:bob@10.0.0.3", 1000, vec!["10.0.0.3:5060"]),
    ];
    let sent = house.feed(CALLER, &invite());
    let challenge = |to: &Sent, realm: &str| {
        answer(to, "407 Proxy Authentication Required").replace(
            "Content-Length",
            &format!("Proxy-Authenticate: Digest realm=\"{realm}\", nonce=\"n\"\r\nContent-Length"),
        )
    };
    house.feed(
        "10.0.0.2:5060",
        &challenge(only(&sent, "INVITE sip:bob@10.0.0.2"), "two"),
    );
    let sent = house.feed(
        "10.0.0.3:5060",
        &challenge(only(&sent, "INVITE sip:bob@10.0.0.3"), "three"),
    );
    let response = only(&sent, "SIP/2.0 407");
    let mut realms = response.header("Proxy-Authenticate");
    realms.sort_unstable();
    assert_eq!(
        realms,
        [
            "Digest realm=\"three\", nonce=\"n\"",
            "Digest realm=\"two\", nonce=\"n\""
        ]
    );
    assert!(response.text.ends_with("\r\n\r\n"));
}

/// §16.7 step 5
#[test]
fn a_6xx_ends_the_search() {
    let mut house = house();
    house.targets = vec![
        ("sip:bob@10.0.0.2", 1000, vec!["10.0.0.2:5060"]),
        ("sip:bob@10.0.0.3", 1000, vec!["10.0.0.3:5060"]),
        ("sip:bob@10.0.0.4", 500, vec!["10.0.0.4:5060"]),
    ];
    let sent = house.feed(CALLER, &invite());
    let (two, three) = (
        only(&sent, "INVITE sip:bob@10.0.0.2").clone(),
        only(&sent, "INVITE sip:bob@10.0.0.3").clone(),
    );
    house.feed("10.0.0.3:5060", &answer(&three, "180 Ringing"));
    let sent = house.feed("10.0.0.2:5060", &answer(&two, "603 Decline"));
    assert_eq!(
        lines(&sent),
        ["ACK sip:bob@10.0.0.2 SIP/2.0", "CANCEL sip:bob@10.0.0.3 SIP/2.0"]
    );
    let sent = house.feed("10.0.0.3:5060", &answer(&three, "487 Request Terminated"));
    assert_eq!(lines(&sent), ["ACK sip:bob@10.0.0.3 SIP/2.0", "SIP/2.0 603 Decline"]);
}

/// §16.5, §16.6
#[test]
fn targets_are_tried_in_order_of_q() {
    let mut house = house();
    house.targets = vec![
        ("sip:bob@10.0.0.3", 500, vec!["10.0.0.3:5060"]),
        ("sip:bob@10.0.0.2", 1000, vec!["10.0.0.2:5060"]),
    ];
    let sent = house.feed(CALLER, &invite());
    let first = only(&sent, "INVITE sip:bob@10.0.0.2").clone();
    let sent = house.feed("10.0.0.2:5060", &answer(&first, "486 Busy Here"));
    assert_eq!(
        lines(&sent),
        ["ACK sip:bob@10.0.0.2 SIP/2.0", "INVITE sip:bob@10.0.0.3 SIP/2.0"]
    );
    let sent = house.feed("10.0.0.3:5060", &answer(&sent[1], "200 OK"));
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK"]);
}

#[test]
fn sequential_forking_tries_equals_one_by_one() {
    let mut house = house_with(Conf {
        fork: Fork::Sequential,
        ..conf()
    });
    house.targets = vec![
        ("sip:bob@10.0.0.2", 1000, vec!["10.0.0.2:5060"]),
        ("sip:bob@10.0.0.3", 1000, vec!["10.0.0.3:5060"]),
    ];
    let sent = house.feed(CALLER, &invite());
    let first = only(&sent, "INVITE").clone();
    assert!(
        first.text.starts_with("INVITE sip:bob@10.0.0.2"),
        "the order given is kept"
    );
    let sent = house.feed("10.0.0.2:5060", &answer(&first, "480 Temporarily Unavailable"));
    assert!(lines(&sent).contains(&"INVITE sip:bob@10.0.0.3 SIP/2.0"));
}

/// RFC 3263 §4.3, §16.7 step 6
#[test]
fn a_503_or_silence_leads_to_the_next_destination_and_503_goes_up_as_500() {
    let mut house = house();
    house.targets = vec![(
        "sip:bob@gw",
        1000,
        vec!["10.0.0.2:5060", "10.0.0.3:5060", "10.0.0.4:5060"],
    )];
    let sent = house.feed(CALLER, &invite());
    let first = only(&sent, "INVITE").clone();
    assert_eq!(first.to.to_string(), "10.0.0.2:5060");
    let sent = house.feed("10.0.0.2:5060", &answer(&first, "503 Service Unavailable"));
    let second = only(&sent, "INVITE").clone();
    assert_eq!(second.to.to_string(), "10.0.0.3:5060");
    assert_ne!(
        first.header("Via")[0],
        second.header("Via")[0],
        "a new branch (§16.6 step 8)"
    );
    let mut todo = Vec::new();
    house.core.on_send_failed(house.clock, second.token, &mut todo);
    let sent = house.perform(todo);
    let third = only(&sent, "INVITE").clone();
    assert_eq!(third.to.to_string(), "10.0.0.4:5060");
    let sent = house.feed("10.0.0.4:5060", &answer(&third, "503 Service Unavailable"));
    assert_eq!(
        lines(&sent),
        ["ACK sip:bob@gw SIP/2.0", "SIP/2.0 500 Server Internal Error"]
    );
}
