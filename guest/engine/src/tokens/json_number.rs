//! A number as it comes, digit by digit, to be a count.

/// What a count is at most; one that says more says this. All classes of an answer together, weighed, stay far below
/// 2^63.
pub const COUNT_MAX: u64 = 1 << 40;

/// Digits beyond these only make a number longer.
const MANTISSA_MAX: u64 = 1_000_000_000_000_000_000;

/// More than any number that is a count, or near one.
const EXPONENT_MAX: i32 = 100_000;

/// What was read of a number so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct JsonNumber {
    mantissa: u64,
    /// By which power of ten the mantissa counts, without what the number itself says.
    scale: i32,
    exponent: i32,
    part: NumberPart,
    is_negative: bool,
    is_exponent_negative: bool,
}

/// What the last character belongs to; those where a number may end, and those where it may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NumberPart {
    Beginning,
    Sign,
    Whole,
    Point,
    Fraction,
    ExponentLetter,
    ExponentSign,
    Exponent,
    Malformed,
}

// === impl JsonNumber ===

impl JsonNumber {
    pub(super) const NEW: JsonNumber = JsonNumber {
        mantissa: 0,
        scale: 0,
        exponent: 0,
        part: NumberPart::Beginning,
        is_negative: false,
        is_exponent_negative: false,
    };

    /// Whether a number may begin so.
    #[inline]
    pub(super) fn begins_with(byte: u8) -> bool {
        byte == b'-' || byte.is_ascii_digit()
    }

    /// Takes the next character. False: the number has ended before it.
    #[inline]
    pub(super) fn take(&mut self, byte: u8) -> bool {
        use NumberPart::{Beginning, Exponent, ExponentLetter, ExponentSign, Fraction, Malformed, Point, Sign, Whole};
        self.part = match (self.part, byte) {
            (Beginning | Sign | Whole, b'0'..=b'9') => {
                self.digit(byte, 1);
                Whole
            }
            (Point | Fraction, b'0'..=b'9') => {
                self.digit(byte, 0);
                Fraction
            }
            (ExponentLetter | ExponentSign | Exponent, b'0'..=b'9') => {
                self.exponent = (self.exponent * 10 + i32::from(byte - b'0')).min(EXPONENT_MAX);
                Exponent
            }
            (Beginning, b'-') => {
                self.is_negative = true;
                Sign
            }
            (Whole, b'.') => Point,
            (Whole | Fraction, b'e' | b'E') => ExponentLetter,
            (ExponentLetter, b'+' | b'-') => {
                self.is_exponent_negative = byte == b'-';
                ExponentSign
            }
            (_, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-') => Malformed,
            _ => return false,
        };
        true
    }

    /// The number as a count: a fraction is rounded up, what is too large is [`COUNT_MAX`]. None: it is malformed, or
    /// negative.
    #[inline]
    pub(super) fn count(&self) -> Option<u64> {
        if self.is_negative || !matches!(self.part, NumberPart::Whole | NumberPart::Fraction | NumberPart::Exponent) {
            return None;
        }
        let exponent = if self.is_exponent_negative { -self.exponent } else { self.exponent };
        let power = exponent.saturating_add(self.scale);
        let factor = 10_u64.checked_pow(power.unsigned_abs());
        Some(match (self.mantissa, factor) {
            (0, _) => 0,
            (mantissa, Some(factor)) if power >= 0 => mantissa.saturating_mul(factor).min(COUNT_MAX),
            (mantissa, Some(factor)) => mantissa.div_ceil(factor).min(COUNT_MAX),
            (_, None) if power >= 0 => COUNT_MAX,
            (_, None) => 1,
        })
    }

    /// A digit of the mantissa, before the point (1) or behind it (0).
    #[inline]
    fn digit(&mut self, byte: u8, whole: i32) {
        if self.mantissa < MANTISSA_MAX {
            self.mantissa = self.mantissa * 10 + u64::from(byte - b'0');
            self.scale = self.scale.saturating_add(whole - 1);
        } else {
            self.scale = self.scale.saturating_add(whole);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count(text: &str) -> Option<u64> {
        let mut number = JsonNumber::NEW;
        assert!(text.bytes().all(|byte| number.take(byte)) && !number.take(b','), "{text}");
        number.count()
    }

    #[test]
    fn counts_are_whole_and_bounded() {
        for (text, expected) in [
            ("0", 0),
            ("17", 17),
            ("17.0", 17),
            ("17.2", 18),
            ("1.7e1", 17),
            ("1.72e1", 18),
            ("170E-1", 17),
            ("2e+3", 2_000),
            ("0e99999999999", 0),
            ("1e-99999999999", 1),
            ("1e99999999999", COUNT_MAX),
            ("18446744073709551616", COUNT_MAX),
            ("123456789012345678901234567890e-25", 12_346),
            ("0.0000000000000000000000000000001", 1),
            ("12.00000000000000000000000000000000000", 12),
        ] {
            assert_eq!(count(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_count_is_none() {
        for text in ["-", "-1", "-0", "1.", ".5", "1e", "1e+", "1.2.3", "--1", "1-2", "+1", "1e5.0", "1ee5"] {
            assert_eq!(count(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_number_is_what_serde_json_makes_of_it(number in prop_oneof![
            (0..1_000_000_u64).prop_map(|number| alloc::format!("{number}")),
            (0..1_000_000_u32, 0..1_000_u32).prop_map(|(whole, part)| alloc::format!("{whole}.{part:03}")),
            (0..1_000_u32, 0..1_000_u32, 0..9_u32).prop_map(|(whole, part,
                power)| alloc::format!("{whole}.{part:03}e{power}")),
        ]) {
            let value: f64 = serde_json::from_str(&number).unwrap();
            prop_assert_eq!(count(&number),
                Some(((value * 1e6).round() / 1e6).ceil() as u64).map(|count| count.min(COUNT_MAX)));
        }
    }
}
