//! A document as written: members of objects in their order and repeated ones kept, so that a repetition can be told,
//! and each value with the part of the text that it stands in, if whoever read it tells.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::{
    fmt::{self, Write},
    ops::Range,
    str,
};

use serde_core::{
    Serialize, Serializer,
    de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor},
};
use serde_json::Number;

/// The greatest document, in bytes.
pub const BYTES_MAX: usize = 16 << 20;

/// A part of a text, in bytes. Empty where nobody knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Where it begins.
    pub start: u32,
    /// Where it has ended.
    pub end: u32,
}

impl Span {
    /// The part between two places of a text, which is no longer than [`BYTES_MAX`].
    pub fn new(start: usize, end: usize) -> Span {
        let place = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
        Span { start: place(start), end: place(end) }
    }

    /// The bytes, if they are known.
    pub fn range(self) -> Option<Range<usize>> {
        (self.start < self.end).then_some(self.start as usize..self.end as usize)
    }
}

/// A value, and where it stands.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// What it is.
    pub content: Content,
    /// Where in the text.
    pub span: Span,
}

/// What a value is.
#[derive(Debug, Clone, Default)]
pub enum Content {
    /// Nothing, said aloud.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number from 0 up.
    Unsigned(u64),
    /// A whole number below 0.
    Negative(i64),
    /// Numbers with a fraction or an exponent, and integers of more than 64 bits.
    Float(f64),
    /// A text.
    Text(String),
    /// An array.
    List(Vec<Node>),
    /// An object.
    Object(Vec<Member>),
}

/// A name of an object with its value.
#[derive(Debug, Clone)]
pub struct Member {
    /// The name.
    pub name: String,
    /// Where the name stands in the text.
    pub name_span: Span,
    /// The value.
    pub value: Node,
}

impl Node {
    /// Parses a document; the error is a sentence, with line and column where there are any.
    ///
    /// # Errors
    /// It is too large, not UTF-8, empty, or no JSON.
    pub fn parse(json: &[u8]) -> Result<Node, String> {
        if json.len() > BYTES_MAX {
            return Err(format!("the configuration has {} bytes: expected at most {BYTES_MAX}", json.len()));
        }
        let text = str::from_utf8(json)
            .map_err(|error| format!("the configuration is not UTF-8 from byte {} on", error.valid_up_to()))?;
        if text.trim().is_empty() {
            return Err("the configuration is empty: expected a JSON object".to_string());
        }
        serde_json::from_str(text).map_err(|error| format!("the configuration is not JSON: {error}"))
    }

    /// The type, with its article.
    pub fn kind(&self) -> &'static str {
        match self.content {
            Content::Null => "null",
            Content::Bool(_) => "a boolean",
            Content::Unsigned(_) | Content::Negative(_) | Content::Float(_) => "a number",
            Content::Text(_) => "a text",
            Content::List(_) => "an array",
            Content::Object(_) => "an object",
        }
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        matches!(self.content, Content::Null)
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The members, if it is an object.
    pub fn members(&self) -> Option<&[Member]> {
        match &self.content {
            Content::Object(members) => Some(members),
            _ => None,
        }
    }

    /// The elements, if it is an array.
    pub fn elements(&self) -> Option<&[Node]> {
        match &self.content {
            Content::List(elements) => Some(elements),
            _ => None,
        }
    }

    /// The first member of that name, if it is an object and has one.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.members()?.iter().find(|member| member.name == name).map(|member| &member.value)
    }
}

impl From<Content> for Node {
    fn from(content: Content) -> Node {
        Node { content, span: Span::default() }
    }
}

/// JSON text without white space between tokens.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Content::Null => f.write_str("null"),
            Content::Bool(value) => write!(f, "{value}"),
            Content::Unsigned(value) => write!(f, "{value}"),
            Content::Negative(value) => write!(f, "{value}"),
            Content::Float(value) => f.write_str(&float_text(*value)),
            Content::Text(value) => quoted(f, value),
            Content::List(items) => {
                f.write_char('[')?;
                for (index, item) in items.iter().enumerate() {
                    separator(f, index)?;
                    write!(f, "{item}")?;
                }
                f.write_char(']')
            }
            Content::Object(members) => {
                f.write_char('{')?;
                for (index, member) in members.iter().enumerate() {
                    separator(f, index)?;
                    quoted(f, &member.name)?;
                    write!(f, ":{}", member.value)?;
                }
                f.write_char('}')
            }
        }
    }
}

/// The shortest digits of a number with a fraction or an exponent. The JSON library writes them in a twentieth of the
/// code that [`f64`]'s own `Display` brings along.
pub fn float_text(number: f64) -> String {
    let mut text = Number::from_f64(number).map(|number| number.to_string()).unwrap_or_default();
    if let Some(whole) = text.strip_suffix(".0") {
        text.truncate(whole.len());
    }
    text
}

fn separator(f: &mut fmt::Formatter<'_>, index: usize) -> fmt::Result {
    if index == 0 { Ok(()) } else { f.write_char(',') }
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            control if control.is_control() => write!(f, "\\u{:04x}", u32::from(control))?,
            other => f.write_char(other)?,
        }
    }
    f.write_char('"')
}

/// For what takes a document on, as JSON values are taken. Of repeated members the last counts there.
impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.content {
            Content::Null => serializer.serialize_unit(),
            Content::Bool(value) => serializer.serialize_bool(*value),
            Content::Unsigned(value) => serializer.serialize_u64(*value),
            Content::Negative(value) => serializer.serialize_i64(*value),
            Content::Float(value) => serializer.serialize_f64(*value),
            Content::Text(text) => serializer.serialize_str(text),
            Content::List(items) => serializer.collect_seq(items),
            Content::Object(members) => {
                serializer.collect_map(members.iter().map(|member| (&member.name, &member.value)))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Content::Null.into())
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Content::Bool(value).into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Content::Unsigned(value).into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Content::Negative(value).into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Content::Float(value).into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Content::Text(value.to_string()).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Content::List(list).into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some((name, value)) = entries.next_entry()? {
            members.push(Member { name, name_span: Span::default(), value });
        }
        Ok(Content::Object(members).into())
    }
}
