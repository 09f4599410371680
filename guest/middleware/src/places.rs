//! On which line of a configuration a mistake stands.

use slidegate_document::{ConfigError, Content, Finder, Node, Span};

/// Mistakes as lines of text, each with its path and the line of `json` that it is about, if it is about one.
pub fn placed(json: &str, mistakes: &[ConfigError]) -> Vec<String> {
    let document = Node::parse(json.as_bytes()).map(|mut document| {
        place_names(&mut document, &mut names(json));
        document
    });
    let mut finder = document.as_ref().ok().map(Finder::new);
    let mut line = |path: &str| {
        let start = finder.as_mut()?.at(path).name?.range()?.start;
        Some(json.get(..start)?.matches('\n').count() + 1)
    };
    let told = |mistake: &ConfigError| match line(&mistake.path) {
        Some(line) if !mistake.path.is_empty() => format!("line {line}: {mistake}"),
        _ => mistake.to_string(),
    };
    mistakes.iter().map(told).collect()
}

/// Notes where each name stands: the reader of JSON does not tell, but keeps the order.
fn place_names(node: &mut Node, names: &mut impl Iterator<Item = Span>) {
    match &mut node.content {
        Content::Object(members) => members.iter_mut().for_each(|member| {
            member.name_span = names.next().unwrap_or_default();
            place_names(&mut member.value, names);
        }),
        Content::List(elements) => elements.iter_mut().for_each(|element| place_names(element, names)),
        _ => {}
    }
}

/// The texts of a JSON document that a colon follows, in order.
fn names(json: &str) -> impl Iterator<Item = Span> {
    let bytes = json.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let start = at + bytes.get(at..)?.iter().position(|byte| *byte == b'"')?;
            let end = text_end(bytes, start + 1)?;
            at = end;
            if bytes.get(end..)?.trim_ascii_start().first() == Some(&b':') {
                return Some(Span::new(start, end));
            }
        }
    })
}

/// Behind the quotation mark that ends a text.
fn text_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(json: &str, path: &str) -> String {
        placed(json, &[ConfigError { path: path.into(), message: "is odd".into() }]).remove(0)
    }

    #[test]
    fn a_mistake_is_found_by_its_path() {
        let json = r#"{
  "a": "b",
  "rule_items": [
    {"key": "x: \"y\":"},
    {
      "key": 2}],
"z":0}"#;
        for (path, line) in [
            ("a", 2),
            ("rule_items", 3),
            ("rule_items[0].key", 4),
            ("rule_items[1].key", 6),
            ("rule_items[1].other", 3),
            ("z", 7),
        ] {
            assert_eq!(told(json, path), format!("line {line}: {path}: is odd"));
        }
    }

    #[test]
    fn what_is_about_nothing_in_the_text_has_no_line() {
        assert_eq!(told("{\"a\": 1}", ""), "is odd");
        assert_eq!(told("{\"a\": 1}", "b"), "b: is odd");
        assert_eq!(told("{\"a\": ", "a"), "a: is odd");
        assert_eq!(told("\"", "a"), "a: is odd");
    }
}
