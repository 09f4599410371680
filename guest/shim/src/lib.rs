//! The engine behind Higress' proxy-wasm interface: what the gateway calls arrives at [`slidegate_engine::Engine`],
//! what the engine wants of the gateway leaves through host calls. Decides nothing itself.
//!
//! The exports are those of the crate `proxy-wasm`, that which allocates for the gateway among them, and so is the
//! dispatch by context. Host calls are declared here ([`gateway`], and `envoy` for WebAssembly): that crate lacks Redis
//! and the details of a local reply, and its wrappers panic on header values that are not UTF-8 and on statuses they do
//! not expect. A panic would fail the whole virtual machine, and in a Redis callback leave the request that waits
//! unanswered.
//!
//! A virtual machine may carry several root contexts, one for each configuration. Each has a [`filter::Filter`] of its
//! own.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)
)]

pub mod ai_log;
pub mod clock;
#[cfg(target_arch = "wasm32")]
mod contexts;
#[cfg(target_arch = "wasm32")]
mod envoy;
pub mod filter;
pub mod following;
pub mod gateway;
pub mod header_map;
pub mod kept;
pub mod log;
pub mod redis;
pub mod request;
pub mod statistics;
