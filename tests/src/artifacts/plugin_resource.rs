//! Resources of Higress' plugin, as the tests of manifests and of `slidegate migrate` look at them.

use serde_json::{Map, Value};
use slidegate_engine::Engine;

/// A document of YAML.
///
/// # Panics
///
/// When it is none.
pub fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The document that Higress makes of a resource for the plugin.
pub fn plugin_document(resource: &Value) -> Value {
    let spec = &resource["spec"];
    if !spec["pluginConfig"].is_null() {
        return spec["pluginConfig"].clone();
    }
    let is_set = |flag: &Value| flag.as_bool() == Some(true);
    let mut document = match &spec["defaultConfig"] {
        Value::Object(config) if !is_set(&spec["defaultConfigDisable"]) => config.clone(),
        _ => Map::new(),
    };
    let rules = spec["matchRules"].as_array().into_iter().flatten().filter(|rule| !is_set(&rule["configDisable"]));
    let rules: Vec<Value> = rules.map(plugin_rule).collect();
    if !rules.is_empty() {
        document.insert("_rules_".to_owned(), Value::Array(rules));
    }
    Value::Object(document)
}

fn plugin_rule(rule: &Value) -> Value {
    let mut config = rule["config"].as_object().cloned().unwrap_or_default();
    for (field, name) in [("ingress", "_match_route_"), ("domain", "_match_domain_"), ("service", "_match_service_")] {
        if rule[field].as_array().is_some_and(|names| !names.is_empty()) {
            config.insert(name.to_owned(), rule[field].clone());
        }
    }
    Value::Object(config)
}

/// The engine's oddities in a document that it accepts.
///
/// # Panics
///
/// When it does not.
pub fn accepted(document: &Value) -> Vec<String> {
    match Engine::configure(document.to_string().as_bytes()) {
        Ok(engine) => engine.configuration().warnings.clone(),
        Err(errors) => panic!("{document:#}\n{errors:?}"),
    }
}
