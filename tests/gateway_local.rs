//! A limit that is kept in the process is the limit of the process, however many workers it has.

use std::fs;

use slidegate_tests::{
    gateway_process::{Directory, Gateway, run},
    http_client::HttpClient,
    redis_server::RedisServer,
    upstream::Upstream,
};

const WORKERS: usize = 4;

/// How many of 48 requests for a host pass, sent in turns on connections that lie on all workers.
fn passed(gateway: &Gateway, host: &str) -> usize {
    let mut clients: Vec<HttpClient> = (0..4 * WORKERS).map(|_| gateway.client()).collect();
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nx-key: a\r\n\r\n");
    let mut passed = 0;
    for _ in 0..3 {
        for client in &mut clients {
            client.write(request.as_bytes()).expect("the gateway reads");
        }
        for client in &mut clients {
            passed += usize::from(client.read_answer("GET").expect("an answer").status() == 200);
        }
    }
    passed
}

fn serve(upstream: &Upstream, redis: &str, filter: &str) -> (Gateway, String) {
    let settings = format!(
        "upstream: {}\nredis: {{names: {{redis.static: \"{redis}\"}}}}\nworkers: {WORKERS}\nfilter:\n{filter}",
        upstream.url()
    );
    let directory = Directory::new();
    let file = directory.path().join("gate.yaml");
    fs::write(&file, &settings).expect("a temporary file can be written");
    let checked = run(&["check", file.to_str().expect("a temporary path is text")]);
    (Gateway::serve(&settings), String::from_utf8_lossy(&checked.stdout).into_owned())
}

const SHARED: &str = "share one filter instance";

#[test]
fn a_policy_without_redis_beside_one_with_it() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let (gateway, checked) = serve(
        &upstream,
        &redis.url(),
        "  _rules_:
    - {_match_domain_: [local.test], rule_name: local, rule_items: [{limit_by_header: x-key, limit_keys: [{key: a, \
    query_per_hour: 5}]}]}
    - {_match_domain_: [global.test], rule_name: global, global_threshold: {query_per_hour: 7}}
    - {_match_domain_: [redis.test], rule_name: redis, global_threshold: {query_per_hour: 6}, redis: {service_name: \
    redis.static}}
",
    );
    assert!(checked.contains(SHARED), "{checked}");
    assert_eq!(
        ["local.test", "global.test", "redis.test", "other.test"].map(|host| passed(&gateway, host)),
        [5, 7, 6, 48]
    );
}

#[test]
fn the_failure_mode_local_while_redis_is_away() {
    let upstream = Upstream::start();
    let (gateway, checked) = serve(
        &upstream,
        "redis://127.0.0.1:1",
        "  rule_name: r
  rule_items: [{limit_by_header: x-key, limit_keys: [{key: a, query_per_hour: 5}]}]
  redis: {service_name: redis.static}
  failure_mode: local
",
    );
    assert!(checked.contains(SHARED), "{checked}");
    assert_eq!(passed(&gateway, "a.test"), 5);
}

#[test]
fn a_configuration_that_counts_in_redis_alone_has_an_instance_for_each_worker() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let (gateway, checked) = serve(
        &upstream,
        &redis.url(),
        "  {rule_name: r, global_threshold: {query_per_hour: 5}, redis: {service_name: redis.static}}\n",
    );
    assert!(!checked.contains(SHARED), "{checked}");
    assert_eq!(passed(&gateway, "a.test"), 5);
    let one =
        gateway.metrics().sum("slidegate_instance_memory_bytes", &[]) / f64::from(u32::try_from(WORKERS).expect("few"));
    assert!(one >= 1e6, "{one} bytes each");
}
