//! A filter that keeps responses, in words.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use slidegate_cache::KeyQuery;
use slidegate_document::TimeSpan;

use crate::cache::{CacheGroup, CacheRules};

/// The facts of such a filter, each with its name; `redis` is where responses are kept.
pub(super) fn facts(rules: &CacheRules, redis: Option<String>) -> Vec<(&'static str, String)> {
    let span = |seconds: u64| TimeSpan(seconds.saturating_mul(1_000_000));
    let query = match &rules.query {
        KeyQuery::All => "the whole query".to_string(),
        KeyQuery::None => "no query".to_string(),
        KeyQuery::Names(names) => format!("{} of the query", names.join(", ")),
    };
    let mut key = alloc::vec!["host".to_string(), "path".to_string(), query];
    key.extend(rules.headers.iter().map(|name| format!("header {name}")));
    key.extend(rules.group.as_ref().map(|group| match group {
        CacheGroup::Session { header, .. } => format!("the session's {header}"),
        CacheGroup::Cookie(name) => format!("cookie {name}"),
    }));
    let statuses: Vec<String> = rules.failover_statuses.iter().map(u16::to_string).collect();
    let lifetime = match rules.terms.default_s {
        Some(default_s) => format!("{} unless a response says it", span(default_s)),
        None => "as responses say, or guessed by when they were changed".to_string(),
    };
    let mut facts = alloc::vec![
        ("cache", format!("responses with bodies of up to {} bytes", rules.body_max)),
        ("kept", redis.unwrap_or_default()),
        ("key", key.join(", ")),
        ("fresh", format!("{lifetime}; {} at most", span(rules.terms.max_s))),
        ("if error", format!("for {} more, in place of {}", span(rules.terms.stale_if_error_s), statuses.join(", "))),
    ];
    if rules.terms.stale_while_revalidate_s > 0 {
        facts.push(("while fetched", format!("for {} more", span(rules.terms.stale_while_revalidate_s))));
    }
    if let Some(fallback) = &rules.fallback {
        facts.push(("without one", format!("{}, a text of {} bytes", fallback.status, fallback.body.len())));
    }
    facts
}
