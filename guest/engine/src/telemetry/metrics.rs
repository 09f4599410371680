//! Which metrics a configuration has, and where each stands among them.

use alloc::{
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use super::{MetricKind, Saved, Tally};
use crate::{config::Config, failure::Cause, rule::Policy};

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
type Kind = (MetricKind, &'static str, &'static str);

const DECISIONS: Kind =
    (MetricKind::Counter, "slidegate_decisions_total", "Requests that Redis, or without it this process, decided on, by rule and decision");
const DEGRADED: Kind =
    (MetricKind::Counter, "slidegate_degraded_decisions_total", "Requests that the failure mode decided on, by rule and mode");
const CALLS: Kind = (MetricKind::Counter, "slidegate_redis_calls_total", "Calls made to Redis, by service");
const FAILURES: Kind = (MetricKind::Counter, "slidegate_redis_failures_total", "Calls to Redis that failed, by service and cause");
const SAVED: Kind = (
    MetricKind::Counter,
    "slidegate_redis_calls_saved_total",
    "Requests decided on without a call to Redis of their own, by service and why",
);
const OPENED: Kind =
    (MetricKind::Counter, "slidegate_redis_breaker_opened_total", "How often the circuit breaker of a service opened, by service");

/// All metrics of a configuration: of the policies, then of the services.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) list: Vec<Metric>,
    /// Where those of each service begin.
    services_at: usize,
}

/// Those of a service: its calls, its failures by cause, the calls saved, and how often the breaker opened.
const SERVICE_METRICS: usize = 1 + Cause::ALL.len() + Saved::ALL.len() + 1;

impl Metrics {
    pub(super) fn new(config: &Config) -> Self {
        let scoped = config.ruleset.scoped.iter().map(|(_, policy)| policy);
        let policies = scoped.chain(config.ruleset.fallback.as_ref());
        let mut list: Vec<Metric> = policies.flat_map(of_policy).collect();
        let services_at = list.len();
        list.extend(config.services.iter().flat_map(|service| of_service(&service.service_name)));
        Metrics { list, services_at }
    }

    pub(super) fn decision(&self, policy: usize, tally: Tally) -> usize {
        policy * Tally::ALL.len() + position(&Tally::ALL, tally)
    }

    pub(super) fn calls(&self, service: u32) -> usize {
        self.services_at + service as usize * SERVICE_METRICS
    }

    pub(super) fn failures(&self, service: u32, cause: Cause) -> usize {
        self.calls(service) + 1 + position(&Cause::ALL, cause)
    }

    pub(super) fn saved(&self, service: u32, saved: Saved) -> usize {
        self.calls(service) + 1 + Cause::ALL.len() + position(&Saved::ALL, saved)
    }

    pub(super) fn opened(&self, service: u32) -> usize {
        self.calls(service) + SERVICE_METRICS - 1
    }
}

fn of_policy(policy: &Policy) -> impl Iterator<Item = Metric> + '_ {
    Tally::ALL.iter().map(|tally| {
        let (kind, label) = if tally.is_degraded() { (DEGRADED, "mode") } else { (DECISIONS, "decision") };
        metric(kind, vec![("rule", policy.rule_name.clone()), (label, tally.to_string())])
    })
}

fn of_service(name: &str) -> impl Iterator<Item = Metric> + '_ {
    let of = move |kind, label: Option<(&'static str, String)>| {
        metric(kind, core::iter::once(("service", name.to_string())).chain(label).collect())
    };
    let failures = Cause::ALL.iter().map(move |cause| of(FAILURES, Some(("cause", format!("{cause}")))));
    let savings = Saved::ALL.iter().map(move |saved| of(SAVED, Some(("by", saved.to_string()))));
    let calls = core::iter::once(of(CALLS, None));
    calls.chain(failures).chain(savings).chain(core::iter::once(of(OPENED, None)))
}

fn metric((kind, name, help): Kind, labels: Vec<(&'static str, String)>) -> Metric {
    Metric { kind, name, help, labels }
}

fn position<T: PartialEq>(all: &[T], one: T) -> usize {
    all.iter().position(|each| *each == one).unwrap_or_default()
}
