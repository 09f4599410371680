//! JSON text as a document. What the JSON library has read is gone through once more, side by side with the text, for
//! places.

use std::collections::HashSet;

use slidegate_document::{Content, Node, Span};

use super::words::name_quoted;
use super::yaml::Unreadable;

/// The document of a text.
///
/// # Errors
/// It is no JSON, or an object has two members of one name.
pub(crate) fn read(text: &str) -> Result<Node, Unreadable> {
    let mut node: Node = serde_json::from_str(text).map_err(|error| {
        let line_start = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
        let at = (line_start + error.column().saturating_sub(1)).min(text.len());
        let sentence = error.to_string();
        // Line and column stand before the sentence.
        let reason = sentence.rsplit_once(" at line ").map_or(sentence.as_str(), |(reason, _)| reason);
        Unreadable { reason: format!("is not JSON: {reason}"), span: Span::new(at, at + 1) }
    })?;
    Places { text, at: 0 }.value(&mut node)?;
    Ok(node)
}

/// A way through a text that is known to be JSON.
struct Places<'t> {
    text: &'t str,
    at: usize,
}

impl Places<'_> {
    fn value(&mut self, node: &mut Node) -> Result<(), Unreadable> {
        let start = self.next();
        match &mut node.content {
            Content::List(items) => {
                self.at += 1;
                for item in items {
                    self.value(item)?;
                    self.skip(b',');
                }
                self.skip(b']');
            }
            Content::Object(members) => {
                self.at += 1;
                let mut names = HashSet::new();
                for member in members {
                    member.name_span = self.scalar();
                    if !names.insert(member.name.clone()) {
                        let reason = format!("is not JSON: the field {} is there twice", name_quoted(&member.name));
                        return Err(Unreadable { reason, span: member.name_span });
                    }
                    self.skip(b':');
                    self.value(&mut member.value)?;
                    self.skip(b',');
                }
                self.skip(b'}');
            }
            _ => drop(self.scalar()),
        }
        node.span = Span::new(start, self.at);
        Ok(())
    }

    /// Where the next token begins.
    fn next(&mut self) -> usize {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.at
    }

    fn skip(&mut self, sign: u8) {
        let at = self.next();
        if self.text.as_bytes().get(at) == Some(&sign) {
            self.at += 1;
        }
    }

    fn scalar(&mut self) -> Span {
        let start = self.next();
        let rest = &self.text.as_bytes()[start..];
        self.at += match rest.first() {
            Some(b'"') => {
                let mut escaped = false;
                let inside = rest.iter().skip(1).take_while(|byte| {
                    let ends = **byte == b'"' && !escaped;
                    escaped = **byte == b'\\' && !escaped;
                    !ends
                });
                inside.count() + 2
            }
            _ => rest.iter().take_while(|byte| !byte.is_ascii_whitespace() && !b",]}".contains(byte)).count(),
        };
        self.at = self.at.min(self.text.len());
        Span::new(start, self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slidegate_document::Finder;

    #[test]
    fn each_value_knows_where_it_stands() {
        let text = "{\"a\\\"\\\\\": [1, -2.5e3 , true,null],\r\n\t\"ü\": {\"c\": \"d,]\", \"e\": {}, \"f\": [ ]}}";
        let node = read(text).unwrap();
        for (path, meant) in [
            ("a\"\\[0]", "1"),
            ("a\"\\[1]", "-2.5e3"),
            ("a\"\\[3]", "null"),
            ("ü.c", "\"d,]\""),
            ("ü.e", "\"e\""),
            ("ü.f", "\"f\""),
            ("ü", "\"ü\""),
        ] {
            assert_eq!(&text[Finder::new(&node).at(path).span(false).range().unwrap()], meant, "{path}");
        }
    }

    #[test]
    fn what_is_no_json_is_told_where() {
        for (text, at, reason) in [
            ("{\"a\": 1,\n}", 9, "is not JSON: "),
            ("{\"a\": {\n\"key\": 5, \"key\": 500}}", 18, "the field `key` is there twice"),
            ("{\"sk-verysecretkey\": 5, \"sk-verysecretkey\": 5}", 24, "the field `sk-v***` is there twice"),
            ("", 0, "is not JSON: "),
        ] {
            let unreadable = read(text).unwrap_err();
            assert!(unreadable.reason.contains(reason) && unreadable.span.start == at, "{text}: {unreadable:?}");
        }
    }
}
