//! An element of `rule_items`, and its keys.

use serde_json::{Map, Value};

use super::super::stock::{self, Network, elements, is_token};
use super::{Converted, Converter, impossible, stock as refused};

/// Where several are set, stock takes the last in this order.
const LIMIT_BY: [&str; 9] =
    ["header", "param", "cookie", "per_header", "per_param", "per_cookie", "consumer", "per_consumer", "per_ip"];

impl Converter {
    pub(super) fn item(&mut self, item: &Value, is_from_224: bool, path: &str) -> Converted<Value> {
        if !item.is_object() {
            return refused(path, "expected an object");
        }
        let mut kinds = Vec::new();
        for kind in LIMIT_BY {
            let field = format!("limit_by_{kind}");
            let Some(name) = item.get(&field) else { continue };
            if is_consumer(kind) || !self.text(name, &format!("{path}.{field}"))?.is_empty() {
                kinds.push(kind);
            }
        }
        let Some((kind, others)) = kinds.split_last() else { return refused(path, "expected one of `limit_by_*`") };
        let field = format!("limit_by_{kind}");
        for other in others {
            self.note(
                path,
                format!(
                    "has `limit_by_{other}` beside `{field}`: stock looks at the latter only, so the other is left out"
                ),
            );
        }
        let name = match is_consumer(kind) {
            true => String::new(),
            false => {
                let name = self.text(item.get(&field).unwrap_or(&Value::Null), path)?;
                self.key_name(kind, name, is_from_224, &format!("{path}.{field}"))?
            }
        };
        let keys = elements(item.get("limit_keys"));
        if keys.is_empty() {
            return refused(path, "config limit_keys cannot be empty");
        }
        let fields: Vec<String> =
            LIMIT_BY.iter().map(|kind| format!("limit_by_{kind}")).chain(["limit_keys".to_owned()]).collect();
        self.leave_out(item, &fields.iter().map(String::as_str).collect::<Vec<_>>(), path);
        let keys = keys.iter().enumerate().map(|(at, key)| self.entry(key, kind, &format!("{path}.limit_keys[{at}]")));
        let keys: Value = keys.collect::<Converted<_>>()?;
        Ok(Value::Object([(field, Value::from(name)), ("limit_keys".to_owned(), keys)].into_iter().collect()))
    }

    fn key_name(&mut self, kind: &str, name: String, is_from_224: bool, path: &str) -> Converted<String> {
        let header = match kind {
            "header" | "per_header" => Some(name.as_str()),
            "per_ip" if name != "from-remote-addr" => match name
                .strip_prefix("from-header-")
                .filter(|header| !header.is_empty())
            {
                None => return refused(path, "expected `from-remote-addr` or `from-header-` and the name of a header"),
                header => header,
            },
            _ => None,
        };
        let is_pseudo =
            |header: &str| matches!(header.to_ascii_lowercase().as_str(), ":authority" | ":method" | ":path");
        if header.is_some_and(|header| !is_token(header) && !is_pseudo(header)) {
            return impossible(path, "no header has such a name");
        }
        if matches!(kind, "cookie" | "per_cookie") {
            if name.trim() != name || name.contains(|letter: char| matches!(letter, ';' | '=') || letter.is_control()) {
                return impossible(path, "no cookie has such a name");
            }
            if !is_from_224 {
                let sentence = "a cookie's value is read whole; stock up to 2.2.3 cuts it at the first `=` in it, and \
                                limits nothing where the name stands alone";
                self.note(path, sentence);
            }
        }
        Ok(name)
    }

    fn entry(&mut self, entry: &Value, kind: &str, path: &str) -> Converted<Value> {
        let path_of_key = format!("{path}.key");
        let given = entry.get("key").unwrap_or(&Value::Null);
        let words = self.text(given, &path_of_key)?;
        if words.is_empty() {
            return refused(path, "limit_keys key is required");
        }
        let mut key = self.quoted(given, &path_of_key)?;
        if kind == "per_ip" {
            key = Value::from(self.network(words, &path_of_key)?);
        } else if kind.starts_with("per_") && words != "*" {
            if !words.starts_with("regexp:") {
                return refused(&path_of_key, "expected `*` or `regexp:` and an expression");
            }
            self.note(&path_of_key, "looks at the first 4 KiB of a value; stock at all of it");
        }
        let mut fields: Map<String, Value> = self.limits(entry, path, &["key"])?;
        fields.insert("key".to_owned(), key);
        Ok(Value::Object(fields))
    }

    fn network(&mut self, key: String, path: &str) -> Converted<String> {
        match stock::network(&key) {
            None => refused(path, format!("invalid IP[{}]", crate::settings::one_line(&key))),
            Some(Network::Written) => Ok(key),
            Some(Network::Everything) => {
                self.note(
                    path,
                    format!(
                        "`{key}` means every address to stock: written as 0.0.0.0/0, which is hardly what was meant"
                    ),
                );
                Ok("0.0.0.0/0".to_owned())
            }
            Some(Network::ShortV6) => {
                self.note(
                    path,
                    "matches IPv6 addresses only; to stock also IPv4 addresses that begin with the same bits",
                );
                Ok(key)
            }
        }
    }
}

fn is_consumer(kind: &str) -> bool {
    matches!(kind, "consumer" | "per_consumer")
}
