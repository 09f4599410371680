//! The data of an instance's store: what its imports know, and what it may use.

mod limit;
mod time;

use self::limit::MemoryLimit;
pub(crate) use self::time::TICK;
use self::time::TimeLimit;
use crate::imports::{Ctx, View};

/// The data of an instance's store.
pub(crate) struct State {
    pub(crate) ctx: Ctx,
    pub(crate) memory: MemoryLimit,
    pub(crate) time: TimeLimit,
}

impl State {
    /// Of an instance that may use so many bytes of memory.
    pub(crate) fn new(memory_bytes: usize) -> Self {
        State { ctx: Ctx::new(), memory: MemoryLimit::new(memory_bytes), time: TimeLimit::default() }
    }
}

impl View for State {
    fn ctx(&mut self) -> &mut Ctx {
        &mut self.ctx
    }
}
