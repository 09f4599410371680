//! The values of one parameter of a query string, as any server behind the gateway may read them.
//!
//! Stock reads a query as Go does and gives up on the whole of it for one bad escape or semicolon, so that
//! `?apikey=k&x=%zz` is free; what stands behind the gateway reads `apikey` all the same. So nothing spoils a query
//! here: an escape that is none stands for itself. Where servers differ, every reading counts: a semicolon separates
//! for old ones, a `#` does not end the query for careless ones, and some find a name in another letter case, with `[]`
//! behind it, or with dots and the like for underscores.

use alloc::{borrow::Cow, vec::Vec};

use super::choice::{Choice, Chooser, Take};

/// The values of the query parameter `name` that a rule goes by, decoded.
pub(crate) fn query_parameter<'a>(path: &'a [u8], name: &str, take: Take) -> Choice<'a> {
    let (without_fragment, fragment) = cut(path, b'#');
    let mut choice = of_query(cut(without_fragment, b'?').1, name, take);
    if !fragment.is_empty() {
        choice.join(of_query(cut(path, b'?').1, name, take), b"#");
    }
    choice
}

fn of_query<'a>(query: &'a [u8], name: &str, take: Take) -> Choice<'a> {
    let mut choice = of_pieces(query.split(|byte| *byte == b'&'), name, take);
    if query.contains(&b';') {
        choice.join(of_pieces(query.split(|byte| matches!(byte, b'&' | b';')), name, take), b";");
    }
    choice
}

fn of_pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>, name: &str, take: Take) -> Choice<'a> {
    let (mut exact, mut alike) = (Chooser::new(take), Chooser::new(take));
    let mut is_spelt_otherwise = false;
    for (key, value) in pieces.map(|piece| cut(piece, b'=')) {
        let key = decoded(key);
        if *key == *name.as_bytes() {
            let value = decoded(value);
            exact.offer(value.clone().into());
            alike.offer(value.into());
        } else if is_alike(&key, name) {
            is_spelt_otherwise = true;
            alike.offer(decoded(value).into());
        }
    }
    let mut choice = exact.choice();
    if is_spelt_otherwise {
        choice.join(alike.choice(), b"");
    }
    choice
}

/// Whether some server takes this for the name: without regard to case (ASP.NET), up to a bracket (PHP, Rails,
/// Express), up to a zero byte, after spaces, and with dots, spaces or a bracket that nothing closes for underscores
/// (PHP).
pub(super) fn is_alike(key: &[u8], name: &str) -> bool {
    let start = key.iter().position(|byte| *byte != b' ').unwrap_or(key.len());
    let key = key.get(start..).unwrap_or_default();
    let before = |is_end: fn(u8) -> bool| {
        let end = key.iter().skip(1).position(|byte| is_end(*byte)).map_or(key.len(), |at| at.saturating_add(1));
        key.get(..end).unwrap_or_default()
    };
    let folded = |byte: u8| match byte {
        b'.' | b' ' | b'[' => b'_',
        byte => byte.to_ascii_lowercase(),
    };
    let is_name = |key: &[u8]| {
        key.len() == name.len() && key.iter().zip(name.bytes()).all(|(one, other)| folded(*one) == folded(other))
    };
    is_name(before(|byte| matches!(byte, b'[' | 0))) || (!key.contains(&b']') && is_name(before(|byte| byte == 0)))
}

/// The bytes that a key or a value of a query stands for: a plus sign is a space, and an escape that is none is itself.
fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let mut bytes = percent_decoded(text, |byte| if byte == b'+' { b' ' } else { byte });
    bytes.shrink_to_fit();
    Cow::Owned(bytes)
}

/// The bytes of a text with its escapes resolved, and the other ones as `plain` has them. An escape that is none is
/// itself.
pub(super) fn percent_decoded(text: &[u8], plain: impl Fn(u8) -> u8) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        rest = match rest {
            [] => return bytes,
            [b'%', high, low, after @ ..] if let Some(byte) = hex(*high, *low) => {
                bytes.push(byte);
                after
            }
            [byte, after @ ..] => {
                bytes.push(plain(*byte));
                after
            }
        };
    }
}

pub(super) fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// What is before the first `separator` and what is after it; nothing if there is none.
pub(super) fn cut(text: &[u8], separator: u8) -> (&[u8], &[u8]) {
    let at = text.iter().position(|byte| *byte == separator);
    match at.and_then(|at| text.split_at_checked(at)) {
        Some((before, [_, after @ ..])) => (before, after),
        _ => (text, &[]),
    }
}

#[cfg(test)]
mod tests {
    use alloc::{string::String, vec};

    use super::*;
    use proptest::prelude::*;

    fn values(path: &[u8], name: &str, take: Take) -> Vec<String> {
        query_parameter(path, name, take)
            .values
            .iter()
            .map(|value| alloc::format!("{}", value.text.escape_ascii()))
            .collect()
    }

    #[track_caller]
    fn check(path: &[u8], expected: &[&str]) {
        assert_eq!(values(path, "k", Take::First), expected, "{}", path.escape_ascii());
    }

    #[test]
    fn one_value() {
        for path in [
            "/?k=v",
            "/p?a=1&k=v&b=2",
            "/?k=v&k=w",
            "/?k=&k=v",
            "/?&&k=v&&",
            "/?%6b=%76",
            "*?k=v",
            "?k=v",
            "a/b:c?k=v",
            "http://h/p?k=v",
            "//h:x/p?k=v",
            "1:2?k=v",
            "/%zz?k=v",
            "/#?k=v",
            "/?#k&k=v",
        ] {
            check(path.as_bytes(), &["v"]);
        }
        check(b"/?k", &[""]);
        check(b"/?k=", &[""]);
        check(b"/?k=a=b", &["a=b"]);
        check(b"/?k=a%20b+c%2b", &["a b c+"]);
        check(b"/?k=%00%fF", &["\\x00\\xff"]);
        check(b"/?k=\xff\xfe", &["\\xff\\xfe"]);
        check(b"/?k=a?b", &["a?b"]);
        check(b"/\x1f?k=v", &["v"]);
        assert_eq!(values(b"/?a+b=1", "a b", Take::First), ["1"]);
        assert_eq!(values("/?\u{e9}=1".as_bytes(), "\u{e9}", Take::First), ["1"]);
    }

    #[test]
    fn no_value() {
        for path in ["/??k=v", "/?kk=v", "/?xk=v", "/?=v", "/", "/?", "", "*", "/k=v", "/?[k]=v", "/?k%zz=v", "/?%=k"] {
            check(path.as_bytes(), &[]);
        }
    }

    #[test]
    fn nothing_spoils_a_query() {
        for query in [
            "k=v&%",
            "k=v&%2",
            "k=v&%zz=1",
            "k=v&a=%g0",
            "%&k=v",
            "k=v&a=\n",
            "x=1;y=2&k=v",
            "k=v&a;b",
            "k=v&;",
            ";;k=v",
            "k=v;w",
        ] {
            assert!(
                values(alloc::format!("/?{query}").as_bytes(), "k", Take::First).contains(&String::from("v")),
                "{query}"
            );
        }
        check(b"/?k=%zz", &["%zz"]);
        check(b"/?k=%4", &["%4"]);
    }

    #[test]
    fn where_servers_differ_every_reading_counts() {
        check(b"/?x=1;k=v", &["v"]);
        check(b"/?k=v;w", &["v"]);
        check(b"/?x=1;k=a&k=b", &["b", "a"]);
        check(b"/?k=v#k=w", &["v"]);
        check(b"/?x#&k=w", &["w"]);
        for key in ["K", "k[]", "k[0]", "k[a][b]", "+k", "%20k", "k%00x", "%4b", "k["] {
            check(alloc::format!("/?{key}=v").as_bytes(), &["v"]);
            check(alloc::format!("/?k=a&{key}=v").as_bytes(), &["a"]);
            check(alloc::format!("/?{key}=v&k=a").as_bytes(), &["a", "v"]);
        }
        assert_eq!(values(b"/?api.key=v", "api_key", Take::First), ["v"]);
        for key in ["API+key", "api[key", "api%5Bkey", "api[key%00", "+api.key[]"] {
            assert_eq!(values(alloc::format!("/?{key}=v").as_bytes(), "api_key", Take::First), ["v"], "{key}");
        }
        for key in ["api[key]", "api[]key", "api]key", "api-key"] {
            assert!(values(alloc::format!("/?{key}=v").as_bytes(), "api_key", Take::First).is_empty(), "{key}");
        }
    }

    #[test]
    fn several_of_a_name() {
        let path = b"/?k=a&k=b&k=a&k=";
        assert_eq!(values(path, "k", Take::First), ["a"]);
        assert_eq!(values(path, "k", Take::Last), ["a"]);
        assert_eq!(values(b"/?k=a&k=b", "k", Take::Last), ["b"]);
        assert_eq!(values(path, "k", Take::All), ["a", "b"]);
        assert!(query_parameter(path, "k", Take::Refuse).is_refused);
        assert!(query_parameter(b"/?k=a&K=b", "k", Take::Refuse).is_refused);
        assert!(query_parameter(b"/?k=a;k=b", "k", Take::Refuse).is_refused);
        assert!(!query_parameter(b"/?k=a", "k", Take::Refuse).is_refused);
    }

    proptest! {
        #[test]
        fn nothing_panics(path in prop::collection::vec(any::<u8>(), 0..60), name in ".{1,4}") {
            query_parameter(&path, &name, Take::All);
        }

        #[test]
        fn nothing_around_it_hides_a_parameter(before in "[a-jx%;#+=&\\[]{0,12}", after in "[k=&;%+#\\[x]{0,12}") {
            let path = alloc::format!("/?{before}&k=v&{after}");
            prop_assert!(values(path.as_bytes(), "k", Take::All).contains(&String::from("v")), "{}", path);
        }

        #[test]
        fn what_is_encoded_is_found(value in prop::collection::vec(any::<u8>(), 0..20)) {
            let mut path = b"/p?a=1&k=".to_vec();
            for byte in &value {
                path.extend(alloc::format!("%{byte:02X}").bytes());
            }
            let found: Vec<_> = query_parameter(&path, "k",
                Take::First).values.into_iter().map(|value| value.text.into_owned()).collect();
            prop_assert_eq!(found, vec![value]);
        }
    }
}
