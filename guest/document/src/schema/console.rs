//! What Higress' console makes a form of: `spec.yaml` beside a plugin's image.

use alloc::{borrow::ToOwned, string::String, vec::Vec};

use serde_json::{Map, Value, json};

use crate::table::{Field, Shape, Table, filter};

/// The name, and what it is, in English and in Chinese.
const TITLE: [&str; 2] = ["Slidegate rate limiting", "Slidegate 集群限流"];
const DESCRIPTION: [&str; 2] = [
    "Limits requests of a cluster by true sliding windows, counted in Redis. Takes the configuration of cluster-key-rate-limit.",
    "基于 Redis 真滑动窗口的集群限流插件，兼容 cluster-key-rate-limit 的配置。",
];

/// Fields that the gateway sets itself.
const OF_GATEWAY: [&str; 2] = ["_rules_", "_plugin_id_"];

/// The description of the plugin and of its form.
pub fn console() -> Value {
    let mut form = object(&filter::FILTER);
    form["example"] = json!({
        "rule_name": "api",
        "rule_items": [{"limit_by_per_header": "x-api-key", "limit_keys": [{"key": "*", "query_per_minute": 100}]}],
        "redis": {"service_name": "redis.static"},
    });
    json!({
        "apiVersion": "1.0.0",
        "info": {
            "category": "traffic",
            "name": "slidegate",
            "title": TITLE[0],
            "x-title-i18n": translations(TITLE),
            "description": DESCRIPTION[0],
            "x-description-i18n": translations(DESCRIPTION),
            "version": env!("CARGO_PKG_VERSION"),
        },
        "spec": {"phase": "UNSPECIFIED_PHASE", "priority": 20, "configSchema": {"openAPIV3Schema": form}},
    })
}

fn translations([english, chinese]: [&str; 2]) -> Value {
    json!({"en-US": english, "zh-CN": chinese})
}

fn object(table: &'static Table) -> Value {
    let fields = || table.fields().filter(|field| !OF_GATEWAY.contains(&field.name));
    let properties: Map<String, Value> = fields().map(|field| (field.name.to_owned(), property(field))).collect();
    let required: Vec<&str> = fields().filter(|field| field.is_required).map(|field| field.name).collect();
    let mut object = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

fn property(field: &'static Field) -> Value {
    let mut property = form(&field.value);
    property["title"] = Value::from(field.titles[0]);
    property["x-title-i18n"] = translations(field.titles);
    property["description"] = Value::from(field.doc);
    property
}

/// What a form can show of a value: its plainest spelling.
fn form(shape: &'static Shape) -> Value {
    match shape {
        Shape::Any | Shape::Text | Shape::Form(_) | Shape::Pattern(_) => json!({"type": "string"}),
        Shape::Flag => json!({"type": "boolean"}),
        Shape::Whole(least, greatest) => json!({"type": "integer", "minimum": least, "maximum": greatest}),
        Shape::Share => json!({"type": "number", "minimum": 0, "exclusiveMinimum": true, "maximum": 1}),
        Shape::Choice(words) => json!({"type": "string", "enum": words}),
        // Of several kinds all but a flag can be written as a text.
        Shape::Either(_) => json!({"type": "string"}),
        Shape::Optional(shape) => form(shape),
        Shape::List(shape, least) | Shape::Some(shape, least) => json!({"type": "array", "items": form(shape), "minItems": least}),
        Shape::Map(_, shape, _) => json!({"type": "object", "additionalProperties": form(shape)}),
        Shape::Object(table) => object(table),
    }
}
