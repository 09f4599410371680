//! What the tests of Slidegate stand on: real servers to run against, clients that speak byte by byte, hosts for cases.
//!
//! Nothing here is shipped. The tests themselves are the `*.rs` files beside `src/`, their cases the files in `cases/`. Those that need nothing but
//! the engine are in `engine/`, the gateway for Higress' plugins is in `higress/`.

pub mod dist;
pub mod fault_proxy;
pub mod footprint;
pub mod gateway_process;
pub mod http2_client;
pub mod http_client;
pub mod metrics;
pub mod plugin_resource;
pub mod plugins;
pub mod raw_upstream;
pub mod redis_certificates;
pub mod redis_cluster;
pub mod redis_sentinels;
pub mod redis_server;
pub mod redis_traffic;
pub mod redis_windows;
pub mod runner;
pub mod script_clock;
pub mod steady_load;
pub mod upstream;

pub use slidegate_engine_tests::{case, conformance, documented, fuzzing, one_request, oracle, promises, trace};
