//! A request's body that can be retried: what was taken of it is buffered while it is little.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, sleep_until};

use crate::gateway::body::RequestBody;
use crate::gateway::plain_body::BodyError;
use crate::gateway::streams::OpenStream;

/// A body that can be sent again as long as little of it was taken.
pub(super) struct Replay(Arc<Mutex<Recording>>);

struct Recording {
    body: RequestBody,
    /// What was taken from `body`; none if that was more than is kept. Copied, since small pieces would each keep the
    /// buffer that they were read into.
    taken: Option<Vec<u8>>,
    /// How many bytes are kept at most.
    kept_max: usize,
    /// The attempt that the body goes to, counted from 1.
    attempt: u64,
}

/// The body of one attempt.
pub(super) struct AttemptBody {
    recording: Arc<Mutex<Recording>>,
    attempt: u64,
    /// How many of the kept bytes were sent.
    sent: usize,
    /// Its place on an HTTP/2 connection.
    _stream: Option<OpenStream>,
}

impl Replay {
    /// At most `kept_max` bytes of the body are kept.
    pub(super) fn new(body: RequestBody, kept_max: usize) -> Self {
        Self(Arc::new(Mutex::new(Recording { body, taken: Some(Vec::new()), kept_max, attempt: 0 })))
    }

    /// The body from its beginning. Earlier attempts get no more of it. To be called again only while
    /// [`Self::can_repeat`].
    pub(super) fn attempt(&self, stream: Option<OpenStream>) -> AttemptBody {
        let mut recording = lock(&self.0);
        recording.attempt += 1;
        AttemptBody { recording: Arc::clone(&self.0), attempt: recording.attempt, sent: 0, _stream: stream }
    }

    /// Keeps nothing of the body from now on: whoever gets it does not say that it did not look at it.
    pub(super) fn keep_nothing(&self) {
        lock(&self.0).kept_max = 0;
    }

    /// Whether all of the body can be sent again.
    pub(super) fn can_repeat(&self) -> bool {
        lock(&self.0).taken.is_some()
    }

    /// Keeps nothing any more: the request was answered.
    pub(super) fn release(&self) {
        let mut recording = lock(&self.0);
        // What was kept and not sent yet is still owed to the upstream.
        if recording.attempt == 1 {
            recording.taken = None;
        }
    }

    /// Whether there is nothing more of it to come.
    pub(super) fn is_complete(&self) -> bool {
        lock(&self.0).body.deadline().is_none()
    }

    /// Waits until the answer is over and what is still to come of the body is late, which an upstream that takes no
    /// more of it does not notice; and gives it up. False if that need not be: it has come, or is gone with its
    /// connection.
    pub(super) fn abandoned(&self) -> impl Future<Output = bool> + Send + 'static {
        let (upload, recording) = (Arc::clone(lock(&self.0).body.upload()), Arc::downgrade(&self.0));
        async move {
            if upload.is_complete() {
                return false;
            }
            poll_fn(|context| upload.poll_answer_over(context)).await;
            loop {
                let deadline = {
                    let Some(recording) = recording.upgrade() else { return false };
                    let mut recording = lock(&recording);
                    let Some(deadline) = recording.body.deadline() else { return false };
                    if deadline <= Instant::now() {
                        recording.body.abandon();
                        return true;
                    }
                    deadline
                };
                sleep_until(deadline).await;
            }
        }
    }

    /// Whether nothing of the body was sent.
    pub(super) fn is_untouched(&self) -> bool {
        lock(&self.0).taken.as_ref().is_some_and(Vec::is_empty)
    }
}

fn lock(recording: &Mutex<Recording>) -> MutexGuard<'_, Recording> {
    recording.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recording {
    fn record(&mut self, frame: &Frame<Bytes>) {
        match (frame.data_ref(), &mut self.taken) {
            (Some(piece), Some(taken)) if taken.len() + piece.len() <= self.kept_max => taken.extend_from_slice(piece),
            // Too much, or trailers.
            _ => self.taken = None,
        }
    }

    /// What is kept of the body after its first so many bytes.
    fn kept_after(&self, sent: usize) -> &[u8] {
        self.taken.as_ref().and_then(|taken| taken.get(sent..)).unwrap_or_default()
    }
}

impl Body for AttemptBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let mut recording = lock(&this.recording);
        if recording.attempt != this.attempt {
            return Poll::Ready(Some(Err("the request is sent on another connection".into())));
        }
        let kept = recording.kept_after(this.sent);
        if !kept.is_empty() {
            this.sent += kept.len();
            return Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(kept)))));
        }
        let frame = ready!(Pin::new(&mut recording.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            recording.record(frame);
            this.sent += frame.data_ref().map_or(0, Bytes::len);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let recording = lock(&self.recording);
        recording.attempt == self.attempt
            && recording.kept_after(self.sent).is_empty()
            && recording.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let recording = lock(&self.recording);
        let kept = recording.kept_after(self.sent).len() as u64;
        let rest = recording.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(kept));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(kept));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::body::PieceSource;
    use crate::gateway::plain_body::PlainBody;
    use crate::gateway::upload::Upload;
    use crate::settings::Limits;
    use http_body_util::BodyExt;
    use std::time::Duration;
    use tokio::runtime::Builder;

    fn replay(pieces: Vec<Bytes>) -> Replay {
        let source = PieceSource::Plain(PlainBody::own(pieces));
        let body = RequestBody::new(source, Arc::new(Upload::new()), Duration::from_secs(60), Limits::default(), None);
        Replay::new(body, 1000)
    }

    fn read(body: &mut AttemptBody, frames: usize) -> Vec<u8> {
        let runtime = Builder::new_current_thread().build().expect("a runtime can be made");
        let mut bytes = Vec::new();
        for _ in 0..frames {
            let frame = runtime.block_on(body.frame()).expect("a frame").expect("no error");
            bytes.extend_from_slice(frame.data_ref().expect("data"));
        }
        bytes
    }

    #[test]
    fn a_second_attempt_begins_anew_and_ends_the_first() {
        let replay = replay(vec![Bytes::from_static(b"one"), Bytes::from_static(b"two"), Bytes::from_static(b"three")]);
        assert!(replay.is_untouched());
        let mut first = replay.attempt(None);
        assert_eq!((read(&mut first, 2), first.size_hint().exact()), (b"onetwo".to_vec(), Some(5)));
        assert!(replay.can_repeat() && !replay.is_untouched());
        let mut second = replay.attempt(None);
        assert_eq!(second.size_hint().exact(), Some(11));
        // What is kept comes in one piece.
        assert_eq!(read(&mut second, 2), b"onetwothree");
        assert!(second.is_end_stream());
        let runtime = Builder::new_current_thread().build().expect("a runtime can be made");
        assert!(runtime.block_on(first.frame()).expect("a frame").is_err());
    }

    struct Shared(Arc<Vec<u8>>);

    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    #[test]
    fn a_kept_piece_keeps_no_more_than_itself() {
        let buffer = Arc::new(vec![b'x'; 1000]);
        let replay = replay(vec![Bytes::from_owner(Shared(Arc::clone(&buffer))).slice(..1)]);
        assert_eq!((read(&mut replay.attempt(None), 1), replay.can_repeat()), (b"x".to_vec(), true));
        assert_eq!(Arc::strong_count(&buffer), 1);
        assert_eq!(read(&mut replay.attempt(None), 1), b"x");
    }

    #[test]
    fn more_than_is_kept_cannot_be_sent_again() {
        let replay = replay(vec![Bytes::from(vec![b'x'; 1000]), Bytes::from_static(b"y")]);
        let mut body = replay.attempt(None);
        assert_eq!((read(&mut body, 1).len(), replay.can_repeat()), (1000, true));
        assert_eq!((read(&mut body, 1), replay.can_repeat()), (b"y".to_vec(), false));
        assert!(body.is_end_stream());
    }
}
