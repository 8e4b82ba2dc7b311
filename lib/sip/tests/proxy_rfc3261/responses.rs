//! §16.7 Response Processing, RFC 4320, RFC 6026.

use crate::house::*;

/// §16.7 step 3: "If no Via header field values remain in the response, the response was meant for this element and MUST NOT
/// be forwarded."
#[test]
fn a_response_without_a_via_below_ours_goes_nowhere() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    for status in ["180 Ringing", "200 OK"] {
        let bare = answer(&forwarded, status).replacen(&format!("Via: {}\r\n", forwarded.header("Via")[1]), "", 1);
        assert_eq!(bare.matches("Via:").count(), 1);
        assert!(house.feed(&forwarded.to, &bare).is_empty(), "{status}");
    }
    house.ends();
}

/// §16.7 step 3, §7.3.1: our Via may have been joined with the next into one line.
#[test]
fn our_via_is_taken_off_a_line_that_holds_two() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    let vias = forwarded.header("Via");
    let joined = answer(&forwarded, "180 Ringing")
        .replacen(&format!("Via: {}\r\n", vias[1]), "", 1)
        .replacen(
            &format!("Via: {}\r\n", vias[0]),
            &format!("v:  {} , {}\r\n", vias[0], vias[1]),
            1,
        );
    assert_eq!(joined.matches("SIP/2.0/UDP").count(), 2);
    let sent = house.feed(&forwarded.to, &joined);
    assert_eq!(lines(&sent), ["SIP/2.0 180 Ringing"]);
    assert!(!sent[0].text.contains("127.0.0.1:5060;branch"), "{}", sent[0].text);
    let via = sent[0].text.lines().nth(1).expect("a Via");
    assert_eq!(via.replace(' ', ""), format!("v:{}", vias[1].replace(' ', "")));
    house.ends();
}

/// The same for a request: its Via values in one line.
#[test]
fn two_vias_in_one_line_of_a_request_come_back_both() {
    let mut house = house();
    let text = invite().replace(
        "10.0.0.1:5060;branch=z9hG4bKa\r\n",
        "10.0.0.1:5060;branch=z9hG4bKa, SIP/2.0/UDP 10.9.9.9;branch=z9hG4bKdeep\r\n",
    );
    let sent = house.feed(CALLER, &text);
    let forwarded = only(&sent, "INVITE").clone();
    let sent = house.answer(&forwarded, "180 Ringing");
    let vias = sent[0].header("Via").join(", ");
    assert!(vias.starts_with("SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKa"), "{vias}");
    assert!(vias.ends_with("SIP/2.0/UDP 10.9.9.9;branch=z9hG4bKdeep"), "{vias}");
    house.ends();
}

/// §16.7 step 5: "MUST NOT forward any 100 (Trying) response"
#[test]
fn a_100_stays_here() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    assert!(house.answer(only(&sent, "INVITE"), "100 Trying").is_empty());
    house.ends();
}

/// §16.7 step 5: any other provisional goes on at once, from every branch, with its To tag.
#[test]
fn provisionals_of_all_branches_go_upstream() {
    let mut house = house();
    house.targets = callees(2);
    let sent = house.feed(CALLER, &invite());
    let (two, three) = (sent[1].clone(), sent[2].clone());
    for (callee, status) in [
        (&two, "180 Ringing"),
        (&three, "183 Session Progress"),
        (&two, "199 Early Dialog Terminated"),
    ] {
        let up = house.answer(callee, status);
        assert_eq!(lines(&up), [format!("SIP/2.0 {status}")]);
        assert!(
            up[0].header("To")[0].ends_with(&callee.to.replace(':', "-")),
            "§16.7: the tag is the callee's"
        );
    }
    house.ends();
}

/// §16.7 step 5: after a final response only 2xx of an INVITE go upstream.
#[test]
fn a_provisional_after_the_final_response_is_not_forwarded() {
    let mut house = house();
    house.targets = callees(2);
    let sent = house.feed(CALLER, &invite());
    let (two, three) = (sent[1].clone(), sent[2].clone());
    house.answer(&three, "180 Ringing");
    house.answer(&two, "200 OK");
    let sent = house.answer(&three, "183 Session Progress");
    assert_eq!(count(&sent, "SIP/2.0"), 0);
    let sent = house.answer(&three, "486 Busy Here");
    assert_eq!(lines(&sent), ["ACK sip:bob@10.0.0.3 SIP/2.0"], "nor a failure");
    assert_eq!(house.statuses(), [200]);
    house.ends();
}

/// RFC 6026 §7.1, §7.2: a 2xx that is repeated, and a 2xx of a fork further down, pass as long as Timer M and Timer L run.
#[test]
fn every_2xx_passes_until_timer_m_has_fired() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    assert_eq!(lines(&house.answer(&forwarded, "200 OK")), ["SIP/2.0 200 OK"]);
    house.pass_ms(500);
    assert_eq!(lines(&house.answer(&forwarded, "200 OK")), ["SIP/2.0 200 OK"]);
    house.pass_ms(30_000);
    let other = answer(&forwarded, "200 OK").replace("tag=at-10.0.0.2-5060", "tag=other-fork");
    let sent = house.feed(&forwarded.to, &other);
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK"]);
    assert!(sent[0].header("To")[0].ends_with("tag=other-fork"));
    house.pass_ms(2_000);
    assert!(house.answer(&forwarded, "200 OK").is_empty(), "RFC 6026 §7.3");
    assert_eq!(house.statuses(), [200], "one line in the access log");
    house.ends();
}

/// §16.7 step 5: "exactly one final response to a non-INVITE request"
#[test]
fn of_two_2xx_to_a_non_invite_one_goes_upstream() {
    let mut house = house();
    house.targets = callees(2);
    let sent = house.feed(CALLER, &request("MESSAGE", "sip:bob@example.com", "a", ""));
    let (two, three) = (sent[0].clone(), sent[1].clone());
    assert_eq!(lines(&house.answer(&two, "202 Accepted")), ["SIP/2.0 202 Accepted"]);
    assert!(house.answer(&three, "200 OK").is_empty());
    assert_eq!(house.statuses(), [202]);
    house.ends();
}

/// §16.7 step 5: a 2xx that overtakes the 487s after a 6xx is what the caller gets; never both.
#[test]
fn a_2xx_after_a_6xx_is_the_only_final_response() {
    let mut house = house();
    house.targets = callees(2);
    let sent = house.feed(CALLER, &invite());
    let (two, three) = (sent[1].clone(), sent[2].clone());
    house.answer(&three, "180 Ringing");
    let sent = house.answer(&two, "603 Decline");
    assert_eq!(count(&sent, "SIP/2.0"), 0, "not at once");
    let sent = house.answer(&three, "200 OK");
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK"]);
    assert!(
        house
            .pass_ms(40_000)
            .iter()
            .all(|sent| !sent.text.starts_with("SIP/2.0 6"))
    );
    assert_eq!(house.statuses(), [200]);
    house.ends();
}

/// §16.7 step 5: after a 6xx it "MUST NOT create any new branches": neither a lower q nor the next destination.
#[test]
fn after_a_6xx_no_branch_is_begun() {
    let mut house = house();
    house.targets = vec![
        place("sip:bob@10.0.0.2", 1000, &["10.0.0.2:5060"]),
        place("sip:bob@gw", 1000, &["10.0.0.3:5060", "10.0.0.4:5060"]),
        place("sip:bob@10.0.0.5", 500, &["10.0.0.5:5060"]),
    ];
    let sent = house.feed(CALLER, &invite());
    let (two, three) = (sent[1].clone(), sent[2].clone());
    house.answer(&two, "600 Busy Everywhere");
    let sent = house.answer(&three, "503 Service Unavailable");
    assert_eq!(lines(&sent), ["ACK sip:bob@gw SIP/2.0", "SIP/2.0 600 Busy Everywhere"]);
    house.ends();
}

/// §16.7 step 5: nor one whose destination was still being looked for.
#[test]
fn after_a_6xx_a_destination_found_late_is_not_tried() {
    let mut house = house();
    house.targets = callees(2);
    house.walks_at_once = false;
    house.feed(CALLER, &invite());
    let (first, second) = (house.walking[0], house.walking[1]);
    let sent = house.walk(first);
    let two = only(&sent, "INVITE").clone();
    let mut sent = house.answer(&two, "600 Busy Everywhere");
    sent.extend(house.walk(second));
    assert_eq!(count(&sent, "INVITE"), 0);
    assert_eq!(count(&sent, "SIP/2.0 600"), 1);
    house.ends();
}

/// Asks two callees and gives what goes upstream when they have answered.
fn best_of(first: &str, second: &str) -> Sent {
    let mut house = house();
    house.targets = callees(2);
    let sent = house.feed(CALLER, &invite());
    let (two, three) = (sent[1].clone(), sent[2].clone());
    let sent = house.answer(&two, first);
    assert_eq!(count(&sent, "SIP/2.0"), 0, "{first} before {second} is in");
    let sent = house.answer(&three, second);
    let up = only(&sent, "SIP/2.0").clone();
    house.ends();
    up
}

/// §16.7 step 6
#[test]
fn the_best_of_two_failures_is_chosen_by_class() {
    for (first, second, best) in [
        ("486 Busy Here", "603 Decline", "603 Decline"),
        ("603 Decline", "302 Moved Temporarily", "603 Decline"),
        ("404 Not Found", "302 Moved Temporarily", "302 Moved Temporarily"),
        ("500 Server Internal Error", "404 Not Found", "404 Not Found"),
        ("503 Service Unavailable", "404 Not Found", "404 Not Found"),
        ("503 Service Unavailable", "502 Bad Gateway", "502 Bad Gateway"),
    ] {
        assert_eq!(best_of(first, second).first_line(), format!("SIP/2.0 {best}"));
        assert_eq!(best_of(second, first).first_line(), format!("SIP/2.0 {best}"));
    }
}

/// §16.7 step 6: "preference to responses that provide information affecting resubmission of this request"
#[test]
fn within_4xx_what_helps_the_caller_to_try_again_is_preferred() {
    for status in [
        "401 Unauthorized",
        "407 Proxy Authentication Required",
        "415 Unsupported Media Type",
        "420 Bad Extension",
        "484 Address Incomplete",
    ] {
        assert_eq!(
            best_of("404 Not Found", status).first_line(),
            format!("SIP/2.0 {status}")
        );
        assert_eq!(
            best_of(status, "486 Busy Here").first_line(),
            format!("SIP/2.0 {status}")
        );
    }
}

/// §16.7 step 6: a 503 goes upstream as 500.
#[test]
fn two_503_are_one_500() {
    let up = best_of("503 Service Unavailable", "503 Service Unavailable");
    assert_eq!(up.first_line(), "SIP/2.0 500 Server Internal Error");
    assert!(up.header("Retry-After").is_empty());
}

/// §16.7 step 4: not recursing, a redirection goes upstream with all its contacts.
#[test]
fn a_redirection_is_handed_on_as_it_came() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    let contacts = "Contact: <sip:bob@home.example.net>;q=0.7, <mailto:bob@example.net>\r\n";
    let sent = house.feed(
        &forwarded.to,
        &answer_with(&forwarded, "302 Moved Temporarily", contacts),
    );
    assert_eq!(
        lines(&sent),
        ["ACK sip:bob@10.0.0.2 SIP/2.0", "SIP/2.0 302 Moved Temporarily"]
    );
    assert!(sent[1].text.contains(contacts));
    assert!(
        sent[1].header("To")[0].ends_with(";tag=at-10.0.0.2-5060"),
        "§16.7 step 6: the tag SHOULD be preserved"
    );
    house.ends();
}

/// §16.7 step 7: all challenges, of both kinds, of every branch, unchanged.
#[test]
fn a_401_carries_the_challenges_of_a_407() {
    let mut house = house();
    house.targets = callees(3);
    let sent = house.feed(CALLER, &invite());
    let (two, three, four) = (sent[1].clone(), sent[2].clone(), sent[3].clone());
    let www = "WWW-Authenticate: Digest realm=\"w, x\", nonce=\"1\"\r\nWWW-Authenticate: Digest realm=\"w2\", nonce=\"1\"\r\n";
    let proxy = "Proxy-Authenticate: Digest realm=\"p\", nonce=\"2\"\r\n";
    house.feed(&two.to, &answer_with(&two, "401 Unauthorized", www));
    house.feed(
        &three.to,
        &answer_with(&three, "404 Not Found", "Proxy-Authenticate: Digest realm=\"no\"\r\n"),
    );
    let sent = house.feed(
        &four.to,
        &answer_with(&four, "407 Proxy Authentication Required", proxy),
    );
    let up = only(&sent, "SIP/2.0 40");
    let mut www = up.header("WWW-Authenticate");
    www.sort_unstable();
    assert_eq!(
        www,
        ["Digest realm=\"w, x\", nonce=\"1\"", "Digest realm=\"w2\", nonce=\"1\""]
    );
    assert_eq!(
        up.header("Proxy-Authenticate"),
        ["Digest realm=\"p\", nonce=\"2\""],
        "not that of the 404"
    );
    house.ends();
}

/// §16.7 step 6: one branch that never answers holds the others' failure only until Timer B.
#[test]
fn a_branch_that_times_out_lets_the_others_answer_go() {
    let mut house = house();
    house.targets = callees(2);
    let sent = house.feed(CALLER, &invite());
    let two = sent[1].clone();
    let sent = house.answer(&two, "603 Decline");
    assert_eq!(count(&sent, "SIP/2.0"), 0);
    let sent = house.pass_ms(33_000);
    assert!(count(&sent, "SIP/2.0 603 Decline") >= 1);
    assert_eq!(house.statuses(), [603]);
    house.ends();
}

/// §16.7 step 6: a 2xx of one branch after the other has timed out.
#[test]
fn a_branch_that_times_out_does_not_end_one_that_rings() {
    let mut house = house();
    house.targets = callees(2);
    let sent = house.feed(CALLER, &invite());
    let two = sent[1].clone();
    house.answer(&two, "180 Ringing");
    let sent = house.pass_ms(60_000);
    assert_eq!(count(&sent, "SIP/2.0"), 0);
    assert_eq!(lines(&house.answer(&two, "200 OK")), ["SIP/2.0 200 OK"]);
    house.ends();
}

/// §16.7 step 10: pending is what has a provisional and no final response; others get no CANCEL, nobody gets two.
#[test]
fn only_pending_branches_are_cancelled_and_once() {
    let mut house = house();
    house.targets = callees(3);
    let sent = house.feed(CALLER, &invite());
    let (two, three, four) = (sent[1].clone(), sent[2].clone(), sent[3].clone());
    house.answer(&two, "486 Busy Here");
    house.answer(&three, "180 Ringing");
    house.answer(&four, "180 Ringing");
    let sent = house.answer(&four, "200 OK");
    assert_eq!(count(&sent, "CANCEL"), 1);
    let cancel = only(&sent, "CANCEL sip:bob@10.0.0.3").clone();
    assert_eq!(cancel.leave, three.leave, "§9.1");
    house.feed(&cancel.to, &answer(&cancel, "200 OK"));
    assert_eq!(count(&house.answer(&four, "200 OK"), "CANCEL"), 0);
    assert_eq!(count(&house.answer(&three, "180 Ringing"), "CANCEL"), 0);
    house.ends();
}

/// §9.1, §17.1.2: the CANCEL has a transaction of its own and is repeated until it is answered.
#[test]
fn a_cancel_that_is_lost_is_repeated() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    house.answer(&forwarded, "180 Ringing");
    let sent = house.feed(CALLER, &cancel());
    let cancel = only(&sent, "CANCEL").clone();
    let sent = house.pass_ms(600);
    assert_eq!(count(&sent, "CANCEL"), 1);
    assert_eq!(sent[0].text, cancel.text);
    assert!(
        house.feed(&cancel.to, &answer(&cancel, "200 OK")).is_empty(),
        "§16.7 step 3: meant for us"
    );
    assert_eq!(count(&house.pass_ms(3_000), "CANCEL"), 0);
    house.ends();
}

/// RFC 4320 §4.1: "MUST NOT send any provisional response with a Status-Code other than 100 to a non-INVITE request"
#[test]
fn provisionals_to_a_non_invite_are_not_handed_on() {
    let mut house = house();
    let sent = house.feed(CALLER, &request("MESSAGE", "sip:bob@example.com", "a", ""));
    let forwarded = only(&sent, "MESSAGE").clone();
    assert!(house.answer(&forwarded, "180 Ringing").is_empty());
    assert_eq!(lines(&house.answer(&forwarded, "200 OK")), ["SIP/2.0 200 OK"]);
    house.ends();
}

/// RFC 4320 §4.1: 100 to a non-INVITE over UDP not before Timer E has been reset to T2, and then it must go out.
#[test]
fn a_slow_non_invite_is_answered_100_when_timer_e_reaches_t2() {
    let mut house = house();
    let text = request("MESSAGE", "sip:bob@example.com", "a", "");
    house.feed(CALLER, &text);
    assert_eq!(count(&house.pass_ms(3_400), "SIP/2.0"), 0);
    assert_eq!(count(&house.pass_ms(200), "SIP/2.0 100 Trying"), 1);
    let again = house.feed(CALLER, &text);
    assert_eq!(lines(&again), ["SIP/2.0 100 Trying"], "§17.2.2: what was sent last");
    assert_eq!(count(&house.pass_ms(10_000), "SIP/2.0"), 0, "once");
    house.ends();
}

/// RFC 4320 §4.1: "Without regard to transport"
#[test]
fn over_tcp_too_a_slow_non_invite_is_answered_100() {
    let mut house = house();
    let text = request("MESSAGE", "sip:bob@example.com", "a", "").replace("SIP/2.0/UDP", "SIP/2.0/TCP");
    house.feed_by(sps_wire::flow::Transport::Tcp, "10.0.0.1:40000", &text);
    assert_eq!(count(&house.pass_ms(3_400), "SIP/2.0"), 0);
    assert_eq!(count(&house.pass_ms(200), "SIP/2.0 100 Trying"), 1);
    house.ends();
}

/// RFC 3327 §5.2: a REGISTER for another domain and its response pass with the Path of others as it is, in both directions.
#[test]
fn the_path_of_a_registration_passes_both_ways() {
    let mut house = house();
    house.targets = vec![place("", 1000, &["10.0.0.9:5060"])];
    let path = "Path: <sip:edge.example.net;lr>;x=\"a,b\" , <sip:p0.example.net;lr>\r\n";
    let more = format!("Supported: path\r\n{path}");
    let sent = house.feed(CALLER, &request("REGISTER", "sip:example.net", "a", &more));
    let forwarded = only(&sent, "REGISTER").clone();
    assert!(forwarded.text.contains(&more), "{}", forwarded.text);
    assert_eq!(forwarded.header("Path").len(), 1, "none of ours");
    let sent = house.feed("10.0.0.9:5060", &answer_with(&forwarded, "200 OK", path));
    assert!(sent[0].text.contains(path), "{}", sent[0].text);
    house.ends();
}

/// §8.2.6.1: a 100 that comes late says how late.
#[test]
fn a_late_100_tells_its_delay_in_the_timestamp() {
    let mut house = house();
    house.feed(
        CALLER,
        &request("MESSAGE", "sip:bob@example.com", "a", "Timestamp: 54.2\r\n"),
    );
    let sent = house.pass_ms(4_000);
    assert_eq!(only(&sent, "SIP/2.0 100").header("Timestamp"), ["54.2 3.500"]);
    house.ends();
}

/// RFC 4320 §4.2: a late answer to a non-INVITE, after its server transaction has ended, is dropped.
#[test]
fn a_late_response_to_a_non_invite_is_dropped() {
    let mut house = house();
    let sent = house.feed(CALLER, &request("MESSAGE", "sip:bob@example.com", "a", ""));
    let forwarded = only(&sent, "MESSAGE").clone();
    house.pass_ms(33_000);
    assert!(house.answer(&forwarded, "200 OK").is_empty());
    assert_eq!(house.core.counters().stray_responses, 1);
    house.ends();
}

/// RFC 4320 §4.2: nor does a 408 that comes from downstream go up.
#[test]
fn a_408_from_downstream_to_a_non_invite_is_not_handed_on() {
    let mut house = house();
    let sent = house.feed(CALLER, &request("MESSAGE", "sip:bob@example.com", "a", ""));
    let sent = house.answer(only(&sent, "MESSAGE"), "408 Request Timeout");
    assert_eq!(count(&sent, "SIP/2.0 408"), 0);
    house.ends();
}

/// §18.1.2: "If the value of the sent-by parameter ... does not correspond to a value that the client transport is configured
/// to insert into requests, the response MUST be silently discarded."
#[test]
fn a_response_whose_top_via_is_not_ours_is_dropped() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    for other in ["127.0.0.9:5060", "127.0.0.1:5099", "elsewhere.example.net"] {
        let text = answer(&forwarded, "200 OK").replacen("127.0.0.1:5060", other, 1);
        assert!(house.feed(&forwarded.to, &text).is_empty(), "{other}");
    }
    assert_eq!(lines(&house.answer(&forwarded, "200 OK")), ["SIP/2.0 200 OK"]);
    house.ends();
}

/// §17.1.3: the method of the CSeq tells a CANCEL's response from the INVITE's.
#[test]
fn a_response_matches_by_branch_and_method() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    house.answer(&forwarded, "180 Ringing");
    let foreign = answer(&forwarded, "200 OK").replace("CSeq: 1 INVITE", "CSeq: 1 BYE");
    assert!(house.feed(&forwarded.to, &foreign).is_empty());
    let sent = house.feed(CALLER, &cancel());
    let cancel = only(&sent, "CANCEL").clone();
    assert!(
        house.answer(&cancel, "487 Request Terminated").is_empty(),
        "an answer to the CANCEL is none to the INVITE"
    );
    assert_eq!(
        count(&house.answer(&forwarded, "487 Request Terminated"), "SIP/2.0 487"),
        1
    );
    house.ends();
}

/// §16.7 step 9: a body and what we do not know pass unchanged.
#[test]
fn a_response_passes_with_all_its_fields_and_its_body() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    let text = answer_with(
        &forwarded,
        "183 Session Progress",
        "X-Odd:  a ,, b\t;\r\n more\r\nRSeq: 1\r\nWarning: 399 x \"retry elsewhere\"\r\n",
    )
    .replace("Content-Length: 0\r\n\r\n", "Content-Length: 4\r\n\r\nv=0\n");
    let sent = house.feed(&forwarded.to, &text);
    assert_eq!(
        sent[0].text,
        text.replacen(&format!("Via: {}\r\n", forwarded.header("Via")[0]), "", 1)
    );
    house.ends();
}

/// §16.6 step 7: a destination that was silent counts only when there was no other; here the next one answered.
#[test]
fn the_answer_of_the_last_destination_counts_and_not_the_silence_before_it() {
    let mut house = house();
    house.targets = vec![place("sip:bob@gw", 1000, &["10.0.0.2:5060", "10.0.0.3:5060"])];
    house.feed(CALLER, &invite());
    let sent = house.pass_ms(32_100);
    let second = sent
        .iter()
        .find(|sent| sent.to == "10.0.0.3:5060")
        .expect("the second")
        .clone();
    let sent = house.answer(&second, "504 Server Time-out");
    assert_eq!(count(&sent, "SIP/2.0 504"), 1, "{:?}", lines(&sent));
    house.ends();
}

/// RFC 4320 §4.2, §17.2.2: nothing is answered, and still a repetition is no new request.
#[test]
fn a_non_invite_that_ended_in_silence_is_not_forwarded_again() {
    let mut house = house();
    let text = request("MESSAGE", "sip:bob@example.com", "a", "");
    let sent = house.feed(CALLER, &text);
    house.answer(only(&sent, "MESSAGE"), "408 Request Timeout");
    house.pass_ms(500);
    assert!(house.feed(CALLER, &text).is_empty());
    house.pass_ms(20_000);
    assert!(house.feed(CALLER, &text).is_empty());
    assert_eq!(house.statuses(), [408]);
    house.pass_ms(12_000);
    assert_eq!(house.core.transactions(), 0, "64·T1 after it came");
    house.ends();
}

/// §16.9 speaks of the request that is being forwarded: a branch that went on to another destination is not disturbed by
/// an ACK to the first one that cannot be sent.
#[test]
fn an_ack_that_cannot_be_sent_to_a_former_destination_changes_nothing() {
    let mut house = house();
    house.targets = vec![place(
        "sip:bob@gw",
        1000,
        &["10.0.0.2:5060", "10.0.0.3:5060", "10.0.0.4:5060"],
    )];
    let sent = house.feed(CALLER, &invite());
    let first = only(&sent, "INVITE").clone();
    let sent = house.answer(&first, "503 Service Unavailable");
    let (ack, second) = (only(&sent, "ACK").clone(), only(&sent, "INVITE").clone());
    house.answer(&second, "180 Ringing");
    assert!(house.send_failed(&ack).is_empty());
    assert_eq!(lines(&house.answer(&second, "200 OK")), ["SIP/2.0 200 OK"]);
    house.ends();
}

/// §17.2.3 holds across a reload that brings new keys: transactions are matched as they were begun.
#[test]
fn new_keys_do_not_part_a_transaction_from_its_messages() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    house.answer(&forwarded, "180 Ringing");
    let key = |id, byte| sps_sip::proxy::MacKey { id, secret: [byte; 32] };
    house.core.reconfigure(sps_sip::proxy::Conf {
        keys: sps_sip::proxy::Keys::new(&[key(2, 9), key(1, 7)]),
        ..conf()
    });
    assert_eq!(lines(&house.feed(CALLER, &invite())), ["SIP/2.0 180 Ringing"]);
    let sent = house.feed(CALLER, &cancel());
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK", "CANCEL sip:bob@10.0.0.2 SIP/2.0"]);
    house.ends();
}

/// §18.1.2: responses to what was sent before `advertise` changed still find their way.
#[test]
fn a_response_to_a_former_sent_by_is_ours() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    let mut other = conf();
    for listener in &mut other.listeners {
        listener.sent_by = "proxy.example.net:5060".to_owned();
    }
    house.core.reconfigure(other);
    assert_eq!(lines(&house.answer(&forwarded, "180 Ringing")), ["SIP/2.0 180 Ringing"]);
    house.ends();
}

/// §16.7 step 9: the `received` that we put into the Via below ours stays in what goes back.
#[test]
fn the_received_that_we_added_stays_in_the_response() {
    let mut house = house();
    let text = invite().replace("10.0.0.1:5060;branch", "phone.example.net:5060;branch");
    let sent = house.feed(CALLER, &text);
    for status in ["180 Ringing", "486 Busy Here"] {
        let up = house.answer(only(&sent, "INVITE"), status);
        let up = only(&up, "SIP/2.0");
        assert!(
            up.header("Via")[0].contains("phone.example.net:5060") && up.header("Via")[0].contains("received=10.0.0.1"),
            "{}",
            up.text
        );
    }
    house.ends();
}

/// §16.7, after step 6: the To tag of a response is the callee's, whether the request bore one or not.
#[test]
fn to_tags_pass_as_they_are() {
    for (to_tag, status) in [
        ("", "180 Ringing"),
        ("", "200 OK"),
        ("", "302 Moved Temporarily"),
        ("", "486 Busy Here"),
        ("", "603 Decline"),
        (";tag=known", "200 OK"),
        (";tag=known", "481 Call/Transaction Does Not Exist"),
    ] {
        let mut house = house();
        let text = request_with(
            "10.0.0.1:5060",
            "INVITE",
            "sip:bob@example.com",
            ";branch=z9hG4bKa",
            to_tag,
            "Contact: <sip:alice@10.0.0.1>\r\n",
        );
        let sent = house.feed(CALLER, &text);
        let response = answer(only(&sent, "INVITE"), status);
        let up = house.feed("10.0.0.2:5060", &response);
        let wanted = response
            .lines()
            .find_map(|line| line.strip_prefix("To: "))
            .expect("a To");
        assert_eq!(only(&up, "SIP/2.0").header("To"), [wanted], "{status}");
        house.ends();
    }
}

/// §16.7 step 6: a callee's 1xx or 2xx without a tag (RFC 2543) gets none from us.
#[test]
fn a_missing_to_tag_stays_missing() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    for status in ["180 Ringing", "200 OK"] {
        let bare = answer(only(&sent, "INVITE"), status).replace(";tag=at-10.0.0.2-5060", "");
        let up = house.feed("10.0.0.2:5060", &bare);
        assert_eq!(only(&up, "SIP/2.0").header("To"), ["<sip:bob@example.com>"], "{status}");
    }
    house.ends();
}

/// §9.1: only an INVITE is cancelled; the other branches of another request are left to end.
#[test]
fn no_branch_of_a_non_invite_is_cancelled() {
    let mut house = house();
    house.targets = callees(2);
    let sent = house.feed(CALLER, &request("MESSAGE", "sip:bob@example.com", "a", ""));
    let (two, three) = (sent[0].clone(), sent[1].clone());
    house.answer(&two, "100 Trying");
    assert_eq!(lines(&house.answer(&three, "200 OK")), ["SIP/2.0 200 OK"]);
    assert_eq!(count(&house.pass_ms(40_000), "CANCEL"), 0);
    house.ends();
}
