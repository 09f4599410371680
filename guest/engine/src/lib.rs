//! Slidegate's rules and windows: which limits a request meets, what to ask Redis, and what the answer means.
//!
//! The engine is a state machine. Requests, Redis replies and the time go in; commands and outcomes come out. It opens no
//! connection, reads no clock, writes no log and knows neither the WIT contract nor proxy-wasm: the adapters beside it do.
//!
//! An [`Engine`] is a chain of filters, of which there is one kind so far, the limiter. They share the streams that wait, the store of calls to Redis
//! with its circuit breakers, and the telemetry.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice))]

extern crate alloc;

mod chain;
pub mod config;
pub mod explain;
pub mod grpc;
mod header;
mod ip_set;
mod key;
mod limiter;
pub mod local;
mod memory_budget;
mod name;
mod negative_cache;
mod plan;
pub mod redis;
mod regexp;
pub mod request;
pub mod rule;
mod store;
mod streams;
mod telemetry;
pub mod tokens;
mod turn;
mod uses;
mod value_hash;
mod verdict;
pub mod window;

pub use chain::{Configuration, Engine};
pub use store::failure::FailureCause;
pub use telemetry::{BUCKET_BOUNDS_US, Bucket, LogLevel, Metric, MetricChange, MetricKind, MetricValue, is_unprintable};
pub use uses::Uses;
pub use verdict::{Edits, Effect, HeaderEdit, Response, Step, Verdict};
