//! The requests that an HTTP/2 connection serves at a time. The upstream says how many they may be; the library below
//! has those beyond wait, where another connection would serve them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The streams of one connection.
pub(crate) struct ConnectionStreams {
    /// How many there may be at a time.
    allowed: AtomicUsize,
    open: AtomicUsize,
    /// How many there were in all.
    begun: AtomicUsize,
    /// Those of them that the upstream has not looked at, as it ends the connection.
    left: AtomicUsize,
    /// Whether no further one begins.
    is_retired: AtomicBool,
    /// Tells that one has ended.
    freed: Arc<Notify>,
}

/// A request's place among those that its connection serves at a time, as long as something of it or of its response is
/// to come. Clones are the same one.
#[derive(Clone)]
pub(crate) struct OpenStream {
    _place: Arc<StreamPlace>,
}

struct StreamPlace(Arc<ConnectionStreams>);

impl ConnectionStreams {
    pub(crate) fn new(allowed: usize, freed: Arc<Notify>) -> Self {
        let none = AtomicUsize::default;
        Self {
            allowed: AtomicUsize::new(allowed),
            open: none(),
            begun: none(),
            left: none(),
            is_retired: AtomicBool::new(false),
            freed,
        }
    }

    /// So many may be open at a time from now on.
    pub(crate) fn allow(&self, allowed: usize) {
        self.allowed.store(allowed, Ordering::Relaxed);
    }

    /// One more, if there may be.
    pub(crate) fn open(self: &Arc<Self>) -> Option<OpenStream> {
        let allowed = self.allowed.load(Ordering::Relaxed);
        let one_more = |open| (open < allowed).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        self.begun.fetch_add(1, Ordering::Relaxed);
        Some(OpenStream { _place: Arc::new(StreamPlace(Arc::clone(self))) })
    }

    pub(crate) fn leave_one(&self) {
        self.left.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn has_served_any(&self) -> bool {
        self.left.load(Ordering::Relaxed) < self.begun.load(Ordering::Relaxed)
    }

    pub(crate) fn retire(&self) {
        self.is_retired.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Relaxed)
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_open_at_a_time_than_may_be() {
        let streams = Arc::new(ConnectionStreams::new(2, Arc::default()));
        let (first, second) = (streams.open(), streams.open());
        assert!(first.is_some() && second.is_some() && streams.open().is_none());
        let same = first.clone();
        drop(first);
        assert!(streams.open().is_none(), "something of it is to come");
        drop(same);
        let third = streams.open();
        assert!(third.is_some() && streams.open().is_none());
        streams.allow(3);
        assert!(streams.open().is_some());
        streams.allow(1);
        drop(second);
        assert!(streams.open().is_none());
    }

    #[test]
    fn one_whose_every_stream_was_left_has_served_none() {
        let streams = Arc::new(ConnectionStreams::new(9, Arc::default()));
        let _open = [streams.open(), streams.open()];
        streams.leave_one();
        assert!(streams.has_served_any());
        streams.leave_one();
        assert!(!streams.has_served_any());
    }
}
