//! A cluster of three masters and their replicas: keys spread over all of it, a slot that moves under traffic, a master
//! that is lost.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use slidegate_tests::{
    gateway_process::{Gateway, wait_until},
    redis_cluster::{RedisCluster, errors, id},
    redis_server::RedisServer,
    redis_traffic::{Traffic, count, worst},
    session_browser::Browser,
    upstream::Upstream,
};

/// The cookie of a session.
const SESSION: &str = "__Host-session";

/// How long a command may take.
const TIMEOUT: Duration = Duration::from_millis(500);

/// What the value of the slot that moves may have in an hour.
const MANY: usize = 300;

fn serve(upstream: &Upstream, redis: &str) -> Gateway {
    Gateway::serve(&format!(
        "upstream: {}
workers: 2
redis: {{names: {{r: {redis}}}}}
filter:
  rule_name: cluster
  rule_items:
    - {{limit_by_per_header: x-key, limit_keys: [{{key: moving, limit: {MANY}, window: 1h, precision: exact}}, {{key: \
    \"*\", limit: 3, window: 1h}}]}}
    - {{limit_by_per_header: x-short, limit_keys: [{{key: \"*\", limit: 2, window: 2s}}]}}
  failure_mode: closed
  remember_refusals: false
  redis: {{service_name: r, timeout: {}}}
",
        upstream.url(),
        TIMEOUT.as_millis()
    ))
}

/// The Redis key of a value of `x-key`.
fn redis_key(value: &str) -> String {
    format!("slidegate:{{cluster:limit_by_per_header:x-key:{value}}}:3600")
}

fn failures(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("slidegate_redis_failures_total", &[])
}

/// A value of `x-key` that the first master keeps, each time another one.
fn values_of_first(cluster: &RedisCluster) -> impl Iterator<Item = String> {
    (0..).map(|number| format!("value-{number}")).filter(|value| cluster.owner(&redis_key(value)) == 0)
}

#[test]
fn keys_are_spread_over_all_masters_and_each_limit_holds() {
    let (cluster, upstream) = (RedisCluster::start(), Upstream::start());
    let gateway = serve(&upstream, &format!("\"redis+cluster://{}\"", cluster.listed()));
    for number in 0..40 {
        assert_eq!(gateway.statuses("x-key", &format!("value-{number}"), 4), [200, 200, 200, 429], "{}", gateway.log());
    }
    let sizes: Vec<i64> = cluster.nodes[..3].iter().map(RedisCluster::size).collect();
    assert!(sizes.iter().all(|size| *size > 0) && sizes.iter().sum::<i64>() == 40, "{sizes:?}");
    assert_eq!(gateway.statuses("x-short", "a", 3), [200, 200, 429]);
    wait_until("the window has gone by", || gateway.statuses("x-short", "a", 1) == [200]);
    assert_eq!(failures(&gateway), 0.0, "{}", gateway.log());
    a_slot_moves(&cluster, &gateway);
    a_master_is_lost(cluster, &gateway);
}

/// A session and the list of its user's are of one slot, whoever the user is.
#[test]
fn sessions_of_users_are_kept_by_all_masters_and_so_many_of_each() {
    let (cluster, upstream) = (RedisCluster::start_masters(), Upstream::start());
    let gateway = Gateway::serve(&format!(
        "upstream: {}
redis: {{names: {{r: \"redis+cluster://{}\"}}}}
filter:
  session:
    {{format: own, secrets: s, fields: {{user: x-user}}, user: user, max_per_user: 2, remember: 0, redis: \
    {{service_name: r}}}}
",
        upstream.url(),
        cluster.listed()
    ));
    let order = |browser: &mut Browser, order: &str| {
        let answer = browser.get(&gateway, "/answer", &[("answer-x-slidegate-session-set", order)]);
        assert_eq!(answer.status(), 200, "{}", gateway.log());
        browser.cookie(SESSION).map(str::to_owned)
    };
    let known = |browser: &mut Browser| {
        assert_eq!(browser.get(&gateway, "/", &[]).status(), 200);
        upstream.last().text("x-user")
    };
    for number in 0..20 {
        // Other users have other slots; a brace in a name makes none of its own.
        let user = format!("{{user}}-{number}");
        let log_in = format!(r#"{{"fields": {{"user": "{user}"}}, "rotate": true}}"#);
        let mut browsers = [(); 3].map(|()| Browser::default());
        let cookies = browsers.each_mut().map(|browser| order(browser, &log_in));
        assert!(cookies.iter().all(Option::is_some), "{}", gateway.log());
        let of = browsers.each_mut().map(|browser| known(browser).is_some());
        assert!(of[2] && of[0] != of[1], "two of three, and the last among them: {of:?}");
        let [.., last] = &mut browsers;
        let cookie = order(last, &log_in);
        assert!(cookie.is_some() && cookie != cookies[2], "a new id");
        assert_eq!(known(last), Some(user));
        assert_eq!((order(last, "delete"), known(last)), (None, None));
    }
    let sizes: Vec<i64> = cluster.nodes.iter().map(RedisCluster::size).collect();
    assert!(sizes.iter().all(|size| *size > 0) && sizes.iter().sum::<i64>() == 2 * 20, "{sizes:?}");
    assert_eq!(failures(&gateway), 0.0, "{}", gateway.log());
}

/// Resharding under traffic, with everything that a client can meet of it, and no request notices.
fn a_slot_moves(cluster: &RedisCluster, gateway: &Gateway) {
    let key = redis_key("moving");
    let slot = cluster.slot(&key).to_string();
    let from = cluster.owner(&key);
    let (source, target) = (&cluster.nodes[from], &cluster.nodes[(from + 1) % 3]);
    let traffic = Traffic::start(gateway.listen(), 4, |_, _| "moving".to_owned());
    let is_there = |node: &RedisServer| RedisCluster::size(node);
    wait_until("the key is there", || source.ask(&["EXISTS", &key]).is_ok_and(|found| found == redis::Value::Int(1)));
    let before = is_there(target);
    target.tell(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(source)]);
    source.tell(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(target)]);
    sleep(Duration::from_millis(100));
    source.tell(&["MIGRATE", "127.0.0.1", &target.port().to_string(), &key, "0", "5000"]);
    assert_eq!(is_there(target), before + 1);
    wait_until("the source has sent on", || errors(source, "ASK") >= 5);
    for node in [target, source] {
        node.tell(&["CLUSTER", "SETSLOT", &slot, "NODE", &id(target)]);
    }
    wait_until("the source has said that it moved", || errors(source, "MOVED") >= 1);
    let mut probes = Vec::new();
    wait_until("the limit is reached", || {
        probes.extend(gateway.statuses("x-key", "moving", 1));
        probes.last() == Some(&429)
    });
    let samples = traffic.stop();
    assert_eq!(count(&samples, 200) + count(&samples, 429), samples.len(), "{}", gateway.log());
    assert_eq!(count(&samples, 200) + probes.len() - 1, MANY, "no more and no fewer than the limit");
    assert_eq!(failures(gateway), 0.0, "{}", gateway.log());
    // Who asks now knows where it is.
    let moved = errors(source, "MOVED");
    assert_eq!(gateway.statuses("x-key", "moving", 20), [429; 20]);
    assert!(errors(source, "MOVED") <= moved + 1, "the other worker may not have known yet");
}

/// A master is killed under traffic; its replica goes on with what it knew.
fn a_master_is_lost(mut cluster: RedisCluster, gateway: &Gateway) {
    let values: Vec<String> = values_of_first(&cluster).take(4).collect();
    let full = values[0].clone();
    gateway.statuses("x-key", &full, 4);
    cluster.nodes[0].wait_followed();
    let traffic = Traffic::start(gateway.listen(), 4, |connection, request| format!("{connection}-{request}"));
    sleep(Duration::from_millis(300));
    cluster.nodes[0].kill();
    wait_until("the replica is promoted", || cluster.nodes[3].tell(&["INFO", "replication"]).contains("role:master"));
    wait_until("the cluster serves again", || {
        cluster.nodes[1..].iter().all(|node| node.tell(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
    });
    let back = Instant::now();
    sleep(Duration::from_millis(1_500));
    let samples = traffic.stop();
    assert_eq!(count(&samples, 200) + count(&samples, 503), samples.len());
    assert!(worst(&samples) < TIMEOUT * 4, "{:?}", worst(&samples));
    let late: Vec<_> = samples.iter().filter(|sample| sample.at > back + Duration::from_secs(1)).collect();
    assert!(
        !late.is_empty() && late.iter().all(|sample| sample.status == 200),
        "a second after it serves again, all is decided"
    );
    let last_failure = samples.iter().rev().find(|sample| sample.status == 503).map_or(back, |sample| sample.at);
    println!("used again after {:?}, worst answer {:?}", last_failure.saturating_duration_since(back), worst(&samples));
    assert_eq!(gateway.statuses("x-key", &full, 2), [429, 429], "what the replica knew still counts");
    for value in &values[2..] {
        let new = format!("{value}-new");
        assert_eq!(gateway.statuses("x-key", &new, 4), [200, 200, 200, 429]);
    }
    assert!(RedisCluster::size(&cluster.nodes[3]) > 0);
}

#[test]
fn a_cluster_behind_a_password_is_signed_in_to_on_every_node() {
    let (cluster, upstream) = (RedisCluster::start_masters(), Upstream::start());
    let user = ["ACL", "SETUSER", "gate", "on", ">secret", "-@all", "~slidegate:*", "+cluster|slots", "+asking"];
    let script = ["+evalsha", "+eval", "+time", "+zrange", "+zadd", "+zrem", "+del", "+pexpire"];
    for node in &cluster.nodes {
        node.tell(&[&user[..], &script].concat());
    }
    let gateway = serve(&upstream, &format!("\"redis+cluster://gate:secret@{}\"", cluster.listed()));
    for number in 0..20 {
        assert_eq!(gateway.statuses("x-key", &format!("value-{number}"), 4), [200, 200, 200, 429], "{}", gateway.log());
    }
    assert!(cluster.nodes.iter().all(|node| RedisCluster::size(node) > 0));
    assert_eq!(failures(&gateway), 0.0, "{}", gateway.log());
}

#[test]
fn a_server_that_is_no_cluster_says_so() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream, &format!("\"redis+cluster://127.0.0.1:{}\"", redis.port()));
    assert_eq!(gateway.statuses("x-key", "a", 2), [503, 503]);
    gateway.wait_log("cluster support disabled");
}

#[test]
fn nodes_that_announce_addresses_of_another_network_are_found_where_they_are() {
    // As in containers whose ports are forwarded.
    const ANNOUNCED: &str = "10.255.255.9";
    let (node, upstream) =
        (RedisServer::start_with(&["--cluster-enabled", "yes", "--cluster-announce-ip", ANNOUNCED]), Upstream::start());
    node.tell(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    wait_until("the cluster is up", || node.tell(&["CLUSTER", "INFO"]).contains("cluster_state:ok"));
    let (url, port) = (format!("redis+cluster://127.0.0.1:{}", node.port()), node.port());
    for announced in [format!("\"{ANNOUNCED}:{port}\": \"127.0.0.1:{port}\""), format!("{ANNOUNCED}: 127.0.0.1")] {
        let gateway = serve(&upstream, &format!("{{url: \"{url}\", announced: {{{announced}}}}}"));
        node.tell(&["FLUSHALL"]);
        assert_eq!(gateway.statuses("x-key", "a", 4), [200, 200, 200, 429], "{}", gateway.log());
        assert_eq!(failures(&gateway), 0.0, "{}", gateway.log());
        assert!(gateway.ask_admin("/config").1.contains(ANNOUNCED));
    }
    let lost = serve(&upstream, &format!("\"{url}\""));
    assert_eq!(lost.statuses("x-key", "a", 1), [503]);
    assert!(lost.wait_log("no connection to Redis r:6379").contains(ANNOUNCED));
}
