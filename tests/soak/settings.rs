//! Four routes with an upstream each, and a rule set for most of them, whose names the counters carry.

use crate::Upstreams;

/// Of the hot key, in a second; it has a limit for an hour too, which it does not reach.
pub(crate) const HOT_LIMIT: u64 = 100;

/// How many keys share the load of many keys.
pub(crate) const EACH_KEYS: u64 = 300;

/// The settings: `round` changes what is not the filter's, `filter_round` what is.
pub(crate) fn settings(upstreams: &Upstreams, redis_port: u16, round: u32, filter_round: u32) -> String {
    let redis = "redis: {service_name: redis.static, timeout: 5000}, failure_mode: closed, headers: [x-ratelimit]";
    format!(
        "routes:
  - {{name: plain, upstream: \"{}\"}}
  - {{name: counted, path_prefix: /status, upstream: \"{}\"}}
  - {{name: slow, path_prefix: /trickle, upstream: \"{}\"}}
  - {{name: gone, path_prefix: /chunked, upstream: \"{}\"}}
redis: {{names: {{redis.static: \"redis://127.0.0.1:{redis_port}\"}}}}
timeouts: {{idle: {}s}}
filter:
  rule_name: plain
  rule_items:
    - limit_by_header: x-load
      limit_keys:
        - {{key: hot, query_per_second: {HOT_LIMIT}, query_per_hour: 100000000}}
        - {{key: wide, query_per_minute: 1000000}}
        - {{key: several, query_per_second: 30, query_per_minute: 600, query_per_hour: 1000000}}
    - {{limit_by_per_header: x-key, limit_keys: [{{key: \"*\", query_per_minute: 20}}]}}
  rejected_msg: round {filter_round}
  redis: {{service_name: redis.static, timeout: 5000}}
  failure_mode: closed
  headers: [x-ratelimit]
  _rules_:
    - {{_match_route_: [counted], rule_name: counted, global_threshold: {{query_per_hour: 100000000}}, rule_items: \
    [{{limit_by_per_header: x-new, limit_keys: [{{key: \"*\", limit: 1, window: 5s}}]}}], {redis}}}
    - {{_match_route_: [slow], rule_name: slow, global_threshold: {{query_per_hour: 100000000}}, {redis}}}
    - {{_match_route_: [gone], rule_name: gone, global_threshold: {{query_per_hour: 100000000}}, {redis}}}
log: {{access: false}}
",
        upstreams.plain.url(),
        upstreams.counted.url(),
        upstreams.slow.url(),
        upstreams.gone.url(),
        300 + round
    )
}
