//! RFC 5658: a proxy with two sides records itself twice, and rewrites nothing.

use crate::house::*;
use sps_wire::flow::Transport;

/// Host, port and parameters of each Record-Route value, our token left out.
fn places(message: &Sent) -> Vec<String> {
    message
        .header("Record-Route")
        .iter()
        .map(|value| {
            let uri = value.trim_start_matches('<').trim_end_matches('>');
            let (start, rest) = uri.split_once('@').expect("our token");
            format!("{}{rest}", &start[..start.find(':').expect("a scheme") + 1])
        })
        .collect()
}

/// A request inside the dialog of `invite()`, along these routes.
fn in_dialog(from: &str, method: &str, uri: &str, tags: [&str; 2], routes: &[String]) -> String {
    let routes: String = routes.iter().map(|route| format!("Route: {route}\r\n")).collect();
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{method}\r\nMax-Forwards: 70\r\n\
         From: <sip:a@example.com>;tag={}\r\nTo: <sip:b@example.com>;tag={}\r\nCall-ID: call-1\r\nCSeq: 2 {method}\r\n\
         {routes}Content-Length: 0\r\n\r\n",
        tags[0], tags[1]
    )
}

/// RFC 5658 §5, figure 3: IPv4 on one side, IPv6 on the other. The side the request leaves by stands on top; requests of either
/// end come by the URI of its own side, and both values are taken off at once.
#[test]
fn between_ipv4_and_ipv6_each_side_has_its_own_record_route() {
    let mut house = house();
    house.targets = vec![place("sip:bob@[::1]:5070", 1000, &["[::1]:5070"])];
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    assert_eq!(places(&forwarded), ["sip:[::1]:5060;lr", "sip:127.0.0.1:5060;lr"]);
    let mut routes: Vec<String> = forwarded
        .header("Record-Route")
        .iter()
        .map(|r| (*r).to_owned())
        .collect();

    // The callee's route set is as received (§12.1.1).
    house.targets = vec![place("", 1000, &["10.0.0.1:5060"])];
    let bye = in_dialog("[::1]:5070", "BYE", "sip:alice@10.0.0.1", ["callee", "caller"], &routes);
    let sent = house.feed("[::1]:5070", &bye);
    assert_eq!(only(&sent, "BYE sip:alice@10.0.0.1 SIP/2.0").header("Route"), [""; 0]);

    // The caller's is reversed (§12.1.2).
    routes.reverse();
    house.targets = vec![place("", 1000, &["[::1]:5070"])];
    let info = in_dialog(
        "10.0.0.1:5060",
        "INFO",
        "sip:bob@[::1]:5070",
        ["caller", "callee"],
        &routes,
    );
    let sent = house.feed(CALLER, &info);
    assert_eq!(only(&sent, "INFO sip:bob@[::1]:5070 SIP/2.0").header("Route"), [""; 0]);
    house.ends();
}

/// RFC 5658 §6.2: where the transports differ each value says its own; none is the same as UDP.
#[test]
fn between_udp_and_tcp_each_record_route_says_its_transport() {
    let mut house = house();
    house.targets = vec![place("", 1000, &["tcp:10.0.0.2:5060"])];
    let sent = house.feed(CALLER, &invite());
    assert_eq!(
        places(only(&sent, "INVITE")),
        ["sip:127.0.0.1:5060;transport=tcp;lr", "sip:127.0.0.1:5060;lr"]
    );
    house.ends();
}

/// RFC 5658 §5: with one side there is one value.
#[test]
fn on_one_side_one_record_route_is_enough() {
    let mut house = house();
    let sent = house.feed(CALLER, &invite());
    assert_eq!(places(only(&sent, "INVITE")), ["sip:127.0.0.1:5060;lr"]);
    let text = invite()
        .replace("SIP/2.0/UDP", "SIP/2.0/TCP")
        .replace("z9hG4bKa", "z9hG4bKb");
    house.targets = vec![place("", 1000, &["tcp:10.0.0.2:5060"])];
    let sent = house.feed_by(Transport::Tcp, "10.0.0.1:40000", &text);
    assert_eq!(places(only(&sent, "INVITE")), ["sip:127.0.0.1:5060;transport=tcp;lr"]);
    house.ends();
}

/// RFC 5658 §4: "this document recommends ... to avoid rewriting": the response goes up with the values it came with.
#[test]
fn a_response_keeps_the_record_route_it_came_with() {
    let mut house = house();
    house.targets = vec![place("", 1000, &["[::1]:5070"])];
    let sent = house.feed(CALLER, &invite());
    let forwarded = only(&sent, "INVITE").clone();
    let sent = house.answer(&forwarded, "200 OK");
    assert_eq!(sent[0].header("Record-Route"), forwarded.header("Record-Route"));
    house.ends();
}

/// RFC 5658 §5: "a proxy MAY remove two Route headers instead of one": two at the most, a third is not of this dialog's turn.
#[test]
fn of_three_routes_of_ours_two_are_taken_off() {
    let mut house = house();
    house.targets = vec![place("", 1000, &["10.0.0.9:5060"])];
    let ours = "<sip:127.0.0.1:5060;lr>".to_owned();
    let text = in_dialog(
        "10.0.0.1:5060",
        "INFO",
        "sip:bob@10.0.0.2",
        ["caller", "callee"],
        &[ours.clone(), ours.clone(), ours],
    );
    let sent = house.feed(CALLER, &text);
    assert_eq!(only(&sent, "INFO").header("Route").len(), 1);
    house.ends();
}

/// RFC 5658 §6.2, from which this departs: the side that speaks TLS is marked by `transport=tls`, so that its next request comes
/// over TLS, and not by `sips:`, which would oblige the callee to a SIPS contact.
#[test]
fn towards_tls_a_record_route_says_so() {
    let mut with_tls = conf();
    with_tls.listeners.push(sps_sip::proxy::Listener {
        transport: Transport::Tls,
        addr: "127.0.0.1:5061".parse().expect("an address"),
        sent_by: "127.0.0.1:5061".to_owned(),
    });
    let mut house = house_with(with_tls);
    house.targets = vec![place("", 1000, &["tls:10.0.0.2:5061"])];
    let sent = house.feed(CALLER, &invite());
    assert_eq!(
        places(only(&sent, "INVITE")),
        ["sip:127.0.0.1:5061;transport=tls;lr", "sip:127.0.0.1:5060;lr"]
    );
    house.ends();
}
