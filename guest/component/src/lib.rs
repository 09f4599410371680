//! The engine behind the contract: what a host calls arrives at [`slidegate_engine::Engine`], what the engine wants of
//! the host leaves through the contract's imports. Decides nothing itself.
//!
//! An instance serves one worker and runs on one thread, so its engine is a thread-local.

#![allow(unreachable_pub, reason = "the contract's generated code exports it all")]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

mod contract;
mod convert;
mod explain;

use std::{alloc::System, cell::RefCell, mem::ManuallyDrop};

use contract::{
    exports::slidegate::filter::filter::{
        CallError, CallReply, Change, Coding, ConfigError, Configuration, Ending, Explanation, Guest, Metric, Moment,
        Passing, Reply, ResponseHead, Step, StreamId,
    },
    slidegate::filter::{http, redis, system, types::Header},
};
use slidegate_allocator::FreeLists;
use slidegate_engine::{
    self as engine, Adapter, BodyPiece, Effect, Engine, ResponseView, Verdict, grpc,
    request::{RequestView, Requests},
};

#[global_allocator]
static ALLOCATOR: FreeLists<System> = FreeLists::system();

struct Filter {
    engine: ManuallyDrop<Engine>,
    /// Streams that go on, to be returned as soon as the host calls what returns them.
    passing: Vec<Passing>,
    /// When the host was asked to wake this instance, on the monotonic clock.
    wake_ns: Option<u64>,
}

thread_local! {
    static FILTER: RefCell<Option<Filter>> = const { RefCell::new(None) };
}

struct Component;

/// What a host finds in the module.
mod exports {
    #![expect(unsafe_code, reason = "generated, by the contract's macro")]

    use super::{Component, contract};

    contract::export!(Component with_types_in contract);
}

impl Guest for Component {
    fn configure(json: Vec<u8>, now: Moment) -> Result<Configuration, Vec<ConfigError>> {
        let seed = system::random_bytes(size_of::<u64>() as u32);
        engine::seed(seed.into_iter().fold(0, |seed, byte| seed << 8 | u64::from(byte)));
        let engine = Engine::configure(&json)
            .map_err(|errors| errors.into_iter().map(convert::config_error).collect::<Vec<_>>())?;
        let configuration = convert::configuration(engine.configuration());
        let mut filter = Filter { engine: ManuallyDrop::new(engine), passing: Vec::new(), wake_ns: None };
        filter.flush(None, now);
        if let Some(before) = FILTER.replace(Some(filter)) {
            ManuallyDrop::into_inner(before.engine).discard();
        }
        Ok(configuration)
    }

    fn describe() -> String {
        with_filter(|filter| filter.engine.describe()).unwrap_or_default()
    }

    fn on_request(stream: StreamId, now: Moment) -> Step {
        with_filter_at(now, |filter| {
            let step = filter.engine.on_request(stream, &Request(stream), now.monotonic);
            filter.finish(stream, step, now)
        })
        .unwrap_or_else(passed)
    }

    fn on_request_body(stream: StreamId, bytes: Vec<u8>, coding: Coding, end: bool, now: Moment) -> Step {
        let piece = BodyPiece { bytes: &bytes, coding: convert::coding(coding), end };
        with_filter_at(now, |filter| {
            let step = filter.engine.on_request_body(stream, piece, now.monotonic);
            filter.finish(stream, step, now)
        })
        .unwrap_or_else(passed)
    }

    fn on_redis_replies(replies: Vec<CallReply>, now: Moment) -> Vec<Passing> {
        with_filter_at(now, |filter| {
            if filter.passing.capacity() == 0 {
                filter.passing = Vec::with_capacity(replies.len());
            }
            for CallReply { call, reply } in replies {
                filter.engine.on_reply(call, reply.map(convert::reply).map_err(convert::call_error), now.monotonic);
            }
            filter.flush(None, now);
            std::mem::take(&mut filter.passing)
        })
        .unwrap_or_default()
    }

    fn on_wake(now: Moment) -> Vec<Passing> {
        with_filter_at(now, |filter| {
            filter.wake_ns = None;
            filter.engine.tick(now.monotonic);
            filter.flush(None, now);
            std::mem::take(&mut filter.passing)
        })
        .unwrap_or_default()
    }

    fn on_response_headers(stream: StreamId, head: ResponseHead, now: Moment) -> Step {
        let response = ShownResponse { stream, head: convert::head(head) };
        with_filter_at(now, |filter| {
            let step = filter.engine.on_response_headers(stream, &response, now.monotonic);
            filter.finish(stream, step, now)
        })
        .unwrap_or_else(passed)
    }

    fn on_response_body(stream: StreamId, bytes: Vec<u8>, coding: Coding, end: bool, now: Moment) -> Step {
        let piece = BodyPiece { bytes: &bytes, coding: convert::coding(coding), end };
        with_filter_at(now, |filter| {
            let step = filter.engine.on_response_body(stream, piece, now.monotonic);
            filter.finish(stream, step, now)
        })
        .unwrap_or_else(passed)
    }

    fn on_done(stream: StreamId, ending: Ending, now: Moment) {
        with_filter_at(now, |filter| {
            filter.engine.on_done(stream, convert::ending(ending), now.monotonic);
            filter.flush(None, now);
            filter.wake_for_passing(now);
        });
    }

    fn on_retire(now: Moment) {
        with_filter_at(now, |filter| {
            filter.engine.on_retire(now.monotonic);
            filter.flush(None, now);
        });
    }

    fn metrics() -> Vec<Metric> {
        with_filter(|filter| filter.engine.metrics().iter().map(convert::metric).collect()).unwrap_or_default()
    }

    fn take_metrics() -> Vec<(u32, Change)> {
        let change =
            |change: engine::MetricChange| Some((u32::try_from(change.metric).ok()?, convert::change(change.value)));
        with_filter(|filter| filter.engine.take_metrics().into_iter().filter_map(change).collect()).unwrap_or_default()
    }

    fn explain(stream: StreamId, replies: Vec<Result<Reply, CallError>>, now: Moment) -> Explanation {
        let replies: Vec<_> =
            replies.into_iter().map(|reply| reply.map(convert::reply).map_err(convert::call_error)).collect();
        let explained = with_filter_at(now, |filter| {
            explain::explanation(filter.engine.explain(&Request(stream), &replies, now.monotonic))
        });
        explained.unwrap_or_else(|| Explanation { filters: Vec::new(), questions: Vec::new() })
    }
}

impl Filter {
    /// What becomes of the stream whose hook this is.
    fn finish(&mut self, stream: StreamId, step: engine::Step, now: Moment) -> Step {
        let settled = self.flush(Some(stream), now);
        self.wake_for_passing(now);
        match (step, settled) {
            (engine::Step::Wait, None) => Step::Wait,
            (engine::Step::Pass(pass), _) | (engine::Step::Wait, Some(Verdict::Pass(pass))) => {
                Step::Pass(convert::pass(pass))
            }
            (engine::Step::Respond(response), _) | (engine::Step::Wait, Some(Verdict::Respond(response))) => {
                respond(stream, response);
                Step::Respond
            }
        }
    }

    /// Carries out what the engine wants after a step. Returns what becomes of the stream whose hook this is; others
    /// that go on are kept.
    fn flush(&mut self, own: Option<StreamId>, now: Moment) -> Option<Verdict> {
        let mut hook = Hook { filter: self, own, settled: None };
        let until_ns = hook.drain(now.monotonic);
        let settled = hook.settled;
        self.wake_at(until_ns);
        settled
    }

    /// Asks to be woken at once if streams go on that this export cannot return.
    fn wake_for_passing(&mut self, now: Moment) {
        if !self.passing.is_empty() {
            self.wake_at(Some(now.monotonic));
        }
    }

    /// Asks to be woken, unless that was asked for the same time or an earlier one.
    fn wake_at(&mut self, at_ns: Option<u64>) {
        let Some(at_ns) = at_ns.filter(|at_ns| self.wake_ns.is_none_or(|asked_ns| *at_ns < asked_ns)) else { return };
        system::wake_at(at_ns);
        self.wake_ns = Some(at_ns);
    }
}

/// A hook, and what it leads to.
struct Hook<'f> {
    filter: &'f mut Filter,
    /// The stream that it is about: what becomes of that it returns.
    own: Option<StreamId>,
    settled: Option<Verdict>,
}

impl Adapter for Hook<'_> {
    #[inline]
    fn engine(&mut self) -> &mut Engine {
        &mut self.filter.engine
    }

    #[inline]
    fn poll(&mut self, now_ns: u64) -> Effect {
        self.filter.engine.poll(&InFlight, now_ns)
    }

    #[inline]
    fn call(
        &mut self,
        service: u32,
        command: &mut engine::redis::Command,
        _now_ns: u64,
    ) -> Result<u64, engine::redis::CallError> {
        let sent = convert::command(std::mem::take(command));
        let call = redis::redis_call(service, &sent).map_err(convert::call_error);
        *command = engine::redis::Command::from_parts(sent.bytes, sent.lengths);
        call
    }

    #[inline]
    fn settle(&mut self, stream: StreamId, verdict: Verdict, _now_ns: u64) {
        match verdict {
            verdict if self.own == Some(stream) => self.settled = Some(verdict),
            Verdict::Pass(pass) => self.filter.passing.push(Passing { stream, pass: convert::pass(pass) }),
            Verdict::Respond(response) => respond(stream, response),
        }
    }

    fn annotate(&mut self, stream: StreamId, fields: Vec<(&'static str, String)>) {
        let fields: Vec<_> = fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
        http::annotate(stream, &fields);
    }

    fn random(&mut self, bytes: usize) -> Vec<u8> {
        system::random_bytes(u32::try_from(bytes).unwrap_or_default())
    }

    fn log(&mut self, level: engine::LogLevel, line: String) {
        system::log(convert::level(level), &line);
    }
}

/// What becomes of a stream that no rule says anything of.
fn passed() -> Step {
    Step::Pass(None)
}

/// Answers a stream, in terms that its client understands.
fn respond(stream: StreamId, response: engine::Response) {
    let is_grpc = http::header(stream, "content-type").is_some_and(|kind| grpc::is_grpc(&kind));
    let response = if is_grpc { response.into_grpc() } else { response };
    http::http_response(stream, &convert::response(response));
}

/// Runs `step` on the configured filter; before `configure` there is none, and every stream passes.
fn with_filter<T>(step: impl FnOnce(&mut Filter) -> T) -> Option<T> {
    FILTER.with_borrow_mut(|filter| filter.as_mut().map(step))
}

/// The same in a hook that is told the time: whatever it leads to may say a date.
fn with_filter_at<T>(now: Moment, step: impl FnOnce(&mut Filter) -> T) -> Option<T> {
    with_filter(|filter| {
        filter.engine.set_wall_clock(now.wall);
        step(filter)
    })
}

/// The requests whose phase is not over.
struct InFlight;

impl Requests for InFlight {
    type View = Request;

    fn view(&self, stream: u64) -> Option<Request> {
        Some(Request(stream))
    }
}

/// A stream's request, read through the contract on demand.
struct Request(StreamId);

impl RequestView for Request {
    fn path(&self) -> Vec<u8> {
        http::path(self.0)
    }

    fn authority(&self) -> Option<Vec<u8>> {
        Some(http::authority(self.0)).filter(|authority| !authority.is_empty())
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        match name {
            // Envoy shows these as headers, and rules may name them.
            ":authority" => self.authority(),
            ":path" => Some(self.path()),
            ":method" => Some(http::method(self.0)),
            ":scheme" => Some(http::scheme(self.0).into_bytes()).filter(|scheme| !scheme.is_empty()),
            name => http::header(self.0, name),
        }
    }

    fn headers(&self) -> Option<Vec<(String, Vec<u8>)>> {
        Some(fields(http::headers(self.0)))
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        http::header_values(self.0, name)
    }

    fn source_address(&self) -> Option<String> {
        http::source_address(self.0)
    }

    fn route_name(&self) -> String {
        http::route_name(self.0)
    }

    fn service_name(&self) -> String {
        http::service_name(self.0)
    }

    fn has_body(&self) -> bool {
        http::has_body(self.0)
    }
}

/// A response whose headers have arrived, read through the contract on demand.
struct ShownResponse {
    stream: StreamId,
    head: engine::ResponseHead,
}

impl ResponseView for ShownResponse {
    fn head(&self) -> engine::ResponseHead {
        self.head
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        http::response_header(self.stream, name)
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        let fields = http::response_headers(self.stream);
        fields.into_iter().filter(|field| field.name == name).map(|field| field.value).collect()
    }

    fn headers(&self) -> Option<Vec<(String, Vec<u8>)>> {
        Some(fields(http::response_headers(self.stream)))
    }
}

fn fields(fields: Vec<Header>) -> Vec<(String, Vec<u8>)> {
    fields.into_iter().map(|field| (field.name, field.value)).collect()
}
