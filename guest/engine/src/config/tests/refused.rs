//! What stock refuses, and the nonsense that it takes for 0 or false.

use alloc::format;

use super::*;

fn with_key(entry: Value) -> Value {
    with_item(json!({"limit_by_header": "h", "limit_keys": [entry]}))
}

fn with_redis(redis: Value) -> Value {
    with(json!({"redis": redis}))
}

#[test]
fn one_slip_is_one_mistake() {
    for (document, path) in [
        (with_threshold(json!({"limt": 5})), "global_threshold.limt"),
        (with_key(json!({"key": "a", "limt": 5})), "rule_items[0].limit_keys[0].limt"),
        (json!({"filters": [{"sesion": {"format": "php"}}]}), "filters[0].sesion"),
        (json!({"Session": {"format": "php"}}), "Session"),
    ] {
        let told = Config::read(document.to_string().as_bytes()).expect_err("a slip");
        let paths: Vec<&str> = told.iter().map(|mistake| mistake.path.as_str()).collect();
        assert_eq!(paths, [path], "{told:?}");
    }
}

#[test]
fn a_url_in_the_wrong_place_is_not_shown() {
    for (field, value) in [
        ("failure_mode", "redis://u:hush@h"),
        ("precision", "unix:///x.sock?user=u&pass=hush"),
        ("rule_match", "u:hush@h"),
        ("show_limit_quota_header", "rediss+cluster://u:hush@a:1,b:2"),
    ] {
        let mut config = with_redis(json!({"service_name": "redis.static"}));
        config[field] = json!(value);
        refuses(config, field, "got a URL or a part of one");
    }
    let network = json!({"limit_by_per_ip": "from-remote-addr",
        "limit_keys": [{"key": "redis://u:hush@h", "query_per_second": 1}]});
    refuses(with_item(network), "rule_items[0].limit_keys[0].key", "such as `10.0.0.0/8`, got a URL or a part of one");
}

#[test]
fn redis() {
    refuses(with_redis(json!({})), "redis.service_name", "is missing");
    refuses(with_redis(json!({"service_name": ""})), "redis.service_name", "expected the name of a Redis service");
    refuses(with_redis(json!({"service_name": "a b"})), "redis.service_name", "got `a b`");
    for name in ["a/b", "u@h"] {
        refuses(
            with_redis(json!({"service_name": name})),
            "redis.service_name",
            "expected the name of a Redis service",
        );
    }
    refuses(with_redis(json!({"service_name": null})), "redis.service_name", "expected a text, got null");
    refuses(with_redis(json!(null)), "redis", "expected an object with `service_name`, got null");
    refuses(
        with_redis(json!("redis://:secret@redis.static")),
        "redis",
        "expected an object with `service_name`, got a text",
    );
    refuses(
        with_redis(json!({"service_name": "redis://:secret@redis.static"})),
        "redis.service_name",
        "got a URL or a part of one",
    );
    for (field, value, greatest) in [
        ("service_port", json!(65536), "65535"),
        ("service_port", json!(-1), "65535"),
        ("service_port", json!("http"), "65535"),
        ("timeout", json!(-5), "3600000"),
        ("timeout", json!("1s"), "3600000"),
        ("timeout", json!(3_600_001), "3600000"),
        ("database", json!(1.5), "2147483647"),
        ("database", json!([]), "2147483647"),
    ] {
        let expected = format!("expected a whole number from 0 to {greatest}, got ");
        let mut redis = json!({"service_name": "r.dns"});
        redis[field] = value;
        refuses(with_redis(redis), &format!("redis.{field}"), &expected);
    }
}

#[test]
fn rules_are_among_the_fields_of_the_top_only() {
    let of_top = errors(&with(json!({"colour": 1}))).concat();
    assert!(
        of_top.contains("colour: there is no such field here; expected `rule_name`") && of_top.contains("`_rules_`"),
        "{of_top}"
    );
    let of_element = errors(&json!({"_rules_": [with(json!({"_match_route_": "a", "colour": 1}))]})).concat();
    assert!(
        of_element.contains("colour: there is no such field here") && !of_element.contains("or `_rules_`"),
        "{of_element}"
    );
}

#[test]
fn every_mistake_of_a_redis_block_is_told() {
    let errors = errors(&with_redis(
        json!({"service_port": -1, "username": [], "password": {}, "timeout": 3_600_001, "database": -1}),
    ));
    for field in ["service_name", "service_port", "username", "password", "timeout", "database"] {
        assert!(errors.iter().any(|error| error.starts_with(&format!("redis.{field}"))), "{field}: {errors:?}");
    }
}

#[test]
fn no_message_repeats_a_password() {
    for redis in [
        json!({"service_name": "r", "password": {"secret": "secret"}}),
        json!({"service_name": "r", "password": ["secret"]}),
        json!({"service_name": "r", "password": "secret", "pasword": "secret", "database": -1}),
        json!({"password": "secret"}),
    ] {
        let errors = errors(&with_redis(redis));
        assert!(!errors.concat().contains("secret"), "{errors:?}");
    }
    let config = config(&with_redis(json!({"service_name": "r", "password": "secret", "username": "u"})));
    assert!(!config.describe().contains("secret"));
}

#[test]
fn what_is_required() {
    refuses(json!({"global_threshold": {"query_per_second": 1}}), "rule_name", "is missing");
    refuses(
        json!({"rule_name": null, "global_threshold": {"query_per_second": 1}}),
        "rule_name",
        "expected a text, got null",
    );
    refuses(json!({"rule_name": "r"}), "", "expected `global_threshold` or `rule_items`");
    refuses(json!({"rule_name": "r", "rule_items": []}), "rule_items", "got an empty array");
    refuses(json!({"rule_name": "r", "rule_items": null}), "rule_items", "got null");
    refuses(with(json!({"rule_items": null})), "rule_items", "got null");
    refuses(with_threshold(json!({})), "global_threshold", "at least one limit");
    refuses(with_threshold(json!(null)), "global_threshold", "expected an object, got null");
    refuses(with_item(json!({"limit_by_header": "h"})), "rule_items[0].limit_keys", "is missing");
    refuses(
        with_item(json!({"limit_by_header": "h", "limit_keys": []})),
        "rule_items[0].limit_keys",
        "got an empty array",
    );
    refuses(
        with_item(json!({"limit_by_header": "h", "limit_keys": ["a"]})),
        "rule_items[0].limit_keys[0]",
        "expected an object, got a text",
    );
    refuses(with_key(json!({"query_per_day": 1})), "rule_items[0].limit_keys[0].key", "is missing");
    refuses(with_key(json!({"key": "", "query_per_day": 1})), "rule_items[0].limit_keys[0].key", "got an empty text");
    refuses(with_key(json!({"key": null, "query_per_day": 1})), "rule_items[0].limit_keys[0].key", "got null");
    refuses(with_key(json!({"key": {}, "query_per_day": 1})), "rule_items[0].limit_keys[0].key", "got an object");
    refuses(
        with_key(json!({"key": 1e300, "query_per_day": 1})),
        "rule_items[0].limit_keys[0].key",
        "write it in quotes",
    );
    refuses(with_key(json!({"key": "a"})), "rule_items[0].limit_keys[0]", "at least one limit: `query_per_second`");
    assert!(policy(&json!({"rule_name": "", "global_threshold": {"query_per_second": 1}})).rule_name.is_empty());
}

#[test]
fn counts() {
    for (count, seen) in [
        (json!(0), "`0`"),
        (json!(-3), "`-3`"),
        (json!(1.5), "`1.5`"),
        (json!("abc"), "`abc`"),
        (json!("-1"), "`-1`"),
        (json!("1e3"), "`1e3`"),
        (json!(" 5"), "` 5`"),
        (json!(""), "an empty text"),
        (json!(true), "`true`"),
        (json!(null), "null"),
        (json!([5]), "an array"),
        (json!(9_007_199_254_740_993_u64), "`9007199254740993`"),
        (json!("9007199254740993"), "`9007199254740993`"),
        (json!(1e17), "`1e+17`"),
        (json!("99999999999999999999999"), "`99999999999999999999999`"),
    ] {
        let expected = format!("expected a whole number from 1 to 9007199254740992, got {seen}");
        for field in ["query_per_second", "query_per_minute", "query_per_hour", "query_per_day"] {
            refuses(with_threshold(json!({field: count})), &format!("global_threshold.{field}"), &expected);
        }
        refuses(
            with_key(json!({"key": "a", "query_per_minute": count})),
            "rule_items[0].limit_keys[0].query_per_minute",
            &expected,
        );
        refuses(with_threshold(json!({"limit": count, "window": "1s"})), "global_threshold.limit", &expected);
    }
    assert_eq!(
        policy(&with_threshold(json!({"query_per_second": 9_007_199_254_740_992_u64}))).global,
        [limit(1 << 53, 1, 15_625)]
    );
}

#[test]
fn what_to_count_by() {
    let keys = json!([{"key": "a", "query_per_second": 1}]);
    refuses(with_item(json!({"limit_keys": keys})), "rule_items[0]", "expected one of `limit_by_header`");
    refuses(
        with_item(json!({"limit_by_header": "", "limit_keys": keys})),
        "rule_items[0].limit_by_header",
        "got an empty text",
    );
    refuses(
        with_item(json!({"limit_by_per_ip": null, "limit_keys": keys})),
        "rule_items[0].limit_by_per_ip",
        "got null",
    );
    refuses(
        with_item(json!({"limit_by_header": "h", "limit_by_param": "p", "limit_keys": keys})),
        "rule_items[0]",
        "has `limit_by_header` and `limit_by_param`: expected one of them only",
    );
    refuses(
        with_item(json!({"limit_by_cookie": "h", "limit_by_consumer": null, "limit_keys": keys})),
        "rule_items[0]",
        "has `limit_by_consumer` and `limit_by_cookie`",
    );
    refuses(
        with_item(json!({"limit_by_header": "x y", "limit_keys": keys})),
        "rule_items[0].limit_by_header",
        "got `x y`",
    );
    refuses(
        with_item(json!({"limit_by_header": ":scheme", "limit_keys": keys})),
        "rule_items[0].limit_by_header",
        "got `:scheme`",
    );
    refuses(
        with_item(json!({"limit_by_per_header": "grüße", "limit_keys": keys})),
        "rule_items[0].limit_by_per_header",
        "the name of a header",
    );
    refuses(
        with_item(json!({"limit_by_header": {}, "limit_keys": keys})),
        "rule_items[0].limit_by_header",
        "expected a text, got an object",
    );
    refuses(
        with_item(json!({"limit_by_cookie": "a=b", "limit_keys": keys})),
        "rule_items[0].limit_by_cookie",
        "the name of a cookie",
    );
    let by_ip = |value: &str| {
        with_item(json!({"limit_by_per_ip": value, "limit_keys": [{"key": "1.1.1.1", "query_per_second": 1}]}))
    };
    refuses(by_ip("from-header-"), "rule_items[0].limit_by_per_ip", "after `from-header-`, got nothing");
    refuses(by_ip("from-header-a b"), "rule_items[0].limit_by_per_ip", "the name of a header");
    refuses(by_ip("x-forwarded-for"), "rule_items[0].limit_by_per_ip", "expected `from-remote-addr` or `from-header-`");
    let pseudo = item(json!({"limit_by_per_header": ":authority", "limit_keys": keys}));
    assert_eq!(pseudo.limit_by.key_name, ":authority");
}

#[test]
fn keys() {
    for key in ["1.1.1", "1.1.1.256", "1.1.1.1/x", "a.b.c.d", "fe80::1%eth0", "::1/129", "*", "regexp:1.*", "nonsense"]
    {
        let seen = format!("got `{key}`");
        refuses(
            with_item(
                json!({"limit_by_per_ip": "from-remote-addr", "limit_keys": [{"key": key, "query_per_second": 1}]}),
            ),
            "rule_items[0].limit_keys[0].key",
            &seen,
        );
    }
    for expression in ["(", "[a", "a**", r"(?<=a)b", r"\1"] {
        let document = with_item(json!({"limit_by_per_param": "p", "limit_keys": [
            {"key": format!("regexp:{expression}"), "query_per_second": 1}
        ]}));
        let seen = format!("`{expression}` is not a regular expression: ");
        refuses(document, "rule_items[0].limit_keys[0].key", &seen);
    }
}

#[test]
fn a_key_in_the_wrong_place_is_cut() {
    let secret = "sk-abcdefghijklmnop0123";
    let item = |field: &str, keys: Value| with_item(json!({field: "h", "limit_keys": keys}));
    let as_name = |name: &str| {
        item("limit_by_header", json!([{name: {"query_per_second": 1}, "key": "a", "query_per_second": 1}]))
    };
    refuses(as_name(secret), "rule_items[0].limit_keys[0].sk-a***", "there is no such field here");
    refuses(
        as_name("query_per_minuites"),
        "rule_items[0].limit_keys[0].query_per_minuites",
        "did you mean `query_per_minute`?",
    );
    let listless = item("limit_by_header", json!({secret: {"query_per_second": 1}}));
    for expression in [
        format!("({secret}"),
        format!("[{secret}"),
        format!("{secret})"),
        format!("(?<={secret})"),
        format!("(?P<{secret}"),
    ] {
        let told = errors(&item(
            "limit_by_per_header",
            json!([{"key": format!("regexp:{expression}"), "query_per_second": 1}]),
        ))
        .concat();
        assert!(told.contains("***` is not a regular expression: "), "{told}");
        assert!(!told.contains("efgh"), "{told}");
    }
    let told = errors(&listless).concat();
    assert!(told.contains("limit_keys.sk-a***: ") && !told.contains("efgh"), "{told}");
    let literal = item("limit_by_header", json!([{"key": format!("regexp:{secret}"), "query_per_second": 1}]));
    let told = warnings(&literal).concat();
    assert!(told.contains("`regexp:sk-a***` is compared") && !told.contains("efgh"), "{told}");
}

#[test]
fn other_fields() {
    for (fields, path, message) in [
        (json!({"rejected_code": 99}), "rejected_code", "expected a whole number from 200 to 599, got `99`"),
        (json!({"rejected_code": 100}), "rejected_code", "got `100`"),
        (json!({"rejected_code": 1000}), "rejected_code", "got `1000`"),
        (json!({"rejected_code": null}), "rejected_code", "got null"),
        (json!({"rejected_code": "teapot"}), "rejected_code", "got `teapot`"),
        (json!({"show_limit_quota_header": "maybe"}), "show_limit_quota_header", "expected true or false, got `maybe`"),
        (json!({"show_limit_quota_header": 2}), "show_limit_quota_header", "got `2`"),
        (json!({"dry_run": "yes"}), "dry_run", "expected true or false, got `yes`"),
        (json!({"dry_run": null}), "dry_run", "got null"),
    ] {
        refuses(with(fields), path, message);
    }
}

#[test]
fn fields_that_nobody_reads() {
    for (fields, path, message) in [
        (json!({"rejectd_code": 1}), "rejectd_code", "did you mean `rejected_code`?"),
        (json!({"ruleName": 1}), "ruleName", "did you mean `rule_name`?"),
        (json!({"rule_item": []}), "rule_item", "did you mean `rule_items`?"),
        (json!({"limit_keys": []}), "limit_keys", "it stands in an element of `rule_items`"),
        (
            json!({"query_per_second": 1}),
            "query_per_second",
            "it stands in an element of `limit_keys` or in `global_threshold`",
        ),
        (json!({"_match_route_": "a"}), "_match_route_", "it stands in an element of `_rules_`"),
        (json!({"colour": "red"}), "colour", "expected `rule_name`, `global_threshold`"),
        (json!({"": 1}), "", "there is no such field here"),
        (json!({"redis": {"service_name": "r", "pasword": "p"}}), "redis.pasword", "did you mean `password`?"),
        (json!({"redis": {"service_name": "r", "rejected_code": 1}}), "redis.rejected_code", "it stands at the top or"),
    ] {
        refuses(with(fields), path, message);
    }
    let limits = json!([{"key": "a", "query_per_minut": 5, "query_per_day": 1}]);
    refuses(
        with_item(json!({"limit_by_header": "h", "limit_keys": limits})),
        "rule_items[0].limit_keys[0].query_per_minut",
        "did you mean `query_per_minute`?",
    );
    refuses(
        with_item(json!({"limit_by_ip": "from-remote-addr", "limit_by_consumer": "",
                "limit_keys": [{"key": "a", "query_per_day": 1}]})),
        "rule_items[0].limit_by_ip",
        "did you mean `limit_by_per_ip`?",
    );
}

#[test]
fn every_mistake_is_found_in_one_pass() {
    let errors = errors(&json!({
        "rule_nam": "r",
        "global_threshold": {"query_per_second": 0, "query_per_hour": "x"},
        "rule_items": [
            {"limit_by_header": "h", "limit_keys": [{"key": "a"}, {"query_per_day": -1}]},
            {"limit_by_per_ip": "x", "limit_keys": [{"key": "1.1.1.1", "limit": 5}]},
            7
        ],
        "rejected_code": 42,
        "redis": {"service_port": 99999},
        "failure_mode": "never"
    }));
    let paths: Vec<&str> = errors.iter().filter_map(|error| error.split(": ").next()).collect();
    assert_eq!(
        paths,
        [
            "rule_nam",
            "rule_name",
            "global_threshold.query_per_second",
            "global_threshold.query_per_hour",
            "rule_items[0].limit_keys[0]",
            "rule_items[0].limit_keys[1].key",
            "rule_items[0].limit_keys[1].query_per_day",
            "rule_items[1].limit_by_per_ip",
            "rule_items[1].limit_keys[0].limit",
            "rule_items[2]",
            "rejected_code",
            "redis.service_name",
            "redis.service_port",
            "failure_mode"
        ]
    );
}

#[test]
fn a_wrong_source_of_addresses_hides_no_wrong_network() {
    let document = json!({
        "rule_name": "r",
        "rule_items": [{"limit_by_per_ip": "from-header-x", "trusted_hops": 101,
            "limit_keys": [{"key": "1.2.3.4/", "query_per_second": 1}]}],
    });
    let errors = errors(&document);
    let paths: Vec<&str> = errors.iter().filter_map(|error| error.split(':').next()).collect();
    assert_eq!(paths.len(), 2, "{errors:?}");
    assert!(
        paths.contains(&"rule_items[0].trusted_hops") && paths.contains(&"rule_items[0].limit_keys[0].key"),
        "{errors:?}"
    );
}
