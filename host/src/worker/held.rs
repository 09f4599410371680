//! Pieces of bodies that wait for the filter, and how much of them there may be.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

use super::core::Settled;
use crate::bindings::slidegate::filter::types::{Coding, Interest, Wants};

/// Most bytes of a body that are kept for a filter that holds them.
pub const BODY_BYTES_MAX: usize = 16 << 20;

/// Most bytes that are kept of all requests' bodies in the process together; and as many of all responses'.
pub const HELD_BYTES_MAX: usize = 256 << 20;

/// What a piece takes beside its bytes.
const PIECE: usize = 64;

/// A smaller piece may hold up a buffer that is much larger than itself, and is copied.
const SMALL: usize = 4 << 10;

/// What is kept now, of requests and of responses.
static HELD: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// Which body of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodySide {
    /// The request's.
    Request,
    /// The response's.
    Response,
}

/// Pieces of a body that wait.
#[derive(Default)]
pub(super) struct HeldPieces {
    pieces: Vec<Bytes>,
    /// Small pieces that came last, together.
    small: BytesMut,
    bytes: usize,
    /// The last of them is the body's last.
    pub(super) is_whole: bool,
    /// They have a coding, and were shown without it.
    pub(super) is_decoded: bool,
    pub(super) released: Option<oneshot::Receiver<Settled>>,
    share: HeldShare,
}

/// A part of what may be kept, until it is dropped.
#[derive(Default)]
struct HeldShare {
    bytes: usize,
    /// Where it is taken from, once it is.
    held: Option<&'static AtomicUsize>,
}

impl BodySide {
    /// What the filter wants of this body.
    pub fn interest(self, wants: Wants) -> Interest {
        match self {
            Self::Request => wants.request_body,
            Self::Response => wants.response_body,
        }
    }
}

impl HeldPieces {
    /// One more. `waits`: it does not go on at once, and so should hold up no buffer.
    pub(super) fn keep(&mut self, piece: Bytes, coding: Coding, is_last: bool, waits: bool) {
        let is_copied = piece.len() < SMALL && (waits || !self.is_empty());
        self.bytes += piece.len();
        self.is_whole = is_last;
        self.is_decoded |= coding == Coding::Decoded;
        if is_copied {
            self.small.extend_from_slice(&piece);
        }
        if !is_copied || self.small.len() >= SMALL {
            self.pieces.extend(Some(self.small.split().freeze()).filter(|small| !small.is_empty()));
        }
        if !is_copied && !piece.is_empty() {
            self.pieces.push(piece);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// All of them, which wait no more.
    pub(super) fn take_pieces(&mut self) -> Vec<Bytes> {
        self.bytes = 0;
        let small = std::mem::take(&mut self.small).freeze();
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.extend(Some(small).filter(|small| !small.is_empty()));
        pieces
    }

    pub(super) fn is_too_large(&self) -> bool {
        self.bytes > BODY_BYTES_MAX
    }

    /// Whether there is room for what is kept, which is taken.
    pub(super) fn has_room(&mut self, side: BodySide) -> bool {
        let bytes = self.bytes + (self.pieces.len() + 1) * PIECE;
        self.share.grow_to(&HELD[side as usize], bytes, HELD_BYTES_MAX)
    }
}

impl HeldShare {
    fn grow_to(&mut self, held: &'static AtomicUsize, bytes: usize, most: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        self.held = Some(held);
        // What there is no room for is not counted either: who reads the count never sees more than there may be.
        let add = |now: usize| now.checked_add(more).filter(|all| *all <= most);
        let is_taken = held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok();
        self.bytes += if is_taken { more } else { 0 };
        is_taken
    }
}

impl Drop for HeldShare {
    fn drop(&mut self) {
        if let Some(held) = self.held {
            held.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

/// How many bytes of bodies wait for filters in this process now: of requests, and of responses.
pub fn held_bytes() -> [usize; 2] {
    [&HELD[0], &HELD[1]].map(|held| held.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Buffer(std::sync::Arc<Vec<u8>>);

    impl AsRef<[u8]> for Buffer {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    #[test]
    fn small_pieces_hold_up_no_buffer_and_large_ones_are_not_copied() {
        let mut held = HeldPieces::default();
        let buffers: Vec<_> = (0..10_000).map(|_| std::sync::Arc::new(vec![b'x'; 64])).collect();
        for buffer in &buffers {
            held.keep(Bytes::from_owner(Buffer(buffer.clone())).slice(..1), Coding::Identity, false, true);
        }
        assert!(buffers.iter().all(|buffer| std::sync::Arc::strong_count(buffer) == 1));
        let large = std::sync::Arc::new(vec![b'y'; SMALL]);
        held.keep(Bytes::from_owner(Buffer(large.clone())), Coding::Identity, false, true);
        held.keep(Bytes::from_static(b"z"), Coding::Identity, true, true);
        assert_eq!(std::sync::Arc::strong_count(&large), 2);
        let pieces = held.take_pieces();
        let expected = [vec![b'x'; 10_000], vec![b'y'; SMALL], vec![b'z']].concat();
        assert!(pieces.concat() == expected && pieces.iter().all(|piece| !piece.is_empty()) && pieces.len() == 5);
        assert!(held.is_empty() && held.take_pieces().is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded_together_and_given_back() {
        let held: &AtomicUsize = Box::leak(Box::default());
        let (mut one, mut other) = (HeldShare::default(), HeldShare::default());
        assert!(one.grow_to(held, 60, 100) && one.grow_to(held, 60, 100) && other.grow_to(held, 40, 100));
        assert!(!other.grow_to(held, 41, 100), "one more than all may");
        drop(other);
        assert!(one.grow_to(held, 100, 100) && !one.grow_to(held, 101, 100));
        assert_eq!(held.load(Ordering::Relaxed), 100, "nobody sees more than all may");
        drop(one);
        assert_eq!(held.load(Ordering::Relaxed), 0);
    }
}
