//! What an operator deploys: the image and the WasmPlugin manifests.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command, Output},
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::{Value, json};
use slidegate_tests::{
    documented,
    plugin_resource::{accepted, plugin_document, yaml},
};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../guest/shim/deploy");
const PACKAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../guest/package/higress.py");

/// What Higress' console makes a form of, which is no manifest.
const CONSOLE_FORM: &str = "spec.yaml";

/// The manifest of limits on tokens, where stock has another plugin for them.
const TOKENS: &str = "tokens.yaml";

/// A directory that goes when the test does.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("slidegate-package-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = env::temp_dir().join(name);
        fs::create_dir(&directory).expect("a new directory");
        Scratch(directory)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a path in UTF-8").to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// Standard output of a program that succeeds.
fn output(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = run(program, arguments);
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn manifest(name: &str) -> Value {
    yaml(&fs::read_to_string(format!("{DEPLOY}/{name}.yaml")).expect("the manifest"))
}

fn sha256(file: &Path) -> String {
    let line = output("sha256sum", &[file.to_str().expect("a path in UTF-8")]);
    String::from_utf8_lossy(&line).split_whitespace().next().expect("a sum").to_owned()
}

// === The image ===

fn package(directory: &str) {
    let [module, cargo_toml] = [format!("{ROOT}/dist/slidegate-higress.wasm"), format!("{ROOT}/Cargo.toml")];
    output("python3", &[PACKAGE, &module, &cargo_toml, directory]);
}

#[test]
fn the_image_holds_the_module_as_the_gateway_looks_for_it() {
    let scratch = Scratch::new();
    let (layout, copy, unpacked) = (scratch.path("oci"), scratch.path("copy"), scratch.path("unpacked"));
    package(&layout);
    let image = format!("oci:{layout}:{}", env!("CARGO_PKG_VERSION"));

    let inspected: Value = serde_json::from_slice(&output("skopeo", &["inspect", &image])).expect("JSON");
    assert_eq!(inspected["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(inspected["Labels"]["org.opencontainers.image.licenses"], "Apache-2.0");

    output("skopeo", &["copy", "--insecure-policy", &image, &format!("dir:{copy}")]);
    let manifest: Value =
        serde_json::from_slice(&fs::read(format!("{copy}/manifest.json")).expect("a manifest")).expect("JSON");
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    let [layer] = manifest["layers"].as_array().expect("layers").as_slice() else { panic!("one layer: {manifest}") };
    assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    let digest = layer["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:")).expect("a digest");
    let blob = Path::new(&copy).join(digest);
    assert_eq!(sha256(&blob), digest);

    fs::create_dir(&unpacked).expect("a new directory");
    let blob = blob.to_str().expect("a path in UTF-8");
    assert_eq!(output("tar", &["-tzf", blob]), b"plugin.wasm\n");
    output("tar", &["-xzf", blob, "-C", &unpacked]);
    let module = fs::read(format!("{unpacked}/plugin.wasm")).expect("the module");
    assert!(module == fs::read(format!("{ROOT}/dist/slidegate-higress.wasm")).expect("just build"), "the very bytes");
}

#[test]
fn the_image_is_a_docker_image_too() {
    let scratch = Scratch::new();
    let (layout, archive) = (scratch.path("oci"), scratch.path("image.tar"));
    package(&layout);
    let image = format!("oci:{layout}:{}", env!("CARGO_PKG_VERSION"));
    output("skopeo", &["copy", "--insecure-policy", &image, &format!("docker-archive:{archive}:slidegate:1")]);
    output("skopeo", &["inspect", &format!("docker-archive:{archive}")]);
}

#[test]
fn an_image_is_the_same_each_time_and_takes_the_place_of_the_last() {
    let scratch = Scratch::new();
    let (first, second) = (scratch.path("first"), scratch.path("second"));
    package(&first);
    fs::write(format!("{first}/blobs/sha256/old"), "of an earlier image").expect("a file");
    package(&first);
    package(&second);
    assert_eq!(output("diff", &["-r", &first, &second]), b"");
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let scratch = Scratch::new();
    let file = scratch.path("keep");
    fs::write(&file, "mine").expect("a file");
    let [module, cargo_toml] = [format!("{ROOT}/dist/slidegate-higress.wasm"), format!("{ROOT}/Cargo.toml")];
    let directory = scratch.0.to_str().expect("a path in UTF-8");
    let output = run("python3", &[PACKAGE, &module, &cargo_toml, directory]);
    assert_eq!((output.status.code(), fs::read(&file).expect("the file").as_slice()), (Some(1), b"mine".as_slice()));
}

// === The manifests ===

#[test]
fn the_six_manifests_carry_the_documented_configurations() {
    for (name, config) in documented::ALL {
        let manifest = manifest(name);
        assert_eq!(manifest["spec"]["defaultConfig"], yaml(config), "{name}");
        assert_eq!(plugin_document(&manifest), yaml(config), "{name}");
        assert_eq!(accepted(&plugin_document(&manifest)), [""; 0], "{name}");
    }
}

#[test]
fn the_manifest_with_rules_chooses_by_route_domain_and_service() {
    let document = plugin_document(&manifest("match-rules"));
    assert_eq!(accepted(&document), [""; 0]);
    let rules = document["_rules_"].as_array().expect("rules");
    let matches =
        |rule: &Value| ["_match_route_", "_match_domain_", "_match_service_"].map(|name| !rule[name].is_null());
    let matches: Vec<[bool; 3]> = rules.iter().map(matches).collect();
    assert_eq!(matches, [[true, false, false], [true, false, true], [false, true, false], [false, false, true]]);
    assert_eq!(document["rule_name"], "everything-else");
}

#[test]
fn the_manifest_of_tokens_limits_requests_beside_them() {
    let document = plugin_document(&manifest("tokens"));
    assert_eq!(accepted(&document), [""; 0]);
    let keys = &document["rule_items"][0]["limit_keys"];
    assert_eq!((&keys[0]["key"], &keys[1]["key"]), (&json!("batch"), &json!("*")));
    assert!(keys[1]["token_per_minute"].is_number() && keys[1]["query_per_minute"].is_number());
}

#[test]
fn every_manifest_is_a_resource_at_stocks_place_in_the_chain() {
    let mut names = Vec::new();
    for file in fs::read_dir(DEPLOY).expect("the directory") {
        let path = file.expect("a file").path();
        let is_manifest = path.extension().is_some_and(|extension| extension == "yaml");
        if !is_manifest || path.ends_with(CONSOLE_FORM) {
            continue;
        }
        let resource = yaml(&fs::read_to_string(&path).expect("the manifest"));
        assert_eq!(
            (&resource["apiVersion"], &resource["kind"]),
            (&json!("extensions.higress.io/v1alpha1"), &json!("WasmPlugin"))
        );
        let priority = if path.ends_with(TOKENS) { 600 } else { 20 };
        assert_eq!(
            (&resource["spec"]["priority"], &resource["spec"]["phase"]),
            (&json!(priority), &json!("UNSPECIFIED_PHASE"))
        );
        accepted(&plugin_document(&resource));
        names.push(resource["metadata"]["name"].as_str().expect("a name").to_owned());
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), documented::ALL.len() + 2, "a manifest nobody checks, or two of one name: {names:?}");
}
