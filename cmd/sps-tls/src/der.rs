//! The one thing of a certificate that webpki does not tell: from when to when it holds (RFC 5280 §4.1.2.5).

use std::ops::RangeInclusive;

/// Seconds since 1970 within which a certificate holds; `None` for what is no certificate.
pub fn validity(certificate: &[u8]) -> Option<RangeInclusive<i64>> {
    let (outer, _) = element(certificate, SEQUENCE)?;
    let (inner, _) = element(outer, SEQUENCE)?;
    // Version (explicit, optional), serial number, signature algorithm, issuer.
    let rest = element(inner, VERSION).map_or(inner, |(_, rest)| rest);
    let (_, rest) = element(rest, INTEGER)?;
    let (_, rest) = element(rest, SEQUENCE)?;
    let (_, rest) = element(rest, SEQUENCE)?;
    let (validity, _) = element(rest, SEQUENCE)?;
    let (begins_at, rest) = time(validity)?;
    let (ends_at, _) = time(rest)?;
    Some(begins_at..=ends_at)
}

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The content of the element that `bytes` begins with, if it has this tag, and what follows.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [found, first, rest @ ..] = bytes else { return None };
    if *found != tag {
        return None;
    }
    let (len, rest) = match *first {
        short @ 0..0x80 => (usize::from(short), rest),
        long => {
            let count = usize::from(long & 0x7f);
            if !(1..=4).contains(&count) || rest.len() < count {
                return None;
            }
            let (digits, rest) = rest.split_at(count);
            (digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit)), rest)
        }
    };
    (len <= rest.len()).then(|| rest.split_at(len))
}

/// A time as seconds since 1970: `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn time(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (year, text, rest) = match element(bytes, UTC_TIME) {
        Some((text, rest)) => {
            let year = number(text.get(..2)?)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, text.get(2..)?, rest)
        }
        None => {
            let (text, rest) = element(bytes, GENERALIZED_TIME)?;
            (number(text.get(..4)?)?, text.get(4..)?, rest)
        }
    };
    let field = |at: usize| text.get(at..at + 2).and_then(number);
    let (month, day) = (field(0)?, field(2)?);
    let (hour, minute, second) = (field(4)?, field(6)?, field(8)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || text.get(10..) != Some(b"Z") {
        return None;
    }
    Some((((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second, rest))
}

fn number(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?
        .parse()
        .ok()
}

/// Days since 1970. Years begin with March here, so that the leap day comes last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 719_469
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_as_calendars_do() {
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(1969, 12, 31), -1);
        assert_eq!(days(2000, 2, 29), 11_016);
        assert_eq!(days(2000, 3, 1), 11_017);
        assert_eq!(days(2026, 11, 21), 20_778);
        assert_eq!(days(2100, 3, 1) - days(2100, 2, 28), 1);
    }

    #[test]
    fn both_forms_of_time_are_read() {
        let utc = |text: &str| [&[UTC_TIME, text.len() as u8], text.as_bytes()].concat();
        let generalized = |text: &str| [&[GENERALIZED_TIME, text.len() as u8], text.as_bytes()].concat();
        assert_eq!(time(&utc("700101000001Z")), Some((1, &[][..])));
        assert_eq!(time(&utc("491231235959Z")).unwrap().0, 2_524_607_999);
        assert_eq!(time(&generalized("20500101000000Z")).unwrap().0, 2_524_608_000);
        assert_eq!(time(&generalized("99991231235959Z")).unwrap().0, 253_402_300_799);
        for wrong in [
            "",
            "70",
            "7001010000Z",
            "701301000000Z",
            "700101000000",
            "70x101000000Z",
        ] {
            assert_eq!(time(&utc(wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn a_certificate_tells_and_a_part_of_one_does_not() {
        let made = rcgen::generate_simple_self_signed(["sip.example.com".to_owned()]).unwrap();
        let der = made.cert.der();
        // What rcgen puts when it is told nothing.
        assert_eq!(validity(der), Some(157_766_400..=67_090_118_400));
        let whole = validity(der);
        for cut in 0..der.len() {
            assert!(validity(&der[..cut]).is_none_or(|found| Some(found) == whole));
        }
    }
}
