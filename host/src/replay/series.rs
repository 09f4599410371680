//! How requests and refusals are spread over time, in a bounded number of equal parts.

/// No more parts than this, so that each can be seen.
const PARTS_MAX: usize = 240;
/// How long the first parts are.
const PART_US: u64 = 1_000_000;

/// Parts of the time of a log, from its first request on.
#[derive(Debug)]
pub(super) struct TimeSeries {
    first_us: Option<u64>,
    /// How long each part is.
    pub(super) part_us: u64,
    pub(super) parts: Vec<TimePart>,
}

/// What happened in one part.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimePart {
    pub(super) requests: u64,
    pub(super) refused: u64,
    /// By what the verdicts are compared with.
    pub(super) other_refused: u64,
}

impl Default for TimeSeries {
    fn default() -> Self {
        Self { first_us: None, part_us: PART_US, parts: Vec::new() }
    }
}

impl TimeSeries {
    /// A request at a time that is not before that of the request before.
    pub(super) fn add(&mut self, us: u64, is_refused: bool, is_refused_there: bool) {
        let since = us.saturating_sub(*self.first_us.get_or_insert(us));
        while since / self.part_us >= PARTS_MAX as u64 {
            self.parts =
                self.parts.chunks(2).map(|pair| pair.iter().fold(TimePart::default(), TimePart::with)).collect();
            self.part_us = self.part_us.saturating_mul(2);
        }
        let at = usize::try_from(since / self.part_us).unwrap_or_default();
        if at >= self.parts.len() {
            self.parts.resize(at + 1, TimePart::default());
        }
        if let Some(part) = self.parts.get_mut(at) {
            let (refused, other_refused) = (u64::from(is_refused), u64::from(is_refused_there));
            *part = part.with(&TimePart { requests: 1, refused, other_refused });
        }
    }
}

impl TimePart {
    fn with(self, other: &Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            refused: self.refused + other.refused,
            other_refused: self.other_refused + other.other_refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_long_a_log_is_its_parts_are_few_and_lose_nothing() {
        let mut series = TimeSeries::default();
        for number in 0..10_000_u64 {
            series.add(5 + number * 60_000_000, number % 10 == 0, number % 5 == 0);
        }
        let sum = series.parts.iter().fold(TimePart::default(), TimePart::with);
        assert_eq!(sum, TimePart { requests: 10_000, refused: 1_000, other_refused: 2_000 });
        assert!(series.parts.len() <= PARTS_MAX && series.parts.len() > PARTS_MAX / 2, "{}", series.parts.len());
    }
}
