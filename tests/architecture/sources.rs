//! The sources of a crate as the checks of architecture read them: files by their modules, and code as tokens.

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

/// What is not the project's own, or is put into form by somebody else: results of builds, version control, and crates
/// in workspaces of their own.
const FOREIGN: [&str; 5] = ["target", "dist", ".git", "node_modules", "limitador"];

/// A module by its path from the root, which is empty.
pub(crate) type Module = Vec<String>;

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

/// The text of each module in a folder; those of tests aside.
pub(crate) fn files(sources: &Path) -> BTreeMap<Module, String> {
    let mut files = BTreeMap::new();
    collect(sources, &mut Vec::new(), &mut files);
    files
}

/// What of a text is no test: a module of tests ends its file, one that is only named there ends nothing.
pub(crate) fn code(text: &str) -> &str {
    let marks = ["#[cfg(test)]\nmod ", "#[cfg(all(test"].map(|mark| text.match_indices(mark).map(|(at, _)| at));
    let begins_here = |at: &usize| text[*at..].chars().find(|sign| "{;".contains(*sign)) != Some(';');
    let end = marks.into_iter().flatten().filter(begins_here).min();
    &text[..end.unwrap_or(text.len())]
}

fn collect(folder: &Path, module: &mut Module, files: &mut BTreeMap<Module, String>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("a folder can be read").path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
        if stem == "tests" {
            continue;
        }
        module.push(stem.clone());
        if path.is_dir() {
            collect(&path, module, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source is text");
            let root = module.len() == 1 && ["lib", "main"].contains(&stem.as_str());
            let of = if root { Module::new() } else { module.clone() };
            files.entry(of).or_default().push_str(&text);
        }
        module.pop();
    }
}

pub(crate) fn is_word(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Words, `::` and single signs; no comments and no literals.
pub(crate) fn tokens(text: &str) -> Vec<String> {
    let tokens = pieces(text).into_iter().map(|piece| &text[piece]);
    let is_code =
        |token: &&str| !token.trim().is_empty() && !token.starts_with(['/', '"', '\'']) && !token.contains('"');
    tokens.filter(is_code).map(str::to_owned).collect()
}

/// Where the literals of texts stand, with their quotes.
pub(crate) fn literals(text: &str) -> Vec<Range<usize>> {
    pieces(text).into_iter().filter(|piece| literal_form(&text[piece.clone()]).is_some()).collect()
}

fn literal_form(text: &str) -> Option<&'static (&'static str, &'static str, bool)> {
    LITERALS.iter().find(|(begin, ..)| text.starts_with(begin))
}

/// All of a text: words, `::`, comments, literals, and single signs.
fn pieces(text: &str) -> Vec<Range<usize>> {
    let (mut pieces, mut at) = (Vec::new(), 0);
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let length = match (literal_form(rest), first) {
            (Some((begin, end, escapes)), _) => begin.len() + literal(&rest[begin.len()..], end, *escapes),
            (None, '/') if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            (None, '\'') if rest.starts_with("'\\") => 2 + rest[3..].find('\'').map_or(0, |end| end + 2),
            (None, '\'') if rest.chars().nth(2) == Some('\'') => rest.chars().take(3).map(char::len_utf8).sum(),
            (None, ':') if rest.starts_with("::") => 2,
            (None, first) if first.is_alphanumeric() || first == '_' => {
                rest.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(rest.len())
            }
            (None, first) => first.len_utf8(),
        };
        pieces.push(at..at + length);
        at += length;
    }
    pieces
}

/// How literals of texts begin and end, and whether a backslash in them says something of the next sign.
const LITERALS: [(&str, &str, bool); 8] = [
    ("\"", "\"", true),
    ("b\"", "\"", true),
    ("r\"", "\"", false),
    ("br\"", "\"", false),
    ("r#\"", "\"#", false),
    ("br#\"", "\"#", false),
    ("r##\"", "\"##", false),
    ("br##\"", "\"##", false),
];

/// How long a literal is, its end included.
fn literal(text: &str, end: &str, escapes: bool) -> usize {
    let mut at = 0;
    while !text[at..].starts_with(end) {
        let skipped = if escapes && text[at..].starts_with('\\') { 2 } else { 1 };
        at += text[at..].chars().take(skipped).map(char::len_utf8).sum::<usize>();
        assert!(at < text.len(), "a literal ends");
    }
    at + end.len()
}

#[test]
fn only_a_module_of_tests_ends_a_file() {
    assert_eq!(code("a\n#[cfg(test)]\nmod tests;\nb"), "a\n#[cfg(test)]\nmod tests;\nb");
    assert_eq!(
        code("a\n#[cfg(test)]\nmod samples;\nb\n#[cfg(test)]\nmod tests { c }"),
        "a\n#[cfg(test)]\nmod samples;\nb\n"
    );
    assert_eq!(code("a\n#[cfg(all(test, unix))]\nmod tests { b }"), "a\n");
}
