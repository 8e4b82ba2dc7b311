//! A [`Config`] printed as a complete commented `sps.toml`.

use crate::Config;

impl Config {
    /// A complete commented `sps.toml` that [`Config::parse`] reads back to the same value.
    pub fn render(&self) -> String {
        unimplemented!()
    }
}
