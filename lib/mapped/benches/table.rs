//! Lookups and updates at a million records. `cargo bench -p sps-mapped`.

fn main() {}
