//! What the tests of Slidegate stand on: real servers to run against, clients that speak byte by byte, hosts for cases.
//!
//! Nothing here is shipped. The tests themselves are the `*.rs` files beside `src/`, their cases the files in `cases/`.
//! Those that need nothing but the engine are in `engine/`, the gateway for Higress' plugins is in `higress/`.
#![forbid(unsafe_code)]

mod artifacts;
mod clients;
mod readings;
pub mod runner;
mod servers;

pub use artifacts::{dist, plugin_resource, plugins};
pub use clients::{
    grpc_client, http_client, http2_client, protobuf, redis_traffic, redis_windows, script_clock, session_browser,
    steady_load, tls_client,
};
pub use readings::{footprint, metrics};
pub use servers::{
    asking_proxies, background_server, certificates, fault_proxy, gateway_process, model, nginx, program, raw_upstream,
    redis_cluster, redis_sentinels, redis_server, upstream,
};
pub use slidegate_engine_tests::{
    case, conformance, documented, fuzzing, one_request, oracle, plain_request, promises, sessions, settlements, trace,
};
