//! `slidegate migrate`: resources of the stock plugins made ours, by the binary as it ships.

#[path = "migrate/tokens.rs"]
mod tokens;

use std::{fs, process::Output};

use serde_json::{Value, json};
use slidegate_tests::{
    documented,
    gateway_process::run_with,
    plugin_resource::{accepted, plugin_document, yaml},
};

const IMAGE: &str = "oci://registry.example.net/gateway/slidegate:1";
const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/migrate");

/// A resource of the stock plugin around a default configuration.
fn stock(config: &Value) -> Value {
    resource(json!({"defaultConfig": config}))
}

fn resource(mut spec: Value) -> Value {
    spec["url"] = "oci://registry.example.net/plugins/cluster-key-rate-limit:1.0.0".into();
    let metadata = json!({"name": "limits", "namespace": "higress-system", "uid": "f00d", "labels": {"team": "a"}});
    json!({"apiVersion": "extensions.higress.io/v1alpha1", "kind": "WasmPlugin", "metadata": metadata, "spec": spec})
}

fn migrate(input: &str, args: &[&str]) -> Output {
    run_with(&[&["migrate", "--image", IMAGE], args].concat(), &[], input.as_bytes())
}

/// The resource that it makes, which the engine accepts, and what it says.
fn migrated(old: &Value) -> (Value, String) {
    migrated_with(old, &[])
}

fn migrated_with(old: &Value, args: &[&str]) -> (Value, String) {
    let output = migrate(&old.to_string(), args);
    let told = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(output.status.success(), "{told}");
    let new = yaml(&String::from_utf8(output.stdout).expect("UTF-8"));
    accepted(&plugin_document(&new));
    assert_eq!(new["spec"]["url"], IMAGE);
    (new, told)
}

/// What it says when it refuses; it writes nothing then.
fn refused(old: &Value) -> String {
    refused_with(old, &[])
}

fn refused_with(old: &Value, args: &[&str]) -> String {
    let output = migrate(&old.to_string(), args);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{old:#}");
    let told = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(told.contains("REFUSED") && told.contains("nothing is written") && !told.contains("panic"), "{told}");
    told
}

fn global() -> Value {
    json!({"rule_name": "r", "global_threshold": {"query_per_second": 5}, "redis": {"service_name": "redis.static"}})
}

fn by(kind: &str, name: &str, entry: &Value) -> Value {
    json!({"rule_name": "r", "rule_items": [{kind: name, "limit_keys": [entry]}],
        "redis": {"service_name": "redis.static"}})
}

fn changed(mut config: Value, change: impl FnOnce(&mut Value)) -> Value {
    change(&mut config);
    config
}

#[test]
fn the_documented_ones_stay_as_they_are() {
    for (name, config) in documented::ALL {
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
        (
            changed(by("limit_by_param", "b", &json!({})), |c| c["rule_items"] = item),
            "rule_items",
            chosen,
            "the latter only",
        ),
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
        (
            changed(global(), |c| c["show_limit_quota_header"] = json!("maybe")),
            "show_limit_quota_header",
            json!(false),
            "false to stock",
        ),
        (
            changed(global(), |c| c["show_limit_quota_header"] = json!(0.5)),
            "show_limit_quota_header",
            json!(true),
            "windows slide",
        ),
        (
            changed(global(), |c| c["redis"]["timeout"] = json!(9e9)),
            "redis",
            json!({"service_name": "redis.static", "timeout": 3_600_000}),
            "an hour at most",
        ),
        (
            changed(global(), |c| c["redis"]["service_port"] = json!("x")),
            "redis",
            json!({"service_name": "redis.static"}),
            "written as 0",
        ),
    ];
    for (config, field, expected, sentence) in table {
        let (new, told) = migrated(&stock(&config));
        assert_eq!(new["spec"]["defaultConfig"][field], expected);
        assert!(told.contains(sentence), "{sentence} is not in {told}");
    }
}

#[test]
fn texts_that_look_like_numbers_or_flags_stay_texts() {
    for text in [
        "1e3",
        "123e45",
        "+1e3",
        "089",
        "0o17",
        "1_0e3",
        "0x1f",
        "12:30",
        "1.5",
        ".5",
        "y",
        "N",
        "yes",
        "null",
        "~",
        "2024-01-01",
    ] {
        let config = changed(by("limit_by_header", "x", &json!({"key": text, "query_per_day": 1})), |c| {
            c["redis"]["password"] = json!(text)
        });
        let output = migrate(&stock(&config).to_string(), &[]);
        let new = String::from_utf8(output.stdout).expect("UTF-8");
        // Readers of YAML differ in what they take for a number, so the quotes are looked for.
        for field in ["key", "password"] {
            assert!(new.contains(&format!("{field}: \"{text}\"\n")), "{field} {text}: {new}");
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
    let rules = json!([{"domain": ["Api.example.net"], "config": global()},
        {"ingress": ["x"], "config": {}, "configDisable": true}]);
    let wrong = json!({"rule_name": "r", "redis": {"service_name": "redis.static"}});
    let (new, told) = migrated(&resource(json!({"defaultConfig": wrong, "matchRules": rules})));
    assert_eq!((&new["spec"]["defaultConfig"], &new["spec"]["defaultConfigDisable"]), (&Value::Null, &json!(true)));
    assert!(told.contains("silently") && told.contains("upper and lower case"), "{told}");
    assert_eq!(new["spec"]["matchRules"][1], rules[1], "disabled");
    let (new, told) =
        migrated(&resource(json!({"defaultConfig": wrong, "defaultConfigDisable": true, "matchRules": rules})));
    assert_eq!(new["spec"]["defaultConfig"], wrong);
    assert!(told.contains("spec.defaultConfig: is disabled and left as it was"), "{told}");
}

#[test]
fn the_rest_of_the_resource_is_kept_but_for_what_is_of_the_old_image() {
    let spec = json!({"pluginConfig": {"_rules_": [changed(global(), |c| c["_match_route_prefix_"] = json!("a-"))]},
        "matchRules": [{"ingress": ["x"], "config": {}}], "sha256": "0123", "imagePullSecret": "s", "priority": 7,
            "phase": "AUTHZ"});
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
            "- kind: WasmPlugin\n  apiVersion: extensions.higress.io/v1alpha1\n  metadata: {{name: {name}}}\n  \
             spec:\n    url: oci://x/cluster-key-rate-limit:1\n    defaultConfig: {{rule_name: 12:30, rule_items: \
             [{{limit_by_header: x, limit_keys: [{{key: 2024-01-01, query_per_day: 1}}]}}], redis: {{service_name: \
             r.dns}}}}\n"
        )
    };
    let output = migrate(&format!("apiVersion: v1\nkind: List\nitems:\n{}{}", item("one"), item("two")), &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let resources: Vec<Value> = text.split("---\n").map(yaml).collect();
    assert_eq!(resources.len(), 2);
    for resource in resources {
        let config = plugin_document(&resource);
        accepted(&config);
        assert_eq!(
            (&config["rule_name"], &config["rule_items"][0]["limit_keys"][0]["key"]),
            (&json!("12:30"), &json!("2024-01-01"))
        );
    }
}

#[test]
fn what_cannot_be_done_is_refused_with_its_reason() {
    let key = |key: &str| by("limit_by_per_header", "x", &json!({"key": key, "query_per_day": 1}));
    let tokens = changed(global(), |c| c["global_threshold"] = json!({"token_per_minute": 5}));
    for (config, reason) in [
        (key(r"regexp:^\p{L}+$"), "list the characters or ranges"),
        (key("regexp:a(?i)*"), "missing argument to repetition operator"),
        (key("plain"), "does not start with this either"),
        (tokens, "expected one of query_per_second"),
        (by("limit_by_header", ":scheme", &json!({"key": "k", "query_per_day": 1})), "no header has such a name"),
        (changed(global(), |c| c["redis"]["service_name"] = json!("redis://:secret@h")), "is no service's name"),
        (changed(global(), |c| c["rule_items"] = json!([])), "rule_items cannot be empty"),
        (
            json!({"rule_name": "r", "redis": {"service_name": "r"}}),
            "expected one of `global_threshold` and `rule_items`",
        ),
        (json!({"rule_name": "r", "global_threshold": {"query_per_day": 1}}), "missing redis"),
        (json!({}), "missing redis"),
    ] {
        let told = refused(&stock(&config));
        assert!(told.contains(reason) && !told.contains("secret"), "{reason} is not in {told}");
    }
    let (escaped, _) = migrated(&stock(&key(r"regexp:^\\p$")));
    assert_eq!(escaped["spec"]["defaultConfig"], key(r"regexp:^\\p$"), "an escaped backslash, and a letter");
    let nameless = json!({"matchRules": [{"ingress": [""], "config": global()}]});
    assert!(refused(&resource(nameless)).contains("expected `ingress`, `domain` or `service`"));
}

// === Releases ===

/// Three limits on one address: up to 2.2.3 only the first of them counts, from 2.2.4 on all three.
fn three() -> Value {
    let item = |unit: &str, count: u32| {
        json!({"limit_by_per_ip": "from-remote-addr",
        "limit_keys": [{"key": "0.0.0.0/0", unit: count}]})
    };
    let items = [item("query_per_second", 2), item("query_per_minute", 20), item("query_per_day", 40)];
    json!({"rule_name": "r", "rule_items": items, "redis": {"service_name": "redis.static"}})
}

#[test]
fn several_rules_mean_what_the_release_makes_of_them() {
    let (new, told) = migrated(&stock(&three()));
    assert_eq!(new["spec"]["defaultConfig"]["rule_match"], Value::Null);
    assert!(
        told.contains("spec.defaultConfig: has 3 `rule_items`, which mean two things")
            && told.contains("--release 2.2.4"),
        "{told}"
    );
    let (old, told) = migrated_with(&stock(&three()), &["--release", "2.2.3"]);
    assert_eq!(old["spec"]["defaultConfig"], three());
    assert!(!told.contains("mean two things"), "{told}");
    let (new, told) = migrated_with(&stock(&three()), &["--release", "2.2.4"]);
    assert_eq!(new["spec"]["defaultConfig"]["rule_match"], "all");
    assert!(told.contains("written with `rule_match: all`") && told.contains("uses up none of the others"), "{told}");
    let one = by("limit_by_cookie", "sid", &json!({"key": "k", "query_per_day": 1}));
    let (new, told) = migrated_with(&stock(&one), &["--release", "2.2.4"]);
    assert_eq!(new["spec"]["defaultConfig"], one);
    assert!(!told.contains("cuts it at the first"), "cookies are read whole from 2.2.4 on: {told}");
    let rules = resource(json!({"matchRules": [{"ingress": ["a"], "config": three()}], "defaultConfigDisable": true}));
    let (_, told) = migrated(&rules);
    assert!(told.contains("spec.matchRules[0].config: has 3 `rule_items`, which mean two things"), "{told}");
    assert_eq!(
        migrated_with(&rules, &["--release", "2.2.4"]).0["spec"]["matchRules"][0]["config"]["rule_match"],
        "all"
    );
}

#[test]
fn a_threshold_beside_rules_and_more_than_ten_rules_tell_the_release() {
    let both = changed(three(), |c| c["global_threshold"] = json!({"query_per_second": 9}));
    let (new, told) = migrated(&stock(&both));
    assert_eq!(
        (&new["spec"]["defaultConfig"]["rule_match"], &new["spec"]["defaultConfig"]["global_threshold"]),
        (&json!("all"), &both["global_threshold"])
    );
    assert!(told.contains("as only releases from 2.2.4 on allow"), "{told}");
    assert!(refused_with(&stock(&both), &["--release", "2.2.3"]).contains("for releases from 2.2.4 on"));
    let item =
        |at: usize| json!({"limit_by_header": format!("x-{at}"), "limit_keys": [{"key": "k", "query_per_day": 1}]});
    let eleven = changed(three(), |c| c["rule_items"] = (0..11).map(item).collect());
    let (new, told) = migrated(&stock(&eleven));
    assert_eq!(new["spec"]["defaultConfig"], eleven);
    assert!(told.contains("as only releases up to 2.2.3 allow"), "{told}");
    assert!(
        refused_with(&stock(&eleven), &["--release", "2.2.4"]).contains("expected at most 10 `rule_items`, got 11")
    );
    assert!(
        refused(&stock(&changed(eleven, |c| c["global_threshold"] = json!({"query_per_day": 1}))))
            .contains("at most 10")
    );
    let wrong = migrate("", &["--release", "2.2.5"]);
    assert_eq!(wrong.status.code(), Some(2));
}

// === What else is in a file ===

#[test]
fn other_resources_are_left_out_by_name_and_hinder_nothing() {
    let named = |url: &str, name: &str| {
        changed(stock(&global()), |c| {
            c["spec"]["url"] = json!(url);
            c["metadata"]["name"] = json!(name);
        })
    };
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"}});
    let items = [
        service.clone(),
        named("oci://x/key-auth:1", "auth"),
        named("oci://x/ai-quota:1", "balances"),
        stock(&global()),
    ];
    let output = migrate(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string(), &[]);
    let told = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert_eq!(yaml(&String::from_utf8(output.stdout).expect("UTF-8"))["metadata"]["name"], "limits");
    for sentence in [
        "Service default/web: left out: this is no plugin",
        "WasmPlugin higress-system/auth: left out: neither its image nor its name",
        "WasmPlugin higress-system/balances: left out: `ai-quota` takes from balances",
    ] {
        assert!(told.contains(sentence), "{sentence} is not in {told}");
    }
    let nothing = migrate(&service.to_string(), &[]);
    assert_eq!((nothing.status.code(), nothing.stdout.len()), (Some(1), 0), "whoever applies it does not go on");
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("standard input: holds no plugin that is stock's"));
    let hollow = "apiVersion: a/v1\nkind: WasmPlugin\nmetadata: {name: cluster-key-rate-limit}\nspec: [a]\n";
    for empty in [
        hollow,
        "",
        "upstream: http://a\n",
        "a: [",
        "apiVersion: v1\nkind: [\n",
        "apiVersion: v1\nkind: List\nitems: []\n",
    ] {
        let output = migrate(empty, &[]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{empty}");
    }
}

#[test]
fn one_that_cannot_be_converted_keeps_all_from_being_written() {
    let wrong = changed(stock(&by("limit_by_per_header", "x", &json!({"key": "regexp:(", "query_per_day": 1}))), |c| {
        c["metadata"]["name"] = json!("wrong")
    });
    let output = migrate(&format!("{}\n---\n{}\n", stock(&global()), wrong), &[]);
    let told = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{told}");
    assert!(
        told.contains("WasmPlugin higress-system/wrong: REFUSED: spec.defaultConfig.rule_items[0].limit_keys[0].key: "),
        "{told}"
    );
    assert!(told.contains("nothing is written"), "{told}");
}

#[test]
fn renamed_plugins_are_taken_if_they_are_named() {
    for (url, option) in
        [("oci://mirror/limits:2", "mirror/limits"), ("oci://x/key-cluster-rate-limit:1", "key-cluster-rate-limit")]
    {
        let renamed = changed(stock(&global()), |c| c["spec"]["url"] = json!(url));
        assert_eq!(migrate(&renamed.to_string(), &[]).stdout, b"", "{url}");
        assert_eq!(
            migrated_with(&renamed, &["--plugin", "other", "--plugin", option]).0["spec"]["defaultConfig"],
            global()
        );
    }
}

#[test]
fn what_the_filter_finds_odd_is_told_too() {
    let (_, told) = migrated(&stock(&by("limit_by_header", "x", &json!({"key": "*", "query_per_day": 1}))));
    assert!(
        told.contains("spec.defaultConfig.rule_items[0].limit_keys[0].key: `*` is compared as it stands here"),
        "{told}"
    );
    let rule = json!({"matchRules": [{"domain": ["a"], "config": by("limit_by_cookie", "x",
        &json!({"key": "regexp:a", "query_per_day": 1}))}], "defaultConfigDisable": true});
    let (_, told) = migrated(&resource(rule));
    assert!(
        told.contains("spec.matchRules[0].config.rule_items[0].limit_keys[0].key: `regexp:a` is compared"),
        "{told}"
    );
}

/// As `kubectl get wasmplugin -o yaml` prints them, with what a cluster and a console add.
#[test]
fn a_list_of_kubectl_becomes_what_is_written_here() {
    let old = fs::read_to_string(format!("{SAMPLES}/kubectl-list.yaml")).expect("the sample");
    for release in ["2.2.3", "2.2.4"] {
        let output = migrate(&old, &["--release", release]);
        let new = String::from_utf8(output.stdout).expect("UTF-8");
        let expected = fs::read_to_string(format!("{SAMPLES}/expected-{release}.yaml")).expect("the result");
        assert_eq!(new, expected, "{release}: {}", String::from_utf8_lossy(&output.stderr));
        let text: Vec<Value> = new.split("---\n").map(yaml).collect();
        assert_eq!(text.len(), 2);
        text.iter().for_each(|resource| drop(accepted(&plugin_document(resource))));
    }
    let told = String::from_utf8(migrate(&old, &["--release", "2.2.4"]).stderr).expect("UTF-8");
    // Beside what the filter itself finds odd.
    for line in fs::read_to_string(format!("{SAMPLES}/told-2.2.4.txt")).expect("what is told").lines() {
        assert!(told.lines().any(|other| other == line), "{line}\nis not in\n{told}");
    }
}

#[test]
fn a_result_is_checked_as_it_is() {
    let output = migrate(&stock(&global()).to_string(), &[]);
    let checked = run_with(&["check", "-"], &[], &output.stdout);
    let told = String::from_utf8(checked.stdout).expect("UTF-8");
    assert_eq!(checked.status.code(), Some(0), "{told}");
    assert!(told.starts_with("WasmPlugin higress-system/limits\n") && told.contains("5 per 1s"), "{told}");
    let renamed =
        String::from_utf8(output.stdout).expect("UTF-8").replace("name: limits", "name: cluster-key-rate-limit");
    let again = migrate(&renamed, &[]);
    assert_eq!((again.status.code(), again.stdout.len()), (Some(1), 0), "ours are not stock's any more");
    assert!(String::from_utf8_lossy(&again.stderr).contains("left out: its image is Slidegate's already"));
}
