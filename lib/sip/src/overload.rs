//! Overload control: which share of the new requests a worker can take on (RFC 6357 §3 calls this the control function).
//!
//! One [`Controller`] belongs to one worker. It is told how long messages had waited when their turn came, and gives the share
//! of new requests that may pass. The sign of overload is a *standing* queue: the shortest wait within an interval. A burst,
//! or a process that stands still for a while because its CPU quota is used up, makes some messages wait long; only more work
//! than there is time for makes all of them wait, in one interval and in the next.
//!
//! The control law takes two steps at once. What the queue grew by tells how much more came than was done, so one division
//! sheds the surplus whatever the load is; and the wait beyond the target is worked off over [`DRAIN_FOR`]. As soon as there is no
//! standing queue, more is let in, by a tenth in each interval: from almost nothing to everything takes some two seconds.
//!
//! What waits now was sent before the last step down could be felt, above all by neighbours who hold back by themselves. So there
//! is no further step down until the message whose turn it is arrived after the last one.

use std::time::{Duration, Instant};

/// What the operator may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverloadConf {
    /// Whether anything is refused for overload.
    pub enabled: bool,
    /// The standing queue that is put up with, as the time a message waits in it.
    pub target_wait: Duration,
}

impl Default for OverloadConf {
    fn default() -> Self {
        OverloadConf {
            enabled: true,
            target_wait: Duration::from_millis(30),
        }
    }
}

/// What a request is worth when not all can be served; the last is refused first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Part of what was let in before: a dialog, a transaction.
    Begun,
    /// New, and refused only when refusing all ordinary ones is not enough.
    Preferred,
    /// New.
    Ordinary,
}

/// News for the error log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Overload has begun.
    Began,
    /// It is over.
    Ended {
        /// How long it lasted.
        lasted: Duration,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Controller {
    conf: OverloadConf,
    /// Shares let in, 0 to 1: never 0, so that there is something to learn from.
    ordinary: f64,
    preferred: f64,
    /// The shortest wait of this interval, and what there was in the last one.
    shortest: Option<Duration>,
    last_wait: Duration,
    taken: u64,
    lost: u64,
    stepped_at: Instant,
    /// When less was let in for the last time.
    fell_at: Option<Instant>,
    /// Overload as the operator is told of it: since when, and since when nothing is refused any more.
    since: Option<Instant>,
    calm_since: Option<Instant>,
}

/// How often the shares are worked out.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// Fewer messages in an interval say nothing about load: the process may have been late for reasons of its own.
const ENOUGH: u64 = 10;

/// A queue beyond the target is to be gone in this time.
const DRAIN_FOR: Duration = Duration::from_secs(1);

/// Of those that are looked at at least this share is let in, so that refusing takes no more time than calls do.
const WORTH_REFUSING: f64 = 0.25;

/// Nothing below this share is let in: without it nobody would notice that the load has gone.
const LEAST: f64 = 0.01;

/// Of senders who hold back by themselves no more than this is asked for: who sends nothing at all hears nothing, and when the last
/// word has run out he sends everything.
pub const MOST_ASKED: f64 = 0.9;

/// How much more is let in from one interval to the next when nothing waits.
const RISE: f64 = 1.1;
const RISE_AT_LEAST: f64 = 0.01;

/// How much less at the most: what one interval says may be chance.
const FALL: f64 = 0.25;

/// The operator hears of overload when this share is refused, ...
const WORTH_TELLING: f64 = 0.05;

/// ... and of its end when nothing was for so long.
const CALM_FOR: Duration = Duration::from_secs(10);

impl Controller {
    /// Lets everything in.
    pub fn new(conf: OverloadConf, now: Instant) -> Controller {
        Controller {
            conf,
            ordinary: 1.0,
            preferred: 1.0,
            shortest: None,
            last_wait: Duration::ZERO,
            taken: 0,
            lost: 0,
            stepped_at: now,
            fell_at: None,
            since: None,
            calm_since: None,
        }
    }

    /// Works by other settings from now on.
    pub fn configure(&mut self, conf: OverloadConf) {
        self.conf = conf;
    }

    /// A message's turn has come after it waited for so long.
    pub fn waited(&mut self, wait: Duration) {
        self.taken += 1;
        self.shortest = Some(self.shortest.map_or(wait, |shortest| shortest.min(wait)));
    }

    /// So many messages were lost because nobody took them in time.
    pub fn lost(&mut self, count: u64) {
        self.lost += count;
    }

    /// Time has passed: call often, it acts once in an [`INTERVAL`]. Gives whether it did, and news if there are any.
    pub fn advance(&mut self, now: Instant) -> (bool, Option<Turn>) {
        let passed = now.saturating_duration_since(self.stepped_at);
        if passed < INTERVAL {
            return (false, None);
        }
        self.stepped_at = now;
        if self.conf.enabled {
            self.step(now, passed);
        } else {
            (self.ordinary, self.preferred) = (1.0, 1.0);
        }
        (self.shortest, self.taken, self.lost) = (None, 0, 0);
        (true, self.tell(now))
    }

    /// The share of such requests that is let in now.
    pub fn share(&self, standing: Standing) -> f64 {
        match standing {
            Standing::Begun => 1.0,
            Standing::Preferred => self.preferred,
            Standing::Ordinary => self.ordinary,
        }
    }

    /// The share of new requests that senders who hold back by themselves are asked to keep.
    pub fn asked(&self) -> f64 {
        (1.0 - self.ordinary).min(MOST_ASKED)
    }

    /// Whether anything is refused at all.
    pub fn is_active(&self) -> bool {
        self.ordinary < 1.0
    }

    /// Whether a new request goes on. `draw` is a hash of the transaction, so that a repetition fares as the original did;
    /// `heard` says that it has passed [`Self::hears`].
    pub fn admits(&self, standing: Standing, heard: bool, draw: u64) -> bool {
        let share = match standing {
            Standing::Ordinary if heard => self.ordinary.max(WORTH_REFUSING),
            standing => self.share(standing),
        };
        falls_below(draw, share)
    }

    /// Whether a datagram that looks like a new INVITE is looked at at all. Refusing costs a fifth of a call: when most that
    /// comes would be refused, nothing else would be done any more. What is dropped comes again, and may then be heard.
    pub fn hears(&self, draw: u64) -> bool {
        falls_below(draw, self.ordinary / WORTH_REFUSING)
    }

    fn step(&mut self, now: Instant, passed: Duration) {
        let wait = self.shortest.filter(|_| self.taken >= ENOUGH).unwrap_or_default();
        let target = self.conf.target_wait;
        // One burst that was late is no standing queue: nothing was being refused, and the last interval was well.
        let stands = self.is_active() || self.last_wait > target;
        if wait > target && !stands {
            self.last_wait = wait;
            return;
        }
        let came_by_done = self.came_by_done(wait, passed);
        let aim = if wait > target {
            1.0 - (wait - target).as_secs_f64() / DRAIN_FOR.as_secs_f64()
        } else {
            let room = (target - wait).as_secs_f64() / target.as_secs_f64().max(1e-6);
            1.0 + (RISE - 1.0) * room
        };
        self.last_wait = wait;
        let factor = (aim.max(0.5) / came_by_done).max(FALL);
        if factor >= 1.0 {
            self.rise(factor.min(RISE), wait < target);
        } else if self.fell_at.is_none_or(|fell_at| now - wait >= fell_at) {
            self.fell_at = Some(now);
            self.fall(factor);
        }
    }

    /// How many times more came than was done: what the queue grew by, and what was lost for want of room in it.
    fn came_by_done(&self, wait: Duration, passed: Duration) -> f64 {
        let lost = self.lost as f64 / self.taken.max(1) as f64;
        // A queue that has never stood says nothing: less came than could have been done.
        let growth = if wait.is_zero() && self.last_wait.is_zero() {
            0.0
        } else {
            (wait.as_secs_f64() - self.last_wait.as_secs_f64()) / passed.as_secs_f64()
        };
        (1.0 + growth + lost).clamp(0.5, 8.0)
    }

    /// What is refused last is let in first.
    fn rise(&mut self, factor: f64, calm: bool) {
        let more = |share: f64| {
            let least = if calm { RISE_AT_LEAST } else { 0.0 };
            (share * factor + least).min(1.0)
        };
        if self.preferred < 1.0 {
            self.preferred = more(self.preferred);
        } else {
            self.ordinary = more(self.ordinary);
        }
    }

    fn fall(&mut self, factor: f64) {
        if self.ordinary > LEAST {
            self.ordinary = (self.ordinary * factor).max(LEAST);
        } else {
            self.preferred = (self.preferred * factor).max(LEAST);
        }
    }

    fn tell(&mut self, now: Instant) -> Option<Turn> {
        if self.is_active() {
            self.calm_since = None;
            if self.since.is_none() && self.ordinary <= 1.0 - WORTH_TELLING {
                self.since = Some(now);
                return Some(Turn::Began);
            }
            return None;
        }
        let since = self.since?;
        let calm_since = *self.calm_since.get_or_insert(now);
        if now.saturating_duration_since(calm_since) < CALM_FOR {
            return None;
        }
        self.since = None;
        Some(Turn::Ended {
            lasted: calm_since.saturating_duration_since(since),
        })
    }
}

/// Whether a random number is among the lowest `share` of all.
fn falls_below(draw: u64, share: f64) -> bool {
    // 53 bits are what a double holds.
    share >= 1.0 || ((draw >> 11) as f64) < share * (1u64 << 53) as f64
}

#[cfg(test)]
mod tests;
