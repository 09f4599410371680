//! Circles among the files of a crate: files that use each other can only be understood together.
//!
//! A file uses another if a path in it leads there.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
};

use super::sources::{Module, code, files, is_word, tokens};

/// The shortest circle of each file that is in one, in words.
pub(crate) fn circles(sources: &Path) -> Vec<String> {
    let files = files(sources);
    let modules: BTreeSet<Module> = files.keys().cloned().collect();
    let uses: BTreeMap<&Module, BTreeSet<Module>> =
        files.iter().map(|(module, text)| (module, used(module, text, &modules))).collect();
    assert!(
        files.len() == 1 || uses.values().any(|used| !used.is_empty()),
        "no file in {} uses another",
        sources.display()
    );
    let found = uses.keys().filter_map(|module| circle(module, &uses));
    found.map(|circle| circle.iter().map(name).collect::<Vec<_>>().join(" -> ")).collect()
}

fn name(module: &Module) -> String {
    if module.is_empty() { "the root".to_owned() } else { module.join("::") }
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
    let tokens = tokens(code(text));
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
        child if path.len() > 1 && modules.contains(&[module.as_slice(), &[child.to_owned()]].concat()) => {
            (module.clone(), path)
        }
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

#[test]
fn paths_are_found_wherever_they_stand() {
    let paths = |text: &str| {
        let modules = ["a", "b", "c"]
            .map(|part| vec![part.to_owned()])
            .into_iter()
            .chain([vec![], vec!["a".to_owned(), "d".to_owned()]]);
        let used = used(&vec!["a".to_owned()], text, &modules.collect());
        used.iter().map(name).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(paths("use crate::{b::B, c::{self, C}};\nuse self::d::D;"), "a::d b c");
    assert_eq!(paths("fn f() { crate::b::f(); d::g(\"crate::c\"); }"), "a::d b");
    assert_eq!(paths("pub(in crate::c) fn f() -> super::b::B {} // crate::c\n"), "b");
    assert_eq!(paths("use super::X;\nlet x = ('\"', '\\'', r#\"crate::b\"#);"), "the root");
    assert_eq!(paths("use std::fmt;\n#[cfg(test)]\nmod tests { use crate::b; }"), "");
}
