//! The headers that tell a client about its quota.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    rule::QuotaHeaders,
    window::{Charge, Retry, Standing},
};

/// One limit that a request met, with the outcome.
#[derive(Debug, Clone)]
pub(crate) struct Quota<'a> {
    /// The policy's name in IETF headers, before quoting.
    pub(crate) name: &'a str,
    pub(crate) charge: Charge,
    pub(crate) standing: Standing,
}

/// The one limit that a client is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    /// Whole seconds until there is more.
    pub(crate) wait_s: u64,
}

/// The limit that `x-ratelimit-*` and `retry-after` speak of.
pub(crate) fn told(quotas: &[Quota<'_>], refused: bool) -> Option<Told> {
    let quota = spoken_of(quotas, refused)?;
    Some(Told { limit: quota.charge.limit, remaining: remaining(quota), wait_s: seconds(until_more(quota)) })
}

/// The header fields for one decision, in the order of `quotas`; names in lower case.
///
/// - `x-ratelimit-limit`, `-remaining`, `-reset` speak of one limit: of the refusing one that frees last (one in
///   `dry_run` only if no other refuses), else of the one with the least left. `-reset` is in whole seconds, rounded
///   up, and only sent with a refusal, as Higress' plugin does.
/// - `ratelimit-policy` and `ratelimit` list every limit, in the syntax of draft-ietf-httpapi-ratelimit-headers-10:
///   quota `q`, window `w` in seconds, remaining `r`, and `t`, the seconds until there is more. Counts end at
///   999,999,999,999,999: a greater integer makes the whole field unreadable (RFC 9651, section 3.3.1).
/// - `retry-after` (RFC 9110, section 10.2.3) is when the request would be admitted, in whole seconds, rounded up.
pub(crate) fn quota_headers(headers: QuotaHeaders, quotas: &[Quota<'_>], refused: bool) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    let Some(Told { limit, remaining: left, wait_s }) = told(quotas, refused) else { return fields };
    let mut field = |name: &str, value: String| fields.push((name.to_string(), value));
    if headers.quota {
        field("x-ratelimit-limit", limit.to_string());
        field("x-ratelimit-remaining", left.to_string());
    }
    if headers.reset && refused {
        field("x-ratelimit-reset", wait_s.to_string());
    }
    if headers.ietf {
        field(
            "ratelimit-policy",
            list(quotas, |quota| format!("q={};w={}", integer(quota.charge.limit), quota.charge.window_us / 1_000_000)),
        );
        field(
            "ratelimit",
            list(quotas, |quota| format!("r={};t={}", integer(remaining(quota)), seconds(until_more(quota)))),
        );
    }
    if headers.retry_after && refused {
        field("retry-after", wait_s.to_string());
    }
    fields
}

/// What is left for a request of this cost: nothing, if it was refused.
fn remaining(quota: &Quota<'_>) -> u64 {
    match quota.standing.retry {
        Retry::Fits => quota.standing.remaining,
        Retry::After(_) | Retry::Never => 0,
    }
}

fn until_more(quota: &Quota<'_>) -> u64 {
    match quota.standing.retry {
        Retry::After(us) => us,
        Retry::Fits | Retry::Never => quota.standing.reset_us,
    }
}

fn spoken_of<'a, 'q>(quotas: &'a [Quota<'q>], refused: bool) -> Option<&'a Quota<'q>> {
    let is_refusing = |quota: &&Quota<'_>| quota.standing.retry != Retry::Fits && (quota.charge.enforced || !refused);
    let refusing = quotas.iter().filter(is_refusing).max_by_key(|quota| quota.standing.retry);
    refusing.or_else(|| quotas.iter().min_by_key(|quota| quota.standing.remaining))
}

fn list(quotas: &[Quota<'_>], parameters: impl Fn(&Quota<'_>) -> String) -> String {
    let items: Vec<_> = quotas.iter().map(|quota| format!("{};{}", quoted(quota.name), parameters(quota))).collect();
    items.join(", ")
}

/// The nearest structured-field integer, which has at most 15 digits (RFC 9651, section 3.3.1).
fn integer(count: u64) -> u64 {
    count.min(999_999_999_999_999)
}

/// A structured-field string (RFC 9651, section 3.3.3): printable ASCII; other characters become `_`.
fn quoted(name: &str) -> String {
    let mut quoted = String::from("\"");
    for character in name.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            ' '..='~' => quoted.push(character),
            _ => quoted.push('_'),
        }
    }
    quoted.push('"');
    quoted
}

/// Whole seconds, rounded up, at least 1 if there is anything to wait for. A wait ends one microsecond after the
/// window, so that not even the clock's resolution lets a window hold too much; the time that the response travels
/// outweighs that microsecond, and a client that is told 60 s after a window of 60 s is not told 61.
fn seconds(us: u64) -> u64 {
    us.saturating_sub(1).div_ceil(1_000_000).max(u64::from(us > 0))
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn quota(name: &str, limit: u64, window_s: u64, remaining: u64, retry: Retry) -> Quota<'_> {
        Quota {
            name,
            charge: Charge { limit, window_us: window_s * 1_000_000, slot_us: 1, cost: 1, enforced: true },
            standing: Standing { remaining, reset_us: 1_500_000, retry },
        }
    }

    fn fields(headers: QuotaHeaders, quotas: &[Quota<'_>], refused: bool) -> Vec<String> {
        quota_headers(headers, quotas, refused).into_iter().map(|(name, value)| format!("{name}: {value}")).collect()
    }

    const ALL: QuotaHeaders = QuotaHeaders { reset: true, quota: true, ietf: true, retry_after: true, degraded: false };

    #[test]
    fn an_admitted_request_hears_of_the_limit_with_least_left() {
        let quotas = [quota("minute", 100, 60, 60, Retry::Fits), quota("second", 5, 1, 2, Retry::Fits)];
        assert_eq!(
            fields(ALL, &quotas, false),
            vec![
                "x-ratelimit-limit: 5",
                "x-ratelimit-remaining: 2",
                "ratelimit-policy: \"minute\";q=100;w=60, \"second\";q=5;w=1",
                "ratelimit: \"minute\";r=60;t=2, \"second\";r=2;t=2",
            ]
        );
    }

    #[test]
    fn a_refused_request_hears_of_the_limit_that_frees_last() {
        let quotas = [
            quota("minute", 100, 60, 0, Retry::After(30_000_002)),
            quota("second", 5, 1, 0, Retry::After(200_000)),
            quota("day", 9, 86_400, 1, Retry::Fits),
        ];
        assert_eq!(
            fields(ALL, &quotas, true),
            vec![
                "x-ratelimit-limit: 100",
                "x-ratelimit-remaining: 0",
                "x-ratelimit-reset: 31",
                "ratelimit-policy: \"minute\";q=100;w=60, \"second\";q=5;w=1, \"day\";q=9;w=86400",
                "ratelimit: \"minute\";r=0;t=31, \"second\";r=0;t=1, \"day\";r=1;t=2",
                "retry-after: 31",
            ]
        );
    }

    #[test]
    fn a_limit_that_only_tries_does_not_say_when_to_come_again() {
        let mut day = quota("day", 9, 86_400, 0, Retry::After(80_000_000_000));
        day.charge.enforced = false;
        let second = quota("second", 5, 1, 0, Retry::After(200_000));
        let shown = fields(ALL, &[day.clone(), second], true);
        assert_eq!(shown[..3], ["x-ratelimit-limit: 5", "x-ratelimit-remaining: 0", "x-ratelimit-reset: 1"]);
        assert_eq!(shown.last().unwrap(), "retry-after: 1");
        let admitted = fields(ALL, &[day, quota("second", 5, 1, 2, Retry::Fits)], false);
        assert_eq!(admitted[..2], ["x-ratelimit-limit: 9", "x-ratelimit-remaining: 0"]);
    }

    #[test]
    fn counts_stay_within_structured_integers() {
        let ietf = QuotaHeaders { reset: false, quota: false, ietf: true, retry_after: false, degraded: false };
        assert_eq!(
            fields(ietf, &[quota("r", 1 << 53, 1, (1 << 53) - 1, Retry::Fits)], false),
            vec!["ratelimit-policy: \"r\";q=999999999999999;w=1", "ratelimit: \"r\";r=999999999999999;t=2"]
        );
    }

    #[test]
    fn stock_shows_only_the_reset_of_a_refusal() {
        let stock = QuotaHeaders { reset: true, quota: false, ietf: false, retry_after: false, degraded: false };
        assert_eq!(fields(stock, &[quota("r", 1, 60, 0, Retry::After(1))], true), vec!["x-ratelimit-reset: 1"]);
        assert!(fields(stock, &[quota("r", 1, 60, 0, Retry::Fits)], false).is_empty());
        assert!(fields(ALL, &[], true).is_empty());
    }

    #[test]
    fn seconds_are_rounded_up_past_the_last_microsecond() {
        assert_eq!([0, 1, 2, 1_000_001, 1_000_002, 60_000_001].map(seconds), [0, 1, 1, 1, 2, 60]);
    }

    #[test]
    fn a_policy_name_is_quoted_as_a_structured_field() {
        assert_eq!(quoted("a\"b\\c\u{e9}"), "\"a\\\"b\\\\c_\"");
    }
}
