//! What configurations mean, and what is said of those that mean nothing.

mod cache;
mod describe;
mod document;
mod extensions;
mod filters;
mod mutated;
mod refused;
mod scopes;
mod session;
mod stock;
mod tokens;
mod values;

use alloc::{
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use serde_json::{Value, json};

use super::{Config, ConfigError, FilterRules};
use crate::rule::{KeyIndex, Limit, LimitKeys, LimitUnit, Policy, RuleItem, Ruleset};

/// A limit with windows in seconds.
fn limit(limit: u64, window: u64, slot_us: u64) -> Limit {
    Limit { limit, window_us: window * 1_000_000, slot_us, unit: LimitUnit::Requests }
}

fn read(document: &Value) -> Result<Config, Vec<ConfigError>> {
    Config::read(document.to_string().as_bytes())
}

fn config(document: &Value) -> Config {
    read(document).unwrap_or_else(|errors| panic!("{document}\n{errors:#?}"))
}

/// The rules of a configuration of one filter.
fn ruleset(config: Config) -> Ruleset {
    let [FilterRules::Limiter(ruleset)] = <[_; 1]>::try_from(config.filters).unwrap() else { panic!("no limiter") };
    Rc::into_inner(ruleset).unwrap()
}

/// The policy of a document without `_rules_`.
fn policy(document: &Value) -> Policy {
    ruleset(config(document)).fallback.unwrap()
}

fn warnings(document: &Value) -> Vec<String> {
    config(document).warnings
}

/// The one rule item of a document that has nothing else.
fn item(item: Value) -> RuleItem {
    policy(&with_item(item)).items.pop().unwrap()
}

fn with_item(item: Value) -> Value {
    json!({"rule_name": "r", "rule_items": [item]})
}

/// A document with the given limits on all requests together.
fn with_threshold(threshold: Value) -> Value {
    json!({"rule_name": "r", "global_threshold": threshold})
}

/// A good document with some fields added or replaced.
fn with(fields: Value) -> Value {
    let mut document = with_threshold(json!({"query_per_second": 5}));
    for (name, value) in fields.as_object().unwrap() {
        document[name] = value.clone();
    }
    document
}

fn errors(document: &Value) -> Vec<String> {
    match read(document) {
        Ok(config) => panic!("{document} was accepted: {config:?}"),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

/// Asserts that there is one mistake, where it stands, and what is said of it.
#[track_caller]
fn refuses(document: Value, path: &str, message: &str) {
    match read(&document) {
        Ok(config) => panic!("{document} was accepted: {config:?}"),
        Err(errors) => {
            let [error] = errors.as_slice() else { panic!("expected one mistake in {document}, got {errors:#?}") };
            assert_eq!(error.path, path, "{error}");
            assert!(error.message.contains(message), "expected {message:?} in {:?}", error.message);
        }
    }
}

/// The entry that decides about a value, found without the help of the selection.
fn entry_of(keys: &LimitKeys, value: &str) -> Option<usize> {
    match &keys.index {
        KeyIndex::Ip(set) => set.first_match(value.parse().unwrap()),
        KeyIndex::Text { exact, patterns } => {
            let exact = exact.iter().filter(|(text, _)| text == value.as_bytes()).map(|(_, entry)| *entry);
            let patterns =
                patterns.iter().filter(|(_, pattern)| pattern.is_match(value.as_bytes())).map(|(entry, _)| *entry);
            exact.chain(patterns).min()
        }
    }
}
