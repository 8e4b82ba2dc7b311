//! Which changes a running instance can take, and which need a restart.

use crate::Config;

impl Config {
    /// Why `new` cannot replace `old` while the daemons run; empty when `spsctl reload` will do. One text a key.
    pub fn reload_obstacles(old: &Config, new: &Config) -> Vec<String> {
        let _ = (old, new);
        unimplemented!()
    }
}
