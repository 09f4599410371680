//! From a file on disk to one JSON value: YAML where a person types it, JSON where the name ends in `.json`.

use std::path::Path;

use serde_json::Value;

use super::fields::Mistake;
use super::yaml::{self, Schema};

/// Parses the bytes of a file of this name.
///
/// # Errors
/// The document is not UTF-8, empty, or not YAML (JSON); the mistake tells line and column.
pub(crate) fn parse(file: &Path, bytes: &[u8]) -> Result<Value, Mistake> {
    let text = text(bytes)?;
    if text.trim().is_empty() {
        return Err(Mistake::new("", "is empty, expected at least `upstream` or `routes`"));
    }
    let is_json = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let value = if is_json { parse_json(text) } else { parse_yaml(text) }?;
    match value {
        Value::Object(fields) if fields.contains_key("apiVersion") && fields.contains_key("kind") => {
            let message = "is a resource of Kubernetes, expected a gateway's file, with `upstream` and `filter`; \
                           `slidegate check` reads both, `slidegate migrate` converts one of Higress' plugin";
            Err(Mistake::new("", message))
        }
        Value::Object(_) => Ok(value),
        Value::Null => Err(Mistake::new("", "holds no fields, expected at least `upstream` or `routes`")),
        Value::Array(_) => Err(Mistake::new("", "expected an object, got an array")),
        // Not shown: it may be a file with a password, given in this one's place.
        Value::String(_) | Value::Number(_) | Value::Bool(_) => Err(Mistake::new("", "expected an object, got only a single value")),
    }
}

/// The bytes as text, without the mark that some editors put before it.
///
/// # Errors
/// They are not UTF-8.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, Mistake> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count();
        Mistake::new("", format!("is not UTF-8: bad byte in line {line}"))
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn parse_json(text: &str) -> Result<Value, Mistake> {
    let value = serde_json::from_str(text).map_err(|error| Mistake::new("", format!("is not JSON: {error}")))?;
    // The reader of JSON takes the last of two fields of one name; that of YAML, which JSON is a part of, tells.
    match yaml::read(text, Schema::AsWritten) {
        Err(reason) if reason.contains("is there twice") => Err(Mistake::new("", reason.replacen("YAML", "JSON", 1))),
        _ => Ok(value),
    }
}

fn parse_yaml(text: &str) -> Result<Value, Mistake> {
    let mut documents = yaml::read(text, Schema::AsWritten).map_err(|reason| Mistake::new("", reason))?;
    match documents.len() {
        0 | 1 => Ok(documents.pop().unwrap_or_default()),
        count => Err(Mistake::new("", format!("expected one document, got {count}: a gateway has one file"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn yaml(text: &[u8]) -> Result<Value, Mistake> {
        parse(Path::new("gate.yaml"), text)
    }

    #[test]
    fn yaml_keeps_what_people_type_as_keys() {
        let value = yaml(b"filter: {a: 102234, b: 007, c: yes, d: 1_000, e: true, f: '5', g: 1.10}").expect("YAML");
        assert_eq!(value, json!({"filter": {"a": 102_234, "b": "007", "c": "yes", "d": "1_000", "e": true, "f": "5", "g": "1.10"}}));
    }

    #[test]
    fn documents_that_are_none_say_why() {
        let cases: [(&[u8], &str); 8] = [
            (b"", "is empty"),
            (b" \n# only a comment\n", "holds no fields"),
            (b"a: 1\nb: \xff\n", "is not UTF-8: bad byte in line 2"),
            (b"- 1", "expected an object, got an array"),
            (b"hello", "expected an object, got only a single value"),
            (b"a: 1\n---\na: 2\n", "expected one document, got 2"),
            (b"apiVersion: v1\nkind: Service\n", "is a resource of Kubernetes"),
            (b"a: [1,\nb", "is not YAML: "),
        ];
        for (text, expected) in cases {
            let mistake = yaml(text).expect_err(expected);
            assert!(mistake.message.starts_with(expected), "{mistake}");
        }
    }

    #[test]
    fn a_key_given_twice_is_an_error() {
        let mistake = yaml(b"listen: a\nlisten: b\n").expect_err("a duplicate");
        assert!(mistake.message.contains("line 2") && mistake.message.contains("`listen`"), "{mistake}");
        let mistake = parse(Path::new("a.json"), b"{\"filter\": {\n\"limit\": 5, \"limit\": 500}}").expect_err("a duplicate");
        assert!(mistake.message.starts_with("is not JSON: the field `limit` is there twice"), "{mistake}");
    }

    #[test]
    fn json_is_read_as_json() {
        let json = Path::new("gate.JSON");
        assert_eq!(parse(json, br#"{"a":"\ud83d\ude00"}"#).expect("JSON"), json!({"a": "\u{1f600}"}));
        assert!(parse(json, b"a: 1").expect_err("YAML").message.starts_with("is not JSON"));
    }
}
