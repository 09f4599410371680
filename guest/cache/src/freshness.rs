//! How long a response is fresh, how old it is, and how long it may be used stale (RFC 9111, 4.2; RFC 5861).

use crate::{
    date::read_date,
    directives::ResponseDirectives,
    fields::{HeaderFields, SECONDS_MAX, delta_seconds},
    storing::is_heuristic,
};

/// A tenth of the time since a response was changed last is how long it is fresh, where nobody says so (RFC 9111,
/// 4.2.2), but no longer than a day.
const HEURISTIC_SHARE: u64 = 10;
const HEURISTIC_S_MAX: u64 = 86_400;

/// Nothing is kept for longer when it is stale.
const STALE_S_MAX: u64 = 30 * 86_400;

/// What can be validated is kept for as long again as it was fresh, but for so long at least and at most.
const VALIDATION_S_MIN: u64 = 600;
const VALIDATION_S_MAX: u64 = 86_400;

/// What holds where a response does not say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreshnessTerms {
    /// In place of a guess. None: it is guessed.
    pub default_s: Option<u64>,
    /// However long a response says.
    pub max_s: u64,
    /// For how long it may be used stale while it is fetched anew.
    pub stale_while_revalidate_s: u64,
    /// For how long it may be used in place of an error.
    pub stale_if_error_s: u64,
}

/// How long a response may be used, from when it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lifetime {
    /// It is fresh.
    pub fresh_s: u64,
    /// For so long after that it may be used while it is validated.
    pub stale_while_revalidate_s: u64,
    /// For so long after that it may be used in place of an error.
    pub stale_if_error_s: u64,
    /// It is never used without a validation (RFC 9111, 5.2.2.4).
    pub always_validate: bool,
    /// It is never used stale, whatever a client allows (RFC 9111, 5.2.2.2, 5.2.2.8, 5.2.2.10).
    pub never_stale: bool,
    /// It may be validated.
    pub has_validator: bool,
}

// === impl Lifetime ===

impl Lifetime {
    /// Of a response that was received at this time, in seconds since 1970.
    pub fn of(
        status: u16,
        headers: &HeaderFields,
        directives: &ResponseDirectives,
        received_s: u64,
        terms: &FreshnessTerms,
    ) -> Lifetime {
        let always_validate = directives.no_cache;
        // 5.2.2.10: `s-maxage` brings the meaning of `proxy-revalidate` along.
        let never_stale = always_validate
            || directives.must_revalidate
            || directives.proxy_revalidate
            || directives.s_maxage_s.is_some();
        let fresh_s = fresh_s(status, headers, directives, received_s, terms).min(terms.max_s);
        // What nobody says is fresh is not used stale either, unless it says that.
        let stale = |stated: Option<u64>, default: u64| match never_stale {
            true => 0,
            false => stated.unwrap_or(if fresh_s > 0 { default } else { 0 }).min(STALE_S_MAX),
        };
        Lifetime {
            fresh_s,
            stale_while_revalidate_s: stale(directives.stale_while_revalidate_s, terms.stale_while_revalidate_s),
            stale_if_error_s: stale(directives.stale_if_error_s, terms.stale_if_error_s),
            always_validate,
            never_stale,
            has_validator: headers.has("etag") || last_modified(headers).is_some(),
        }
    }

    /// Whether it may be used at all, be it after a validation, or in place of an error.
    pub fn is_of_use(&self) -> bool {
        self.fresh_s > 0 || self.has_validator || self.stale_while_revalidate_s > 0
    }

    /// For how long it is worth being kept, from when it was made.
    pub fn kept_s(&self) -> u64 {
        let validated = if self.has_validator { self.fresh_s.clamp(VALIDATION_S_MIN, VALIDATION_S_MAX) } else { 0 };
        self.fresh_s + validated.max(self.stale_while_revalidate_s).max(self.stale_if_error_s)
    }

    /// The same but fresh for up to a tenth less, by a digest, so that what was stored together does not end together.
    pub fn scattered(mut self, digest: &[u8]) -> Lifetime {
        let share = u64::from(digest.last().copied().unwrap_or_default());
        if self.fresh_s >= 60 {
            self.fresh_s -= self.fresh_s.saturating_mul(share) / (255 * 10);
        }
        self
    }
}

/// RFC 9111, 4.2.1: the first of what is there, for a shared cache.
fn fresh_s(
    status: u16,
    headers: &HeaderFields,
    directives: &ResponseDirectives,
    received_s: u64,
    terms: &FreshnessTerms,
) -> u64 {
    if let Some(stated) = directives.s_maxage_s.or(directives.max_age_s) {
        return stated;
    }
    let date = date(headers).unwrap_or(received_s);
    if !directives.is_targeted && headers.has("expires") {
        // 5.3: what is no date was in the past. Of several the first that ends.
        let ends = headers.values("expires").map(|value| read_date(value).unwrap_or(0)).min();
        return ends.unwrap_or(0).saturating_sub(date);
    }
    // 4.2.2
    if !is_heuristic(status) && !directives.public {
        return 0;
    }
    terms.default_s.unwrap_or_else(|| match last_modified(headers) {
        Some(changed) => (date.saturating_sub(changed) / HEURISTIC_SHARE).min(HEURISTIC_S_MAX),
        None => 0,
    })
}

/// How old a response was when it was received (RFC 9111, 4.2.3), in seconds. Times are in milliseconds since 1970.
pub fn initial_age_s(headers: &HeaderFields, requested_ms: u64, received_ms: u64) -> u64 {
    let apparent = date(headers).map_or(0, |date| (received_ms / 1_000).saturating_sub(date));
    let delay = received_ms.saturating_sub(requested_ms) / 1_000;
    let corrected = age_value(headers).saturating_add(delay);
    apparent.max(corrected).min(SECONDS_MAX)
}

/// What `age` says. One that cannot be read, or stands twice, might be of any age, and the response is stale: by RFC
/// 9111, 5.1 a cache had better ignore it, or take the first, but whoever validates does no harm.
fn age_value(headers: &HeaderFields) -> u64 {
    let mut values = headers.values("age");
    match (values.next(), values.next()) {
        (None, _) => 0,
        (Some(value), None) => delta_seconds(value.trim_ascii()).unwrap_or(SECONDS_MAX),
        (Some(_), Some(_)) => SECONDS_MAX,
    }
}

/// When a response was made, as it says.
pub(crate) fn date(headers: &HeaderFields) -> Option<u64> {
    headers.first("date").and_then(read_date)
}

/// When what it shows was changed last, as it says.
pub(crate) fn last_modified(headers: &HeaderFields) -> Option<u64> {
    headers.first("last-modified").and_then(read_date)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fields::headers;

    const TERMS: FreshnessTerms =
        FreshnessTerms { default_s: None, max_s: 86_400, stale_while_revalidate_s: 0, stale_if_error_s: 300 };

    /// When responses are received: as their `date` says.
    const NOW_S: u64 = 784_111_777;
    const DATE: (&str, &str) = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");

    fn lifetime(status: u16, fields: &[(&str, &str)]) -> Lifetime {
        let headers = headers(fields);
        Lifetime::of(status, &headers, &ResponseDirectives::read(&headers), NOW_S, &TERMS)
    }

    #[test]
    fn what_is_said_for_shared_caches_comes_first_and_a_guess_last() {
        let past = ("expires", "Sun, 06 Nov 1994 08:40:00 GMT");
        let future = ("expires", "Sun, 06 Nov 1994 08:50:37 GMT");
        let changed = ("last-modified", "Sun, 06 Nov 1994 08:32:57 GMT");
        for (fields, fresh_s) in [
            (&[("cache-control", "max-age=10, s-maxage=20"), DATE][..], 20),
            (&[("cache-control", "s-maxage=0, max-age=10")], 0),
            (&[("cache-control", "max-age=10"), past], 10),
            (&[("cache-control", "max-age=0"), future, DATE], 0),
            (&[("cache-control", "max-age=1000000")], 86_400),
            (&[future, DATE], 60),
            (&[future], 60),
            (&[future, ("date", "foo")], 60),
            (&[past, DATE], 0),
            (&[future, past, DATE], 0),
            (&[("expires", "0"), DATE, changed], 0),
            (&[changed, DATE], 100),
            (&[("last-modified", "Sun, 06 Nov 1983 08:49:37 GMT"), DATE], 86_400),
            (&[("last-modified", "Sun, 06 Nov 1995 08:49:37 GMT"), DATE], 0),
            (&[DATE], 0),
            (&[future, DATE, ("cdn-cache-control", "max-age=7")], 7),
            (&[future, DATE, ("cdn-cache-control", "foo")], 0),
        ] {
            assert_eq!(lifetime(200, fields).fresh_s, fresh_s, "{fields:?}");
        }
        assert_eq!(lifetime(403, &[changed, DATE]).fresh_s, 0);
        assert_eq!(lifetime(599, &[changed, DATE, ("cache-control", "public")]).fresh_s, 100);
    }

    #[test]
    fn a_default_stands_in_place_of_the_guess() {
        let fields = headers(&[("last-modified", "Sun, 06 Nov 1994 08:32:57 GMT"), DATE]);
        let terms = FreshnessTerms { default_s: Some(5), ..TERMS };
        for (status, fresh_s) in [(200, 5), (403, 0)] {
            let lifetime = Lifetime::of(status, &fields, &ResponseDirectives::default(), NOW_S, &terms);
            assert_eq!(lifetime.fresh_s, fresh_s);
        }
    }

    #[test]
    fn stale_use_is_as_the_response_says_and_else_as_configured() {
        for (value, expected) in [
            ("max-age=1", (0, 300, false)),
            ("max-age=1, stale-while-revalidate=5, stale-if-error=6", (5, 6, false)),
            ("max-age=1, stale-if-error=0", (0, 0, false)),
            ("max-age=1, stale-if-error=99999999999", (0, STALE_S_MAX, false)),
            ("max-age=1, must-revalidate, stale-if-error=6, stale-while-revalidate=5", (0, 0, true)),
            ("max-age=1, proxy-revalidate", (0, 0, true)),
            ("s-maxage=1", (0, 0, true)),
            ("no-cache", (0, 0, true)),
        ] {
            let lifetime = lifetime(200, &[("cache-control", value)]);
            let got = (lifetime.stale_while_revalidate_s, lifetime.stale_if_error_s, lifetime.never_stale);
            assert_eq!(got, expected, "{value}");
        }
        assert!(lifetime(200, &[("cache-control", "no-cache=\"x\"")]).always_validate);
    }

    #[test]
    fn what_can_be_validated_is_kept_for_that() {
        let etag = ("etag", "\"1\"");
        assert_eq!(lifetime(200, &[("cache-control", "max-age=5")]).kept_s(), 305);
        assert_eq!(lifetime(200, &[("cache-control", "max-age=5, must-revalidate")]).kept_s(), 5);
        assert_eq!(lifetime(200, &[("cache-control", "max-age=5, must-revalidate"), etag]).kept_s(), 605);
        assert!(lifetime(200, &[("cache-control", "no-cache"), etag]).is_of_use());
        assert!(!lifetime(200, &[("cache-control", "no-cache")]).is_of_use());
        assert!(!lifetime(200, &[DATE]).is_of_use());
    }

    #[test]
    fn the_age_is_the_greater_of_what_clocks_and_what_caches_say() {
        for (fields, requested_ms, age_s) in [
            (&[][..], NOW_S * 1_000, 0),
            (&[DATE], NOW_S * 1_000 - 2_999, 2),
            (&[("date", "Sun, 06 Nov 1994 08:49:27 GMT")], NOW_S * 1_000, 10),
            (&[("date", "Sun, 06 Nov 1994 09:49:27 GMT")], NOW_S * 1_000, 0),
            (&[("date", "Sun, 06 Nov 1994 08:49:27 GMT"), ("age", "30")], NOW_S * 1_000 - 2_000, 32),
            (&[("age", " 30 ")], NOW_S * 1_000, 30),
            (&[("age", "0, 0")], NOW_S * 1_000, SECONDS_MAX),
            (&[("age", "0"), ("age", "0")], NOW_S * 1_000, SECONDS_MAX),
            (&[("age", "abc")], NOW_S * 1_000, SECONDS_MAX),
            (&[("age", "-1")], NOW_S * 1_000, SECONDS_MAX),
            (&[("age", "7200.0")], NOW_S * 1_000, SECONDS_MAX),
            (&[("age", "7200;foo=bar")], NOW_S * 1_000, SECONDS_MAX),
            (&[("age", "")], NOW_S * 1_000, SECONDS_MAX),
        ] {
            assert_eq!(initial_age_s(&headers(fields), requested_ms, NOW_S * 1_000), age_s, "{fields:?}");
        }
    }

    proptest! {
        #[test]
        fn a_scattered_lifetime_is_at_most_a_tenth_shorter(fresh_s in 0_u64..=SECONDS_MAX, last: u8) {
            let whole = Lifetime { fresh_s, ..Lifetime::default() };
            let scattered = whole.scattered(&[0, last]).fresh_s;
            prop_assert!(scattered <= fresh_s && scattered >= fresh_s - fresh_s / 10);
        }

        #[test]
        fn any_times_are_safe(requested_ms: u64, received_ms: u64, age in "[0-9]{0,30}") {
            let age_s = initial_age_s(&headers(&[("age", &age), DATE]), requested_ms, received_ms);
            prop_assert!(age_s <= SECONDS_MAX);
        }
    }
}
