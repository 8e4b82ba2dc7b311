//! The protocol between writer and reader under a model checker: every interleaving, and every order in which the memory model lets one
//! processor see another's stores. `cargo test -p sps-mapped model` runs it; the code is that of [`crate::protocol`] itself.

use crate::protocol::{self, Words};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, fence};
use loom::thread;
use std::sync::atomic::Ordering;

/// Two places of two words each, and the slot. What the protocol calls `at` counts bytes.
struct Memory(Vec<AtomicU64>);

const SLOT: usize = 0;
const PLACES: [usize; 2] = [8, 24];

impl Words for Memory {
    fn load(&self, at: usize, order: Ordering) -> u64 {
        self.0[at / 8].load(order)
    }

    fn store(&self, at: usize, word: u64, order: Ordering) {
        self.0[at / 8].store(word, order);
    }

    fn fence(&self, order: Ordering) {
        fence(order);
    }
}

impl Memory {
    fn new() -> Arc<Memory> {
        let memory = Memory((0..5).map(|_| AtomicU64::new(0)).collect());
        protocol::lay(&memory, PLACES[0], &[1, 1]);
        protocol::turn(&memory, SLOT, slot(0, 1));
        Arc::new(memory)
    }

    /// As [`crate::Reader`] does: copies until the slot stands still. Gives the version.
    fn read(&self) -> Option<u64> {
        for _ in 0..3 {
            let slot = protocol::look(self, SLOT);
            let mut copy = [0; 2];
            if protocol::take(self, SLOT, slot, PLACES[(slot & 1) as usize], &mut copy) {
                assert_eq!(copy[0], copy[1], "torn");
                assert_eq!(copy[0], slot >> 1, "not the record that the slot pointed to");
                return Some(copy[0]);
            }
        }
        None
    }
}

/// A slot names the place and, as a sequence number does, the version: a place that is taken again looks different.
fn slot(place: u64, version: u64) -> u64 {
    version << 1 | place
}

/// Two changes: the second takes the place that the first has left.
#[test]
fn a_record_is_never_torn_though_its_place_is_taken_again() {
    loom::model(|| {
        let memory = Memory::new();
        let theirs = memory.clone();
        let writer = thread::spawn(move || {
            for version in 2..4 {
                let place = (version + 1) & 1;
                protocol::lay(&*theirs, PLACES[place as usize], &[version, version]);
                protocol::turn(&*theirs, SLOT, slot(place, version));
            }
        });
        let first = memory.read();
        let second = memory.read();
        if let (Some(first), Some(second)) = (first, second) {
            assert!(second >= first, "went back");
        }
        writer.join().expect("the writer ends");
        assert_eq!(memory.read(), Some(3));
    });
}

/// The model is worth something only if it notices a fault: here the writer leaves out its fence.
#[test]
#[should_panic(expected = "torn")]
fn the_model_notices_a_writer_without_a_fence() {
    loom::model(|| {
        let memory = Memory::new();
        let theirs = memory.clone();
        let writer = thread::spawn(move || {
            for version in 2..4 {
                let place = (version + 1) & 1;
                theirs.paste(PLACES[place as usize], &[version, version]);
                protocol::turn(&*theirs, SLOT, slot(place, version));
            }
        });
        memory.read();
        writer.join().expect("the writer ends");
    });
}

/// And here the reader does not look at the slot again.
#[test]
#[should_panic(expected = "torn")]
fn the_model_notices_a_reader_that_looks_once() {
    loom::model(|| {
        let memory = Memory::new();
        let theirs = memory.clone();
        let writer = thread::spawn(move || {
            for version in 2..4 {
                let place = (version + 1) & 1;
                protocol::lay(&*theirs, PLACES[place as usize], &[version, version]);
                protocol::turn(&*theirs, SLOT, slot(place, version));
            }
        });
        let slot = protocol::look(&*memory, SLOT);
        let mut copy = [0; 2];
        memory.copy(PLACES[(slot & 1) as usize], &mut copy);
        assert_eq!(copy[0], copy[1], "torn");
        writer.join().expect("the writer ends");
    });
}
