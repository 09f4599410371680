//! Reads fields out of a JSON object and collects what is wrong with them, so that one run shows every mistake of a file.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

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
            path => write!(out, "{path}: {}", self.message),
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
                mistakes.push(unexpected(path, value, "a mapping of fields"));
                None
            }
        }
    }

    /// The path of a field of this object.
    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The field's value. An explicit null counts as absent, since that is what `name:` without a value is in YAML.
    pub(crate) fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
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

    pub(crate) fn text(&mut self, name: &'static str, mistakes: &mut Vec<Mistake>) -> Option<&'a str> {
        self.read(name, "a string", mistakes, Value::as_str)
    }

    pub(crate) fn switch(&mut self, name: &'static str, mistakes: &mut Vec<Mistake>) -> Option<bool> {
        self.read(name, "`true` or `false`", mistakes, Value::as_bool)
    }

    pub(crate) fn duration(&mut self, name: &'static str, mistakes: &mut Vec<Mistake>) -> Option<Duration> {
        self.read(name, "a duration such as `500ms`, `30s`, `5m` or `1h`", mistakes, |value| value.as_str().and_then(parse_duration))
    }

    /// Reports the fields that nobody asked for.
    pub(crate) fn finish(self, mistakes: &mut Vec<Mistake>) {
        for name in self.object.keys().filter(|name| !self.known.contains(&name.as_str())) {
            let hint = match nearest(name, &self.known) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("expected one of {}", listed(&self.known)),
            };
            mistakes.push(Mistake::new(self.path_of(name), format!("unknown field; {hint}")));
        }
    }
}

/// The mistake of a value that is not what was expected.
pub(crate) fn unexpected(path: &str, seen: &Value, expected: &str) -> Mistake {
    Mistake::new(path, format!("got {}, expected {expected}", shown(seen)))
}

/// A value as a message shows it: scalars in full up to a length, collections by kind.
fn shown(value: &Value) -> String {
    const LENGTH_MAX: usize = 80;
    match value {
        Value::Object(_) => "a mapping".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::String(text) if text.chars().count() > LENGTH_MAX => {
            format!("`{}...`", text.chars().take(LENGTH_MAX).collect::<String>())
        }
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The known name that a misspelt one most probably stands for.
fn nearest<'n>(seen: &str, known: &[&'n str]) -> Option<&'n str> {
    let seen = seen.to_lowercase().replace('-', "_");
    known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&seen, name), *name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min()
        .map(|(_, name)| name)
}

fn parse_duration(text: &str) -> Option<Duration> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("1500ms"), Some(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2 h"), Some(Duration::from_secs(7200)));
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
        assert_eq!(texts, ["Listn: unknown field; did you mean `listen`?", "colour: unknown field; expected one of `listen`"]);
    }

    #[test]
    fn a_wrong_type_shows_value_and_expectation() {
        let value = json!({"log": {"access": "yes"}});
        let mut mistakes = Vec::new();
        let mut fields = Fields::of("", &value, &mut mistakes).expect("an object");
        let mut log = fields.nested("log", &mut mistakes).expect("an object");
        assert_eq!(log.switch("access", &mut mistakes), None);
        assert_eq!(mistakes, [Mistake::new("log.access", "got `yes`, expected `true` or `false`")]);
    }
}
