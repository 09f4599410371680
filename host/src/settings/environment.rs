//! `${NAME}` in the strings of a file stands for a variable of the environment. Its value is used, and never shown.

use std::collections::BTreeMap;
use std::env::{self, VarError};
use std::fmt;

use serde_json::Value;
use slidegate_document::{Content, Node};

use super::mistake::Mistake;
use super::secret::key_cut;

/// Values of at least this length are hidden wherever they stand; shorter ones as words of their own, since letters of
/// other words would be hidden too.
const ANYWHERE_LENGTH_MIN: usize = 8;
/// Values shorter than this are hidden only in the fields that have them: they are words of other texts.
const ELSEWHERE_LENGTH_MIN: usize = 4;
/// By so many characters of its beginning a longer value is known.
const HEAD_LENGTH: usize = 16;

/// The variables that a file uses.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    /// Values and what is shown in their place, the longest value first.
    values: Vec<(String, String)>,
    /// The same for those too short to be hidden in other fields than their own, by the paths of these.
    own: BTreeMap<String, Vec<(String, String)>>,
}

/// What is shown in the values' place, not these.
impl fmt::Debug for Environment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_set().entries(self.values.iter().chain(self.own.values().flatten()).map(|(_, shown)| shown)).finish()
    }
}

/// Puts the values of variables into the strings of a document. With a mistake for each variable that is not set, and
/// for each `${` that begins no name: nothing stands there then, and behind such a `${` the string ends.
pub(crate) fn expand(document: &mut Node) -> (Environment, Vec<Mistake>) {
    expand_with(document, &|name| env::var(name))
}

fn expand_with(
    document: &mut Node,
    variable: &dyn Fn(&str) -> Result<String, VarError>,
) -> (Environment, Vec<Mistake>) {
    let mut expansion = Expansion { variable, used: BTreeMap::new(), fields: Vec::new(), mistakes: Vec::new() };
    expansion.value(document, "");
    let is_short = |value: &str| value.chars().count() < ELSEWHERE_LENGTH_MIN;
    let used = || expansion.used.iter().filter(|(_, value)| !value.is_empty());
    let values = used().filter(|(_, value)| !is_short(value)).flat_map(|(name, value)| forms(name, value));
    let values = longest_first(values.chain(expansion.fields.iter().flat_map(ExpandedField::cut_forms)));
    let own = expansion.fields.iter().map(|field| {
        let short = used().filter(|(name, value)| is_short(value) && field.names.contains(name));
        (field.path.clone(), longest_first(short.flat_map(|(name, value)| forms(name, value))))
    });
    let own = own.filter(|(_, values)| !values.is_empty()).collect();
    (Environment { values, own }, expansion.mistakes)
}

fn longest_first(values: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut values: Vec<(String, String)> = values.collect();
    values.sort_by(|one, other| other.0.len().cmp(&one.0.len()).then_with(|| one.cmp(other)));
    values.dedup_by(|later, first| later.0 == first.0);
    values
}

/// A value as it may stand in a message, as it is, and with control characters escaped; and what is shown in its place.
fn forms(name: &str, value: &str) -> Vec<(String, String)> {
    let escaped: String = value
        .chars()
        .flat_map(|letter| if letter.is_control() { letter.escape_default().collect() } else { vec![letter] })
        .collect();
    [value.to_owned(), escaped].map(|form| (form, format!("${{{name}}}"))).into()
}

/// A string that variables stand in.
struct ExpandedField {
    path: String,
    names: Vec<String>,
    written: String,
    expanded: String,
}

impl ExpandedField {
    /// If it is a key that is shown by its beginning: that beginning, in which a variable's may be, and how it was
    /// written.
    fn cut_forms(&self) -> Vec<(String, String)> {
        if !(self.path.contains("limit_keys") && self.path.ends_with(".key")) {
            return Vec::new();
        }
        let forms = [(&*self.expanded, &*self.written)]
            .into_iter()
            .chain(self.expanded.strip_prefix("regexp:").zip(self.written.strip_prefix("regexp:")));
        forms.map(|(expanded, written)| (key_cut(expanded), written.to_owned())).collect()
    }
}

struct Expansion<'v> {
    variable: &'v dyn Fn(&str) -> Result<String, VarError>,
    used: BTreeMap<String, String>,
    fields: Vec<ExpandedField>,
    mistakes: Vec<Mistake>,
}

impl Expansion<'_> {
    fn value(&mut self, node: &mut Node, path: &str) {
        match &mut node.content {
            Content::Text(text) if text.contains("${") => *text = self.text(text, path),
            Content::List(list) => {
                for (index, item) in list.iter_mut().enumerate() {
                    self.value(item, &format!("{path}[{index}]"));
                }
            }
            Content::Object(members) => {
                for member in members {
                    self.value(&mut member.value, &joined(path, &member.name));
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str, path: &str) -> String {
        let (mut expanded, mut names) = (String::new(), Vec::new());
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
                let message =
                    "expected the name of an environment variable and `}` after `${`; a `${` itself is written `$${`";
                self.mistakes.push(Mistake::new(path, message));
                return expanded;
            };
            expanded.push_str(&self.variable(name, path));
            names.push(name.to_owned());
            rest = after;
        }
        expanded.push_str(rest);
        if !names.is_empty() {
            self.fields.push(ExpandedField {
                path: path.to_owned(),
                names,
                written: text.to_owned(),
                expanded: expanded.clone(),
            });
        }
        expanded
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
        all_replaced(text.to_owned(), &self.values)
    }

    /// The same for every string of a part of the file, which stands at this path; there also values that are too short
    /// for other fields.
    pub(crate) fn hide_in(&self, path: &str, value: Value) -> Value {
        match value {
            _ if self.values.is_empty() && self.own.is_empty() => value,
            Value::String(text) => {
                let own = self.own.get(path).map_or(&[][..], Vec::as_slice);
                Value::String(all_replaced(self.hide(&text), own))
            }
            Value::Array(list) => list
                .into_iter()
                .enumerate()
                .map(|(index, item)| self.hide_in(&format!("{path}[{index}]"), item))
                .collect(),
            Value::Object(fields) => fields
                .into_iter()
                .map(|(name, value)| {
                    let value = self.hide_in(&joined(path, &name), value);
                    (name, value)
                })
                .collect(),
            other => other,
        }
    }

    pub(crate) fn hide_mistakes(&self, mistakes: Vec<Mistake>) -> Vec<Mistake> {
        let hidden = |mistake: Mistake| {
            let message = self.hide(&mistake.message);
            // The words around what was seen are no values.
            let message = match (self.own.get(&mistake.path), message.rsplit_once(", got ")) {
                (Some(own), Some((expected, seen))) => {
                    format!("{expected}, got {}", all_replaced(seen.to_owned(), own))
                }
                _ => message,
            };
            Mistake { message, ..mistake }
        };
        mistakes.into_iter().map(hidden).collect()
    }
}

/// The path of a field in an object at this path.
fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn all_replaced(text: String, values: &[(String, String)]) -> String {
    values.iter().fold(text, |text, (value, replacement)| replaced(&text, value, replacement))
}

/// Replaces a value, a short one only where it is no part of a longer word. Of a long one its beginning is enough, as
/// messages cut what they show; all that follows of it goes too.
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
        let environment = Environment { values: vec![(long.clone(), "${LONG}".to_owned())], ..Environment::default() };
        for (text, shown) in [
            (format!("got `{long}`"), "got `${LONG}`".to_owned()),
            (format!("got `x{}...`", &long[..79]), "got `x${LONG}...`".to_owned()),
            (format!("got `{}...`, or {long}{long}", &long[..20]), "got `${LONG}...`, or ${LONG}${LONG}".to_owned()),
            (format!("got `{}`", &long[..10]), format!("got `{}`", &long[..10])),
        ] {
            assert_eq!(environment.hide(&text), shown);
        }
    }

    fn expanded(document: Value) -> Result<(Value, Environment), Vec<String>> {
        let variable = |name: &str| match name {
            "PW" => Ok("pa:ss/w@rd".to_owned()),
            "HOST" => Ok("h".to_owned()),
            "PORT" => Ok("6379".to_owned()),
            "KEY" => Ok("sk-of-a-customer".to_owned()),
            "EMPTY" => Ok(String::new()),
            "TWO_LINES" => Ok("first line\nsecond".to_owned()),
            "NESTED" => Ok("${PW}".to_owned()),
            _ => Err(VarError::NotPresent),
        };
        let mut document: Node = serde_json::from_value(document).unwrap();
        let (environment, mistakes) = expand_with(&mut document, &variable);
        match mistakes.is_empty() {
            true => Ok((serde_json::to_value(&document).unwrap(), environment)),
            false => Err(mistakes.iter().map(Mistake::to_string).collect()),
        }
    }

    #[test]
    fn variables_stand_for_their_values_in_every_string() {
        let (document, _) = expanded(json!({
            "a": "redis://:${PW}@${HOST}:${PORT}/0", "b": ["${EMPTY}", "$${PW}", "$$${PW}", "$", "a$b", "$HOST",
                "${NESTED}"], "c": {"d": 5, "${PW}": true},
        }))
        .unwrap();
        assert_eq!(document["a"], "redis://:pa:ss/w@rd@h:6379/0");
        assert_eq!(document["b"], json!(["", "${PW}", "$${PW}", "$", "a$b", "$HOST", "${PW}"]));
        assert_eq!(document["c"], json!({"d": 5, "${PW}": true}));
    }

    #[test]
    fn no_value_is_in_the_debug_form() {
        let (_, environment) = expanded(json!({"a": "${PW}", "b": "${KEY}"})).expect("set");
        assert!(!environment.values.is_empty());
        let debug = format!("{environment:?}");
        assert!(
            environment.values.iter().all(|(value, _)| !debug.contains(value)) && debug.contains("${PW}"),
            "{debug}"
        );
    }

    #[test]
    fn what_is_not_set_is_named_with_its_field() {
        let mistakes =
            expanded(json!({"a": {"b": ["${NO}"]}, "c": "${", "d": "${1}", "e": "${A B}", "f": "${HOST"})).unwrap_err();
        assert_eq!(mistakes[0], "a.b[0]: the environment variable `NO` is not set; a `${` itself is written `$${`");
        assert_eq!(mistakes.len(), 5);
        assert!(
            mistakes[1..].iter().all(|mistake| mistake.contains("expected the name of an environment variable")),
            "{mistakes:?}"
        );
    }

    #[test]
    fn values_are_hidden_whatever_stands_around_them() {
        let (_, environment) = expanded(json!(["${PW}", "${HOST}", "${PORT}", "${TWO_LINES}"])).unwrap();
        assert_eq!(environment.hide("got `xpa:ss/w@rdx`"), "got `x${PW}x`");
        assert_eq!(environment.hide("host h:6379, 63790 per hour"), "host h:${PORT}, 63790 per hour");
        assert_eq!(environment.hide("got `first line\\nsecond`"), "got `${TWO_LINES}`");
        assert_eq!(environment.hide_in("", json!({"a": ["pa:ss/w@rd", 6379]})), json!({"a": ["${PW}", 6379]}));
        let cut = Environment { values: forms("LONG", &"x".repeat(100)), ..Environment::default() };
        assert!(!cut.hide(&format!("got `{}...`", "x".repeat(80))).contains("xx"));
    }

    #[test]
    fn the_shortest_values_are_hidden_in_their_own_field_only() {
        let (document, environment) =
            expanded(json!({"a": {"b": ["x", "${HOST}:1"]}, "c": "h", "d": "${HOST}"})).unwrap();
        assert_eq!(
            environment.hide_in("", document),
            json!({"a": {"b": ["x", "${HOST}:1"]}, "c": "h", "d": "${HOST}"})
        );
        assert_eq!(environment.hide_in("a", json!({"b": ["h", "h"]})), json!({"b": ["h", "${HOST}"]}));
        let told =
            |path: &str| environment.hide_mistakes(vec![Mistake::new(path, "expected h, got `h:1`")]).remove(0).message;
        assert_eq!(
            [told("a.b[1]"), told("c"), told("a")],
            ["expected h, got `${HOST}:1`", "expected h, got `h:1`", "expected h, got `h:1`"]
        );
    }

    #[test]
    fn no_beginning_of_a_key_is_shown_that_is_of_a_variable() {
        let key = |key: &str| json!({"filter": {"rule_items": [{"limit_keys": [{"key": key}]}]}});
        for (written, text, shown) in [
            ("${KEY}", "  sk-o***  5 per 1s", "  ${KEY}  5 per 1s"),
            ("a-${KEY}", "  a-sk***  5 per 1s", "  a-${KEY}  5 per 1s"),
            ("${HOST}", "  h***  5 per 1s", "  ${HOST}  5 per 1s"),
            ("regexp:${KEY}(", "`sk-o***` is not", "`${KEY}(` is not"),
        ] {
            let (_, environment) = expanded(key(written)).unwrap();
            assert_eq!(environment.hide(text), shown, "{written}");
        }
        let (_, elsewhere) = expanded(json!({"a": "${KEY}"})).unwrap();
        assert_eq!(elsewhere.hide("  sk-o***  "), "  sk-o***  ");
    }
}
