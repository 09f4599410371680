//! YAML text as documents, by the events of a YAML parser, which tell where each value stands and how it was written: a
//! key such as `1.10` must not become the number 1.1 on its way to a filter that wants a text.

mod scalar;

use std::collections::{HashMap, HashSet};

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, Tag};
use slidegate_document::{Content, Member, Node, Span};

pub(crate) use self::scalar::Schema;
use super::words::name_quoted;

/// A file may have 16 MiB; this many values, each as short as can be, fill it. Those that anchors keep and aliases
/// repeat count too.
const VALUES_MAX: usize = 4_000_000;
/// The filter reads JSON of up to 128 levels.
const DEPTH_MAX: usize = 100;

/// Why a text is no document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// A sentence's end.
    pub(crate) reason: String,
    /// Where in the text.
    pub(crate) span: Span,
}

/// The documents of a text.
///
/// # Errors
/// It is no YAML, or none that can be read here.
pub(crate) fn read(text: &str, schema: Schema) -> Result<Vec<Node>, Unreadable> {
    let options = granit_parser::options! { emit_comments: false };
    let mut builder = Builder { schema, ..Builder::default() };
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| syntax(&error, text))?;
        let (start, end) = (offset(span.start), offset(span.end));
        builder
            .take(event, Span::new(start, end))
            .map_err(|reason| Unreadable { reason, span: Span::new(start, end.max(start + 1)) })?;
    }
    Ok(builder.documents)
}

fn offset(place: Marker) -> usize {
    place.byte_offset().unwrap_or_default()
}

fn syntax(error: &ScanError, text: &str) -> Unreadable {
    let place = error.marker();
    let at =
        place.byte_offset().unwrap_or_else(|| text.char_indices().nth(place.index()).map_or(text.len(), |(at, _)| at));
    let span = Span::new(at, at + 1);
    if *error.kind() == ErrorKind::RecursionLimitExceeded {
        return Unreadable { reason: too_deep(), span };
    }
    let info = error.info();
    let info = info.split_whitespace().collect::<Vec<_>>().join(" ");
    Unreadable { reason: format!("is not YAML: {info}"), span }
}

fn too_deep() -> String {
    format!("expected at most {DEPTH_MAX} collections in one another, got more")
}

/// Makes documents of events.
#[derive(Default)]
struct Builder {
    schema: Schema,
    documents: Vec<Node>,
    /// Collections that are not complete, the outermost first.
    open: Vec<Collection>,
    /// What anchors name, with the number of values in it.
    anchors: HashMap<usize, (Node, usize)>,
    values: usize,
    /// How many values are copies that anchors keep.
    kept: usize,
}

struct Collection {
    kind: CollectionKind,
    anchor: usize,
    start: Span,
    /// How many values there were before it.
    values_before: usize,
}

enum CollectionKind {
    List(Vec<Node>),
    Mapping {
        members: Vec<Member>,
        names: HashSet<String>,
        /// The member whose value comes next.
        name: Option<FieldName>,
        /// Values of `<<`: members that are there unless given beside it.
        merged: Vec<Node>,
    },
}

enum FieldName {
    Member(String, Span),
    Merge,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain;
                if self.is_at_name() {
                    return self.name(&text, is_plain, anchor, span);
                }
                let content = self.schema.content(&text, is_plain, tag.as_deref().and_then(Tag::core_suffix));
                let before = self.values;
                self.count(1)?;
                self.complete(Node { content, span }, anchor, before)
            }
            Event::SequenceStart(_, anchor, _) => self.open(CollectionKind::List(Vec::new()), anchor, span),
            Event::MappingStart(_, anchor, _) => {
                let kind = CollectionKind::Mapping {
                    members: Vec::new(),
                    names: HashSet::new(),
                    name: None,
                    merged: Vec::new(),
                };
                self.open(kind, anchor, span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::DocumentStart(..) => {
                self.anchors.clear();
                self.kept = 0;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn count(&mut self, values: usize) -> Result<(), String> {
        self.values += values;
        self.within_bounds()
    }

    fn within_bounds(&self) -> Result<(), String> {
        match self.values + self.kept <= VALUES_MAX {
            true => Ok(()),
            false => Err(format!(
                "expected at most {VALUES_MAX} values, those that anchors keep and aliases repeat included, got more"
            )),
        }
    }

    /// Keeps what an anchor names. The copies of anchors within anchors may be many times the text.
    fn keep(&mut self, anchor: usize, value: Node, values: usize) -> Result<(), String> {
        self.kept += values;
        self.within_bounds()?;
        self.anchors.insert(anchor, (value, values));
        Ok(())
    }

    fn is_at_name(&self) -> bool {
        matches!(self.open.last(), Some(Collection { kind: CollectionKind::Mapping { name: None, .. }, .. }))
    }

    fn open(&mut self, kind: CollectionKind, anchor: usize, start: Span) -> Result<(), String> {
        if self.is_at_name() {
            return Err("is not YAML that can be read here: expected a text as the name of a field, got a collection"
                .to_owned());
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(too_deep());
        }
        self.open.push(Collection { kind, anchor, start, values_before: self.values });
        self.count(1)
    }

    fn close(&mut self, end: Span) -> Result<(), String> {
        let Some(Collection { kind, anchor, start, values_before }) = self.open.pop() else { return Ok(()) };
        let content = match kind {
            CollectionKind::List(list) => Content::List(list),
            CollectionKind::Mapping { mut members, mut names, merged, .. } => {
                merge(&mut members, &mut names, merged)?;
                Content::Object(members)
            }
        };
        self.complete(Node { content, span: Span { start: start.start, end: end.end } }, anchor, values_before)
    }

    /// What stands in for a value stands where it is said, and what is in it where it was written.
    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), String> {
        let Some((node, values)) = self.anchors.get(&anchor) else {
            return Err("is not YAML that can be read here: an alias stands for what it is a part of".to_owned());
        };
        let (node, values) = (Node { span, ..node.clone() }, *values);
        if self.is_at_name() {
            return match node.content {
                Content::Text(text) => self.name(&text, false, 0, span),
                _ => Err("is not YAML that can be read here: expected a text as the name of a field, got an alias"
                    .to_owned()),
            };
        }
        let before = self.values;
        self.count(values)?;
        self.complete(node, 0, before)
    }

    fn name(&mut self, text: &str, is_plain: bool, anchor: usize, span: Span) -> Result<(), String> {
        if anchor != 0 {
            self.keep(anchor, Node { content: Content::Text(text.to_owned()), span }, 1)?;
        }
        if let Some(Collection { kind: CollectionKind::Mapping { names, name, .. }, .. }) = self.open.last_mut() {
            if is_plain && text == "<<" {
                *name = Some(FieldName::Merge);
            } else if !names.insert(text.to_owned()) {
                return Err(format!("is not YAML: the field {} is there twice", name_quoted(text)));
            } else {
                *name = Some(FieldName::Member(text.to_owned(), span));
            }
        }
        Ok(())
    }

    /// Puts a complete value where it belongs.
    fn complete(&mut self, value: Node, anchor: usize, values_before: usize) -> Result<(), String> {
        if anchor != 0 {
            self.keep(anchor, value.clone(), self.values - values_before)?;
        }
        match self.open.last_mut().map(|collection| &mut collection.kind) {
            None => self.documents.push(value),
            Some(CollectionKind::List(list)) => list.push(value),
            Some(CollectionKind::Mapping { members, name, merged, .. }) => match name.take() {
                Some(FieldName::Member(name, name_span)) => members.push(Member { name, name_span, value }),
                Some(FieldName::Merge) => merged.push(value),
                None => return Err("is not YAML: a value without a name".to_owned()),
            },
        }
        Ok(())
    }
}

/// Adds members that are not there: of several mappings the first counts.
fn merge(members: &mut Vec<Member>, names: &mut HashSet<String>, merged: Vec<Node>) -> Result<(), String> {
    for node in merged {
        match node.content {
            Content::Object(more) => {
                members.extend(more.into_iter().filter(|member| names.insert(member.name.clone())))
            }
            Content::List(list) => merge(members, names, list)?,
            _ => return Err("is not YAML that can be read here: expected a mapping after `<<`".to_owned()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use slidegate_document::Finder;

    fn values(text: &str) -> Vec<Value> {
        let documents = read(text, Schema::AsWritten).unwrap_or_else(|unreadable| panic!("{unreadable:?}: {text}"));
        documents.iter().map(|document| serde_json::to_value(document).unwrap()).collect()
    }

    fn one(text: &str) -> Value {
        let mut documents = values(text);
        assert_eq!(documents.len(), 1, "{text}");
        documents.remove(0)
    }

    /// What of a text is meant by a path.
    fn spot<'t>(text: &'t str, path: &str) -> &'t str {
        let documents = read(text, Schema::AsWritten).unwrap();
        let span = Finder::new(&documents[0]).at(path).span(false);
        &text[span.range().unwrap()]
    }

    #[test]
    fn each_value_knows_where_it_stands() {
        let text = "a: 1\r\nb:\r\n  - {c: 'd', é: ü}\r\n  - e: >-\r\n      f\r\n    g: \"h\"\r\n\r\nx: &x {y: z}\r\nw: \
                    *x\r\nv: {<<: *x, u: ~}\r\nn:\r\n";
        for (path, meant) in [
            ("a", "1"),
            ("b", "b"),
            ("b[0].c", "'d'"),
            ("b[0].é", "ü"),
            ("b[0]", "{c: 'd', é: ü}"),
            ("b[1].g", "\"h\""),
            ("b[1].missing", "e: >-"),
            ("x.y", "z"),
            ("w", "w"),
            ("w.y", "z"),
            ("v.y", "z"),
            ("v.u", "~"),
            ("n", "n"),
        ] {
            assert!(spot(text, path).starts_with(meant), "{path}: {}", spot(text, path));
        }
    }

    #[test]
    fn collections_of_all_styles_are_read() {
        let value =
            one("a: [1, {b: c}, 'd']\ne:\n- f\n-\n  g: h\ni: |\n  two\n  lines\nj: >-\n  one\n  line\nk: {}\nl: \
             []\n\"m\\n\": \"\\u00e9\"\n");
        let expected = json!({"a": [1, {"b": "c"}, "d"], "e": ["f", {"g": "h"}], "i": "two\nlines\n", "j": "one line",
            "k": {}, "l": [],
            "m\n": "\u{e9}"});
        assert_eq!(value, expected);
    }

    #[test]
    fn aliases_and_merge_keys_are_put_in() {
        let value = one(
            "base: &b {x: 1, y: [2]}\nsame: *b\nmore: {<<: *b, x: 3}\nboth: {<<: [*b, {z: 4, x: 5}]}\n&n name: 1\nby: \
             *n\n'<<': text\n",
        );
        assert_eq!(value["same"], json!({"x": 1, "y": [2]}));
        assert_eq!(value["more"], json!({"x": 3, "y": [2]}));
        assert_eq!(value["both"], json!({"x": 1, "y": [2], "z": 4}));
        assert_eq!((&value["by"], &value["<<"]), (&json!("name"), &json!("text")));
    }

    #[test]
    fn several_documents_are_told_apart() {
        assert_eq!(values("a: 1\n---\nb: 2\n---\n- c\n...\n"), [json!({"a": 1}), json!({"b": 2}), json!(["c"])]);
        assert_eq!(values("# nothing\n"), [] as [Value; 0]);
    }

    #[test]
    fn what_cannot_be_read_is_told_in_words() {
        let bomb: String = (1..9).fold("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, level| {
            let below = format!("*a{},", level - 1).repeat(9);
            format!("{text}a{level}: &a{level} [{}]\n", below.trim_end_matches(','))
        });
        let anchors: String = (0..95).map(|level| format!("&a{level} [")).collect();
        let nested = format!("{anchors}{}{}", "x,".repeat(60_000), "]".repeat(95));
        for (text, expected) in [
            ("listen: 1\nb: 2\nlisten: 3\n", "field `listen` is there twice"),
            ("limit_keys: {sk-verysecretkey: 1, sk-verysecretkey: 2}", "field `sk-v***` is there twice"),
            ("a: [1,\nb", "is not YAML: "),
            ("a: &x [*x]", "an alias stands for what it is a part of"),
            ("a: *nobody", "is not YAML: "),
            ("{[a]: b}", "as the name of a field, got a collection"),
            ("a: {<<: 5}", "expected a mapping after `<<`"),
            (&"[".repeat(100_000), "collections in one another"),
            (&"- ".repeat(101), "collections in one another"),
            (&"a: {".repeat(101), "collections in one another"),
            (&bomb, "expected at most 4000000 values"),
            (&nested, "expected at most 4000000 values"),
        ] {
            let reason = read(text, Schema::AsWritten).expect_err(expected).reason;
            assert!(reason.contains(expected) && !reason.contains('\n') && reason.len() < 200, "{reason}");
        }
    }

    #[test]
    fn a_large_document_is_read() {
        let entries: String = (0..200_000).map(|index| format!("- {{key: k{index}, query_per_day: 5}}\n")).collect();
        let value = one(&entries);
        assert_eq!(value.as_array().map(Vec::len), Some(200_000));
        assert_eq!(value[199_999], json!({"key": "k199999", "query_per_day": 5}));
    }
}
