//! Whatever is done to a document, reading it ends in a configuration or in mistakes, never in a panic.

use alloc::{boxed::Box, vec};

use proptest::{prelude::*, sample::Index};

use super::*;

/// Something of everything.
fn rich() -> Value {
    let policy = json!({
        "rule_name": "r",
        "global_threshold": {"query_per_second": 5, "limit": 1000, "window": "10s", "precision": 32},
        "rule_items": [
            {"limit_by_per_header": "h", "dry_run": true, "limit_keys": [
                {"key": "regexp:^a[bc]+", "query_per_minute": 10, "precision": "exact"},
                {"key": "exact", "query_per_hour": "7"},
                {"key": "*", "query_per_day": 9}
            ]},
            {"limit_by_per_ip": "from-header-x-forwarded-for", "trusted_proxies": ["10.0.0.0/8"], "ipv6_prefix": 64,
                "limit_keys": [
                {"key": "1.1.1.0/24", "query_per_second": 5},
                {"key": "::/0", "query_per_second": 50}
            ]},
            {"limit_by_consumer": null, "limit_keys": [{"key": 102234, "query_per_second": 5}]}
        ],
        "rule_match": "all",
        "headers": ["x-ratelimit", "ratelimit", "retry-after"],
        "show_limit_quota_header": true,
        "rejected_code": 503,
        "rejected_msg": {"code": -1},
        "redis": {"service_name": "redis.static", "service_port": 6379, "username": "u", "password": "p", "timeout": 5,
            "database": 1},
        "failure_mode": "local",
        "local_share": 0.5,
        "precision": 10,
        "dry_run": "false"
    });
    let mut rule = policy.clone();
    rule["_match_route_"] = json!(["a"]);
    rule["_match_service_"] = json!("b:80");
    let mut document = policy;
    document["_rules_"] = json!([rule]);
    document["_plugin_id_"] = json!("p");
    document
}

/// A filter that reads sessions.
fn session() -> Value {
    json!({"session": {
        "format": "express", "cookie": "c", "secrets": ["new", "old"], "key_prefix": "s:", "remember": "2s",
        "fields": {"passport.user": "x-user-id", "role": "x-role"}, "on_missing": {"redirect": "/login"},
        "redis": {"service_name": "redis.static"}
    }})
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "(regexp:)?[\\PC]{0,12}".prop_map(Value::from),
        "[0-9]{0,22}(ms|s|m|h|d|\\.[0-9]|/[0-9]{1,3})?".prop_map(Value::from),
        "(from-header-|from-remote-addr|exact|\\*)[a-z:]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((any_name(), inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn any_name() -> impl Strategy<Value = String> {
    const NAMES: [&str; 12] = [
        "filters",
        "session",
        "max_age",
        "key",
        "limit",
        "window",
        "query_per_day",
        "limit_by_param",
        "limit_keys",
        "redis",
        "_match_domain_",
        "precision",
    ];
    prop_oneof![prop::sample::select(&NAMES[..]).prop_map(String::from), "[\\PC]{0,8}"]
}

enum Change {
    Replace(Index, Value),
    Remove(Index),
    Add(Index, String, Value),
}

impl core::fmt::Debug for Change {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Change::Replace(_, value) => write!(f, "Replace({value})"),
            Change::Remove(_) => write!(f, "Remove"),
            Change::Add(_, name, value) => write!(f, "Add({name:?}, {value})"),
        }
    }
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<Index>(), any_value()).prop_map(|(at, value)| Change::Replace(at, value)),
        any::<Index>().prop_map(Change::Remove),
        (any::<Index>(), any_name(), any_value()).prop_map(|(at, name, value)| Change::Add(at, name, value)),
    ]
}

/// JSON pointers of everything in a document.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_string());
    let children: Box<dyn Iterator<Item = (String, &Value)>> = match value {
        Value::Object(fields) => {
            Box::new(fields.iter().map(|(name, value)| (name.replace('~', "~0").replace('/', "~1"), value)))
        }
        Value::Array(items) => Box::new(items.iter().enumerate().map(|(index, value)| (index.to_string(), value))),
        _ => Box::new(core::iter::empty()),
    };
    for (name, child) in children {
        pointers(child, &alloc::format!("{at}/{name}"), found);
    }
}

fn change(document: &mut Value, change: Change) {
    let mut found = vec![];
    pointers(document, "", &mut found);
    let (Change::Replace(at, _) | Change::Remove(at) | Change::Add(at, ..)) = &change;
    let pointer = at.get(&found).clone();
    match change {
        Change::Replace(_, value) => *document.pointer_mut(&pointer).unwrap() = value,
        Change::Remove(_) => {
            let Some((parent, name)) = pointer.rsplit_once('/') else { return };
            match document.pointer_mut(parent).unwrap() {
                Value::Object(fields) => drop(fields.remove(name)),
                Value::Array(items) => drop(items.remove(name.parse().unwrap())),
                _ => {}
            }
        }
        Change::Add(_, name, value) => match document.pointer_mut(&pointer).unwrap() {
            Value::Object(fields) => drop(fields.insert(name, value)),
            Value::Array(items) => items.push(value),
            _ => {}
        },
    }
}

/// Reads, and checks what holds of every result.
fn check(json: &[u8]) {
    match Config::read(json) {
        Ok(config) => {
            assert!(!config.describe().is_empty());
            for policy in config.policies() {
                let index = policy.redis.map(|index| usize::try_from(index).unwrap());
                assert!(index.is_none_or(|index| index < config.services.len()));
                assert!(!policy.global.is_empty() || !policy.items.is_empty());
                let entries = policy.items.iter().flat_map(|item| &item.keys.entries);
                assert!(entries.clone().all(|entry| !entry.limits.is_empty() && !entry.key.is_empty()));
                for limit in entries.flat_map(|entry| &entry.limits).chain(&policy.global) {
                    assert!((1..=1 << 53).contains(&limit.limit));
                    assert!((1..=limit.window_us).contains(&limit.slot_us));
                    assert!(limit.window_us % 1_000_000 == 0 && limit.window_us / 1_000_000 <= 365 * 86_400);
                    let slots = limit.window_us.div_ceil(limit.slot_us);
                    assert!(limit.limit <= 100 || limit.slot_us == 1 || slots <= 96);
                }
            }
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            assert!(errors.iter().all(|error| !error.message.is_empty()));
        }
    }
}

#[test]
fn the_rich_one_is_good() {
    config(&rich());
    config(&json!({"filters": [session(), rich(), rich()]}));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_document(is_list in any::<bool>(), changes in prop::collection::vec(any_change(), 1..5)) {
        let mut document = if is_list { json!({"filters": [session(), rich(), rich()],
            "_plugin_id_": "p"}) } else { rich() };
        for each in changes {
            change(&mut document, each);
        }
        check(document.to_string().as_bytes());
    }

    #[test]
    fn a_document_with_other_bytes(changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..6),
        cut in any::<Index>()) {
        let mut bytes = rich().to_string().into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        check(&bytes);
        check(&bytes[..cut.index(bytes.len())]);
    }
}
