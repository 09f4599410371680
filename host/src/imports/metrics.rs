//! The metrics that one instance defines.

use std::collections::HashMap;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Metadata, Recorder, Unit};

use crate::bindings::slidegate::filter::telemetry::MetricKind;

/// Most metrics one instance may define, beside one for each byte of its configuration: a rule of some thirty bytes has about as many.
/// Further ones are not recorded.
const METRICS_MAX: usize = 1_000;

/// Longest help of a metric, in bytes; the rest is cut off.
const HELP_BYTES_MAX: usize = 1_024;

/// Most labels of one metric; most bytes in a metric's name, a label's name or its value.
const LABELS_MAX: usize = 16;
const NAME_BYTES_MAX: usize = 256;

/// What a metric is called that is not recorded. No metric of that number is ever defined.
const NOT_RECORDED: u32 = u32::MAX;

static METADATA: Metadata<'static> = Metadata::new("slidegate::filter", metrics::Level::INFO, None);

/// The metrics of one instance, resolved when they were defined.
#[derive(Default)]
pub(super) struct Metrics {
    handles: Vec<Handle>,
    ids: HashMap<Key, [Option<u32>; 3]>,
    configuration_bytes: usize,
    overflow_reported: bool,
}

enum Handle {
    Counter(Counter),
    /// What this instance added to it, since several instances share it.
    Gauge(Gauge, u64),
    Histogram(Histogram),
}

impl Metrics {
    pub(super) fn allow(&mut self, configuration_bytes: usize) {
        self.configuration_bytes = configuration_bytes;
    }

    /// Defines a metric, or finds it; returns its number.
    pub(super) fn define(&mut self, kind: MetricKind, name: String, mut help: String, labels: Vec<(String, String)>) -> u32 {
        let slot = match kind {
            MetricKind::Counter => 0,
            MetricKind::Gauge => 1,
            MetricKind::Histogram => 2,
        };
        let too_long = labels.len() > LABELS_MAX
            || name.len() > NAME_BYTES_MAX
            || labels.iter().any(|(name, value)| name.len().max(value.len()) > NAME_BYTES_MAX);
        if too_long {
            return self.refuse("a name or a set of labels is too long");
        }
        let labels: Vec<Label> = labels.into_iter().map(|(name, value)| Label::new(name, value)).collect();
        let key = Key::from_parts(name, labels);
        if let Some(id) = self.ids.get(&key).and_then(|ids| ids[slot]) {
            return id;
        }
        if self.handles.len() >= METRICS_MAX.saturating_add(self.configuration_bytes) {
            return self.refuse("too many are defined");
        }
        help.truncate(help.floor_char_boundary(HELP_BYTES_MAX));
        let handle = metrics::with_recorder(|recorder| register(recorder, kind, &key, help));
        let id = u32::try_from(self.handles.len()).unwrap_or(NOT_RECORDED);
        self.handles.push(handle);
        self.ids.entry(key).or_default()[slot] = Some(id);
        id
    }

    /// Says so once per instance; the number of further metrics may be anything.
    fn refuse(&mut self, reason: &str) -> u32 {
        if !self.overflow_reported {
            self.overflow_reported = true;
            tracing::warn!("a metric of the component is not recorded, nor are others like it: {reason}");
        }
        NOT_RECORDED
    }

    pub(super) fn record(&mut self, metric: u32, value: u64) {
        let handle = usize::try_from(metric).ok().and_then(|index| self.handles.get_mut(index));
        match handle {
            Some(Handle::Counter(counter)) => counter.increment(value),
            // Gauges are floating point in the recorder; above 2^53 the last digits are lost.
            Some(Handle::Gauge(gauge, last)) => {
                gauge.increment(value as f64 - *last as f64);
                *last = value;
            }
            Some(Handle::Histogram(histogram)) => histogram.record(value as f64 / 1e6),
            None => {}
        }
    }
}

/// An instance that is gone has no share in a gauge.
impl Drop for Metrics {
    fn drop(&mut self) {
        for handle in &self.handles {
            if let Handle::Gauge(gauge, last) = handle {
                gauge.decrement(*last as f64);
            }
        }
    }
}

fn register(recorder: &dyn Recorder, kind: MetricKind, key: &Key, help: String) -> Handle {
    let name = KeyName::from(key.name().to_owned());
    match kind {
        MetricKind::Counter => {
            recorder.describe_counter(name, None, help.into());
            Handle::Counter(recorder.register_counter(key, &METADATA))
        }
        MetricKind::Gauge => {
            recorder.describe_gauge(name, None, help.into());
            Handle::Gauge(recorder.register_gauge(key, &METADATA), 0)
        }
        MetricKind::Histogram => {
            recorder.describe_histogram(name, Some(Unit::Seconds), help.into());
            Handle::Histogram(recorder.register_histogram(key, &METADATA))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_again_by_kind_name_and_labels() {
        let mut metrics = Metrics::default();
        let mut define = |kind, labels| metrics.define(kind, "m".to_owned(), "Told".to_owned(), labels);
        let labels = vec![("rule".to_owned(), "a".to_owned())];
        let first = define(MetricKind::Counter, labels.clone());
        assert_eq!(define(MetricKind::Counter, labels.clone()), first);
        assert_ne!(define(MetricKind::Counter, Vec::new()), first);
        assert_ne!(define(MetricKind::Gauge, labels.clone()), first);
        assert_ne!(define(MetricKind::Histogram, labels.clone()), define(MetricKind::Gauge, labels));
    }

    #[test]
    fn the_number_of_metrics_is_bounded() {
        let mut metrics = Metrics::default();
        metrics.allow(500);
        let define = |metrics: &mut Metrics, name: String| metrics.define(MetricKind::Counter, name, String::new(), Vec::new());
        for n in 0..METRICS_MAX + 500 {
            assert_ne!(define(&mut metrics, format!("m{n}")), NOT_RECORDED);
        }
        assert_eq!(define(&mut metrics, "more".to_owned()), NOT_RECORDED);
        assert_ne!(define(&mut metrics, "m0".to_owned()), NOT_RECORDED);
        metrics.record(NOT_RECORDED, 1);
        metrics.allow(501);
        assert_ne!(define(&mut metrics, "more".to_owned()), NOT_RECORDED, "a longer configuration may have more");
    }
}
