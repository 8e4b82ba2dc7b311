//! The registrar's end.

use crate::{AorRecord, Changes, Kind, RecordView, Version};
use sps_mapped::{Cursor, OpenError, OpenReport, PutError, TableStats, Verify};
use std::io;
use std::path::Path;
use std::time::Duration;

/// How the registry is opened for writing.
#[derive(Debug, Clone)]
pub struct RegistryConf {
    /// The farm member that this is; part of every [`Version`].
    pub member: u16,
    /// What a power cut may cost at most. `None` for programs that end at once.
    pub sync_interval: Option<Duration>,
    /// How many changes are kept for [`RegistryWriter::take_changes`]; 0 keeps none, if nobody follows.
    pub kept_changes: usize,
    /// Whether opening reads every record.
    pub verify: Verify,
    /// How many records a new file holds before it grows.
    pub initial_records: u64,
    /// The file is never made longer than this, in bytes.
    pub max_file_len: Option<u64>,
}

impl Default for RegistryConf {
    fn default() -> Self {
        RegistryConf {
            member: 0,
            sync_interval: Some(Duration::from_secs(1)),
            kept_changes: 0,
            verify: Verify::Auto,
            initial_records: 65_536,
            max_file_len: None,
        }
    }
}

/// A binding that [`RegistryWriter::expire_due`] took out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// Whose.
    pub aor: Vec<u8>,
    /// Its contact.
    pub contact: Vec<u8>,
    /// When it ended, seconds since 1970.
    pub at: u64,
    /// Who had made it.
    pub kind: Kind,
}

/// The one writer of the registry. All times are seconds since 1970, wall clock.
#[derive(Debug)]
pub struct RegistryWriter {}

impl RegistryWriter {
    /// Opens or makes the registry and takes its lock. Ready at once: what ends when is gathered by the calls of
    /// [`RegistryWriter::expire_due`] that follow.
    ///
    /// # Errors
    /// As [`sps_mapped::Writer::open`].
    pub fn open(_path: &Path, _conf: &RegistryConf) -> Result<(Self, OpenReport), OpenError> {
        unimplemented!()
    }

    /// The record of `aor`, in place.
    pub fn get(&self, _aor: &[u8]) -> Option<RecordView<'_>> {
        unimplemented!()
    }

    /// The record of `aor` as an owned value, to be changed and given to [`RegistryWriter::put`].
    pub fn record(&self, _aor: &[u8]) -> Option<AorRecord> {
        unimplemented!()
    }

    /// Stores a record with all its bindings, or removes it if it has none. Sets its version, which is also returned.
    ///
    /// # Errors
    /// [`PutError::Full`], [`PutError::Size`]: nothing has changed then.
    pub fn put(&mut self, _record: &mut AorRecord, _now: u64) -> Result<Version, PutError> {
        unimplemented!()
    }

    /// Stores a record that another member has made, with that member's version. False if what is here is as new or newer.
    ///
    /// # Errors
    /// As [`RegistryWriter::put`].
    pub fn put_foreign(&mut self, _record: &AorRecord) -> Result<bool, PutError> {
        unimplemented!()
    }

    /// Removes a record; true if there was one.
    pub fn remove(&mut self, _aor: &[u8], _now: u64) -> bool {
        unimplemented!()
    }

    /// When to call [`RegistryWriter::expire_due`] next: the earliest end known, 0 (at once) while not all are known yet.
    pub fn next_expiry(&self) -> Option<u64> {
        unimplemented!()
    }

    /// Takes out bindings that are over at `now`, of at most `limit` records, and pushes them to `expired`. True if more is left to do.
    pub fn expire_due(&mut self, _now: u64, _limit: usize, _expired: &mut Vec<Expired>) -> bool {
        unimplemented!()
    }

    /// Calls `f` for at most `limit` records; where to go on, or `None` at the end.
    pub fn page(
        &self,
        _cursor: Cursor,
        _limit: usize,
        _f: impl FnMut(RecordView<'_>),
    ) -> Option<Cursor> {
        unimplemented!()
    }

    /// What changed since the last call.
    pub fn take_changes(&mut self) -> Changes {
        unimplemented!()
    }

    /// Number of records.
    pub fn len(&self) -> u64 {
        unimplemented!()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Figures for `status`.
    pub fn stats(&self) -> TableStats {
        unimplemented!()
    }

    /// Puts everything on the disk and waits for it.
    ///
    /// # Errors
    /// The machine's.
    pub fn sync(&mut self) -> io::Result<()> {
        unimplemented!()
    }

    /// Closes the file in order. Dropping the writer instead is safe.
    ///
    /// # Errors
    /// The machine's.
    pub fn close(self) -> io::Result<()> {
        unimplemented!()
    }
}
