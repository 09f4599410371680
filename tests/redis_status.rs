//! What is told of Redis without any request: at the start, at `/readyz`, as a gauge; and a gateway that does not start
//! without it.

use std::fs;

use slidegate_tests::{
    gateway_process::{Directory, Gateway, run, wait_until},
    redis_server::{RedisServer, free_port},
    upstream::Upstream,
};

/// Two policies, each with a Redis of its own.
const FILTER: &str = "filter:
  _rules_:
    - {_match_route_: [a], rule_name: a, global_threshold: {query_per_hour: 2}, redis: {service_name: first}}
    - {_match_route_: [b], rule_name: b, global_threshold: {query_per_hour: 2}, redis: {service_name: second}}
";

fn settings(upstream: &Upstream, redis: &str) -> String {
    let url = upstream.url();
    let routes = format!(
        "[{{name: a, path_prefix: /a, upstream: \"{url}\"}}, {{name: b, path_prefix: /b, upstream: \"{url}\"}}]"
    );
    format!("routes: {routes}\nworkers: 2\nredis: {redis}\n{FILTER}")
}

fn up(gateway: &Gateway, service: &str) -> Option<f64> {
    gateway.metrics().find("slidegate_redis_up", &[("service", service)])
}

#[test]
fn each_redis_is_told_of_before_the_first_request() {
    let (mut first, upstream) =
        (RedisServer::start_with(&["--maxmemory", "50mb", "--maxmemory-policy", "volatile-lru"]), Upstream::start());
    let nobody = free_port();
    let names = format!("{{names: {{first: \"{}\", second: \"redis://:hush@127.0.0.1:{nobody}\"}}}}", first.url());
    let gateway = Gateway::serve(&settings(&upstream, &names));
    let connected = gateway.wait_log("connected to Redis first:6379");
    assert!(connected.contains(&format!("at 127.0.0.1:{}, database 0", first.port())), "{connected}");
    let evicts = gateway.wait_log("volatile-lru");
    assert!(evicts.contains("WARN") && evicts.contains("noeviction"), "{evicts}");
    let refused = gateway.wait_log("no connection to Redis second:6379");
    assert!(refused.contains("WARN") && refused.contains("refused"), "{refused}");
    wait_until("both were asked", || !gateway.ask_admin("/readyz").1.contains("not asked yet"));
    let (status, ready) = gateway.ask_admin("/readyz");
    let lines: Vec<&str> = ready.lines().collect();
    assert_eq!((status, lines.len()), (200, 3), "{ready}");
    assert_eq!(lines[0], "serving");
    assert_eq!(lines[1], format!("redis first:6379 at 127.0.0.1:{}, database 0: up", first.port()));
    assert!(
        lines[2].starts_with(&format!("redis second:6379 at 127.0.0.1:{nobody}, database 0: down: "))
            && lines[2].contains("refused"),
        "{ready}"
    );
    assert_eq!((up(&gateway, "first"), up(&gateway, "second")), (Some(1.0), Some(0.0)));
    first.kill();
    wait_until("it is noticed without a request", || up(&gateway, "first") == Some(0.0));
    first.restart_empty();
    wait_until("that it is back as well", || up(&gateway, "first") == Some(1.0));
    let again = gateway.wait_log("database 0 again");
    assert!(again.contains("WARN"), "as loud as what it ends: {again}");
    assert_eq!(
        gateway.log_lines("Redis first:6379").iter().filter(|line| line.contains("connect")).count(),
        3,
        "{}",
        gateway.log()
    );
    assert!(!gateway.log().contains("hush") && upstream.requests() == 0);
}

#[test]
fn one_url_stands_for_every_redis_and_its_password_for_a_file() {
    let (redis, upstream, directory) =
        (RedisServer::start_with(&["--requirepass", "p@ss/w:rd"]), Upstream::start(), Directory::new());
    let secret = directory.path().join("secret");
    fs::write(&secret, "wrong\n").expect("the directory can be written to");
    let one = format!("{{url: \"{}/3\", password_file: {}}}", redis.url(), secret.display());
    let gateway = Gateway::serve(&settings(&upstream, &one));
    assert!(gateway.wait_log("no connection to Redis second:6379").contains("WRONGPASS"));
    // The file is read again when asked to, though the settings stay as they are.
    fs::write(&secret, "p@ss/w:rd\n").expect("the directory can be written to");
    gateway.hang_up();
    wait_until("both are up", || gateway.ask_admin("/readyz").1.matches(": up").count() == 2);
    for path in ["/a", "/b"] {
        assert_eq!([(); 3].map(|()| gateway.get(path, &[]).0), [200, 200, 429], "{}", gateway.log());
    }
    assert!(redis.ask(&["PING"]).is_err());
    let shown = gateway.ask_admin("/config").1;
    assert!(
        !shown.contains("p@ss") && shown.contains("password_file") && shown.contains(&format!("{}/3", redis.url())),
        "{shown}"
    );
    let alone =
        Gateway::serve(&settings(&upstream, &format!("\"redis://:p%40ss%2Fw%3Ard@127.0.0.1:{}\"", redis.port())));
    wait_until("both are up", || alone.ask_admin("/readyz").1.matches(": up").count() == 2);
}

#[test]
fn what_is_required_is_there_before_anything_is_served() {
    let (redis, upstream, directory) = (RedisServer::start(), Upstream::start(), Directory::new());
    let nobody = free_port();
    let required = |second: &str| {
        settings(&upstream, &format!("{{required: true, names: {{first: \"{}\", second: \"{second}\"}}}}", redis.url()))
    };
    let file = directory.path().join("gate.yaml");
    fs::write(&file, format!("listen: 127.0.0.1:0\n{}", required(&format!("redis://:hush@127.0.0.1:{nobody}"))))
        .expect("it can be written");
    let failed = run(&["serve", file.to_str().expect("a temporary path is text")]);
    let told = String::from_utf8_lossy(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "{told}");
    assert!(
        told.contains("redis.required: Redis second:6379 at 127.0.0.1:")
            && told.contains("refused")
            && !told.contains("hush"),
        "{told}"
    );
    assert!(!told.contains("first:6379"), "{told}");
    // A reload that needs what is not there changes nothing.
    let gateway = Gateway::serve(&required(&redis.url()));
    gateway.replace_settings(&required(&format!("redis://127.0.0.1:{nobody}")));
    assert!(gateway.wait_log("redis.required").contains("second:6379"));
    assert_eq!([(); 3].map(|()| gateway.get("/b", &[]).0), [200, 200, 429], "{}", gateway.log());
}

#[test]
fn a_reload_tells_of_what_is_new_and_forgets_what_is_gone() {
    let (first, second) =
        (RedisServer::start_with(&["--maxmemory", "50mb", "--maxmemory-policy", "volatile-lru"]), RedisServer::start());
    let upstream = Upstream::start();
    let names = format!("redis: {{names: {{first: \"{}\", second: \"{}\"}}}}\n", first.url(), second.url());
    let settings = |services: &[&str], limit: u32| {
        let rule = |service: &&str| {
            format!(
                "    - {{_match_route_: [{service}], rule_name: {service}, global_threshold: {{query_per_hour: \
                 {limit}}}, redis: {{service_name: {service}}}}}\n"
            )
        };
        let rules: String = services.iter().map(rule).collect();
        let filter = if rules.is_empty() { String::new() } else { format!("filter:\n  _rules_:\n{rules}") };
        let url = upstream.url();
        let route = |service: &str| format!("  - {{name: {service}, path_prefix: /{service}, upstream: \"{url}\"}}\n");
        format!("routes:\n{}{}workers: 1\n{names}{filter}", route("first"), route("second"))
    };
    let gateway = Gateway::serve(&settings(&["first"], 2));
    gateway.wait_log("connected to Redis first:6379");
    gateway.wait_log("volatile-lru");
    let reload = |services: &[&str], limit: u32| {
        let before = gateway.metrics().sum("slidegate_reloads_total", &[("result", "ok")]);
        gateway.replace_settings(&settings(services, limit));
        wait_until("it is reloaded", || gateway.metrics().sum("slidegate_reloads_total", &[("result", "ok")]) > before);
    };
    let asked = |redis: &RedisServer| {
        let info = redis.tell(&["INFO", "commandstats"]);
        let calls = info.lines().find_map(|line| line.strip_prefix("cmdstat_time:calls="));
        calls.and_then(|calls| calls.split(',').next()).and_then(|calls| calls.parse::<u64>().ok()).unwrap_or_default()
    };
    let told = |text: &str| gateway.log_lines(text).len();

    reload(&["first"], 3);
    let before = asked(&first);
    wait_until("it is asked by the new settings", || asked(&first) > before + 1);
    assert_eq!([(); 4].map(|()| gateway.get("/first", &[]).0), [200, 200, 200, 429], "{}", gateway.log());
    reload(&["second", "first"], 3);
    gateway.wait_log("connected to Redis second:6379");
    wait_until("both are up", || gateway.ask_admin("/readyz").1.matches(": up").count() == 2);
    assert_eq!((up(&gateway, "first"), up(&gateway, "second")), (Some(1.0), Some(1.0)));
    assert_eq!(
        (told("Redis first:6379"), told("connected to Redis first"), told("volatile-lru")),
        (2, 1, 1),
        "{}",
        gateway.log()
    );

    // What is configured no more has no series, and no line.
    reload(&["second"], 3);
    assert_eq!((up(&gateway, "first"), up(&gateway, "second")), (None, Some(1.0)));
    assert!(!gateway.ask_admin("/readyz").1.contains("first"));
    // One that comes back is new.
    reload(&["second", "first"], 3);
    wait_until("it is told of again", || told("connected to Redis first") == 2);
    assert_eq!(told("connected to Redis second"), 1, "{}", gateway.log());
    reload(&[], 0);
    assert_eq!((up(&gateway, "first"), up(&gateway, "second")), (None, None));
}
