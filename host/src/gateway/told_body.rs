//! A body that comes to be while it is read: whoever tells it runs as long as somebody asks for the next piece, and no
//! further ahead than one.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::body::Frame;
use tokio::sync::mpsc;

/// A body, with trailers. Dropping it, because nobody reads it any more, ends whoever tells it.
pub(crate) struct ToldBody {
    /// Until it is done. It ends with the trailers.
    teller: Option<Pin<Box<dyn Future<Output = HeaderMap> + Send>>>,
    pieces: mpsc::Receiver<Bytes>,
    trailers: Option<HeaderMap>,
}

impl ToldBody {
    /// One that is told by what this makes of where its pieces go.
    pub(crate) fn new<F: Future<Output = HeaderMap> + Send + 'static>(
        teller: impl FnOnce(mpsc::Sender<Bytes>) -> F,
    ) -> Self {
        let (sender, pieces) = mpsc::channel(1);
        Self { teller: Some(Box::pin(teller(sender))), pieces, trailers: None }
    }

    pub(crate) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        if let Some(Poll::Ready(trailers)) = self.teller.as_mut().map(|teller| teller.as_mut().poll(context)) {
            (self.teller, self.trailers) = (None, Some(trailers));
        }
        let piece = ready!(self.pieces.poll_recv(context));
        Poll::Ready(piece.map(Frame::data).or_else(|| self.trailers.take().map(Frame::trailers)))
    }

    /// Whether nothing comes of it any more.
    pub(crate) fn is_end(&self) -> bool {
        self.teller.is_none() && self.pieces.is_empty() && self.trailers.is_none()
    }
}
