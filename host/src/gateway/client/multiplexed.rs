//! HTTP/2 connections, one for all requests to an upstream.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::OnceCell;

use super::connection::{Connector, Received};
use super::error::{ClientError, causes};
use super::kept::KeptConnections;
use super::replay::AttemptBody;
use crate::gateway::headers::HEADERS_SIZE_MAX;

/// How often an upstream that sends nothing while requests wait is asked whether it still lives.
const PING: Duration = Duration::from_secs(30);

/// What an upstream may send of one response before its client has taken it. Fixed, since windows that follow the
/// upstream's speed grow to 16 MiB for each client that takes nothing.
const STREAM_WINDOW: u32 = 64 << 10;

/// What it may send in all of them. When clients that take nothing have used that up, no other response on the
/// connection goes on: here it takes 2,048 of them. Half of it is also what h2 allows for the overhead of small pieces
/// that wait, some 400 bytes each, before it ends the connection.
const CONNECTION_WINDOW: u32 = 128 << 20;

/// Requests that come while a connection is being made wait for it together, and share its failure. None if the
/// upstream chose HTTP/1.1.
type Slot = Arc<OnceCell<Result<Option<Multiplexed>, ClientError>>>;

/// The connection of one lane to one upstream, made anew when it is of no use any more.
pub(super) struct MultiplexedConnections {
    connector: Connector,
    age: Duration,
    slot: Mutex<Slot>,
    /// Where connections go that are not HTTP/2, where the upstream may choose.
    http1: Option<Arc<KeptConnections>>,
}

/// A connection. Clones are the same one; it ends when the last of them is dropped and its responses have been read.
#[derive(Clone)]
pub(super) struct Multiplexed {
    sender: SendRequest<AttemptBody>,
    received: Received,
    made: Instant,
    is_retired: Arc<AtomicBool>,
}

impl MultiplexedConnections {
    /// Connections older than `age` get no further request. With `http1` the upstream chooses what it speaks.
    pub(super) fn new(connector: Connector, age: Duration, http1: Option<Arc<KeptConnections>>) -> Self {
        Self { connector, age, slot: Mutex::default(), http1 }
    }

    /// A connection, and whether it was there before; none if the upstream chose HTTP/1.1.
    pub(super) async fn get(&self) -> Result<Option<(Multiplexed, bool)>, ClientError> {
        let slot = self.slot();
        let is_kept = slot.initialized();
        let made = slot.get_or_init(|| self.connect()).await.clone()?;
        Ok(made.map(|connection| (connection, is_kept)))
    }

    /// The slot, emptied if what is in it is of no use any more.
    fn slot(&self) -> Slot {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let is_useful = |made: &Result<Option<Multiplexed>, ClientError>| matches!(made, Ok(Some(connection)) if self.is_good(connection));
        if slot.get().is_some_and(|made| !is_useful(made)) {
            *slot = Slot::default();
        }
        Arc::clone(&slot)
    }

    async fn connect(&self) -> Result<Option<Multiplexed>, ClientError> {
        let (stream, received) = self.connector.connect().await?;
        if let Some(http1) = self.http1.as_ref().filter(|_| !stream.inner().is_http2()) {
            http1.adopt(stream, received).await?;
            return Ok(None);
        }
        let handshake = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADERS_SIZE_MAX)
            .handshake(stream)
            .await;
        let (sender, connection) = handshake.map_err(|error| ClientError::Connect(causes(&error)))?;
        tokio::spawn(async move {
            // Whoever waits for a response gets the error too.
            if let Err(error) = connection.await {
                tracing::debug!(error = causes(&error), "a connection to an upstream ended early");
            }
        });
        Ok(Some(Multiplexed { sender, received, made: Instant::now(), is_retired: Arc::default() }))
    }

    fn is_good(&self, connection: &Multiplexed) -> bool {
        !connection.is_retired.load(Ordering::Relaxed)
            && connection.sender.is_ready()
            && connection.made.elapsed() < self.age
    }
}

impl Multiplexed {
    pub(super) async fn send(
        &self,
        request: Request<AttemptBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<AttemptBody>>> {
        self.sender.clone().try_send_request(request).await
    }

    /// How many bytes have come so far.
    pub(super) fn received(&self) -> u64 {
        self.received.bytes()
    }

    /// No further request goes this way; those in flight go on.
    pub(super) fn retire(&self) {
        self.is_retired.store(true, Ordering::Relaxed);
    }
}
