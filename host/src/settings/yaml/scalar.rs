//! What a scalar of YAML stands for.

use serde_json::Number;
use slidegate_document::Content;

/// Who reads the scalars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Schema {
    /// The gateway: only what JSON writes in the same way is a number or a flag; all else is a text as written. So
    /// `1.10`, `0x10`, `1e3`, `012` and `yes` keep their letters, and who wants a number reads it out of the text.
    #[default]
    AsWritten,
    /// Kubernetes, by the rules of YAML 1.1: what a resource carries is what these make of it.
    Kubernetes,
}

impl Schema {
    /// What a scalar is; `tag` is its tag, if it is one of YAML's own, such as `str`.
    pub(super) fn content(self, text: &str, is_plain: bool, tag: Option<&str>) -> Content {
        let is_text = match tag {
            None => !is_plain,
            Some(tag) => !matches!(tag, "int" | "float" | "bool" | "null"),
        };
        if is_text {
            return Content::Text(text.to_owned());
        }
        match self {
            Self::AsWritten => as_written(text),
            Self::Kubernetes => as_kubernetes(text),
        }
    }
}

fn as_written(text: &str) -> Content {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Content::Null,
        "true" => Content::Bool(true),
        "false" => Content::Bool(false),
        text => match canonical_number(text) {
            Some(number) => of_number(&number),
            None => Content::Text(text.to_owned()),
        },
    }
}

fn of_number(number: &Number) -> Content {
    match (number.as_u64(), number.as_i64(), number.as_f64()) {
        (Some(number), ..) => Content::Unsigned(number),
        (_, Some(number), _) => Content::Negative(number),
        (.., number) => number.map_or(Content::Null, Content::Float),
    }
}

/// A number that is written as it would be written back.
fn canonical_number(text: &str) -> Option<Number> {
    let is_canonical = |number: &Number| number.to_string() == text && !text.ends_with(".0");
    serde_json::from_str(text).ok().filter(is_canonical)
}

fn as_kubernetes(text: &str) -> Content {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Content::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Content::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => return Content::Bool(false),
        _ => {}
    }
    let number = integer(text).or_else(|| float(text).and_then(Number::from_f64));
    number.map_or_else(|| Content::Text(text.to_owned()), |number| of_number(&number))
}

/// `0b`, `0x` and a leading zero (octal) choose the base; underscores do not count.
fn integer(text: &str) -> Option<Number> {
    let (is_negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let plain = digits.replace('_', "");
    let (base, plain) = match plain.as_bytes() {
        [b'0', b'b', ..] => (2, &plain[2..]),
        [b'0', b'x', ..] => (16, &plain[2..]),
        [b'0', b'o', ..] => (8, &plain[2..]),
        [b'0', _, ..] => (8, &plain[1..]),
        _ => (10, plain.as_str()),
    };
    if plain.starts_with(['+', '-']) {
        return None;
    }
    let number = u64::from_str_radix(plain, base).ok()?;
    match is_negative {
        false => Some(Number::from(number)),
        true => i64::try_from(number).ok().map(|number| Number::from(-number)),
    }
}

/// Digits with a point, an exponent, or both.
fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let has_start = unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    let is_number = has_start && unsigned.bytes().any(|byte| byte.is_ascii_digit());
    let allowed = |byte: u8| byte.is_ascii_digit() || b".eE+-".contains(&byte);
    if is_number && unsigned.bytes().all(allowed) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn value(schema: Schema, text: &str, is_plain: bool, tag: Option<&str>) -> Value {
        serde_json::to_value(slidegate_document::Node::from(schema.content(text, is_plain, tag))).unwrap()
    }

    #[test]
    fn the_gateway_keeps_what_people_type() {
        let value = |text: &str| value(Schema::AsWritten, text, true, None);
        for text in [
            "1.10",
            "1.0",
            "0x10",
            "0o17",
            "1e3",
            "1E3",
            "yes",
            "No",
            "on",
            "y",
            "True",
            "FALSE",
            "012",
            "007",
            "00",
            "-0",
            "+5",
            ".5",
            "5.",
            "1_000",
            "12:30",
            "2024-01-01",
            "2024-01-01T00:00:00Z",
            ".inf",
            ".nan",
            "1e999",
            "123456789012345678901234567890",
            "0.10",
            "1.23456789012345678901234",
            "=",
            "1.2.3",
        ] {
            assert_eq!(value(text), json!(text));
        }
        assert_eq!(
            [value("10"), value("-5"), value("1.5"), value("9007199254740993")],
            [json!(10), json!(-5), json!(1.5), json!(9007199254740993_u64)]
        );
        assert_eq!(
            [value("true"), value("false"), value("~"), value("null"), value("")],
            [json!(true), json!(false), json!(null), json!(null), json!(null)]
        );
    }

    #[test]
    fn quotes_and_tags_decide() {
        for schema in [Schema::AsWritten, Schema::Kubernetes] {
            assert_eq!(value(schema, "10", false, None), json!("10"));
            assert_eq!(value(schema, "10", true, Some("str")), json!("10"));
            assert_eq!(value(schema, "10", false, Some("int")), json!(10));
            assert_eq!(value(schema, "", false, None), json!(""));
        }
    }

    #[test]
    fn kubernetes_reads_numbers_and_flags() {
        let value = |text: &str| value(Schema::Kubernetes, text, true, None);
        for (text, expected) in [
            ("1.10", json!(1.1)),
            ("0x10", json!(16)),
            ("012", json!(10)),
            ("0b11", json!(3)),
            ("1_000", json!(1000)),
            ("-7", json!(-7)),
            ("1e3", json!(1000.0)),
            (".5", json!(0.5)),
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("089", json!(89.0)),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
        for text in
            ["12:30", "2024-01-01", "1.2.3", "0x", "0xg", "-", "+", ".", "e5", "1e", "a", "1.1.1.1", "0b-1", "y"]
        {
            assert_eq!(value(text), json!(text));
        }
    }
}
