//! A response's body as a client's connection takes it: it waits while the connection takes nothing, though not for ever, and ends or
//! breaks off only after what came before has gone out.

mod untaken;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use self::untaken::Untaken;
use crate::gateway::body::{BodyError, ResponseBody};
use crate::gateway::socket::Flow;
use crate::settings::Limits;

/// A response's body.
pub(super) struct Served {
    body: ResponseBody,
    flow: Arc<Flow>,
    patience: Patience,
    /// What an HTTP/2 client was given and has not taken yet: the server takes a piece when a window has room for a byte, and asks for more.
    untaken: Option<Arc<Untaken>>,
    /// When an HTTP/2 client was given something. The server asks for more as soon as the client's windows have room for some of that.
    given: Option<Instant>,
    /// What comes after all data, once that is known: trailers, the end, or why the body has ended early.
    end: Option<Polled>,
}

/// What a body gives.
type Polled = Option<Result<Frame<Bytes>, BodyError>>;

impl Served {
    pub(super) fn new(body: ResponseBody, flow: Arc<Flow>, limits: Limits, is_http2: bool) -> Self {
        Self { body, flow, patience: Patience::new(limits), untaken: is_http2.then(Arc::default), given: None, end: None }
    }

    /// Waits until the client takes more; and, once the body has ended, until it has taken all.
    fn poll_taken(&self, context: &mut Context<'_>) -> Poll<()> {
        ready!(self.flow.poll_ready(context));
        match &self.untaken {
            Some(untaken) if self.end.is_some() => untaken.poll_none(context),
            _ => Poll::Ready(()),
        }
    }

    fn poll_end(&mut self, end: Polled, context: &Context<'_>) -> Poll<Polled> {
        let is_all_taken = self.untaken.as_ref().is_none_or(|untaken| untaken.is_none());
        // At a failure the server gives up at once, with the head and all pieces that it has not sent yet. It sends them when nothing comes.
        if is_all_taken && !matches!(end, Some(Err(_))) {
            return Poll::Ready(end);
        }
        self.end = Some(end);
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Body for Served {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Polled> {
        if let Some(given) = self.given.take() {
            self.patience.waited(given.elapsed());
        }
        if self.patience.is_over() || self.poll_taken(context).is_pending() {
            ready!(self.patience.poll_over(context));
            return Poll::Ready(Some(Err("the client takes too little of a response".into())));
        }
        self.patience.end_wait();
        if let Some(end) = self.end.take() {
            return Poll::Ready(end);
        }
        let mut piece = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(piece) => piece,
                Err(trailers) => return self.poll_end(Some(Ok(trailers)), context),
            },
            end => return self.poll_end(end, context),
        };
        self.patience.given(piece.len());
        if let Some(untaken) = &self.untaken {
            piece = untaken.track(piece);
            self.given = Some(Instant::now());
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.end.is_none() && self.untaken.as_ref().is_none_or(|untaken| untaken.is_none()) && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
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
