//! The resource around the configurations: what of it stays, and what belonged to the old image or to the cluster.

use serde_json::{Map, Value};

use super::policy::{Converter, Unconvertible};
use super::stock::elements;
use crate::resource::is_set;

/// What a cluster writes into a resource by itself.
const WRITTEN_BY_CLUSTERS: [&str; 6] =
    ["creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"];
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Stock's resource as ours; what is said of it goes to the converter's notes. Its `status` is the cluster's, and left
/// out.
pub(super) fn converted(resource: &Value, image: &str, converter: &mut Converter) -> Result<Value, Unconvertible> {
    let (Some(spec), Some(metadata)) =
        (resource.get("spec").and_then(Value::as_object), resource.get("metadata").and_then(Value::as_object))
    else {
        return Err(Unconvertible::Impossible("this is no WasmPlugin with `metadata` and `spec`".to_owned()));
    };
    let mut spec = spec.clone();
    spec.insert("url".to_owned(), Value::from(image));
    for field in ["sha256", "verificationKey"] {
        if spec.remove(field).is_some_and(|value| !value.is_null()) {
            converter.note(&format!("spec.{field}"), "left out: it is that of the old image");
        }
    }
    if spec.contains_key("imagePullSecret") {
        converter.note("spec.imagePullSecret", "kept: see that it opens the new image's registry");
    }
    if spec.get("failStrategy").and_then(Value::as_str) != Some("FAIL_OPEN") {
        converter
            .note("spec.failStrategy", "is FAIL_CLOSE, as before: no request passes while the plugin cannot be loaded");
    }
    match spec.get("pluginConfig").filter(|config| !config.is_null()).cloned() {
        Some(config) => {
            for field in ["defaultConfig", "matchRules"] {
                if spec.remove(field).is_some_and(|value| !value.is_null()) {
                    converter.note(
                        &format!("spec.{field}"),
                        "left out: the gateway does not look at it beside `pluginConfig`",
                    );
                }
            }
            spec.insert("pluginConfig".to_owned(), converter.document(&config, "spec.pluginConfig")?);
        }
        None => convert_rules(&mut spec, converter)?,
    }
    let api_version = resource.get("apiVersion").cloned().unwrap_or_default();
    let fields = [
        ("apiVersion", api_version),
        ("kind", Value::from("WasmPlugin")),
        ("metadata", Value::Object(bare(metadata))),
        ("spec", Value::Object(spec)),
    ];
    Ok(Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
}

fn convert_rules(spec: &mut Map<String, Value>, converter: &mut Converter) -> Result<(), Unconvertible> {
    let rules = elements(spec.get("matchRules")).to_vec();
    let has_enabled = rules.iter().any(|rule| rule.is_object() && !is_set(rule.get("configDisable")));
    if !rules.is_empty() {
        let rules =
            rules.iter().enumerate().map(|(at, rule)| match_rule(rule, &format!("spec.matchRules[{at}]"), converter));
        let rules = rules.collect::<Result<Value, Unconvertible>>()?;
        spec.insert("matchRules".to_owned(), rules);
    }
    let default = spec
        .get("defaultConfig")
        .cloned()
        .filter(|default| default.as_object().is_none_or(|fields| !fields.is_empty()));
    let default = default.filter(|default| !default.is_null());
    if is_set(spec.get("defaultConfigDisable")) {
        if default.is_some() {
            converter.note("spec.defaultConfig", "is disabled and left as it was");
        }
        if !has_enabled {
            converter.note("spec", "is not deployed, as before: its default is disabled, and no rule is enabled");
        }
    } else if default.is_some() || !has_enabled {
        let default = default.unwrap_or_else(|| Value::Object(Map::new()));
        match converter.beside_rules(&default, "spec.defaultConfig", has_enabled)? {
            Some(kept) => spec.insert("defaultConfig".to_owned(), kept),
            None => {
                spec.remove("defaultConfig");
                spec.insert("defaultConfigDisable".to_owned(), Value::Bool(true))
            }
        };
    }
    Ok(())
}

fn match_rule(rule: &Value, path: &str, converter: &mut Converter) -> Result<Value, Unconvertible> {
    let Some(fields) = rule.as_object() else {
        return Err(Unconvertible::Stock(format!("{path}: expected an object")));
    };
    if is_set(rule.get("configDisable")) {
        converter.note(path, "is disabled and left as it was");
        return Ok(rule.clone());
    }
    let mut has_names = false;
    for (field, is_domain) in [("ingress", false), ("domain", true), ("service", false)] {
        has_names |= !converter.names(fields.get(field), is_domain, &format!("{path}.{field}"))?.is_empty();
    }
    if !has_names {
        return Err(Unconvertible::Stock(format!("{path}: expected `ingress`, `domain` or `service`")));
    }
    let config = converter.policy(fields.get("config").unwrap_or(&Value::Null), &format!("{path}.config"))?;
    let mut result = fields.clone();
    result.insert("config".to_owned(), config);
    Ok(Value::Object(result))
}

/// Metadata without what the cluster wrote into it.
fn bare(metadata: &Map<String, Value>) -> Map<String, Value> {
    let mut result = metadata.clone();
    result.retain(|name, _| !WRITTEN_BY_CLUSTERS.contains(&name.as_str()));
    if let Some(Value::Object(annotations)) = result.get_mut("annotations") {
        annotations.remove(LAST_APPLIED);
    }
    if result.get("annotations").and_then(Value::as_object).is_some_and(Map::is_empty) {
        result.remove("annotations");
    }
    result
}
