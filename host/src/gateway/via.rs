//! Under which name this gateway stands in `via` fields, and how it knows a request that it has seen before (RFC 9110,
//! section 7.6.3).

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use hyper::Version;
use hyper::header::{self, HeaderMap};

/// Of this process alone: two gateways in a row are no loop, and no client can guess it.
static PSEUDONYM: LazyLock<String> =
    LazyLock::new(|| format!("slidegate-{:016x}", RandomState::new().hash_one(std::process::id())));

/// What this gateway adds to `via`, for a request that came in this version.
pub(crate) fn entry(version: Version) -> String {
    let version = match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2.0",
        _ => "1.1",
    };
    format!("{version} {}", *PSEUDONYM)
}

/// Whether a request has passed this gateway before.
pub(crate) fn is_known(headers: &HeaderMap) -> bool {
    is_named(headers, PSEUDONYM.as_bytes())
}

/// Names in a host's place are compared as hosts are, without regard to letter case: a proxy between may have changed
/// it.
fn is_named(headers: &HeaderMap, pseudonym: &[u8]) -> bool {
    let is_between = |byte: &u8| matches!(byte, b' ' | b'\t' | b',');
    headers
        .get_all(header::VIA)
        .iter()
        .any(|value| value.as_bytes().split(is_between).any(|word| word.eq_ignore_ascii_case(pseudonym)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(values: &[&str]) -> bool {
        let headers = values.iter().map(|value| (header::VIA, value.parse().expect("a value"))).collect();
        is_named(&headers, b"slidegate-1a")
    }

    #[test]
    fn its_own_name_is_found_wherever_it_stands() {
        for values in [
            &["1.1 slidegate-1a"][..],
            &["2.0 slidegate-1a, 1.1 other"],
            &["1.0 first", "1.1 other,HTTP/1.1\tSlideGate-1A (a comment, with a comma)"],
            &["1.1 a,,1.1 slidegate-1a"],
        ] {
            assert!(named(values), "{values:?}");
        }
        for values in
            [&[][..], &[""], &["1.1 slidegate-1b"], &["1.1 slidegate-1ab"], &["1.1 slidegate"], &["1.1 xslidegate-1a"]]
        {
            assert!(!named(values), "{values:?}");
        }
    }

    #[test]
    fn what_it_adds_it_knows_again() {
        let headers = [(header::VIA, entry(Version::HTTP_2).parse().expect("a value"))].into_iter().collect();
        assert!(is_known(&headers));
        assert!(entry(Version::HTTP_10).starts_with("1.0 slidegate-"));
    }
}
