//! What a writer tells about its table.

use std::time::Duration;

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
    /// How often the disk refused what was to be put on it since opening.
    pub sync_failures: u64,
}
