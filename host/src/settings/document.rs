//! From a file on disk to one JSON value: YAML where a person types it, JSON where the name ends in `.json`.

use std::path::Path;
use std::{fs, io};

use serde_json::Value;

use super::Mistake;

/// Above this a file is not a configuration: the contract takes documents of at most 16 MiB.
const SIZE_MAX: u64 = 16 << 20;

/// Reads the file as bytes.
///
/// # Errors
/// The file is missing, unreadable, or larger than 16 MiB.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>, Mistake> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Mistake::new("", "no such file"),
        io::ErrorKind::IsADirectory => Mistake::new("", "is a directory, expected a YAML or JSON file"),
        _ => Mistake::new("", format!("cannot be read: {error}")),
    };
    let size = fs::metadata(file).map_err(unreadable)?.len();
    if size > SIZE_MAX {
        return Err(Mistake::new("", format!("is {size} bytes, expected at most {SIZE_MAX}")));
    }
    fs::read(file).map_err(unreadable)
}

/// Parses the bytes of a file of this name.
///
/// # Errors
/// The document is not UTF-8, empty, or not YAML (JSON); the mistake tells line and column.
pub(crate) fn parse(file: &Path, bytes: &[u8]) -> Result<Value, Mistake> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count();
        Mistake::new("", format!("is not UTF-8: bad byte in line {line}"))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(Mistake::new("", "is empty, expected at least `upstream` or `routes`"));
    }
    let is_json = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let value = if is_json { parse_json(text) } else { parse_yaml(text) }?;
    match value {
        Value::Object(_) => Ok(value),
        Value::Null => Err(Mistake::new("", "holds no fields, expected at least `upstream` or `routes`")),
        Value::Array(_) => Err(Mistake::new("", "holds a list, expected a mapping of fields")),
        scalar => Err(Mistake::new("", format!("holds only `{scalar}`, expected a mapping of fields"))),
    }
}

fn parse_json(text: &str) -> Result<Value, Mistake> {
    serde_json::from_str(text).map_err(|error| Mistake::new("", format!("is not JSON: {error}")))
}

/// YAML 1.2, with what people type unquoted as keys left alone: `yes`, `007` and `1_000` stay strings.
fn parse_yaml(text: &str) -> Result<Value, Mistake> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| Mistake::new("", format!("is not YAML: {}", one_line(&error.to_string()))))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
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
        let value = yaml(b"filter: {a: 102234, b: 007, c: yes, d: 1_000, e: true, f: '5'}").expect("YAML");
        assert_eq!(value, json!({"filter": {"a": 102_234, "b": "007", "c": "yes", "d": "1_000", "e": true, "f": "5"}}));
    }

    #[test]
    fn documents_that_are_none_say_why() {
        let cases: [(&[u8], &str); 6] = [
            (b"", "is empty"),
            (b" \n# only a comment\n", "holds no fields"),
            (b"a: 1\nb: \xff\n", "is not UTF-8: bad byte in line 2"),
            (b"- 1", "holds a list"),
            (b"hello", "holds only"),
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
        assert!(mistake.message.contains("line 2") && mistake.message.contains("listen"), "{mistake}");
    }

    #[test]
    fn json_is_read_as_json() {
        let json = Path::new("gate.JSON");
        assert_eq!(parse(json, br#"{"a":"\ud83d\ude00"}"#).expect("JSON"), json!({"a": "\u{1f600}"}));
        assert!(parse(json, b"a: 1").expect_err("YAML").message.starts_with("is not JSON"));
    }
}
