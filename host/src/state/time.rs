//! How long a call may run: CPU time of its thread, so that a machine busy with other things fails no call.

use std::time::Duration;

use cpu_time::ThreadTime;
use wasmtime::UpdateDeadline;

/// How often the clock that ends runaway guests advances.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// The time of the call that runs.
///
/// Reading the clock costs a system call, which most calls are too short for: it is read when a call has lasted for a
/// tick, and at each tick from then on. What it used before is taken to be one tick.
#[derive(Default)]
pub(crate) struct TimeLimit {
    max: Duration,
    /// The thread's CPU time at which the call has used up its own, once that is known.
    end: Option<Duration>,
}

impl TimeLimit {
    /// Begins a call. Returns after how many ticks [`at_deadline`](Self::at_deadline) is to be asked for the first
    /// time.
    pub(crate) fn begin_call(&mut self, max: Duration) -> u64 {
        *self = Self { max, end: None };
        // Of the first, any part may be over already.
        2
    }

    /// Whether the call may go on until the next tick.
    pub(crate) fn at_deadline(&mut self) -> UpdateDeadline {
        self.at(ThreadTime::now().as_duration())
    }

    fn at(&mut self, now: Duration) -> UpdateDeadline {
        let end = *self.end.get_or_insert(now.saturating_add(self.max.saturating_sub(TICK)));
        if now >= end { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At which of these CPU times, in milliseconds, the call is interrupted.
    fn interrupted(max_ms: u64, times_ms: impl IntoIterator<Item = u64>) -> Option<u64> {
        let mut limit = TimeLimit::default();
        limit.begin_call(Duration::from_millis(max_ms));
        times_ms.into_iter().find(|time| matches!(limit.at(Duration::from_millis(*time)), UpdateDeadline::Interrupt))
    }

    #[test]
    fn time_of_the_cpu_counts_and_not_that_of_the_wall() {
        // A thread that has worked for 5 s before, and gets all of the processor.
        assert_eq!(interrupted(1_000, (5_100..).step_by(100)), Some(6_000));
        // One that gets hardly any: ticks pass, its time does not.
        assert_eq!(interrupted(1_000, (0..10_000).map(|tick| 5_100 + tick / 20)), None);
        assert_eq!(interrupted(100, [5_100]), Some(5_100));
    }

    #[test]
    fn every_call_has_its_own_time() {
        let mut limit = TimeLimit::default();
        for begin in [0, 10] {
            limit.begin_call(Duration::from_secs(1));
            assert!(matches!(limit.at(Duration::from_secs(begin)), UpdateDeadline::Continue(1)));
        }
    }
}
