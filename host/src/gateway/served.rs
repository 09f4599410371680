//! Slow readers: a response's body as a client's connection takes it. It waits while the connection takes nothing,
//! though not for ever, and ends or breaks off only after what came before has gone out.

mod untaken;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use self::untaken::Untaken;
use crate::gateway::body::ResponseBody;
use crate::gateway::due::Due;
use crate::gateway::interim::{BesideResponses, LookingAfter};
use crate::gateway::plain_body::BodyError;
use crate::gateway::socket::Backpressure;
use crate::settings::Limits;

/// A piece of a body up to this size is copied for an HTTP/2 client, in bytes: many such pieces wait behind one socket,
/// and each would keep the buffer that it was read into.
const PIECE_COPIED_MAX: usize = 2 << 10;

/// A response's body.
pub(super) struct Served {
    body: ResponseBody,
    backpressure: Arc<Backpressure>,
    patience: Patience,
    /// Of a client of HTTP/1, whose leaving the server does not notice.
    looking_after: Option<LookingAfter>,
    /// What an HTTP/2 client was given and has not taken yet, where only that says whether the end, or that there is
    /// none, may be told.
    untaken: Option<Arc<Untaken>>,
    /// When an HTTP/2 client was given something. The server asks for more as soon as the client's windows have room
    /// for some of that.
    given: Option<Instant>,
    /// Of an HTTP/2 stream: until when it has to take that.
    due: Option<Arc<Due>>,
    /// The last byte for an HTTP/2 client. The server takes a piece when a window has room for a byte, and keeps the
    /// rest of it; only this one waits until the windows have had room for all before.
    last: Option<Bytes>,
    /// The next piece, which was there already when the one before was given.
    next: Option<Bytes>,
    /// What comes after all data, once that is known: trailers, the end, or why the body has ended early.
    end: Option<Polled>,
}

/// What a body gives.
type Polled = Option<Result<Frame<Bytes>, BodyError>>;

impl Served {
    /// `beside` is that of a connection of HTTP/1; another one is of HTTP/2.
    pub(super) fn new(
        body: ResponseBody,
        backpressure: Arc<Backpressure>,
        limits: Limits,
        beside: Option<BesideResponses>,
    ) -> Self {
        let untaken = beside.is_none().then(Arc::default);
        let looking_after = beside.map(LookingAfter::new);
        Self {
            body,
            backpressure,
            patience: Patience::new(limits),
            looking_after,
            untaken,
            given: None,
            due: None,
            last: None,
            next: None,
            end: None,
        }
    }

    /// Waits until the client takes more; and, once the body has ended, until it has taken all.
    fn poll_taken(&self, context: &mut Context<'_>) -> Poll<()> {
        ready!(self.backpressure.poll_ready(context));
        match &self.untaken {
            Some(untaken) if self.end.is_some() => untaken.poll_none(context),
            _ => Poll::Ready(()),
        }
    }

    /// An HTTP/2 client is given so many bytes.
    fn gives(&mut self, bytes: usize) {
        let now = Instant::now();
        self.given = Some(now);
        self.due = self.due.take().or_else(Due::of_this_stream);
        self.due(self.patience.left(bytes).and_then(|left| now.checked_add(left)));
    }

    fn due(&self, due: Option<Instant>) {
        if let Some(of_stream) = &self.due {
            of_stream.set(due);
        }
    }

    fn is_all_taken(&self) -> bool {
        self.untaken.as_ref().is_none_or(|untaken| untaken.is_none())
    }

    /// The next piece; or, as an error, what comes after all.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, Polled>> {
        if let Some(next) = self.next.take() {
            return Poll::Ready(Ok(next));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(match frame {
            Some(Ok(frame)) => frame.into_data().map_err(|trailers| Some(Ok(trailers))),
            end => Err(end),
        })
    }

    fn poll_end(&mut self, end: Polled, context: &Context<'_>) -> Poll<Polled> {
        // At a failure the server gives up at once, with the head and all pieces that it has not sent yet. It sends
        // them when nothing comes.
        if self.is_all_taken() && !matches!(end, Some(Err(_))) {
            return Poll::Ready(end);
        }
        self.end = Some(end);
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// A piece as an HTTP/2 client is given it, so that the server does not learn of the end, and drop the body, while
    /// the client's windows have no room for what comes before.
    fn for_http2(&mut self, untaken: &Arc<Untaken>, piece: Bytes, context: &mut Context<'_>) -> Bytes {
        let mut piece = if piece.len() <= PIECE_COPIED_MAX { Bytes::copy_from_slice(&piece) } else { piece };
        let is_known = self.body.size_hint().exact().is_some();
        if !is_known && self.next.is_none() {
            match self.poll_piece(context) {
                Poll::Ready(Ok(next)) => self.next = Some(next),
                Poll::Ready(Err(end)) => self.end = Some(end),
                Poll::Pending => {}
            }
        }
        let is_last = match &self.end {
            Some(end) => !matches!(end, Some(Err(_))),
            None => self.body.is_end_stream(),
        };
        if is_last && piece.len() > 1 {
            self.last = Some(piece.split_off(piece.len() - 1));
        } else if self.next.is_none() {
            piece = untaken.track(piece);
        }
        piece
    }
}

/// The connection ends, or the client has reset the stream, with something of the body left.
impl Drop for Served {
    fn drop(&mut self) {
        let left = self.last.iter().chain(&self.next).map(Bytes::len).sum();
        // Pieces that the server still has are no sign: it keeps them beyond the body, whose end it knows.
        let is_end_left = self.end.as_ref().is_some_and(|end| end.is_some() || !self.is_all_taken());
        if left > 0 || is_end_left {
            self.body.take_back(left);
        }
    }
}

impl Body for Served {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Polled> {
        if let Some(given) = self.given.take() {
            self.patience.waited(given.elapsed());
            self.due(None);
        }
        if self.patience.is_over() || self.poll_taken(context).is_pending() {
            ready!(self.patience.poll_over(context));
            return Poll::Ready(Some(Err("the client takes too little of a response".into())));
        }
        self.patience.end_wait();
        if let Some(last) = self.last.take() {
            self.gives(last.len());
            return Poll::Ready(Some(Ok(Frame::data(last))));
        }
        if let Some(end) = self.end.take() {
            return Poll::Ready(end);
        }
        let mut piece = match self.poll_piece(context) {
            Poll::Ready(Ok(piece)) => piece,
            Poll::Ready(Err(end)) => return self.poll_end(end, context),
            Poll::Pending => {
                if let Some(looking_after) = &mut self.looking_after {
                    looking_after.poll(context);
                }
                return Poll::Pending;
            }
        };
        self.patience.given(piece.len());
        if let Some(untaken) = self.untaken.clone() {
            piece = self.for_http2(&untaken, piece, context);
            self.gives(piece.len());
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        let is_end = match &self.end {
            Some(end) => end.is_none() && self.is_all_taken(),
            None => self.body.is_end_stream(),
        };
        is_end && self.last.is_none() && self.next.is_none()
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
        let left = self.left(0);
        let wait = self.wait.get_or_insert_with(|| {
            let since = Instant::now();
            Wait { since, over: left.and_then(|left| since.checked_add(left)).map(|end| Box::pin(sleep_until(end))) }
        });
        wait.over.as_mut().map_or(Poll::Pending, |over| over.as_mut().poll(context))
    }

    fn given(&mut self, bytes: usize) {
        if !self.waited.is_zero() {
            self.bytes += bytes as u64;
        }
    }

    /// How long it is still waited for while it takes so many bytes; none if for ever.
    fn left(&self, bytes: usize) -> Option<Duration> {
        let allowance = self.limits.answer_allowance(self.bytes.max(bytes as u64))?;
        Some(allowance.saturating_sub(self.waited))
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
