//! Redis for the filter: one command, one reply, at most once.
//!
//! A [`RedisTransport`] opens a [`RedisConnection`] for each service that a configuration names.
//! [`RedisDirectory`] is the one that talks to Redis; a test may put its own in front of it.

mod access;
mod announced;
mod backlog;
mod cluster;
mod connection;
mod dial;
mod directory;
mod error_code;
mod health;
mod pipeline;
mod printable;
mod reply;
mod sentinel;
mod server;
mod server_access;
mod transport;
mod url;
mod watch;

pub use self::access::RedisAccess;
pub use self::directory::RedisDirectory;
pub use self::health::{RedisState, RedisStatus};
pub use self::reply::REPLY_BYTES_MAX;
pub use self::server::RedisServer;
pub(crate) use self::transport::ReplyInbox;
pub use self::transport::{Recipient, RedisConnection, RedisTransport, ReplyFuture};
pub use self::watch::RedisWatch;
