//! The Date header (RFC 3261 §20.17).

/// Appends `unix_s` (seconds since 1970) as an RFC 1123 date: `Sat, 13 Nov 2010 23:29:00 GMT`.
pub fn write_date(unix_s: u64, out: &mut Vec<u8>) {
    const WEEKDAYS: [&[u8]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
    const MONTHS: [&[u8]; 12] = [
        b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec", b"Jan", b"Feb",
    ];
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    // Years begin in March here, so that the odd day of a leap year is the last one. 719,468 days lie between that
    // calendar's beginning (1 March of year 0) and 1970.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era + u64::from(month >= 10);
    out.extend_from_slice(WEEKDAYS[(days % 7) as usize]);
    out.extend_from_slice(b", ");
    write_two(day, out);
    out.push(b' ');
    out.extend_from_slice(MONTHS[month as usize]);
    out.push(b' ');
    write_two(year / 100 % 100, out);
    write_two(year % 100, out);
    for (separator, number) in [(b' ', second / 3_600), (b':', second / 60 % 60), (b':', second % 60)] {
        out.push(separator);
        write_two(number, out);
    }
    out.extend_from_slice(b" GMT");
}

fn write_two(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The RFC's own example and the days on which calendars go wrong.
    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix_s, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_289_690_940, "Sat, 13 Nov 2010 23:29:00 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            let mut out = Vec::new();
            write_date(unix_s, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
