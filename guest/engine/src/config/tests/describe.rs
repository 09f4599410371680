//! What a person is told.

use alloc::format;

use super::*;

#[test]
fn a_whole_configuration() {
    let config = config(&json!({
        "rule_name": "shop",
        "global_threshold": {"query_per_minute": 1000, "limit": 50, "window": "90s"},
        "rule_items": [
            {"limit_by_header": "X-Ca-Key", "limit_keys": [{"key": 102234, "query_per_minute": 10},
                {"key": "a b", "query_per_day": 5000}]},
            {"limit_by_per_ip": "from-header-x-forwarded-for", "trusted_hops": 1, "ipv6_prefix": 64, "dry_run": true,
             "limit_keys": [{"key": "0.0.0.0/0", "query_per_second": 1000}]}
        ],
        "rule_match": "all",
        "failure_mode": "local",
        "local_share": 0.25,
        "show_limit_quota_header": true,
        "rejected_code": 503,
        "redis": {"service_name": "redis.static", "username": "gate", "password": "open sesame", "database": 2},
        "_rules_": [{
            "_match_route_": ["orders", "team-b/images"],
            "_match_service_": "models.dns:80",
            "rule_name": "orders",
            "global_threshold": {"query_per_second": 5},
            "headers": ["ratelimit", "retry-after"],
            "dry_run": true
        }]
    }));
    let expected = r#"route orders or team-b/images, of service models.dns:80
  rule name     orders
  all together  5 per 1s, exact
  windows       in the memory of this instance, no Redis
  refusal       429, "Too many requests"
  headers       RateLimit-Policy and RateLimit, Retry-After on refusals
  dry run       every limit is counted, none refuses
every other request
  rule name     shop
  all together  1000 per 1m, slots of 937.5 ms; and 50 per 90s, exact
  rules         all that match must admit
    1. by header x-ca-key (limit_by_header)
       102234  10 per 1m, exact
       "a b"   5000 per 1d, slots of 1350s
       without a value: not limited by this rule
    2. by address after 1 from the right of header x-forwarded-for, else of the peer, IPv6 by /64 (limit_by_per_ip), dry run: never refuses
       0.0.0.0/0  each value: 1000 per 1s, slots of 15.625 ms
  windows       in Redis redis.static:80, database 2, user gate, with a password, timeout 1000 ms
  on failure    local: windows in memory, with 0.25 of each limit
  refusal       503, "Too many requests"
  headers       x-ratelimit-limit and x-ratelimit-remaining, x-ratelimit-reset on refusals
"#;
    assert_eq!(config.describe(), expected);
}

#[test]
fn long_lists_are_cut() {
    let entries: Vec<Value> = (0..10_010).map(|n| json!({"key": format!("key-{n}"), "query_per_second": 1})).collect();
    let text = config(&with_item(json!({"limit_by_header": "c", "limit_keys": entries}))).describe();
    assert!(text.contains("       key-19  1 per 1s, exact\n       ... and 9,990 more\n"), "{text}");
    assert!(!text.contains("key-20"));
    let routes: Vec<String> = (0..1_030).map(|n| format!("r{n}")).collect();
    let text = config(&json!({"_rules_": [with(json!({"_match_route_prefix_": routes}))]})).describe();
    assert!(text.starts_with("route beginning with r0 or r1 or "), "{text}");
    assert!(text.contains(" or r19 ... and 1,010 more\n"), "{text}");
    assert!(text.ends_with("every other request: passes, no limits\n"), "{text}");
}

#[test]
fn every_source_and_mode_has_words() {
    let key = json!([{"key": "::/0", "query_per_second": 1}]);
    for (fields, words) in [
        (json!({"limit_by_per_ip": "from-remote-addr"}), "by address of the peer (limit_by_per_ip)"),
        (
            json!({"limit_by_per_ip": "from-header-x"}),
            "by leftmost address, which clients can forge, of header x, else of the peer",
        ),
        (
            json!({"limit_by_per_ip": "from-header-x", "trusted_proxies": ["10.0.0.0/8", "::1"]}),
            "by rightmost address in none of 10.0.0.0/8, ::1/128 of header x, else of the peer",
        ),
        (json!({"limit_by_param": "a\nb"}), "by query parameter a\\nb (limit_by_param)"),
        (json!({"limit_by_per_consumer": ""}), "by consumer, header x-mse-consumer (limit_by_per_consumer)"),
        (json!({"limit_by_per_cookie": "c"}), "by cookie c (limit_by_per_cookie)"),
    ] {
        let mut item = fields;
        item["limit_keys"] = key.clone();
        let text = config(&with_item(item)).describe();
        assert!(text.contains(words), "{text}");
    }
    for (mode, words) in [("open", "open: requests pass"), ("closed", "closed: requests are answered 503")] {
        let text = config(&with(json!({"failure_mode": mode, "redis": {"service_name": "r"}}))).describe();
        assert!(text.contains(words) && text.contains("in Redis r:6379, timeout 1000 ms"), "{text}");
    }
    assert!(config(&with(json!({"headers": []}))).describe().contains("headers       none"));
    let of_tokens = |fields: Value| {
        let mut document = with(fields);
        document["global_threshold"] = json!({"token_per_day": 5});
        config(&document).describe()
    };
    for (fields, shown) in [
        (json!({}), "x-tokenratelimit-reset on refusals\n"),
        (json!({"headers": []}), "x-tokenratelimit-reset on refusals\n"),
        (json!({"show_limit_quota_header": true}), "x-tokenratelimit-reset on refusals\n"),
        (json!({"headers": ["retry-after"]}), "x-tokenratelimit-reset on refusals, Retry-After on refusals\n"),
    ] {
        let text = of_tokens(fields);
        assert!(text.contains(&format!("headers       {shown}")), "{text}");
    }
}

#[test]
fn who_shares_a_window_is_told() {
    let text = config(&json!({
        "rule_name": "r",
        "exempt": {"routes": ["health"], "methods": ["OPTIONS"], "networks": ["10.0.0.0/8"],
            "headers": {"x-probe": "open sesame", "x-any": "*"}},
        "global_threshold": {"query_per_second": 9, "name": "all"},
        "rule_items": [
            {"limit_by_per_header": "x-user", "name": "users", "take": "all", "on_missing": "count", "limit_keys": [
                {"key": "vip", "unlimited": true},
                {"key": "regexp:^t", "query_per_second": 1, "together": true},
                {"key": "*", "query_per_second": 2}]},
            {"limit_by_per_ip": "from-remote-addr", "ipv4_prefix": 24, "ipv6_prefix": 56, "limit_keys": [
                {"key": "10.0.0.1", "query_per_second": 1},
                {"key": "10.0.0.0/8", "query_per_second": 1, "together": true},
                {"key": "::/0", "query_per_second": 2}]},
            {"limit_by_header": "x-api-key", "on_missing": "refuse", "limit_keys": [
                {"key": "sk-1234567890", "query_per_second": 1}, {"key": "short", "query_per_second": 1}]}
        ],
        "rejected_headers": {"X-Why": "limit"},
        "remember_refusals": "10s",
        "redis": {"service_name": "r"}
    }))
    .describe();
    let expected = r#"every request
  rule name     r
  exempt        route health; or method OPTIONS; or peer in 10.0.0.0/8; or header x-any with any value, which every client can send; or header x-probe with its value
  all together  9 per 1s, exact, name all
  rules         the first that matches decides
    1. by header x-user (limit_by_per_header), name users, each of several
       vip        unlimited
       regexp:^t  all together: 1 per 1s, exact
       *          each value: 2 per 1s, exact
       without a value: all together, as *
    2. by address of the peer, IPv4 by /24, IPv6 by /56 (limit_by_per_ip)
       10.0.0.1    1 per 1s, exact
       10.0.0.0/8  all together: 1 per 1s, exact
       ::/0        each value: 2 per 1s, exact
    3. by header x-api-key (limit_by_header), hashed in Redis
       sk-1***  1 per 1s, exact
       s***     1 per 1s, exact
       without a value: refused
  windows       in Redis r:6379, timeout 1000 ms
  on failure    open: requests pass
  calls         who was refused is asked about again after 10s at most
  refusal       429, "Too many requests", x-why: limit
  headers       x-ratelimit-reset on refusals
"#;
    assert_eq!(text, expected);
}

#[test]
fn long_keys_are_cut_whatever_they_are_counted_by() {
    let long = "9a342114-ba8a-11ec-b1bf-00163e1250b5";
    for source in ["limit_by_header", "limit_by_param", "limit_by_per_header", "limit_by_per_param"] {
        let keys = json!([{"key": long, "query_per_second": 1}, {"key": "fifteen-letters", "query_per_second": 1}]);
        let text = config(&with_item(json!({source: "x", "limit_keys": keys}))).describe();
        assert!(
            text.contains("       9a34*** ") && text.contains(" fifteen-letters ") && !text.contains(long),
            "{text}"
        );
    }
    let keys = json!([{"key": "1234567890123456", "query_per_second": 1}]);
    let text =
        config(&with_item(json!({"limit_by_consumer": "", "hash_values": false, "limit_keys": keys}))).describe();
    assert!(text.contains("       1234***  1 per 1s"), "{text}");
    let keys = json!([{"key": "2001:db8:1:2:3:4:5:6/128", "query_per_second": 1}]);
    let text = config(&with_item(json!({"limit_by_per_ip": "from-remote-addr", "limit_keys": keys}))).describe();
    assert!(text.contains("2001:db8:1:2:3:4:5:6"), "{text}");
    let keys = json!([{"key": "regexp:^a-long-expression$", "query_per_second": 1}]);
    let text =
        config(&with_item(json!({"limit_by_per_header": "x", "on_missing": "pass", "limit_keys": keys}))).describe();
    assert!(text.contains("regexp:^a-long-expression$"), "{text}");
}

#[test]
fn bounds_on_new_keys_are_told() {
    let keys = json!([{"key": "a", "query_per_second": 1}]);
    let text = config(&json!({
        "rule_name": "r", "max_new_keys_per_second": 500, "redis": {"service_name": "r"},
        "rule_items": [{"limit_by_header": "x", "max_new_keys_per_second": 7, "limit_keys": keys}],
    }))
    .describe();
    assert!(text.contains("header x (limit_by_header), at most 7 new keys a second\n"), "{text}");
    assert!(text.contains("  new keys      at most 500 a second of each rule\n"), "{text}");
}

#[test]
fn policies_whose_metrics_are_one_are_told() {
    let policy = |route: &str, name: &str| with(json!({"_match_route_": [route], "rule_name": name}));
    let told = |rules: Value| {
        config(&json!({"_rules_": rules})).describe().matches("  metrics       counted together with those of ").count()
    };
    assert_eq!(told(json!([policy("a", "one"), policy("b", "two")])), 0);
    assert_eq!(told(json!([policy("a", "one"), policy("b", "one"), policy("c", "two")])), 2);
    let text = config(&json!({"_rules_": [policy("a", "one"), policy("b", "one")]})).describe();
    assert!(text.contains("those of the other of this rule name\n"), "{text}");
    let text = config(&json!({"_rules_": [policy("a", "one"), policy("b", "one"), policy("c", "one")]})).describe();
    assert!(text.contains("those of 2 others of this rule name\n"), "{text}");
}
