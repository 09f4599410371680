//! The connection pool for HTTP/1.1: each connection is for one request at a time, and kept alive for the next.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;

use super::connection::{Connector, Received, Watched};
use super::error::{ClientError, causes};
use super::replay::AttemptBody;
use crate::gateway::headers::FIELDS_MAX;

/// So many connections to one upstream wait for a request at most; each has buffers of some 30 KB. Only a flood leaves
/// more behind.
const WAITING_MAX: usize = 256;

/// All connections of one lane to one upstream that wait for a request.
pub(super) struct KeptConnections {
    connector: Connector,
    idle: Duration,
    age: Duration,
    waiting: Mutex<IdleConnections>,
}

#[derive(Default)]
struct IdleConnections {
    idle: Vec<(UpstreamConnection, Instant)>,
    /// Whether a task looks for those that waited too long.
    is_watched: bool,
}

/// A connection to an upstream.
pub(super) struct UpstreamConnection {
    sender: SendRequest<AttemptBody>,
    received: Received,
    made: Instant,
    driver: AbortHandle,
}

impl KeptConnections {
    /// Connections that wait longer than `idle` are closed, and those older than `age` get no further request.
    pub(super) fn new(connector: Connector, idle: Duration, age: Duration) -> Arc<Self> {
        Arc::new(Self { connector, idle, age, waiting: Mutex::default() })
    }

    /// A connection that waits, the one that was used last.
    pub(super) fn take(&self) -> Option<UpstreamConnection> {
        let mut waiting = self.waiting();
        while let Some((connection, since)) = waiting.idle.pop() {
            if self.is_good(&connection, since) {
                return Some(connection);
            }
        }
        None
    }

    pub(super) async fn connect(&self) -> Result<UpstreamConnection, ClientError> {
        let (stream, received) = self.connector.connect().await?;
        Self::begin(stream, received).await
    }

    /// Takes over a connection that was made to see what the upstream speaks.
    pub(super) async fn adopt(
        self: &Arc<Self>,
        stream: TokioIo<Watched>,
        received: Received,
    ) -> Result<(), ClientError> {
        let mut connection = Self::begin(stream, received).await?;
        // Before its driver has run once it is not known to be ready. With TLS 1.3 the upstream may have ended it by
        // then, since it does not trust this gateway.
        if let Err(error) = connection.sender.ready().await {
            return Err(connection.distrust().unwrap_or_else(|| ClientError::Connect(causes(&error))));
        }
        self.put(connection);
        Ok(())
    }

    async fn begin(stream: TokioIo<Watched>, received: Received) -> Result<UpstreamConnection, ClientError> {
        let handshake = Builder::new().max_headers(FIELDS_MAX).handshake(stream).await;
        let (sender, connection) = handshake.map_err(|error| ClientError::Connect(causes(&error)))?;
        let driver = tokio::spawn(async move {
            // Whoever waits for a response gets the error too.
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(error = causes(&error), "a connection to an upstream ended early");
            }
        });
        Ok(UpstreamConnection { sender, received, made: Instant::now(), driver: driver.abort_handle() })
    }

    /// Keeps a connection, as soon as its response has been read to the end and its request has been sent. `abandoned`
    /// says whether that is no more to be waited for.
    pub(super) fn keep(
        self: &Arc<Self>,
        mut connection: UpstreamConnection,
        abandoned: impl Future<Output = bool> + Send + 'static,
    ) {
        let connections = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::select! {
                ready = connection.sender.ready() => {
                    // Otherwise it was closed, or speaks another protocol now.
                    if ready.is_ok() && let Some(connections) = connections.upgrade() {
                        connections.put(connection);
                    }
                }
                true = abandoned => connection.driver.abort(),
            }
        });
    }

    fn put(self: &Arc<Self>, connection: UpstreamConnection) {
        let mut waiting = self.waiting();
        if waiting.idle.len() == WAITING_MAX {
            // The upstream closes what has waited for longest first, and may have.
            waiting.idle.remove(0);
        }
        waiting.idle.push((connection, Instant::now()));
        if !waiting.is_watched {
            waiting.is_watched = true;
            tokio::spawn(Self::watch(Arc::downgrade(self), self.idle));
        }
    }

    /// Closes connections that waited too long, as long as there are any.
    async fn watch(connections: Weak<Self>, idle: Duration) {
        loop {
            tokio::time::sleep(idle).await;
            let Some(connections) = connections.upgrade() else { return };
            let mut waiting = connections.waiting();
            waiting.idle.retain(|(connection, since)| connections.is_good(connection, *since));
            if waiting.idle.is_empty() {
                waiting.is_watched = false;
                return;
            }
        }
    }

    fn is_good(&self, connection: &UpstreamConnection, since: Instant) -> bool {
        connection.sender.is_ready() && since.elapsed() < self.idle && connection.made.elapsed() < self.age
    }

    fn waiting(&self) -> MutexGuard<'_, IdleConnections> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UpstreamConnection {
    pub(super) async fn send(
        &mut self,
        request: Request<AttemptBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<AttemptBody>>> {
        self.sender.try_send_request(request).await
    }

    /// That the upstream does not trust this gateway, if it has said so.
    pub(super) fn distrust(&self) -> Option<ClientError> {
        self.received.distrust()
    }

    /// How many bytes have come so far.
    pub(super) fn received(&self) -> u64 {
        self.received.bytes()
    }
}
