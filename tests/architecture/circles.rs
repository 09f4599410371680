//! Circles among the files of a crate: files that use each other can only be understood together.
//!
//! A file uses another if a path in it leads there. What stands behind `#[cfg(test)]` does not count, since it ends its file.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    path::Path,
};

/// A module by its path from the root, which is empty.
type Module = Vec<String>;

/// The shortest circle of each file that is in one, in words.
pub(crate) fn circles(sources: &Path) -> Vec<String> {
    let mut files = BTreeMap::new();
    collect(sources, &mut Vec::new(), &mut files);
    let modules: BTreeSet<Module> = files.keys().cloned().collect();
    let uses: BTreeMap<&Module, BTreeSet<Module>> = files.iter().map(|(module, text)| (module, used(module, text, &modules))).collect();
    assert!(uses.values().any(|used| !used.is_empty()), "no file in {} uses another", sources.display());
    let found = uses.keys().filter_map(|module| circle(module, &uses));
    found.map(|circle| circle.iter().map(name).collect::<Vec<_>>().join(" -> ")).collect()
}

fn name(module: &Module) -> String {
    if module.is_empty() { "the root".to_owned() } else { module.join("::") }
}

/// Reads all files; those of tests aside.
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

fn circle(from: &Module, uses: &BTreeMap<&Module, BTreeSet<Module>>) -> Option<Vec<Module>> {
    let (mut ways, mut seen) = (VecDeque::from([vec![from.clone()]]), BTreeSet::new());
    while let Some(way) = ways.pop_front() {
        for next in &uses[way.last().expect("it begins somewhere")] {
            let longer = [way.as_slice(), std::slice::from_ref(next)].concat();
            if next == from {
                return Some(longer);
            }
            if seen.insert(next) {
                ways.push_back(longer);
            }
        }
    }
    None
}

/// The other files that paths in a text lead to.
fn used(module: &Module, text: &str, modules: &BTreeSet<Module>) -> BTreeSet<Module> {
    let end = ["#[cfg(test)]\nmod", "#[cfg(all(test"].iter().filter_map(|mark| text.find(mark)).min().unwrap_or(text.len());
    let tokens = tokens(&text[..end]);
    let (mut at, mut paths) = (0, Vec::new());
    while at < tokens.len() {
        if tokens[at] == "pub" && tokens.get(at + 1).is_some_and(|next| next == "(") {
            at += tokens[at..].iter().position(|token| token == ")").expect("a bracket is closed");
        }
        let before = at;
        tree(&tokens, &mut at, &mut Vec::new(), &mut paths);
        at = at.max(before + 1);
    }
    let targets = paths.iter().filter_map(|path| target(module, path, modules));
    targets.filter(|target| target != module).collect()
}

/// Where a path leads: the last part of it that is a file.
fn target(module: &Module, path: &[String], modules: &BTreeSet<Module>) -> Option<Module> {
    let ups = path.iter().take_while(|part| *part == "super").count();
    let (mut target, rest) = match path.first()?.as_str() {
        "crate" => (Module::new(), &path[1..]),
        "self" => (module.clone(), &path[1..]),
        "super" => (module[..module.len().checked_sub(ups)?].to_vec(), &path[ups..]),
        child if path.len() > 1 && modules.contains(&[module.as_slice(), &[child.to_owned()]].concat()) => (module.clone(), path),
        _ => return None,
    };
    for part in rest {
        target.push(part.clone());
        if !modules.contains(&target) {
            target.pop();
            break;
        }
    }
    Some(target)
}

/// Reads a path, or several that begin alike: `a::{b, c::d}`.
fn tree(tokens: &[String], at: &mut usize, begun: &mut Vec<String>, paths: &mut Vec<Vec<String>>) {
    let length = begun.len();
    while tokens.get(*at).is_some_and(|token| is_word(token)) {
        begun.push(tokens[*at].clone());
        *at += 1;
        if tokens.get(*at).is_none_or(|token| token != "::") {
            break;
        }
        *at += 1;
        if tokens.get(*at).is_some_and(|token| token == "{") {
            *at += 1;
            while tokens.get(*at).is_some_and(|token| token != "}") {
                let before = *at;
                tree(tokens, at, begun, paths);
                *at = (*at).max(before + 1);
            }
            *at += 1;
            begun.truncate(length);
            return;
        }
    }
    if begun.len() > length {
        paths.push(begun.clone());
    }
    begun.truncate(length);
}

fn is_word(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Words, `::` and single signs; no comments and no literals.
fn tokens(text: &str) -> Vec<String> {
    let (mut tokens, mut rest) = (Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '"' => literal(&rest[1..], "\"", true) + 1,
            'r' if rest.starts_with("r\"") => literal(&rest[2..], "\"", false) + 2,
            'r' if rest.starts_with("r#\"") => literal(&rest[3..], "\"#", false) + 3,
            '\'' if rest.starts_with("'\\") => 2 + rest[3..].find('\'').map_or(0, |end| end + 2),
            '\'' if rest.chars().nth(2) == Some('\'') => rest.chars().take(3).map(char::len_utf8).sum(),
            ':' if rest.starts_with("::") => 2,
            first if first.is_alphanumeric() || first == '_' => {
                rest.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(rest.len())
            }
            first => first.len_utf8(),
        };
        let token = &rest[..length];
        if !token.trim().is_empty() && !token.starts_with(['/', '"', '\'']) && !token.contains('"') {
            tokens.push(token.to_owned());
        }
        rest = &rest[length..];
    }
    tokens
}

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
fn paths_are_found_wherever_they_stand() {
    let paths = |text: &str| {
        let modules = ["a", "b", "c"].map(|part| vec![part.to_owned()]).into_iter().chain([vec![], vec!["a".to_owned(), "d".to_owned()]]);
        let used = used(&vec!["a".to_owned()], text, &modules.collect());
        used.iter().map(name).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(paths("use crate::{b::B, c::{self, C}};\nuse self::d::D;"), "a::d b c");
    assert_eq!(paths("fn f() { crate::b::f(); d::g(\"crate::c\"); }"), "a::d b");
    assert_eq!(paths("pub(in crate::c) fn f() -> super::b::B {} // crate::c\n"), "b");
    assert_eq!(paths("use super::X;\nlet x = ('\"', '\\'', r#\"crate::b\"#);"), "the root");
    assert_eq!(paths("use std::fmt;\n#[cfg(test)]\nmod tests { use crate::b; }"), "");
}
