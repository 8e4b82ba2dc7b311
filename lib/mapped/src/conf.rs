//! How a table is opened for writing.

use std::time::Duration;

/// What the owner of a table chooses. [`TableConf::default`] suits a daemon that keeps the table open.
#[derive(Debug, Clone)]
pub struct TableConf {
    /// How many records a new file holds before it grows for the first time.
    pub initial_records: u64,
    /// How often a thread of the writer's own puts what changed on the disk. `None`: only [`crate::Writer::sync`] and
    /// [`crate::Writer::close`] do, which is right for programs that write once and end.
    pub sync_interval: Option<Duration>,
    /// How the table grows once it is full enough.
    pub growth: Growth,
    /// Whether opening reads every record.
    pub verify: Verify,
    /// What happens to a file whose head cannot be believed.
    pub on_damage: OnDamage,
    /// The file is never made longer than this, in bytes. Reaching it is [`crate::PutError::Full`], as a full disk is.
    pub max_file_len: Option<u64>,
    /// Permission bits of a file that is made new.
    pub mode: u32,
}

impl Default for TableConf {
    fn default() -> Self {
        TableConf {
            initial_records: 65_536,
            sync_interval: Some(Duration::from_secs(1)),
            growth: Growth::Incremental,
            verify: Verify::Auto,
            on_damage: OnDamage::Recreate,
            max_file_len: None,
            mode: 0o640,
        }
    }
}

impl TableConf {
    /// For a program that makes a few changes and ends: no thread, and no growth that it would not live to finish.
    pub fn short_lived() -> Self {
        TableConf {
            sync_interval: None,
            growth: Growth::AtOnce,
            ..Self::default()
        }
    }
}

/// How a table grows. Readers notice neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// A little with every change, so that no single change takes long.
    Incremental,
    /// All within the change that needs the room, and later.
    AtOnce,
}

/// Whether opening reads every record and checks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Only if the file was not closed and the machine has been started anew since, or if the file has been cut.
    Auto,
    /// Always.
    Always,
}

/// What to do with a file that is not a table, or whose head is damaged in both its copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDamage {
    /// Move it aside as `NAME.damaged` and start with an empty table; the report says so.
    Recreate,
    /// Leave it as it is and give [`crate::OpenError::Damaged`].
    Refuse,
}
