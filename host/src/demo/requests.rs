//! The demo of limits on requests, in front of an upstream that echoes them.

use serde_json::{Value, json};

use super::place::DemoPlace;

/// One rule of each kind that can be shown with curl. The first that matches decides.
pub(super) fn filter() -> Value {
    json!({
        "rule_name": "demo",
        "rule_items": [
            {
                "limit_by_header": "x-api-key",
                "limit_keys": [
                    {"key": "gold", "query_per_second": 5},
                    {"key": "silver", "query_per_minute": 3},
                ],
            },
            {"limit_by_per_param": "user", "limit_keys": [{"key": "*", "query_per_minute": 2}]},
            {"limit_by_per_ip": "from-remote-addr", "limit_keys": [{"key": "0.0.0.0/0", "limit": 10, "window": "10s"}]},
        ],
        "show_limit_quota_header": true,
        "headers": ["x-ratelimit", "ratelimit", "retry-after"],
        "rejected_msg": "Too many requests, says the demo\n",
    })
}

pub(super) fn guide(DemoPlace { url, admin, counts, .. }: &DemoPlace) -> String {
    format!(
        "Slidegate's demo is at {url}, in front of an upstream that echoes requests.
{counts}
The first of these rules that fits a request decides: x-api-key (gold 5 a second, silver 3 a minute),
each `user` parameter 2 a minute, each client address 10 in any 10 seconds.

Try, in another terminal:

  # One request: 200, and headers that tell the limit and what is left of it.
  curl -i {url}/hello

  # Twelve in a row: 200 until ten have come within ten seconds, the one above among them, then 429.
  for i in $(seq 12); do curl -s -o /dev/null -w '%{{http_code}} ' {url}/; done; echo

  # A key with a limit of its own: three times 200, then 429 with the seconds to wait in `retry-after`.
  for i in 1 2 3 4; do curl -s -o /dev/null -D - -H 'x-api-key: silver' {url}/ | grep -iE \
  '^(HTTP|ratelimit:|retry-after)'; done

  # Each user counts alone: alice twice 200, then 429; bob still 200.
  for user in alice alice alice bob; do curl -s -o /dev/null -w \"$user %{{http_code}}\\n\" \"{url}/?user=$user\"; done

  # A burst across a second's edge: never more than 5 in any second, however the clock stands.
  for i in $(seq 40); do curl -s -o /dev/null -w '%{{http_code}} ' -H 'x-api-key: gold' {url}/; sleep 0.05; done; echo

  # What it counts, and how it understood its configuration.
  curl -s {admin}/metrics | grep ^slidegate
  curl -s {admin}/config

Ctrl-C ends it. With a file of your own: slidegate check FILE, slidegate serve FILE.

"
    )
}
