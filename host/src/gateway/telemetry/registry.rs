//! Everything that is counted, and its text for Prometheus.
//!
//! The exporters there are keep a series for ever, or until it was quiet for a while. Here a series that comes from the
//! settings (a rule, a route) lasts as long as somebody can count in it, and so leaves with the reload that took its
//! rule away.

mod histogram;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use self::histogram::Buckets;
use super::exposition::{write_head, write_sample};

/// Metadata targets of series that last as long as their handles: those of routes, and those of the filter.
pub(super) const OF_ROUTES: &str = "slidegate::routes";
const OF_THE_FILTER: &str = "slidegate::filter";

/// The process's recorder.
pub(crate) struct Registry {
    families: Mutex<BTreeMap<String, Family>>,
    /// Upper bounds of the buckets of the gateway's own histograms, by their names. The filter's has its own.
    bounds: BTreeMap<&'static str, &'static [f64]>,
}

/// The series of one name.
#[derive(Default)]
struct Family {
    help: Option<SharedString>,
    /// By their labels, as they are written.
    series: BTreeMap<String, Series>,
}

struct Series {
    value: SeriesValue,
    /// By their names, as they were given.
    labels: BTreeMap<String, String>,
    /// Lasts as long as its handles.
    is_held: bool,
}

/// What a series has counted.
pub(crate) enum ReadValue {
    Counter(u64),
    Gauge(f64),
    Histogram {
        /// Upper bounds of the buckets, rising, but for the last, which has none.
        bounds: Vec<f64>,
        /// How many values lie in each.
        counts: Vec<u64>,
    },
}

#[derive(Clone)]
enum SeriesValue {
    Counter(Arc<AtomicU64>),
    /// The bits of a floating point number.
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Buckets>),
}

impl Registry {
    /// A registry with these bounds of buckets.
    pub(crate) fn new(bounds: impl IntoIterator<Item = (&'static str, &'static [f64])>) -> Self {
        Self { families: Mutex::default(), bounds: bounds.into_iter().collect() }
    }

    /// All series in Prometheus' text format, without those that nobody can count in any more.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        for (name, family) in self.lock().iter_mut() {
            family.series.retain(|_, series| !series.is_held || series.value.is_in_use());
            family.write(name, &mut text);
        }
        text
    }

    /// Shows the series of this name with their labels, without those that nobody can count in any more.
    pub(crate) fn read(&self, name: &str, mut show: impl FnMut(&BTreeMap<String, String>, ReadValue)) {
        let families = self.lock();
        let series = families.get(name).into_iter().flat_map(|family| family.series.values());
        let in_use = series.filter(|series| !series.is_held || series.value.is_in_use());
        in_use.for_each(|series| show(&series.labels, series.value.read()));
    }

    fn describe(&self, name: &KeyName, help: SharedString) {
        self.lock().entry(sanitized(name.as_str())).or_default().help = Some(help);
    }

    /// The series of a key. One of the same name and labels and another kind is left alone: the new one is counted
    /// nowhere.
    fn series(&self, key: &Key, metadata: &Metadata<'_>, make: impl FnOnce() -> SeriesValue) -> SeriesValue {
        let mut families = self.lock();
        let family = families.entry(sanitized(key.name())).or_default();
        let made = make();
        if family.series.values().next().is_some_and(|other| other.value.kind() != made.kind()) {
            return made;
        }
        let is_held = matches!(metadata.target(), OF_ROUTES | OF_THE_FILTER);
        let new = || {
            let labels = key.labels().map(|label| (label.key().to_owned(), label.value().to_owned()));
            Series { value: made, labels: labels.collect(), is_held }
        };
        family.series.entry(labels(key)).or_insert_with(new).value.clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Family>> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder for Registry {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, help);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, help);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, help);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        match self.series(key, metadata, || SeriesValue::Counter(Arc::default())) {
            SeriesValue::Counter(counter) => Counter::from_arc(counter),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        match self.series(key, metadata, || SeriesValue::Gauge(Arc::default())) {
            SeriesValue::Gauge(gauge) => Gauge::from_arc(gauge),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        let bounds = || self.bounds.get(key.name()).map_or_else(slidegate::histogram_bounds, |bounds| bounds.to_vec());
        match self.series(key, metadata, || SeriesValue::Histogram(Arc::new(Buckets::new(bounds())))) {
            SeriesValue::Histogram(buckets) => Histogram::from_arc(buckets),
            _ => Histogram::noop(),
        }
    }
}

impl Family {
    fn write(&self, name: &str, text: &mut String) {
        let Some(kind) = self.series.values().next().map(|series| series.value.kind()) else { return };
        write_head(text, name, kind, self.help.as_deref().unwrap_or("Without a description"));
        for (labels, series) in &self.series {
            match &series.value {
                SeriesValue::Counter(counter) => write_sample(text, name, labels, counter.load(Ordering::Relaxed)),
                SeriesValue::Gauge(gauge) => {
                    write_sample(text, name, labels, f64::from_bits(gauge.load(Ordering::Relaxed)))
                }
                SeriesValue::Histogram(buckets) => buckets.write(text, name, labels),
            }
        }
    }
}

impl SeriesValue {
    fn kind(&self) -> &'static str {
        match self {
            Self::Counter(_) => "counter",
            Self::Gauge(_) => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }

    fn read(&self) -> ReadValue {
        match self {
            Self::Counter(counter) => ReadValue::Counter(counter.load(Ordering::Relaxed)),
            Self::Gauge(gauge) => ReadValue::Gauge(f64::from_bits(gauge.load(Ordering::Relaxed))),
            Self::Histogram(buckets) => {
                let (bounds, counts) = buckets.read();
                ReadValue::Histogram { bounds, counts }
            }
        }
    }

    /// Whether anybody besides the registry has it.
    fn is_in_use(&self) -> bool {
        let owners = match self {
            Self::Counter(value) | Self::Gauge(value) => Arc::strong_count(value),
            Self::Histogram(buckets) => Arc::strong_count(buckets),
        };
        owners > 1
    }
}

fn labels(key: &Key) -> String {
    let mut labels: Vec<String> =
        key.labels().map(|label| format!("{}=\"{}\"", sanitized(label.key()), escaped(label.value()))).collect();
    labels.sort_unstable();
    labels.join(",")
}

fn escaped(value: &str) -> Cow<'_, str> {
    match value.contains(['\\', '"', '\n']) {
        true => Cow::Owned(value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")),
        false => Cow::Borrowed(value),
    }
}

/// A name as Prometheus allows it: letters, digits and `_`, not beginning with a digit.
fn sanitized(name: &str) -> String {
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if name.starts_with(|first: char| first.is_ascii_digit()) { format!("_{name}") } else { name }
}

#[cfg(test)]
mod tests;
