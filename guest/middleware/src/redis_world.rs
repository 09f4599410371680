//! Redis, as whatever world this component is in lets it reach one.

use slidegate_engine::redis::{CallError, Reply, Service};

/// Where commands for Redis go, each at most once.
pub(crate) trait RedisWorld {
    /// Sends a command, spelt in RESP, and brings its reply, or word that there is none, in the service's time.
    async fn run(&self, service: &Service, command: Vec<u8>) -> Result<Reply, CallError>;
}
