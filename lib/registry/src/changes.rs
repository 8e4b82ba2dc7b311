//! The change feed: what a farm, or whoever else keeps a copy, needs to follow the registry.

use crate::Version;
use std::collections::VecDeque;

/// A record was stored or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Whose.
    pub aor: Vec<u8>,
    /// Of the change.
    pub version: Version,
    /// No binding is left; otherwise the record is in the registry.
    pub removed: bool,
}

/// What [`crate::RegistryWriter::take_changes`] gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Oldest first.
    pub changes: Vec<Change>,
    /// More happened than was kept ([`crate::RegistryConf::kept_changes`]): whoever follows must list everything once.
    pub lost: bool,
}

/// The changes that nobody has taken yet.
#[derive(Debug)]
pub(crate) struct Feed {
    kept: VecDeque<Change>,
    most: usize,
    lost: bool,
}

impl Feed {
    pub fn new(most: usize) -> Feed {
        Feed {
            kept: VecDeque::new(),
            most,
            lost: false,
        }
    }

    pub fn push(&mut self, aor: &[u8], version: Version, removed: bool) {
        if self.kept.len() >= self.most {
            // The oldest first: who lost one has to list everything anyway.
            self.lost = true;
            self.kept.pop_front();
        }
        if self.most > 0 {
            self.kept.push_back(Change {
                aor: aor.to_vec(),
                version,
                removed,
            });
        }
    }

    pub fn take(&mut self) -> Changes {
        Changes {
            changes: self.kept.drain(..).collect(),
            lost: std::mem::take(&mut self.lost),
        }
    }
}
