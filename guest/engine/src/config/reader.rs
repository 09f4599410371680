//! Reads values out of a document and remembers each mistake with the path where it stands, so that one pass finds them all.
//! A reading method that returns `None` has reported why.

use alloc::{
    collections::BTreeSet,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt, iter, ops::RangeInclusive};

use super::{
    document::{Node, float_text},
    error::ConfigError,
    suggest::{UnknownField, either},
};
use crate::value_hash::Codes;

/// More mistakes than this are counted, not told.
const ERRORS_MAX: usize = 1_000;
/// More oddities than this are counted, not told.
const WARNINGS_MAX: usize = 100;
/// How much of a value a message shows, in characters.
const SEEN_MAX: usize = 80;
/// Keys of at least this length may be API keys, whatever they are counted by.
const KEY_LENGTH_MIN: usize = 16;
/// Integers up to here are exact in a JSON number that passes through a double, as all do on their way through Higress.
pub(super) const EXACT_MAX: u64 = 1 << 53;

/// Where a value stands: a chain on the stack, written out only for a message.
#[derive(Clone, Copy)]
pub(super) enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'a str),
    Element(&'a Path<'a>, usize),
}

/// Where keys stand, and by a slip also in the place of names.
const KEYS: &str = "limit_keys";

/// Parts of the names of fields whose values no message shows, wherever they stand.
const SECRETS: [&str; 7] = ["password", "passwd", "secret", "token", "credential", "hash_key", "auth"];

impl Path<'_> {
    /// Whether it is the field of keys, or something in it.
    fn is_of_keys(&self) -> bool {
        match self {
            Path::Root => false,
            Path::Element(parent, _) => parent.is_of_keys(),
            Path::Field(parent, name) => *name == KEYS || parent.is_of_keys(),
        }
    }

    /// Whether a name on the way says that what stands here is nobody's business.
    fn is_secret(&self) -> bool {
        match self {
            Path::Root => false,
            Path::Element(parent, _) => parent.is_secret(),
            Path::Field(parent, name) => {
                let name = name.to_ascii_lowercase();
                SECRETS.iter().any(|part| name.contains(part)) || parent.is_secret()
            }
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Field(Path::Root, name) => f.write_str(&shown_name(name)),
            Path::Field(parent, name) if parent.is_of_keys() && !is_like_a_field(name) => {
                write!(f, "{parent}.{}", shown_name(&key_shown(name, false)))
            }
            Path::Field(parent, name) => write!(f, "{parent}.{}", shown_name(name)),
            Path::Element(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// An object and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) path: Path<'a>,
    fields: &'a [(String, Node)],
}

impl<'a> Fields<'a> {
    /// The field of that name, if there is one, `null` or not.
    pub(super) fn get<'s>(&'s self, name: &'s str) -> Option<(Path<'s>, &'a Node)> {
        let (_, node) = self.fields.iter().find(|(field, _)| field == name)?;
        Some((self.at(name), node))
    }

    /// As [`get`](Fields::get), but `null` is as good as absent: for the fields whose default stock takes then too.
    pub(super) fn get_unless_null<'s>(&'s self, name: &'s str) -> Option<(Path<'s>, &'a Node)> {
        self.get(name).filter(|(_, node)| !matches!(node, Node::Null))
    }

    /// Where a field of that name stands or would stand.
    pub(super) fn at<'s>(&'s self, name: &'s str) -> Path<'s> {
        Path::Field(&self.path, name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.fields.iter().map(|(name, _)| name.as_str())
    }
}

/// An array without elements, or what counts as one, as a message shows it.
pub(super) fn emptiness(node: &Node) -> &'static str {
    match node {
        Node::List(_) => "an empty array",
        other => other.kind(),
    }
}

/// True or false, or what holds where nothing is said.
pub(super) fn flag(reader: &mut Reader, fields: &Fields<'_>, name: &str, default: bool) -> Option<bool> {
    match fields.get(name) {
        Some((path, node)) => reader.boolean(path, node),
        None => Some(default),
    }
}

/// True, false, or nothing said.
pub(super) fn optional_flag(reader: &mut Reader, fields: &Fields<'_>, name: &str) -> Option<Option<bool>> {
    match fields.get(name) {
        Some((path, node)) => reader.boolean(path, node).map(Some),
        None => Some(None),
    }
}

/// The elements of an array with their paths. What is no array counts as one element of itself, and `null` as none.
pub(super) fn elements<'a>(path: &'a Path<'a>, node: &'a Node) -> impl Iterator<Item = (Path<'a>, &'a Node)> {
    let (list, single): (&[Node], _) = match node {
        Node::List(list) => (list, None),
        Node::Null => (&[], None),
        other => (&[], Some((*path, other))),
    };
    let list = list.iter().enumerate().map(|(index, item)| (Path::Element(path, index), item));
    iter::chain(single, list)
}

/// Collects mistakes and oddities.
#[derive(Default)]
pub(super) struct Reader {
    errors: Vec<ConfigError>,
    errors_more: usize,
    warnings: Vec<String>,
    warnings_more: usize,
    /// Where whatever hashes values remembers codes.
    pub(super) codes: Codes,
}

impl Reader {
    /// The oddities, or the mistakes if there was any.
    pub(super) fn finish(mut self) -> Result<Vec<String>, Vec<ConfigError>> {
        if self.errors_more > 0 {
            let message = format!("and {} more mistakes", self.errors_more);
            self.errors.push(ConfigError { path: String::new(), message });
        }
        if self.warnings_more > 0 {
            self.warnings.push(format!("and {} more oddities", self.warnings_more));
        }
        if self.errors.is_empty() { Ok(self.warnings) } else { Err(self.errors) }
    }

    pub(super) fn error(&mut self, path: Path<'_>, message: impl fmt::Display) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(ConfigError { path: path.to_string(), message: message.to_string() });
        } else {
            self.errors_more += 1;
        }
    }

    pub(super) fn warn(&mut self, path: Path<'_>, message: impl fmt::Display) {
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(match path {
                Path::Root => message.to_string(),
                path => format!("{path}: {message}"),
            });
        } else {
            self.warnings_more += 1;
        }
    }

    /// Reports a value that is not what was expected.
    pub(super) fn expected(&mut self, path: Path<'_>, node: &Node, what: impl fmt::Display) {
        let seen = if path.is_secret() { node.kind().to_string() } else { seen(node) };
        self.error(path, format_args!("expected {what}, got {seen}"));
    }

    /// An object whose fields are all of `known`; others are reported, and so are repeated ones.
    pub(super) fn object<'a>(&mut self, path: Path<'a>, node: &'a Node, known: &[&str]) -> Option<Fields<'a>> {
        let Node::Object(fields) = node else {
            // The text is not shown: an API key that stands alone in `limit_keys`, say.
            self.error(
                path,
                format_args!("expected an object, got {}", if matches!(node, Node::Text(_)) { node.kind().into() } else { seen(node) }),
            );
            return None;
        };
        let mut names = BTreeSet::new();
        for (name, _) in fields {
            let field = Path::Field(&path, name);
            if !names.insert(name.as_str()) {
                self.error(field, "this field is there twice");
            } else if !known.contains(&name.as_str()) {
                self.error(field, UnknownField { name, known });
            }
        }
        Some(Fields { path, fields })
    }

    /// A text. Numbers and booleans count as their text, as YAML drops the quotes of `102234`.
    pub(super) fn text(&mut self, path: Path<'_>, node: &Node) -> Option<String> {
        match node {
            Node::Text(text) => Some(text.clone()),
            Node::Bool(value) => Some(value.to_string()),
            Node::Unsigned(value) => Some(value.to_string()),
            Node::Negative(value) => Some(value.to_string()),
            Node::Float(value) if value.abs() <= EXACT_MAX as f64 => Some(float_text(*value)),
            Node::Float(_) => {
                self.error(path, "this number is too long to keep its digits: write it in quotes");
                None
            }
            Node::Null | Node::List(_) | Node::Object(_) => {
                self.expected(path, node, "a text");
                None
            }
        }
    }

    /// A whole number in a range, or a text of its digits.
    pub(super) fn whole(&mut self, path: Path<'_>, node: &Node, range: RangeInclusive<u64>) -> Option<u64> {
        let number = whole_number(node).filter(|number| range.contains(number));
        if number.is_none() {
            let (least, greatest) = range.into_inner();
            self.expected(path, node, format_args!("a whole number from {least} to {greatest}"));
        }
        number
    }

    /// True or false, or a text that stock understands as that.
    pub(super) fn boolean(&mut self, path: Path<'_>, node: &Node) -> Option<bool> {
        let value = truth(node);
        if value.is_none() {
            self.expected(path, node, "true or false");
        }
        value
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, path: Path<'_>, node: &Node, choices: &[(&str, T)]) -> Option<T> {
        let chosen = match node {
            Node::Text(text) => choices.iter().find(|(word, _)| word == text).map(|(_, value)| *value),
            _ => None,
        };
        if chosen.is_none() {
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
            self.expected(path, node, either(&words));
        }
        chosen
    }
}

/// What a node says, if that is true or false as stock understands it.
pub(super) fn truth(node: &Node) -> Option<bool> {
    match node {
        Node::Bool(value) => Some(*value),
        Node::Unsigned(0) => Some(false),
        Node::Unsigned(1) => Some(true),
        Node::Text(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => Some(true),
            "false" | "f" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// The number that a node is or spells, if it is whole and not negative.
pub(super) fn whole_number(node: &Node) -> Option<u64> {
    match node {
        Node::Unsigned(number) => Some(*number),
        Node::Float(number) => {
            let whole = *number as u64;
            (whole as f64 == *number && whole <= EXACT_MAX).then_some(whole)
        }
        Node::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

/// The number that a text spells. YAML has more ways to write numbers than JSON, such as `.5` and `0.50`, and hands them on as texts.
pub(super) fn spelled(text: &str) -> Option<Node> {
    let allowed = |byte: u8| byte.is_ascii_digit() || b"eE+-.".contains(&byte);
    if !text.bytes().all(allowed) {
        return None;
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    let zero = if text.starts_with('.') { "0" } else { "" };
    let node = Node::parse(format!("{zero}{text}").as_bytes()).ok()?;
    matches!(node, Node::Unsigned(_) | Node::Float(_)).then_some(node)
}

/// A value as a message shows it.
pub(super) fn seen(node: &Node) -> String {
    match node {
        Node::List(_) | Node::Object(_) | Node::Null => node.kind().to_string(),
        Node::Text(text) if text.is_empty() => "an empty text".to_string(),
        // What stands in the wrong place may be a URL with a password in it.
        Node::Text(text) if text.contains("://") || text.contains('@') => "a URL or a part of one".to_string(),
        Node::Text(text) => format!("`{}`", shortened(text, SEEN_MAX)),
        number_or_boolean => format!("`{}`", shortened(&number_or_boolean.to_string(), SEEN_MAX)),
    }
}

/// A name as a message shows it: what stands in a name's place may be a URL with a password in it too.
fn shown_name(name: &str) -> String {
    if name.contains("://") || name.contains('@') { "(a URL or a part of one)".to_string() } else { shortened(name, SEEN_MAX) }
}

/// Whether a name is written as fields are: words of lower-case letters, with `_` between them.
fn is_like_a_field(name: &str) -> bool {
    name.contains('_') && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// A key as it may be shown: of one that opens doors, or is so long that it may, only the beginning.
pub(super) fn key_shown(key: &str, opens_doors: bool) -> String {
    let length = key.chars().count();
    if !opens_doors && length < KEY_LENGTH_MIN {
        return key.to_string();
    }
    let shown = if length > 8 { 4 } else { 1 };
    key.chars().take(shown).chain("***".chars()).collect()
}

/// The first `length` characters of a text, control characters escaped, so that a line stays one line.
pub(super) fn shortened(text: &str, length: usize) -> String {
    let mut short = String::new();
    let mut characters = text.chars();
    for character in characters.by_ref().take(length) {
        if character.is_control() {
            short.extend(character.escape_default());
        } else {
            short.push(character);
        }
    }
    if characters.next().is_some() {
        short.push_str("...");
    }
    short
}
