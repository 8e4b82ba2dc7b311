//! What a caller's proxy that honours RFC 7339 keeps of its next hop: the default loss algorithm of §7.2, written here once
//! more so that SPS is not measured against its own reading of the rules.

use std::time::{Duration, Instant};

use super::text;

/// State towards one server.
#[derive(Debug)]
pub struct Feedback {
    /// Percent, and until when.
    asked: Option<(f64, Instant)>,
    seq: (u64, u64),
    /// New requests and others since `sampled_at`, and the share of new ones before that.
    new: u64,
    others: u64,
    share: f64,
    sampled_at: Instant,
    /// The most that was asked for, for reports.
    pub highest: f64,
}

impl Feedback {
    /// Nothing known.
    pub fn new(now: Instant) -> Feedback {
        Feedback {
            asked: None,
            seq: (0, 0),
            new: 0,
            others: 0,
            share: 0.8,
            sampled_at: now,
            highest: 0.0,
        }
    }

    /// A request that is never held back goes out.
    pub fn count_other(&mut self) {
        self.others += 1;
    }

    /// Whether a new call may go out; `draw` is random.
    pub fn may_begin(&mut self, now: Instant, draw: u64) -> bool {
        self.new += 1;
        if now - self.sampled_at >= SAMPLE {
            self.share = self.new as f64 / (self.new + self.others).max(1) as f64;
            (self.new, self.others, self.sampled_at) = (0, 0, now);
        }
        let Some((oc, _)) = self.asked.filter(|(_, until)| now < *until) else {
            return true;
        };
        let of_new = (oc / 100.0 / self.share).min(1.0);
        (draw >> 11) as f64 / (1u64 << 53) as f64 >= of_new
    }

    /// Takes the parameters of a response's top Via (§5.4).
    pub fn on_response(&mut self, now: Instant, message: &[u8]) {
        let Some(via) = text::lines(message).find_map(|line| text::value(line, b"via")) else {
            return;
        };
        let Some(Ok(oc)) = param(via, "oc=").map(str::parse::<f64>) else {
            return;
        };
        let seq = param(via, "oc-seq=").and_then(|seq| {
            let (whole, part) = seq.split_once('.')?;
            // The fraction is a number of its own width: 5 is .5.
            Some((whole.parse().ok()?, format!("{part:0<5}").parse().ok()?))
        });
        let Some(seq) = seq.filter(|seq| *seq > self.seq) else {
            return;
        };
        self.seq = seq;
        let validity = param(via, "oc-validity=").map_or(Some(500), |ms| ms.parse().ok());
        self.asked = match validity {
            Some(0) | None => None,
            Some(ms) => Some((oc, now + Duration::from_millis(ms))),
        };
        self.highest = self.highest.max(oc);
    }
}

fn param<'a>(via: &'a [u8], name: &str) -> Option<&'a str> {
    let via = std::str::from_utf8(via).ok()?;
    via.split(';').find_map(|param| param.trim().strip_prefix(name))
}

const SAMPLE: Duration = Duration::from_secs(1);
