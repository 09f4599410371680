//! The lines and metrics that an adapter passes on to its host, and the notes for its log of requests.

mod metrics;
mod service;

use alloc::{collections::VecDeque, format, string::String, vec::Vec};
use core::fmt;

pub use self::metrics::Metric;
use self::{
    metrics::Metrics,
    service::{Line, ServiceLines},
};
use crate::{
    config::Config,
    plan::Plan,
    store::failure::Cause,
    window::{Decision, Retry},
};

/// Whether a character could break a log line, steer a terminal, or change the order in which a line is shown: control characters, line and
/// paragraph separators, and marks of direction.
pub fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// How loud a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// A change for the better.
    Info,
    /// A change for the worse, or its end.
    Warn,
}

/// What a metric does with the values that are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Adds them up.
    Counter,
    /// Holds the last one. Of several instances, the sum is shown.
    Gauge,
    /// Counts them by their size: microseconds, though the name says seconds.
    Histogram,
}

/// A value to record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricEvent {
    /// Index into [`Engine::metrics`](crate::Engine::metrics).
    pub metric: usize,
    /// By how much a counter rises, at least 1; what a gauge is; how many microseconds it took.
    pub value: u64,
}

/// How a decision came out, for `slidegate_decisions_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tally {
    Admitted,
    Refused,
    /// Admitted because the rule that would have refused only runs dry.
    WouldRefuse,
    /// No limit applied.
    Unlimited,
    /// The policy exempts it.
    Exempt,
    /// Redis could not say, and the failure mode let it pass, refused it, or decided here.
    DegradedOpen,
    DegradedClosed,
    DegradedLocal,
}

/// Why a request needed no call of its own, for `slidegate_redis_calls_saved_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Saved {
    /// It was known not to fit.
    KnownRefusal,
    /// It went with others.
    Coalesced,
    /// Calls fail, so none was made.
    Breaker,
    /// As much waits for Redis as there is room for.
    Overloaded,
    /// Its rule has begun as many new keys in this second as it may.
    NewKeys,
}

/// How a decision came out for one of the rules that had a part in it, for `slidegate_item_decisions_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemTally {
    /// The request was admitted, and the rule had room for it.
    Admitted,
    /// The request was refused, and the rule had no room for it.
    Refused,
    /// The rule had no room for it, or would have refused it for what it lacks or has too often, but only tries.
    WouldRefuse,
}

/// How much of an error's text goes into a line, in characters.
const DETAIL_MAX: usize = 300;

/// The metrics of a configuration, the values that are due, and the lines that are.
#[derive(Debug)]
pub(crate) struct Telemetry {
    metrics: Metrics,
    events: VecDeque<MetricEvent>,
    lines: VecDeque<Line>,
    services: Vec<ServiceLines>,
    /// When it was last said that rules begin too many keys.
    new_keys_said_ns: Option<u64>,
}

/// How long nothing is said again of rules that begin too many keys.
const NEW_KEYS_SILENT_NS: u64 = 10_000_000_000;

impl Telemetry {
    pub(crate) fn new(config: &Config) -> Self {
        Telemetry {
            metrics: Metrics::new(config),
            events: VecDeque::new(),
            lines: VecDeque::new(),
            services: config.services.iter().map(ServiceLines::new).collect(),
            new_keys_said_ns: None,
        }
    }

    /// What cannot be counted, if there is such.
    pub(crate) fn warning(&self) -> Option<String> {
        self.metrics.warning()
    }

    pub(crate) fn metrics(&self) -> &[Metric] {
        &self.metrics.list
    }

    pub(crate) fn decided(&mut self, policy: usize, tally: Tally) {
        self.raise(self.metrics.decision(policy, tally), 1);
    }

    /// Counts a decision by the rules whose limits it met.
    pub(crate) fn decided_by_rules(&mut self, policy: usize, plan: &Plan, decision: &Decision) {
        let mut counted = None;
        for owner in &plan.owners {
            // Limits of one rule stand together.
            if counted.replace(owner) == Some(owner) {
                continue;
            }
            let of_owner = || plan.owners.iter().zip(&plan.charges).zip(&decision.standings).filter(|((each, _), _)| *each == owner);
            let has_no_room =
                |enforced: bool| of_owner().any(|((_, charge), standing)| charge.enforced == enforced && standing.retry != Retry::Fits);
            let tally = match decision.admitted {
                false if has_no_room(true) => ItemTally::Refused,
                // Another rule refused it.
                false => continue,
                true if has_no_room(false) => ItemTally::WouldRefuse,
                true => ItemTally::Admitted,
            };
            self.raise(self.metrics.item_decision(policy, *owner, tally), 1);
        }
        if decision.admitted {
            self.spared_by_rules(policy, &plan.spared);
        }
    }

    /// These rules would have refused a request for what it lacks or has too often, and only try.
    pub(crate) fn spared_by_rules(&mut self, policy: usize, owners: &[usize]) {
        for owner in owners {
            self.raise(self.metrics.item_decision(policy, *owner, ItemTally::WouldRefuse), 1);
        }
    }

    /// A rule refused a request, as is known without asking.
    pub(crate) fn refused_by_rule(&mut self, policy: usize, owner: usize) {
        self.raise(self.metrics.item_decision(policy, owner, ItemTally::Refused), 1);
    }

    /// A request waited so long for the decision.
    pub(crate) fn waited(&mut self, policy: usize, waited_ns: u64) {
        self.time(self.metrics.decision_duration(policy), waited_ns);
    }

    pub(crate) fn called(&mut self, service: u32) {
        self.raise(self.metrics.calls(service), 1);
    }

    /// A call took so long until its answer, or until there was none.
    pub(crate) fn took(&mut self, service: u32, took_ns: u64) {
        self.time(self.metrics.call_duration(service), took_ns);
    }

    /// So many requests needed no call of their own.
    pub(crate) fn saved(&mut self, service: u32, saved: Saved, calls: u64) {
        self.raise(self.metrics.saved(service, saved), calls);
    }

    /// As much waits for a service as there is room for.
    pub(crate) fn overloaded(&mut self, service: u32, now_ns: u64) {
        self.saved(service, Saved::Overloaded, 1);
        self.say(service, |lines| lines.overloaded(now_ns));
    }

    /// A rule has begun as many new keys in this second as it may.
    pub(crate) fn too_many_keys(&mut self, service: u32, rule: &str, item: &str, per_second: u64, now_ns: u64) {
        self.saved(service, Saved::NewKeys, 1);
        if self.new_keys_said_ns.is_none_or(|said_ns| now_ns.saturating_sub(said_ns) >= NEW_KEYS_SILENT_NS) {
            self.new_keys_said_ns = Some(now_ns);
            let line =
                format!("rule {rule}, item {item}: more than {per_second} new keys in a second; the failure mode decides on the others");
            self.lines.push_back((LogLevel::Warn, escaped(&line, DETAIL_MAX)));
        }
    }

    /// A call failed. Says so in a line if the service was well, or ailed of something else.
    pub(crate) fn failed(&mut self, service: u32, cause: Cause, detail: &str, now_ns: u64) {
        self.raise(self.metrics.failures(service, cause), 1);
        // What Redis says may quote a client's value.
        let detail = escaped(detail, DETAIL_MAX);
        self.say(service, |lines| lines.failed(cause, &detail, now_ns));
    }

    /// So many calls failed in a row that no more are made but to probe.
    pub(crate) fn opened(&mut self, service: u32, cause: Cause, now_ns: u64) {
        self.raise(self.metrics.opened(service), 1);
        self.set(self.metrics.open(service), 1);
        self.say(service, |lines| lines.opened(cause, now_ns));
    }

    /// The breaker of a service shut.
    pub(crate) fn shut(&mut self, service: u32) {
        self.set(self.metrics.open(service), 0);
    }

    /// A call succeeded. Says so in a line if the service ailed.
    pub(crate) fn answered(&mut self, service: u32, now_ns: u64) {
        self.say(service, |lines| lines.answered(now_ns));
    }

    /// Redis' clock was set by so many microseconds.
    pub(crate) fn stepped(&mut self, service: u32, by_us: i64, now_ns: u64) {
        self.say(service, |lines| lines.stepped(by_us, now_ns));
    }

    pub(crate) fn take_event(&mut self) -> Option<MetricEvent> {
        self.events.pop_front()
    }

    pub(crate) fn take_line(&mut self) -> Option<Line> {
        self.lines.pop_front()
    }

    fn say(&mut self, service: u32, line: impl FnOnce(&mut ServiceLines) -> Option<Line>) {
        self.lines.extend(self.services.get_mut(service as usize).and_then(line));
    }

    /// Raises a counter, if there is one. Adapters drain events after each step, so few are ever waiting.
    fn raise(&mut self, metric: Option<usize>, delta: u64) {
        let Some(metric) = metric.filter(|_| delta > 0) else { return };
        match self.events.iter_mut().find(|event| event.metric == metric) {
            Some(event) => event.value += delta,
            None => self.events.push_back(MetricEvent { metric, value: delta }),
        }
    }

    fn set(&mut self, metric: Option<usize>, value: u64) {
        self.events.extend(metric.map(|metric| MetricEvent { metric, value }));
    }

    fn time(&mut self, metric: Option<usize>, ns: u64) {
        self.events.extend(metric.map(|metric| MetricEvent { metric, value: ns / 1_000 }));
    }
}

/// At most so many characters of a text, as they may stand in a line.
fn escaped(text: &str, longest: usize) -> String {
    let mut line = String::new();
    for character in text.chars().take(longest) {
        match is_unprintable(character) {
            true => line.extend(character.escape_default()),
            false => line.push(character),
        }
    }
    line
}

impl Tally {
    const ALL: [Tally; 8] = [
        Tally::Admitted,
        Tally::Refused,
        Tally::WouldRefuse,
        Tally::Unlimited,
        Tally::Exempt,
        Tally::DegradedOpen,
        Tally::DegradedClosed,
        Tally::DegradedLocal,
    ];

    fn is_degraded(self) -> bool {
        matches!(self, Tally::DegradedOpen | Tally::DegradedClosed | Tally::DegradedLocal)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tally::Admitted => "admitted",
            Tally::Refused => "refused",
            Tally::WouldRefuse => "would_refuse",
            Tally::Unlimited => "unlimited",
            Tally::Exempt => "exempt",
            Tally::DegradedOpen => "open",
            Tally::DegradedClosed => "closed",
            Tally::DegradedLocal => "local",
        })
    }
}

impl Saved {
    const ALL: [Saved; 5] = [Saved::KnownRefusal, Saved::Coalesced, Saved::Breaker, Saved::Overloaded, Saved::NewKeys];
}

impl fmt::Display for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Saved::KnownRefusal => "known_refusal",
            Saved::Coalesced => "coalesced",
            Saved::Breaker => "breaker",
            Saved::Overloaded => "overloaded",
            Saved::NewKeys => "new_keys",
        })
    }
}

impl ItemTally {
    const ALL: [ItemTally; 3] = [ItemTally::Admitted, ItemTally::Refused, ItemTally::WouldRefuse];
}

impl fmt::Display for ItemTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ItemTally::Admitted => "admitted",
            ItemTally::Refused => "refused",
            ItemTally::WouldRefuse => "would_refuse",
        })
    }
}
