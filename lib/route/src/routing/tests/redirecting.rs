//! RFC 3261 §8.3: what a caller is told instead of being served; and §16.11: what may be forwarded and forgotten.

use sps_wire::Handling;

use super::*;
use crate::conf::Service;

fn redirecting() -> Conf {
    let mut conf = conf();
    conf.service = Service::Redirect;
    conf
}

fn told(tables: &Lines, uri: &str) -> Vec<String> {
    decide(&redirecting(), tables, &facts(uri))
}

/// MODE-07, §8.3: "the list of (one or more) alternative locations", whatever their scheme
#[test]
fn every_binding_is_told_with_its_q() {
    let tables = Lines::new(&[]).register(
        "sip:bob@example.com",
        &[
            ("sip:bob@198.51.100.1:5070;transport=tcp", 500),
            ("mailto:bob@example.com", 100),
            ("sips:bob@phone.example.org", 1000),
            ("tel:+33123456789", 200),
        ],
    );
    assert_eq!(
        told(&tables, "sip:bob@example.com"),
        [
            "redirect to sips:bob@phone.example.org q=1.000 stage=registry",
            "redirect to sip:bob@198.51.100.1:5070;transport=tcp q=0.500 stage=registry",
            "redirect to tel:+33123456789 q=0.200 stage=registry",
            "redirect to mailto:bob@example.com q=0.100 stage=registry",
        ]
    );
}

/// §16.5, §21.4.18: unknown users and those who are away
#[test]
fn nobody_is_redirected_to_somebody_who_is_not_there() {
    let tables = Lines::new(&[]).register("sip:away@example.com", &[]);
    assert_eq!(told(&tables, "sip:away@example.com"), ["480 registry"]);
    assert_eq!(told(&tables, "sip:nobody@example.com"), ["404 registry"]);
}

/// §8.3: "MUST NOT redirect a request to a URI equal to the one in the Request-URI"
#[test]
fn nobody_is_redirected_to_what_he_asked_for() {
    let tables = Lines::new(&[]).register(
        "sip:bob@example.com",
        &[("sip:bob@192.0.2.1:5060", 1000), ("sip:bob@198.51.100.1", 500)],
    );
    assert_eq!(told(&tables, "sip:x@foreign.example"), ["404 dns"]);
    assert_eq!(told(&tables, "sip:x@198.51.100.1"), ["404 address"]);
    // A registrar of ours that somebody bound himself to: the name leads to itself.
    assert_eq!(
        told(&tables, "sip:bob@example.com"),
        ["redirect to sip:bob@198.51.100.1 q=0.500 stage=registry"]
    );
}

/// RFC 3327 §5.3, RFC 3261 §19.1.5
#[test]
fn a_binding_behind_a_path_is_left_out() {
    let mut tables = Lines::new(&[]).register("sip:bob@example.com", &[("sip:bob@198.51.100.1", 1000)]);
    let lines = tables.registered.get_mut(&b"sip:bob@example.com"[..]).unwrap();
    lines.push((
        "sip:bob@10.0.0.5".into(),
        900,
        vec!["<sip:edge.example.org;lr>".into()],
        None,
    ));
    assert_eq!(
        told(&tables, "sip:bob@example.com"),
        ["redirect to sip:bob@198.51.100.1 q=1.000 stage=registry"]
    );
    tables
        .registered
        .get_mut(&b"sip:bob@example.com"[..])
        .unwrap()
        .remove(0);
    assert_eq!(told(&tables, "sip:bob@example.com"), ["480 registry"]);
}

#[test]
fn a_number_is_told_at_its_gateways_in_the_order_of_trying() {
    let tables = Lines::new(&[
        "+1* gw1.example.org 1",
        "+1* 198.51.100.9:5070 2",
        "+1* [2001:db8::9] 3",
    ]);
    for uri in ["sip:+15550100@example.com;user=phone", "tel:+15550100"] {
        assert_eq!(
            told(&tables, uri),
            [
                "redirect to sip:+15550100@gw1.example.org;user=phone q=1.000 stage=number-route",
                "redirect to sip:+15550100@198.51.100.9:5070;user=phone q=0.900 stage=number-route",
                "redirect to sip:+15550100@[2001:db8::9];user=phone q=0.800 stage=number-route",
            ]
        );
    }
    let mut conf = redirecting();
    conf.tls = true;
    assert_eq!(
        decide(&conf, &tables, &facts("sips:+15550100@example.com"))[0],
        "redirect to sips:+15550100@gw1.example.org q=1.000 stage=number-route"
    );
}

/// §19.1.1: maddr
#[test]
fn a_foreign_domain_with_a_route_is_told_by_way_of_its_server() {
    let tables = Lines::new(&["@foreign.example 198.51.100.9:5070"]);
    assert_eq!(
        told(&tables, "sip:x@foreign.example:5062;transport=tcp;a=b;maddr=192.0.2.77"),
        ["redirect to sip:x@foreign.example:5070;a=b;maddr=198.51.100.9 q=1.000 stage=domain-route"]
    );
}

/// A name that stands for another of ours is resolved at once.
#[test]
fn a_binding_to_another_of_our_users_is_told_as_that_users_bindings() {
    let tables = Lines::new(&["+1* 198.51.100.9"])
        .register(
            "sip:team@example.com",
            &[("sip:bob@example.com", 500), ("sip:+15550100@example.com", 400)],
        )
        .register("sip:bob@example.com", &[("sip:bob@198.51.100.1", 600)]);
    assert_eq!(
        told(&tables, "sip:team@example.com"),
        [
            "redirect to sip:+15550100@198.51.100.9 q=0.400 stage=number-route",
            "redirect to sip:bob@198.51.100.1 q=0.300 stage=registry",
        ]
    );
}

/// A stranger learns the way to a gateway no more than he may use it.
#[test]
fn strangers_are_told_our_users_and_nothing_else() {
    let mut conf = redirecting();
    conf.open = false;
    let tables = Lines::new(&["+1* 198.51.100.9"]).register(
        "sip:bob@example.com",
        &[("sip:bob@198.51.100.1", 600), ("sip:+15550100@example.com", 400)],
    );
    assert_eq!(
        decide(&conf, &tables, &facts("sip:bob@example.com")),
        ["redirect to sip:bob@198.51.100.1 q=0.600 stage=registry"]
    );
    assert_eq!(
        decide(&conf, &tables, &facts("sip:+15550100@example.com")),
        ["403 access"]
    );
    assert_eq!(decide(&conf, &tables, &facts("sip:x@foreign.example")), ["403 access"]);
}

#[test]
fn a_redirect_server_takes_no_notice_of_a_route_but_serves_the_dialogs_it_has() {
    let tables = Lines::new(&[]).register("sip:bob@example.com", &[("sip:bob@198.51.100.1", 1000)]);
    let route = Facts {
        route: Some(b"sip:198.51.100.99;lr"),
        ..facts("sip:bob@example.com")
    };
    assert_eq!(
        decide(&redirecting(), &tables, &route),
        ["redirect to sip:bob@198.51.100.1 q=1.000 stage=registry"]
    );
    for facts in [
        Facts {
            in_dialog: true,
            ..route
        },
        Facts {
            method: b"ACK",
            ..route
        },
        Facts {
            method: b"CANCEL",
            ..route
        },
    ] {
        assert_eq!(
            decide(&redirecting(), &tables, &facts),
            ["sip:bob@example.com q=1.000 by 198.51.100.99 stage=route-header"]
        );
    }
}

/// MODE-11, RFC 2543 §6.13: the wish of a binding counts where it is obeyed, and the mode where there is none.
#[test]
fn a_binding_may_choose_to_be_told_or_called() {
    struct Wishing(Lines);
    impl Tables for Wishing {
        fn number(&self, number: &Number, out: &mut RouteSet) {
            self.0.number(number, out);
        }
        fn domain(&self, host: &Host, out: &mut RouteSet) {
            self.0.domain(host, out);
        }
        fn registered(&self, aor: &[u8], out: &mut Bindings) {
            if aor == b"sip:bob@example.com" {
                out.push(b"sip:told@198.51.100.1", 1000, [], None).unwrap().handling = Some(Handling::Redirect);
                out.push(b"sip:called@198.51.100.2", 1000, [], None).unwrap().handling = Some(Handling::Proxy);
                out.push(b"sip:either@198.51.100.3", 1000, [], None);
            }
        }
    }
    let tables = Wishing(Lines::new(&[]));
    let told = |service, preferences| -> Vec<(String, bool)> {
        let mut conf = conf();
        (conf.service, conf.caller_preferences) = (service, preferences);
        let mut around = Surroundings {
            conf: &conf,
            tables: &tables,
            random: &mut || 0,
            scratch: &mut Scratch::default(),
            trace: None,
        };
        let step = Routing::start().step(Instant::now(), &facts("sip:bob@example.com"), None, &mut around);
        let Step::Targets(targets) = step else {
            panic!("{step:?}")
        };
        let user = |target: &Target| {
            let uri = String::from_utf8_lossy(&target.uri).into_owned();
            uri["sip:".len()..uri.find('@').unwrap()].to_owned()
        };
        targets.iter().map(|target| (user(target), target.redirect)).collect()
    };
    let all = |told, called, either| {
        vec![
            ("told".to_owned(), told),
            ("called".to_owned(), called),
            ("either".to_owned(), either),
        ]
    };
    assert_eq!(told(Service::Proxy, false), all(false, false, false));
    assert_eq!(told(Service::Proxy, true), all(true, false, false));
    assert_eq!(told(Service::Redirect, false), all(true, true, true));
    assert_eq!(told(Service::Redirect, true), all(true, false, true));
}

#[test]
fn a_registrar_routes_only_what_belongs_to_a_dialog() {
    let mut conf = conf();
    conf.service = Service::Registrar;
    let tables = Lines::new(&[]);
    assert_eq!(
        decide(&conf, &tables, &facts("sip:x@foreign.example")),
        ["405 request-uri"]
    );
    let inside = Facts {
        in_dialog: true,
        ..facts("sip:x@198.51.100.1")
    };
    assert_eq!(
        decide(&conf, &tables, &inside),
        ["sip:x@198.51.100.1 q=1.000 by 198.51.100.1 stage=address"]
    );
}

/// §16.11: "can only use information from the message itself and time-invariant configuration data"
#[test]
fn only_what_message_and_configuration_decide_is_steady() {
    let tables = Lines::new(&[
        "1555* 198.51.100.1 1 1",
        "1555* 198.51.100.2 1 1",
        "1666* 198.51.100.1 1 1",
        "1666* 198.51.100.2 2 1",
        "1777* gw.example.org 1 1",
        "1888* 198.51.100.1 1 1",
        "@level.example 198.51.100.1:5070",
    ])
    .register("sip:18880100@example.com", &[("sip:bob@198.51.100.3", 1000)]);
    let flow = |transport| {
        Some(Flow {
            member: 0,
            transport,
            local: "192.0.2.1:5060".parse().unwrap(),
            remote: "198.51.100.7:5060".parse().unwrap(),
            connection: 0,
        })
    };
    let steady = |facts: &Facts<'_>| {
        let conf = conf();
        let mut around = Surroundings {
            conf: &conf,
            tables: &tables,
            random: &mut || 0,
            scratch: &mut Scratch::default(),
            trace: None,
        };
        match Routing::start().step(Instant::now(), facts, None, &mut around) {
            Step::Targets(targets) => targets.iter().all(|target| target.steady),
            other => panic!("{other:?}"),
        }
    };
    for (uri, expected) in [
        ("sip:15550100@example.com", true),
        ("sip:16660100@example.com", false),
        ("sip:17770100@example.com", false),
        ("sip:18880100@example.com", false),
        ("sip:18880101@example.com", true),
        ("sip:x@level.example", true),
        ("sip:x@foreign.example", false),
        ("sip:x@198.51.100.9", true),
        ("sip:x@198.51.100.9;transport=tcp", false),
    ] {
        assert_eq!(steady(&facts(uri)), expected, "{uri}");
    }
    let by = |route: &'static [u8]| Facts {
        route: Some(route),
        ..facts("sip:x@foreign.example")
    };
    assert!(steady(&by(b"sip:198.51.100.9;lr")));
    assert!(!steady(&by(b"sip:edge.example.org;lr")));
    for (transport, expected) in [(Transport::Udp, true), (Transport::Tcp, false)] {
        let along = Facts {
            flow: flow(transport),
            in_dialog: true,
            ..facts("sip:x@foreign.example")
        };
        assert_eq!(steady(&along), expected, "{transport:?}");
    }
}
