//! Who the gateway is to Redis, and by which way it gets there: the least rights that do, a database, a socket; and a
//! Redis that is still loading, or was away.

use std::time::{Duration, Instant};

use slidegate_tests::{
    gateway_process::{Gateway, wait_until},
    redis_server::RedisServer,
    redis_traffic::{Traffic, count, worst},
    upstream::Upstream,
};

/// The rights that the README names.
const RIGHTS: [&str; 10] =
    ["~slidegate:*", "+evalsha", "+eval", "+time", "+zrange", "+zadd", "+zrem", "+del", "+pexpire", "resetchannels"];

/// How long a command may take.
const TIMEOUT: Duration = Duration::from_millis(250);

fn serve(upstream: &Upstream, redis: &str, workers: usize) -> Gateway {
    Gateway::serve(&format!(
        "upstream: {}
workers: {workers}
redis: {{names: {{r: \"{redis}\"}}}}
filter:
  rule_name: access
  rule_items:
    - {{limit_by_per_header: x-key, limit_keys: [{{key: \"*\", limit: 3, window: 1h}}]}}
    - {{limit_by_per_header: x-short, limit_keys: [{{key: \"*\", limit: 2, window: 1s}}]}}
    - {{limit_by_per_header: x-slots, limit_keys: [{{key: \"*\", limit: 200, window: 1s, precision: 4}}]}}
  failure_mode: closed
  remember_refusals: false
  redis: {{service_name: r, timeout: {}}}
",
        upstream.url(),
        TIMEOUT.as_millis()
    ))
}

/// Limits are kept, windows roll, and no call failed.
fn check_counts(gateway: &Gateway) {
    assert_eq!(gateway.statuses("x-key", "a", 4), [200, 200, 200, 429], "{}", gateway.log());
    let statuses = gateway.statuses("x-slots", "a", 210);
    assert!(statuses[..200].iter().all(|status| *status == 200), "{statuses:?}");
    for _ in 0..3 {
        wait_until("the window rolls on", || gateway.statuses("x-short", "a", 1) == [200]);
        wait_until("slots are freed", || gateway.statuses("x-slots", "a", 1) == [200]);
    }
    assert_eq!(gateway.metrics().sum("slidegate_redis_failures_total", &[]), 0.0, "{}", gateway.log());
}

#[test]
fn the_least_rights_are_enough() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    redis.tell(&[&["ACL", "SETUSER", "slidegate", "on", ">p@ss/word", "-@all"], &RIGHTS[..]].concat());
    redis.tell(&["ACL", "SETUSER", "default", "off"]);
    let url = format!("redis://slidegate:p%40ss%2Fword@127.0.0.1:{}", redis.port());
    let gateway = serve(&upstream, &url, 2);
    check_counts(&gateway);
    for right in RIGHTS.iter().filter(|right| right.starts_with('+')) {
        let documented = include_str!("../host/README.md");
        assert!(documented.contains(right), "the README does not name {right}");
    }
}

#[test]
fn a_user_without_rights_to_our_keys_gets_the_failure_mode() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    redis.tell(&["ACL", "SETUSER", "other", "on", ">secret", "+@all", "~other:*"]);
    let gateway = serve(&upstream, &format!("redis://other:secret@127.0.0.1:{}", redis.port()), 1);
    assert_eq!(gateway.statuses("x-key", "a", 2), [503, 503]);
    assert!(!gateway.log().contains("secret"), "{}", gateway.log());
}

#[test]
fn a_database_of_its_own() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    redis.tell(&[&["ACL", "SETUSER", "slidegate", "on", ">secret", "-@all", "+select"], &RIGHTS[..]].concat());
    let gateway = serve(&upstream, &format!("redis://slidegate:secret@127.0.0.1:{}/5", redis.port()), 1);
    assert_eq!(gateway.statuses("x-key", "a", 4), [200, 200, 200, 429]);
    assert_eq!(redis.tell(&["DBSIZE"]), "0");
    let keyspace = redis.tell(&["INFO", "keyspace"]);
    assert!(keyspace.contains("db5:keys=1"), "{keyspace}");
}

#[test]
fn a_socket_in_the_file_system() {
    let upstream = Upstream::start();
    let directory = slidegate_tests::gateway_process::Directory::new();
    let socket = directory.path().join("redis.sock");
    let socket = socket.to_str().expect("a temporary path is text");
    let redis = RedisServer::start_with(&["--unixsocket", socket, "--requirepass", "secret"]);
    let gateway = serve(&upstream, &format!("unix://{socket}?db=2&pass=secret"), 1);
    assert_eq!(gateway.statuses("x-key", "a", 4), [200, 200, 200, 429], "{}", gateway.log());
    drop(redis);
    assert_eq!(gateway.statuses("x-key", "a", 1), [503]);
}

#[test]
fn a_redis_that_is_loading_is_waited_for_and_knows_what_it_knew() {
    // A millisecond for each key, so that loading takes a while, and an eye on clients often.
    let slow = ["--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"];
    let (mut redis, upstream) = (RedisServer::start_with(&slow), Upstream::start());
    let gateway = serve(&upstream, &redis.url(), 1);
    assert_eq!(gateway.statuses("x-key", "known", 4), [200, 200, 200, 429]);
    let fill = "for i = 1, 1500 do redis.call('SET', 'fill:' .. i, string.rep('x', 100)) end";
    redis.tell(&["EVAL", fill, "0"]);
    redis.tell(&["SAVE"]);
    redis.restart_loading();
    let mut seen = Vec::new();
    wait_until("it is loaded", || {
        seen.extend(gateway.statuses("x-key", "known", 1));
        seen.last() == Some(&429)
    });
    let (last, before) = seen.split_last().expect("a request was made");
    assert!(*last == 429 && !before.is_empty() && before.iter().all(|status| *status == 503), "{seen:?}");
    assert!(
        gateway.metrics().sum("slidegate_redis_failures_total", &[("cause", "loading")]) >= 1.0,
        "{}",
        gateway.log()
    );
    assert_eq!(gateway.statuses("x-key", "new", 4), [200, 200, 200, 429]);
}

#[test]
fn redis_is_used_again_within_a_second_of_being_back_and_left_alone_meanwhile() {
    let (mut redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream, &redis.url(), 1);
    assert_eq!(gateway.statuses("x-key", "a", 4), [200, 200, 200, 429]);
    let traffic = Traffic::start(gateway.listen(), 4, |connection, request| format!("{connection}-{request}"));
    std::thread::sleep(Duration::from_millis(300));
    redis.kill();
    std::thread::sleep(Duration::from_millis(1_000));
    redis.restart_empty();
    let back = Instant::now();
    std::thread::sleep(Duration::from_millis(1_500));
    let samples = traffic.stop();
    assert_eq!(
        count(&samples, 200) + count(&samples, 503),
        samples.len(),
        "every request is answered, by Redis or by the failure mode"
    );
    assert!(worst(&samples) < TIMEOUT * 4, "{:?}", worst(&samples));
    let first = samples.iter().find(|sample| sample.at > back && sample.status == 200).expect("Redis is used again");
    assert!(first.at - back < Duration::from_secs(1), "{:?}", first.at - back);
    println!("used again after {:?}, worst answer {:?}", first.at - back, worst(&samples));
    assert_eq!(gateway.statuses("x-key", "b", 4), [200, 200, 200, 429]);
}
