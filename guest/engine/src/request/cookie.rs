//! The values of one cookie of a `cookie` header, as any server behind the gateway may read them.

use alloc::{borrow::Cow, vec::Vec};

use super::{
    choice::{Choice, Chooser, Value},
    query::{cut, percent_decoded},
};
use crate::rule::Take;

/// The values of the cookie `name` that a rule goes by. White space around names and values does not count, empty values do not.
///
/// A quoted value (Python, Java) and an escaped one (PHP, Express) count as what they stand for, so that one session has one
/// window; keys may be written either way. A name in another letter case (ASP.NET) or escaped (PHP) is looked at too, and so is
/// what stands between commas, which separate cookies for some (ASP.NET, servers of RFC 2965).
///
/// Stock cuts the value at a second `=` and crashes on the bare name; both are mended here.
pub(crate) fn cookie<'a>(header: &'a [u8], name: &str, take: Take) -> Choice<'a> {
    let mut choice = of_pairs(header.split(|byte| *byte == b';'), name, take);
    if header.contains(&b',') {
        choice.join(of_pairs(header.split(|byte| matches!(byte, b';' | b',')), name, take));
    }
    choice
}

fn of_pairs<'a>(pairs: impl Iterator<Item = &'a [u8]>, name: &str, take: Take) -> Choice<'a> {
    let (mut exact, mut alike) = (Chooser::new(take), Chooser::new(take));
    let mut is_spelt_otherwise = false;
    for (key, value) in pairs.map(|pair| cut(pair, b'=')) {
        let key = trim(key);
        let is_exact = key == name.as_bytes();
        if !is_exact && !is_alike(key, name) {
            continue;
        }
        let value = cookie_value(trim(value));
        if value.text.is_empty() {
            continue;
        }
        if is_exact {
            exact.offer(value.clone());
        } else {
            is_spelt_otherwise = true;
        }
        alike.offer(value);
    }
    let mut choice = exact.choice();
    if is_spelt_otherwise {
        choice.join(alike.choice());
    }
    choice
}

fn is_alike(key: &[u8], name: &str) -> bool {
    if key.contains(&b'%') {
        return percent_decoded(key, |byte| byte).eq_ignore_ascii_case(name.as_bytes());
    }
    key.eq_ignore_ascii_case(name.as_bytes())
}

/// A cookie's value as it is counted, and as it is written.
pub(crate) fn cookie_value(written: &[u8]) -> Value<'_> {
    let text = match written {
        [b'"', inner @ .., b'"'] => unquoted(inner),
        _ => Cow::Borrowed(written),
    };
    let text = if text.contains(&b'%') { Cow::Owned(percent_decoded(&text, |byte| byte)) } else { text };
    let written = (*text != *written).then_some(Cow::Borrowed(written));
    Value { text, written }
}

/// What is between quotes, with `\"` and `\113` resolved as Python does.
fn unquoted(inner: &[u8]) -> Cow<'_, [u8]> {
    if !inner.contains(&b'\\') {
        return Cow::Borrowed(inner);
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner;
    loop {
        rest = match rest {
            [] => return Cow::Owned(bytes),
            [b'\\', high @ b'0'..=b'3', middle @ b'0'..=b'7', low @ b'0'..=b'7', after @ ..] => {
                bytes.push((high & 7) << 6 | (middle & 7) << 3 | low & 7);
                after
            }
            [b'\\', byte, after @ ..] | [byte, after @ ..] => {
                bytes.push(*byte);
                after
            }
        };
    }
}

/// Without the Unicode white space at both ends.
fn trim(bytes: &[u8]) -> &[u8] {
    trim_end(trim_start(bytes))
}
fn trim_start(bytes: &[u8]) -> &[u8] {
    let space = match bytes.first() {
        Some(first) if first.is_ascii_graphic() => return bytes,
        _ => bytes.utf8_chunks().next().map_or(0, |chunk| {
            let text = chunk.valid();
            text.len().saturating_sub(text.trim_start().len())
        }),
    };
    bytes.get(space..).unwrap_or_default()
}

fn trim_end(bytes: &[u8]) -> &[u8] {
    let space = match bytes.last() {
        Some(last) if last.is_ascii_graphic() => return bytes,
        _ => bytes.utf8_chunks().last().filter(|chunk| chunk.invalid().is_empty()).map_or(0, |chunk| {
            let text = chunk.valid();
            text.len().saturating_sub(text.trim_end().len())
        }),
    };
    bytes.get(..bytes.len().saturating_sub(space)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;
    use proptest::prelude::*;

    fn values(header: &[u8], take: Take) -> Vec<String> {
        cookie(header, "k", take).values.iter().map(|value| alloc::format!("{}", value.text.escape_ascii())).collect()
    }

    #[track_caller]
    fn check(header: &[u8], expected: &[&str]) {
        assert_eq!(values(header, Take::First), expected, "{}", header.escape_ascii());
    }

    #[test]
    fn one_value() {
        for header in [
            "k=v",
            "a=1; k=v; b=2",
            "a=1;k=v;b=2",
            "k=v; k=w",
            "k; k=v",
            "k=; k=v",
            "k=\"\"; k=v",
            "k =v",
            "k= v",
            "\tk\t=\tv\t",
            "$Version=1; k=\"v\"; $Path=/",
            "k=\"v\"",
            "k=%76",
            "k=\"\\166\"",
            "k=\"\\v\"",
            "%6b=v",
            "K=v",
            ";;;k=v;;;",
        ] {
            check(header.as_bytes(), &["v"]);
        }
        check(b"k=a=b==", &["a=b=="]);
        check(b"k=a%20b+c", &["a b+c"]);
        check(b"k=%zz%4", &["%zz%4"]);
        check(b"k=\"a", &["\\\"a"]);
        check(b"k=\xff", &["\\xff"]);
    }

    #[test]
    fn no_value() {
        for header in ["k", "k=", "k= ", "kk=v; xk=v", "", ";;;", "=v", "a=k=v", "a;k"] {
            check(header.as_bytes(), &[]);
        }
    }

    #[test]
    fn where_servers_differ_every_reading_counts() {
        check(b"K=a; k=b", &["b", "a"]);
        for header in ["k=v,a=1", "k=v, a=1", "a=1,k=v", "a=1, k=v; b=2", "k=v,", ",k=v", "k=v,w; b=2"] {
            check(header.as_bytes(), &["v"]);
        }
        check(b"a=1,k=w; k=v", &["v", "w"]);
        assert!(cookie(b"k=v,k=w", "k", Take::Refuse).is_refused);
        let whole = cookie(b"k=v,w", "k", Take::First).values;
        assert_eq!(whole[0].written.as_deref(), Some(&b"v,w"[..]), "a key may be written so");
        check(b"k=b; K=a", &["b"]);
        assert_eq!(values(b"k=a; k=b; K=c", Take::All), ["a", "b", "c"]);
        assert_eq!(values(b"k=a; k=b", Take::Last), ["b"]);
        assert_eq!(values(b"k=a; k=", Take::Last), ["a"]);
        assert!(cookie(b"k=a; k=a", "k", Take::Refuse).is_refused);
        assert!(!cookie(b"k=a; k=", "k", Take::Refuse).is_refused);
    }

    #[test]
    fn the_spelling_of_the_client_is_kept_beside() {
        assert_eq!(cookie_value(b"v").written, None);
        assert_eq!(cookie_value(b"\"v\"").written.as_deref(), Some(&b"\"v\""[..]));
        assert_eq!(cookie_value(b"s%3Av").written.as_deref(), Some(&b"s%3Av"[..]));
    }

    #[test]
    fn unicode_white_space_is_trimmed() {
        check(b"\t\x0b\x0c k=v\r\n ", &["v"]);
        check("a=1;\u{a0}\u{2003}k=v\u{3000};b=2".as_bytes(), &["v"]);
        check(b"\x1fk=v", &[]);
        check(b" k=v\xff ; b=2", &["v\\xff"]);
        check(b"k=v\xe2\x80", &["v\\xe2\\x80"]);
    }

    proptest! {
        #[test]
        fn nothing_panics(header in prop::collection::vec(any::<u8>(), 0..60), name in ".{0,4}") {
            cookie(&header, &name, Take::All);
        }

        #[test]
        fn nothing_around_it_hides_a_cookie(before in "[a-jx%=\" ,$]{0,12}", after in "[k=;%\" ,]{0,12}") {
            let header = alloc::format!("{before}; k=v; {after}");
            prop_assert!(values(header.as_bytes(), Take::All).contains(&String::from("v")), "{}", header);
        }

        #[test]
        fn text_is_trimmed_as_text(text in "[ \t\u{a0}\u{2028}a\u{e9}]{0,8}") {
            prop_assert_eq!(trim(text.as_bytes()), text.trim().as_bytes());
        }
    }
}
