//! A histogram with fixed buckets. Recording takes no lock and keeps no sample.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::HistogramFn;

use crate::gateway::telemetry::exposition::write_sample;

/// How many values lie in each bucket, and their sum.
pub(super) struct Buckets {
    /// Upper bounds, rising.
    bounds: Vec<f64>,
    /// One more than there are bounds: the last is for what is above all of them.
    counts: Box<[AtomicU64]>,
    /// The bits of a floating point number.
    sum: AtomicU64,
}

impl Buckets {
    pub(super) fn new(bounds: Vec<f64>) -> Self {
        Self { counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), bounds, sum: AtomicU64::new(0) }
    }

    /// The bounds, and how many values lie in each bucket.
    pub(super) fn read(&self) -> (Vec<f64>, Vec<u64>) {
        (self.bounds.clone(), self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect())
    }

    /// Writes the cumulated buckets, the sum and the count.
    pub(super) fn write(&self, text: &mut String, name: &str, labels: &str) {
        let separator = if labels.is_empty() { "" } else { "," };
        let (bucket, mut count) = (format!("{name}_bucket"), 0);
        let bounds = self.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, own) in bounds.zip(&self.counts) {
            count += own.load(Ordering::Relaxed);
            write_sample(text, &bucket, &format!("{labels}{separator}le=\"{bound}\""), count);
        }
        write_sample(text, &format!("{name}_sum"), labels, f64::from_bits(self.sum.load(Ordering::Relaxed)));
        write_sample(text, &format!("{name}_count"), labels, count);
    }
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(counted) = self.counts.get(bucket) {
            counted.fetch_add(count as u64, Ordering::Relaxed);
        }
        let add = |bits| Some((f64::from_bits(bits) + value * count as f64).to_bits());
        // The closure always has a new value, so this does not fail.
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}
