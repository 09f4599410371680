//! Every field of a configuration, once: what the reader knows by name, what documentation, schemas and consoles are
//! made of.
//!
//! All of it are constants, so that a guest which only needs the names carries no sentence.
//!
//! ```
//! use slidegate_document::table::gateway::GATEWAY;
//!
//! let required = |name: &str| GATEWAY.fields().find(|field| field.name == name).map(|field| field.is_required);
//! assert_eq!((required("listen"), required("lissen")), (Some(false), None));
//! ```

use alloc::string::String;

pub mod cache;
pub mod chain;
pub mod filter;
pub mod gateway;
pub mod limit;
pub mod limit_tests;
pub mod session;
pub mod tokens;
pub mod vault;

/// A field of an object.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// How it is spelt.
    pub name: &'static str,
    /// What may stand there.
    pub value: Shape,
    /// What holds without it, in Markdown; empty if that is nothing.
    pub default: &'static str,
    /// What it is for, in Markdown.
    pub doc: &'static str,
    /// A few words for a form, in English and in Chinese.
    pub titles: [&'static str; 2],
    /// Whether Higress' own plugin has it too; always for the gateway's fields, of which it has none.
    pub is_stock: bool,
    /// Whether an object without it is refused.
    pub is_required: bool,
}

/// What may stand in a field.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// Anything.
    Any,
    /// A text, or a number or flag that counts as its text.
    Text,
    /// The same, not empty, and of this form (a regular expression), if it is a text.
    Form(&'static str),
    /// True or false.
    Flag,
    /// A whole number in a range, or the text of its digits.
    Whole(u64, u64),
    /// A number above 0 and up to 1.
    Share,
    /// A number from 0 to a million.
    Weight,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// A text of this form, and nothing else.
    Pattern(&'static str),
    /// The path of a file.
    File,
    /// The URL of a Redis, in which a password may stand.
    RedisUrl,
    /// What one of these takes.
    Either(&'static [Shape]),
    /// This, or null, which is nothing.
    Optional(&'static Shape),
    /// An array, with at least so many elements.
    List(&'static Shape, usize),
    /// One, or an array with at least so many.
    Some(&'static Shape, usize),
    /// An object with any names of this form, and at least so many.
    Map(&'static str, &'static Shape, usize),
    /// An object with these fields.
    Object(&'static Table),
}

/// The fields of an object.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// What it is called in schemas.
    pub name: &'static str,
    /// Its fields, in groups that stand elsewhere too.
    pub groups: &'static [&'static [Field]],
    /// What must hold of them together.
    pub conditions: &'static [Condition],
    /// Whether `null` is as good as nothing in each of them.
    pub null_is_nothing: bool,
}

/// What must hold of an object's fields.
#[derive(Debug, Clone, Copy)]
pub enum Condition {
    /// One of these sets is there, as a whole.
    AnyOf(&'static [&'static [&'static str]]),
    /// Exactly one of these is set. By being there alone those of the second list, the others by being neither null nor
    /// empty.
    OneOf(&'static [&'static str], &'static [&'static str]),
    /// No two of these are there.
    AtMostOne(&'static [&'static str]),
    /// The first is there only with the second.
    Needs(&'static str, &'static str),
    /// No two elements of this list are the same.
    Distinct(&'static str),
    /// This is not null, though null is as good as nothing in other fields.
    NotNull(&'static str),
    /// The first is there only with one of the others.
    NeedsAny(&'static str, &'static [&'static str]),
    /// At least one field.
    NotEmpty,
    /// Either the flag is true and none of the sets' fields is there, or one of the sets.
    UnlessFlag(&'static str, &'static [&'static [&'static str]]),
    /// Either the list is there and not empty, and none of these fields; or the required ones, and one of the sets.
    UnlessList(&'static str, &'static [&'static str], &'static [&'static [&'static str]]),
}

impl Field {
    /// A field with title in English and in Chinese, value, default and what it is for.
    pub(crate) const fn new(
        name: &'static str,
        titles: [&'static str; 2],
        value: Shape,
        default: &'static str,
        doc: &'static str,
    ) -> Field {
        Field { name, value, default, doc, titles, is_stock: true, is_required: false }
    }

    /// One that Higress' own plugin does not have.
    pub(crate) const fn ours(self) -> Field {
        Field { is_stock: false, ..self }
    }

    /// What it is for, outside of the documents: without their links, marks and escapes.
    pub fn plain_doc(&self) -> String {
        let mut plain = String::with_capacity(self.doc.len());
        let mut rest = self.doc;
        while let Some((head, after)) = rest.split_once("](") {
            let (before, text) = head.rsplit_once('[').unwrap_or(("", head));
            plain.push_str(before);
            plain.push_str(text);
            rest = after.split_once(')').map_or("", |(_, after)| after);
        }
        plain.push_str(rest);
        plain.replace(" ᴿ", "").replace("⁺ ", "").replace("\\|", "|")
    }

    /// One without which an object is refused.
    pub(crate) const fn required(self) -> Field {
        Field { is_required: true, default: "required", ..self }
    }
}

/// The names of fields.
pub const fn names<const N: usize>(fields: &[Field; N]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut at = 0;
    while at < N {
        #[expect(clippy::indexing_slicing, reason = "there are no iterators yet while constants are made")]
        {
            names[at] = fields[at].name;
        }
        at += 1;
    }
    names
}

/// The fields of two groups, `N` together.
pub(crate) const fn joined<const A: usize, const B: usize, const N: usize>(
    first: &[Field; A],
    second: &[Field; B],
) -> [Field; N] {
    assert!(A + B == N, "no field is left out");
    let mut all = [first[0]; N];
    let mut at = 0;
    while at < N {
        #[expect(clippy::indexing_slicing, reason = "there are no iterators yet while constants are made")]
        {
            all[at] = if at < A { first[at] } else { second[at - A] };
        }
        at += 1;
    }
    all
}

impl Table {
    /// All fields.
    pub fn fields(&self) -> impl Iterator<Item = &'static Field> {
        self.groups.iter().copied().flatten()
    }
}

/// How many bytes, with a unit or without.
const SIZE: &str = "^0*[1-9][0-9]* *[KkMm]?([Ii]?[Bb])?$";
/// An address or a network.
const NETWORK: Shape = Shape::Pattern("^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$");
/// A token of RFC 9110, as methods and names of headers are.
const TOKEN: &str = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$";
/// The name of a cookie.
const COOKIE: &str = "^[^;=\\x00-\\x1f\\x7f]+$";
/// A length of time.
const DURATION: Shape = Shape::Either(&[
    Shape::Pattern("^([0-9]+ *(ms|s|m|h)|0*([1-2]?[0-9]{1,2}|3[0-5][0-9]|36[0-5]) *d|0+(\\.0+)?)$"),
    Shape::Whole(0, 0),
]);
/// The same above zero.
const DURATION_ABOVE_ZERO: Shape =
    Shape::Pattern("^(0*[1-9][0-9]* *(ms|s|m|h)|0*([1-9][0-9]?|[12][0-9]{2}|3[0-5][0-9]|36[0-5]) *d)$");

#[cfg(test)]
mod tests {
    use alloc::{collections::BTreeSet, vec::Vec};

    use super::*;

    fn tables(table: &'static Table, seen: &mut Vec<&'static Table>) {
        if seen.iter().any(|other| other.name == table.name) {
            return;
        }
        seen.push(table);
        table.fields().for_each(|field| of_value(&field.value, seen));
    }

    fn of_value(value: &'static Shape, seen: &mut Vec<&'static Table>) {
        match value {
            Shape::Object(table) => tables(table, seen),
            Shape::Either(values) => values.iter().for_each(|value| of_value(value, seen)),
            Shape::Optional(value) | Shape::List(value, _) | Shape::Some(value, _) | Shape::Map(_, value, _) => {
                of_value(value, seen)
            }
            _ => {}
        }
    }

    #[test]
    fn documents_marks_are_left_out_elsewhere() {
        let field = |doc| Field::new("a", ["A", "A"], Shape::Flag, "", doc);
        assert_eq!(field("a (see [b](#c)) ᴿ; ⁺ `d\\|e`, see [f](../g)").plain_doc(), "a (see b); `d|e`, see f");
        assert_eq!(field("a list[0], see [b](#c)").plain_doc(), "a list[0], see b");
    }

    #[test]
    fn every_field_is_documented_and_stands_once_in_its_object() {
        let mut seen = Vec::new();
        tables(&gateway::GATEWAY, &mut seen);
        tables(&limit_tests::LIMIT_TESTS, &mut seen);
        tables(&chain::CHAIN, &mut seen);
        tables(&session::FILTER_OBJECT, &mut seen);
        tables(&vault::FILTER_OBJECT, &mut seen);
        tables(&cache::FILTER_OBJECT, &mut seen);
        assert!(seen.len() > 12);
        for table in seen {
            let names: BTreeSet<&str> = table.fields().map(|field| field.name).collect();
            assert_eq!(names.len(), table.fields().count(), "{}", table.name);
            for field in table.fields() {
                assert!(!field.doc.is_empty() && !field.doc.contains('\n'), "{}", field.name);
                assert!(
                    field.titles.iter().all(|title| !title.is_empty() && title.chars().count() < 48),
                    "{}",
                    field.name
                );
                assert!(!field.titles[1].is_ascii(), "{} has no Chinese title", field.name);
            }
        }
    }
}
