//! What the filter's commands go through.

use std::pin::Pin;
use std::sync::Arc;

use crate::bindings::exports::slidegate::filter::filter::RedisService;
use crate::bindings::slidegate::filter::redis::{CallError, Command, Reply};

/// The reply to one command, or why there is none.
pub type ReplyFuture = Pin<Box<dyn Future<Output = Result<Reply, CallError>> + Send>>;

/// Gives connections to the Redis services that a configuration names.
pub trait RedisTransport: Send + Sync + 'static {
    /// A connection to one service. Called once per service and worker, inside a Tokio runtime. Does
    /// not wait: the connection is made when it is first needed.
    fn open(&self, service: &RedisService) -> Arc<dyn RedisConnection>;
}

/// The way to one Redis service: one multiplexed connection, or one to each node of a cluster.
pub trait RedisConnection: Send + Sync + 'static {
    /// Sends one command, which has at least a name.
    ///
    /// The command is on its way, or queued behind those before it, when this returns; the future
    /// only waits for the reply. So commands are sent in the order of these calls; in a cluster, those
    /// to one node, and except what a node did not run but sent on to another. Dropping the future
    /// does not take the command back.
    ///
    /// What the future returns is the reply of the server, error replies included, or why there is
    /// none, at the latest after the service's timeout counted from here. A command that may have
    /// been sent is never sent again.
    fn call(&self, command: Command) -> ReplyFuture;
}

impl<T: RedisTransport + ?Sized> RedisTransport for Arc<T> {
    fn open(&self, service: &RedisService) -> Arc<dyn RedisConnection> {
        (**self).open(service)
    }
}
