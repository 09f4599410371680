//! The state machine: requests and replies in, commands and outcomes out.

mod flight;
mod new_keys;
mod question;
mod room;
mod settled;
#[cfg(test)]
mod tests;

use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    format,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use self::{
    new_keys::NewKeys,
    question::{Lane, Question},
    room::Room,
    settled::{Decider, Settled, tally},
};
use crate::{
    config::{Config, ConfigError},
    local::LocalWindows,
    name::Name,
    note::Note,
    plan::{Plan, Planned, Prefixes},
    redis::{CallError, Command, Reply, Service},
    refusals::KnownRefusals,
    request::RequestView,
    rule::{FailureMode, Policy},
    store::{Store, failure::Cause},
    telemetry::{Metric, Tally, Telemetry},
    verdict::{Effect, HeaderEdit, Outcome, Step},
    window::{Decision, script::Script},
};

/// What an adapter has to know of a configuration.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// The Redis services that calls name by index. Empty: all windows are kept in this instance.
    pub services: Vec<Service>,
    /// Whether [`Engine::on_response_headers`] has anything to do.
    pub edits_responses: bool,
    /// A stream that the engine could not decide, because its instance trapped, is refused, not passed.
    pub refuse_on_trap: bool,
    /// Some window may be kept in this instance: of a policy without Redis, or while a Redis fails.
    pub local_windows: bool,
    /// Oddities that are no errors.
    pub warnings: Vec<String>,
}

/// A configured limiter and everything in flight in it. Streams and calls are named by the adapter.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    configuration: Configuration,
    /// What is made of each policy once, in their order.
    made: Vec<Made>,
    script: Rc<Script>,
    windows: LocalWindows,
    refusals: KnownRefusals,
    new_keys: NewKeys,
    streams: BTreeMap<u64, Box<Stream>>,
    store: Store<Question>,
    /// Where requests wait for a call that is on its way and asks the same, by what it asks.
    lanes: BTreeMap<Rc<Name>, Box<Lane>>,
    /// What all of these take.
    room: Room,
    outcomes: VecDeque<(u64, Outcome)>,
    notes: VecDeque<(u64, Note)>,
    telemetry: Telemetry,
    /// Tells a stream from a later one that was given the same id.
    next_ticket: u64,
}

/// What is made of a policy once.
#[derive(Debug)]
struct Made {
    /// What its refusals say.
    refusal_body: Rc<[u8]>,
    /// What its keys begin with.
    prefixes: Prefixes,
    /// Whether no other policy counts in its service under its name.
    is_alone: bool,
}

/// What is remembered of a stream.
#[derive(Debug)]
enum Stream {
    /// It waits for a call, with this ticket, since then.
    Waiting { ticket: u64, since_ns: u64 },
    /// It went on, and its response is to be changed like this.
    Passed { edits: Vec<HeaderEdit> },
}

// === impl Engine ===

impl Engine {
    /// Compiles a configuration, JSON as a Higress WasmPlugin carries it, or returns every mistake in it.
    pub fn configure(json: &[u8]) -> Result<Engine, Vec<ConfigError>> {
        let config = Config::read(json)?;
        let policies = || config.ruleset.scoped.iter().map(|(_, policy)| policy).chain(&config.ruleset.fallback);
        let telemetry = Telemetry::new(&config);
        let counts_as = |policy: &Policy| (policy.redis, policy.rule_name.clone());
        let mut names = BTreeMap::new();
        policies().for_each(|policy| *names.entry(counts_as(policy)).or_insert(0_usize) += 1);
        let made = |policy: &Policy| Made {
            refusal_body: Rc::from(policy.rejected_msg.as_bytes()),
            prefixes: Prefixes::of(policy),
            is_alone: names.get(&counts_as(policy)) == Some(&1),
        };
        let made = policies().map(made).collect();
        let configuration = Configuration {
            services: config.services.clone(),
            edits_responses: policies().any(|policy| policy.headers.quota || policy.headers.ietf || policy.headers.degraded),
            refuse_on_trap: policies()
                .any(|policy| policy.failure_mode == FailureMode::Closed && !policy.dry_run && policy.redis.is_some()),
            local_windows: policies().any(|policy| policy.redis.is_none() || matches!(policy.failure_mode, FailureMode::Local { .. })),
            warnings: config.warnings.iter().cloned().chain(telemetry.warning()).collect(),
        };
        Ok(Engine {
            telemetry,
            made,
            store: Store::new(&configuration.services),
            config,
            configuration,
            script: Rc::default(),
            windows: LocalWindows::default(),
            refusals: KnownRefusals::default(),
            new_keys: NewKeys::default(),
            streams: BTreeMap::new(),
            lanes: BTreeMap::new(),
            room: Room::default(),
            outcomes: VecDeque::new(),
            notes: VecDeque::new(),
            next_ticket: 0,
        })
    }

    /// What the adapter has to know of the configuration.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// The configuration as understood, for people.
    pub fn describe(&self) -> String {
        self.config.describe()
    }

    /// The metrics this configuration has. Their number does not change.
    pub fn metrics(&self) -> &[Metric] {
        self.telemetry.metrics()
    }

    /// A request's headers have arrived. `now_ns` is monotonic.
    pub fn on_request(&mut self, stream: u64, request: &impl RequestView, now_ns: u64) -> Step {
        self.forget(stream);
        self.tick(now_ns);
        let Some((index, policy)) = self.config.ruleset.policy_for(request) else { return Step::Pass };
        let Some(Made { prefixes, .. }) = self.made.get(index) else { return Step::Pass };
        let plan = match Planned::new(policy, prefixes, request) {
            Planned::Charged(plan) => plan,
            Planned::Unlimited { spared } => {
                self.telemetry.decided(index, if spared.is_empty() { Tally::Unlimited } else { Tally::WouldRefuse });
                self.telemetry.spared_by_rules(index, &spared);
                return Step::Pass;
            }
            Planned::Exempt => {
                self.telemetry.decided(index, Tally::Exempt);
                return Step::Pass;
            }
            Planned::Refused { owner } => {
                self.telemetry.decided(index, Tally::Refused);
                self.telemetry.refused_by_rule(index, owner);
                let settled = self.decider(index).map_or_else(Settled::passed, Decider::refuse_silently);
                return self.at_once(stream, settled);
            }
        };
        if let Some(service) = policy.redis {
            return self.ask(stream, index, service, plan, now_ns);
        }
        let decision = self.windows.decide(&plan.keys, &plan.charges, now_ns / 1_000);
        self.count(index, tally(&plan, &decision), &plan, &decision);
        match self.decider(index) {
            Some(decider) => {
                let settled = decider.settle(&plan, &plan.charges, &decision);
                self.at_once(stream, settled)
            }
            None => Step::Pass,
        }
    }

    /// The next thing that the adapter has to do. To be called after each other step until there is nothing more to do, which is what
    /// [`Effect::Wait`] says.
    pub fn poll(&mut self, now_ns: u64) -> Effect {
        if let Some((service, command)) = self.next_command(now_ns) {
            return Effect::Call { service, command };
        }
        if let Some((stream, note)) = self.notes.pop_front() {
            let rule_name = self.config.ruleset.policy(note.policy).map_or("", |policy| &policy.rule_name);
            return Effect::Annotate { stream, fields: note.fields(rule_name) };
        }
        if let Some((stream, outcome)) = self.outcomes.pop_front() {
            return Effect::Settle { stream, outcome };
        }
        if let Some(event) = self.telemetry.take_event() {
            return Effect::Record(event);
        }
        if let Some((level, line)) = self.telemetry.take_line() {
            return Effect::Log { level, line };
        }
        Effect::Wait { until_ns: self.store.overdue_ns() }
    }

    /// What became of the command of the last [`Effect::Call`]: the host's name for the call, or why there is none.
    pub fn called(&mut self, call: Result<u64, CallError>, now_ns: u64) {
        if let Some(ended) = self.store.called(call, now_ns, &mut self.telemetry) {
            self.conclude_call(ended, now_ns);
        }
    }

    /// The next command to send, and to which service.
    fn next_command(&mut self, now_ns: u64) -> Option<(u32, Command)> {
        // An adapter that does not say what became of a command has not sent it.
        self.called(Err(CallError::Disconnected), now_ns);
        self.store.next_command(now_ns, &mut self.telemetry)
    }

    /// The answer to a call. An unknown call is ignored.
    pub fn on_reply(&mut self, call: u64, reply: Result<Reply, CallError>, now_ns: u64) {
        let call = self.store.take(call);
        self.tick(now_ns);
        let Some(call) = call else { return };
        let ruleset = &self.config.ruleset;
        let explain = |question: &Question, error: &str| question.explain(ruleset.policy(question.policy), error);
        if let Some(ended) = self.store.answered(call, reply, now_ns, &mut self.telemetry, explain) {
            self.conclude_call(ended, now_ns);
        }
    }

    /// Some time has passed: calls that Redis should have answered long ago are given up. Every other step does so too.
    pub fn tick(&mut self, now_ns: u64) {
        self.notes.clear();
        for ended in self.store.take_overdue(now_ns, &mut self.telemetry) {
            self.conclude_call(ended, now_ns);
        }
    }

    /// Response headers are on their way to the client; returns what to change in them.
    pub fn on_response_headers(&mut self, stream: u64) -> Vec<HeaderEdit> {
        match self.streams.get(&stream).map(Box::as_ref) {
            Some(Stream::Passed { .. }) => self.forget(stream),
            Some(Stream::Waiting { .. }) | None => Vec::new(),
        }
    }

    /// The stream is over; everything known of it is dropped. A reply that comes later for it is ignored.
    pub fn on_done(&mut self, stream: u64) {
        self.forget(stream);
    }

    /// Forgets a stream; returns what was to be changed in its response.
    fn forget(&mut self, stream: u64) -> Vec<HeaderEdit> {
        match self.streams.remove(&stream).map(|stream| *stream) {
            Some(Stream::Passed { edits }) => {
                self.room.free_edits(&edits);
                edits
            }
            Some(Stream::Waiting { .. }) | None => Vec::new(),
        }
    }

    /// Settles a stream in the step that it came with.
    fn at_once(&mut self, stream: u64, settled: Settled) -> Step {
        self.remember(stream, settled.edits, settled.note);
        match settled.outcome {
            Outcome::Continue => Step::Pass,
            Outcome::Respond(response) => Step::Respond(response),
        }
    }

    /// Settles a stream that waits.
    fn conclude(&mut self, index: usize, stream: u64, settled: Settled, now_ns: u64) {
        if let Some(Stream::Waiting { since_ns, .. }) = self.streams.remove(&stream).as_deref() {
            self.telemetry.waited(index, now_ns.saturating_sub(*since_ns));
        }
        self.remember(stream, settled.edits, settled.note);
        self.outcomes.push_back((stream, settled.outcome));
    }

    fn remember(&mut self, stream: u64, edits: Vec<HeaderEdit>, note: Option<Note>) {
        self.notes.extend(note.map(|note| (stream, note)));
        if !edits.is_empty() && self.room.take_edits(&edits) {
            self.streams.insert(stream, Box::new(Stream::Passed { edits }));
        }
    }

    /// Redis cannot say: the failure mode does. None: there is no such policy.
    fn degrade(&mut self, index: usize, plan: &Plan, cause: Cause, now_ns: u64) -> Option<Settled> {
        let policy = self.config.ruleset.policy(index)?;
        let (tally, mode, mut settled) = match policy.failure_mode {
            FailureMode::Closed if plan.charges.iter().any(|charge| charge.enforced) => {
                (Tally::DegradedClosed, "closed", Settled::unavailable())
            }
            FailureMode::Open | FailureMode::Closed => (Tally::DegradedOpen, "open", Settled::passed()),
            FailureMode::Local { share } => {
                let charges = plan.charges_of_share(share);
                let keys = stand_in_keys(policy.redis, plan);
                let decision = self.windows.decide(&keys, &charges, now_ns / 1_000);
                self.count(index, Tally::DegradedLocal, plan, &decision);
                (Tally::DegradedLocal, "local", self.decider(index)?.settle(plan, &charges, &decision))
            }
        };
        let policy = self.config.ruleset.policy(index)?;
        if policy.headers.degraded {
            let (name, value) = ("x-slidegate-degraded".to_string(), format!("{mode};cause={cause}"));
            match &mut settled.outcome {
                Outcome::Continue => settled.edits.push(HeaderEdit::Set(name, value)),
                Outcome::Respond(response) => response.headers.push((name, value)),
            }
        }
        let decision = match (&settled.outcome, tally) {
            (Outcome::Continue, _) => "passed",
            (Outcome::Respond(_), Tally::DegradedClosed) => "unavailable",
            (Outcome::Respond(_), _) => "refused",
        };
        let told = settled.note.take().and_then(|note| note.told);
        settled.note = Some(Note { policy: index, decision, told, degraded: Some((mode, cause)) });
        if tally != Tally::DegradedLocal {
            self.telemetry.decided(index, tally);
        }
        Some(settled)
    }

    /// Counts a decision by its policy, and by the rules whose limits it met.
    fn count(&mut self, index: usize, tally: Tally, plan: &Plan, decision: &Decision) {
        self.telemetry.decided(index, tally);
        self.telemetry.decided_by_rules(index, plan, decision);
    }

    /// Whether no other policy counts in its service under the name of this one.
    fn is_alone(&self, index: usize) -> bool {
        self.made.get(index).is_some_and(|made| made.is_alone)
    }

    fn decider(&self, index: usize) -> Option<Decider<'_>> {
        let refusal_body = &self.made.get(index)?.refusal_body;
        Some(Decider { index, policy: self.config.ruleset.policy(index)?, refusal_body })
    }
}

/// Under which names this instance keeps the windows that stand in for those of a Redis: not under those of a policy without one, and
/// not under those of another.
fn stand_in_keys(service: Option<u32>, plan: &Plan) -> Vec<Vec<u8>> {
    let Some(service) = service else { return plan.keys.clone() };
    let name = |key: &Vec<u8>| [&service.to_be_bytes(), key.as_slice()].concat();
    plan.keys.iter().map(name).collect()
}
