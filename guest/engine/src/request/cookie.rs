//! The values of one cookie of a `cookie` header, as any server behind the gateway may read them.

use alloc::{borrow::Cow, vec::Vec};

use super::{
    choice::{Choice, Chooser, RequestValue, Take},
    query::{self, cut, percent_decoded},
};

/// The values of the cookie `name` that a rule goes by. White space around names and values does not count, empty
/// values do not.
///
/// A quoted value (Python, Java) and an escaped one (PHP, Express) count as what they stand for, so that one session
/// has one window; keys may be written either way. A name as it may be spelt in a query, or escaped (PHP), is looked at
/// too, and so is what stands between commas, which separate cookies for some (ASP.NET, servers of RFC 2965), and
/// behind spaces (Python).
///
/// Stock cuts the value at a second `=` and crashes on the bare name; both are mended here.
pub(crate) fn cookie<'a>(header: &'a [u8], name: &str, take: Take) -> Choice<'a> {
    let mut choice = of_pairs(header.split(|byte| *byte == b';'), name, take);
    if header.contains(&b',') {
        choice.join(of_pairs(header.split(|byte| matches!(byte, b';' | b',')), name, take), b",");
    }
    if spaced(header).any(|(_, ends_at_space)| ends_at_space) {
        choice.join(of_pairs(spaced(header).map(|(pair, _)| pair), name, take), b", \t");
    }
    choice
}

/// The pairs as Python's `http.cookies` finds them, which also takes a space for their end where another pair follows,
/// and nothing in quotes; and whether each ends at a space.
fn spaced(header: &[u8]) -> impl Iterator<Item = (&[u8], bool)> {
    let mut rest = header;
    core::iter::from_fn(move || {
        // What else is white space is trimmed from each pair; to look for it here would read all that follows.
        let pairs = rest.trim_ascii_start();
        // No further than to the end of this pair: strangers send thousands without the sign.
        let sign = pairs.iter().position(|byte| matches!(byte, b'=' | b';'));
        let value = sign.and_then(|at| pairs.get(at..)?.strip_prefix(b"=\""));
        let quoted = value.and_then(quoted_length);
        let searched = quoted.zip(sign).map_or(0, |(length, at)| at.saturating_add(length));
        let ends = |at: &usize| pairs.get(*at) == Some(&b';') || begins_pair(pairs.get(*at..).unwrap_or_default());
        let end = (searched..pairs.len()).find(ends).unwrap_or(pairs.len());
        let (pair, after) = pairs.split_at_checked(end)?;
        rest = after.strip_prefix(b";").unwrap_or(after);
        (!pairs.is_empty()).then_some((pair, after.first().is_some_and(|byte| *byte != b';')))
    })
}

/// Whether there is a space, then a name, and an equals sign.
fn begins_pair(text: &[u8]) -> bool {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    // Of several spaces it is the last one, so that none is looked at for each before it.
    let Some((_, name)) = text.split_first().filter(|(first, _)| is_space(first)) else { return false };
    let length = name.iter().position(|byte| *byte == b'=' || is_space(byte));
    length.is_some_and(|length| length > 0 && name.get(length) == Some(&b'='))
}

/// How much of a text is before the quote that ends it.
fn quoted_length(text: &[u8]) -> Option<usize> {
    let mut is_escaped = false;
    text.iter().position(|byte| {
        let ends = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        ends
    })
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
        choice.join(alike.choice(), b"");
    }
    choice
}

/// Whether a server may take the name of a cookie, as it is written, for this one.
pub(crate) fn is_cookie_alike(written: &[u8], name: &str) -> bool {
    // Strangers send thousands: most are told apart by how they begin.
    if let (Some(first), Some(begin)) = (written.first(), name.as_bytes().first())
        && first.is_ascii_graphic()
        && !matches!(first, b'%' | b'.' | b'[' | b'_')
        && !first.eq_ignore_ascii_case(begin)
    {
        return false;
    }
    let key = trim(written);
    key == name.as_bytes() || is_alike(key, name) || latin_trimmed(key) == name.as_bytes()
}

/// Without the white space of Latin-1 too, as which Python reads headers.
fn latin_trimmed(key: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, 0x1c..=0x1f | 0x85 | 0xa0 | 0x0b | 0xc2);
    let start = key.iter().position(|byte| !is_space(byte)).unwrap_or(key.len());
    let end = key.iter().rposition(|byte| !is_space(byte)).map_or(start, |at| at.saturating_add(1));
    key.get(start..end).unwrap_or_default()
}

fn is_alike(key: &[u8], name: &str) -> bool {
    if key.contains(&b'%') {
        return query::is_alike(&percent_decoded(key, |byte| byte), name);
    }
    query::is_alike(key, name)
}

/// A cookie's value as it is counted, and as it is written.
pub(crate) fn cookie_value(written: &[u8]) -> RequestValue<'_> {
    let text = match written {
        [b'"', inner @ .., b'"'] => unquoted(inner),
        _ => Cow::Borrowed(written),
    };
    let text = if text.contains(&b'%') { Cow::Owned(percent_decoded(&text, |byte| byte)) } else { text };
    let written = (*text != *written).then_some(Cow::Borrowed(written));
    RequestValue { text, written }
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
            "k[]=v",
            "k[0]=v",
            "%6b[]=v",
            "a=1 k=v",
            "a=1\tk=v; b=2",
            "a=\"1; \\\" 2\" k=v",
            "a=1 b=2  k=v c=3",
        ] {
            check(header.as_bytes(), &["v"]);
        }
        check(b"k=a=b==", &["a=b=="]);
        check(b"k=a%20b+c", &["a b+c"]);
        check(b"k=%zz%4", &["%zz%4"]);
        check(b"k=\"a", &["\\\"a"]);
        check(b"k=\xff", &["\\xff"]);
        check(b"k=John Smith", &["John Smith"]);
        check(b"k=\"a b=c\"", &["a b=c"]);
        check(b"k=\"a \\\" b=c\"; d=1", &["a \\\" b=c"]);
        check(b"k = a=b", &["a=b"]);
        for spelling in ["a.b", "a b", "a[b", "a%2Eb", "A.B", "a.b[]"] {
            let header = alloc::format!("{spelling}=v");
            assert_eq!(cookie(header.as_bytes(), "a_b", Take::First).values.len(), 1, "{header}");
        }
    }

    #[test]
    fn no_value() {
        for header in ["k", "k=", "k= ", "kk=v; xk=v", "", ";;;", "=v", "a=k=v", "a;k", "a=\" k=v\"", "a=1 [k]=v"] {
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
        check(b"k=v a=1", &["v"]);
        check(b"a=1 k=w; k=v", &["v", "w"]);
        assert_eq!(cookie(b"k=v a=1", "k", Take::First).values[0].written.as_deref(), Some(&b"v a=1"[..]));
        check(b"k=b; K=a", &["b"]);
        assert_eq!(values(b"k=a; k=b; K=c", Take::All), ["a", "b", "c"]);
        assert_eq!(values(b"k=a; k=b", Take::Last), ["b"]);
        assert_eq!(values(b"k=a; k=", Take::Last), ["a"]);
        assert!(cookie(b"k=a; k=a", "k", Take::Refuse).is_refused);
        assert!(!cookie(b"k=a; k=", "k", Take::Refuse).is_refused);
    }

    #[test]
    fn a_header_is_read_as_fast_however_it_is_cut() {
        // What reads the rest anew for each space or pair would take minutes.
        for part in [" ", "a;", "a; ", "a=1; ", "a=1 ", "a ", "a=\"", "a=\"\\\" "] {
            let header = alloc::format!("a=1{}b", part.repeat((4 << 20) / part.len()));
            assert!(values(header.as_bytes(), Take::First).is_empty(), "{part}");
        }
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
        fn however_a_name_begins_it_is_found(written in "[ %.\\[_aAbk0-9\u{a0}\u{1f}]{0,4}", name in "[._a%b]{1,2}") {
            let key = trim(written.as_bytes());
            let is_found = key == name.as_bytes() || is_alike(key, &name) || latin_trimmed(key) == name.as_bytes();
            prop_assert_eq!(is_cookie_alike(written.as_bytes(), &name), is_found);
        }

        #[test]
        fn text_is_trimmed_as_text(text in "[ \t\u{a0}\u{2028}a\u{e9}]{0,8}") {
            prop_assert_eq!(trim(text.as_bytes()), text.trim().as_bytes());
        }
    }
}
