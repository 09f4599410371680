//! Slidegate's rules and windows: which limits a request meets, what to ask Redis, and what the answer means.
//!
//! The engine is a state machine. Requests, Redis replies and the time go in; commands and outcomes come out. It opens
//! no connection, reads no clock, writes no log and knows neither the WIT contract nor proxy-wasm: the adapters beside
//! it do.
//!
//! An [`Engine`] is a chain of filters of four kinds: limiters, those that read or keep sessions and tell what follows
//! who asks, vaults for cookies, and caches of responses. They share the streams that wait, the store of calls to Redis
//! with its circuit breakers, and the telemetry.
//!
//! ```
//! use slidegate_engine::request::{RequestView, Requests};
//! use slidegate_engine::{Effect, StreamEnd, Engine, Step};
//!
//! /// A request of which only an API key is known.
//! #[derive(Clone)]
//! struct OfKey(&'static str);
//!
//! impl RequestView for OfKey {
//!     fn path(&self) -> Vec<u8> { b"/".to_vec() }
//!     fn authority(&self) -> Option<Vec<u8>> { None }
//!     fn header(&self, name: &str) -> Option<Vec<u8>> { (name == "x-api-key").then(|| self.0.into()) }
//!     fn header_values(&self, name: &str) -> Vec<Vec<u8>> { self.header(name).into_iter().collect() }
//!     fn source_address(&self) -> Option<String> { None }
//!     fn route_name(&self) -> String { String::new() }
//!     fn service_name(&self) -> String { String::new() }
//! }
//!
//! /// Every stream here is of one request.
//! impl Requests for OfKey {
//!     type View = Self;
//!     fn view(&self, _stream: u64) -> Option<Self> { Some(self.clone()) }
//! }
//!
//! let rule = r#"{"limit_by_per_header": "x-api-key", "limit_keys": [{"key": "*", "query_per_minute": 1}]}"#;
//! let document = format!(r#"{{"rule_name": "orders", "rule_items": [{rule}]}}"#);
//! let mut engine = Engine::configure(document.as_bytes()).unwrap();
//! let alice = OfKey("alice");
//! assert!(matches!(engine.on_request(1, &alice, 0), Step::Pass(_)));
//! assert!(matches!(engine.on_request(2, &alice, 1_000), Step::Respond(response) if response.status == 429));
//! // What else is to be done: commands for Redis to be sent, streams that waited, lines for a log. Here it is nothing
//! // more than a line, if any.
//! while !matches!(engine.poll(&alice, 2_000), Effect::Wait { .. }) {}
//! for stream in [1, 2] {
//!     engine.on_done(stream, StreamEnd::Whole, 3_000);
//! }
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)
)]

extern crate alloc;

mod adapter;
mod base64;
mod body;
mod byte_search;
pub mod cache;
mod cache_filter;
mod chain;
pub mod config;
mod cookie_vault;
mod edited;
pub mod explain;
mod filter_kind;
pub mod grpc;
mod header;
mod ip_set;
mod json_answer;
mod key;
mod limiter;
pub mod local;
mod memory_budget;
mod name;
mod numbers;
mod plan;
mod random_pool;
pub mod redis;
mod regexp;
pub mod request;
pub mod rule;
pub mod session;
mod session_filter;
mod sorted;
mod store;
mod streams;
mod telemetry;
pub mod tokens;
mod turn;
mod uses;
mod value_hash;
mod vault_rules;
mod verdict;
mod wants;
pub mod window;

pub use adapter::Adapter;
pub use body::{BodyChange, BodyCoding, BodyPiece, Interest, Splice};
pub use chain::{Configuration, Engine};
pub use name::seed;
pub use store::failure::FailureCause;
pub use telemetry::{
    BUCKET_BOUNDS_US, Bucket, LogLevel, Metric, MetricChange, MetricKind, MetricValue, is_unprintable,
};
pub use uses::Uses;
pub use verdict::{Edits, Effect, HeaderEdit, Pass, Response, Step, Verdict};
pub use wants::{ResponseHead, ResponseOrigin, ResponseView, StreamEnd, Wants};
