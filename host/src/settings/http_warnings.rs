//! What may surprise in how requests are read, for `check` and the log.

use serde_json::Value;

use super::{FilterConfig, NameRules, PathRules, Settings};

impl Settings {
    /// Oddities of how requests are read that are no mistakes, each a sentence.
    pub(crate) fn http_warnings(&self) -> Vec<String> {
        let filter = self.filter.as_ref().map(FilterConfig::document);
        let mut warnings = Vec::new();
        if let Some(place) = self.filter.as_ref().and_then(reading_consumer) {
            if self.trusted_consumer.is_nobody() {
                warnings.push(format!(
                    "{place}: finds no value: nobody is trusted, so that `x-mse-consumer` is removed from every \
                     request; list in `trusted_consumer` the addresses of the proxies that authenticate"
                ));
            } else if self.trusted_consumer.is_everybody() {
                warnings.push(
                    "trusted_consumer: every client is trusted, and a rule of the filter limits by consumer: each can \
                     say in `x-mse-consumer` that it is another one"
                        .to_owned(),
                );
            }
        }
        // Whoever asks at `decide` shows all fields.
        let dropping = self.filter.as_ref().filter(|_| self.listen.is_some());
        if let Some(place) = dropping.and_then(|filter| reading_dropped(filter, self.header_names)) {
            warnings.push(format!(
                "{place}: finds no value: header fields with other signs in their names than letters, digits, `-` and \
                 `_` are removed from every request at `listen`; `header_names: all` lets them pass"
            ));
        }
        let letting_pass = dropping.filter(|_| self.header_names == NameRules::All);
        if let Some((place, header)) = letting_pass.and_then(told_by_session) {
            let other = header.replacen(['-', '_'], ".", 1);
            warnings.push(format!(
                "header_names: is `all`, and `{place}` tell the upstream who asks: a client's own `{other}` reaches \
                 it, too, and applications behind CGI, as those in PHP, take that for `{header}`"
            ));
        }
        let has_prefixes = self.routes.iter().any(|route| route.path_prefix != "/");
        if self.normalize_path == PathRules::Off && (has_prefixes || filter.is_some_and(names_path)) {
            warnings.push(
                "normalize_path: is `off`, and routes or rules are chosen by path: other spellings of a path, as \
                 `//login` or `/%6Cogin`, get around them"
                    .to_owned(),
            );
        }
        if self.routes.iter().any(|route| route.upstreams.len() > 1) && self.timeouts.response <= self.timeouts.connect
        {
            warnings.push(
                "timeouts.response: is no longer than `timeouts.connect`: a request whose upstream takes no connection \
                 has no time left for the next one"
                    .to_owned(),
            );
        }
        warnings
    }
}

/// The first field, by its path in the file, by which a rule reads the consumer.
fn reading_consumer(filter: &FilterConfig) -> Option<String> {
    let reads = |name: &str, value: &Value| {
        matches!(name, "limit_by_consumer" | "limit_by_per_consumer") || is_header(name, value, &["x-mse-consumer"])
    };
    filter.each().into_iter().find_map(|(path, filter)| first_field(filter, &path, &reads))
}

/// The first field, by its path in the file, that names a header which no request has any more.
fn reading_dropped(filter: &FilterConfig, names: NameRules) -> Option<String> {
    let reads = |field: &str, value: &Value| {
        let header = match (field, value.as_str()?) {
            ("limit_by_header" | "limit_by_per_header" | "header", header) => header,
            ("limit_by_per_ip", source) => source.strip_prefix("from-header-")?,
            _ => return None,
        };
        Some(!header.starts_with(':') && !names.passes(header))
    };
    let is_dropped = |field: &str, value: &Value| reads(field, value).unwrap_or(false);
    filter.each().into_iter().find_map(|(path, filter)| first_field(filter, &path, &is_dropped))
}

/// The first header that tells something of a session and whose name can be spelt in other ways, and the path of what
/// names it.
fn told_by_session(filter: &FilterConfig) -> Option<(String, String)> {
    filter.each().into_iter().find_map(|(path, filter)| {
        let told = filter.get("session")?.get("fields")?.as_object()?.values().filter_map(Value::as_str);
        let header = told.into_iter().find(|header| header.contains(['-', '_']))?;
        Some((format!("{path}.session.fields"), header.to_owned()))
    })
}

/// Whether a rule reads the path.
fn names_path(filter: &Value) -> bool {
    first_field(filter, "", &|name, value| is_header(name, value, &[":path", ":path-only"])).is_some()
}

fn is_header(name: &str, value: &Value, headers: &[&str]) -> bool {
    let names = |text: &str| headers.iter().any(|header| header.eq_ignore_ascii_case(text));
    matches!(name, "limit_by_header" | "limit_by_per_header") && value.as_str().is_some_and(names)
}

/// The path of the first field that fits, wherever it stands in a document at this path.
fn first_field(document: &Value, path: &str, fits: &impl Fn(&str, &Value) -> bool) -> Option<String> {
    match document {
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            let path = format!("{path}.{name}");
            if fits(name, value) { Some(path) } else { first_field(value, &path, fits) }
        }),
        Value::Array(list) => {
            let mut elements = list.iter().enumerate();
            elements.find_map(|(index, value)| first_field(value, &format!("{path}[{index}]"), fits))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn warnings(document: &Value) -> Vec<String> {
        Settings::from_value(document.clone(), Path::new("")).expect("settings").http_warnings()
    }

    #[test]
    fn a_consumer_that_nobody_or_anybody_may_name_is_warned_of() {
        for rule in [
            json!({"limit_by_per_consumer": ""}),
            json!({"limit_by_consumer": ""}),
            json!({"limit_by_header": "X-Mse-Consumer"}),
        ] {
            let with = |trusted: Value| {
                json!({"upstream": "http://a", "trusted_consumer": trusted,
                "filter": {"_rules_": [{"rule_items": [rule]}]}})
            };
            let place = "filter._rules_[0].rule_items[0].limit_by_";
            let nobody = warnings(&with(json!(false))).remove(0);
            assert!(nobody.starts_with(place) && nobody.contains("finds no value"), "{nobody}");
            assert!(warnings(&with(json!(true)))[0].contains("another one"), "{rule}");
            assert_eq!(warnings(&with(json!(["10.0.0.1"]))), [""; 0], "{rule}");
        }
        assert_eq!(
            warnings(&json!({"upstream": "http://a", "filter": {"rule_items": [{"limit_by_header": "x-key"}]}})),
            [""; 0]
        );
    }

    #[test]
    fn a_response_that_is_due_before_the_next_upstream_could_be_asked_is_warned_of() {
        let told = |upstreams: Value, response: &str| {
            warnings(&json!({"upstreams": upstreams, "timeouts": {"response": response}}))
        };
        assert!(told(json!(["http://a", "http://b"]), "5s")[0].starts_with("timeouts.response: is no longer"));
        assert_eq!(told(json!(["http://a", "http://b"]), "6s"), [""; 0]);
        assert_eq!(told(json!(["http://a"]), "5s"), [""; 0]);
    }

    #[test]
    fn a_header_that_is_removed_from_every_request_is_warned_of() {
        let told = |names: &str, filter: Value| {
            warnings(&json!({"upstream": "http://a", "header_names": names, "filter": filter}))
        };
        for (rule, is_told) in [
            (json!({"limit_by_header": "x.key"}), true),
            (json!({"limit_by_per_header": "x-k~"}), true),
            (json!({"limit_by_per_ip": "from-header-x.ip"}), true),
            (json!({"limit_by_header": "X-Key_1"}), false),
            (json!({"limit_by_header": ":path"}), false),
            (json!({"limit_by_per_ip": "from-remote-addr"}), false),
            (json!({"limit_by_param": "a.b"}), false),
        ] {
            let filter = json!({"rule_items": [rule]});
            let sentence = told("strict", filter.clone());
            let place = "filter.rule_items[0].limit_by_";
            assert_eq!(sentence.len(), usize::from(is_told), "{rule}: {sentence:?}");
            assert!(sentence.iter().all(|sentence| sentence.starts_with(place) && sentence.contains("`header_names")));
            assert_eq!(told("all", filter), [""; 0], "{rule}");
        }
        let session = json!({"session": {"header": "x.session"}});
        assert!(told("strict", session)[0].starts_with("filter.session.header: "));
    }

    #[test]
    fn what_a_session_tells_and_clients_can_spell_in_another_way_is_warned_of() {
        let told = |names: &str, fields: Value| {
            let session = json!({"session": {"format": "json", "header": "x-sid", "fields": fields}});
            warnings(&json!({"upstream": "http://a", "header_names": names, "filters": [{"cache": {}}, session]}))
        };
        let fields = json!({"id": "user", "name": "X-User-Name"});
        let sentence = told("all", fields.clone());
        assert_eq!(sentence.len(), 1, "{sentence:?}");
        for part in ["header_names: ", "`filters[1].session.fields`", "`X.User-Name`", "`X-User-Name`"] {
            assert!(sentence[0].contains(part), "{sentence:?}");
        }
        assert_eq!(told("strict", fields), [""; 0]);
        // Of such a name there is no other spelling.
        assert_eq!(told("all", json!({"id": "user"})), [""; 0]);
        let decided = json!({"session": {"format": "json", "header": "x-sid", "fields": {"id": "x-user"}}});
        let only_decide = json!({"decide": {"listen": "127.0.0.1:1"}, "header_names": "all", "filter": decided});
        assert_eq!(warnings(&only_decide), [""; 0]);
    }

    #[test]
    fn paths_that_are_compared_as_they_came_are_warned_of_where_that_matters() {
        let routes = |prefix: &str, rules: &str| {
            json!({"routes": [{"name": "a", "path_prefix": prefix,
            "upstream": "http://a"}], "normalize_path": rules})
        };
        assert!(warnings(&routes("/login", "off"))[0].contains("//login"));
        for (prefix, rules) in [("/login", "on"), ("/login", "refuse"), ("/", "off")] {
            assert_eq!(warnings(&routes(prefix, rules)), [""; 0]);
        }
        let filter = json!({"rule_items": [{"limit_by_header": ":path"}]});
        assert_eq!(warnings(&json!({"upstream": "http://a", "normalize_path": "off", "filter": filter})).len(), 1);
    }
}
