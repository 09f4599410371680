//! The headers that tell a client about its quota.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    rule::{LimitUnit, QuotaHeaders},
    window::{Charge, Retry, Standing},
};

/// One limit that a request met, with the outcome.
#[derive(Debug, Clone)]
pub(crate) struct Quota<'a> {
    /// The policy's name in IETF headers, before quoting.
    pub(crate) name: &'a str,
    pub(crate) charge: Charge,
    pub(crate) standing: Standing,
    pub(crate) unit: LimitUnit,
}

/// The one limit that a client is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    /// Whole seconds until there is more.
    pub(crate) wait_s: u64,
    /// Until the request fits, in microseconds. None: it never does, or does now.
    pub(crate) fits_after_us: Option<u64>,
    pub(crate) unit: LimitUnit,
}

impl<'a> Quota<'a> {
    /// Of a limit on requests.
    pub(crate) fn new(name: &'a str, charge: Charge, standing: Standing) -> Quota<'a> {
        Quota { name, charge, standing, unit: LimitUnit::Requests }
    }
}

/// The limit that a refusal, or an admission, is all about.
pub(crate) fn told(quotas: &[Quota<'_>], refused: bool) -> Option<Told> {
    spoken_of(quotas.iter(), refused).map(told_of)
}

fn told_of(quota: &Quota<'_>) -> Told {
    let fits_after_us = match quota.standing.retry {
        Retry::After(us) => Some(us),
        Retry::Fits | Retry::Never => None,
    };
    let (limit, unit) = (quota.charge.limit, quota.unit);
    Told { limit, remaining: remaining(quota), wait_s: seconds(until_more(quota)), fits_after_us, unit }
}

/// The header fields for one decision, in the order of `quotas`; names in lower case.
///
/// - `x-ratelimit-limit`, `-remaining`, `-reset` speak of one limit on requests: of the refusing one that frees last
///   (one in `dry_run` only if no other refuses), else of the one with the least left. `-reset` is in whole seconds,
///   rounded up, and only sent with a refusal, as Higress' plugin does; where a limit on tokens refuses, it is
///   `x-tokenratelimit-reset`, as of Higress' other plugin, whatever else is sent.
/// - `x-ratelimit-limit-tokens`, `-remaining-tokens`, `-reset-tokens`, as OpenAI spells them, and
///   `anthropic-ratelimit-tokens-limit`, `-remaining`, `-reset` speak of one limit on tokens, found alike. The reset is
///   a length of time as Go writes it, such as `1m30s`, or a time (RFC 3339), if `wall_ns` is one: nanoseconds since
///   1970, 0 for nobody knows.
/// - `ratelimit-policy` and `ratelimit` list every limit, in the syntax of draft-ietf-httpapi-ratelimit-headers-10:
///   quota `q`, window `w` in seconds, remaining `r`, and `t`, the seconds until there is more. Counts end at
///   999,999,999,999,999: a greater integer makes the whole field unreadable (RFC 9651, section 3.3.1).
/// - `retry-after` (RFC 9110, section 10.2.3) is when the request would be admitted, in whole seconds, rounded up;
///   nothing if it never would.
pub(crate) fn quota_headers(
    headers: QuotaHeaders,
    quotas: &[Quota<'_>],
    refused: bool,
    wall_ns: u64,
) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    let Some(Told { wait_s, unit, fits_after_us, .. }) = told(quotas, refused) else { return fields };
    let mut field = |name: &str, value: String| fields.push((name.to_string(), value));
    let of_unit = |unit: LimitUnit| spoken_of(quotas.iter().filter(move |quota| quota.unit == unit), refused);
    if headers.quota
        && let Some(quota) = of_unit(LimitUnit::Requests)
    {
        field("x-ratelimit-limit", quota.charge.limit.to_string());
        field("x-ratelimit-remaining", remaining(quota).to_string());
    }
    match unit {
        LimitUnit::Requests if headers.reset && refused => field("x-ratelimit-reset", wait_s.to_string()),
        LimitUnit::Tokens if headers.token_reset && refused => field("x-tokenratelimit-reset", wait_s.to_string()),
        LimitUnit::Requests | LimitUnit::Tokens => {}
    }
    if (headers.openai_tokens || headers.anthropic_tokens)
        && let Some(quota) = of_unit(LimitUnit::Tokens)
    {
        let (limit, left) = (quota.charge.limit.to_string(), remaining(quota).to_string());
        if headers.openai_tokens {
            field("x-ratelimit-limit-tokens", limit.clone());
            field("x-ratelimit-remaining-tokens", left.clone());
            field("x-ratelimit-reset-tokens", go_duration(until_more(quota)));
        }
        if headers.anthropic_tokens {
            field("anthropic-ratelimit-tokens-limit", limit);
            field("anthropic-ratelimit-tokens-remaining", left);
            if wall_ns > 0 {
                let reset_ns = wall_ns.saturating_add(until_more(quota).saturating_mul(1_000));
                field("anthropic-ratelimit-tokens-reset", rfc3339(reset_ns.div_ceil(1_000_000_000)));
            }
        }
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
    if headers.retry_after && refused && fits_after_us.is_some() {
        field("retry-after", wait_s.to_string());
    }
    fields
}

/// What is left: of a limit on requests for another one, which is nothing if this one was refused; of one on tokens for
/// a smaller request, too.
fn remaining(quota: &Quota<'_>) -> u64 {
    match (quota.standing.retry, quota.unit) {
        (Retry::Fits, _) | (_, LimitUnit::Tokens) => quota.standing.remaining,
        (Retry::After(_) | Retry::Never, LimitUnit::Requests) => 0,
    }
}

fn until_more(quota: &Quota<'_>) -> u64 {
    match quota.standing.retry {
        Retry::After(us) => us,
        Retry::Fits | Retry::Never => quota.standing.reset_us,
    }
}

fn spoken_of<'a, 'q>(quotas: impl Iterator<Item = &'a Quota<'q>> + Clone, refused: bool) -> Option<&'a Quota<'q>>
where
    'q: 'a,
{
    let is_refusing = |quota: &&Quota<'_>| quota.standing.retry != Retry::Fits && (quota.charge.enforced || !refused);
    let refusing = quotas.clone().filter(is_refusing).max_by_key(|quota| quota.standing.retry);
    refusing.or_else(|| quotas.min_by_key(|quota| quota.standing.remaining))
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

/// A length of time as Go writes it: `0s`, `12ms`, `1m30s`, in whole milliseconds below a second, and in whole seconds
/// above, rounded up.
fn go_duration(us: u64) -> String {
    if us < 1_000_000 {
        let ms = us.div_ceil(1_000);
        return if ms == 0 { "0s".to_string() } else { format!("{ms}ms") };
    }
    let whole = seconds(us);
    match (whole / 3_600, whole / 60 % 60, whole % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// A time, in seconds since 1970, as RFC 3339 writes it, in UTC. The calendar is counted in years that begin with
/// March, so that the leap day is the last one.
fn rfc3339(seconds: u64) -> String {
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Since the first of March of the year 0, in eras of 400 years.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = 400 * era + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
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
            unit: LimitUnit::Requests,
        }
    }

    fn fields(headers: QuotaHeaders, quotas: &[Quota<'_>], refused: bool) -> Vec<String> {
        quota_headers(headers, quotas, refused, WALL_NS)
            .into_iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect()
    }

    /// 2026-02-28T23:59:00.5Z.
    const WALL_NS: u64 = 1_772_323_140_500_000_000;

    const ALL: QuotaHeaders = QuotaHeaders { reset: true, quota: true, ietf: true, retry_after: true, ..NONE };
    const NONE: QuotaHeaders = QuotaHeaders {
        reset: false,
        token_reset: false,
        quota: false,
        ietf: false,
        retry_after: false,
        openai_tokens: false,
        anthropic_tokens: false,
        degraded: false,
    };

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
        let ietf = QuotaHeaders { ietf: true, ..NONE };
        assert_eq!(
            fields(ietf, &[quota("r", 1 << 53, 1, (1 << 53) - 1, Retry::Fits)], false),
            vec!["ratelimit-policy: \"r\";q=999999999999999;w=1", "ratelimit: \"r\";r=999999999999999;t=2"]
        );
    }

    #[test]
    fn stock_shows_only_the_reset_of_a_refusal() {
        let stock = QuotaHeaders { reset: true, ..NONE };
        assert_eq!(fields(stock, &[quota("r", 1, 60, 0, Retry::After(1))], true), vec!["x-ratelimit-reset: 1"]);
        assert!(fields(stock, &[quota("r", 1, 60, 0, Retry::Fits)], false).is_empty());
        assert!(fields(ALL, &[], true).is_empty());
    }

    #[test]
    fn tokens_have_headers_of_their_own() {
        let mut tokens = quota("tokens", 10_000, 60, 0, Retry::After(89_000_001));
        tokens.unit = LimitUnit::Tokens;
        let requests = quota("requests", 5, 1, 2, Retry::Fits);
        let shown = QuotaHeaders { openai_tokens: true, anthropic_tokens: true, token_reset: true, ietf: false, ..ALL };
        assert_eq!(
            fields(shown, &[requests.clone(), tokens.clone()], true),
            [
                "x-ratelimit-limit: 5",
                "x-ratelimit-remaining: 2",
                "x-tokenratelimit-reset: 89",
                "x-ratelimit-limit-tokens: 10000",
                "x-ratelimit-remaining-tokens: 0",
                "x-ratelimit-reset-tokens: 1m29s",
                "anthropic-ratelimit-tokens-limit: 10000",
                "anthropic-ratelimit-tokens-remaining: 0",
                "anthropic-ratelimit-tokens-reset: 2026-03-01T00:00:30Z",
                "retry-after: 89",
            ]
        );
        let stock = QuotaHeaders { reset: true, token_reset: true, quota: true, ..NONE };
        assert_eq!(fields(stock, core::slice::from_ref(&tokens), true), ["x-tokenratelimit-reset: 89"]);
        let unknown = quota_headers(QuotaHeaders { reset: false, ..shown }, core::slice::from_ref(&tokens), true, 0);
        assert!(unknown.iter().any(|(name, _)| name == "x-tokenratelimit-reset"), "whatever else is sent");
        assert!(unknown.iter().all(|(name, _)| name != "anthropic-ratelimit-tokens-reset"), "nobody knows the time");
        // There is room, though not for this one.
        tokens.standing.remaining = 70;
        assert!(fields(shown, &[tokens], true).contains(&"x-ratelimit-remaining-tokens: 70".to_string()));
        assert!(fields(shown, &[requests], false).iter().all(|field| !field.contains("tokens")));
        assert_eq!(
            [0, 1, 12_000, 999_001, 1_000_001, 3_723_000_001].map(go_duration),
            ["0s", "1ms", "12ms", "1000ms", "1s", "1h2m3s"]
        );
    }

    #[test]
    fn times_are_written_as_rfc_3339_has_them() {
        for (seconds, time) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_772_323_199, "2026-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), time);
        }
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
