//! The arrows between the crates: tests ──► host ──► wit ◄── component ──► engine ◄── shim, with the reader of
//! documents below host and engine; none in a circle between the files of one, and one name for one type.

#[path = "architecture/circles.rs"]
mod circles;
#[path = "architecture/failure_causes.rs"]
mod failure_causes;
#[path = "architecture/sources.rs"]
mod sources;
#[path = "architecture/type_names.rs"]
mod type_names;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// The crates that a package of this workspace names in its manifest, by kind: `normal`, `dev` or `build`.
fn dependencies(package: &str, kinds: &[&str]) -> BTreeSet<String> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let arguments =
        ["metadata", "--format-version", "1", "--locked", "--offline", "--no-deps", "--manifest-path", manifest];
    let output =
        Command::new(std::env::var("CARGO").unwrap_or("cargo".into())).args(arguments).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
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
fn the_engine_names_only_the_reader_of_documents_and_few_others() {
    assert!(ours(&dependencies("slidegate-document", &ALL)).is_empty());
    assert_eq!(
        dependencies("slidegate-document", &ALL),
        BTreeSet::from(["serde_core", "serde_json"].map(str::to_owned))
    );
    assert_eq!(ours(&dependencies("slidegate-engine", &ALL)), ["slidegate-document"]);
    let few = ["hmac-sha256", "ipnet", "regex", "sha1_smol", "slidegate-document"].map(str::to_owned);
    assert_eq!(dependencies("slidegate-engine", &["normal", "build"]), BTreeSet::from(few));
}

#[test]
fn component_and_shim_name_the_engine_and_their_allocator_and_the_host_does_not() {
    for guest in ["slidegate-component", "slidegate-shim"] {
        assert_eq!(ours(&dependencies(guest, &ALL)), ["slidegate-allocator", "slidegate-engine"], "{guest}");
    }
    assert!(dependencies("slidegate-allocator", &ALL).is_empty());
    assert_eq!(ours(&dependencies("slidegate", &ALL)), ["slidegate-document"]);
}

#[test]
fn only_tests_name_everything() {
    assert_eq!(
        ours(&dependencies("slidegate-tests", &ALL)),
        ["slidegate", "slidegate-engine", "slidegate-engine-tests", "slidegate-higress-host"]
    );
}

#[test]
fn the_gateway_for_plugins_names_none_of_ours_and_the_engines_tests_only_that() {
    assert!(ours(&dependencies("slidegate-higress-host", &ALL)).is_empty());
    assert_eq!(ours(&dependencies("slidegate-engine-tests", &ALL)), ["slidegate-engine"]);
    let heavy = ["hyper", "redis", "tokio", "wasmtime"].map(str::to_owned);
    assert!(dependencies("slidegate-engine-tests", &ALL).is_disjoint(&BTreeSet::from(heavy)));
}

const CRATES: [&str; 6] =
    ["host", "guest/allocator", "guest/component", "guest/shim", "guest/engine", "guest/document"];

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
    assert_eq!(type_names::ambiguous(&CRATES.map(sources)), [""; 0]);
}
