//! How an upstream is doing, by what becomes of requests: one that fails to take connections, or takes them and answers
//! nothing, several times in a row is left out for a while; then one request tries it again (half-open), and lets it
//! back in, or not.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Failures in a row after which an upstream is left out.
const FAILURES_MAX: u32 = 3;

/// How one upstream is doing.
pub(super) struct PassiveHealth {
    /// How long it is left out, and how long a probe may take.
    ejection: Duration,
    started: Instant,
    /// In a row.
    failures: AtomicU32,
    /// Until when it is left out, in milliseconds after `started`; zero if it is not.
    out_until_ms: AtomicU64,
}

impl PassiveHealth {
    pub(super) fn new(ejection: Duration) -> Self {
        Self { ejection, started: Instant::now(), failures: AtomicU32::new(0), out_until_ms: AtomicU64::new(0) }
    }

    /// Whether a request may go there. Of one that was left out for long enough, the first who asks is told so: that is
    /// the probe.
    pub(super) fn admits(&self) -> bool {
        let out_until = self.out_until_ms.load(Ordering::Relaxed);
        // If nothing comes of the probe, there is another one after the same time.
        out_until == 0 || (self.would_admit() && self.leave_out(out_until, self.now_ms()))
    }

    /// Whether a request that asked now might go there; this is no probe.
    pub(super) fn would_admit(&self) -> bool {
        let out_until = self.out_until_ms.load(Ordering::Relaxed);
        out_until == 0 || self.now_ms() >= out_until
    }

    /// It has answered. Whether it was left out before.
    pub(super) fn answers(&self) -> bool {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        self.out_until_ms.load(Ordering::Relaxed) != 0 && self.out_until_ms.swap(0, Ordering::Relaxed) != 0
    }

    /// It took no connection, or answered nothing. Whether it is left out from now on, and was not before.
    pub(super) fn fails(&self) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        failures >= FAILURES_MAX && self.leave_out(0, self.now_ms())
    }

    fn leave_out(&self, before: u64, now: u64) -> bool {
        let until = now.saturating_add(u64::try_from(self.ejection.as_millis()).unwrap_or(u64::MAX)).max(1);
        self.out_until_ms.compare_exchange(before, until, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_failures_in_a_row_leave_it_out_and_one_answer_lets_it_back() {
        let health = PassiveHealth::new(Duration::from_secs(3600));
        for _ in 0..10 {
            assert!(!health.fails() && !health.fails() && health.admits());
            assert!(!health.answers(), "it was not left out");
        }
        assert!(!health.fails() && !health.fails() && health.fails());
        assert!(!health.admits() && !health.fails(), "it is told once");
        assert!(health.answers() && health.admits() && !health.answers());
    }

    #[test]
    fn after_a_while_one_request_tries_it() {
        let health = PassiveHealth::new(Duration::from_secs(3600));
        for _ in 0..FAILURES_MAX {
            health.fails();
        }
        health.out_until_ms.store(1, Ordering::Relaxed);
        while health.now_ms() < 1 {
            std::thread::yield_now();
        }
        assert!(health.admits(), "the probe");
        assert!(!health.admits() && !health.fails() && !health.admits());
        assert!(health.answers() && health.admits());
    }
}
