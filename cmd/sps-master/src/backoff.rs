//! When a daemon that died is started again, and when it is given up.

use std::time::Duration;

/// A life at least this long is a good one: what ended it had nothing to do with starting.
const GOOD_LIFE: Duration = Duration::from_secs(5);

/// The first wait, doubled with each bad life.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// No wait is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Bad lives in a row after which it is given up. With the waits between them that is about half a minute.
const MAX_BAD_LIVES: u32 = 8;

/// What to do about a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Start it again after this wait; zero: at once.
    Again(Duration),
    /// It will not get better by itself.
    GiveUp,
}

/// The deaths of one daemon.
#[derive(Debug, Default)]
pub struct Backoff {
    bad_lives: u32,
}

impl Backoff {
    /// It died after it had been ready for `served`, or before that (`None`).
    ///
    /// The first death is answered at once, whatever led to it: calls are waiting.
    pub fn on_death(&mut self, served: Option<Duration>) -> Verdict {
        if served.is_some_and(|served| served >= GOOD_LIFE) {
            self.bad_lives = 0;
            return Verdict::Again(Duration::ZERO);
        }
        self.bad_lives += 1;
        match self.bad_lives {
            1 => Verdict::Again(Duration::ZERO),
            MAX_BAD_LIVES.. => Verdict::GiveUp,
            n => Verdict::Again((FIRST_WAIT * (1 << (n - 2))).min(LONGEST_WAIT)),
        }
    }

    /// The operator changed something: all is forgiven.
    pub fn forgive(&mut self) {
        self.bad_lives = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_death_is_answered_at_once_and_the_eighth_no_more() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8).map(|_| backoff.on_death(None)).collect();
        let again = |ms| Verdict::Again(Duration::from_millis(ms));
        assert_eq!(
            waits,
            [
                again(0),
                again(250),
                again(500),
                again(1_000),
                again(2_000),
                again(4_000),
                again(8_000),
                Verdict::GiveUp
            ]
        );
    }

    #[test]
    fn a_good_life_or_an_operator_wipes_the_slate() {
        let mut backoff = Backoff::default();
        for forgive in [false, true] {
            for _ in 0..5 {
                backoff.on_death(Some(Duration::from_millis(4_999)));
            }
            if forgive {
                backoff.forgive();
            } else {
                assert_eq!(backoff.on_death(Some(GOOD_LIFE)), Verdict::Again(Duration::ZERO));
            }
            assert_eq!(backoff.on_death(None), Verdict::Again(Duration::ZERO));
            backoff.forgive();
        }
    }
}
