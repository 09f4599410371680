//! The documents: that their links lead somewhere, that the first one stays short, and that a translation leaves out
//! none of the points that the original makes.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What is not the project's own: results of builds, and the folders of version control.
const FOREIGN: [&str; 4] = ["target", "dist", ".git", "node_modules"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace is there")
}

/// Every file of Markdown below a folder.
fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in
        fs::read_dir(folder).expect("a folder can be read").map(|entry| entry.expect("an entry can be read").path())
    {
        let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // A link to a folder would be one more name for the same files.
        if entry.is_symlink() {
            continue;
        }
        if entry.is_dir() && !FOREIGN.contains(&name) {
            documents(&entry, found);
        } else if name.ends_with(".md") {
            found.push(entry);
        }
    }
}

/// The lines of a document that are prose, without blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// The anchor of a heading, by the rule of the usual forges: lower case, spaces as hyphens, without punctuation.
fn anchor(heading: &str) -> String {
    let kept = heading
        .trim()
        .to_lowercase()
        .chars()
        .filter(|each| each.is_alphanumeric() || " -_".contains(*each))
        .collect::<String>();
    kept.replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    prose(text).filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#'))).collect()
}

/// The targets of `[text](target)` in a line, but for those in code.
fn targets(line: &str) -> Vec<&str> {
    let plain = line.split('`').enumerate().filter(|(number, _)| number % 2 == 0);
    // A link's text may be code, so that its target begins the next plain part.
    plain
        .flat_map(|(_, part)| part.match_indices("](").map(move |(at, mark)| &part[at + mark.len()..]))
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
        .collect()
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut found = Vec::new();
    documents(&root(), &mut found);
    assert!(found.len() >= 10, "{found:?}");
    let (mut looked_at, mut broken) = (0, Vec::new());
    for document in &found {
        let text = fs::read_to_string(document).expect("a document can be read");
        for target in prose(&text).flat_map(targets).filter(|target| !target.contains("://")) {
            looked_at += 1;
            let (file, fragment) =
                target.split_once('#').map_or((target, None), |(file, fragment)| (file, Some(fragment)));
            let folder = document.parent().expect("a document is in a folder");
            let mut file = if file.is_empty() { document.clone() } else { folder.join(file) };
            if file.is_dir() && fragment.is_some() {
                file.push("README.md");
            }
            // A picture is no text, but is there.
            let text = if file.is_dir() { Ok(Vec::new()) } else { fs::read(&file) };
            let text = text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            let leads = text.is_ok_and(|text| fragment.is_none_or(|fragment| anchors(&text).contains(fragment)));
            if !leads {
                broken.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(looked_at > 40, "{looked_at}");
    assert_eq!(broken, [""; 0]);
}

#[test]
fn the_first_document_is_at_most_250_lines() {
    let lines = fs::read_to_string(root().join("README.md")).expect("the README can be read").lines().count();
    assert!(lines <= 250, "{lines} lines");
}

/// Of each chapter its heading, how many points its lists have, and the names in them.
fn points(text: &str) -> Vec<(&str, usize, BTreeSet<&str>)> {
    let mut chapters = Vec::new();
    for line in prose(text) {
        if line.starts_with("## ") {
            chapters.push((line, 0, BTreeSet::new()));
        }
        let is_point = line.starts_with("- ");
        if let Some((_, count, names)) = chapters.last_mut().filter(|_| is_point || line.starts_with("  ")) {
            *count += usize::from(is_point);
            names.extend(line.split('`').skip(1).step_by(2));
        }
    }
    chapters
}

#[test]
fn a_translation_makes_every_point() {
    let [original, translation] = ["README.md", "README.zh-CN.md"]
        .map(|name| fs::read_to_string(root().join("guest/shim").join(name)).expect("it can be read"));
    let (originals, translations) = (points(&original), points(&translation));
    assert_eq!(originals.len(), translations.len());
    assert!(originals.iter().map(|(_, count, _)| count).sum::<usize>() > 10);
    for ((heading, count, names), (translated, count_translated, names_translated)) in
        originals.iter().zip(&translations)
    {
        assert_eq!(count, count_translated, "points in `{heading}` and in `{translated}`");
        let missing: Vec<_> = names.difference(names_translated).collect();
        assert!(missing.is_empty(), "`{translated}` does not name {missing:?}");
    }
}
