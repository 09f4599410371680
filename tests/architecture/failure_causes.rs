//! The failure causes are one table, in the engine. Who cannot name the engine spells some of it again, and is held to
//! it here.

use std::{collections::BTreeSet, fs, path::Path};

use slidegate_engine::FailureCause;

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands in a text between one kind of signs.
fn between(text: &str, sign: char) -> impl Iterator<Item = &str> {
    text.split(sign).skip(1).step_by(2)
}

/// The cases of an enumeration, in Rust or in the contract's language, as the contract spells them.
fn cases(file: &str, head: &str) -> Vec<String> {
    let text = read(file);
    let body = text
        .split_once(head)
        .and_then(|(_, rest)| rest.split_once('}'))
        .unwrap_or_else(|| panic!("{file} has `{head}`"))
        .0;
    let names = body.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    names.map(|name| kebab(name.trim_end_matches(','))).collect()
}

/// A name as the contract spells it: `UnknownService` is `unknown-service`.
fn kebab(name: &str) -> String {
    let words = name
        .char_indices()
        .map(|(at, sign)| if at > 0 && sign.is_ascii_uppercase() { format!("-{sign}") } else { sign.to_string() });
    words.collect::<String>().to_ascii_lowercase()
}

#[test]
fn calls_without_a_reply_fail_alike_in_contract_and_engine() {
    let errors = cases("guest/engine/src/redis.rs", "pub enum CallError {");
    assert!(errors.len() > 3 && errors == cases("wit/redis.wit", "enum call-error {"), "{errors:?}");
}

#[test]
fn the_documented_causes_are_those_of_the_table() {
    let document = read("guest/engine/README.md");
    let row = document
        .lines()
        .find(|line| line.starts_with("| `slidegate_redis_failures_total`"))
        .expect("the metric has a row");
    let causes = row.split_once("`cause`:").expect("its label is explained").1;
    let table: Vec<&str> = FailureCause::OF_CALLS.iter().map(|cause| cause.name()).collect();
    assert_eq!(between(causes, '`').collect::<Vec<_>>(), table);
}

#[test]
fn documents_spell_causes_as_the_table_does() {
    let names: BTreeSet<&str> = FailureCause::ALL.iter().map(|cause| cause.name()).collect();
    let mut told = 0;
    for document in ["README.md", "guest/engine/README.md", "guest/shim/README.md", "host/README.md"] {
        let text = read(document);
        for (at, mark) in text.match_indices("cause=") {
            let rest = &text[at + mark.len()..];
            let cause =
                &rest[..rest.find(|sign: char| sign != '_' && !sign.is_ascii_lowercase()).unwrap_or(rest.len())];
            assert!(names.contains(cause), "{document}: {cause}");
            told += 1;
        }
    }
    assert!(told > 0, "documents tell of causes");
}

#[test]
fn the_host_acts_on_codes_of_the_table() {
    let source = read("host/src/redis/error_code.rs");
    let codes: BTreeSet<&str> = between(&source, '"').collect();
    let table: BTreeSet<&str> = FailureCause::ALL.iter().flat_map(|cause| cause.codes()).copied().collect();
    assert!(codes.len() > 5 && codes.is_subset(&table), "{codes:?}, {table:?}");
}

#[test]
fn each_cause_is_spelt_once() {
    let names: BTreeSet<&str> = FailureCause::ALL.iter().map(|cause| cause.name()).collect();
    assert_eq!(names.len(), FailureCause::ALL.len());
    let codes: Vec<&str> = FailureCause::ALL.iter().flat_map(|cause| cause.codes()).copied().collect();
    assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), codes.len(), "{codes:?}");
}
