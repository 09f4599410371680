//! Base64 (RFC 4648), in the alphabet of section 4 or the one of section 5 for URLs.

use alloc::vec::Vec;

/// What the digits 62 and 63 are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base64 {
    /// `+` and `/`.
    Plain,
    /// `-` and `_`.
    Url,
}

impl Base64 {
    /// Without padding.
    pub(crate) fn encode(self, bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
        for part in bytes.chunks(3) {
            let number =
                part.iter().fold(0, |number: u32, byte| number << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
            let digits = [18, 12, 6, 0].map(|shift| self.digit((number >> shift & 0x3f) as u8));
            text.extend(digits.into_iter().take(part.len() + 1));
        }
        text
    }

    /// With or without padding. None: it is something else, or not spelt as [`encode`](Self::encode) would.
    pub(crate) fn decode(self, text: &[u8]) -> Option<Vec<u8>> {
        let digits = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
        if digits.len() != text.len() && !text.len().is_multiple_of(4) {
            return None;
        }
        let mut bytes = Vec::with_capacity(digits.len().div_ceil(4) * 3);
        for part in digits.chunks(4) {
            let number =
                part.iter().try_fold(0, |number: u32, digit| Some(number << 6 | u32::from(self.value(*digit)?)))?;
            let number = number << (6 * (4 - part.len()));
            let length = part.len() - 1;
            let [_, decoded @ ..] = number.to_be_bytes();
            bytes.extend(decoded.into_iter().take(length));
            let is_one_spelling = length > 0 && number.trailing_zeros() as usize >= 8 * (3 - length);
            if !is_one_spelling {
                return None;
            }
        }
        Some(bytes)
    }

    /// The digit of six bits.
    pub(crate) fn digit(self, value: u8) -> u8 {
        match (value, self) {
            (0..=25, _) => b'A' + value,
            (26..=51, _) => b'a' + (value - 26),
            (52..=61, _) => b'0' + (value - 52),
            (62, Base64::Plain) => b'+',
            (62, Base64::Url) => b'-',
            (_, Base64::Plain) => b'/',
            (_, Base64::Url) => b'_',
        }
    }

    /// The six bits that a digit stands for. None: it is none.
    pub(crate) fn value(self, digit: u8) -> Option<u8> {
        Some(match (digit, self) {
            (b'A'..=b'Z', _) => digit - b'A',
            (b'a'..=b'z', _) => digit - b'a' + 26,
            (b'0'..=b'9', _) => digit - b'0' + 52,
            (b'+', Base64::Plain) | (b'-', Base64::Url) => 62,
            (b'/', Base64::Plain) | (b'_', Base64::Url) => 63,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_that_of_the_rfc() {
        for (bytes, text) in
            [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(Base64::Plain.encode(bytes.as_bytes()), text.as_bytes());
        }
        assert_eq!(Base64::Plain.encode(&[0xfb, 0xff]), b"+/8");
        assert_eq!(Base64::Url.encode(&[0xfb, 0xff]), b"-_8");
        assert_eq!(Base64::Plain.decode(b"Zg=="), Some(b"f".to_vec()));
        for text in ["Z", "Zg=", "Zh", "Zm9vYh", "Z g", "Zg===", "=", "-_8", "Zm9v="] {
            assert_eq!(Base64::Plain.decode(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn bytes_have_one_spelling(bytes in prop::collection::vec(any::<u8>(), 0..40),
            text in "[A-Za-z0-9+/=_-]{0,9}") {
            for form in [Base64::Plain, Base64::Url] {
                prop_assert_eq!(form.decode(&form.encode(&bytes)), Some(bytes.clone()));
                if let Some(decoded) = form.decode(text.as_bytes()) {
                    prop_assert_eq!(form.encode(&decoded), text.trim_end_matches('=').as_bytes());
                }
            }
        }
    }
}
