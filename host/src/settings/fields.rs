//! Reads fields out of a JSON object and collects what is wrong with them, so that one run shows every mistake of a file.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value};

use super::secret::{is_secret_name, text_shown};

/// One mistake in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// Where, as in `routes[0].upstream`. Empty for the whole document.
    pub(crate) path: String,
    /// The value seen and what was expected.
    pub(crate) message: String,
}

impl Mistake {
    pub(crate) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => out.write_str(&self.message),
            // Names of fields are somebody's text, too.
            path => write!(out, "{}: {}", text_shown(path), self.message),
        }
    }
}

/// The fields of one object: each is asked for by name, and `finish` complains about those nobody asked for.
pub(crate) struct Fields<'a> {
    path: String,
    object: &'a Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The object at `path`, or a mistake if the value is something else.
    pub(crate) fn of(path: &str, value: &'a Value, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        match value.as_object() {
            Some(object) => Some(Self { path: path.to_owned(), object, known: Vec::new() }),
            None => {
                mistakes.push(unexpected(path, value, "an object"));
                None
            }
        }
    }

    /// The path of this object.
    pub(crate) fn path(&self) -> String {
        self.path.clone()
    }

    /// The path of a field of this object.
    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The field's value. An explicit null counts as absent, since that is what `name:` without a value is in YAML.
    pub(crate) fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// The fields of a nested object.
    pub(crate) fn nested(&mut self, name: &'static str, mistakes: &mut Vec<Mistake>) -> Option<Fields<'a>> {
        let value = self.value(name)?;
        Fields::of(&self.path_of(name), value, mistakes)
    }

    /// A field read by `read`, which says `None` for a value it does not take; `expected` is then part of the mistake.
    pub(crate) fn read<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        mistakes: &mut Vec<Mistake>,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(name)?;
        let taken = read(value);
        if taken.is_none() {
            mistakes.push(unexpected(&self.path_of(name), value, expected));
        }
        taken
    }

    /// A text. Numbers and flags count as theirs, since YAML needs no quotes for `7` where a name is meant.
    pub(crate) fn text(&mut self, name: &'static str, mistakes: &mut Vec<Mistake>) -> Option<String> {
        self.read(name, "a text", mistakes, |value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
            _ => None,
        })
    }

    pub(crate) fn switch(&mut self, name: &'static str, mistakes: &mut Vec<Mistake>) -> Option<bool> {
        self.read(name, "`true` or `false`", mistakes, |value| match value {
            Value::Bool(value) => Some(*value),
            Value::String(text) => text.to_ascii_lowercase().parse().ok(),
            _ => None,
        })
    }

    /// A whole number in a range, or a text of its digits, as a variable of the environment is.
    pub(crate) fn whole(&mut self, name: &'static str, range: RangeInclusive<u64>, mistakes: &mut Vec<Mistake>) -> Option<u64> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(name, &expected, mistakes, |value| {
            let number = match value {
                Value::String(text) => text.parse().ok(),
                value => value.as_u64(),
            };
            number.filter(|number| range.contains(number))
        })
    }

    pub(crate) fn duration(&mut self, name: &'static str, mistakes: &mut Vec<Mistake>) -> Option<Duration> {
        self.read(name, "a duration such as `500ms`, `30s`, `5m` or `1h`", mistakes, |value| match value {
            Value::String(text) => parse_duration(text),
            // Nothing is as long in every unit.
            value => (value.as_u64() == Some(0)).then_some(Duration::ZERO),
        })
    }

    /// Reports the fields that nobody asked for.
    pub(crate) fn finish(self, mistakes: &mut Vec<Mistake>) {
        for name in self.object.keys().filter(|name| !self.known.contains(&name.as_str())) {
            let hint = match nearest(name, self.known.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("expected {}", either(&self.known)),
            };
            mistakes.push(Mistake::new(self.path_of(&one_line(name)), format!("there is no such field here; {hint}")));
        }
    }
}

/// The mistake of a value that is not what was expected. A secret is not shown.
pub(crate) fn unexpected(path: &str, seen: &Value, expected: &str) -> Mistake {
    let name = path.rsplit('.').next().unwrap_or_default().split('[').next().unwrap_or_default();
    Mistake::new(
        path,
        format!("expected {expected}, got {}", if is_secret_name(name) { "a value that is not shown".to_owned() } else { shown(seen) }),
    )
}

/// A value as a message shows it: scalars in full up to a length, collections by kind.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::String(text) if text.is_empty() => "an empty text".to_owned(),
        Value::String(text) => quoted(text),
        other => format!("`{other}`"),
    }
}

/// A text that somebody wrote, as a message shows it: in one line, cut, without what may be a secret in it.
pub(crate) fn quoted(text: &str) -> String {
    // The text of a key, or of a certificate, in the place of a file's name.
    let text = if text.contains("-----") { super::secret::HIDDEN.to_owned() } else { text_shown(text) };
    format!("`{}`", one_line(&text))
}

/// The beginning of a text, with escapes for what would begin a new line or change how a line looks.
pub(crate) fn one_line(text: &str) -> String {
    const LENGTH_MAX: usize = 80;
    let mut line = String::new();
    for (index, letter) in text.chars().enumerate() {
        match letter {
            _ if index == LENGTH_MAX => return line + "...",
            letter if letter.is_control() || matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                line.extend(letter.escape_default());
            }
            letter => line.push(letter),
        }
    }
    line
}

/// `a`, `b` or `c`.
pub(crate) fn either(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        names => names.concat(),
    }
}

/// The known name that most probably was meant: of those that begin with the other or are similar, the one that begins most alike.
pub(crate) fn nearest<'n>(seen: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    const ALIKE_MIN: usize = 3;
    const SIMILARITY_MIN: f64 = 0.8;
    let folded = |name: &str| -> String { name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect() };
    let seen = folded(seen);
    let rank = |name: &'n str| {
        let known = folded(name);
        let begins_alike = seen.len().min(known.len()) >= ALIKE_MIN && (seen.starts_with(&known) || known.starts_with(&seen));
        let similarity = strsim::jaro_winkler(&seen, &known);
        let shared = seen.bytes().zip(known.bytes()).take_while(|(one, other)| one == other).count();
        (begins_alike || similarity >= SIMILARITY_MIN).then_some((shared, similarity, name))
    };
    let ranked = known.into_iter().filter_map(rank);
    let best = ranked.max_by(|one, other| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)).then(other.2.cmp(one.2)));
    best.map(|(_, _, name)| name)
}

fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let digits_end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(digits_end);
    let count: u64 = digits.parse().ok()?;
    match unit.trim_start() {
        "ms" => Some(Duration::from_millis(count)),
        "s" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_secs(count.checked_mul(60)?)),
        "h" => Some(Duration::from_secs(count.checked_mul(3600)?)),
        _ => None,
    }
    .filter(|duration| *duration <= Duration::from_secs(365 * 24 * 3600))
}

/// As it would be written.
pub(super) fn duration_shown(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        _ => format!("{}ms", duration.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations_need_a_unit_unless_they_are_zero() {
        assert_eq!(parse_duration("1500ms"), Some(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2 h"), Some(Duration::from_secs(7200)));
        assert_eq!(["0", "0s", "0ms"].map(parse_duration), [Some(Duration::ZERO); 3]);
        for text in ["", "5", "s", "-1s", "1.5s", "1d", "99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn an_unknown_field_names_the_one_that_was_meant() {
        let value = json!({"Listn": "x", "colour": 1});
        let mut mistakes = Vec::new();
        let mut fields = Fields::of("", &value, &mut mistakes).expect("an object");
        assert_eq!(fields.value("listen"), None);
        fields.finish(&mut mistakes);
        let texts: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
        assert_eq!(
            texts,
            ["Listn: there is no such field here; did you mean `listen`?", "colour: there is no such field here; expected `listen`"]
        );
    }

    #[test]
    fn what_begins_alike_is_meant_and_else_the_most_similar() {
        let known = [
            "listen",
            "admin",
            "workers",
            "upstream",
            "routes",
            "redis",
            "filter",
            "timeouts",
            "log",
            "limits",
            "request_headers",
            "connections",
            "connections_per_address",
        ];
        for (seen, meant) in [
            ("upstrem", Some("upstream")),
            ("upstreams", Some("upstream")),
            ("route", Some("routes")),
            ("timeout", Some("timeouts")),
            ("logging", Some("log")),
            ("Work-ers", Some("workers")),
            ("listem", Some("listen")),
            ("fliter", Some("filter")),
            ("requestHeaders", Some("request_headers")),
            ("request_header_timeout", Some("request_headers")),
            ("connection", Some("connections")),
            ("connections_per_adress", Some("connections_per_address")),
            ("connections_per_ip", Some("connections_per_address")),
            ("colour", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(seen, known), meant, "{seen}");
        }
    }

    #[test]
    fn no_message_shows_a_secret_or_breaks_a_line() {
        let message = |path: &str, value: Value| unexpected(path, &value, "x").message;
        assert_eq!(Mistake::new("redis.names.redis://u:hush@h", "is odd").to_string(), "redis.names.redis://***@h: is odd");
        assert_eq!(message("redis", json!("redis://u:hush@h")), "expected x, got `redis://***@h`");
        assert_eq!(message("upstream", json!("http://u:hush@h:1/a")), "expected x, got `http://***@h:1/a`");
        assert_eq!(message("redis.names.r.sentinel_password", json!(12_345_678)), "expected x, got a value that is not shown");
        assert_eq!(message("a.tokens[0]", json!("hush")), "expected x, got a value that is not shown");
        assert_eq!(message("redis.names.r.key", json!("-----BEGIN PRIVATE KEY-----\nhush")), "expected x, got `***`");
        assert_eq!(message("listen", json!("a\r\n\u{2028}\u{9b}b")), "expected x, got `a\\r\\n\\u{2028}\\u{9b}b`");
        assert_eq!(message("listen", json!("x".repeat(100))), format!("expected x, got `{}...`", "x".repeat(80)));
        assert_eq!(
            [message("a", json!("")), message("a", json!({})), message("a", json!([]))].concat().matches("expected x, got an ").count(),
            3
        );
    }

    #[test]
    fn a_wrong_type_shows_value_and_expectation() {
        let value = json!({"log": {"access": "yes"}});
        let mut mistakes = Vec::new();
        let mut fields = Fields::of("", &value, &mut mistakes).expect("an object");
        let mut log = fields.nested("log", &mut mistakes).expect("an object");
        assert_eq!(log.switch("access", &mut mistakes), None);
        assert_eq!(mistakes, [Mistake::new("log.access", "expected `true` or `false`, got `yes`")]);
    }
}
