//! Several filters in one gateway: a request passes them in order, each counts for itself, and what is told of one
//! names it.

use serde_json::Value;
use slidegate_tests::{
    gateway_process::{Gateway, run_with},
    redis_server::RedisServer,
    upstream::Upstream,
};

/// A limit for each key, and behind it one for all together, both in a Redis.
const TWO: &str = "filters:
  - rule_name: keys
    rule_items: [{limit_by_per_header: x-key, limit_keys: [{key: \"*\", query_per_hour: 3}]}]
    headers: [x-ratelimit]
    redis: {service_name: redis.static}
  - rule_name: all
    global_threshold: {query_per_hour: 4}
    headers: [ratelimit, retry-after]
    rejected_code: 503
    redis: {service_name: redis.static}
";

fn serve(upstream: &Upstream, redis: &RedisServer, filters: &str) -> Gateway {
    let (upstream, redis) = (upstream.url(), redis.url());
    Gateway::serve(&format!(
        "upstream: {upstream}\nredis: {{names: {{redis.static: \"{redis}\"}}}}\nworkers: 2\n{filters}"
    ))
}

#[test]
fn a_request_passes_two_limiters_and_what_the_first_charged_stays_charged() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream, &redis, TWO);
    let mut client = gateway.client();
    let first = client.get("/", &[("x-key", "a")]);
    let header = |name: &str| first.head.text(name).unwrap_or_default();
    assert_eq!(
        (first.status(), header("x-ratelimit-remaining"), header("ratelimit")),
        (200, "2".into(), "\"all-3600s\";r=3;t=3600".into())
    );
    let mut status = |key: &str| client.get("/", &[("x-key", key)]).status();
    assert_eq!(["a", "a", "a"].map(&mut status), [200, 200, 429], "the first has no room, and the second is not asked");
    assert_eq!(["b", "b", "b"].map(&mut status), [200, 503, 503], "the second has room for four");
    let refused = gateway.client().get("/", &[("x-key", "b")]);
    assert_eq!(refused.status(), 429, "the first counted what the second refused");
    let refused = gateway.client().get("/", &[("x-key", "c")]);
    assert_eq!(
        refused.head.text("x-ratelimit-remaining").as_deref(),
        Some("2"),
        "an answer passes those before who gave it"
    );
    assert!(refused.head.text("retry-after").is_some());
    let metrics = gateway.metrics();
    let decided = |rule: &str, decision: &str| {
        metrics.sum("slidegate_decisions_total", &[("rule", rule), ("decision", decision)])
    };
    assert_eq!(
        [("keys", "admitted"), ("keys", "refused"), ("all", "admitted"), ("all", "refused")]
            .map(|(rule, how)| decided(rule, how)),
        [7.0, 2.0, 4.0, 3.0]
    );
    assert_eq!(upstream.requests(), 4);
}

#[test]
fn what_is_in_force_is_shown_filter_by_filter() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream, &redis, &TWO.replace("redis.static}", "redis.static, password: hush}"));
    let (status, shown) = gateway.ask_admin("/config");
    assert_eq!(status, 200);
    let config: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(
        (&config["settings"]["filters"][1]["rule_name"], config["settings"].get("filter")),
        (&Value::from("all"), None)
    );
    let understood: Vec<&str> =
        config["understood"].as_array().expect("lines").iter().filter_map(Value::as_str).collect();
    assert_eq!((understood[0], understood[2]), ("filters[0]", "    rule name     keys"));
    assert!(understood.contains(&"filters[1]") && !shown.contains("hush"), "{shown}");
}

#[test]
fn while_redis_is_away_each_filter_has_its_own_failure_mode() {
    let (mut redis, upstream) = (RedisServer::start(), Upstream::start());
    let filters = TWO
        .replace("rule_name: all", "rule_name: all\n    failure_mode: local")
        .replace("headers: [x-ratelimit]", "headers: [x-slidegate-degraded]");
    let gateway = serve(&upstream, &redis, &filters);
    redis.kill();
    let statuses: Vec<u16> = (0..6).map(|_| gateway.get("/", &[("x-key", "a")]).0).collect();
    assert_eq!(
        statuses,
        [200, 200, 200, 200, 503, 503],
        "the first lets everything pass, the second counts here, for both workers"
    );
    let metrics = gateway.metrics();
    let degraded =
        |rule: &str, mode: &str| metrics.sum("slidegate_degraded_decisions_total", &[("rule", rule), ("mode", mode)]);
    assert_eq!((degraded("keys", "open"), degraded("all", "local")), (6.0, 6.0));
}

#[test]
fn filters_are_checked_one_by_one() {
    let check = |settings: &str| {
        let output = run_with(&["check", "-"], &[], settings.as_bytes());
        (
            output.status.code(),
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        )
    };
    let upstream = "upstream: http://127.0.0.1:9\n";
    let (code, said) = check(&format!("{upstream}redis: redis://127.0.0.1:9\n{TWO}"));
    assert!(
        code == Some(0)
            && said.contains("filters  a request passes them in this order\n  filters[0]\n    every request\n"),
        "{said}"
    );
    assert_eq!(said.matches("redis    redis.static:80 -> 127.0.0.1:9").count(), 1, "both count in one: {said}");
    let (code, said) = check(&format!(
        "{upstream}{}",
        TWO.replace("global_threshold: {query_per_hour", "global_threshold: {query_per_huor")
    ));
    assert_eq!(code, Some(1));
    assert!(said.contains(": filters[1].global_threshold.query_per_huor: there is no such field here"), "{said}");
    let (code, said) =
        check(&format!("listen: 8080\n{upstream}{}", TWO.replace("rule_name: all\n", "rule_nam: all\n")));
    assert_eq!(code, Some(1));
    assert!(
        said.contains("listen: expected") && said.contains("filters[1].rule_nam: there is no such field here"),
        "all at once: {said}"
    );
    let (code, said) =
        check(&format!("{upstream}{TWO}filter: {{rule_name: r, global_threshold: {{query_per_day: 1}}}}\n"));
    assert!(
        code == Some(1) && said.contains("filters: expected only one of `filter` and `filters`, got both"),
        "{said}"
    );
    let (code, said) = check(&format!("{upstream}filters: []\n"));
    assert!(code == Some(0) && said.contains("filter   none: nothing is limited"), "{said}");
    let (_, said) = check(&format!("{upstream}redis: {{names: {{other.static: \"redis://127.0.0.1:9\"}}}}\n{TWO}"));
    assert!(said.contains("filters[0].redis.service_name: the Redis service `redis.static` has no address"), "{said}");
}

#[test]
fn a_list_without_filters_limits_nothing_and_says_so() {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&format!("upstream: {}\nfilters: []\n", upstream.url()));
    gateway.wait_log("nothing is limited");
    assert_eq!(gateway.get("/", &[]).0, 200);
}
