//! Lines of words: separated by spaces, some between quotes or brackets.

use std::borrow::Cow;

/// The words of a line, in their order.
pub(super) struct LineWords<'l> {
    rest: &'l [u8],
}

impl<'l> LineWords<'l> {
    pub(super) fn of(line: &'l [u8]) -> Self {
        Self { rest: line }
    }

    /// Whether the next word stands between brackets, or between quotes, by its first byte.
    pub(super) fn begins_with(&self, byte: u8) -> bool {
        self.rest.trim_ascii_start().first() == Some(&byte)
    }
}

impl<'l> Iterator for LineWords<'l> {
    type Item = Cow<'l, [u8]>;

    fn next(&mut self) -> Option<Cow<'l, [u8]>> {
        let rest = self.rest.trim_ascii_start();
        let (word, rest) = match rest.split_first()? {
            (b'"', rest) => quoted(rest),
            (b'[', rest) => {
                let (word, rest) = until(rest, b']');
                (Cow::Borrowed(word), rest)
            }
            _ => {
                let (word, rest) = until(rest, b' ');
                (Cow::Borrowed(word), rest)
            }
        };
        self.rest = rest;
        Some(word)
    }
}

/// What stands before a byte, and what behind it.
fn until(text: &[u8], byte: u8) -> (&[u8], &[u8]) {
    match text.iter().position(|other| *other == byte) {
        Some(end) => (text.get(..end).unwrap_or_default(), text.get(end + 1..).unwrap_or_default()),
        None => (text, b""),
    }
}

/// What stands before the next quote that is not escaped, without its escapes, and what behind it.
pub(super) fn quoted(text: &[u8]) -> (Cow<'_, [u8]>, &[u8]) {
    let (mut end, mut is_escaped) = (0, false);
    while let Some(byte) = text.get(end) {
        match byte {
            b'"' => break,
            b'\\' => {
                is_escaped = true;
                end += 1;
            }
            _ => {}
        }
        end += 1;
    }
    let end = end.min(text.len());
    let (word, rest) = (text.get(..end).unwrap_or_default(), text.get(end + 1..).unwrap_or_default());
    (if is_escaped { Cow::Owned(unescaped(word)) } else { Cow::Borrowed(word) }, rest)
}

/// Without the escapes that logs and JSON have. What is none stays as it is.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let (mut plain, mut at) = (Vec::with_capacity(text.len()), 0);
    while let Some(byte) = text.get(at) {
        at += 1;
        if *byte != b'\\' {
            plain.push(*byte);
            continue;
        }
        let Some(escape) = text.get(at) else { break };
        at += 1;
        match escape {
            b'n' => plain.push(b'\n'),
            b't' => plain.push(b'\t'),
            b'r' => plain.push(b'\r'),
            b'b' => plain.push(8),
            b'f' => plain.push(12),
            b'x' => match text.get(at..at + 2).and_then(hexadecimal) {
                Some(code) => {
                    plain.push(code.to_le_bytes()[0]);
                    at += 2;
                }
                None => plain.extend(b"\\x"),
            },
            b'u' => at += unicode(text.get(at..).unwrap_or_default(), &mut plain),
            other => plain.push(*other),
        }
    }
    plain
}

/// What stands behind `\u`: four digits, or the two halves of a pair. How much of it that was.
fn unicode(text: &[u8], plain: &mut Vec<u8>) -> usize {
    let mut buffer = [0; 4];
    let Some(first) = text.get(..4).and_then(hexadecimal) else {
        plain.extend(b"\\u");
        return 0;
    };
    let second = text.get(4..6).filter(|mark| mark == b"\\u").and_then(|_| text.get(6..10)).and_then(hexadecimal);
    let units = [first, second.unwrap_or_default()].map(|unit| u16::try_from(unit).unwrap_or_default());
    let is_pair = second.is_some() && (0xd800..0xdc00).contains(&units[0]);
    let units = if is_pair { &units[..] } else { &units[..1] };
    for character in char::decode_utf16(units.iter().copied()) {
        let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
        plain.extend(character.encode_utf8(&mut buffer).as_bytes());
    }
    if is_pair { 10 } else { 4 }
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |sum, digit| Some(sum * 16 + char::from(*digit).to_digit(16)?))
}

/// Looks for `name=value` in a line of such pairs, as the gateway's own log has them.
pub(super) fn pairs<'l>(line: &'l [u8], mut found: impl FnMut(&'l [u8], Cow<'l, [u8]>)) {
    let mut rest = line;
    while let Some(equals) = rest.iter().position(|byte| *byte == b'=') {
        let head = rest.get(..equals).unwrap_or_default();
        let begin = head.iter().rposition(|byte| *byte == b' ').map_or(0, |space| space + 1);
        let name = head.get(begin..).unwrap_or_default();
        let after = rest.get(equals + 1..).unwrap_or_default();
        let (value, behind) = match after.split_first() {
            Some((b'"', after)) => quoted(after),
            _ => {
                let (value, behind) = until(after, b' ');
                (Cow::Borrowed(value), behind)
            }
        };
        found(name, value);
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        LineWords::of(line.as_bytes()).map(|word| String::from_utf8_lossy(&word).into_owned()).collect()
    }

    #[test]
    fn quotes_and_brackets_make_one_word() {
        assert_eq!(
            words(r#"1.2.3.4 - - [01/Dec/2026:03:44:41 +0000] "GET /a?b=\x22c\x22 HTTP/1.1" 200 "" "a \"b\" \\""#),
            ["1.2.3.4", "-", "-", "01/Dec/2026:03:44:41 +0000", "GET /a?b=\"c\" HTTP/1.1", "200", "", "a \"b\" \\"]
        );
        for (odd, expected) in [("", vec![]), ("\"", vec![""]), ("[", vec![""]), ("a \"b\\", vec!["a", "b"])] {
            assert_eq!(words(odd), expected, "{odd}");
        }
    }

    #[test]
    fn escapes_of_json_become_characters() {
        let plain = |text: &str| String::from_utf8_lossy(&unescaped(text.as_bytes())).into_owned();
        assert_eq!(plain("\\u00e4\\ud83d\\ude00\\/\\n"), "ä😀/\n");
        assert_eq!(plain("\\ud83d\\u0041 \\u12 \\xg"), "\u{fffd}A \\u12 \\xg");
    }

    #[test]
    fn pairs_are_found_between_other_words() {
        let mut found = Vec::new();
        pairs(b"2026  INFO access: client=1.2.3.4:5 path=\"/a b=\\\"c\" status=200 x=", |name, value| {
            found.push(format!("{}|{}", String::from_utf8_lossy(name), String::from_utf8_lossy(&value)));
        });
        assert_eq!(found, ["client|1.2.3.4:5", "path|/a b=\"c", "status|200", "x|"]);
    }
}
