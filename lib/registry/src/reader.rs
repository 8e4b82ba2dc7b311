//! Lookups from other processes.

use crate::{AorRecord, RecordView};
use sps_mapped::{Buffer, Cursor, OpenError, Reader};
use std::path::Path;

/// Looks up AOR records that the registrar writes. Lock-free; share it between threads, with a [`Buffer`] for each.
#[derive(Debug)]
pub struct RegistryReader {
    table: Reader,
}

impl RegistryReader {
    /// Opens an existing registry.
    ///
    /// # Errors
    /// As [`sps_mapped::Reader::open`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(RegistryReader {
            table: Reader::open(path)?,
        })
    }

    /// A registry that is not there yet reads as empty until [`RegistryReader::refresh`] finds it.
    pub fn open_or_wait(path: &Path) -> Self {
        RegistryReader {
            table: Reader::open_or_wait(path),
        }
    }

    /// Looks for a new file under the name; call it about once a second.
    pub fn refresh(&self) -> bool {
        self.table.refresh()
    }

    /// Calls `f` with the record of `aor` (canonical), if there is one. The record may hold bindings that are over.
    pub fn lookup<R>(&self, aor: &[u8], buffer: &mut Buffer, f: impl FnOnce(RecordView<'_>) -> R) -> Option<R> {
        self.table
            .view(aor, buffer)
            .and_then(|value| RecordView::parse(aor, value))
            .map(f)
    }

    /// The record of `aor` as an owned value.
    pub fn record(&self, aor: &[u8]) -> Option<AorRecord> {
        self.lookup(aor, &mut Buffer::new(), |view| view.to_record())
    }

    /// Calls `f` for at most `limit` records; where to go on, or `None` at the end.
    pub fn page(&self, cursor: Cursor, limit: usize, mut f: impl FnMut(RecordView<'_>)) -> Option<Cursor> {
        self.table.scan(cursor, limit, |aor, value| {
            if let Some(view) = RecordView::parse(aor, value) {
                f(view);
            }
        })
    }

    /// Number of records.
    pub fn len(&self) -> u64 {
        self.table.len()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lookups that met a damaged record, or gave up because it changed all the time; both were answered as missing.
    pub fn failed_lookups(&self) -> u64 {
        self.table.damaged() + self.table.contended()
    }
}
