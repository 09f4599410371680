//! What is made of the contract is as the contract is; `just docs` makes it so.

use std::{env, fs};

use slidegate_contract_tests::{root, typescript};

/// Asks for writing what is out of date.
const WRITE: &str = "SLIDEGATE_WRITE";

const TYPES: &str = "wit/slidegate.d.ts";

#[test]
fn types_of_typescript_are_current() {
    let (path, expected) = (root().join(TYPES), typescript());
    if fs::read_to_string(&path).unwrap_or_default() == expected {
        return;
    }
    assert!(env::var_os(WRITE).is_some(), "{TYPES} is not what the contract makes of it: run `just docs`");
    fs::write(path, expected).expect("types can be written");
}

/// The blocks of code in a document, each with the last file that was linked to before it.
fn blocks(text: &str) -> Vec<(&str, Vec<&str>)> {
    let (mut blocks, mut file) = (Vec::new(), "");
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            blocks.push((file, lines.by_ref().take_while(|line| *line != "```").collect()));
        } else if let Some((_, target)) = line.rsplit_once("](") {
            file = target.split(')').next().unwrap_or_default();
        }
    }
    blocks
}

#[test]
fn worked_hosts_are_shown_as_they_are_tested() {
    let folder = root().join("wit");
    let readme = fs::read_to_string(folder.join("README.md")).expect("the contract's README");
    let blocks = blocks(&readme);
    let mut files: Vec<_> = blocks.iter().map(|(file, _)| *file).collect();
    files.dedup();
    assert_eq!(
        files,
        [
            "../host/examples/embed.rs",
            "examples/host.mjs",
            "../host/python/slidegate/filter.py",
            "../host/python/slidegate/redis_calls.py"
        ]
    );
    for (file, block) in blocks {
        let source = fs::read_to_string(folder.join(file)).expect("a worked host");
        let source: Vec<&str> = source.lines().collect();
        assert!(block.len() > 3 && source.windows(block.len()).any(|lines| lines == block), "{file}: {block:#?}");
    }
}
