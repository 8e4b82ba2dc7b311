//! A page of named counters in a mapped file: many writers, each with a block of its own, and anybody reading.

use crate::OpenError;
use std::path::Path;

/// The writing end: made by one process, attached to by others.
#[derive(Debug, Clone)]
pub struct CountersPage {}

impl CountersPage {
    /// Makes the file anew (replacing one that is there): `names` are the counters, the same in every block; `blocks` the blocks, one for
    /// each process or worker ("proxy/0"). All counters are 0. Names and labels are at most 47 bytes.
    ///
    /// # Errors
    /// The machine's; a name too long or too many is [`OpenError::Foreign`].
    pub fn create(_path: &Path, _names: &[&str], _blocks: &[&str]) -> Result<Self, OpenError> {
        unimplemented!()
    }

    /// Maps a file that [`CountersPage::create`] made, to count in it.
    ///
    /// # Errors
    /// As [`CountersReader::open`].
    pub fn attach(_path: &Path) -> Result<Self, OpenError> {
        unimplemented!()
    }

    /// The block of that label. Two writers of one block are safe but share cache lines.
    pub fn block(&self, _label: &str) -> Option<Counters> {
        unimplemented!()
    }
}

/// One block of counters.
#[derive(Debug, Clone)]
pub struct Counters {}

impl Counters {
    /// The counter of that name; look it up once and keep it.
    pub fn counter(&self, _name: &str) -> Option<Counter> {
        unimplemented!()
    }
}

/// One counter. Cheap to clone; holds the mapping.
#[derive(Debug, Clone)]
pub struct Counter {}

impl Counter {
    /// A counter that is in no page, for tests and for running without one.
    pub fn detached() -> Self {
        unimplemented!()
    }

    /// Adds.
    pub fn add(&self, _n: u64) {
        unimplemented!()
    }

    /// Subtracts: for gauges. Wraps below 0.
    pub fn sub(&self, _n: u64) {
        unimplemented!()
    }

    /// Sets: for gauges.
    pub fn set(&self, _n: u64) {
        unimplemented!()
    }

    /// Reads.
    pub fn value(&self) -> u64 {
        unimplemented!()
    }
}

/// The reading end.
#[derive(Debug)]
pub struct CountersReader {}

/// What a block said at one time; each counter is read by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSnapshot {
    /// "proxy/0".
    pub label: String,
    /// Name and value, in the order they were made.
    pub values: Vec<(String, u64)>,
}

impl CountersReader {
    /// Maps the file.
    ///
    /// # Errors
    /// [`OpenError::Missing`], or as named.
    pub fn open(_path: &Path) -> Result<Self, OpenError> {
        unimplemented!()
    }

    /// All blocks.
    pub fn snapshot(&self) -> Vec<BlockSnapshot> {
        unimplemented!()
    }
}
