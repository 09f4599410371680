//! The lines and counters that an adapter passes on to its host.

use alloc::{
    collections::VecDeque,
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use crate::{breaker::FAILURES_MAX, config::Config, failure::Cause, redis::Service};

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

/// Why a request needed no call of its own, for `slidegate_redis_calls_saved_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Saved {
    /// It was known not to fit.
    KnownRefusal,
    /// It went with others.
    Coalesced,
    /// Calls fail, so none was made.
    Breaker,
}

const SAVINGS: [(Saved, &str); 3] = [(Saved::KnownRefusal, "known_refusal"), (Saved::Coalesced, "coalesced"), (Saved::Breaker, "breaker")];

/// The counters of a service: its calls, its failures by cause, the calls saved, and how often the breaker opened.
const SERVICE_METRICS: usize = 1 + Cause::ALL.len() + SAVINGS.len() + 1;

/// How much of an error's text goes into a line, in characters.
const DETAIL_MAX: usize = 300;

/// So many changes of a service are told in [`CHANGES_NS`]; what it is then is told with the next change after.
const CHANGES_MAX: u32 = 6;
const CHANGES_NS: u64 = 10_000_000_000;

/// When calls have succeeded for so long, that is told however much was told before: the last word is true.
const WELL_NS: u64 = 1_000_000_000;

/// The counters of a configuration, those that are due, and the lines that are.
#[derive(Debug)]
pub(crate) struct Telemetry {
    metrics: Vec<Metric>,
    /// Where the counters of each service begin, after those of the policies.
    services_at: usize,
    events: VecDeque<MetricEvent>,
    lines: VecDeque<(LogLevel, String)>,
    services: Vec<ServiceState>,
}

/// A service as lines tell of it.
#[derive(Debug, Default)]
struct ServiceState {
    name: String,
    /// What is wrong with it, as last said in a line.
    ailing: Option<Cause>,
    /// How many lines were said since then.
    changes: u32,
    since_ns: u64,
    /// When a call failed last.
    failed_ns: u64,
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
            services: config.services.iter().map(ServiceState::new).collect(),
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

    /// So many requests needed no call of their own.
    pub(crate) fn saved(&mut self, service: u32, saved: Saved, calls: u64) {
        let at = SAVINGS.iter().position(|(each, _)| *each == saved).unwrap_or_default();
        self.raise_by(self.service_metric(service) + 1 + Cause::ALL.len() + at, calls);
    }

    /// A call failed. Says so in a line if the service was well, or ailed of something else.
    pub(crate) fn failed(&mut self, service: u32, cause: Cause, detail: &str, now_ns: u64) {
        let at = Cause::ALL.iter().position(|each| *each == cause).unwrap_or_default();
        self.raise(self.service_metric(service) + 1 + at);
        let Some(state) = self.services.get_mut(service as usize) else { return };
        state.failed_ns = now_ns;
        if state.ailing != Some(cause) && state.may_say(now_ns) {
            state.ailing = Some(cause);
            // What Redis says may quote a client's value.
            let detail: String = detail.chars().take(DETAIL_MAX).flat_map(char::escape_debug).collect();
            let line = format!("Redis {} fails ({cause}): {detail}; the failure mode decides until it answers", state.name);
            self.lines.push_back((LogLevel::Warn, line));
        }
    }

    /// So many calls failed in a row that no more are made but to probe.
    pub(crate) fn opened(&mut self, service: u32, cause: Cause, now_ns: u64) {
        self.raise(self.service_metric(service) + SERVICE_METRICS - 1);
        let Some(state) = self.services.get_mut(service as usize) else { return };
        if state.may_say(now_ns) {
            let line = format!("Redis {} failed {FAILURES_MAX} times in a row ({cause}): it is only probed until it answers", state.name);
            self.lines.push_back((LogLevel::Warn, line));
        }
    }

    /// A call succeeded. Says so in a line if the service ailed.
    pub(crate) fn answered(&mut self, service: u32, now_ns: u64) {
        let Some(state) = self.services.get_mut(service as usize) else { return };
        if let Some(cause) = state.ailing
            && (now_ns.saturating_sub(state.failed_ns) >= WELL_NS || state.may_say(now_ns))
        {
            state.ailing = None;
            self.lines.push_back((LogLevel::Info, format!("Redis {} answers again (it failed: {cause})", state.name)));
        }
    }

    pub(crate) fn take_event(&mut self) -> Option<MetricEvent> {
        self.events.pop_front()
    }

    pub(crate) fn take_line(&mut self) -> Option<(LogLevel, String)> {
        self.lines.pop_front()
    }

    fn service_metric(&self, service: u32) -> usize {
        self.services_at + service as usize * SERVICE_METRICS
    }

    fn raise(&mut self, metric: usize) {
        self.raise_by(metric, 1);
    }

    /// Adapters drain events after each step, so few are ever waiting.
    fn raise_by(&mut self, metric: usize, delta: u64) {
        match self.events.iter_mut().find(|event| event.metric == metric) {
            Some(event) => event.delta += delta,
            None if delta > 0 => self.events.push_back(MetricEvent { metric, delta }),
            None => {}
        }
    }
}

impl ServiceState {
    fn new(service: &Service) -> Self {
        ServiceState { name: format!("{}:{}", service.service_name, service.port), ..ServiceState::default() }
    }

    /// Whether one more line about it is due; a service that comes and goes all the time shall not fill the log.
    fn may_say(&mut self, now_ns: u64) -> bool {
        if now_ns.saturating_sub(self.since_ns) >= CHANGES_NS {
            (self.since_ns, self.changes) = (now_ns, 0);
        }
        self.changes += 1;
        self.changes <= CHANGES_MAX
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
    let metric = move |name: &'static str, label: Option<(&'static str, String)>| Metric {
        name,
        labels: core::iter::once(("service", service_name.to_string())).chain(label).collect(),
    };
    let failures = Cause::ALL.iter().map(move |cause| metric("slidegate_redis_failures_total", Some(("cause", cause.to_string()))));
    let savings = SAVINGS.iter().map(move |(_, by)| metric("slidegate_redis_calls_saved_total", Some(("by", by.to_string()))));
    let calls = core::iter::once(metric("slidegate_redis_calls_total", None));
    calls.chain(failures).chain(savings).chain(core::iter::once(metric("slidegate_redis_breaker_opened_total", None)))
}
