//! One configuration of stock's, made ours. Fields are read in stock's order, so that what it refuses is refused for
//! its reason.

mod item;

use serde_json::{Map, Value, json};

use super::release::{self, DetectedRelease, Release};
use super::stock::{EXACT_MAX, StockPlugin, elements, flag, text, whole};

const POLICY: [&str; 6] = ["rule_name", "global_threshold", "rule_items", "rejected_code", "rejected_msg", "redis"];
const QUOTA_HEADER: &str = "show_limit_quota_header";
const REDIS: [&str; 6] = ["service_name", "service_port", "username", "password", "timeout", "database"];
const MATCHES: [(&str, bool); 4] =
    [("_match_route_", false), ("_match_domain_", true), ("_match_service_", false), ("_match_route_prefix_", false)];
const TIMEOUT_MS_MAX: i64 = 3_600_000;

/// Why a configuration has no counterpart.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unconvertible {
    /// The old plugin does not start with it either.
    Stock(String),
    /// Slidegate has nothing that does the same.
    Impossible(String),
}

/// Converts configurations and collects what is to be told of them, each sentence once for a place.
pub(super) struct Converter {
    pub(super) plugin: StockPlugin,
    pub(super) release: Option<Release>,
    pub(super) notes: Vec<(String, String)>,
}

type Converted<T> = Result<T, Unconvertible>;

fn stock<T>(path: &str, reason: impl Into<String>) -> Converted<T> {
    Err(Unconvertible::Stock(format!("{path}: {}", reason.into())))
}

fn impossible<T>(path: &str, reason: impl Into<String>) -> Converted<T> {
    Err(Unconvertible::Impossible(format!("{path}: {}", reason.into())))
}

impl Converter {
    pub(super) fn note(&mut self, path: &str, sentence: impl Into<String>) {
        let note = (path.to_owned(), sentence.into());
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// What the plugin gets as a whole: a configuration, or `_rules_` and perhaps one beside them.
    pub(super) fn document(&mut self, document: &Value, path: &str) -> Converted<Value> {
        let Some(fields) = document.as_object() else { return stock(path, "expected an object") };
        let rules = elements(fields.get("_rules_"));
        let is_own = |name: &str| !matches!(name, "_rules_" | "_plugin_id_");
        let own: Map<String, Value> =
            fields.iter().filter(|(name, _)| is_own(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
        let mut result = Map::new();
        if !own.is_empty() || rules.is_empty() {
            let kept = self.beside_rules(&Value::Object(own), path, !rules.is_empty())?;
            result.extend(kept.and_then(|kept| kept.as_object().cloned()).unwrap_or_default());
        }
        if let Some(id) = fields.get("_plugin_id_") {
            result.insert("_plugin_id_".to_owned(), id.clone());
        }
        if !rules.is_empty() {
            let rules = rules.iter().enumerate().map(|(at, rule)| self.rule(rule, &format!("{path}._rules_[{at}]")));
            result.insert("_rules_".to_owned(), rules.collect::<Converted<Value>>()?);
        }
        Ok(Value::Object(result))
    }

    /// The configuration for requests that no rule is for. Stock drops it without a word if it is wrong and there are
    /// rules.
    pub(super) fn beside_rules(&mut self, own: &Value, path: &str, has_rules: bool) -> Converted<Option<Value>> {
        match self.policy(own, path) {
            Err(Unconvertible::Stock(reason)) if has_rules => {
                self.note(
                    path,
                    format!("left out: stock cannot read it and goes on with the rules alone, silently ({reason})"),
                );
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    fn rule(&mut self, rule: &Value, path: &str) -> Converted<Value> {
        let Some(fields) = rule.as_object() else { return stock(path, "expected an object") };
        let mut result = Map::new();
        for (field, is_domain) in MATCHES {
            let names = self.names(fields.get(field), is_domain, &format!("{path}.{field}"))?;
            if !names.is_empty() {
                result.insert(field.to_owned(), json!(names));
            }
        }
        if result.is_empty() {
            return stock(path, "expected at least one `_match_*`, not empty");
        }
        let is_match = |name: &str| MATCHES.iter().any(|(field, _)| *field == name);
        let own = fields
            .iter()
            .filter(|(name, _)| !is_match(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let policy = self.policy(&Value::Object(own), path)?;
        result.extend(policy.as_object().cloned().unwrap_or_default());
        Ok(Value::Object(result))
    }

    /// Names of routes, domains or services.
    pub(super) fn names(&mut self, value: Option<&Value>, is_domain: bool, path: &str) -> Converted<Vec<String>> {
        let mut names = Vec::new();
        for name in elements(value) {
            names.push(self.text(name, path)?);
        }
        if is_domain && names.iter().any(|name| *name != name.to_lowercase()) {
            self.note(path, "upper and lower case are the same to Slidegate, and differ for stock");
        }
        names.retain(|name| is_domain || !name.is_empty());
        Ok(names)
    }

    /// A whole configuration.
    pub(super) fn policy(&mut self, config: &Value, path: &str) -> Converted<Value> {
        let Some(redis) = config.get("redis") else { return stock(path, "missing redis in config") };
        let redis = self.redis(redis, &format!("{path}.redis"))?;
        let Some(rule_name) = config.get("rule_name") else { return stock(path, "missing rule_name in config") };
        let mut result = Map::new();
        result.insert("rule_name".to_owned(), self.quoted(rule_name, &format!("{path}.rule_name"))?);
        self.limits_of(config, &mut result, path)?;
        self.refusal(config, &mut result, path)?;
        result.insert("redis".to_owned(), redis);
        let beside: &[&str] = match self.plugin {
            StockPlugin::Requests => &[QUOTA_HEADER],
            StockPlugin::Tokens => &[],
        };
        self.leave_out(config, &[&POLICY, beside].concat(), path);
        Ok(Value::Object(result))
    }

    /// `global_threshold` and `rule_items`, as the release reads them.
    fn limits_of(&mut self, config: &Value, result: &mut Map<String, Value>, path: &str) -> Converted<()> {
        let (threshold, given) = (config.get("global_threshold"), config.get("rule_items"));
        let items = elements(given);
        if threshold.is_none() && given.is_none() {
            return stock(path, "expected one of `global_threshold` and `rule_items`");
        }
        if given.is_some() && items.is_empty() {
            return stock(path, "config rule_items cannot be empty");
        }
        let release = match release::known(self.release, threshold.is_some(), items.len()) {
            DetectedRelease::Neither(reason) => return stock(path, reason),
            DetectedRelease::Release(release, reason) => {
                if let Some(reason) = reason {
                    self.note(path, reason);
                }
                Some(release)
            }
            DetectedRelease::Either => {
                self.note(path, format!(
                    "has {} `rule_items`, which mean two things. Written for Higress up to 2.2.3, where the first that \
                     matches decides. From 2.2.4 on every one that matches is enforced: say `--release 2.2.4` if yours \
                     is that, `--release 2.2.3` if not",
                    items.len()
                ));
                None
            }
        };
        if let Some(threshold) = threshold {
            result.insert(
                "global_threshold".to_owned(),
                Value::Object(self.limits(threshold, &format!("{path}.global_threshold"), &[])?),
            );
        }
        if !items.is_empty() {
            let is_from_224 = release == Some(Release::From224);
            let items = items
                .iter()
                .enumerate()
                .map(|(at, item)| self.item(item, is_from_224, &format!("{path}.rule_items[{at}]")));
            let items: Vec<Value> = items.collect::<Converted<_>>()?;
            if is_from_224 && items.len() > 1 {
                result.insert("rule_match".to_owned(), Value::from("all"));
                self.note(
                    path,
                    "has several `rule_items`, all of which are enforced, as from 2.2.4 on: written with \
                                 `rule_match: all`",
                );
            }
            if self.plugin == StockPlugin::Requests && is_from_224 && (items.len() > 1 || threshold.is_some()) {
                self.note(
                    path,
                    "a request that one of its limits refuses uses up none of the others; with stock it does",
                );
            }
            result.insert("rule_items".to_owned(), Value::Array(items));
        }
        Ok(())
    }

    /// What a refused client gets.
    fn refusal(&mut self, config: &Value, result: &mut Map<String, Value>, path: &str) -> Converted<()> {
        if let Some(code) = config.get("rejected_code").map(whole) {
            if (200..=599).contains(&code) {
                result.insert("rejected_code".to_owned(), Value::from(code));
            } else {
                self.note(
                    &format!("{path}.rejected_code"),
                    format!("is {code} to stock, which no response can have: now 429"),
                );
            }
        }
        if let Some(message) = config.get("rejected_msg") {
            let message = match message {
                Value::Array(_) | Value::Object(_) => Value::from(message.to_string()),
                scalar => self.quoted(scalar, &format!("{path}.rejected_msg"))?,
            };
            result.insert("rejected_msg".to_owned(), message);
        }
        if let Some(show) = config.get(QUOTA_HEADER).filter(|_| self.plugin == StockPlugin::Requests) {
            let is_plain = show.as_str().is_none_or(|word| {
                matches!(word.to_ascii_lowercase().as_str(), "1" | "t" | "true" | "0" | "f" | "false")
            });
            if !is_plain {
                self.note(&format!("{path}.{QUOTA_HEADER}"), "is false to stock: written as that");
            }
            result.insert(QUOTA_HEADER.to_owned(), Value::from(flag(show)));
        }
        Ok(())
    }

    /// The counts in `global_threshold` or in an entry of `limit_keys`; `beside` are other fields that stock reads
    /// there.
    fn limits(&mut self, node: &Value, path: &str, beside: &[&str]) -> Converted<Map<String, Value>> {
        let units = self.plugin.units();
        let Some(fields) = node.as_object() else {
            return stock(path, format!("expected an object with one of {}", units.join(", ")));
        };
        let mut counts = Map::new();
        for (unit, given) in units.iter().filter_map(|unit| Some((unit, fields.get(*unit)?))) {
            let count = whole(given);
            if count <= 0 {
                self.note(
                    &format!("{path}.{unit}"),
                    "is no positive number and left out; stock fails to start when it happens to pick it",
                );
                continue;
            }
            if text(given).as_deref() != Some(count.to_string().as_str()) {
                self.note(&format!("{path}.{unit}"), format!("is {count} to stock: written as that"));
            }
            counts.insert((*unit).to_owned(), Value::from(count.min(EXACT_MAX)));
        }
        if counts.is_empty() {
            return stock(path, format!("expected one of {}, a positive number", units.join(", ")));
        }
        if counts.len() > 1 {
            let names: Vec<&str> = units.into_iter().filter(|unit| counts.contains_key(*unit)).collect();
            self.note(
                path,
                format!(
                    "has {}: all of them are enforced now; each worker of stock picks one at random",
                    names.join(" and ")
                ),
            );
        }
        let known: Vec<&str> = units.iter().chain(beside).copied().collect();
        self.leave_out(node, &known, path);
        Ok(counts)
    }

    fn redis(&mut self, node: &Value, path: &str) -> Converted<Value> {
        let name_path = format!("{path}.service_name");
        let name = self.text(node.get("service_name").unwrap_or(&Value::Null), &name_path)?;
        if name.is_empty() {
            return stock(path, "redis service name must not be empty");
        }
        if name.contains(|letter: char| letter.is_whitespace() || letter.is_control() || matches!(letter, '/' | '@')) {
            return impossible(&name_path, "is no service's name");
        }
        let mut result = Map::new();
        result.insert("service_name".to_owned(), Value::from(name));
        for (field, greatest) in
            [("service_port", 65_535), ("timeout", TIMEOUT_MS_MAX), ("database", i64::from(i32::MAX))]
        {
            let Some(given) = node.get(field).filter(|given| !given.is_null()) else { continue };
            let path = format!("{path}.{field}");
            let mut number = whole(given);
            if field == "timeout" && number > greatest {
                self.note(&path, "is an hour at most");
                number = greatest;
            }
            if !(0..=greatest).contains(&number) {
                return impossible(&path, format!("expected a number from 0 to {greatest}"));
            }
            if text(given).as_deref() != Some(number.to_string().as_str()) {
                self.note(&path, format!("written as {number}"));
            }
            if number != 0 {
                result.insert(field.to_owned(), Value::from(number));
            }
        }
        for field in ["username", "password"] {
            if let Some(given) = node.get(field).filter(|given| !given.is_null()) {
                result.insert(field.to_owned(), Value::from(self.text(given, &format!("{path}.{field}"))?));
            }
        }
        self.leave_out(node, &REDIS, path);
        Ok(Value::Object(result))
    }

    fn text(&self, value: &Value, path: &str) -> Converted<String> {
        text(value).map_or_else(|| impossible(path, "expected a text"), Ok)
    }

    /// A text; numbers stay as they are while they keep their digits on the way.
    fn quoted(&mut self, value: &Value, path: &str) -> Converted<Value> {
        let words = self.text(value, path)?;
        match value {
            Value::Number(number) if number.as_f64().is_none_or(|number| number.abs() > EXACT_MAX as f64) => {
                self.note(path, "a number so long loses digits on its way to the plugin: now in quotes");
                Ok(Value::from(words))
            }
            Value::Null => Ok(Value::from("")),
            other => Ok(other.clone()),
        }
    }

    fn leave_out(&mut self, node: &Value, known: &[&str], path: &str) {
        let names: Vec<String> = node
            .as_object()
            .into_iter()
            .flat_map(Map::keys)
            .filter(|name| !known.contains(&name.as_str()))
            .cloned()
            .collect();
        for name in names {
            let name = crate::settings::one_line(&name);
            self.note(
                &format!("{path}.{name}"),
                "left out: stock does not read it, and Slidegate refuses what it does not know, or would obey it",
            );
        }
    }
}
