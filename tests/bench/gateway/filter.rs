//! The filters that are measured. Windows of an hour outlast the bench.

/// All requests together.
pub(crate) fn global(limit: u64) -> String {
    format!(r#"global_threshold: {{limit: {limit}, window: "1h"}}"#)
}

/// Each user alone.
pub(crate) fn each(limit: u64) -> String {
    format!(
        r#"rule_items: [{{limit_by_per_header: x-api-key, limit_keys: [{{key: "*", limit: {limit}, window: "1h"}}]}}]"#
    )
}

/// With windows in the instance.
pub(crate) fn local(rules: &str) -> String {
    local_named(rules, "bench")
}

/// The same, under another rule name.
pub(crate) fn local_named(rules: &str, rule_name: &str) -> String {
    format!("{{rule_name: {rule_name}, {rules}}}")
}

/// With windows in Redis; rule names tell the keys of one gateway from another's.
pub(crate) fn in_redis(rules: &str, rule_name: &str) -> String {
    format!("{{rule_name: {rule_name}, {rules}, redis: {{service_name: redis.static}}}}")
}
