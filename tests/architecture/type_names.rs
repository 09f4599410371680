//! One name for one thing: a type's name that stands for two things makes a reader of one crate misread the next. The
//! contract's types have names too, though nobody writes them in a source: the host offers them as its own.
//!
//! Of what is shipped; a helper in one test's file is read there.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::sources::{code, files, is_word, tokens};

/// The names that several types have, and why they may.
const SHARED: [(&str, &str); 8] = [
    (
        "Filter",
        "what is configured: one filter of a chain in the engine, the chain behind the contract and behind the \
         gateway's ABI",
    ),
    ("InFlight", "the requests whose phase is not over, as each adapter finds them again for the engine"),
    ("PlatformSignals", "one for each platform, of which one is compiled"),
    ("Question", "what Redis is asked: by the chain, one of any kind of filter, and by `explain`"),
    (
        "Request",
        "the request in flight, as the host shows it to the contract and as each adapter shows it to the engine",
    ),
    ("Step", "what a hook makes of its stream, before and behind the contract"),
    ("Turn", "one generic type, and what it is for each kind of filter"),
    ("Verdict", "what becomes of a stream, before and behind the contract"),
];

/// Types of the contract that the engine has under the same name, because they are the same there, and the component
/// makes one of the other; and how much a line of a log matters, which the shim tells its host.
const MIRRORED: [&str; 23] = [
    "BodyChange",
    "Bucket",
    "CallError",
    "Command",
    "ConfigError",
    "Configuration",
    "Explanation",
    "FilterMet",
    "HeaderEdit",
    "Interest",
    "Level",
    "LimitMet",
    "Metric",
    "Pass",
    "Reply",
    "Response",
    "ResponseHead",
    "RuleMet",
    "RuleOutcome",
    "Splice",
    "Uses",
    "Value",
    "Wants",
];

/// The names that stand for several types though nobody allowed it, with the places, and the allowances that nobody
/// needs.
pub(crate) fn ambiguous(crates: &[impl AsRef<Path>], contract: &BTreeSet<String>) -> Vec<String> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for sources in crates.iter().map(AsRef::as_ref) {
        for (module, text) in files(sources) {
            for name in defined(code(&text)) {
                places.entry(name).or_default().push(format!("{}, {}", sources.display(), module.join("::")));
            }
        }
    }
    assert!(places.len() > 100, "types are found: {places:?}");
    let is_mirrored = |name: &str| contract.contains(name) && places.contains_key(name);
    let gone: Vec<String> = MIRRORED
        .iter()
        .filter(|name| !is_mirrored(name))
        .map(|name| format!("{name} is not both of the contract and of a crate"))
        .collect();
    for name in contract.iter().filter(|name| !MIRRORED.contains(&name.as_str())) {
        places.entry(name.clone()).or_default().push("the contract".to_owned());
    }
    places.retain(|_, places| places.len() > 1);
    let shared = BTreeMap::from(SHARED);
    let unneeded =
        shared.keys().filter(|name| !places.contains_key(**name)).map(|name| format!("{name} is one type by now"));
    let unneeded = unneeded.chain(gone);
    let new = places.iter().filter(|(name, _)| !shared.contains_key(name.as_str()));
    new.map(|(name, places)| format!("{name}: {}", places.join("; "))).chain(unneeded).collect()
}

/// The types that a text defines; not those that belong to a trait or to an `impl`.
fn defined(text: &str) -> Vec<String> {
    let tokens = tokens(text);
    // For each open brace, whether what is inside belongs to a trait.
    let (mut names, mut blocks, mut head) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "{" => blocks.push(["impl", "trait"].iter().any(|word| head.contains(word)) && !head.contains("fn")),
            "}" => drop(blocks.pop()),
            "struct" | "enum" | "union" | "trait" => {
                names.extend(tokens.get(at + 1).filter(|next| is_word(next)).cloned())
            }
            "type" if blocks.last() != Some(&true) => {
                names.extend(tokens.get(at + 1).filter(|next| is_word(next)).cloned())
            }
            _ => {}
        }
        match token.as_str() {
            "{" | "}" | ";" => head.clear(),
            word => drop(head.insert(word)),
        }
    }
    names
}

#[test]
fn types_are_found_wherever_they_stand() {
    let of = |text: &str| defined(text).join(" ");
    assert_eq!(of("pub(crate) struct A;\nenum B<T> { C, D(T) }\ntype E = A; // struct F;"), "A B E");
    assert_eq!(of("trait A { type B; fn f(&self) -> Self::B; }\nimpl A for C { type B = u8; }"), "A");
    assert_eq!(of("impl A { fn f() { struct B; type C = B; } }\nmod d { pub(super) struct E { union: u8 } }"), "B C E");
    assert_eq!(of("const A: &str = \"struct B\";\nuse a::{b, C};"), "");
}
