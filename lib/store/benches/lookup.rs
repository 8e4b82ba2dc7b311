//! A lookup with ten routes and with a million, and what one more route costs then. `cargo bench -p sps-store`

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use sps_route::{Attributes, Number, RouteSet, Selector};
use sps_store::{ImportMode, NewRoute, RouteMap, RouteStore};
use std::sync::OnceLock;
use tempfile::TempDir;

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

const SIZES: [u64; 2] = [10, 1_000_000];

/// Made once for each size.
fn table(size: u64) -> &'static TempDir {
    static TABLES: [OnceLock<TempDir>; 2] = [OnceLock::new(), OnceLock::new()];
    TABLES[usize::from(size != SIZES[0])].get_or_init(|| {
        let folder = TempDir::new().expect("a folder for the table");
        let mut routes: Vec<NewRoute> = (0..size - 2).map(|n| route(&format!("+1{n:08}*"), n)).collect();
        // Other lengths, so that a lookup has to probe more than once.
        routes.push(route("+1*", 1));
        routes.push(route("+1408....", 2));
        store(&folder)
            .import(&routes, ImportMode::Merge, &mut |_| ())
            .expect("the import succeeds");
        folder
    })
}

fn store(folder: &TempDir) -> RouteStore {
    RouteStore::open(&folder.path().join("sps.db"), &folder.path().join("routes.map")).expect("the store opens")
}

fn route(pattern: &str, n: u64) -> NewRoute {
    NewRoute {
        selector: Selector::Number(pattern.parse().expect("a pattern")),
        hop: format!("10.{}.{}.{}:5060", n >> 16 & 255, n >> 8 & 255, n & 255)
            .parse()
            .expect("a next hop"),
        transport: None,
        priority: 1,
        weight: 1,
        attributes: Attributes::new(),
    }
}

/// One iteration looks up [`NUMBERS`] numbers all over the table.
fn look_up(bencher: Bencher, size: u64, number: impl Fn(u64) -> String) {
    let map = RouteMap::open(&table(size).path().join("routes.map")).expect("the map opens");
    let spread = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (size - 2);
    let numbers: Vec<Number> = (0..NUMBERS)
        .map(|n| Number::parse(number(spread(n)).as_bytes()).expect("a number"))
        .collect();
    let mut found = RouteSet::default();
    let mut look_at_all = || {
        for number in &numbers {
            map.number(black_box(number), &mut found);
            assert_eq!(found.entries().len(), 1);
        }
    };
    // The first touch of each page of the file is the kernel's work.
    look_at_all();
    bencher.counter(ItemsCount::new(NUMBERS)).bench_local(look_at_all);
}

const NUMBERS: u64 = 10_000;

#[divan::bench(args = SIZES)]
fn longest_prefix(bencher: Bencher, size: u64) {
    look_up(bencher, size, |n| format!("+1{n:08}55"));
}

#[divan::bench(args = SIZES)]
fn shortest_prefix(bencher: Bencher, size: u64) {
    look_up(bencher, size, |n| format!("+19{n:08}"));
}

#[divan::bench(args = SIZES, sample_count = 20)]
fn add_and_remove_one(bencher: Bencher, size: u64) {
    let mut store = store(table(size));
    let wanted = route("+19999999999", 9);
    bencher.bench_local(|| {
        let sps_store::Added::New(id) = store.add(&wanted).expect("it is added") else {
            panic!("it was there")
        };
        store.remove(id).expect("it is removed");
    });
}

/// What each command does first.
#[divan::bench(args = SIZES, sample_count = 20)]
fn open(size: u64) -> RouteStore {
    store(table(size))
}
