//! How wide lines of Rust are. The formatter leaves texts, macros and remarks as they are.

use std::{ops::Range, path::Path};

use crate::sources::{literals, sources};

const WIDTH_MAX: usize = 120;

/// Whether a text stays on its line: one in another language with quotes of its own, whose lines are what they are, or
/// one with no space where it could be continued on another line, such as a URL or an expression.
fn stays(literal: &str) -> bool {
    let is_raw = literal.starts_with(['r', 'b']);
    let fits: String = literal.chars().take(WIDTH_MAX).collect();
    is_raw || literal.contains("\\\"") || !fits.chars().skip(WIDTH_MAX / 4).any(|each| each == ' ')
}

/// The lines that are too wide, by their numbers, without what has to stay on one.
fn too_wide(text: &str) -> Vec<usize> {
    let wide: Vec<Range<usize>> = literals(text).into_iter().filter(|literal| stays(&text[literal.clone()])).collect();
    let mut from = 0;
    let lines = text.split('\n').enumerate().filter_map(|(number, line)| {
        let here = from..from + line.len();
        from = here.end + 1;
        let width = line.chars().count();
        let part = |literal: &Range<usize>| literal.start.max(here.start)..literal.end.min(here.end);
        let excused = wide.iter().map(part).filter(|part| part.start < part.end);
        let excused: usize = if width > WIDTH_MAX { excused.map(|part| text[part].chars().count()).sum() } else { 0 };
        (width - excused > WIDTH_MAX).then_some(number + 1)
    });
    lines.collect()
}

#[test]
fn lines_are_at_most_120_characters_wide() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let sources = sources(&root);
    assert!(sources.len() > 300, "{}", sources.len());
    let wide = sources.iter().flat_map(|(path, text)| {
        let path = path.strip_prefix(&root).unwrap_or(path);
        too_wide(text).into_iter().map(move |line| format!("{}:{line}", path.display()))
    });
    let wide: Vec<String> = wide.collect();
    assert_eq!(wide, [""; 0]);
}

#[test]
fn only_what_has_no_place_to_break_is_wider() {
    let (word, words) = ("x".repeat(130), "x y ".repeat(40));
    for (line, is_wide) in [
        (format!("// {words}"), true),
        (format!("f(\"{word}\")"), false),
        (format!("f(\"{words}\")"), true),
        (format!("f(r#\"{words}\"#)"), false),
        (format!("f(\"{{\\\"a\\\": {words}}}\")"), false),
        (format!("f({}, \"a\")", words.replace(' ', ", ")), true),
    ] {
        assert_eq!(!too_wide(&line).is_empty(), is_wide, "{line}");
    }
    assert_eq!(too_wide(&format!("a\n\n// {words}\nb")), [3]);
}
