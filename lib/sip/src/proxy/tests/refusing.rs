//! What the core answers itself, drops, or bounds (RFC 3261 §16.3).

use super::*;

/// §16.3 step 4, RFC 5393 §4.2.2
#[test]
fn a_request_that_comes_back_the_same_has_looped() {
    let mut house = house();
    house.targets = vec![("", 1000, vec!["10.0.0.2:5060"])];
    let sent = house.feed(CALLER, &invite());
    let sent = house.feed("10.0.0.2:5060", &sent[1].text);
    assert_eq!(lines(&sent), ["SIP/2.0 482 Loop Detected"]);
}

/// §16.3 step 4
#[test]
fn a_request_that_comes_back_changed_is_a_spiral() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let changed = sent[1]
        .text
        .replace("sip:bob@10.0.0.2:5060 SIP", "sip:carol@example.com SIP");
    let sent = house.feed("10.0.0.2:5060", &changed);
    assert!(lines(&sent).contains(&"INVITE sip:bob@10.0.0.2:5060 SIP/2.0"));
}

/// §16.3 steps 2, 3 and 5, each with its response
#[test]
fn what_a_proxy_must_refuse_it_refuses() {
    let refused = |text: String| {
        let mut house = house();
        let sent = house.feed(CALLER, &text);
        assert_eq!(sent.len(), 1, "{text}");
        assert_eq!(house.core.transactions(), 0);
        // RFC 3261 §8.2.6.2: who gets a failure may acknowledge it; that ends here.
        let tag = sent[0].header("To")[0].split("tag=").nth(1).expect("a tag").to_owned();
        let ack = request("ACK", "sip:bob@example.com", "a", "").replace("tag=callee", &format!("tag={tag}"));
        assert!(house.feed(CALLER, &ack).is_empty());
        sent[0].clone()
    };
    assert_eq!(
        refused(invite().replace("Max-Forwards: 70", "Max-Forwards: 0")).first_line(),
        "SIP/2.0 483 Too Many Hops"
    );
    assert_eq!(
        refused(invite().replace("INVITE sip:bob@example.com", "INVITE http://example.com")).first_line(),
        "SIP/2.0 416 Unsupported URI Scheme"
    );
    let extension = refused(request(
        "INVITE",
        "sip:bob@example.com",
        "a",
        "Proxy-Require: magic, wand\r\n",
    ));
    assert_eq!(extension.first_line(), "SIP/2.0 420 Bad Extension");
    assert_eq!(extension.header("Unsupported"), ["magic, wand"]);
    assert!(
        refused(invite().replace("Max-Forwards: 70", "Max-Forwards: seventy"))
            .first_line()
            .starts_with("SIP/2.0 400")
    );
    assert!(
        refused(invite().replace("SIP/2.0\r\nVia", "SIP/7.0\r\nVia"))
            .first_line()
            .starts_with("SIP/2.0 505")
    );
}

/// §16.3 step 3, §11.2, RFC 4475 §3.3.11
#[test]
fn options_for_us_is_answered_here_also_at_its_last_hop() {
    let mut house = house();
    let sent = house.feed(CALLER, &request("OPTIONS", "sip:example.com", "a", ""));
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK"]);
    assert!(sent[0].header("Allow").is_empty(), "§11.2: a proxy takes any method");
    for name in ["Accept", "Accept-Encoding", "Accept-Language", "Supported"] {
        assert_eq!(sent[0].header(name).len(), 1, "{name}");
    }
    let last = request("OPTIONS", "sip:bob@example.com", "b", "").replace("Max-Forwards: 70", "Max-Forwards: 0");
    assert_eq!(lines(&house.feed(CALLER, &last)), ["SIP/2.0 483 Too Many Hops"]);
    let last = request("OPTIONS", "sip:example.com", "d", "").replace("Max-Forwards: 70", "Max-Forwards: 0");
    assert_eq!(lines(&house.feed(CALLER, &last)), ["SIP/2.0 200 OK"]);
    let through = house.feed(CALLER, &request("OPTIONS", "sip:bob@example.com", "c", ""));
    assert_eq!(
        lines(&through),
        ["OPTIONS sip:bob@10.0.0.2:5060 SIP/2.0"],
        "no 100 for what is no INVITE"
    );
}

/// RFC 4320 §4.2
#[test]
fn a_non_invite_that_times_out_is_not_answered_408() {
    let mut house = house();
    let sent = house.feed(CALLER, &request("MESSAGE", "sip:bob@example.com", "a", ""));
    assert_eq!(lines(&sent), ["MESSAGE sip:bob@10.0.0.2:5060 SIP/2.0"]);
    let sent = house.pass(Duration::from_secs(33));
    assert!(
        sent.iter()
            .all(|sent| sent.text.starts_with("MESSAGE") || sent.first_line() == "SIP/2.0 100 Trying"),
        "only repetitions of Timer E, and the late 100 of RFC 4320 §4.1"
    );
    assert_eq!(house.statuses(), [408]);
    assert_eq!((house.core.transactions(), house.core.client_transactions()), (0, 0));
}

/// RFC 6026 §8.9
#[test]
fn a_response_to_nothing_is_dropped_and_counted() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let response = answer(&sent[1], "200 OK");
    let guessed = response.replacen("z9hG4bKsps", "z9hG4bKother", 1);
    assert!(house.feed("10.0.0.2:5060", &guessed).is_empty());
    let serial_at = response.find("z9hG4bKsps").expect("our branch") + "z9hG4bKsps".len() + 14;
    let mut stale = response.clone().into_bytes();
    stale[serial_at] = if stale[serial_at] == b'0' { b'1' } else { b'0' };
    assert!(
        house
            .feed("10.0.0.2:5060", &String::from_utf8(stale).expect("text"))
            .is_empty()
    );
    assert_eq!(house.core.counters().stray_responses, 2);
}

/// RFC 7339 §5.10.2
#[test]
fn a_full_table_refuses_without_retry_after() {
    let mut house = house_with(Conf {
        max_transactions: 1,
        ..conf()
    });
    house.feed(CALLER, &invite());
    let sent = house.feed(CALLER, &request("INVITE", "sip:bob@example.com", "other", ""));
    assert_eq!(lines(&sent), ["SIP/2.0 503 Overload"]);
    assert!(sent[0].header("Retry-After").is_empty());
    assert_eq!(house.core.counters().overload, 1);
}

#[test]
fn while_draining_new_requests_are_sent_elsewhere_and_old_ones_end() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = sent[1].clone();
    house.core.reconfigure(Conf {
        draining: true,
        ..conf()
    });
    let refused = house.feed(CALLER, &request("INVITE", "sip:bob@example.com", "other", ""));
    assert_eq!(refused[0].first_line(), "SIP/2.0 503 Restarting");
    assert_eq!(refused[0].header("Retry-After"), ["2"]);
    assert_eq!(house.core.undecided_requests(), 1);
    assert_eq!(
        lines(&house.feed("10.0.0.2:5060", &answer(&forwarded, "200 OK"))),
        ["SIP/2.0 200 OK"]
    );
    assert_eq!(house.core.undecided_requests(), 0);
}

/// Garbage of any kind: an answer, a drop, never a panic.
#[test]
fn mutated_messages_do_no_harm() {
    let mut seed = 7u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let bases = [
        invite(),
        answer(&sent[1], "180 Ringing"),
        request("BYE", "sip:bob@10.0.0.2", "q", "Route: <sip:127.0.0.1;lr>\r\n"),
    ];
    let flow = Flow {
        member: 0,
        transport: Transport::Udp,
        local: SocketAddr::from(([127, 0, 0, 1], 5060)),
        remote: SocketAddr::from(([10, 0, 0, 1], 5060)),
        connection: 0,
    };
    for round in 0..20_000 {
        let mut bytes = bases[round % bases.len()].clone().into_bytes();
        for _ in 0..1 + random() % 4 {
            let at = random() as usize % bytes.len();
            match random() % 3 {
                0 => bytes[at] = random() as u8,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b"\r\n:;,<>\"@ "[random() as usize % 10]),
            }
        }
        let mut todo = Vec::new();
        house.core.on_message(house.clock, flow, &bytes, &mut todo);
        for action in todo {
            match action {
                Action::Route(ticket) => drop(house.route(ticket)),
                Action::Walk(_) | Action::Recurse(_) | Action::Send { .. } | Action::Serve(_) | Action::Forget(_) => {}
                Action::Avoid { .. } | Action::Answered(_) => {}
            }
        }
    }
    house.pass(Duration::from_secs(400));
}

/// What waits for retransmissions must be small: after a boot avalanche there are millions of them.
#[test]
fn what_is_left_after_the_final_response_is_small() {
    assert!(size_of::<Context<Hops>>() <= 240, "{}", size_of::<Context<Hops>>());
    assert!(size_of::<Client>() <= 168, "{}", size_of::<Client>());
}

/// RFC 4475 §3.2.1: a branch that is nothing but the magic cookie tells no two requests apart.
#[test]
fn a_branch_of_the_bare_cookie_swallows_no_second_request() {
    let mut house = house();
    let first = request("MESSAGE", "sip:bob@example.com", "", "");
    let second = first.replace("call-1", "call-2");
    for text in [&first, &second] {
        only(&house.feed(CALLER, text), "MESSAGE ");
    }
    assert!(
        house.feed(CALLER, &first).is_empty(),
        "a retransmission by the older rules"
    );
}

/// RFC 4475 §3.1.2.11: headers in a Request-URI neither go on in it nor become headers.
#[test]
fn headers_in_a_request_uri_go_no_further() {
    let mut house = house();
    house.targets[0].0 = "";
    let sent = house.feed(
        CALLER,
        &request("MESSAGE", "sip:bob@example.com?Route=%3Csip:example.com%3E", "a", ""),
    );
    assert_eq!(lines(&sent), ["MESSAGE sip:bob@example.com SIP/2.0"]);
    assert!(!sent[0].text.contains("Route"));
}

/// RFC 4475 §3.1.2.1
#[test]
fn a_via_that_cannot_be_read_is_answered_as_far_as_it_tells_where() {
    for (via, port) in [
        ("10.0.0.1:5062;;,;,,", 5062),
        ("10.0.0.1;;", 5060),
        ("[10;branch=x", 7777),
    ] {
        let text = request("MESSAGE", "sip:bob@example.com", "a", "").replace("10.0.0.1:5060;branch=z9hG4bKa", via);
        let sent = house().feed("10.0.0.1:7777", &text);
        assert_eq!(lines(&sent), ["SIP/2.0 400 Malformed Via"], "{via}");
        assert_eq!(sent[0].to.port(), port, "{via}");
        assert!(sent[0].text.contains(via), "it goes back as it came");
    }
    let ack = request("ACK", "sip:bob@example.com", "a", "").replace("5060;branch", "5060;;branch");
    assert!(house().feed(CALLER, &ack).is_empty());
}
