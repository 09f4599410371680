//! The engine: an ordered chain of filters, and what they share. Requests and replies go in, commands and verdicts come
//! out.

mod filter;
mod following;

use alloc::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    string::String,
    vec::Vec,
};

use self::filter::{Asked, ChainState, Filter};
use crate::{
    cache_filter::CacheFilter,
    config::{Config, ConfigError, FilterRules},
    cookie_vault::CookieVault,
    edited::Edited,
    explain::{self, Explanation},
    limiter::{Limiter, Scripts},
    random_pool::RandomPool,
    redis::{CallError, Command, Reply, Service},
    request::{RequestView, Requests},
    rule::{FailureMode, Policy, Ruleset},
    session_filter::SessionFilter,
    store::Ended,
    streams::{self, Waiter, WaitingPlace, WaitingStream},
    telemetry::{Metric, MetricChange, Telemetry},
    turn::NotedVerdict,
    uses::Uses,
    verdict::{Effect, Pass, Response, Step, Verdict},
    wants::StreamEnd,
};

/// What an adapter has to know of a configuration.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// The Redis services that calls name by index. Empty: all windows are kept in this instance.
    pub services: Vec<Service>,
    /// Whether requests may pass with changes to their responses.
    pub edits_responses: bool,
    /// Requests may pass with changes to their headers.
    pub edits_requests: bool,
    /// A stream that the engine could not decide, because its instance trapped, is refused, not passed: limits say so,
    /// or a request that passed would bring along what its client claims to be.
    pub refuse_on_trap: bool,
    /// Some window may be kept in this instance: of a policy without Redis, or while a Redis fails.
    pub local_windows: bool,
    /// Which parts of requests and responses the rules look at.
    pub uses: Uses,
    /// Oddities that are no errors.
    pub warnings: Vec<String>,
}

/// A configured chain of filters and everything in flight in it. Streams and calls are named by the adapter.
///
/// A request passes the filters in order: what one changes in its headers the next one sees, and the first that answers
/// it is the last that sees it. What those before it have charged stays charged.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    configuration: Configuration,
    filters: Vec<Filter>,
    shared: ChainState,
    /// What is due for streams, in order, but for those that have a filter before them.
    effects: VecDeque<Effect>,
}

// === impl Engine ===

impl Engine {
    /// Compiles a configuration, JSON as a Higress WasmPlugin carries it, or returns every mistake in it. It is the
    /// document of one filter, or `{"filters": [...]}` with the documents of several, in order.
    pub fn configure(json: &[u8]) -> Result<Engine, Vec<ConfigError>> {
        let config = Config::read(json)?;
        let telemetry = Telemetry::new(&config);
        let (keeps_sessions, has_vaults) =
            (config.sessions().any(|rules| rules.own.is_some()), config.vaults().next().is_some());
        let has_caches = config.caches().next().is_some();
        // What clients claim must not pass by such a filter.
        let tells = has_vaults || config.sessions().next().is_some();
        let configuration = Configuration {
            services: config.services.clone(),
            edits_responses: keeps_sessions
                || has_vaults
                || has_caches
                || config.policies().any(|policy| policy.headers.tell_of_admissions() || policy.headers.degraded),
            edits_requests: tells || has_caches || config.policies().any(Policy::edits_requests),
            refuse_on_trap: tells
                || config.policies().any(|policy| {
                    policy.failure_mode == FailureMode::Closed && !policy.dry_run && policy.redis.is_some()
                }),
            local_windows: config
                .policies()
                .any(|policy| policy.redis.is_none() || matches!(policy.failure_mode, FailureMode::Local { .. })),
            uses: Uses::of(&config.filters),
            warnings: config.warnings.iter().cloned().chain(telemetry.warning()).collect(),
        };
        let shared = ChainState::new(&configuration.services, telemetry, RandomPool::new(keeps_sessions));
        Ok(Engine { filters: filters(&config), config, configuration, shared, effects: VecDeque::new() })
    }

    /// What the adapter has to know of the configuration.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Lets it go with all it knows. An adapter that is built for speed need not have the code for that too.
    #[inline(never)]
    pub fn discard(self) {
        drop(self);
    }

    /// The configuration as understood, for people.
    pub fn describe(&self) -> String {
        self.config.describe()
    }

    /// What the filters would say of a request. Nothing is decided or remembered. `replies` are what Redis said to all
    /// questions that this has returned for it so far, in their order: what a filter asks may depend on what one before
    /// it was told.
    ///
    /// ```
    /// # use slidegate_engine::request::RequestView;
    /// # struct Plain;
    /// # impl RequestView for Plain {
    /// #     fn path(&self) -> Vec<u8> { b"/".to_vec() }
    /// #     fn authority(&self) -> Option<Vec<u8>> { None }
    /// #     fn header(&self, _: &str) -> Option<Vec<u8>> { None }
    /// #     fn header_values(&self, _: &str) -> Vec<Vec<u8>> { Vec::new() }
    /// #     fn source_address(&self) -> Option<String> { None }
    /// #     fn route_name(&self) -> String { String::new() }
    /// #     fn service_name(&self) -> String { String::new() }
    /// # }
    /// let document = br#"{"rule_name": "all", "global_threshold": {"query_per_minute": 5}}"#;
    /// let engine = slidegate_engine::Engine::configure(document).unwrap();
    /// // `Plain` is the view of a request, as above.
    /// let explanation = engine.explain(&Plain, &[], 0);
    /// assert_eq!(explanation.filters.len(), 1);
    /// assert!(explanation.questions.is_empty(), "nothing has to be asked of a Redis");
    /// ```
    pub fn explain(
        &self,
        request: &impl RequestView,
        replies: &[Result<Reply, CallError>],
        now_ns: u64,
    ) -> Explanation {
        let now = explain::Now { monotonic_ns: now_ns, wall_ns: self.shared.wall_ns };
        explain::of(&self.config, self.shared.memory.windows(), request, replies, now)
    }

    /// The metrics this configuration has. Their number does not change.
    pub fn metrics(&self) -> &[Metric] {
        self.shared.telemetry.metrics()
    }

    /// What has become of them since this was asked last. An adapter asks now and then, not after each step.
    pub fn take_metrics(&mut self) -> Vec<MetricChange> {
        self.shared.telemetry.take_changes()
    }

    /// It is this time, in nanoseconds since 1970; 0 for nobody knows. To be told before what is told of it: only some
    /// headers show times, and without it they are left out.
    #[inline]
    pub fn set_wall_clock(&mut self, wall_ns: u64) {
        self.shared.wall_ns = wall_ns;
    }

    /// A request's headers have arrived. `now_ns` is monotonic.
    #[inline]
    pub fn on_request(&mut self, stream: u64, request: &impl RequestView, now_ns: u64) -> Step {
        if self.shared.streams.may_know(stream) {
            self.on_done(stream, StreamEnd::Client, now_ns);
        }
        self.tick(now_ns);
        self.pass_on(stream, WaitingStream::default(), request, now_ns)
    }

    /// The next thing that the adapter has to do. To be called after each other step until there is nothing more to do,
    /// which is what [`Effect::Wait`] says. A stream that one filter lets pass goes to the next one here, which reads
    /// its request as `requests` shows it.
    #[inline]
    pub fn poll(&mut self, requests: &impl Requests, now_ns: u64) -> Effect {
        loop {
            if let Some((service, command)) = self.next_command(now_ns) {
                return Effect::Call { service, command };
            }
            if let Some(effect) = self.effects.pop_front() {
                return effect;
            }
            let Some((waiter, settled)) = self.shared.settled.pop_front() else { break };
            if let Some(effect) = self.settle(waiter, settled, requests, now_ns) {
                return effect;
            }
        }
        if let Some(bytes) = self.shared.random.lacking() {
            return Effect::Draw { bytes };
        }
        if let Some((level, line)) = self.shared.telemetry.take_line() {
            return Effect::Log { level, line };
        }
        let due_ns = self.filters.iter().filter_map(Filter::due_ns).chain(self.shared.store.overdue_ns()).min();
        Effect::Wait { until_ns: due_ns }
    }

    /// What became of the command of the last [`Effect::Call`]: the host's name for the call, or why there is none.
    #[inline]
    pub fn called(&mut self, call: Result<u64, CallError>, now_ns: u64) {
        if let Some(ended) = self.shared.store.called(call, now_ns, &mut self.shared.telemetry) {
            self.conclude(ended, now_ns);
        }
    }

    /// Takes a command of [`Effect::Call`] back once it is sent, so that the next one has its memory. To be called or
    /// not.
    #[inline]
    pub fn recycle(&mut self, command: Command) {
        self.shared.store.recycle(command);
    }

    /// Gives it what [`Effect::Draw`] asks for: ids of sessions are made of them, so nobody must be able to guess any.
    pub fn add_random(&mut self, bytes: &[u8]) {
        self.shared.random.add(bytes);
    }

    /// The answer to a call. An unknown call is ignored.
    #[inline]
    pub fn on_reply(&mut self, call: u64, reply: Result<Reply, CallError>, now_ns: u64) {
        let call = self.shared.store.take(call);
        self.tick(now_ns);
        let Some(call) = call else { return };
        let filters = &self.filters;
        let explain = |asked: &Asked, error: &str| {
            filters.get(asked.filter).map_or_else(String::new, |filter| filter.explain(asked, error))
        };
        if let Some(ended) = self.shared.store.answered(call, reply, now_ns, &mut self.shared.telemetry, explain) {
            self.conclude(ended, now_ns);
        }
    }

    /// Some time has passed: calls that Redis should have answered long ago are given up, and what filters have put off
    /// until now is done. Every other step does so too.
    #[inline]
    pub fn tick(&mut self, now_ns: u64) {
        let is_due = |filter: &Filter| filter.due_ns().is_some_and(|due_ns| due_ns <= now_ns);
        if self.shared.store.may_be_overdue(now_ns) || self.filters.iter().any(is_due) {
            self.catch_up(now_ns);
        }
    }

    /// Does what is due.
    #[cold]
    fn catch_up(&mut self, now_ns: u64) {
        for ended in self.shared.store.take_overdue(now_ns, &mut self.shared.telemetry) {
            self.conclude(ended, now_ns);
        }
        for (at, filter) in self.filters.iter_mut().enumerate() {
            if filter.due_ns().is_some_and(|due_ns| due_ns <= now_ns) {
                filter.on_due(at, &mut self.shared, now_ns);
            }
        }
    }

    /// The next command to send, and to which service.
    #[inline]
    fn next_command(&mut self, now_ns: u64) -> Option<(u32, Command)> {
        // An adapter that does not say what became of a command has not sent it.
        if self.shared.store.waits_for_word() {
            self.called(Err(CallError::Disconnected), now_ns);
        }
        self.shared.store.next_command(now_ns, &mut self.shared.telemetry)
    }

    /// Hands a stream, as filters have changed it so far, to those from its place on.
    #[inline]
    fn pass_on(&mut self, stream: u64, mut so_far: WaitingStream, request: &impl RequestView, now_ns: u64) -> Step {
        let last = self.filters.len().saturating_sub(1);
        for (at, filter) in self.filters.iter_mut().enumerate().skip(so_far.filter) {
            let waiter = self.shared.streams.arrive(stream, now_ns);
            let request = Edited { request, edits: &so_far.edits.request };
            let Some(NotedVerdict { verdict, note }) =
                filter.on_request(at, waiter, &request, &mut self.shared, now_ns)
            else {
                so_far.filter = at;
                self.shared.streams.wait(waiter, so_far, &mut self.shared.budget);
                return Step::Wait;
            };
            annotate(&mut self.effects, stream, note);
            match verdict {
                Verdict::Pass(pass) if at == last && so_far.is_as_it_came() && pass.is_last_word() => {
                    return Step::Pass(pass);
                }
                Verdict::Pass(pass) => so_far.pass(at, pass),
                Verdict::Respond(response) => return self.answer(stream, so_far, response, now_ns),
            }
        }
        self.pass_all(stream, so_far)
    }

    /// A request has passed all filters.
    fn pass_all(&mut self, stream: u64, so_far: WaitingStream) -> Step {
        let WaitingStream { edits, followers, .. } = so_far;
        let wants = streams::wants(&followers);
        if !followers.is_empty() {
            self.shared.streams.follow(stream, followers);
        }
        Step::Pass(Pass { wants, ..edits.into() })
    }

    /// A filter answers a request: those before it that follow the stream get to know.
    fn answer(&mut self, stream: u64, so_far: WaitingStream, response: Response, now_ns: u64) -> Step {
        self.tell_end(stream, &so_far.followers, StreamEnd::Answered, now_ns);
        Step::Respond(response.edited(so_far.edits.response))
    }

    /// A filter has settled a stream that waited for it: it goes to the next one, or the adapter gets to know. Returns
    /// what that has to do first.
    #[inline]
    fn settle(
        &mut self,
        waiter: Waiter,
        settled: NotedVerdict,
        requests: &impl Requests,
        now_ns: u64,
    ) -> Option<Effect> {
        let stream = waiter.stream;
        // It may have ended since.
        let step = match self.shared.streams.leave(&waiter, &mut self.shared.budget) {
            Some(place) => self.settle_request(stream, place, settled, requests, now_ns)?,
            None => self.settle_followed(&waiter, settled, now_ns)?,
        };
        let verdict = match step {
            Step::Pass(pass) => Verdict::Pass(pass),
            Step::Respond(response) => Verdict::Respond(response),
            Step::Wait => return None,
        };
        let settle = Effect::Settle { stream, verdict };
        let Some(first) = self.effects.pop_front() else { return Some(settle) };
        self.effects.push_back(settle);
        Some(first)
    }

    /// The filter that a request waits for has settled it. None: the adapter knows it no more.
    #[inline]
    fn settle_request(
        &mut self,
        stream: u64,
        place: WaitingPlace,
        NotedVerdict { verdict, note }: NotedVerdict,
        requests: &impl Requests,
        now_ns: u64,
    ) -> Option<Step> {
        annotate(&mut self.effects, stream, note);
        let pass = match verdict {
            Verdict::Respond(response) => return Some(self.answer(stream, place.into(), response, now_ns)),
            Verdict::Pass(pass) => pass,
        };
        let is_last = place.filter + 1 == self.filters.len();
        if is_last && place.changed.is_none() && pass.is_last_word() {
            return Some(Step::Pass(pass));
        }
        self.settle_changed(stream, place.into(), pass, requests, now_ns)
    }

    /// The filter that a request waits for lets it pass, and it is not all that filters say of it.
    fn settle_changed(
        &mut self,
        stream: u64,
        mut waiting: WaitingStream,
        pass: Pass,
        requests: &impl Requests,
        now_ns: u64,
    ) -> Option<Step> {
        let is_last = waiting.filter + 1 == self.filters.len();
        waiting.pass(waiting.filter, pass);
        waiting.filter += 1;
        if is_last {
            return Some(self.pass_all(stream, waiting));
        }
        match requests.view(stream) {
            Some(request) => Some(self.pass_on(stream, waiting, &request, now_ns)),
            None => {
                self.tell_end(stream, &waiting.followers, StreamEnd::Answered, now_ns);
                None
            }
        }
    }

    /// A call is over: its filter settles whom it asked for.
    #[inline]
    fn conclude(&mut self, ended: Ended<Asked>, now_ns: u64) {
        if ended.result.as_ref().is_ok_and(|answered| answered.has_clock_stepped) {
            self.shared.memory.forget(ended.service);
        }
        if let Some(filter) = self.filters.get_mut(ended.ask.filter) {
            filter.on_ended(ended, &mut self.shared, now_ns);
        }
    }
}

/// Has the log of requests say this of a stream, if there is something to say.
#[inline]
fn annotate(effects: &mut VecDeque<Effect>, stream: u64, note: Option<Vec<(&'static str, String)>>) {
    if let Some(fields) = note {
        effects.push_back(Effect::Annotate { stream, fields });
    }
}

fn filters(config: &Config) -> Vec<Filter> {
    let counts_as = |policy: &Policy| (policy.redis, policy.rule_name.clone());
    let mut names = BTreeMap::new();
    config.policies().for_each(|policy| *names.entry(counts_as(policy)).or_insert(0_usize) += 1);
    let (scripts, mut first_policy, mut sessions) = (Rc::new(Scripts::default()), 0, 0..);
    let (mut vaults, mut caches) = (0.., 0..);
    let mut limiter = |ruleset: &Rc<Ruleset>| {
        let limiter = Limiter::new(Rc::clone(ruleset), first_policy, Rc::clone(&scripts), |policy| {
            names.get(&counts_as(policy)) == Some(&1)
        });
        first_policy += ruleset.policies().count();
        Filter::Limiter(limiter)
    };
    let filter = |rules: &FilterRules| match rules {
        FilterRules::Limiter(ruleset) => limiter(ruleset),
        FilterRules::Session(rules) => {
            Filter::Session(SessionFilter::new(Rc::clone(rules), sessions.next().unwrap_or_default()))
        }
        FilterRules::Vault(rules) => {
            Filter::Vault(CookieVault::new(Rc::clone(rules), vaults.next().unwrap_or_default()))
        }
        FilterRules::Cache(rules) => {
            Filter::Cache(CacheFilter::new(Rc::clone(rules), caches.next().unwrap_or_default()))
        }
    };
    config.filters.iter().map(filter).collect()
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod trial;
