//! How much a model has said, and how many tokens that looks like.

use crate::byte_search;

/// How many bytes of text a token has, roughly.
pub(crate) const BYTES_PER_TOKEN: u64 = 4;

/// The same of a text that is mostly not ASCII: letters of other alphabets have two or three bytes.
const BYTES_PER_TOKEN_BEYOND_ASCII: u64 = 3;

/// A text of which only is known how long it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpokenText {
    /// All its bytes.
    pub bytes: u64,
    /// Those of characters that are not ASCII.
    pub beyond_ascii: u64,
}

impl SpokenText {
    /// More of it.
    #[inline]
    pub(super) fn add(&mut self, text: &[u8]) {
        self.bytes = self.bytes.saturating_add(text.len() as u64);
        self.beyond_ascii = self.beyond_ascii.saturating_add(byte_search::beyond_ascii(text));
    }

    /// How many tokens it looks like: one for every four bytes, or for every three if more than half of them are of
    /// characters that are not ASCII.
    pub fn tokens(self) -> u64 {
        let is_mostly_beyond = self.beyond_ascii > self.bytes / 2;
        self.bytes.div_ceil(if is_mostly_beyond { BYTES_PER_TOKEN_BEYOND_ASCII } else { BYTES_PER_TOKEN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_other_alphabets_has_three_bytes() {
        for (text, tokens) in [
            ("", 0),
            ("abcde", 2),
            ("éa", 1),
            ("Ein schöner größerer Zug", 7),
            ("привет", 4),
            ("你好，世界", 5),
            ("ééaaaa", 2),
            ("ééaaa", 3),
        ] {
            let mut spoken = SpokenText::default();
            spoken.add(text.as_bytes());
            assert_eq!(spoken.tokens(), tokens, "{text}");
            let mut pieces = SpokenText::default();
            text.as_bytes().chunks(1).for_each(|byte| pieces.add(byte));
            assert_eq!(pieces, spoken, "{text}");
        }
        let endless = SpokenText { bytes: u64::MAX, beyond_ascii: u64::MAX };
        assert_eq!(endless.tokens(), u64::MAX / 3);
    }
}
