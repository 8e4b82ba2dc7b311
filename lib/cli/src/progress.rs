//! Progress on a terminal for what takes more than a second.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// One line on stderr that is rewritten in place. Silent when stderr is no terminal, and during the first second.
#[derive(Debug)]
pub struct Progress {
    what: String,
    total: Option<u64>,
    started_at: Instant,
    /// Unset: never draws.
    draw_at: Option<Instant>,
    drawn: bool,
}

/// Nothing is shown before, and it is redrawn no more often than [`REDRAW_WAIT`].
const QUIET_FOR: Duration = Duration::from_secs(1);
const REDRAW_WAIT: Duration = Duration::from_millis(100);

impl Progress {
    /// `what` in the operator's words ("importing routes"); `total` when it is known.
    pub fn new(what: impl Into<String>, total: Option<u64>) -> Self {
        let now = Instant::now();
        let draw_at = std::io::stderr().is_terminal().then_some(now + QUIET_FOR);
        Self {
            what: what.into(),
            total,
            started_at: now,
            draw_at,
            drawn: false,
        }
    }

    /// Tells how far it is. Cheap; call as often as you like.
    pub fn set(&mut self, done: u64) {
        let Some(draw_at) = self.draw_at else { return };
        let now = Instant::now();
        if now < draw_at {
            return;
        }
        self.draw_at = Some(now + REDRAW_WAIT);
        self.drawn = true;
        let _ = write!(
            std::io::stderr(),
            "\r{}\x1b[K",
            line(&self.what, done, self.total, now - self.started_at)
        );
    }

    /// Clears the line. Dropping does the same.
    pub fn finish(self) {}
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// `importing routes: 41 % (41000 of 100000), 12 s`
fn line(what: &str, done: u64, total: Option<u64>, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    match total {
        Some(total) if total > 0 => {
            let percent = u128::from(done.min(total)) * 100 / u128::from(total);
            format!("{what}: {percent} % ({done} of {total}), {seconds} s")
        }
        _ => format!("{what}: {done}, {seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_how_far_it_is() {
        assert_eq!(
            line("x", 50, Some(200), Duration::from_secs(3)),
            "x: 25 % (50 of 200), 3 s"
        );
        assert_eq!(line("x", 50, None, Duration::from_millis(2900)), "x: 50, 2 s");
        assert_eq!(line("x", 5, Some(0), Duration::ZERO), "x: 5, 0 s");
        assert!(line("x", u64::MAX, Some(u64::MAX - 1), Duration::ZERO).contains("100 %"));
    }

    #[test]
    fn nothing_is_drawn_before_its_time() {
        let now = Instant::now();
        let mut progress = Progress {
            what: "x".into(),
            total: None,
            started_at: now,
            draw_at: Some(now + QUIET_FOR),
            drawn: false,
        };
        progress.set(1);
        assert!(!progress.drawn);
        progress.draw_at = Some(now);
        progress.set(2);
        assert!(progress.drawn && progress.draw_at > Some(now));
    }
}
