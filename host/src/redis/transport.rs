//! What the filter's commands go through.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use crate::bindings::exports::slidegate::filter::filter::RedisService;
use crate::bindings::slidegate::filter::redis::{CallError, CallReply, Command, Reply};
use crate::bindings::slidegate::filter::types::CallId;

/// The reply to one command, or why there is none.
pub type ReplyFuture = Pin<Box<dyn Future<Output = Result<Reply, CallError>> + Send>>;

/// Gives connections to the Redis services that a configuration names.
pub trait RedisTransport: Send + Sync + 'static {
    /// A connection to one service. Called once per service and worker, inside a Tokio runtime. Does
    /// not wait: the connection is made when it is first needed.
    fn open(&self, service: &RedisService) -> Arc<dyn RedisConnection>;
}

/// The way to one Redis service: one multiplexed connection, or one to each node of a cluster.
///
/// ```
/// use slidegate::{CallError, Command, RedisConnection, ReplyFuture};
///
/// /// One for a host without a Redis: the filter does what its `failure_mode` says.
/// struct Nowhere;
///
/// impl RedisConnection for Nowhere {
///     fn call(&self, command: Command) -> ReplyFuture {
///         let name = command.words().next().unwrap_or_default();
///         eprintln!("{} is not sent", String::from_utf8_lossy(name));
///         Box::pin(std::future::ready(Err(CallError::Connect)))
///     }
/// }
/// # let _ = Nowhere.call(["GET", "key"].into_iter().collect());
/// ```
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

    /// The same for who has an inbox: the reply is put there, which costs less than a future of its own, or there is a
    /// future after all, and the inbox hears nothing.
    fn call_to(&self, command: Command, _recipient: Recipient) -> Option<ReplyFuture> {
        Some(self.call(command))
    }
}

/// Where replies are put as they come.
pub(crate) trait ReplyInbox: Send + Sync {
    /// The reply to a call that an instance made while so many of its worker had trapped.
    fn put(&self, generation: u64, reply: CallReply);
}

/// Whom the reply to one call is for. Who has it without returning a future is to put a reply, in any case and in time.
pub struct Recipient {
    inbox: Arc<dyn ReplyInbox>,
    generation: u64,
    call: CallId,
}

impl Recipient {
    pub(crate) fn new(inbox: Arc<dyn ReplyInbox>, generation: u64, call: CallId) -> Self {
        Self { inbox, generation, call }
    }

    /// Puts the reply, or why there is none, into the inbox.
    pub fn put(self, reply: Result<Reply, CallError>) {
        self.inbox.put(self.generation, CallReply { call: self.call, reply });
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recipient").field("call", &self.call).finish_non_exhaustive()
    }
}

impl<T: RedisTransport + ?Sized> RedisTransport for Arc<T> {
    fn open(&self, service: &RedisService) -> Arc<dyn RedisConnection> {
        (**self).open(service)
    }
}
