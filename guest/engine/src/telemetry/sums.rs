//! What the metrics of a configuration have come to since somebody last asked.

use alloc::{boxed::Box, vec::Vec};

use super::{kinds::MetricKind, metrics::Metric};

/// The upper bounds of a histogram's buckets, in microseconds; a value at a bound is within. One bucket more is for
/// what is above them all.
pub const BUCKET_BOUNDS_US: [u64; 16] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000,
];

const BUCKETS: usize = BUCKET_BOUNDS_US.len() + 1;

/// The values of a histogram that fell into one of its buckets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bucket {
    /// How many.
    pub count: u64,
    /// Their sum, in microseconds.
    pub sum_us: u64,
}

/// What has become of a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricChange {
    /// Index into [`Engine::metrics`](crate::Engine::metrics).
    pub metric: usize,
    /// How it changed, or what it is.
    pub value: MetricValue,
}

/// How a metric changed, or what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricValue {
    /// By how much a counter rose.
    Counter(u64),
    /// What a gauge is.
    Gauge(u64),
    /// The values that a histogram got, by its buckets.
    Histogram(Box<[Bucket]>),
}

/// What all metrics have come to.
#[derive(Debug)]
pub(super) struct Sums {
    sums: Vec<Sum>,
    /// Those that changed, each once.
    changed: Vec<usize>,
}

#[derive(Debug)]
enum Sum {
    Counter(u64),
    Gauge { value: u64, is_new: bool },
    Histogram(Option<Box<[Bucket; BUCKETS]>>),
}

impl Sums {
    pub(super) fn new(metrics: &[Metric]) -> Self {
        let sum = |metric: &Metric| match metric.kind {
            MetricKind::Counter => Sum::Counter(0),
            MetricKind::Gauge => Sum::Gauge { value: 0, is_new: false },
            MetricKind::Histogram => Sum::Histogram(None),
        };
        Sums { sums: metrics.iter().map(sum).collect(), changed: Vec::new() }
    }

    /// Raises a counter.
    #[inline]
    pub(super) fn raise(&mut self, metric: Option<usize>, by: u64) {
        let Some(Sum::Counter(value)) = metric.and_then(|metric| self.sums.get_mut(metric)) else { return };
        if *value == 0 && by > 0 {
            self.changed.extend(metric);
        }
        *value = value.saturating_add(by);
    }

    /// Sets a gauge.
    pub(super) fn set(&mut self, metric: Option<usize>, to: u64) {
        let Some(Sum::Gauge { value, is_new }) = metric.and_then(|metric| self.sums.get_mut(metric)) else { return };
        if !*is_new && *value != to {
            *is_new = true;
            self.changed.extend(metric);
        }
        *value = to;
    }

    /// Moves a gauge up or down.
    pub(super) fn shift(&mut self, metric: Option<usize>, by: i64) {
        let Some(Sum::Gauge { value, .. }) = metric.and_then(|metric| self.sums.get(metric)) else { return };
        self.set(metric, value.saturating_add_signed(by));
    }

    /// Counts a value of a histogram, in microseconds.
    #[inline]
    pub(super) fn count(&mut self, metric: Option<usize>, us: u64) {
        let Some(Sum::Histogram(buckets)) = metric.and_then(|metric| self.sums.get_mut(metric)) else { return };
        if buckets.is_none() {
            self.changed.extend(metric);
        }
        let buckets = buckets.get_or_insert_default();
        let at = BUCKET_BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(bucket) = buckets.get_mut(at) {
            bucket.count += 1;
            bucket.sum_us = bucket.sum_us.saturating_add(us);
        }
    }

    /// What has changed since this was asked last.
    pub(super) fn take_changes(&mut self) -> Vec<MetricChange> {
        let mut changes = Vec::with_capacity(self.changed.len());
        for metric in self.changed.drain(..) {
            let value = match self.sums.get_mut(metric) {
                Some(Sum::Counter(value)) => MetricValue::Counter(core::mem::take(value)),
                Some(Sum::Gauge { value, is_new }) => {
                    *is_new = false;
                    MetricValue::Gauge(*value)
                }
                Some(Sum::Histogram(buckets)) => match buckets.take() {
                    Some(buckets) => MetricValue::Histogram(buckets),
                    None => continue,
                },
                None => continue,
            };
            changes.push(MetricChange { metric, value });
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use super::*;

    fn sums() -> Sums {
        let metric = |kind| Metric { kind, name: "m", help: "", labels: Vec::new() };
        Sums::new(&[MetricKind::Counter, MetricKind::Gauge, MetricKind::Histogram].map(metric))
    }

    #[test]
    fn what_changed_is_told_once() {
        let mut sums = sums();
        assert!(sums.take_changes().is_empty());
        sums.raise(Some(0), 2);
        sums.raise(Some(0), 3);
        sums.set(Some(1), 1);
        assert_eq!(
            sums.take_changes(),
            [
                MetricChange { metric: 0, value: MetricValue::Counter(5) },
                MetricChange { metric: 1, value: MetricValue::Gauge(1) }
            ]
        );
        sums.set(Some(1), 1);
        sums.raise(Some(0), 0);
        assert!(sums.take_changes().is_empty());
        // What there is none of is counted nowhere, nor is what is no metric of the kind.
        for metric in [None, Some(1), Some(9)] {
            sums.raise(metric, 1);
            sums.count(metric, 1);
        }
        sums.set(Some(0), 7);
        assert!(sums.take_changes().is_empty());
    }

    #[test]
    fn a_gauge_moves_up_and_down() {
        let mut sums = sums();
        for (by, value) in [(2, 2), (-1, 1), (-5, 0)] {
            sums.shift(Some(1), by);
            assert_eq!(sums.take_changes(), [MetricChange { metric: 1, value: MetricValue::Gauge(value) }]);
        }
        sums.shift(Some(0), 1);
        sums.shift(None, 1);
        assert!(sums.take_changes().is_empty());
    }

    #[test]
    fn values_fall_into_the_bucket_whose_bound_they_do_not_exceed() {
        let mut sums = sums();
        for us in [0, 50, 51, 10_000_000, 10_000_001, u64::MAX] {
            sums.count(Some(2), us);
        }
        let mut expected = vec![Bucket::default(); BUCKETS];
        for (at, count, sum_us) in [(0, 2, 50), (1, 1, 51), (15, 1, 10_000_000), (16, 2, u64::MAX)] {
            expected[at] = Bucket { count, sum_us };
        }
        assert_eq!(sums.take_changes(), [MetricChange { metric: 2, value: MetricValue::Histogram(expected.into()) }]);
        assert!(sums.take_changes().is_empty());
    }
}
