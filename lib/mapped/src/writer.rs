//! The writing end of a table.

use crate::{Cursor, OpenError, PutError, TableConf};
use std::io;
use std::path::Path;
use std::time::Duration;

/// The one writer of a table.
///
/// A change is in force for readers, and survives the death of this process, when the call returns. It survives a power cut after
/// [`Writer::sync`] or within [`TableConf::sync_interval`].
#[derive(Debug)]
pub struct Writer {}

/// What opening found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// The file was made new, because there was none or because [`OpenReport::recreated`] says why.
    pub created: bool,
    /// The old file was unusable and moved aside: what was wrong with it.
    pub recreated: Option<String>,
    /// Records in the table now.
    pub records: u64,
    /// Damaged records dropped.
    pub dropped: u64,
    /// Records that should have been there by the last count, but whose place in the file is gone.
    pub missing: u64,
    /// Bytes missing at the end of the file.
    pub cut_len: u64,
    /// The last writer closed it.
    pub clean: bool,
    /// Every record was read and checked.
    pub verified: bool,
    /// How long it took.
    pub took: Duration,
}

/// Figures for `status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Records.
    pub records: u64,
    /// Places for records; the table grows before they are used up.
    pub slots: u64,
    /// Bytes of the file.
    pub file_len: u64,
    /// Bytes of the file in use by records.
    pub used_len: u64,
    /// Damaged records found and dropped since opening.
    pub damaged: u64,
    /// Files the table has lived in.
    pub generation: u64,
    /// A growth is going on.
    pub growing: bool,
    /// Changes refused for want of room since opening.
    pub refused: u64,
}

impl Writer {
    /// Opens the table for writing, making it if there is none, and takes the lock `NAME.lock` beside it.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if another process writes it; damage that can be dropped record by record is no error.
    pub fn open(_path: &Path, _conf: &TableConf) -> Result<(Writer, OpenReport), OpenError> {
        unimplemented!()
    }

    /// The value of `key`.
    pub fn get(&self, _key: &[u8]) -> Option<&[u8]> {
        unimplemented!()
    }

    /// The record whose key has this [`Writer::hash`]. Of several such keys, `pick` says which is meant.
    pub fn get_hashed(
        &self,
        _hash: u64,
        _pick: impl FnMut(&[u8]) -> bool,
    ) -> Option<(&[u8], &[u8])> {
        unimplemented!()
    }

    /// The hash of a key, stable for the life of the table.
    pub fn hash(&self, _key: &[u8]) -> u64 {
        unimplemented!()
    }

    /// Stores or replaces a record; readers see the old or the new one, whole.
    ///
    /// # Errors
    /// [`PutError::Full`] leaves everything as it was.
    pub fn put(&mut self, _key: &[u8], _value: &[u8]) -> Result<(), PutError> {
        unimplemented!()
    }

    /// Removes a record; true if there was one.
    pub fn remove(&mut self, _key: &[u8]) -> bool {
        unimplemented!()
    }

    /// Number of records.
    pub fn len(&self) -> u64 {
        unimplemented!()
    }

    /// No record at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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

    /// A word of the owner's; 0 if never set.
    ///
    /// # Panics
    /// If `index` is not below [`crate::META_SLOTS`].
    pub fn meta(&self, _index: usize) -> u64 {
        unimplemented!()
    }

    /// Sets a word of the owner's, in force for readers at once.
    ///
    /// # Panics
    /// If `index` is not below [`crate::META_SLOTS`].
    pub fn set_meta(&mut self, _index: usize, _word: u64) {
        unimplemented!()
    }

    /// Starts a new content for the whole table, in a file beside, for about `records` records. Nothing is seen of it before
    /// [`Replacement::commit`]; dropping it changes nothing. The owner's words are carried over.
    ///
    /// # Errors
    /// [`PutError::Full`] or the machine's.
    pub fn replacement(&mut self, _records: u64) -> Result<Replacement<'_>, PutError> {
        unimplemented!()
    }

    /// [`Writer::replacement`] in one go: all records and owner's words `(index, word)`; all of it in force at once, or nothing. Returns the number of records.
    ///
    /// # Errors
    /// [`PutError::Full`] or the machine's; the old content is in force then.
    pub fn replace_all<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        _records: impl IntoIterator<Item = (K, V)>,
        _meta: &[(usize, u64)],
    ) -> Result<u64, PutError> {
        unimplemented!()
    }

    /// Puts everything on the disk now and waits for it.
    ///
    /// # Errors
    /// The machine's.
    pub fn sync(&mut self) -> io::Result<()> {
        unimplemented!()
    }

    /// Figures for `status`.
    pub fn stats(&self) -> TableStats {
        unimplemented!()
    }

    /// Puts everything on the disk and marks the file as closed, so that the next opening need not look for damage.
    /// Dropping the writer instead is safe, like being killed.
    ///
    /// # Errors
    /// The machine's.
    pub fn close(self) -> io::Result<()> {
        unimplemented!()
    }
}

/// New content for a whole table, not in force yet.
#[derive(Debug)]
pub struct Replacement<'w> {
    _writer: &'w mut Writer,
}

impl Replacement<'_> {
    /// Stores or replaces a record of the new content.
    ///
    /// # Errors
    /// As [`Writer::put`].
    pub fn put(&mut self, _key: &[u8], _value: &[u8]) -> Result<(), PutError> {
        unimplemented!()
    }

    /// Sets a word of the owner's, with the new content.
    ///
    /// # Panics
    /// If `index` is not below [`crate::META_SLOTS`].
    pub fn set_meta(&mut self, _index: usize, _word: u64) {
        unimplemented!()
    }

    /// Records so far.
    pub fn len(&self) -> u64 {
        unimplemented!()
    }

    /// None so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts the new content on the disk and in force, in one step for readers. Returns its number of records.
    ///
    /// # Errors
    /// The machine's; the old content is in force then.
    pub fn commit(self) -> Result<u64, PutError> {
        unimplemented!()
    }
}
