//! Configurations that are almost right, that were right once, and that never were.

use proptest::{prelude::*, sample::Index, strategy::Union};
use serde_json::{Value as Json, json};

use crate::documented;

/// In the configurations to start from, and nowhere in what is shown.
pub const PASSWORD: &str = "hush-hush";

/// Good ones of every kind.
///
/// # Panics
///
/// When the documentation is not YAML.
pub fn corpus() -> Vec<Json> {
    let read = |(_, yaml)| serde_saphyr::from_str(yaml).expect("the documentation is YAML");
    let mut corpus: Vec<Json> = documented::ALL.into_iter().map(read).collect();
    let everything = json!({
        "rule_name": "everything",
        "rule_match": "all",
        "global_threshold": {"query_per_second": 5, "limit": 1000, "window": "10s", "precision": 32},
        "rule_items": [
            {"limit_by_per_header": "x-key", "dry_run": true, "limit_keys": [
                {"key": "regexp:^a[bc]+", "query_per_minute": 10, "precision": "exact"},
                {"key": "exact", "query_per_hour": "7", "query_per_second": 1},
                {"key": "*", "query_per_day": 9}]},
            {"limit_by_per_ip": "from-header-x-forwarded-for", "trusted_proxies": ["10.0.0.0/8", "::1"],
                "ipv4_prefix": 24, "ipv6_prefix": 64, "limit_keys": [
                {"key": "1.1.1.0/24", "query_per_second": 5},
                {"key": "::/0", "limit": 50, "window": "5m"}]},
            {"limit_by_per_ip": "from-remote-addr", "limit_keys": [{"key": "0.0.0.0/0", "query_per_second": 3}]},
            {"limit_by_param": "id", "limit_keys": [{"key": "a b", "query_per_second": 3},
                {"key": 7, "query_per_day": 1}]},
            {"limit_by_per_cookie": "sid", "take": "all", "on_missing": "count",
                "limit_keys": [{"key": "*", "query_per_second": 2}]},
            {"limit_by_per_header": "authorization", "name": "tokens", "take": "last", "on_missing": "refuse",
                "limit_keys": [
                {"key": "Bearer vip", "unlimited": true}, {"key": "*", "together": true, "query_per_second": 2}]},
            {"limit_by_header": ":path-only", "max_new_keys_per_second": 7,
                "limit_keys": [{"key": "/p", "query_per_second": 2}]},
            {"limit_by_consumer": null, "limit_keys": [{"key": 102_234, "query_per_second": 5}]}
        ],
        "headers": ["x-ratelimit", "ratelimit", "retry-after"],
        "show_limit_quota_header": true,
        "rejected_code": 503,
        "rejected_msg": {"code": -1},
        "rejected_content_type": "application/json",
        "rejected_headers": {"x-why": "limit"},
        "exempt": {"routes": ["health"], "methods": ["OPTIONS"], "networks": ["10.9.0.0/16"],
            "headers": {"x-probe": PASSWORD}},
        "hash_key": PASSWORD,
        "remember_refusals": "10s",
        "failure_mode": "local",
        "local_share": 0.5,
        "precision": 10,
        "dry_run": "false",
        "redis": {"service_name": "redis.static", "service_port": 6379, "username": "u", "password": PASSWORD,
            "timeout": 5, "database": 1},
    });
    let mut here = everything.clone();
    here.as_object_mut()
        .expect("an object")
        .retain(|name, _| !matches!(name.as_str(), "redis" | "failure_mode" | "local_share"));
    let mut closed = everything.clone();
    closed.as_object_mut().expect("an object").remove("local_share");
    closed["failure_mode"] = json!("closed");
    closed["rule_match"] = json!("first");
    let mut scoped = closed.clone();
    let rule = |name: &str, matches: Json| {
        let mut rule = here.clone();
        rule[name] = matches;
        rule
    };
    scoped["_rules_"] = json!([
        rule("_match_route_", json!(["orders"])),
        rule("_match_domain_", json!(["*.test", "a.*", "[::1]"])),
        rule("_match_service_", json!(["b:80", "c"])),
        rule("_match_route_prefix_", json!("o")),
    ]);
    let chain = json!({"filters": [scoped, here, closed, everything]});
    corpus.extend([everything, here, closed, scoped, chain, tokens(), read_session(), own_session()]);
    corpus
}

fn redis() -> Json {
    json!({"service_name": "redis.static", "password": PASSWORD})
}

/// A limit of tokens, which looks at bodies.
fn tokens() -> Json {
    json!({
        "rule_name": "tokens",
        "rule_items": [{"limit_by_per_header": "x-key", "limit_keys": [{"key": "*", "token_per_minute": 1_000}]}],
        "request_usage": true,
        "error_format": "auto",
        "redis": redis(),
    })
}

/// A session of others that leads to who is limited, and to whose pages are kept.
fn read_session() -> Json {
    let session = json!({
        "format": "express",
        "cookie": "sid",
        "secrets": [PASSWORD],
        "fields": {"user": "x-user"},
        "on_missing": {"redirect": "/login"},
        "public": ["/p", "/assets/*"],
        "redis": redis(),
    });
    let per_user = json!({"limit_by_per_session": "user", "limit_keys": [{"key": "*", "query_per_second": 2}]});
    let limit = json!({"rule_name": "users", "rule_items": [per_user], "redis": redis()});
    let cache = json!({"key": {"headers": ["x-key"], "group": {"session": "user"}}, "redis": redis()});
    json!({"filters": [{"session": session}, limit, {"cache": cache}]})
}

/// A session of our own, and cookies that are kept.
fn own_session() -> Json {
    let session = json!({
        "format": "own",
        "secrets": [PASSWORD],
        "fields": {"user": "x-user"},
        "user": "user",
        "on_missing": 401,
        "redis": redis(),
    });
    let vault = json!({"cookies": ["sid"], "secrets": [PASSWORD], "redis": redis()});
    json!({"filters": [{"session": session}, {"cookie_vault": vault}]})
}

fn any_value() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        prop::sample::select(vec![0_u64, 1, 100, 101, 1 << 53, (1 << 53) + 1, u64::MAX]).prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        "(regexp:)?[\\PC]{0,12}".prop_map(Json::from),
        "regexp:[\\^$.*+?()\\[\\]{}|a-d0-9,\\\\-]{0,12}".prop_map(Json::from),
        "[0-9]{0,20}(ms|s|m|h|d|\\.[0-9]|/[0-9]{1,3})?".prop_map(Json::from),
        "[0-9a-f:.]{0,20}(/[0-9]{1,3})?".prop_map(Json::from),
        "(from-header-|from-remote-addr|exact|\\*)[a-z:]{0,3}".prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::vec((any_name(), inner), 0..4)
                .prop_map(|fields| Json::Object(fields.into_iter().collect())),
        ]
    })
}

fn any_name() -> impl Strategy<Value = String> {
    let names = vec![
        "key",
        "limit",
        "window",
        "query_per_day",
        "query_per_second",
        "limit_by_param",
        "limit_by_per_ip",
        "limit_keys",
        "redis",
        "headers",
        "_match_domain_",
        "_match_route_",
        "_rules_",
        "_plugin_id_",
        "precision",
        "trusted_hops",
        "rule_items",
        "global_threshold",
    ];
    prop_oneof![prop::sample::select(names).prop_map(String::from), "[\\PC]{0,8}"]
}

#[derive(Debug, Clone)]
enum Change {
    Replace(Index, Json),
    Remove(Index),
    Add(Index, String, Json),
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<Index>(), any_value()).prop_map(|(at, value)| Change::Replace(at, value)),
        any::<Index>().prop_map(Change::Remove),
        (any::<Index>(), any_name(), any_value()).prop_map(|(at, name, value)| Change::Add(at, name, value)),
    ]
}

/// Documents that are almost right, bytes that were right once, and bytes.
///
/// # Panics
///
/// As [`corpus`].
pub fn any_configuration() -> impl Strategy<Value = Vec<u8>> {
    let corpus = corpus();
    let changed = (prop::sample::select(corpus.clone()), prop::collection::vec(any_change(), 0..6)).prop_map(
        |(mut document, changes)| {
            changes.into_iter().for_each(|each| change(&mut document, each));
            document.to_string().into_bytes()
        },
    );
    let texts: Vec<Vec<u8>> = corpus.iter().map(|document| document.to_string().into_bytes()).collect();
    let edits = prop::collection::vec(
        (any::<Index>(), prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:0-9.\\u".to_vec())]),
        1..6,
    );
    let corrupted =
        (prop::sample::select(texts), edits, prop::option::of(any::<Index>())).prop_map(|(mut bytes, edits, cut)| {
            for (at, byte) in edits {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
            bytes
        });
    let nested = (1..3_000_usize, prop::sample::select(vec!["[", "{\"a\":", "{\"rule_items\":["]))
        .prop_map(|(depth, text)| text.repeat(depth).into_bytes());
    Union::new_weighted(vec![
        (12, changed.boxed()),
        (4, corrupted.boxed()),
        (2, prop::collection::vec(any::<u8>(), 0..200).boxed()),
        (1, nested.boxed()),
    ])
}

/// JSON pointers of everything in a document.
fn pointers(value: &Json, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Json::Object(fields) => fields.iter().for_each(|(name, value)| {
            pointers(value, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found)
        }),
        Json::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| pointers(value, &format!("{at}/{index}"), found))
        }
        _ => {}
    }
}

fn change(document: &mut Json, change: Change) {
    let mut found = vec![];
    pointers(document, "", &mut found);
    let (Change::Replace(at, _) | Change::Remove(at) | Change::Add(at, ..)) = &change;
    let pointer = at.get(&found).clone();
    match change {
        Change::Replace(_, value) => *document.pointer_mut(&pointer).expect("it was found") = value,
        Change::Remove(_) => {
            let Some((parent, name)) = pointer.rsplit_once('/') else { return };
            match document.pointer_mut(parent).expect("it was found") {
                Json::Object(fields) => drop(fields.remove(&name.replace("~1", "/").replace("~0", "~"))),
                Json::Array(items) => drop(items.remove(name.parse().expect("an index"))),
                _ => {}
            }
        }
        Change::Add(_, name, value) => match document.pointer_mut(&pointer).expect("it was found") {
            Json::Object(fields) => drop(fields.insert(name, value)),
            Json::Array(items) => items.push(value),
            _ => {}
        },
    }
}
