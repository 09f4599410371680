//! Reads values out of a document and remembers each mistake with the path where it stands, so that one pass finds them
//! all. A reading method that returns `None` has reported why.

use alloc::{
    borrow::Cow,
    collections::BTreeSet,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt, ops::RangeInclusive};

use crate::{
    error::{ConfigError, REPEATED},
    fields::{Fields, emptiness},
    node::{Content, Node, float_text},
    path::Path,
    quantity::{ByteCount, EXACT_MAX, TimeSpan, duration_us, size, truth, whole_number},
    shown::{plain_text, seen, stray_name},
    suggest::{UnknownField, either},
};

/// More mistakes than this are counted, not told.
const ERRORS_MAX: usize = 1_000;
/// More oddities than this are counted, not told.
const WARNINGS_MAX: usize = 100;

/// What a reader knows of the language that a document is written in.
#[derive(Debug)]
pub struct Vocabulary {
    /// Where each field stands, for one that stands elsewhere.
    pub places: &'static [(&'static [&'static str], &'static str)],
    /// A text as messages show it, with its quotes.
    pub text_shown: fn(&str) -> String,
}

impl Vocabulary {
    /// Without fields; texts are shown but for URLs, which may have passwords in them.
    pub const fn new(places: &'static [(&'static [&'static str], &'static str)]) -> Vocabulary {
        Vocabulary { places, text_shown: plain_text }
    }
}

/// Collects mistakes and oddities.
///
/// ```
/// use slidegate_document::{Node, Path, Reader, Vocabulary};
///
/// static VOCABULARY: Vocabulary = Vocabulary::new(&[]);
///
/// let document = Node::parse(br#"{"limit": "5", "window": "soon"}"#)?;
/// let mut reader = Reader::new(&VOCABULARY);
/// let fields = reader.object(Path::Root, &document, &["limit", "window"]).expect("an object");
/// let limit = reader.field(&fields, "limit", |reader, path, node| reader.whole(path, node, 1..=100));
/// assert_eq!(limit, Some(5));
/// reader.field(&fields, "window", |reader, path, node| reader.duration_us(path, node, u64::MAX));
/// let mistakes = reader.finish().expect_err("a window is a duration");
/// assert_eq!(mistakes[0].path, "window");
/// # Ok::<(), String>(())
/// ```
#[derive(Debug)]
pub struct Reader {
    vocabulary: &'static Vocabulary,
    errors: Vec<ConfigError>,
    errors_more: usize,
    warnings: Vec<String>,
    warnings_more: usize,
}

impl Reader {
    /// Of a document in this language.
    pub const fn new(vocabulary: &'static Vocabulary) -> Reader {
        Reader { vocabulary, errors: Vec::new(), errors_more: 0, warnings: Vec::new(), warnings_more: 0 }
    }

    /// The oddities, or the mistakes if there was any.
    ///
    /// # Errors
    /// Every mistake, the first thousand of them, and then how many more.
    pub fn finish(mut self) -> Result<Vec<String>, Vec<ConfigError>> {
        if self.errors_more > 0 {
            self.errors.push(ConfigError::count(self.errors_more));
        }
        if self.warnings_more > 0 {
            self.warnings.push(format!("and {} more oddities", self.warnings_more));
        }
        if self.errors.is_empty() { Ok(self.warnings) } else { Err(self.errors) }
    }

    /// How many mistakes there are so far.
    pub fn errors_count(&self) -> usize {
        self.errors.len() + self.errors_more
    }

    /// Reports a mistake.
    pub fn error(&mut self, path: Path<'_>, message: impl fmt::Display) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(ConfigError { path: path.to_string(), message: message.to_string() });
        } else {
            self.errors_more += 1;
        }
    }

    /// Tells of an oddity.
    pub fn warn(&mut self, path: Path<'_>, message: impl fmt::Display) {
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(match path {
                Path::Root => message.to_string(),
                path => format!("{path}: {message}"),
            });
        } else {
            self.warnings_more += 1;
        }
    }

    /// Reports a value that is not what was expected. A secret is not shown.
    pub fn expected(&mut self, path: Path<'_>, node: &Node, what: impl fmt::Display) {
        let seen = if path.is_secret() { node.kind().to_string() } else { seen(node, self.vocabulary.text_shown) };
        self.error(path, format_args!("expected {what}, got {seen}"));
    }

    /// An object whose fields are all of `known`; others are reported, and so are repeated ones.
    pub fn object<'a>(&mut self, path: Path<'a>, node: &'a Node, known: &[&str]) -> Option<Fields<'a>> {
        let members = self.collected(path, node, "an object", Node::members)?;
        let mut names = BTreeSet::new();
        for member in members {
            let name = member.name.as_str();
            let is_known = known.contains(&name);
            let is_field = is_known || self.vocabulary.places.iter().any(|(fields, _)| fields.contains(&name));
            let shown = if is_field { Cow::from(name) } else { stray_name(name, &member.value) };
            let field = Path::Field(&path, &shown);
            if !names.insert(name) {
                self.error(field, REPEATED);
            } else if !is_known {
                self.error(field, UnknownField { name, known, places: self.vocabulary.places });
            }
        }
        Some(Fields::new(path, members))
    }

    /// What `read` makes of a value; `what` was expected if it makes nothing.
    pub fn parsed<'a, T>(
        &mut self,
        path: Path<'_>,
        node: &'a Node,
        what: impl fmt::Display,
        read: impl FnOnce(&'a Node) -> Option<T>,
    ) -> Option<T> {
        let parsed = read(node);
        if parsed.is_none() {
            self.expected(path, node, what);
        }
        parsed
    }

    /// The same of an array or an object. A text in its place is not shown: it may hold all that should be in there, or
    /// be an API key that stands alone in `limit_keys`.
    pub fn collected<'a, T>(
        &mut self,
        path: Path<'_>,
        node: &'a Node,
        what: impl fmt::Display,
        read: impl FnOnce(&'a Node) -> Option<T>,
    ) -> Option<T> {
        let collected = read(node);
        if collected.is_none() {
            let seen = match &node.content {
                Content::Text(_) => node.kind().to_string(),
                Content::List(elements) if elements.is_empty() => emptiness(node).to_string(),
                _ => seen(node, self.vocabulary.text_shown),
            };
            self.error(path, format_args!("expected {what}, got {seen}"));
        }
        collected
    }

    /// A text. Numbers and booleans count as their text, as YAML drops the quotes of `102234`.
    pub fn text(&mut self, path: Path<'_>, node: &Node) -> Option<String> {
        match &node.content {
            Content::Text(text) => Some(text.clone()),
            Content::Bool(value) => Some(value.to_string()),
            Content::Unsigned(value) => Some(value.to_string()),
            Content::Negative(value) => Some(value.to_string()),
            Content::Float(value) if value.abs() <= EXACT_MAX as f64 => Some(float_text(*value)),
            Content::Float(_) => {
                self.error(path, "this number is too long to keep its digits: write it in quotes");
                None
            }
            Content::Null | Content::List(_) | Content::Object(_) => {
                self.expected(path, node, "a text");
                None
            }
        }
    }

    /// A whole number in a range, or a text of its digits.
    pub fn whole(&mut self, path: Path<'_>, node: &Node, range: RangeInclusive<u64>) -> Option<u64> {
        let number = whole_number(node).filter(|number| range.contains(number));
        if number.is_none() {
            let (least, greatest) = range.into_inner();
            self.expected(path, node, format_args!("a whole number from {least} to {greatest}"));
        }
        number
    }

    /// True or false, or a text that Higress' own plugin understands as that.
    pub fn boolean(&mut self, path: Path<'_>, node: &Node) -> Option<bool> {
        self.parsed(path, node, "true or false", truth)
    }

    /// A length of time, in microseconds. Nothing is as long in every unit.
    pub fn duration_us(&mut self, path: Path<'_>, node: &Node, longest_us: u64) -> Option<u64> {
        let us =
            self.parsed(path, node, "a duration such as `500ms`, `30s`, `5m` or `1h`", |node| match &node.content {
                _ if whole_number(node) == Some(0) => Some(0),
                Content::Text(text) => duration_us(text),
                _ => None,
            })?;
        if us > longest_us {
            self.expected(path, node, format_args!("a duration of at most `{}`", TimeSpan(longest_us)));
            return None;
        }
        Some(us)
    }

    /// The same, of at least a second.
    pub fn lasting_us(&mut self, path: Path<'_>, node: &Node, longest_us: u64) -> Option<u64> {
        let us = self.duration_us(path, node, longest_us)?;
        if us < 1_000_000 {
            self.expected(path, node, "at least a second");
            return None;
        }
        Some(us)
    }

    /// An amount of bytes in a range: a text with or without a unit, or a number however it is written.
    pub fn size(&mut self, path: Path<'_>, node: &Node, range: RangeInclusive<u64>) -> Option<u64> {
        let bytes = node.as_str().and_then(size).or_else(|| whole_number(node)).filter(|bytes| range.contains(bytes));
        if bytes.is_none() {
            let (least, greatest) = range.into_inner();
            let what =
                format_args!("a size from `{}` to `{}`, or a number of bytes", ByteCount(least), ByteCount(greatest));
            self.expected(path, node, what);
        }
        bytes
    }

    /// What is read of a field, if it is there and not `null`.
    pub fn field<'s, 'a, T>(
        &mut self,
        fields: &'s Fields<'a>,
        name: &'s str,
        read: impl FnOnce(&mut Reader, Path<'s>, &'a Node) -> Option<T>,
    ) -> Option<T> {
        let (path, node) = fields.get_unless_null(name)?;
        read(self, path, node)
    }

    /// True or false, or what holds where nothing is said.
    pub fn flag(&mut self, fields: &Fields<'_>, name: &str, default: bool) -> Option<bool> {
        match fields.get(name) {
            Some((path, node)) => self.boolean(path, node),
            None => Some(default),
        }
    }

    /// True, false, or nothing said.
    pub fn optional_flag(&mut self, fields: &Fields<'_>, name: &str) -> Option<Option<bool>> {
        match fields.get(name) {
            Some((path, node)) => self.boolean(path, node).map(Some),
            None => Some(None),
        }
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&mut self, path: Path<'_>, node: &Node, choices: &[(&str, T)]) -> Option<T> {
        let chosen =
            node.as_str().and_then(|text| choices.iter().find(|(word, _)| *word == text)).map(|(_, value)| *value);
        if chosen.is_none() {
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
            self.expected(path, node, either(&words));
        }
        chosen
    }
}
