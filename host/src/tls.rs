//! TLS, for all that this package secures: connections to Redis and to upstreams, and those that a listener accepts.
//! Certificates, keys, roots and versions are read here, from PEM; what is wrong with them is told by the part it
//! stands in, and never shows what a key holds.
//!
//! Who connects makes a [`ClientTls`], who accepts a [`ServerTls`]. TLS 1.2 and 1.3 are spoken.

mod certificate;
mod client;
mod error;
mod pinned;
mod roots;
mod server;
mod version;

pub use self::certificate::{Certificate, are_no_authorities, authorities_out_of_time};
pub use self::client::{ClientOptions, ClientTls};
pub use self::error::HandshakeFailure;
pub use self::server::{ServerOptions, ServerTls};
pub use self::version::MinVersion;

/// HTTP/2, as the two sides of a connection may agree on it (RFC 7301).
pub const ALPN_HTTP2: &[u8] = b"h2";

/// HTTP/1.1, as the two sides of a connection may agree on it.
pub const ALPN_HTTP1: &[u8] = b"http/1.1";
