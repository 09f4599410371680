//! What a configuration says of sessions.

use alloc::{string::String, vec::Vec};

use super::reader::SessionSettings;

/// A filter that reads sessions.
#[derive(Debug)]
pub struct SessionRules {
    /// How sessions are read, and which fields of them.
    pub settings: SessionSettings,
    /// The header of each field, in lower case.
    pub headers: Vec<String>,
    /// What becomes of a request without a session.
    pub on_missing: OnMissingSession,
    /// How long an instance goes by what it has read, in microseconds.
    pub remember_us: u64,
    /// Where sessions are kept, by index. None: in the cookie.
    pub redis: Option<u32>,
}

/// How many `-` and `_` the header of a field has at most: each may be either to some servers.
pub(crate) const SEPARATORS_MAX: usize = 4;

impl SessionRules {
    /// The names of all headers that servers may take for one of a field: with `-` for `_` and the other way round at
    /// every place, which CGI and WSGI do not tell apart. What clients send under any of them is removed.
    pub fn stripped(&self) -> Vec<String> {
        let mut names: Vec<String> = self.headers.iter().flat_map(|header| spellings(header)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
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
    fn a_header_is_stripped_in_every_spelling() {
        assert_eq!(spellings("user"), ["user"]);
        assert_eq!(spellings("x-user_id"), ["x-user-id", "x_user-id", "x-user_id", "x_user_id"]);
        assert_eq!(spellings("a-b-c-d-e").len(), 1 << SEPARATORS_MAX);
    }
}
