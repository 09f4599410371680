//! What the admin page shows of a gateway: how its rules decided, now and over the last minutes, and how its Redis is
//! doing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use slidegate::{RedisState, RedisStatus};

use crate::gateway::kept;
use crate::gateway::serving::Serving;
use crate::gateway::telemetry::{ProcessMetrics, REQUESTS, ReadValue};

/// So often is counted what came of requests.
pub(crate) const STEP: Duration = Duration::from_secs(5);

/// Five minutes of steps, and the one that they are counted from.
const STEPS_MAX: usize = 61;

/// Rules that are shown at most: those that decided most.
const RULES_MAX: usize = 200;

const DECISIONS: &str = "slidegate_decisions_total";
const DEGRADED: &str = "slidegate_degraded_decisions_total";
const ITEM_DECISIONS: &str = "slidegate_item_decisions_total";
const DECISION_TIME: &str = "slidegate_decision_duration_seconds";
const CALL_TIME: &str = "slidegate_redis_call_duration_seconds";
const BREAKER_OPEN: &str = "slidegate_redis_breaker_open";

/// A series' labels, by their names.
type Labels = BTreeMap<String, String>;

/// What came of requests in the last five minutes.
#[derive(Default)]
pub(crate) struct RecentPast(Mutex<VecDeque<SoFar>>);

/// What had come of all requests at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct SoFar {
    at_ms: u64,
    requests: u64,
    admitted: u64,
    refused: u64,
    would_refuse: u64,
    degraded: u64,
}

/// What is known of a rule.
#[derive(Default)]
struct RuleShown {
    decisions: Map<String, Value>,
    degraded: Map<String, Value>,
    items: BTreeMap<String, Map<String, Value>>,
    duration: Value,
    decided: u64,
}

impl RecentPast {
    /// Notes what has come of requests until now.
    pub(crate) fn note(&self, metrics: &ProcessMetrics) {
        let mut so_far = SoFar { at_ms: now_ms(), ..SoFar::default() };
        metrics.read(REQUESTS, |_, value| so_far.requests += count(&value));
        metrics.read(DECISIONS, |labels, value| {
            let part = match labels.get("decision").map(String::as_str) {
                Some("admitted") => &mut so_far.admitted,
                Some("refused") => &mut so_far.refused,
                Some("would_refuse") => &mut so_far.would_refuse,
                _ => return,
            };
            *part += count(&value);
        });
        metrics.read(DEGRADED, |_, value| so_far.degraded += count(&value));
        let mut steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        steps.push_back(so_far);
        let excess = steps.len().saturating_sub(STEPS_MAX);
        steps.drain(..excess);
    }

    /// What came of requests between one step and the next. A reload takes rules away with what they counted: less than
    /// before is nothing.
    fn shown(&self) -> Value {
        let steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let between = steps.iter().zip(steps.iter().skip(1)).map(|(before, after)| {
            json!({
                "at_ms": after.at_ms,
                "lasted_ms": after.at_ms.saturating_sub(before.at_ms),
                "requests": after.requests.saturating_sub(before.requests),
                "admitted": after.admitted.saturating_sub(before.admitted),
                "refused": after.refused.saturating_sub(before.refused),
                "would_refuse": after.would_refuse.saturating_sub(before.would_refuse),
                "degraded": after.degraded.saturating_sub(before.degraded),
            })
        });
        between.collect()
    }
}

/// The state of a gateway, as JSON. What the settings keep secret is not in it.
pub(crate) fn state(serving: &Serving, metrics: &ProcessMetrics, past: &RecentPast) -> Value {
    serving.fetch_metrics();
    let (rules, rules_left_out) = rules(metrics);
    let warnings = serving.configuration().map(|configuration| configuration.warnings.clone());
    let configuration = json!({
        "understood": serving.described().lines().collect::<Vec<_>>(),
        "warnings": warnings.unwrap_or_default(),
    });
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "at_ms": now_ms(),
        "redis": serving.redis_statuses().into_iter().map(redis).collect::<Vec<_>>(),
        "breakers": by_service(metrics, BREAKER_OPEN),
        "redis_calls": by_service(metrics, CALL_TIME),
        "requests": requests(metrics),
        "recent": past.shown(),
        "rules": rules,
        "rules_left_out": rules_left_out,
        "configuration": serving.settings.environment.hide_in("", configuration),
    })
}

/// The rules that decided most, and how many others there are.
fn rules(metrics: &ProcessMetrics) -> (Vec<Value>, usize) {
    let mut decided: BTreeMap<String, u64> = BTreeMap::new();
    metrics.read(DECISIONS, |labels, value| *decided.entry(of(labels, "rule")).or_default() += count(&value));
    let all = decided.len();
    let mut most: Vec<_> = decided.into_iter().collect();
    most.sort_by(|(name, count), (other, others)| others.cmp(count).then_with(|| name.cmp(other)));
    most.truncate(RULES_MAX);
    let order: Vec<String> = most.iter().map(|(name, _)| name.clone()).collect();
    let mut shown: BTreeMap<String, RuleShown> =
        most.into_iter().map(|(name, decided)| (name, RuleShown { decided, ..RuleShown::default() })).collect();
    let mut read = |name, note: fn(&mut RuleShown, &Labels, ReadValue)| {
        metrics.read(name, |labels, value| {
            if let Some(rule) = labels.get("rule").and_then(|name| shown.get_mut(name)) {
                note(rule, labels, value);
            }
        });
    };
    read(DECISIONS, |rule, labels, value| {
        rule.decisions.insert(of(labels, "decision"), json!(count(&value)));
    });
    read(DEGRADED, |rule, labels, value| {
        rule.degraded.insert(of(labels, "mode"), json!(count(&value)));
    });
    read(ITEM_DECISIONS, |rule, labels, value| {
        let item = rule.items.entry(of(labels, "item")).or_default();
        item.insert(of(labels, "decision"), json!(count(&value)));
    });
    read(DECISION_TIME, |rule, _, value| rule.duration = buckets(value));
    let rules = order.into_iter().filter_map(|name| {
        let RuleShown { decisions, degraded, items, duration, decided } = shown.remove(&name)?;
        Some(json!({
            "rule": name,
            "decided": decided,
            "decisions": decisions,
            "degraded": degraded,
            "items": items,
            "decision_seconds": duration,
        }))
    });
    (rules.collect(), all.saturating_sub(RULES_MAX))
}

fn redis(RedisStatus { service_name, port, address, state }: RedisStatus) -> Value {
    let (state, cause) = match state {
        RedisState::Unasked => ("not_asked", None),
        RedisState::Up => ("up", None),
        RedisState::Down(cause) => ("down", Some(cause)),
    };
    json!({"service": service_name, "port": port, "address": address, "state": state, "cause": cause})
}

fn by_service(metrics: &ProcessMetrics, name: &str) -> Value {
    let mut services = Map::new();
    metrics.read(name, |labels, value| {
        services.insert(of(labels, "service"), buckets(value));
    });
    Value::Object(services)
}

/// For each route, how many were answered with which class of status.
fn requests(metrics: &ProcessMetrics) -> Value {
    let mut routes: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    metrics.read(REQUESTS, |labels, value| {
        routes.entry(of(labels, "route")).or_default().insert(of(labels, "code"), json!(count(&value)));
    });
    json!(routes)
}

fn of(labels: &Labels, name: &str) -> String {
    labels.get(name).cloned().unwrap_or_default()
}

fn count(value: &ReadValue) -> u64 {
    match value {
        ReadValue::Counter(count) => *count,
        ReadValue::Gauge(_) | ReadValue::Histogram { .. } => 0,
    }
}

fn buckets(value: ReadValue) -> Value {
    match value {
        ReadValue::Counter(count) => json!(count),
        ReadValue::Gauge(number) => json!(number),
        ReadValue::Histogram { bounds, counts } => json!({"bounds": bounds, "counts": counts}),
    }
}

fn now_ms() -> u64 {
    kept::now().wall / 1_000_000
}
