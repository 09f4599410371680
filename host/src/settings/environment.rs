//! `${NAME}` in the strings of a file stands for a variable of the environment. Its value is used, and never shown.

use std::collections::BTreeMap;
use std::env::{self, VarError};

use serde_json::Value;

use super::Mistake;

/// Values of at least this length are hidden wherever they stand; shorter ones as words of their own, since letters of other words
/// would be hidden too.
const ANYWHERE_LENGTH_MIN: usize = 8;
/// By so many characters of its beginning a longer value is known.
const HEAD_LENGTH: usize = 16;

/// The variables that a file uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    /// Value and name, the longest value first.
    values: Vec<(String, String)>,
}

/// Puts the values of variables into the strings of a document.
///
/// # Errors
/// Each variable that is not set, and each `${` that begins no name.
pub(crate) fn expand(document: &mut Value) -> Result<Environment, Vec<Mistake>> {
    expand_with(document, &|name| env::var(name))
}

fn expand_with(document: &mut Value, variable: &dyn Fn(&str) -> Result<String, VarError>) -> Result<Environment, Vec<Mistake>> {
    let mut expansion = Expansion { variable, used: BTreeMap::new(), mistakes: Vec::new() };
    expansion.value(document, "");
    if !expansion.mistakes.is_empty() {
        return Err(expansion.mistakes);
    }
    let mut values: Vec<(String, String)> =
        expansion.used.into_iter().filter(|(_, value)| !value.is_empty()).flat_map(|(name, value)| forms(&name, &value)).collect();
    values.sort_by(|one, other| other.0.len().cmp(&one.0.len()).then_with(|| one.cmp(other)));
    values.dedup_by(|later, first| later.0 == first.0);
    Ok(Environment { values })
}

/// A value as it may stand in a message: as it is, and with control characters escaped.
fn forms(name: &str, value: &str) -> Vec<(String, String)> {
    let escaped: String =
        value.chars().flat_map(|letter| if letter.is_control() { letter.escape_default().collect() } else { vec![letter] }).collect();
    [value.to_owned(), escaped].map(|form| (form, name.to_owned())).into()
}

struct Expansion<'v> {
    variable: &'v dyn Fn(&str) -> Result<String, VarError>,
    used: BTreeMap<String, String>,
    mistakes: Vec<Mistake>,
}

impl Expansion<'_> {
    fn value(&mut self, value: &mut Value, path: &str) {
        match value {
            Value::String(text) if text.contains("${") => *text = self.text(text, path),
            Value::Array(list) => {
                for (index, item) in list.iter_mut().enumerate() {
                    self.value(item, &format!("{path}[{index}]"));
                }
            }
            Value::Object(fields) => {
                for (name, value) in fields {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    self.value(value, &path);
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str, path: &str) -> String {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            // `$${` is a dollar sign and a brace.
            if let Some(before) = before.strip_suffix('$') {
                expanded.extend([before, "${"]);
                rest = after;
                continue;
            }
            expanded.push_str(before);
            let Some((name, after)) = after.split_once('}').filter(|(name, _)| is_name(name)) else {
                let message = "expected the name of an environment variable and `}` after `${`; a `${` itself is written `$${`";
                self.mistakes.push(Mistake::new(path, message));
                return expanded;
            };
            expanded.push_str(&self.variable(name, path));
            rest = after;
        }
        expanded + rest
    }

    fn variable(&mut self, name: &str, path: &str) -> String {
        let reason = match (self.variable)(name) {
            Ok(value) => {
                self.used.insert(name.to_owned(), value.clone());
                return value;
            }
            Err(VarError::NotPresent) => "is not set; a `${` itself is written `$${`",
            Err(VarError::NotUnicode(_)) => "is not UTF-8",
        };
        self.mistakes.push(Mistake::new(path, format!("the environment variable `{name}` {reason}")));
        String::new()
    }
}

fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(is_letter) && name.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit())
}

impl Environment {
    /// The text with the names of variables in place of their values.
    pub(crate) fn hide(&self, text: &str) -> String {
        let mut hidden = text.to_owned();
        for (value, name) in &self.values {
            hidden = replaced(&hidden, value, &format!("${{{name}}}"));
        }
        hidden
    }

    /// The same for every string of a document.
    pub(crate) fn hide_in(&self, value: Value) -> Value {
        match value {
            _ if self.values.is_empty() => value,
            Value::String(text) => Value::String(self.hide(&text)),
            Value::Array(list) => list.into_iter().map(|item| self.hide_in(item)).collect(),
            Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, self.hide_in(value))).collect(),
            other => other,
        }
    }

    pub(crate) fn hide_mistakes(&self, mistakes: Vec<Mistake>) -> Vec<Mistake> {
        mistakes.into_iter().map(|mistake| Mistake { message: self.hide(&mistake.message), ..mistake }).collect()
    }
}

/// Replaces a value, a short one only where it is no part of a longer word. Of a long one its beginning is enough, as messages cut
/// what they show; all that follows of it goes too.
fn replaced(text: &str, value: &str, replacement: &str) -> String {
    let is_short = value.chars().count() < ANYWHERE_LENGTH_MIN;
    let is_inside = |neighbour: Option<char>, end: Option<char>| {
        is_short && neighbour.is_some_and(char::is_alphanumeric) && end.is_some_and(char::is_alphanumeric)
    };
    let head = value.char_indices().nth(HEAD_LENGTH).map_or(value, |(end, _)| &value[..end]);
    let mut result = String::new();
    let (mut from, mut sought) = (0, 0);
    while let Some(at) = text[sought..].find(head).map(|found| sought + found) {
        let common = text[at..].chars().zip(value.chars()).take_while(|(seen, letter)| seen == letter);
        let end = at + common.map(|(letter, _)| letter.len_utf8()).sum::<usize>();
        let (before, after) = (text[..at].chars().next_back(), text[end..].chars().next());
        sought = end;
        if is_inside(before, value.chars().next()) || is_inside(after, value.chars().next_back()) {
            continue;
        }
        result.extend([&text[from..at], replacement]);
        from = end;
    }
    result + &text[from..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_a_long_value_no_part_is_shown_where_a_message_cuts_it() {
        let long = "s3cr3t".repeat(20);
        let environment = Environment { values: vec![(long.clone(), "LONG".to_owned())] };
        for (text, shown) in [
            (format!("got `{long}`"), "got `${LONG}`".to_owned()),
            (format!("got `x{}...`", &long[..79]), "got `x${LONG}...`".to_owned()),
            (format!("got `{}...`, or {long}{long}", &long[..20]), "got `${LONG}...`, or ${LONG}${LONG}".to_owned()),
            (format!("got `{}`", &long[..10]), format!("got `{}`", &long[..10])),
        ] {
            assert_eq!(environment.hide(&text), shown);
        }
    }

    fn expanded(mut document: Value) -> Result<(Value, Environment), Vec<String>> {
        let variable = |name: &str| match name {
            "PW" => Ok("pa:ss/w@rd".to_owned()),
            "HOST" => Ok("h".to_owned()),
            "PORT" => Ok("63".to_owned()),
            "EMPTY" => Ok(String::new()),
            "TWO_LINES" => Ok("first line\nsecond".to_owned()),
            "NESTED" => Ok("${PW}".to_owned()),
            _ => Err(VarError::NotPresent),
        };
        let result = expand_with(&mut document, &variable);
        result.map(|environment| (document, environment)).map_err(|mistakes| mistakes.iter().map(Mistake::to_string).collect())
    }

    #[test]
    fn variables_stand_for_their_values_in_every_string() {
        let (document, _) = expanded(json!({
            "a": "redis://:${PW}@${HOST}:${PORT}/0", "b": ["${EMPTY}", "$${PW}", "$$${PW}", "$", "a$b", "$HOST", "${NESTED}"], "c": {"d": 5, "${PW}": true},
        }))
        .unwrap();
        assert_eq!(document["a"], "redis://:pa:ss/w@rd@h:63/0");
        assert_eq!(document["b"], json!(["", "${PW}", "$${PW}", "$", "a$b", "$HOST", "${PW}"]));
        assert_eq!(document["c"], json!({"d": 5, "${PW}": true}));
    }

    #[test]
    fn what_is_not_set_is_named_with_its_field() {
        let mistakes = expanded(json!({"a": {"b": ["${NO}"]}, "c": "${", "d": "${1}", "e": "${A B}", "f": "${HOST"})).unwrap_err();
        assert_eq!(mistakes[0], "a.b[0]: the environment variable `NO` is not set; a `${` itself is written `$${`");
        assert_eq!(mistakes.len(), 5);
        assert!(mistakes[1..].iter().all(|mistake| mistake.contains("expected the name of an environment variable")), "{mistakes:?}");
    }

    #[test]
    fn values_are_hidden_whatever_stands_around_them() {
        let (_, environment) = expanded(json!(["${PW}", "${HOST}", "${PORT}", "${TWO_LINES}"])).unwrap();
        assert_eq!(environment.hide("got `xpa:ss/w@rdx`"), "got `x${PW}x`");
        assert_eq!(environment.hide("host h:63, 6379 per hour"), "host ${HOST}:${PORT}, 6379 per hour");
        assert_eq!(environment.hide("got `first line\\nsecond`"), "got `${TWO_LINES}`");
        assert_eq!(environment.hide_in(json!({"a": ["pa:ss/w@rd", 63]})), json!({"a": ["${PW}", 63]}));
        let cut = Environment { values: forms("LONG", &"x".repeat(100)) };
        assert!(!cut.hide(&format!("got `{}...`", "x".repeat(80))).contains("xx"));
    }
}
