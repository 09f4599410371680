//! The demos, by somebody who does what they say: every line that they print is run by a shell, with the real curl and
//! the official clients.

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use slidegate_tests::{
    gateway_process::{Gateway, run},
    metrics::Metrics,
    redis_server::RedisServer,
};

/// The lines of the guide that may be run, in their order.
fn commands(demo: &Gateway, lines: usize) -> Vec<String> {
    demo.wait_printed("Ctrl-C ends it");
    let guide = demo.printed();
    let commands = guide.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with('#'));
    let commands: Vec<String> = commands.map(str::to_owned).collect();
    assert_eq!(commands.len(), lines, "{guide}");
    commands
}

/// What all of them printed when they were run.
fn try_everything(demo: &Gateway, lines: usize) -> Vec<String> {
    commands(demo, lines).iter().map(|command| try_line(command)).collect()
}

fn try_line(command: &str) -> String {
    assert!(command.contains("curl ") || command.contains("python3 "), "{command}");
    let clients = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/clients/python");
    let mut bash = Command::new("bash");
    bash.args(["-c", command]).env("PYTHONPATH", clients).current_dir(std::env::temp_dir());
    let output = bash.output().expect("`bash` runs");
    assert!(output.status.success(), "`{command}` failed (is all installed? `just setup`): {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn check(demo: &Gateway) {
    let started = Instant::now();
    let printed = try_everything(demo, 7);
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

/// The value of a field in the heads that curl printed, each time it comes.
fn values(printed: &str, field: &str) -> Vec<u64> {
    let values = printed.lines().filter_map(|line| line.strip_prefix(field)?.strip_prefix(": "));
    values.map(|value| value.trim().parse().expect("a number")).collect()
}

#[test]
fn the_demo_of_tokens_counts_what_answers_take() {
    let redis = RedisServer::start();
    for args in [&["serve", "--demo", "llm"][..], &["serve", "--demo", "llm", "--redis", &redis.url()]] {
        let demo = Gateway::demo(args);
        let printed = try_everything(&demo, 8);
        let [one, stream, many, after, small, metrics, client, refused] = printed.as_slice() else {
            panic!("{printed:?}")
        };
        assert!(one.starts_with("HTTP/1.1 200 OK\r\n") && one.contains("\"total_tokens\":50"), "{one}");
        // What remains is told with the estimate taken off.
        assert_eq!(values(one, "x-ratelimit-limit-tokens"), [1_000]);
        assert!(values(one, "x-ratelimit-remaining-tokens")[0] < 950, "{one}");

        assert!(stream.starts_with("data: {") && stream.ends_with("data: [DONE]\n\n"), "{stream}");
        assert!(stream.contains("\"total_tokens\":50"), "{stream}");

        let statuses: Vec<_> = many.split_whitespace().collect();
        let admitted = statuses.iter().filter(|status| **status == "200").count();
        let others = statuses.iter().filter(|status| **status == "429").count();
        assert_eq!(admitted + others, 20, "{many}");
        assert!(others > 0 && admitted > 0, "{many}");
        assert!(after.starts_with("HTTP/1.1 200 OK"), "{after}");

        assert_eq!(small.matches("HTTP/1.1 200 OK").count(), 1, "{small}");
        assert!(small.contains("\"type\":\"rate_limit_error\""), "{small}");
        assert!((1..=60).contains(&values(small, "retry-after")[0]), "{small}");

        // Google's key may stand in the address: that is a budget too.
        let by_address: Vec<_> = (0..2)
            .map(|_| demo.client().send("POST", "/v1beta/models/m:generateContent?key=small", &[], b"{}").status())
            .collect();
        assert_eq!(by_address, [200, 429]);

        // One, a stream, those of the many, the one after them, and one of the small.
        let metrics = Metrics::parse(metrics);
        assert_eq!(metrics.sum("slidegate_tokens_charged_total", &[]), 50.0 * (admitted as f64 + 4.0));
        assert_eq!(metrics.find("slidegate_token_reservations_open", &[]), Some(0.0));

        assert!(client.starts_with("word0 word1 ") && client.trim_end().ends_with("word39"), "{client}");
        assert!(refused.starts_with("anthropic.RateLimitError"), "{refused}");
    }
    assert!(redis.tell(&["DBSIZE"]).parse::<u64>().is_ok_and(|keys| keys >= 3));
    let both = run(&["serve", "--demo", "llm", "gate.yaml"]);
    let neither = run(&["serve"]);
    assert_eq!((both.status.code(), neither.status.code()), (Some(2), Some(2)));
    let told = String::from_utf8_lossy(&neither.stderr).into_owned();
    assert!(told.contains("serve [OPTIONS] <FILE>") && told.contains("--demo [<KIND>]"), "{told}");
    drop(Gateway::demo(&["serve", "--demo"]));
}

#[test]
fn the_demo_of_sessions_knows_who_has_logged_in() {
    let redis = RedisServer::start();
    let demo = Gateway::demo(&["serve", "--demo", "session", "--redis", &redis.url()]);
    let printed = try_everything(&demo, 7);
    let [nobody, login, known, silent, users, logout, metrics] = printed.as_slice() else { panic!("{printed:?}") };
    assert!(nobody.starts_with("GET /hello") && !nobody.contains("x-user"), "{nobody}");
    assert!(login.contains("HTTP/1.1 200 OK") && !login.contains("x-slidegate"), "{login}");
    let cookie = login.lines().find_map(|line| line.strip_prefix("set-cookie: __Host-session=")).expect("a cookie");
    assert!(cookie.trim_end().ends_with("; Path=/; HttpOnly; Secure; SameSite=Lax"), "{cookie}");
    assert!(known.contains("x-user: alice\n") && known.contains("x-role: reader\n"), "{known}");
    assert!(!known.contains("cookie"), "{known}");
    assert_eq!(silent, "");
    // One of the six was that of the browser that was recognised.
    let expected = "alice 200\nalice2 200\nalice 200\nalice2 200\nalice 200\nalice2 429\nbob 200\n";
    assert_eq!(users, expected);
    assert!(logout.starts_with("GET /hello") && !logout.contains("x-user"), "{logout}");
    let metrics = Metrics::parse(metrics);
    let written = |outcome: &str| metrics.sum("slidegate_session_writes_total", &[("outcome", outcome)]);
    assert_eq!([written("begun"), written("deleted"), written("unavailable")], [3.0, 1.0, 0.0]);
    let without = run(&["serve", "--demo", "session"]);
    assert_eq!(without.status.code(), Some(1));
    let told = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(told.contains("expected `--redis redis://127.0.0.1:6379`"), "{told}");
}

#[test]
fn the_demo_of_a_cache_has_pages_that_outlive_their_backend() {
    let redis = RedisServer::start();
    let mut demo = Gateway::demo(&["serve", "--demo", "cache", "--redis", &redis.url()]);
    let commands = commands(&demo, 9);
    let (before, after) = commands.split_at(5);
    let printed: Vec<String> = before.iter().map(|command| try_line(command)).collect();
    let [page, status, many, live, own] = printed.as_slice() else { panic!("{printed:?}") };
    // Whether the second came within three seconds is the machine's.
    assert_eq!(page.matches("/: page ").count(), 3, "{page}");
    assert!(status.starts_with("HTTP/1.1 200 OK") && status.contains("cache-status: slidegate; "), "{status}");
    let counts = many.lines().map(|line| line.split_whitespace().next().and_then(|count| count.parse::<u32>().ok()));
    assert_eq!(counts.map(|count| count.expect("a count")).sum::<u32>(), 20, "{many}");
    let live: Vec<&str> = live.lines().collect();
    assert!(live.len() == 2 && live[0].starts_with("/live: page ") && live[0] != live[1], "{live:?}");
    let own: Vec<&str> = own.lines().collect();
    assert!(own[0].contains("`session=alice`") && own[1].contains("`session=bob`") && own[2] == own[0], "{own:?}");

    demo.press_enter();
    demo.wait_printed("The backend is dead");
    let on = try_line(&after[0]);
    assert_eq!(on.lines().count(), 10, "{on}");
    assert!(on.lines().all(|line| line.starts_with("HTTP/1.1 200 OK x-cache: ")), "{on}");
    // Ten of them took longer than three seconds.
    assert!(on.trim_end().ends_with("x-cache: STALE"), "{on}");
    let others = try_line(&after[1]);
    let expected = format!("{}\nHTTP/1.1 503 Service Unavailable\r\nWe are back soon, says the demo.\n", own[0]);
    assert_eq!(others, expected);

    demo.press_enter();
    demo.wait_printed("The backend runs again");
    let anew = try_line(&after[2]);
    assert!(anew.starts_with("/: page ") && !page.contains(anew.trim_end()), "{anew} in {page}");
    let metrics = Metrics::parse(&try_line(&after[3]));
    let stale = metrics.sum("slidegate_cache_requests_total", &[("outcome", "stale")]);
    assert!(stale >= 1.0, "{stale}");

    let without = run(&["serve", "--demo", "cache"]);
    assert_eq!(without.status.code(), Some(1));
    let told = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(told.contains("expected `--redis redis://127.0.0.1:6379`"), "{told}");
}
