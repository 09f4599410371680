//! Filters that keep responses.

use alloc::format;

use slidegate_cache::{FreshnessTerms, KeyQuery};

use super::*;
use crate::cache::{CacheGroup, CacheRules};

/// A good document with these fields of `cache`.
fn with_cache(fields: Value) -> Value {
    let mut cache = json!({"redis": {"service_name": "redis.static"}});
    for (name, value) in fields.as_object().unwrap() {
        cache[name] = value.clone();
    }
    json!({"cache": cache})
}

fn rules(document: &Value) -> Rc<CacheRules> {
    let filter = config(document).filters.pop().unwrap();
    Rc::clone(filter.cache().unwrap_or_else(|| panic!("no cache in {document}")))
}

#[test]
fn a_redis_is_enough() {
    let plain = rules(&with_cache(json!({})));
    let day = 86_400;
    let terms = FreshnessTerms { default_s: None, max_s: 7 * day, stale_while_revalidate_s: 0, stale_if_error_s: day };
    assert_eq!((&plain.query, plain.headers.len(), &plain.group), (&KeyQuery::All, 0, &None));
    assert_eq!((plain.terms, plain.redis), (terms, 0));
    assert_eq!(plain.failover_statuses, [500, 502, 503, 504]);
    assert_eq!((plain.body_max, plain.lock_timeout_ms), (256 << 10, 2_000));
    assert_eq!(plain.tags_headers, ["surrogate-key", "cache-tag"]);
    assert!(plain.fallback.is_none());
}

#[test]
fn everything_may_be_said() {
    let all = rules(&with_cache(json!({
        "key": {"query": ["id", 7], "headers": ["X-Tenant", "accept-Language", "x-tenant"], "group": {"cookie": "sid"}},
        "default_ttl": "1m", "max_ttl": "1h", "stale_while_revalidate": "500ms", "stale_if_error": 0,
        "failover_statuses": [503, "504"], "max_body": "64KiB", "lock_timeout": "1500ms", "tags_header": "X-Tags",
        "fallback": {"status": 200, "content_type": "text/html", "body": "<p>Soon."},
    })));
    assert_eq!(all.query, KeyQuery::Names(["id", "7"].map(String::from).into()));
    assert_eq!(all.headers, ["accept-language", "x-tenant"]);
    assert_eq!(all.group, Some(CacheGroup::Cookie("sid".into())));
    let terms = FreshnessTerms { default_s: Some(60), max_s: 3_600, stale_while_revalidate_s: 1, stale_if_error_s: 0 };
    assert_eq!(all.terms, terms);
    assert_eq!((&all.failover_statuses[..], all.body_max, all.lock_timeout_ms), (&[503, 504][..], 65_536, 1_500));
    assert_eq!(all.tags_headers, ["x-tags"]);
    let fallback = all.fallback.clone().unwrap();
    assert_eq!(
        (fallback.status, fallback.content_type.as_str(), fallback.body.as_slice()),
        (200, "text/html", &b"<p>Soon."[..])
    );
    let text =
        config(&with_cache(json!({"key": {"group": {"cookie": "sid"}}, "stale_while_revalidate": "5s"}))).describe();
    for expected in ["262144 bytes", "cookie sid", "redis.static", "5s more", "500, 502, 503, 504"] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

#[test]
fn a_group_is_what_a_filter_before_tells() {
    let session = json!({"session": {
        "format": "php", "fields": {"user_id": "X-User-Id"}, "redis": {"service_name": "redis.static"},
    }});
    let cache = with_cache(json!({"key": {"group": {"session": "user_id"}}}));
    let behind = rules(&json!({"filters": [session, cache]}));
    assert!(matches!(&behind.group, Some(CacheGroup::Session { header, .. }) if header == "x-user-id"));
    for filters in [json!([cache, session]), json!([cache])] {
        let errors = read(&json!({"filters": filters})).unwrap_err();
        assert_eq!(errors[0].path, "filters[0].cache.key.group.session");
        assert!(errors[0].message.contains("a field that a `session` filter before this one tells"), "{errors:?}");
    }
}

#[test]
fn mistakes_name_the_field_and_what_was_expected() {
    for (fields, path, message) in [
        (json!({"redis": null}), "redis", "is missing: expected where responses are kept"),
        (json!({"colour": 1}), "colour", "there is no such field here"),
        (json!({"key": {"query": "some"}}), "key.query", "expected `all`, `none`, or an array of 1 to 32 names"),
        (json!({"key": {"query": []}}), "key.query", "expected `all`, `none`"),
        (json!({"key": {"query": [""]}}), "key.query[0]", "got an empty text"),
        (json!({"key": {"headers": "a"}}), "key.headers", "expected an array of up to 32 names of headers"),
        (json!({"key": {"headers": ["a b"]}}), "key.headers[0]", "expected the name of a header"),
        (json!({"key": {"group": {}}}), "key.group", "expected either `session` or `cookie`"),
        (json!({"key": {"group": {"session": "a", "cookie": "b"}}}), "key.group", "expected either"),
        (json!({"key": {"group": {"cookie": "a=b"}}}), "key.group.cookie", "expected the name of a cookie"),
        (json!({"default_ttl": "1"}), "default_ttl", "expected"),
        (json!({"max_ttl": "400d"}), "max_ttl", "expected a duration of at most `365d`, got `400d`"),
        (json!({"stale_if_error": "31d"}), "stale_if_error", "expected a duration of at most `30d`, got `31d`"),
        (json!({"failover_statuses": [404]}), "failover_statuses[0]", "expected"),
        (json!({"failover_statuses": 503}), "failover_statuses", "expected an array of statuses from 500 to 599"),
        (json!({"max_body": "1MiB"}), "max_body", "a size from `1` to `960KiB`, or a number of bytes, got `1MiB`"),
        (json!({"max_body": 0}), "max_body", "expected a size"),
        (json!({"lock_timeout": "2m"}), "lock_timeout", "expected a duration of at most `1m`, got `2m`"),
        (json!({"lock_timeout": "soon"}), "lock_timeout", "expected a duration such as `500ms`, `30s`"),
        (json!({"tags_header": "a b"}), "tags_header", "expected the name of a header"),
        (json!({"fallback": {}}), "fallback.body", "is missing"),
        (json!({"fallback": {"body": "a", "status": 99}}), "fallback.status", "expected"),
        (
            json!({"fallback": {"body": "a", "content_type": "a\nb"}}),
            "fallback.content_type",
            "expected a content type",
        ),
    ] {
        let errors = read(&with_cache(fields.clone())).unwrap_err();
        assert_eq!((errors.len(), errors[0].path.clone()), (1, format!("cache.{path}")), "{fields}: {errors:?}");
        assert!(errors[0].message.contains(message), "{fields}: {errors:?}");
    }
    let both = json!({"cache": {"redis": {"service_name": "r"}}, "rule_name": "r"});
    assert!(read(&both).unwrap_err()[0].message.contains("stands beside `cache`"));
}

#[test]
fn a_redis_that_keeps_something_else_is_warned_of() {
    let limits = |redis: &str| {
        let limiter = json!({
            "rule_name": "a", "global_threshold": {"query_per_minute": 5}, "redis": {"service_name": redis},
        });
        config(&json!({"filters": [limiter, with_cache(json!({}))]})).warnings
    };
    assert!(limits("other.static").is_empty());
    let warnings = limits("redis.static");
    assert!(warnings[0].starts_with("filters[1].cache.redis: is asked by other filters too"), "{warnings:?}");
}
