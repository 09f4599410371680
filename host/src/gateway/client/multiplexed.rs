//! HTTP/2 connections, one for all requests to an upstream.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::http::uri::Authority;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::OnceCell;

use super::connection::{Connector, Received};
use super::error::{ClientError, causes};
use super::replay::AttemptBody;
use crate::gateway::headers::HEADERS_SIZE_MAX;

/// How often an upstream that sends nothing while requests wait is asked whether it still lives.
const PING: Duration = Duration::from_secs(30);

/// What an upstream may send of one response before its client has taken it. Fixed, since windows that follow the upstream's speed grow to
/// 16 MiB for each client that takes nothing.
const STREAM_WINDOW: u32 = 64 << 10;

/// What it may send in all of them. When clients that take nothing have used that up, no other response on the connection goes on: here it
/// takes 2,048 of them. Half of it is also what h2 allows for the overhead of small pieces that wait, some 400 bytes each, before it ends
/// the connection.
const CONNECTION_WINDOW: u32 = 128 << 20;

/// Requests that come while a connection is being made wait for it together, and share its failure.
type Slot = Arc<OnceCell<Result<Multiplexed, ClientError>>>;

/// The connections of one lane.
pub(super) struct MultiplexedConnections {
    connector: Connector,
    age: Duration,
    slots: Mutex<HashMap<Authority, Slot>>,
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
    /// Connections older than `age` get no further request.
    pub(super) fn new(connector: Connector, age: Duration) -> Arc<Self> {
        Arc::new(Self { connector, age, slots: Mutex::default() })
    }

    /// A connection, and whether it was there before.
    pub(super) async fn get(&self, authority: &Authority) -> Result<(Multiplexed, bool), ClientError> {
        let slot = self.slot(authority);
        let is_kept = slot.initialized();
        let made = slot.get_or_init(|| self.connect(authority)).await;
        made.clone().map(|connection| (connection, is_kept))
    }

    /// The upstream's slot, emptied if what is in it is of no use any more.
    fn slot(&self, authority: &Authority) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.entry(authority.clone()).or_default();
        if slot.get().is_some_and(|made| !made.as_ref().is_ok_and(|connection| self.is_good(connection))) {
            *slot = Slot::default();
        }
        Arc::clone(slot)
    }

    async fn connect(&self, authority: &Authority) -> Result<Multiplexed, ClientError> {
        let (stream, received) = self.connector.connect(authority).await?;
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
        Ok(Multiplexed { sender, received, made: Instant::now(), is_retired: Arc::default() })
    }

    fn is_good(&self, connection: &Multiplexed) -> bool {
        !connection.is_retired.load(Ordering::Relaxed) && connection.sender.is_ready() && connection.made.elapsed() < self.age
    }
}

impl Multiplexed {
    pub(super) async fn send(&self, request: Request<AttemptBody>) -> Result<Response<Incoming>, TrySendError<Request<AttemptBody>>> {
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
