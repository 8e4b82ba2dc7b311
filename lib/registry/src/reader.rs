//! Lookups from other processes.

use crate::{AorRecord, RecordView};
use sps_mapped::{Buffer, Cursor, OpenError};
use std::path::Path;

/// Looks up AOR records that the registrar writes. Lock-free; share it between threads, with a [`Buffer`] for each.
#[derive(Debug)]
pub struct RegistryReader {}

impl RegistryReader {
    /// Opens an existing registry.
    ///
    /// # Errors
    /// As [`sps_mapped::Reader::open`].
    pub fn open(_path: &Path) -> Result<Self, OpenError> {
        unimplemented!()
    }

    /// A registry that is not there yet reads as empty until [`RegistryReader::refresh`] finds it.
    pub fn open_or_wait(_path: &Path) -> Self {
        unimplemented!()
    }

    /// Looks for a new file under the name; call it about once a second.
    pub fn refresh(&self) -> bool {
        unimplemented!()
    }

    /// Calls `f` with the record of `aor` (canonical), if there is one. The record may hold bindings that are over.
    pub fn lookup<R>(
        &self,
        _aor: &[u8],
        _buffer: &mut Buffer,
        _f: impl FnOnce(RecordView<'_>) -> R,
    ) -> Option<R> {
        unimplemented!()
    }

    /// The record of `aor` as an owned value.
    pub fn record(&self, _aor: &[u8]) -> Option<AorRecord> {
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

    /// Number of records.
    pub fn len(&self) -> u64 {
        unimplemented!()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
