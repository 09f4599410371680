//! What a filter may not do beside `decide`: most proxies that ask for decisions show neither bodies nor answers, and
//! the one that does lets neither be kept here.

use serde_json::Value;

use super::filter::FilterConfig;
use super::mistake::Mistake;

/// What of a filter nobody can decide for another proxy.
pub(crate) fn undecidable(filter: &FilterConfig) -> Vec<Mistake> {
    const ELSEWHERE: &str = "beside `decide`, by which other proxies pass them on: expected it in a file of its own, \
                             without `decide`, whose gateway stands before the upstream";
    let mut mistakes = Vec::new();
    for (path, filter) in filter.each() {
        if filter.get("cache").is_some() {
            mistakes.push(Mistake::new(format!("{path}.cache"), format!("keeps answers and gives them, {ELSEWHERE}")));
        }
        if filter.get("cookie_vault").is_some() {
            let reason = format!("takes cookies out of answers, {ELSEWHERE}");
            mistakes.push(Mistake::new(format!("{path}.cookie_vault"), reason));
        }
        if filter.get("session").and_then(|session| session.get("format")).and_then(Value::as_str) == Some("own") {
            let reason = format!("begins, renews and ends sessions by answers, {ELSEWHERE}");
            mistakes.push(Mistake::new(format!("{path}.session.format"), reason));
        }
    }
    mistakes
}
