//! Which hosts a route is for.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;

/// A route's `host`: any, one name, or a name's subdomains. Ports do not take part, and neither does letter case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostPattern {
    Any,
    /// `*.example.com`, kept as `.example.com`.
    Suffix(String),
    Exact(String),
}

impl HostPattern {
    /// Reads `*`, `*.example.com` or `www.example.com`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.ends_with("*.") || text.ends_with("..") {
            return None;
        }
        let text = comparable_host(text);
        match text.strip_prefix('*') {
            Some("") => Some(Self::Any),
            Some(suffix) if suffix.len() > 1 && suffix.starts_with('.') && is_name(suffix) => {
                Some(Self::Suffix(suffix.to_owned()))
            }
            None if is_name(&text) => Some(Self::Exact(text.into_owned())),
            _ => None,
        }
    }

    /// How closely this pattern describes a host (as [`comparable_host`] spells it, without port): the larger the
    /// closer, none if it does not.
    pub(crate) fn closeness(&self, host: &str) -> Option<usize> {
        match self {
            Self::Any => Some(0),
            Self::Suffix(suffix) => {
                (host.len() > suffix.len() && host.ends_with(suffix.as_str())).then_some(suffix.len())
            }
            Self::Exact(name) => (host == name).then_some(usize::MAX),
        }
    }
}

/// A host as hosts are compared: in lower case, without the dot that stands for the root of all names, and IPv6
/// addresses in their shortest form.
pub(crate) fn comparable_host(host: &str) -> Cow<'_, str> {
    let host = host.trim_end_matches('.');
    let address =
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).and_then(|text| text.parse::<Ipv6Addr>().ok());
    match address {
        Some(address) => Cow::Owned(format!("[{address}]")),
        None if host.bytes().any(|byte| byte.is_ascii_uppercase()) => Cow::Owned(host.to_ascii_lowercase()),
        None => Cow::Borrowed(host),
    }
}

fn is_name(text: &str) -> bool {
    let is_address = text.starts_with('[') && text.ends_with(']');
    let allowed = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'.' | b'-' | b'_')
            || (is_address && matches!(byte, b':' | b'[' | b']'))
    };
    !text.is_empty() && text.bytes().all(allowed)
}

impl fmt::Display for HostPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => out.write_str("*"),
            Self::Suffix(suffix) => write!(out, "*{suffix}"),
            Self::Exact(name) => out.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closer_patterns_rank_higher() {
        let close = |pattern: &str, host: &str| HostPattern::parse(pattern).expect(pattern).closeness(host);
        assert_eq!(close("*", "a.example.com"), Some(0));
        assert!(close("*.example.com", "a.example.com") > close("*.com", "a.example.com"));
        assert!(close("A.example.com", "a.example.com") > close("*.example.com", "a.example.com"));
        assert_eq!(close("*.example.com", "example.com"), None);
        assert_eq!(close("example.com", "a.example.com"), None);
        assert_eq!(close("[::1]", "[::1]"), Some(usize::MAX));
    }

    #[test]
    fn spellings_of_one_host_are_one() {
        for (pattern, host) in [
            ("a.test", "A.TEST."),
            ("a.test.", "a.test"),
            ("*.test", "a.test."),
            ("[::1]", "[0:0:0:0:0:0:0:1]"),
            ("[0::1]", "[::1]"),
        ] {
            let closeness = HostPattern::parse(pattern).expect(pattern).closeness(&comparable_host(host));
            assert!(closeness.is_some(), "{pattern} is for {host}");
        }
        assert_eq!(comparable_host("."), "");
    }

    #[test]
    fn ports_and_stars_elsewhere_are_refused() {
        for text in ["", "a:80", "a.*", "*a", "a/b", "*.", ".", "a..", "a b"] {
            assert_eq!(HostPattern::parse(text), None, "{text}");
        }
    }
}
