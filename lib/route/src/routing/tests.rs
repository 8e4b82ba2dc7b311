//! Whole decisions, with tables made of a few lines.

mod redirecting;

use super::*;
use crate::conf::{AccessRule, OwnSocket};
use crate::record::{self, Shape};
use crate::route::Route;
use crate::{DomainPattern, HopAddress, Pattern, Selector};
use sps_wire::flow::Transport;
use std::collections::HashMap;

/// Contact, q, Path, flow.
type Line = (String, u16, Vec<String>, Option<Flow>);

/// Routes compiled as for the mapped file, but kept in a map; and bindings.
#[derive(Default)]
struct Lines {
    shape: Shape,
    records: HashMap<Vec<u8>, Vec<u8>>,
    registered: HashMap<Vec<u8>, Vec<Line>>,
}

impl Lines {
    /// `PATTERN HOP [PRIORITY [WEIGHT]]` or `@DOMAIN HOP …`; ids count from 1.
    fn new(routes: &[&str]) -> Lines {
        let mut lines = Lines::default();
        let mut groups: HashMap<Vec<u8>, Vec<Route>> = HashMap::new();
        for (id, line) in (1..).zip(routes) {
            let mut words = line.split(' ');
            let selector = match words.next().unwrap() {
                word if word.starts_with('@') => Selector::Domain(word[1..].parse::<DomainPattern>().unwrap()),
                word => Selector::Number(word.parse::<Pattern>().unwrap()),
            };
            let hop: HopAddress = words.next().unwrap().parse().unwrap();
            let mut figure = || words.next().map_or(1, |word| word.parse().unwrap());
            let (priority, weight) = (figure(), figure());
            lines.shape.add(&selector);
            let attributes = Default::default();
            let route = Route {
                id,
                selector,
                hop,
                transport: None,
                priority,
                weight,
                attributes,
            };
            groups.entry(record::key(&route.selector)).or_default().push(route);
        }
        for (key, mut group) in groups {
            let mut value = Vec::new();
            record::write(&mut group, &mut value);
            lines.records.insert(key, value);
        }
        lines
    }

    fn register(mut self, aor: &str, contacts: &[(&str, u16)]) -> Lines {
        let bindings = contacts
            .iter()
            .map(|(contact, q)| (contact.to_string(), *q, vec![], None))
            .collect();
        self.registered.insert(aor.into(), bindings);
        self
    }
}

impl Tables for Lines {
    fn number(&self, number: &Number, out: &mut RouteSet) {
        record::find_number(self.shape, number, out, |key, found| {
            self.records.get(key).into_iter().for_each(|record| found(record));
        });
    }

    fn domain(&self, host: &Host, out: &mut RouteSet) {
        record::find_domain(self.shape, host, out, |key, found| {
            self.records.get(key).into_iter().for_each(|record| found(record));
        });
    }

    fn registered(&self, aor: &[u8], out: &mut Bindings) {
        if let Some(bindings) = self.registered.get(aor) {
            out.set_known();
            for (contact, q, path, flow) in bindings {
                out.push(contact.as_bytes(), *q, path.iter().map(|uri| uri.as_bytes()), *flow);
            }
        }
    }
}

fn conf() -> Conf {
    let own = |text: &str, transport| OwnSocket {
        host: Host::parse(text).unwrap(),
        port: 5060,
        transport,
    };
    let mut conf = Conf::new("example.com")
        .with_domain("A.Example.NET.")
        .with_own(own("192.0.2.1", Transport::Udp))
        .with_own(own("sip.example.com", Transport::Udp));
    conf.open = true;
    conf
}

fn facts(request_uri: &str) -> Facts<'_> {
    Facts {
        request_uri: request_uri.as_bytes(),
        method: b"INVITE",
        from_uri: b"sip:caller@example.org",
        source: "198.51.100.7:5060".parse().unwrap(),
        route: None,
        in_dialog: false,
        flow: None,
    }
}

/// The decision as lines: one a target, or the status and the stage that gave it.
fn decide(conf: &Conf, tables: &Lines, facts: &Facts<'_>) -> Vec<String> {
    let mut trace = Vec::new();
    let mut around = Surroundings {
        conf,
        tables,
        random: &mut || 0,
        scratch: &mut Scratch::default(),
        trace: Some(&mut trace),
    };
    let step = Routing::start().step(Instant::now(), facts, None, &mut around);
    assert!(!trace.is_empty(), "every decision is explained");
    match step {
        Step::Targets(targets) => {
            assert!(!targets.is_empty());
            targets.iter().map(|target| target.to_string()).collect()
        }
        Step::Reply(reply) => vec![format!("{} {}", reply.status, reply.stage)],
        Step::Ask(ask) => panic!("{ask:?}"),
    }
}

fn going_to(tables: &Lines, uri: &str) -> Vec<String> {
    decide(&conf(), tables, &facts(uri))
}

#[test]
fn a_registered_user_is_reached_at_the_contacts_best_q_first() {
    let tables = Lines::new(&["50.. 203.0.113.1"]).register(
        "sip:5012@example.com",
        &[("sip:x@10.0.0.1", 500), ("sip:y@10.0.0.2:5070;transport=tcp", 1000)],
    );
    assert_eq!(
        going_to(&tables, "sip:5012@example.com"),
        [
            "sip:y@10.0.0.2:5070;transport=tcp q=1.000 by 10.0.0.2:5070/tcp stage=registry",
            "sip:x@10.0.0.1 q=0.500 by 10.0.0.1 stage=registry"
        ]
    );
}

#[test]
fn every_spelling_of_an_aor_of_ours_finds_it() {
    let tables = Lines::default()
        .register("sip:alice@example.com", &[("sip:a@10.0.0.1", 1000)])
        .register("sip:+14085551234@example.com", &[("sip:n@10.0.0.2", 1000)])
        .register("sip:alice@a.example.net", &[("sip:other@10.0.0.3", 1000)]);
    for uri in [
        "sip:alice@example.com",
        "sip:alice@EXAMPLE.com:5060",
        "sip:%61lice@example.com;transport=tcp",
        "sip:alice@192.0.2.1",
        "sip:alice@192.0.2.1:5060",
        "sip:alice@sip.example.com",
    ] {
        assert!(going_to(&tables, uri)[0].starts_with("sip:a@10.0.0.1"), "{uri}");
    }
    for uri in [
        "sip:+14085551234@example.com",
        "sip:+14085551234@a.example.net",
        "sip:+1-408-555-1234@example.com;user=phone",
        "tel:+1-408-555-1234",
        "tel:555-1234;phone-context=+1408",
    ] {
        assert!(going_to(&tables, uri)[0].starts_with("sip:n@10.0.0.2"), "{uri}");
    }
    assert!(going_to(&tables, "sip:alice@a.example.net")[0].starts_with("sip:other@10.0.0.3"));
}

/// RFC 3261 §16.5: with an maddr that is not ours the Request-URI is the only target, whoever its host is.
#[test]
fn an_maddr_of_somebody_else_overrules_a_host_of_ours() {
    let tables = Lines::default().register("sip:alice@example.com", &[("sip:a@10.0.0.1", 1000)]);
    let elsewhere = "sip:alice@example.com;maddr=203.0.113.10";
    assert_eq!(
        going_to(&tables, elsewhere),
        [format!("{elsewhere} q=1.000 by 203.0.113.10 stage=address")]
    );
    for ours in [
        "sip:alice@example.com;maddr=192.0.2.1",
        "sip:alice@192.0.2.1;maddr=sip.example.com",
    ] {
        assert!(going_to(&tables, ours)[0].starts_with("sip:a@10.0.0.1"), "{ours}");
    }
    // §10.3 step 5: in the name of a registration it says nothing.
    let mut aor = Vec::new();
    assert!(conf().canonical_aor(&Uri::parse(elsewhere.as_bytes()).unwrap(), &mut aor));
    assert_eq!(aor, b"sip:alice@example.com");
}

#[test]
fn the_most_specific_pattern_decides() {
    let tables = Lines::new(&[
        "* 203.0.113.1",
        "5* 203.0.113.2",
        "50.. 203.0.113.3",
        "50* 203.0.113.4",
        "503. 203.0.113.5",
        "5043 203.0.113.6",
        "+1408* 203.0.113.7",
        "5.99 203.0.113.8",
    ]);
    for (number, route) in [
        ("1", 1),
        ("5999", 8),
        ("599", 2),
        ("5012", 3),
        ("5099", 3),
        ("501", 4),
        ("5031", 5),
        ("5043", 6),
        ("+14081", 7),
        ("14081", 1),
    ] {
        let decided = going_to(&tables, &format!("sip:{number}@example.com"));
        assert!(
            decided[0].contains(&format!("(route {route})")),
            "{number}: {decided:?}"
        );
        assert_eq!(decided.len(), 1);
    }
}

#[test]
fn alternates_are_in_order_of_priority() {
    let tables = Lines::new(&[
        "50.. 203.0.113.1 20",
        "50.. gw.example.org:5070 10",
        "50.. 203.0.113.3 30",
        "5* 203.0.113.4 1",
    ]);
    assert_eq!(
        going_to(&tables, "sip:5012@example.com"),
        [
            "sip:5012@example.com q=1.000 by gw.example.org:5070 (route 2) then 203.0.113.1 (route 1) \
          then 203.0.113.3 (route 3) stage=number-route"
        ]
    );
}

#[test]
fn nobody_is_404_and_somebody_away_is_480() {
    let tables = Lines::default().register("sip:alice@example.com", &[]);
    assert_eq!(going_to(&tables, "sip:alice@example.com"), ["480 registry"]);
    assert_eq!(going_to(&tables, "sip:bob@example.com"), ["404 registry"]);
    assert_eq!(going_to(&tables, "sip:5012@example.com"), ["404 registry"]);
    assert_eq!(going_to(&tables, "sip:example.com"), ["404 registry"]);
}

#[test]
fn a_user_without_live_bindings_can_still_be_reached_by_a_route() {
    let tables = Lines::new(&["50.. 203.0.113.1"]).register("sip:5012@example.com", &[]);
    assert!(going_to(&tables, "sip:5012@example.com")[0].ends_with("stage=number-route"));
}

#[test]
fn which_users_are_numbers() {
    let tables = Lines::new(&["* 203.0.113.1"]);
    let is_number = |conf: &Conf, uri: &str| decide(conf, &tables, &facts(uri)) != ["404 registry"];
    let mut strict = conf();
    strict.digits_are_numbers = false;
    for (uri, by_default, strictly) in [
        ("sip:5012@example.com", true, false),
        ("sip:+5012@example.com", true, false),
        ("sip:50-12@example.com", false, false),
        ("sip:50-12@example.com;user=phone", true, true),
        ("sip:5012@example.com;user=phone", true, true),
        ("sip:5012@example.com;user=ip", false, false),
        ("sip:alice@example.com;user=phone", false, false),
        ("tel:5012;phone-context=example.com", true, true),
        ("tel:+5012", true, true),
    ] {
        assert_eq!(is_number(&conf(), uri), by_default, "{uri}");
        assert_eq!(is_number(&strict, uri), strictly, "{uri}");
    }
}

#[test]
fn foreign_hosts_go_by_domain_routes_then_by_themselves() {
    let tables = Lines::new(&[
        "@example.org 203.0.113.1",
        "@*.example.org 203.0.113.2",
        "@*.b.example.org 203.0.113.3",
    ]);
    for (uri, way) in [
        ("sip:x@Example.ORG", "203.0.113.1 (route 1) stage=domain-route"),
        ("sip:x@c.example.org.", "203.0.113.2 (route 2) stage=domain-route"),
        ("sip:x@c.a.example.org", "203.0.113.2 (route 2) stage=domain-route"),
        ("sip:x@c.b.example.org", "203.0.113.3 (route 3) stage=domain-route"),
        ("sip:x@example.edu", "example.edu stage=dns"),
        ("sip:x@example.edu:5070;transport=TCP", "example.edu:5070/tcp stage=dns"),
        ("sip:x@203.0.113.9", "203.0.113.9 stage=address"),
        ("sip:x@[2001:db8::9]:5062", "[2001:db8::9]:5062 stage=address"),
        ("sip:x@example.edu;maddr=203.0.113.10", "203.0.113.10 stage=address"),
        ("sip:5012@example.com:5090", "example.com:5090 stage=dns"),
        ("sip:5012@192.0.2.1:5090", "192.0.2.1:5090 stage=address"),
    ] {
        let decided = going_to(&tables, uri);
        assert!(decided[0].ends_with(&format!("by {way}")), "{uri}: {decided:?}");
    }
    let any = Lines::new(&["@* 203.0.113.1"]);
    assert!(going_to(&any, "sip:x@203.0.113.9")[0].contains("(route 1)"));
    assert_eq!(
        going_to(&any, "sip:alice@example.com"),
        ["404 registry"],
        "`*` is for hosts that are not ours"
    );
}

#[test]
fn what_cannot_be_sent_to_is_refused() {
    let tables = Lines::default();
    assert_eq!(going_to(&tables, "mailto:x@example.org"), ["416 request-uri"]);
    assert_eq!(going_to(&tables, "sips:x@example.org"), ["416 request-uri"]);
    assert_eq!(going_to(&tables, "sip:"), ["400 request-uri"]);
    assert_eq!(
        going_to(&tables, "sip:x@example.org;transport=sctp"),
        ["500 request-uri"]
    );
    let mut conf = conf();
    conf.tls = true;
    let decided = decide(&conf, &tables, &facts("sips:x@example.org;transport=tcp"));
    assert!(
        decided[0].ends_with("by example.org/tls stage=dns"),
        "§26.2.2: {decided:?}"
    );
}

#[test]
fn a_route_to_ourselves_is_left_out() {
    let both = Lines::new(&["50.. 192.0.2.1", "50.. 203.0.113.1"]);
    assert!(going_to(&both, "sip:5012@example.com")[0].contains("by 203.0.113.1 (route 2) stage"));
    let only = Lines::new(&["50.. 192.0.2.1:5060", "@example.org 192.0.2.1"]);
    assert_eq!(going_to(&only, "sip:5012@example.com"), ["482 number-route"]);
    assert_eq!(going_to(&only, "sip:x@example.org"), ["482 domain-route"]);
}

#[test]
fn strangers_reach_registered_users_and_nothing_else() {
    let mut conf = conf();
    conf.open = false;
    let rule = |network: &str, prefix_len, allow| AccessRule {
        network: network.parse().unwrap(),
        prefix_len,
        allow,
    };
    conf.access = vec![
        rule("198.51.100.64", 26, false),
        rule("198.51.100.128", 25, true),
        rule("2001:db8::", 32, true),
    ];
    let tables = Lines::new(&["50.. 203.0.113.1"])
        .register("sip:alice@example.com", &[("sip:a@10.0.0.1", 1000)])
        .register("sip:relay@example.com", &[("sip:5012@example.com", 1000)]);
    let from = |source: &str, uri| {
        decide(
            &conf,
            &tables,
            &Facts {
                source: source.parse().unwrap(),
                ..facts(uri)
            },
        )[0]
        .clone()
    };
    let (stranger, denied) = ("198.51.100.7:5060", "198.51.100.65:5060");
    assert!(from(stranger, "sip:alice@example.com").starts_with("sip:a@"));
    assert_eq!(from(stranger, "sip:nobody@example.com"), "404 registry");
    assert_eq!(from(stranger, "sip:5012@example.com"), "403 access");
    assert_eq!(from(stranger, "sip:x@example.org"), "403 access");
    assert_eq!(
        from(stranger, "sip:relay@example.com"),
        "480 registry",
        "a contact is no way around the rules"
    );
    assert_eq!(from(denied, "sip:alice@example.com"), "403 access");
    for listed in [
        "198.51.100.200:5060",
        "[2001:db8:1::1]:5060",
        "[::ffff:198.51.100.200]:5060",
    ] {
        assert!(from(listed, "sip:5012@example.com").contains("(route 1)"), "{listed}");
        assert!(from(listed, "sip:x@example.org").ends_with("stage=dns"), "{listed}");
    }
    let route = Facts {
        route: Some(b"sip:next.example.org;lr"),
        ..facts("sip:alice@example.com")
    };
    assert_eq!(
        decide(&conf, &tables, &route),
        ["403 access"],
        "a Route header is no way around the rules"
    );
    let inside = Facts {
        in_dialog: true,
        source: denied.parse().unwrap(),
        ..route
    };
    assert!(decide(&conf, &tables, &inside)[0].contains("by next.example.org stage=route-header"));
}

#[test]
fn a_route_header_that_remains_is_the_next_hop() {
    let tables =
        Lines::new(&["@next.example.org 203.0.113.1"]).register("sip:alice@example.com", &[("sip:a@10.0.0.1", 1000)]);
    let by = |route: &'static [u8]| {
        decide(
            &conf(),
            &tables,
            &Facts {
                route: Some(route),
                ..facts("sip:alice@example.com")
            },
        )
    };
    assert_eq!(
        by(b"sip:next.example.org:5070;lr;transport=tcp"),
        ["sip:alice@example.com q=1.000 by next.example.org:5070/tcp stage=route-header"]
    );
    assert_eq!(by(b"sip:192.0.2.1;lr"), ["482 route-header"]);
    assert_eq!(by(b"sip:"), ["400 route-header"]);
}

#[test]
fn a_flow_token_leads_back_along_its_flow() {
    let flow = flow(Transport::Tcp, "198.51.100.9:40000");
    let facts = Facts {
        flow: Some(flow),
        in_dialog: true,
        route: Some(b"sip:x.example.org"),
        ..facts("sip:a@10.0.0.1")
    };
    assert_eq!(
        decide(&conf(), &Lines::default(), &facts),
        ["sip:a@10.0.0.1 q=1.000 by flow 198.51.100.9:40000/tcp stage=flow"]
    );
}

#[test]
fn a_contact_behind_a_flow_is_reached_by_it() {
    let mut tables = Lines::default();
    let contact = |uri: &str, flow| (uri.to_string(), 1000, vec![], Some(flow));
    let remote = "198.51.100.9:40000";
    tables.registered.insert(
        b"sip:alice@example.com".to_vec(),
        vec![
            contact("sip:u@10.0.0.1", flow(Transport::Udp, remote)),
            contact("sip:t@10.0.0.1;transport=tcp", flow(Transport::Tcp, remote)),
            contact("sip:v@198.51.100.9:5070;transport=tcp", flow(Transport::Tcp, remote)),
        ],
    );
    assert_eq!(
        going_to(&tables, "sip:alice@example.com"),
        [
            "sip:u@10.0.0.1 q=1.000 by flow 198.51.100.9:40000/udp stage=registry",
            "sip:t@10.0.0.1;transport=tcp q=1.000 by flow 198.51.100.9:40000/tcp stage=registry",
            "sip:v@198.51.100.9:5070;transport=tcp q=1.000 by flow 198.51.100.9:40000/tcp then 198.51.100.9:5070/tcp \
             stage=registry",
        ]
    );
}

/// RFC 3327 §5.3
#[test]
fn a_path_becomes_the_route_and_its_top_uri_the_next_hop() {
    let mut tables = Lines::default();
    let path = vec![
        "<sip:edge.example.org;lr>;ob".to_string(),
        "<sip:inner.example.org;lr>".to_string(),
    ];
    tables.registered.insert(
        b"sip:alice@example.com".to_vec(),
        vec![("sip:a@10.0.0.1".into(), 1000, path, None)],
    );
    assert_eq!(
        going_to(&tables, "sip:alice@example.com"),
        [
            "sip:a@10.0.0.1 q=1.000 route <sip:edge.example.org;lr>;ob route <sip:inner.example.org;lr> \
          by edge.example.org stage=registry"
        ]
    );
}

#[test]
fn a_contact_that_is_an_aor_of_ours_is_looked_up_in_its_turn() {
    let tables = Lines::new(&["6... 203.0.113.1"])
        .register(
            "sip:sales@example.com",
            &[("sip:alice@example.com", 500), ("sip:6001@example.com", 1000)],
        )
        .register(
            "sip:alice@example.com",
            &[("sip:a@10.0.0.1", 1000), ("sip:sales@example.com", 1000)],
        );
    assert_eq!(
        going_to(&tables, "sip:sales@example.com"),
        [
            "sip:6001@example.com q=1.000 by 203.0.113.1 (route 1) stage=number-route",
            "sip:a@10.0.0.1 q=0.500 by 10.0.0.1 stage=registry"
        ]
    );
    let circle = Lines::default().register(
        "sip:a@example.com",
        &[("sip:a@example.com", 1000), ("sip:a@example.com;x", 1000)],
    );
    assert_eq!(
        going_to(&circle, "sip:a@example.com"),
        ["480 registry"],
        "ends, and leads nowhere"
    );
}

#[test]
fn hundreds_of_contacts_are_cut_to_the_bound() {
    let contacts: Vec<String> = (0..200).map(|n| format!("sip:c{n}@10.0.0.1")).collect();
    let contacts: Vec<(&str, u16)> = contacts.iter().map(|uri| (uri.as_str(), 1000)).collect();
    let tables = Lines::default().register("sip:alice@example.com", &contacts);
    assert_eq!(going_to(&tables, "sip:alice@example.com").len(), conf().max_targets);
}

#[test]
fn unreadable_contacts_are_left_out() {
    let tables = Lines::default()
        .register(
            "sip:alice@example.com",
            &[("sip:", 1000), ("mailto:a@b", 1000), ("sip:a@10.0.0.1", 1000)],
        )
        .register("sip:bob@example.com", &[("sip:", 1000)]);
    assert_eq!(going_to(&tables, "sip:alice@example.com").len(), 1);
    assert_eq!(going_to(&tables, "sip:bob@example.com"), ["480 registry"]);
}

fn flow(transport: Transport, remote: &str) -> Flow {
    let local = "192.0.2.1:5060".parse().unwrap();
    Flow {
        member: 0,
        transport,
        local,
        remote: remote.parse().unwrap(),
        connection: 7,
    }
}
