//! The lines that an adapter passes on to its host, and what is counted, for the host to fetch.

mod kinds;
mod metrics;
mod service;
mod sums;

use alloc::{collections::VecDeque, format, string::String, vec::Vec};

pub(crate) use self::kinds::{CacheTally, ItemTally, Saved, SessionTally, SessionWriteTally, Tally, VaultTally};
pub use self::{
    kinds::{LogLevel, MetricKind},
    metrics::Metric,
    sums::{BUCKET_BOUNDS_US, Bucket, MetricChange, MetricValue},
};
use self::{
    metrics::Metrics,
    service::{Line, ServiceLines},
    sums::Sums,
};
use crate::{
    config::Config,
    plan::Plan,
    store::failure::FailureCause,
    window::{Decision, Retry, Standing},
};

/// Whether a character could break a log line, steer a terminal, or change the order in which a line is shown: control
/// characters, line and paragraph separators, and marks of direction.
pub fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(character, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// How much of an error's text goes into a line, in characters.
const DETAIL_MAX: usize = 300;

/// The metrics of a configuration, what they have come to, and the lines that are due.
#[derive(Debug)]
pub(crate) struct Telemetry {
    metrics: Metrics,
    sums: Sums,
    lines: VecDeque<Line>,
    services: Vec<ServiceLines>,
    /// When it was last said that rules begin too many keys.
    new_keys_said_ns: Option<u64>,
}

/// How long nothing is said again of rules that begin too many keys.
const NEW_KEYS_SILENT_NS: u64 = 10_000_000_000;

impl Telemetry {
    pub(crate) fn new(config: &Config) -> Self {
        let metrics = Metrics::new(config);
        Telemetry {
            sums: Sums::new(&metrics.list),
            metrics,
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

    #[inline]
    pub(crate) fn decided(&mut self, policy: usize, tally: Tally) {
        self.raise(self.metrics.decision(policy, tally), 1);
    }

    /// Counts a decision by the rules whose limits it met.
    #[inline]
    pub(crate) fn decided_by_rules(&mut self, policy: usize, plan: &Plan, decision: &Decision) {
        if let ([owner], true, [Standing { retry: Retry::Fits, .. }], []) =
            (&*plan.owners, decision.admitted, &*decision.standings, &*plan.spared)
        {
            // As it is most often.
            self.raise(self.metrics.item_decision(policy, *owner, ItemTally::Admitted), 1);
            return;
        }
        self.decided_by_several(policy, plan, decision);
    }

    #[inline(never)]
    fn decided_by_several(&mut self, policy: usize, plan: &Plan, decision: &Decision) {
        let mut counted = None;
        for owner in &plan.owners {
            // Limits of one rule stand together.
            if counted.replace(owner) == Some(owner) {
                continue;
            }
            let of_owner = || {
                plan.owners.iter().zip(&plan.charges).zip(&decision.standings).filter(|((each, _), _)| *each == owner)
            };
            let has_no_room = |enforced: bool| {
                of_owner().any(|((_, charge), standing)| charge.enforced == enforced && standing.retry != Retry::Fits)
            };
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
    #[inline]
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
    #[inline]
    pub(crate) fn waited(&mut self, policy: usize, waited_ns: u64) {
        self.time(self.metrics.decision_duration(policy), waited_ns);
    }

    /// Tokens are reserved for one stream more.
    pub(crate) fn reserved(&mut self, policy: usize) {
        self.sums.shift(self.metrics.reservations(policy), 1);
    }

    /// And no longer.
    pub(crate) fn unreserved(&mut self, policy: usize) {
        self.sums.shift(self.metrics.reservations(policy), -1);
    }

    /// What so many answers took will not be known where it counts.
    pub(crate) fn settlements_lost(&mut self, policy: usize, answers: u64) {
        self.raise(self.metrics.settlements_lost(policy), answers);
    }

    /// An answer was charged so many tokens.
    pub(crate) fn spent(&mut self, policy: usize, tokens: u64) {
        self.raise(self.metrics.tokens(policy), tokens);
    }

    /// An answer could not be read.
    pub(crate) fn unread(&mut self, policy: usize) {
        self.raise(self.metrics.unread(policy), 1);
    }

    /// An answer was cut, as nothing was left.
    pub(crate) fn cut(&mut self, policy: usize) {
        self.raise(self.metrics.cut(policy), 1);
    }

    /// This was found of a request's session, by the filter at this place among those of its kind.
    pub(crate) fn recognized(&mut self, session: usize, tally: SessionTally) {
        self.raise(self.metrics.session(session, tally), 1);
    }

    /// This became of a cookie, by the vault at this place among those of its kind.
    pub(crate) fn vaulted(&mut self, vault: usize, tally: VaultTally) {
        self.raise(self.metrics.vault(vault, tally), 1);
    }

    /// This became of a session that a response sets or deletes.
    pub(crate) fn session_written(&mut self, session: usize, tally: SessionWriteTally) {
        self.raise(self.metrics.session_write(session, tally), 1);
    }

    /// This became of a request or a response, by the filter at this place among those of its kind.
    #[inline]
    pub(crate) fn cached(&mut self, cache: usize, tally: CacheTally) {
        self.raise(self.metrics.cache(cache, tally), 1);
    }

    #[inline]
    pub(crate) fn called(&mut self, service: u32) {
        self.raise(self.metrics.calls(service), 1);
    }

    /// A call took so long until its answer, or until there was none.
    #[inline]
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
            let line = format!(
                "rule {rule}, item {item}: more than {per_second} new keys in a second; the failure mode decides on \
                 the others"
            );
            self.lines.push_back((LogLevel::Warn, escaped(&line, DETAIL_MAX)));
        }
    }

    /// A call failed. Says so in a line if the service was well, or ailed of something else.
    pub(crate) fn failed(&mut self, service: u32, cause: FailureCause, detail: &str, now_ns: u64) {
        self.raise(self.metrics.failures(service, cause), 1);
        // What Redis says may quote a client's value.
        let detail = escaped(detail, DETAIL_MAX);
        self.say(service, |lines| lines.failed(cause, &detail, now_ns));
    }

    /// So many calls failed in a row that no more are made but to probe.
    pub(crate) fn opened(&mut self, service: u32, cause: FailureCause, now_ns: u64) {
        self.raise(self.metrics.opened(service), 1);
        self.set(self.metrics.open(service), 1);
        self.say(service, |lines| lines.opened(cause, now_ns));
    }

    /// The circuit breaker of a service closed.
    pub(crate) fn closed(&mut self, service: u32) {
        self.set(self.metrics.open(service), 0);
    }

    /// A call succeeded. Says so in a line if the service ailed.
    #[inline]
    pub(crate) fn answered(&mut self, service: u32, now_ns: u64) {
        self.say(service, |lines| lines.answered(now_ns));
    }

    /// Redis' clock was set by so many microseconds.
    pub(crate) fn stepped(&mut self, service: u32, by_us: i64, now_ns: u64) {
        self.say(service, |lines| lines.stepped(by_us, now_ns));
    }

    /// What has changed since this was asked last.
    pub(crate) fn take_changes(&mut self) -> Vec<MetricChange> {
        self.sums.take_changes()
    }

    #[inline]
    pub(crate) fn take_line(&mut self) -> Option<Line> {
        self.lines.pop_front()
    }

    #[inline]
    fn say(&mut self, service: u32, line: impl FnOnce(&mut ServiceLines) -> Option<Line>) {
        // Nearly always there is none, and to add none costs a guest more than to look.
        if let Some(line) = self.services.get_mut(service as usize).and_then(line) {
            self.lines.push_back(line);
        }
    }

    /// Raises a counter, if there is one.
    #[inline]
    fn raise(&mut self, metric: Option<usize>, delta: u64) {
        self.sums.raise(metric, delta);
    }

    fn set(&mut self, metric: Option<usize>, value: u64) {
        self.sums.set(metric, value);
    }

    #[inline]
    fn time(&mut self, metric: Option<usize>, ns: u64) {
        self.sums.count(metric, ns / 1_000);
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
