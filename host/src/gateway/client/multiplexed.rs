//! HTTP/2 connections: one for all requests of a lane to an upstream, and more while its streams are taken.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{Notify, OnceCell};
use tokio::time::sleep;

use super::connection::{Connector, Received};
use super::error::{ClientError, causes, client_error};
use super::kept::KeptConnections;
use super::replay::AttemptBody;
use crate::gateway::headers::HEADERS_SIZE_MAX;
use crate::gateway::streams::{ConnectionStreams, OpenStream};

/// How often an upstream that sends nothing while requests wait is asked whether it still lives.
const PING: Duration = Duration::from_secs(30);

/// What an upstream may send of one response before its client has taken it. Fixed, since windows that follow the
/// upstream's speed grow to 16 MiB for each client that takes nothing.
const STREAM_WINDOW: u32 = 64 << 10;

/// What it may send in all of them. Half of it is also what h2 allows for the overhead of small pieces that wait, some
/// 400 bytes each, before it ends the connection.
const CONNECTION_WINDOW: u32 = 128 << 20;

/// So many requests at a time on one connection at most, though the upstream may allow more: when that many clients
/// take nothing, its window is used up.
const STREAMS_MAX: usize = (CONNECTION_WINDOW / STREAM_WINDOW) as usize;

/// So many connections of one lane take new requests at a time. nginx allows 128 requests on each. Those that the
/// upstream ends are not counted, lest a few slow requests on each leave no place for others: every one of them has a
/// request that is open, as a connection of HTTP/1.1 has.
const CONNECTIONS_MAX: usize = 16;

/// Who waits for a stream looks for one this often, since an upstream may also allow more, or close a connection.
const LOOK: Duration = Duration::from_millis(100);

/// Requests that come while a connection is being made wait for it together, and share its failure. None if the
/// upstream chose HTTP/1.1.
type Slot = Arc<OnceCell<Result<Option<Multiplexed>, ClientError>>>;

/// The connections of one lane to one upstream, made anew when they are of no use any more.
pub(super) struct MultiplexedConnections {
    connector: Connector,
    age: Duration,
    /// Those before are used first, so that those made for a rush get old.
    slots: Mutex<Vec<Slot>>,
    /// Where connections go that are not HTTP/2, where the upstream may choose.
    http1: Option<Arc<KeptConnections>>,
    /// Tells that a stream has ended.
    freed: Arc<Notify>,
}

/// A connection. Clones are the same one; it ends when the last of them is dropped and its responses have been read.
#[derive(Clone)]
pub(super) struct Multiplexed {
    sender: SendRequest<AttemptBody>,
    received: Received,
    made: Instant,
    streams: Arc<ConnectionStreams>,
}

/// What is needed to send one request.
pub(super) struct Lease {
    pub(super) connection: Multiplexed,
    /// The request's place among those that the upstream serves at a time.
    pub(super) stream: OpenStream,
}

/// Where a request may go.
enum Vacancy {
    On(Multiplexed, OpenStream),
    /// When this has a connection there may be one.
    Awaited(Slot),
    /// All streams of as many connections as there may be are taken.
    Nowhere,
}

impl MultiplexedConnections {
    /// Connections older than `age` get no further request. With `http1` the upstream chooses what it speaks.
    pub(super) fn new(connector: Connector, age: Duration, http1: Option<Arc<KeptConnections>>) -> Self {
        Self { connector, age, slots: Mutex::default(), http1, freed: Arc::default() }
    }

    /// A connection with a stream to spare, made if need be; none if the upstream chose HTTP/1.1.
    ///
    /// # Errors
    /// There is no connection; or [`ClientError::Busy`].
    pub(super) async fn lease(&self) -> Result<Option<Lease>, ClientError> {
        // Those that this request has made, and could not use.
        let mut useless = 0;
        loop {
            match self.vacancy() {
                Vacancy::On(connection, stream) => {
                    return Ok(Some(Lease { connection, stream }));
                }
                Vacancy::Awaited(slot) => {
                    // Whoever makes it has its first stream, however soon it is of no use to others.
                    let (mut stream, mut is_maker) = (None, false);
                    let connecting = async {
                        is_maker = true;
                        let made = Box::pin(self.connect()).await;
                        if let Ok(Some(connection)) = &made {
                            stream = connection.streams.open();
                        }
                        made
                    };
                    let Some(connection) = slot.get_or_init(|| connecting).await.clone()? else { return Ok(None) };
                    if let Some(stream) = stream.or_else(|| connection.streams.open()) {
                        return Ok(Some(Lease { connection, stream }));
                    }
                    // Who waited for it may find it taken by others any number of times.
                    useless += usize::from(is_maker);
                    if useless > CONNECTIONS_MAX {
                        return Err(ClientError::Connect("its connections take no request".to_owned()));
                    }
                }
                Vacancy::Nowhere => return Err(ClientError::Busy),
            }
        }
    }

    /// Waits until there may be a stream to spare.
    pub(super) async fn may_have_room(&self) {
        tokio::select! {
            () = self.freed.notified() => {}
            () = sleep(LOOK) => {}
        }
    }

    /// Where the next request goes; forgets what is of no use any more.
    fn vacancy(&self) -> Vacancy {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let is_useful = |made: &Result<Option<Multiplexed>, ClientError>| match made {
            Ok(Some(connection)) => self.is_good(connection),
            _ => false,
        };
        slots.retain(|slot| slot.get().is_none_or(is_useful));
        for slot in &*slots {
            if let Some(Ok(Some(connection))) = slot.get()
                && let Some(stream) = connection.streams.open()
            {
                return Vacancy::On(connection.clone(), stream);
            }
        }
        if let Some(begun) = slots.iter().find(|slot| !slot.initialized()) {
            return Vacancy::Awaited(Arc::clone(begun));
        }
        if slots.len() == CONNECTIONS_MAX {
            return Vacancy::Nowhere;
        }
        let new = Slot::default();
        slots.push(Arc::clone(&new));
        Vacancy::Awaited(new)
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
            // What still comes of responses that were let go is dropped for as many as there may be: the filter may end
            // all of them at once. Of those that are forgotten, every piece counts as a mistake of the upstream's, and
            // a thousand of these end the connection with all that is on it.
            .max_concurrent_reset_streams(STREAMS_MAX)
            .handshake(stream)
            .await;
        let (sender, mut connection) =
            handshake.map_err(|error| received.distrust().unwrap_or_else(|| ClientError::Connect(causes(&error))))?;
        // How many requests it takes at a time is said first of all; and whether it speaks HTTP/2 at all.
        let ended = tokio::select! {
            biased;
            () = received.begun() => poll_fn(|context| {
                Poll::Ready(match Pin::new(&mut connection).poll(context) {
                    Poll::Ready(ended) => Some(ended),
                    Poll::Pending => None,
                })
            }).await,
            ended = &mut connection => Some(ended),
            () = sleep(self.connector.limit()) => return Err(ClientError::ConnectTimeout),
        };
        match ended.map(|ended| ended.map_err(|error| client_error(&error))) {
            None => {}
            Some(_) if let Some(error) = received.distrust() => return Err(error),
            Some(Ok(())) => return Err(ClientError::Connect("it ended the connection at once".to_owned())),
            Some(Err(error @ ClientError::NotHttp(_))) => return Err(error),
            Some(Err(error)) => return Err(ClientError::Connect(error.cause().to_owned())),
        }
        let allowed = connection.current_max_send_streams().min(STREAMS_MAX);
        let streams = Arc::new(ConnectionStreams::new(allowed, Arc::clone(&self.freed)));
        // Others may wait for those that its maker leaves.
        (1..allowed).for_each(|_| self.freed.notify_one());
        let (told, freed) = (Arc::clone(&streams), Arc::clone(&self.freed));
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            let ended = poll_fn(|context| {
                let polled = Pin::new(&mut connection).poll(context);
                told.allow(connection.current_max_send_streams().min(STREAMS_MAX));
                polled
            });
            // Whoever waits for a response gets the error too.
            if let Err(error) = ended.await {
                tracing::debug!(error = causes(&error), "a connection to an upstream ended early");
            }
            // There may be another one in its place.
            freed.notify_one();
        });
        Ok(Some(Multiplexed { sender, received, made: Instant::now(), streams }))
    }

    fn is_good(&self, connection: &Multiplexed) -> bool {
        !connection.streams.is_retired() && connection.sender.is_ready() && connection.made.elapsed() < self.age
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
        self.streams.retire();
    }

    /// The upstream ends the connection, and has not looked at a request on it. To be called once for each.
    pub(super) fn leaves_one(&self) {
        self.streams.leave_one();
        self.retire();
    }

    /// Whether the upstream has looked at some request, as far as is known by now.
    pub(super) fn has_served_any(&self) -> bool {
        self.streams.has_served_any()
    }
}
