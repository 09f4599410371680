//! A usable connection: commands go in, in order, and replies come out.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::bindings::slidegate::filter::redis::{CallError, Command, Reply};
use crate::redis::error_code::is_of_another_server;
use crate::redis::pipeline::{AwaitedReply, CallResult, NotSent, Pipeline, ReplyObserver};
use crate::redis::transport::Recipient;

/// After an attempt to connect that failed, the next one begins at the earliest so long after the failed one began.
/// What is called in between fails at once. Short enough that a Redis which is back is found at once, long enough that
/// one which is away is not kept busy with connections.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// Ends its driver when nobody waits for it any more.
pub(super) struct Link {
    pipeline: Pipeline,
    driver: AbortHandle,
    pub(super) generation: u64,
    pub(super) made: Instant,
    /// Replies that came while it was made.
    replies: u64,
    /// Lets no further command be handed to it.
    leave: Box<dyn Fn() + Send + Sync>,
}

/// A command that was handed to the connection.
pub(in crate::redis) struct Sent {
    /// Kept for the driver's sake.
    pub(super) link: Arc<Link>,
    reply: oneshot::Receiver<CallResult>,
}

impl Link {
    pub(super) fn new(
        pipeline: Pipeline,
        driver: AbortHandle,
        generation: u64,
        leave: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        let replies = pipeline.replies();
        Self { pipeline, driver, generation, made: Instant::now(), replies, leave }
    }

    /// Whether any command was ever answered.
    pub(super) fn has_answered(&self) -> bool {
        self.pipeline.replies() > self.replies
    }

    /// Hands a command to the connection before returning, so that order is kept. If it is refused nothing is sent.
    pub(super) fn send(
        self: &Arc<Self>,
        command: &Command,
        asking: bool,
        now: Instant,
        deadline: Instant,
    ) -> Result<Sent, NotSent> {
        let reply = self.pipeline.send(command, asking, now, deadline)?;
        Ok(Sent { link: Arc::clone(self), reply })
    }

    /// The same for an inbox.
    pub(super) fn send_to(
        self: &Arc<Self>,
        command: &Command,
        now: Instant,
        deadline: Instant,
        recipient: Recipient,
    ) -> Result<(), NotSent> {
        let connection: Arc<dyn ReplyObserver> = Arc::<Self>::clone(self);
        self.pipeline.send_for(AwaitedReply::Inbox(recipient, connection), command, false, now, deadline)
    }

    /// Takes no further command, so that the next one goes to whoever has the address by then. A link that is new
    /// already is kept: it led to the same server again.
    fn leave(&self) {
        if self.made.elapsed() >= PAUSE {
            (self.leave)();
        }
    }
}

/// A server that is not what it was when the connection was made is left.
impl ReplyObserver for Link {
    fn answered(&self, outcome: &CallResult) {
        if matches!(outcome, Ok(Reply::Error(text)) if is_of_another_server(text)) {
            self.leave();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Sent {
    /// Waits for the reply, at most until the deadline.
    pub(super) async fn reply(self) -> CallResult {
        let outcome = self.reply.await.unwrap_or(Err(CallError::Disconnected));
        self.link.answered(&outcome);
        outcome
    }
}
