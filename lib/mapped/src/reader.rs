//! The reading end of a table.

use crate::{Cursor, OpenError};
use std::path::Path;

/// Reads a table that another process writes. Cheap to share between threads (`&self`), lock-free, and follows the writer to a new
/// file by itself when the table grows or is replaced.
#[derive(Debug)]
pub struct Reader {}

/// Room for one record, reused from lookup to lookup so that none of them allocates.
#[derive(Debug, Default)]
pub struct Buffer {}

impl Buffer {
    /// Empty; grows to the longest record it has seen.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Reader {
    /// Maps an existing table.
    ///
    /// # Errors
    /// [`OpenError::Missing`] while its writer has not made it yet; the others as they are named.
    pub fn open(_path: &Path) -> Result<Reader, OpenError> {
        unimplemented!()
    }

    /// Like [`Reader::open`], but a table that is missing or unusable reads as empty until [`Reader::refresh`] finds it.
    pub fn open_or_wait(_path: &Path) -> Reader {
        unimplemented!()
    }

    /// Looks for a new file under the table's name, as after the writer had to recreate it. Growth and replacement need no call: lookups
    /// notice them. Costs a system call; once a second is plenty. True if another file is read from now on.
    pub fn refresh(&self) -> bool {
        unimplemented!()
    }

    /// The value of `key`, copied to `buffer` as one whole: never parts of two versions of it.
    pub fn view<'b>(&self, _key: &[u8], _buffer: &'b mut Buffer) -> Option<&'b [u8]> {
        unimplemented!()
    }

    /// The value of `key`, copied to `out` (which is emptied first); its length.
    pub fn get(&self, _key: &[u8], _out: &mut Vec<u8>) -> Option<usize> {
        unimplemented!()
    }

    /// Calls `f(key, value)` for at most `limit` records; where to go on, or `None` at the end. Order is that of the hash.
    pub fn scan(
        &self,
        _cursor: Cursor,
        _limit: usize,
        _f: impl FnMut(&[u8], &[u8]),
    ) -> Option<Cursor> {
        unimplemented!()
    }

    /// A word of the owner's ([`crate::Writer::set_meta`]); 0 if never set.
    ///
    /// # Panics
    /// If `index` is not below [`crate::META_SLOTS`].
    pub fn meta(&self, _index: usize) -> u64 {
        unimplemented!()
    }

    /// Number of records, as far as the writer has told.
    pub fn len(&self) -> u64 {
        unimplemented!()
    }

    /// No record at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counts the files that this table has lived in; 0 while there is none.
    pub fn generation(&self) -> u64 {
        unimplemented!()
    }
}
