//! One multiplexed connection to one Redis, made when needed and made again when lost.
//!
//! The `redis` crate's connections are not used: they do not tell whether a command was sent, hide what
//! the server said to AUTH and SELECT, and cost a task's turn and a write for each command. Here a command
//! is either queued while there is no connection, and then sent once, or handed to a connection, and then
//! never again.

mod link;
mod pipeline;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

pub(super) use self::link::Target;
use self::link::{Link, LinkError, Sent};
use super::{RedisConnection, ReplyFuture};
use crate::bindings::exports::slidegate::filter::filter::RedisService;
use crate::bindings::slidegate::filter::redis::{CallError, Reply};

/// A [`RedisConnection`] to one server.
pub(super) struct Connection {
    shared: Arc<Shared>,
}

struct Shared {
    target: Target,
    /// As the configuration calls it, for the log.
    name: String,
    /// From the call to the reply; also how long one attempt to connect may take.
    timeout: Duration,
    runtime: Handle,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    link: LinkState,
    /// Number of links made; the latest has this number.
    generation: u64,
    /// Whether the last attempt to connect failed, so that the log tells changes only.
    failing: bool,
}

#[derive(Default)]
enum LinkState {
    #[default]
    Idle,
    /// Commands queue up behind the attempt, in order.
    Connecting(Vec<Queued>),
    Ready(Arc<Link>),
}

/// A command that waits for a connection.
struct Queued {
    command: Vec<Vec<u8>>,
    deadline: Instant,
    started: oneshot::Sender<Result<Sent, LinkError>>,
}

/// A command on its way to the connection.
enum Started {
    Sent(Sent),
    Queued(oneshot::Receiver<Result<Sent, LinkError>>),
}

impl Connection {
    pub(super) fn new(target: Target, service: &RedisService) -> Self {
        let shared = Shared {
            target,
            name: format!("{}:{}", service.service_name, service.port),
            timeout: Duration::from_millis(u64::from(service.timeout_ms)),
            runtime: Handle::current(),
            state: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl RedisConnection for Connection {
    fn call(&self, command: Vec<Vec<u8>>) -> ReplyFuture {
        let now = Instant::now();
        let deadline = now + self.shared.timeout;
        match self.shared.start(command, now, deadline) {
            Started::Sent(sent) => Box::pin(sent.reply()),
            Started::Queued(queued) => Box::pin(wait(queued, deadline)),
        }
    }
}

/// Waits for the connection that is being made, and then for the reply.
async fn wait(queued: oneshot::Receiver<Result<Sent, LinkError>>, deadline: Instant) -> Result<Reply, CallError> {
    match tokio::time::timeout_at(deadline, queued).await {
        Ok(Ok(Ok(sent))) => sent.reply().await,
        Ok(Ok(Err(LinkError::Refused(text)))) => Ok(Reply::Error(text)),
        // Not sent: dropping the receiver takes the command out of the queue.
        Ok(Ok(Err(LinkError::Unreachable(_))) | Err(_)) | Err(_) => Err(CallError::Connect),
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(self: &Arc<Self>, command: Vec<Vec<u8>>, now: Instant, deadline: Instant) -> Started {
        let mut state = self.lock();
        if let LinkState::Ready(link) = &state.link
            && let Some(sent) = link.send(&command, now, deadline)
        {
            return Started::Sent(sent);
        }
        let (started, queued) = oneshot::channel();
        let command = Queued { command, deadline, started };
        match &mut state.link {
            LinkState::Connecting(queue) => queue.push(command),
            // Idle, or a link that takes no further command. Those on their way still wait for their replies.
            unusable => {
                *unusable = LinkState::Connecting(vec![command]);
                self.runtime.spawn(Arc::clone(self).connect());
            }
        }
        Started::Queued(queued)
    }

    async fn connect(self: Arc<Self>) {
        let attempt = tokio::time::timeout(self.timeout, self.target.connect()).await;
        let attempt =
            attempt.unwrap_or_else(|_| Err(LinkError::Unreachable(format!("no connection within {} ms", self.timeout.as_millis()))));
        let mut state = self.lock();
        self.report(&mut state, attempt.as_ref().err());
        let queue = match std::mem::take(&mut state.link) {
            LinkState::Connecting(queue) => queue,
            other => {
                state.link = other;
                return;
            }
        };
        // Whoever stopped waiting was told that the command was not sent.
        let queue = queue.into_iter().filter(|queued| !queued.started.is_closed());
        match attempt {
            Ok((connection, driver)) => {
                state.generation += 1;
                let generation = state.generation;
                let shared = Arc::downgrade(&self);
                let driver = self.runtime.spawn(async move {
                    driver.await;
                    if let Some(shared) = shared.upgrade() {
                        shared.lost(generation);
                    }
                });
                let link = Arc::new(Link::new(connection, driver.abort_handle(), generation));
                for Queued { command, deadline, started } in queue {
                    let sent = link.send(&command, Instant::now(), deadline);
                    let _ = started.send(sent.ok_or_else(|| LinkError::Unreachable("connection lost at once".to_owned())));
                }
                state.link = LinkState::Ready(link);
            }
            Err(error) => {
                for Queued { started, .. } in queue {
                    let _ = started.send(Err(error.clone()));
                }
            }
        }
    }

    /// One line when connections begin to fail, and one when they succeed again.
    fn report(&self, state: &mut State, error: Option<&LinkError>) {
        let Self { name, target, .. } = self;
        match (error, state.failing) {
            (Some(error), false) => tracing::warn!("no connection to Redis {name} at {}: {error}", target.address),
            (None, true) => tracing::info!("connected to Redis {name} at {} again", target.address),
            _ => {}
        }
        state.failing = error.is_some();
    }

    /// The connection of this number has ended.
    fn lost(&self, generation: u64) {
        let mut state = self.lock();
        if matches!(&state.link, LinkState::Ready(link) if link.generation == generation) {
            state.link = LinkState::Idle;
        }
    }
}
