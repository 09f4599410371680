//! Requests to upstreams: sent on pooled connections, and retried where that cannot make the upstream do it twice.

mod connection;
mod error;
mod kept;
mod multiplexed;
mod replay;

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::http::request;
use hyper::http::uri::Authority;
use hyper::{Request, Response};

use self::connection::Connector;
pub(crate) use self::error::ClientError;
use self::error::{causes, chain, client_error};
use self::kept::KeptConnections;
use self::multiplexed::{Multiplexed, MultiplexedConnections};
use self::replay::Replay;
use crate::gateway::body::RequestBody;
use crate::gateway::headers::FIELDS_MAX;
use crate::settings::{Protocol, Timeouts, Upstream};

/// How often a request is sent at most: an upstream that refuses each time shall not be asked for ever.
const ATTEMPTS_MAX: usize = 3;

/// The most that is kept of a body to be sent again, in bytes: the messages of most gRPC calls.
const KEPT_BODY_MAX: usize = 64 * 1024;

/// The connections of one lane. Clones share them.
#[derive(Clone)]
pub(crate) struct Clients {
    http1: Arc<KeptConnections>,
    h2c: Arc<MultiplexedConnections>,
}

impl Clients {
    pub(crate) fn new(timeouts: &Timeouts) -> Self {
        let connector = Connector::new(timeouts.connect);
        Self {
            http1: KeptConnections::new(connector.clone(), timeouts.upstream_idle, timeouts.upstream_age),
            h2c: MultiplexedConnections::new(connector, timeouts.upstream_age),
        }
    }
}

/// A request from when it is sent until its response begins, on however many connections that takes.
pub(crate) struct Exchange {
    /// None once it cannot be sent again.
    head: Option<request::Parts>,
    body: Replay,
    protocol: Protocol,
    authority: Authority,
    /// The HTTP/2 connection it waits on, and how many bytes had come on it when it was sent.
    waits_on: Option<(Multiplexed, u64)>,
}

impl Exchange {
    pub(crate) fn new(request: Request<RequestBody>, upstream: &Upstream) -> Self {
        let (head, body) = request.into_parts();
        // Only HTTP/2 upstreams say that they did not look at a request whose body has begun.
        let kept_max = match upstream.protocol {
            Protocol::Http1 => 0,
            Protocol::H2c => KEPT_BODY_MAX,
        };
        Self {
            head: Some(head),
            body: Replay::new(body, kept_max),
            protocol: upstream.protocol,
            authority: upstream.authority.clone(),
            waits_on: None,
        }
    }

    /// Sends the request and waits for the response's headers, however long that takes.
    ///
    /// # Errors
    /// There is no response.
    pub(crate) async fn send(&mut self, clients: &Clients) -> Result<Response<Incoming>, ClientError> {
        let response = match self.protocol {
            Protocol::Http1 => self.send_http1(&clients.http1).await?,
            Protocol::H2c => self.send_h2c(&clients.h2c).await?,
        };
        self.body.release();
        // Only HTTP/1 connections count fields by themselves.
        if response.headers().len() > FIELDS_MAX { Err(ClientError::TooLarge) } else { Ok(response) }
    }

    /// To be called when the response is late. A connection on which nothing came all the time gets no more requests.
    pub(crate) fn give_up(&self) {
        if let Some((connection, received_before)) = &self.waits_on
            && connection.received() == *received_before
        {
            connection.retire();
        }
    }

    /// A kept connection may have been closed by the upstream while the request was on its way. RFC 9112, section 9.3.1: it is then
    /// sent again, by itself only if doing it twice is doing it once.
    async fn send_http1(&mut self, connections: &Arc<KeptConnections>) -> Result<Response<Incoming>, ClientError> {
        let mut kept = connections.take(&self.authority);
        loop {
            let is_kept = kept.is_some();
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => connections.connect(&self.authority).await?,
            };
            let received_before = connection.received();
            let head = if is_kept { self.head.clone() } else { self.head.take() };
            let failed = match connection.send(self.request(head)?).await {
                Ok(response) => {
                    connections.keep(connection, self.body.abandoned());
                    return Ok(response);
                }
                Err(failed) => failed,
            };
            let was_silent = connection.received() == received_before;
            match failed.message() {
                // It had been closed before anything was written, so the others may be closed too; each is taken once.
                Some(_) if is_kept && self.body.is_untouched() => kept = connections.take(&self.authority),
                None if is_kept && was_silent && self.is_repeatable() => {}
                // It speaks before it is asked.
                Some(_) if !is_kept && !was_silent => return Err(ClientError::NotHttp(causes(failed.error()))),
                _ => return Err(client_error(&failed.into_error())),
            }
        }
    }

    async fn send_h2c(&mut self, connections: &MultiplexedConnections) -> Result<Response<Incoming>, ClientError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let (connection, is_kept) = connections.get(&self.authority).await?;
            let received_before = connection.received();
            self.waits_on = Some((connection.clone(), received_before));
            let head = self.head.clone();
            let failed = match connection.send(self.request(head)?).await {
                Ok(response) => {
                    self.waits_on = None;
                    if !self.body.is_complete() {
                        tokio::spawn(self.body.abandoned());
                    }
                    return Ok(response);
                }
                Err(failed) => failed,
            };
            let is_unsent = failed.message().is_some();
            let error = failed.into_error();
            let refusal = if is_unsent { Some(Unprocessed::ByConnection) } else { unprocessed(&error) };
            if refusal != Some(Unprocessed::Stream) {
                connection.retire();
            }
            let may_repeat = match refusal {
                Some(_) => self.body.can_repeat(),
                None => is_kept && connection.received() == received_before && self.is_repeatable(),
            };
            if attempt == ATTEMPTS_MAX || !may_repeat {
                return Err(client_error(&error));
            }
        }
    }

    /// The request for the next attempt. The one before gets no more of the body.
    fn request(&self, head: Option<request::Parts>) -> Result<Request<replay::AttemptBody>, ClientError> {
        let head = head.ok_or_else(|| ClientError::Reset("the request was sent once".to_owned()))?;
        Ok(Request::from_parts(head, self.body.attempt()))
    }

    /// Whether the request may be sent again though the upstream may have carried it out.
    fn is_repeatable(&self) -> bool {
        self.body.is_untouched() && self.head.as_ref().is_some_and(|head| head.method.is_idempotent())
    }
}

/// That an HTTP/2 upstream has not looked at a request, and will not (RFC 9113, section 8.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unprocessed {
    /// It refused this stream; the connection goes on.
    Stream,
    /// It ends the connection, and this stream came too late.
    ByConnection,
}

fn unprocessed(error: &hyper::Error) -> Option<Unprocessed> {
    let error = chain(error).find_map(|error| error.downcast_ref::<h2::Error>()).filter(|error| error.is_remote())?;
    if error.is_go_away() {
        // Streams that the upstream did look at do not get this error: they are answered, or end with the connection.
        return Some(Unprocessed::ByConnection);
    }
    (error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM)).then_some(Unprocessed::Stream)
}
