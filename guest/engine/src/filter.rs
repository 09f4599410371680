//! The state machine: requests and replies in, commands and outcomes out.

#[cfg(test)]
mod tests;

use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    string::{String, ToString},
    vec,
    vec::Vec,
};

use crate::{
    config::{Config, ConfigError},
    failure::Cause,
    header::quota_headers,
    local::LocalWindows,
    plan::{Plan, quotas},
    redis::{CallError, Command, Reply, Service},
    request::RequestView,
    rule::{FailureMode, Policy},
    telemetry::{LogLevel, Metric, MetricEvent, Tally, Telemetry},
    verdict::{HeaderEdit, Outcome, Response, Step},
    window::{
        Charge, Decision, Retry,
        script::{self, Form, Script},
    },
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
    /// Oddities that are no errors.
    pub warnings: Vec<String>,
}

/// A configured limiter and everything in flight in it. Streams and calls are named by the adapter.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    configuration: Configuration,
    script: Script,
    windows: LocalWindows,
    streams: BTreeMap<u64, Box<Stream>>,
    /// Calls that the adapter has not taken yet.
    queue: VecDeque<Call>,
    /// Calls that Redis has not answered yet, by the adapter's name for them.
    calls: BTreeMap<u64, Box<Call>>,
    outcomes: VecDeque<(u64, Outcome)>,
    telemetry: Telemetry,
    /// Tells a stream from a later one that was given the same id.
    next_ticket: u64,
}

/// What is remembered of a stream.
#[derive(Debug)]
enum Stream {
    /// It waits for the call with this ticket.
    Waiting { ticket: u64 },
    /// It went on, and its response is to be changed like this.
    Passed { edits: Vec<HeaderEdit> },
}

/// A question to Redis, and the stream that asked.
#[derive(Debug)]
struct Call {
    stream: u64,
    ticket: u64,
    policy: usize,
    service: u32,
    form: Form,
    plan: Plan,
}

/// A request decided: what becomes of it, and of its response.
struct Settled {
    outcome: Outcome,
    edits: Vec<HeaderEdit>,
}

// === impl Engine ===

impl Engine {
    /// Compiles a configuration, JSON as a Higress WasmPlugin carries it, or returns every mistake in it.
    pub fn configure(json: &[u8]) -> Result<Engine, Vec<ConfigError>> {
        let config = Config::read(json)?;
        let policies = || config.ruleset.scoped.iter().map(|(_, policy)| policy).chain(&config.ruleset.fallback);
        let configuration = Configuration {
            services: config.services.clone(),
            edits_responses: policies().any(|policy| policy.headers.quota || policy.headers.ietf),
            refuse_on_trap: policies()
                .any(|policy| policy.failure_mode == FailureMode::Closed && !policy.dry_run && policy.redis.is_some()),
            warnings: config.warnings.clone(),
        };
        Ok(Engine {
            telemetry: Telemetry::new(&config),
            config,
            configuration,
            script: Script::default(),
            windows: LocalWindows::default(),
            streams: BTreeMap::new(),
            queue: VecDeque::new(),
            calls: BTreeMap::new(),
            outcomes: VecDeque::new(),
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

    /// The counters this configuration has. Their number does not change.
    pub fn metrics(&self) -> &[Metric] {
        self.telemetry.metrics()
    }

    /// A request's headers have arrived. `now_ns` is monotonic.
    pub fn on_request(&mut self, stream: u64, request: &impl RequestView, now_ns: u64) -> Step {
        self.streams.remove(&stream);
        let Some((index, policy)) = self.config.ruleset.policy_for(request) else { return Step::Pass };
        let plan = Plan::new(policy, request);
        if plan.is_empty() {
            self.telemetry.decided(index, Tally::Unlimited);
            return Step::Pass;
        }
        if let Some(service) = policy.redis {
            let ticket = self.next_ticket;
            self.next_ticket += 1;
            self.streams.insert(stream, Box::new(Stream::Waiting { ticket }));
            self.queue.push_back(Call { stream, ticket, policy: index, service, form: Form::Sha, plan });
            return Step::Wait;
        }
        let decision = self.windows.decide(&plan.keys, &plan.charges, now_ns / 1_000);
        let settled = settle(policy, &plan, &plan.charges, &decision);
        self.telemetry.decided(index, tally(&decision));
        self.remember(stream, settled.edits);
        match settled.outcome {
            Outcome::Continue => Step::Pass,
            Outcome::Respond(response) => Step::Respond(response),
        }
    }

    /// Hands every queued Redis command to `send` (service index, command), which returns the host's name for the call.
    /// To be called after each `on_request` and `on_reply`, before outcomes are taken.
    pub fn dispatch(&mut self, now_ns: u64, mut send: impl FnMut(u32, &Command) -> Result<u64, CallError>) {
        while let Some(call) = self.queue.pop_front() {
            self.telemetry.called(call.service);
            match send(call.service, &self.script.command(call.form, &call.plan.keys, &call.plan.charges, 1)) {
                Ok(id) => {
                    self.calls.insert(id, Box::new(call));
                }
                Err(error) => self.fail(call, error.into(), "the call was not accepted", now_ns),
            }
        }
    }

    /// The answer to a call. An unknown call is ignored.
    pub fn on_reply(&mut self, call: u64, reply: Result<Reply, CallError>, now_ns: u64) {
        let Some(mut call) = self.calls.remove(&call).map(|call| *call) else { return };
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => return self.fail(call, error.into(), error.as_str(), now_ns),
        };
        match (script::batch(&reply, call.plan.charges.len(), 1), &reply) {
            (Some(batch), _) => {
                self.telemetry.answered(call.service);
                self.decide(&call, &batch.decision(0, &call.plan.charges));
            }
            (None, Reply::Error(text)) if text.starts_with("NOSCRIPT") && call.form == Form::Sha => {
                call.form = Form::Text;
                self.queue.push_back(call);
            }
            (None, Reply::Error(text)) => self.fail(call, Cause::of_reply(&reply), text, now_ns),
            (None, _) => self.fail(call, Cause::BadReply, "the reply has another shape than the script's", now_ns),
        }
    }

    /// The next stream that was settled, if any.
    pub fn take_outcome(&mut self) -> Option<(u64, Outcome)> {
        self.outcomes.pop_front()
    }

    /// The next line to log, if any.
    pub fn take_log(&mut self) -> Option<(LogLevel, String)> {
        self.telemetry.take_line()
    }

    /// The next counter to raise, if any.
    pub fn take_metric(&mut self) -> Option<MetricEvent> {
        self.telemetry.take_event()
    }

    /// Response headers are on their way to the client; returns what to change in them.
    pub fn on_response_headers(&mut self, stream: u64) -> Vec<HeaderEdit> {
        match self.streams.get_mut(&stream).map(Box::as_mut) {
            Some(Stream::Passed { edits }) => core::mem::take(edits),
            Some(Stream::Waiting { .. }) | None => Vec::new(),
        }
    }

    /// The stream is over; everything known of it is dropped. A reply that comes later for it is ignored.
    pub fn on_done(&mut self, stream: u64) {
        self.streams.remove(&stream);
    }

    fn policy(&self, index: usize) -> Option<&Policy> {
        let ruleset = &self.config.ruleset;
        ruleset.scoped.get(index).map(|(_, policy)| policy).or(ruleset.fallback.as_ref())
    }

    fn decide(&mut self, call: &Call, decision: &Decision) {
        let Some(policy) = self.policy(call.policy) else { return };
        let settled = settle(policy, &call.plan, &call.plan.charges, decision);
        self.telemetry.decided(call.policy, tally(decision));
        self.conclude(call, settled);
    }

    /// Redis could not say: the failure mode does.
    fn fail(&mut self, call: Call, cause: Cause, detail: &str, now_ns: u64) {
        self.telemetry.failed(call.service, cause, detail);
        let Some(policy) = self.policy(call.policy) else { return };
        let (tally, settled) = match policy.failure_mode {
            FailureMode::Closed if call.plan.charges.iter().any(|charge| charge.enforced) => {
                (Tally::DegradedClosed, Settled { outcome: Outcome::Respond(unavailable()), edits: Vec::new() })
            }
            FailureMode::Open | FailureMode::Closed => (Tally::DegradedOpen, Settled { outcome: Outcome::Continue, edits: Vec::new() }),
            FailureMode::Local { share } => {
                let charges = call.plan.charges_of_share(share);
                let decision = self.windows.decide(&call.plan.keys, &charges, now_ns / 1_000);
                let Some(policy) = self.policy(call.policy) else { return };
                (Tally::DegradedLocal, settle(policy, &call.plan, &charges, &decision))
            }
        };
        self.telemetry.decided(call.policy, tally);
        self.conclude(&call, settled);
    }

    /// Settles the stream that asked, if it still waits.
    fn conclude(&mut self, call: &Call, settled: Settled) {
        match self.streams.get(&call.stream).map(Box::as_ref) {
            Some(Stream::Waiting { ticket }) if *ticket == call.ticket => {}
            _ => return,
        }
        self.streams.remove(&call.stream);
        self.remember(call.stream, settled.edits);
        self.outcomes.push_back((call.stream, settled.outcome));
    }

    fn remember(&mut self, stream: u64, edits: Vec<HeaderEdit>) {
        if !edits.is_empty() {
            self.streams.insert(stream, Box::new(Stream::Passed { edits }));
        }
    }
}

fn settle(policy: &Policy, plan: &Plan, charges: &[Charge], decision: &Decision) -> Settled {
    let names = if policy.headers.ietf { plan.names(&policy.rule_name) } else { vec![String::new(); charges.len()] };
    let fields = quota_headers(policy.headers, &quotas(charges, &decision.standings, &names), !decision.admitted);
    if decision.admitted {
        let edits = fields.into_iter().map(|(name, value)| HeaderEdit::Set(name, value)).collect();
        return Settled { outcome: Outcome::Continue, edits };
    }
    let response = Response {
        status: policy.rejected_code,
        headers: fields,
        body: policy.rejected_msg.clone().into_bytes(),
        details: "cluster-key-rate-limit.rejected",
    };
    Settled { outcome: Outcome::Respond(response), edits: Vec::new() }
}

fn tally(decision: &Decision) -> Tally {
    let fits = decision.standings.iter().all(|standing| standing.retry == Retry::Fits);
    match (decision.admitted, fits) {
        (true, true) => Tally::Admitted,
        (true, false) => Tally::WouldRefuse,
        (false, _) => Tally::Refused,
    }
}

fn unavailable() -> Response {
    Response {
        status: 503,
        headers: Vec::new(),
        body: "The rate limit cannot be checked at the moment".to_string().into_bytes(),
        details: "slidegate.redis_unavailable",
    }
}
