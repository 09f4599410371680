//! Hosts the Slidegate filter, a WebAssembly component that decides whether a request is within its
//! limits, in wasmtime: gives it Redis, a view of the request, a clock, logs and metrics. It opens no
//! listening socket, parses no HTTP, and knows nothing of rules, windows or configuration fields;
//! those are the component's. (The gateway in the same package is one user of this library; what its demo stands in
//! front of is [`stand_in_model`].)
//!
//! # Embedding
//!
//! Three layers; take the highest that fits.
//!
//! **[`Worker`]**, for Tokio: the filter and its Redis connections as one thing.
//!
//! ```
//! use std::sync::Arc;
//! use slidegate::{HttpRequest, Module, Verdict, Worker, WorkerOptions};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let module = Module::embedded()?;
//! let config = br#"{"rule_name": "demo", "global_threshold": {"query_per_second": 5}}"#;
//! let worker = Worker::start(&module, config, WorkerOptions::default())?;
//!
//! let request: http::Request<()> = http::Request::get("http://shop.example/orders").body(())?;
//! let stream = worker.open(Arc::new(HttpRequest::from(&request)));
//! match stream.on_request().await {
//!     Verdict::Pass(edits) => { /* apply the edits to the request's headers, forward it */ }
//!     Verdict::Respond(response) => { /* send this instead */ }
//! }
//! // ... `stream.on_response_headers` for whatever response comes, bodies as far as
//! // `stream.wants()` them, and at last:
//! drop(stream);
//! # Ok(()) }
//! ```
//!
//! A complete program is `examples/embed.rs`.
//!
//! **[`Instance`]**, for any other way of doing I/O: one instance, synchronous. You deliver requests
//! and replies and bring the clock; it returns Redis commands to send and streams that are settled.
//! Nothing in it blocks, and no call takes longer than its limit.
//!
//! ```
//! # use std::sync::Arc;
//! # use slidegate::{Call, CallError, HttpRequest, Reply};
//! # fn send_to_redis(_: &Call) -> Result<Reply, CallError> { Err(CallError::Connect) }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let request = Arc::new(HttpRequest::new(Default::default(), Default::default(), Default::default()));
//! use slidegate::{CallReply, Ending, Instance, Module, Moment, Step};
//!
//! let at = |monotonic| Moment { monotonic, wall: 0 };
//! let mut instance = Instance::new(&Module::embedded()?)?;
//! let configuration = instance.configure(br#"{"rule_name": "demo", "global_threshold": {"query_per_second": 5},
//! "redis": {"service_name": "limits"}}"#, at(0))?;
//! let stream = 1;
//! if let Step::Wait = instance.on_request(stream, request, at(0))? {
//!     for call in instance.take_calls() {
//!         let reply = CallReply { call: call.id, reply: send_to_redis(&call) };
//!         instance.on_redis_replies(vec![reply], at(1_000))?;
//!     }
//!     for (stream, outcome) in instance.take_outcomes() { /* act on it */ }
//! }
//! if instance.next_wake().is_some_and(|at| at <= 2_000) {
//!     instance.on_wake(at(2_000))?;
//! }
//! instance.on_done(stream, Ending::Whole, at(2_000))?;
//! # Ok(()) }
//! ```
//!
//! **[`Ctx`], [`View`] and [`add_to_linker`]**, for a wasmtime store of your own: the imports alone,
//! and in [`bindings`] the types and calls that wasmtime generates from the WIT package
//! `slidegate:filter`.
//!
//! # What a host promises the filter
//!
//! - Redis commands of one worker are sent at most once each, and each is answered once, at the latest after the
//!   service's timeout. What would do something to a shared connection is refused.
//! - A stream's id is not given to another stream while it is in use, nor, by a [`Worker`], later.
//! - The monotonic clock never runs backwards.
//! - The filter is woken when it asked for that; before its worker is let go, it may send what it still has to.
//! - Bodies are shown as they are on their way, compressed ones too.
//!
//! # What the filter cannot do to its host
//!
//! It has no access to files, network or environment; only the imports of the
//! contract. Memory is bounded ([`InstanceLimits`]), and so are the time of a call, the size of what
//! it hands over, and the number of its metrics. If it traps, a [`Worker`] answers the streams that
//! were undecided as the configuration wants, and makes a new instance.
//!
//! # Logs and metrics
//!
//! Log lines go to `tracing`: the component's with the target `slidegate::filter`. Metrics go to the recorder installed
//! for the `metrics` crate; install yours before starting a worker, because handles are resolved when the component
//! defines its metrics, and not again. They are fetched from it each second, when the worker ends, and by
//! [`Worker::fetch_metrics`]; of a histogram, the mean of each of its buckets is recorded as often as there were
//! values; a recorder with buckets gets their bounds by [`histogram_bounds`].

mod command;
mod component;
mod edit;
mod ids;
mod imports;
mod instance;
mod metrics;
mod option_error;
mod redis;
mod request;
mod state;
mod tuning;
mod worker;

pub mod bindings;
pub mod stand_in_model;
pub mod tls;

pub use bindings::exports::slidegate::filter::filter::{
    ConfigError, Configuration, HeaderNames, OnTrap, Parts, RedisService, Uses,
};
pub use bindings::slidegate::filter::explanation::{
    Explanation, FilterMet, LimitMet, LimitState, Question, RuleMet, RuleOutcome, Verdict as ExplainedVerdict,
};
pub use bindings::slidegate::filter::metrics::{Bucket, Change, Kind, Metric};
pub use bindings::slidegate::filter::redis::{CallError, CallReply, Command, Reply, Value};
pub use bindings::slidegate::filter::types::{
    BodyChange, CallId, Coding, Ending, Header, HeaderEdit, Interest, Moment, MonotonicNs, Origin, Pass, Response,
    ResponseHead, Splice, StreamId, Wants,
};
pub use component::{EMBEDDED_COMPONENT, Module, ModuleError};
pub use edit::apply_edits;
pub use imports::{
    Call, Ctx, HEADER_BYTES_MAX, HEADERS_MAX, Outcome, Phase, RESPONSE_BODY_BYTES_MAX, View, add_to_linker,
};
pub use instance::{ConfigureError, Instance, InstanceLimits, Piece, Step, Trap};
pub use metrics::histogram_bounds;
pub use option_error::OptionError;
pub use redis::{
    REPLY_BYTES_MAX, Recipient, RedisAccess, RedisConnection, RedisDirectory, RedisServer, RedisState, RedisStatus,
    RedisTransport, RedisWatch, ReplyFuture,
};
pub use request::{HttpRequest, Request};
pub use worker::{
    BODY_BYTES_MAX, BodySide, BodyStep, Clock, HELD_BYTES_MAX, Released, StartError, Stream, Verdict, WeakWorker,
    Worker, WorkerOptions, held_bytes,
};
