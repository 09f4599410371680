//! What the tests of Slidegate stand on: real servers to run against, and plain models to compare with.
//!
//! Nothing here is shipped. The tests themselves are the `*.rs` files beside `src/`, their cases the files in `cases/`.

pub mod case;
pub mod dist;
pub mod documented;
pub mod fault_proxy;
pub mod footprint;
pub mod fuzzing;
pub mod gateway_process;
pub mod http2_client;
pub mod http_client;
pub mod metrics;
pub mod one_request;
pub mod oracle;
pub mod plugin_resource;
pub mod plugins;
pub mod promises;
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
pub mod trace;
pub mod upstream;
