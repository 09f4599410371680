//! One multiplexed connection to one Redis, made when needed and made again when lost.
//!
//! The `redis` crate's connections are not used: they do not tell whether a command was sent, hide what
//! the server said to AUTH and SELECT, and cost a task's turn and a write for each command. Here a command
//! is either queued while there is no connection, and then sent once, or handed to a connection, and then
//! never again.

mod link;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::link::{Link, PAUSE, Sent};
use super::backlog::{Backlog, bytes_of};
use super::health::ServiceHealth;
use super::pipeline::{CallResult, NotSent};
use super::sentinel::Sentinels;
use super::server_access::{LinkError, Opened, ServerAccess};
use super::transport::{Recipient, RedisConnection, ReplyFuture};
use crate::bindings::slidegate::filter::redis::{CallError, Command, Reply};

/// One attempt to connect may take nearly as long as a command, and at least so long: it takes several turns to the
/// server and back, and commands that wait for it keep their own deadlines.
const ATTEMPT: Duration = Duration::from_secs(1);

/// Where the server is that a connection goes to.
pub(super) enum ServerChoice {
    /// Always in one place.
    Fixed(ServerAccess),
    /// Where the sentinels say.
    Master(Sentinels),
}

/// A [`RedisConnection`] to one server.
pub(super) struct Connection {
    shared: Arc<SharedConnection>,
}

struct SharedConnection {
    server: ServerChoice,
    health: Arc<ServiceHealth>,
    /// From the call to the reply.
    timeout: Duration,
    runtime: Handle,
    state: Mutex<ConnectionState>,
}

#[derive(Default)]
struct ConnectionState {
    link: LinkState,
    /// Number of links made; the latest has this number.
    generation: u64,
    /// The last attempt to connect, if it failed: when it began, and why.
    failed: Option<(Instant, LinkError)>,
}

#[derive(Default)]
enum LinkState {
    #[default]
    Idle,
    /// Commands queue up behind the attempt, in order.
    Connecting(Backlog<Queued>),
    Ready(Arc<Link>),
}

/// A command that waits for a connection.
struct Queued {
    command: Command,
    /// Whether ASKING goes before it, with nothing between.
    asking: bool,
    deadline: Instant,
    started: oneshot::Sender<Result<Sent, LinkError>>,
}

/// A command on its way to the connection.
pub(super) enum Started {
    Sent(Sent),
    Queued(QueueTicket),
    Failed(LinkError),
}

/// A place in the queue of those that wait for a connection.
pub(super) struct QueueTicket {
    shared: Arc<SharedConnection>,
    started: oneshot::Receiver<Result<Sent, LinkError>>,
}

impl ServerChoice {
    async fn connect(&self, limit: Duration) -> Result<Opened, LinkError> {
        let deadline = Instant::now() + limit;
        let attempt = async {
            match self {
                Self::Fixed(access) => access.connect(deadline).await,
                Self::Master(sentinels) => sentinels.connect(deadline).await,
            }
        };
        let attempt = tokio::time::timeout_at(deadline, attempt).await;
        attempt
            .unwrap_or_else(|_| Err(LinkError::Unreachable(format!("no connection within {} ms", limit.as_millis()))))
    }
}

impl Connection {
    /// Does not connect yet. To be called inside a Tokio runtime.
    pub(super) fn new(server: ServerChoice, health: Arc<ServiceHealth>, timeout: Duration) -> Self {
        Self::new_on(Handle::current(), server, health, timeout)
    }

    /// Does not connect yet.
    pub(super) fn new_on(runtime: Handle, server: ServerChoice, health: Arc<ServiceHealth>, timeout: Duration) -> Self {
        let shared = SharedConnection { server, health, timeout, runtime, state: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Sends a command, or queues it, before returning. With `asking` ASKING goes before it.
    pub(super) fn start(&self, command: &Command, asking: bool, deadline: Instant) -> Started {
        self.shared.start(command, asking, Instant::now(), deadline)
    }
}

impl RedisConnection for Connection {
    fn call(&self, command: Command) -> ReplyFuture {
        let now = Instant::now();
        let deadline = now + self.shared.timeout;
        let started = self.shared.start(&command, false, now, deadline);
        match started {
            Started::Sent(sent) => Box::pin(sent.reply()),
            started => Box::pin(started.outcome(deadline)),
        }
    }

    fn call_to(&self, command: Command, recipient: Recipient) -> Option<ReplyFuture> {
        let now = Instant::now();
        let deadline = now + self.shared.timeout;
        let sent = match &self.shared.lock().link {
            LinkState::Ready(link) => link.send_to(&command, now, deadline, recipient).is_ok(),
            LinkState::Idle | LinkState::Connecting(_) => false,
        };
        (!sent).then(|| self.call(command))
    }
}

impl Started {
    /// Waits for the connection, if it is still being made, and then for the reply. An error of the kind `connect`
    /// means that the command was not sent and will not be.
    pub(super) async fn outcome(self, deadline: Instant) -> CallResult {
        match self.sent(deadline).await {
            Ok(sent) => sent.reply().await,
            Err(outcome) => outcome,
        }
    }

    async fn sent(self, deadline: Instant) -> Result<Sent, CallResult> {
        let sent = match self {
            Self::Sent(sent) => Ok(sent),
            Self::Failed(error) => Err(error),
            Self::Queued(mut turn) => match tokio::time::timeout_at(deadline, &mut turn.started).await {
                Ok(Ok(sent)) => sent,
                Ok(Err(_)) => return Err(Err(CallError::Connect)),
                Err(_) => turn.leave().ok_or(Err(CallError::Connect))?,
            },
        };
        sent.map_err(LinkError::into_outcome)
    }
}

impl QueueTicket {
    /// Takes the command out of the queue. If it was sent meanwhile this is what became of it.
    fn leave(mut self) -> Option<Result<Sent, LinkError>> {
        // Whoever sends it and tells so has this lock for both.
        let _state = self.shared.lock();
        self.started.close();
        self.started.try_recv().ok()
    }
}

impl LinkError {
    /// What becomes of a command that was to be sent.
    pub(super) fn into_outcome(self) -> CallResult {
        match self {
            Self::Refused(text) => Ok(Reply::Error(text)),
            Self::Unreachable(_) => Err(CallError::Connect),
        }
    }
}

impl SharedConnection {
    fn lock(&self) -> MutexGuard<'_, ConnectionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(self: &Arc<Self>, command: &Command, asking: bool, now: Instant, deadline: Instant) -> Started {
        let mut state = self.lock();
        let state = &mut *state;
        if let LinkState::Ready(link) = &state.link {
            match link.send(command, asking, now, deadline) {
                Ok(sent) => return Started::Sent(sent),
                Err(full @ NotSent::Full) => return Started::Failed(full.into()),
                Err(NotSent::Ended) => {}
            }
        }
        let (started, queued) = oneshot::channel();
        let queue = |command: &Command| Queued { command: command.clone(), asking, deadline, started };
        let has_left = |queued: &Queued| queued.started.is_closed();
        match &mut state.link {
            LinkState::Connecting(waiting) => {
                if !waiting.push(bytes_of(command), queue(command), has_left) {
                    return Started::Failed(NotSent::Full.into());
                }
            }
            // Idle, or a link that takes no further command. Those on their way still wait for their replies.
            unusable => {
                if let Some((_, error)) =
                    state.failed.as_ref().filter(|(began, _)| now.saturating_duration_since(*began) < PAUSE)
                {
                    return Started::Failed(error.clone());
                }
                let mut waiting = Backlog::default();
                waiting.push(bytes_of(command), queue(command), has_left);
                *unusable = LinkState::Connecting(waiting);
                self.runtime.spawn(Arc::clone(self).connect());
            }
        }
        Started::Queued(QueueTicket { shared: Arc::clone(self), started: queued })
    }

    async fn connect(self: Arc<Self>) {
        let began = Instant::now();
        // Those that wait for it learn why it failed, if they wait so long.
        let limit = (self.timeout - self.timeout / 10).max(ATTEMPT);
        let attempt = self.server.connect(limit).await;
        let mut state = self.lock();
        state.failed = attempt.as_ref().err().map(|error| (began, error.clone()));
        self.health.reached(attempt.as_ref().err());
        let queue = match std::mem::take(&mut state.link) {
            LinkState::Connecting(queue) => queue,
            other => {
                state.link = other;
                return;
            }
        };
        // Whoever stopped waiting was told that the command was not sent, or is about to be.
        let now = Instant::now();
        let queue = queue.into_items().filter(|queued| !queued.started.is_closed() && queued.deadline > now);
        match attempt {
            Ok(opened) => {
                let link = self.link(&mut state, opened);
                for Queued { command, asking, deadline, started } in queue {
                    let _ = started.send(link.send(&command, asking, now, deadline).map_err(LinkError::from));
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

    /// Makes a link of an open connection, and sees to it that its end is noticed.
    fn link(self: &Arc<Self>, state: &mut ConnectionState, opened: Opened) -> Arc<Link> {
        state.generation += 1;
        let generation = state.generation;
        let Opened { pipeline, driver, .. } = opened;
        let shared = Arc::downgrade(self);
        let driver = self.runtime.spawn(async move {
            driver.await;
            if let Some(shared) = shared.upgrade() {
                shared.lost(generation);
            }
        });
        let shared = Arc::downgrade(self);
        let leave = move || {
            if let Some(shared) = shared.upgrade() {
                shared.lost(generation);
            }
        };
        Arc::new(Link::new(pipeline, driver.abort_handle(), generation, Box::new(leave)))
    }

    /// The connection of this number has ended, or is not to be used any more. Commands on their way still wait for
    /// their replies.
    fn lost(&self, generation: u64) {
        let mut state = self.lock();
        let LinkState::Ready(link) = &state.link else { return };
        if link.generation != generation {
            return;
        }
        // One that never answered is an attempt that failed.
        if !link.has_answered() {
            state.failed =
                Some((link.made, LinkError::Unreachable("the connection was lost before any answer".to_owned())));
        }
        state.link = LinkState::Idle;
    }
}
