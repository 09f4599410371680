//! The names of all fields, by where they stand: what is none of these is an error, with a suggestion.

/// Of one configuration, at the top or in an element of `_rules_`.
pub(super) const POLICY: [&str; 21] = [
    "rule_name",
    "global_threshold",
    "rule_items",
    "rule_match",
    "show_limit_quota_header",
    "headers",
    "rejected_code",
    "rejected_msg",
    "redis",
    "precision",
    "failure_mode",
    "local_share",
    "dry_run",
    "remember_refusals",
    "coalesce",
    "max_new_keys_per_second",
    "exempt",
    "hash_values",
    "hash_key",
    "rejected_headers",
    "rejected_content_type",
];

/// What may stand in `global_threshold`, beside [`LIMIT`].
pub(super) const THRESHOLD: [&str; 1] = ["name"];

/// What stands at the top in place of one filter.
pub(super) const CHAIN: [&str; 1] = ["filters"];

/// What stands at the top of a filter only.
pub(super) const DOCUMENT: [&str; 2] = ["_rules_", "_plugin_id_"];

/// Which requests an element of `_rules_` is for.
pub(super) const SCOPE: [&str; 4] = ["_match_route_", "_match_domain_", "_match_service_", "_match_route_prefix_"];

/// What may stand in an element of `rule_items`.
pub(super) const RULE_ITEM: [&str; 20] = [
    "limit_by_header",
    "limit_by_param",
    "limit_by_consumer",
    "limit_by_cookie",
    "limit_by_per_header",
    "limit_by_per_param",
    "limit_by_per_consumer",
    "limit_by_per_cookie",
    "limit_by_per_ip",
    "limit_keys",
    "name",
    "max_new_keys_per_second",
    "dry_run",
    "trusted_hops",
    "trusted_proxies",
    "ipv4_prefix",
    "ipv6_prefix",
    "on_missing",
    "take",
    "hash_values",
];

/// What may stand in an element of `limit_keys`, beside [`LIMIT`].
pub(super) const KEY: [&str; 3] = ["key", "together", "unlimited"];

/// What may stand beside `key`, or in `global_threshold`.
pub(super) const LIMIT: [&str; 7] =
    ["query_per_second", "query_per_minute", "query_per_hour", "query_per_day", "limit", "window", "precision"];

/// The last words of `query_per_*`.
pub(super) const UNITS: [&str; 4] = ["second", "minute", "hour", "day"];

/// Of `redis`.
pub(super) const REDIS: [&str; 6] = ["service_name", "service_port", "username", "password", "timeout", "database"];

/// Of `exempt`.
pub(super) const EXEMPT: [&str; 4] = ["routes", "methods", "networks", "headers"];
