//! What a sliding window should have admitted, by the plainest of means: a list of every event, summed anew each time.
//!
//! **The clock of the promises.** A key's clock is the clock it is asked with, except that it never runs behind the last
//! cost it admitted: an admission at 100 followed by a clock of 70 counts as one at 100, and so does everything asked until
//! the clock has passed 100 again. Refusals and questions do not move it. So a clock that steps back frees nothing, and a
//! clock that jumps forward and back leaves a key that admitted in between waiting for the time it has seen. "In any
//! interval of length W" is meant on that clock, with both ends included, which is one microsecond stricter than it need be.

/// Everything that one key admitted.
#[derive(Debug, Clone, Default)]
pub struct Oracle {
    /// Time in microseconds on the key's clock, and cost; in order of time.
    events: Vec<(u64, u64)>,
}

impl Oracle {
    /// Records a cost that was admitted when the clock said `now_us`.
    pub fn admit(&mut self, now_us: u64, cost: u64) {
        self.events.push((self.clock_us(now_us), cost));
    }

    /// What the key's clock says when the clock says `now_us`.
    pub fn clock_us(&self, now_us: u64) -> u64 {
        self.events.last().map_or(now_us, |&(last_us, _)| last_us.max(now_us))
    }

    /// All cost admitted in the last `span_us`, both ends included.
    pub fn admitted_within(&self, now_us: u64, span_us: u64) -> u64 {
        let clock_us = self.clock_us(now_us);
        self.events.iter().filter(|(at_us, _)| at_us + span_us >= clock_us).map(|(_, cost)| cost).sum()
    }

    /// The time of the oldest event in the last `span_us`, both ends included.
    pub fn oldest_within(&self, now_us: u64, span_us: u64) -> Option<u64> {
        let clock_us = self.clock_us(now_us);
        self.events.iter().map(|(at_us, _)| *at_us).find(|at_us| at_us + span_us >= clock_us)
    }

    /// The greatest cost in any interval of `window_us`, both ends included. Only intervals that start at an event are
    /// looked at: any other can be moved to start at its first event without losing one.
    pub fn greatest_in_any(&self, window_us: u64) -> u64 {
        let from = |start: usize| self.events.iter().skip(start);
        let sum_from =
            |start_us: u64, start| from(start).take_while(|(at_us, _)| *at_us <= start_us + window_us).map(|(_, cost)| cost).sum();
        self.events.iter().enumerate().map(|(start, &(start_us, _))| sum_from(start_us, start)).max().unwrap_or(0)
    }

    /// How many events were admitted.
    pub fn admissions(&self) -> usize {
        self.events.len()
    }
}
