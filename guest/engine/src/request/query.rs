//! One parameter of a query string, read as Go's `url.Parse` and `url.ParseQuery` read it. Stock plugins are built on
//! these, and a client must not be able to leave a limit by a spelling that only one of the two understands.

use alloc::{borrow::Cow, vec::Vec};

/// The first value of the query parameter `name`, decoded; empty if it has none.
///
/// `None` if it is absent, and also if anything is wrong with the path or with any other parameter: a semicolon, a broken
/// escape, a control byte, an authority that is none.
pub(crate) fn query_parameter<'a>(path: &'a [u8], name: &str) -> Option<Cow<'a, [u8]>> {
    let mut found = None;
    for piece in query(path)?.split(|byte| *byte == b'&') {
        if piece.contains(&b';') {
            return None;
        }
        let (key, value) = cut(piece, b'=');
        let key = decoded(key)?;
        if found.is_none() && *key == *name.as_bytes() && !piece.is_empty() {
            found = Some(decoded(value)?);
        } else if !well_escaped(value) {
            return None;
        }
    }
    found
}

/// The undecoded query, if the rest of the URL is in order.
fn query(url: &[u8]) -> Option<&[u8]> {
    let (url, fragment) = cut(url, b'#');
    if url.iter().any(u8::is_ascii_control) || !well_escaped(fragment) {
        return None;
    }
    let (has_scheme, rest) = after_scheme(url)?;
    let (rest, query) = cut(rest, b'?');
    if !rest.starts_with(b"/") {
        if has_scheme {
            // As in `mailto:somebody`: what is not a path is not looked at.
            return Some(query);
        }
        if cut(rest, b'/').0.contains(&b':') {
            return None;
        }
    }
    let path = match rest.strip_prefix(b"//") {
        Some(authority) if has_scheme || !authority.starts_with(b"/") => {
            let end = authority.iter().position(|byte| *byte == b'/').unwrap_or(authority.len());
            let (authority, path) = authority.split_at_checked(end)?;
            if !is_authority(authority) {
                return None;
            }
            path
        }
        _ => rest,
    };
    well_escaped(path).then_some(query)
}

/// Whether the URL begins with a scheme, and what comes after it. `None` if it begins with a colon.
fn after_scheme(url: &[u8]) -> Option<(bool, &[u8])> {
    let in_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    match url.iter().position(|byte| !in_scheme(byte)) {
        Some(end) if url.get(end) == Some(&b':') => match url.first() {
            Some(b':') => None,
            Some(first) if first.is_ascii_alphabetic() => Some((true, cut(url, b':').1)),
            _ => Some((false, url)),
        },
        _ => Some((false, url)),
    }
}

/// `[userinfo@]host[:port]`
fn is_authority(authority: &[u8]) -> bool {
    match authority.iter().rposition(|byte| *byte == b'@') {
        Some(at) => match (authority.get(..at), authority.get(at.saturating_add(1)..)) {
            (Some(user), Some(host)) => is_userinfo(user) && is_host(host),
            _ => false,
        },
        None => is_host(authority),
    }
}

fn is_userinfo(user: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(byte);
    user.iter().all(allowed) && well_escaped(user)
}

/// A name or `[address]`, with a port or without.
fn is_host(host: &[u8]) -> bool {
    if !host.starts_with(b"[") {
        let port = host.iter().rposition(|byte| *byte == b':').and_then(|at| host.get(at..));
        return port.is_none_or(is_port) && is_host_text(host);
    }
    let Some((address, port)) = host.iter().rposition(|byte| *byte == b']').and_then(|at| host.split_at_checked(at)) else {
        return false;
    };
    let in_order = match address.windows(3).position(|escape| escape == b"%25") {
        Some(at) => address.split_at_checked(at).is_some_and(|(name, zone)| is_host_text(name) && is_zone(zone)),
        None => is_host_text(address),
    };
    in_order && port.strip_prefix(b"]").is_some_and(is_port)
}

/// Nothing, or a colon and digits, possibly none.
fn is_port(port: &[u8]) -> bool {
    port.is_empty() || port.strip_prefix(b":").is_some_and(|digits| digits.iter().all(u8::is_ascii_digit))
}

/// In a host only bytes outside ASCII may be escaped, and the percent sign itself.
fn is_host_text(text: &[u8]) -> bool {
    escapes(text, in_host, |byte| byte >= 0x80 || byte == b'%')
}

/// The zone of an IPv6 address; a space is allowed too, as Windows has it.
fn is_zone(text: &[u8]) -> bool {
    escapes(text, in_host, |byte| in_host(byte) || byte == b'%' || byte == b' ')
}

fn in_host(byte: u8) -> bool {
    byte >= 0x80 || byte.is_ascii_alphanumeric() || b"!$&'()*+,;=:[]<>\"-_.~".contains(&byte)
}

/// Whether every escape is complete.
fn well_escaped(text: &[u8]) -> bool {
    escapes(text, |_| true, |_| true)
}

/// Whether every escape is complete and stands for a byte that is `escapable`, and every other byte is `plain`.
fn escapes(mut text: &[u8], plain: impl Fn(u8) -> bool, escapable: impl Fn(u8) -> bool) -> bool {
    loop {
        text = match text {
            [] => return true,
            [b'%', high, low, rest @ ..] if hex(*high, *low).is_some_and(&escapable) => rest,
            [byte, rest @ ..] if *byte != b'%' && plain(*byte) => rest,
            _ => return false,
        };
    }
}

/// The bytes that a key or a value of a query stands for. `None` if an escape is broken.
fn decoded(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        rest = match rest {
            [] => return Some(Cow::Owned(bytes)),
            [b'%', rest @ ..] => {
                let [high, low, rest @ ..] = rest else { return None };
                bytes.push(hex(*high, *low)?);
                rest
            }
            [byte, rest @ ..] => {
                bytes.push(if *byte == b'+' { b' ' } else { *byte });
                rest
            }
        };
    }
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// What is before the first `separator` and what is after it; nothing if there is none.
fn cut(text: &[u8], separator: u8) -> (&[u8], &[u8]) {
    let at = text.iter().position(|byte| *byte == separator);
    match at.and_then(|at| text.split_at_checked(at)) {
        Some((before, [_, after @ ..])) => (before, after),
        _ => (text, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(path: &[u8], value: Option<&[u8]>) {
        assert_eq!(query_parameter(path, "k").as_deref(), value, "{}", path.escape_ascii());
    }

    #[test]
    fn values() {
        check(b"/?k=v", Some(b"v"));
        check(b"/p?a=1&k=v&b=2", Some(b"v"));
        check(b"/?k=1&k=2", Some(b"1"));
        check(b"/?k", Some(b""));
        check(b"/?k=", Some(b""));
        check(b"/?k=&k=2", Some(b""));
        check(b"/?k=a=b", Some(b"a=b"));
        check(b"/?&&k=v&&", Some(b"v"));
        check(b"/?k=a%20b+c%2b", Some(b"a b c+"));
        check(b"/?%6b=v", Some(b"v"));
        check(b"/?k=%00%fF", Some(b"\0\xff"));
        check(b"/?k=\xff\xfe", Some(b"\xff\xfe"));
        check(b"/?k=v#k=w", Some(b"v"));
        check(b"/?k=a?b", Some(b"a?b"));
        check(b"/??k=v", None);
        check(b"/?K=v", None);
        check(b"/?kk=v", None);
        check(b"/?=v", None);
        check(b"/?+k=v", None);
        check(b"/", None);
        check(b"/?", None);
        check(b"", None);
        check(b"*", None);
        check(b"*?k=v", Some(b"v"));
        check(b"/#?k=v", None);
        assert_eq!(query_parameter(b"/?&a=1", "").as_deref(), None);
        assert_eq!(query_parameter(b"/?&=1", "").as_deref(), Some(&b"1"[..]));
        assert_eq!(query_parameter(b"/?a+b=1", "a b").as_deref(), Some(&b"1"[..]));
        assert_eq!(query_parameter("/?\u{e9}=1".as_bytes(), "\u{e9}").as_deref(), Some(&b"1"[..]));
    }

    #[test]
    fn one_mistake_spoils_all() {
        for query in ["k=v;w", "k=v&a;b", "k=v&%", "k=v&%2", "k=v&%zz=1", "k=v&a=%g0", "k=v&;", "k=v&a=%", "%&k=v"] {
            check(alloc::format!("/?{query}").as_bytes(), None);
        }
        check(b"/%zz?k=v", None);
        check(b"/%2?k=v", None);
        check(b"/%2f?k=v", Some(b"v"));
        check(b"/;a?k=v", Some(b"v"));
        check(b"/?k=v#%", None);
        check(b"/?k=v#%41", Some(b"v"));
        check(b"/\x1f?k=v", None);
        check(b"/?k=v\x7f", None);
        check(b"/?k=v&a=\n", None);
        // Go does not look for control bytes in a fragment.
        check(b"/?k=v#\x01", Some(b"v"));
    }

    #[test]
    fn paths_that_do_not_begin_with_a_slash() {
        check(b"a/b?k=v", Some(b"v"));
        check(b"1:2?k=v", None);
        check(b"a_b:c?k=v", None);
        check(b"./a:b?k=v", Some(b"v"));
        check(b":a?k=v", None);
        check(b"a:b?k=v", Some(b"v"));
        check(b"a:%zz?k=v", Some(b"v"));
        check(b"?k=v", Some(b"v"));
        check(b"http://h/p?k=v", Some(b"v"));
        check(b"http://h?k=v", Some(b"v"));
        check(b"http:///p?k=v", Some(b"v"));
        check(b"http:/p%zz?k=v", None);
    }

    #[test]
    fn a_leading_double_slash_is_an_authority() {
        for authority in
            ["h", "h:80", "h:", "[::1]", "[::1]:80", "[fe80::1%25en%200]:1", "u@h", "u:p%41@h", "u@v@h", "h%e9", "", "h%25", "<a>"]
        {
            check(alloc::format!("//{authority}/p?k=v").as_bytes(), Some(b"v"));
            check(alloc::format!("//{authority}?k=v").as_bytes(), Some(b"v"));
        }
        for authority in
            ["h:x", "a b", "h%41", "h%", "[::1", "[::1]x", "[::1]:x", "u p@h", "u%@h", "[%25%00]", "[%41%25]", "h^", "a|b", "u\\@h", "::x"]
        {
            check(alloc::format!("//{authority}/p?k=v").as_bytes(), None);
        }
        check(b"//h/%zz?k=v", None);
        check(b"///h:x/p?k=v", Some(b"v"));
        check(b"http:///h:x?k=v", Some(b"v"));
    }

    proptest! {
        #[test]
        fn nothing_panics(path in prop::collection::vec(any::<u8>(), 0..60), name in ".{0,4}") {
            query_parameter(&path, &name);
        }

        #[test]
        fn nor_on_what_looks_like_a_url(path in r"(http:)?/{0,3}(\[|\]|@|:|%|%25|[a-f0-9]|/){0,12}\?([k=&;%+#]|%6b){0,12}") {
            query_parameter(path.as_bytes(), "k");
        }

        #[test]
        fn what_is_encoded_is_found(value in prop::collection::vec(any::<u8>(), 0..20)) {
            let mut path = b"/p?a=1&k=".to_vec();
            for byte in &value {
                path.extend(alloc::format!("%{byte:02X}").bytes());
            }
            let found = query_parameter(&path, "k").map(Cow::into_owned);
            prop_assert_eq!(found, Some(value));
        }
    }
}
