//! The lines and counters that an adapter passes on to its host.

use alloc::{
    collections::VecDeque,
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use crate::{config::Config, failure::Cause};

/// How loud a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// A change for the better.
    Info,
    /// A change for the worse.
    Warn,
}

/// A counter that a configuration has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// Its name, as Prometheus spells names.
    pub name: &'static str,
    /// Its labels, in order.
    pub labels: Vec<(&'static str, String)>,
}

/// A counter to raise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricEvent {
    /// Index into [`Engine::metrics`](crate::Engine::metrics).
    pub metric: usize,
    /// By how much it rises, at least 1.
    pub delta: u64,
}

/// How a decision came out, for `slidegate_decisions_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tally {
    Admitted,
    Refused,
    /// Admitted because the limit that would have refused only runs dry.
    WouldRefuse,
    /// No limit applied.
    Unlimited,
    /// Redis could not say, and the failure mode let it pass, refused it, or decided here.
    DegradedOpen,
    DegradedClosed,
    DegradedLocal,
}

const TALLIES: [(Tally, &str); 7] = [
    (Tally::Admitted, "admitted"),
    (Tally::Refused, "refused"),
    (Tally::WouldRefuse, "would_refuse"),
    (Tally::Unlimited, "unlimited"),
    (Tally::DegradedOpen, "open"),
    (Tally::DegradedClosed, "closed"),
    (Tally::DegradedLocal, "local"),
];

/// How much of an error's text goes into a line, in characters.
const DETAIL_MAX: usize = 300;

/// The counters of a configuration, those that are due, and the lines that are.
#[derive(Debug)]
pub(crate) struct Telemetry {
    metrics: Vec<Metric>,
    /// Where the counters of each service begin, after those of the policies.
    services_at: usize,
    events: VecDeque<MetricEvent>,
    lines: VecDeque<(LogLevel, String)>,
    /// What is wrong with each service, as last said in a line.
    ailing: Vec<Option<Cause>>,
    service_names: Vec<String>,
}

impl Telemetry {
    pub(crate) fn new(config: &Config) -> Self {
        let scoped = config.ruleset.scoped.iter().map(|(_, policy)| policy);
        let policies = scoped.chain(config.ruleset.fallback.as_ref());
        let mut metrics: Vec<Metric> = policies.flat_map(|policy| policy_metrics(&policy.rule_name)).collect();
        let services_at = metrics.len();
        metrics.extend(config.services.iter().flat_map(|service| service_metrics(&service.service_name)));
        Telemetry {
            metrics,
            services_at,
            events: VecDeque::new(),
            lines: VecDeque::new(),
            ailing: vec![None; config.services.len()],
            service_names: config.services.iter().map(|service| format!("{}:{}", service.service_name, service.port)).collect(),
        }
    }

    pub(crate) fn metrics(&self) -> &[Metric] {
        &self.metrics
    }

    pub(crate) fn decided(&mut self, policy: usize, tally: Tally) {
        let at = TALLIES.iter().position(|(each, _)| *each == tally).unwrap_or_default();
        self.raise(policy * TALLIES.len() + at);
    }

    pub(crate) fn called(&mut self, service: u32) {
        self.raise(self.service_metric(service));
    }

    /// A call failed. Says so in a line if the service was well, or ailed of something else.
    pub(crate) fn failed(&mut self, service: u32, cause: Cause, detail: &str) {
        let at = Cause::ALL.iter().position(|each| *each == cause).unwrap_or_default();
        self.raise(self.service_metric(service) + 1 + at);
        if self.replace_ailment(service, Some(cause)) != Some(cause) {
            let name = self.service_name(service);
            // What Redis says may quote a client's value.
            let detail: String = detail.chars().take(DETAIL_MAX).flat_map(char::escape_debug).collect();
            self.lines
                .push_back((LogLevel::Warn, format!("Redis {name} fails ({cause}): {detail}; the failure mode decides until it answers")));
        }
    }

    /// A call succeeded. Says so in a line if the service ailed.
    pub(crate) fn answered(&mut self, service: u32) {
        if let Some(cause) = self.replace_ailment(service, None) {
            let name = self.service_name(service);
            self.lines.push_back((LogLevel::Info, format!("Redis {name} answers again (it failed: {cause})")));
        }
    }

    pub(crate) fn take_event(&mut self) -> Option<MetricEvent> {
        self.events.pop_front()
    }

    pub(crate) fn take_line(&mut self) -> Option<(LogLevel, String)> {
        self.lines.pop_front()
    }

    fn service_metric(&self, service: u32) -> usize {
        self.services_at + service as usize * (1 + Cause::ALL.len())
    }

    fn service_name(&self, service: u32) -> &str {
        self.service_names.get(service as usize).map_or("?", String::as_str)
    }

    fn replace_ailment(&mut self, service: u32, cause: Option<Cause>) -> Option<Cause> {
        let ailing = self.ailing.get_mut(service as usize)?;
        core::mem::replace(ailing, cause)
    }

    /// Adapters drain events after each step, so few are ever waiting.
    fn raise(&mut self, metric: usize) {
        match self.events.iter_mut().find(|event| event.metric == metric) {
            Some(event) => event.delta += 1,
            None => self.events.push_back(MetricEvent { metric, delta: 1 }),
        }
    }
}

fn policy_metrics(rule_name: &str) -> impl Iterator<Item = Metric> + '_ {
    TALLIES.iter().map(move |(tally, word)| {
        let (name, label) = match tally {
            Tally::DegradedOpen | Tally::DegradedClosed | Tally::DegradedLocal => ("slidegate_degraded_decisions_total", "mode"),
            _ => ("slidegate_decisions_total", "decision"),
        };
        Metric { name, labels: vec![("rule", rule_name.to_string()), (label, word.to_string())] }
    })
}

fn service_metrics(service_name: &str) -> impl Iterator<Item = Metric> + '_ {
    let service = ("service", service_name.to_string());
    let calls = Metric { name: "slidegate_redis_calls_total", labels: vec![service.clone()] };
    let failures = Cause::ALL
        .iter()
        .map(move |cause| Metric { name: "slidegate_redis_failures_total", labels: vec![service.clone(), ("cause", cause.to_string())] });
    core::iter::once(calls).chain(failures)
}
