//! A circuit breaker: when to stop asking a Redis that fails, and when to try it again.

use core::cmp::min;

use super::failure::FailureCause;

/// After so many failures in a row calls stop.
pub(crate) const FAILURES_MAX: u32 = 5;

/// The first pause before a probe; each probe that fails doubles it.
const FIRST_PAUSE_NS: u64 = 50_000_000;

/// The longest pause: a Redis that is back is asked again well within a second. So long a probe is waited for, too,
/// before another one goes: it may be lost.
const LONGEST_PAUSE_NS: u64 = 500_000_000;

/// Calls that fail do not count while others succeeded so lately: then it is some of a cluster's nodes that fail, or
/// some keys.
const WELL_NS: u64 = 100_000_000;

/// The circuit breaker of one service. Closed, it lets every call through; open, none; half-open, one probe at a time,
/// which closes it or leaves it open for longer.
#[derive(Debug, Default)]
pub(crate) struct CircuitBreaker {
    /// In a row, while closed.
    failures: u32,
    /// When a call last succeeded.
    well_ns: Option<u64>,
    /// None while closed.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    /// Why the last call failed.
    cause: FailureCause,
    pause_ns: u64,
    /// When it is half-open, and the next probe may go.
    probe_at_ns: u64,
}

/// What becomes of a call that somebody wants to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// It is made.
    Call,
    /// It is made as the half-open probe, and what comes of it decides over those that follow. The breaker must be
    /// told.
    Probe,
    /// It is not made, because calls failed like this.
    Refused(FailureCause),
}

impl CircuitBreaker {
    /// Asks for one call.
    #[inline]
    pub(crate) fn gate(&mut self, now_ns: u64) -> Gate {
        let Some(open) = &mut self.open else { return Gate::Call };
        if now_ns < open.probe_at_ns {
            return Gate::Refused(open.cause);
        }
        open.probe_at_ns = now_ns.saturating_add(LONGEST_PAUSE_NS);
        Gate::Probe
    }

    /// Whether it lets every call through.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.open.is_none()
    }

    /// A call was answered. Returns whether that closed the breaker.
    #[inline]
    pub(crate) fn succeeded(&mut self, now_ns: u64) -> bool {
        let was_open = self.open.is_some();
        *self = CircuitBreaker { well_ns: Some(now_ns), ..CircuitBreaker::default() };
        was_open
    }

    /// A call failed. Returns whether the breaker opened just now. A key of the wrong type is no failure: Redis is
    /// well.
    pub(crate) fn failed(&mut self, cause: FailureCause, probe: bool, now_ns: u64) -> bool {
        match &mut self.open {
            // Calls that were on their way when it opened tell nothing new.
            Some(open) if probe => {
                open.cause = cause;
                open.pause_ns = min(open.pause_ns * 2, LONGEST_PAUSE_NS);
                open.probe_at_ns = now_ns.saturating_add(open.pause_ns);
                false
            }
            Some(_) => false,
            None => {
                self.failures = self.failures.saturating_add(1);
                let is_well = self.well_ns.is_some_and(|well_ns| now_ns.saturating_sub(well_ns) < WELL_NS);
                if self.failures < FAILURES_MAX || is_well {
                    return false;
                }
                let probe_at_ns = now_ns.saturating_add(FIRST_PAUSE_NS);
                self.open = Some(Open { cause, pause_ns: FIRST_PAUSE_NS, probe_at_ns });
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn opened(at_ns: u64) -> CircuitBreaker {
        let mut breaker = CircuitBreaker::default();
        for failure in 1..=FAILURES_MAX {
            assert_eq!(breaker.gate(at_ns), Gate::Call);
            assert_eq!(breaker.failed(FailureCause::Timeout, false, at_ns), failure == FAILURES_MAX);
        }
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_not_before() {
        let mut breaker = CircuitBreaker::default();
        for round in 0..10 {
            for _ in 1..FAILURES_MAX {
                assert!(!breaker.failed(FailureCause::Connect, false, round * 1_000 * MS));
            }
            breaker.succeeded(round * 1_000 * MS);
        }
        assert_eq!(breaker.gate(0), Gate::Call);
        assert_eq!(opened(0).gate(0), Gate::Refused(FailureCause::Timeout));
    }

    #[test]
    fn failures_among_successes_do_not_open_it_however_many_come_together() {
        let mut breaker = CircuitBreaker::default();
        for now_ms in 0..1_000 {
            breaker.succeeded(now_ms * MS);
            assert!((0..20).all(|_| !breaker.failed(FailureCause::Connect, false, now_ms * MS + 1)));
        }
        assert!(!breaker.failed(FailureCause::Connect, false, 1_098 * MS));
        assert!(breaker.failed(FailureCause::Connect, false, 1_099 * MS), "nothing has succeeded for 100 ms");
    }

    #[test]
    fn probes_go_one_by_one_with_longer_and_longer_pauses() {
        let (mut breaker, mut now) = (opened(0), 0);
        for pause_ms in [50, 100, 200, 400, 500, 500, 500] {
            assert_eq!(
                breaker.gate(now + pause_ms * MS - 1),
                Gate::Refused(if pause_ms == 50 { FailureCause::Timeout } else { FailureCause::Auth })
            );
            now += pause_ms * MS;
            assert_eq!(breaker.gate(now), Gate::Probe);
            assert!(matches!(breaker.gate(now + 499 * MS), Gate::Refused(_)), "one is on its way");
            assert!(!breaker.failed(FailureCause::Timeout, false, now), "an older call says nothing");
            assert!(matches!(breaker.gate(now + 499 * MS), Gate::Refused(_)));
            assert!(!breaker.failed(FailureCause::Auth, true, now));
        }
        assert_eq!(breaker.gate(now + 500 * MS), Gate::Probe);
        breaker.succeeded(now);
        assert_eq!(breaker.gate(now), Gate::Call);
        assert_eq!(breaker.gate(now), Gate::Call);
        for _ in 1..FAILURES_MAX {
            assert!(!breaker.failed(FailureCause::Connect, false, now + 1_000 * MS), "it counts from nothing again");
        }
        assert!(breaker.failed(FailureCause::Connect, false, now + 1_000 * MS));
    }

    #[test]
    fn a_probe_that_is_lost_does_not_keep_others_waiting() {
        let mut breaker = opened(0);
        assert_eq!(breaker.gate(50 * MS), Gate::Probe);
        assert!(matches!(breaker.gate(549 * MS), Gate::Refused(_)));
        assert_eq!(breaker.gate(550 * MS), Gate::Probe);
    }

    #[test]
    fn a_late_answer_shuts_it() {
        let mut breaker = opened(0);
        assert!(breaker.succeeded(0));
        assert!(!breaker.succeeded(0), "it is closed");
        assert_eq!(breaker.gate(0), Gate::Call);
    }
}
