//! TCP connections to upstreams, and what came on them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::Uri;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;

use super::error::{ClientError, causes, chain};
use crate::gateway::socket::PIECE_MAX;

/// Looks names up, each time anew, and connects to the first address that accepts.
#[derive(Clone)]
pub(super) struct Connector {
    connector: HttpConnector,
    limit: Duration,
}

impl Connector {
    /// `limit` is for the look-up and all addresses together.
    pub(super) fn new(limit: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(limit));
        Self { connector, limit }
    }

    pub(super) async fn connect(&self, authority: &Authority) -> Result<(TokioIo<Watched>, Received), ClientError> {
        let mut connector = self.connector.clone();
        match timeout(self.limit, connector.call(address(authority))).await {
            Ok(Ok(stream)) => {
                let received = Received::default();
                let watched = Watched { stream: stream.into_inner().take(PIECE_MAX), received: received.clone() };
                Ok((TokioIo::new(watched), received))
            }
            Ok(Err(error)) => {
                let mut kinds = chain(&error).filter_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind);
                match kinds.any(|kind| kind == io::ErrorKind::TimedOut) {
                    true => Err(ClientError::ConnectTimeout),
                    false => Err(ClientError::Connect(causes(&error))),
                }
            }
            Err(_) => Err(ClientError::ConnectTimeout),
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

/// How many bytes have come on a connection so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Received(Arc<AtomicU64>);

impl Received {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream that counts what comes, and gives it in small pieces, so that a body whose client takes nothing fills no large buffer.
pub(super) struct Watched {
    stream: Take<TcpStream>,
    received: Received,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        self.stream.set_limit(PIECE_MAX);
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.received.0.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.stream.get_mut()).poll_write(context, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(self.stream.get_mut()).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_shutdown(context)
    }
}
