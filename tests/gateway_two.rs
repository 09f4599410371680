//! Two of something in one gateway: what holds of one holds of that one only.

use std::fmt::Write;

use slidegate_tests::{
    gateway_process::{Gateway, wait_until},
    redis_server::RedisServer,
    upstream::Upstream,
};

/// Rules of one name for two routes, each with a Redis of its own and this limit in an hour.
fn serve_two(upstream: &Upstream, one: &RedisServer, two: &RedisServer, limit: u32) -> Gateway {
    let rule = |name: &str| {
        format!(
            "    - {{_match_route_: [{name}], rule_name: r, redis: {{service_name: {name}.static}},
       rule_items: [{{limit_by_per_header: x-key, limit_keys: [{{key: \"*\", query_per_hour: {limit}}}]}}]}}\n"
        )
    };
    Gateway::serve(&format!(
        "routes:\n{}{}workers: 1\nredis: {{names: {{one.static: \"{}\", two.static: \"{}\"}}}}\nfilter:\n  \
         _rules_:\n{}{}",
        route("one", upstream),
        route("two", upstream),
        one.url(),
        two.url(),
        rule("one"),
        rule("two"),
    ))
}

/// A route by the path that is its name.
fn route(name: &str, upstream: &Upstream) -> String {
    format!("  - {{name: {name}, path_prefix: /{name}, upstream: \"{}\"}}\n", upstream.url())
}

fn statuses(gateway: &Gateway, route: &str, requests: usize) -> Vec<u16> {
    let mut client = gateway.client();
    (0..requests).map(|_| client.get(&format!("/{route}"), &[("x-key", "a")]).status()).collect()
}

#[test]
fn a_key_that_one_redis_has_used_up_is_free_in_the_other() {
    let (one, two, upstream) = (RedisServer::start(), RedisServer::start(), Upstream::start());
    let gateway = serve_two(&upstream, &one, &two, 3);
    assert_eq!(statuses(&gateway, "one", 5), [200, 200, 200, 429, 429]);
    assert_eq!(statuses(&gateway, "two", 5), [200, 200, 200, 429, 429]);
    assert_eq!(statuses(&gateway, "one", 1), [429]);
    let calls = |service: &str| gateway.metrics().sum("slidegate_redis_calls_total", &[("service", service)]);
    assert!(calls("one.static") >= 3.0 && calls("two.static") >= 3.0);
}

#[test]
fn a_redis_that_is_away_opens_its_own_breaker_and_no_other() {
    let (mut one, two, upstream) = (RedisServer::start(), RedisServer::start(), Upstream::start());
    let gateway = serve_two(&upstream, &one, &two, 1_000);
    one.kill();
    assert_eq!(statuses(&gateway, "one", 20), [200; 20], "its failure mode is open");
    let open = |service: &str| gateway.metrics().find("slidegate_redis_breaker_open", &[("service", service)]);
    wait_until("the breaker is open", || open("one.static") == Some(1.0));
    assert_eq!(statuses(&gateway, "two", 20), [200; 20]);
    assert_eq!(open("two.static"), Some(0.0));
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("slidegate_decisions_total", &[("decision", "admitted")]), 20.0);
    assert_eq!(metrics.sum("slidegate_redis_failures_total", &[("service", "two.static")]), 0.0);
    one.restart_empty();
    wait_until("the breaker is shut", || {
        statuses(&gateway, "one", 1);
        open("one.static") == Some(0.0)
    });
}

#[test]
fn two_hundred_rules_are_all_counted() {
    const RULES: usize = 200;
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let (mut rules, mut routes) = (String::new(), String::new());
    for rule in 0..RULES {
        routes += &route(&format!("h{rule}"), &upstream);
        writeln!(
            rules,
            "    - {{_match_route_: [h{rule}], rule_name: rule-{rule}, redis: {{service_name: redis.static}}, \
             global_threshold: {{query_per_hour: 1}}}}"
        )
        .expect("a text takes it");
    }
    let settings = format!(
        "routes:\n{routes}redis: {{names: {{redis.static: \"{}\"}}}}\nfilter:\n  _rules_:\n{rules}",
        redis.url()
    );
    let gateway = Gateway::serve(&settings);
    for rule in [0, 140, 141, 199] {
        let route = format!("h{rule}");
        assert_eq!(statuses(&gateway, &route, 2), [200, 429], "{route}");
    }
    let metrics = gateway.metrics();
    for rule in 0..RULES {
        let (name, asked) = (format!("rule-{rule}"), if [0, 140, 141, 199].contains(&rule) { 1.0 } else { 0.0 });
        for decision in ["admitted", "refused"] {
            for metric in ["slidegate_decisions_total", "slidegate_item_decisions_total"] {
                assert_eq!(
                    metrics.find(metric, &[("rule", &name), ("decision", decision)]),
                    Some(asked),
                    "{metric} {name} {decision}"
                );
            }
        }
    }
    assert!(metrics.sum("slidegate_redis_calls_total", &[]) >= 4.0);
    assert!(metrics.sum("slidegate_redis_call_duration_seconds_count", &[("service", "redis.static")]) >= 4.0);
    assert_eq!(metrics.find("slidegate_redis_breaker_open", &[("service", "redis.static")]), Some(0.0));
    assert_eq!(gateway.log_lines("not recorded"), [""; 0]);
}
