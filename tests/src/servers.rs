//! Servers of a test's own, each a real one: gateways, Redis in all its forms, upstreams, and a proxy that spoils a
//! connection.

pub mod asking_proxies;
pub mod background_server;
pub mod certificates;
pub mod fault_proxy;
pub mod gateway_process;
pub mod model;
pub mod nginx;
pub mod program;
pub mod raw_upstream;
pub mod redis_cluster;
pub mod redis_sentinels;
pub mod redis_server;
pub mod upstream;
