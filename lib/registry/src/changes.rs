//! The change feed: what a farm, or whoever else keeps a copy, needs to follow the registry.

use crate::Version;

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
