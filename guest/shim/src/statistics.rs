//! The engine's metrics as Envoy statistics.
//!
//! Envoy's statistics have no labels, only names. These are spelt as other plugins of the gateway do, label and value
//! by turns, then `metric` and the name, so that the same kind of `stats_tags` pattern makes labels of them again:
//! `rule.orders.decision.refused.metric.slidegate_decisions_total`. Route, upstream, model and consumer, which those
//! plugins have in their names, are not in these: the engine counts by rule and service, of which a configuration has a
//! known number, while a consumer is whatever a request says. Envoy's histograms hold whole numbers, so one of the
//! engine's `_seconds` is spelt `_microseconds`.

use std::{cell::RefCell, rc::Rc};

use slidegate_engine::{Bucket, Metric, MetricKind, MetricValue};

use crate::{ai_log::RefusalCounts, gateway::Gateway};

/// Longer label values are cut.
const VALUE_MAX: usize = 64;

/// What the engine calls the end of a duration's name, and what it is here.
const SECONDS: &str = "_seconds";
const MICROSECONDS: &str = "_microseconds";

/// The statistics that this virtual machine has defined. The gateway gives a name that is defined twice two ids, so
/// each is defined once, however often and for however many roots the plugin is configured.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Sorted by name. A map would be as fast and cost the module some kilobytes.
    ids: Vec<(String, Option<u32>)>,
    /// Of all filters.
    pub refusals: Rc<RefCell<RefusalCounts>>,
}

/// One of a filter's statistics.
#[derive(Debug)]
pub struct Statistic {
    kind: MetricKind,
    /// The gateway's name for it; none if it has no room for it.
    id: Option<u32>,
    /// What this filter added to a gauge, which all workers share.
    last: u64,
}

impl Statistic {
    /// Tells of a change. The gateway takes the values of a histogram one by one: it gets the mean of each bucket so
    /// many times, rounded so that their sum is right.
    pub fn tell(&mut self, gateway: &impl Gateway, change: &MetricValue) {
        let Some(id) = self.id else { return };
        match change {
            MetricValue::Counter(value) => gateway.add_to_metric(id, signed(*value)),
            MetricValue::Gauge(value) => {
                let change = signed(*value).saturating_sub(signed(self.last));
                if change != 0 {
                    gateway.add_to_metric(id, change);
                }
                self.last = *value;
            }
            MetricValue::Histogram(buckets) => {
                for Bucket { count, sum_us } in buckets.iter().filter(|bucket| bucket.count > 0) {
                    let (mean, rest) = (sum_us / count, sum_us % count);
                    (0..*count).for_each(|at| gateway.record_metric(id, mean + u64::from(at < rest)));
                }
            }
        }
    }

    /// Takes back what was added to a gauge.
    pub fn retire(&mut self, gateway: &impl Gateway) {
        if self.kind == MetricKind::Gauge {
            self.tell(gateway, &MetricValue::Gauge(0));
        }
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Statistics {
    /// The statistic for a metric of the engine.
    pub fn of(&mut self, gateway: &impl Gateway, metric: &Metric) -> Statistic {
        Statistic { kind: metric.kind, id: self.id(gateway, metric), last: 0 }
    }

    fn id(&mut self, gateway: &impl Gateway, metric: &Metric) -> Option<u32> {
        let name = name(metric);
        match self.ids.binary_search_by(|(each, _)| each.cmp(&name)) {
            Ok(at) => self.ids.get(at).and_then(|(_, id)| *id),
            Err(at) => {
                let id = gateway.define_metric(metric.kind, &name);
                self.ids.insert(at, (name, id));
                id
            }
        }
    }
}

/// Spells a metric. Two that differ only in what a name cannot hold are one.
pub fn name(metric: &Metric) -> String {
    let mut name = String::new();
    for (label, value) in &metric.labels {
        name.push_str(label);
        name.push('.');
        push_value(&mut name, value);
        name.push('.');
    }
    name.push_str("metric.");
    match metric.name.strip_suffix(SECONDS) {
        Some(stem) if metric.kind == MetricKind::Histogram => name.extend([stem, MICROSECONDS]),
        _ => name.push_str(metric.name),
    }
    name
}

/// Dots separate, and a `|`, quote or space would need quoting wherever the name is read.
fn push_value(name: &mut String, value: &str) {
    if value.is_empty() {
        name.push_str("none");
    }
    let plain = |character: char| if character.is_ascii_alphanumeric() || character == '-' { character } else { '_' };
    name.extend(value.chars().take(VALUE_MAX).map(plain));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(labels: &[(&'static str, &str)]) -> Metric {
        let kind = MetricKind::Counter;
        Metric {
            kind,
            name: "slidegate_x_total",
            help: "",
            labels: labels.iter().map(|(label, value)| (*label, (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn names_hold_labels_and_values_by_turns() {
        assert_eq!(
            name(&metric(&[("rule", "orders-1"), ("decision", "refused")])),
            "rule.orders-1.decision.refused.metric.slidegate_x_total"
        );
        assert_eq!(name(&metric(&[])), "metric.slidegate_x_total");
        let duration = Metric { kind: MetricKind::Histogram, name: "slidegate_x_seconds", ..metric(&[]) };
        assert_eq!(name(&duration), "metric.slidegate_x_microseconds");
    }

    #[test]
    fn no_value_can_pass_for_structure() {
        assert_eq!(name(&metric(&[("rule", "a.b|c d\"\u{e9}\n:")])), "rule.a_b_c_d____.metric.slidegate_x_total");
        assert_eq!(name(&metric(&[("rule", "")])), "rule.none.metric.slidegate_x_total");
        assert_eq!(
            name(&metric(&[("rule", &"x".repeat(500))])).len(),
            "rule..metric.slidegate_x_total".len() + VALUE_MAX
        );
    }
}
