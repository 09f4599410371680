//! What a filter may not do beside `decide`: proxies that ask for decisions show neither bodies nor answers.

use serde_json::Value;
use slidegate::{Configuration, Parts};

use super::filter::FilterConfig;
use super::http_warnings::first_field;
use super::mistake::Mistake;

/// What of a filter nobody can decide who is told neither bodies nor answers.
pub(crate) fn undecidable(filter: &FilterConfig) -> Vec<Mistake> {
    const ELSEWHERE: &str = "beside `decide`, whose proxies show neither: expected it in a file of its own, without \
                             `decide`, whose gateway stands before the upstream";
    let is_tokens = |name: &str, _: &Value| name.starts_with("token_per_") || name == "token_limit";
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
        if let Some(place) = first_field(filter, &path, &is_tokens) {
            mistakes.push(Mistake::new(place, format!("counts what bodies and answers tell, {ELSEWHERE}")));
        }
    }
    mistakes
}

/// The same of a filter that is known only by what it says that it needs.
pub(crate) fn undecided(filter: &FilterConfig, configuration: &Configuration) -> Option<Mistake> {
    let needs = configuration.uses.parts & (Parts::REQUEST_BODY | Parts::RESPONSE_BODY);
    let reason = "looks at bodies, which nobody shows whom `decide` is for";
    (needs != Parts::empty()).then(|| Mistake::new(filter.field(), reason))
}
