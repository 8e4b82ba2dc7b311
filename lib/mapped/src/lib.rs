//! The one door to memory-mapped files: what one process writes and any number of others read without a lock.
//!
//! [`Writer`] and [`Reader`] are the two ends of a *table*: keys and values of bytes in one file. There is one writer, which holds an
//! exclusive lock beside the file; readers are in other processes, map the file read-only, never wait for the writer, and survive its
//! death at any instruction. The registry, the routes and the subscribers are tables. [`CountersPage`] is a page of named counters.
//!
//! What the bytes mean is the business of those above. Here and in `sps-mmsg` alone is `unsafe` allowed.

mod classes;
mod conf;
mod counters;
mod cursor;
mod error;
mod files;
mod growth;
mod heap;
mod keeper;
mod layout;
mod map;
mod protocol;
mod reader;
mod recover;
mod replacement;
mod report;
mod volume;
mod writer;

pub use conf::{Growth, OnDamage, TableConf, Verify};
pub use counters::{BlockSnapshot, Counter, Counters, CountersPage, CountersReader};
pub use cursor::Cursor;
pub use error::{OpenError, PutError};
pub use reader::{Buffer, Reader};
pub use replacement::Replacement;
pub use report::{OpenReport, TableStats};
pub use writer::Writer;

/// How many 64-bit words a table keeps for its owner beside the records ([`Writer::set_meta`]).
pub const META_SLOTS: usize = 16;

/// The longest key, in bytes.
pub const MAX_KEY_LEN: usize = 4096;

/// The longest record (key and value, each rounded up to 8 bytes), in bytes.
pub const MAX_RECORD_LEN: usize = 65_536 - 16;

#[cfg(test)]
mod tests;

#[cfg(test)]
mod model;
