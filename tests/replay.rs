//! `slidegate replay` as it ships: what it says of logs that real servers wrote in front of a live limit is what that
//! limit did.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;
use slidegate_tests::{
    asking_proxies::{Surroundings, envoy_over_http},
    gateway_process::{Directory, Gateway, run, run_with, wait_until},
    http_client::HttpClient,
    nginx::nginx,
    program::{Program, free_address, installed},
    upstream::Upstream,
};

/// Six requests an hour of each agent, which all logs tell.
const BY_AGENT: &str = r#"filter:
  rule_name: agents
  rule_items: [{limit_by_per_header: user-agent, limit_keys: [{key: "*", query_per_hour: 6}]}]
"#;

/// The same of all requests, for logs that tell no header.
const OF_ALL: &str = "filter: {rule_name: all, global_threshold: {query_per_hour: 8}}\n";

/// How many requests of the agents `a` and `b` are sent.
const SENT: usize = 11;
const REFUSED: u64 = 3;

/// A live limit in front of an upstream, and a folder for the log of what is before it.
struct Scene {
    gateway: Gateway,
    directory: Directory,
    limits: PathBuf,
    _upstream: Upstream,
}

impl Scene {
    fn new(limits: &str) -> Self {
        let upstream = Upstream::start();
        let settings = format!("upstream: {}\n{limits}", upstream.url());
        let directory = Directory::new();
        let path = directory.path().join("limits.yaml");
        fs::write(&path, &settings).expect("a temporary file can be written");
        Scene { gateway: Gateway::serve(&settings), directory, limits: path, _upstream: upstream }
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("access.log")
    }

    /// Sends what is refused three times.
    fn ask(&self, address: std::net::SocketAddr) {
        let mut client = HttpClient::connect(address);
        let statuses: Vec<u16> = (0..SENT)
            .map(|number| {
                let agent = if number % 4 == 3 { "b" } else { "a" };
                client.get("/orders?a=b", &[("user-agent", agent), ("host", "shop.test")]).status()
            })
            .collect();
        let refused = statuses.iter().filter(|status| **status == 429).count() as u64;
        assert_eq!(refused, REFUSED, "{statuses:?}");
    }

    /// What is said of a log, compared with what stands in it.
    fn replayed(&self, log: &Path, more: &[&str]) -> Value {
        let text = |path: &Path| path.to_str().expect("a path of text").to_owned();
        let (limits, log) = (text(&self.limits), text(log));
        report(&run(&[&["replay", &limits, &log, "--against", "log", "-o", "json"], more].concat()))
    }

    /// All that was sent through a proxy is in its log, and each verdict on it is what the live limit did.
    fn agrees(&self, kind: &str) {
        let read = || fs::read_to_string(self.log()).unwrap_or_default();
        wait_until("all is logged", || read().lines().filter(|line| line.contains("orders")).count() == SENT);
        let report = self.replayed(&self.log(), &[]);
        assert_eq!((report["requests"].as_u64(), report["refused"].as_u64()), (Some(11), Some(3)), "{report:#}");
        assert_eq!(report["format"], kind, "{report:#}");
        let against = &report["against"];
        let parts = ["refused", "refused_only_here", "refused_only_there"].map(|part| against[part].as_u64());
        assert_eq!(parts, [Some(3), Some(0), Some(0)], "{report:#}");
        assert_eq!(report["groups"][0]["refused"].as_u64(), Some(3), "{report:#}");
    }
}

fn report(output: &Output) -> Value {
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}{errors}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{errors}"))
}

// === Logs of real servers ===

#[test]
fn the_log_of_nginx_leads_to_the_verdicts_of_the_live_limit() {
    let scene = Scene::new(BY_AGENT);
    let (log, to) = (scene.log(), scene.gateway.listen());
    let nginx = nginx(
        |at| {
            format!(
                "server {{ listen {at}; access_log {} combined; location / {{ proxy_pass http://{to}; }} }}",
                log.display()
            )
        },
        &[],
    );
    scene.ask(nginx.address());
    scene.agrees("nginx");
}

#[test]
fn the_log_of_caddy_leads_to_the_verdicts_of_the_live_limit() {
    let scene = Scene::new(BY_AGENT);
    let surroundings = Surroundings { decide: 9, upstream: scene.gateway.listen().port() };
    let caddy = surroundings.caddy(&format!(
        "http://:8000 {{\n\tbind 127.0.0.1\n\tlog {{\n\t\toutput file {}\n\t\tformat json\n\t}}\n\treverse_proxy \
         127.0.0.1:9001\n}}\n",
        scene.log().display()
    ));
    scene.ask(caddy.address());
    scene.agrees("caddy");
}

#[test]
fn the_logs_of_envoy_lead_to_the_verdicts_of_the_live_limit() {
    let name = "envoy.access_loggers.file";
    let kind = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
    let json = r#", log_format: {json_format: {start_time: "%START_TIME%", method: "%REQ(:METHOD)%",
        path: "%REQ(:PATH)%", authority: "%REQ(:AUTHORITY)%", response_code: "%RESPONSE_CODE%",
        downstream_remote_address: "%DOWNSTREAM_REMOTE_ADDRESS%", user_agent: "%REQ(USER-AGENT)%"}}"#
        .replace('\n', " ");
    for format in ["", &json] {
        let scene = Scene::new(BY_AGENT);
        let surroundings = Surroundings { decide: 9, upstream: scene.gateway.listen().port() };
        let text = envoy_over_http("");
        let logs = format!(
            "stat_prefix: web\n                access_log: [{{name: {name}, typed_config: {{\"@type\": {kind}, path: \
             {}{format}}}}}]",
            scene.log().display()
        );
        let envoy = surroundings.envoy(&text.replace("stat_prefix: web", &logs));
        scene.ask(envoy.address());
        // It writes every ten seconds, and when it ends.
        drop(envoy);
        scene.agrees("envoy");
    }
}

#[test]
fn the_logs_of_traefik_lead_to_the_verdicts_of_the_live_limit() {
    for format in ["common", "json"] {
        let scene = Scene::new(BY_AGENT);
        let (address, to) = (free_address(), scene.gateway.listen());
        let shop = format!(
            "http:\n  routers: {{shop: {{rule: \"PathPrefix(`/`)\", entryPoints: [web], service: shop}}}}\n  services: \
             {{shop: {{loadBalancer: {{servers: [{{url: \"http://{to}\"}}]}}}}}}\n"
        );
        let args = [
            format!("--entrypoints.web.address={address}"),
            "--providers.file.filename=shop.yaml".to_owned(),
            "--global.checknewversion=false".to_owned(),
            "--global.sendanonymoususage=false".to_owned(),
            "--accesslog=true".to_owned(),
            format!("--accesslog.filepath={}", scene.log().display()),
            format!("--accesslog.format={format}"),
            "--accesslog.fields.headers.names.User-Agent=keep".to_owned(),
        ];
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let traefik = Program::start(installed("traefik"), &args, address, &[("shop.yaml", shop)]);
        // It listens before it has read where requests go.
        wait_until("it knows where requests go", || {
            HttpClient::connect(address).get("/begin", &[("user-agent", "c")]).status() != 404
        });
        scene.ask(traefik.address());
        wait_until("all is logged", || {
            fs::read_to_string(scene.log()).unwrap_or_default().matches("orders").count() >= SENT
        });
        let text = fs::read_to_string(scene.log()).expect("it is there");
        let asked: Vec<&str> = text.lines().filter(|line| line.contains("/orders")).collect();
        fs::write(scene.log(), asked.join("\n")).expect("a temporary file can be written");
        scene.agrees(if format == "json" { "traefik" } else { "nginx" });
    }
}

#[test]
fn the_gateways_own_log_leads_to_the_verdicts_of_its_limit() {
    for format in ["text", "json"] {
        let scene = Scene::new(&format!("log: {{format: {format}}}\n{OF_ALL}"));
        scene.ask(scene.gateway.listen());
        wait_until("all is logged", || scene.gateway.printed().matches("/orders").count() == SENT);
        fs::write(scene.log(), scene.gateway.printed()).expect("a temporary file can be written");
        scene.agrees("slidegate");
    }
}

// === Logs as they are typed ===

fn replay(limits: &str, log: &[u8], more: &[&str]) -> (i32, String, String) {
    let directory = Directory::new();
    let path = directory.path().join("limits.yaml");
    fs::write(&path, limits).expect("a temporary file can be written");
    let args = [&["replay", path.to_str().expect("a path of text"), "-"], more].concat();
    let output = run_with(&args, &[], log);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("it ends by itself"), text(&output.stdout), text(&output.stderr))
}

fn replayed(limits: &str, log: &[u8], more: &[&str]) -> Value {
    let (code, out, errors) = replay(limits, log, &[&["-o", "json"], more].concat());
    assert_eq!(code, 0, "{out}{errors}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{errors}"))
}

const A_MINUTE: &str =
    "rule_name: a-minute\nglobal_threshold: {query_per_minute: 2}\nredis: {service_name: a.static}\n";

fn combined(second: u32, path: &str) -> String {
    format!("192.0.2.1 - - [01/Dec/2026:03:00:{second:02} +0000] \"GET {path} HTTP/1.1\" 200 5 \"-\" \"curl\"\n")
}

#[test]
fn what_cannot_be_read_is_counted_and_told_and_the_rest_is_replayed() {
    let mut log = combined(0, "/a").into_bytes();
    log.extend(b"192.0.2.1 - - [01/Dec/2026:03:00:01 +0000] \"\\x16\\x03\\x01\" 400 157 \"-\" \"-\"\n");
    log.extend(b"\xff\xfe\x00b\xe4r\n\n");
    log.extend(combined(2, "/\u{e4}?q=\\x22").as_bytes());
    log.extend(vec![b'x'; 3 << 20]);
    log.extend(b"\n");
    // Written late.
    log.extend(combined(1, "/b").as_bytes());
    log.extend(combined(3, "/c").as_bytes());
    let report = replayed(A_MINUTE, &log, &[]);
    let number = |name: &str| report[name].as_u64().expect(name);
    assert_eq!(number("too_long_lines"), 1, "{report:#}");
    assert_eq!(number("requests") + number("broken_lines"), 6, "{report:#}");
    assert_eq!((number("passed"), number("late")), (2, 1), "{report:#}");
    let notes = report["notes"].to_string();
    for note in ["no Redis is asked", "whole seconds only", "by up to 1.000 s", "lines cannot be read", "-:3: "] {
        assert!(notes.contains(note), "{note}: {report:#}");
    }
}

#[test]
fn the_kinds_of_logs_that_are_known_are_told_apart() {
    let envoy = "[2026-12-01T03:00:00.100Z] \"GET /a HTTP/1.1\" 200 - 0 5 1 1 \"192.0.2.1\" \"curl\" \"id\" \
                 \"shop.test\" \"127.0.0.1:1\"\n";
    let apisix = "192.0.2.1 - - [01/Dec/2026:03:00:00 +0000] shop.test \"GET /a HTTP/1.1\" 200 5 0.001 \"-\" \"curl\" \
                  127.0.0.1:1 200 0.001 \"http://shop.test\"\n";
    let higress = concat!(
        r#"{"ai_log":"{"model":"m"}","authority":"shop.test","bytes_received":"0","#,
        r#""downstream_remote_address":"192.0.2.1:5","method":"GET","path":"/a?q="x"","protocol":"HTTP/1.1","#,
        r#""response_code":"200","route_name":"r","start_time":"2026-12-01T03:00:00.100Z","#,
        r#""upstream_cluster":"outbound|80||a.static","user_agent":"a "b"","x_forwarded_for":"-"}"#,
        "\n"
    );
    let csv = "time,method,path,header.x-api-key,from\n2026-12-01T03:00:00Z,GET,\"/a,b\",k,192.0.2.1\n";
    let entry =
        r#"{"startedDateTime": "2026-12-01T03:00:00.5Z", "request": {"method": "GET", "url": "https://a.test/"}}"#;
    let archive = format!("{{\n\"log\": {{\"entries\": [{entry}, {entry}, {entry}]}}}}");
    let report = replayed(A_MINUTE, archive.as_bytes(), &[]);
    assert_eq!((report["refused"].as_u64(), report["format"].as_str()), (Some(1), Some("har")), "{report:#}");
    for (kind, log) in [("envoy", envoy), ("nginx", apisix), ("higress", higress), ("csv", csv)] {
        let rest = log.lines().last().expect("a line");
        let log = format!("{log}{rest}\n{rest}\n");
        let report = replayed(A_MINUTE, log.as_bytes(), &[]);
        let counts = ["requests", "passed", "refused", "broken_lines"].map(|name| report[name].as_u64());
        assert_eq!((counts, report["format"].as_str()), ([3, 2, 1, 0].map(Some), Some(kind)), "{report:#}");
    }
    let (code, _, errors) = replay(A_MINUTE, b"hello world\n", &[]);
    assert!(code == 1 && errors.contains("say `--format`"), "{errors}");
    let (code, _, errors) = replay(A_MINUTE, b"", &[]);
    assert!(code == 1 && errors.contains("the logs are empty"), "{errors}");
}

#[test]
fn a_header_that_the_log_does_not_have_is_told_and_may_be_mapped() {
    let by_key = "rule_name: keys\nrule_items: [{limit_by_per_header: x-api-key, limit_keys: [{key: '*', \
                  query_per_minute: 1}]}]\n";
    let log = combined(0, "/a") + &combined(1, "/a");
    let report = replayed(by_key, log.as_bytes(), &[]);
    assert_eq!(report["refused"], 0, "{report:#}");
    assert!(report["notes"].to_string().contains("no header `x-api-key`"), "{report:#}");
    let log = log.replace('\n', " \"key\"\n");
    let report = replayed(by_key, log.as_bytes(), &["--map", "header.x-api-key=#9"]);
    assert_eq!(report["refused"], 1, "{report:#}");
    assert!(!report["notes"].to_string().contains("no header"), "{report:#}");
    let (code, _, errors) = replay(by_key, log.as_bytes(), &["--map", "heade=#9"]);
    assert!(code == 1 && errors.contains("`heade` is none of"), "{errors}");
}

#[test]
fn too_many_refusals_end_with_three_and_other_limits_may_be_compared() {
    let log: String = (0..10).map(|second| combined(second, "/a")).collect();
    for (most, code) in [("80%", 0), ("79%", 3), ("0.79", 3)] {
        let (ended, out, errors) = replay(A_MINUTE, log.as_bytes(), &["--max-refused", most]);
        assert_eq!(ended, code, "{out}{errors}");
        assert!(out.contains("80.00 %") && out.contains("a-minute"), "{out}");
    }
    assert_eq!(replay(A_MINUTE, log.as_bytes(), &["--max-refused", "101%"]).0, 2);
    let directory = Directory::new();
    let other = directory.path().join("other.yaml");
    fs::write(&other, A_MINUTE.replace(": 2}", ": 4}")).expect("a temporary file can be written");
    let report = replayed(A_MINUTE, log.as_bytes(), &["--against", other.to_str().expect("a path of text")]);
    let against = ["refused", "refused_only_here", "refused_only_there"].map(|part| report["against"][part].as_u64());
    assert_eq!((report["refused"].as_u64(), against), (Some(8), [Some(6), Some(2), Some(0)]), "{report:#}");
    // Two at the end of a minute and two at the beginning of the next.
    let edge: String = [0, 58, 59].iter().map(|second| combined(*second, "/a")).collect();
    let edge = edge + &combined(0, "/a").replace("03:00", "03:01") + &combined(1, "/a").replace("03:00", "03:01");
    let report = replayed(A_MINUTE, edge.as_bytes(), &["--against", "fixed"]);
    assert_eq!((report["refused"].as_u64(), report["against"]["refused"].as_u64()), (Some(2), Some(1)), "{report:#}");
    let by_key =
        |more: &[&str]| replayed(A_MINUTE, log.as_bytes(), &[&["--by", "key"], more].concat())["groups"].clone();
    let (hidden, shown) = (by_key(&[]), by_key(&["--show-values"]));
    assert_eq!((hidden[0]["refused"].as_u64(), hidden.as_array().map(Vec::len)), (Some(8), Some(1)), "{hidden:#}");
    assert!(hidden[0]["name"].as_str().is_some_and(|name| name.starts_with("a-minute #")), "{hidden:#}");
    assert!(shown[0]["name"].as_str().is_some_and(|name| name.starts_with("slidegate:")), "{shown:#}");
    let (code, page, _) = replay(A_MINUTE, log.as_bytes(), &["--against", "fixed", "-o", "html"]);
    assert_eq!((code, page.matches("<svg").count(), page.matches("<polyline").count()), (0, 1, 1), "{page}");
    assert!(page.contains("80.00 %") && !page.contains("http:") && !page.contains("<script"), "{page}");
    let (_, out, _) = replay(A_MINUTE, log.as_bytes(), &["--by", "minute", "-o", "csv"]);
    assert_eq!(out, "minute,requests,refused\n\"2026-12-01T03:00:00Z\",10,8\n");
    let later = combined(0, "/a") + &log.replace("03:00", "03:09");
    let (_, out, _) = replay(A_MINUTE, later.as_bytes(), &["--by", "minute", "-o", "csv"]);
    let expected = "minute,requests,refused\n\"2026-12-01T03:00:00Z\",1,0\n\"2026-12-01T03:09:00Z\",10,8\n";
    assert_eq!(out, expected);
}
