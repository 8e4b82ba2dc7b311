//! Wall-clock time as text, in UTC, without asking for a time zone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Year, month, day, hour, minute, second, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Civil {
    year: u64,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
    millisecond: u16,
}

/// Appends `2026-11-20T06:01:02.123Z`.
pub fn write_rfc3339(at: SystemTime, out: &mut Vec<u8>) {
    let civil = Civil::from(since_epoch(at));
    digits(civil.year, 4, out);
    out.push(b'-');
    digits(u64::from(civil.month), 2, out);
    out.push(b'-');
    digits(u64::from(civil.day), 2, out);
    out.push(b'T');
    clock(&civil, out);
    out.push(b'.');
    digits(u64::from(civil.millisecond), 3, out);
    out.push(b'Z');
}

/// Writes `20/Nov/2026:06:01:02` only once a second, for what writes many lines.
#[derive(Debug, Clone, Default)]
pub struct Stamp {
    second: u64,
    text: Vec<u8>,
}

impl Stamp {
    /// Appends `20/Nov/2026:06:01:02.123 +0000`.
    pub fn write(&mut self, at: SystemTime, out: &mut Vec<u8>) {
        let since = since_epoch(at);
        if self.text.is_empty() || since.as_secs() != self.second {
            let civil = Civil::from(since);
            self.second = since.as_secs();
            self.text.clear();
            digits(u64::from(civil.day), 2, &mut self.text);
            self.text.push(b'/');
            self.text.extend_from_slice(MONTHS[usize::from(civil.month - 1)]);
            self.text.push(b'/');
            digits(civil.year, 4, &mut self.text);
            self.text.push(b':');
            clock(&civil, &mut self.text);
        }
        out.extend_from_slice(&self.text);
        out.push(b'.');
        digits(u64::from(since.subsec_millis()), 3, out);
        out.extend_from_slice(b" +0000");
    }
}

const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// A clock before 1970 counts as 1970.
fn since_epoch(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl From<Duration> for Civil {
    /// Days to a date after H. Hinnant's well-known reckoning: years that begin in March, eras of 400 of them.
    fn from(since: Duration) -> Self {
        let (days, rest) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let day = days + 719_468;
        let (era, day) = (day / 146_097, day % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let march_month = (5 * day + 2) / 153;
        let month = if march_month < 10 {
            march_month + 3
        } else {
            march_month - 9
        };
        // Each of these is below 256 by its divisor.
        #[allow(clippy::cast_possible_truncation)]
        Self {
            year: year + era * 400 + u64::from(month <= 2),
            month: month as u8,
            day: (day - (153 * march_month + 2) / 5 + 1) as u8,
            hour: (rest / 3_600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
            millisecond: since.subsec_millis() as u16,
        }
    }
}

/// `06:01:02`
fn clock(civil: &Civil, out: &mut Vec<u8>) {
    digits(u64::from(civil.hour), 2, out);
    out.push(b':');
    digits(u64::from(civil.minute), 2, out);
    out.push(b':');
    digits(u64::from(civil.second), 2, out);
}

/// The last `count` (at most 4) decimal digits of `value`.
fn digits(value: u64, count: usize, out: &mut Vec<u8>) {
    let mut text = [b'0'; 4];
    let mut rest = value;
    for place in text.iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&text[4 - count..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rfc3339(seconds: u64, milliseconds: u64) -> String {
        let mut out = Vec::new();
        write_rfc3339(
            UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(milliseconds),
            &mut out,
        );
        String::from_utf8(out).unwrap()
    }

    /// Expected values from date(1).
    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(rfc3339(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_399, 999), "2000-02-28T23:59:59.999Z");
        assert_eq!(rfc3339(951_782_400, 0), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(1_795_154_462, 123), "2026-11-20T06:01:02.123Z");
        assert_eq!(rfc3339(4_107_542_400, 0), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn a_stamp_follows_the_second() {
        let mut stamp = Stamp::default();
        let mut out = Vec::new();
        for milliseconds in [0, 7, 1_000] {
            let at = UNIX_EPOCH + Duration::from_secs(1_795_154_462) + Duration::from_millis(milliseconds);
            stamp.write(at, &mut out);
            out.push(b'|');
        }
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "20/Nov/2026:06:01:02.000 +0000|20/Nov/2026:06:01:02.007 +0000|20/Nov/2026:06:01:03.000 +0000|"
        );
    }
}
