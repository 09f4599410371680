//! Header fields, and what stands in their values: lists, tokens, quoted strings and numbers of seconds.

use alloc::{borrow::Cow, string::String, vec::Vec};

/// A number of seconds that is greater counts as this (RFC 9111, 1.2.2).
pub(crate) const SECONDS_MAX: u64 = 1 << 31;

/// Fields that concern one connection (RFC 9110, 7.6.1, and the old ones that proxies still meet) or its ends
/// (RFC 9111, 3.1). None of them is stored.
const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Fields that are for the client that asked, and of nobody else's business: what sets a cookie, and what an
/// application tells Slidegate's `session` filter of whoever logs in.
const FOR_ONE: [&str; 3] = ["set-cookie", "set-cookie2", "x-slidegate-session-set"];

/// What fields begin with that limiters say of the client that asked.
const OF_LIMITERS: [&str; 4] = ["anthropic-ratelimit-", "ratelimit", "x-ratelimit-", "x-slidegate-"];

/// Header fields in their order, names in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderFields(pub Vec<(String, Vec<u8>)>);

// === impl HeaderFields ===

impl HeaderFields {
    /// Every value of a field, in order; `name` in lower case.
    #[inline]
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |(each, _)| each == name).map(|(_, value)| value.as_slice())
    }

    /// The first value of a field.
    #[inline]
    pub fn first(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_slice())
    }

    /// Whether there is a field of this name.
    #[inline]
    pub fn has(&self, name: &str) -> bool {
        self.first(name).is_some()
    }

    /// All elements of a field that is a list.
    pub fn elements<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.values(name).flat_map(elements)
    }

    /// Whether any of them is for the client that asked, so that nothing of the response is another's.
    pub fn are_for_one(&self) -> bool {
        FOR_ONE.iter().any(|name| self.has(name))
    }

    /// Whether a field is kept (RFC 9111, 3.1): none of a connection is, none for one client, and `age` is kept as a
    /// number.
    pub(crate) fn keeps(&self, name: &str) -> bool {
        may_be_kept(name) && !self.is_hop_by_hop(name)
    }

    /// Whether a field concerns a connection, and not who is at the end of several.
    pub(crate) fn is_hop_by_hop(&self, name: &str) -> bool {
        HOP_BY_HOP.contains(&name)
            || self.elements("connection").any(|listed| listed.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// How many bytes names and values have.
    #[inline]
    pub fn size(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// Whether any response may be kept with a field of this name, unless its `connection` lists that.
#[inline]
pub(crate) fn may_be_kept(name: &str) -> bool {
    // None begins with another letter, and most fields do.
    if !name.starts_with(['a', 'c', 'h', 'k', 'p', 'r', 's', 't', 'u', 'x']) {
        return true;
    }
    let is_for_one = FOR_ONE.contains(&name) || OF_LIMITERS.iter().any(|beginning| name.starts_with(beginning));
    name != "age" && !is_for_one && !HOP_BY_HOP.contains(&name)
}

/// The elements of a list, without the white space around them; empty ones are left out (RFC 9110, 5.6.1). A comma in a
/// quoted string is part of it.
pub(crate) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    split_unquoted(value, b',').filter(|element| !element.is_empty())
}

/// What stands between separators outside of quoted strings, without the white space around it.
pub(crate) fn split_unquoted(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    core::iter::from_fn(move || {
        let text = rest?;
        let (mut is_quoted, mut is_escaped) = (false, false);
        let end = text.iter().position(|byte| {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' if is_quoted => is_escaped = true,
                b'"' => is_quoted = !is_quoted,
                byte => return *byte == separator && !is_quoted,
            }
            false
        });
        let (element, behind) = match end {
            Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..)),
            None => (text, None),
        };
        rest = behind;
        Some(element.trim_ascii())
    })
}

/// The text of a token or a quoted string. None: it is neither.
pub(crate) fn unquoted(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(inner) = text.strip_prefix(b"\"") else { return is_token(text).then_some(Cow::Borrowed(text)) };
    let inner = inner.strip_suffix(b"\"")?;
    let mut plain = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => plain.push(*bytes.next()?),
            b'"' => return None,
            byte => plain.push(*byte),
        }
    }
    Some(Cow::Owned(plain))
}

/// Whether it is a token (RFC 9110, 5.6.2).
#[inline]
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| has_bit(&TOKEN, *byte))
}

/// Whether it is the name of a field in lower case.
#[inline]
pub(crate) fn is_lower_name(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| has_bit(&LOWER_TOKEN, *byte))
}

/// A bit for each character that may stand in a token, and in one without capital letters: each byte of each response
/// that is read is looked up.
const TOKEN: [u32; 8] = bits(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
const LOWER_TOKEN: [u32; 8] = bits(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz");

#[expect(clippy::indexing_slicing, reason = "it is evaluated as it is compiled")]
const fn bits(characters: &[u8]) -> [u32; 8] {
    let (mut bits, mut at) = ([0; 8], 0);
    while at < characters.len() {
        bits[(characters[at] >> 5) as usize] |= 1 << (characters[at] & 31);
        at += 1;
    }
    bits
}

#[inline]
fn has_bit(bits: &[u32; 8], byte: u8) -> bool {
    bits.get(usize::from(byte >> 5)).is_some_and(|bits| bits >> (byte & 31) & 1 == 1)
}

/// Whether it may stand in a header's value: no control characters but the tab (RFC 9110, 5.5).
#[inline]
pub(crate) fn is_field_value(value: &[u8]) -> bool {
    value.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control())
}

/// A number of seconds: digits only (RFC 9111, 1.2.2).
pub(crate) fn delta_seconds(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |seconds: u64, digit: &u8| (seconds * 10 + u64::from(digit - b'0')).min(SECONDS_MAX);
    Some(text.iter().fold(0, add))
}

/// Digits of the greatest number.
pub const DIGITS_MAX: usize = 20;

/// Writes a number in digits, behind what is there.
#[inline]
pub fn push_number(text: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; DIGITS_MAX];
    let mut from = DIGITS_MAX;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        from -= 1;
        if number == 0 {
            break;
        }
    }
    text.extend_from_slice(digits.get(from..).unwrap_or_default());
}

/// Fields with these values, for tests.
#[cfg(test)]
pub(crate) fn headers(fields: &[(&str, &str)]) -> HeaderFields {
    HeaderFields(fields.iter().map(|(name, value)| (String::from(*name), value.as_bytes().to_vec())).collect())
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString, vec};

    use proptest::prelude::*;

    use super::*;

    fn list(value: &str) -> Vec<&str> {
        elements(value.as_bytes()).map(|element| core::str::from_utf8(element).unwrap()).collect()
    }

    #[test]
    fn lists_have_their_elements_whatever_is_quoted() {
        for (value, expected) in [
            ("", &[][..]),
            (" , ,", &[]),
            ("a", &["a"]),
            ("a,b , c", &["a", "b", "c"]),
            ("a=\"1, 2\", b", &["a=\"1, 2\"", "b"]),
            ("a=\"\\\", x\", b", &["a=\"\\\", x\"", "b"]),
            ("a=\"open, b", &["a=\"open, b"]),
        ] {
            assert_eq!(list(value), expected, "{value}");
        }
    }

    #[test]
    fn quotes_are_taken_off_and_nothing_else_is_a_text() {
        for (text, expected) in [
            ("a1", Some("a1")),
            ("\"a b\"", Some("a b")),
            ("\"a\\\"b\"", Some("a\"b")),
            ("\"\"", Some("")),
            ("", None),
            ("a b", None),
            ("\"a", None),
            ("\"a\"b\"", None),
            ("\"a\\\"", None),
            ("\"", None),
        ] {
            assert_eq!(unquoted(text.as_bytes()).as_deref(), expected.map(str::as_bytes), "{text}");
        }
    }

    #[test]
    fn seconds_are_digits_and_bounded() {
        for (text, expected) in [
            ("0", Some(0)),
            ("003600", Some(3_600)),
            ("2147483648", Some(SECONDS_MAX)),
            ("99999999999999999999999", Some(SECONDS_MAX)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.0", None),
            ("1 ", None),
            ("'1'", None),
        ] {
            assert_eq!(delta_seconds(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn fields_that_are_not_kept_are_known_by_their_first_letters() {
        for name in FOR_ONE.iter().chain(&HOP_BY_HOP).chain(&["age", "x-ratelimit-limit", "x-slidegate-a"]) {
            assert!(!may_be_kept(name), "{name}");
        }
        for beginning in OF_LIMITERS {
            assert!(!may_be_kept(&alloc::format!("{beginning}a")), "{beginning}");
        }
        assert!(["", "a", "date", "content-type", "x-a", "etag"].iter().all(|name| may_be_kept(name)));
    }

    #[test]
    fn names_are_tokens_and_in_lower_case_where_that_is_asked() {
        for byte in 0..=u8::MAX {
            let is_one = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            assert_eq!(is_token(&[b'a', byte]), is_one, "{byte}");
            assert_eq!(is_lower_name(&[byte]), is_one && !byte.is_ascii_uppercase(), "{byte}");
        }
        assert!(!is_token(b"") && !is_lower_name(b""));
    }

    #[test]
    fn a_connection_lists_more_fields_of_its_own() {
        let fields = HeaderFields(vec![("connection".to_string(), b"close, X-Own".to_vec())]);
        assert!(fields.is_hop_by_hop("x-own") && fields.is_hop_by_hop("te") && !fields.is_hop_by_hop("x-other"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe_and_no_element_is_empty(value in prop::collection::vec(any::<u8>(), 0..60)) {
            for element in elements(&value) {
                prop_assert!(!element.is_empty());
                let _ = unquoted(element);
            }
        }

        #[test]
        fn elements_without_quotes_are_what_stands_between_commas(value in "[a-c, =]{0,30}") {
            let plain: Vec<&str> = value.split(',').map(str::trim).filter(|element| !element.is_empty()).collect();
            prop_assert_eq!(list(&value), plain);
        }
    }
}
