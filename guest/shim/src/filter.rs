//! One configuration of the plugin: its engine, and what is between that and the gateway.

#[cfg(test)]
mod tests;

use std::cell::Cell;

use slidegate_engine::{
    Edits, Effect, Engine, LogLevel, Response, Step, StreamEnd, Verdict, grpc, redis::CallError, request::Requests,
};

use crate::{
    clock::MonotonicClock,
    gateway::{Gateway, Headers, Level},
    kept::KeptEdits,
    log,
    redis::Redis,
    request::Request,
    statistics::{Statistic, Statistics},
};

/// More mistakes of a configuration are counted, not logged.
const MISTAKES_MAX: usize = 20;

/// How often metrics are told, and calls are looked at that may have been forgotten.
const TICK_MS: u32 = 1_000;

/// What becomes of the phase that a hook was called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It goes on.
    Continue,
    /// It waits, or has been answered.
    Stop,
}

/// A configured plugin.
#[derive(Debug)]
pub struct Filter<G> {
    gateway: G,
    engine: Engine,
    /// The gateway takes changes to a response when that comes.
    kept: KeptEdits,
    redis: Redis,
    /// In the order of the engine's metrics.
    statistics: Vec<Statistic>,
    clock: MonotonicClock,
    plugin_id: Option<String>,
}

impl<G: Gateway> Filter<G> {
    /// Reads a configuration. `None`: it cannot be used, and why is logged. The gateway does this at least twice, once
    /// for trial.
    pub fn configure(gateway: G, statistics: &mut Statistics, json: &[u8]) -> Option<Self> {
        let plugin_id = slidegate_engine::config::plugin_id(json);
        let engine = match Engine::configure(json) {
            Ok(engine) => engine,
            Err(mistakes) => {
                let say = |message: &str| say(&gateway, plugin_id.as_deref(), Level::Error, message);
                mistakes
                    .iter()
                    .take(MISTAKES_MAX)
                    .for_each(|mistake| say(&format!("configuration refused: {mistake}")));
                if let more @ 1.. = mistakes.len().saturating_sub(MISTAKES_MAX) {
                    say(&format!("configuration refused: and {more} more mistakes"));
                }
                return None;
            }
        };
        let configuration = engine.configuration();
        let redis = Redis::new(&gateway, &configuration.services);
        gateway.tick_each(TICK_MS);
        let statistics = engine.metrics().iter().map(|metric| statistics.of(&gateway, metric)).collect();
        let mut filter = Filter {
            gateway,
            engine,
            kept: KeptEdits::default(),
            redis,
            statistics,
            clock: MonotonicClock::default(),
            plugin_id,
        };
        filter.engine.configuration().warnings.iter().for_each(|warning| filter.say(Level::Warn, warning));
        let now_ns = filter.now_ns();
        filter.flush(now_ns, None);
        Some(filter)
    }

    /// A request's headers have arrived.
    pub fn on_request(&mut self, stream: u32) -> Flow {
        // Nothing that this plugin does shall make the gateway choose another route.
        self.gateway.set_property("clear_route_cache", b"off");
        // Every plugin's lines of this request carry it, whichever plugin ran first.
        if let Some(id) = self.gateway.request_header("x-request-id").filter(|id| !id.is_empty()) {
            self.gateway.set_property("x_request_id", &id);
        }
        let now_ns = self.now_ns();
        let step = self.engine.on_request(stream.into(), &Request(&self.gateway), now_ns);
        let settled = self.flush(now_ns, Some(stream));
        match (step, settled) {
            (Step::Respond(response), _) | (Step::Wait, Some(Verdict::Respond(response))) => {
                respond(&self.gateway, &response);
                Flow::Stop
            }
            (Step::Wait, None) => Flow::Stop,
            (Step::Pass(pass), _) | (Step::Wait, Some(Verdict::Pass(pass))) => {
                self.edit(stream.into(), pass.edits);
                Flow::Continue
            }
        }
    }

    /// A Redis reply has arrived, or word that there is none. The effective context is the root's.
    pub fn on_redis_reply(&mut self, token: u32, status: u32, size: u32) {
        let now_ns = self.now_ns();
        if let Some((call, reply)) = self.redis.on_reply(&self.gateway, token, status, size, now_ns) {
            self.engine.on_reply(call, reply, now_ns);
        }
        self.flush(now_ns, None);
    }

    /// Some time has passed.
    pub fn on_tick(&mut self) {
        let now_ns = self.now_ns();
        self.engine.tick(now_ns);
        let overdue = self.redis.take_overdue(now_ns);
        self.fail(overdue, CallError::Timeout, now_ns);
        self.tell_metrics();
    }

    /// Another configuration takes this one's place: no reply will find its stream any more.
    pub fn retire(&mut self) {
        let now_ns = self.now_ns();
        let out = self.redis.take_all();
        self.fail(out, CallError::Disconnected, now_ns);
        self.tell_metrics();
        self.statistics.iter_mut().for_each(|statistic| statistic.retire(&self.gateway));
    }

    /// Response headers are on their way to the client, the upstream's or those of an answer in its place, ours too.
    pub fn on_response_headers(&mut self, stream: u32) {
        self.kept.take(stream.into()).iter().for_each(|edit| self.gateway.edit(Headers::Response, edit));
        // Somebody may have answered while the request waited here; a refusal that came now would break the answer off.
        self.engine.on_done(stream.into(), StreamEnd::Answered, self.now_ns());
    }

    /// The stream is over, waiting or not.
    pub fn on_done(&mut self, stream: u32) {
        self.engine.on_done(stream.into(), StreamEnd::Client, self.now_ns());
        self.kept.take(stream.into());
    }

    /// Tells the gateway what was counted since the last time.
    fn tell_metrics(&mut self) {
        for change in self.engine.take_metrics() {
            if let Some(statistic) = self.statistics.get_mut(change.metric) {
                statistic.tell(&self.gateway, &change.value);
            }
        }
    }

    fn now_ns(&self) -> u64 {
        self.clock.monotonic_ns(self.gateway.time_ns())
    }

    fn fail(&mut self, calls: Vec<u64>, error: CallError, now_ns: u64) {
        for call in calls {
            self.engine.on_reply(call, Err(error), now_ns);
        }
        self.flush(now_ns, None);
    }

    /// Changes the request of the effective context, which passes, and keeps what is to be changed in its response.
    fn edit(&mut self, stream: u64, edits: Edits) {
        edits.request.iter().for_each(|edit| self.gateway.edit(Headers::Request, edit));
        self.kept.keep(stream, edits.response);
    }

    /// Carries out what the engine wants after a step. `current` is the stream whose hook this is: what becomes of it
    /// is returned, since a stream that is not paused yet must not be resumed.
    fn flush(&mut self, now_ns: u64, current: Option<u32>) -> Option<Verdict> {
        let mut own = None;
        let context = Context { current, has_left: Cell::new(false) };
        loop {
            match self.engine.poll(&InFlight { gateway: &self.gateway, context: &context }, now_ns) {
                Effect::Call { service, command } => {
                    let call = self.redis.send(&self.gateway, service, &command, now_ns);
                    self.engine.called(call, now_ns);
                    self.engine.recycle(command);
                }
                // Where the gateway's log format finds it: `%FILTER_STATE(wasm.slidegate:PLAIN)%`.
                Effect::Annotate { stream, fields } => {
                    if context.enter(&self.gateway, stream) {
                        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
                        self.gateway.set_property("slidegate", log::escaped(&fields.join(" ")).as_bytes());
                    }
                }
                Effect::Settle { stream, verdict } if current.map(u64::from) == Some(stream) => own = Some(verdict),
                Effect::Settle { stream, verdict } => match (context.enter(&self.gateway, stream), verdict) {
                    (true, Verdict::Pass(pass)) => {
                        self.edit(stream, pass.edits);
                        self.gateway.resume_request();
                    }
                    (true, Verdict::Respond(response)) => respond(&self.gateway, &response),
                    (false, _) => {}
                },
                // Lines carry the id of the request whose hook or reply this is.
                Effect::Log { level, line } => {
                    context.leave(&self.gateway);
                    let level = match level {
                        LogLevel::Info => Level::Info,
                        LogLevel::Warn => Level::Warn,
                    };
                    self.say(level, &line);
                }
                // The gateway ticks.
                Effect::Wait { .. } => break,
            }
        }
        context.leave(&self.gateway);
        for (level, line) in self.redis.take_lines() {
            self.say(level, &line);
        }
        own
    }

    fn say(&self, level: Level, message: &str) {
        say(&self.gateway, self.plugin_id.as_deref(), level, message);
    }
}

/// The effective context, which is that of the hook's own stream until another's is entered.
struct Context {
    current: Option<u32>,
    has_left: Cell<bool>,
}

impl Context {
    /// Makes a stream's context the effective one. False: it is gone.
    fn enter(&self, gateway: &impl Gateway, stream: u64) -> bool {
        let Ok(stream) = u32::try_from(stream) else { return false };
        if self.current == Some(stream) && !self.has_left.get() {
            return true;
        }
        self.has_left.set(true);
        gateway.select(stream)
    }

    /// Back to the hook's own stream.
    fn leave(&self, gateway: &impl Gateway) {
        if let (Some(current), true) = (self.current, self.has_left.get()) {
            gateway.select(current);
            self.has_left.set(false);
        }
    }
}

/// The requests that are in their header phase, waiting or not.
struct InFlight<'a, G> {
    gateway: &'a G,
    context: &'a Context,
}

impl<'a, G: Gateway> Requests for InFlight<'a, G> {
    type View = Request<'a, G>;

    /// Its context is the effective one then.
    fn view(&self, stream: u64) -> Option<Request<'a, G>> {
        self.context.enter(self.gateway, stream).then_some(Request(self.gateway))
    }
}

/// Answers the request of the effective context.
fn respond(gateway: &impl Gateway, response: &Response) {
    let is_grpc = gateway.request_header("content-type").is_some_and(|kind| grpc::is_grpc(&kind));
    gateway.respond(response, is_grpc);
}

fn say(gateway: &impl Gateway, plugin_id: Option<&str>, level: Level, message: &str) {
    let request_id = gateway.property("x_request_id");
    gateway.log(level, &log::line(plugin_id, request_id.as_deref(), message));
}
