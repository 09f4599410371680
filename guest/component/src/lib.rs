//! The engine behind the contract: what a host calls arrives at [`slidegate_engine::Engine`], what the engine wants of the
//! host leaves through the contract's imports. Decides nothing itself.
//!
//! An instance serves one worker and runs on one thread, so its engine is a thread-local.

#![allow(unreachable_pub, reason = "the contract's generated code exports it all")]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

mod contract;
mod convert;

use std::cell::RefCell;

use contract::{
    exports::slidegate::filter::filter::{Action, CallError, CallId, ConfigError, Configuration, Guest, MonotonicNs, Reply, StreamId},
    slidegate::filter::{http, redis, telemetry},
};
use slidegate_engine::{
    Edits, Effect, Engine, HeaderEdit, MetricEvent, Step, Verdict, grpc,
    kept::KeptEdits,
    request::{RequestView, Requests},
};

struct Filter {
    engine: Engine,
    /// The contract takes changes to a response when that comes.
    kept: KeptEdits,
    /// The host's ids for the engine's metrics, in the engine's order.
    metrics: Vec<telemetry::MetricId>,
}

thread_local! {
    static FILTER: RefCell<Option<Filter>> = const { RefCell::new(None) };
}

struct Component;

contract::export!(Component with_types_in contract);

impl Guest for Component {
    fn configure(json: Vec<u8>) -> Result<Configuration, Vec<ConfigError>> {
        let engine = Engine::configure(&json).map_err(|errors| errors.into_iter().map(convert::config_error).collect::<Vec<_>>())?;
        let metrics = engine.metrics().iter().map(define_metric).collect();
        let configuration = convert::configuration(engine.configuration());
        FILTER.with_borrow_mut(|filter| *filter = Some(Filter { engine, kept: KeptEdits::default(), metrics }));
        Ok(configuration)
    }

    fn describe() -> String {
        with_filter(|filter| filter.engine.describe()).unwrap_or_default()
    }

    fn on_request(stream: StreamId, now: MonotonicNs) -> Action {
        with_filter(|filter| {
            let step = filter.engine.on_request(stream, &Request(stream), now);
            filter.flush(now);
            match step {
                Step::Pass(edits) => {
                    let request = filter.keep(stream, edits);
                    if !request.is_empty() {
                        http::http_continue(stream, &convert::edits(request));
                    }
                    Action::Pass
                }
                Step::Wait => Action::Pending,
                Step::Respond(response) => {
                    respond(stream, response);
                    Action::Respond
                }
            }
        })
        .unwrap_or(Action::Pass)
    }

    fn on_request_body(_stream: StreamId, _chunk: Vec<u8>, _end: bool, _now: MonotonicNs) -> Action {
        Action::Pass
    }

    fn on_redis_reply(call: CallId, reply: Result<Reply, CallError>, now: MonotonicNs) {
        with_filter(|filter| {
            filter.engine.on_reply(call, reply.map(convert::reply).map_err(convert::call_error), now);
            filter.flush(now);
        });
    }

    fn on_response_headers(stream: StreamId, _status: u16, _now: MonotonicNs) -> Action {
        with_filter(|filter| {
            let edits = filter.kept.take(stream);
            if !edits.is_empty() {
                http::http_continue(stream, &convert::edits(edits));
            }
        });
        Action::Pass
    }

    fn on_response_body(_stream: StreamId, _chunk: Vec<u8>, _end: bool, _now: MonotonicNs) -> Action {
        Action::Pass
    }

    fn on_done(stream: StreamId, _now: MonotonicNs) {
        with_filter(|filter| {
            filter.engine.on_done(stream);
            filter.kept.take(stream);
        });
    }
}

impl Filter {
    /// Keeps what is to be changed in a stream's response; returns what is to be changed in its request.
    fn keep(&mut self, stream: StreamId, Edits { request, response }: Edits) -> Vec<HeaderEdit> {
        self.kept.keep(stream, response);
        request
    }

    /// Carries out what the engine wants after a step.
    fn flush(&mut self, now: MonotonicNs) {
        loop {
            match self.engine.poll(&InFlight, now) {
                Effect::Call { service, command } => {
                    let call = redis::redis_call(service, &command).map_err(convert::call_error);
                    self.engine.called(call, now);
                }
                Effect::Annotate { stream, fields } => {
                    let fields: Vec<_> = fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
                    http::annotate(stream, &fields);
                }
                Effect::Settle { stream, verdict: Verdict::Pass(edits) } => {
                    let request = self.keep(stream, edits);
                    http::http_continue(stream, &convert::edits(request));
                }
                Effect::Settle { stream, verdict: Verdict::Respond(response) } => respond(stream, response),
                Effect::Record(MetricEvent { metric, value }) => {
                    if let Some(&metric) = self.metrics.get(metric) {
                        telemetry::record_metric(metric, value);
                    }
                }
                Effect::Log { level, line } => telemetry::log(convert::level(level), &line),
                // The contract has no clock that wakes: the next step looks at the time.
                Effect::Wait { .. } => return,
            }
        }
    }
}

/// Answers a stream, in terms that its client understands.
fn respond(stream: StreamId, response: slidegate_engine::Response) {
    let is_grpc = http::header(stream, "content-type").is_some_and(|kind| grpc::is_grpc(&kind));
    let response = if is_grpc { response.into_grpc() } else { response };
    http::http_response(stream, &convert::response(response));
}

/// Runs `step` on the configured filter; before `configure` there is none, and every stream passes.
fn with_filter<T>(step: impl FnOnce(&mut Filter) -> T) -> Option<T> {
    FILTER.with_borrow_mut(|filter| filter.as_mut().map(step))
}

fn define_metric(metric: &slidegate_engine::Metric) -> telemetry::MetricId {
    let labels: Vec<_> = metric.labels.iter().map(|(name, value)| ((*name).to_string(), value.clone())).collect();
    telemetry::define_metric(convert::metric_kind(metric.kind), metric.name, metric.help, &labels)
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
            name => http::header(self.0, name),
        }
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
}
