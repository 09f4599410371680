//! Bodies on their way through the gateway, piece by piece, with what has to be known about them afterwards.

use std::error::Error;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep};

use crate::gateway::access_log::Record;
use crate::settings::Limits;

/// Why a body ended early.
pub(crate) type BodyError = Box<dyn Error + Send + Sync>;

/// Where the pieces come from.
pub(crate) enum Source {
    /// Straight from the other side.
    Peer(Incoming),
    /// From a task that shows each piece to the filter first.
    Filtered {
        pieces: mpsc::Receiver<Result<Frame<Bytes>, BodyError>>,
        /// What is still to come, where that is known.
        length: Option<u64>,
    },
    /// The gateway's own, in one piece.
    Own(Option<Bytes>),
}

impl Source {
    /// The gateway's own body; an empty one is none, so that the response ends with its headers.
    pub(crate) fn own(body: Bytes) -> Self {
        Self::Own(Some(body).filter(|body| !body.is_empty()))
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Peer(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
            Self::Filtered { pieces, length } => {
                let frame = ready!(pieces.poll_recv(context));
                let taken = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref);
                *length = length.map(|length| length.saturating_sub(taken.map_or(0, |piece| piece.len() as u64)));
                Poll::Ready(frame)
            }
            Self::Own(piece) => Poll::Ready(piece.take().map(|piece| Ok(Frame::data(piece)))),
        }
    }

    fn is_end(&self) -> bool {
        match self {
            Self::Peer(body) => body.is_end_stream(),
            Self::Filtered { length, .. } => *length == Some(0),
            Self::Own(piece) => piece.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Peer(body) => body.size_hint(),
            Self::Filtered { length, .. } => length.map_or_else(SizeHint::default, SizeHint::with_exact),
            Self::Own(piece) => SizeHint::with_exact(piece.as_ref().map_or(0, |piece| piece.len() as u64)),
        }
    }
}

/// How far a request's body has come; shared between the body and whoever waits for the response.
#[derive(Debug)]
pub(crate) struct Upload {
    epoch: Instant,
    bytes: AtomicU64,
    /// Microseconds after `epoch`.
    last_piece_us: AtomicU64,
    /// Since when the client is waited for, in microseconds after `epoch`; zero while it is not.
    waiting_since_us: AtomicU64,
    /// How long the client was waited for, in microseconds.
    waited_us: AtomicU64,
    is_complete: AtomicBool,
    is_broken: AtomicBool,
}

impl Upload {
    pub(crate) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            bytes: AtomicU64::new(0),
            last_piece_us: AtomicU64::new(0),
            waiting_since_us: AtomicU64::new(0),
            waited_us: AtomicU64::new(0),
            is_complete: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
        }
    }

    /// Body bytes sent on so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether nothing more is expected from the client.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::Relaxed)
    }

    /// Whether the client broke the body off, or what it sent is none.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }

    /// When the last piece was sent on; when the request began, if none was.
    pub(crate) fn last_piece(&self) -> Instant {
        self.epoch + Duration::from_micros(self.last_piece_us.load(Ordering::Relaxed))
    }

    /// Until when the response is waited for, as far as is known now: so long after the last piece of the body, and no longer than the
    /// client may take for its body, which an upstream that is slow to take it does not shorten.
    pub(crate) fn deadline(&self, response: Duration, limits: &Limits) -> Instant {
        let of_response = self.last_piece() + response;
        match limits.body_allowance(self.bytes()).filter(|_| !self.is_complete()) {
            Some(allowance) => of_response.min(Instant::now() + allowance.saturating_sub(self.kept_waiting())),
            None => of_response,
        }
    }

    /// How long the client was waited for in all.
    fn kept_waiting(&self) -> Duration {
        let since = self.waiting_since_us.load(Ordering::Relaxed);
        let now = if since == 0 { 0 } else { self.elapsed_us().saturating_sub(since) };
        Duration::from_micros(self.waited_us.load(Ordering::Relaxed).saturating_add(now))
    }

    fn waits(&self) {
        if self.waiting_since_us.load(Ordering::Relaxed) == 0 {
            self.waiting_since_us.store(self.elapsed_us().max(1), Ordering::Relaxed);
        }
    }

    fn piece(&self, length: usize) {
        self.bytes.fetch_add(length as u64, Ordering::Relaxed);
        self.waited_us.store(u64::try_from(self.kept_waiting().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.waiting_since_us.store(0, Ordering::Relaxed);
        self.last_piece_us.store(self.elapsed_us(), Ordering::Relaxed);
    }

    fn elapsed_us(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn complete(&self) {
        self.piece(0);
        self.is_complete.store(true, Ordering::Relaxed);
    }
}

/// A request's body on its way to the upstream.
pub(crate) struct RequestBody {
    source: Source,
    upload: Arc<Upload>,
}

impl RequestBody {
    pub(crate) fn new(source: Source, upload: Arc<Upload>) -> Self {
        if source.is_end() {
            upload.complete();
        }
        Self { source, upload }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = self.source.poll_frame(context) else {
            self.upload.waits();
            return Poll::Pending;
        };
        match &frame {
            // Nothing comes after trailers, and the client does not ask.
            Some(Ok(frame)) if frame.is_trailers() => self.upload.complete(),
            Some(Ok(frame)) => self.upload.piece(frame.data_ref().map_or(0, Bytes::len)),
            Some(Err(_)) => self.upload.is_broken.store(true, Ordering::Relaxed),
            None => self.upload.complete(),
        }
        if self.source.is_end() {
            self.upload.complete();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

/// A response's body on its way to the client. What has to live as long as the response lives in here.
pub(crate) struct ResponseBody {
    source: Source,
    is_ended: bool,
    /// How long the next piece may take.
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
    record: Option<Record>,
    /// Ends the filter's stream when the body is dropped.
    _stream: Option<Arc<slidegate::Stream>>,
}

impl ResponseBody {
    pub(crate) fn new(source: Source, idle: Duration, record: Option<Record>, stream: Option<Arc<slidegate::Stream>>) -> Self {
        Self { source, is_ended: false, idle, timer: None, is_waiting: false, record, _stream: stream }
    }

    /// The body of a response that is sent without it, to HEAD or with a status that has none. Its length is still told.
    pub(crate) fn not_sent(mut self) -> Self {
        self.is_ended = true;
        self
    }

    /// The timer starts when a piece is waited for, so that a slow client is not taken for a slow upstream.
    fn poll_timeout(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let idle = self.idle;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(idle)));
        if !self.is_waiting {
            timer.as_mut().reset(Instant::now() + idle);
            self.is_waiting = true;
        }
        timer.as_mut().poll(context)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = self.source.poll_frame(context) else {
            ready!(self.poll_timeout(context));
            return Poll::Ready(Some(Err("the upstream stopped in the middle of a response".into())));
        };
        self.is_waiting = false;
        match &frame {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                // Nothing comes after trailers, and the server does not ask.
                self.is_ended |= frame.is_trailers();
                if let Some(record) = &mut self.record {
                    record.bytes_sent += length as u64;
                }
            }
            Some(Err(_)) => {}
            None => self.is_ended = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        let is_whole = self.is_ended || self.source.is_end();
        if let Some(record) = &mut self.record {
            record.is_cut |= !is_whole;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Seconds that are left, rounded up, for a body that was waited for so long and brought so many bytes.
    fn left(waited: u64, bytes: usize, body_time: u64) -> u64 {
        let upload = Upload::new();
        upload.waited_us.store(waited * 1_000_000, Ordering::Relaxed);
        upload.piece(bytes);
        let limits = Limits { body_time: Duration::from_secs(body_time), ..Limits::default() };
        let left = upload.deadline(MINUTE, &limits).saturating_duration_since(Instant::now());
        (left.as_secs_f64() - 0.001).ceil() as u64
    }

    #[test]
    fn a_body_has_the_time_that_its_bytes_buy() {
        assert_eq!(left(0, 0, 10), 10);
        assert_eq!(left(4, 0, 10), 6);
        assert_eq!(left(9, 3 << 10, 10), 4);
        assert_eq!(left(10, 1_000, 10), 0);
        assert_eq!(left(1_000, 10 << 20, 10), 60);
        assert_eq!(left(1_000, 0, 0), 60);
    }

    #[test]
    fn only_time_that_the_client_takes_counts() {
        let upload = Upload::new();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(upload.kept_waiting(), Duration::ZERO);
        upload.waits();
        std::thread::sleep(Duration::from_millis(20));
        upload.waits();
        assert!(upload.kept_waiting() >= Duration::from_millis(20));
        upload.piece(1);
        let waited = upload.kept_waiting();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(upload.kept_waiting(), waited);
        upload.complete();
        assert!(upload.deadline(MINUTE, &Limits::default()) > Instant::now() + MINUTE / 2);
    }
}
