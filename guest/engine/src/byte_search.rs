//! Where signs stand in bytes, eight of them looked at in a step: most of a stream is text between two signs.

/// One in each byte of a word.
const ONES: u64 = u64::from_le_bytes([0x01; WORD_BYTES]);

/// The highest bit of each byte of a word.
const HIGH_BITS: u64 = u64::from_le_bytes([0x80; WORD_BYTES]);

const WORD_BYTES: usize = size_of::<u64>();

/// The first end of a line: a line feed or a carriage return.
#[inline]
pub(crate) fn line_end(bytes: &[u8]) -> Option<usize> {
    first(bytes, |word| equal(word, b'\n') | equal(word, b'\r'))
}

/// The first quotation mark or backslash.
#[inline]
pub(crate) fn quote_or_escape(bytes: &[u8]) -> Option<usize> {
    first(bytes, |word| equal(word, b'"') | equal(word, b'\\'))
}

/// The first quotation mark, backslash or control character, of which no JSON text has any as they are.
#[inline]
pub(crate) fn quote_escape_or_control(bytes: &[u8]) -> Option<usize> {
    // A byte that is not below a space has no bit left behind only where a lower one took it.
    let place = first(bytes, |word| {
        let controls = word.wrapping_sub(ONES * u64::from(b' ')) & !word & HIGH_BITS;
        equal(word, b'"') | equal(word, b'\\') | controls
    });
    // What is beyond the bytes looks like one.
    place.filter(|place| *place < bytes.len())
}

/// The first quotation mark, brace or bracket.
#[inline]
pub(crate) fn quote_or_bracket(bytes: &[u8]) -> Option<usize> {
    // Braces are brackets with this bit set; no other sign becomes a brace by it.
    first(bytes, |word| {
        let braces = word | (ONES * 0x20);
        equal(word, b'"') | equal(braces, b'{') | equal(braces, b'}')
    })
}

/// The first percent sign or brace.
#[inline]
pub(crate) fn percent_or_brace(bytes: &[u8]) -> Option<usize> {
    first(bytes, |word| equal(word, b'%') | equal(word, b'{') | equal(word, b'}'))
}

/// What comes behind these first bytes. None: others stand there.
#[inline]
pub(crate) fn behind<'a>(bytes: &'a [u8], first: &[u8]) -> Option<&'a [u8]> {
    let (begin, rest) = bytes.split_at_checked(first.len())?;
    is_same(begin, first).then_some(rest)
}

/// Whether two texts are one, eight bytes at a time: what is compared so nearly always is, and comparing bytes costs a
/// guest twenty instructions each.
#[inline]
pub(crate) fn is_same(text: &[u8], other: &[u8]) -> bool {
    let ((words, rest), (other_words, other_rest)) = (text.as_chunks::<WORD_BYTES>(), other.as_chunks::<WORD_BYTES>());
    // The last eight bytes hold the rest.
    let is_end_same = match (text.last_chunk::<WORD_BYTES>(), other.last_chunk::<WORD_BYTES>()) {
        (Some(end), Some(other_end)) => end == other_end,
        _ => rest == other_rest,
    };
    text.len() == other.len() && words.iter().zip(other_words).all(|(word, other)| word == other) && is_end_same
}

/// How many bytes are no characters of ASCII.
#[inline]
pub(crate) fn beyond_ascii(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks();
    let of_words = words.iter().map(|word| u64::from((u64::from_le_bytes(*word) & HIGH_BITS).count_ones()));
    of_words.sum::<u64>() + rest.iter().filter(|byte| !byte.is_ascii()).count() as u64
}

/// The first byte of which the highest bit is set in what `found` makes of its word, where it may be set wrongly only
/// behind one that is set rightly.
#[inline]
fn first(bytes: &[u8], found: impl Fn(u64) -> u64) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<WORD_BYTES>();
    let mut passed = 0;
    for word in words {
        if let Some(at) = first_bit(found(u64::from_le_bytes(*word))) {
            return Some(passed + at);
        }
        passed += WORD_BYTES;
    }
    // What is beyond the bytes is 0, which is none of the signs.
    let word = rest.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte));
    first_bit(found(word)).map(|at| passed + at)
}

/// Sets the highest bit of the first byte that is this one, and perhaps others behind it.
#[inline]
fn equal(word: u64, byte: u8) -> u64 {
    let differing = word ^ (ONES * u64::from(byte));
    differing.wrapping_sub(ONES) & !differing & HIGH_BITS
}

/// In which byte the lowest bit is set.
#[inline]
fn first_bit(bits: u64) -> Option<usize> {
    (bits != 0).then(|| (bits.trailing_zeros() / u8::BITS) as usize)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_is_found_wherever_it_stands(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), b'\t'..=b'\x0e', b'!'..=b'&', b'Z'..=b'^',
                b'z'..=b'~'], 0..40),
        ) {
            let at = |signs: &[u8]| bytes.iter().position(|byte| signs.contains(byte));
            prop_assert_eq!(line_end(&bytes), at(b"\n\r"));
            prop_assert_eq!(beyond_ascii(&bytes), bytes.iter().filter(|byte| !byte.is_ascii()).count() as u64);
            let is_last = |byte: &u8| *byte < b' ' || matches!(byte, b'"' | b'\\');
            prop_assert_eq!(quote_escape_or_control(&bytes), bytes.iter().position(is_last));
            for length in 0..=bytes.len() {
                let first = bytes[..length].to_vec();
                prop_assert_eq!(behind(&bytes, &first), Some(&bytes[length..]));
                for at in 0..length {
                    let mut other = first.clone();
                    other[at] ^= 1;
                    prop_assert_eq!(behind(&bytes, &other), None);
                }
            }
            prop_assert_eq!(behind(&bytes, &[bytes.as_slice(), b"a"].concat()), None);
            prop_assert_eq!(quote_or_escape(&bytes), at(b"\"\\"));
            prop_assert_eq!(quote_or_bracket(&bytes), at(b"\"{}[]"));
            prop_assert_eq!(percent_or_brace(&bytes), at(b"%{}"));
        }
    }

    #[test]
    fn texts_are_the_same_if_all_their_bytes_are() {
        let text: Vec<u8> = (0..40).collect();
        for length in 0..text.len() {
            let whole = &text[..length];
            assert!(is_same(whole, whole));
            assert!(!is_same(whole, &text[..length + 1]) && !is_same(&text[..length + 1], whole));
            for at in 0..length {
                let mut other = whole.to_vec();
                other[at] ^= 1;
                assert!(!is_same(whole, &other), "{length} bytes, {at}");
            }
        }
    }

    #[test]
    fn every_sign_is_found_at_every_place_and_nothing_else_is() {
        for length in 0..20 {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut bytes: Vec<u8> = [b'a'].repeat(length);
                    bytes[at] = byte;
                    let found = |signs: &[u8]| signs.contains(&byte).then_some(at);
                    assert_eq!(line_end(&bytes), found(b"\n\r"));
                    assert_eq!(quote_or_escape(&bytes), found(b"\"\\"));
                    assert_eq!(quote_or_bracket(&bytes), found(b"\"{}[]"));
                    assert_eq!(percent_or_brace(&bytes), found(b"%{}"));
                }
            }
        }
    }
}
