//! The table against a plain map, over growth, closing, dying and damage.

use crate::layout::*;
use crate::*;
use proptest::prelude::*;
use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        // In memory where there is such a place: these tests close files, which waits for the disk, by the thousand.
        let in_memory = Path::new("/dev/shm");
        let folder = if in_memory.is_dir() {
            tempfile::tempdir_in(in_memory)
        } else {
            tempfile::tempdir()
        };
        Folder(folder.expect("a folder for the test"))
    }

    fn table(&self) -> PathBuf {
        self.0.path().join("test.map")
    }
}

fn small() -> TableConf {
    TableConf {
        initial_records: 100,
        sync_interval: None,
        ..TableConf::default()
    }
}

fn open(path: &Path) -> (Writer, OpenReport) {
    Writer::open(path, &small()).unwrap()
}

fn key(n: u64) -> Vec<u8> {
    format!("sip:user-{n}@example.com").into_bytes()
}

/// Tells which key and which version it is of, in every byte.
fn value(n: u64, version: u64, len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|i| {
            (n.wrapping_mul(31)
                .wrapping_add(version.wrapping_mul(17))
                .wrapping_add(i)) as u8
        })
        .collect()
}

fn contents(writer: &Writer) -> HashMap<Vec<u8>, Vec<u8>> {
    let mut all = HashMap::new();
    let mut cursor = Some(Cursor::START);
    while let Some(at) = cursor {
        cursor = writer.scan(at, 7, |key, value| {
            assert!(all.insert(key.to_vec(), value.to_vec()).is_none(), "listed twice");
        });
    }
    all
}

#[derive(Debug, Clone)]
enum Step {
    Put(u64, usize),
    Remove(u64),
    Close,
    Die,
    DieVerify,
    ReplaceAll(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        60 => (0..3000u64, prop_oneof![0..64usize, 150..400usize, 0..5000usize]).prop_map(|(n, len)| Step::Put(n, len)),
        // Runs of insertions make it grow.
        25 => (0..3000u64).prop_map(Step::Remove),
        1 => Just(Step::Close),
        1 => Just(Step::Die),
        1 => Just(Step::DieVerify),
        1 => (0..900u64).prop_map(Step::ReplaceAll),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_behaves_like_a_map(steps in prop::collection::vec(step(), 1..1500), at_once: bool) {
        let folder = Folder::new();
        let mut conf = small();
        conf.growth = if at_once { Growth::AtOnce } else { Growth::Incremental };
        let mut model = HashMap::new();
        let mut writer = Writer::open(&folder.table(), &conf).unwrap().0;
        let reader = Reader::open(&folder.table()).unwrap();
        let mut buffer = Buffer::new();
        for (version, step) in steps.iter().enumerate() {
            match step {
                Step::Put(n, len) => {
                    // Several in a row, so that the table grows within a test's length.
                    for n in *n..*n + 4 {
                        let value = value(n, version as u64, *len);
                        writer.put(&key(n), &value).unwrap();
                        prop_assert_eq!(reader.view(&key(n), &mut buffer), Some(&value[..]));
                        model.insert(key(n), value);
                    }
                }
                Step::Remove(n) => {
                    prop_assert_eq!(writer.remove(&key(*n)), model.remove(&key(*n)).is_some());
                    prop_assert_eq!(reader.view(&key(*n), &mut buffer), None);
                }
                Step::ReplaceAll(count) => {
                    model = (0..*count).map(|n| (key(n), value(n, version as u64, 99))).collect();
                    prop_assert_eq!(writer.replace_all(&model, &[(3, version as u64)]).unwrap(), *count);
                    prop_assert_eq!(writer.meta(3), version as u64);
                    prop_assert_eq!(reader.meta(3), version as u64);
                }
                Step::Close => {
                    writer.close().unwrap();
                    let (again, report) = Writer::open(&folder.table(), &conf).unwrap();
                    prop_assert!(report.clean && !report.verified);
                    prop_assert_eq!((report.records, report.dropped), (model.len() as u64, 0));
                    writer = again;
                }
                Step::Die | Step::DieVerify => {
                    drop(writer);
                    conf.verify = if matches!(step, Step::Die) { Verify::Auto } else { Verify::Always };
                    let (again, report) = Writer::open(&folder.table(), &conf).unwrap();
                    prop_assert_eq!(report.verified, matches!(step, Step::DieVerify));
                    prop_assert_eq!((report.records, report.dropped, report.missing), (model.len() as u64, 0, 0));
                    writer = again;
                    conf.verify = Verify::Auto;
                }
            }
            prop_assert_eq!(writer.len(), model.len() as u64);
        }
        prop_assert_eq!(&contents(&writer), &model);
        let mut read = HashMap::new();
        reader.scan(Cursor::START, usize::MAX, |key, value| {
            read.insert(key.to_vec(), value.to_vec());
        });
        prop_assert_eq!(&read, &model);
        prop_assert_eq!((reader.damaged(), reader.contended()), (0, 0));
    }

    /// Whatever was done to a file: it opens, says what it dropped, gives only what was stored, and works from then on.
    #[test]
    fn a_scribbled_or_cut_file_opens_and_loses_only_what_was_hit(
        scribbles in prop::collection::vec((any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 1..200)), 0..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
        close: bool,
        seed: u64,
    ) {
        let folder = Folder::new();
        let path = folder.table();
        let (mut writer, _) = open(&path);
        let stored: HashMap<_, _> = (0..1500u64).map(|n| (key(n), value(n, seed, 20 + (n as usize * 7) % 600))).collect();
        for (key, value) in &stored {
            writer.put(key, value).unwrap();
        }
        for n in (0..1500).step_by(5) {
            writer.remove(&key(n));
        }
        let kept = contents(&writer);
        if close { writer.close().unwrap() } else { drop(writer) }

        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        let len = file.metadata().unwrap().len();
        for (at, bytes) in &scribbles {
            file.write_all_at(bytes, at.index(len as usize - 200) as u64).unwrap();
        }
        let cut_to = cut.map(|cut| cut.index(len as usize) as u64);
        if let Some(to) = cut_to {
            file.set_len(to).unwrap();
        }

        let reader = Reader::open(&path);
        let (mut writer, report) = Writer::open(&path, &TableConf { verify: Verify::Always, ..small() }).unwrap();
        let found = contents(&writer);
        // A word that was hit spoils one record, and one more if it was a chunk's.
        for (key, value) in &found {
            prop_assert_eq!(stored.get(key), Some(value));
        }
        if scribbles.is_empty() && cut_to.is_none() {
            prop_assert_eq!(&found, &kept);
        }
        prop_assert_eq!(report.records, found.len() as u64);
        if cut_to.is_none() && report.recreated.is_none() {
            let hit: usize = scribbles.iter().map(|(_, bytes)| bytes.len() / 8 + 2).sum();
            let gone = kept.keys().filter(|key| !found.contains_key(*key)).count();
            prop_assert!(gone <= hit, "{} gone of {} words hit", gone, hit);
        }
        if report.recreated.is_none() && cut_to.is_some_and(|to| to > (HEAD_LEN as u64)) && scribbles.is_empty() {
            // Said in full: what is gone is either a record that could not be read, or was counted and has no slot any more.
            let gone = (kept.len() - found.len()) as u64;
            prop_assert_eq!(report.dropped + report.missing, gone);
        }

        // A reader that was there before sees nothing but what was stored; so does one that comes now.
        for reader in reader.into_iter().chain([Reader::open(&path).unwrap()]) {
            reader.refresh();
            let mut buffer = Buffer::new();
            for (key, value) in &found {
                prop_assert_eq!(reader.view(key, &mut buffer), Some(&value[..]));
            }
        }
        for n in 0..2000 {
            writer.put(&key(n), &value(n, 1, 100)).unwrap();
        }
        for n in 0..2000 {
            prop_assert_eq!(writer.get(&key(n)).map(<[u8]>::to_vec), Some(value(n, 1, 100)));
        }
    }

    /// Damage under a mark that says "closed": what is believed is covered by checksums, or harmless.
    #[test]
    fn damage_to_a_closed_file_is_found_at_the_latest_when_it_is_touched(
        at: prop::sample::Index,
        bytes in prop::collection::vec(any::<u8>(), 1..2000),
        in_chunk_head: bool,
    ) {
        let folder = Folder::new();
        let path = folder.table();
        let (mut writer, _) = open(&path);
        for n in 0..1000 {
            writer.put(&key(n), &value(n, 0, 200)).unwrap();
        }
        let heap_at = writer.volume.shape.heap_at();
        writer.close().unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        let len = file.metadata().unwrap().len() as usize;
        let at = if in_chunk_head { heap_at + at.index(512) } else { HEAD_LEN + at.index(len - HEAD_LEN - 2000) };
        file.write_all_at(&bytes, at as u64).unwrap();

        let (mut writer, _) = open(&path);
        let reader = Reader::open(&path).unwrap();
        for n in 0..1000 {
            writer.put(&key(n), &value(n, 1, 200)).unwrap();
            writer.put(&key(n + 10_000), &value(n, 2, 200)).unwrap();
        }
        let mut buffer = Buffer::new();
        for n in 0..1000 {
            prop_assert_eq!(reader.view(&key(n), &mut buffer), Some(&value(n, 1, 200)[..]));
            prop_assert_eq!(reader.view(&key(n + 10_000), &mut buffer), Some(&value(n, 2, 200)[..]));
        }
    }
}

#[test]
fn readers_follow_growth_and_replacement() {
    let folder = Folder::new();
    let (mut writer, report) = open(&folder.table());
    assert!(report.created && report.recreated.is_none());
    let reader = Reader::open(&folder.table()).unwrap();
    let mut buffer = Buffer::new();
    for n in 0..20_000 {
        writer.put(&key(n), &value(n, 0, 100)).unwrap();
        writer.put(&key(n / 2), &value(n / 2, 1, 100)).unwrap();
        assert_eq!(reader.view(&key(n / 2), &mut buffer), Some(&value(n / 2, 1, 100)[..]));
    }
    assert!(reader.generation() > 2, "it grew {} times", reader.generation());
    assert_eq!(reader.len(), 20_000);
    writer.set_meta(0, 5);
    writer.replace_all([(b"a", b"b")], &[(1, 6)]).unwrap();
    assert_eq!(reader.view(b"a", &mut buffer), Some(&b"b"[..]));
    assert_eq!(reader.view(&key(1), &mut buffer), None);
    assert_eq!((reader.meta(0), reader.meta(1), reader.len()), (5, 6, 1));
}

#[test]
fn a_replacement_that_is_dropped_changes_nothing() {
    let folder = Folder::new();
    let (mut writer, _) = open(&folder.table());
    writer.put(b"a", b"1").unwrap();
    let mut replacement = writer.replacement(10).unwrap();
    for n in 0..10_000 {
        replacement.put(&key(n), b"x").unwrap();
    }
    assert_eq!(replacement.len(), 10_000);
    assert_eq!(replacement.get(&key(9)), Some(&b"x"[..]));
    replacement.set_meta(0, 9);
    drop(replacement);
    assert_eq!(
        (writer.len(), writer.get(b"a"), writer.meta(0)),
        (1, Some(&b"1"[..]), 0)
    );
    let left: Vec<_> = std::fs::read_dir(folder.0.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn only_one_writer() {
    let folder = Folder::new();
    let (writer, _) = open(&folder.table());
    match Writer::open(&folder.table(), &small()) {
        Err(OpenError::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    drop(writer);
    open(&folder.table());
}

#[test]
fn a_table_that_is_not_there_yet_reads_as_empty() {
    let folder = Folder::new();
    assert!(matches!(Reader::open(&folder.table()), Err(OpenError::Missing(_))));
    let reader = Reader::open_or_wait(&folder.table());
    assert_eq!(
        (reader.get(b"a", &mut Vec::new()), reader.generation(), reader.meta(0)),
        (None, 0, 0)
    );
    assert!(!reader.refresh());
    let (mut writer, _) = open(&folder.table());
    writer.put(b"a", b"b").unwrap();
    assert!(reader.refresh());
    let mut out = b"old".to_vec();
    assert_eq!((reader.get(b"a", &mut out), &out[..]), (Some(1), &b"b"[..]));
}

#[test]
fn what_is_no_table_is_moved_aside_or_refused() {
    let folder = Folder::new();
    let path = folder.table();
    std::fs::write(&path, b"something else").unwrap();
    let refuse = TableConf {
        on_damage: OnDamage::Refuse,
        ..small()
    };
    assert!(matches!(Writer::open(&path, &refuse), Err(OpenError::Damaged { .. })));
    assert!(matches!(Reader::open(&path), Err(OpenError::Damaged { .. })));
    let (_writer, report) = open(&path);
    assert!(report.created && report.recreated.is_some());
    assert_eq!(
        std::fs::read(folder.0.path().join("test.map.damaged")).unwrap(),
        b"something else"
    );
}

#[test]
fn a_damaged_head_is_mended_from_its_copy() {
    let folder = Folder::new();
    let path = folder.table();
    let (mut writer, _) = open(&path);
    writer.put(b"a", b"b").unwrap();
    writer.close().unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0; 64], 0).unwrap();
    let (writer, report) = open(&path);
    assert_eq!((report.records, report.recreated, report.verified), (1, None, true));
    assert_eq!(writer.get(b"a"), Some(&b"b"[..]));
    assert_eq!(&std::fs::read(&path).unwrap()[..8], b"SPStable");
}

#[test]
fn sizes_at_the_limits() {
    let folder = Folder::new();
    let (mut writer, _) = open(&folder.table());
    let reader = Reader::open(&folder.table()).unwrap();
    let (key, longest) = (vec![b'k'; MAX_KEY_LEN], vec![b'v'; MAX_RECORD_LEN - MAX_KEY_LEN]);
    for round in 0..20 {
        writer.put(&key, &longest).unwrap();
        assert_eq!(
            reader.view(&key, &mut Buffer::new()),
            Some(&longest[..]),
            "round {round}"
        );
    }
    writer.put(b"k", b"").unwrap();
    assert_eq!(reader.view(b"k", &mut Buffer::new()), Some(&b""[..]));
    for (key, value) in [
        (&key[..], MAX_RECORD_LEN),
        (&b""[..], 1),
        (&[b'k'; MAX_KEY_LEN + 1][..], 1),
    ] {
        assert!(matches!(writer.put(key, &vec![0; value]), Err(PutError::Size { .. })));
    }
}

/// Full: what is there can be rewritten, removed and read; nothing else changes.
fn a_full_table_goes_on(conf: &TableConf, path: &Path) {
    let (mut writer, _) = Writer::open(path, conf).unwrap();
    let reader = Reader::open(path).unwrap();
    let mut stored = 0;
    let mut buffer = Buffer::new();
    for round in 1..4 {
        // The last round's tries to grow may have left room for a few more.
        loop {
            match writer.put(&key(stored), &value(stored, 0, 300)) {
                Ok(()) => stored += 1,
                Err(PutError::Full) => break,
                Err(other) => panic!("{other}"),
            }
            assert!(stored < 1_000_000, "never full");
        }
        assert!(stored > 100);
        for n in 0..stored {
            writer.put(&key(n), &value(n, round, 300)).unwrap();
            assert_eq!(reader.view(&key(n), &mut buffer), Some(&value(n, round, 300)[..]));
        }
    }
    assert!(writer.stats().refused > 0);
    // Opening a full one needs no room either.
    drop(writer);
    let (mut writer, report) = Writer::open(path, conf).unwrap();
    assert_eq!((report.records, report.dropped), (stored, 0));
    for n in 0..stored {
        writer.put(&key(n), &value(n, 9, 300)).unwrap();
    }
    assert!(writer.remove(&key(0)) && writer.remove(&key(1)));
    // Slots may be as scarce as room: the one that was left is sure to be in reach.
    writer.put(&key(0), &value(0, 0, 300)).unwrap();
    assert_eq!(writer.len(), stored - 1);
    writer.close().unwrap();
}

#[test]
fn a_table_at_its_greatest_length_goes_on() {
    let folder = Folder::new();
    let conf = TableConf {
        max_file_len: Some(3 << 20),
        ..small()
    };
    a_full_table_goes_on(&conf, &folder.table());
}

/// A disk of 4 MiB, where the machine lets us make one.
#[test]
fn a_table_on_a_full_disk_goes_on() {
    let folder = Folder::new();
    let disk = folder.0.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mount = |program: &str, arguments: &[&str]| {
        let done = std::process::Command::new(program).args(arguments).arg(&disk).output();
        done.is_ok_and(|output| output.status.success())
    };
    if !mount("mount", &["-t", "tmpfs", "-o", "size=4m", "none"]) {
        eprintln!("skipped: making a small file system needs the rights to mount one");
        return;
    }
    let result = std::panic::catch_unwind(|| a_full_table_goes_on(&small(), &disk.join("test.map")));
    assert!(mount("umount", &[]));
    result.unwrap();
}

#[test]
fn a_listing_over_growth_misses_nothing() {
    let folder = Folder::new();
    let (mut writer, _) = open(&folder.table());
    for n in 0..600 {
        writer.put(&key(n), b"there all the while").unwrap();
    }
    let reader = Reader::open(&folder.table()).unwrap();
    let mut seen = std::collections::HashSet::new();
    let mut cursor = Some(Cursor::START);
    let mut more = 1000;
    while let Some(at) = cursor {
        cursor = reader.scan(at, 100, |key, _| {
            seen.insert(key.to_vec());
        });
        for _ in 0..50 {
            more += 1;
            writer.put(&key(more), b"comes meanwhile").unwrap();
        }
        assert!(more < 1_000_000, "no end of it");
    }
    assert!(reader.generation() > 1);
    assert!((0..600).all(|n| seen.contains(&key(n))));
    // A cursor from nowhere is no danger.
    for word in [1, u64::MAX, 1 << 63, 0xffff << 30 | 63] {
        reader.scan(Cursor::from_u64(word), 3, |_, _| {});
        writer.scan(Cursor::from_u64(word), 3, |_, _| {});
    }
}

#[test]
fn a_record_is_found_by_its_hash() {
    let folder = Folder::new();
    let (mut writer, _) = open(&folder.table());
    for n in 0..1000 {
        writer.put(&key(n), &value(n, 0, 10)).unwrap();
    }
    let hash = writer.hash(&key(77));
    assert_eq!(
        writer.get_hashed(hash, |_| true),
        Some((&key(77)[..], &value(77, 0, 10)[..]))
    );
    assert_eq!(writer.get_hashed(hash, |_| false), None);
    writer.remove(&key(77));
    assert_eq!(writer.get_hashed(hash, |_| true), None);
}

#[test]
fn places_are_used_again() {
    let folder = Folder::new();
    let (mut writer, _) = open(&folder.table());
    for round in 0..200 {
        for n in 0..500 {
            writer
                .put(&key(n), &value(n, round, 100 + (round as usize * 13) % 300))
                .unwrap();
        }
        for n in 0..500 {
            if (n + round) % 3 == 0 {
                writer.remove(&key(n));
            }
        }
    }
    assert!(writer.stats().file_len < 8 << 20, "{:?}", writer.stats());
}

/// Root works on a folder of the daemons' user: they must be able to open what comes of it.
#[test]
fn what_root_makes_belongs_to_the_owner_of_the_folder() {
    use std::os::unix::fs::{MetadataExt, chown};
    let folder = Folder::new();
    if chown(folder.0.path(), Some(1234), Some(1235)).is_err() {
        eprintln!("skipped: only root can give folders away");
        return;
    }
    let (mut writer, _) = open(&folder.table());
    writer.replace_all([(b"a", b"b")], &[]).unwrap();
    CountersPage::create(&folder.0.path().join("counters.map"), &["a"], &["b"]).unwrap();
    for entry in std::fs::read_dir(folder.0.path()).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        assert_eq!(
            (metadata.uid(), metadata.gid()),
            (1234, 1235),
            "{:?}",
            entry.file_name()
        );
    }
}

/// Memory outlives processes, not a power cut: records are read again after the second, unless the file had been closed.
#[test]
fn another_start_of_the_machine_is_distrusted_unless_the_file_was_closed() {
    let folder = Folder::new();
    let path = folder.table();
    let restart_machine = || {
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[0x5a; 16], BOOT_ID_AT as u64).unwrap();
    };
    let (mut writer, _) = open(&path);
    for n in 0..1000 {
        writer.put(&key(n), &value(n, 0, 100)).unwrap();
    }
    // A record that reached the disk in part.
    let slot = match writer.volume.find(writer.hash(&key(7)), &key(7)) {
        crate::volume::Place::Found { slot, .. } => slot,
        other => panic!("{other:?}"),
    };
    let file = writer.volume.map.file().clone();
    drop(writer);
    file.write_all_at(&[0xff; 8], slot.at() as u64 + 64).unwrap();
    restart_machine();
    let (writer, report) = open(&path);
    assert_eq!((report.verified, report.dropped, report.records), (true, 1, 999));
    assert_eq!((writer.get(&key(7)), writer.get(&key(8)).is_some()), (None, true));
    writer.close().unwrap();
    restart_machine();
    let (writer, report) = open(&path);
    assert_eq!(
        (report.verified, report.clean, report.dropped, report.records),
        (false, true, 0, 999)
    );
    drop(writer);
    // The same start of the machine: killed, and yet believed.
    assert!(!open(&path).1.verified);
}
