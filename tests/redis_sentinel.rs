//! A master by its sentinels: limits are kept, also after the master is lost, or handed on, under traffic.

use std::{
    net::TcpListener,
    thread::sleep,
    time::{Duration, Instant},
};

use redis::Value;
use slidegate_tests::{
    gateway_process::{Gateway, wait_until},
    redis_sentinels::{MASTER, Sentinels},
    redis_server::RedisServer,
    redis_traffic::{Sample, Traffic, count, worst},
    upstream::Upstream,
};

/// How long a command may take.
const TIMEOUT: Duration = Duration::from_millis(250);

fn serve(upstream: &Upstream, redis: &str) -> Gateway {
    serve_within(TIMEOUT, upstream, redis)
}

fn serve_within(timeout: Duration, upstream: &Upstream, redis: &str) -> Gateway {
    Gateway::serve(&format!(
        "upstream: {}
workers: 2
redis: {{names: {{r: {redis}}}}}
filter:
  rule_name: sentinel
  rule_items:
    - {{limit_by_per_header: x-key, limit_keys: [{{key: \"*\", limit: 3, window: 1h}}]}}
    - {{limit_by_per_header: x-short, limit_keys: [{{key: \"*\", limit: 2, window: 2s}}]}}
  failure_mode: closed
  remember_refusals: false
  redis: {{service_name: r, timeout: {}}}
",
        upstream.url(),
        timeout.as_millis()
    ))
}

/// Traffic of keys that are each used once.
fn traffic(gateway: &Gateway) -> Traffic {
    Traffic::start(gateway.listen(), 4, |connection, request| format!("{connection}-{request}"))
}

/// Its connections break when it becomes one.
fn is_replica(server: &RedisServer) -> bool {
    matches!(server.ask(&["ROLE"]),
        Ok(Value::Array(role)) if role.first() == Some(&Value::BulkString(b"slave".to_vec())))
}

/// Every request was answered in time, by Redis or by the failure mode; within a second of its being named the new
/// master decides, and a second after the old one is none any more, all is decided: until then it may answer those who
/// are connected to it.
fn check_failover(samples: &[Sample], promoted: Instant, left: Instant) {
    assert_eq!(count(samples, 200) + count(samples, 503), samples.len());
    assert!(worst(samples) < TIMEOUT * 4, "{:?}", worst(samples));
    let first =
        samples.iter().find(|sample| sample.at > promoted && sample.status == 200).expect("the new master decides");
    println!("used again after {:?}, worst answer {:?}", first.at.duration_since(promoted), worst(samples));
    assert!(first.at.duration_since(promoted) < Duration::from_secs(1), "{:?}", first.at.duration_since(promoted));
    // One that was asked within the second may be answered a little after it.
    let late: Vec<_> = samples.iter().filter(|sample| sample.at > left + Duration::from_secs(1) + TIMEOUT).collect();
    assert!(
        !late.is_empty() && late.iter().all(|sample| sample.status == 200),
        "a second after the old master has gone, all is decided"
    );
}

/// The value that is at its limit is still refused, and others are counted.
fn check_counts(gateway: &Gateway, new: &str) {
    assert_eq!(gateway.statuses("x-key", "full", 2), [429, 429]);
    assert_eq!(gateway.statuses("x-key", new, 4), [200, 200, 200, 429]);
    assert_eq!(gateway.statuses("x-short", new, 3), [200, 200, 429]);
    wait_until("the window has gone by", || gateway.statuses("x-short", new, 1) == [200]);
}

#[test]
fn a_lost_master_is_replaced() {
    let (mut all, upstream) = (Sentinels::start(&[], ""), Upstream::start());
    let gateway = serve(&upstream, &format!("\"redis+sentinel://{}/{MASTER}\"", all.listed()));
    assert_eq!(gateway.statuses("x-key", "full", 4), [200, 200, 200, 429]);
    check_counts(&gateway, "before");
    let traffic = traffic(&gateway);
    sleep(Duration::from_millis(300));
    all.servers[0].wait_followed();
    all.servers[0].kill();
    let promoted = all.wait_promoted();
    sleep(Duration::from_millis(2_000));
    check_failover(&traffic.stop(), promoted, promoted);
    check_counts(&gateway, "after");
    // The old master comes back as one, and becomes a replica: nobody is misled by it.
    all.servers[0].restart_empty();
    wait_until("the old master follows", || is_replica(&all.servers[0]));
    check_counts(&gateway, "later");
    // Once for all workers; twice more at most, as they do not find the new master at the same time.
    let again = gateway.log_lines("connected to Redis").len() - 1;
    assert!((1..=3).contains(&again), "{}", gateway.log());
}

#[test]
fn a_master_that_hands_on_its_role_is_left() {
    let (all, upstream) = (Sentinels::start(&[], ""), Upstream::start());
    let gateway = serve(&upstream, &format!("\"redis+sentinel://{}/{MASTER}\"", all.listed()));
    assert_eq!(gateway.statuses("x-key", "full", 4), [200, 200, 200, 429]);
    all.servers[0].wait_followed();
    let traffic = traffic(&gateway);
    sleep(Duration::from_millis(300));
    all.sentinels[0].tell(&["SENTINEL", "FAILOVER", MASTER]);
    let handed_on = all.wait_promoted();
    wait_until("the old master follows", || is_replica(&all.servers[0]));
    let left = Instant::now();
    sleep(Duration::from_millis(2_000));
    check_failover(&traffic.stop(), handed_on, left);
    check_counts(&gateway, "after");
}

#[test]
fn a_master_that_hangs_is_replaced() {
    let (all, upstream) = (Sentinels::start(&[], ""), Upstream::start());
    let gateway = serve(&upstream, &format!("\"redis+sentinel://{}/{MASTER}\"", all.listed()));
    assert_eq!(gateway.statuses("x-key", "full", 4), [200, 200, 200, 429]);
    all.servers[0].wait_followed();
    let traffic = traffic(&gateway);
    sleep(Duration::from_millis(300));
    all.servers[0].pause();
    let promoted = all.wait_promoted();
    sleep(Duration::from_millis(2_000));
    check_failover(&traffic.stop(), promoted, promoted);
    check_counts(&gateway, "after");
}

#[test]
fn passwords_are_asked_by_servers_and_sentinels_alike() {
    let servers = ["--requirepass", "server-secret", "--masterauth", "server-secret"];
    // The sentinels keep the words of the protocol for themselves until somebody signs in.
    let upstream = Upstream::start();
    let all = {
        let master = RedisServer::start_with(&servers);
        let watch = format!(
            "sentinel monitor {MASTER} 127.0.0.1 {} 1\nsentinel auth-pass {MASTER} server-secret\nrequirepass \
             sentinel-secret\n",
            master.port()
        );
        (RedisServer::start_sentinel(&watch), master)
    };
    let url = format!("redis+sentinel://:server-secret@127.0.0.1:{}/{MASTER}/3", all.0.port());
    let gateway = serve(&upstream, &format!("{{url: \"{url}\", sentinel_password: sentinel-secret}}"));
    assert_eq!(gateway.statuses("x-key", "a", 4), [200, 200, 200, 429], "{}", gateway.log());
    let without = serve(&upstream, &format!("\"{url}\""));
    assert_eq!(without.statuses("x-key", "b", 2), [503, 503]);
    without.wait_log("NOAUTH");
    for text in [gateway.log(), without.log(), gateway.ask_admin("/config").1] {
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn a_name_that_no_sentinel_knows_is_told() {
    let upstream = Upstream::start();
    let master = RedisServer::start();
    let sentinel = RedisServer::start_sentinel(&format!("sentinel monitor {MASTER} 127.0.0.1 {} 1\n", master.port()));
    let gateway = serve(&upstream, &format!("\"redis+sentinel://127.0.0.1:{}/other\"", sentinel.port()));
    assert_eq!(gateway.statuses("x-key", "a", 2), [503, 503]);
    gateway.wait_log("knows no master `other`");
}

#[test]
fn silent_sentinels_and_addresses_are_not_waited_for() {
    let (master, upstream) = (RedisServer::start(), Upstream::start());
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let silent = silent.local_addr().expect("its address").port();
    let watch = |port: u16| RedisServer::start_sentinel(&format!("sentinel monitor {MASTER} 127.0.0.1 {port} 1\n"));
    // More of them name the one that hangs.
    let all = [watch(silent), watch(silent), watch(master.port())];
    let listed = all.each_ref().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).join(",");
    let timeout = Duration::from_millis(40);
    let gateway =
        serve_within(timeout, &upstream, &format!("\"redis+sentinel://127.0.0.1:{silent},{listed}/{MASTER}\""));
    wait_until("the master is found", || gateway.statuses("x-key", "a", 1) == [200]);
    wait_until("it counts", || gateway.statuses("x-key", "a", 1) == [429]);
}
