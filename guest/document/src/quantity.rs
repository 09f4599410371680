//! Numbers, truth, lengths of time and amounts of bytes, in all the ways that people write them.

use alloc::{
    format,
    string::{String, ToString},
};
use core::fmt;

use crate::node::{Content, Node};

/// Integers up to here are exact in a JSON number that passes through a double, as all do on their way through Higress.
pub const EXACT_MAX: u64 = 1 << 53;

/// What a node says, if that is true or false as Higress' own plugin understands it.
pub fn truth(node: &Node) -> Option<bool> {
    match &node.content {
        Content::Bool(value) => Some(*value),
        Content::Unsigned(_) | Content::Float(_) => match whole_number(node) {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        },
        Content::Text(text) => match whole_part(text).to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => Some(true),
            "false" | "f" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// The number that a node is or spells, if it is whole and not negative.
pub fn whole_number(node: &Node) -> Option<u64> {
    match &node.content {
        Content::Unsigned(number) => Some(*number),
        Content::Float(number) => {
            let whole = *number as u64;
            (whole as f64 == *number && whole <= EXACT_MAX).then_some(whole)
        }
        Content::Text(text) => {
            let digits = whole_part(text);
            if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
        }
        _ => None,
    }
}

/// A text of digits without a fraction of zeros: YAML hands `5.0` on as it is written. Any other text as it is.
fn whole_part(text: &str) -> &str {
    let is_of = |text: &str, is_it: fn(&u8) -> bool| !text.is_empty() && text.bytes().all(|byte| is_it(&byte));
    match text.split_once('.') {
        Some((digits, zeros)) if is_of(digits, u8::is_ascii_digit) && is_of(zeros, |byte| *byte == b'0') => digits,
        _ => text,
    }
}

/// The number that a text spells. YAML has more ways to write numbers than JSON, such as `.5` and `0.50`, and hands
/// them on as texts.
pub fn spelled(text: &str) -> Option<Content> {
    let allowed = |byte: u8| byte.is_ascii_digit() || b"eE+-.".contains(&byte);
    if !text.bytes().all(allowed) {
        return None;
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    let zero = if text.starts_with('.') { "0" } else { "" };
    let content = Node::parse(format!("{zero}{text}").as_bytes()).ok()?.content;
    matches!(content, Content::Unsigned(_) | Content::Float(_)).then_some(content)
}

const SECOND_US: u64 = 1_000_000;

/// A unit: how it is written, and how much one of it is.
type Unit = (&'static str, u64);

/// Lengths of time, in microseconds.
const TIMES: [Unit; 5] =
    [("ms", 1_000), ("s", SECOND_US), ("m", 60_000_000), ("h", 3_600_000_000), ("d", 86_400_000_000)];

/// Amounts of bytes. `KB` and `MB` are taken for `KiB` and `MiB`, as they are in most such files.
const SIZES: [Unit; 8] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kb", 1 << 10),
    ("kib", 1 << 10),
    ("m", 1 << 20),
    ("mb", 1 << 20),
    ("mib", 1 << 20),
];

/// A whole number of one of these units, in the smallest.
fn amount(text: &str, units: &[Unit]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// A length of time such as `500ms`, `10s`, `5m`, `2h` or `7d`, in microseconds.
pub fn duration_us(text: &str) -> Option<u64> {
    amount(text, &TIMES)
}

/// An amount of bytes such as `65536`, `64KiB`, `64k` or `1MiB`.
pub fn size(text: &str) -> Option<u64> {
    amount(&text.to_ascii_lowercase(), &SIZES)
}

/// A length of time in microseconds, as a person writes it: `1m`, `90s`, `937.5 ms`.
#[derive(Debug, Clone, Copy)]
pub struct TimeSpan(pub u64);

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [_, larger @ ..] = &TIMES;
        let whole = larger.iter().rev().find(|(_, us)| self.0 > 0 && self.0.is_multiple_of(*us));
        match whole {
            Some((unit, us)) => write!(f, "{}{unit}", self.0 / us),
            None if self.0 >= SECOND_US => write!(f, "{} s", thousandths(self.0 / 1_000)),
            None => write!(f, "{} ms", thousandths(self.0)),
        }
    }
}

/// A number given in thousandths, without zeros at its end.
pub fn thousandths(number: u64) -> String {
    let text = format!("{}.{:03}", number / 1_000, number % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// An amount of bytes, as it would be written: `16MiB`, `960KiB`, `1000`.
#[derive(Debug, Clone, Copy)]
pub struct ByteCount(pub u64);

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 % (1 << 20), self.0 % (1 << 10)) {
            (0, _) => write!(f, "{}MiB", self.0 >> 20),
            (_, 0) => write!(f, "{}KiB", self.0 >> 10),
            _ => self.0.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_need_a_unit_and_sizes_may_have_one() {
        assert_eq!(
            [duration_us("1500ms"), duration_us("2 h"), duration_us("0s")],
            [Some(1_500_000), Some(7_200_000_000), Some(0)]
        );
        for text in ["", "5", "s", "-1s", "1.5s", "1w", "99999999999999999999s", "18446744073709551615h", "1S", " 1s"] {
            assert_eq!(duration_us(text), None, "{text}");
        }
        for (text, bytes) in
            [("65536", 65536), ("64KiB", 65536), ("64k", 65536), ("64 KB", 65536), ("1MiB", 1 << 20), ("9000b", 9000)]
        {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "KiB", "-1", "1GiB", "1.5k", "99999999999999999999KiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn amounts_are_written_as_they_would_be_read() {
        let spans =
            [365 * 86_400 * SECOND_US, 90 * SECOND_US, 1_500_000, 937_500, 0].map(|us| TimeSpan(us).to_string());
        assert_eq!(spans, ["365d", "90s", "1.5 s", "937.5 ms", "0 ms"]);
        let sizes = [16 << 20, 960 << 10, 1_000, 1].map(|bytes| ByteCount(bytes).to_string());
        assert_eq!(sizes, ["16MiB", "960KiB", "1000", "1"]);
    }

    #[test]
    fn numbers_are_read_however_they_are_written() {
        let number = |json: &str| whole_number(&Node::parse(json.as_bytes()).unwrap());
        assert_eq!(
            [number("5"), number("5.0"), number("\"05\""), number("\"5.00\""), number("1e3")],
            [Some(5), Some(5), Some(5), Some(5), Some(1_000)]
        );
        assert_eq!(
            [
                number("-5"),
                number("5.5"),
                number("\"5.\""),
                number("\"5.01\""),
                number("\"\""),
                number("\".0\""),
                number("null")
            ],
            [None; 7]
        );
        let share = |text: &str| match spelled(text) {
            Some(Content::Float(number)) => Some(number),
            Some(Content::Unsigned(number)) => Some(number as f64),
            _ => None,
        };
        assert_eq!(
            [share(".5"), share("+0.50"), share("1"), share("1e-1")],
            [Some(0.5), Some(0.5), Some(1.0), Some(0.1)]
        );
        assert_eq!([share("five"), share(""), share("-1")], [None; 3]);
    }
}
