//! A response as it is kept.

use alloc::{
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    directives::{RequestDirectives, ResponseDirectives},
    fields::{HeaderFields, SECONDS_MAX},
    freshness::{FreshnessTerms, Lifetime, initial_age_s},
    storing::{KeyScope, may_store},
    vary::{VaryValues, vary_names},
};

/// Fields of a whole response that a 304, or the answer to a HEAD, leaves as they are: what is kept is the body as it
/// came, and these describe it (RFC 9111, 3.2).
const OF_THE_BODY: [&str; 5] = ["content-encoding", "content-length", "content-md5", "content-range", "etag"];

/// A whole response, kept. Times are in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredResponse {
    /// HTTP status.
    pub status: u16,
    /// Its header fields, but for those of a connection.
    pub headers: HeaderFields,
    /// All of it.
    pub body: Rc<Vec<u8>>,
    /// When its request was sent.
    pub requested_ms: u64,
    /// When its head came.
    pub received_ms: u64,
    /// How old it was then.
    pub initial_age_s: u64,
    /// How long it may be used.
    pub lifetime: Lifetime,
    /// By what it varies, and what its request said there.
    pub vary: VaryValues,
    /// By which of these it may be voided together with others.
    pub tags: Vec<Vec<u8>>,
}

/// What may be done with a stored response for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// It answers.
    Fresh,
    /// It is stale, and answers all the same, as the client allows it (RFC 9111, 5.2.1.2).
    AllowedStale,
    /// It answers while one request fetches it anew (RFC 5861, 3).
    WhileRevalidating,
    /// It answers after a validation only.
    Validate,
}

// === impl StoredResponse ===

impl StoredResponse {
    /// Fields as they are kept.
    pub fn kept_fields(headers: &HeaderFields) -> HeaderFields {
        HeaderFields(headers.0.iter().filter(|(name, _)| headers.keeps(name)).cloned().collect())
    }

    /// How old it is (RFC 9111, 4.2.3), in seconds.
    #[inline]
    pub fn age_s(&self, now_ms: u64) -> u64 {
        let resident = now_ms.saturating_sub(self.received_ms) / 1_000;
        self.initial_age_s.saturating_add(resident).min(SECONDS_MAX)
    }

    /// For how many seconds more it is fresh; less than nothing for how long it has been stale.
    #[inline]
    pub fn fresh_for_s(&self, now_ms: u64) -> i64 {
        // Both are at most 2^31.
        self.lifetime.fresh_s.min(SECONDS_MAX) as i64 - self.age_s(now_ms) as i64
    }

    /// What may be done with it for a request with these directives (RFC 9111, 4 and 5.2.1).
    #[inline]
    pub fn reuse(&self, request: &RequestDirectives, now_ms: u64) -> Reuse {
        let left_s = self.fresh_for_s(now_ms);
        // 5.2.2.4, 5.2.1.4
        if self.lifetime.always_validate || request.no_cache {
            return Reuse::Validate;
        }
        // 5.2.1.1, 5.2.1.3
        let is_too_old = request.max_age_s.is_some_and(|max_age_s| self.age_s(now_ms) > max_age_s);
        let min_fresh_s = i64::try_from(request.min_fresh_s.unwrap_or(0)).unwrap_or(i64::MAX);
        if is_too_old || (left_s > 0 && left_s < min_fresh_s) {
            return Reuse::Validate;
        }
        // 4.2: the freshness lifetime is greater than the age.
        if left_s > 0 {
            return Reuse::Fresh;
        }
        let stale_s = left_s.unsigned_abs();
        if self.lifetime.never_stale || min_fresh_s > 0 {
            return Reuse::Validate;
        }
        // What was never fresh is kept to be validated, and nobody has said that it may be used again.
        if self.lifetime.fresh_s > 0 && request.max_stale_s.is_some_and(|max_stale_s| stale_s <= max_stale_s) {
            return Reuse::AllowedStale;
        }
        let swr_s = self.lifetime.stale_while_revalidate_s;
        if swr_s > 0 && stale_s <= swr_s { Reuse::WhileRevalidating } else { Reuse::Validate }
    }

    /// Whether it may be used in place of an error (RFC 9111, 4.2.4; RFC 5861, 4), be it fresh or stale.
    pub fn may_replace_error(&self, now_ms: u64) -> bool {
        if self.lifetime.always_validate {
            return false;
        }
        let left_s = self.fresh_for_s(now_ms);
        let sie_s = self.lifetime.stale_if_error_s;
        left_s > 0 || (!self.lifetime.never_stale && sie_s > 0 && left_s.unsigned_abs() <= sie_s)
    }

    /// For how many milliseconds more it is worth being kept.
    pub fn kept_ms(&self, now_ms: u64) -> u64 {
        self.lifetime.kept_s().saturating_sub(self.age_s(now_ms)).saturating_mul(1_000)
    }

    /// Whether a 304 is about it (RFC 9111, 4.3.4): it names its validator, or none while nobody asked for another.
    pub fn is_confirmed_by(&self, answer: &HeaderFields, is_ours_alone: bool) -> bool {
        match (answer.first("etag"), self.headers.first("etag")) {
            (Some(confirmed), Some(own)) => is_weakly_equal(confirmed, own),
            (Some(_), None) => false,
            (None, _) => match (answer.first("last-modified"), self.headers.first("last-modified")) {
                (Some(confirmed), Some(own)) => confirmed == own,
                (Some(_), None) => false,
                (None, _) => is_ours_alone,
            },
        }
    }

    /// Whether the answer to a HEAD is about the same (RFC 9111, 4.3.5): it names a validator of it, and no other, nor
    /// another length.
    pub fn is_described_by(&self, answer: &HeaderFields) -> bool {
        let length = answer.first("content-length").map(|length| length == self.body.len().to_string().as_bytes());
        let named = ["etag", "last-modified"].iter().filter_map(|name| Some((name, answer.first(name)?)));
        let mut alike = named.map(|(name, value)| self.headers.first(name) == Some(value)).peekable();
        length != Some(false) && alike.peek().is_some() && alike.all(|is_alike| is_alike)
    }

    /// Whether it may go on being kept with the fields of an answer that says that it is still good, for a request with
    /// these: whatever would forbid to store the answer forbids it.
    pub fn may_be_kept_with(&self, answer: &HeaderFields, request: &HeaderFields, scope: KeyScope) -> bool {
        let vary = answer.0.iter().chain(&self.headers.0).filter(|(name, _)| match name.as_str() {
            "vary" => true,
            name => name == "content-encoding" && !answer.has(name),
        });
        // As it says now, and as it is kept.
        let names = vary_names(&HeaderFields(vary.cloned().collect()), scope);
        let is_alike = names.is_ok_and(|names| names.iter().eq(self.vary.iter().map(|(name, _)| name)));
        let directives = ResponseDirectives::read(&self.headers);
        is_alike && !answer.are_for_one() && may_store(request, self.status, &self.headers, &directives, scope).is_ok()
    }

    /// The same with the head of an answer that says that it is still good: a 304, or that to a HEAD
    /// (RFC 9111, 3.2, 4.3.4, 4.3.5).
    #[must_use]
    pub fn freshened(
        &self,
        answer: &HeaderFields,
        requested_ms: u64,
        received_ms: u64,
        terms: &FreshnessTerms,
    ) -> Self {
        let mut headers = self.headers.clone();
        let is_new = |(name, _): &&(String, Vec<u8>)| !OF_THE_BODY.contains(&name.as_str()) && name != "vary";
        let kept = Self::kept_fields(answer);
        let fresh: Vec<(String, Vec<u8>)> = kept.0.iter().filter(is_new).cloned().collect();
        // When it was made, if the answer does not say so, is when that came.
        headers.0.retain(|(name, _)| name != "date" && !fresh.iter().any(|(other, _)| other == name));
        headers.0.extend(fresh);
        let directives = ResponseDirectives::read(&headers);
        let lifetime = Lifetime::of(self.status, &headers, &directives, received_ms / 1_000, terms);
        let initial_age_s = initial_age_s(answer, requested_ms, received_ms);
        StoredResponse { headers, lifetime, requested_ms, received_ms, initial_age_s, ..self.clone() }
    }
}

/// Whether two validators are alike, be they weak (RFC 9110, 8.8.3.2).
pub(crate) fn is_weakly_equal(one: &[u8], other: &[u8]) -> bool {
    one.strip_prefix(b"W/").unwrap_or(one) == other.strip_prefix(b"W/").unwrap_or(other)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::fields::headers as fields;

    const TERMS: FreshnessTerms =
        FreshnessTerms { default_s: None, max_s: 86_400, stale_while_revalidate_s: 0, stale_if_error_s: 0 };

    fn stored(headers: &[(&str, &str)], received_ms: u64) -> StoredResponse {
        let headers = fields(headers);
        let lifetime = Lifetime::of(200, &headers, &ResponseDirectives::read(&headers), received_ms / 1_000, &TERMS);
        StoredResponse {
            status: 200,
            headers,
            body: Rc::new(b"body".to_vec()),
            requested_ms: received_ms,
            received_ms,
            initial_age_s: 0,
            lifetime,
            vary: vec![],
            tags: vec![],
        }
    }

    fn request(value: &str) -> RequestDirectives {
        RequestDirectives::read(&fields(&[("cache-control", value)]))
    }

    #[test]
    fn it_answers_as_long_as_it_is_fresh_and_as_both_sides_allow() {
        for (response, asked, after_s, expected) in [
            ("max-age=10", "", 0, Reuse::Fresh),
            ("max-age=10", "", 9, Reuse::Fresh),
            ("max-age=10", "", 10, Reuse::Validate),
            ("max-age=0", "", 0, Reuse::Validate),
            ("max-age=10, no-cache", "", 0, Reuse::Validate),
            ("max-age=10", "no-cache", 0, Reuse::Validate),
            ("max-age=10", "max-age=5", 5, Reuse::Fresh),
            ("max-age=10", "max-age=5", 6, Reuse::Validate),
            ("max-age=10", "min-fresh=5", 5, Reuse::Fresh),
            ("max-age=10", "min-fresh=5", 6, Reuse::Validate),
            ("max-age=10", "min-fresh=x", 0, Reuse::Validate),
            ("max-age=10", "max-stale", 1_000, Reuse::AllowedStale),
            ("max-age=10", "max-stale=5", 15, Reuse::AllowedStale),
            ("max-age=10", "max-stale=5", 16, Reuse::Validate),
            ("max-age=10, must-revalidate", "max-stale", 11, Reuse::Validate),
            ("s-maxage=10", "max-stale", 11, Reuse::Validate),
            ("max-age=10", "max-stale, max-age=5", 11, Reuse::Validate),
            ("max-age=10, stale-while-revalidate=5", "", 15, Reuse::WhileRevalidating),
            ("max-age=10, stale-while-revalidate=5", "", 16, Reuse::Validate),
            ("max-age=10, stale-while-revalidate=5, proxy-revalidate", "", 15, Reuse::Validate),
        ] {
            let stored = stored(&[("cache-control", response)], 1_000);
            assert_eq!(
                stored.reuse(&request(asked), 1_000 + after_s * 1_000),
                expected,
                "{response}; {asked}; {after_s}"
            );
        }
    }

    #[test]
    fn an_error_is_replaced_as_long_as_the_response_allows() {
        for (response, after_s, expected) in [
            ("max-age=10, stale-if-error=5", 0, true),
            ("max-age=10, stale-if-error=5", 15, true),
            ("max-age=10, stale-if-error=5", 16, false),
            ("max-age=10, stale-if-error=5, must-revalidate", 9, true),
            ("max-age=10, stale-if-error=5, must-revalidate", 11, false),
            ("max-age=10, stale-if-error=5, no-cache", 0, false),
        ] {
            let stored = stored(&[("cache-control", response)], 1_000);
            assert_eq!(stored.may_replace_error(1_000 + after_s * 1_000), expected, "{response}; {after_s}");
        }
    }

    #[test]
    fn fields_of_a_connection_are_not_kept() {
        let received = fields(&[
            ("connection", "close, x-own"),
            ("keep-alive", "5"),
            ("x-own", "a"),
            ("age", "3"),
            ("transfer-encoding", "chunked"),
            ("proxy-authenticate", "Basic"),
            ("etag", "\"1\""),
            ("date", "x"),
        ]);
        assert_eq!(StoredResponse::kept_fields(&received), fields(&[("etag", "\"1\""), ("date", "x")]));
    }

    #[test]
    fn a_confirmation_brings_new_fields_but_none_about_the_body() {
        let old = stored(
            &[("a", "1"), ("b", "1"), ("cache-control", "max-age=1"), ("content-length", "4"), ("etag", "\"1\"")],
            1_000,
        );
        let answer = fields(&[
            ("a", "2"),
            ("a", "3"),
            ("cache-control", "max-age=60"),
            ("content-length", "0"),
            ("content-encoding", "gzip"),
            ("etag", "\"2\""),
            ("set-cookie", "a=b"),
            ("age", "7"),
            ("keep-alive", "1"),
        ]);
        let new = old.freshened(&answer, 90_000, 91_000, &TERMS);
        let expected = fields(&[
            ("b", "1"),
            ("content-length", "4"),
            ("etag", "\"1\""),
            ("a", "2"),
            ("a", "3"),
            ("cache-control", "max-age=60"),
        ]);
        assert_eq!((new.headers, new.lifetime.fresh_s), (expected, 60));
        assert_eq!((new.requested_ms, new.received_ms, new.initial_age_s), (90_000, 91_000, 8));
    }

    #[test]
    fn a_confirmation_names_no_other_response() {
        let old = stored(&[("etag", "\"1\""), ("last-modified", "x")], 0);
        for (answer, expected) in [
            (&[][..], true),
            (&[("etag", "W/\"1\"")], true),
            (&[("etag", "\"2\"")], false),
            (&[("last-modified", "x")], true),
            (&[("last-modified", "y")], false),
            (&[("last-modified", "y"), ("etag", "\"1\"")], true),
        ] {
            assert_eq!(old.is_confirmed_by(&fields(answer), true), expected, "{answer:?}");
        }
        // It may be about what the client has.
        assert!(!old.is_confirmed_by(&fields(&[("date", "x")]), false));
        assert!(old.is_confirmed_by(&fields(&[("etag", "\"1\"")]), false));
    }

    #[test]
    fn the_answer_to_a_head_is_about_the_same_if_it_says_so_and_nothing_else() {
        let old = stored(&[("etag", "\"1\"")], 0);
        for (answer, expected) in [
            (&[][..], false),
            (&[("content-length", "4")], false),
            (&[("content-length", "4"), ("etag", "\"1\"")], true),
            (&[("content-length", "5"), ("etag", "\"1\"")], false),
            (&[("etag", "\"2\"")], false),
            (&[("last-modified", "y")], false),
        ] {
            assert_eq!(old.is_described_by(&fields(answer)), expected, "{answer:?}");
        }
    }

    #[test]
    fn a_confirmation_that_is_for_one_client_or_varies_otherwise_ends_it() {
        let mut old = stored(&[("etag", "\"1\""), ("cache-control", "max-age=5"), ("vary", "accept")], 0);
        old.vary = vec![("accept".into(), None)];
        let scope = KeyScope::default();
        let is_kept = |answer: &[(&str, &str)], request: &[(&str, &str)]| {
            let answer = fields(answer);
            old.freshened(&answer, 0, 0, &TERMS).may_be_kept_with(&answer, &fields(request), scope)
        };
        assert!(
            is_kept(&[], &[]) && is_kept(&[("vary", "Accept")], &[]) && is_kept(&[("x-a", "b")], &[("cookie", "a=b")])
        );
        for answer in [
            ("cache-control", "private"),
            ("cache-control", "no-store"),
            ("set-cookie", "a=b"),
            ("x-slidegate-session-set", "{}"),
            ("vary", "cookie"),
            ("vary", "*"),
            ("vary", "accept, accept-language"),
        ] {
            assert!(!is_kept(&[answer], &[]), "{answer:?}");
        }
        assert!(!is_kept(&[], &[("authorization", "Bearer x")]));
    }

    proptest! {
        /// What is used without a validation is as old as the response and the request allow, and no older.
        #[test]
        fn nothing_is_used_that_somebody_forbids(
            max_age in 0_u64..20, swr in prop::option::of(0_u64..20), asked_max in prop::option::of(0_u64..20),
            max_stale in prop::option::of(0_u64..20), min_fresh in prop::option::of(0_u64..20), is_strict: bool,
            after_s in 0_u64..60,
        ) {
            let swr_text = swr.map_or(String::new(), |swr| alloc::format!(", stale-while-revalidate={swr}"));
            let strict = if is_strict { ", must-revalidate" } else { "" };
            let stored = stored(&[("cache-control", &alloc::format!("max-age={max_age}{swr_text}{strict}"))], 1_000);
            let asked = RequestDirectives {
                max_age_s: asked_max, max_stale_s: max_stale, min_fresh_s: min_fresh, ..RequestDirectives::default()
            };
            let is_fresh = after_s < max_age;
            match stored.reuse(&asked, 1_000 + after_s * 1_000) {
                Reuse::Fresh => {
                    prop_assert!(is_fresh && asked_max.is_none_or(|most| after_s <= most));
                    prop_assert!(min_fresh.is_none_or(|least| max_age - after_s >= least));
                }
                Reuse::AllowedStale => prop_assert!(!is_fresh && !is_strict && after_s - max_age <= max_stale.unwrap()),
                Reuse::WhileRevalidating => prop_assert!(!is_fresh && !is_strict && after_s - max_age <= swr.unwrap()),
                Reuse::Validate => {}
            }
        }
    }
}
