//! What is stored for a URL, as the filter would look for it: never a body, and of headers only what tells responses
//! apart.

use std::fmt::Write;
use std::sync::Arc;

use hyper::Uri;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value as Json, json};
use slidegate::{CallError, ExplainedVerdict, FilterMet, Reply, Value};
use slidegate_cache::{CachedValue, StoredResponse, index_of};

use crate::gateway::Serving;
use crate::gateway::kept::{self, AskedServices, KeptError};

/// So often Redis is asked at most: for a session, for a page, for its variant, and for what was purged.
const ROUNDS_MAX: usize = 8;

/// What the filter would make of a request, and what it would look at.
pub(super) struct StoredFound {
    verdict: ExplainedVerdict,
    reason: String,
    /// The key in Redis, and what is there.
    value: Option<(String, Option<CachedValue>)>,
    /// How many variants there are, and the names by which responses vary, if they do.
    variants: Option<(i64, Vec<String>)>,
    now_ms: u64,
}

/// A header of the request, `name: value`.
///
/// # Errors
/// It is none.
pub(crate) fn header_argument(text: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    const EXPECTED: &str = "expected a header such as `accept-language: de`";
    let (name, value) = text.split_once(':').ok_or(EXPECTED)?;
    let name = name.trim().parse().map_err(|_| EXPECTED)?;
    let mut value: HeaderValue = value.trim().parse().map_err(|_| EXPECTED)?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// Looks for what is stored for a URL.
///
/// # Errors
/// No filter keeps responses, the gateway would refuse the request, or a Redis cannot be used.
pub(super) async fn find(serving: &Serving, url: &Uri, headers: &HeaderMap) -> Result<StoredFound, KeptError> {
    let (Some(_), Some(worker)) = (serving.redis(), serving.worker(0)) else {
        return Err(KeptError::NoCache);
    };
    let request = Arc::new(kept::request(serving, url, headers.clone()).map_err(KeptError::NotKept)?);
    let mut services = AskedServices::new(serving);
    let (mut replies, mut value, mut variants): (Vec<Result<Reply, CallError>>, _, _) = (Vec::new(), None, None);
    for _ in 0..ROUNDS_MAX {
        let told = worker.explain(Arc::clone(&request) as Arc<dyn slidegate::Request>, &replies);
        let told = told.ok_or_else(|| KeptError::Filter("the filter cannot be asked".to_owned()))?;
        let Some(FilterMet { verdict, reason, .. }) = told.filters.into_iter().find(|filter| filter.kind == "cache")
        else {
            return Err(KeptError::NoCache);
        };
        if told.questions.is_empty() {
            let now_ms = kept::now().wall / 1_000_000;
            return Ok(StoredFound { verdict, reason, value, variants, now_ms });
        }
        for question in told.questions {
            let redis = services.of(&question).await?;
            let words: Vec<Vec<u8>> = question.command.words().map(<[u8]>::to_vec).collect();
            let reply = redis.call(question.command).await;
            if let [name, key, _] = &words[..]
                && name == b"MGET"
                && let Ok(key) = std::str::from_utf8(key)
            {
                let (found, varies) = read(reply.as_ref().ok());
                if let Some(names) = varies {
                    let counted = redis.ask(["ZCARD", &index_of(key)].into_iter().collect()).await?;
                    let count = if let Reply::Single(Value::Integer(count)) = counted { count } else { 0 };
                    variants = Some((count, names));
                }
                value = Some((key.to_owned(), found));
            }
            replies.push(reply);
        }
    }
    Err(KeptError::Filter("the filter asks without end".to_owned()))
}

/// What is there, and the names by which it varies, if it does.
fn read(reply: Option<&Reply>) -> (Option<CachedValue>, Option<Vec<String>>) {
    let Some(Reply::Many(values)) = reply else { return (None, None) };
    let Some(Value::Bulk(bytes)) = values.first() else { return (None, None) };
    match CachedValue::read_any(bytes) {
        Ok(CachedValue::Varies(names)) => (None, Some(names)),
        Ok(other) => (Some(other), None),
        Err(_) => (None, None),
    }
}

impl StoredFound {
    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = format!("answer    {}: {}\n", self.verdict(), self.reason);
        let mut line = |name: &str, what: &dyn std::fmt::Display| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name:<9} {what}");
        };
        if let Some((key, value)) = &self.value {
            line("key", key);
            match value {
                None => line("stored", &"nothing"),
                Some(CachedValue::Passes) => line("stored", &"that no response can be"),
                Some(CachedValue::Varies(_)) => line("stored", &"by what its responses vary"),
                Some(CachedValue::Response(response)) => {
                    let (fresh_s, stale_s) = self.left_s(response);
                    line("status", &response.status);
                    line("age", &format!("{} s", response.age_s(self.now_ms)));
                    line("fresh", &for_or_since(fresh_s));
                    line("stale", &for_or_since(stale_s));
                    line("size", &format!("{} bytes", response.body.len()));
                    if !response.tags.is_empty() {
                        line("tags", &tags(response).join(" "));
                    }
                }
            }
        }
        if let Some((count, names)) = &self.variants {
            line("variants", &format!("{count}, by {}", names.join(", ")));
        }
        text
    }

    /// For programs.
    pub(super) fn json(&self) -> Json {
        let stored = match self.value.as_ref().and_then(|(_, value)| value.as_ref()) {
            Some(CachedValue::Response(response)) => {
                let (fresh_s, stale_s) = self.left_s(response);
                json!({
                    "status": response.status,
                    "age_s": response.age_s(self.now_ms),
                    "fresh_until_ms": until_ms(self.now_ms, fresh_s),
                    "stale_until_ms": until_ms(self.now_ms, stale_s),
                    "size": response.body.len(),
                    "tags": tags(response),
                })
            }
            _ => Json::Null,
        };
        json!({
            "answer": self.verdict(),
            "reason": self.reason,
            "key": self.value.as_ref().map(|(key, _)| key),
            "stored": stored,
            "variants": self.variants.as_ref().map(|(count, names)| json!({"count": count, "by": names})),
        })
    }

    fn verdict(&self) -> &'static str {
        match self.verdict {
            ExplainedVerdict::Respond => "stored",
            ExplainedVerdict::Pass => "upstream",
            ExplainedVerdict::Depend => "unknown",
        }
    }

    /// For how many seconds more it is fresh, and may be used stale.
    fn left_s(&self, response: &StoredResponse) -> (i64, i64) {
        let lifetime = &response.lifetime;
        let stale_s = lifetime.stale_while_revalidate_s.max(lifetime.stale_if_error_s);
        let fresh_s = response.fresh_for_s(self.now_ms);
        (fresh_s, fresh_s.saturating_add_unsigned(stale_s))
    }
}

fn for_or_since(left_s: i64) -> String {
    match left_s {
        1.. => format!("for {left_s} s"),
        _ => format!("not since {} s", left_s.unsigned_abs()),
    }
}

fn until_ms(now_ms: u64, left_s: i64) -> u64 {
    now_ms.saturating_add_signed(left_s.saturating_mul(1_000))
}

/// The digests of tags: what they are called, nobody keeps.
fn tags(response: &StoredResponse) -> Vec<String> {
    response.tags.iter().map(|tag| kept::digest_shown(tag)).collect()
}
