//! Dates of HTTP, as seconds since 1970 (RFC 9110, 5.6.7). Only read, never written.

/// Two-digit years are within 50 years of this one, so that nobody has to know what year it is.
const CENTURY_PIVOT: u64 = 2026;

const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// Days of the week, short and long. Which day it really was is not looked at.
const DAYS: [(&[u8], &[u8]); 7] = [
    (b"Mon", b"Monday"),
    (b"Tue", b"Tuesday"),
    (b"Wed", b"Wednesday"),
    (b"Thu", b"Thursday"),
    (b"Fri", b"Friday"),
    (b"Sat", b"Saturday"),
    (b"Sun", b"Sunday"),
];

/// Reads a date in one of the three forms that a recipient has to understand: `Sun, 06 Nov 1994 08:49:37 GMT`,
/// `Sunday, 06-Nov-94 08:49:37 GMT` and `Sun Nov  6 08:49:37 1994`. One before 1970 is 0. None: it is no date.
pub fn read_date(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii();
    match text.iter().position(|byte| *byte == b',') {
        Some(3) => imf_fixdate(text),
        Some(_) => rfc850_date(text),
        None => asctime_date(text),
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf_fixdate(text: &[u8]) -> Option<u64> {
    let (day_name, rest) = text.split_at_checked(3)?;
    DAYS.iter().find(|(short, _)| *short == day_name)?;
    let rest = rest.strip_prefix(b", ")?.strip_suffix(b" GMT")?;
    let mut parts = rest.split(|byte| *byte == b' ');
    let (day, month, year) = (digits(parts.next()?, 2)?, month(parts.next()?)?, digits(parts.next()?, 4)?);
    let time = time_of_day(parts.next()?)?;
    parts.next().is_none().then(|| seconds(year, month, day, time))?
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850_date(text: &[u8]) -> Option<u64> {
    let comma = text.iter().position(|byte| *byte == b',')?;
    let (day_name, rest) = text.split_at_checked(comma)?;
    DAYS.iter().find(|(_, long)| *long == day_name)?;
    let rest = rest.strip_prefix(b", ")?.strip_suffix(b" GMT")?;
    let (date, time) = rest.split_at_checked(9)?;
    let mut parts = date.split(|byte| *byte == b'-');
    let (day, month, year) = (digits(parts.next()?, 2)?, month(parts.next()?)?, digits(parts.next()?, 2)?);
    if parts.next().is_some() {
        return None;
    }
    // What seems to be more than 50 years ahead was in the past.
    let year = match CENTURY_PIVOT - CENTURY_PIVOT % 100 + year {
        year if year > CENTURY_PIVOT + 50 => year - 100,
        year => year,
    };
    seconds(year, month, day, time_of_day(time.strip_prefix(b" ")?)?)
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime_date(text: &[u8]) -> Option<u64> {
    let (day_name, rest) = text.split_at_checked(3)?;
    DAYS.iter().find(|(short, _)| *short == day_name)?;
    let (month_name, rest) = rest.strip_prefix(b" ")?.split_at_checked(3)?;
    let (day, rest) = rest.strip_prefix(b" ")?.split_at_checked(2)?;
    let day = match day {
        [b' ', digit] => digits(&[*digit], 1)?,
        day => digits(day, 2)?,
    };
    let (time, year) = rest.strip_prefix(b" ")?.split_at_checked(8)?;
    seconds(digits(year.strip_prefix(b" ")?, 4)?, month(month_name)?, day, time_of_day(time)?)
}

fn month(name: &[u8]) -> Option<u64> {
    MONTHS.iter().position(|month| *month == name).map(|at| at as u64)
}

/// `08:49:37` in seconds.
fn time_of_day(text: &[u8]) -> Option<u64> {
    let mut parts = text.split(|byte| *byte == b':');
    let (hour, minute, second) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    // A leap second is none of ours.
    let is_time = hour < 24 && minute < 60 && second <= 60 && parts.next().is_none();
    is_time.then_some(hour * 3_600 + minute * 60 + second)
}

fn digits(text: &[u8], count: usize) -> Option<u64> {
    let is_number = text.len() == count && text.iter().all(u8::is_ascii_digit);
    is_number.then(|| text.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// Of a day of the Gregorian calendar; months count from 0.
fn seconds(year: u64, month: u64, day: u64, time: u64) -> Option<u64> {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = match month {
        1 => 28 + u64::from(is_leap),
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    };
    if day == 0 || day > length {
        return None;
    }
    if year < 1970 {
        return Some(0);
    }
    // Years begin in March here, so that the leap day is their last one.
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    // The first of January 1970 by the same count.
    Some((days - 719_469) * 86_400 + time)
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_three_forms_are_read() {
        for (text, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
            ("Sun Nov  6 08:49:37 1994", 784_111_777),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Wed, 31 Dec 1969 23:59:59 GMT", 0),
            ("Thu, 29 Feb 2024 00:00:00 GMT", 1_709_164_800),
            ("Fri, 31 Dec 9999 23:59:60 GMT", 253_402_300_800),
            ("Thursday, 18-Aug-50 02:01:18 GMT", 2_544_400_878),
            ("Tuesday, 01-Jan-80 00:00:00 GMT", 315_532_800),
            (" Sun Nov 16 08:49:37 1994 ", 784_975_777),
        ] {
            assert_eq!(read_date(text.as_bytes()), Some(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_date() {
        for text in [
            "",
            "0",
            "-1",
            ",",
            "foo",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 gmt",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun 06 Nov 1994 08:49:37 GMT",
            "Sun,  06 Nov 1994 08:49:37 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08.49.37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 23:60:00 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Wed, 29 Feb 2023 00:00:00 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-1994 08:49:37 GMT",
            "Sun Nov 006 08:49:37 1994",
            "Sun Nov  6 08:49:37 94",
            "\u{dc}ber, 06-Nov-94 08:49:37 GMT",
        ] {
            assert_eq!(read_date(text.as_bytes()), None, "{text}");
        }
    }

    /// The days since 1970, counted one by one.
    fn counted(year: u64, month: u64, day: u64) -> u64 {
        let is_leap = |year: u64| (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
        let lengths = |year| [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let years: u64 = (1970..year).map(|year| 365 + u64::from(is_leap(year))).sum();
        years + lengths(year)[..month as usize].iter().sum::<u64>() + day - 1
    }

    proptest! {
        #[test]
        fn days_are_counted_as_by_hand(year in 1970_u64..2500, month in 0_u64..12, day in 1_u64..29,
            time in 0_u64..86_400) {
            let name = core::str::from_utf8(MONTHS[month as usize]).unwrap();
            let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
            let text = format!("Mon, {day:02} {name} {year} {hour:02}:{minute:02}:{second:02} GMT");
            prop_assert_eq!(read_date(text.as_bytes()), Some(counted(year, month, day) * 86_400 + time));
        }

        #[test]
        fn any_bytes_are_safe(text in prop::collection::vec(any::<u8>(), 0..40)) {
            read_date(&text);
        }

        #[test]
        fn what_is_nearly_a_date_is_safe(at in 0_usize..29, byte: u8, form in 0_usize..3) {
            let forms = ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"];
            let mut text = forms[form].as_bytes().to_vec();
            let at = at % text.len();
            text[at] = byte;
            read_date(&text);
        }
    }
}
