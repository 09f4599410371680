//! What a response says of how the cache had a part in it (RFC 9211).

use alloc::vec::Vec;

use crate::fields::push_number;

/// The name that this cache has there.
const CACHE: &[u8] = b"slidegate";

/// Most are no longer, in bytes.
const TEXT_BYTES: usize = 64;

/// Why a request went to its server (RFC 9211, 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarding {
    /// The cache was not asked.
    Bypass,
    /// Nothing was stored.
    Miss,
    /// What was stored is for requests that ask for something else.
    VaryMiss,
    /// What was stored was fresh, but its client wanted a newer one.
    Request,
    /// What was stored was stale.
    Stale,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// Why it went to its server. None: it was answered by what was stored.
    pub forwarding: Option<Forwarding>,
    /// What the server answered, where that is not what the client gets.
    pub forwarded_status: Option<u16>,
    /// For how many seconds the response is fresh.
    pub ttl_s: Option<i64>,
    /// The response is stored.
    pub is_stored: bool,
    /// It was answered together with another.
    pub is_collapsed: bool,
    /// More than that, as a token.
    pub detail: Option<&'static str>,
}

// === impl CacheStatus ===

impl CacheStatus {
    /// Answered by what was stored.
    #[inline]
    pub fn hit(ttl_s: i64) -> CacheStatus {
        CacheStatus { ttl_s: Some(ttl_s), ..CacheStatus::default() }
    }

    /// Answered by its server.
    pub fn forwarded(forwarding: Forwarding) -> CacheStatus {
        CacheStatus { forwarding: Some(forwarding), ..CacheStatus::default() }
    }

    /// The same in a word, for `x-cache`.
    #[inline]
    pub fn word(&self) -> &'static str {
        match self.forwarding {
            None if self.ttl_s.is_some_and(|ttl_s| ttl_s <= 0) => "STALE",
            None => "HIT",
            Some(Forwarding::Bypass) => "BYPASS",
            Some(_) if self.forwarded_status == Some(304) => "REVALIDATED",
            // An error is not shown, but what was stored instead of it.
            Some(_) if self.forwarded_status.is_some() && self.ttl_s.is_some() => "STALE",
            Some(Forwarding::Stale | Forwarding::Request) => "EXPIRED",
            Some(Forwarding::Miss | Forwarding::VaryMiss) => "MISS",
        }
    }

    /// The same as a member of a structured list.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(TEXT_BYTES);
        text.extend_from_slice(CACHE);
        match self.forwarding {
            None => text.extend_from_slice(b"; hit"),
            Some(forwarding) => {
                text.extend_from_slice(b"; fwd=");
                text.extend_from_slice(forwarding.as_str().as_bytes());
            }
        }
        if let Some(status) = self.forwarded_status {
            text.extend_from_slice(b"; fwd-status=");
            push_number(&mut text, status.into());
        }
        if let Some(ttl_s) = self.ttl_s {
            text.extend_from_slice(if ttl_s < 0 { &b"; ttl=-"[..] } else { b"; ttl=" });
            push_number(&mut text, ttl_s.unsigned_abs());
        }
        if self.is_stored {
            text.extend_from_slice(b"; stored");
        }
        if self.is_collapsed {
            text.extend_from_slice(b"; collapsed");
        }
        if let Some(detail) = self.detail {
            text.extend_from_slice(b"; detail=");
            text.extend_from_slice(detail.as_bytes());
        }
        text
    }
}

// === impl Forwarding ===

impl Forwarding {
    fn as_str(self) -> &'static str {
        match self {
            Forwarding::Bypass => "bypass",
            Forwarding::Miss => "uri-miss",
            Forwarding::VaryMiss => "vary-miss",
            Forwarding::Request => "request",
            Forwarding::Stale => "stale",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_member_of_a_structured_list() {
        let stale =
            CacheStatus { forwarded_status: Some(503), ttl_s: Some(-5), ..CacheStatus::forwarded(Forwarding::Stale) };
        let stored = CacheStatus { is_stored: true, is_collapsed: true, ..CacheStatus::forwarded(Forwarding::Miss) };
        let bypass = CacheStatus { detail: Some("no_store"), ..CacheStatus::forwarded(Forwarding::Bypass) };
        for (status, text, word) in [
            (CacheStatus::hit(376), "slidegate; hit; ttl=376", "HIT"),
            (CacheStatus::hit(-3), "slidegate; hit; ttl=-3", "STALE"),
            (stale, "slidegate; fwd=stale; fwd-status=503; ttl=-5", "STALE"),
            (
                CacheStatus { forwarded_status: Some(304), ..stale },
                "slidegate; fwd=stale; fwd-status=304; ttl=-5",
                "REVALIDATED",
            ),
            (stored, "slidegate; fwd=uri-miss; stored; collapsed", "MISS"),
            (bypass, "slidegate; fwd=bypass; detail=no_store", "BYPASS"),
            (CacheStatus::forwarded(Forwarding::Request), "slidegate; fwd=request", "EXPIRED"),
        ] {
            assert_eq!((status.text().as_slice(), status.word()), (text.as_bytes(), word));
        }
    }
}
