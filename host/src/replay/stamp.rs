//! Times as logs write them.

/// A time in microseconds since 1970, and whether less than a second of it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogStamp {
    pub(super) us: u64,
    pub(super) is_whole_second: bool,
}

const SECOND_US: u64 = 1_000_000;

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

impl LogStamp {
    /// Reads `01/Dec/2026:03:44:41 +0000`, `2026-12-01T03:44:41.123Z`, or seconds (milli-, micro-, nanoseconds) since
    /// 1970. None: it is no time.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        match text.get(2) {
            Some(b'/') => common(text),
            _ if text.get(4) == Some(&b'-') => iso(text),
            _ => since_1970(text),
        }
    }
}

/// As the common log format has it.
fn common(text: &[u8]) -> Option<LogStamp> {
    let day = number(text.get(..2)?)?;
    let name = text.get(3..6)?;
    let month = MONTHS.iter().position(|month| month.as_slice() == name)?;
    let year = number(text.get(7..11)?)?;
    let time = seconds_of_day(text.get(12..20)?)?;
    let zone = text.get(20..).map_or(Some(0), zone)?;
    let seconds = (days(year, month as i64 + 1, day)? * 86_400 + time).checked_sub(zone)?;
    Some(LogStamp { us: u64::try_from(seconds).ok()?.checked_mul(SECOND_US)?, is_whole_second: true })
}

/// As RFC 3339 has it, or with a space in the middle.
fn iso(text: &[u8]) -> Option<LogStamp> {
    let (year, month, day) = (number(text.get(..4)?)?, number(text.get(5..7)?)?, number(text.get(8..10)?)?);
    if text.get(7) != Some(&b'-') || !matches!(text.get(10), Some(b'T' | b't' | b' ')) {
        return None;
    }
    let time = seconds_of_day(text.get(11..19)?)?;
    let rest = text.get(19..)?;
    let (fraction, rest) = match rest.split_first() {
        Some((b'.' | b',', rest)) => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (Some(microseconds(rest.get(..digits)?)), rest.get(digits..)?)
        }
        _ => (None, rest),
    };
    let seconds = (days(year, month, day)? * 86_400 + time).checked_sub(zone(rest)?)?;
    let us = u64::try_from(seconds).ok()?.checked_mul(SECOND_US)?.checked_add(fraction.unwrap_or_default())?;
    Some(LogStamp { us, is_whole_second: fraction.is_none() })
}

/// Seconds with or without a fraction, or a whole number of smaller units, told apart by its length.
fn since_1970(text: &[u8]) -> Option<LogStamp> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = u64::try_from(number(text.get(..digits)?)?).ok()?;
    let rest = text.get(digits..)?;
    let (unit_us, has_fraction) = match (digits, rest.first()) {
        (1..=11, Some(b'.')) => {
            let fraction = rest.get(1..)?;
            let is_number = !fraction.is_empty() && fraction.iter().all(u8::is_ascii_digit);
            let us = whole.checked_mul(SECOND_US)?.checked_add(microseconds(fraction))?;
            return is_number.then_some(LogStamp { us, is_whole_second: false });
        }
        (1..=11, None) => (SECOND_US, false),
        (12..=14, _) => (1_000, true),
        (15..=17, _) => (1, true),
        (18..=20, None) => return Some(LogStamp { us: whole / 1_000, is_whole_second: false }),
        _ => return None,
    };
    Some(LogStamp { us: whole.checked_mul(unit_us)?, is_whole_second: !has_fraction })
}

/// The first six digits of a fraction of a second.
fn microseconds(digits: &[u8]) -> u64 {
    let six = digits.iter().copied().chain(std::iter::repeat(b'0')).take(6);
    six.fold(0, |sum, digit| sum * 10 + u64::from(digit.wrapping_sub(b'0') % 10))
}

/// A number of digits only, which fits.
fn number(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0_i64, |sum, byte| match byte {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    })
}

/// Of `03:44:41`. A leap second counts as the one after it.
fn seconds_of_day(text: &[u8]) -> Option<i64> {
    let (hour, minute, second) = (number(text.get(..2)?)?, number(text.get(3..5)?)?, number(text.get(6..8)?)?);
    let is_time = text.get(2) == Some(&b':') && text.get(5) == Some(&b':') && hour < 24 && minute < 60 && second < 61;
    is_time.then_some(hour * 3_600 + minute * 60 + second)
}

/// How far a zone is before UTC, in seconds: `Z`, `+0200`, `-07:00`, or nothing, which counts as UTC.
fn zone(text: &[u8]) -> Option<i64> {
    let text = text.trim_ascii();
    let (sign, rest) = match text.split_first() {
        None | Some((b'Z' | b'z', [])) => return Some(0),
        Some((b'+', rest)) => (1, rest),
        Some((b'-', rest)) => (-1, rest),
        Some(_) => return None,
    };
    let minutes = match rest {
        [_, _, b':', minutes @ ..] => minutes,
        [_, _, minutes @ ..] => minutes,
        _ => return None,
    };
    Some(sign * (number(rest.get(..2)?)? * 3_600 + number(minutes)?.min(59) * 60))
}

/// Days since 1970 of a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years begin in March, so that the day that leap years have is their last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let of_years = 365 * year + year / 4 - year / 100 + year / 400;
    Some(of_years + (153 * month + 2) / 5 + day - 1 - 719_468)
}

/// A time as RFC 3339 has it, in UTC and without a fraction.
pub(super) fn shown(us: u64) -> String {
    let seconds = i64::try_from(us / SECOND_US).unwrap_or_default();
    let (day, of_day) = (seconds.div_euclid(86_400) + 719_468, seconds.rem_euclid(86_400));
    let era = day.div_euclid(146_097);
    let day = day.rem_euclid(146_097);
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let date = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year_of_era + era * 400 + next;
    format!("{year:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}Z", of_day / 3_600, of_day / 60 % 60, of_day % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_all_logs_are_read() {
        let exact = |us| Some(LogStamp { us, is_whole_second: false });
        let whole = |us| Some(LogStamp { us, is_whole_second: true });
        for (text, expected) in [
            ("01/Dec/2026:03:44:41 +0000", whole(1_796_096_681_000_000)),
            ("01/Dec/2026:05:44:41 +0200", whole(1_796_096_681_000_000)),
            ("30/Nov/2026:22:14:41 -0530", whole(1_796_096_681_000_000)),
            ("2026-12-01T03:44:41.123456Z", exact(1_796_096_681_123_456)),
            ("2026-12-01 03:44:41.1", exact(1_796_096_681_100_000)),
            ("2026-12-01T04:44:41+01:00", whole(1_796_096_681_000_000)),
            ("2026-12-01T03:44:41.123456789Z", exact(1_796_096_681_123_456)),
            ("1796096681", whole(1_796_096_681_000_000)),
            ("1796096681.123", exact(1_796_096_681_123_000)),
            ("1796096681123", exact(1_796_096_681_123_000)),
            ("1796096681123456", exact(1_796_096_681_123_456)),
            ("1796096681123456789", exact(1_796_096_681_123_456)),
            ("2024-02-29T00:00:00Z", whole(1_709_164_800_000_000)),
        ] {
            assert_eq!(LogStamp::parse(text.as_bytes()), expected, "{text}");
        }
        for text in
            ["", "-", "now", "01/Foo/2026:03:44:41 +0000", "2026-13-01T00:00:00Z", "2026-12-01T25:00:00Z", "1.", "12/"]
        {
            assert_eq!(LogStamp::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_read_again() {
        for us in [0, 1_709_164_800_000_000, 1_796_096_681_000_000, 4_102_444_799_000_000] {
            let stamp = LogStamp::parse(shown(us).as_bytes()).expect("a time");
            assert_eq!((stamp.us, stamp.is_whole_second), (us, true));
        }
    }
}
