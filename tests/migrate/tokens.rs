//! Resources of `ai-token-ratelimit`.

use serde_json::{Value, json};

use super::{changed, migrate, migrated, migrated_with, refused, resource, stock};

fn tokens(mut resource: Value) -> Value {
    resource["spec"]["url"] = json!("oci://registry.example.net/plugins/ai-token-ratelimit:1.0.0");
    resource
}

/// As its documentation writes it, with each kind of key.
fn documented() -> Value {
    let item = |by: &str, name: &str, keys: Value| json!({by: name, "limit_keys": keys});
    json!({
        "rule_name": "default_rule",
        "rule_items": [
            item("limit_by_param", "apikey", json!([{"key": "9a342114", "token_per_minute": 10}])),
            item("limit_by_header", "x-ca-key", json!([{"key": "102234", "token_per_hour": 1000}])),
            item("limit_by_per_param", "apikey", json!([
                {"key": "regexp:^a.*", "token_per_second": 10}, {"key": "*", "token_per_day": 100_000}])),
            item("limit_by_per_consumer", "", json!([{"key": "*", "token_per_day": 1}])),
            item("limit_by_per_ip", "from-header-x-forwarded-for", json!([{"key": "1.1.1.0/24", "token_per_day": 9}])),
        ],
        "rejected_code": 200,
        "rejected_msg": "{\"code\":-1,\"msg\":\"Too many requests\"}",
        "redis": {"service_name": "redis.static"},
    })
}

#[test]
fn a_documented_configuration_stays_as_it_is() {
    let (new, told) = migrated_with(&tokens(stock(&documented())), &["--release", "2.2.3"]);
    assert_eq!(new["spec"]["defaultConfig"], documented());
    for sentence in ["accounting: after", "charge: stock", "used up exactly", "windows slide"] {
        assert!(told.contains(sentence), "{sentence} is not in {told}");
    }
    assert!(!told.contains("X-RateLimit-Reset"), "that is of the other plugin: {told}");
    let global = json!({
        "rule_name": "all", "global_threshold": {"token_per_minute": 500}, "redis": {"service_name": "redis.static"}
    });
    let in_rules = json!({"matchRules": [{"ingress": ["ai"], "config": global}], "defaultConfigDisable": true});
    let (new, _) = migrated(&tokens(resource(in_rules)));
    assert_eq!(new["spec"]["matchRules"][0]["config"], global);
}

#[test]
fn from_2_2_4_on_every_item_charges_and_a_threshold_stands_beside_them() {
    let old = changed(documented(), |c| c["global_threshold"] = json!({"token_per_day": 5}));
    let (new, told) = migrated(&tokens(stock(&old)));
    assert_eq!(new["spec"]["defaultConfig"], changed(old, |c| c["rule_match"] = json!("all")));
    assert!(told.contains("as only releases from 2.2.4 on allow"), "{told}");
    assert!(!told.contains("uses up none of the others"), "stock looks at all of them before it charges: {told}");
}

#[test]
fn what_the_other_plugin_reads_is_left_out_and_told() {
    let old = changed(documented(), |c| {
        c["show_limit_quota_header"] = json!(true);
        c["rule_items"][0]["limit_keys"][0]["query_per_second"] = json!(1);
    });
    let (new, told) = migrated_with(&tokens(stock(&old)), &["--release", "2.2.3"]);
    assert_eq!(new["spec"]["defaultConfig"], documented());
    for path in ["show_limit_quota_header: left out", "limit_keys[0].query_per_second: left out"] {
        assert!(told.contains(path), "{path} is not in {told}");
    }
    let nothing_left = json!({
        "rule_name": "r", "global_threshold": {"query_per_day": 5}, "redis": {"service_name": "redis.static"}
    });
    assert!(refused(&tokens(stock(&nothing_left))).contains("expected one of token_per_second"));
}

#[test]
fn a_renamed_plugin_is_known_by_what_it_counts() {
    let renamed = changed(stock(&documented()), |c| c["spec"]["url"] = json!("oci://mirror/limits:2"));
    let (new, told) = migrated_with(&renamed, &["--release", "2.2.3", "--plugin", "mirror/limits"]);
    assert_eq!(new["spec"]["defaultConfig"], documented());
    assert!(told.contains("charge: stock"), "{told}");
}

#[test]
fn balances_are_no_limits() {
    let quota = changed(stock(&documented()), |c| c["spec"]["url"] = json!("oci://x/ai-quota:1"));
    let output = migrate(&quota.to_string(), &[]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{told}");
    assert!(told.contains("takes from balances"), "{told}");
}
