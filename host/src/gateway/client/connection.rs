//! Connections to upstreams, over TCP or over TLS on it, and what came on them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::Uri;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use slidegate::tls::{ALPN_HTTP2, ClientTls, HandshakeFailure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};
use tokio::sync::Notify;
use tokio::time::timeout;
use tower_service::Service;

use super::error::{ClientError, causes, chain};
use super::wire::Wire;
use crate::gateway::secured::PIECE_MAX;

/// Looks an upstream's name up, each time anew, connects to the first address that accepts, and shakes hands if it
/// speaks TLS.
pub(super) struct Connector {
    connector: HttpConnector,
    authority: Authority,
    tls: Option<(ClientTls, String)>,
    limit: Duration,
}

impl Connector {
    /// `tls` is for a host of this name. `limit` is for the look-up, all addresses and the handshake together.
    pub(super) fn new(authority: Authority, tls: Option<(ClientTls, String)>, limit: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(limit));
        Self { connector, authority, tls, limit }
    }

    /// How long it may take.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    pub(super) async fn connect(&self) -> Result<(TokioIo<Watched>, Received), ClientError> {
        let wire = timeout(self.limit, self.wire()).await.unwrap_or(Err(ClientError::ConnectTimeout))?;
        let received = Received::default();
        let watched = Watched { stream: wire.take(PIECE_MAX), received: received.clone(), unwritten: None };
        Ok((TokioIo::new(watched), received))
    }

    async fn wire(&self) -> Result<Wire, ClientError> {
        let stream = self.connector.clone().call(address(&self.authority)).await.map_err(|error| {
            let mut kinds = chain(&error).filter_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind);
            match kinds.any(|kind| kind == io::ErrorKind::TimedOut) {
                true => ClientError::ConnectTimeout,
                false => ClientError::Connect(causes(&error)),
            }
        })?;
        match &self.tls {
            None => Ok(Wire::Plain(stream.into_inner())),
            Some((tls, host)) => match tls.connect(host, stream.into_inner()).await {
                Ok(secured) => Ok(Wire::Tls(Box::new(secured))),
                Err(error) => Err(ClientError::Tls(HandshakeFailure::of(&error), HandshakeFailure::words(&error))),
            },
        }
    }
}

fn address(authority: &Authority) -> Uri {
    let mut parts = hyper::http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority.clone());
    parts.path_and_query = Some(PathAndQuery::from_static("/"));
    // All three parts are there, and each is valid.
    Uri::from_parts(parts).unwrap_or_default()
}

/// What has come on a connection so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Received(Arc<Arrivals>);

#[derive(Debug, Default)]
struct Arrivals {
    bytes: AtomicU64,
    first: Notify,
    /// Why the other side ended TLS before it sent anything, if it did.
    distrust: OnceLock<(HandshakeFailure, String)>,
}

impl Received {
    pub(super) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// That the other side does not trust this one, if it has said so. With TLS 1.3 it does after the handshake.
    pub(super) fn distrust(&self) -> Option<ClientError> {
        self.0.distrust.get().map(|(failure, cause)| ClientError::Tls(*failure, cause.clone()))
    }

    /// Waits until something has come. One task may do so.
    pub(super) async fn begun(&self) {
        if self.bytes() == 0 {
            self.0.first.notified().await;
        }
    }

    fn fail(&self, error: &io::Error) {
        let failure = HandshakeFailure::of(error);
        if self.bytes() == 0 && matches!(failure, HandshakeFailure::NoCertificate | HandshakeFailure::Distrusted) {
            let _ = self.0.distrust.set((failure, causes(error)));
        }
    }

    fn add(&self, bytes: usize) {
        if bytes > 0 && self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed) == 0 {
            self.0.first.notify_one();
        }
    }
}

/// A stream that counts what comes, and gives it in small pieces, so that a body whose client takes nothing fills no
/// large buffer.
pub(super) struct Watched {
    stream: Take<Wire>,
    received: Received,
    /// Why nothing can be written, while it is read what the other side had said to that.
    unwritten: Option<io::Error>,
}

impl Watched {
    /// Whether both sides agreed on HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.stream.get_ref().alpn() == Some(ALPN_HTTP2)
    }

    /// Who ends TLS does not read what comes after that, so that writing may fail before it was read why.
    fn poll_written<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut Wire>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.unwritten.is_none() {
            match ready!(write(Pin::new(self.stream.get_mut()), context)) {
                Err(error) if self.received.bytes() == 0 => self.unwritten = Some(error),
                written => return Poll::Ready(written),
            }
        }
        // What else comes is of no use on a connection that takes nothing.
        let (mut byte, wire) = ([0], Pin::new(self.stream.get_mut()));
        if let Err(error) = ready!(wire.poll_read(context, &mut ReadBuf::new(&mut byte))) {
            self.received.fail(&error);
        }
        Poll::Ready(Err(self.unwritten.take().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())))
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        self.stream.set_limit(PIECE_MAX);
        if let Err(error) = ready!(Pin::new(&mut self.stream).poll_read(context, buffer)) {
            self.received.fail(&error);
            return Poll::Ready(Err(error));
        }
        self.received.add(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_written(context, |wire, context| wire.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_written(context, |wire, context| wire.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_written(context, |wire, context| wire.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_shutdown(context)
    }
}
