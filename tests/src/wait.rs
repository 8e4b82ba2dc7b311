//! Waiting with a bound: for a condition outside this process, and for a whole test.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for one thing to happen. Far above what it takes, so that a busy machine fails no test, and
/// short enough that a stuck one is told apart from a slow one.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How often a condition outside this process, of which nothing can notify us, is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Looks until `what` holds. Panics with `name` after `limit`.
pub fn wait_until_within(limit: Duration, name: &str, mut what: impl FnMut() -> bool) {
    let give_up_at = Instant::now() + limit;
    while !what() {
        assert!(Instant::now() < give_up_at, "waited {limit:?} in vain until {name}");
        thread::park_timeout(LOOK);
    }
}

/// Looks until `what` holds. Panics with `name` after [`PATIENCE`].
pub fn wait_until(name: &str, what: impl FnMut() -> bool) {
    wait_until_within(PATIENCE, name, what);
}

/// Runs a test's body in a thread of its own and fails the test when it has not ended after `limit`.
///
/// The thread of a body that hangs is left behind; the processes it started are ended.
pub fn bounded_by(limit: Duration, body: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel::<()>();
    let name = thread::current().name().unwrap_or("test").to_owned();
    let worker = thread::Builder::new()
        .name(name.clone())
        .spawn(move || {
            let _done = done;
            body();
        })
        .expect("a thread can be started");
    match ended.recv_timeout(limit) {
        Err(mpsc::RecvTimeoutError::Timeout) => {
            crate::process::end_all_of(&name);
            panic!("the test has not ended after {limit:?}");
        }
        // The body returned or panicked: its end of the channel is gone.
        _ => {
            if let Err(cause) = worker.join() {
                std::panic::resume_unwind(cause);
            }
        }
    }
}

/// Runs a test's body with the bound that suits nearly all: two minutes.
pub fn bounded(body: impl FnOnce() + Send + 'static) {
    bounded_by(Duration::from_secs(120), body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "has not ended")]
    fn a_body_that_hangs_fails_its_test() {
        bounded_by(Duration::from_millis(20), || {
            thread::park_timeout(Duration::from_secs(5))
        });
    }

    #[test]
    #[should_panic(expected = "seven")]
    fn a_body_that_panics_fails_with_its_own_words() {
        bounded(|| panic!("seven"));
    }

    #[test]
    #[should_panic(expected = "until pigs fly")]
    fn a_condition_that_never_holds_is_given_up() {
        wait_until_within(Duration::from_millis(20), "pigs fly", || false);
    }
}
