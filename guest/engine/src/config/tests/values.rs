//! How a request becomes values, entries and keys: what is ours of that.

use super::*;
use crate::rule::{OnMissing, Source, Take};

const REDIS: &str = "redis.static";

fn by_header(name: &str, fields: Value) -> Value {
    let mut item = json!({"limit_by_per_header": name, "limit_keys": [{"key": "*", "query_per_second": 5}]});
    for (name, value) in fields.as_object().unwrap() {
        item[name] = value.clone();
    }
    item
}

#[test]
fn missing_and_several_values() {
    let read = item(by_header("h", json!({})));
    assert_eq!((read.on_missing, read.take), (OnMissing::Pass, Take::First));
    let read = item(by_header("h", json!({"on_missing": "count", "take": "all"})));
    assert_eq!((read.on_missing, read.take), (OnMissing::Count, Take::All));
    refuses(
        with_item(by_header("h", json!({"on_missing": "ignore"}))),
        "rule_items[0].on_missing",
        "`pass`, `refuse` or `count`",
    );
    refuses(
        with_item(by_header("h", json!({"take": "any"}))),
        "rule_items[0].take",
        "`first`, `last`, `all` or `refuse`",
    );
    let exact =
        json!({"limit_by_header": "h", "on_missing": "count", "limit_keys": [{"key": "a", "query_per_second": 5}]});
    let expected =
        "`count` has no limit: expected `limit_by_per_header`, with an entry that takes every value, such as `*`";
    refuses(with_item(exact), "rule_items[0].on_missing", expected);
    for (source, value, expected) in [
        ("limit_by_param", "p", "expected `limit_by_per_param`, with an entry"),
        ("limit_by_cookie", "c", "expected `limit_by_per_cookie`, with an entry"),
        ("limit_by_consumer", "", "expected `limit_by_per_consumer`, with an entry"),
        ("limit_by_per_header", "h", "expected an entry that takes every value, such as `*`"),
        ("limit_by_per_ip", "from-header-x", "expected an entry that takes every address, such as `0.0.0.0/0`"),
    ] {
        let item =
            json!({source: value, "on_missing": "count", "limit_keys": [{"key": "10.0.0.1", "query_per_second": 5}]});
        refuses(with_item(item), "rule_items[0].on_missing", expected);
    }
    let address = json!({"limit_by_per_ip": "from-remote-addr", "take": "last",
        "limit_keys": [{"key": "::/0", "query_per_second": 5}]});
    refuses(with_item(address), "rule_items[0].take", "stands beside `limit_by_per_ip`");
}

#[test]
fn what_opens_doors_is_hashed_unless_told_otherwise() {
    let hashes = |policy_fields: Value, item: Value| {
        let mut document = with_item(item);
        document["redis"] = json!({"service_name": REDIS});
        for (name, value) in policy_fields.as_object().unwrap() {
            document[name] = value.clone();
        }
        let item = policy(&document).items.pop().unwrap();
        assert_eq!(item.is_secret, item.hash.is_some());
        item.is_secret
    };
    for name in ["Authorization", "Cookie", "x-api-key", "X-ApiKey", "x-auth-token", "x-session-id", "client_secret"] {
        assert!(hashes(json!({}), by_header(name, json!({}))), "{name}");
        assert!(!hashes(json!({"hash_values": false}), by_header(name, json!({}))), "{name}");
        assert!(!hashes(json!({}), by_header(name, json!({"hash_values": "false"}))), "{name}");
    }
    for name in ["x-user", "x-ca-key", "user-agent", ":path"] {
        assert!(!hashes(json!({}), by_header(name, json!({}))), "{name}");
        assert!(hashes(json!({"hash_values": true}), by_header(name, json!({}))), "{name}");
        assert!(
            hashes(json!({"hash_values": false, "hash_key": "k"}), by_header(name, json!({"hash_values": true}))),
            "{name}"
        );
    }
    assert!(hashes(
        json!({}),
        json!({"limit_by_per_cookie": "lang", "limit_keys": [{"key": "*", "query_per_second": 5}]})
    ));
    let here = item(by_header("authorization", json!({})));
    assert!(here.is_secret && here.hash.is_none(), "what is kept in memory stays as it is");
}

#[test]
fn no_message_shows_a_secret() {
    let redis = json!({"service_name": REDIS});
    for (fields, path) in [
        (json!({"hash_key": ["hush-hush"], "redis": redis}), "hash_key"),
        (json!({"hash_key": "", "redis": redis}), "hash_key"),
        (json!({"redis": "redis://u:hush-hush@h"}), "redis"),
        (json!({"redis": {"service_name": "redis://u:hush-hush@h"}}), "redis.service_name"),
        (json!({"redis": {"service_name": REDIS, "password": {"a": "hush-hush"}}}), "redis.password"),
        (json!({"redis": {"service_name": REDIS, "url": "redis://u:hush-hush@h"}}), "redis.url"),
        (json!({"sentinel_password": "hush-hush"}), "sentinel_password"),
        (json!({"upstream": "http://u:hush-hush@h"}), "upstream"),
        (json!({"exempt": {"headers": {"x-probe": {"a": "hush-hush"}}}}), "exempt.headers.x-probe"),
        (json!({"failure_mode": "redis://u:hush-hush@h"}), "failure_mode"),
        (json!({"redis": {"redis://u:hush-hush@h": 1, "service_name": REDIS}}), "redis.(a URL or a part of one)"),
    ] {
        let told = errors(&with(fields));
        assert!(told.iter().any(|line| line.starts_with(&alloc::format!("{path}: "))), "{path}: {told:?}");
        assert!(!alloc::format!("{told:?}").contains("hush"), "{told:?}");
    }
}

#[test]
fn together_and_unlimited() {
    let entry = |entry: Value| json!({"limit_by_per_header": "h", "limit_keys": [entry]});
    let read = item(entry(json!({"key": "*", "query_per_second": 5, "together": true})));
    assert!(read.keys.entries[0].together && !read.keys.entries[0].unlimited);
    let read = item(entry(json!({"key": "a", "unlimited": true})));
    assert!(read.keys.entries[0].unlimited && read.keys.entries[0].limits.is_empty());
    refuses(
        with_item(entry(json!({"key": "a", "unlimited": true, "limit": 5}))),
        "rule_items[0].limit_keys[0].limit",
        "`unlimited: true`",
    );
    refuses(
        with_item(entry(json!({"key": "a", "unlimited": false}))),
        "rule_items[0].limit_keys[0]",
        "expected at least one limit",
    );
    assert!(
        warnings(&with_item(entry(json!({"key": "a", "query_per_second": 5, "together": true}))))[0]
            .contains("has no effect")
    );
}

#[test]
fn prefixes() {
    let address = |fields: Value| {
        let mut item =
            json!({"limit_by_per_ip": "from-remote-addr", "limit_keys": [{"key": "::/0", "query_per_second": 5}]});
        for (name, value) in fields.as_object().unwrap() {
            item[name] = value.clone();
        }
        item
    };
    let Source::Ip(client) = item(address(json!({"ipv4_prefix": 24, "ipv6_prefix": "56"}))).limit_by.source else {
        panic!()
    };
    assert_eq!((client.ipv4_prefix, client.ipv6_prefix), (24, 56));
    for (fields, path) in [
        (json!({"ipv4_prefix": 0}), "ipv4_prefix"),
        (json!({"ipv4_prefix": 33}), "ipv4_prefix"),
        (json!({"ipv6_prefix": 129}), "ipv6_prefix"),
    ] {
        refuses(with_item(address(fields)), &alloc::format!("rule_items[0].{path}"), "a whole number from 1 to");
    }
    refuses(
        with_item(by_header("h", json!({"ipv4_prefix": 24}))),
        "rule_items[0].ipv4_prefix",
        "only beside `limit_by_per_ip`",
    );
}

#[test]
fn exemptions() {
    let read = policy(&with(json!({"exempt": {"routes": "health", "methods": ["OPTIONS"], "networks": ["10.0.0.1"],
            "headers": {"X-P": [1]}}})));
    assert_eq!(read.exempt.routes, ["health"]);
    assert_eq!(read.exempt.headers, [(String::from("x-p"), Vec::from([String::from("1")]))]);
    for (exempt, path, message) in [
        (json!({}), "exempt", "expected at least one of `routes`"),
        (json!([]), "exempt", "expected an object"),
        (json!({"route": ["a"]}), "exempt.route", "did you mean `routes`?"),
        (json!({"routes": []}), "exempt.routes", "at least one text"),
        (json!({"routes": [""]}), "exempt.routes[0]", "an empty one"),
        (json!({"methods": ["GET POST"]}), "exempt.methods", "expected methods"),
        (json!({"networks": ["10.0.0.0/40"]}), "exempt.networks[0]", "an address or a network"),
        (json!({"headers": {"a b": "c"}}), "exempt.headers.a ***", "the name of a header"),
        (json!({"headers": {"x-p": null}}), "exempt.headers.x***", "at least one text, got null"),
        (json!({"headers": {}}), "exempt.headers", "at least one header"),
        (json!({"headers": "x"}), "exempt.headers", "an object of header names"),
    ] {
        let told = errors(&with(json!({"exempt": exempt})));
        assert!(
            told.iter().any(|line| line.starts_with(&alloc::format!("{path}: ")) && line.contains(message)),
            "{path} {message}: {told:?}"
        );
    }
}

#[test]
fn fields_of_refusals() {
    let read = policy(&with(
        json!({"rejected_content_type": "application/json", "rejected_headers": {"X-Why": "limit", "x-code": 7}}),
    ));
    let expected = [("content-type", "application/json"), ("x-why", "limit"), ("x-code", "7")];
    assert_eq!(read.rejected_headers, expected.map(|(name, value)| (String::from(name), String::from(value))));
    for (fields, path, message) in [
        (
            json!({"rejected_headers": {"Content-Type": "a"}}),
            "rejected_headers.Content-Type",
            "`rejected_content_type`",
        ),
        (json!({"rejected_headers": {"retry-after": "1"}}), "rejected_headers.retry-after", "`headers` says"),
        (json!({"rejected_headers": {"Grpc-Status": "0"}}), "rejected_headers.Grpc-Status", "the host writes"),
        (json!({"rejected_headers": {"content-length": "1"}}), "rejected_headers.content-length", "the host writes"),
        (json!({"rejected_headers": {"a b": "1"}}), "rejected_headers.a ***", "the name of a header"),
        (json!({"rejected_headers": {"x": "a\r\nb"}}), "rejected_headers.x", "one line"),
        (json!({"rejected_headers": {"x": ""}}), "rejected_headers.x", "one line"),
        (json!({"rejected_headers": {"x": "a\tb"}}), "rejected_headers.x", "one line"),
        (json!({"rejected_headers": {"x": "é"}}), "rejected_headers.x", "ASCII"),
        (json!({"rejected_headers": {"X": "1", "x": "2"}}), "rejected_headers.x", "stands twice"),
        (json!({"rejected_headers": ["x"]}), "rejected_headers", "an object of header names"),
        (json!({"rejected_content_type": "a\nb"}), "rejected_content_type", "one line"),
        (json!({"rejected_content_type": "𐠷"}), "rejected_content_type", "ASCII"),
    ] {
        refuses(with(fields), path, message);
    }
}

#[test]
fn limits_that_never_refuse_are_told() {
    let told = |limits: Value| warnings(&with_threshold(limits));
    assert!(
        told(json!({"query_per_second": 5, "query_per_minute": 1000}))[0]
            .contains("1000 per 1m never refuses: 5 per 1s")
    );
    assert!(
        told(json!({"query_per_second": 60, "query_per_minute": 60}))[0].contains("60 per 1s never refuses: 60 per 1m")
    );
    assert!(told(json!({"query_per_second": 5, "query_per_minute": 300}))[0].contains("300 per 1m never refuses"));
    for limits in [
        json!({"query_per_second": 5, "query_per_minute": 299}),
        json!({"query_per_second": 59, "query_per_minute": 60}),
    ] {
        assert_eq!(told(limits), Vec::<String>::new());
    }
}

#[test]
fn counters_shared_by_two_parts_are_told() {
    let rules = |one: Value, other: Value| {
        let rule = |route: &str, mut fields: Value| {
            fields["_match_route_"] = json!(route);
            fields["rule_name"] = json!("r");
            fields
        };
        let document = json!({"_rules_": [rule("a", one), rule("b", other)], "rule_name": "rest",
            "global_threshold": {"query_per_day": 9}});
        warnings(&document)
    };
    let threshold = |limits: Value| json!({"global_threshold": limits});
    let told = rules(threshold(json!({"query_per_minute": 3})), threshold(json!({"query_per_minute": 100})));
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with("_rules_[1].global_threshold: shares its counters with _rules_[0].global_threshold"),
        "{told:?}"
    );
    let items = |count: u64, name: Value| {
        let mut item = json!({"limit_by_header": "h", "limit_keys": [{"key": "a", "query_per_minute": count}]});
        if !name.is_null() {
            item["name"] = name;
        }
        json!({"rule_items": [item]})
    };
    let told = rules(items(3, json!(null)), items(100, json!(null)));
    assert!(
        told[0].starts_with("_rules_[1].rule_items[0]: shares its counters with _rules_[0].rule_items[0]"),
        "{told:?}"
    );
    for (one, other) in [
        (items(3, json!(null)), items(3, json!(null))),
        (items(3, json!("a")), items(100, json!("b"))),
        (items(3, json!("a")), items(100, json!(null))),
        (threshold(json!({"query_per_minute": 3})), threshold(json!({"query_per_hour": 100}))),
        (threshold(json!({"query_per_minute": 3})), threshold(json!({"query_per_minute": 100, "name": "b"}))),
    ] {
        assert_eq!(rules(one, other), Vec::<String>::new());
    }
}

#[test]
fn what_is_outside_of_the_rules_is_told_and_so_is_a_path_with_its_query() {
    let rule = with(json!({"_match_route_": ["a"]}));
    assert!(warnings(&json!({"_rules_": [rule]}))[0].contains("passes without a limit"));
    let mut both = with(json!({}));
    both["rule_name"] = json!("other");
    both["_rules_"] = json!([rule]);
    assert_eq!(warnings(&both), Vec::<String>::new());
    assert!(warnings(&with_item(by_header(":path", json!({}))))[0].contains("`:path-only`"));
    let by_ip = |from: &str| {
        let keys = json!([{"key": "0.0.0.0/0", "query_per_second": 5}]);
        let mut document = with_item(json!({"limit_by_per_ip": from, "limit_keys": keys}));
        document["exempt"] = json!({"networks": ["10.0.0.0/8"]});
        warnings(&document)
    };
    assert!(by_ip("from-header-x-forwarded-for")[0].starts_with("exempt.networks: looks at the peer"));
    assert_eq!(by_ip("from-remote-addr"), Vec::<String>::new());
    assert_eq!(warnings(&with_item(by_header(":path-only", json!({})))), Vec::<String>::new());
}
