//! What all limiters of a chain remember together, so that what bounds it holds for all of them. Limiters that count in
//! one place under one name share their windows in memory as they do in Redis.

use alloc::collections::BTreeMap;

use super::{estimate::OutputMeans, negative_cache::NegativeCache, new_keys::NewKeys};
use crate::local::LocalWindows;

/// Windows, and what saves calls.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(super) windows: LocalWindows,
    pub(super) negative_cache: NegativeCache,
    pub(super) new_keys: NewKeys,
    pub(super) means: OutputMeans,
    /// How often the clocks of services were set; of one that never was, nothing.
    clock_steps: BTreeMap<u32, u64>,
}

impl Memory {
    /// The windows that are kept here.
    #[inline]
    pub(crate) fn windows(&self) -> &LocalWindows {
        &self.windows
    }

    /// The clock of a service was set: when room appears there, it would say anew.
    pub(crate) fn forget(&mut self, service: u32) {
        self.negative_cache.forget(service);
        *self.clock_steps.entry(service).or_default() += 1;
    }

    /// How often the clock of a service was set.
    pub(super) fn clock_steps(&self, service: u32) -> u64 {
        self.clock_steps.get(&service).copied().unwrap_or_default()
    }
}
