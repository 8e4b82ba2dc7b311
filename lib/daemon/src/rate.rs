//! A bound on how often something is said.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Lets so many through a second and counts the rest, so that a stranger cannot fill a disk. Make it a `static`:
///
/// ```
/// static BAD_FRAMES: sps_daemon::RateLimit = sps_daemon::RateLimit::per_second(5);
/// if let Some(held_back) = BAD_FRAMES.pass() {
///     tracing::warn!(held_back, "malformed frame");
/// }
/// ```
#[derive(Debug)]
pub struct RateLimit {
    per_second: u64,
    /// Second since the process began in the upper half, passed in it in the lower.
    window: AtomicU64,
    held_back: AtomicU64,
}

static BEGAN_AT: LazyLock<Instant> = LazyLock::new(Instant::now);

impl RateLimit {
    /// So many in each second.
    pub const fn per_second(count: u32) -> Self {
        Self {
            per_second: count as u64,
            window: AtomicU64::new(0),
            held_back: AtomicU64::new(0),
        }
    }

    /// Asks to say something: yes, with how many were held back since the last yes; or no.
    pub fn pass(&self) -> Option<u64> {
        self.pass_at(BEGAN_AT.elapsed().as_secs())
    }

    fn pass_at(&self, second: u64) -> Option<u64> {
        let passed = self.window.fetch_update(Relaxed, Relaxed, |window| {
            let (begun, passed) = (window >> 32, window & u64::from(u32::MAX));
            if begun != second {
                Some(second << 32 | 1)
            } else {
                (passed < self.per_second).then_some(window + 1)
            }
        });
        if passed.is_ok() {
            Some(self.held_back.swap(0, Relaxed))
        } else {
            self.held_back.fetch_add(1, Relaxed);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_back_is_told_with_the_next_that_passes() {
        let limit = RateLimit::per_second(2);
        let said: Vec<_> = [7, 7, 7, 7, 8, 8, 8, 9]
            .into_iter()
            .map(|second| limit.pass_at(second))
            .collect();
        assert_eq!(said, [Some(0), Some(0), None, None, Some(2), Some(0), None, Some(1)]);
    }
}
