//! What all limiters of a chain remember together, so that what bounds it holds for all of them. Limiters that count in
//! one place under one name share their windows in memory as they do in Redis.

use super::new_keys::NewKeys;
use crate::{local::LocalWindows, negative_cache::NegativeCache};

/// Windows, and what saves calls.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(super) windows: LocalWindows,
    pub(super) negative_cache: NegativeCache,
    pub(super) new_keys: NewKeys,
}

impl Memory {
    /// The windows that are kept here.
    pub(crate) fn windows(&self) -> &LocalWindows {
        &self.windows
    }

    /// The clock of a service was set: when room appears there, it would say anew.
    pub(crate) fn forget(&mut self, service: u32) {
        self.negative_cache.forget(service);
    }
}
