//! What others say, in a form that may stand in a log line.

use std::fmt::Write;

/// Characters that are kept of one text. What a server says beyond it tells nobody more.
const LENGTH_MAX: usize = 300;

/// A text of a server's as one line of visible characters: control characters, line and paragraph separators, marks
/// that turn the direction of writing and all else that is not printed are written as `\u{..}`, and a long text is cut.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(LENGTH_MAX));
    for (count, character) in text.chars().enumerate() {
        if count == LENGTH_MAX {
            shown.push_str("...");
            break;
        }
        match character {
            // A backslash is kept, so that what is shown may be shown again.
            '\'' | '"' | '\\' => shown.push(character),
            // Writing to a string does not fail.
            _ => drop(write!(shown, "{}", character.escape_debug())),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_visible_character_is_escaped() {
        assert_eq!(printable("READONLY You can't write \"there\"."), "READONLY You can't write \"there\".");
        assert_eq!(printable("a\rb\nc\td\0e\u{1b}[31m"), r"a\rb\nc\td\0e\u{1b}[31m");
        assert_eq!(
            printable("\u{85}\u{9b}\u{2028}\u{2029}\u{202e}\u{200b}\u{feff}"),
            r"\u{85}\u{9b}\u{2028}\u{2029}\u{202e}\u{200b}\u{feff}"
        );
        let shown = printable("a\u{9b}\\");
        assert_eq!((shown.as_str(), printable(&shown)), (r"a\u{9b}\", shown.clone()));
        assert_eq!(printable("Ärger 日本"), "Ärger 日本");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(printable(&"é".repeat(LENGTH_MAX)), "é".repeat(LENGTH_MAX));
        assert_eq!(printable(&"é".repeat(16_000)), format!("{}...", "é".repeat(LENGTH_MAX)));
    }
}
