//! Clients that ask as a test needs it: byte by byte, at a steady pace, or as the engine would.

pub mod grpc_client;
pub mod http2_client;
pub mod http_client;
pub mod protobuf;
pub mod redis_traffic;
pub mod redis_windows;
pub mod script_clock;
pub mod session_browser;
pub mod steady_load;
pub mod tls_client;
