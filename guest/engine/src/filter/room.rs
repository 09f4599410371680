//! How much of what strangers send may wait in an instance. Its memory is bounded, and an instance that runs out of it loses all it knows, so
//! that what waits for a Redis that is silent must end well below.

use crate::{plan::Plan, verdict::HeaderEdit};

/// What requests that wait for Redis may take together, in bytes. More get the failure mode at once.
const WAITING_MAX: usize = 8 << 20;

/// What changes to responses that have not come yet may take together, in bytes. More responses go without.
const EDITS_MAX: usize = 8 << 20;

/// A call beside its keys, which it has once, its command for a moment, and its lane as a name.
const CALL_BYTES: usize = 512;
const KEY_COPIES: usize = 3;

/// A request that waits for a call, and the answer that it may get, beside the body that all refusals share.
const WAITER_BYTES: usize = 512;

/// A change to a header beside its texts.
const EDIT_BYTES: usize = 96;

/// What waits, by what it takes.
#[derive(Debug, Default)]
pub(super) struct Room {
    waiting: usize,
    edits: usize,
}

impl Room {
    /// Whether one more call for such a plan fits, with the request that makes it.
    pub(super) fn fits(&self, plan: &Plan) -> bool {
        self.waiting + call_bytes(plan) + WAITER_BYTES <= WAITING_MAX
    }

    pub(super) fn take_call(&mut self, plan: &Plan) {
        self.waiting += call_bytes(plan);
    }

    pub(super) fn free_call(&mut self, plan: &Plan) {
        self.waiting = self.waiting.saturating_sub(call_bytes(plan));
    }

    pub(super) fn take_waiter(&mut self) {
        self.waiting += WAITER_BYTES;
    }

    pub(super) fn free_waiters(&mut self, count: usize) {
        self.waiting = self.waiting.saturating_sub(count.saturating_mul(WAITER_BYTES));
    }

    /// Whether nothing waits.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        (self.waiting, self.edits) == (0, 0)
    }

    /// Takes room for changes to a response. False: there is none.
    pub(super) fn take_edits(&mut self, edits: &[HeaderEdit]) -> bool {
        let bytes = edit_bytes(edits);
        let fits = self.edits + bytes <= EDITS_MAX;
        if fits {
            self.edits += bytes;
        }
        fits
    }

    pub(super) fn free_edits(&mut self, edits: &[HeaderEdit]) {
        self.edits = self.edits.saturating_sub(edit_bytes(edits));
    }
}

fn call_bytes(plan: &Plan) -> usize {
    CALL_BYTES + KEY_COPIES * plan.key_bytes()
}

fn edit_bytes(edits: &[HeaderEdit]) -> usize {
    edits.iter().map(|HeaderEdit::Set(name, value)| EDIT_BYTES + name.len() + value.len()).sum()
}
