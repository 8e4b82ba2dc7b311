//! TOML to [`Config`]: every key asked for by name, what is left over is unknown.

use std::path::Path;

use crate::{Config, Problems};

impl Config {
    /// Reads and checks a file. Warnings are dropped; [`Config::load_noting`] keeps them.
    ///
    /// # Errors
    /// Everything wrong with it, or that it cannot be read ([`Problems::is_unreadable`]).
    pub fn load(path: &Path) -> Result<Self, Problems> {
        Self::load_noting(path).map(|(config, _)| config)
    }

    /// As [`Config::load`], with the warnings beside the configuration (empty when all is well).
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_noting(path: &Path) -> Result<(Self, Problems), Problems> {
        let _ = path;
        unimplemented!()
    }

    /// Checks `text`; `file` is only for the messages.
    ///
    /// # Errors
    /// Everything wrong with it.
    pub fn parse(file: &Path, text: &str) -> Result<(Self, Problems), Problems> {
        let _ = (file, text);
        unimplemented!()
    }
}

/// Every key that `sps.toml` may have, as `section.key`, in the order of the file: `server.domain`, `listen.port`, …
pub fn keys() -> Vec<String> {
    unimplemented!()
}
