//! The registrar's end: storing, expiring, listing, following.

use super::*;
use crate::{Binding, Change, RegistryReader};
use std::collections::BTreeMap;

fn conf() -> RegistryConf {
    RegistryConf {
        member: 3,
        kept_changes: 4,
        sync_interval: None,
        ..RegistryConf::default()
    }
}

struct Bench {
    folder: tempfile::TempDir,
    writer: RegistryWriter,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let writer = RegistryWriter::open(&folder.path().join("registry.map"), &conf())
            .unwrap()
            .0;
        Bench { folder, writer }
    }

    fn reopen(self) -> Bench {
        let Bench { folder, writer } = self;
        drop(writer);
        let writer = RegistryWriter::open(&folder.path().join("registry.map"), &conf())
            .unwrap()
            .0;
        Bench { folder, writer }
    }

    fn reader(&self) -> RegistryReader {
        RegistryReader::open(&self.folder.path().join("registry.map")).unwrap()
    }

    fn put(&mut self, aor: &str, ends: &[Option<u64>], now: u64) -> Version {
        self.writer.put(&mut record(aor, ends), now).unwrap()
    }

    /// Contacts that end by `now`, by AOR and time.
    fn expire(&mut self, now: u64) -> Vec<(String, u64)> {
        let mut expired = Vec::new();
        while self.writer.expire_due(now, 10, &mut expired) {}
        let mut ended: Vec<_> = expired
            .into_iter()
            .map(|gone| (String::from_utf8(gone.aor).unwrap(), gone.at))
            .collect();
        ended.sort();
        ended
    }
}

fn record(aor: &str, ends: &[Option<u64>]) -> AorRecord {
    let binding = |end: &Option<u64>| Binding {
        contact: format!("sip:phone@192.0.2.1:{}", end.unwrap_or(0)).into_bytes(),
        expires: end.map_or(Expiry::Permanent, Expiry::At),
        ..Binding::default()
    };
    AorRecord {
        aor: aor.as_bytes().to_vec(),
        to_uri: aor.as_bytes().to_vec(),
        bindings: ends.iter().map(binding).collect(),
        ..AorRecord::default()
    }
}

fn gone(aor: &str, at: u64) -> (String, u64) {
    (aor.to_owned(), at)
}

#[test]
fn what_is_stored_is_found_by_both_ends() {
    let mut bench = Bench::new();
    let mut alice = record("sip:alice@example.com", &[Some(100), None]);
    alice.rules_hash = 7;
    let version = bench.writer.put(&mut alice, 10).unwrap();
    assert_eq!(
        (version, alice.version),
        (
            Version {
                time: 10,
                counter: 1,
                member: 3
            },
            version
        )
    );
    assert_eq!(bench.writer.record(&alice.aor), Some(alice.clone()));
    let reader = bench.reader();
    assert_eq!(reader.record(&alice.aor), Some(alice.clone()));
    let contacts = |now| {
        reader.lookup(&alice.aor, &mut sps_mapped::Buffer::new(), |view| {
            view.current(now).count()
        })
    };
    assert_eq!((contacts(99), contacts(100)), (Some(2), Some(1)));
    assert_eq!(reader.record(b"sip:bob@example.com"), None);
    assert!(bench.writer.remove(&alice.aor, 20) && !bench.writer.remove(&alice.aor, 20));
    assert_eq!((reader.record(&alice.aor), reader.len()), (None, 0));
}

#[test]
fn a_record_without_bindings_is_removed() {
    let mut bench = Bench::new();
    bench.put("sip:a@example.com", &[Some(100)], 1);
    bench.put("sip:a@example.com", &[], 2);
    assert_eq!(bench.writer.len(), 0);
    let versions: Vec<_> = bench
        .writer
        .take_changes()
        .changes
        .iter()
        .map(|c| (c.version.counter, c.removed))
        .collect();
    assert_eq!(versions, [(1, false), (2, true)]);
}

#[test]
fn bindings_end_in_their_second() {
    let mut bench = Bench::new();
    bench.put("sip:a@example.com", &[Some(100), Some(200), None], 1);
    bench.put("sip:b@example.com", &[Some(100)], 1);
    bench.put("sip:c@example.com", &[None], 1);
    assert_eq!(bench.writer.next_expiry(), Some(100));
    assert_eq!(bench.expire(99), []);
    assert_eq!(
        bench.expire(100),
        [gone("sip:a@example.com", 100), gone("sip:b@example.com", 100)]
    );
    assert_eq!(bench.writer.len(), 2);
    assert_eq!(bench.writer.record(b"sip:a@example.com").unwrap().bindings.len(), 2);
    assert_eq!(bench.writer.next_expiry(), Some(200));
    assert_eq!(bench.expire(1000), [gone("sip:a@example.com", 200)]);
    assert_eq!((bench.writer.next_expiry(), bench.writer.len()), (None, 2));
}

#[test]
fn a_refreshed_binding_stays() {
    let mut bench = Bench::new();
    bench.put("sip:a@example.com", &[Some(100)], 1);
    bench.put("sip:a@example.com", &[Some(180)], 90);
    assert_eq!(bench.expire(179), []);
    // An earlier end than before counts at once.
    bench.put("sip:a@example.com", &[Some(500)], 179);
    bench.put("sip:a@example.com", &[Some(190)], 179);
    assert_eq!(bench.expire(190), [gone("sip:a@example.com", 190)]);
}

#[test]
fn ends_are_known_again_after_opening() {
    let mut bench = Bench::new();
    let count = QUEUED_AT_ONCE as u64 + 100;
    for n in 0..count {
        bench.put(&format!("sip:{n}@example.com"), &[Some(1000 + n % 7)], 1);
    }
    let mut bench = bench.reopen();
    assert_eq!(bench.writer.next_expiry(), Some(0));
    // Changed before everything is known again.
    bench.put("sip:5@example.com", &[Some(5000)], 2);
    bench.put("sip:new@example.com", &[Some(50)], 2);
    let ended = bench.expire(1003);
    let (_, kept): (Vec<u64>, Vec<u64>) = (0..count).partition(|n| n % 7 <= 3);
    assert_eq!(ended.len() as u64, count - kept.len() as u64 + 1);
    assert_eq!(bench.writer.len(), kept.len() as u64);
    assert_eq!(bench.expire(4999).len(), kept.len() - 1);
    assert_eq!(bench.expire(5000), [gone("sip:5@example.com", 5000)]);
    assert!(bench.writer.is_empty());
}

/// Against a plain model, with growth, over many seconds: everything ends exactly once and in time.
#[test]
fn expiry_agrees_with_a_model() {
    let mut bench = Bench::new();
    let mut model: BTreeMap<String, u64> = BTreeMap::new();
    let mut random = 1u64;
    let mut next = || {
        random = random
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        random >> 33
    };
    for now in 1000..1400 {
        for _ in 0..100 {
            let aor = format!("sip:{}@example.com", next() % 5000);
            match next() % 10 {
                0 => {
                    assert_eq!(bench.writer.remove(aor.as_bytes(), now), model.remove(&aor).is_some());
                }
                _ => {
                    let end = now + 1 + next() % 120;
                    bench.put(&aor, &[Some(end)], now);
                    model.insert(aor, end);
                }
            }
        }
        let mut due: Vec<_> = model
            .iter()
            .filter(|(_, end)| **end <= now)
            .map(|(a, e)| (a.clone(), *e))
            .collect();
        due.sort();
        model.retain(|_, end| *end > now);
        assert_eq!(bench.expire(now), due, "at {now}");
        if now % 97 == 0 {
            bench = bench.reopen();
        }
        // Reminders do not pile up: each is at most a record, or waits for an end that was moved.
        assert!(bench.writer.queue.len() <= 3 * 5000);
    }
    assert_eq!(bench.writer.len(), model.len() as u64);
}

#[test]
fn versions_only_rise() {
    let mut bench = Bench::new();
    let first = bench.put("sip:a@example.com", &[None], 100);
    let second = bench.put("sip:a@example.com", &[None], 50);
    assert!(second > first, "{second:?}");
    let mut bench = bench.reopen();
    assert!(bench.put("sip:a@example.com", &[None], 50) > second);

    let mut foreign = record("sip:a@example.com", &[None]);
    foreign.version = Version {
        time: 99,
        counter: 1000,
        member: 9,
    };
    assert!(!bench.writer.put_foreign(&foreign).unwrap());
    foreign.version = Version {
        time: 101,
        counter: 1000,
        member: 9,
    };
    assert!(bench.writer.put_foreign(&foreign).unwrap());
    assert!(!bench.writer.put_foreign(&foreign).unwrap());
    assert!(bench.put("sip:a@example.com", &[None], 101) > foreign.version);
}

#[test]
fn the_feed_says_when_it_lost_something() {
    let mut bench = Bench::new();
    for n in 0..4 {
        bench.put(&format!("sip:{n}@example.com"), &[None], 1);
    }
    let all = bench.writer.take_changes();
    assert_eq!((all.changes.len(), all.lost), (4, false));
    let version = Version {
        time: 1,
        counter: 1,
        member: 3,
    };
    assert_eq!(
        all.changes[0],
        Change {
            aor: b"sip:0@example.com".to_vec(),
            version,
            removed: false
        }
    );
    for n in 0..5 {
        bench.put(&format!("sip:{n}@example.com"), &[None], 1);
    }
    let some = bench.writer.take_changes();
    assert_eq!((some.changes.len(), some.lost), (4, true));
    assert_eq!(bench.writer.take_changes(), Changes::default());
}

#[test]
fn pages_come_to_an_end() {
    let mut bench = Bench::new();
    for n in 0..1000 {
        bench.put(&format!("sip:{n}@example.com"), &[None], 1);
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut cursor = Some(Cursor::START);
    while let Some(at) = cursor {
        let mut here = 0;
        cursor = bench.writer.page(at, 64, |view| {
            here += 1;
            assert!(seen.insert(view.aor().to_vec()));
        });
        assert!(here == 64 || cursor.is_none());
    }
    assert_eq!(seen.len(), 1000);
}

#[test]
fn a_record_too_long_is_refused_and_nothing_changes() {
    let mut bench = Bench::new();
    let version = bench.put("sip:a@example.com", &[Some(100)], 1);
    let mut long = record("sip:a@example.com", &[Some(200)]);
    long.bindings[0].contact = vec![b'x'; 70_000];
    assert!(matches!(bench.writer.put(&mut long, 2), Err(PutError::Size { .. })));
    assert_eq!(bench.writer.get(b"sip:a@example.com").unwrap().version(), version);
    assert_eq!(long.version, Version::default());
}
