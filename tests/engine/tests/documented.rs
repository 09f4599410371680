//! What the six configurations of stock's documentation mean, as they are written there. What they do, cases show.

use slidegate_engine::{
    config::{Config, FilterRules},
    redis::Service,
    rule::{FailureMode, Limit, LimitUnit, Policy, QuotaHeaders, RuleItem, RuleMatch, Source, Trust},
};
use slidegate_engine_tests::{case::Case, documented};

/// A documented configuration, as the engine understands it.
fn config(name: &str) -> Config {
    let case = Case::read("documented/any", &format!("about: a\ndocumented: {name}\nsteps: [{{pass: {{}}}}]"))
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let config = Config::read(&case.config).unwrap_or_else(|errors| panic!("{name}: {errors:?}"));
    assert_eq!(config.warnings, [""; 0], "{name}");
    config
}

/// Its policy, shown to `look`.
fn policy(name: &str, look: impl FnOnce(&Policy)) {
    let config = config(name);
    let [FilterRules::Limiter(ruleset)] = config.filters.as_slice() else { panic!("{name}: {:?}", config.filters) };
    assert!(ruleset.scoped.is_empty(), "{name}");
    look(ruleset.fallback.as_ref().expect("a policy for all requests"));
}

/// A limit with a window in seconds.
fn limit(limit: u64, window_s: u64, slot_us: u64) -> Limit {
    Limit { limit, window_us: window_s * 1_000_000, slot_us, unit: LimitUnit::Requests }
}

/// The keys of an item, and the limits of each.
fn entries(item: &RuleItem) -> Vec<(&str, &[Limit])> {
    item.keys.entries.iter().map(|entry| (entry.key.as_str(), entry.limits.as_slice())).collect()
}

/// The item whose patterns the documentation repeats in each example.
#[track_caller]
fn assert_patterns(item: &RuleItem) {
    assert!(item.limit_by.per);
    assert_eq!(
        entries(item),
        [
            ("regexp:^a.*", &[limit(10, 1, 1)][..]),
            ("regexp:^b.*", &[limit(100, 60, 1)]),
            ("*", &[limit(1000, 3_600, 56_250_000)])
        ]
    );
}

/// The item that lists values, as in most examples, and the one with patterns behind it.
#[track_caller]
fn items<'a>(policy: &'a Policy, listed: [(&str, Limit); 2]) -> [&'a RuleItem; 2] {
    let [first, second] = policy.items.as_slice() else { panic!("{:?}", policy.items) };
    assert!(!first.limit_by.per && policy.global.is_empty());
    let listed = listed.each_ref().map(|(key, limit)| (*key, std::slice::from_ref(limit)));
    assert_eq!(entries(first), listed);
    assert_patterns(second);
    [first, second]
}

#[test]
fn all_ask_the_same_redis_and_show_what_is_left() {
    let service = Service {
        service_name: "redis.static".into(),
        port: 80,
        username: String::new(),
        password: String::new(),
        timeout_ms: 1_000,
        database: 0,
    };
    for (name, _) in documented::ALL {
        assert_eq!(config(name).services, std::slice::from_ref(&service), "{name}");
        policy(name, |policy| {
            assert_eq!(policy.redis, Some(0), "{name}");
            assert_eq!(policy.headers, QuotaHeaders { reset: true, quota: true, ..QuotaHeaders::default() }, "{name}");
            assert_eq!((policy.rule_match, policy.failure_mode), (RuleMatch::First, FailureMode::Open), "{name}");
            assert!(!policy.dry_run, "{name}");
            let refusal = (policy.rejected_code, policy.rejected_msg.as_str());
            let expected = match name {
                "cookie" => (200, r#"{"code":-1,"msg":"Too many requests"}"#),
                _ => (429, "Too many requests"),
            };
            assert_eq!(refusal, expected, "{name}");
        });
    }
}

#[test]
fn all_requests_together() {
    policy("global", |policy| {
        assert_eq!(policy.rule_name, "routeA-global-limit-rule");
        assert_eq!(policy.global, [limit(1000, 60, 937_500)]);
        assert!(policy.items.is_empty());
    });
}

#[test]
fn by_request_parameter() {
    policy("param", |policy| {
        let minute = ("9a342114-ba8a-11ec-b1bf-00163e1250b5", limit(10, 60, 1));
        let hour = ("a6a6d7f2-ba8a-11ec-bec2-00163e1250b5", limit(100, 3_600, 1));
        for item in items(policy, [minute, hour]) {
            assert!(matches!(&item.limit_by.source, Source::Param(name) if name == "apikey"));
        }
    });
}

#[test]
fn by_request_header_with_keys_that_yaml_made_numbers() {
    policy("header", |policy| {
        for item in items(policy, [("102234", limit(10, 60, 1)), ("308239", limit(10, 3_600, 1))]) {
            assert!(matches!(&item.limit_by.source, Source::Header(name) if name == "x-ca-key"));
        }
    });
}

#[test]
fn by_client_address() {
    policy("client-ip", |policy| {
        let [item] = policy.items.as_slice() else { panic!("{:?}", policy.items) };
        assert!(item.limit_by.per);
        assert_eq!(item.limit_by.key_name, "from-header-x-forwarded-for");
        let Source::Ip(client) = &item.limit_by.source else { panic!("{:?}", item.limit_by) };
        assert_eq!(client.header.as_deref(), Some("x-forwarded-for"));
        assert!(matches!(client.trust, Trust::Leftmost));
        assert_eq!(client.ipv6_prefix, 128);
        let day = 86_400;
        assert_eq!(
            entries(item),
            [
                ("1.1.1.1", &[limit(10, day, 1)][..]),
                ("1.1.1.0/24", &[limit(100, day, 1)]),
                ("0.0.0.0/0", &[limit(1000, day, 1_350_000_000)])
            ]
        );
    });
}

#[test]
fn by_consumer() {
    policy("consumer", |policy| {
        for item in items(policy, [("consumer1", limit(10, 1, 1)), ("consumer2", limit(100, 3_600, 1))]) {
            assert!(matches!(item.limit_by.source, Source::Consumer));
            assert_eq!(item.limit_by.key_name, "x-mse-consumer");
        }
    });
}

#[test]
fn by_cookie() {
    policy("cookie", |policy| {
        for item in items(policy, [("value1", limit(10, 60, 1)), ("value2", limit(100, 3_600, 1))]) {
            assert!(matches!(&item.limit_by.source, Source::Cookie(name) if name == "key1"));
        }
    });
}
