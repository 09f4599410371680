//! A response's body as a client's connection takes it: it waits while the connection takes nothing, and breaks off only after what
//! came before has gone out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::gateway::body::{BodyError, ResponseBody};
use crate::gateway::guests::Order;
use crate::gateway::socket::Flow;

/// A piece of a body up to this size is copied for an HTTP/2 client, in bytes: many such pieces wait behind one socket, and each would keep
/// the buffer that it was read into.
const PIECE_COPIED_MAX: usize = 2 << 10;

/// A response's body. The request counts as one in flight until this is dropped.
pub(super) struct Served {
    body: ResponseBody,
    flow: Arc<Flow>,
    is_http2: bool,
    /// Why the body has ended early, once that is to be told.
    failure: Option<BodyError>,
    _order: Option<Order>,
}

impl Served {
    pub(super) fn new(body: ResponseBody, flow: Arc<Flow>, is_http2: bool, order: Option<Order>) -> Self {
        Self { body, flow, is_http2, failure: None, _order: order }
    }
}

impl Body for Served {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        ready!(self.flow.poll_ready(context));
        if let Some(failure) = self.failure.take() {
            return Poll::Ready(Some(Err(failure)));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match frame {
            Some(Ok(frame)) if self.is_http2 => Poll::Ready(Some(Ok(frame.map_data(own_if_small)))),
            // The server gives up at once, with the head and all pieces that it has not sent yet. It sends them when nothing comes.
            Some(Err(failure)) => {
                self.failure = Some(failure);
                context.waker().wake_by_ref();
                Poll::Pending
            }
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.failure.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn own_if_small(piece: Bytes) -> Bytes {
    if piece.len() <= PIECE_COPIED_MAX { Bytes::copy_from_slice(&piece) } else { piece }
}
