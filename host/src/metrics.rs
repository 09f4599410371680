//! The metrics of a worker's filter, as handles of the recorder that the process installed for the `metrics` crate.

use std::cell::RefCell;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Metadata, Recorder};

use crate::bindings::slidegate::filter::metrics::{Bucket, Change, Kind, Metric};

/// Most metrics one instance may define, beside one for each byte of its configuration: a rule of some thirty bytes has
/// about as many. Further ones are not recorded.
const METRICS_MAX: usize = 1_000;

/// Longest help of a metric, in bytes; the rest is cut off.
const HELP_BYTES_MAX: usize = 1_024;

/// Most labels of one metric; most bytes in a metric's name, a label's name or its value.
const LABELS_MAX: usize = 16;
const NAME_BYTES_MAX: usize = 256;

/// Most buckets of a histogram, but for the last.
const BOUNDS_MAX: usize = 256;

/// Most values that a bucket of a histogram may have got since it was fetched last: a recorder may count them one by
/// one.
const VALUES_MAX: u64 = 1 << 22;

static METADATA: Metadata<'static> = Metadata::new("slidegate::filter", metrics::Level::INFO, None);

thread_local! {
    /// Of the histogram that is being registered.
    static BOUNDS: RefCell<Vec<f64>> = const { RefCell::new(Vec::new()) };
}

/// For a recorder, in `register_histogram`: the upper bounds of the buckets that a filter counts this histogram in,
/// rising. The `metrics` crate has no place for them. Empty for a histogram that is not a filter's.
///
/// ```
/// // In a recorder's `register_histogram`; here no histogram is being registered.
/// let bounds = slidegate::histogram_bounds();
/// assert!(bounds.is_empty());
/// ```
pub fn histogram_bounds() -> Vec<f64> {
    BOUNDS.with_borrow(Vec::clone)
}

/// Where the metrics of a configuration are counted, by the component's order. Instances of that configuration may
/// follow one another.
#[derive(Default)]
pub(crate) struct FilterMetrics {
    handles: Vec<Option<Handle>>,
}

enum Handle {
    Counter(Counter),
    /// What the instance added to it, since several share it.
    Gauge(Gauge, f64),
    Histogram(Histogram),
}

impl FilterMetrics {
    /// Those that a component defined for a configuration of so many bytes.
    pub(crate) fn new(defined: Vec<Metric>, configuration_bytes: usize) -> Self {
        let most = METRICS_MAX.saturating_add(configuration_bytes);
        let excess = defined.len().saturating_sub(most);
        let handles: Vec<_> = defined.into_iter().take(most).map(resolve).collect();
        let unnamed = handles.iter().filter(|handle| handle.is_none()).count();
        if excess + unnamed > 0 {
            tracing::warn!(
                "{} metrics of the component are not recorded: they are too many, have too long names, or bounds that \
                 do not rise",
                excess + unnamed
            );
        }
        Self { handles }
    }

    /// Adds what has changed in an instance.
    pub(crate) fn add(&mut self, changes: Vec<(u32, Change)>) {
        for (metric, change) in changes {
            let handle = usize::try_from(metric).ok().and_then(|index| self.handles.get_mut(index)?.as_mut());
            match (handle, change) {
                (Some(Handle::Counter(counter)), Change::Counter(by)) => counter.increment(by),
                (Some(Handle::Gauge(gauge, last)), Change::Gauge(value)) => {
                    gauge.increment(value - *last);
                    *last = value;
                }
                (Some(Handle::Histogram(histogram)), Change::Histogram(buckets)) => {
                    for Bucket { count, sum } in buckets.into_iter().filter(|bucket| bucket.count > 0) {
                        // Exact up to 2^53, and within the bucket.
                        histogram.record_many(sum / count as f64, count.min(VALUES_MAX) as usize);
                    }
                }
                _ => {}
            }
        }
    }

    /// The instance is gone: it has no share in any gauge.
    pub(crate) fn forget_gauges(&mut self) {
        for handle in self.handles.iter_mut().flatten() {
            if let Handle::Gauge(gauge, last) = handle {
                gauge.decrement(*last);
                *last = 0.0;
            }
        }
    }
}

impl Drop for FilterMetrics {
    fn drop(&mut self) {
        self.forget_gauges();
    }
}

/// The handle of a metric. None for one whose name or labels are too long, or whose buckets are none.
fn resolve(metric: Metric) -> Option<Handle> {
    let Metric { kind, name, mut help, labels } = metric;
    let fits = |text: &str| text.len() <= NAME_BYTES_MAX;
    if labels.len() > LABELS_MAX || !fits(&name) || !labels.iter().all(|(name, value)| fits(name) && fits(value)) {
        return None;
    }
    if let Kind::Histogram(bounds) = &kind
        && (bounds.len() > BOUNDS_MAX
            || !bounds.is_sorted_by(|low, high| low < high)
            || !bounds.iter().all(|bound| bound.is_finite()))
    {
        return None;
    }
    let labels: Vec<Label> = labels.into_iter().map(|(name, value)| Label::new(name, value)).collect();
    let key = Key::from_parts(name, labels);
    help.truncate(help.floor_char_boundary(HELP_BYTES_MAX));
    Some(metrics::with_recorder(|recorder| register(recorder, &kind, &key, help)))
}

fn register(recorder: &dyn Recorder, kind: &Kind, key: &Key, help: String) -> Handle {
    let name = KeyName::from(key.name().to_owned());
    match kind {
        Kind::Counter => {
            recorder.describe_counter(name, None, help.into());
            Handle::Counter(recorder.register_counter(key, &METADATA))
        }
        Kind::Gauge => {
            recorder.describe_gauge(name, None, help.into());
            Handle::Gauge(recorder.register_gauge(key, &METADATA), 0.0)
        }
        Kind::Histogram(bounds) => {
            recorder.describe_histogram(name, None, help.into());
            BOUNDS.set(bounds.clone());
            let histogram = recorder.register_histogram(key, &METADATA);
            BOUNDS.take();
            Handle::Histogram(histogram)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use metrics::{CounterFn, GaugeFn, HistogramFn, SharedString, Unit};

    use super::*;

    /// Writes down what is recorded.
    #[derive(Clone, Default)]
    struct Notes(Arc<Mutex<Vec<String>>>);

    struct Noted(String, Notes);

    impl Notes {
        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap())
        }

        fn of(&self, key: &Key) -> Arc<Noted> {
            Arc::new(Noted(key.name().to_owned(), self.clone()))
        }
    }

    impl Noted {
        fn note(&self, what: String) {
            self.1.0.lock().unwrap().push(format!("{} {what}", self.0));
        }
    }

    impl CounterFn for Noted {
        fn increment(&self, by: u64) {
            self.note(format!("+{by}"));
        }

        fn absolute(&self, value: u64) {
            self.note(format!("={value}"));
        }
    }

    impl GaugeFn for Noted {
        fn increment(&self, by: f64) {
            self.note(format!("+{by}"));
        }

        fn decrement(&self, by: f64) {
            self.note(format!("-{by}"));
        }

        fn set(&self, value: f64) {
            self.note(format!("={value}"));
        }
    }

    impl HistogramFn for Noted {
        fn record(&self, value: f64) {
            self.note(format!("{value}"));
        }
    }

    impl Recorder for Notes {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.of(key))
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.of(key))
        }

        fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
            self.of(key).note(format!("{:?}", histogram_bounds()));
            Histogram::from_arc(self.of(key))
        }
    }

    fn metric(kind: Kind, name: &str) -> Metric {
        Metric {
            kind,
            name: name.to_owned(),
            help: "Told".to_owned(),
            labels: vec![("rule".to_owned(), "r".to_owned())],
        }
    }

    #[test]
    fn changes_are_added_and_an_instance_that_is_gone_has_no_share_in_gauges() {
        let notes = Notes::default();
        let defined =
            vec![metric(Kind::Counter, "c"), metric(Kind::Gauge, "g"), metric(Kind::Histogram(vec![1.0]), "h")];
        let mut metrics = metrics::with_local_recorder(&notes, || FilterMetrics::new(defined, 0));
        assert_eq!(notes.take(), ["h [1.0]"]);
        assert!(histogram_bounds().is_empty());
        let bucket = |count, sum| Bucket { count, sum };
        metrics.add(vec![
            (0, Change::Counter(3)),
            (1, Change::Gauge(2.0)),
            (2, Change::Histogram(vec![bucket(2, 1.0), bucket(0, 0.0)])),
        ]);
        assert_eq!(notes.take(), ["c +3", "g +2", "h 0.5", "h 0.5"]);
        metrics.add(vec![
            (1, Change::Gauge(1.0)),
            (9, Change::Counter(1)),
            (0, Change::Gauge(1.0)),
            (u32::MAX, Change::Counter(1)),
        ]);
        assert_eq!(notes.take(), ["g +-1"]);
        metrics.forget_gauges();
        metrics.add(vec![(1, Change::Gauge(1.0))]);
        drop(metrics);
        assert_eq!(notes.take(), ["g -1", "g +1", "g -1"]);
    }

    #[test]
    fn the_number_of_metrics_is_bounded_and_so_are_their_names() {
        let many = |count: usize| (0..count).map(|n| metric(Kind::Counter, &format!("m{n}"))).collect();
        assert_eq!(FilterMetrics::new(many(METRICS_MAX + 502), 500).handles.len(), METRICS_MAX + 500);
        let long = FilterMetrics::new(
            vec![metric(Kind::Counter, &"m".repeat(NAME_BYTES_MAX + 1)), metric(Kind::Counter, "m")],
            0,
        );
        assert!(long.handles[0].is_none() && long.handles[1].is_some(), "others keep their places");
        for bounds in [vec![2.0, 1.0], vec![1.0, 1.0], vec![f64::NAN], vec![f64::INFINITY], vec![0.0; BOUNDS_MAX + 1]] {
            assert!(FilterMetrics::new(vec![metric(Kind::Histogram(bounds), "h")], 0).handles[0].is_none());
        }
        assert!(FilterMetrics::new(vec![metric(Kind::Histogram(Vec::new()), "h")], 0).handles[0].is_some());
    }
}
