//! What can go wrong with a table.

use std::io;
use std::path::PathBuf;

/// Why a table cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such file.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// Another process has it open for writing.
    #[error("{} is open for writing in another process{}", .path.display(), match .pid { Some(pid) => format!(" (pid {pid})"), None => String::new() })]
    Locked {
        /// The table.
        path: PathBuf,
        /// Who, if that could be read.
        pid: Option<u32>,
    },
    /// Not a table, or a table whose head is damaged in both copies.
    #[error("{} is no usable table: {what}", .path.display())]
    Damaged {
        /// The table.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Written by a version of this software, or on a kind of machine, that this one cannot read.
    #[error("{} was written in another format: {what}", .path.display())]
    Foreign {
        /// The table.
        path: PathBuf,
        /// In what it differs.
        what: String,
    },
    /// The machine refused something.
    #[error("{doing} {}", .path.display())]
    Io {
        /// What was being done: "open", "lock", "map" …
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the machine said.
        source: io::Error,
    },
}

/// Why a record was not stored. What was stored under that key before is still there.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The disk, the quota or [`crate::TableConf::max_file_len`] has no room. Records that exist can still be rewritten at about their size.
    #[error("no room for the record")]
    Full,
    /// Beyond [`crate::MAX_KEY_LEN`] or [`crate::MAX_RECORD_LEN`], or an empty key.
    #[error("a key of {key_len} and a value of {value_len} bytes cannot be stored")]
    Size {
        /// Bytes of the key.
        key_len: usize,
        /// Bytes of the value.
        value_len: usize,
    },
    /// The machine refused something.
    #[error("table file")]
    Io(#[from] io::Error),
}
