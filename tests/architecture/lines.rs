//! How wide lines of Rust are. The formatter leaves texts, macros and remarks as they are.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use crate::sources::literals;

const WIDTH_MAX: usize = 120;

/// What is not the project's own, or is put into form by somebody else: results of builds, version control, and crates
/// in workspaces of their own.
const FOREIGN: [&str; 5] = ["target", "dist", ".git", "node_modules", "peers"];

/// Every source of Rust below a folder, with its text.
pub(crate) fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("a folder can be read").path());
    let below = paths.flat_map(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        match path.is_dir() && !path.is_symlink() {
            true if FOREIGN.contains(&name.as_str()) => Vec::new(),
            true => sources(&path),
            false if name.ends_with(".rs") => {
                let text = fs::read_to_string(&path).expect("a source is text");
                vec![(path, text)]
            }
            false => Vec::new(),
        }
    });
    below.collect()
}

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
