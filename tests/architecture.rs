//! The arrows between the crates: tests ──► host ──► wit ◄── component ──► engine ◄── shim, middleware, with the
//! reader of documents below host and engine; none in a circle between the files of one, and one name for one type; who
//! may have unsafe code, and how wide lines are.

#[path = "architecture/circles.rs"]
mod circles;
#[path = "architecture/contract.rs"]
mod contract;
#[path = "architecture/examples.rs"]
mod examples;
#[path = "architecture/failure_causes.rs"]
mod failure_causes;
#[path = "architecture/lines.rs"]
mod lines;
#[path = "architecture/sources.rs"]
mod sources;
#[path = "architecture/type_names.rs"]
mod type_names;
#[path = "architecture/unsafety.rs"]
mod unsafety;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

fn cargo(arguments: &[&str]) -> Vec<u8> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or("cargo".into()));
    let output = cargo.args(arguments).args(["--locked", "--offline", "--manifest-path", manifest]).output();
    let output = output.expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The crates that a package of this workspace names in its manifest, by kind: `normal`, `dev` or `build`.
fn dependencies(package: &str, kinds: &[&str]) -> BTreeSet<String> {
    let metadata: Value = serde_json::from_slice(&cargo(&["metadata", "--format-version", "1", "--no-deps"]))
        .expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let package =
        packages.iter().find(|each| each["name"] == package).unwrap_or_else(|| panic!("no package {package}"));
    let dependencies = package["dependencies"].as_array().expect("a list of dependencies");
    let wanted = |each: &&Value| kinds.contains(&each["kind"].as_str().unwrap_or("normal"));
    dependencies.iter().filter(wanted).filter_map(|each| each["name"].as_str()).map(str::to_owned).collect()
}

fn ours(names: &BTreeSet<String>) -> Vec<&str> {
    names.iter().map(String::as_str).filter(|name| name.starts_with("slidegate")).collect()
}

const ALL: [&str; 3] = ["normal", "dev", "build"];

#[test]
fn the_engine_names_only_what_it_is_made_of_and_few_others() {
    assert!(ours(&dependencies("slidegate-document", &ALL)).is_empty());
    assert_eq!(
        dependencies("slidegate-document", &ALL),
        BTreeSet::from(["serde_core", "serde_json"].map(str::to_owned))
    );
    assert!(ours(&dependencies("slidegate-cache", &ALL)).is_empty());
    let only = BTreeSet::from(["hmac-sha256".to_owned()]);
    assert_eq!(dependencies("slidegate-cache", &["normal", "build"]), only);
    assert_eq!(ours(&dependencies("slidegate-engine", &ALL)), ["slidegate-cache", "slidegate-document"]);
    let few = ["hashbrown", "hmac-sha256", "ipnet", "miniz_oxide", "regex", "sha1_smol", "slidegate-cache"];
    let all = few.into_iter().chain(["slidegate-document"]).map(str::to_owned).collect();
    assert_eq!(dependencies("slidegate-engine", &["normal", "build"]), all);
}

#[test]
fn guests_name_the_engine_and_their_allocator_and_the_host_does_not() {
    for guest in ["slidegate-component", "slidegate-shim"] {
        assert_eq!(ours(&dependencies(guest, &ALL)), ["slidegate-allocator", "slidegate-engine"], "{guest}");
    }
    // It tells on which line a mistake is.
    assert_eq!(ours(&dependencies("slidegate-middleware", &ALL)), ["slidegate-document", "slidegate-engine"]);
    assert!(dependencies("slidegate-allocator", &ALL).is_empty());
    // Its commands read and void what is stored by the library that the filter writes it with.
    assert_eq!(ours(&dependencies("slidegate", &ALL)), ["slidegate-cache", "slidegate-document"]);
}

#[test]
fn only_tests_name_everything() {
    assert_eq!(
        ours(&dependencies("slidegate-tests", &ALL)),
        ["slidegate", "slidegate-cache", "slidegate-engine", "slidegate-engine-tests", "slidegate-higress-host"]
    );
}

#[test]
fn the_gateway_for_plugins_names_none_of_ours_and_the_engines_tests_only_that() {
    assert!(ours(&dependencies("slidegate-higress-host", &ALL)).is_empty());
    assert_eq!(ours(&dependencies("slidegate-engine-tests", &ALL)), ["slidegate-engine"]);
    let heavy = ["hyper", "redis", "tokio", "wasmtime"].map(str::to_owned);
    assert!(dependencies("slidegate-engine-tests", &ALL).is_disjoint(&BTreeSet::from(heavy)));
}

/// Packages with their features, as they are built for these packages of the workspace.
fn features(packages: &[&str], kinds: &str) -> BTreeSet<String> {
    let selected = packages.iter().flat_map(|package| ["--package", package]);
    let options = ["tree", "--prefix", "none", "--edges", kinds, "--format", "{p} {f}"];
    let tree = String::from_utf8(cargo(&options.into_iter().chain(selected).collect::<Vec<_>>())).expect("text");
    tree.lines().map(|line| line.trim_end_matches("(*)").trim_end().to_owned()).collect()
}

/// What `cargo run --release` has built serves the tests too: no library below wasmtime has other features for them.
#[test]
fn wasmtime_is_built_once_for_the_gateway_and_for_all_tests() {
    let justfile = include_str!("../Justfile");
    let native = justfile.lines().find_map(|line| line.strip_prefix("native := ")).expect("the native crates");
    let native: Vec<_> = native.trim_matches('"').split_whitespace().filter(|word| *word != "-p").collect();
    let below: BTreeSet<_> = features(&["wasmtime"], "normal,build").into_iter().map(name_and_version).collect();
    let (gateway, tests) = (features(&["slidegate"], "normal,build"), features(&native, "normal,build,dev"));
    let otherwise: Vec<_> =
        gateway.difference(&tests).filter(|each| below.contains(&name_and_version((*each).clone()))).collect();
    assert!(below.len() > 50 && below.iter().any(|name| name.starts_with("object ")), "{below:?}");
    assert_eq!(otherwise, [""; 0], "these have other features in the tests");
}

fn name_and_version(line: String) -> String {
    line.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

const CRATES: [&str; 8] = [
    "host",
    "guest/allocator",
    "guest/component",
    "guest/middleware",
    "guest/shim",
    "guest/engine",
    "guest/document",
    "guest/cache",
];

fn sources(crate_: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(crate_).join("src")
}

#[test]
fn no_files_of_a_crate_use_each_other() {
    for crate_ in CRATES {
        assert_eq!(circles::circles(&sources(crate_)), [""; 0], "{crate_}");
    }
}

#[test]
fn no_type_name_stands_for_two_things() {
    assert_eq!(type_names::ambiguous(&CRATES.map(sources), &contract::type_names()), [""; 0]);
}
