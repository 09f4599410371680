//! What the filter would make of a request, told without doing it.

use alloc::{
    format,
    string::{String, ToString},
};

use slidegate_cache::{CachedValue, Reuse, StoredResponse, ValueHead, is_safe, matches_request, vary_values};

use super::{
    known::{KnownKeys, Purges},
    question::{AHEAD_MS, CacheAnswer, CacheQuestion},
    request::CacheableRequest,
};
use crate::{
    cache::CacheRules,
    redis::{CallError, Command, Form, Reply},
    request::RequestView,
    store::{Ask, failure::FailureCause},
};

/// What it would make of it.
pub(crate) struct ExplainedCache {
    /// Whether what is stored answers it. None: Redis knows.
    pub(crate) is_answered: Option<bool>,
    /// Why, in a sentence, with the key in Redis. It tells nothing of what is stored but how long it may be used.
    pub(crate) reason: String,
}

/// What a service says to a question. None: it was not asked.
type Asking<'a> = &'a mut dyn FnMut(u32, Command) -> Option<Result<Reply, CallError>>;

/// What a filter of these rules makes of a request.
pub(crate) fn explained(
    rules: &CacheRules,
    request: &dyn RequestView,
    wall_ns: u64,
    ask: Asking<'_>,
) -> ExplainedCache {
    let method = request.header(":method").unwrap_or_default();
    let passing = |reason: String| ExplainedCache { is_answered: Some(false), reason };
    if !is_safe(&method) {
        return passing("it may change something: if it does, what is stored of its address is void".to_string());
    }
    let cacheable = match wall_ns {
        0 => Err("nobody knows what time it is"),
        _ => CacheableRequest::read(rules, &mut KnownKeys::default(), &method, request),
    };
    match cacheable {
        Ok(cacheable) => {
            let told = looked_up(rules, &cacheable, wall_ns / 1_000_000, ask);
            match told.is_answered {
                // Who wants nothing but what is stored is told that it is of no use.
                Some(false) if cacheable.directives.only_if_cached => {
                    let reason = format!("{}, and the request says `only-if-cached`: 504", told.reason);
                    ExplainedCache { is_answered: Some(true), reason }
                }
                _ => told,
            }
        }
        Err(why) => passing(format!("it is not looked up: {why}")),
    }
}

fn looked_up(rules: &CacheRules, request: &CacheableRequest, now_ms: u64, ask: Asking<'_>) -> ExplainedCache {
    let mut key = request.key.clone();
    loop {
        let name = key.value();
        let told = |is_answered, what: &str| ExplainedCache { is_answered, reason: format!("{name} {what}") };
        let question = CacheQuestion::Read { flight: 0, key: key.clone() };
        let answer = match answer(rules, &question, ask) {
            None => return told(None, "is what is looked up, and Redis knows whether it is stored"),
            Some(Err(cause)) => return told(Some(false), &format!("cannot be looked up: {cause}")),
            Some(Ok(answer)) => answer,
        };
        return match answer {
            CacheAnswer::Found(CachedValue::Varies(names), _) if *key.digest() == *request.key.digest() => {
                match vary_values(&names, &request.headers) {
                    Ok(values) => {
                        key = request.key.variant(&values);
                        continue;
                    }
                    Err(_) => told(Some(false), "varies by more of the request than is kept"),
                }
            }
            CacheAnswer::Found(CachedValue::Response(stored), _) => match is_void(rules, &stored, now_ms, ask) {
                None => told(None, "is stored, and Redis knows whether one of its tags was purged"),
                Some(true) => told(Some(false), "is stored, and void"),
                Some(false) => standing(&name, request, &stored, now_ms),
            },
            CacheAnswer::Found(CachedValue::Passes, _) => told(Some(false), "is known not to be storable, for a while"),
            CacheAnswer::Missing(Some(cause), _) => told(Some(false), &format!("cannot be read: {}", cause.as_str())),
            CacheAnswer::Missing(None, head) if head != ValueHead::default() => {
                told(Some(false), "is stored, and void")
            }
            _ => told(Some(false), "is not stored"),
        };
    }
}

/// What Redis says to a question. None: it was not asked.
fn answer(rules: &CacheRules, question: &CacheQuestion, ask: Asking<'_>) -> Option<Result<CacheAnswer, FailureCause>> {
    let mut command = Command::default();
    question.command(Form::Text, &mut command);
    Some(match ask(rules.redis, command)? {
        Ok(mut reply) => question.read(&mut reply).ok_or(FailureCause::BadReply),
        Err(CallError::TooLarge) => question.too_large().ok_or(FailureCause::BadReply),
        Err(error) => Err(error.into()),
    })
}

/// Whether a response is void by one of its tags, or by a clock that was ahead. None: that is not known.
fn is_void(rules: &CacheRules, stored: &StoredResponse, now_ms: u64, ask: Asking<'_>) -> Option<bool> {
    if stored.requested_ms > now_ms.saturating_add(AHEAD_MS) {
        return Some(true);
    }
    if stored.tags.is_empty() {
        return Some(false);
    }
    let mut purges = Purges::default();
    match answer(rules, &CacheQuestion::Purges, ask)? {
        Ok(CacheAnswer::Purged(purged)) => {
            purges.learn(&purged, 0);
            Some(purges.void(&stored.tags, stored.requested_ms))
        }
        // As in a gateway, which does not use what it knows so little of.
        _ => Some(true),
    }
}

fn standing(name: &str, request: &CacheableRequest, stored: &StoredResponse, now_ms: u64) -> ExplainedCache {
    let (status, left_s) = (stored.status, stored.fresh_for_s(now_ms));
    let (is_answered, how) = match stored.reuse(&request.directives, now_ms) {
        _ if !matches_request(&stored.vary, &stored.headers, &request.headers) => (false, "is for other requests"),
        Reuse::Fresh => (true, "answers it"),
        Reuse::AllowedStale => (true, "answers it, as it takes what is stale"),
        Reuse::WhileRevalidating => (true, "answers it, while one request fetches it anew"),
        Reuse::Validate if stored.may_replace_error(now_ms) => {
            (false, "has to be validated, and stands in for an error")
        }
        Reuse::Validate => (false, "has to be validated"),
    };
    let left = match left_s {
        1.. => format!("fresh for {left_s} s"),
        _ => format!("stale since {} s", left_s.unsigned_abs()),
    };
    ExplainedCache { is_answered: Some(is_answered), reason: format!("{name} (status {status}, {left}) {how}") }
}
