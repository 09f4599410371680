//! By which names the public crates are entered: the documentation of each has an example, which `cargo test --doc`
//! runs.

use std::{fs, path::Path};

/// Files, and in each how the line of an item begins; `//!` for the module itself.
const ENTRIES: [(&str, &[&str]); 26] = [
    ("guest/cache/src/lib.rs", &["//!"]),
    ("guest/document/src/lib.rs", &["//!"]),
    ("guest/document/src/path.rs", &["pub fn at("]),
    ("guest/document/src/reader.rs", &["pub struct Reader"]),
    ("guest/document/src/schema.rs", &["pub fn gateway("]),
    ("guest/document/src/suggest.rs", &["pub fn nearest<"]),
    ("guest/document/src/table.rs", &["//!"]),
    ("guest/engine/src/lib.rs", &["//!"]),
    ("guest/engine/src/chain.rs", &["pub fn explain("]),
    ("guest/engine/src/config.rs", &["pub fn read("]),
    ("guest/engine/src/grpc.rs", &["pub fn into_grpc("]),
    ("guest/engine/src/local.rs", &["pub fn decide<"]),
    ("guest/engine/src/redis/command.rs", &["pub struct Command"]),
    ("guest/engine/src/redis/resp.rs", &["pub fn encode(", "pub fn decode("]),
    ("guest/engine/src/rule.rs", &["pub struct Ruleset"]),
    ("guest/engine/src/session.rs", &["//!"]),
    ("guest/engine/src/tokens/usage_reader.rs", &["pub struct UsageReader"]),
    ("guest/engine/src/window.rs", &["pub struct Window"]),
    ("host/src/lib.rs", &["//!"]),
    ("host/src/component.rs", &["pub fn from_file(", "pub fn from_bytes("]),
    ("host/src/imports.rs", &["pub fn add_to_linker<"]),
    ("host/src/metrics.rs", &["pub fn histogram_bounds("]),
    ("host/src/redis/directory.rs", &["pub fn insert("]),
    ("host/src/redis/transport.rs", &["pub trait RedisConnection"]),
    ("host/src/redis/watch.rs", &["pub fn watch("]),
    ("host/src/worker.rs", &["pub fn explain("]),
];

/// Whether a block of code stands in the remarks before an item, or in those of the module.
fn has_example(text: &str, item: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let is_code = |line: &&str| line.trim_start_matches(['/', '!', ' ']).starts_with("```");
    if item == "//!" {
        return lines.iter().take_while(|line| line.starts_with("//!")).any(is_code);
    }
    let at = lines.iter().position(|line| line.starts_with(item)).unwrap_or_else(|| panic!("there is no `{item}`"));
    let before = lines[..at].iter().rev().take_while(|line| line.starts_with("///") || line.starts_with("#["));
    before.copied().any(|line| is_code(&line))
}

#[test]
fn whoever_enters_finds_an_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (file, items) in ENTRIES {
        let text = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        for item in items {
            assert!(has_example(&text, item), "{file}: `{item}` has no example");
        }
    }
}

#[test]
fn an_example_is_of_the_item_below_it() {
    let text = "//! ```\n//! a\n//! ```\n\n/// ```\n/// b\n/// ```\n#[must_use]\npub fn one() {}\n\n/// None.\npub fn \
                two() {}\n";
    assert_eq!(["//!", "pub fn one(", "pub fn two("].map(|item| has_example(text, item)), [true, true, false]);
}
