//! The registry file: a lookup from another mapping, and a refresh by its writer.

use std::hint::black_box;
use std::path::Path;

use sps_registry::{AorRecord, Binding, Buffer, Expiry, RegistryConf, RegistryReader, RegistryWriter};
use sps_wire::{Flow, Transport};

const RECORDS: u64 = 10_000;
const NOW: u64 = 1_900_000_000;

pub fn lookup(turns: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("registry.map");
    let _writer = filled(&path);
    let reader = RegistryReader::open(&path).expect("it was just written");
    let (aors, mut buffer) = (aors(), Buffer::new());
    for turn in 0..turns {
        let found = reader.lookup(&aors[place(turn)], &mut buffer, |view| {
            view.current(NOW).map(|binding| binding.contact.len()).sum::<usize>()
        });
        assert!(black_box(found).is_some());
    }
}

pub fn refresh(turns: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut registry = filled(&folder.path().join("registry.map"));
    let aors = aors();
    for turn in 0..turns {
        let mut record = registry.record(&aors[place(turn)]).expect("it was stored");
        record.bindings[0].cseq += 1;
        record.bindings[0].expires = Expiry::At(NOW + 7200);
        registry.put(&mut record, NOW + 1).expect("room");
    }
}

fn filled(path: &Path) -> RegistryWriter {
    let (mut registry, _) = RegistryWriter::open(path, &RegistryConf::default()).expect("a new file");
    for n in 0..RECORDS {
        registry.put(&mut phone(n), NOW).expect("room");
    }
    registry
}

/// Spread over the table, each in its turn.
fn place(turn: u64) -> usize {
    (turn.wrapping_mul(7_919) % RECORDS) as usize
}

fn aors() -> Vec<Vec<u8>> {
    (0..RECORDS).map(aor).collect()
}

fn aor(n: u64) -> Vec<u8> {
    format!("sip:user.{n:07}@example.com").into_bytes()
}

fn phone(n: u64) -> AorRecord {
    let flow = Flow {
        member: 0,
        transport: Transport::Udp,
        local: ([192, 0, 2, 1], 5060).into(),
        remote: ([198, 51, 100, 77], 31337).into(),
        connection: 0,
    };
    AorRecord {
        aor: aor(n),
        to_uri: aor(n),
        bindings: vec![Binding {
            contact: format!("sip:user.{n:07}@10.0.0.17:5060;transport=udp;ob").into_bytes(),
            call_id: format!("3c26709b6d1f-{n:014x}@10.0.0.17").into_bytes(),
            cseq: 1,
            expires: Expiry::At(NOW + 3600 + n % 3600),
            instance_id: Some(b"<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>".to_vec()),
            reg_id: Some(1),
            handling: None,
            flow: Some(flow),
            received: Some(flow.remote),
            user_agent: Some(b"Example Phone 5 1.2.3.4567".to_vec()),
            ..Binding::default()
        }],
        ..AorRecord::default()
    }
}
