//! Where something stands in a document, in words, and found again by them.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::{fmt, ptr};

use crate::{
    error::{REPEATED, UNKNOWN},
    node::{Content, Member, Node, Span},
    shown::{is_secret_name, name_shown, stray_name},
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

impl Path<'_> {
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
            Path::Field(Path::Root, name) => f.write_str(&name_shown(name)),
            Path::Field(parent, name) => write!(f, "{parent}.{}", name_shown(name)),
            Path::Element(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
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

/// Finds what stands at paths of a document. An object may have many members and a document many mistakes, so the names
/// in each object on the way are written out once.
pub struct Finder<'n> {
    document: &'n Node,
    /// By the objects' places in memory.
    names: BTreeMap<*const Node, Names<'n>>,
}

/// Members by their names as paths have them, as fields and as strays. Of repeated ones the last, which is the odd one.
type Names<'n> = BTreeMap<String, &'n Member>;

impl<'n> Finder<'n> {
    /// Of this document.
    pub const fn new(document: &'n Node) -> Finder<'n> {
        Finder { document, names: BTreeMap::new() }
    }

    /// What stands at a path as messages write it.
    ///
    /// ```
    /// use slidegate_document::{Finder, Node};
    ///
    /// let document = Node::parse(br#"{"rule_items": [{"name": "a"}, {"name": "b"}]}"#)?;
    /// let mut finder = Finder::new(&document);
    /// assert_eq!(finder.at("rule_items[1].name").node.as_str(), Some("b"));
    /// let spot = finder.at("rule_items[1].limit");
    /// assert!(!spot.is_there && spot.node.get("name").is_some(), "the object where it would be");
    /// # Ok::<(), String>(())
    /// ```
    pub fn at(&mut self, path: &str) -> Spot<'n> {
        let mut spot = Spot { node: self.document, name: None, is_element: false, is_there: true };
        let mut rest = path;
        while !rest.is_empty() {
            let next = match rest.strip_prefix('[') {
                Some(element) => spot.element(element),
                None => self.field(spot.node, rest.strip_prefix('.').unwrap_or(rest)),
            };
            match next {
                Some((next, after)) => (spot, rest) = (next, after),
                None => return Spot { is_there: false, ..spot },
            }
        }
        spot
    }

    /// Of names that begin alike the longest, since names may have dots in them.
    fn field<'p>(&mut self, node: &'n Node, path: &'p str) -> Option<(Spot<'n>, &'p str)> {
        let members = node.members()?;
        let stray = |member: &'n Member| (name_shown(&stray_name(&member.name, &member.value)), member);
        let plain = |member: &'n Member| (name_shown(&member.name), member);
        let names = self
            .names
            .entry(ptr::from_ref(node))
            .or_insert_with(|| members.iter().map(stray).chain(members.iter().map(plain)).collect());
        let ends = path.match_indices(['.', '[']).map(|(at, _)| at).chain([path.len()]);
        let ends: Vec<usize> = ends.collect();
        let (member, rest) = ends.into_iter().rev().find_map(|end| {
            let (name, rest) = path.split_at_checked(end)?;
            Some((*names.get(name)?, rest))
        })?;
        Some((Spot { node: &member.value, name: Some(member.name_span), is_element: false, is_there: true }, rest))
    }
}

impl<'n> Spot<'n> {
    fn element<'p>(&self, path: &'p str) -> Option<(Self, &'p str)> {
        let (index, rest) = path.split_once(']')?;
        let Content::List(list) = &self.node.content else { return None };
        let node = list.get(index.parse::<usize>().ok()?)?;
        Some((Spot { node, is_element: true, ..*self }, rest))
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

    /// The part of the text that a message about it means.
    pub fn span_of(&self, message: &str) -> Span {
        self.span([UNKNOWN, REPEATED].iter().any(|beginning| message.starts_with(beginning)))
    }
}

#[cfg(test)]
mod tests {
    use alloc::{borrow::Cow, format, string::ToString};

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
            let spot = Finder::new(&document).at(&format!("{path}"));
            assert_eq!((spot.is_there, spot.node.to_string().as_str()), (true, value), "{path}");
        }
    }

    #[test]
    fn whatever_a_name_looks_like_it_is_found_as_it_is_shown() {
        let long = "x".repeat(100);
        let names = [
            "",
            "a",
            "a.b",
            "a[0]",
            "sk-0123456789ab",
            "sk-0123456789abc",
            "a_long_name_of_a_field",
            "u:p@h",
            "a\n",
            "ü",
            &long,
        ];
        for is_stray in [false, true] {
            let top = "names";
            let member = |(index, name): (usize, &&str)| Member {
                name: name.to_string(),
                name_span: Span::default(),
                value: Content::Unsigned(index as u64).into(),
            };
            let inner = Content::Object(names.iter().enumerate().map(member).collect()).into();
            let top_member = Member { name: top.to_string(), name_span: Span::default(), value: inner };
            let document = Node::from(Content::Object(Vec::from([top_member])));
            let mut finder = Finder::new(&document);
            for (index, name) in names.iter().enumerate() {
                let value = Content::Unsigned(index as u64).into();
                let name = if is_stray { stray_name(name, &value) } else { Cow::from(*name) };
                let path = format!("{top}.{}", name_shown(&name));
                for (path, is_there) in [(path.clone(), true), (path + ".rest", false)] {
                    let spot = finder.at(&path);
                    assert_eq!((spot.is_there, spot.node.to_string()), (is_there, index.to_string()), "{path}");
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
            let spot = Finder::new(&document).at(path);
            assert!(!spot.is_there && spot.node.to_string().starts_with(around), "{path}");
        }
    }
}
