//! One configuration of the plugin: its engine, and what is between that and the gateway.

mod context;
#[cfg(test)]
mod tests;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use slidegate_engine::{
    Adapter, BodyChange, Effect, Engine, HeaderEdit, Interest, LogLevel, Pass, Response, Step, StreamEnd, Verdict,
    grpc,
    redis::{CallError, Command},
};

use self::context::{Context, InFlight};
use crate::{
    ai_log::{self, RefusalCounts},
    clock::MonotonicClock,
    following::{Following, GatewayResponse},
    gateway::{Gateway, Level, Side},
    kept::KeptEdits,
    log,
    redis::Redis,
    request::Request,
    statistics::{Statistic, Statistics},
};

/// More mistakes of a configuration are counted, not logged.
const MISTAKES_MAX: usize = 20;

/// The details of a refusal for tokens.
const TOKENS_REFUSED: &str = "ai-token-ratelimit.rejected";

/// How often metrics are told, and calls are looked at that may have been forgotten.
const TICK_MS: u32 = 1_000;
const TICK_NS: u64 = TICK_MS as u64 * 1_000_000;

/// How often the gateway ticks while something is due sooner.
const HURRIED_TICK_MS: u32 = 50;

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
    refusals: Rc<RefCell<RefusalCounts>>,
    clock: MonotonicClock,
    plugin_id: Option<String>,
    following: Following,
    /// When metrics are told next.
    tell_ns: u64,
    /// Something is due before the next tick would come.
    is_due_soon: bool,
    /// The gateway ticks more often.
    is_hurrying: bool,
}

impl<G: Gateway> Filter<G> {
    /// Reads a configuration. `None`: it cannot be used, and why is logged. The gateway does this at least twice, once
    /// for trial.
    pub fn configure(gateway: G, statistics: &mut Statistics, json: &[u8]) -> Option<Self> {
        // The time too, for a gateway that gives no random bytes: when it loaded the module, clients are not told.
        let seed = gateway.random(size_of::<u64>());
        slidegate_engine::seed(
            seed.into_iter().fold(gateway.time_ns(), |seed, byte| seed.rotate_left(8) ^ u64::from(byte)),
        );
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
        let refusals = Rc::clone(&statistics.refusals);
        let statistics = engine.metrics().iter().map(|metric| statistics.of(&gateway, metric)).collect();
        let mut filter = Filter {
            gateway,
            engine,
            kept: KeptEdits::default(),
            redis,
            statistics,
            refusals,
            clock: MonotonicClock::default(),
            plugin_id,
            following: Following::default(),
            tell_ns: 0,
            is_due_soon: false,
            is_hurrying: false,
        };
        filter.engine.configuration().warnings.iter().for_each(|warning| filter.say(Level::Warn, warning));
        let now_ns = filter.now_ns();
        filter.flush(now_ns, None);
        Some(filter)
    }

    /// A request's headers have arrived. `end`: they are all of it.
    pub fn on_request(&mut self, stream: u32, end: bool) -> Flow {
        // Nothing that this plugin does shall make the gateway choose another route.
        self.gateway.set_property("clear_route_cache", b"off");
        // Every plugin's lines of this request carry it, whichever plugin ran first.
        if let Some(id) = self.gateway.request_header("x-request-id").filter(|id| !id.is_empty()) {
            self.gateway.set_property("x_request_id", &id);
        }
        let now_ns = self.now_ns();
        let uses = &self.engine.configuration().uses;
        if uses.request_body || uses.all_headers {
            self.following.begin(stream.into()).is_bodiless = end;
        }
        let request = Request { gateway: &self.gateway, has_body: !end };
        let step = self.engine.on_request(stream.into(), &request, now_ns);
        let flow = self.finish(stream, Side::Request, step, now_ns);
        match self.show_bodiless(stream.into(), now_ns).filter(|_| flow == Flow::Continue) {
            Some(step) => self.finish(stream, Side::Request, step, now_ns),
            None => flow,
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
        if now_ns >= self.tell_ns {
            self.tell_ns = now_ns + TICK_NS;
            self.tell_metrics();
        }
        self.tick_in_time(self.is_due_soon);
    }

    /// Another configuration takes this one's place: no reply will find its stream any more.
    pub fn retire(&mut self) {
        let now_ns = self.now_ns();
        // Of what is asked from here on, no answer is needed.
        let out = self.redis.take_all();
        self.engine.on_retire(now_ns);
        self.flush(now_ns, None);
        self.fail(out, CallError::Disconnected, now_ns);
        self.tell_metrics();
        self.statistics.iter_mut().for_each(|statistic| statistic.retire(&self.gateway));
    }

    /// Lets it go with all it knows.
    pub fn discard(self) {
        self.engine.discard();
    }

    /// Response headers are on their way to the client, the upstream's or those of an answer in its place, ours too.
    /// `end`: the response has no body.
    pub fn on_response_headers(&mut self, stream: u32, end: bool) -> Flow {
        let id = stream.into();
        let edits = self.kept.take(id);
        edits.iter().for_each(|edit| self.gateway.edit(Side::Response, edit));
        if !self.engine.knows(id) {
            return Flow::Continue;
        }
        let now_ns = self.now_ns();
        let response = GatewayResponse::new(&self.gateway, end);
        self.following.begin(id).respond(&response, edits);
        // Somebody may have answered while the request waited here; a refusal that came now would break the answer off.
        let step = self.engine.on_response_headers(id, &response, now_ns);
        self.finish(stream, Side::Response, step, now_ns)
    }

    /// The gateway shows so much of a body.
    pub fn on_body(&mut self, stream: u32, side: Side, size: usize, end: bool) -> Flow {
        let id = stream.into();
        let Some(exchange) = self.following.get(id) else { return Flow::Continue };
        if end && side == Side::Response {
            exchange.end();
        }
        if side == Side::Response && exchange.put_replacement(&self.gateway) {
            return Flow::Continue;
        }
        if exchange.interest(side) == Interest::None {
            exchange.release(&self.gateway, side, &BodyChange::Keep);
            return Flow::Continue;
        }
        let bytes = exchange.new_piece(&self.gateway, side, size);
        exchange.keep(side, size);
        let piece = exchange.piece(side, &bytes, end);
        let wall_ns = self.gateway.time_ns();
        self.engine.set_wall_clock(wall_ns);
        let now_ns = self.clock.monotonic_ns(wall_ns);
        let step = match side {
            Side::Request => self.engine.on_request_body(id, piece, now_ns),
            Side::Response => self.engine.on_response_body(id, piece, now_ns),
        };
        self.finish(stream, side, step, now_ns)
    }

    /// Trailers end a body, or there is none before them.
    pub fn on_trailers(&mut self, stream: u32, side: Side) -> Flow {
        let kept = self.following.get(stream.into()).map_or(0, |exchange| exchange.kept(side));
        self.on_body(stream, side, kept, true)
    }

    /// The stream is over, waiting or not.
    pub fn on_done(&mut self, stream: u32) {
        let id = stream.into();
        self.kept.take(id);
        let exchange = self.following.forget(id);
        if !self.engine.knows(id) {
            return;
        }
        let ending = exchange.map_or(StreamEnd::Client, |exchange| exchange.ending(&self.gateway));
        let now_ns = self.now_ns();
        self.engine.on_done(id, ending, now_ns);
        self.flush(now_ns, Some(stream));
    }

    /// Tells the gateway what was counted since the last time.
    fn tell_metrics(&mut self) {
        for change in self.engine.take_metrics() {
            if let Some(statistic) = self.statistics.get_mut(change.metric) {
                statistic.tell(&self.gateway, &change.value);
            }
        }
    }

    fn now_ns(&mut self) -> u64 {
        let wall_ns = self.gateway.time_ns();
        self.engine.set_wall_clock(wall_ns);
        self.clock.monotonic_ns(wall_ns)
    }

    fn fail(&mut self, calls: Vec<u64>, error: CallError, now_ns: u64) {
        for call in calls {
            self.engine.on_reply(call, Err(error), now_ns);
        }
        self.flush(now_ns, None);
    }

    /// What becomes of the stream that a hook was called for.
    fn finish(&mut self, stream: u32, side: Side, step: Step, now_ns: u64) -> Flow {
        let settled = self.flush(now_ns, Some(stream));
        match (step, settled) {
            (Step::Wait, None) => Flow::Stop,
            (Step::Wait, Some(verdict)) => self.act(stream.into(), side, verdict),
            (Step::Pass(pass), _) => self.act(stream.into(), side, Verdict::Pass(pass)),
            (Step::Respond(response), _) => self.act(stream.into(), side, Verdict::Respond(response)),
        }
    }

    /// Does to the stream of the effective context what was decided.
    fn act(&mut self, stream: u64, side: Side, verdict: Verdict) -> Flow {
        let Pass { edits, body, wants } = match verdict {
            Verdict::Respond(response) => {
                let response = match (side, self.following.forget(stream)) {
                    (Side::Response, Some(exchange)) => match exchange.answer(&self.gateway, response) {
                        Ok(replaced) => {
                            *self.following.begin(stream) = replaced;
                            return Flow::Continue;
                        }
                        Err(response) => response,
                    },
                    _ => response,
                };
                respond(&self.gateway, &response);
                if response.details == TOKENS_REFUSED {
                    ai_log::tell(&self.gateway, &mut self.refusals.borrow_mut());
                }
                return Flow::Stop;
            }
            Verdict::Pass(pass) => pass,
        };
        match side {
            Side::Request => {
                edits.request.iter().for_each(|edit| self.gateway.edit(Side::Request, edit));
                if wants.response_body != Interest::None {
                    // The gateway shows bodies as they are on their way.
                    self.gateway.edit(Side::Request, &HeaderEdit::Set("accept-encoding".into(), b"identity".into()));
                }
                self.kept.keep(stream, edits.response);
            }
            Side::Response => edits.response.iter().for_each(|edit| self.gateway.edit(Side::Response, edit)),
        }
        self.following.go_on(&self.gateway, stream, side, &body, wants);
        Flow::Continue
    }

    /// Shows the engine that a request has no body, if it holds that until it has seen it: the gateway does not.
    fn show_bodiless(&mut self, stream: u64, now_ns: u64) -> Option<Step> {
        let exchange = self.following.get(stream)?;
        if !exchange.is_bodiless || exchange.interest(Side::Request) != Interest::Hold {
            return None;
        }
        exchange.is_bodiless = false;
        Some(self.engine.on_request_body(stream, exchange.piece(Side::Request, b"", true), now_ns))
    }

    /// Carries out what the engine wants after a step. `current` is the stream whose hook this is: what becomes of it
    /// is returned, since a stream that is not paused yet must not be resumed.
    fn flush(&mut self, now_ns: u64, current: Option<u32>) -> Option<Verdict> {
        let context = Context { current, has_left: Cell::new(false) };
        let mut flush = Flush { filter: self, context, own: None };
        let until_ns = flush.drain(now_ns);
        let Flush { context, own, .. } = flush;
        self.is_due_soon = until_ns.is_some_and(|until_ns| until_ns < now_ns + TICK_NS);
        self.tick_in_time(self.is_due_soon || self.is_hurrying);
        context.leave(&self.gateway);
        for (level, line) in self.redis.take_lines() {
            self.say(level, &line);
        }
        own
    }

    /// A stream that waited, that of the effective context, is settled.
    fn settle(&mut self, stream: u64, verdict: Verdict, now_ns: u64) {
        let has_response = self.following.get(stream).is_some_and(|exchange| exchange.has_response);
        let side = if has_response { Side::Response } else { Side::Request };
        if self.act(stream, side, verdict) == Flow::Stop {
            return;
        }
        let flow = match self.show_bodiless(stream, now_ns) {
            Some(Step::Pass(pass)) => self.act(stream, side, Verdict::Pass(pass)),
            Some(Step::Respond(response)) => self.act(stream, side, Verdict::Respond(response)),
            Some(Step::Wait) => Flow::Stop,
            None => Flow::Continue,
        };
        if flow == Flow::Continue {
            self.gateway.resume(side);
        }
    }

    /// Sees to it that the gateway ticks as often as is needed.
    fn tick_in_time(&mut self, is_hurried: bool) {
        if self.is_hurrying != is_hurried {
            self.is_hurrying = is_hurried;
            self.gateway.tick_each(if is_hurried { HURRIED_TICK_MS } else { TICK_MS });
        }
    }

    fn say(&self, level: Level, message: &str) {
        say(&self.gateway, self.plugin_id.as_deref(), level, message);
    }
}

/// What the engine wants after a step is being done.
struct Flush<'f, G> {
    filter: &'f mut Filter<G>,
    context: Context,
    /// How the stream was settled whose hook this is: one that is not paused yet must not be resumed.
    own: Option<Verdict>,
}

impl<G: Gateway> Adapter for Flush<'_, G> {
    fn engine(&mut self) -> &mut Engine {
        &mut self.filter.engine
    }

    fn poll(&mut self, now_ns: u64) -> Effect {
        let Filter { gateway, following, engine, .. } = &mut *self.filter;
        engine.poll(&InFlight { gateway, context: &self.context, following }, now_ns)
    }

    fn call(&mut self, service: u32, command: &mut Command, now_ns: u64) -> Result<u64, CallError> {
        let Filter { gateway, redis, .. } = &mut *self.filter;
        redis.send(gateway, service, command, now_ns)
    }

    fn settle(&mut self, stream: u64, verdict: Verdict, now_ns: u64) {
        if self.context.current.map(u64::from) == Some(stream) {
            self.own = Some(verdict);
        } else if self.context.enter(&self.filter.gateway, stream) {
            self.filter.settle(stream, verdict, now_ns);
        }
    }

    /// Where the gateway's log format finds it: `%FILTER_STATE(wasm.slidegate:PLAIN)%`.
    fn annotate(&mut self, stream: u64, fields: Vec<(&'static str, String)>) {
        if self.context.enter(&self.filter.gateway, stream) {
            let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
            self.filter.gateway.set_property("slidegate", log::escaped(&fields.join(" ")).as_bytes());
        }
    }

    fn random(&mut self, bytes: usize) -> Vec<u8> {
        self.filter.gateway.random(bytes)
    }

    /// Lines carry the id of the request whose hook or reply this is.
    fn log(&mut self, level: LogLevel, line: String) {
        self.context.leave(&self.filter.gateway);
        let level = match level {
            LogLevel::Info => Level::Info,
            LogLevel::Warn => Level::Warn,
        };
        self.filter.say(level, &line);
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
