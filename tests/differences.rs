//! The tables of differences from Higress' plugins, held against what `differences.yaml` names for each row: what is
//! told there has a test that would fail if it were not so.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

const README: &str = include_str!("../guest/shim/README.md");
const TESTS: &str = include_str!("differences.yaml");

/// The first cells of the rows of all tables in that chapter.
fn rows() -> BTreeSet<&'static str> {
    let (_, chapter) = README.split_once("\n## Differences from Higress\n").expect("a chapter of that name");
    let chapter = chapter.split("\n## ").next().unwrap_or_default();
    let cells = chapter.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    // A table's head has none, the line below it dashes.
    cells.map(|(first, _)| first.trim()).filter(|first| !first.starts_with(['|', '-'])).collect()
}

/// Why this names no test; none if it does. Paths begin at this folder.
fn missing(test: &str) -> Option<String> {
    let (file, name) = test.split_once(": ").map_or((test, None), |(file, name)| (file, Some(name)));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let Ok(text) = fs::read_to_string(&path) else { return Some(format!("{file} is not there")) };
    match name {
        None if !file.ends_with(".yaml") => Some(format!("{file} is no case: which of its tests?")),
        Some(name) if !text.contains(&format!("#[test]\nfn {name}(")) && !text.contains(&format!("    fn {name}(")) => {
            Some(format!("{file} has no test `{name}`"))
        }
        _ => None,
    }
}

#[test]
fn each_row_has_its_tests() {
    let tests: BTreeMap<String, Vec<String>> = serde_saphyr::from_str(TESTS).expect("a list of tests for each row");
    let named: BTreeSet<&str> = tests.keys().map(String::as_str).collect();
    let rows = rows();
    assert!(rows.len() > 50, "{rows:?}");
    assert_eq!(rows.difference(&named).collect::<Vec<_>>(), [&""; 0], "rows without a test in differences.yaml");
    assert_eq!(named.difference(&rows).collect::<Vec<_>>(), [&""; 0], "tests of rows that are not in the tables");
    let faults: Vec<_> = tests
        .iter()
        .flat_map(|(row, tests)| tests.iter().filter_map(move |test| Some(format!("{row}: {}", missing(test)?))))
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(tests.values().all(|tests| !tests.is_empty()));
}
