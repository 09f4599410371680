//! What a request would meet here: its route, what each filter has to say of it, and how the limits stand that it would
//! be charged to. Nothing is charged.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::http::request::Parts;
use serde_json::{Value as Json, json};
use slidegate::{CallError, ExplainedVerdict, FilterMet, LimitMet, LimitState, Reply, RuleOutcome};

use crate::gateway::admission::{self, Caller};
use crate::gateway::kept::AskedServices;
use crate::gateway::redis_name;
use crate::gateway::serving::Serving;

/// So often Redis is asked at most: for a session, for a page and its variant, and for limits.
const ROUNDS_MAX: usize = 8;

/// What a request would meet.
pub(crate) struct RequestMet {
    /// By its name; empty for the only one. None: no route takes it.
    route: Option<String>,
    /// What the gateway itself answers, and why.
    refused: Option<(u16, &'static str)>,
    filters: Vec<FilterMet>,
    /// Of the Redis that limits name by a number.
    services: Vec<String>,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Foreseen {
    /// It reaches its upstream.
    Passes,
    /// Somebody before that answers it.
    Answered,
    /// That depends on a Redis that was not asked.
    Depends,
}

/// Asks what a request would meet. Without `asks_redis` only what the filter knows by itself is told.
///
/// # Errors
/// A Redis cannot be used, or the filter fails.
pub(crate) async fn explain(
    serving: &Serving,
    parts: Parts,
    client: SocketAddr,
    asks_redis: bool,
) -> Result<RequestMet, String> {
    let is_secure = parts.uri.scheme_str() == Some("https");
    let caller = Caller { client, is_secure };
    let services = serving.redis().map(|(_, services)| services).unwrap_or_default();
    let mut met = RequestMet {
        route: None,
        refused: None,
        filters: Vec::new(),
        services: services.iter().map(redis_name).collect(),
    };
    let view = match admission::view(parts, caller, false, &serving.settings, &serving.routes) {
        Ok((view, _)) => Arc::new(view),
        Err(refusal) => {
            met.refused = Some((refusal.status.as_u16(), refusal.reason));
            return Ok(met);
        }
    };
    met.route = view.route.as_ref().map(|route| route.labels.name.clone());
    if met.route.is_none() {
        met.refused = Some((404, "no route takes it"));
    }
    let Some(worker) = serving.worker(0) else { return Ok(met) };
    let mut asked = AskedServices::new(serving);
    let mut replies: Vec<Result<Reply, CallError>> = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let told = worker.explain(Arc::clone(&view) as Arc<dyn slidegate::Request>, &replies);
        let told = told.ok_or("the filter cannot be asked")?;
        met.filters = told.filters;
        if told.questions.is_empty() || !asks_redis {
            return Ok(met);
        }
        for question in told.questions {
            let redis = asked.of(&question).await.map_err(|error| error.told())?;
            replies.push(Ok(redis.ask(question.command).await.map_err(|error| error.told())?));
        }
    }
    Err("the filter asks without end".to_owned())
}

impl RequestMet {
    /// What becomes of the request. A filter that answers comes before a gateway that knows no route.
    pub(crate) fn foreseen(&self) -> Foreseen {
        let verdicts = || self.filters.iter().map(|filter| filter.verdict);
        if verdicts().any(|verdict| verdict == ExplainedVerdict::Respond) {
            return Foreseen::Answered;
        }
        match (&self.refused, verdicts().any(|verdict| verdict == ExplainedVerdict::Depend)) {
            (Some(_), _) => Foreseen::Answered,
            (None, true) => Foreseen::Depends,
            (None, false) => Foreseen::Passes,
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        match &self.route {
            Some(name) if name.is_empty() => text.push_str("route     the only one\n"),
            Some(name) => {
                let _ = writeln!(text, "route     {name}");
            }
            None => text.push_str("route     none\n"),
        }
        for FilterMet { path, kind, policy, name, verdict, reason, rules } in &self.filters {
            let place = policy.as_deref().filter(|policy| !policy.is_empty()).unwrap_or(path);
            let place = if place.is_empty() { String::new() } else { format!(" at {place}") };
            let _ = writeln!(text, "{kind:<9} {}{place}", if name.is_empty() { "without a name" } else { name });
            for rule in rules {
                let (mark, outcome) = outcome(&rule.outcome);
                let _ = writeln!(text, "  {mark} {}: {}", rule.path, rule.about);
                let _ = writeln!(text, "      {outcome}");
                for limit in &rule.limits {
                    self.write_limit(limit, &mut text);
                }
            }
            let _ = writeln!(text, "  {}: {reason}", verdict_name(*verdict));
        }
        let verdict = match (self.foreseen(), self.refused) {
            (Foreseen::Passes, _) => "it passes".to_owned(),
            (Foreseen::Depends, _) => {
                "it depends on what Redis tells, which was not asked (`--redis URL` asks it)".to_owned()
            }
            (Foreseen::Answered, Some((status, reason))) if !self.is_answered_by_filter() => {
                format!("the gateway answers {status} itself: {reason}")
            }
            (Foreseen::Answered, _) => "a filter answers it".to_owned(),
        };
        let _ = writeln!(text, "verdict   {verdict}");
        text
    }

    fn is_answered_by_filter(&self) -> bool {
        self.filters.iter().any(|filter| filter.verdict == ExplainedVerdict::Respond)
    }

    fn write_limit(&self, limit: &LimitMet, text: &mut String) {
        let LimitMet { limit: most, window_us, slot_us, cost, enforced, service, key, state } = limit;
        let slots = if *slot_us <= 1 { "exact".to_owned() } else { format!("slots of {}", lasting(*slot_us)) };
        let tries = if *enforced { "" } else { ", refuses nobody (dry_run)" };
        let _ = writeln!(text, "      {most} in {}, {slots}; takes {cost}{tries}", lasting(*window_us));
        let place = service.and_then(|service| self.services.get(service as usize));
        let place = place.map_or_else(|| "in this process".to_owned(), |service| format!("in Redis {service}"));
        let _ = writeln!(text, "      key {} {place}", String::from_utf8_lossy(key).escape_debug());
        let state = match state {
            None => "state not asked".to_owned(),
            Some(LimitState { used, left, room_after_us: 0 }) => format!("used {used}, left {left}"),
            Some(LimitState { used, left, room_after_us: u64::MAX }) => {
                format!("used {used}, left {left}; it never fits")
            }
            Some(LimitState { used, left, room_after_us }) => {
                format!("used {used}, left {left}; the next place comes free in {}", lasting(*room_after_us))
            }
        };
        let _ = writeln!(text, "      {state}");
    }

    /// For programs.
    pub(crate) fn json(&self) -> Json {
        let foreseen = match self.foreseen() {
            Foreseen::Passes => "pass",
            Foreseen::Answered => "respond",
            Foreseen::Depends => "depend",
        };
        let refused = self.refused.map(|(status, reason)| json!({"status": status, "reason": reason}));
        let filters = self.filters.iter().map(|filter| {
            let rules = filter.rules.iter().map(|rule| {
                let (name, what) = match &rule.outcome {
                    RuleOutcome::Applies(entry) => ("applies", entry),
                    RuleOutcome::Skipped(why) => ("skipped", why),
                    RuleOutcome::Frees(why) => ("frees", why),
                    RuleOutcome::Refuses(why) => ("refuses", why),
                };
                json!({
                    "path": rule.path,
                    "about": rule.about,
                    "outcome": name,
                    "by": what,
                    "limits": rule.limits.iter().map(|limit| self.limit_json(limit)).collect::<Vec<_>>(),
                })
            });
            json!({
                "path": filter.path,
                "kind": filter.kind,
                "policy": filter.policy,
                "name": filter.name,
                "verdict": verdict_name(filter.verdict),
                "reason": filter.reason,
                "rules": rules.collect::<Vec<_>>(),
            })
        });
        json!({"route": self.route, "refused": refused, "filters": filters.collect::<Vec<_>>(), "verdict": foreseen})
    }

    fn limit_json(&self, limit: &LimitMet) -> Json {
        let state = limit.state.map(|state| {
            let room_after_us = Some(state.room_after_us).filter(|after| *after != u64::MAX);
            json!({"used": state.used, "left": state.left, "room_after_us": room_after_us})
        });
        json!({
            "limit": limit.limit,
            "window_us": limit.window_us,
            "slot_us": limit.slot_us,
            "cost": limit.cost,
            "enforced": limit.enforced,
            "redis": limit.service.and_then(|service| self.services.get(service as usize)),
            "key": String::from_utf8_lossy(&limit.key),
            "state": state,
        })
    }
}

fn verdict_name(verdict: ExplainedVerdict) -> &'static str {
    match verdict {
        ExplainedVerdict::Pass => "pass",
        ExplainedVerdict::Respond => "respond",
        ExplainedVerdict::Depend => "depend",
    }
}

fn outcome(outcome: &RuleOutcome) -> (char, String) {
    match outcome {
        RuleOutcome::Applies(entry) => ('+', format!("applies by {entry}")),
        RuleOutcome::Skipped(why) => ('-', format!("does not apply: {why}")),
        RuleOutcome::Frees(why) => ('+', format!("frees the request: {why}")),
        RuleOutcome::Refuses(why) => ('+', format!("refuses the request: {why}")),
    }
}

/// A time in microseconds, in the unit that it is whole in.
fn lasting(us: u64) -> String {
    const UNITS: [(u64, &str); 5] =
        [(86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s"), (1_000, "ms")];
    let whole = UNITS.iter().find(|(unit, _)| us >= *unit && us.is_multiple_of(*unit));
    match whole {
        Some((unit, name)) => format!("{} {name}", us / unit),
        None if us >= 1_000_000 => format!("{:.1} s", us as f64 / 1e6),
        None => format!("{:.1} ms", us as f64 / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_the_unit_they_are_whole_in() {
        let told = [1_000_000, 60_000_000, 90_000_000, 7 * 86_400_000_000, 2_500, 59_812_345, 1_000].map(lasting);
        assert_eq!(told, ["1 s", "1 m", "90 s", "7 d", "2.5 ms", "59.8 s", "1 ms"]);
    }
}
