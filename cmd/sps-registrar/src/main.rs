//! sps-registrar.
#![forbid(unsafe_code)]
fn main() {}
