//! The minimum delay to Redis, as a clock filter (NTP's, RFC 5905, section 10) knows it: how much longer than that a
//! call took to reach Redis, so that a refusal is held neither too long nor too short.
//!
//! Redis' clock when it decided, less ours when the call was sent, is the distance between the clocks and the way
//! there. The distance is the same for all calls, so what one call has more than the least of late is what it lost on
//! its way. A call that had left just so much later, with the minimum delay, would have reached Redis at the same
//! moment. From then on a refusal is counted: a call sent when it ends finds room, since it cannot arrive earlier, and
//! nobody is refused after room has come, since the minimum delay is not nothing. That needs clocks that run alike. If
//! they do not, or if several servers with clocks of their own are behind one service, the answer is the bound: counted
//! from it, a refusal is too long by its way back at most.

/// What was seen longer ago than two of these is forgotten, and with it what clocks have drifted or stepped.
const GENERATION_NS: u64 = 10_000_000_000;

/// A clock that is this much elsewhere than before, and no way explains it, was set. Clocks that are only adjusted stay
/// far below.
const STEP_US: u64 = 1_000_000;

/// The minimum delay to a service, in two generations.
#[derive(Debug, Default)]
pub(crate) struct MinimumDelay {
    /// Redis' clock less ours, in microseconds.
    newer: Option<i64>,
    older: Option<i64>,
    /// When the newer generation began.
    since_ns: u64,
    /// Redis' clock less ours when it decided last, and how long that call took: the distance is at most so much less.
    last: Option<(i64, u64)>,
}

impl MinimumDelay {
    /// When a call would have left that had the minimum delay and was decided on with this one, by our clock: not
    /// before it was sent, and not after it was answered.
    #[inline]
    pub(crate) fn left_ns(&mut self, sent_ns: u64, redis_us: u64, answered_ns: u64) -> u64 {
        let way = i64::try_from(redis_us).unwrap_or(i64::MAX).saturating_sub_unsigned(sent_ns / 1_000);
        let shortest = self.shortest(way, answered_ns);
        let lost_us = u64::try_from(way.saturating_sub(shortest)).unwrap_or_default();
        sent_ns.saturating_add(lost_us.min(u64::MAX / 1_000) * 1_000).min(answered_ns)
    }

    /// By how many microseconds Redis' clock was set since it decided last, ahead or back; none if it was not. What was
    /// seen before such a step is forgotten. To be asked before [`MinimumDelay::left_ns`], for each call once.
    #[inline]
    pub(crate) fn stepped_us(&mut self, sent_ns: u64, redis_us: u64, answered_ns: u64) -> Option<i64> {
        let way = i64::try_from(redis_us).unwrap_or(i64::MAX).saturating_sub_unsigned(sent_ns / 1_000);
        let trip_us = answered_ns.saturating_sub(sent_ns) / 1_000;
        let (last, last_trip_us) = self.last.replace((way, trip_us))?;
        let step = way.saturating_sub(last);
        // What the longer way of one of the two may explain.
        let explained_us = if step > 0 { trip_us } else { last_trip_us };
        if step.unsigned_abs() <= STEP_US.saturating_add(explained_us) {
            return None;
        }
        (self.newer, self.older) = (None, None);
        Some(step)
    }

    #[inline]
    fn shortest(&mut self, way: i64, now_ns: u64) -> i64 {
        let age_ns = now_ns.saturating_sub(self.since_ns);
        if age_ns >= GENERATION_NS || now_ns < self.since_ns {
            self.older = self.newer.take().filter(|_| (1..2 * GENERATION_NS).contains(&age_ns));
            self.since_ns = now_ns;
        }
        let newer = self.newer.map_or(way, |shortest| shortest.min(way));
        self.newer = Some(newer);
        self.older.map_or(newer, |older| older.min(newer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const SECOND: u64 = 1_000 * MS;

    /// A call that is sent at a time and takes so many milliseconds there, and two back.
    fn call(delay: &mut MinimumDelay, ahead_ms: i64, sent_ns: u64, out_ms: u64) -> u64 {
        let redis_us = (sent_ns / 1_000).strict_add_signed(ahead_ms * 1_000) + out_ms * 1_000;
        delay.left_ns(sent_ns, redis_us, sent_ns + (out_ms + 2) * MS)
    }

    #[test]
    fn a_call_is_counted_from_when_it_would_have_left_with_the_minimum_delay() {
        for ahead_ms in [0, 70_000, -70_000] {
            let mut delay = MinimumDelay::default();
            let sent = 100 * SECOND;
            assert_eq!(call(&mut delay, ahead_ms, sent, 9), sent, "nothing shorter is known");
            assert_eq!(call(&mut delay, ahead_ms, sent, 5), sent);
            assert_eq!(call(&mut delay, ahead_ms, sent, 5), sent);
            assert_eq!(call(&mut delay, ahead_ms, sent, 6), sent + MS);
            assert_eq!(call(&mut delay, ahead_ms, sent, 1), sent);
            assert_eq!(call(&mut delay, ahead_ms, sent, 8), sent + 7 * MS);
        }
    }

    #[test]
    fn what_was_seen_long_ago_is_forgotten() {
        let mut delay = MinimumDelay::default();
        call(&mut delay, 0, 0, 1);
        let lost = |delay: &mut MinimumDelay, sent: u64| (call(delay, 0, sent, 4) - sent) / MS;
        assert_eq!(lost(&mut delay, 9 * SECOND), 3);
        assert_eq!(lost(&mut delay, 11 * SECOND), 3, "of the generation before");
        assert_eq!(lost(&mut delay, 19 * SECOND), 3);
        assert_eq!(lost(&mut delay, 22 * SECOND), 0, "and now of none");
        call(&mut delay, 0, 23 * SECOND, 1);
        assert_eq!(lost(&mut delay, 50 * SECOND), 0, "nor does it come back after a long pause");
    }

    #[test]
    fn a_clock_that_steps_costs_no_more_than_the_way_back_and_wears_off() {
        let mut delay = MinimumDelay::default();
        for sent in [0, 5].map(|seconds| seconds * SECOND) {
            assert_eq!(call(&mut delay, 500, sent, 3), sent);
        }
        for sent in [6, 12, 20].map(|seconds| seconds * SECOND) {
            assert_eq!(call(&mut delay, 900, sent, 3), sent + 5 * MS, "forward: from the answer");
        }
        assert_eq!(call(&mut delay, 900, 25 * SECOND, 3), 25 * SECOND);
        assert_eq!(call(&mut delay, 100, 26 * SECOND, 3), 26 * SECOND, "back: from when it was sent");
        assert_eq!(call(&mut delay, 100, 27 * SECOND, 4), 27 * SECOND + MS);
    }

    #[test]
    fn a_clock_that_was_set_is_told_once_and_what_was_seen_is_forgotten() {
        let mut delay = MinimumDelay::default();
        let mut call = |ahead_s: i64, sent: u64, out_ms: u64| {
            let redis_us = (sent / 1_000).strict_add_signed(ahead_s * 1_000_000) + out_ms * 1_000;
            let answered = sent + (out_ms + 2) * MS;
            let stepped = delay.stepped_us(sent, redis_us, answered);
            (stepped.map(|us| us / 1_000_000), delay.left_ns(sent, redis_us, answered) - sent)
        };
        let day = 86_400;
        assert_eq!(call(2 * day, 100 * SECOND, 1), (None, 0), "there is nothing to compare with");
        assert_eq!(call(2 * day, 101 * SECOND, 900), (None, 899 * MS), "a long way is no step");
        assert_eq!(call(2 * day, 102 * SECOND, 4_000), (None, 3_999 * MS));
        assert_eq!(call(2 * day, 107 * SECOND, 1), (None, 0), "nor is a short one after it");
        assert_eq!(call(2 * day - 10, 108 * SECOND, 1), (Some(-10), 0), "back");
        assert_eq!(call(2 * day, 109 * SECOND, 1), (Some(10), 0), "ahead");
        assert_eq!(call(day, 109 * SECOND, 1), (Some(-day), 0), "back");
        assert_eq!(call(day, 110 * SECOND, 4), (None, 3 * MS));
        assert_eq!(call(3 * day, 111 * SECOND, 4), (Some(2 * day), 0), "ahead: no way of before is compared with");
        assert_eq!(call(3 * day, 112 * SECOND, 4), (None, 0));
    }

    #[test]
    fn our_own_clock_may_step_too_and_no_number_is_too_great() {
        let mut delay = MinimumDelay::default();
        call(&mut delay, 0, 100 * SECOND, 3);
        assert_eq!(call(&mut delay, 90_000, 10 * SECOND, 3), 10 * SECOND, "back: what was seen is worth nothing");
        for (sent, redis, answered) in
            [(0, u64::MAX, 0), (u64::MAX, 0, u64::MAX), (u64::MAX, u64::MAX, 0), (0, 0, u64::MAX)]
        {
            let left = delay.left_ns(sent, redis, answered);
            assert!(left <= answered && (left >= sent || sent > answered), "{left}");
        }
    }
}
