//! A response's body as a client's connection takes it: it waits while the connection takes nothing, though not for ever, and breaks off
//! only after what came before has gone out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::gateway::body::{BodyError, ResponseBody};
use crate::gateway::socket::Flow;
use crate::settings::Limits;

/// A piece of a body up to this size is copied for an HTTP/2 client, in bytes: many such pieces wait behind one socket, and each would keep
/// the buffer that it was read into.
const PIECE_COPIED_MAX: usize = 2 << 10;

/// A response's body.
pub(super) struct Served {
    body: ResponseBody,
    flow: Arc<Flow>,
    is_http2: bool,
    patience: Patience,
    /// When an HTTP/2 client was given something. The server asks for more as soon as the client's windows have taken that.
    given: Option<Instant>,
    /// The last byte for an HTTP/2 client. The server takes a piece when a window has room for a byte, and keeps the rest of it; only this
    /// one waits until the client has taken all before.
    last: Option<Bytes>,
    /// Why the body has ended early, once that is to be told.
    failure: Option<BodyError>,
}

impl Served {
    pub(super) fn new(body: ResponseBody, flow: Arc<Flow>, limits: Limits, is_http2: bool) -> Self {
        Self { body, flow, is_http2, patience: Patience::new(limits), given: None, last: None, failure: None }
    }
}

impl Body for Served {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(given) = self.given.take() {
            self.patience.waited(given.elapsed());
        }
        if self.patience.is_over() || self.flow.poll_ready(context).is_pending() {
            ready!(self.patience.poll_over(context));
            return Poll::Ready(Some(Err("the client takes too little of a response".into())));
        }
        self.patience.end_wait();
        if let Some(failure) = self.failure.take() {
            return Poll::Ready(Some(Err(failure)));
        }
        if let Some(last) = self.last.take() {
            self.given = Some(Instant::now());
            return Poll::Ready(Some(Ok(Frame::data(last))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            self.patience.given(frame.data_ref().map_or(0, Bytes::len));
        }
        match frame {
            Some(Ok(frame)) if self.is_http2 => {
                self.given = Some(Instant::now());
                let frame = frame.map_data(own_if_small);
                let is_last = self.body.is_end_stream();
                let frame = frame.map_data(|mut piece| {
                    if is_last && piece.len() > 1 {
                        self.last = Some(piece.split_off(piece.len() - 1));
                    }
                    piece
                });
                Poll::Ready(Some(Ok(frame)))
            }
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
        self.failure.is_none() && self.last.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn own_if_small(piece: Bytes) -> Bytes {
    if piece.len() <= PIECE_COPIED_MAX { Bytes::copy_from_slice(&piece) } else { piece }
}

/// How long a client is still waited for, in all, while it takes nothing.
struct Patience {
    limits: Limits,
    /// What it was given since it was first waited for. What went into buffers before that says nothing of it.
    bytes: u64,
    /// How long it was waited for, before the wait that lasts now.
    waited: Duration,
    wait: Option<Wait>,
}

struct Wait {
    since: Instant,
    /// None if it may last for ever.
    over: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    fn new(limits: Limits) -> Self {
        Self { limits, bytes: 0, waited: Duration::ZERO, wait: None }
    }

    /// Waits until the client has been waited for long enough.
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let (limits, bytes, waited) = (&self.limits, self.bytes, self.waited);
        let wait = self.wait.get_or_insert_with(|| {
            let since = Instant::now();
            let left = limits.answer_allowance(bytes).map(|allowance| allowance.saturating_sub(waited));
            Wait { since, over: left.and_then(|left| since.checked_add(left)).map(|end| Box::pin(sleep_until(end))) }
        });
        wait.over.as_mut().map_or(Poll::Pending, |over| over.as_mut().poll(context))
    }

    fn given(&mut self, bytes: usize) {
        if !self.waited.is_zero() {
            self.bytes += bytes as u64;
        }
    }

    fn end_wait(&mut self) {
        if let Some(wait) = self.wait.take() {
            self.waited(wait.since.elapsed());
        }
    }

    fn waited(&mut self, time: Duration) {
        self.waited = self.waited.saturating_add(time);
    }

    /// Whether it was waited for long enough, the wait that lasts now not counted.
    fn is_over(&self) -> bool {
        self.limits.answer_allowance(self.bytes).is_some_and(|allowance| allowance < self.waited)
    }
}
