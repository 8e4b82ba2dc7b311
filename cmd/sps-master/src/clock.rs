//! Notices when the wall clock is set, and when this process itself stood still.

use std::time::{Duration, Instant, SystemTime};

/// Steps of the wall clock below this are the work of a time daemon.
const JUMP: Duration = Duration::from_secs(1);

/// Compares the wall clock with the one that only runs.
#[derive(Debug)]
pub struct Clock {
    looked_at: Instant,
    wall: SystemTime,
    /// Times the wall clock was set.
    pub jumps: u64,
}

impl Clock {
    pub fn new(now: Instant, wall: SystemTime) -> Self {
        Self {
            looked_at: now,
            wall,
            jumps: 0,
        }
    }

    /// To be called again and again. Gives how long it is since the last call, and by how many milliseconds the wall clock was set
    /// in between (0: not).
    pub fn look(&mut self, now: Instant, wall: SystemTime) -> (Duration, i128) {
        let passed = now.saturating_duration_since(self.looked_at);
        let expected = self.wall + passed;
        let (by, sign) = match wall.duration_since(expected) {
            Ok(ahead) => (ahead, 1),
            Err(behind) => (behind.duration(), -1),
        };
        (self.looked_at, self.wall) = (now, wall);
        if by < JUMP {
            return (passed, 0);
        }
        self.jumps += 1;
        // A duration in milliseconds fits easily.
        (passed, sign * i128::try_from(by.as_millis()).unwrap_or(i128::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_is_told_from_time_that_passes() {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let mut clock = Clock::new(now, wall);
        let second = Duration::from_secs(1);
        assert_eq!(clock.look(now + second, wall + second), (second, 0));
        assert_eq!(clock.look(now + 2 * second, wall + 3600 * second), (second, 3_598_000));
        assert_eq!(clock.look(now + 3 * second, wall + 10 * second), (second, -3_591_000));
        assert_eq!(clock.look(now + 63 * second, wall + 70 * second), (60 * second, 0));
        assert_eq!(clock.jumps, 2);
    }
}
