//! A usable connection: commands go in, in order, and replies come out.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::pipeline::{Outcome, Pipeline, Refusal};
use crate::bindings::slidegate::filter::redis::CallError;

/// Ends its driver when nobody waits for it any more.
pub(super) struct Link {
    pipeline: Pipeline,
    driver: AbortHandle,
    pub(super) generation: u64,
    pub(super) made: Instant,
    /// Replies that came while it was made.
    replies: u64,
}

/// A command that was handed to the connection.
pub(in crate::redis) struct Sent {
    /// Kept for the driver's sake.
    pub(super) link: Arc<Link>,
    reply: oneshot::Receiver<Outcome>,
}

impl Link {
    pub(super) fn new(pipeline: Pipeline, driver: AbortHandle, generation: u64) -> Self {
        let replies = pipeline.replies();
        Self { pipeline, driver, generation, made: Instant::now(), replies }
    }

    /// Whether any command was ever answered.
    pub(super) fn has_answered(&self) -> bool {
        self.pipeline.replies() > self.replies
    }

    /// Hands a command to the connection before returning, so that order is kept. If it is refused nothing is sent.
    pub(super) fn send(self: &Arc<Self>, command: &[Vec<u8>], asking: bool, now: Instant, deadline: Instant) -> Result<Sent, Refusal> {
        let reply = self.pipeline.send(command, asking, now, deadline)?;
        Ok(Sent { link: Arc::clone(self), reply })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Sent {
    /// Waits for the reply, at most until the deadline.
    pub(super) async fn reply(self) -> Outcome {
        let outcome = self.reply.await.unwrap_or(Err(CallError::Disconnected));
        drop(self.link);
        outcome
    }
}
