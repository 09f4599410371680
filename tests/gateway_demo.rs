//! The demo, by somebody who does what it says: every line that it prints is run by a shell, with the real curl.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use slidegate_tests::{gateway_process::Gateway, redis_server::RedisServer};

/// What the lines of the guide printed when they were run, in their order.
fn try_everything(demo: &Gateway) -> Vec<String> {
    demo.wait_printed("Ctrl-C ends it");
    let guide = demo.printed();
    let commands: Vec<&str> =
        guide.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with('#')).collect();
    assert_eq!(commands.len(), 7, "{guide}");
    commands.into_iter().map(run).collect()
}

fn run(command: &str) -> String {
    assert!(command.contains("curl "), "{command}");
    let output = Command::new("bash").args(["-c", command]).output().expect("`bash` runs");
    assert!(output.status.success(), "`{command}` failed (is curl installed? `just setup`): {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn check(demo: &Gateway) {
    let started = Instant::now();
    let printed = try_everything(demo);
    let took = started.elapsed();
    let [one, many, silver, users, gold, metrics, config] = printed.as_slice() else { panic!("{printed:?}") };

    assert!(one.starts_with("HTTP/1.1 200 OK\r\n") && one.contains("\nGET /hello"), "{one}");
    for header in
        ["x-ratelimit-limit: 10\r\n", "x-ratelimit-remaining: 9\r\n", "ratelimit-policy: \"demo-10s\";q=10;w=10\r\n"]
    {
        assert!(one.contains(header), "{one}");
    }

    let many: Vec<&str> = many.split_whitespace().collect();
    let admitted = many.iter().take_while(|status| **status == "200").count();
    assert_eq!(many.len(), 12);
    // The line before may have taken one of the ten.
    assert!((9..=10).contains(&admitted) || took > Duration::from_secs(10), "{many:?}");
    assert!(many.iter().skip(admitted).all(|status| *status == "429"), "{many:?}");

    let silver: Vec<&str> = silver.lines().map(str::trim_end).collect();
    assert_eq!(silver.iter().filter(|line| line.starts_with("HTTP/1.1 200")).count(), 3, "{silver:?}");
    assert_eq!(silver.iter().filter(|line| line.starts_with("HTTP/1.1 429")).count(), 1, "{silver:?}");
    let wait =
        silver.iter().find_map(|line| line.strip_prefix("retry-after: ")).expect("the refusal says when to come again");
    assert!((1..=60).contains(&wait.parse::<u64>().expect("seconds")), "{wait}");

    assert_eq!(users, "alice 200\nalice 200\nalice 429\nbob 200\n");

    let gold: Vec<&str> = gold.split_whitespace().collect();
    let (admitted, refused) = (
        gold.iter().filter(|status| **status == "200").count(),
        gold.iter().filter(|status| **status == "429").count(),
    );
    assert_eq!(admitted + refused, 40, "{gold:?}");
    let windows = usize::try_from(took.as_secs()).expect("a short time") + 1;
    assert!(admitted >= 5 && admitted <= 5 * windows, "{admitted} in {took:?}");
    assert!(refused > 0 || took > Duration::from_secs(8), "{gold:?}");

    assert!(
        metrics.lines().any(|line| line.starts_with("slidegate_decisions_total") && line.contains("refused")),
        "{metrics}"
    );
    assert!(config.contains("query_per_minute") && config.contains("\"understood\""), "{config}");
}

#[test]
fn without_arguments_it_needs_nothing_but_itself() {
    let demo = Gateway::demo(&[]);
    assert!(demo.listen().ip().is_loopback() && demo.admin().ip().is_loopback());
    check(&demo);
    assert!(demo.printed().contains("Windows are counted in this process"), "{}", demo.printed());
}

#[test]
fn with_a_redis_it_counts_there() {
    let redis = RedisServer::start();
    let demo = Gateway::demo(&[
        "--redis",
        &redis.url(),
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--workers",
        "2",
    ]);
    check(&demo);
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut redis.connection()).expect("Redis answers");
    // Keys of an API are hashed.
    assert!(
        keys.iter()
            .any(|key| key.starts_with("slidegate:{demo:limit_by_header:x-api-key:%hmac:") && key.ends_with("}:60")),
        "{keys:?}"
    );
    assert!(keys.iter().all(|key| !key.contains("silver")), "{keys:?}");
    assert!(keys.iter().all(|key| key.starts_with("slidegate:{demo:")), "{keys:?}");
}

#[test]
fn two_demos_run_beside_each_other() {
    let (one, two) = (Gateway::demo(&[]), Gateway::demo(&[]));
    assert!(one.listen() != two.listen() && one.admin() != two.admin());
    assert_eq!((one.get("/a", &[]).0, two.get("/a", &[]).0), (200, 200));
}
