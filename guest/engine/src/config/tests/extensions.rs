//! What ours has beyond stock.

use super::*;
use crate::rule::{ClientIp, FailureMode, QuotaHeaders, RuleMatch, Source, Trust};

#[test]
fn several_limits_hold_together() {
    let limits = |threshold| policy(&with_threshold(threshold)).global;
    assert_eq!(
        limits(
            json!({"query_per_day": 4000, "query_per_second": 5, "limit": 300, "window": "10m", "query_per_minute": 60})
        ),
        [limit(5, 1, 1), limit(60, 60, 1), limit(300, 600, 9_375_000), limit(4000, 86_400, 1_350_000_000)]
    );
    assert_eq!(limits(json!({"limit": 7, "window": "365d"})), [limit(7, 31_536_000, 1)]);
    for (window, seconds) in [("1s", 1), ("10s", 10), ("5m", 300), ("2h", 7_200), ("7d", 604_800), ("007s", 7)] {
        assert_eq!(limits(json!({"limit": "1", "window": window})), [limit(1, seconds, 1)]);
    }
    let entry = item(
        json!({"limit_by_header": "h", "limit_keys": [{"key": "a", "limit": 2, "window": "3s", "query_per_hour": 9}]}),
    );
    assert_eq!(entry.keys.entries[0].limits, [limit(2, 3, 1), limit(9, 3_600, 1)]);
}

#[test]
fn windows_that_are_none() {
    for window in [
        "0s",
        "366d",
        "10",
        "s",
        "",
        "10S",
        "1w",
        "500ms",
        "-1s",
        "1.5s",
        "99999999999999999999d",
        "18446744073709551615d",
    ] {
        refuses(
            with_threshold(json!({"limit": 1, "window": window})),
            "global_threshold.window",
            "from `1s` to `365d`",
        );
    }
    refuses(with_threshold(json!({"limit": 1, "window": 60})), "global_threshold.window", "got `60`");
    refuses(with_threshold(json!({"limit": 1})), "global_threshold.limit", "expected `window` beside it");
    refuses(
        with_threshold(json!({"window": "1s"})),
        "global_threshold.window",
        "expected `limit` or `token_limit` beside it",
    );
    refuses(
        with_threshold(json!({"query_per_minute": 5, "limit": 6, "window": "60s"})),
        "global_threshold.limit",
        "another limit for the same window of 1m",
    );
}

#[test]
fn precision() {
    let slot = |precision: Value, count: u64| {
        let limits = policy(&with_threshold(json!({"query_per_minute": count, "precision": precision}))).global;
        limits[0].slot_us
    };
    assert_eq!(slot(json!("exact"), 5000), 1);
    assert_eq!(slot(json!(10), 5000), 6_000_000);
    assert_eq!(slot(json!("96"), 5000), 625_000);
    assert_eq!(slot(json!(7), 5000), 8_571_429);
    assert_eq!(slot(json!(1), 5), 60_000_000);
    assert_eq!(slot(json!("1s"), 5000), 1_000_000);
    assert_eq!(slot(json!("1m"), 5000), 60_000_000);
    assert_eq!(slot(json!("100ms"), 100), 100_000);
    for precision in [
        json!(0),
        json!(97),
        json!(1.5),
        json!("rough"),
        json!("0ms"),
        json!("-1ms"),
        json!(null),
        json!("5us"),
        json!(""),
    ] {
        refuses(
            with_threshold(json!({"query_per_minute": 5000, "precision": precision})),
            "global_threshold.precision",
            "expected `exact`, a number of slots from 1 to 96, or a slot's width",
        );
    }
    refuses(
        with_threshold(json!({"query_per_minute": 5000, "precision": "100ms"})),
        "global_threshold.precision",
        "slots of 100 ms cut the window of 1m into 600 parts: expected at most 96, or `exact`",
    );
    refuses(
        with_threshold(json!({"query_per_second": 5, "precision": "2s"})),
        "global_threshold.precision",
        "a slot of 2s is wider than the window of 1s",
    );
}

#[test]
fn precision_by_limit() {
    let slot = |count: u64| policy(&with_threshold(json!({"query_per_second": count}))).global[0].slot_us;
    assert_eq!([slot(1), slot(100), slot(101), slot(1 << 53)], [1, 1, 15_625, 15_625]);
}

#[test]
fn precision_of_the_whole_yields_to_an_entry() {
    let document = |entry: Value| {
        json!({
            "rule_name": "r",
            "precision": 32,
            "global_threshold": {"query_per_minute": 640},
            "rule_items": [{"limit_by_header": "h", "limit_keys": [entry]}]
        })
    };
    let own = policy(&document(json!({"key": "a", "query_per_second": 1000, "precision": 4})));
    assert_eq!(own.global, [limit(640, 60, 1_875_000)]);
    assert_eq!(own.items[0].keys.entries[0].limits, [limit(1000, 1, 250_000)]);
    let inherited = policy(&document(json!({"key": "a", "query_per_second": 1000})));
    assert_eq!(inherited.items[0].keys.entries[0].limits, [limit(1000, 1, 31_250)]);
    let mut wide = with_threshold(json!({"query_per_second": 1000, "query_per_day": 9000}));
    wide["precision"] = json!("100ms");
    refuses(
        wide,
        "global_threshold.query_per_day",
        "by the `precision` of the whole, slots of 100 ms cut the window of 1d",
    );
}

#[test]
fn exact_and_large_is_allowed_and_told() {
    let document = with_threshold(json!({"query_per_minute": 100_000, "precision": "exact"}));
    assert_eq!(
        warnings(&document),
        ["global_threshold.query_per_minute: with `exact` a key in Redis grows with the limit, to 25000 members"]
    );
    assert_eq!(warnings(&with_threshold(json!({"query_per_minute": 100, "precision": "exact"}))), [""; 0]);
}

#[test]
fn exact_keys_stand_beside_patterns() {
    let item = item(json!({"limit_by_per_header": "h", "limit_keys": [
        {"key": "gold", "query_per_second": 50},
        {"key": "regexp:^g", "query_per_second": 20},
        {"key": "green", "query_per_second": 30}
    ]}));
    let entries = ["gold", "green", "grey", "red"].map(|value| entry_of(&item.keys, value));
    assert_eq!(entries, [Some(0), Some(1), Some(1), None]);
}

#[test]
fn global_beside_rules_and_rule_match() {
    let document = json!({
        "rule_name": "r",
        "rule_match": "all",
        "global_threshold": {"query_per_second": 5},
        "rule_items": [{"limit_by_consumer": "", "limit_keys": [{"key": "a", "query_per_second": 1}]}]
    });
    let policy = policy(&document);
    assert_eq!((policy.global.len(), policy.items.len(), policy.rule_match), (1, 1, RuleMatch::All));
    assert_eq!(policy.redis, None);
    refuses(with(json!({"rule_match": "some"})), "rule_match", "expected `first` or `all`, got `some`");
}

#[test]
fn saving_calls_is_on_unless_switched_off() {
    let redis = json!({"service_name": "redis.static"});
    let read = policy(&with(json!({"redis": redis})));
    assert!(read.remember_refusals == Some(5_000_000) && read.coalesce);
    let read = policy(&with(json!({"redis": redis, "remember_refusals": false, "coalesce": "false"})));
    assert!(read.remember_refusals.is_none() && !read.coalesce);
    for (bound, us) in [
        (json!("1s"), Some(1_000_000)),
        (json!("2h"), Some(7_200_000_000)),
        (json!("1"), Some(5_000_000)),
        (json!("0"), None),
    ] {
        assert_eq!(policy(&with(json!({"redis": redis, "remember_refusals": bound}))).remember_refusals, us);
    }
    for bound in ["0s", "5", "500ms", "1.5s", "366d"] {
        refuses(with(json!({"redis": redis, "remember_refusals": bound})), "remember_refusals", "how long at most");
    }
    refuses(
        with(json!({"redis": redis, "remember_refusals": "never"})),
        "remember_refusals",
        "expected true, false, or how long",
    );
    refuses(with(json!({"redis": redis, "coalesce": "perhaps"})), "coalesce", "got `perhaps`");
    refuses(with(json!({"redis": redis, "coalese": true})), "coalese", "did you mean `coalesce`?");
    assert!(warnings(&with(json!({"coalesce": true})))[0].contains("no effect without `redis`"));
}

#[test]
fn failure_modes() {
    let mode = |fields: Value| {
        let mut document = with(fields);
        document["redis"] = json!({"service_name": "r.dns"});
        policy(&document).failure_mode
    };
    assert_eq!(mode(json!({})), FailureMode::Open);
    assert_eq!(mode(json!({"failure_mode": "open"})), FailureMode::Open);
    assert_eq!(mode(json!({"failure_mode": "closed"})), FailureMode::Closed);
    assert_eq!(mode(json!({"failure_mode": "local"})), FailureMode::Local { share: 1.0 });
    assert_eq!(mode(json!({"failure_mode": "local", "local_share": 0.25})), FailureMode::Local { share: 0.25 });
    for share in ["0.5", ".5", "0.50", "+0.5", "5e-1"] {
        assert_eq!(mode(json!({"failure_mode": "local", "local_share": share})), FailureMode::Local { share: 0.5 });
    }
    refuses(with(json!({"failure_mode": "ajar"})), "failure_mode", "expected `open`, `closed` or `local`, got `ajar`");
    for share in [json!(0), json!(-0.5), json!(1.01), json!("half"), json!("NaN"), json!("inf"), json!(null)] {
        refuses(with(json!({"failure_mode": "local", "local_share": share})), "local_share", "above 0 and up to 1");
    }
    assert!(warnings(&with(json!({"failure_mode": "closed"})))[0].contains("no effect without `redis`"));
    let unused = with(json!({"local_share": 0.5, "redis": {"service_name": "r"}}));
    assert_eq!(warnings(&unused), ["local_share: has no effect without `failure_mode: local`"]);
}

#[test]
fn dry_run_of_all_and_of_one() {
    let entry = json!([{"key": "a", "query_per_second": 1}]);
    let policy = policy(&json!({"rule_name": "r", "dry_run": false, "rule_items": [
        {"limit_by_header": "h", "dry_run": true, "limit_keys": entry},
        {"limit_by_param": "p", "limit_keys": entry}
    ]}));
    assert!(!policy.dry_run);
    assert_eq!([policy.items[0].dry_run, policy.items[1].dry_run], [true, false]);
}

fn by_ip(fields: Value) -> Value {
    let mut item = json!({"limit_by_per_ip": "from-header-x-forwarded-for",
        "limit_keys": [{"key": "0.0.0.0/0", "query_per_second": 1}]});
    for (name, value) in fields.as_object().unwrap() {
        item[name] = value.clone();
    }
    with_item(item)
}

fn client(fields: Value) -> ClientIp {
    match policy(&by_ip(fields)).items.remove(0).limit_by.source {
        Source::Ip(client) => client,
        other => panic!("{other:?}"),
    }
}

#[test]
fn trusted_addresses() {
    assert!(matches!(client(json!({"trusted_hops": 0})).trust, Trust::Hops(0)));
    assert!(matches!(client(json!({"trusted_hops": "2"})).trust, Trust::Hops(2)));
    let Trust::Proxies { networks, .. } = client(json!({"trusted_proxies": ["10.1.2.3/8", "::1", "fd00::/8"]})).trust
    else {
        panic!()
    };
    assert_eq!(networks, ["10.0.0.0/8", "::1/128", "fd00::/8"].map(|text| text.parse().unwrap()));
    assert!(matches!(client(json!({"trusted_proxies": "10.0.0.1"})).trust,
            Trust::Proxies { networks, .. } if networks.len() == 1));
    assert_eq!(client(json!({"ipv6_prefix": 64})).ipv6_prefix, 64);
}

#[test]
fn trusted_addresses_that_make_no_sense() {
    for (fields, path, message) in [
        (json!({"trusted_hops": -1}), ".trusted_hops", "from 0 to 100, got `-1`"),
        (json!({"trusted_hops": 101}), ".trusted_hops", "got `101`"),
        (json!({"trusted_proxies": []}), ".trusted_proxies", "got an empty array"),
        (json!({"trusted_proxies": null}), ".trusted_proxies", "got null"),
        (json!({"trusted_proxies": ["10.0.0.0/33"]}), ".trusted_proxies[0]", "got `10.0.0.0/33`"),
        (json!({"trusted_proxies": ["::1", 10]}), ".trusted_proxies[1]", "got `10`"),
        (json!({"trusted_hops": 1, "trusted_proxies": ["::1"]}), "", "`trusted_hops` and `trusted_proxies`"),
        (json!({"ipv6_prefix": 0}), ".ipv6_prefix", "from 1 to 128, got `0`"),
        (json!({"ipv6_prefix": 129}), ".ipv6_prefix", "got `129`"),
        (
            json!({"limit_by_per_ip": "from-remote-addr", "trusted_hops": 1}),
            ".trusted_hops",
            "expected only with `from-header-`",
        ),
    ] {
        refuses(by_ip(fields), &alloc::format!("rule_items[0]{path}"), message);
    }
    for name in ["trusted_hops", "trusted_proxies", "ipv6_prefix"] {
        refuses(
            with_item(json!({"limit_by_header": "h", name: 1, "limit_keys": [{"key": "a", "query_per_second": 1}]})),
            &alloc::format!("rule_items[0].{name}"),
            "stands beside `limit_by_header`: expected only beside `limit_by_per_ip`",
        );
    }
}

#[test]
fn quota_headers() {
    let headers = |fields: Value| policy(&with(fields)).headers;
    let none = QuotaHeaders::default();
    assert_eq!(headers(json!({})), QuotaHeaders { reset: true, ..none });
    assert_eq!(headers(json!({"show_limit_quota_header": null})), QuotaHeaders { reset: true, ..none });
    assert_eq!(headers(json!({"show_limit_quota_header": true})), QuotaHeaders { reset: true, quota: true, ..none });
    assert_eq!(headers(json!({"headers": []})), none);
    assert_eq!(headers(json!({"headers": ["x-ratelimit"]})), QuotaHeaders { reset: true, quota: true, ..none });
    assert_eq!(headers(json!({"headers": "ratelimit"})), QuotaHeaders { ietf: true, ..none });
    assert_eq!(
        headers(json!({"headers": ["retry-after", "ratelimit"]})),
        QuotaHeaders { ietf: true, retry_after: true, ..none }
    );
    assert_eq!(headers(json!({"headers": ["x-slidegate-degraded"]})), QuotaHeaders { degraded: true, ..none });
    refuses(
        with(json!({"headers": ["x-ratelimits"]})),
        "headers[0]",
        "expected `x-ratelimit`, `ratelimit`, `retry-after`, `x-ratelimit-tokens`, `anthropic-ratelimit` or \
         `x-slidegate-degraded`, got `x-ratelimits`",
    );
    refuses(with(json!({"headers": null})), "headers", "got null");
    let both = errors(&with(json!({"headers": ["ratelimits"], "show_limit_quota_header": "perhaps"})));
    assert_eq!(both.len(), 2, "{both:?}");
    let told = warnings(&with(json!({"headers": ["ratelimit", "retry-after", "ratelimit"]})));
    assert_eq!(told, ["headers[2]: stands here a second time"]);
    refuses(with(json!({"headers": ["ratelimit"], "show_limit_quota_header": true})), "headers", "lacks `x-ratelimit`");
    assert!(
        warnings(&with(json!({"headers": ["x-ratelimit"], "show_limit_quota_header": false})))[0]
            .contains("this list decides")
    );
}

#[test]
fn names_of_items_and_thresholds() {
    let read = policy(&with_threshold(json!({"query_per_second": 5, "name": "all"})));
    assert_eq!(read.global_name.as_deref(), Some("all"));
    let named = |name: Value| {
        json!({"limit_by_header": "h", "name": name,
        "limit_keys": [{"key": "a", "query_per_second": 5}]})
    };
    assert_eq!(item(named(json!(7))).name.as_deref(), Some("7"));
    assert_eq!(item(json!({"limit_by_header": "h", "limit_keys": [{"key": "a", "query_per_second": 5}]})).name, None);
    let two = json!({"rule_name": "r", "rule_items": [named(json!("a")), named(json!("b"))]});
    assert_eq!(warnings(&two), Vec::<String>::new(), "they count apart");
    for name in [json!(""), json!("a\nb"), json!("x".repeat(65))] {
        refuses(with_item(named(name)), "rule_items[0].name", "expected a name of 1 to 64 bytes");
    }
    refuses(with_threshold(json!({"query_per_second": 5, "name": []})), "global_threshold.name", "expected a text");
}

#[test]
fn new_keys_a_second() {
    let read = policy(&with(json!({"max_new_keys_per_second": "100"})));
    assert_eq!(read.max_new_keys_per_second, Some(100));
    assert_eq!(policy(&with(json!({}))).max_new_keys_per_second, None);
    let keys = json!([{"key": "a", "query_per_second": 5}]);
    let own = item(json!({"limit_by_header": "h", "limit_keys": keys, "max_new_keys_per_second": 7}));
    assert_eq!(own.max_new_keys_per_second, Some(7));
    let mut document = with_item(json!({"limit_by_header": "h", "limit_keys": keys, "max_new_keys_per_second": 7}));
    document["max_new_keys_per_second"] = json!(9);
    let told = warnings(&document);
    assert!(
        told.len() == 2 && told.iter().all(|warning| warning.contains("has no effect without `redis`")),
        "{told:?}"
    );
    assert!(told[0].starts_with("max_new_keys") && told[1].starts_with("rule_items[0].max_new_keys"), "{told:?}");
    document["redis"] = json!({"service_name": "r"});
    assert_eq!(warnings(&document), [""; 0]);
    for wrong in [json!(0), json!(-1), json!(1_000_001), json!("many"), json!(null)] {
        refuses(
            with(json!({"max_new_keys_per_second": wrong})),
            "max_new_keys_per_second",
            "a whole number from 1 to 1000000",
        );
    }
}
