//! Requests to upstreams: sent on pooled connections, and retried where that cannot make the upstream do it twice.

mod connection;
mod endpoint;
mod error;
mod head;
mod kept;
mod multiplexed;
mod passive_health;
mod pool;
mod replay;
mod wire;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::http::request;
use hyper::http::uri::Scheme;
use hyper::{Method, Request, Response};

use self::endpoint::Connections;
pub(crate) use self::endpoint::Endpoint;
pub(crate) use self::error::ClientError;
use self::error::{causes, chain, client_error};
pub(crate) use self::head::Head;
use self::multiplexed::{Lease, Multiplexed};
use self::pool::Attempted;
pub(crate) use self::pool::Pool;
use self::replay::Replay;
use crate::gateway::body::RequestBody;
use crate::gateway::headers::FIELDS_MAX;
use crate::gateway::streams::OpenStream;
use crate::settings::Protocol;

/// How often a request is sent over HTTP/2 at most for nothing: upstreams that refuse each time shall not be asked for
/// ever. One that ends a connection on which it has served others gets somewhere.
const ATTEMPTS_MAX: usize = 3;

/// The most that is kept of a body to be sent again, in bytes: the messages of most gRPC calls.
const KEPT_BODY_MAX: usize = 64 * 1024;

/// A request from when it is sent until its response begins, on however many connections that takes.
pub(crate) struct Exchange {
    /// None once it cannot be sent again.
    head: Option<Head>,
    body: Replay,
    /// Whether it asks for another protocol, which only HTTP/1.1 can change to.
    is_upgrade: bool,
    /// How often it was sent over HTTP/2 for nothing.
    attempts: usize,
    /// The HTTP/2 connection that its upstream left last, without having looked at it, and how that was told.
    left: Option<(Multiplexed, ClientError)>,
    /// Where it was sent last.
    endpoint: Option<Arc<Endpoint>>,
    /// Whether it waits until the upstream has done with others, and was not sent.
    waits_for_others: bool,
    /// The HTTP/2 connection it waits on, and how many bytes had come on it when it was sent.
    waits_on: Option<(Multiplexed, u64)>,
}

impl Exchange {
    pub(crate) fn new(head: Head, body: RequestBody) -> Self {
        let is_upgrade = head.upgrade.is_some();
        Self {
            head: Some(head),
            body: Replay::new(body, KEPT_BODY_MAX),
            is_upgrade,
            attempts: 0,
            left: None,
            endpoint: None,
            waits_for_others: false,
            waits_on: None,
        }
    }

    /// Where it was sent last, if it was.
    pub(crate) fn endpoint(&self) -> Option<&Arc<Endpoint>> {
        self.endpoint.as_ref()
    }

    /// Sends the request to an upstream of the pool and waits for the response's headers, however long that takes.
    /// While there is no connection, or no will to look at the request, one upstream after the other is tried.
    ///
    /// # Errors
    /// There is no response.
    pub(crate) async fn send(&mut self, pool: &Pool, lane: usize) -> Result<Response<Incoming>, ClientError> {
        let (mut attempted, mut failed) =
            (Attempted::default(), ClientError::Connect("there is no upstream".to_owned()));
        // Those that serve as many requests as they will, and whether another one refused this one alone.
        let (mut busy, mut is_refused) = (Vec::new(), false);
        loop {
            // Of a request that is gone with a connection nobody else gets anything.
            let Some(endpoint) = pool.next(&mut attempted).filter(|_| self.head.is_some()) else {
                if self.head.is_none() || !attempted.begin_again() {
                    return Err(failed);
                }
                // Who refused may have room by now.
                if !std::mem::take(&mut is_refused) {
                    self.wait_for_one_of(&busy, lane).await;
                }
                busy.clear();
                continue;
            };
            self.endpoint = Some(Arc::clone(endpoint));
            match self.send_to(endpoint, lane).await {
                Err(error) if error.is_unsent() => {
                    if self.is_fault_of(endpoint, &error) {
                        endpoint.fails(error.cause());
                    }
                    if matches!(error, ClientError::Busy) {
                        attempted.may_be_taken_later();
                        busy.push(endpoint);
                    }
                    failed = error;
                }
                Err(error @ ClientError::Refused(_)) if self.attempts < ATTEMPTS_MAX => {
                    attempted.may_be_taken_later();
                    is_refused = true;
                    failed = error;
                }
                sent => {
                    if sent.is_ok() {
                        endpoint.answers();
                    }
                    return sent;
                }
            }
        }
    }

    /// Waits until one of them may have room.
    async fn wait_for_one_of(&mut self, busy: &[&Arc<Endpoint>], lane: usize) {
        (self.waits_for_others, self.waits_on) = (true, None);
        let lanes = busy.iter().filter_map(|endpoint| endpoint.lane(lane));
        let mut waits: Vec<_> = lanes.map(|connections| Box::pin(connections.http2.may_have_room())).collect();
        poll_fn(|context| match waits.iter_mut().any(|wait| wait.as_mut().poll(context).is_ready()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
        self.waits_for_others = false;
    }

    /// To be called when there is no response, though that is not the client's fault.
    pub(crate) fn blame(&self, error: &ClientError) {
        // Of what was not sent it is known already; and whom others keep busy is well.
        let is_known = error.is_unsent() || self.waits_for_others;
        if let Some(endpoint) = self.endpoint.as_ref().filter(|endpoint| !is_known && self.is_fault_of(endpoint, error))
        {
            endpoint.fails(error.cause());
        }
    }

    /// Whether the upstream is to blame. One that may choose what it speaks need not speak HTTP/1.1, which an upgrade
    /// forces on it; but it has to take connections.
    fn is_fault_of(&self, endpoint: &Endpoint, error: &ClientError) -> bool {
        let is_forced = self.is_upgrade && endpoint.upstream.protocol == Protocol::Https;
        error.is_failure() && (!is_forced || matches!(error, ClientError::ConnectTimeout | ClientError::Connect(_)))
    }

    /// To be called when the response is late. A connection on which nothing came all the time gets no more requests.
    pub(crate) fn give_up(&self) {
        if let Some((connection, received_before)) = &self.waits_on
            && connection.received() == *received_before
        {
            connection.retire();
        }
    }

    async fn send_to(&mut self, endpoint: &Endpoint, lane: usize) -> Result<Response<Incoming>, ClientError> {
        self.waits_on = None;
        let Some(connections) = endpoint.lane(lane) else {
            return Err(ClientError::Connect("there is no lane".to_owned()));
        };
        let response = match endpoint.upstream.protocol {
            Protocol::Http1 => self.send_http1(endpoint, connections).await?,
            Protocol::H2c => match self.send_http2(endpoint, connections).await? {
                Some(response) => response,
                None => return Err(ClientError::Connect("it does not speak HTTP/2".to_owned())),
            },
            Protocol::Https => self.send_either(endpoint, connections).await?,
        };
        self.body.release();
        // Only HTTP/1 connections count fields by themselves.
        if response.headers().len() > FIELDS_MAX { Err(ClientError::TooLarge) } else { Ok(response) }
    }

    /// In HTTP/2 where the upstream speaks that, which is seen by asking now and then.
    async fn send_either(
        &mut self,
        endpoint: &Endpoint,
        connections: &Connections,
    ) -> Result<Response<Incoming>, ClientError> {
        if !self.is_upgrade && !connections.is_http1() {
            if let Some(response) = self.send_http2(endpoint, connections).await? {
                return Ok(response);
            }
            connections.set_http1(true);
        }
        let sent = self.send_http1(endpoint, connections).await;
        if !self.is_upgrade && sent.as_ref().is_err_and(ClientError::is_unsent) {
            // It may want HTTP/2 by now, and nothing else.
            connections.set_http1(false);
        }
        sent
    }

    /// A kept connection may have been closed by the upstream while the request was on its way. RFC 9112, section
    /// 9.3.1: it is then sent again, by itself only if doing it twice is doing it once.
    async fn send_http1(
        &mut self,
        endpoint: &Endpoint,
        connections: &Connections,
    ) -> Result<Response<Incoming>, ClientError> {
        // Only HTTP/2 upstreams say that they did not look at a request whose body has begun.
        self.body.keep_nothing();
        let host = (endpoint.upstream.protocol == Protocol::Https).then_some(&endpoint.host);
        let connections = &connections.http1;
        let mut kept = connections.take();
        loop {
            let is_kept = kept.is_some();
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => Box::pin(connections.connect()).await?,
            };
            let received_before = connection.received();
            let head = if is_kept { self.head.clone() } else { self.head.take() };
            let mut request = self.request(head, None, |head| head.into_http1(host))?;
            frame_body(&mut request);
            let failed = match connection.send(request).await {
                Ok(response) => {
                    connections.keep(connection, self.body.abandoned());
                    return Ok(response);
                }
                Err(failed) => failed,
            };
            let was_silent = connection.received() == received_before;
            match failed.message() {
                // It had been closed before anything was written, so the others may be closed too; each is taken once.
                Some(_) if is_kept && self.body.can_repeat() => kept = connections.take(),
                None if is_kept && was_silent && self.is_repeatable() => {}
                // It speaks before it is asked.
                Some(_) if !is_kept && !was_silent => return Err(ClientError::NotHttp(causes(failed.error()))),
                // With TLS 1.3 that is told after the handshake, and before anything of the request is read.
                _ if let Some(error) = connection.distrust() => return Err(error),
                _ => return Err(client_error(&failed.into_error())),
            }
        }
    }

    /// None if the upstream chose HTTP/1.1; then nothing was sent.
    async fn send_http2(
        &mut self,
        endpoint: &Endpoint,
        connections: &Connections,
    ) -> Result<Option<Response<Incoming>>, ClientError> {
        let (scheme, authority) = match endpoint.upstream.protocol {
            Protocol::Https => (Scheme::HTTPS, &endpoint.host),
            Protocol::Http1 | Protocol::H2c => (Scheme::HTTP, &endpoint.upstream.authority),
        };
        loop {
            let Some(Lease { connection, stream }) = connections.http2.lease().await? else { return Ok(None) };
            // By now all others that it was left with know, too.
            if let Some((left, error)) = self.left.take().filter(|(left, _)| !left.has_served_any()) {
                self.attempts += 1;
                if self.attempts >= ATTEMPTS_MAX {
                    return Err(error);
                }
                drop(left);
            }
            let received_before = connection.received();
            self.waits_on = Some((connection.clone(), received_before));
            let head = self.head.clone();
            let request =
                self.request(head, Some(stream.clone()), |head| head.into_http2(scheme.clone(), authority.clone()))?;
            let failed = match connection.send(request).await {
                Ok(mut response) => {
                    self.waits_on = None;
                    if !self.body.is_complete() {
                        tokio::spawn(self.body.abandoned());
                    }
                    response.extensions_mut().insert(stream);
                    return Ok(Some(response));
                }
                Err(failed) => failed,
            };
            drop(stream);
            let is_unsent = failed.message().is_some();
            let error = failed.into_error();
            match if is_unsent { Http2Failure::Left } else { Http2Failure::of(&error) } {
                Http2Failure::Left => {
                    connection.leaves_one();
                    if !self.body.can_repeat() {
                        return Err(client_error(&error));
                    }
                    self.left = Some((connection, client_error(&error)));
                }
                Http2Failure::Refused if self.body.can_repeat() => {
                    self.attempts += 1;
                    return Err(ClientError::Refused(causes(&error)));
                }
                Http2Failure::Refused | Http2Failure::Reset => return Err(client_error(&error)),
                Http2Failure::Lost => {
                    connection.retire();
                    self.attempts += 1;
                    if !self.is_repeatable() || self.attempts >= ATTEMPTS_MAX {
                        return Err(client_error(&error));
                    }
                }
            }
        }
    }

    /// The request for the next attempt. The one before gets no more of the body.
    fn request(
        &self,
        head: Option<Head>,
        stream: Option<OpenStream>,
        spoken: impl FnOnce(Head) -> request::Parts,
    ) -> Result<Request<replay::AttemptBody>, ClientError> {
        let head = head.ok_or_else(|| ClientError::Reset("the request was sent once".to_owned()))?;
        Ok(Request::from_parts(spoken(head), self.body.attempt(stream)))
    }

    /// Whether the request may be sent again though the upstream may have carried it out.
    fn is_repeatable(&self) -> bool {
        self.body.is_untouched() && self.head.as_ref().is_some_and(|head| head.method.is_idempotent())
    }
}

/// Says that a body comes in chunks where nobody would expect one: without that hyper drops what a GET or a HEAD
/// carries that has no `content-length`.
fn frame_body(request: &mut Request<impl Body>) {
    let is_unexpected = matches!(*request.method(), Method::GET | Method::HEAD);
    if is_unexpected && !request.body().is_end_stream() && request.body().size_hint().exact().is_none() {
        request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// What became of a request over HTTP/2 that got no response (RFC 9113, section 8.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Http2Failure {
    /// The upstream has not looked at it, and will not: it refused this stream. The connection goes on.
    Refused,
    /// Neither has it: it ends the connection, and this stream came too late.
    Left,
    /// It ended this stream alone, or broke its rules. The connection goes on.
    Reset,
    /// The connection is gone, or says nothing that can be understood.
    Lost,
}

impl Http2Failure {
    fn of(error: &hyper::Error) -> Self {
        let Some(error) = chain(error).find_map(|error| error.downcast_ref::<h2::Error>()) else { return Self::Lost };
        match (error.is_reset(), error.is_remote()) {
            (true, true) if error.reason() == Some(h2::Reason::REFUSED_STREAM) => Self::Refused,
            (true, _) => Self::Reset,
            // Streams that the upstream did look at do not get this error: they are answered, or end with the
            // connection.
            (false, true) if error.is_go_away() => Self::Left,
            _ => Self::Lost,
        }
    }
}
