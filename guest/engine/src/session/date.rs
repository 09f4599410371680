//! The one form of date in which JavaScript writes JSON: `2026-11-29T23:31:47.378Z`, with six digits and a sign for
//! years of more than four.

use core::str;

/// Milliseconds since 1970. None: it is no such date.
pub(super) fn unix_ms(text: &[u8]) -> Option<i64> {
    let (is_long, sign, rest) = match text {
        [b'+', rest @ ..] => (true, 1, rest),
        [b'-', rest @ ..] => (true, -1, rest),
        rest => (false, 1, rest),
    };
    let (year, rest) = rest.split_at_checked(if is_long { 6 } else { 4 })?;
    let [b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2, b'.', f1, f2, f3, b'Z'] = rest else {
        return None;
    };
    let number = |digits: &[u8]| {
        let is_number = digits.iter().all(u8::is_ascii_digit);
        str::from_utf8(digits).ok().filter(|_| is_number)?.parse::<i64>().ok()
    };
    let two = |high: &u8, low: &u8, max: i64| number(&[*high, *low]).filter(|number| *number <= max);
    let days = days(sign * number(year)?, two(m1, m2, 12)?, two(d1, d2, 31)?)?;
    let seconds = (days * 24 + two(h1, h2, 24)?) * 3_600 + two(n1, n2, 59)? * 60 + two(s1, s2, 59)?;
    Some(seconds * 1_000 + number(&[*f1, *f2, *f3])?)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years begin in March here, so that the day that leap years
/// have more is the last.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if month < 1 || day < 1 {
        return None;
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some(year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_javascript() {
        for (text, expected) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2000-02-29T00:00:00.000Z", 951_782_400_000),
            ("2000-03-01T00:00:00.000Z", 951_868_800_000),
            ("2026-11-30T00:31:47.378Z", 1_795_998_707_378),
            ("+275760-09-13T00:00:00.000Z", 8_640_000_000_000_000),
            ("-271821-04-20T00:00:00.000Z", -8_640_000_000_000_000),
        ] {
            assert_eq!(unix_ms(text.as_bytes()), Some(expected), "{text}");
        }
        for text in [
            "",
            "2026-11-30",
            "2026-11-30T00:31:47Z",
            "2026-11-30T00:31:47.378",
            "2026-11-30T00:31:47.378+01:00",
            "2026-13-30T00:31:47.378Z",
            "2026-00-30T00:31:47.378Z",
            "2026-11-00T00:31:47.378Z",
            "2026-11-30T00:61:47.378Z",
            "2026-11-30T0-:31:47.378Z",
            "Mon, 30 Nov 2026 00:31:47 GMT",
            "+2026-11-30T00:31:47.378Z",
        ] {
            assert_eq!(unix_ms(text.as_bytes()), None, "{text}");
        }
    }
}
