//! The window that most limiters have: a counter of each key that begins anew with the first request after its end, as
//! INCR and EXPIRE make it. Up to twice the limit passes around its end, and what is refused counts too.

use std::collections::HashMap;

use slidegate::LimitMet;

/// So many counters are kept.
const COUNTERS_MAX: usize = 1_000_000;

/// Fixed windows of all keys.
#[derive(Default)]
pub(super) struct FixedWindows {
    counters: HashMap<(Vec<u8>, u64), FixedCounter>,
}

struct FixedCounter {
    ends_us: u64,
    count: u64,
}

impl FixedWindows {
    /// Counts a request by all limits that it meets at this time; whether one of them refuses it.
    pub(super) fn refuses(&mut self, limits: &[LimitMet], now_us: u64) -> bool {
        let mut is_refused = false;
        for limit in limits {
            if self.counters.len() >= COUNTERS_MAX {
                self.counters.retain(|_, counter| counter.ends_us > now_us);
            }
            // If all of them go on, those of new keys begin where there is no room: they refuse nobody.
            let is_full = self.counters.len() >= COUNTERS_MAX;
            let key = (limit.key.clone(), limit.window_us);
            if is_full && !self.counters.contains_key(&key) {
                continue;
            }
            let counter = self.counters.entry(key).or_insert(FixedCounter { ends_us: 0, count: 0 });
            if counter.ends_us <= now_us {
                *counter = FixedCounter { ends_us: now_us.saturating_add(limit.window_us), count: 0 };
            }
            counter.count = counter.count.saturating_add(limit.cost);
            is_refused |= limit.enforced && counter.count > limit.limit;
        }
        is_refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_the_limit_passes_around_the_end_of_a_window() {
        let limit = LimitMet {
            limit: 2,
            window_us: 100,
            slot_us: 1,
            cost: 1,
            enforced: true,
            service: None,
            key: b"k".to_vec(),
            state: None,
        };
        let mut windows = FixedWindows::default();
        let mut refuses = |now| windows.refuses(std::slice::from_ref(&limit), now);
        assert_eq!([0, 99, 99, 100, 101, 199].map(&mut refuses), [false, false, true, false, false, true]);
    }
}
