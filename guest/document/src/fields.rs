//! The fields of one object.

use core::iter;

use crate::{
    node::{Content, Member, Node},
    path::Path,
};

/// An object and where it stands.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    /// Where it stands.
    pub path: Path<'a>,
    members: &'a [Member],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(path: Path<'a>, members: &'a [Member]) -> Fields<'a> {
        Fields { path, members }
    }

    /// The field of that name, if there is one, `null` or not.
    pub fn get<'s>(&'s self, name: &'s str) -> Option<(Path<'s>, &'a Node)> {
        let member = self.members.iter().find(|member| member.name == name)?;
        Some((self.at(name), &member.value))
    }

    /// As [`get`](Fields::get), but `null` is as good as absent: that is what `name:` without a value is in YAML.
    pub fn get_unless_null<'s>(&'s self, name: &'s str) -> Option<(Path<'s>, &'a Node)> {
        self.get(name).filter(|(_, node)| !node.is_null())
    }

    /// Where a field of that name stands or would stand.
    pub fn at<'s>(&'s self, name: &'s str) -> Path<'s> {
        Path::Field(&self.path, name)
    }

    /// The names of all fields, in their order.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.members.iter().map(|member| member.name.as_str())
    }
}

/// An array without elements, or what counts as one, as a message shows it.
pub fn emptiness(node: &Node) -> &'static str {
    match node.content {
        Content::List(_) => "an empty array",
        _ => node.kind(),
    }
}

/// The elements of an array with their paths. What is no array counts as one element of itself, and `null` as none.
pub fn elements<'a>(path: &'a Path<'a>, node: &'a Node) -> impl Iterator<Item = (Path<'a>, &'a Node)> {
    let (list, single): (&[Node], _) = match &node.content {
        Content::List(list) => (list, None),
        Content::Null => (&[], None),
        _ => (&[], Some((*path, node))),
    };
    let list = list.iter().enumerate().map(|(index, item)| (Path::Element(path, index), item));
    iter::chain(single, list)
}
