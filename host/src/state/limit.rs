//! How much memory an instance may use, and how much it does.

use wasmtime::{ResourceLimiter, Result};

/// Most elements of one table. A component of this size has a few hundred functions to point to.
const TABLE_ELEMENTS_MAX: usize = 100_000;

/// Counts the linear memories of one store together.
pub(crate) struct MemoryLimit {
    used: usize,
    max: usize,
    /// Whether the call that runs was refused memory.
    was_refused: bool,
}

impl MemoryLimit {
    pub(crate) fn new(max: usize) -> Self {
        Self { used: 0, max, was_refused: false }
    }

    /// Sets the most that may be used, in bytes.
    pub(crate) fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Forgets what was refused before.
    pub(crate) fn begin_call(&mut self) {
        self.was_refused = false;
    }

    /// Whether memory was refused since the call began.
    pub(crate) fn was_refused(&self) -> bool {
        self.was_refused
    }

    /// In bytes, over all memories.
    pub(crate) fn used(&self) -> usize {
        self.used
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        // Counted only if it will be granted: beyond its own maximum the memory does not grow.
        let granted = used <= self.max && maximum.is_none_or(|maximum| desired <= maximum);
        if granted {
            self.used = used;
        }
        self.was_refused |= !granted;
        Ok(granted)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_are_counted_together() {
        let mut limit = MemoryLimit::new(100);
        assert!(limit.memory_growing(0, 60, None).unwrap());
        assert!(limit.memory_growing(0, 40, None).unwrap());
        assert!(!limit.memory_growing(60, 61, None).unwrap());
        assert_eq!(limit.used(), 100);
    }

    #[test]
    fn what_is_not_granted_is_not_counted() {
        let mut limit = MemoryLimit::new(100);
        assert!(!limit.memory_growing(0, 60, Some(50)).unwrap());
        assert!(!limit.memory_growing(0, 101, None).unwrap());
        assert_eq!(limit.used(), 0);
    }
}
