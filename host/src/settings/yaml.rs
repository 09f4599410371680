//! YAML text as JSON values, by the events of a YAML parser, which tell how each scalar was written: a key such as `1.10` must not
//! become the number 1.1 on its way to a filter that wants a text.

mod scalar;

use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, Tag};
use serde_json::{Map, Value};

pub(crate) use self::scalar::Schema;

/// A file may have 16 MiB; this many values, each as short as can be, fill it. Those that aliases repeat count too.
const VALUES_MAX: usize = 4_000_000;
/// The filter reads JSON of up to 128 levels.
const DEPTH_MAX: usize = 100;

/// The documents of a text.
///
/// # Errors
/// A sentence's end, with line and column where there are any.
pub(crate) fn read(text: &str, schema: Schema) -> Result<Vec<Value>, String> {
    let options = granit_parser::options! { emit_comments: false };
    let mut builder = Builder { schema, ..Builder::default() };
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| syntax(&error))?;
        builder.take(event, span)?;
    }
    Ok(builder.documents)
}

fn syntax(error: &ScanError) -> String {
    let place = error.marker();
    if *error.kind() == ErrorKind::RecursionLimitExceeded {
        return too_deep(place.line());
    }
    let info = error.info();
    let info = info.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("is not YAML: {info} (line {}, column {})", place.line(), place.col() + 1)
}

fn too_deep(line: usize) -> String {
    format!("expected at most {DEPTH_MAX} collections in one another, got more (line {line})")
}

/// Makes values of events.
#[derive(Default)]
struct Builder {
    schema: Schema,
    documents: Vec<Value>,
    /// Collections that are not complete, the outermost first.
    open: Vec<Collection>,
    /// What anchors name, with the number of values in it.
    anchors: HashMap<usize, (Value, usize)>,
    values: usize,
}

struct Collection {
    kind: CollectionKind,
    anchor: usize,
    /// How many values there were before it.
    values_before: usize,
}

enum CollectionKind {
    List(Vec<Value>),
    Mapping {
        fields: Map<String, Value>,
        /// The field whose value comes next.
        name: Option<FieldName>,
        /// Values of `<<`: fields that are there unless given beside it.
        merged: Vec<Value>,
    },
}

enum FieldName {
    Field(String),
    Merge,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), String> {
        let line = span.start.line();
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain;
                if self.is_at_name() {
                    return self.name(&text, is_plain, anchor, line);
                }
                let value = self.schema.value(&text, is_plain, tag.as_deref().and_then(Tag::core_suffix));
                let before = self.values;
                self.count(1, line)?;
                self.complete(value, anchor, before, line)
            }
            Event::SequenceStart(_, anchor, _) => self.open(CollectionKind::List(Vec::new()), anchor, line),
            Event::MappingStart(_, anchor, _) => {
                self.open(CollectionKind::Mapping { fields: Map::new(), name: None, merged: Vec::new() }, anchor, line)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(line),
            Event::Alias(anchor) => self.alias(anchor, line),
            Event::DocumentStart(..) => {
                self.anchors.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn count(&mut self, values: usize, line: usize) -> Result<(), String> {
        self.values += values;
        match self.values <= VALUES_MAX {
            true => Ok(()),
            false => Err(format!("expected at most {VALUES_MAX} values, those that aliases repeat included, got more (line {line})")),
        }
    }

    fn is_at_name(&self) -> bool {
        matches!(self.open.last(), Some(Collection { kind: CollectionKind::Mapping { name: None, .. }, .. }))
    }

    fn open(&mut self, kind: CollectionKind, anchor: usize, line: usize) -> Result<(), String> {
        if self.is_at_name() {
            return Err(format!(
                "is not YAML that can be read here: expected a text as the name of a field, got a collection (line {line})"
            ));
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(too_deep(line));
        }
        self.open.push(Collection { kind, anchor, values_before: self.values });
        self.count(1, line)
    }

    fn close(&mut self, line: usize) -> Result<(), String> {
        let Some(Collection { kind, anchor, values_before }) = self.open.pop() else { return Ok(()) };
        let value = match kind {
            CollectionKind::List(list) => Value::Array(list),
            CollectionKind::Mapping { mut fields, merged, .. } => {
                merge(&mut fields, merged, line)?;
                Value::Object(fields)
            }
        };
        self.complete(value, anchor, values_before, line)
    }

    fn alias(&mut self, anchor: usize, line: usize) -> Result<(), String> {
        let Some((value, values)) = self.anchors.get(&anchor) else {
            return Err(format!("is not YAML that can be read here: an alias stands for what it is a part of (line {line})"));
        };
        let (value, values) = (value.clone(), *values);
        if self.is_at_name() {
            return match value {
                Value::String(text) => self.name(&text, false, 0, line),
                _ => Err(format!("is not YAML that can be read here: expected a text as the name of a field, got an alias (line {line})")),
            };
        }
        let before = self.values;
        self.count(values, line)?;
        self.complete(value, 0, before, line)
    }

    fn name(&mut self, text: &str, is_plain: bool, anchor: usize, line: usize) -> Result<(), String> {
        if anchor != 0 {
            self.anchors.insert(anchor, (Value::from(text), 1));
        }
        if let Some(Collection { kind: CollectionKind::Mapping { fields, name, .. }, .. }) = self.open.last_mut() {
            if is_plain && text == "<<" {
                *name = Some(FieldName::Merge);
            } else if fields.contains_key(text) {
                return Err(format!("is not YAML: the field {} is there twice (line {line})", super::fields::quoted(text)));
            } else {
                *name = Some(FieldName::Field(text.to_owned()));
            }
        }
        Ok(())
    }

    /// Puts a complete value where it belongs.
    fn complete(&mut self, value: Value, anchor: usize, values_before: usize, line: usize) -> Result<(), String> {
        if anchor != 0 {
            self.anchors.insert(anchor, (value.clone(), self.values - values_before));
        }
        match self.open.last_mut().map(|collection| &mut collection.kind) {
            None => self.documents.push(value),
            Some(CollectionKind::List(list)) => list.push(value),
            Some(CollectionKind::Mapping { fields, name, merged }) => match name.take() {
                Some(FieldName::Field(name)) => drop(fields.insert(name, value)),
                Some(FieldName::Merge) => merged.push(value),
                None => return Err(format!("is not YAML: a value without a name (line {line})")),
            },
        }
        Ok(())
    }
}

/// Adds fields that are not there: of several mappings the first counts.
fn merge(fields: &mut Map<String, Value>, merged: Vec<Value>, line: usize) -> Result<(), String> {
    for value in merged {
        match value {
            Value::Object(more) => {
                for (name, value) in more {
                    fields.entry(name).or_insert(value);
                }
            }
            Value::Array(list) => merge(fields, list, line)?,
            _ => return Err(format!("is not YAML that can be read here: expected a mapping after `<<` (before line {line})")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn one(text: &str) -> Value {
        let mut documents = read(text, Schema::AsWritten).unwrap_or_else(|reason| panic!("{reason}: {text}"));
        assert_eq!(documents.len(), 1, "{text}");
        documents.remove(0)
    }

    #[test]
    fn collections_of_all_styles_are_read() {
        let value = one(
            "a: [1, {b: c}, 'd']\ne:\n- f\n-\n  g: h\ni: |\n  two\n  lines\nj: >-\n  one\n  line\nk: {}\nl: []\n\"m\\n\": \"\\u00e9\"\n",
        );
        let expected = json!({"a": [1, {"b": "c"}, "d"], "e": ["f", {"g": "h"}], "i": "two\nlines\n", "j": "one line", "k": {}, "l": [],
            "m\n": "\u{e9}"});
        assert_eq!(value, expected);
    }

    #[test]
    fn aliases_and_merge_keys_are_put_in() {
        let value = one(
            "base: &b {x: 1, y: [2]}\nsame: *b\nmore: {<<: *b, x: 3}\nboth: {<<: [*b, {z: 4, x: 5}]}\n&n name: 1\nby: *n\n'<<': text\n",
        );
        assert_eq!(value["same"], json!({"x": 1, "y": [2]}));
        assert_eq!(value["more"], json!({"x": 3, "y": [2]}));
        assert_eq!(value["both"], json!({"x": 1, "y": [2], "z": 4}));
        assert_eq!((&value["by"], &value["<<"]), (&json!("name"), &json!("text")));
    }

    #[test]
    fn several_documents_are_told_apart() {
        assert_eq!(read("a: 1\n---\nb: 2\n---\n- c\n...\n", Schema::AsWritten).unwrap(), [json!({"a": 1}), json!({"b": 2}), json!(["c"])]);
        assert_eq!(read("# nothing\n", Schema::AsWritten).unwrap(), [] as [Value; 0]);
    }

    #[test]
    fn what_cannot_be_read_is_told_in_words() {
        let bomb: String = (1..9).fold("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, level| {
            let below = format!("*a{},", level - 1).repeat(9);
            format!("{text}a{level}: &a{level} [{}]\n", below.trim_end_matches(','))
        });
        for (text, expected) in [
            ("a: 1\nb: 2\na: 3\n", "field `a` is there twice (line 3)"),
            ("a: [1,\nb", "is not YAML: "),
            ("a: &x [*x]", "an alias stands for what it is a part of"),
            ("a: *nobody", "is not YAML: "),
            ("{[a]: b}", "as the name of a field, got a collection"),
            ("a: {<<: 5}", "expected a mapping after `<<`"),
            (&"[".repeat(100_000), "collections in one another"),
            (&"- ".repeat(101), "collections in one another"),
            (&"a: {".repeat(101), "collections in one another"),
            (&bomb, "expected at most 4000000 values"),
        ] {
            let reason = read(text, Schema::AsWritten).expect_err(expected);
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
