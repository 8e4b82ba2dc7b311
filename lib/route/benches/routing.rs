//! What a decision costs beside the lookups: the tables here answer at once. `cargo bench -p sps-route`

use divan::{AllocProfiler, Bencher, black_box};
use sps_route::{
    Bindings, Conf, Facts, Host, Number, OwnSocket, RouteEntry, RouteSet, Routing, Scratch, Surroundings, Tables,
};
use sps_wire::flow::{Flow, Transport};
use std::time::Instant;

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// One user with one contact, and one route for all numbers.
struct Fixed {
    flow: Option<Flow>,
}

impl Tables for Fixed {
    fn number(&self, _: &Number, out: &mut RouteSet) {
        let host = Host::Addr([203, 0, 113, 1].into());
        out.push(RouteEntry {
            id: 1,
            host,
            port: Some(5070),
            transport: None,
            priority: 1,
            weight: 1,
        });
    }

    fn domain(&self, _: &Host, _: &mut RouteSet) {}

    fn registered(&self, aor: &[u8], out: &mut Bindings) {
        if aor == b"sip:alice@example.com" {
            out.push(
                b"sip:alice@198.51.100.7:5062;transport=udp;line=8dj2k",
                1000,
                [],
                self.flow,
            );
        }
    }
}

fn decide(bencher: Bencher, uri: &str, tables: &Fixed) {
    let own = OwnSocket {
        host: Host::Addr([192, 0, 2, 1].into()),
        port: 5060,
        transport: Transport::Udp,
    };
    let mut conf = Conf::new("example.com").with_domain("example.net").with_own(own);
    conf.open = true;
    let facts = Facts {
        request_uri: uri.as_bytes(),
        method: b"INVITE",
        from_uri: b"sip:caller@example.com",
        source: ([198, 51, 100, 8], 5060).into(),
        route: None,
        in_dialog: false,
        flow: None,
    };
    let (mut scratch, mut random, now) = (Scratch::default(), || 7, Instant::now());
    bencher.bench_local(|| {
        let mut around = Surroundings {
            conf: &conf,
            tables,
            random: &mut random,
            scratch: &mut scratch,
            trace: None,
        };
        Routing::start().step(now, black_box(&facts), None, &mut around)
    });
}

#[divan::bench]
fn registered_user(bencher: Bencher) {
    decide(bencher, "sip:alice@example.com", &Fixed { flow: None });
}

#[divan::bench]
fn registered_user_by_flow(bencher: Bencher) {
    let (local, remote) = (([192, 0, 2, 1], 5060).into(), ([198, 51, 100, 7], 5062).into());
    let flow = Flow {
        member: 0,
        transport: Transport::Udp,
        local,
        remote,
        connection: 0,
    };
    decide(bencher, "sip:alice@example.com", &Fixed { flow: Some(flow) });
}

#[divan::bench]
fn number_by_static_route(bencher: Bencher) {
    decide(
        bencher,
        "sip:+14085551234@example.com;user=phone",
        &Fixed { flow: None },
    );
}

#[divan::bench]
fn foreign_address(bencher: Bencher) {
    decide(bencher, "sip:bob@203.0.113.9:5062", &Fixed { flow: None });
}
