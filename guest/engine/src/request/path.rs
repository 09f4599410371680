//! The path of a request as servers compare it.

use alloc::{borrow::Cow, vec, vec::Vec};

use super::{
    choice::RequestValue,
    query::{cut, hex},
};

/// The path as it is counted: as `path_only`, without the parameters of its segments (`;a=1`) and a slash at its end,
/// which many servers do not look at. What is written is the path with them.
pub(crate) fn counted_path(target: &[u8]) -> RequestValue<'_> {
    let written = path_only(target);
    let mut text = without_dots(&without_parameters(&written));
    if text.len() > 1 && text.ends_with(b"/") {
        text.pop();
    }
    if !written.starts_with(b"/") || text == written {
        return RequestValue { text: Cow::Owned(written), written: None };
    }
    RequestValue { text: Cow::Owned(text), written: Some(Cow::Owned(written)) }
}

/// Without what stands between a semicolon, escaped or not, and the end of its segment.
fn without_parameters(path: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(path.len());
    for segment in path.split(|byte| *byte == b'/') {
        let segment = cut(segment, b';').0;
        let end = segment.windows(3).position(|three| three == b"%3B").unwrap_or(segment.len());
        bytes.extend_from_slice(segment.get(..end).unwrap_or_default());
        bytes.push(b'/');
    }
    bytes.pop();
    bytes
}

/// The path without its query, as RFC 3986 (section 6.2.2) makes spellings alike: escapes of unreserved characters
/// resolved, other escapes in capitals, dot segments removed, and slashes in a row merged. Of a URL with an authority,
/// the path.
fn path_only(target: &[u8]) -> Vec<u8> {
    let path = cut(cut(target, b'#').0, b'?').0;
    let path = match path.windows(3).position(|three| three == b"://").filter(|_| !path.starts_with(b"/")) {
        Some(at) => {
            let rest = path.get(at.saturating_add(3)..).unwrap_or_default();
            rest.iter().position(|byte| *byte == b'/').and_then(|at| rest.get(at..)).unwrap_or(b"/")
        }
        None => path,
    };
    if !path.starts_with(b"/") {
        return path.to_vec();
    }
    without_dots(&unescaped(path))
}

fn unescaped(path: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    loop {
        rest = match rest {
            [] => return bytes,
            [b'%', high, low, after @ ..] if hex(*high, *low).is_some() => {
                match hex(*high, *low) {
                    Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => bytes.push(byte),
                    _ => bytes.extend([b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]),
                }
                after
            }
            [byte, after @ ..] => {
                bytes.push(*byte);
                after
            }
        };
    }
}

fn without_dots(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = vec![];
    let mut is_folder = false;
    for segment in path.split(|byte| *byte == b'/') {
        is_folder = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            b".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let mut bytes = Vec::with_capacity(path.len());
    for segment in &kept {
        bytes.push(b'/');
        bytes.extend_from_slice(segment);
    }
    if is_folder || kept.is_empty() {
        bytes.push(b'/');
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spellings_of_one_path_are_alike() {
        for target in [
            "/login",
            "/login?x",
            "//login",
            "/%6Cogin",
            "/%6cogin",
            "/./login",
            "/x/../login",
            "/login#x",
            "http://h/login",
            "/../login",
        ] {
            assert_eq!(path_only(target.as_bytes()), b"/login", "{target}");
        }
        for (target, path) in [
            ("/", "/"),
            ("/?x", "/"),
            ("", ""),
            ("*", "*"),
            ("http://h", "/"),
            ("/login/", "/login/"),
            ("/a//b/./c/..", "/a/b/"),
            ("/..", "/"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%zz%", "/a%zz%"),
            ("/a%2e%2E/b", "/a../b"),
            ("/a/%2e%2E/b", "/b"),
        ] {
            assert_eq!(path_only(target.as_bytes()), path.as_bytes(), "{target}");
        }
    }

    #[test]
    fn what_many_servers_do_not_look_at_does_not_count() {
        for target in [
            "/login",
            "/login/",
            "/login;a",
            "/login;",
            "/;a/login",
            "/login%3ba",
            "/login;a/",
            "/x/..;/login",
            "/.;b/login/.",
        ] {
            assert_eq!(&*counted_path(target.as_bytes()).text, b"/login", "{target}");
        }
        assert_eq!(counted_path(b"/login").written, None);
        assert_eq!(counted_path(b"/login;a=1?b").written.as_deref(), Some(&b"/login;a=1"[..]));
        for (target, path) in [("/", "/"), ("", ""), ("*", "*"), ("/;a", "/"), ("//", "/"), ("/a;b/c", "/a/c")] {
            assert_eq!(&*counted_path(target.as_bytes()).text, path.as_bytes(), "{target}");
        }
    }

    proptest! {
        #[test]
        fn what_is_alike_stays(target in "[/.a%2eF?#:]{0,24}") {
            let once = path_only(target.as_bytes());
            if once.starts_with(b"/") {
                prop_assert!(!once.windows(2).any(|two| two == b"//"));
            }
        }
    }
}
