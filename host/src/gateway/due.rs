//! Until when the client of an HTTP/2 stream may take what it was given. A body knows that, but is not asked while the
//! server waits for the client's windows; whoever runs the stream is.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

/// When a stream is to end, unless something is taken before.
#[derive(Debug, Default)]
pub(super) struct Due(Mutex<Option<Instant>>);

thread_local! {
    /// That of the stream which runs on this thread now.
    static CURRENT: RefCell<Option<Arc<Due>>> = const { RefCell::new(None) };
}

impl Due {
    /// That of the stream in which this is called.
    pub(super) fn of_this_stream() -> Option<Arc<Self>> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Runs the stream that this belongs to.
    pub(super) fn during<T>(self: &Arc<Self>, run: impl FnOnce() -> T) -> T {
        CURRENT.set(Some(Arc::clone(self)));
        let result = run();
        CURRENT.set(None);
        result
    }

    pub(super) fn set(&self, due: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = due;
    }

    pub(super) fn get(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
