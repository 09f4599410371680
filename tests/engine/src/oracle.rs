//! What a sliding window should have admitted, by the plainest of means: a list of every event, summed anew each time.
//!
//! **The clock of the promises.** A key's clock is the clock it is asked with, except that it never runs behind the
//! last cost it admitted: with slots of 50, an admission at 100 followed by a clock of 70 counts as one at 100, and so
//! does everything asked until the clock has passed 100 again. If it is a slot behind or more, at 50 say, the key's
//! clock has stepped with it, and all that the key admitted moves too, by whole slots: what was at 100 is at 50, what
//! was at 80 is at 30. So a clock that steps back frees nothing, and nobody waits longer than a window and a slot. "In
//! any interval of length W" is meant on that clock, with both ends included, which is one microsecond stricter than it
//! need be.

/// Everything that one key admitted.
#[derive(Debug, Clone, Default)]
pub struct Oracle {
    /// Time in microseconds on the key's clock, and cost; in order of time.
    events: Vec<(i64, u64)>,
    steps: usize,
}

impl Oracle {
    /// The key is asked when the clock says `now_us`, with slots so wide.
    pub fn asked(&mut self, now_us: u64, slot_us: u64) {
        let ahead_us = self.events.last().map_or(0, |(last_us, _)| last_us - now_us.cast_signed());
        if ahead_us >= slot_us.cast_signed() {
            let ahead_us = ahead_us - ahead_us % slot_us.cast_signed();
            self.events.iter_mut().for_each(|(at_us, _)| *at_us -= ahead_us);
            self.steps += 1;
        }
    }

    /// Records a cost that was admitted when the clock said `now_us`.
    pub fn admit(&mut self, now_us: u64, cost: u64) {
        self.events.push((self.clock_us(now_us), cost));
    }

    /// What the key's clock says when the clock says `now_us`.
    fn clock_us(&self, now_us: u64) -> i64 {
        let now_us = now_us.cast_signed();
        self.events.last().map_or(now_us, |&(last_us, _)| last_us.max(now_us))
    }

    /// All cost admitted in the last `span_us`, both ends included.
    pub fn admitted_within(&self, now_us: u64, span_us: u64) -> u64 {
        let from_us = self.clock_us(now_us) - span_us.cast_signed();
        self.events.iter().filter(|(at_us, _)| *at_us >= from_us).map(|(_, cost)| cost).sum()
    }

    /// The time of the oldest event in the last `span_us`, both ends included.
    pub fn oldest_within(&self, now_us: u64, span_us: u64) -> Option<i64> {
        let from_us = self.clock_us(now_us) - span_us.cast_signed();
        self.events.iter().map(|(at_us, _)| *at_us).find(|at_us| *at_us >= from_us)
    }

    /// The greatest cost in any interval of `window_us`, both ends included. Only intervals that start at an event are
    /// looked at: any other can be moved to start at its first event without losing one.
    pub fn greatest_in_any(&self, window_us: u64) -> u64 {
        let from = |start: usize| self.events.iter().skip(start);
        let sum_from = |start_us: i64, start| {
            from(start)
                .take_while(|(at_us, _)| *at_us <= start_us + window_us.cast_signed())
                .map(|(_, cost)| cost)
                .sum()
        };
        self.events.iter().enumerate().map(|(start, &(start_us, _))| sum_from(start_us, start)).max().unwrap_or(0)
    }

    /// How many events were admitted.
    pub fn admissions(&self) -> usize {
        self.events.len()
    }

    /// How often the key's clock stepped back.
    pub fn steps(&self) -> usize {
        self.steps
    }
}
