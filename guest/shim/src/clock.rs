//! A clock that never runs backwards, out of the wall clock that the gateway tells.

use std::cell::Cell;

/// Follows a wall clock. When that is set back, this goes on from where it was and keeps the difference. When it is set
/// forward, this goes with it: that cannot be told from time that passed.
#[derive(Debug, Default)]
pub struct MonotonicClock {
    last_ns: Cell<u64>,
    /// By how much the wall clock was set back, altogether.
    lost_ns: Cell<u64>,
}

impl MonotonicClock {
    /// Monotonic nanoseconds, given the wall clock's.
    pub fn monotonic_ns(&self, wall_ns: u64) -> u64 {
        let now_ns = wall_ns.saturating_add(self.lost_ns.get());
        let back_ns = self.last_ns.get().saturating_sub(now_ns);
        self.lost_ns.set(self.lost_ns.get().saturating_add(back_ns));
        let now_ns = now_ns.max(self.last_ns.get());
        self.last_ns.set(now_ns);
        now_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_and_never_runs_backwards() {
        let clock = MonotonicClock::default();
        let told = [100, 150, 20, 30, 30, 200, 0, 5].map(|wall_ns| clock.monotonic_ns(wall_ns));
        assert_eq!(told, [100, 150, 150, 160, 160, 330, 330, 335]);
        assert_eq!([u64::MAX, 7, 8].map(|wall_ns| clock.monotonic_ns(wall_ns)), [u64::MAX; 3]);
    }
}
