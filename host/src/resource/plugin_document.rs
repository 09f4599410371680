//! The document that Higress makes of a plugin's resource, and where each part of it stands in the resource.

use serde_json::{Map, Value, json};

use crate::settings::Mistake;

/// What a rule's fields are called in the document.
const MATCHES: [(&str, &str); 3] =
    [("ingress", "_match_route_"), ("domain", "_match_domain_"), ("service", "_match_service_")];

/// Stands for the routes of a rule that names none, so that the rest of it can be read.
const NO_ROUTE: &str = "none";

/// A plugin's configuration as the plugin gets it.
#[derive(Debug)]
pub(crate) struct PluginDocument {
    pub(crate) document: Value,
    /// Those of the resource itself, for each of which the whole of it is invalid for the gateway.
    pub(crate) mistakes: Vec<Mistake>,
    has_plugin_config: bool,
    /// For each element of `_rules_`, which of `matchRules` it is.
    rules: Vec<usize>,
}

impl PluginDocument {
    /// Of the specification of a plugin.
    pub(crate) fn of(spec: &Value) -> Self {
        if let Some(config) = spec.get("pluginConfig").filter(|config| !config.is_null()) {
            let document = config.clone();
            return Self { document, mistakes: Vec::new(), has_plugin_config: true, rules: Vec::new() };
        }
        let mut document = match spec.get("defaultConfig") {
            Some(Value::Object(config)) if !is_set(spec.get("defaultConfigDisable")) => config.clone(),
            _ => Map::new(),
        };
        let given = spec.get("matchRules").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let (mut rules, mut elements, mut mistakes) = (Vec::new(), Vec::new(), Vec::new());
        for (index, rule) in given.iter().enumerate().filter(|(_, rule)| !is_set(rule.get("configDisable"))) {
            let (mut fields, has_match) = element(rule);
            if !has_match {
                let message = "expected `ingress`, `domain` or `service`, not empty";
                mistakes.push(Mistake::new(format!("spec.matchRules[{index}]"), message));
                fields.insert(MATCHES[0].1.to_owned(), json!([NO_ROUTE]));
            }
            rules.push(index);
            elements.push(Value::Object(fields));
        }
        if !elements.is_empty() {
            document.insert("_rules_".to_owned(), Value::Array(elements));
        }
        Self { document: Value::Object(document), mistakes, has_plugin_config: false, rules }
    }

    /// Where something is in the resource that is at this path in the document.
    pub(crate) fn place(&self, path: &str) -> String {
        if self.has_plugin_config {
            return joined("spec.pluginConfig", path);
        }
        let rule = path.strip_prefix("_rules_[").and_then(|rest| rest.split_once(']'));
        let Some((rule, rest)) =
            rule.and_then(|(index, rest)| Some((self.rules.get(index.parse::<usize>().ok()?)?, rest)))
        else {
            return joined("spec.defaultConfig", path);
        };
        let rest = rest.strip_prefix('.').unwrap_or(rest);
        let rule = format!("spec.matchRules[{rule}]");
        match MATCHES.iter().find_map(|(field, name)| rest.strip_prefix(name).map(|rest| (field, rest))) {
            Some((field, rest)) => format!("{rule}.{field}{rest}"),
            None => joined(&format!("{rule}.config"), rest),
        }
    }

    /// The same for a sentence that may begin with a path and a colon.
    pub(crate) fn placed(&self, sentence: &str) -> String {
        match sentence.split_once(": ") {
            Some((path, rest)) if !path.contains([' ', '`']) => format!("{}: {rest}", self.place(path)),
            _ => format!("spec: {sentence}"),
        }
    }
}

fn joined(place: &str, path: &str) -> String {
    if path.is_empty() || path.starts_with('[') { format!("{place}{path}") } else { format!("{place}.{path}") }
}

/// The fields of a rule's configuration with those by which it is chosen; whether there are any.
fn element(rule: &Value) -> (Map<String, Value>, bool) {
    let mut fields = rule.get("config").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut has_match = false;
    for (field, name) in MATCHES {
        if let Some(names) = rule.get(field).filter(|names| names.as_array().is_some_and(|names| !names.is_empty())) {
            fields.insert(name.to_owned(), names.clone());
            has_match = true;
        }
    }
    (fields, has_match)
}

pub(crate) fn is_set(flag: Option<&Value>) -> bool {
    flag.and_then(Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_and_rules_become_one_document_whose_parts_are_found_again() {
        let spec = json!({
            "defaultConfig": {"rule_name": "d"},
            "matchRules": [
                {"ingress": ["off"], "configDisable": true, "config": {}},
                {"ingress": ["a"], "service": ["s"], "domain": [], "config": {"rule_name": "r"}},
            ],
        });
        let document = PluginDocument::of(&spec);
        assert_eq!(
            document.document,
            json!({"rule_name": "d", "_rules_": [{"rule_name": "r", "_match_route_": ["a"], "_match_service_": ["s"]}]})
        );
        for (path, place) in [
            ("", "spec.defaultConfig"),
            ("redis.timeout", "spec.defaultConfig.redis.timeout"),
            ("_rules_[0]", "spec.matchRules[1].config"),
            ("_rules_[0].rule_items[2].key", "spec.matchRules[1].config.rule_items[2].key"),
            ("_rules_[0]._match_route_[0]", "spec.matchRules[1].ingress[0]"),
            ("_rules_[7].x", "spec.defaultConfig._rules_[7].x"),
        ] {
            assert_eq!(document.place(path), place);
        }
        assert_eq!(document.placed("_rules_[0].a: is odd: very"), "spec.matchRules[1].config.a: is odd: very");
        assert_eq!(document.placed("nothing is `a: b`"), "spec: nothing is `a: b`");
    }

    #[test]
    fn what_is_disabled_is_left_out_and_a_plugin_config_is_all() {
        let disabled = json!({"defaultConfig": {"rule_name": "d"}, "defaultConfigDisable": true});
        assert_eq!(PluginDocument::of(&disabled).document, json!({}));
        let whole = PluginDocument::of(&json!({"pluginConfig": {"_rules_": []}, "defaultConfig": {"a": 1}}));
        assert_eq!(
            (whole.document.clone(), whole.place("_rules_[0].a")),
            (json!({"_rules_": []}), "spec.pluginConfig._rules_[0].a".to_owned())
        );
    }

    #[test]
    fn a_rule_for_nothing_is_told_and_the_others_are_there_all_the_same() {
        let spec = json!({"matchRules": [{"config": {"a": 1}}, {"ingress": ["r"], "config": {"b": 2}}]});
        let document = PluginDocument::of(&spec);
        let told: Vec<String> = document.mistakes.iter().map(Mistake::to_string).collect();
        assert_eq!(told, ["spec.matchRules[0]: expected `ingress`, `domain` or `service`, not empty"]);
        assert_eq!(document.document["_rules_"][1], json!({"b": 2, "_match_route_": ["r"]}));
        assert_eq!(document.place("_rules_[0].a"), "spec.matchRules[0].config.a");
    }
}
