//! From a file on disk to one document: YAML where a person types it, JSON where the name ends in `.json`.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use slidegate_document::{Content, Finder, Node, Span};

use super::json;
use super::mistake::Mistake;
use super::snippet::Text;
use super::yaml::{self, Schema, Unreadable};

/// A file as it was read: its text, and what it says.
pub(crate) struct Document {
    /// The file as messages call it.
    name: String,
    text: String,
    /// What it says. Where variables stood, their values may stand now; places are those of the text.
    pub(crate) tree: Node,
}

const RESOURCE: &str = "is a resource of Kubernetes, expected a gateway's file, with `upstream` and `filter`; \
                        `slidegate check` reads both, `slidegate migrate` converts one of Higress' plugin";

const FORM: &str = "has an `apiVersion` and no `kind`, as the form of a plugin for Higress' console: expected a \
                    gateway's file, with `upstream` and `filter`, or resources of Kubernetes";

impl Document {
    /// Parses the bytes of a file that messages call so.
    ///
    /// # Errors
    /// The document is not UTF-8, empty, or not YAML (JSON); the mistake knows where.
    pub(crate) fn parse(name: &str, bytes: &[u8]) -> Result<Self, Mistake> {
        let text = text(bytes)?;
        if text.trim().is_empty() {
            return Err(Mistake::new("", "is empty, expected at least `upstream` or `routes`"));
        }
        let is_json = Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let mut tree =
            if is_json { json::read(text).map_err(|error| unreadable(text, error)) } else { parse_yaml(text) }?;
        leave_out_schema(&mut tree);
        let refused = |reason: &str, span: Span| {
            let place = Text::new(text, &[&tree]).place(span);
            Mistake { place: place.map(Box::new), ..Mistake::new("", reason) }
        };
        let version = tree.members().into_iter().flatten().find(|member| member.name == "apiVersion");
        if let Some(version) = version {
            let is_resource = tree.get("kind").is_some();
            return Err(refused(if is_resource { RESOURCE } else { FORM }, version.name_span));
        }
        match tree.kind() {
            "an object" => Ok(Self { name: name.to_owned(), text: text.to_owned(), tree }),
            "null" => Err(Mistake::new("", "holds no fields, expected at least `upstream` or `routes`")),
            "an array" => Err(refused("expected an object, got an array", tree.span)),
            // Not shown: it may be a file with a password, given in this one's place.
            _ => Err(refused("expected an object, got only a single value", tree.span)),
        }
    }

    /// Mistakes with their places, in the order of these.
    pub(crate) fn placed(&self, mistakes: Vec<Mistake>) -> Vec<Mistake> {
        placed(&self.text, &[&self.tree], &self.tree, mistakes)
    }
}

/// Its name only: passwords stand in it.
impl fmt::Debug for Document {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Document").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Where settings come from: a document, or nothing that has places. It takes no part in comparisons of settings.
#[derive(Debug, Clone, Default)]
pub(crate) struct SettingsOrigin(Option<Arc<Document>>);

impl SettingsOrigin {
    /// Mistakes with their places, in the order of these.
    pub(crate) fn placed(&self, mistakes: Vec<Mistake>) -> Vec<Mistake> {
        match &self.0 {
            Some(document) => document.placed(mistakes),
            None => mistakes,
        }
    }

    /// Mistakes, or oddities, as lines of the log tell them.
    pub(crate) fn told(&self, mistakes: Vec<Mistake>) -> Vec<String> {
        match &self.0 {
            Some(document) => document.placed(mistakes).iter().map(|mistake| mistake.in_file(&document.name)).collect(),
            None => mistakes.iter().map(Mistake::to_string).collect(),
        }
    }
}

impl From<Document> for SettingsOrigin {
    fn from(document: Document) -> Self {
        Self(Some(Arc::new(document)))
    }
}

impl PartialEq for SettingsOrigin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Mistakes of a part of a text with their places, in the order of these. `documents` is all that the text says.
pub(crate) fn placed(text: &str, documents: &[&Node], part: &Node, mistakes: Vec<Mistake>) -> Vec<Mistake> {
    if mistakes.is_empty() {
        return mistakes;
    }
    let text = Text::new(text, documents);
    let mut finder = Finder::new(part);
    let place = |mistake: Mistake| {
        // Others are of nothing in the file, such as an option of the command line, or of what may be written in
        // several ways.
        let spot = finder.at(&mistake.path);
        let is_known = !mistake.path.is_empty()
            && !mistake.is_count()
            && (spot.is_there || spot.name.is_some() || mistake.message.starts_with("is missing"));
        let place = (mistake.place.is_none() && is_known).then(|| text.place(spot.span_of(&mistake.message))).flatten();
        Mistake { place: mistake.place.or(place.map(Box::new)), ..mistake }
    };
    let mut mistakes: Vec<Mistake> = mistakes.into_iter().map(place).collect();
    mistakes.sort_by_key(|mistake| mistake.place.as_ref().map_or((usize::MAX, 0), |place| place.start));
    mistakes
}

/// The bytes as text, without the mark that some editors put before it.
///
/// # Errors
/// They are not UTF-8.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, Mistake> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let valid =
            bytes.get(..error.valid_up_to()).and_then(|valid| std::str::from_utf8(valid).ok()).unwrap_or_default();
        let place = Text::new(valid, &[]).place(Span::new(valid.len(), valid.len() + 1));
        Mistake { place: place.map(Box::new), ..Mistake::new("", "is not UTF-8: this byte stands for no character") }
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Why a text is no document, with the place.
pub(crate) fn unreadable(text: &str, error: Unreadable) -> Mistake {
    let place = Text::new(text, &[]).place(error.span);
    Mistake { place: place.map(Box::new), ..Mistake::new("", error.reason) }
}

/// Leaves out where editors find the schema of the file, which is nothing to the gateway.
fn leave_out_schema(tree: &mut Node) {
    if let Content::Object(members) = &mut tree.content {
        members.retain(|member| member.name != "$schema" || member.value.as_str().is_none());
    }
}

fn parse_yaml(text: &str) -> Result<Node, Mistake> {
    let mut documents = yaml::read(text, Schema::AsWritten).map_err(|error| unreadable(text, error))?;
    match documents.len() {
        0 | 1 => Ok(documents.pop().unwrap_or_default()),
        _ if documents.iter().any(|document| document.get("apiVersion").is_some()) => Err(Mistake::new("", RESOURCE)),
        count => {
            let reason = format!("expected one document, got {count}: a gateway has one file");
            Err(unreadable(text, Unreadable { reason, span: documents.swap_remove(1).span }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn parse(name: &str, text: &[u8]) -> Result<Value, Mistake> {
        Document::parse(name, text).map(|document| serde_json::to_value(&document.tree).expect("a value"))
    }

    fn yaml(text: &[u8]) -> Result<Value, Mistake> {
        parse("gate.yaml", text)
    }

    #[test]
    fn yaml_keeps_what_people_type_as_keys() {
        let value = yaml(b"filter: {a: 102234, b: 007, c: yes, d: 1_000, e: true, f: '5', g: 1.10}").expect("YAML");
        assert_eq!(
            value,
            json!({"filter": {"a": 102_234, "b": "007", "c": "yes", "d": "1_000", "e": true, "f": "5", "g": "1.10"}})
        );
    }

    #[test]
    fn what_is_for_editors_is_left_out() {
        let value = parse("gate.json", br#"{"$schema": "slidegate.json", "upstream": "http://a"}"#).expect("JSON");
        assert_eq!(value, json!({"upstream": "http://a"}));
        assert_eq!(yaml(b"$schema: slidegate.json\nworkers: 2\n").expect("YAML"), json!({"workers": 2}));
        // What is no name of a file is told as any other mistake, and so is one further in.
        for text in ["{$schema: 5}", "{log: {$schema: a}}"] {
            assert!(yaml(text.as_bytes()).expect("YAML").to_string().contains("$schema"), "{text}");
        }
    }

    #[test]
    fn documents_that_are_none_say_why_and_where() {
        let cases: [(&[u8], &str); 8] = [
            (b"", "is empty"),
            (b" \n# only a comment\n", "holds no fields"),
            (b"a: 1\nb: \xff\n", ":2:4: is not UTF-8: this byte"),
            (b"- 1", ":1:1: expected an object, got an array"),
            (b"# a remark\n\nhello", ":3:1: expected an object, got only a single value"),
            (b"a: 1\n---\na: 2\n", ":3:1: expected one document, got 2"),
            (b"kind: Service\napiVersion: v1\n", ":2:1: is a resource of Kubernetes"),
            (b"a: [1,\nb", ":1:4: is not YAML: "),
        ];
        for (text, expected) in cases {
            let told = yaml(text).expect_err(expected).in_file("");
            assert!(told.trim_start_matches(": ").starts_with(expected), "{told}");
        }
    }

    #[test]
    fn no_secret_is_in_the_debug_form() {
        let document = Document::parse("gate.yaml", b"redis: {password: hush}").expect("YAML");
        assert_eq!(
            format!("{:?}", SettingsOrigin::from(document)),
            "SettingsOrigin(Some(Document { name: \"gate.yaml\", .. }))"
        );
    }

    #[test]
    fn a_key_given_twice_is_an_error() {
        let told = yaml(b"listen: a\nlisten: b\n").expect_err("a duplicate").in_file("");
        assert!(told.starts_with(":2:1: ") && told.contains("`listen`"), "{told}");
        let told =
            parse("a.json", b"{\"filter\": {\n\"redis\": 5, \"redis\": 500}}").expect_err("a duplicate").in_file("");
        assert!(told.starts_with(":2:13: is not JSON: the field `redis` is there twice"), "{told}");
    }

    #[test]
    fn json_is_read_as_json() {
        assert_eq!(parse("gate.JSON", br#"{"a":"\ud83d\ude00"}"#).expect("JSON"), json!({"a": "\u{1f600}"}));
        let told = parse("gate.JSON", b"a: 1").expect_err("YAML").in_file("");
        assert!(told.starts_with(":1:1: is not JSON"), "{told}");
    }
}
