//! Lookups and refreshes at a million bindings. `cargo bench -p sps-registry`.

fn main() {}
