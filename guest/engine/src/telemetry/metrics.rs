//! Which metrics a configuration has, and where each stands among them.

use alloc::{
    borrow::ToOwned,
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use super::kinds::{CacheTally, ItemTally, MetricKind, Saved, SessionTally, SessionWriteTally, Tally, VaultTally};
use crate::{
    config::Config,
    rule::{GLOBAL, Policy, owner_name},
    session::{SessionRules, SessionSource},
    store::failure::FailureCause,
    vault_rules::VaultRules,
};

/// A metric that a configuration has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// What it does with the values recorded.
    pub kind: MetricKind,
    /// Its name, as Prometheus spells names.
    pub name: &'static str,
    /// What it tells, in a sentence; the same for all labels.
    pub help: &'static str,
    /// Its labels, in order.
    pub labels: Vec<(&'static str, String)>,
}

/// A metric's kind, name and help.
type MetricDescription = (MetricKind, &'static str, &'static str);

const DECISIONS: MetricDescription = (
    MetricKind::Counter,
    "slidegate_decisions_total",
    "Requests that Redis, or without it this process, decided on, by rule name and decision",
);
const DEGRADED: MetricDescription = (
    MetricKind::Counter,
    "slidegate_degraded_decisions_total",
    "Requests that the failure mode decided on, by rule name and mode",
);
const ITEM_DECISIONS: MetricDescription = (
    MetricKind::Counter,
    "slidegate_item_decisions_total",
    "Requests by the rule items that had a part in the decision, and whether an item had room",
);
const DECISION_DURATION: MetricDescription = (
    MetricKind::Histogram,
    "slidegate_decision_duration_seconds",
    "How long requests waited for the decision, by rule name; those decided without waiting are not counted",
);
const CALLS: MetricDescription =
    (MetricKind::Counter, "slidegate_redis_calls_total", "Calls made to Redis, by service");
const FAILURES: MetricDescription =
    (MetricKind::Counter, "slidegate_redis_failures_total", "Calls to Redis that failed, by service and cause");
const SAVED: MetricDescription = (
    MetricKind::Counter,
    "slidegate_redis_calls_saved_total",
    "Requests decided on without a call to Redis of their own, by service and reason",
);
const OPENED: MetricDescription =
    (MetricKind::Counter, "slidegate_redis_breaker_opened_total", "How often the circuit breaker opened, by service");
const OPEN: MetricDescription = (
    MetricKind::Gauge,
    "slidegate_redis_breaker_open",
    "In how many filter instances the circuit breaker is open, by service",
);
const CALL_DURATION: MetricDescription = (
    MetricKind::Histogram,
    "slidegate_redis_call_duration_seconds",
    "From a call to Redis until its answer, or until it was given up, by service",
);

const RESERVATIONS: MetricDescription = (
    MetricKind::Gauge,
    "slidegate_token_reservations_open",
    "Streams for which tokens are reserved and not settled yet, by rule name",
);
const SETTLEMENTS_LOST: MetricDescription = (
    MetricKind::Counter,
    "slidegate_token_settlements_lost_total",
    "Answers of which it is not known that their tokens were settled, or that too many followed in an exact \
     window: what was reserved may stay until it leaves the window, by rule name",
);
const TOKENS: MetricDescription =
    (MetricKind::Counter, "slidegate_tokens_charged_total", "Tokens that answers were charged, by rule name");
const CUT: MetricDescription = (
    MetricKind::Counter,
    "slidegate_token_answers_cut_total",
    "Streamed answers that were cut, as nothing was left of a limit on tokens, by rule name",
);
const UNREAD: MetricDescription = (
    MetricKind::Counter,
    "slidegate_token_answers_unread_total",
    "Answers in a content coding that could not be taken off, which were charged at least what was reserved, by rule \
     name",
);

const SESSIONS: MetricDescription = (
    MetricKind::Counter,
    "slidegate_sessions_total",
    "Requests by what was found of their session, by the cookie or header that names it",
);

const SESSION_WRITES: MetricDescription = (
    MetricKind::Counter,
    "slidegate_session_writes_total",
    "Sessions that responses of the application set or delete, by the cookie that names them, and what became of them",
);

const VAULT: MetricDescription = (
    MetricKind::Counter,
    "slidegate_vault_cookies_total",
    "Cookies whose values are kept in Redis, by the first of the vault's names, and what became of them",
);

const CACHED: MetricDescription = (
    MetricKind::Counter,
    "slidegate_cache_requests_total",
    "Requests by what the cache had to do with their answers, by the place of the cache among those of the list",
);
const CACHE_UNREADABLE: MetricDescription = (
    MetricKind::Counter,
    "slidegate_cache_unreadable_total",
    "Stored responses that were not used as they could not be read, by the place of the cache and cause",
);
const CACHE_NOT_STORED: MetricDescription = (
    MetricKind::Counter,
    "slidegate_cache_not_stored_total",
    "Responses that were not stored, by the place of the cache and cause",
);

/// So many metrics a configuration has at most. What the services say goes first, then the sessions, then the vaults,
/// then the caches, then the policies, in order, then their rules.
pub(super) const METRICS_MAX: usize = 20_000;

/// Longer label values are cut, and end with a digest of the whole; hosts have limits of their own.
const LABEL_BYTES_MAX: usize = 200;

/// Those of a service: its calls, their duration, the circuit breaker's two; its failures by cause; the calls saved.
const SERVICE_METRICS: usize = 4 + FailureCause::OF_CALLS.len() + Saved::ALL.len();

/// All metrics of a configuration.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) list: Vec<Metric>,
    /// How many services have theirs; they stand first.
    services: usize,
    /// Where those of each filter begin that reads sessions.
    sessions: Vec<Option<usize>>,
    /// And of each that keeps cookies.
    vaults: Vec<Option<usize>>,
    /// Where those of each filter begin that keeps responses.
    caches: Vec<Option<usize>>,
    policies: Vec<PolicyMetrics>,
    /// How many rules had no room.
    uncounted: usize,
}

/// Where the metrics of a policy begin.
#[derive(Debug, Default)]
struct PolicyMetrics {
    decisions: Option<usize>,
    duration: Option<usize>,
    /// Of tokens.
    tokens: Option<usize>,
    /// Of its first rule, and which owner of limits that is.
    items: Option<(usize, usize)>,
}

impl Metrics {
    pub(super) fn new(config: &Config) -> Self {
        let policies = || config.policies();
        let services = config.services.len().min(METRICS_MAX / 2 / SERVICE_METRICS);
        let list =
            config.services.iter().take(services).flat_map(|service| of_service(&service.service_name)).collect();
        let uncounted = config.services.len() - services;
        let mut metrics = Metrics { list, services, uncounted, ..Metrics::default() };
        for rules in config.sessions() {
            let sessions = metrics.add(of_session(rules));
            metrics.sessions.push(sessions);
        }
        for rules in config.vaults() {
            let vault = metrics.add(of_vault(rules));
            metrics.vaults.push(vault);
        }
        for (place, _) in config.caches().enumerate() {
            let caches = metrics.add(of_cache(place));
            metrics.caches.push(caches);
        }
        for policy in policies() {
            let decisions = metrics.add(of_policy(policy));
            let duration = policy.redis.and_then(|_| metrics.add(vec![metric(DECISION_DURATION, vec![rule(policy)])]));
            let tokens = if policy.counts_tokens() { metrics.add(of_tokens(policy)) } else { None };
            metrics.policies.push(PolicyMetrics { decisions, duration, tokens, items: None });
        }
        for (at, policy) in policies().enumerate() {
            let first = first_owner(policy);
            let items = metrics.add(of_items(policy)).map(|at| (at, first));
            if let Some(of_policy) = metrics.policies.get_mut(at) {
                of_policy.items = items;
            }
        }
        metrics
    }

    /// What to say of a configuration that has more rules than are counted.
    pub(super) fn warning(&self) -> Option<String> {
        let uncounted = self.uncounted;
        (uncounted > 0).then(|| {
            format!(
                "there are more rules than are counted: {uncounted} groups of metrics are \
                                         beyond the {METRICS_MAX} that a configuration may have"
            )
        })
    }

    pub(super) fn session(&self, session: usize, tally: SessionTally) -> Option<usize> {
        let at = SessionTally::all().position(|each| each == tally).unwrap_or_default();
        Some((*self.sessions.get(session)?)? + at)
    }

    pub(super) fn session_write(&self, session: usize, tally: SessionWriteTally) -> Option<usize> {
        Some((*self.sessions.get(session)?)? + SessionTally::all().count() + position(&SessionWriteTally::ALL, tally))
    }

    pub(super) fn vault(&self, vault: usize, tally: VaultTally) -> Option<usize> {
        Some((*self.vaults.get(vault)?)? + position(&VaultTally::ALL, tally))
    }

    #[inline]
    pub(super) fn cache(&self, cache: usize, tally: CacheTally) -> Option<usize> {
        // Most requests are answered so.
        let at = if tally == CacheTally::Hit { Some(0) } else { CacheTally::all().position(|each| each == tally) };
        Some((*self.caches.get(cache)?)? + at.unwrap_or_default())
    }

    #[inline]
    pub(super) fn decision(&self, policy: usize, tally: Tally) -> Option<usize> {
        Some(self.policies.get(policy)?.decisions? + position(&Tally::ALL, tally))
    }

    #[inline]
    pub(super) fn decision_duration(&self, policy: usize) -> Option<usize> {
        self.policies.get(policy)?.duration
    }

    pub(super) fn reservations(&self, policy: usize) -> Option<usize> {
        self.policies.get(policy)?.tokens
    }

    pub(super) fn settlements_lost(&self, policy: usize) -> Option<usize> {
        Some(self.reservations(policy)? + 1)
    }

    pub(super) fn tokens(&self, policy: usize) -> Option<usize> {
        Some(self.reservations(policy)? + 2)
    }

    pub(super) fn cut(&self, policy: usize) -> Option<usize> {
        Some(self.reservations(policy)? + 3)
    }

    pub(super) fn unread(&self, policy: usize) -> Option<usize> {
        Some(self.reservations(policy)? + 4)
    }

    #[inline]
    pub(super) fn item_decision(&self, policy: usize, owner: usize, tally: ItemTally) -> Option<usize> {
        let (at, first) = self.policies.get(policy)?.items?;
        Some(at + owner.checked_sub(first)? * ItemTally::ALL.len() + position(&ItemTally::ALL, tally))
    }

    #[inline]
    pub(super) fn calls(&self, service: u32) -> Option<usize> {
        let service = service as usize;
        (service < self.services).then_some(service * SERVICE_METRICS)
    }

    #[inline]
    pub(super) fn call_duration(&self, service: u32) -> Option<usize> {
        Some(self.calls(service)? + 1)
    }

    pub(super) fn opened(&self, service: u32) -> Option<usize> {
        Some(self.calls(service)? + 2)
    }

    pub(super) fn open(&self, service: u32) -> Option<usize> {
        Some(self.calls(service)? + 3)
    }

    pub(super) fn failures(&self, service: u32, cause: FailureCause) -> Option<usize> {
        Some(self.calls(service)? + 4 + position(FailureCause::OF_CALLS, cause))
    }

    pub(super) fn saved(&self, service: u32, saved: Saved) -> Option<usize> {
        Some(self.calls(service)? + 4 + FailureCause::OF_CALLS.len() + position(&Saved::ALL, saved))
    }

    /// Adds some that stand together, if there is room; returns where they begin.
    fn add(&mut self, metrics: Vec<Metric>) -> Option<usize> {
        if self.list.len() + metrics.len() > METRICS_MAX {
            self.uncounted += 1;
            return None;
        }
        let at = self.list.len();
        self.list.extend(metrics);
        Some(at)
    }
}

fn of_policy(policy: &Policy) -> Vec<Metric> {
    let of_tally = |tally: &Tally| {
        let (kind, label) = if tally.is_degraded() { (DEGRADED, "mode") } else { (DECISIONS, "decision") };
        metric(kind, vec![rule(policy), (label, tally.to_string())])
    };
    Tally::ALL.iter().map(of_tally).collect()
}

fn of_session(rules: &SessionRules) -> Vec<Metric> {
    let (SessionSource::Cookie(name) | SessionSource::Header(name)) = &rules.settings.source;
    let of = |kind, outcome: String| metric(kind, vec![("session", label(name)), ("outcome", outcome)]);
    let writes = rules.own.iter().flat_map(|_| SessionWriteTally::ALL);
    SessionTally::all()
        .map(|tally| of(SESSIONS, tally.to_string()))
        .chain(writes.map(|tally| of(SESSION_WRITES, tally.to_string())))
        .collect()
}

fn of_vault(rules: &VaultRules) -> Vec<Metric> {
    let name = label(rules.cookies.first().map_or("", String::as_str));
    let of = |tally: &VaultTally| metric(VAULT, vec![("vault", name.clone()), ("outcome", tally.to_string())]);
    VaultTally::ALL.iter().map(of).collect()
}

fn of_cache(place: usize) -> Vec<Metric> {
    let of_tally = |tally: CacheTally| {
        let (kind, label) = match tally {
            CacheTally::Unreadable(_) => (CACHE_UNREADABLE, "cause"),
            CacheTally::NotStored(_) => (CACHE_NOT_STORED, "cause"),
            _ => (CACHED, "outcome"),
        };
        metric(kind, vec![("cache", (place + 1).to_string()), (label, tally.to_string())])
    };
    CacheTally::all().map(of_tally).collect()
}

fn of_tokens(policy: &Policy) -> Vec<Metric> {
    [RESERVATIONS, SETTLEMENTS_LOST, TOKENS, CUT, UNREAD].map(|kind| metric(kind, vec![rule(policy)])).into()
}

/// The first owner of limits in a policy's plans.
fn first_owner(policy: &Policy) -> usize {
    if policy.global.is_empty() { GLOBAL + 1 } else { GLOBAL }
}

/// Of the owners of limits in a policy's plans, in order.
fn of_items(policy: &Policy) -> Vec<Metric> {
    let of_tally = |owner: usize, tally: &ItemTally| {
        metric(
            ITEM_DECISIONS,
            vec![rule(policy), ("item", label(&owner_name(policy, owner))), ("decision", tally.to_string())],
        )
    };
    (first_owner(policy)..=policy.items.len())
        .flat_map(|owner| ItemTally::ALL.iter().map(move |tally| of_tally(owner, tally)))
        .collect()
}

fn of_service(name: &str) -> Vec<Metric> {
    let of = |kind, label: Option<(&'static str, String)>| {
        metric(kind, core::iter::once(("service", self::label(name))).chain(label).collect())
    };
    let alone = [CALLS, CALL_DURATION, OPENED, OPEN].map(|kind| of(kind, None));
    let failures = FailureCause::OF_CALLS.iter().map(|cause| of(FAILURES, Some(("cause", cause.to_string()))));
    let savings = Saved::ALL.iter().map(|saved| of(SAVED, Some(("by", saved.to_string()))));
    alone.into_iter().chain(failures).chain(savings).collect()
}

fn metric((kind, name, help): MetricDescription, labels: Vec<(&'static str, String)>) -> Metric {
    Metric { kind, name, help, labels }
}

fn rule(policy: &Policy) -> (&'static str, String) {
    ("rule", label(&policy.rule_name))
}

fn label(value: &str) -> String {
    if value.len() <= LABEL_BYTES_MAX {
        return value.to_owned();
    }
    let digest = sha1_smol::Sha1::from(value).digest().to_string();
    let (kept, digest) = (value.floor_char_boundary(LABEL_BYTES_MAX - 12), digest.get(..8).unwrap_or_default());
    format!("{}...{digest}", value.get(..kept).unwrap_or_default())
}

#[inline]
fn position<T: PartialEq>(all: &[T], one: T) -> usize {
    all.iter().position(|each| *each == one).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn metrics(document: &Value) -> Metrics {
        Metrics::new(&Config::read(document.to_string().as_bytes()).expect("the configuration is good"))
    }

    fn rules(count: usize, name: impl Fn(usize) -> String) -> Value {
        let rule = |number: usize| {
            json!({
                "_match_route_": [format!("route-{number}")], "rule_name": name(number),
                    "redis": {"service_name": "redis.static"},
                "rule_items": [{"limit_by_per_header": "x", "limit_keys": [{"key": "*", "query_per_day": 1}]}],
            })
        };
        json!({"_rules_": (0..count).map(rule).collect::<Vec<_>>()})
    }

    /// The one at this place, in the text format of Prometheus.
    fn spelt(metrics: &Metrics, at: Option<usize>) -> String {
        let metric = &metrics.list[at.expect("it is counted")];
        let labels: Vec<_> = metric.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{}{{{}}}", metric.name, labels.join(","))
    }

    #[test]
    fn each_has_its_place_and_no_two_share_one() {
        let metrics = metrics(&rules(200, |number| format!("r{number}")));
        assert_eq!(metrics.warning(), None);
        for policy in [0, 1, 140, 199] {
            let of = |rest: &str| rest.replace("{", &format!("{{rule=r{policy}")).replace('+', ",");
            for tally in Tally::ALL {
                let name = if tally.is_degraded() {
                    "slidegate_degraded_decisions_total{+mode="
                } else {
                    "slidegate_decisions_total{+decision="
                };
                assert_eq!(spelt(&metrics, metrics.decision(policy, tally)), of(&format!("{name}{tally}}}")));
            }
            for tally in ItemTally::ALL {
                let name = format!("slidegate_item_decisions_total{{+item=1+decision={tally}}}");
                assert_eq!(spelt(&metrics, metrics.item_decision(policy, 1, tally)), of(&name));
            }
            assert_eq!(spelt(&metrics, metrics.decision_duration(policy)), of("slidegate_decision_duration_seconds{}"));
        }
        for cause in FailureCause::OF_CALLS.iter().copied() {
            let name = format!("slidegate_redis_failures_total{{service=redis.static,cause={cause}}}");
            assert_eq!(spelt(&metrics, metrics.failures(0, cause)), name);
        }
        for saved in Saved::ALL {
            assert_eq!(
                spelt(&metrics, metrics.saved(0, saved)),
                format!("slidegate_redis_calls_saved_total{{service=redis.static,by={saved}}}")
            );
        }
        for (at, name) in [
            (metrics.calls(0), "slidegate_redis_calls_total"),
            (metrics.call_duration(0), "slidegate_redis_call_duration_seconds"),
            (metrics.opened(0), "slidegate_redis_breaker_opened_total"),
            (metrics.open(0), "slidegate_redis_breaker_open"),
        ] {
            assert_eq!(spelt(&metrics, at), format!("{name}{{service=redis.static}}"));
        }
        assert_eq!((metrics.calls(1), metrics.decision(200, Tally::Admitted)), (None, None));
        let mut all: Vec<_> = (0..metrics.list.len()).map(|at| spelt(&metrics, Some(at))).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), metrics.list.len());
    }

    #[test]
    fn a_threshold_that_is_not_there_has_no_series() {
        let items = json!([{"limit_by_per_header": "x", "limit_keys": [{"key": "*", "query_per_day": 1}]}]);
        let owners = |config: Value| -> Vec<String> {
            let of_items = metrics(&config).list.into_iter().filter(|metric| metric.name == ITEM_DECISIONS.1);
            of_items
                .filter(|metric| metric.labels[2].1 == "admitted")
                .map(|metric| metric.labels[1].1.clone())
                .collect()
        };
        let threshold = json!({"query_per_day": 1});
        assert_eq!(owners(json!({"rule_name": "r", "rule_items": items})), ["1"]);
        assert_eq!(owners(json!({"rule_name": "r", "global_threshold": threshold})), ["global_threshold"]);
        assert_eq!(
            owners(json!({"rule_name": "r", "global_threshold": threshold, "rule_items": items})),
            ["global_threshold", "1"]
        );
        let without = metrics(&json!({"rule_name": "r", "rule_items": items}));
        assert_eq!(without.item_decision(0, GLOBAL, ItemTally::Refused), None);
    }

    #[test]
    fn what_cannot_be_counted_is_said() {
        let metrics = metrics(&rules(3_000, |number| format!("r{number}")));
        assert!(metrics.list.len() <= METRICS_MAX);
        assert!(metrics.calls(0).is_some() && metrics.decision(0, Tally::Admitted).is_some());
        assert_eq!(metrics.decision(2_999, Tally::Admitted), None);
        let warning = metrics.warning().expect("some are not counted");
        assert!(warning.contains("20000"), "{warning}");
    }

    #[test]
    fn long_names_are_cut_and_stay_apart() {
        let metrics = metrics(&rules(2, |number| "\u{e4}".repeat(500) + &number.to_string()));
        let [a, b] = [0, 1].map(|policy| spelt(&metrics, metrics.decision_duration(policy)));
        assert!(a != b && a.len() < 260, "{a}");
    }

    #[test]
    fn all_have_help_and_names_as_prometheus_advises() {
        for metric in metrics(&rules(1, |_| "r".into())).list {
            assert!(metric.help.len() > 20 && !metric.help.ends_with('.'), "{metric:?}");
            let end = match metric.kind {
                MetricKind::Counter => "_total",
                MetricKind::Gauge => "_open",
                MetricKind::Histogram => "_seconds",
            };
            assert!(metric.name.starts_with("slidegate_") && metric.name.ends_with(end), "{metric:?}");
        }
    }
}
