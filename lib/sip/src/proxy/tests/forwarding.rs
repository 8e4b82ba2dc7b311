//! Requests on their way and responses back (RFC 3261 §16.4, §16.6, §16.7).

use super::*;

/// §16.6, §17.2.1
#[test]
fn an_invite_is_answered_100_and_forwarded_with_via_record_route_and_one_hop_less() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    assert_eq!(
        lines(&sent),
        ["SIP/2.0 100 Trying", "INVITE sip:bob@10.0.0.2:5060 SIP/2.0"]
    );
    assert_eq!(sent[0].to, CALLER.parse().expect("an address"));
    let forwarded = &sent[1];
    let vias = forwarded.header("Via");
    assert!(
        vias[0].starts_with("SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKsps"),
        "{vias:?}"
    );
    assert_eq!(vias[1], "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKa");
    assert_eq!(forwarded.header("Max-Forwards"), ["69"]);
    let record_route = forwarded.header("Record-Route");
    assert!(
        record_route[0].starts_with("<sip:") && record_route[0].ends_with("@127.0.0.1:5060;lr>"),
        "{record_route:?}"
    );
}

/// §16.7 steps 3 and 5, §13.2.2.4, §12.2: the flow of a whole call with the proxy on its path.
#[test]
fn a_call_with_record_route_passes_whole() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = sent[1].clone();
    let sent = house.feed("10.0.0.2:5060", &answer(&forwarded, "180 Ringing"));
    assert_eq!(lines(&sent), ["SIP/2.0 180 Ringing"]);
    assert_eq!(sent[0].header("Via"), ["SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKa"]);
    let sent = house.feed("10.0.0.2:5060", &answer(&forwarded, "200 OK"));
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK"]);
    let route = sent[0].header("Record-Route")[0].to_owned();

    house.targets = vec![("", 1000, vec!["10.0.0.2:5060"])];
    let ack = request("ACK", "sip:bob@10.0.0.2:5060", "b", &format!("Route: {route}\r\n"));
    let sent = house.feed(CALLER, &ack);
    assert_eq!(lines(&sent), ["ACK sip:bob@10.0.0.2:5060 SIP/2.0"]);
    assert!(sent[0].header("Route").is_empty(), "our Route is taken off (§16.4)");
    assert!(sent[0].header("Record-Route").is_empty());

    let bye =
        request("BYE", "sip:bob@10.0.0.2:5060", "c", &format!("Route: {route}\r\n")).replace("CSeq: 1", "CSeq: 2");
    house.routes_at_once = false;
    assert!(house.feed(CALLER, &bye).is_empty());
    let ticket = house.open.remove(0);
    assert!(house.core.dialog(ticket).0, "a valid token makes it part of a dialog");
    assert_eq!(house.core.remaining_route(ticket), None);
    let sent = house.route(ticket);
    let sent = house.feed("10.0.0.2:5060", &answer(only(&sent, "BYE"), "200 OK"));
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK"]);
    assert_eq!(house.statuses(), [200, 200]);
    house.pass(Duration::from_secs(40));
    assert_eq!(
        (house.core.transactions(), house.core.client_transactions()),
        (0, 0),
        "nothing is left behind"
    );
}

/// §16.4, design: not an open relay
#[test]
fn a_route_of_ours_without_a_valid_token_makes_no_dialog() {
    let mut house = house();
    house.routes_at_once = false;
    for route in [
        "<sip:127.0.0.1:5060;lr>",
        "<sip:AQAAAAAAAAAAAAAAAAAA@127.0.0.1:5060;lr>",
    ] {
        let bye = request(
            "BYE",
            "sip:bob@10.0.0.2:5060",
            route.len().to_string().as_str(),
            &format!("Route: {route}\r\n"),
        );
        house.feed(CALLER, &bye);
        let ticket = house.open.remove(0);
        assert!(!house.core.dialog(ticket).0, "{route}");
        assert_eq!(house.core.remaining_route(ticket), None, "{route}");
    }
}

/// §17.2.1, §17.2.2
#[test]
fn a_retransmission_is_absorbed_and_answered_with_the_last_response() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let forwarded = sent[1].clone();
    assert_eq!(lines(&house.feed(CALLER, &invite())), ["SIP/2.0 100 Trying"]);
    house.feed("10.0.0.2:5060", &answer(&forwarded, "180 Ringing"));
    assert_eq!(lines(&house.feed(CALLER, &invite())), ["SIP/2.0 180 Ringing"]);
    house.feed("10.0.0.2:5060", &answer(&forwarded, "200 OK"));
    assert!(
        house.feed(CALLER, &invite()).is_empty(),
        "RFC 6026 §7.1: absorbed after a 2xx"
    );
    assert_eq!(house.core.counters().retransmissions, 3);
}

/// §17.1.1.2: Timer A over UDP, until a response comes.
#[test]
fn an_unanswered_invite_is_repeated_and_ends_in_408() {
    let mut house = house();
    house.feed(CALLER, &invite());
    let sent = house.pass(Duration::from_millis(1600));
    assert_eq!(lines(&sent), ["INVITE sip:bob@10.0.0.2:5060 SIP/2.0"; 2]);
    let sent = house.pass(Duration::from_secs(31));
    assert_eq!(sent.iter().filter(|sent| sent.text.starts_with("INVITE")).count(), 4);
    let timeout = sent
        .iter()
        .find(|sent| sent.text.starts_with("SIP/2.0 408"))
        .expect("a final response");
    assert!(timeout.header("To")[0].contains("tag="));
    assert_eq!(house.statuses(), [408]);
}

/// §16.4
#[test]
fn what_a_strict_router_did_is_undone() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    let sent = house.feed("10.0.0.2:5060", &answer(&sent[1], "200 OK"));
    let ours = sent[0].header("Record-Route")[0].trim_matches(['<', '>']).to_owned();
    house.routes_at_once = false;
    let bye = request(
        "BYE",
        &ours,
        "c",
        "Route: <sip:next.example.net;lr>, <sip:bob@10.0.0.2:5060>\r\n",
    );
    house.feed(CALLER, &bye);
    let ticket = house.open.remove(0);
    assert!(house.core.dialog(ticket).0);
    assert_eq!(house.core.routed_uri(ticket), Some(&b"sip:bob@10.0.0.2:5060"[..]));
    assert_eq!(
        house.core.remaining_route(ticket),
        Some(&b"sip:next.example.net;lr"[..])
    );
    house.targets = vec![("", 1000, vec!["10.0.0.9:5060"])];
    let sent = house.route(ticket);
    assert_eq!(sent[0].first_line(), "BYE sip:bob@10.0.0.2:5060 SIP/2.0");
    assert_eq!(sent[0].header("Route"), ["<sip:next.example.net;lr>"]);
}

/// §16.6 step 6
#[test]
fn a_strict_next_hop_gets_its_own_uri_and_ours_goes_last() {
    let mut house = house();
    house.targets = vec![("", 1000, vec!["10.0.0.9:5060"])];
    let text = request(
        "MESSAGE",
        "sip:bob@example.net",
        "a",
        "Route: <sip:old.example.net>, <sip:new.example.net;lr>\r\n",
    );
    let sent = house.feed(CALLER, &text);
    assert_eq!(sent[0].first_line(), "MESSAGE sip:old.example.net SIP/2.0");
    assert_eq!(
        sent[0].header("Route"),
        ["<sip:new.example.net;lr>", "<sip:bob@example.net>"]
    );
}

/// §16.6 step 4: nothing on the path of the dialog when it is off.
#[test]
fn record_route_can_be_off() {
    let mut house = house_with(Conf {
        record_route: false,
        ..conf()
    });
    let sent = house.feed(CALLER, &invite());
    assert!(sent[1].header("Record-Route").is_empty());
}

/// RFC 5658 §3, RFC 5626 §5.2
#[test]
fn a_caller_on_a_stream_gets_two_record_routes_and_is_found_again_by_its_flow() {
    let mut house = house();
    let text = invite().replace("SIP/2.0/UDP", "SIP/2.0/TCP");
    let sent = house.feed_by(Transport::Tcp, "10.0.0.1:40000", &text);
    let forwarded = sent[1].clone();
    let routes = forwarded.header("Record-Route");
    assert_eq!(routes.len(), 2);
    assert!(
        !routes[0].contains("transport=tcp") && routes[1].contains("transport=tcp"),
        "the callee's side on top: {routes:?}"
    );
    // The callee hangs up: its route set is as received.
    house.routes_at_once = false;
    let bye = format!(
        "BYE sip:alice@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bKx\r\nMax-Forwards: 70\r\n\
         From: <sip:bob@example.com>;tag=callee\r\nTo: <sip:alice@example.com>;tag=caller\r\nCall-ID: call-1\r\nCSeq: 1 BYE\r\n\
         Route: {}\r\nRoute: {}\r\nContent-Length: 0\r\n\r\n",
        routes[0], routes[1]
    );
    house.feed("10.0.0.2:5060", &bye);
    let ticket = house.open.remove(0);
    let (in_dialog, flow) = house.core.dialog(ticket);
    assert!(in_dialog);
    assert_eq!(
        flow.map(|flow| (flow.transport, flow.remote.to_string())),
        Some((Transport::Tcp, "10.0.0.1:40000".to_owned()))
    );
    assert_eq!(house.core.remaining_route(ticket), None, "both of ours are taken off");
}

/// RFC 3581 §4
#[test]
fn responses_go_where_rport_says_and_the_via_says_so() {
    let mut house = house();
    let text = invite().replace("10.0.0.1:5060;branch", "192.168.1.5:5060;rport;branch");
    let sent = house.feed("10.0.0.1:31234", &text);
    assert_eq!(sent[0].to.to_string(), "10.0.0.1:31234");
    assert!(sent[0].header("Via")[0].contains("received=10.0.0.1") && sent[0].header("Via")[0].contains("rport=31234"));
    assert!(
        sent[1].header("Via")[1].contains("received=10.0.0.1"),
        "§18.2.1: the forwarded copy says so too"
    );
}

#[test]
fn a_register_for_us_goes_to_the_registrar_and_its_answer_back() {
    let mut house = house();
    assert!(
        house
            .feed(CALLER, &request("REGISTER", "sip:example.com", "a", ""))
            .is_empty()
    );
    let ticket = house.served[0];
    let (message, _) = house.core.request_for_service(ticket).expect("it waits");
    assert!(message.starts_with(b"REGISTER sip:example.com SIP/2.0\r\n"));
    let mut todo = Vec::new();
    house.core.on_service_response(
        house.clock,
        ticket,
        200,
        Bytes::from_static(b"SIP/2.0 200 OK\r\n\r\n"),
        &mut todo,
    );
    assert_eq!(lines(&house.perform(todo)), ["SIP/2.0 200 OK"]);
    assert_eq!(house.core.transactions(), 0, "nothing is kept of it (§8.2.7)");
}

/// §17.2.2, §8.2.7
#[test]
fn a_register_that_comes_again_is_absorbed_while_the_registrar_thinks_and_asked_anew_afterwards() {
    let mut house = house();
    let register = request("REGISTER", "sip:example.com", "a", "");
    house.feed(CALLER, &register);
    assert!(house.feed(CALLER, &register).is_empty());
    assert_eq!(house.served.len(), 1);
    let mut todo = Vec::new();
    let bytes = Bytes::from_static(b"SIP/2.0 200 OK\r\n\r\n");
    house
        .core
        .on_service_response(house.clock, house.served[0], 200, bytes, &mut todo);
    assert_eq!(lines(&house.perform(todo)), ["SIP/2.0 200 OK"]);
    assert!(house.feed(CALLER, &register).is_empty());
    assert_eq!(house.served.len(), 2);
}

/// §16.6: what a proxy need not touch leaves byte for byte.
#[test]
fn bodies_and_unknown_headers_pass_untouched() {
    let mut house = house();
    let odd = "X-Odd :  a ,, b\t;\r\n folded\r\nsubject: caf\u{e9}\r\n";
    let body = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\n\u{0}binary\r\n";
    let text = request("INVITE", "sip:bob@example.com", "a", odd).replace(
        "Content-Length: 0\r\n\r\n",
        &format!("Content-Length: {}\r\n\r\n{body}", body.len()),
    );
    let sent = house.feed(CALLER, &text);
    assert!(sent[1].text.contains(odd));
    assert!(sent[1].text.ends_with(body));
}
