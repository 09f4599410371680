//! Commands that cannot be sent yet, bounded in number and in bytes.

use std::collections::VecDeque;

use crate::bindings::slidegate::filter::redis::Command;

/// Most commands that wait, at one place. More mean that the server does not keep up.
pub(super) const WAITING_MAX: usize = 16_384;

/// Most bytes of commands that wait, at one place. A command that is longer by itself may wait alone.
pub(super) const WAITING_BYTES_MAX: usize = 4 << 20;

/// What a word takes beside its bytes, also as Redis reads it.
const WORD_BYTES: usize = 24;

/// What waits, in order.
pub(super) struct Backlog<T> {
    waiting: VecDeque<(usize, T)>,
    bytes: usize,
}

impl<T> Default for Backlog<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), bytes: 0 }
    }
}

impl<T> Backlog<T> {
    /// Adds what waits with so many bytes, unless there is no room for it. Those at the front that have left make room.
    pub(super) fn push(&mut self, bytes: usize, item: T, has_left: impl Fn(&T) -> bool) -> bool {
        while let Some((of_first, _)) = self.waiting.front().filter(|(_, first)| has_left(first)) {
            self.bytes -= of_first;
            self.waiting.pop_front();
        }
        let has_room = self.waiting.is_empty() || (self.waiting.len() < WAITING_MAX && fits(self.bytes, bytes));
        if has_room {
            self.bytes += bytes;
            self.waiting.push_back((bytes, item));
        }
        has_room
    }

    /// All that waits, in order.
    pub(super) fn into_items(self) -> impl Iterator<Item = T> {
        self.waiting.into_iter().map(|(_, item)| item)
    }
}

/// Whether so many more bytes may wait beside those that do.
pub(super) fn fits(waiting: usize, more: usize) -> bool {
    waiting == 0 || waiting.saturating_add(more) <= WAITING_BYTES_MAX
}

/// What a command takes while it waits.
pub(super) fn bytes_of(command: &Command) -> usize {
    command.bytes.len() + WORD_BYTES * command.lengths.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_bounded_and_who_left_makes_room() {
        let mut backlog = Backlog::default();
        assert!(backlog.push(2 * WAITING_BYTES_MAX, 0, |_| false), "a long one may wait alone");
        assert!(!backlog.push(1, 1, |_| false));
        assert!(backlog.push(WAITING_BYTES_MAX - 1, 2, |item| *item == 0));
        assert!(backlog.push(1, 3, |_| false) && !backlog.push(1, 4, |_| false));
        assert!(backlog.into_items().eq([2, 3]));
    }

    #[test]
    fn their_number_is_bounded() {
        let mut backlog = Backlog::default();
        assert!((0..WAITING_MAX).all(|item| backlog.push(1, item, |_| false)));
        assert!(!backlog.push(1, 0, |_| false));
    }
}
