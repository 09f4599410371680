//! The engine's counters as Envoy statistics.
//!
//! Envoy's statistics have no labels, only names. These are spelt as other plugins of the gateway do, label and value by turns,
//! then `metric` and the name, so that the same kind of `stats_tags` pattern makes labels of them again:
//! `rule.orders.decision.refused.metric.slidegate_decisions_total`. Route, upstream, model and consumer, which those plugins have
//! in their names, are not in these: the engine counts by rule and service, of which a configuration has a known number, while a
//! consumer is whatever a request says.

use slidegate_engine::Metric;

use crate::gateway::Gateway;

/// Longer label values are cut.
const VALUE_MAX: usize = 64;

/// The counters that this virtual machine has defined. The gateway gives a name that is defined twice two ids, so each is
/// defined once, however often and for however many roots the plugin is configured.
#[derive(Debug, Default)]
pub struct Counters {
    /// Sorted by name. A map would be as fast and cost the module some kilobytes.
    ids: Vec<(String, Option<u32>)>,
}

impl Counters {
    /// The gateway's id for a metric of the engine; none if it has no room for it.
    pub fn id(&mut self, gateway: &impl Gateway, metric: &Metric) -> Option<u32> {
        let name = name(metric);
        match self.ids.binary_search_by(|(each, _)| each.cmp(&name)) {
            Ok(at) => self.ids.get(at).and_then(|(_, id)| *id),
            Err(at) => {
                let id = gateway.define_counter(&name);
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
    name.push_str(metric.name);
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
        Metric { name: "slidegate_x_total", labels: labels.iter().map(|(label, value)| (*label, (*value).to_owned())).collect() }
    }

    #[test]
    fn names_hold_labels_and_values_by_turns() {
        assert_eq!(
            name(&metric(&[("rule", "orders-1"), ("decision", "refused")])),
            "rule.orders-1.decision.refused.metric.slidegate_x_total"
        );
        assert_eq!(name(&metric(&[])), "metric.slidegate_x_total");
    }

    #[test]
    fn no_value_can_pass_for_structure() {
        assert_eq!(name(&metric(&[("rule", "a.b|c d\"\u{e9}\n:")])), "rule.a_b_c_d____.metric.slidegate_x_total");
        assert_eq!(name(&metric(&[("rule", "")])), "rule.none.metric.slidegate_x_total");
        assert_eq!(name(&metric(&[("rule", &"x".repeat(500))])).len(), "rule..metric.slidegate_x_total".len() + VALUE_MAX);
    }
}
