//! Streams that wait for a filter's decision, one state each.

use alloc::{boxed::Box, collections::BTreeMap};

use crate::{memory_budget::MemoryBudget, verdict::Edits};

/// What a stream that waits takes, with the answer that it may get, beside a body that all refusals share and what it
/// carries, in bytes.
pub(crate) const WAITER_BYTES: usize = 512;

/// A stream at a filter, and what tells it from the same stream at the next one, and from a later one of the same id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiter {
    pub(crate) stream: u64,
    ticket: u64,
    /// When it came to the filter.
    pub(crate) since_ns: u64,
}

/// What is remembered of a stream that waits.
#[derive(Debug)]
pub(crate) struct WaitingStream {
    /// The place in the chain of the filter that it waits for.
    pub(crate) filter: usize,
    /// What the filters before have done to it.
    pub(crate) edits: Edits,
}

/// Streams that wait, by the adapter's names for them.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    waiting: BTreeMap<u64, Box<(u64, WaitingStream)>>,
    last_ticket: u64,
}

impl Streams {
    /// A stream comes to a filter.
    pub(crate) fn arrive(&mut self, stream: u64, now_ns: u64) -> Waiter {
        self.last_ticket += 1;
        Waiter { stream, ticket: self.last_ticket, since_ns: now_ns }
    }

    /// It waits there. What it carries takes room.
    pub(crate) fn wait(&mut self, waiter: Waiter, waiting: WaitingStream, budget: &mut MemoryBudget) {
        budget.take(waiting.edits.size());
        self.waiting.insert(waiter.stream, Box::new((waiter.ticket, waiting)));
    }

    /// Whether a stream still waits where it did.
    pub(crate) fn waits(&self, waiter: &Waiter) -> bool {
        self.waiting.get(&waiter.stream).is_some_and(|waiting| waiting.0 == waiter.ticket)
    }

    /// A stream waits no longer, if it did so still.
    pub(crate) fn leave(&mut self, waiter: &Waiter, budget: &mut MemoryBudget) -> Option<WaitingStream> {
        if self.waits(waiter) { self.forget(waiter.stream, budget) } else { None }
    }

    /// Whatever waits under this name does so no longer.
    pub(crate) fn forget(&mut self, stream: u64, budget: &mut MemoryBudget) -> Option<WaitingStream> {
        let (_, waiting) = *self.waiting.remove(&stream)?;
        budget.free(waiting.edits.size());
        Some(waiting)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}
