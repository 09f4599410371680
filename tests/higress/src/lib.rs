//! A gateway of Higress' kind, for plugins: the host side of its proxy-wasm ABI on wasmtime, with real Redis servers
//! behind `proxy_redis_*` and the filter chain of Envoy around it.
//!
//! ```text
//! let gateway = Gateway::new().redis("outbound|6379||redis.dns", &[address]).plugin(Plugin::new("limiter", &module,
//! config)).start()?;
//! let mut worker = gateway.worker()?;
//! let exchange = worker.exchange(&Request::get("example.com", "/"), &Upstream::ok());
//! ```
//!
//! A [`Worker`] does nothing by itself and has no threads but those that read from Redis: a test opens streams, feeds
//! them piece by piece, and lets it deliver what is due, so what happens is what the test says, in that order. That
//! plugins of others run here unmodified (`tests/higress_plugins.rs`) is why one of ours that does can be believed.
//!
//! Not here: TCP filters, gRPC callouts (there is never a cluster for them), the ABI's version 0.1.0, and the foreign
//! functions that compress or evaluate CEL.

pub mod abi;
mod gateway;
mod headers;
mod imports;
mod module;
pub mod puppet;
mod redis;
mod shared;
mod stream;
mod vm;
mod worker;

pub use self::{
    gateway::{FailStrategy, Gateway, HttpMessage, LogLine, Plugin, Responder, Router, StartError},
    headers::Headers,
    module::Module,
    redis::{Broken, Interceptor, Sent},
    shared::Metric,
    stream::{Message, Request, Route, StreamId},
    worker::{Exchange, Upstream, Worker},
};
