//! What Higress' plugin for limits on tokens tells of a refusal beside it: a field in the gateway's log of what its
//! models are asked, and a metric by route, upstream and consumer.

use std::collections::BTreeMap;

use slidegate_engine::MetricKind;

use crate::gateway::Gateway;

/// The property that plugins write the log's fields into: a JSON object, as it stands inside of a JSON text.
const AI_LOG: &str = "ai_log";

/// The field, and what it says of a refusal.
const STATUS: &str = r#"\"token_ratelimit_status\":\"limited\""#;

/// The field's name, as far as it is the same whatever it says.
const STATUS_NAME: &str = r#"\"token_ratelimit_status\":"#;

/// So many names the metric has at most, as consumers are whatever requests say: more are counted as this one.
const NAMES_MAX: usize = 1_000;
const OTHERS: &str = "other";

/// Longer parts of a name are cut.
const PART_MAX: usize = 128;

/// The metric's names in this virtual machine, each defined once. None: the gateway has no room for it.
#[derive(Debug, Default)]
pub struct RefusalCounts {
    ids: BTreeMap<String, Option<u32>>,
}

/// Tells of a refusal for tokens, once it is on its way: that of the effective context.
pub fn tell(gateway: &impl Gateway, counts: &mut RefusalCounts) {
    gateway.set_property(AI_LOG, &with_status(&gateway.property(AI_LOG).unwrap_or_default()));
    counts.raise(gateway);
}

/// The log's fields with ours among them. What is none is replaced.
fn with_status(fields: &[u8]) -> Vec<u8> {
    let fields = fields.trim_ascii();
    let inside = fields.strip_prefix(b"{").and_then(|fields| fields.strip_suffix(b"}"));
    let inside = inside.unwrap_or_default().trim_ascii();
    let is_told = inside.windows(STATUS_NAME.len()).any(|part| part == STATUS_NAME.as_bytes());
    match inside {
        _ if is_told => fields.to_vec(),
        b"" => format!("{{{STATUS}}}").into_bytes(),
        others => [b"{", others, b",", STATUS.as_bytes(), b"}"].concat(),
    }
}

impl RefusalCounts {
    fn raise(&mut self, gateway: &impl Gateway) {
        let property = |name: &str| gateway.property(name).unwrap_or_else(|| b"-".to_vec());
        let route = part(&property("route_name"));
        let cluster = part(&property("cluster_name"));
        let consumer = gateway.request_header("x-mse-consumer").map_or_else(|| "none".to_owned(), |name| part(&name));
        let mut name = spelt(&route, &cluster, &consumer);
        if self.ids.len() >= NAMES_MAX && !self.ids.contains_key(&name) {
            name = spelt(OTHERS, OTHERS, OTHERS);
        }
        let id = match self.ids.get(&name) {
            Some(id) => *id,
            None => {
                let id = gateway.define_metric(MetricKind::Counter, &name);
                self.ids.insert(name, id);
                id
            }
        };
        if let Some(id) = id {
            gateway.add_to_metric(id, 1);
        }
    }
}

fn spelt(route: &str, cluster: &str, consumer: &str) -> String {
    format!("route.{route}.upstream.{cluster}.model.none.consumer.{consumer}.metric.token_ratelimit_count")
}

/// A part of a name as Higress' plugin has it, but for what would end the name where it is read, or a line.
fn part(value: &[u8]) -> String {
    let is_kept = |character: &char| !matches!(character, '|' | '"') && !character.is_whitespace();
    let spelt = |character: char| if is_kept(&character) && !character.is_control() { character } else { '_' };
    String::from_utf8_lossy(value).chars().take(PART_MAX).map(spelt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_stands_among_those_of_others() {
        for (before, after) in [
            ("", r#"{\"token_ratelimit_status\":\"limited\"}"#),
            ("{}", r#"{\"token_ratelimit_status\":\"limited\"}"#),
            (r#"{\"model\":\"a\"}"#, r#"{\"model\":\"a\",\"token_ratelimit_status\":\"limited\"}"#),
            (r#"{\"token_ratelimit_status\":\"limited\"}"#, r#"{\"token_ratelimit_status\":\"limited\"}"#),
            ("no object", r#"{\"token_ratelimit_status\":\"limited\"}"#),
        ] {
            assert_eq!(String::from_utf8(with_status(before.as_bytes())).unwrap(), after, "{before}");
        }
    }

    #[test]
    fn names_are_parts_without_what_would_break_them() {
        assert_eq!(part(b"outbound|80||a.b c\n\""), "outbound_80__a.b_c__");
        assert_eq!(part(&[b'x'; 500]).len(), PART_MAX);
    }
}
