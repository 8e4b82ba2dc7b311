//! Which server transaction a request belongs to (RFC 3261 §17.2.3).
//!
//! Holds places alone; the fingerprint itself lies with the transaction.

use hashbrown::HashTable;

use super::context::{Context, Fingerprint};
use crate::table::Table;

/// See the module.
#[derive(Default)]
pub(super) struct Matching(HashTable<u32>);

impl Matching {
    /// The transaction of this fingerprint.
    pub fn find<W>(&self, contexts: &Table<Context<W>>, fingerprint: Fingerprint) -> Option<u32> {
        let is_it = |place: &u32| fingerprint_at(contexts, *place) == Some(fingerprint);
        self.0.find(fingerprint.hash(), is_it).copied()
    }

    /// Notes a transaction that has been put into `contexts`. A later one of the same fingerprint hides an earlier one.
    pub fn insert<W>(&mut self, contexts: &Table<Context<W>>, fingerprint: Fingerprint, place: u32) {
        let hash_of = |place: &u32| fingerprint_at(contexts, *place).map_or(0, Fingerprint::hash);
        let is_it = |place: &u32| fingerprint_at(contexts, *place) == Some(fingerprint);
        match self.0.find_mut(fingerprint.hash(), is_it) {
            Some(known) => *known = place,
            None => drop(self.0.insert_unique(fingerprint.hash(), place, hash_of)),
        }
    }

    /// Forgets a transaction; it is still in `contexts`.
    pub fn remove<W>(&mut self, contexts: &Table<Context<W>>, fingerprint: Fingerprint, place: u32) {
        if let Ok(found) = self.0.find_entry(fingerprint.hash(), |known| *known == place) {
            found.remove();
        }
        // After a storm the room is given back; the others are there to be hashed anew.
        if self.0.capacity() > LEAST && self.0.len() < self.0.capacity() / 8 {
            let hash_of = |place: &u32| fingerprint_at(contexts, *place).map_or(0, Fingerprint::hash);
            self.0.shrink_to(self.0.len() * 2, hash_of);
        }
    }
}

/// Below this many nothing is worth giving back.
const LEAST: usize = 4096;

fn fingerprint_at<W>(contexts: &Table<Context<W>>, place: u32) -> Option<Fingerprint> {
    contexts.get(place as usize)?.fingerprint
}
