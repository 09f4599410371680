//! The `telemetry` import: log lines go to `tracing`, metrics to whatever recorder the process
//! installed for the `metrics` crate before the instance defined them.

use std::borrow::Cow;
use std::collections::HashMap;

use metrics::{Counter, Gauge, Key, Label, Metadata};
use wasmtime::Result;

use super::Ctx;
use crate::bindings::slidegate::filter::telemetry::{Host, Level, MetricKind};

/// Most metrics one instance may define. Further ones are not recorded.
const METRICS_MAX: usize = 1_000;

/// Most labels of one metric; most bytes in a metric's name, a label's name or its value.
const LABELS_MAX: usize = 16;
const NAME_BYTES_MAX: usize = 256;

/// Most bytes of a log line; the rest is cut off.
const LINE_BYTES_MAX: usize = 4_096;

/// What a metric is called that is not recorded. No metric of that number is ever defined.
const NOT_RECORDED: u32 = u32::MAX;

/// The target of the component's log lines.
const TARGET: &str = "slidegate::filter";

static METADATA: Metadata<'static> = Metadata::new(TARGET, metrics::Level::INFO, None);

/// The metrics of one instance, resolved when they were defined.
#[derive(Default)]
pub(super) struct Metrics {
    handles: Vec<Handle>,
    ids: HashMap<Key, [Option<u32>; 2]>,
    overflow_reported: bool,
}

enum Handle {
    Counter(Counter),
    Gauge(Gauge),
}

impl Host for Ctx {
    fn log(&mut self, level: Level, message: String) -> Result<()> {
        let line = printable(&message);
        match level {
            Level::Debug => tracing::debug!(target: TARGET, "{line}"),
            Level::Info => tracing::info!(target: TARGET, "{line}"),
            Level::Warn => tracing::warn!(target: TARGET, "{line}"),
            Level::Error => tracing::error!(target: TARGET, "{line}"),
        }
        Ok(())
    }

    fn define_metric(&mut self, kind: MetricKind, name: String, labels: Vec<(String, String)>) -> Result<u32> {
        Ok(self.metrics.define(kind, name, labels))
    }

    fn record_metric(&mut self, metric: u32, value: u64) -> Result<()> {
        self.metrics.record(metric, value);
        Ok(())
    }
}

impl Metrics {
    fn define(&mut self, kind: MetricKind, name: String, labels: Vec<(String, String)>) -> u32 {
        let slot = match kind {
            MetricKind::Counter => 0,
            MetricKind::Gauge => 1,
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
        if self.handles.len() >= METRICS_MAX {
            return self.refuse("too many are defined");
        }
        let handle = metrics::with_recorder(|recorder| match kind {
            MetricKind::Counter => Handle::Counter(recorder.register_counter(&key, &METADATA)),
            MetricKind::Gauge => Handle::Gauge(recorder.register_gauge(&key, &METADATA)),
        });
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

    fn record(&self, metric: u32, value: u64) {
        let handle = usize::try_from(metric).ok().and_then(|index| self.handles.get(index));
        match handle {
            Some(Handle::Counter(counter)) => counter.increment(value),
            // Gauges are floating point in the recorder; above 2^53 the last digits are lost.
            Some(Handle::Gauge(gauge)) => gauge.set(value as f64),
            None => {}
        }
    }
}

/// A line that stays one line in any log, of bounded length.
fn printable(message: &str) -> Cow<'_, str> {
    let cut = &message[..message.floor_char_boundary(LINE_BYTES_MAX)];
    if cut.chars().any(char::is_control) {
        return Cow::Owned(cut.chars().map(|c| if c.is_control() { ' ' } else { c }).collect());
    }
    Cow::Borrowed(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_stay_lines() {
        assert_eq!(printable("a\nb\x1b[1m"), "a b [1m");
        let long = "ä".repeat(LINE_BYTES_MAX);
        assert_eq!(printable(&long).len(), LINE_BYTES_MAX);
    }

    #[test]
    fn a_metric_is_found_again_by_kind_name_and_labels() {
        let mut metrics = Metrics::default();
        let labels = vec![("rule".to_owned(), "a".to_owned())];
        let first = metrics.define(MetricKind::Counter, "m".to_owned(), labels.clone());
        assert_eq!(metrics.define(MetricKind::Counter, "m".to_owned(), labels.clone()), first);
        assert_ne!(metrics.define(MetricKind::Counter, "m".to_owned(), Vec::new()), first);
        assert_ne!(metrics.define(MetricKind::Gauge, "m".to_owned(), labels), first);
    }

    #[test]
    fn the_number_of_metrics_is_bounded() {
        let mut metrics = Metrics::default();
        for n in 0..METRICS_MAX {
            assert_ne!(metrics.define(MetricKind::Counter, format!("m{n}"), Vec::new()), NOT_RECORDED);
        }
        assert_eq!(metrics.define(MetricKind::Counter, "more".to_owned(), Vec::new()), NOT_RECORDED);
        assert_ne!(metrics.define(MetricKind::Counter, "m0".to_owned(), Vec::new()), NOT_RECORDED);
        metrics.record(NOT_RECORDED, 1);
    }
}
