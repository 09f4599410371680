//! How much of what strangers send may wait in an instance. Its memory is bounded, and an instance that runs out of it
//! loses all it knows, so that what waits for a Redis that is silent must end well below.

/// What requests that wait for Redis may take together, in bytes.
const WAITING_MAX: usize = 8 << 20;

/// What is known of streams that go on, and of requests whose bodies are read, may take so much together, in bytes.
const FOLLOWED_MAX: usize = 24 << 20;

/// What waits, by what it takes, and what is followed: one budget for all filters.
#[derive(Debug, Default)]
pub(crate) struct MemoryBudget {
    taken: usize,
    followed: usize,
}

impl MemoryBudget {
    /// Whether so many bytes more may wait.
    #[inline]
    pub(crate) fn fits(&self, bytes: usize) -> bool {
        self.taken.saturating_add(bytes) <= WAITING_MAX
    }

    #[inline]
    pub(crate) fn take(&mut self, bytes: usize) {
        self.taken = self.taken.saturating_add(bytes);
    }

    #[inline]
    pub(crate) fn free(&mut self, bytes: usize) {
        self.taken = self.taken.saturating_sub(bytes);
    }

    /// Whether so many bytes more may be known of streams.
    pub(crate) fn fits_followed(&self, bytes: usize) -> bool {
        self.followed.saturating_add(bytes) <= FOLLOWED_MAX
    }

    #[inline]
    pub(crate) fn take_followed(&mut self, bytes: usize) {
        self.followed = self.followed.saturating_add(bytes);
    }

    #[inline]
    pub(crate) fn free_followed(&mut self, bytes: usize) {
        self.followed = self.followed.saturating_sub(bytes);
    }

    /// Whether nothing waits.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.taken == 0 && self.followed == 0
    }
}
