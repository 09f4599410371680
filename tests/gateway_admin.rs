//! The admin port: what was decided is counted, what is in force is shown, and no password is.

use std::process::Command;

use serde_json::{Value, json};
use slidegate_tests::{
    documented,
    gateway_process::{Directory, Gateway, indented, wait_until},
    http_client::HttpClient,
    redis_server::RedisServer,
    upstream::Upstream,
};

#[test]
fn decisions_requests_and_redis_calls_are_counted_as_they_happened() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = Gateway::serve(&format!(
        "routes: [{{name: shop, upstream: \"{}\"}}]
redis: {{names: {{redis.static: \"{}\"}}}}
workers: 1
filter:
  rule_name: counted
  rule_items:
    - {{limit_by_header: x-key, limit_keys: [{{key: a, query_per_hour: 2}}]}}
    - {{limit_by_header: x-dry, dry_run: true, limit_keys: [{{key: b, query_per_hour: 1}}]}}
  redis: {{service_name: redis.static}}
",
        upstream.url(),
        redis.url()
    ));
    let mut client = gateway.client();
    let mut ask = |headers: &[(&str, &str)]| client.get("/", headers).status();
    assert_eq!([(); 5].map(|()| ask(&[("x-key", "a")])), [200, 200, 429, 429, 429]);
    assert_eq!([(); 3].map(|()| ask(&[("x-dry", "b")])), [200, 200, 200]);
    assert_eq!([(); 4].map(|()| ask(&[])), [200; 4]);
    wait_until("all requests are counted", || gateway.metrics().sum("slidegate_requests_total", &[]) == 12.0);
    let metrics = gateway.metrics();
    let decisions =
        |decision: &str| metrics.sum("slidegate_decisions_total", &[("rule", "counted"), ("decision", decision)]);
    assert_eq!(["admitted", "refused", "would_refuse", "unlimited"].map(decisions), [3.0, 3.0, 2.0, 4.0]);
    assert_eq!(metrics.find("slidegate_degraded_decisions_total", &[("mode", "open")]), Some(0.0));
    // Eight decisions asked Redis, and the first also had to send the script.
    let calls = metrics.sum("slidegate_redis_calls_total", &[("service", "redis.static")]);
    assert!((4.0..=9.0).contains(&calls), "{calls} calls");
    assert_eq!(metrics.sum("slidegate_redis_failures_total", &[]), 0.0);
    let requests = |code: &str| metrics.sum("slidegate_requests_total", &[("route", "shop"), ("code", code)]);
    assert_eq!([requests("2xx"), requests("4xx"), requests("5xx")], [9.0, 3.0, 0.0]);
    assert_eq!(metrics.sum("slidegate_request_duration_seconds_count", &[("route", "shop")]), 12.0);
    assert_eq!(metrics.find("slidegate_component_traps_total", &[]), Some(0.0));
    assert_eq!(metrics.find("slidegate_requests_in_flight", &[]), Some(0.0));
    assert!(metrics.sum("slidegate_instance_memory_bytes", &[]) >= 65_536.0);
}

#[test]
fn requests_cannot_add_series() {
    let upstream = Upstream::start();
    let filter = "{rule_name: r, rule_items: [{limit_by_per_param: id, limit_keys: [{key: \"*\", query_per_day: 9}]}]}";
    let gateway = Gateway::serve(&format!("upstream: {}\nfilter: {filter}\n", upstream.url()));
    let mut client = gateway.client();
    let ask = |client: &mut HttpClient, index: usize| {
        client.send("GET", &format!("/{index}?id={index}"), &[("x-a", &index.to_string())], b"").status()
    };
    assert_eq!(ask(&mut client, 0), 200);
    let before = gateway.metrics().series();
    assert!((1..200).all(|index| ask(&mut client, index) == 200));
    assert_eq!(gateway.metrics().series(), before);
}

#[test]
fn the_settings_in_force_are_shown_without_secrets() {
    let redis = RedisServer::start_with(&["--requirepass", "url-secret"]);
    let upstream = Upstream::start();
    let filter =
        documented::COOKIE.replace("service_name: redis.static", "service_name: redis.static\n  password: file-secret");
    let url = redis.url().replace("redis://", "redis://:url-secret@");
    let gateway = Gateway::serve(&format!(
        "upstream: {}\nredis: {{names: {{redis.static: \"{url}\"}}}}\nfilter:\n{}",
        upstream.url(),
        indented(&filter)
    ));
    assert_eq!(gateway.get("/", &[("cookie", "key1=value1")]).0, 200);
    let (status, shown) = gateway.ask_admin("/config");
    assert_eq!(status, 200);
    let config: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(config["settings"]["filter"]["rule_items"][0]["limit_by_cookie"], "key1");
    assert_eq!(config["settings"]["routes"][0]["upstream"], upstream.url());
    assert!(config["understood"].as_array().is_some_and(|lines| lines.len() > 5), "{shown}");
    for text in [shown, gateway.ask_admin("/metrics").1, gateway.log(), gateway.printed()] {
        assert!(!text.contains("secret"), "{text}");
    }
    let calls = gateway.metrics();
    assert_eq!(
        calls.sum("slidegate_redis_failures_total", &[]),
        0.0,
        "the password of the URL was used: {}",
        gateway.log()
    );
}

#[test]
fn health_and_nothing_else_is_served() {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&format!("upstream: {}\n", upstream.url()));
    gateway.wait_log("nothing is limited");
    let mut admin = HttpClient::connect(gateway.admin());
    assert_eq!(admin.get("/healthz", &[]).text(), "ok\n");
    assert_eq!(admin.get("/healthz?x", &[]).status(), 200);
    assert_eq!(admin.get("/readyz", &[]).text(), "serving\n");
    assert_eq!(admin.get("/state", &[]).status(), 404);
    assert_eq!(admin.send("POST", "/config", &[], b"").status(), 405);
    assert_eq!(
        admin.get("/metrics", &[]).head.text("content-type").as_deref(),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    assert_eq!(gateway.get("/healthz", &[]), (200, "hello\n".to_owned()), "the upstream's path, not ours");
    assert_eq!(gateway.get("/metrics", &[]).1, "hello\n");
    assert_eq!(upstream.requests(), 2);
}

#[test]
fn the_state_tells_what_was_decided_and_how_redis_is() {
    let (mut redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = Gateway::serve(&format!(
        "routes: [{{name: shop, upstream: \"{}\"}}]
redis: {{names: {{redis.static: \"{}\"}}}}
filter:
  rule_name: seen
  rule_items:
    - {{limit_by_header: x-key, limit_keys: [{{key: a, query_per_hour: 2}}]}}
  redis: {{service_name: redis.static}}
",
        upstream.url(),
        redis.url()
    ));
    let state = || -> Value {
        let (status, text) = gateway.ask_admin("/api/v1/state");
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).expect("JSON")
    };
    wait_until("Redis was asked", || state()["redis"][0]["state"] == "up");
    let mut client = gateway.client();
    assert_eq!([(); 5].map(|()| client.get("/", &[("x-key", "a")]).status()), [200, 200, 429, 429, 429]);
    wait_until("all are counted", || state()["requests"]["shop"]["4xx"] == 3);
    let told = state();
    let rule = &told["rules"][0];
    assert_eq!((&rule["rule"], &rule["decided"]), (&json!("seen"), &json!(5)));
    assert_eq!((&rule["decisions"]["admitted"], &rule["decisions"]["refused"]), (&json!(2), &json!(3)));
    assert_eq!(rule["items"]["1"]["refused"], 3);
    assert_eq!(rule["decision_seconds"]["counts"].as_array().map(Vec::len), Some(17));
    assert_eq!((&told["breakers"]["redis.static"], &told["rules_left_out"]), (&json!(0.0), &json!(0)));
    assert!(told["configuration"]["understood"].to_string().contains("by header x-key"));
    wait_until("a step of the last minutes tells of them", || {
        let recent = state()["recent"].as_array().cloned().unwrap_or_default();
        recent.iter().map(|step| step["refused"].as_u64().unwrap_or(0)).sum::<u64>() == 3
    });
    redis.kill();
    wait_until("Redis is seen to be away", || state()["redis"][0]["state"] == "down");
    assert!(state()["redis"][0]["cause"].as_str().is_some_and(|cause| !cause.is_empty()));
}

#[test]
fn the_page_is_one_file_that_asks_nobody_else() {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&format!("upstream: {}\n", upstream.url()));
    let page = HttpClient::connect(gateway.admin()).get("/", &[]);
    assert_eq!(page.head.text("content-type").as_deref(), Some("text/html; charset=utf-8"));
    let policy = page.head.text("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    let text = page.text();
    let names: Vec<_> = text.match_indices("://").map(|(at, _)| &text[at.saturating_sub(4)..at + 18]).collect();
    assert_eq!(names, ["http://www.w3.org/2000"], "only the name of what is drawn");
    assert!(!text.contains(" src=") && !text.contains(" href="));
}

#[test]
fn pages_of_others_learn_nothing() {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&format!("upstream: {}\n", upstream.url()));
    let ask = |host: &str, origin: &[(&str, &str)]| {
        let headers = [&[("host", host)], origin].concat();
        let ask = |path: &str| HttpClient::connect(gateway.admin()).get(path, &headers).status();
        let [state, config] = ["/api/v1/state", "/config"].map(ask);
        assert_eq!(state, config, "{host} {origin:?}");
        state
    };
    let own = gateway.admin().to_string();
    assert_eq!(ask(&own, &[]), 200);
    assert_eq!(ask(&own, &[("origin", &format!("http://{own}"))]), 200);
    assert_eq!(ask(&own, &[("origin", "http://elsewhere.test")]), 403);
    assert_eq!(ask("rebound.test", &[]), 421);
    assert_eq!(ask("rebound.test", &[("origin", "http://rebound.test")]), 421);
}

#[test]
fn with_a_token_only_who_shows_it_sees_more_than_the_probes() {
    const TOKEN: &str = "an-admin-token-of-tests";
    let (upstream, directory) = (Upstream::start(), Directory::new());
    let file = directory.path().join("gate.yaml");
    let settings = "listen: 127.0.0.1:0\nadmin: {listen: 127.0.0.1:0, token: ";
    std::fs::write(&file, format!("{settings}{TOKEN}}}\nupstream: {}\n", upstream.url())).expect("a file");
    let gateway = Gateway::serve_file(&file);
    let ask = |path: &str| gateway.ask_admin(path).0;
    assert_eq!(["/", "/healthz", "/readyz"].map(ask), [200; 3]);
    let shown = ["/api/v1/state", "/metrics", "/config", "/elsewhere"];
    assert_eq!(shown.map(ask), [401; 4]);
    let gateway = gateway.with_admin_token("another-token-of-tests");
    assert_eq!(shown.map(|path| gateway.ask_admin(path).0), [401; 4]);
    let gateway = gateway.with_admin_token(TOKEN);
    assert_eq!(shown.map(|path| gateway.ask_admin(path).0), [200, 200, 200, 404]);
    let log = gateway.wait_log("a look was refused");
    assert!(!log.contains("another-token"), "{log}");
}

#[test]
fn the_access_log_has_a_line_for_each_request_and_no_query() {
    let upstream = Upstream::start();
    let filter = "{rule_name: r, global_threshold: {query_per_day: 1}}";
    let gateway = Gateway::serve(&format!("upstream: {}\nfilter: {filter}\nlog: {{format: json}}\n", upstream.url()));
    let mut client = gateway.client();
    assert_eq!(client.send("POST", "/one?key=secret", &[], b"12345").status(), 200);
    assert_eq!(client.get("/two", &[]).status(), 429);
    gateway.wait_printed("/two");
    let lines: Vec<serde_json::Value> =
        gateway.printed().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let field = |name: &str| lines.iter().map(|line| line[name].to_string()).collect::<Vec<_>>();
    assert_eq!(field("status"), ["200", "429"]);
    assert_eq!(field("path"), ["\"/one\"", "\"/two\""]);
    assert_eq!(
        (field("received"), field("sent")),
        (vec!["5".to_owned(), "0".to_owned()], vec!["6".to_owned(), "17".to_owned()])
    );
    assert_eq!(field("details"), ["\"\"", "\"rate_limited\""]);
    assert_eq!(field("decision"), ["null", "\"refused\""]);
    assert_eq!(field("rule"), ["null", "\"r\""]);
    assert_eq!([field("limit"), field("remaining")], [["null", "1"], ["null", "0"]]);
    let wait = lines[1]["retry_after"].as_u64().expect("whole seconds");
    assert!((86_000..=86_400).contains(&wait), "{wait}");
    assert!(!gateway.printed().contains("secret"));
}

#[test]
fn the_access_log_tells_what_was_decided_without_redis() {
    let upstream = Upstream::start();
    for (mode, status) in [("open", 200), ("local", 200), ("closed", 503)] {
        let gateway = Gateway::serve(&format!(
            "upstream: {}
redis: {{names: {{away.static: \"redis://127.0.0.1:1\"}}}}
filter: {{rule_name: r, global_threshold: {{query_per_day: 1}}, redis: {{service_name: away.static}}, failure_mode: \
{mode}}}
log: {{format: json}}
",
            upstream.url()
        ));
        assert_eq!(gateway.get("/asked", &[]).0, status, "{mode}");
        let line: serde_json::Value = serde_json::from_str(&gateway.wait_printed("/asked")).expect("JSON");
        let degraded = line["degraded"].as_str().unwrap_or_else(|| panic!("{mode}: not told: {line}"));
        assert!(degraded.starts_with(mode) && degraded.contains("cause="), "{degraded}");
        assert_ne!(line["details"], "rate_limited", "{line}");
        assert_eq!(line["rule"], "r");
    }
}

#[test]
fn whoever_looks_after_the_gateway_is_let_in() {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&format!("upstream: {}\nlimits: {{connections: 1}}\n", upstream.url()));
    let mut only = gateway.client();
    assert_eq!(only.get("/", &[]).status(), 200);
    // Of those who sit on the admin port, the ones who ask for nothing go first.
    let mut kept = HttpClient::connect(gateway.admin());
    assert_eq!(kept.get("/healthz", &[]).status(), 200);
    let sitting: Vec<HttpClient> = (0..200).map(|_| HttpClient::connect(gateway.admin())).collect();
    wait_until("room is made", || {
        let answer = HttpClient::connect(gateway.admin()).try_send("GET", "/healthz", &[], b"");
        answer.is_ok_and(|answer| answer.text() == "ok\n")
    });
    assert_eq!(kept.get("/healthz", &[]).text(), "ok\n");
    drop(sitting);
    wait_until("there is room", || HttpClient::connect(gateway.admin()).try_send("GET", "/metrics", &[], b"").is_ok());
    assert_eq!(gateway.metrics().sum("slidegate_connections", &[]), 1.0, "only clients of the gateway are counted");
}

#[test]
fn the_admin_port_speaks_as_any_listener_does() {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&format!("upstream: {}\n", upstream.url()));
    let url = format!("http://{}/readyz", gateway.admin());
    let curl = Command::new("curl")
        .args(["-s", "--http2-prior-knowledge", "-w", "%{http_version}", &url])
        .output()
        .expect("curl runs");
    assert_eq!(String::from_utf8_lossy(&curl.stdout), "serving\n2");
    let mut admin = HttpClient::connect(gateway.admin());
    let head = admin.send("HEAD", "/readyz", &[], b"").head;
    assert_eq!((head.status, head.text("content-length").as_deref()), (200, Some("8")));
    assert_eq!(admin.get("/readyz", &[]).text(), "serving\n");
}
