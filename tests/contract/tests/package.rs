//! What registries of components hold: the component and the contract as OCI artifacts, of the form that `wkg` reads.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

use serde_json::{Value, json};
use slidegate_contract_tests::{contract, description, package, root};
use wit_component::DecodedWasm;

/// A directory that goes when the test does.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("slidegate-artifact-{}-{test}", process::id()));
        fs::create_dir(&directory).expect("a new directory");
        Scratch(directory)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a path in UTF-8").to_owned()
    }

    /// Writes an artifact, and returns where.
    fn artifact(&self, name: &str, wasm: &[u8]) -> String {
        let [file, described, layout] =
            [format!("{name}.wasm"), format!("{name}.json"), name.to_owned()].map(|name| self.path(&name));
        fs::write(&file, wasm).expect("a file");
        fs::write(&described, description(wasm).expect("a component").to_string()).expect("a file");
        let [script, crates] =
            ["guest/package/component.py", "Cargo.toml"].map(|path| root().join(path).display().to_string());
        succeeded("python3", &[&script, &file, &described, &crates, &layout]);
        layout
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Standard output of a program that succeeds.
fn succeeded(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn component() -> Vec<u8> {
    fs::read(root().join("dist/slidegate.wasm")).expect("`just build` made the component")
}

fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
}

/// What a client has that asks for an artifact: the manifest, the config, and the file.
fn pulled(scratch: &Scratch, layout: &str, version: &str) -> (Value, Value, Vec<u8>) {
    let (image, copy) = (format!("oci:{layout}:{version}"), scratch.path("copy"));
    let inspected: Value = serde_json::from_slice(&succeeded("skopeo", &["inspect", "--raw", &image])).expect("JSON");
    succeeded("skopeo", &["copy", "--insecure-policy", &image, &format!("dir:{copy}")]);
    let manifest = json_file(&Path::new(&copy).join("manifest.json"));
    assert_eq!(manifest, inspected);
    let blob = |digest: &Value| {
        let name = digest.as_str().and_then(|digest| digest.strip_prefix("sha256:")).expect("a digest");
        let path = Path::new(&copy).join(name);
        let sum = succeeded("sha256sum", &[path.to_str().expect("a path in UTF-8")]);
        assert!(String::from_utf8_lossy(&sum).starts_with(name), "the content is what its digest says");
        path
    };
    let config = json_file(&blob(&manifest["config"]["digest"]));
    let file = fs::read(blob(&manifest["layers"][0]["digest"])).expect("the layer");
    (manifest, config, file)
}

fn assert_is_artifact(manifest: &Value, config: &Value) {
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    let [layer] = manifest["layers"].as_array().expect("layers").as_slice() else { panic!("one layer: {manifest}") };
    assert_eq!(layer["mediaType"], "application/wasm");
    assert_eq!((&config["architecture"], &config["os"]), (&json!("wasm"), &json!("wasip2")));
    assert_eq!(config["layerDigests"], json!([layer["digest"]]));
}

#[test]
fn the_component_is_an_artifact() {
    let scratch = Scratch::new("component");
    let wasm = component();
    let layout = scratch.artifact("component", &wasm);
    let (manifest, config, file) = pulled(&scratch, &layout, env!("CARGO_PKG_VERSION"));
    assert_is_artifact(&manifest, &config);
    assert!(file == wasm, "the very bytes");
    assert_eq!(config["component"]["exports"], json!(["slidegate:filter/filter@0.2.0"]));
    let imports = config["component"]["imports"].as_array().expect("names of interfaces");
    let is_ours = |name: &Value| name.as_str().is_some_and(|name| name.starts_with("slidegate:filter/"));
    assert!(!imports.is_empty() && imports.iter().all(is_ours), "no WASI: {imports:?}");
}

#[test]
fn the_contract_is_an_artifact_with_all_that_it_says() {
    let scratch = Scratch::new("contract");
    let layout = scratch.artifact("contract", &package());
    let (manifest, config, file) = pulled(&scratch, &layout, "0.2.0");
    assert_is_artifact(&manifest, &config);
    assert_eq!(manifest["annotations"]["org.opencontainers.image.title"], "slidegate:filter");
    let exports = config["component"]["exports"].as_array().expect("names of interfaces and worlds");
    assert!(exports.contains(&json!("slidegate:filter/slidegate@0.2.0")), "{exports:?}");
    assert!(exports.contains(&json!("slidegate:filter/redis@0.2.0")), "{exports:?}");

    let (source, _) = contract();
    let Ok(DecodedWasm::WitPackage(packed, _)) = wit_component::decode(&file) else { panic!("a package of WIT") };
    let functions = |types: &wit_parser::Resolve| {
        let mut found: Vec<_> = types
            .interfaces
            .iter()
            .flat_map(|(_, interface)| interface.functions.values())
            .map(|function| (function.name.clone(), function.docs.contents.clone()))
            .collect();
        found.sort();
        found
    };
    assert!(functions(&source).len() > 25);
    assert_eq!(functions(&packed), functions(&source));
}

#[test]
fn an_artifact_is_the_same_each_time_and_takes_the_place_of_the_last() {
    let scratch = Scratch::new("twice");
    let first = scratch.artifact("first", &package());
    fs::write(format!("{first}/blobs/sha256/old"), "of an earlier one").expect("a file");
    scratch.artifact("first", &package());
    let second = scratch.artifact("second", &package());
    assert_eq!(succeeded("diff", &["-r", &first, &second]), b"");
}

#[test]
fn what_is_no_component_is_an_error_in_words() {
    let module = b"\0asm\x01\0\0\0";
    assert_eq!(description(module), Err("this is no WebAssembly component".to_owned()));
    assert!(description(&component()[..1000]).is_err_and(|error| !error.is_empty()));
    let scratch = Scratch::new("module");
    let file = scratch.path("module.wasm");
    fs::write(&file, module).expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_contract")).args(["describe", &file]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), format!("error: {file}: this is no WebAssembly component\n"));
}
