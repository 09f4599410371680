//! What a body's reader was given and has not let go of yet.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

/// How many pieces were not let go of.
#[derive(Debug, Default)]
pub(super) struct Untaken {
    pieces: AtomicUsize,
    waiting: Mutex<Option<Waker>>,
}

/// A piece in its reader's hands.
struct TrackedPiece {
    bytes: Bytes,
    untaken: Arc<Untaken>,
}

impl Untaken {
    /// The piece, which counts until its reader drops it.
    pub(super) fn track(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        self.pieces.fetch_add(1, Ordering::Relaxed);
        Bytes::from_owner(TrackedPiece { bytes, untaken: Arc::clone(self) })
    }

    pub(super) fn is_none(&self) -> bool {
        self.pieces.load(Ordering::Acquire) == 0
    }

    /// Waits until the reader has let go of all.
    pub(super) fn poll_none(&self, context: &Context<'_>) -> Poll<()> {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
        // Looked at after the waker is there: whoever lets go later finds it.
        if self.is_none() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl AsRef<[u8]> for TrackedPiece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for TrackedPiece {
    fn drop(&mut self) {
        if self.untaken.pieces.fetch_sub(1, Ordering::AcqRel) == 1 {
            let waiting = self.untaken.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_counts_until_its_last_part_is_dropped() {
        let untaken = Arc::new(Untaken::default());
        let context = Context::from_waker(Waker::noop());
        assert!(untaken.poll_none(&context).is_ready());
        let mut piece = untaken.track(Bytes::from_static(b"abc"));
        let head = piece.split_to(1);
        drop(piece);
        assert!(untaken.poll_none(&context).is_pending());
        assert_eq!(head, "a");
        drop(head);
        assert!(untaken.poll_none(&context).is_ready());
    }
}
