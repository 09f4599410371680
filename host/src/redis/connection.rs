//! One multiplexed connection to one Redis, made when needed and made again when lost.
//!
//! The `redis` crate's own reconnecting wrapper is not used: it does not tell whether a command was
//! sent, and hides what the server said to AUTH and SELECT. Here a command is either queued while
//! there is no connection, and then sent once, or handed to a connection, and then never again.

mod link;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

pub(super) use self::link::Target;
use self::link::{Link, LinkError, Sent};
use super::{RedisConnection, ReplyFuture, reply};
use crate::bindings::exports::slidegate::filter::filter::RedisService;
use crate::bindings::slidegate::filter::redis::{CallError, Reply};

/// A [`RedisConnection`] by the `redis` crate.
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
        let started = self.shared.start(command);
        let deadline = Instant::now() + self.shared.timeout;
        Box::pin(wait(Arc::clone(&self.shared), started, deadline))
    }
}

/// Waits for the connection, if it is still being made, and then for the reply.
async fn wait(shared: Arc<Shared>, started: Started, deadline: Instant) -> Result<Reply, CallError> {
    let sent = match started {
        Started::Sent(sent) => sent,
        Started::Queued(queued) => match tokio::time::timeout_at(deadline, queued).await {
            Ok(Ok(Ok(sent))) => sent,
            Ok(Ok(Err(LinkError::Refused(text)))) => return Ok(Reply::Error(text)),
            // Not sent: dropping the receiver takes the command out of the queue.
            Ok(Ok(Err(LinkError::Unreachable(_))) | Err(_)) | Err(_) => return Err(CallError::Connect),
        },
    };
    let Sent { link, at, reply } = sent;
    match tokio::time::timeout_at(deadline, reply).await {
        Ok(outcome) => {
            link.heard();
            if outcome.is_err() {
                shared.give_up(&link);
            }
            reply::convert(outcome)
        }
        Err(_) => {
            // Replies come in order: if nothing came since this was sent, nothing may ever come.
            if !link.heard_since(at) {
                shared.give_up(&link);
            }
            Err(CallError::Timeout)
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(self: &Arc<Self>, command: Vec<Vec<u8>>) -> Started {
        let mut state = self.lock();
        if let LinkState::Ready(link) = &state.link {
            return Started::Sent(link.send(&command));
        }
        let (started, queued) = oneshot::channel();
        let command = Queued { command, started };
        match &mut state.link {
            LinkState::Connecting(queue) => queue.push(command),
            idle => {
                *idle = LinkState::Connecting(vec![command]);
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
                for Queued { command, started } in queue {
                    let _ = started.send(Ok(link.send(&command)));
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

    /// No further commands for this link. Those on their way still wait for their replies.
    fn give_up(&self, link: &Link) {
        self.lost(link.generation);
    }
}
