//! How far a request's body has come.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::settings::Limits;

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
    is_received: AtomicBool,
    is_complete: AtomicBool,
    is_broken: AtomicBool,
    answer: Mutex<ResponseState>,
}

/// What became of the answer to a request.
#[derive(Debug, Default)]
struct ResponseState {
    is_over: bool,
    /// Who waits until it is.
    waiting: Option<Waker>,
}

impl Upload {
    pub(crate) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            bytes: AtomicU64::new(0),
            last_piece_us: AtomicU64::new(0),
            waiting_since_us: AtomicU64::new(0),
            waited_us: AtomicU64::new(0),
            is_received: AtomicBool::new(false),
            is_complete: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
            answer: Mutex::default(),
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

    /// Whether all of it has come from the client, though the filter may still keep some of it.
    pub(crate) fn is_received(&self) -> bool {
        self.is_received.load(Ordering::Relaxed)
    }

    /// Whether the client broke the body off, or what it sent is none.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }

    /// When the last piece was sent on; when the request began, if none was.
    pub(crate) fn last_piece(&self) -> Instant {
        self.epoch + Duration::from_micros(self.last_piece_us.load(Ordering::Relaxed))
    }

    /// Until when the response is waited for, as far as is known now: so long after the last piece of the body, and no
    /// longer than the client may take for its body, which an upstream that is slow to take it does not shorten.
    pub(crate) fn deadline(&self, response: Duration, limits: &Limits) -> Instant {
        let of_response = self.last_piece() + response;
        match limits.body_allowance(self.bytes()).filter(|_| !self.is_received()) {
            Some(allowance) => of_response.min(Instant::now() + allowance.saturating_sub(self.kept_waiting())),
            None => of_response,
        }
    }

    /// Nobody waits for the answer any more. What is still to come of the body is timed from now on.
    pub(crate) fn answer_ends(&self) {
        let waiting = {
            let mut answer = self.answer();
            answer.is_over = true;
            answer.waiting.take()
        };
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }

    /// Waits until nobody waits for the answer any more. One task may do so.
    pub(crate) fn poll_answer_over(&self, context: &Context<'_>) -> Poll<()> {
        let mut answer = self.answer();
        if answer.is_over {
            return Poll::Ready(());
        }
        answer.waiting = Some(context.waker().clone());
        Poll::Pending
    }

    fn answer(&self) -> MutexGuard<'_, ResponseState> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the client was waited for in all.
    fn kept_waiting(&self) -> Duration {
        let since = self.waiting_since_us.load(Ordering::Relaxed);
        let now = if since == 0 { 0 } else { self.elapsed_us().saturating_sub(since) };
        Duration::from_micros(self.waited_us.load(Ordering::Relaxed).saturating_add(now))
    }

    /// The client is waited for, unless all has come.
    pub(crate) fn waits(&self) {
        if !self.is_received() && self.waiting_since_us.load(Ordering::Relaxed) == 0 {
            self.waiting_since_us.store(self.elapsed_us().max(1), Ordering::Relaxed);
        }
    }

    /// So many bytes more are sent on.
    pub(crate) fn piece(&self, length: usize) {
        self.bytes.fetch_add(length as u64, Ordering::Relaxed);
        self.waited_us.store(u64::try_from(self.kept_waiting().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.waiting_since_us.store(0, Ordering::Relaxed);
        self.last_piece_us.store(self.elapsed_us(), Ordering::Relaxed);
    }

    fn elapsed_us(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// All has come from the client.
    pub(crate) fn received(&self) {
        self.is_received.store(true, Ordering::Relaxed);
    }

    /// Nothing more is to come.
    pub(crate) fn complete(&self) {
        self.piece(0);
        self.received();
        self.is_complete.store(true, Ordering::Relaxed);
    }

    /// The client broke off, or what it sent is no body.
    pub(crate) fn breaks(&self) {
        self.is_broken.store(true, Ordering::Relaxed);
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
        upload.received();
        upload.waits();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(upload.kept_waiting(), waited);
        upload.complete();
        assert!(upload.deadline(MINUTE, &Limits::default()) > Instant::now() + MINUTE / 2);
    }
}
