//! Which upstreams fail, so that what is stored is used at once where they do.
//!
//! Each instance knows it by its own requests. Whether one of them may try an upstream that is down is asked of the
//! cache's Redis, so that of all workers and gateways one a second does, however many there are.

use alloc::{string::String, vec::Vec};
use core::mem;

/// An upstream is down after so many failures in a row.
const FAILURES_MAX: u32 = 3;

/// Then one request in so long tries it, of all who share a Redis; each that fails doubles the time, up to the longest.
pub(super) const TRIAL_MS: u64 = 1_000;
const FIRST_PAUSE_NS: u64 = TRIAL_MS * 1_000_000;
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
    /// A request tries it.
    is_tried: bool,
    /// It said itself that it cannot, when it failed last.
    says_so: bool,
}

/// Whether a request may go to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UpstreamStanding {
    Up,
    Down,
    /// It is down, and it is time that somebody asks whether it may be tried.
    Due,
}

impl Upstreams {
    /// Whether a request may go to one. Whoever hears that it is due asks whether he may try it; others had better not
    /// until it is known what came of that.
    pub(super) fn standing(&mut self, upstream: &str, now_ns: u64) -> UpstreamStanding {
        let Some(failing) = self.failing(upstream).filter(|failing| failing.failures >= FAILURES_MAX) else {
            return UpstreamStanding::Up;
        };
        if now_ns < failing.again_ns {
            return UpstreamStanding::Down;
        }
        // Should nobody hear what came of it, another tries.
        failing.again_ns = now_ns.saturating_add(failing.pause_ns);
        UpstreamStanding::Due
    }

    /// A request tries one.
    pub(super) fn tried(&mut self, upstream: &str) {
        if let Some(failing) = self.failing(upstream) {
            failing.is_tried = true;
        }
    }

    /// Somebody else does, and nobody tells what becomes of that.
    pub(super) fn not_tried(&mut self, upstream: &str, now_ns: u64) {
        if let Some(failing) = self.failing(upstream) {
            failing.again_ns = now_ns.saturating_add(FIRST_PAUSE_NS);
        }
    }

    /// It answered. Whether that was a trial.
    pub(super) fn succeeded(&mut self, upstream: &str) -> bool {
        let is_trial = self.failing(upstream).is_some_and(|failing| failing.is_tried);
        self.0.retain(|(name, _)| name != upstream);
        is_trial
    }

    /// Whether it does not even say that it cannot. One that does may say so of some of its pages only, which anybody
    /// may ask for.
    pub(super) fn is_silent(&mut self, upstream: &str) -> bool {
        self.failing(upstream).is_some_and(|failing| !failing.says_so)
    }

    /// It did not answer, or said that it cannot: `says_so`.
    pub(super) fn failed(&mut self, upstream: &str, says_so: bool, now_ns: u64) {
        if self.failing(upstream).is_none() && self.0.len() < UPSTREAMS_MAX {
            self.0.push((String::from(upstream), Failing::default()));
        }
        let Some(failing) = self.failing(upstream) else { return };
        let is_down = failing.failures >= FAILURES_MAX;
        // Those that were on their way when it went down tell nothing new.
        if is_down && !mem::take(&mut failing.is_tried) {
            return;
        }
        failing.says_so = says_so;
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
            assert_eq!(upstreams.standing("a", 0), UpstreamStanding::Up, "{failure}");
            upstreams.failed("a", false, 0);
        }
        assert_eq!(upstreams.standing("a", SECOND - 1), UpstreamStanding::Down);
        assert_eq!(upstreams.standing("b", 0), UpstreamStanding::Up);
        let mut now_ns = SECOND;
        let mut pauses = alloc::vec![];
        for _ in 0..6 {
            // One asks, and tries it.
            assert_eq!(upstreams.standing("a", now_ns), UpstreamStanding::Due);
            assert_eq!(upstreams.standing("a", now_ns), UpstreamStanding::Down);
            upstreams.tried("a");
            upstreams.failed("a", false, now_ns);
            // One that was on its way before says nothing new.
            upstreams.failed("a", false, now_ns);
            let is_due = |second: &u64| {
                upstreams.failing("a").is_some_and(|failing| now_ns + second * SECOND >= failing.again_ns)
            };
            let pause_s = (0..60).find(is_due).unwrap();
            pauses.push(pause_s);
            now_ns += pause_s * SECOND;
        }
        assert_eq!(pauses, [2, 4, 8, 8, 8, 8]);
        assert!(!upstreams.succeeded("a"));
        assert_eq!(upstreams.standing("a", now_ns), UpstreamStanding::Up);
    }

    #[test]
    fn who_may_not_try_asks_again_after_a_second_and_what_fails_meanwhile_says_nothing() {
        let mut upstreams = Upstreams::default();
        (0..FAILURES_MAX).for_each(|_| upstreams.failed("a", false, 0));
        assert_eq!(upstreams.standing("a", SECOND), UpstreamStanding::Due);
        upstreams.not_tried("a", SECOND);
        upstreams.failed("a", false, SECOND);
        assert_eq!(upstreams.standing("a", 2 * SECOND - 1), UpstreamStanding::Down);
        assert_eq!(upstreams.standing("a", 2 * SECOND), UpstreamStanding::Due);
        upstreams.tried("a");
        assert!(upstreams.succeeded("a") && !upstreams.succeeded("a"));
        assert_eq!(upstreams.standing("a", 2 * SECOND), UpstreamStanding::Up);
    }

    #[test]
    fn successes_between_failures_keep_it_up() {
        let mut upstreams = Upstreams::default();
        for _ in 0..9 {
            upstreams.failed("a", false, 0);
            upstreams.failed("a", false, 0);
            upstreams.succeeded("a");
        }
        upstreams.failed("a", false, 0);
        assert_eq!(upstreams.standing("a", 0), UpstreamStanding::Up);
    }

    #[test]
    fn what_is_known_is_bounded() {
        let mut upstreams = Upstreams::default();
        for number in 0..5_000 {
            upstreams.failed(&alloc::format!("{number}"), false, 0);
        }
        assert_eq!(upstreams.0.len(), UPSTREAMS_MAX);
    }
}
