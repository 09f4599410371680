//! Where something stands in a document, in words, and found again by them.

use alloc::string::String;
use core::fmt;

use crate::{
    error::{ConfigError, REPEATED, UNKNOWN},
    node::{Content, Node, Span},
    shown::{is_secret_name, key_shown, name_shown},
};

/// Where a value stands: a chain on the stack, written out only for a message.
#[derive(Clone, Copy)]
pub enum Path<'a> {
    /// The whole document.
    Root,
    /// A field of an object.
    Field(&'a Path<'a>, &'a str),
    /// An element of an array.
    Element(&'a Path<'a>, usize),
}

/// Names of plain letters that are no longer are shown as they are: neither shortened nor taken for a key.
const PLAIN_LENGTH_MAX: usize = 15;

/// Where keys stand, and by a slip also in the place of names.
const KEYS: &str = "limit_keys";

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
    pub fn is_secret(&self) -> bool {
        match self {
            Path::Root => false,
            Path::Element(parent, _) => parent.is_secret(),
            Path::Field(parent, name) => is_secret_name(name) || parent.is_secret(),
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Field(Path::Root, name) => f.write_str(&name_in_path(name, false)),
            Path::Field(parent, name) => write!(f, "{parent}.{}", name_in_path(name, parent.is_of_keys())),
            Path::Element(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// A name as a part of a path. Among keys one may stand in its place.
pub fn name_in_path(name: &str, is_of_keys: bool) -> String {
    if is_of_keys && !is_like_a_field(name) { name_shown(&key_shown(name, false)) } else { name_shown(name) }
}

/// What follows a name at the beginning of a path. An object may have many members, so names that are shown as they
/// are, and those that begin otherwise than the path, are told without writing them out.
fn after_name<'p>(path: &'p str, name: &str, is_of_keys: bool) -> Option<&'p str> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    match is_plain {
        true if name.len() <= PLAIN_LENGTH_MAX => path.strip_prefix(name),
        true if !path.starts_with(name.get(..1)?) => None,
        _ => path.strip_prefix(name_in_path(name, is_of_keys).as_str()),
    }
}

/// Whether a name is written as fields are: words of lower-case letters, with `_` between them.
fn is_like_a_field(name: &str) -> bool {
    name.contains('_') && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// What a path leads to.
#[derive(Clone, Copy)]
pub struct Spot<'n> {
    /// The value, or the innermost one around what is not there.
    pub node: &'n Node,
    /// Where the name stands whose value it is, or in whose list it is an element.
    pub name: Option<Span>,
    /// Whether the value is an element of a list.
    pub is_element: bool,
    /// Whether it is there.
    pub is_there: bool,
}

impl Node {
    /// What stands at a path as messages write it.
    pub fn at(&self, path: &str) -> Spot<'_> {
        let mut spot = Spot { node: self, name: None, is_element: false, is_there: true };
        let (mut rest, mut is_of_keys) = (path, false);
        while !rest.is_empty() {
            let next = match rest.strip_prefix('[') {
                Some(element) => spot.element(element),
                None => spot.field(rest.strip_prefix('.').unwrap_or(rest), &mut is_of_keys),
            };
            match next {
                Some((next, after)) => (spot, rest) = (next, after),
                None => return Spot { is_there: false, ..spot },
            }
        }
        spot
    }
}

impl<'n> Spot<'n> {
    fn element<'p>(&self, path: &'p str) -> Option<(Self, &'p str)> {
        let (index, rest) = path.split_once(']')?;
        let Content::List(list) = &self.node.content else { return None };
        let node = list.get(index.parse::<usize>().ok()?)?;
        Some((Spot { node, is_element: true, ..*self }, rest))
    }

    /// Of names that begin alike the longest, since names may have dots in them; of repeated ones the last, which is
    /// the odd one.
    fn field<'p>(&self, path: &'p str, is_of_keys: &mut bool) -> Option<(Self, &'p str)> {
        let mut found: Option<(Self, &'p str, bool)> = None;
        for member in self.node.members()? {
            let Some(rest) = after_name(path, &member.name, *is_of_keys) else { continue };
            let is_whole = rest.is_empty() || rest.starts_with(['.', '[']);
            if is_whole && found.as_ref().is_none_or(|(_, other, _)| rest.len() <= other.len()) {
                let spot =
                    Spot { node: &member.value, name: Some(member.name_span), is_element: false, is_there: true };
                found = Some((spot, rest, *is_of_keys || member.name == KEYS));
            }
        }
        let (spot, rest, within_keys) = found?;
        *is_of_keys = within_keys;
        Some((spot, rest))
    }

    /// The part of the text that is meant: a value that stands in one piece, else the name of it.
    pub fn span(&self, of_name: bool) -> Span {
        let is_in_one_piece =
            !matches!(self.node.content, Content::List(_) | Content::Object(_)) && self.node.span.range().is_some();
        match self.name {
            Some(name) if !self.is_element && (of_name || !is_in_one_piece) => name,
            _ => self.node.span,
        }
    }
}

impl ConfigError {
    /// The part of a document's text that the mistake is about.
    pub fn span_in(&self, document: &Node) -> Span {
        let is_of_name = [UNKNOWN, REPEATED].iter().any(|beginning| self.message.starts_with(beginning));
        document.at(&self.path).span(is_of_name)
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::ToString};

    use super::*;

    fn document() -> Node {
        Node::parse(br#"{"names": {"a": 1, "a.b": {"c": 2}}, "limit_keys": [{"sk-0123456789abcdef": 3, "key": 4}], "u:p@h": 5}"#).unwrap()
    }

    #[test]
    fn what_a_path_says_is_found_by_it() {
        let names = Path::Field(&Path::Root, "names");
        let keys = Path::Field(&Path::Root, "limit_keys");
        let first = Path::Element(&keys, 0);
        for (path, value) in [
            (Path::Field(&names, "a"), "1"),
            (Path::Field(&Path::Field(&names, "a.b"), "c"), "2"),
            (Path::Field(&first, "sk-0123456789abcdef"), "3"),
            (Path::Field(&first, "key"), "4"),
            (Path::Field(&Path::Root, "u:p@h"), "5"),
        ] {
            let document = document();
            let spot = document.at(&format!("{path}"));
            assert_eq!((spot.is_there, spot.node.to_string().as_str()), (true, value), "{path}");
        }
        assert!(!format!("{}", Path::Field(&first, "sk-0123456789abcdef")).contains("456"));
    }

    #[test]
    fn what_follows_a_name_is_what_follows_it_as_shown() {
        let long = "x".repeat(100);
        let names = [
            "",
            "a",
            "a.b",
            "sk-0123456789ab",
            "sk-0123456789abc",
            "sk-0123456789abcd",
            "a_long_name_of_a_field",
            "u:p@h",
            "a\n",
            "ü",
            &long,
        ];
        for name in names {
            for is_of_keys in [false, true] {
                let shown = name_in_path(name, is_of_keys);
                for path in [
                    format!("{shown}.rest"),
                    format!("{name}[0]"),
                    format!("b{shown}"),
                    "(a URL".to_string(),
                    "sk-0***".to_string(),
                ] {
                    let (found, expected) = (after_name(&path, name, is_of_keys), path.strip_prefix(&shown));
                    assert_eq!(found, expected, "{name} in {path}");
                }
            }
        }
    }

    #[test]
    fn of_what_is_not_there_the_innermost_around_it_is_found() {
        let document = document();
        for (path, around) in
            [("names.a.b.d", r#"{"c":2}"#), ("limit_keys[7].key", "[{"), ("nobody", "{"), ("names[0]", r#"{"a":1"#)]
        {
            let spot = document.at(path);
            assert!(!spot.is_there && spot.node.to_string().starts_with(around), "{path}");
        }
    }
}
