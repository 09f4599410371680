//! What makes an event one line that any terminal and any reader of logs can take: no control characters, bounded
//! length.

use std::borrow::Cow;
use std::fmt::Write;

use serde_json::Value;

use crate::settings::LogFormat;

/// The longest line, in bytes; beyond it, texts are cut.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// How long a text in a line that is too long may stay, in bytes.
const TEXT_BYTES_MAX: usize = 512;

/// The beginning of a text, at most so many bytes of it, with an ellipsis if there was more.
pub(crate) fn cut(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    let beginning = text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default();
    Cow::Owned(format!("{beginning}…"))
}

/// An event as it is written: its control characters escaped as its format escapes, its length bounded.
pub(super) fn printable(event: &[u8], format: LogFormat) -> Cow<'_, [u8]> {
    let (text, end) = match event.strip_suffix(b"\n") {
        Some(text) => (text, "\n"),
        None => (event, ""),
    };
    if text.len() <= LINE_BYTES_MAX && text.iter().all(|byte| (b' '..0x7f).contains(byte)) {
        return Cow::Borrowed(event);
    }
    let text = String::from_utf8_lossy(text);
    let short = match format {
        _ if text.len() <= LINE_BYTES_MAX => text,
        LogFormat::Text => Cow::Owned(cut(&text, LINE_BYTES_MAX).into_owned()),
        LogFormat::Json => Cow::Owned(short_json(&text)),
    };
    let mut line = String::with_capacity(short.len() + end.len());
    for character in short.chars() {
        match is_printable(character) {
            true => line.push(character),
            false => escape(character, format, &mut line),
        }
    }
    line.push_str(end);
    Cow::Owned(line.into_bytes())
}

/// Whether a character stands for itself in a log: no control character, no line end of any kind, nothing that turns
/// the direction of text.
fn is_printable(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{feff}')
        && !matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape(character: char, format: LogFormat, line: &mut String) {
    match format {
        LogFormat::Text => line.extend(character.escape_default()),
        // All that is escaped here has four digits, and outside of its strings JSON has nothing of the kind.
        LogFormat::Json => drop(write!(line, "\\u{:04x}", u32::from(character))),
    }
}

/// The same object with its texts cut. It is still JSON, which a line cut anywhere would not be.
fn short_json(line: &str) -> String {
    match serde_json::from_str(line) {
        Ok(Value::Object(fields)) => {
            let fields = fields.into_iter().map(|(name, value)| match value {
                Value::String(text) => (name, Value::from(cut(&text, TEXT_BYTES_MAX))),
                other => (name, other),
            });
            Value::Object(fields.collect()).to_string()
        }
        _ => cut(line, LINE_BYTES_MAX).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(event: &str) -> String {
        String::from_utf8(printable(event.as_bytes(), LogFormat::Text).into_owned()).expect("UTF-8")
    }

    fn json(event: &str) -> String {
        String::from_utf8(printable(event.as_bytes(), LogFormat::Json).into_owned()).expect("UTF-8")
    }

    #[test]
    fn ordinary_lines_stay_as_they_are() {
        for line in ["INFO a=\"b\"\n", "Größe=7 … ✓\n", "", "\n"] {
            assert_eq!(text(line), line);
            assert_eq!(json(line), line);
        }
    }

    #[test]
    fn an_event_is_one_line_whatever_it_holds() {
        assert_eq!(
            text("a\r\nb\x1b[2J\u{9b}31m\u{2028}c\u{202e}\u{7f}\n"),
            "a\\r\\nb\\u{1b}[2J\\u{9b}31m\\u{2028}c\\u{202e}\\u{7f}\n"
        );
        let line = json("{\"a\":\"\u{9b}\u{2028}\u{2066}\u{7f}\"}\n");
        assert_eq!(line, "{\"a\":\"\\u009b\\u2028\\u2066\\u007f\"}\n");
        let parsed: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(parsed["a"], "\u{9b}\u{2028}\u{2066}\u{7f}");
        assert_eq!(printable(b"a\xff\n", LogFormat::Text).as_ref(), "a\u{fffd}\n".as_bytes());
    }

    #[test]
    fn long_lines_are_cut_and_stay_what_they_are() {
        let long = text(&format!("{}\n", "ä".repeat(LINE_BYTES_MAX)));
        assert!(long.len() < LINE_BYTES_MAX + 8 && long.ends_with("…\n"), "{}", long.len());
        let line = json(&format!("{{\"n\":1,\"a\":\"{}\"}}\n", "\\u0007ä".repeat(LINE_BYTES_MAX)));
        let parsed: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(parsed["n"], 1);
        assert!(line.len() < 8 * TEXT_BYTES_MAX && line.ends_with('\n'));
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!((cut("abc", 3), cut("abcd", 3), cut("ää", 3)), ("abc".into(), "abc…".into(), "ä…".into()));
    }
}
