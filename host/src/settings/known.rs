//! What of a document may be shown beside a mistake: names, and values that a field is known to have. What stands in a
//! field that nobody knows may be a secret whose name is spelt wrongly, whatever it looks like.

use std::ops::Range;

use serde_json::Value;
use slidegate::RedisAccess;
use slidegate_document::{Content, Member, Node, Shapes, Span, key_shown, name_shown, stray_name, without_assigned};

use super::secret::without_secrets;
use super::words::is_field;

/// Fields of resources of Kubernetes, wherever they stand in them, whose values may be shown.
const OF_RESOURCES: [&str; 17] = [
    "apiVersion",
    "kind",
    "metadata",
    "name",
    "namespace",
    "items",
    "spec",
    "url",
    "pluginName",
    "phase",
    "priority",
    "matchRules",
    "ingress",
    "domain",
    "service",
    "configDisable",
    "defaultConfigDisable",
];
/// Those that hold configurations of the filter.
const CONFIGURATIONS: [&str; 3] = ["defaultConfig", "pluginConfig", "config"];

/// Names and values of a document, each with whether it is a secret.
pub(super) fn parts(document: &Node) -> Vec<(Range<usize>, bool)> {
    let shown = serde_json::to_value(document).map(|value| without_secrets(&value)).unwrap_or_default();
    let is_resource = ["apiVersion", "kind"].iter().all(|field| document.get(field).is_some());
    let known = if is_resource { Known::Resource } else { Known::Table(Shapes::gateway()) };
    let mut parts = TextParts(Vec::new());
    parts.value(document, &shown, &known);
    parts.0
}

/// What is known of a place.
enum Known {
    Table(Shapes),
    /// It is in a resource, outside of configurations.
    Resource,
}

impl Known {
    fn field(&self, name: &str) -> Self {
        match self {
            Self::Table(shapes) => Self::Table(shapes.field(name)),
            Self::Resource if OF_RESOURCES.contains(&name) => Self::Resource,
            Self::Resource if CONFIGURATIONS.contains(&name) => Self::Table(Shapes::filter()),
            Self::Resource => Self::Table(Shapes::default()),
        }
    }

    fn element(&self) -> Self {
        match self {
            Self::Table(shapes) => Self::Table(shapes.element()),
            Self::Resource => Self::Resource,
        }
    }

    fn is_single(&self) -> bool {
        match self {
            Self::Table(shapes) => shapes.is_single(),
            Self::Resource => true,
        }
    }

    /// A name that stands here: one of a field, one of a map, or one that nobody knows.
    fn shown_name(&self, member: &Member) -> String {
        let is_any = matches!(self, Self::Table(shapes) if shapes.has_any_name());
        let name = match member.name.as_str() {
            _ if is_any => member.shown_name(),
            name if !is_field(name) && self.field(name).is_nothing() => stray_name(name, &member.value),
            name => name.into(),
        };
        name_shown(&name)
    }

    /// Whether a single value may be shown here, if it is no secret by its form or by where it stands.
    fn shows(&self, node: &Node) -> bool {
        match self {
            Self::Table(shapes) if shapes.is_redis_url() => {
                node.as_str().is_some_and(|url| RedisAccess::from(url).has_url())
            }
            _ => self.is_single(),
        }
    }

    fn is_nothing(&self) -> bool {
        matches!(self, Self::Table(shapes) if shapes.is_nothing())
    }
}

struct TextParts(Vec<(Range<usize>, bool)>);

impl TextParts {
    fn add(&mut self, span: Span, is_secret: bool) {
        self.0.extend(span.range().map(|range| (range, is_secret)));
    }

    /// A value, and what may be shown of it.
    fn value(&mut self, node: &Node, shown: &Value, known: &Known) {
        match (&node.content, shown) {
            _ if known.is_nothing() => self.add(node.span, !node.is_null()),
            (Content::Object(members), Value::Object(fields)) => {
                for member in members {
                    self.add(member.name_span, known.shown_name(member) != member.name);
                    let shown = fields.get(&member.name).unwrap_or(&Value::Null);
                    self.value(&member.value, shown, &known.field(&member.name));
                }
            }
            (Content::List(items), Value::Array(list)) => {
                let known = known.element();
                items.iter().zip(list).for_each(|(item, shown)| self.value(item, shown, &known));
            }
            _ => {
                let is_shown = known.shows(node)
                    && node.as_str().is_none_or(is_plain)
                    && serde_json::to_value(node).is_ok_and(|value| value == *shown);
                self.add(node.span, !is_shown && !node.is_null());
            }
        }
    }
}

/// Whether nothing in a text may be a secret, as messages see it. In a key of `limit_keys` an expression may be one.
fn is_plain(text: &str) -> bool {
    let is_plain_pattern = text.strip_prefix("regexp:").is_none_or(|pattern| key_shown(pattern, false) == pattern);
    is_plain_pattern && (text.contains("://") || without_assigned(text) == text)
}
