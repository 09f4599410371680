//! Bodies as they come from the other side, or as the gateway makes them itself.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::gateway::lingering::{self, Unread};
use crate::gateway::streams::OpenStream;
use crate::gateway::told_body::ToldBody;

/// Why a body ended early.
pub(crate) type BodyError = Box<dyn Error + Send + Sync>;

/// The gateway breaks a body off by itself, for this reason: nobody else is to blame.
#[derive(Debug)]
pub(crate) struct BrokenOff(pub(crate) &'static str);

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for BrokenOff {}

/// A body that no filter sees.
pub(crate) enum PlainBody {
    /// Straight from the other side.
    Peer(PeerBody),
    /// The gateway's own, in pieces of which none is empty.
    Own(VecDeque<Bytes>),
    /// The same, with what comes behind them.
    WithTrailers(VecDeque<Bytes>, Option<Box<HeaderMap>>),
    /// The gateway's own, as it comes to be.
    Told(Box<ToldBody>),
}

impl PlainBody {
    /// The gateway's own; an empty one is none, so that the response ends with its headers.
    pub(crate) fn own(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        Self::Own(pieces.into_iter().filter(|piece| !piece.is_empty()).collect())
    }

    /// The gateway's own, with trailers.
    pub(crate) fn with_trailers(piece: Bytes, trailers: HeaderMap) -> Self {
        Self::WithTrailers([piece].into(), Some(Box::new(trailers)))
    }

    pub(crate) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Peer(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
            Self::Own(pieces) => Poll::Ready(pieces.pop_front().map(|piece| Ok(Frame::data(piece)))),
            Self::WithTrailers(pieces, trailers) => {
                let trailers = || Some(Frame::trailers(*trailers.take()?));
                Poll::Ready(pieces.pop_front().map(Frame::data).or_else(trailers).map(Ok))
            }
            Self::Told(body) => body.poll_frame(context).map(|frame| frame.map(Ok)),
        }
    }

    /// Whether nothing comes of it any more.
    pub(crate) fn is_end(&self) -> bool {
        match self {
            Self::Peer(body) => body.is_end_stream(),
            Self::Own(pieces) => pieces.is_empty(),
            Self::WithTrailers(pieces, trailers) => pieces.is_empty() && trailers.is_none(),
            Self::Told(body) => body.is_end(),
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Peer(body) => body.size_hint(),
            Self::Own(pieces) | Self::WithTrailers(pieces, _) => {
                SizeHint::with_exact(pieces.iter().map(|piece| piece.len() as u64).sum())
            }
            Self::Told(_) => SizeHint::default(),
        }
    }
}

/// A body that comes from the other side.
pub(crate) struct PeerBody {
    /// There until this is dropped.
    body: Option<Incoming>,
    /// The place that a response has on an HTTP/2 connection until it is over.
    _stream: Option<OpenStream>,
    /// What becomes of what is not read, as long as there may be any.
    rest: Option<Rest>,
}

/// What becomes of the rest of a request's body whose client may still be sending it.
enum Rest {
    /// HTTP/1: the connection ends by it.
    OfConnection(Unread),
    /// HTTP/2: it is read for a while.
    OfStream,
}

impl PeerBody {
    /// A response's.
    pub(crate) fn of_upstream(body: Incoming, stream: Option<OpenStream>) -> Self {
        Self { body: Some(body), _stream: stream, rest: None }
    }

    /// A request's. `unread` is its connection's, if that is HTTP/1.
    pub(crate) fn of_client(body: Incoming, unread: Option<&Unread>) -> Self {
        let rest = || unread.map_or(Rest::OfStream, |unread| Rest::OfConnection(unread.clone()));
        let rest = (!body.is_end_stream()).then(rest);
        Self { body: Some(body), _stream: None, rest }
    }
}

impl Body for PeerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *body).poll_frame(context));
        let is_last = frame.as_ref().is_none_or(|frame| frame.as_ref().is_ok_and(Frame::is_trailers));
        if is_last || body.is_end_stream() {
            self.rest = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl Drop for PeerBody {
    fn drop(&mut self) {
        match (self.rest.take(), self.body.take()) {
            (Some(Rest::OfConnection(unread)), _) => unread.set(true),
            (Some(Rest::OfStream), Some(body)) => lingering::drop_rest(body),
            _ => {}
        }
    }
}
