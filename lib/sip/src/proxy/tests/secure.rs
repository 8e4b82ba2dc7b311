//! SIPS: TLS on every hop, or not at all (RFC 3261 §26.2.2, RFC 5630).

use super::*;

/// With a listener for TLS.
fn secure_house() -> House {
    let mut conf = conf();
    conf.listeners.push(Listener {
        transport: Transport::Tls,
        addr: SocketAddr::from(([127, 0, 0, 1], 5061)),
        sent_by: "127.0.0.1:5061".into(),
    });
    house_with(conf)
}

fn sips_invite() -> String {
    request("INVITE", "sips:bob@example.com", "a", "")
}

/// RFC 3261 §26.2.2
#[test]
fn a_sips_request_leaves_by_tls_whatever_else_there_is() {
    let mut house = secure_house();
    house.targets = vec![("sips:bob@10.0.0.2", 1000, vec!["10.0.0.2:5060", "tls:10.0.0.2:5061"])];
    let sent = house.feed(CALLER, &sips_invite());
    let invite = only(&sent, "INVITE");
    assert_eq!(invite.to.port(), 5061);
    assert!(invite.header("Via")[0].starts_with("SIP/2.0/TLS "), "{}", invite.text);
    assert!(invite.text.starts_with("INVITE sips:bob@10.0.0.2 "));

    let mut house = secure_house();
    house.targets = vec![("sips:bob@10.0.0.2", 1000, vec!["10.0.0.2:5060"])];
    let sent = house.feed(CALLER, &sips_invite());
    assert!(sent.iter().all(|sent| !sent.text.starts_with("INVITE")), "{sent:#?}");
    assert_eq!(house.statuses(), [500], "nothing else will do");
}

/// RFC 5630 §5.3
#[test]
fn a_sips_request_is_not_retargeted_to_a_sip_contact() {
    let mut house = secure_house();
    house.targets = vec![("sip:bob@10.0.0.2", 1000, vec!["tls:10.0.0.2:5061"])];
    let sent = house.feed(CALLER, &sips_invite());
    let refused = only(&sent, "SIP/2.0 480");
    assert_eq!(refused.header("Warning"), ["380 127.0.0.1:5060 \"SIPS Not Allowed\""]);
    assert_eq!(house.statuses(), [480]);

    let mut house = secure_house();
    house.targets = vec![
        ("sip:bob@10.0.0.2", 1000, vec!["tls:10.0.0.2:5061"]),
        ("sips:bob@10.0.0.3", 500, vec!["tls:10.0.0.3:5061"]),
    ];
    let sent = house.feed(CALLER, &sips_invite());
    assert!(only(&sent, "INVITE").text.starts_with("INVITE sips:bob@10.0.0.3 "));
}

/// RFC 5630 §5.3
#[test]
fn a_sip_request_reaches_a_sips_contact_as_sip_and_by_tls() {
    let mut house = secure_house();
    house.targets = vec![(
        "SIPS:bob@10.0.0.2;x=1",
        1000,
        vec!["10.0.0.2:5060", "tls:10.0.0.2:5061"],
    )];
    let sent = house.feed(CALLER, &invite());
    let invite = only(&sent, "INVITE");
    assert!(
        invite.text.starts_with("INVITE sip:bob@10.0.0.2;x=1 "),
        "{}",
        invite.text
    );
    assert_eq!(invite.to.port(), 5061);
}

/// RFC 3261 §16.6 step 4
#[test]
fn the_record_route_of_a_sips_request_is_sips_and_there_even_if_we_leave_others_alone() {
    for (record_route, by, count) in [
        (true, Transport::Tls, 1),
        (true, Transport::Udp, 1),
        (false, Transport::Udp, 1),
        (false, Transport::Tls, 0),
    ] {
        let mut house = secure_house();
        let conf = Conf {
            record_route,
            ..house.core.conf().clone()
        };
        house.core.reconfigure(conf);
        house.targets = vec![("sips:bob@10.0.0.2", 1000, vec!["tls:10.0.0.2:5061"])];
        let sent = house.feed_by(by, CALLER, &sips_invite());
        let routes = only(&sent, "INVITE").header("Record-Route");
        assert_eq!(routes.len(), count, "{record_route} {by:?}: {routes:?}");
        for route in routes {
            assert!(
                route.starts_with("<sips:") && route.ends_with("@127.0.0.1:5061;lr>"),
                "{route}"
            );
        }
    }
}

/// RFC 3261 §16.6 step 4: what came by TLS and goes on without SIPS is recorded by URIs that are none.
#[test]
fn what_came_by_tls_and_is_no_sips_request_is_recorded_as_sip() {
    for (target, hop) in [
        ("sip:bob@10.0.0.2", "10.0.0.2:5060"),
        ("sip:bob@10.0.0.2", "tls:10.0.0.2:5061"),
    ] {
        let mut house = secure_house();
        house.targets = vec![(target, 1000, vec![hop])];
        let sent = house.feed_by(Transport::Tls, CALLER, &invite());
        let routes = only(&sent, "INVITE").header("Record-Route");
        assert!(!routes.is_empty());
        for route in routes {
            assert!(route.starts_with("<sip:") && route.ends_with(";lr>"), "{route}");
        }
    }
}

/// RFC 3261 §26.2.2: also where only the next Route is SIPS.
#[test]
fn a_sips_route_is_followed_by_tls_only() {
    let mut house = secure_house();
    house.targets = vec![("", 1000, vec!["10.0.0.9:5060", "tls:10.0.0.9:5061"])];
    let invite = request(
        "INVITE",
        "sip:bob@elsewhere.example",
        "a",
        "Route: <sips:10.0.0.9;lr>\r\n",
    );
    let sent = house.feed(CALLER, &invite);
    assert_eq!(only(&sent, "INVITE").to.port(), 5061);
}

/// RFC 5922 §7.4
#[test]
fn a_request_whose_via_is_not_its_senders_is_refused() {
    let mut house = secure_house();
    let flow = Flow {
        member: 0,
        transport: Transport::Tls,
        local: SocketAddr::from(([127, 0, 0, 1], 5061)),
        remote: CALLER.parse().expect("an address"),
        connection: 9,
    };
    let mut check = |names: &[&str], text: &str| {
        let names: Vec<Arc<str>> = names.iter().copied().map(Arc::from).collect();
        let mut todo = Vec::new();
        let good = house
            .core
            .check_via(house.clock, flow, &names, text.as_bytes(), &mut todo);
        (good, house.perform(todo))
    };
    assert!(check(&["10.0.0.1"], &invite()).0);
    let (good, sent) = check(&["example.com"], &invite());
    assert!(!good);
    only(&sent, "SIP/2.0 403 Via Does Not Match Certificate");
    let (good, sent) = check(&[], &request("ACK", "sip:bob@example.com", "a", ""));
    assert!(!good && sent.is_empty(), "an ACK has no answer");
}
