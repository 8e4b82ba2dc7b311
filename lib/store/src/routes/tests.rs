//! What is committed is in force, whoever else writes and whoever dies.

use super::*;
use crate::{OpenError, RouteMap};
use sps_route::{Number, RouteSet};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

struct House {
    folder: TempDir,
}

impl House {
    fn new() -> House {
        House {
            folder: TempDir::new().unwrap(),
        }
    }

    fn db(&self) -> PathBuf {
        self.folder.path().join("sps.db")
    }

    fn map(&self) -> PathBuf {
        self.folder.path().join("routes.map")
    }

    fn store(&self) -> RouteStore {
        RouteStore::open(&self.db(), &self.map()).unwrap()
    }

    fn reader(&self) -> RouteMap {
        RouteMap::open(&self.map()).unwrap()
    }
}

fn number(pattern: &str, hop: &str) -> NewRoute {
    route(Selector::Number(pattern.parse().unwrap()), hop)
}

fn domain(domain: &str, hop: &str) -> NewRoute {
    route(Selector::Domain(domain.parse().unwrap()), hop)
}

fn route(selector: Selector, hop: &str) -> NewRoute {
    NewRoute {
        selector,
        hop: hop.parse().unwrap(),
        transport: None,
        priority: DEFAULT_PRIORITY,
        weight: DEFAULT_WEIGHT,
        attributes: Attributes::new(),
    }
}

/// The hops for a number, as the proxy sees them.
fn hops(map: &RouteMap, digits: &str) -> Vec<String> {
    let mut found = RouteSet::default();
    map.number(&Number::parse(digits.as_bytes()).unwrap(), &mut found);
    let hops = found.entries().iter().map(|entry| HopAddress {
        host: entry.host.clone(),
        port: entry.port,
    });
    hops.map(|hop| hop.to_string()).collect()
}

fn all(store: &RouteStore) -> Vec<Route> {
    let mut all = Vec::new();
    store
        .for_each::<Error>(|route| {
            all.push(route);
            Ok(())
        })
        .unwrap();
    all
}

#[test]
fn a_route_is_in_force_when_the_call_returns() {
    let house = House::new();
    let mut store = house.store();
    let map = house.reader();
    assert_eq!(hops(&map, "5012"), [""; 0]);
    let Added::New(first) = store.add(&number("50..", "gw.example.org:5070")).unwrap() else {
        panic!()
    };
    assert_eq!(hops(&map, "5012"), ["gw.example.org:5070"]);
    store.add(&number("5012", "[2001:db8::1]")).unwrap();
    assert_eq!(hops(&map, "5012"), ["[2001:db8::1]"]);
    assert_eq!(map.version(), store.version().unwrap());
    let removed = store.remove(first).unwrap().unwrap();
    assert_eq!(removed.selector.to_string(), "50..");
    assert_eq!(hops(&map, "5013"), [""; 0]);
    assert_eq!(hops(&map, "5012"), ["[2001:db8::1]"]);
    assert_eq!(store.remove(first).unwrap(), None);
    assert!(store.was_given(first).unwrap() && !store.was_given(99).unwrap());
}

#[test]
fn domains_are_published_too() {
    let house = House::new();
    let mut store = house.store();
    store.add(&domain("*.example.org", "gw:5070")).unwrap();
    let mut found = RouteSet::default();
    house
        .reader()
        .domain(&sps_route::Host::parse("a.example.org").unwrap(), &mut found);
    assert_eq!(found.entries().len(), 1);
}

#[test]
fn adding_again_says_what_is_there() {
    let house = House::new();
    let mut store = house.store();
    let mut wanted = number("50..", "gw:5070");
    let Added::New(id) = store.add(&wanted).unwrap() else {
        panic!()
    };
    let version = store.version().unwrap();
    assert_eq!(store.add(&wanted).unwrap(), Added::Same(id));
    assert_eq!(store.version().unwrap(), version, "nothing has changed");
    wanted.priority = 7;
    wanted.attributes.insert("right".into(), "international".into());
    let Added::Changed(old) = store.add(&wanted).unwrap() else {
        panic!()
    };
    assert_eq!((old.id, old.priority), (id, DEFAULT_PRIORITY));
    let now = store.route(id).unwrap().unwrap();
    assert_eq!((now.priority, &now.attributes), (7, &wanted.attributes));
    wanted.transport = Some(Transport::Tcp);
    assert!(
        matches!(store.add(&wanted).unwrap(), Added::New(_)),
        "by another transport it is another route"
    );
}

#[test]
fn too_many_routes_of_one_prefix_are_refused_whole() {
    let house = House::new();
    let mut store = house.store();
    let crowd: Vec<NewRoute> = (0..record::MAX_ROUTES_PER_KEY)
        .map(|n| number("50*", &format!("gw{n}.example.org")))
        .collect();
    store.import(&crowd, ImportMode::Merge, &mut |_| ()).unwrap();
    let more = number("50..", "one.example.org");
    assert!(matches!(store.add(&more), Err(Error::Crowded { .. })));
    let both = [number("7", "gw"), more];
    assert!(matches!(
        store.import(&both, ImportMode::Merge, &mut |_| ()),
        Err(Error::Crowded { .. })
    ));
    assert_eq!(store.len().unwrap(), crowd.len() as u64);
    assert_eq!(hops(&house.reader(), "7"), [""; 0]);
}

#[test]
fn an_import_merges_or_replaces() {
    let house = House::new();
    let mut store = house.store();
    store.add(&number("50..", "a")).unwrap();
    store.add(&number("60..", "b")).unwrap();
    let mut changed = number("50..", "a");
    changed.weight = 9;
    let rows = [changed, number("70..", "c"), number("70..", "c")];
    let merged = store.import(&rows, ImportMode::Merge, &mut |_| ()).unwrap();
    assert_eq!(
        merged,
        Imported {
            added: 1,
            changed: 1,
            unchanged: 1,
            removed: 0
        }
    );
    assert_eq!(hops(&house.reader(), "6001"), ["b"]);
    let mut steps = 0;
    let replaced = store
        .import(&rows, ImportMode::Replace, &mut |done| steps = done)
        .unwrap();
    assert_eq!(
        replaced,
        Imported {
            added: 0,
            changed: 0,
            unchanged: 3,
            removed: 1
        }
    );
    assert!(steps >= rows.len() as u64);
    assert_eq!(hops(&house.reader(), "6001"), [""; 0]);
    assert_eq!(hops(&house.reader(), "7001"), ["c"]);
}

#[test]
fn a_commit_that_was_not_published_is_healed_by_the_next_opener() {
    let house = House::new();
    let mut store = house.store();
    store.add(&number("50..", "a")).unwrap();
    let map = house.reader();
    // Committed, and dead before publication.
    let change = store.database.db.transaction().unwrap();
    put(&change, &number("60..", "b")).unwrap();
    next_version(&change).unwrap();
    change.commit().unwrap();
    drop(store);
    assert_eq!(hops(&map, "6001"), [""; 0]);
    let store = house.store();
    assert_eq!(hops(&map, "6001"), ["b"]);
    assert_eq!(map.version(), store.version().unwrap());
}

#[test]
fn a_change_heals_what_another_left_behind() {
    let house = House::new();
    let mut store = house.store();
    let change = store.database.db.transaction().unwrap();
    put(&change, &number("60..", "b")).unwrap();
    next_version(&change).unwrap();
    change.commit().unwrap();
    store.add(&number("50..", "a")).unwrap();
    assert_eq!(hops(&house.reader(), "6001"), ["b"]);
    assert_eq!(hops(&house.reader(), "5001"), ["a"]);
}

#[test]
fn a_lost_or_scribbled_map_is_made_anew() {
    let house = House::new();
    house.store().add(&number("50..", "a")).unwrap();
    std::fs::remove_file(house.map()).unwrap();
    drop(house.store());
    assert_eq!(hops(&house.reader(), "5001"), ["a"]);
    std::fs::write(house.map(), vec![0x55; 100_000]).unwrap();
    drop(house.store());
    assert_eq!(hops(&house.reader(), "5001"), ["a"]);
}

#[test]
fn two_writers_wait_for_each_other_and_lose_nothing() {
    const EACH: u64 = 40;
    let house = House::new();
    drop(house.store());
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let house = &house;
            scope.spawn(move || {
                let mut store = house.store();
                for n in 0..EACH {
                    let added = store.add(&number(&format!("{writer}{n:03}"), "gw")).unwrap();
                    assert!(matches!(added, Added::New(_)));
                }
            });
        }
    });
    let (store, map) = (house.store(), house.reader());
    assert_eq!((store.version().unwrap(), store.len().unwrap()), (2 * EACH, 2 * EACH));
    assert_eq!(map.version(), 2 * EACH);
    for writer in 0..2 {
        (0..EACH).for_each(|n| assert_eq!(hops(&map, &format!("{writer}{n:03}")), ["gw"]));
    }
}

#[test]
fn a_lookup_finds_something_at_every_moment_of_an_import() {
    let house = House::new();
    let mut store = house.store();
    // The two tables have no literal prefix length in common.
    let short: Vec<NewRoute> = (0..50).map(|n| number(&format!("{n:02}*"), "short")).collect();
    let long: Vec<NewRoute> = (0..500).map(|n| number(&format!("{n:03}*"), "long")).collect();
    store.import(&short, ImportMode::Replace, &mut |_| ()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let map = house.reader();
            let mut lookups = 0u64;
            while !done.load(Ordering::Relaxed) || lookups == 0 {
                assert_eq!(hops(&map, "12345").len(), 1);
                lookups += 1;
            }
            lookups
        });
        for _ in 0..5 {
            store.import(&long, ImportMode::Replace, &mut |_| ()).unwrap();
            store.import(&short, ImportMode::Replace, &mut |_| ()).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        assert!(looking.join().unwrap() > 0);
    });
}

#[test]
fn a_hundred_thousand_routes_are_one_transaction_and_one_map() {
    let house = House::new();
    let mut store = house.store();
    let rows: Vec<NewRoute> = (0..100_000u64)
        .map(|n| number(&format!("+1{n:06}*"), &format!("10.{}.{}.1", n / 256 % 256, n % 256)))
        .collect();
    let imported = store.import(&rows, ImportMode::Merge, &mut |_| ()).unwrap();
    assert_eq!(imported.added, rows.len() as u64);
    assert_eq!(store.version().unwrap(), 1);
    let map = house.reader();
    assert_eq!(hops(&map, "+1098765555"), ["10.129.205.1"]);
    store.add(&number("+10987655*", "gw")).unwrap();
    assert_eq!(hops(&map, "+1098765555"), ["gw"]);
}

#[test]
fn one_key_at_a_time_gives_the_same_as_everything_at_once() {
    let house = House::new();
    let mut store = house.store();
    let patterns = ["*", "5*", "5.", "5..", "50.", "50*", "+5*", "501", "+501"];
    let mut ids = Vec::new();
    for (n, pattern) in patterns.iter().cycle().take(40).enumerate() {
        match store.add(&number(pattern, &format!("gw{}", n % 11))).unwrap() {
            Added::New(id) => ids.push(id),
            Added::Same(_) | Added::Changed(_) => {}
        }
        if n % 3 == 2 {
            let id = ids.remove(n * 7 % ids.len());
            store.remove(id).unwrap().unwrap();
        }
    }
    let answers = |map: &RouteMap| -> BTreeMap<&str, Vec<String>> {
        let asked = ["1", "5", "50", "501", "502", "51", "5011", "+501", "+5"];
        asked.into_iter().map(|digits| (digits, hops(map, digits))).collect()
    };
    let bit_by_bit = answers(&house.reader());
    drop(store);
    std::fs::remove_file(house.map()).unwrap();
    drop(house.store());
    assert_eq!(answers(&house.reader()), bit_by_bit);
}

/// The victim of the test below, which starts it with a folder: adds routes for ever, and tells each one that the call has
/// acknowledged. In a run of all tests it has no folder and nothing to do.
#[test]
fn add_routes_until_killed() {
    let Some(folder) = std::env::var_os("VICTIM_FOLDER").map(PathBuf::from) else {
        return;
    };
    let mut store = RouteStore::open(&folder.join("sps.db"), &folder.join("routes.map")).unwrap();
    let first = store.len().unwrap();
    for n in first.. {
        let pattern = format!("{n:05}*");
        store.add(&number(&pattern, "gw")).unwrap();
        println!("added {pattern}");
    }
}

#[test]
fn kill_9_loses_nothing_that_was_acknowledged() {
    let house = House::new();
    drop(house.store());
    let map = house.reader();
    let mut acknowledged = Vec::new();
    for round in 0..12 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "routes::tests::add_routes_until_killed", "--nocapture"])
            .env("VICTIM_FOLDER", house.folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let mut heard = 0;
        while heard < 1 + round % 5 {
            let line = lines.next().expect("the victim goes on").unwrap();
            if let Some((_, pattern)) = line.split_once("added ") {
                acknowledged.push(pattern.to_string());
                heard += 1;
            }
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
        let told = lines
            .map_while(Result::ok)
            .filter_map(|line| Some(line.split_once("added ")?.1.to_string()));
        acknowledged.extend(told);
        let store = house.store();
        assert_eq!(map.version(), store.version().unwrap());
        let stored: Vec<String> = all(&store).iter().map(|route| route.selector.to_string()).collect();
        assert_eq!(stored.len() as u64, store.version().unwrap(), "one commit a route");
        for pattern in &acknowledged {
            assert!(stored.contains(pattern), "{pattern} is lost");
        }
        for pattern in &stored {
            assert_eq!(
                hops(&map, &pattern.replace('*', "1")),
                ["gw"],
                "{pattern} is stored, but not in force"
            );
        }
    }
    assert!(acknowledged.len() >= 30);
}

#[test]
fn a_database_of_a_later_version_is_left_alone() {
    let house = House::new();
    let store = house.store();
    store.database.db.pragma_update(None, "user_version", 99).unwrap();
    drop(store);
    let refused = RouteStore::open(&house.db(), &house.map()).unwrap_err();
    assert!(
        matches!(refused, Error::Open(OpenError::Newer { found: 99, .. })),
        "{refused}"
    );
}

#[test]
fn foreign_files_are_left_alone() {
    let house = House::new();
    let foreign = Connection::open(house.db()).unwrap();
    foreign.execute_batch("CREATE TABLE theirs (x)").unwrap();
    let refused = RouteStore::open(&house.db(), &house.map()).unwrap_err();
    assert!(matches!(refused, Error::Open(OpenError::Foreign(_))), "{refused}");
    let other = House::new();
    std::fs::write(other.db(), "not a database, and long enough to look at: ".repeat(30)).unwrap();
    let refused = RouteStore::open(&other.db(), &other.map()).unwrap_err();
    assert!(matches!(refused, Error::Open(OpenError::Sqlite { .. })), "{refused}");
}

#[test]
fn a_row_that_makes_no_sense_is_named() {
    let house = House::new();
    let mut store = house.store();
    store.add(&number("50..", "a")).unwrap();
    store.database.db.execute("UPDATE route SET host = 'a b'", []).unwrap();
    let refused = store.route(1).unwrap_err();
    assert!(refused.to_string().contains("row 1 of table route"), "{refused}");
}
