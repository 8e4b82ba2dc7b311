//! A static route among many: found in the mapped table, and the whole decision around it.

use std::hint::black_box;
use std::time::Instant;

use sps_route::{
    Attributes, Bindings, Conf, Facts, Host, Number, OwnSocket, RouteSet, Routing, Scratch, Selector, Surroundings,
    Tables,
};
use sps_store::{ImportMode, NewRoute, RouteMap, RouteStore};
use sps_wire::Transport;
use tempfile::TempDir;

const ROUTES: u64 = 10_000;

/// The mapped table alone; nobody is registered.
struct Mapped(RouteMap);

impl Tables for Mapped {
    fn number(&self, number: &Number, out: &mut RouteSet) {
        self.0.number(number, out);
    }

    fn domain(&self, host: &Host, out: &mut RouteSet) {
        self.0.domain(host, out);
    }

    fn registered(&self, _: &[u8], _: &mut Bindings) {}
}

pub fn lookup(turns: u64) {
    let (_folder, map) = table();
    let numbers: Vec<Number> = (0..ROUTES)
        .map(|n| Number::parse(number(n).as_bytes()).expect("a number"))
        .collect();
    let mut found = RouteSet::default();
    for turn in 0..turns {
        map.number(black_box(&numbers[place(turn)]), &mut found);
        assert_eq!(found.entries().len(), 1);
    }
}

pub fn decide(turns: u64) {
    let (_folder, map) = table();
    let tables = Mapped(map);
    let own = OwnSocket {
        host: Host::Addr([192, 0, 2, 1].into()),
        port: 5060,
        transport: Transport::Udp,
    };
    let mut conf = Conf::new("example.com").with_own(own);
    conf.open = true;
    let uris: Vec<String> = (0..ROUTES).map(|n| format!("sip:{}@example.com", number(n))).collect();
    let (mut scratch, mut random, now) = (Scratch::default(), || 7, Instant::now());
    for turn in 0..turns {
        let facts = Facts {
            request_uri: uris[place(turn)].as_bytes(),
            method: b"INVITE",
            from_uri: b"sip:caller@example.com",
            source: ([198, 51, 100, 8], 5060).into(),
            route: None,
            in_dialog: false,
            flow: None,
        };
        let mut around = Surroundings {
            conf: &conf,
            tables: &tables,
            random: &mut random,
            scratch: &mut scratch,
            trace: None,
        };
        black_box(Routing::start().step(now, black_box(&facts), None, &mut around));
    }
}

fn table() -> (TempDir, RouteMap) {
    let folder = TempDir::new().expect("a folder");
    let (db, map) = (folder.path().join("sps.db"), folder.path().join("routes.map"));
    let routes: Vec<NewRoute> = (0..ROUTES).map(route).collect();
    let mut store = RouteStore::open(&db, &map).expect("a new store");
    store.import(&routes, ImportMode::Merge, &mut |_| ()).expect("room");
    let map = RouteMap::open(&map).expect("it was just published");
    (folder, map)
}

fn route(n: u64) -> NewRoute {
    NewRoute {
        selector: Selector::Number(format!("+1{n:08}*").parse().expect("a pattern")),
        hop: format!("10.{}.{}.{}:5060", n >> 16 & 255, n >> 8 & 255, n & 255)
            .parse()
            .expect("a next hop"),
        transport: None,
        priority: 1,
        weight: 1,
        attributes: Attributes::new(),
    }
}

/// A number that the route of the same `n` is for.
fn number(n: u64) -> String {
    format!("+1{n:08}55")
}

/// Spread over the table, each in its turn.
fn place(turn: u64) -> usize {
    (turn.wrapping_mul(7_919) % ROUTES) as usize
}
