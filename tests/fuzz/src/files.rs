//! Files that a disk, a crash or a stranger with a key to the room has changed: opening and looking up ends, and never takes the
//! reader with it.

use sps_mapped::{Cursor, TableConf, Verify, Writer};
use sps_registry::{AorRecord, Binding, Expiry, RegistryConf, RegistryReader, RegistryWriter};
use sps_route::{Attributes, HopAddress, Host, Number, Route, RouteSet, Selector, record};
use sps_store::RouteMap;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// A small file made once, and the folder where its scribbled copies go.
struct Original {
    bytes: Vec<u8>,
}

thread_local! {
    /// One for each thread: copies of one name must not meet.
    static FOLDER: RefCell<tempfile::TempDir> = RefCell::new(folder());
}

fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir())
    } else {
        tempfile::tempdir()
    }
    .expect("a folder can be made")
}

/// `bytes` is a list of scribbles: four bytes of place, one of length, then what goes there; a length of 255 cuts the file there.
fn scribbled(original: &Original, bytes: &[u8]) -> Vec<u8> {
    let mut file = original.bytes.clone();
    let mut rest = bytes;
    while let Some((head, behind)) = rest.split_first_chunk::<5>() {
        let place = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize % original.bytes.len();
        if head[4] == 255 {
            file.truncate(place);
            rest = behind;
            continue;
        }
        let len = usize::from(head[4]).min(behind.len());
        for (at, byte) in behind[..len].iter().enumerate() {
            if let Some(there) = file.get_mut(place + at) {
                *there = *byte;
            }
        }
        rest = &behind[len..];
    }
    file
}

fn with_file(original: &Original, bytes: &[u8], look: impl FnOnce(&Path)) {
    FOLDER.with_borrow(|folder| {
        let path = folder.path().join("table");
        for entry in std::fs::read_dir(folder.path()).expect("our own folder").flatten() {
            let _ = std::fs::remove_file(entry.path());
        }
        std::fs::write(&path, scribbled(original, bytes)).expect("a small file");
        look(&path);
    });
}

fn made(name: &str, make: impl FnOnce(&PathBuf)) -> Original {
    let folder = folder();
    let path = folder.path().join(name);
    make(&path);
    Original {
        bytes: std::fs::read(&path).expect("it was just made"),
    }
}

fn registry_conf() -> RegistryConf {
    RegistryConf {
        sync_interval: None,
        initial_records: 16,
        verify: Verify::Always,
        max_file_len: Some(1 << 20),
        ..RegistryConf::default()
    }
}

/// The registry: a proxy that reads a scribbled file, and a registrar that opens it to write.
pub fn registry(bytes: &[u8]) {
    static ORIGINAL: LazyLock<Original> = LazyLock::new(|| {
        made("registry.map", |path| {
            let (mut writer, _) = RegistryWriter::open(path, &registry_conf()).expect("a new file");
            for name in ["alice", "bob", "carol", "dave"] {
                let aor = format!("sip:{name}@example.com").into_bytes();
                let binding = Binding {
                    contact: format!("sip:{name}@192.0.2.7:5060").into_bytes(),
                    expires: Expiry::At(2_000_000_000),
                    call_id: b"call@id".to_vec(),
                    path: vec![b"<sip:edge;lr>".to_vec()],
                    instance_id: Some(b"<urn:uuid:0>".to_vec()),
                    ..Binding::default()
                };
                let mut record = AorRecord {
                    aor,
                    bindings: vec![binding.clone(), binding],
                    ..AorRecord::default()
                };
                writer.put(&mut record, 1_800_000_000).expect("there is room");
            }
            writer.close().expect("it is written");
        })
    });
    with_file(&ORIGINAL, bytes, |path| {
        if let Ok(reader) = RegistryReader::open(path) {
            for name in ["alice", "bob", "carol", "dave", "nobody"] {
                let record = reader.record(format!("sip:{name}@example.com").as_bytes());
                for binding in record.iter().flat_map(|record| &record.bindings) {
                    assert!(binding.contact.len() < 65_536);
                }
            }
            let (mut cursor, mut pages) = (Cursor::START, 0);
            while let Some(next) = reader.page(cursor, 8, |record| {
                let _ = record.to_record();
            }) {
                cursor = next;
                pages += 1;
                assert!(pages < 100_000, "paging ends");
            }
        }
        if let Ok((mut writer, _)) = RegistryWriter::open(path, &registry_conf()) {
            let mut record = AorRecord {
                aor: b"sip:erin@example.com".to_vec(),
                bindings: vec![Binding::default()],
                ..AorRecord::default()
            };
            if writer.put(&mut record, 1_800_000_001).is_ok() {
                let there = writer.record(b"sip:erin@example.com");
                assert_eq!(
                    there.map(|there| there.bindings),
                    Some(record.bindings),
                    "what was just put is there"
                );
            }
            let mut expired = Vec::new();
            let mut rounds = 0;
            while writer.expire_due(2_100_000_000, 8, &mut expired) && rounds < 1000 {
                rounds += 1;
            }
            assert!(rounds < 1000, "expiry ends");
        }
    });
}

/// The compiled routes, as the proxy and `spsroute explain` read them.
pub fn routes(bytes: &[u8]) {
    static ORIGINAL: LazyLock<Original> = LazyLock::new(|| {
        made("routes.map", |path| {
            let conf = TableConf {
                initial_records: 16,
                ..TableConf::short_lived()
            };
            let (mut writer, _) = Writer::open(path, &conf).expect("a new file");
            let mut shape = record::Shape::default();
            for (id, text) in (1..).zip(["1555*", "1..", "+49*", "15550100"]) {
                put(
                    &mut writer,
                    &mut shape,
                    id,
                    Selector::Number(text.parse().expect("a pattern")),
                );
            }
            for (id, text) in (9..).zip(["example.com", "*.example.net", "*"]) {
                put(
                    &mut writer,
                    &mut shape,
                    id,
                    Selector::Domain(text.parse().expect("a domain")),
                );
            }
            writer.set_meta(0, 7);
            writer.set_meta(1, shape.prefixes);
            writer.set_meta(2, shape.domains);
            writer.close().expect("it is written");
        })
    });
    with_file(&ORIGINAL, bytes, |path| {
        let Ok(map) = RouteMap::open(path) else { return };
        let mut found = RouteSet::default();
        for number in ["15550100", "155", "+4930", "0", "123456789012345678901234567890"] {
            if let Some(number) = Number::parse(number.as_bytes()) {
                map.number(&number, &mut found);
            }
        }
        for host in ["example.com", "a.b.example.net", "x", "192.0.2.1"] {
            if let Some(host) = Host::parse(host) {
                map.domain(&host, &mut found);
            }
        }
    });
}

fn put(writer: &mut Writer, shape: &mut record::Shape, id: u64, selector: Selector) {
    shape.add(&selector);
    let key = record::key(&selector);
    let mut routes = [Route {
        id,
        selector,
        hop: "192.0.2.9:5070".parse::<HopAddress>().expect("a next hop"),
        transport: None,
        priority: 1,
        weight: 1,
        attributes: Attributes::new(),
    }];
    let mut value = Vec::new();
    record::write(&mut routes, &mut value);
    writer.put(&key, &value).expect("there is room");
}
