//! The engine in front of an upstream, for hosts that run HTTP services of the standard world `wasi:http` (0.3): what
//! they call arrives at [`slidegate_engine::Engine`], what that wants of Redis goes out by their sockets, and what
//! passes goes to the upstream. Decides nothing itself.
//!
//! A host calls one instance with many requests at a time, and may have several instances, and let any of them go: so
//! what is counted is counted in Redis. It tells less of a request than a gateway does, and a configuration that needs
//! more is refused ([`unshown`]).

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)
)]

pub mod places;
pub mod reply_frame;
pub mod settings;
pub mod unshown;
pub mod upstream_url;

#[cfg(target_family = "wasm")]
mod answers;
#[cfg(target_family = "wasm")]
mod bodies;
#[cfg(target_family = "wasm")]
mod exchange;
#[cfg(target_family = "wasm")]
mod gate;
#[cfg(target_family = "wasm")]
mod heads;
#[cfg(target_family = "wasm")]
mod redis_world;
#[cfg(target_family = "wasm")]
mod service;
#[cfg(target_family = "wasm")]
mod sockets;
