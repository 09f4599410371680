//! What a request that may change something voids (RFC 9111, 4.4).

use alloc::vec::Vec;

use crate::{fields::HeaderFields, key::plain_authority};

/// Whether a request of this method changes nothing (RFC 9110, 9.2.1). Of one that nobody knows, nobody knows.
pub fn is_safe(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE")
}

/// The paths, with their queries, of what a response to an unsafe request voids: what it was for, and what it names on
/// the same host. None if it is an error.
pub fn voided(authority: &[u8], path: &[u8], status: u16, response: &HeaderFields) -> Vec<Vec<u8>> {
    if !(200..400).contains(&status) {
        return Vec::new();
    }
    let mut voided = Vec::from([path.to_vec()]);
    for name in ["location", "content-location"] {
        if let Some(named) =
            response.first(name).and_then(|reference| resolved(authority, path, reference.trim_ascii()))
            && !voided.contains(&named)
        {
            voided.push(named);
        }
    }
    voided
}

/// The path and query of a reference on the same host (RFC 3986, 5.2). None: it is elsewhere.
fn resolved(authority: &[u8], base: &[u8], reference: &[u8]) -> Option<Vec<u8>> {
    let reference = reference.split(|byte| *byte == b'#').next().unwrap_or_default();
    let is_scheme = |text: &[u8]| text.eq_ignore_ascii_case(b"http") || text.eq_ignore_ascii_case(b"https");
    let after_scheme = match reference.iter().position(|byte| matches!(byte, b':' | b'/' | b'?')) {
        Some(at) if reference.get(at) == Some(&b':') => {
            let (scheme, rest) = reference.split_at_checked(at)?;
            if !is_scheme(scheme) {
                return None;
            }
            let rest = rest.get(1..)?;
            if !rest.starts_with(b"//") {
                return None;
            }
            rest
        }
        _ => reference,
    };
    if let Some(rest) = after_scheme.strip_prefix(b"//") {
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        let (host, path) = rest.split_at_checked(end)?;
        if plain_authority(host) != plain_authority(authority) {
            return None;
        }
        let slash = if path.starts_with(b"/") { &b""[..] } else { b"/" };
        return Some(without_dots(&[slash, path].concat()));
    }
    let base_path = base.split(|byte| *byte == b'?').next().unwrap_or_default();
    match after_scheme.first() {
        None => Some(base.to_vec()),
        Some(b'/') => Some(without_dots(after_scheme)),
        Some(b'?') => Some([base_path, after_scheme].concat()),
        Some(_) => {
            let folder_end = base_path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
            let folder = base_path.get(..folder_end).filter(|folder| !folder.is_empty()).unwrap_or(b"/");
            Some(without_dots(&[folder, after_scheme].concat()))
        }
    }
}

/// A path without its dot segments (RFC 3986, 5.2.4); the query stays as it is.
fn without_dots(target: &[u8]) -> Vec<u8> {
    let end = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at_checked(end).unwrap_or((target, b""));
    let mut kept: Vec<&[u8]> = Vec::new();
    let segments = path.strip_prefix(b"/").unwrap_or(path).split(|byte| *byte == b'/');
    let mut is_folder = false;
    for segment in segments {
        is_folder = matches!(segment, b"." | b"..");
        match segment {
            b"." => {}
            b".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    if is_folder {
        kept.push(b"");
    }
    [b"/", kept.join(&b'/').as_slice(), query].concat()
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};

    use proptest::prelude::*;

    use super::*;

    fn of(status: u16, fields: &[(&str, &str)]) -> Vec<String> {
        let fields = fields.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
        let voided = voided(b"example.test", b"/a/b?c", status, &HeaderFields(fields));
        voided.into_iter().map(|path| String::from_utf8(path).unwrap()).collect()
    }

    #[test]
    fn what_was_changed_is_void_and_what_was_not_is_not() {
        assert_eq!(of(200, &[]), ["/a/b?c"]);
        assert_eq!(of(302, &[]), ["/a/b?c"]);
        for status in [199, 400, 500] {
            assert!(of(status, &[("location", "/x")]).is_empty());
        }
    }

    #[test]
    fn so_is_what_the_answer_names_on_the_same_host() {
        for (reference, expected) in [
            ("/x?y#z", Some("/x?y")),
            ("x", Some("/a/x")),
            ("../x/./y/..", Some("/x/")),
            ("../../../x", Some("/x")),
            ("?d", Some("/a/b?d")),
            ("http://example.test/x", Some("/x")),
            ("HTTPS://EXAMPLE.test:443/x", Some("/x")),
            ("//example.test:80", Some("/")),
            ("//example.test?q", Some("/?q")),
            ("http://other.test/x", None),
            ("http://example.test.other/x", None),
            ("http://example.test:81/x", None),
            ("http:x", None),
            ("mailto:x", None),
            ("x:y", None),
        ] {
            let both: Vec<&str> = ["/a/b?c"].into_iter().chain(expected).collect();
            assert_eq!(of(201, &[("location", reference)]), both, "{reference}");
            assert_eq!(of(201, &[("content-location", reference)]), both, "{reference}");
        }
        assert_eq!(of(200, &[("location", ""), ("content-location", "/a/b?c")]), ["/a/b?c"]);
    }

    #[test]
    fn who_is_not_known_to_be_safe_is_not() {
        assert!(
            is_safe(b"GET") && is_safe(b"OPTIONS") && !is_safe(b"get") && !is_safe(b"POST") && !is_safe(b"M-SEARCH")
        );
    }

    proptest! {
        #[test]
        fn any_reference_is_safe_and_leads_to_a_path(reference in "[a-c:/.?#]{0,20}", base in "(/[a-c./?]{0,9})?") {
            if let Some(path) = resolved(b"a", base.as_bytes(), reference.as_bytes()) {
                prop_assert!(path == base.as_bytes() || path.starts_with(b"/") || base.is_empty());
            }
        }
    }
}
