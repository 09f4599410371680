//! What may be shown of settings: no password, wherever it stands and whatever the form. Everything that is printed of
//! a file goes through here: errors, `check`, `/config`, the demo's greeting, the log of a reload.

use serde_json::{Map, Value};
use slidegate_document::{
    is_secret_name,
    table::{filter, names},
};
use url::form_urlencoded;

/// Stands in a secret's place.
pub(crate) const HIDDEN: &str = "***";

/// Parameters of a Redis URL that are no secret. Their values are shown if they are plain words.
const SHOWN_PARAMETERS: [&str; 6] = ["db", "user", "username", "protocol", "ssl", "tls"];

/// Keys in `limit_keys` of at least this length may be API keys: of those the beginning is shown, as the filter does
/// when it describes its rules.
const KEY_LENGTH_MIN: usize = 16;
const KEY_LENGTH_SHOWN: usize = 4;
/// Of the keys of a hashed rule that are no longer than this, only the first character.
const KEY_LENGTH_SHORT: usize = 8;

/// Longer texts are no paths that anybody writes into such a file.
const PATH_LENGTH_MAX: usize = 255;
/// A private key as base64 has at least so many characters.
const KEY_TEXT_LENGTH_MIN: usize = 64;

/// Parts of the names of headers and parameters whose values the filter hashes unless told otherwise.
const HASHED_NAMES: [&str; 8] =
    ["authorization", "cookie", "token", "apikey", "secret", "session", "password", "credential"];

/// A URL as it may be shown: `redis://user:secret@host` becomes `redis://user:***@host`, `?pass=s` becomes `?pass=***`.
pub(crate) fn url_shown(url: &str) -> String {
    shown(url, true)
}

/// A text as an error may echo it. No part before an `@` is shown, not even the user: what stands in the wrong place
/// may be anything.
pub(crate) fn text_shown(text: &str) -> String {
    match has_credentials(text) {
        true => shown(text, false),
        false => text.to_owned(),
    }
}

/// A copy of a document without secrets: the values of fields named like one, what URLs hold, values of headers that
/// exempt from limits, and keys of `limit_keys` that are long or of rules whose values are hashed.
pub(crate) fn without_secrets(value: &Value) -> Value {
    cleared(value, None)
}

/// The same, where the policy around says this of `hash_values`.
fn cleared(value: &Value, policy: Option<bool>) -> Value {
    match value {
        Value::Object(fields) => {
            let hashes = fields.get("hash_values").and_then(truth);
            // Each entry of `_rules_` is a policy of its own, and inherits nothing.
            let around = |name: &str| if name == "_rules_" { None } else { hashes.or(policy) };
            let is_by_address = fields.get("limit_by_per_ip").is_some_and(|source| !source.is_null());
            let shown = |(name, value): (&String, &Value)| {
                let value = match (name.as_str(), value) {
                    (_, Value::Null) => Value::Null,
                    (name, _) if is_secret_name(name) => Value::from(HIDDEN),
                    ("exempt", exempt) => exempt_shown(exempt),
                    ("limit_keys", keys) if is_by_address && hashes.or(policy) != Some(true) => {
                        keys_shown(keys, &text_or_url_shown)
                    }
                    ("limit_keys", keys) => {
                        let is_hashed = hashes.or(policy).unwrap_or_else(|| is_hashed_unless_told(fields));
                        keys_shown(keys, &|key| key_shown(key, is_hashed))
                    }
                    (name, Value::String(text)) if names_a_file(name) && !is_like_a_path(text) => Value::from(HIDDEN),
                    (name, value) => cleared(value, around(name)),
                };
                (name.clone(), value)
            };
            fields.iter().map(shown).collect()
        }
        Value::Array(list) => list.iter().map(|item| cleared(item, policy)).collect(),
        // A key, or a certificate, in the place of a file's name.
        Value::String(text) if text.contains("-----BEGIN") => Value::from(HIDDEN),
        Value::String(text) => Value::from(text_or_url_shown(text)),
        other => other.clone(),
    }
}

fn text_or_url_shown(text: &str) -> String {
    if has_credentials(text) { url_shown(text) } else { text.to_owned() }
}

/// Whether a field names a file that holds a secret, which may stand in its place by a slip; or one of those beside it,
/// with which it may be mixed up.
fn names_a_file(field: &str) -> bool {
    matches!(field, "key" | "cert" | "ca" | "client_ca") || field.ends_with("_file")
}

/// Whether a text may be the path of a file, and not what the file should hold: a password, or a key as base64, in
/// which a `/` may be.
pub(super) fn is_like_a_path(text: &str) -> bool {
    let is_short = |length_max: usize| text.chars().count() <= length_max;
    match text.contains('.') || text.starts_with('/') {
        true => is_short(PATH_LENGTH_MAX),
        false => text.contains('/') && is_short(KEY_TEXT_LENGTH_MIN - 1),
    }
}

/// What the filter takes for true and false.
fn truth(value: &Value) -> Option<bool> {
    let text = match value {
        Value::String(text) => text.to_ascii_lowercase(),
        other => other.to_string(),
    };
    match text.as_str() {
        "true" | "t" | "1" => Some(true),
        "false" | "f" | "0" => Some(false),
        _ => None,
    }
}

/// Of a rule.
const RULE_ITEM: [&str; filter::RULE_ITEM.len()] = names(&filter::RULE_ITEM);

/// Whether a rule counts by values that open doors, or may do so by a field that is spelt wrongly.
fn is_hashed_unless_told(rule: &Map<String, Value>) -> bool {
    if rule.keys().any(|name| !RULE_ITEM.contains(&name.as_str())) {
        return true;
    }
    let has_such_a_name = |source: &Value| {
        let name = source.as_str().unwrap_or_default();
        let name: String =
            name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect();
        HASHED_NAMES.iter().any(|part| name.contains(part))
    };
    let given = |names: [&str; 2]| names.into_iter().filter_map(|name| rule.get(name)).find(|source| !source.is_null());
    given(["limit_by_cookie", "limit_by_per_cookie"]).is_some()
        || given(["limit_by_header", "limit_by_per_header"]).is_some_and(has_such_a_name)
        || given(["limit_by_param", "limit_by_per_param"]).is_some_and(has_such_a_name)
}

/// Who knows the value of such a header is not limited.
fn exempt_shown(exempt: &Value) -> Value {
    let hidden = |value: &Value| if value == "*" || value.is_null() { value.clone() } else { Value::from(HIDDEN) };
    let values = |values: &Value| match values {
        Value::Array(list) => list.iter().map(hidden).collect(),
        other => hidden(other),
    };
    let mut shown = without_secrets(exempt);
    if let Some(Value::Object(headers)) = shown.get_mut("headers") {
        headers.values_mut().for_each(|value| *value = values(value));
    }
    shown
}

fn keys_shown(keys: &Value, key_shown: &dyn Fn(&str) -> String) -> Value {
    let entry = |fields: &Map<String, Value>| -> Value {
        let shown = |(name, value): (&String, &Value)| {
            let text = match (name.as_str(), value) {
                ("key", Value::String(key)) => Some(key_shown(key)),
                ("key", Value::Number(key)) => Some(key_shown(&key.to_string())),
                _ => None,
            };
            (name.clone(), text.map_or_else(|| without_secrets(value), Value::from))
        };
        fields.iter().map(shown).collect()
    };
    match keys {
        Value::Array(list) => list.iter().map(|keys| keys_shown(keys, key_shown)).collect(),
        Value::Object(fields) => entry(fields),
        other => without_secrets(other),
    }
}

/// The beginning of a key that may open doors.
fn key_shown(key: &str, is_hashed: bool) -> String {
    let length = key.chars().count();
    let is_open = key == "*" || key.starts_with("regexp:") || key.starts_with("${");
    if is_open || !is_hashed && length < KEY_LENGTH_MIN { key.to_owned() } else { key_cut(key) }
}

/// The beginning of a key, as the filter shows one too.
pub(super) fn key_cut(key: &str) -> String {
    let shown = if key.chars().count() > KEY_LENGTH_SHORT { KEY_LENGTH_SHOWN } else { 1 };
    format!("{}{HIDDEN}", key.chars().take(shown).collect::<String>())
}

/// Whether a text is, or holds, a URL with a user or with parameters named like secrets; or something like
/// `user:secret@host`.
fn has_credentials(text: &str) -> bool {
    let has_secret_parameter = || {
        let query = text.split_once("://").and_then(|(_, rest)| rest.split_once('?')).map(|(_, query)| query);
        query.is_some_and(|query| form_urlencoded::parse(query.as_bytes()).any(|(name, _)| is_secret_name(&name)))
    };
    let is_odd = || text.split_once("://").is_some_and(|(_, rest)| rest.contains('#') || is_odd_place(rest));
    text.contains('@') || has_secret_parameter() || is_odd()
}

/// Whether what should be the place of a URL may be a secret: the URL was cut short (`redis://user:secret`), or has
/// parameters of another form (`redis://host;password=secret`), or more of the file stands behind it.
fn is_odd_place(rest: &str) -> bool {
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let hosts = path.split('/').next().unwrap_or_default();
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let is_address =
        |address: &str| address.starts_with('[') || address.rsplit_once(':').is_none_or(|(_, port)| is_port(port));
    rest.contains(char::is_whitespace) || path.contains(';') || !hosts.split(',').all(is_address)
}

fn shown(text: &str, has_user: bool) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        // No URL: what is before the last `@` may be a user and a password.
        return text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, host)| format!("{HIDDEN}@{host}"));
    };
    if !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
        return HIDDEN.to_owned();
    }
    if !rest.contains('@') && is_odd_place(rest) {
        return format!("{scheme}://{HIDDEN}");
    }
    let is_socket = scheme.ends_with("unix") && rest.starts_with('/');
    let (credentials, place) = match rest.rsplit_once('@') {
        Some((credentials, place)) if !is_socket => (Some(credentials), place),
        _ => (None, rest),
    };
    let credentials = match credentials {
        None => String::new(),
        // Either a password with such a sign in it, or a parameter with an `@`: where it ends cannot be told.
        Some(credentials) if credentials.contains(['?', '#']) || credentials.starts_with('/') => {
            return format!("{scheme}://{HIDDEN}");
        }
        Some(credentials) => {
            let user = credentials.split_once(':').map(|(user, _)| user).filter(|user| has_user && !user.contains('/'));
            format!("{}@", user.map_or_else(|| HIDDEN.to_owned(), |user| format!("{user}:{HIDDEN}")))
        }
    };
    format!("{scheme}://{credentials}{}", place_shown(place))
}

/// What stands after the credentials of a URL, without values of its parameters.
fn place_shown(place: &str) -> String {
    let (path, tail) = place.split_at(place.find(['?', '#']).unwrap_or(place.len()));
    let Some(query) = tail.strip_prefix('?') else {
        return if tail.is_empty() { path.to_owned() } else { format!("{path}#{HIDDEN}") };
    };
    let is_plain = |value: &str| value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let parameters: Vec<String> = form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| match SHOWN_PARAMETERS.contains(&&*name) && is_plain(&value) {
            true => format!("{name}={value}"),
            false => format!("{}={HIDDEN}", if is_plain(&name) { &name } else { HIDDEN }),
        })
        .collect();
    format!("{path}?{}", parameters.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_form_of_a_url_shows_its_password() {
        for (url, shown) in [
            ("redis://h", "redis://h"),
            ("redis://user:hush@host:1/2", "redis://user:***@host:1/2"),
            ("redis://:hush@host:1", "redis://:***@host:1"),
            ("redis://hush@host", "redis://***@host"),
            ("redis://u:hu%40sh@host", "redis://u:***@host"),
            ("redis://u:hu@sh@host", "redis://u:***@host"),
            ("redis://u:hu/sh@host/1", "redis://u:***@host/1"),
            ("redis://u:hu?sh@host", "redis://***"),
            ("redis://u:hu#sh@host", "redis://***"),
            ("redis://u:hush:hush@[::1]:1", "redis://u:***@[::1]:1"),
            ("rediss://u:hush@h:1?ssl=true&password=hush", "rediss://u:***@h:1?ssl=true&password=***"),
            ("redis://h?pass=hu@sh", "redis://***"),
            ("redis://h?p%61ss=hush;x&db=1;pass=hush", "redis://h?pass=***&db=***"),
            ("redis://h:1/0#hush", "redis://h:1/0#***"),
            ("unix:///x.sock?user=u&pass=hush", "unix:///x.sock?user=u&pass=***"),
            ("unix:///x.sock?db=1&user=u&pass=hu@sh#hush?", "unix:///x.sock?db=1&user=u&pass=***"),
            ("redis+unix:///run/@x.sock?password=hush", "redis+unix:///run/@x.sock?password=***"),
            (
                "redis+sentinel://u:hush@s1:26379,s2:26379/mymaster/3",
                "redis+sentinel://u:***@s1:26379,s2:26379/mymaster/3",
            ),
            ("rediss+cluster://u:hush@n1:7000,n2:7000", "rediss+cluster://u:***@n1:7000,n2:7000"),
            ("redis://u:hush@a:1,u:hush@b:2", "redis://u:***@b:2"),
            ("valkeys://default:hush@h", "valkeys://default:***@h"),
            ("http://u:hush@h/a?b", "http://u:***@h/a?b=***"),
            ("unix://u:hush@/x.sock", "unix://u:***@/x.sock"),
            ("redis://u:hush", "redis://***"),
            ("redis://h/1 pasword:hush", "redis://***"),
            ("redis://h/1\npasword=hush\n", "redis://***"),
            ("redis://u:hush?db=1", "redis://***"),
            ("redis://h:1;password=hush", "redis://***"),
            ("redis://h:1/?x=1#hush", "redis://h:1/?x=***"),
            ("redis://[::1]:1,h:2/#hush", "redis://[::1]:1,h:2/#***"),
            ("u:hush@h", "***@h"),
            ("hush x redis://u:hush@h", "***"),
        ] {
            assert_eq!(url_shown(url), shown, "{url}");
            assert!(!text_shown(url).contains("hush"), "{url}: {}", text_shown(url));
        }
    }

    #[test]
    fn an_error_does_not_even_show_the_user() {
        assert_eq!(text_shown("http://someone:hush@host:1"), "http://***@host:1");
        assert_eq!(text_shown("redis://someone@host"), "redis://***@host");
        assert_eq!(text_shown("someone:hush@host"), "***@host");
        assert_eq!(text_shown("10.0.0.0/40"), "10.0.0.0/40");
        assert_eq!(text_shown("http://a/b?c=d"), "http://a/b?c=d");
    }

    #[test]
    fn a_document_is_shown_without_secrets() {
        let document = json!({
            "redis": {"password": "hush", "username": "u", "extra": {"Passwd": ["hush"], "secret": null}},
            "hash_key": 12345,
            "rejected_msg": "see unix:///x?pass=hush",
            "rejected_headers": {"authorization": "hush"},
            "rule_items": [
                {"limit_by_header": "x", "limit_keys": [{"key": "9a342114-ba8a-11ec-b1bf-00163e1250b5",
                    "query_per_day": 1},
                    {"key": 1_234_567_890_123_456_u64}, {"key": "regexp:^a-long-expression$"}, {"key": "short"}]},
                {"limit_by_per_ip": "from-remote-addr", "limit_keys": [{"key": "2001:db8:1:2:3:4:5:6/128"}]},
            ],
        });
        let shown = without_secrets(&document);
        assert!(!shown.to_string().contains("hush") && !shown.to_string().contains("1250b5"), "{shown}");
        assert_eq!(
            shown["redis"],
            json!({"password": "***", "username": "u", "extra": {"Passwd": "***", "secret": null}})
        );
        let keys = |item: usize| -> Vec<&Value> {
            shown["rule_items"][item]["limit_keys"].as_array().unwrap().iter().map(|entry| &entry["key"]).collect()
        };
        assert_eq!(keys(0), ["9a34***", "1234***", "regexp:^a-long-expression$", "short"]);
        assert_eq!(keys(1), ["2001:db8:1:2:3:4:5:6/128"]);
        assert_eq!((&shown["hash_key"], &shown["rejected_msg"]), (&json!("***"), &json!("***")));
    }

    #[test]
    fn what_stands_in_the_place_of_a_files_name_is_shown_if_it_is_like_one() {
        let base64 = "MHcCAQEEIBk/".repeat(6);
        for text in ["s3cretpassword", "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0t", &base64, &"a.".repeat(200)] {
            assert!(!is_like_a_path(text), "{text}");
            for field in ["key", "cert", "ca", "client_ca"] {
                assert_eq!(without_secrets(&json!({"tls": {field: text}}))["tls"][field], "***", "{text}");
            }
            assert_eq!(without_secrets(&json!({"password_file": text}))["password_file"], "***", "{text}");
        }
        for text in [
            "a.key",
            "secrets/redis",
            "/run/secrets/redis",
            "~/redis",
            "C:\\a.key",
            &format!("/run/{}", "secrets/".repeat(20)),
        ] {
            assert_eq!(
                without_secrets(&json!({"key": text, "password_file": text})),
                json!({"key": text, "password_file": text})
            );
        }
        let keys =
            json!({"limit_by_per_ip": "from-remote-addr", "limit_keys": [{"key": "2001:db8::1"}, {"key": "::1"}]});
        assert_eq!(without_secrets(&keys), keys);
    }

    #[test]
    fn what_exempts_from_limits_is_not_shown() {
        let exempt = json!({"methods": ["OPTIONS"], "headers": {"x-probe": ["*", "hush"], "x-other": "hush",
            "x-key": ["hush"], "x": 7}});
        let shown = without_secrets(&json!({"filter": {"_rules_": [{"exempt": exempt}]}}));
        let expected = json!({"methods": ["OPTIONS"], "headers": {"x-probe": ["*", "***"], "x-other": "***",
            "x-key": ["***"], "x": "***"}});
        assert_eq!(shown["filter"]["_rules_"][0]["exempt"], expected);
        assert_eq!(without_secrets(&json!({"exempt": ["x", null]})), json!({"exempt": ["x", null]}));
    }

    #[test]
    fn keys_of_hashed_rules_are_cut_whatever_their_length() {
        let keys = json!([{"key": "sk-123456"}, {"key": "abc"}, {"key": "*"}, {"key": "regexp:^a"}]);
        let (cut, whole) = (["sk-1***", "a***", "*", "regexp:^a"], ["sk-123456", "abc", "*", "regexp:^a"]);
        let shown = |policy: Value| -> Vec<String> {
            let shown = without_secrets(&policy);
            let policy = shown.get("_rules_").map_or(&shown, |rules| &rules[0]);
            policy["rule_items"][0]["limit_keys"]
                .as_array()
                .unwrap()
                .iter()
                .map(|entry| entry["key"].as_str().unwrap().to_owned())
                .collect()
        };
        for source in ["limit_by_cookie", "limit_by_per_cookie"] {
            assert_eq!(shown(json!({"rule_items": [{source: "c", "limit_keys": keys}]})), cut, "{source}");
        }
        for name in ["X-Api-Key", "authorization", "my_session", "id_token"] {
            assert_eq!(
                shown(json!({"rule_items": [{"limit_by_header": name, "limit_by_param": null, "limit_keys": keys}]})),
                cut,
                "{name}"
            );
            assert_eq!(shown(json!({"rule_items": [{"limit_by_per_param": name, "limit_keys": keys}]})), cut, "{name}");
            let told = json!({"rule_items": [{"limit_by_header": name, "hash_values": "false", "limit_keys": keys}]});
            assert_eq!(shown(told), whole, "{name}");
        }
        let item =
            |hash_values: Value| json!([{"limit_by_header": "x", "hash_values": hash_values, "limit_keys": keys}]);
        let plain = json!([{"limit_by_header": "x", "limit_by_per_ip": null, "limit_keys": keys}]);
        assert_eq!(shown(json!({"rule_items": item(json!(true))})), cut);
        assert_eq!(shown(json!({"rule_items": plain, "hash_values": true})), cut);
        assert_eq!(shown(json!({"_rules_": [{"rule_items": plain, "hash_values": 1}]})), cut);
        assert_eq!(shown(json!({"rule_items": item(json!(false)), "hash_values": true})), whole);
        assert_eq!(shown(json!({"_rules_": [{"rule_items": plain}], "hash_values": true})), whole);
        assert_eq!(shown(json!({"rule_items": plain})), whole);
    }
}
