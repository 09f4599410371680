//! What a configuration says of sessions.

use alloc::{string::String, vec::Vec};

use super::{fields::says_somebody, reader::SessionSettings, source::SessionSource};
use crate::sorted;

/// A filter that reads sessions.
#[derive(Debug)]
pub struct SessionRules {
    /// How sessions are read, and which fields of them.
    pub settings: SessionSettings,
    /// Which of the fields says who it is, by its place. None: all of them have to be there.
    pub user: Option<usize>,
    /// The header of each field, in lower case.
    pub headers: Vec<String>,
    /// What becomes of a request without a session.
    pub on_missing: OnMissingSession,
    /// Whether a request passes as nobody's if its session cannot be looked up.
    pub fails_open: bool,
    /// Which requests pass all the same.
    pub public: Vec<PublicPath>,
    /// How long an instance goes by what it has read, in microseconds.
    pub remember_us: u64,
    /// Where sessions are kept, by index. None: in the cookie.
    pub redis: Option<u32>,
    /// How they are kept, if it is Slidegate that keeps them. Then there is a field that says who it is.
    pub own: Option<OwnSessionRules>,
}

/// How sessions are kept that are Slidegate's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnSessionRules {
    /// So long after its last request a session ends, in milliseconds.
    pub idle_ms: u64,
    /// And so long after it has begun, whatever happens, in milliseconds.
    pub absolute_ms: u64,
    /// How many a user may have.
    pub per_user: Option<SessionsPerUser>,
}

/// How many sessions a user may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionsPerUser {
    /// So many.
    pub max: u32,
    /// What becomes of one more.
    pub when_full: WhenFull,
}

/// `when_full`: what becomes of a session that is one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// It begins, and the one ends that was used longest ago.
    EndOldest,
    /// It does not begin.
    RefuseNewest,
}

/// Paths that need no session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicPath {
    /// The path, or how paths begin.
    pub path: String,
    /// It is only their beginning.
    pub is_prefix: bool,
}

/// How many spellings of headers all filters remove together at most: hosts carry out so many changes for a request.
pub(crate) const STRIPPED_MAX: usize = 96;

/// And how many spellings the headers have at most that sessions are read from: a session that is not taken goes on in
/// none of them.
pub(crate) const SOURCES_MAX: usize = 64;

/// How many `-` and `_` the header of a field has at most: each may be either to some servers.
pub(crate) const SEPARATORS_MAX: usize = 4;

impl SessionRules {
    /// The names of all headers that servers may take for one of a field: with `-` for `_` and the other way round at
    /// every place, which CGI and WSGI do not tell apart. What clients send under any of them is removed.
    pub fn stripped(&self) -> Vec<String> {
        let mut names: Vec<String> = self.headers.iter().flat_map(|header| spellings(header)).collect();
        sorted::sort_each_once(&mut names);
        names
    }

    /// The headers that servers may find a session in: the one that it is in, and then the other spellings of its name.
    pub(crate) fn source_headers(&self) -> Vec<String> {
        match &self.settings.source {
            SessionSource::Cookie(_) => Vec::from([String::from("cookie")]),
            SessionSource::Header(name) => {
                let others = spellings(name).into_iter().filter(|spelling| spelling != name);
                core::iter::once(name.clone()).chain(others).collect()
            }
        }
    }

    /// Whether a session is somebody's: it has what says so. A `false` or a `0` says nobody.
    pub fn is_of_somebody(&self, values: &[Option<String>]) -> bool {
        let says = |value: &Option<String>| value.as_deref().is_some_and(says_somebody);
        match self.user {
            Some(user) => values.get(user).is_some_and(says),
            None => values.iter().all(says),
        }
    }

    /// Whether a request for this path, which may have a query, needs no session. One that any server may take for
    /// another path needs one: with escapes, dot segments, slashes in a row.
    pub fn is_public(&self, path: &[u8]) -> bool {
        let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
        is_plain_path(path) && self.public.iter().any(|public| public.covers(path))
    }

    /// Whether responses are looked at: one that sets the cookie, or answers a request that may have changed something,
    /// voids what is remembered of its session; and any may set one of Slidegate's own.
    pub(crate) fn follows_responses(&self) -> bool {
        self.own.is_some() || self.redis.is_some() && self.remember_us > 0
    }
}

/// Whether all servers take a path for the same.
pub(crate) fn is_plain_path(path: &[u8]) -> bool {
    let Some(inner) = path.strip_prefix(b"/") else { return false };
    let inner = inner.strip_suffix(b"/").unwrap_or(inner);
    let is_plain = |segment: &[u8]| {
        let is_unreserved = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        !matches!(segment, b"" | b"." | b"..") && segment.iter().all(is_unreserved)
    };
    path == b"/" || inner.split(|byte| *byte == b'/').all(is_plain)
}

impl PublicPath {
    fn covers(&self, path: &[u8]) -> bool {
        if self.is_prefix { path.starts_with(self.path.as_bytes()) } else { path == self.path.as_bytes() }
    }
}

/// Whether two names of headers are one to servers of CGI and WSGI.
pub(crate) fn is_alike(one: &str, other: &str) -> bool {
    one.replace('_', "-") == other.replace('_', "-")
}

/// How many spellings a header has.
pub(crate) fn spellings_of(header: &str) -> usize {
    1 << header.matches(['-', '_']).count().min(SEPARATORS_MAX)
}

fn spellings(header: &str) -> Vec<String> {
    let mut spellings = Vec::from([String::with_capacity(header.len())]);
    for sign in header.chars() {
        if !matches!(sign, '-' | '_') {
            spellings.iter_mut().for_each(|spelling| spelling.push(sign));
            continue;
        }
        let mut others = spellings.clone();
        spellings.iter_mut().for_each(|spelling| spelling.push('-'));
        others.iter_mut().for_each(|spelling| spelling.push('_'));
        spellings.append(&mut others);
    }
    spellings
}

/// `on_missing` of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnMissingSession {
    /// The request passes without the headers.
    Anonymous,
    /// It is answered 401.
    Unauthorized,
    /// It is sent there, which is a path or a URL of the configuration; who accepts no HTML is answered 401.
    Redirect(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_servers_may_read_in_two_ways_are_not_plain() {
        for path in ["/", "/login", "/a/b/", "/assets/site.css", "/.well-known/x", "/~a/b-c_d"] {
            assert!(is_plain_path(path.as_bytes()), "{path}");
        }
        for path in
            ["", "login", "//", "/a//b", "/a/../b", "/a/.", "/a/%2e%2e/b", "/a;b", "/a\\b", "/\u{e9}", "/a b", "*"]
        {
            assert!(!is_plain_path(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn a_header_is_stripped_in_every_spelling() {
        assert_eq!(spellings("user"), ["user"]);
        assert_eq!(spellings("x-user_id"), ["x-user-id", "x_user-id", "x-user_id", "x_user_id"]);
        assert_eq!(spellings("a-b-c-d-e").len(), 1 << SEPARATORS_MAX);
    }
}
