//! What stock reads of a document, as loosely as it does.

use alloc::vec::Vec;

use serde_json::{Value, json};

use super::*;
use crate::rule::Source;

#[test]
fn yaml_may_blur_types() {
    let policy = policy(&json!({
        "rule_name": 7,
        "global_threshold": {"query_per_second": "10", "query_per_minute": 20.0},
        "rejected_code": "503",
        "rejected_msg": true,
        "show_limit_quota_header": "True",
        "dry_run": 1,
        "redis": {"service_name": "r.dns", "service_port": "6380", "password": 123456, "username": null, "timeout": 0,
            "database": "3"}
    }));
    assert_eq!(policy.rule_name, "7");
    assert_eq!(policy.global, [limit(10, 1, 1), limit(20, 60, 1)]);
    assert_eq!((policy.rejected_code, policy.rejected_msg.as_str()), (503, "true"));
    assert!(policy.headers.quota && policy.dry_run);
}

#[test]
fn keys_keep_the_text_of_their_number() {
    let item = item(json!({"limit_by_header": "h", "limit_keys": [
        {"key": 1.5, "query_per_day": 1},
        {"key": -7, "query_per_day": 1},
        {"key": true, "query_per_day": 1},
        {"key": 18446744073709551615_u64, "query_per_day": 1},
        {"key": 2.0, "query_per_day": 1}
    ]}));
    let keys: Vec<&str> = item.keys.entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys, ["1.5", "-7", "true", "18446744073709551615", "2"]);
}

#[test]
fn one_object_stands_for_an_array_of_it() {
    let policy = policy(&json!({
        "rule_name": "r",
        "rule_items": {"limit_by_consumer": null, "limit_keys": {"key": "a", "query_per_second": 1}}
    }));
    assert_eq!(policy.items.len(), 1);
    assert_eq!(entry_of(&policy.items[0].keys, "a"), Some(0));
    refuses(
        json!({"rule_name": "r", "rule_items": {"limit_by_consumer": "", "limit_keys": {"key": "a"}}}),
        "rule_items.limit_keys",
        "at least one limit",
    );
}

#[test]
fn redis_defaults() {
    let service = |redis: Value| config(&with(json!({"redis": redis}))).services.remove(0);
    assert_eq!(service(json!({"service_name": "redis.static"})).port, 80);
    assert_eq!(service(json!({"service_name": "redis.static", "service_port": 0})).port, 80);
    assert_eq!(service(json!({"service_name": "redis.static", "service_port": 6379})).port, 6379);
    let dns = service(json!({"service_name": "my-redis.dns", "service_port": null, "timeout": null, "password": null}));
    assert_eq!((dns.port, dns.timeout_ms, dns.database, dns.password.as_str()), (6379, 1_000, 0, ""));
    let full = service(json!({
        "service_name": "r.dns", "username": "u", "password": "p", "timeout": 250, "database": 9
    }));
    assert_eq!((full.username.as_str(), full.password.as_str(), full.timeout_ms, full.database), ("u", "p", 250, 9));
}

#[test]
fn header_names_fold_and_key_names_do_not() {
    let by_header =
        item(json!({"limit_by_per_header": "X-Ca-Key", "limit_keys": [{"key": "*", "query_per_second": 1}]}));
    assert!(matches!(&by_header.limit_by.source, Source::Header(name) if name == "x-ca-key"));
    assert_eq!(by_header.limit_by.key_name, "X-Ca-Key");
    let by_ip = item(
        json!({"limit_by_per_ip": "from-header-X-Real-IP", "limit_keys": [{"key": "::/0", "query_per_second": 1}]}),
    );
    assert_eq!(by_ip.limit_by.key_name, "from-header-X-Real-IP");
    assert!(matches!(&by_ip.limit_by.source, Source::Ip(client) if client.header.as_deref() == Some("x-real-ip")));
    let by_peer =
        item(json!({"limit_by_per_ip": "from-remote-addr", "limit_keys": [{"key": "::1", "query_per_second": 1}]}));
    assert!(matches!(&by_peer.limit_by.source, Source::Ip(client) if client.header.is_none()));
}

#[test]
fn an_empty_name_is_unset_beside_another() {
    let item = item(json!({"limit_by_header": "", "limit_by_cookie": null, "limit_by_param": "p",
            "limit_keys": [{"key": "a", "query_per_second": 1}]}));
    assert!(matches!(&item.limit_by.source, Source::Param(name) if name == "p"));
}

#[test]
fn the_first_of_two_equal_keys_counts_and_the_other_is_told() {
    let document = with_item(json!({"limit_by_header": "h", "limit_keys": [
        {"key": "b", "query_per_second": 1},
        {"key": "a", "query_per_second": 2},
        {"key": "b", "query_per_second": 3}
    ]}));
    assert_eq!(entry_of(&policy(&document).items[0].keys, "b"), Some(0));
    let KeyIndex::Text { exact, .. } = policy(&document).items.remove(0).keys.index else { panic!() };
    assert_eq!(exact, [(b"a".to_vec(), 1), (b"b".to_vec(), 0)]);
    assert_eq!(
        warnings(&document),
        ["rule_items[0].limit_keys[2]: has the same key as `limit_keys[0]`, which is the one that counts"]
    );
    let networks = with_item(json!({"limit_by_per_ip": "from-remote-addr", "limit_keys": [
        {"key": "10.0.0.0/8", "query_per_second": 1},
        {"key": "10.9.9.9/8", "query_per_second": 2}
    ]}));
    assert!(warnings(&networks)[0].contains("limit_keys[1]: has the same key as `limit_keys[0]`"));
    let by_address = |keys: &[&str]| {
        let keys: Vec<Value> = keys.iter().map(|key| json!({"key": key, "query_per_second": 1})).collect();
        warnings(&with_item(json!({"limit_by_per_ip": "from-remote-addr", "limit_keys": keys})))
    };
    assert_eq!(
        by_address(&["10.1.1.1/8", "11.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "2001:db8::/32"]),
        [
            "rule_items[0].limit_keys[2]: is never reached: `limit_keys[0]`, 10.0.0.0/8, has all its addresses",
            "rule_items[0].limit_keys[3]: is never reached: `limit_keys[2]`, 10.1.0.0/16, has all its addresses",
        ]
    );
    assert_eq!(
        by_address(&["10.1.2.3", "10.1.0.0/16", "10.0.0.0/8", "2001:db8::1", "2001:db8::/32", "0.0.0.0/0"]),
        [""; 0]
    );
    assert_eq!(
        by_address(&["10.0.0.0/8", "::/0", "10.1.0.0/16"]).len(),
        1,
        "what follows an entry for all is told once"
    );
}

#[test]
fn oddities_are_told() {
    let mut two_alike = json!({"rule_name": "r", "rule_items": [
        {"limit_by_header": "h", "limit_keys": [{"key": "a", "query_per_second": 1}]},
        {"limit_by_per_header": "h", "limit_keys": [{"key": "a", "query_per_second": 1}]},
        {"limit_by_header": "h", "limit_keys": [{"key": "b", "query_per_second": 1}]}
    ]});
    assert_eq!(warnings(&two_alike), ["rule_items[2]: counts by the same as rule_items[0], which comes first"]);
    two_alike["rule_match"] = json!("all");
    assert_eq!(warnings(&two_alike), [""; 0], "all of them count");
    let behind_all = with_item(json!({"limit_by_per_header": "h", "limit_keys": [
        {"key": "*", "query_per_second": 1},
        {"key": "a", "query_per_second": 1},
        {"key": "b", "query_per_second": 1}
    ]}));
    assert_eq!(
        warnings(&behind_all),
        ["rule_items[0].limit_keys[1]: is never reached, nor what follows: `limit_keys[0]` takes every value"]
    );
    let literal = with_item(json!({"limit_by_header": "h", "limit_keys": [{"key": "*", "query_per_second": 1}]}));
    assert!(warnings(&literal)[0].starts_with("rule_items[0].limit_keys[0].key: `*` is compared as it stands"));
    assert_eq!(entry_of(&policy(&literal).items[0].keys, "x"), None);
    assert_eq!(policy(&with(json!({"rejected_msg": null}))).rejected_msg, "");
    let object = with(json!({"rejected_msg": {"code": -1, "msg": "a \"b\"\n"}}));
    assert_eq!(policy(&object).rejected_msg, r#"{"code":-1,"msg":"a \"b\"\n"}"#);
    assert!(warnings(&object)[0].starts_with("rejected_msg: is an object"));
}
