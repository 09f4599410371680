//! What a configuration says of responses that are kept.

pub mod scripts;

use alloc::{rc::Rc, string::String, vec::Vec};

use slidegate_cache::{FreshnessTerms, KeyQuery};

use crate::session::SessionSource;

/// A filter that keeps responses.
#[derive(Debug)]
pub struct CacheRules {
    /// Which parameters are part of the key.
    pub query: KeyQuery,
    /// Which headers of requests are, in lower case and in order.
    pub headers: Vec<String>,
    /// Whose responses they are.
    pub group: Option<CacheGroup>,
    /// Headers beside cookies by which filters before know who asks, and in which they tell it, in lower case.
    pub known_by: Vec<String>,
    /// How long responses are used.
    pub terms: FreshnessTerms,
    /// Which statuses of an upstream are errors.
    pub failover_statuses: Vec<u16>,
    /// The longest body that is kept, in bytes.
    pub body_max: usize,
    /// How long a request waits for another that fetches the same, in milliseconds.
    pub lock_timeout_ms: u64,
    /// Where responses tell their tags, in lower case.
    pub tags_headers: Vec<String>,
    /// The answer in place of an error where no response is kept.
    pub fallback: Option<CacheFallback>,
    /// Where they are kept, by index.
    pub redis: u32,
}

/// Whose responses they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheGroup {
    /// Of a session.
    Session {
        /// A filter before tells a field of it in this header.
        header: String,
        /// What leads to it.
        source: SessionSource,
    },
    /// Of who has this cookie.
    Cookie(String),
}

/// An answer that is always the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheFallback {
    /// HTTP status.
    pub status: u16,
    /// Its `content-type`.
    pub content_type: String,
    /// Its body.
    pub body: Rc<Vec<u8>>,
}
