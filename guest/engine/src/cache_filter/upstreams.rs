//! Which upstreams fail, so that what is stored is used at once where they do.

use alloc::{string::String, vec::Vec};
use core::mem;

/// An upstream is down after so many failures in a row.
const FAILURES_MAX: u32 = 3;

/// Then one request in so long tries it; each that fails doubles the time, up to the longest.
const FIRST_PAUSE_NS: u64 = 1_000_000_000;
const LONGEST_PAUSE_NS: u64 = 8_000_000_000;

/// Nothing is known of more upstreams than these.
const UPSTREAMS_MAX: usize = 256;

/// How upstreams are, by their names: those that answer are not listed.
#[derive(Debug, Default)]
pub(super) struct Upstreams(Vec<(String, Failing)>);

#[derive(Debug, Clone, Copy, Default)]
struct Failing {
    /// In a row.
    failures: u32,
    pause_ns: u64,
    /// When it is tried again.
    again_ns: u64,
    /// Somebody tries it.
    is_tried: bool,
}

impl Upstreams {
    /// Whether a request had better not go to one. If it may, as a trial, others had not until it is known what came of
    /// it.
    pub(super) fn is_down(&mut self, upstream: &str, now_ns: u64) -> bool {
        let Some(failing) = self.failing(upstream).filter(|failing| failing.failures >= FAILURES_MAX) else {
            return false;
        };
        if now_ns < failing.again_ns {
            return true;
        }
        // Should nobody hear what came of it, another tries.
        failing.again_ns = now_ns.saturating_add(failing.pause_ns);
        failing.is_tried = true;
        false
    }

    /// It answered.
    pub(super) fn succeeded(&mut self, upstream: &str) {
        self.0.retain(|(name, _)| name != upstream);
    }

    /// It did not, or said that it cannot.
    pub(super) fn failed(&mut self, upstream: &str, now_ns: u64) {
        if self.failing(upstream).is_none() && self.0.len() < UPSTREAMS_MAX {
            self.0.push((String::from(upstream), Failing::default()));
        }
        let Some(failing) = self.failing(upstream) else { return };
        let is_down = failing.failures >= FAILURES_MAX;
        // Those that were on their way when it went down tell nothing new.
        if is_down && !mem::take(&mut failing.is_tried) {
            return;
        }
        failing.failures = failing.failures.saturating_add(1);
        failing.pause_ns = if is_down { (failing.pause_ns * 2).min(LONGEST_PAUSE_NS) } else { FIRST_PAUSE_NS };
        failing.again_ns = now_ns.saturating_add(failing.pause_ns);
    }

    fn failing(&mut self, upstream: &str) -> Option<&mut Failing> {
        self.0.iter_mut().find(|(name, _)| name == upstream).map(|(_, failing)| failing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn one_that_fails_is_tried_ever_more_seldom_and_one_that_answers_is_well() {
        let mut upstreams = Upstreams::default();
        for failure in 1..=FAILURES_MAX {
            assert!(!upstreams.is_down("a", 0), "{failure}");
            upstreams.failed("a", 0);
        }
        assert!(upstreams.is_down("a", SECOND - 1) && !upstreams.is_down("b", 0));
        // One tries it.
        assert!(!upstreams.is_down("a", SECOND) && upstreams.is_down("a", SECOND));
        let mut now_ns = SECOND;
        let mut pauses = alloc::vec![];
        for _ in 0..6 {
            upstreams.failed("a", now_ns);
            let pause_s = (0..60).find(|second| !upstreams.is_down("a", now_ns + second * SECOND)).unwrap();
            pauses.push(pause_s);
            now_ns += pause_s * SECOND;
        }
        assert_eq!(pauses, [2, 4, 8, 8, 8, 8]);
        upstreams.succeeded("a");
        assert!(!upstreams.is_down("a", now_ns));
    }

    #[test]
    fn successes_between_failures_keep_it_up() {
        let mut upstreams = Upstreams::default();
        for _ in 0..9 {
            upstreams.failed("a", 0);
            upstreams.failed("a", 0);
            upstreams.succeeded("a");
        }
        upstreams.failed("a", 0);
        assert!(!upstreams.is_down("a", 0));
    }

    #[test]
    fn what_is_known_is_bounded() {
        let mut upstreams = Upstreams::default();
        for number in 0..5_000 {
            upstreams.failed(&alloc::format!("{number}"), 0);
        }
        assert_eq!(upstreams.0.len(), UPSTREAMS_MAX);
    }
}
