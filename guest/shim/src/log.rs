//! Lines as the gateway's other plugins write them: `[plugin] [plugin id] [request id] message`.

use slidegate_engine::is_unprintable;

/// In place of an id that there is none of.
const NIL: &str = "nil";

/// Longer ids are cut; they come from configurations and from requests.
const ID_MAX: usize = 128;

/// Longer messages are cut; they may quote a configuration or Redis.
const MESSAGE_MAX: usize = 4_096;

/// Writes one line. Characters that would break it or steer a terminal are escaped.
pub fn line(plugin_id: Option<&str>, request_id: Option<&[u8]>, message: &str) -> String {
    let mut line = String::from("[slidegate] [");
    push(&mut line, plugin_id.unwrap_or(NIL), ID_MAX);
    line.push_str("] [");
    push(&mut line, &request_id.map_or(NIL.into(), String::from_utf8_lossy), ID_MAX);
    line.push_str("] ");
    push(&mut line, message, MESSAGE_MAX);
    line
}

/// A text without the characters that would break a line or steer a terminal.
pub fn escaped(text: &str) -> String {
    let mut line = String::new();
    push(&mut line, text, MESSAGE_MAX);
    line
}

fn push(line: &mut String, text: &str, longest: usize) {
    for character in text.chars().take(longest) {
        if is_unprintable(character) {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    if text.chars().nth(longest).is_some() {
        line.push_str("...");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_the_plugin_and_the_request() {
        assert_eq!(line(Some("limit-a"), Some(b"6f1c"), "hello"), "[slidegate] [limit-a] [6f1c] hello");
        assert_eq!(line(None, None, "hello"), "[slidegate] [nil] [nil] hello");
    }

    #[test]
    fn a_line_stays_one_line_and_has_an_end() {
        assert_eq!(
            line(None, Some(b"a\r\nb\x1b[0m\xff"), "x\ny"),
            "[slidegate] [nil] [a\\r\\nb\\u{1b}[0m\u{fffd}] x\\ny"
        );
        assert_eq!(
            line(None, None, "a\u{2028}b\u{9b}c\u{202e}"),
            "[slidegate] [nil] [nil] a\\u{2028}b\\u{9b}c\\u{202e}"
        );
        let long = line(None, Some(&[b'r'; 10_000]), &"\u{e9}".repeat(10_000));
        assert_eq!(long.chars().count(), "[slidegate] [nil] [] ".len() + 128 + 3 + 4_096 + 3);
    }
}
