//! §16.3 Request Validation, §16.4 Route Information Preprocessing, §16.5 Determining Request Targets.

use crate::house::*;

/// §16.3 step 1: "MUST NOT refuse to proxy a request because it contains a method or header field it does not know about"
#[test]
fn unknown_methods_and_headers_are_proxied() {
    let mut house = house();
    let sent = house.feed(
        CALLER,
        &request("JUGGLE", "sip:bob@example.com", "a", "Balls: 5, \"six, or\"\r\n"),
    );
    let forwarded = only(&sent, "JUGGLE sip:bob@10.0.0.2 SIP/2.0").clone();
    assert_eq!(forwarded.header("Balls"), ["5, \"six, or\""]);
    assert_eq!(lines(&house.answer(&forwarded, "200 OK")), ["SIP/2.0 200 OK"]);
    house.ends();
}

/// §16.3 step 1: what forwarding has no use for is ignored and left as it is, well-formed or not.
#[test]
fn malformed_fields_that_a_proxy_does_not_use_pass_unchanged() {
    let mut house = house();
    let odd = [
        "Date: the day before yesterday",
        "Contact: <<<sip:not a contact",
        "Expires: later",
        "Refer-To: ,,,",
        "Subject:",
    ];
    let sent = house.feed(
        CALLER,
        &request("INVITE", "sip:bob@example.com", "a", &(odd.join("\r\n") + "\r\n")),
    );
    let forwarded = only(&sent, "INVITE sip:bob@10.0.0.2 SIP/2.0");
    for line in odd {
        assert!(forwarded.text.contains(&format!("\r\n{line}\r\n")), "{line}");
    }
    house.ends();
}

/// §16.3 step 2 speaks of the Request-URI only.
#[test]
fn strange_schemes_in_from_and_to_are_no_concern_of_a_proxy() {
    let mut house = house();
    let text = invite()
        .replace("From: <sip:alice@example.com>", "From: <tel:+33123456789>")
        .replace("To: <sip:bob@example.com>", "To: \"B, ob\" <urn:service:sos>");
    assert_eq!(count(&house.feed(CALLER, &text), "INVITE"), 1);
    house.ends();
}

/// §16.3 step 3, §16.6 step 3
#[test]
fn max_forwards_one_passes_and_arrives_as_zero() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite().replace("Max-Forwards: 70", "Max-Forwards: 1"));
    assert_eq!(only(&sent, "INVITE").header("Max-Forwards"), ["0"]);
    house.ends();
}

/// §16.6 step 3: "MUST add one with a field value, which SHOULD be 70"
#[test]
fn a_request_without_max_forwards_gets_70() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite().replace("Max-Forwards: 70\r\n", ""));
    assert_eq!(only(&sent, "INVITE").header("Max-Forwards"), ["70"]);
    house.ends();
}

/// §17: nothing is ever answered to an ACK, whatever is wrong with it.
#[test]
fn a_bad_ack_is_dropped_without_an_answer() {
    let mut house = house();
    let good = request_with(
        "10.0.0.1:5060",
        "ACK",
        "sip:bob@10.0.0.2",
        ";branch=z9hG4bKack",
        ";tag=x",
        "",
    );
    for bad in [
        good.replace("Max-Forwards: 70", "Max-Forwards: 0"),
        good.replace("ACK sip:bob@10.0.0.2", "ACK http://10.0.0.2"),
        good.replace("Max-Forwards: 70", "Max-Forwards: many"),
        good.replace("SIP/2.0\r\nVia", "SIP/9.0\r\nVia"),
        good.replace("Content-Length: 0", "Content-Length: 99"),
        good.replace("From: <sip:alice@example.com>;tag=caller\r\n", ""),
    ] {
        let sent = house.feed(CALLER, &bad);
        assert_eq!(count(&sent, "SIP/2.0"), 0, "{bad}");
        assert_eq!(count(&sent, "ACK"), 0, "{bad}");
    }
    house.ends();
}

/// §16.3: "a proxy ... MUST NOT treat merged requests as an error condition" (§8.2.2.2 is for the endpoints)
#[test]
fn merged_requests_are_both_forwarded() {
    let mut house = house();
    let first = house.feed(
        "10.0.0.8:5060",
        &invite().replace("10.0.0.1:5060;branch=z9hG4bKa", "10.0.0.8;branch=z9hG4bK8"),
    );
    let second = house.feed(
        "10.0.0.9:5060",
        &invite().replace("10.0.0.1:5060;branch=z9hG4bKa", "10.0.0.9;branch=z9hG4bK9"),
    );
    assert_ne!(only(&first, "INVITE").branch(), only(&second, "INVITE").branch());
    assert_eq!(count(&second, "SIP/2.0 482"), 0);
    house.ends();
}

/// §16.3 step 5: every tag that is not understood is listed, from all lines.
#[test]
fn all_required_extensions_that_we_lack_are_listed() {
    let mut house = house();
    let text = request(
        "INVITE",
        "sip:bob@example.com",
        "a",
        "Proxy-Require: one\r\nSubject: x\r\nProxy-Require: two , three\r\n",
    );
    let sent = house.feed(CALLER, &text);
    let refusal = only(&sent, "SIP/2.0 420");
    let listed: Vec<_> = refusal
        .header("Unsupported")
        .iter()
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .map(str::to_owned)
        .collect();
    assert_eq!(listed, ["one", "two", "three"]);
    assert_eq!(count(&sent, "INVITE"), 0);
    house.ends();
}

/// §16.3 step 5 is about Proxy-Require; Require is between the endpoints (§20.32).
#[test]
fn require_is_not_looked_at() {
    let mut house = house();
    let sent = house.feed(
        CALLER,
        &request("INVITE", "sip:bob@example.com", "a", "Require: magic\r\n"),
    );
    assert_eq!(only(&sent, "INVITE").header("Require"), ["magic"]);
    house.ends();
}

/// §8.2.2.3: Proxy-Require must be ignored where it is found in a CANCEL.
#[test]
fn proxy_require_in_a_cancel_is_ignored() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    house.answer(only(&sent, "INVITE"), "180 Ringing");
    let text = request("CANCEL", "sip:bob@example.com", "a", "Proxy-Require: magic\r\n");
    let sent = house.feed(CALLER, &text);
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK", "CANCEL sip:bob@10.0.0.2 SIP/2.0"]);
    house.ends();
}

/// RFC 5393 §4.2.2: every Via that is ours is inspected, not the top one only.
#[test]
fn a_loop_through_another_proxy_is_found() {
    let mut house = house();
    house.targets = vec![place("", 1000, &["10.0.0.2:5060"])];
    let sent = house.feed(CALLER, &invite());
    let away = only(&sent, "INVITE").text.clone();
    let back = away.replacen(
        "Via: ",
        "Via: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bKother\r\nVia: ",
        1,
    );
    assert_ne!(away, back);
    let sent = house.feed("10.0.0.2:5060", &back);
    assert_eq!(lines(&sent), ["SIP/2.0 482 Loop Detected"]);
    house.ends();
}

/// RFC 5393 §4.2.2: only a Via "whose sent-by value matches" one of ours counts: another member of the house, with the same
/// keys and thus the same hash, hands its requests to us.
#[test]
fn a_request_from_another_member_with_our_keys_has_not_looped() {
    let mut house = house();
    house.targets = vec![place("", 1000, &["10.0.0.2:5060"])];
    let sent = house.feed(CALLER, &invite());
    let back =
        only(&sent, "INVITE")
            .text
            .replacen("Via: SIP/2.0/UDP 127.0.0.1:5060;", "Via: SIP/2.0/UDP 10.0.0.7:5060;", 1);
    let sent = house.feed("10.0.0.7:5060", &back);
    assert_eq!(count(&sent, "SIP/2.0 482"), 0);
    assert_eq!(count(&sent, "INVITE"), 1);
    house.ends();
}

/// RFC 5393 §4.2.1: the second part of the branch must vary with the Route values used.
#[test]
fn a_request_that_comes_back_with_another_route_spirals() {
    let mut house = house();
    house.targets = vec![place("", 1000, &["10.0.0.2:5060"])];
    let sent = house.feed(CALLER, &invite());
    let back = only(&sent, "INVITE").text.replacen(
        "CSeq:",
        "Route: <sip:127.0.0.1;lr>,<sip:other.example.net;lr>\r\nCSeq:",
        1,
    );
    let sent = house.feed("10.0.0.2:5060", &back);
    assert_eq!(count(&sent, "SIP/2.0 482"), 0);
    assert_eq!(count(&sent, "INVITE"), 1);
    house.ends();
}

/// RFC 5393 §4.2.1: a CANCEL bears the branch of its INVITE and must not be taken for a loop when both spiral.
#[test]
fn the_cancel_of_a_spiral_is_no_loop() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let first = only(&sent, "INVITE").clone();
    let spiral = first
        .text
        .replace("INVITE sip:bob@10.0.0.2", "INVITE sip:carol@example.com");
    house.targets = vec![place("sip:carol@10.0.0.3", 1000, &["10.0.0.3:5060"])];
    let sent = house.feed("127.0.0.1:5060", &spiral);
    let second = only(&sent, "INVITE sip:carol@10.0.0.3").clone();
    house.answer(&second, "180 Ringing");
    house.feed("127.0.0.1:5060", &answer(&first, "180 Ringing"));
    let sent = house.feed(CALLER, &cancel());
    let cancel = only(&sent, "CANCEL sip:bob@10.0.0.2")
        .text
        .replace("CANCEL sip:bob@10.0.0.2", "CANCEL sip:carol@example.com");
    let sent = house.feed("127.0.0.1:5060", &cancel);
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK", "CANCEL sip:carol@10.0.0.3 SIP/2.0"]);
    house.ends();
}

/// RFC 5393 §4.2.4: what others write into their Via values is no reason to fail.
#[test]
fn the_vias_of_others_may_look_as_they_like() {
    let mut house = house();
    let text = invite().replacen(
        "\r\nMax-Forwards",
        "\r\nVia: SIP/2.0/XYZ gw.example.net;flag;q=\"a;b,c\";branch=, SIP / 2.0 / UDP [2001:db8::9]:99;hidden\r\nv: SIP/2.0/UDP old;branch=1\r\nMax-Forwards",
        1,
    );
    let sent = house.feed(CALLER, &text);
    assert_eq!(count(&sent, "INVITE"), 1, "{sent:#?}");
    house.ends();
}

/// §16.4: a request's maddr that names us, at the port and transport it came by, is stripped.
#[test]
fn an_maddr_of_ours_is_stripped() {
    let mut house = house();
    house.routes_at_once = false;
    house.feed(
        CALLER,
        &request("INVITE", "sip:bob@example.net;maddr=127.0.0.1", "a", ""),
    );
    let ticket = house.open[0];
    assert_eq!(house.core.routed_uri(ticket), Some(&b"sip:bob@example.net"[..]));
    house.feed(
        CALLER,
        &request(
            "INVITE",
            "sip:bob@example.net:5060;x=y;transport=udp;maddr=127.0.0.1",
            "b",
            "",
        ),
    );
    let ticket = house.open[1];
    let routed = String::from_utf8_lossy(house.core.routed_uri(ticket).expect("a URI")).into_owned();
    assert!(
        !routed.contains("maddr") && !routed.contains("transport") && routed.contains(";x=y"),
        "{routed}"
    );
    house.ends();
}

/// §16.4, §16.5: an maddr of somebody else stays; so does one of ours that asks for another port or transport.
#[test]
fn an_maddr_that_does_not_mean_this_socket_stays() {
    let mut house = house();
    house.routes_at_once = false;
    for (branch, uri) in [
        ("a", "sip:bob@example.net;maddr=10.0.0.7"),
        ("b", "sip:bob@example.net:5099;maddr=127.0.0.1"),
        ("c", "sip:bob@example.net;maddr=127.0.0.1;transport=tcp"),
    ] {
        house.feed(CALLER, &request("INVITE", uri, branch, ""));
        let ticket = *house.open.last().expect("a question");
        assert_eq!(house.core.routed_uri(ticket), Some(uri.as_bytes()));
    }
    house.ends();
}

/// §16.4, §7.3.1: two values in one Route line are two values.
#[test]
fn of_two_routes_in_one_line_ours_goes_and_the_other_stays() {
    let mut house = house();
    house.targets = vec![place("", 1000, &["10.0.0.9:5060"])];
    house.routes_at_once = false;
    let text = request(
        "INVITE",
        "sip:bob@example.net",
        "a",
        "Route:  <sip:127.0.0.1:5060;lr> ,\"Nine, the\" <sip:10.0.0.9;lr;x=y>,<sip:10.0.0.10;lr>\r\n",
    );
    house.feed(CALLER, &text);
    let ticket = house.open.pop().expect("a question");
    assert_eq!(house.core.remaining_route(ticket), Some(&b"sip:10.0.0.9;lr;x=y"[..]));
    let sent = house.route(ticket);
    let forwarded = only(&sent, "INVITE sip:bob@example.net SIP/2.0");
    assert_eq!(
        forwarded.header("Route").join(",").replace(' ', ""),
        "\"Nine,the\"<sip:10.0.0.9;lr;x=y>,<sip:10.0.0.10;lr>"
    );
    house.ends();
}

/// §16.4: only "the first value" is ours to remove.
#[test]
fn a_route_of_ours_behind_anothers_stays() {
    let mut house = house();
    house.targets = vec![place("", 1000, &["10.0.0.9:5060"])];
    let routes = "Route: <sip:10.0.0.9;lr>\r\nRoute: <sip:127.0.0.1;lr>\r\n";
    let sent = house.feed(CALLER, &request("INVITE", "sip:bob@example.net", "a", routes));
    let forwarded = only(&sent, "INVITE sip:bob@example.net SIP/2.0");
    assert_eq!(forwarded.header("Route"), ["<sip:10.0.0.9;lr>", "<sip:127.0.0.1;lr>"]);
    house.ends();
}

/// §16.4: a Request-URI that is ours but was never put into a Record-Route is no work of a strict router.
#[test]
fn a_request_uri_that_names_us_is_kept_when_we_did_not_hand_it_out() {
    let mut house = house();
    house.routes_at_once = false;
    let text = request("MESSAGE", "sip:bob@example.com", "a", "Route: <sip:10.0.0.9;lr>\r\n");
    house.feed(CALLER, &text);
    let ticket = house.open[0];
    assert_eq!(house.core.routed_uri(ticket), Some(&b"sip:bob@example.com"[..]));
    assert_eq!(house.core.remaining_route(ticket), Some(&b"sip:10.0.0.9;lr"[..]));
    house.ends();
}

/// §16.4: the strict router left one Route value: it becomes the Request-URI and no Route is left.
#[test]
fn the_last_route_of_a_strict_router_becomes_the_request_uri() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let sent = house.answer(only(&sent, "INVITE"), "200 OK");
    let ours = sent[0].header("Record-Route")[0].trim_matches(['<', '>']).to_owned();
    house.targets = vec![place("", 1000, &["10.0.0.2:5060"])];
    let text = request_with(
        "10.0.0.1",
        "BYE",
        &ours,
        ";branch=z9hG4bKbye",
        ";tag=at-10.0.0.2-5060",
        "Route: <sip:bob@10.0.0.2:5060;x=y>\r\n",
    );
    let sent = house.feed(CALLER, &text);
    let forwarded = only(&sent, "BYE sip:bob@10.0.0.2:5060;x=y SIP/2.0");
    assert!(forwarded.header("Route").is_empty());
    house.ends();
}

/// §16.5: "If the target set remains empty ... an error response, which SHOULD be the 480"
#[test]
fn an_empty_target_set_is_480() {
    let mut house = house();
    house.targets.clear();
    let sent = house.feed(CALLER, &invite());
    assert_eq!(
        lines(&sent),
        ["SIP/2.0 100 Trying", "SIP/2.0 480 Temporarily Unavailable"]
    );
    house.ends();
}

/// §16.5: "If a target URI is already present in the set (based on the definition of equality for the URI type), it MUST NOT
/// be added again."
#[test]
fn a_target_is_tried_once_however_often_it_is_given() {
    let mut house = house();
    house.targets = vec![
        place("sip:bob@gw.example.net", 1000, &["10.0.0.2:5060"]),
        place("sip:bob@GW.example.NET", 1000, &["10.0.0.2:5060"]),
        place("sip:bob@gw.example.net", 500, &["10.0.0.2:5060"]),
    ];
    let sent = house.feed(CALLER, &invite());
    let first = only(&sent, "INVITE").clone();
    let sent = house.answer(&first, "486 Busy Here");
    assert_eq!(count(&sent, "INVITE"), 0);
    assert_eq!(count(&sent, "SIP/2.0 486"), 1);
    house.ends();
}

/// §16.6: "Targets are processed from highest qvalue to lowest"; what exceeds the bound is the worst.
#[test]
fn over_the_bound_the_lowest_q_is_left_out() {
    let mut house = house_with(sps_sip::proxy::Conf {
        max_targets: 2,
        ..conf()
    });
    house.targets = vec![
        place("sip:bob@10.0.0.2", 100, &["10.0.0.2:5060"]),
        place("sip:bob@10.0.0.3", 900, &["10.0.0.3:5060"]),
        place("sip:bob@10.0.0.4", 500, &["10.0.0.4:5060"]),
    ];
    let sent = house.feed(CALLER, &invite());
    let best = only(&sent, "INVITE sip:bob@10.0.0.3").clone();
    let sent = house.answer(&best, "486 Busy Here");
    let next = only(&sent, "INVITE sip:bob@10.0.0.4").clone();
    let sent = house.answer(&next, "486 Busy Here");
    assert_eq!((count(&sent, "INVITE"), count(&sent, "SIP/2.0 486")), (0, 1));
    house.ends();
}

/// §16.5: "the same URI" is one device only where it is reached the same way: behind two translators live two phones of one
/// private address.
#[test]
fn one_uri_along_two_flows_is_two_targets() {
    let mut house = house();
    house.targets = vec![
        place("sip:bob@192.168.1.9", 1000, &["flow:10.0.0.2:40000"]),
        place("sip:bob@192.168.1.9", 1000, &["flow:10.0.0.3:40000"]),
        place("sip:bob@192.168.1.9", 1000, &["flow:10.0.0.3:40000"]),
    ];
    let sent = house.feed(CALLER, &invite());
    let rung: Vec<_> = sent.iter().filter(|sent| sent.text.starts_with("INVITE")).collect();
    assert_eq!(rung.len(), 2, "{sent:#?}");
    assert_ne!(rung[0].to, rung[1].to);
    house.ends();
}

/// §16.3: the steps come in their order, so that of several faults the first one is told.
#[test]
fn of_several_faults_the_first_step_tells_its_own() {
    let faults = |uri: &str, hops: &str, more: &str| {
        let mut house = house();
        let text = request("INVITE", uri, "a", more).replace("Max-Forwards: 70", hops);
        let sent = house.feed(CALLER, &text);
        sent[0].first_line()[8..11].to_owned()
    };
    let (zero, magic) = ("Max-Forwards: 0", "Proxy-Require: magic\r\n");
    assert_eq!(faults("http://example.com", zero, "Route: <broken\r\n"), "400");
    assert_eq!(faults("http://example.com", zero, magic), "416");
    assert_eq!(faults("sip:bob@example.com", zero, magic), "483");
    assert_eq!(faults("sip:bob@example.com", "Max-Forwards: 9", magic), "420");
}

/// §16.3 step 3, §10.3: a REGISTER that has arrived at its registrar is not forwarded, whatever hops it has left; one for
/// somebody else is.
#[test]
fn max_forwards_zero_ends_a_register_that_is_not_for_us_only() {
    let mut house = house();
    let last = |uri| request("REGISTER", uri, "a", "").replace("Max-Forwards: 70", "Max-Forwards: 0");
    assert!(house.feed(CALLER, &last("sip:example.com")).is_empty());
    assert_eq!(house.core.undecided_requests(), 1, "the registrar has it");
    let mut house = house_with(conf());
    let sent = house.feed(CALLER, &last("sip:example.net"));
    assert_eq!(lines(&sent), ["SIP/2.0 483 Too Many Hops"]);
}

/// §10.3 step 1: a REGISTER for another domain is forwarded as any request.
#[test]
fn a_register_for_another_domain_is_forwarded() {
    let mut house = house();
    house.targets = vec![place("", 1000, &["10.0.0.9:5060"])];
    let sent = house.feed(CALLER, &request("REGISTER", "sip:example.net", "a", ""));
    let forwarded = only(&sent, "REGISTER sip:example.net SIP/2.0");
    assert_eq!((&forwarded.to[..], forwarded.header("Via").len()), ("10.0.0.9:5060", 2));
    house.ends();
}

/// §8.2.2.3: where we answer ourselves, what Require demands and we lack is told.
#[test]
fn options_for_us_that_require_what_we_lack_are_420() {
    let mut house = house();
    let more = "Require: path, magic\r\nRequire: wand\r\n";
    let sent = house.feed(CALLER, &request("OPTIONS", "sip:example.com", "a", more));
    assert_eq!(lines(&sent), ["SIP/2.0 420 Bad Extension"]);
    assert_eq!(sent[0].header("Unsupported"), ["magic, wand"]);
    let sent = house.feed(CALLER, &request("OPTIONS", "sip:example.com", "b", "Require: path\r\n"));
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK"]);
    house.ends();
}

/// §8.2.7: what is refused leaves no state: the same request gets the same tag again, its ACK is swallowed, and nothing is
/// repeated.
#[test]
fn a_refusal_is_stateless_and_the_same_each_time() {
    let mut house = house();
    let bad = invite().replace("Max-Forwards: 70", "Max-Forwards: 0");
    let first = house.feed(CALLER, &bad);
    let again = house.feed(CALLER, &bad);
    assert_eq!(first[0].text, again[0].text);
    let tag = format!(";tag={}", first[0].header("To")[0].split("tag=").nth(1).expect("a tag"));
    let ack = request_with(
        "10.0.0.1:5060",
        "ACK",
        "sip:bob@example.com",
        ";branch=z9hG4bKa",
        &tag,
        "",
    );
    assert!(house.feed(CALLER, &ack).is_empty());
    assert!(house.pass_ms(64_000).is_empty(), "nothing is repeated");
    assert_eq!(house.core.transactions(), 0);
    house.ends();
}

/// §8.2.2.1, §8.2.2: who answers cares for what it needs and for nothing else.
#[test]
fn options_for_us_may_bear_what_they_like() {
    let mut house = house();
    let text = request(
        "OPTIONS",
        "sip:example.com",
        "a",
        "Balls: 5\r\nDate: yesterday\r\nContact: <<<\r\nContent-Type: application/x-unknown\r\n",
    )
    .replace("To: <sip:bob@example.com>", "To: <tel:+33123456789>")
    .replace("Content-Length: 0\r\n\r\n", "Content-Length: 2\r\n\r\nhi");
    let sent = house.feed(CALLER, &text);
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK"]);
    assert_eq!(
        sent[0].header("Accept"),
        ["*/*"],
        "§8.2.3: any body is as good as another"
    );
    house.ends();
}

/// Who is denied everything is denied the registrar and our own answers, too.
#[test]
fn who_is_denied_can_neither_register_nor_ask() {
    let mut house = house_with(sps_sip::proxy::Conf {
        denies: sps_sip::proxy::Denies(std::sync::Arc::new(|source| {
            source == std::net::Ipv4Addr::new(10, 0, 0, 1)
        })),
        ..conf()
    });
    for method in ["REGISTER", "OPTIONS"] {
        let text = request(method, "sip:example.com", "a", "");
        assert_eq!(lines(&house.feed(CALLER, &text)), ["SIP/2.0 403 Forbidden"], "{method}");
        let sent = house.feed("10.0.0.7:5060", &text.replace("10.0.0.1", "10.0.0.7"));
        assert_eq!(count(&sent, "SIP/2.0 403"), 0, "{method}");
    }
}
