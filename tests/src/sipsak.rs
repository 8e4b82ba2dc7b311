//! sipsak: one request, one verdict.

use std::time::Duration;

use crate::process::{Said, find, run_within};

/// Runs sipsak with these arguments, at most thirty seconds.
pub fn sipsak(arguments: &[&str]) -> Said {
    run_within(
        Duration::from_secs(30),
        find("sipsak").expect("the test asked for sipsak first"),
        arguments,
    )
}
