//! What the gateway's metrics say, by Prometheus' own judgement, and how long a series lasts.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use slidegate_tests::{
    gateway_process::{Gateway, wait_until},
    redis_server::RedisServer,
    upstream::Upstream,
};

/// Where `just setup` puts it on machines that do not have it.
const PROMTOOL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/prometheus/promtool");

/// What `promtool check metrics` finds wrong; nothing if all is well.
fn faults_found(metrics: &str) -> String {
    let promtool = if Path::new(PROMTOOL).exists() { PROMTOOL } else { "promtool" };
    let mut command = Command::new(promtool);
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().expect("`promtool`, which `just setup` installs");
    process.stdin.take().expect("piped").write_all(metrics.as_bytes()).expect("promtool reads");
    let output = process.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    match output.status.code() {
        Some(0) => said,
        code => format!("exit code {code:?}: {said}"),
    }
}

fn reloads(gateway: &Gateway, result: &str) -> f64 {
    gateway.metrics().sum("slidegate_reloads_total", &[("result", result)])
}

#[test]
fn prometheus_finds_no_fault_in_them() {
    assert_ne!(faults_found("requests 1\n"), "", "a metric without help is a fault");
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let settings = |limit: u32| {
        format!(
            "routes: [{{name: 'a \"quoted\" \\\\ name', upstream: \"{}\"}}]
redis: {{names: {{redis.static: \"{}\", away.static: \"redis://127.0.0.1:1\"}}}}
workers: 2
filter:
  _rules_:
    - _match_domain_: [here.test]
      rule_name: here
      rule_items: [{{limit_by_header: x-key, limit_keys: [{{key: a, query_per_hour: {limit}}}]}}]
      redis: {{service_name: redis.static}}
    - _match_domain_: [away.test]
      rule_name: away
      global_threshold: {{query_per_second: 5}}
      redis: {{service_name: away.static}}
    - _match_domain_: [local.test]
      rule_name: local
      global_threshold: {{query_per_second: 5}}
",
            upstream.url(),
            redis.url()
        )
    };
    let gateway = Gateway::serve(&settings(2));
    let ask = |rounds: usize| {
        for host in ["here.test", "away.test", "local.test", "other.test"] {
            let mut client = gateway.client();
            for _ in 0..rounds {
                client
                    .write(format!("GET / HTTP/1.1\r\nhost: {host}\r\nx-key: a\r\n\r\n").as_bytes())
                    .expect("the gateway reads");
                client.read_answer("GET").expect("an answer");
            }
        }
    };
    ask(8);
    gateway.write_settings(&settings(3));
    wait_until("the file is read", || reloads(&gateway, "ok") == 1.0);
    ask(2);
    gateway.write_settings("routes: 5");
    wait_until("the file is refused", || reloads(&gateway, "failed") == 1.0);
    let (_, text) = gateway.ask_admin("/metrics");
    assert_eq!(faults_found(&text), "", "{text}");
    let (helps, types) = (text.matches("# HELP ").count(), text.matches("# TYPE ").count());
    assert!(helps == types && !text.contains("Without a description"), "{text}");
}

#[test]
fn build_process_and_the_last_reload_are_told() {
    let upstream = Upstream::start();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let before = now();
    let gateway = Gateway::serve(&format!("upstream: {}\n", upstream.url()));
    let last =
        |name: &str| gateway.metrics().find(&format!("slidegate_config_last_reload_{name}"), &[]).expect("it is told");
    assert_eq!(gateway.metrics().find("slidegate_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), Some(1.0));
    let metrics = gateway.metrics();
    let process =
        |name: &str| metrics.find(&format!("process_{name}"), &[]).unwrap_or_else(|| panic!("no process_{name}"));
    assert!(
        process("resident_memory_bytes") > 1e6
            && process("open_fds") > 5.0
            && process("max_fds") >= process("open_fds")
    );
    assert!((before - 5.0..=now() + 5.0).contains(&process("start_time_seconds")), "{}", process("start_time_seconds"));
    let at_start = last("success_timestamp_seconds");
    assert!((before..=now()).contains(&at_start) && last("successful") == 1.0);

    gateway.write_settings("upstream: nowhere\n");
    wait_until("the file is refused", || last("successful") == 0.0);
    assert_eq!(last("success_timestamp_seconds"), at_start);
    gateway.write_settings(&format!("upstream: {}\n# well again\n", upstream.url()));
    wait_until("the file is taken", || last("successful") == 1.0);
    assert!(last("success_timestamp_seconds") > at_start);
}

#[test]
fn a_reload_that_fails_tells_its_mistakes_and_not_without_end() {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&format!("upstream: {}\n", upstream.url()));
    let routes: String =
        (0..200).map(|index| format!("  - {{path_prefix: /{index}, upstream: {}}}\n", "x".repeat(900))).collect();
    gateway.write_settings(&format!("routes:\n{routes}"));
    gateway.wait_log("stay in force");
    let mistakes = gateway.log_lines("routes[");
    assert!(
        (10..=60).contains(&mistakes.len()) && mistakes.iter().all(|line| line.len() < 2_000),
        "{} lines",
        mistakes.len()
    );
    assert_eq!(gateway.log_lines("more mistakes").len(), 1);
    assert_eq!(gateway.get("/", &[]).0, 200);
}

#[test]
fn series_leave_with_the_settings_that_they_came_from_and_others_go_on() {
    let upstream = Upstream::start();
    let settings = |name: &str, limit: u32| {
        format!(
            "routes: [{{name: all, upstream: \"{url}\"}}, {{name: route-{name}, path_prefix: /x, upstream: \"{url}\"}}]
filter: {{_rules_: [{{_match_route_: [all], rule_name: kept, global_threshold: {{query_per_day: 1000}}}},
  {{_match_route_: [route-{name}], rule_name: rule-{name}, global_threshold: {{query_per_day: {limit}}}}}]}}
",
            url = upstream.url()
        )
    };
    let gateway = Gateway::serve(&settings("0", 5));
    let count = |name: &str, label: &str, value: &str| gateway.metrics().find(name, &[(label, value)]);
    assert_eq!([gateway.get("/", &[]).0, gateway.get("/x", &[]).0], [200; 2]);
    wait_until("both are counted", || gateway.metrics().sum("slidegate_requests_total", &[]) == 2.0);
    let series = gateway.metrics().series();
    for round in 1..=5_u32 {
        gateway.write_settings(&settings(&round.to_string(), 5));
        wait_until("the file is read", || reloads(&gateway, "ok") == f64::from(round));
        wait_until("what is gone has left", || {
            count("slidegate_decisions_total", "rule", &format!("rule-{}", round - 1)).is_none()
        });
        assert_eq!(count("slidegate_requests_total", "route", &format!("route-{}", round - 1)), None);
        assert_eq!(count("slidegate_decisions_total", "rule", &format!("rule-{round}")), Some(0.0));
    }
    assert_eq!(gateway.metrics().series(), series);
    assert_eq!(count("slidegate_requests_total", "route", "all"), Some(1.0), "what stays goes on counting");
    assert_eq!(count("slidegate_decisions_total", "rule", "kept"), Some(1.0));
}

#[test]
fn two_hundred_rules_are_all_there() {
    let upstream = Upstream::start();
    let rules: String = (0..200)
        .map(|index| {
            format!(
                "    - {{_match_domain_: [h{index}.test], rule_name: r{index}, global_threshold: \
                              {{query_per_day: 1}}, redis: {{service_name: s{index}.static}}}}\n"
            )
        })
        .collect();
    let names: String = (0..200).map(|index| format!("    s{index}.static: redis://127.0.0.1:1\n")).collect();
    let gateway = Gateway::serve(&format!(
        "upstream: {}\nworkers: 2\nredis:\n  names:\n{names}filter:\n  _rules_:\n{rules}",
        upstream.url()
    ));
    let metrics = gateway.metrics();
    for index in 0..200 {
        let rule = format!("r{index}");
        assert!(
            metrics.find("slidegate_decisions_total", &[("rule", &rule), ("decision", "refused")]).is_some(),
            "{rule}"
        );
        let service = format!("s{index}.static");
        assert!(
            metrics.find("slidegate_redis_failures_total", &[("service", &service), ("cause", "timeout")]).is_some(),
            "{service}"
        );
    }
    assert!(gateway.log_lines("is not recorded").is_empty());
}
