//! How much of what strangers send may wait in an instance. Its memory is bounded, and an instance that runs out of it
//! loses all it knows, so that what waits for a Redis that is silent must end well below.

/// What requests that wait for Redis may take together, in bytes.
const WAITING_MAX: usize = 8 << 20;

/// What waits, by what it takes: one budget for all filters.
#[derive(Debug, Default)]
pub(crate) struct MemoryBudget {
    taken: usize,
}

impl MemoryBudget {
    /// Whether so many bytes more may wait.
    pub(crate) fn fits(&self, bytes: usize) -> bool {
        self.taken.saturating_add(bytes) <= WAITING_MAX
    }

    pub(crate) fn take(&mut self, bytes: usize) {
        self.taken = self.taken.saturating_add(bytes);
    }

    pub(crate) fn free(&mut self, bytes: usize) {
        self.taken = self.taken.saturating_sub(bytes);
    }

    /// Whether nothing waits.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.taken == 0
    }
}
