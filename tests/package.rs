//! What an operator deploys: the image, the WasmPlugin manifests, and the script that turns stock's into ours.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{self, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::{Map, Value, json};
use slidegate_engine::Engine;
use slidegate_tests::documented;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../guest/shim/deploy");
const IMAGE: &str = "oci://registry.example.net/gateway/slidegate:1";

const DOCUMENTED: [(&str, &str); 6] = [
    ("global", documented::GLOBAL),
    ("param", documented::PARAM),
    ("header", documented::HEADER),
    ("client-ip", documented::CLIENT_IP),
    ("consumer", documented::CONSUMER),
    ("cookie", documented::COOKIE),
];

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

fn run(program: &str, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    // One that ends without reading it all closes the pipe.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("its output")
}

/// Standard output of a program that succeeds.
fn output(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = run(program, arguments, "");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn manifest(name: &str) -> Value {
    yaml(&fs::read_to_string(format!("{DEPLOY}/{name}.yaml")).expect("the manifest"))
}

/// The document that Higress makes of a resource for the plugin.
fn plugin_document(resource: &Value) -> Value {
    let spec = &resource["spec"];
    if !spec["pluginConfig"].is_null() {
        return spec["pluginConfig"].clone();
    }
    let is_set = |flag: &Value| flag.as_bool() == Some(true);
    let mut document = match &spec["defaultConfig"] {
        Value::Object(config) if !is_set(&spec["defaultConfigDisable"]) => config.clone(),
        _ => Map::new(),
    };
    let rules = spec["matchRules"].as_array().into_iter().flatten().filter(|rule| !is_set(&rule["configDisable"]));
    let rules: Vec<Value> = rules.map(plugin_rule).collect();
    if !rules.is_empty() {
        document.insert("_rules_".to_owned(), Value::Array(rules));
    }
    Value::Object(document)
}

fn plugin_rule(rule: &Value) -> Value {
    let mut config = rule["config"].as_object().cloned().unwrap_or_default();
    for (field, name) in [("ingress", "_match_route_"), ("domain", "_match_domain_"), ("service", "_match_service_")] {
        if rule[field].as_array().is_some_and(|names| !names.is_empty()) {
            config.insert(name.to_owned(), rule[field].clone());
        }
    }
    Value::Object(config)
}

/// The engine's oddities in a document that it accepts.
fn accepted(document: &Value) -> Vec<String> {
    match Engine::configure(document.to_string().as_bytes()) {
        Ok(engine) => engine.configuration().warnings.clone(),
        Err(errors) => panic!("{document:#}\n{errors:?}"),
    }
}

/// A resource of the stock plugin around a default configuration.
fn stock(config: &Value) -> Value {
    resource(json!({"defaultConfig": config}))
}

fn resource(mut spec: Value) -> Value {
    spec["url"] = "oci://registry.example.net/plugins/cluster-key-rate-limit:1.0.0".into();
    let metadata = json!({"name": "limits", "namespace": "higress-system", "uid": "f00d", "labels": {"team": "a"}});
    json!({"apiVersion": "extensions.higress.io/v1alpha1", "kind": "WasmPlugin", "metadata": metadata, "spec": spec})
}

fn migrate(input: &str) -> Output {
    run("python3", &[&format!("{DEPLOY}/migrate.py"), "--image", IMAGE], input)
}

/// The resource that the script makes, which the engine accepts, and what the script says.
fn migrated(old: &Value) -> (Value, String) {
    let output = migrate(&old.to_string());
    let told = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(output.status.success(), "{told}");
    let new = yaml(&String::from_utf8(output.stdout).expect("UTF-8"));
    accepted(&plugin_document(&new));
    assert_eq!(new["spec"]["url"], IMAGE);
    (new, told)
}

/// What the script says when it refuses; it writes nothing then.
fn refused(old: &Value) -> String {
    let output = migrate(&old.to_string());
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{old:#}");
    let told = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(told.contains("REFUSED") && !told.contains("Traceback"), "{told}");
    told
}

fn global() -> Value {
    json!({"rule_name": "r", "global_threshold": {"query_per_second": 5}, "redis": {"service_name": "redis.static"}})
}

fn by(kind: &str, name: &str, entry: &Value) -> Value {
    json!({"rule_name": "r", "rule_items": [{kind: name, "limit_keys": [entry]}], "redis": {"service_name": "redis.static"}})
}

fn changed(mut config: Value, change: impl FnOnce(&mut Value)) -> Value {
    change(&mut config);
    config
}

fn sha256(file: &Path) -> String {
    let line = output("sha256sum", &[file.to_str().expect("a path in UTF-8")]);
    String::from_utf8_lossy(&line).split_whitespace().next().expect("a sum").to_owned()
}

// === The image ===

fn package(directory: &str) {
    let [module, cargo_toml] = [format!("{ROOT}/dist/slidegate-higress.wasm"), format!("{ROOT}/Cargo.toml")];
    output("python3", &[&format!("{DEPLOY}/package.py"), &module, &cargo_toml, directory]);
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
    let manifest: Value = serde_json::from_slice(&fs::read(format!("{copy}/manifest.json")).expect("a manifest")).expect("JSON");
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
    let output = run("python3", &[&format!("{DEPLOY}/package.py"), &module, &cargo_toml, directory], "");
    assert_eq!((output.status.code(), fs::read(&file).expect("the file").as_slice()), (Some(1), b"mine".as_slice()));
}

// === The manifests ===

#[test]
fn the_six_manifests_carry_the_documented_configurations() {
    for (name, config) in DOCUMENTED {
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
    let matches = |rule: &Value| ["_match_route_", "_match_domain_", "_match_service_"].map(|name| !rule[name].is_null());
    let matches: Vec<[bool; 3]> = rules.iter().map(matches).collect();
    assert_eq!(matches, [[true, false, false], [true, false, true], [false, true, false], [false, false, true]]);
    assert_eq!(document["rule_name"], "everything-else");
}

#[test]
fn every_manifest_is_a_resource_at_stocks_place_in_the_chain() {
    let mut names = Vec::new();
    for file in fs::read_dir(DEPLOY).expect("the directory") {
        let path = file.expect("a file").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let resource = yaml(&fs::read_to_string(&path).expect("the manifest"));
        assert_eq!((&resource["apiVersion"], &resource["kind"]), (&json!("extensions.higress.io/v1alpha1"), &json!("WasmPlugin")));
        assert_eq!((&resource["spec"]["priority"], &resource["spec"]["phase"]), (&json!(20), &json!("UNSPECIFIED_PHASE")));
        accepted(&plugin_document(&resource));
        names.push(resource["metadata"]["name"].as_str().expect("a name").to_owned());
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), DOCUMENTED.len() + 1, "a manifest nobody checks, or two of one name: {names:?}");
}

// === Stock's resources made ours ===

#[test]
fn the_documented_ones_stay_as_they_are() {
    for (name, config) in DOCUMENTED {
        let (new, told) = migrated(&stock(&yaml(config)));
        assert_eq!(new["spec"]["defaultConfig"], yaml(config), "{name}");
        assert_eq!(new["metadata"], json!({"name": "limits", "namespace": "higress-system", "labels": {"team": "a"}}));
        assert!(told.contains("windows slide") && told.contains("counts begin at 0"), "{told}");
    }
}

#[test]
fn what_stock_reads_loosely_becomes_what_it_made_of_it() {
    let item = json!([{"limit_by_header": "a", "limit_by_param": "b", "limit_keys": {"key": "k", "query_per_day": 1}}]);
    let chosen = json!([{"limit_by_param": "b", "limit_keys": [{"key": "k", "query_per_day": 1}]}]);
    let several = json!({"query_per_second": "5", "query_per_minute": 60.9, "query_per_hour": 0});
    let table = [
        (changed(by("limit_by_param", "b", &json!({})), |c| c["rule_items"] = item), "rule_items", chosen, "the latter only"),
        (
            changed(global(), |c| c["global_threshold"] = several),
            "global_threshold",
            json!({"query_per_second": 5, "query_per_minute": 60}),
            "all of them are enforced",
        ),
        (changed(global(), |c| c["rule_nmae"] = json!(1)), "rule_nmae", Value::Null, "stock does not read it"),
        (changed(global(), |c| c["dry_run"] = json!(true)), "dry_run", Value::Null, "would obey it"),
        (changed(global(), |c| c["rule_name"] = Value::Null), "rule_name", json!(""), "windows slide"),
        (changed(global(), |c| c["rejected_code"] = json!("no")), "rejected_code", Value::Null, "now 429"),
        (changed(global(), |c| c["rejected_msg"] = Value::Null), "rejected_msg", json!(""), "windows slide"),
        (changed(global(), |c| c["show_limit_quota_header"] = json!("maybe")), "show_limit_quota_header", json!(false), "false to stock"),
        (changed(global(), |c| c["show_limit_quota_header"] = json!(0.5)), "show_limit_quota_header", json!(true), "windows slide"),
        (
            changed(global(), |c| c["redis"]["timeout"] = json!(9e9)),
            "redis",
            json!({"service_name": "redis.static", "timeout": 3_600_000}),
            "an hour at most",
        ),
        (changed(global(), |c| c["redis"]["service_port"] = json!("x")), "redis", json!({"service_name": "redis.static"}), "written as 0"),
    ];
    for (config, field, expected, sentence) in table {
        let (new, told) = migrated(&stock(&config));
        assert_eq!(new["spec"]["defaultConfig"][field], expected);
        assert!(told.contains(sentence), "{sentence} is not in {told}");
    }
}

#[test]
fn texts_that_look_like_numbers_or_flags_stay_texts() {
    for text in ["1e3", "123e45", "+1e3", "089", "0o17", "1_0e3", "0x1f", "12:30", "1.5", ".5", "y", "N", "yes", "null", "~", "2024-01-01"]
    {
        let config =
            changed(by("limit_by_header", "x", &json!({"key": text, "query_per_day": 1})), |c| c["redis"]["password"] = json!(text));
        let output = migrate(&stock(&config).to_string());
        let new = String::from_utf8(output.stdout).expect("UTF-8");
        // Readers of YAML differ in what they take for a number, so the quotes are looked for.
        for field in ["key", "password"] {
            assert!(new.contains(&format!("{field}: '{text}'\n")), "{field} {text}: {new}");
        }
        assert_eq!(yaml(&new)["spec"]["defaultConfig"], config);
    }
    let (new, _) = migrated(&stock(&changed(global(), |c| c["rule_name"] = json!(1.5))));
    assert_eq!(new["spec"]["defaultConfig"]["rule_name"], json!(1.5), "a number stays one");
}

#[test]
fn networks_mean_what_they_meant() {
    let key = |key: &str| by("limit_by_per_ip", "from-remote-addr", &json!({"key": key, "query_per_day": 1}));
    for (written, expected, sentence) in [
        ("10.0.0.0/40", "0.0.0.0/0", "every address to stock"),
        ("1.2.3.4/", "0.0.0.0/0", "every address to stock"),
        ("10.1.2.3/8", "10.1.2.3/8", "windows slide"),
        ("2001:db8::/32", "2001:db8::/32", "IPv6 addresses only"),
    ] {
        let (new, told) = migrated(&stock(&key(written)));
        assert_eq!(new["spec"]["defaultConfig"]["rule_items"][0]["limit_keys"][0]["key"], expected);
        assert!(told.contains(sentence), "{told}");
    }
    for wrong in ["10.0.0.256", "10.0.0", "::1%eth0", "::1/129", "localhost"] {
        assert!(refused(&stock(&key(wrong))).contains("invalid IP"), "{wrong}");
    }
}

#[test]
fn a_wrong_default_beside_rules_is_dropped_as_stock_does_but_told() {
    let rules = json!([{"domain": ["Api.example.net"], "config": global()}, {"ingress": ["x"], "config": {}, "configDisable": true}]);
    let wrong = json!({"rule_name": "r", "redis": {"service_name": "redis.static"}});
    let (new, told) = migrated(&resource(json!({"defaultConfig": wrong, "matchRules": rules})));
    assert_eq!((&new["spec"]["defaultConfig"], &new["spec"]["defaultConfigDisable"]), (&Value::Null, &json!(true)));
    assert!(told.contains("silently") && told.contains("upper and lower case"), "{told}");
    assert_eq!(new["spec"]["matchRules"][1], rules[1], "disabled");
    let (new, told) = migrated(&resource(json!({"defaultConfig": wrong, "defaultConfigDisable": true, "matchRules": rules})));
    assert_eq!(new["spec"]["defaultConfig"], wrong);
    assert!(told.contains("spec.defaultConfig: is disabled and left as it was"), "{told}");
}

#[test]
fn the_rest_of_the_resource_is_kept_but_for_what_is_of_the_old_image() {
    let spec = json!({"pluginConfig": {"_rules_": [changed(global(), |c| c["_match_route_prefix_"] = json!("a-"))]},
        "matchRules": [{"ingress": ["x"], "config": {}}], "sha256": "0123", "imagePullSecret": "s", "priority": 7, "phase": "AUTHZ"});
    let (new, told) = migrated(&resource(spec));
    assert_eq!(new["spec"]["pluginConfig"]["_rules_"][0]["_match_route_prefix_"], json!(["a-"]));
    assert_eq!((&new["spec"]["priority"], &new["spec"]["phase"]), (&json!(7), &json!("AUTHZ")));
    assert_eq!((&new["spec"]["sha256"], &new["spec"]["matchRules"]), (&Value::Null, &Value::Null));
    for sentence in ["that of the old image", "new image's registry", "FAIL_CLOSE", "beside `pluginConfig`"] {
        assert!(told.contains(sentence), "{sentence} is not in {told}");
    }
}

#[test]
fn a_list_and_yaml_are_read_as_kubernetes_does() {
    let item = |name: &str| {
        format!(
            "- kind: WasmPlugin\n  apiVersion: extensions.higress.io/v1alpha1\n  metadata: {{name: {name}}}\n  spec:\n    url: oci://x/cluster-key-rate-limit:1\n    defaultConfig: {{rule_name: 12:30, rule_items: [{{limit_by_header: x, limit_keys: [{{key: 2024-01-01, query_per_day: 1}}]}}], redis: {{service_name: r.dns}}}}\n"
        )
    };
    let output = migrate(&format!("kind: List\nitems:\n{}{}", item("one"), item("two")));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let resources: Vec<Value> = text.split("---\n").map(yaml).collect();
    assert_eq!(resources.len(), 2);
    for resource in resources {
        let config = plugin_document(&resource);
        accepted(&config);
        assert_eq!((&config["rule_name"], &config["rule_items"][0]["limit_keys"][0]["key"]), (&json!("12:30"), &json!("2024-01-01")));
    }
}

#[test]
fn what_cannot_be_done_is_refused_with_its_reason() {
    let key = |key: &str| by("limit_by_per_header", "x", &json!({"key": key, "query_per_day": 1}));
    let tokens = changed(global(), |c| c["global_threshold"] = json!({"token_per_minute": 5}));
    for (config, reason) in [
        (key(r"regexp:^\p{L}+$"), "list the ranges"),
        (key("regexp:a(?i)*"), "repeated group of flags"),
        (key("plain"), "does not start with this either"),
        (tokens, "does not count yet"),
        (by("limit_by_header", ":scheme", &json!({"key": "k", "query_per_day": 1})), "no header has such a name"),
        (changed(global(), |c| c["redis"]["service_name"] = json!("redis://:secret@h")), "is no service's name"),
        (changed(global(), |c| c["rule_items"] = json!([])), "expected one of `global_threshold` and `rule_items`"),
        (json!({"rule_name": "r", "global_threshold": {"query_per_day": 1}}), "missing redis"),
        (json!({}), "missing redis"),
    ] {
        let told = refused(&stock(&config));
        assert!(told.contains(reason) && !told.contains("secret"), "{reason} is not in {told}");
    }
    let (escaped, _) = migrated(&stock(&key(r"regexp:^\\p$")));
    assert_eq!(escaped["spec"]["defaultConfig"], key(r"regexp:^\\p$"), "an escaped backslash, and a letter");
    let other = changed(stock(&global()), |c| c["spec"]["url"] = json!("oci://x/ai-token-ratelimit:1"));
    assert!(refused(&other).contains("side by side"));
    assert!(refused(&changed(stock(&global()), |c| c["spec"]["url"] = json!("oci://x/key-auth:1"))).contains("names neither"));
    let nameless = json!({"matchRules": [{"ingress": [""], "config": global()}]});
    assert!(refused(&resource(nameless)).contains("expected `ingress`, `domain` or `service`"));
    assert!(refused(&json!({"kind": "Service", "metadata": {"name": "x"}, "spec": {}})).contains("no WasmPlugin"));
}
