//! `slidegate explain`: what a request would meet by a file, by its words and by its exit code; nothing is charged.

use std::{fs, process::Output};

use serde_json::{Value, json};
use slidegate_tests::{
    gateway_process::{Directory, Gateway, run},
    redis_server::RedisServer,
    upstream::Upstream,
};

const FILTER: &str = "rule_name: keys
rule_match: all
rule_items:
  - {limit_by_header: x-tier, limit_keys: [{key: free, query_per_minute: 9}]}
  - {limit_by_per_header: x-api-key, limit_keys: [{key: \"*\", query_per_hour: 2}]}
  - {limit_by_per_ip: from-remote-addr, limit_keys: [{key: 192.0.2.0/24, query_per_hour: 100}]}
redis: {service_name: redis.static}
";

/// What is printed, what is told, and the exit code.
fn said(output: &Output) -> (String, String, Option<i32>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

struct Scene {
    redis: RedisServer,
    directory: Directory,
}

impl Scene {
    fn new() -> Scene {
        Scene { redis: RedisServer::start(), directory: Directory::new() }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let file = self.directory.path().join(name);
        fs::write(&file, text).expect("a temporary file can be written");
        file.display().to_string()
    }

    fn gateway(&self, upstream: &Upstream) -> String {
        let filter = FILTER.lines().map(|line| format!("  {line}\n")).collect::<String>();
        let routes = format!("routes: [{{name: shop, path_prefix: /shop, upstream: \"{}\"}}]", upstream.url());
        let settings = format!(
            "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n{routes}\nredis: {{names: {{redis.static: \"{}\"}}}}\nfilter:\n{filter}",
            self.redis.url()
        );
        self.file("gateway.yaml", &settings)
    }
}

#[test]
fn it_tells_what_a_gateway_then_does_and_charges_nothing() {
    let (scene, upstream) = (Scene::new(), Upstream::start());
    let file = scene.gateway(&upstream);
    let gateway = Gateway::serve_file(file.as_ref());
    let url = scene.redis.url();
    let explain = |more: &[&str]| {
        let arguments = ["explain", &file, "GET", "http://a.test/shop/1", "-H", "x-api-key: a", "--from", "192.0.2.7"];
        said(&run(&[&arguments[..], more].concat()))
    };
    // Whether or not it was asked before.
    for sent in 0..4_u64 {
        for _ in 0..3 {
            let (text, error, code) = explain(&["--redis", &url, "-o", "json"]);
            let told: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text} {error}"));
            let rules = &told["filters"][0]["rules"];
            let used = sent.min(2);
            assert_eq!(rules[1]["limits"][0]["state"]["used"], json!(used), "{told:#}");
            assert_eq!(rules[1]["limits"][0]["state"]["left"], json!(2 - used));
            assert_eq!((&rules[0]["outcome"], &rules[2]["outcome"]), (&json!("skipped"), &json!("applies")));
            let verdict = if sent < 2 { ("pass", Some(0)) } else { ("respond", Some(3)) };
            assert_eq!((told["verdict"].as_str().unwrap_or_default(), code), verdict);
        }
        let (status, _) = gateway.get("/shop/1", &[("x-api-key", "a")]);
        assert_eq!(status, if sent < 2 { 200 } else { 429 });
    }
    let (text, _, code) = explain(&["--redis", &url]);
    for part in [
        "route     shop",
        "limiter   keys",
        "- rule_items[0]",
        "does not apply",
        "used 2, left 0; the next place",
        "verdict   a filter answers it",
    ] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    assert_eq!(code, Some(3));
    let (text, _, code) = explain(&[]);
    assert!(text.contains("state not asked") && text.contains("it depends on what Redis tells"), "{text}");
    assert_eq!(code, Some(4));
}

#[test]
fn filters_plugins_and_commands_for_curl_are_read() {
    let scene = Scene::new();
    let filter = scene.file("filter.yaml", FILTER);
    let indented: String = FILTER.lines().map(|line| format!("    {line}\n")).collect();
    let plugin = "apiVersion: extensions.higress.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: keys}\nspec:\n  url: \
                  oci://h/slidegate:1\n  defaultConfig:\n";
    let plugin = scene.file("plugin.yaml", &format!("{plugin}{indented}"));
    let url = scene.redis.url();
    let command = "curl 'http://a.test/x?y=1' -H 'x-tier: free'";
    for file in [&filter, &plugin] {
        let (text, error, code) = said(&run(&["explain", file, "--curl", command, "--redis", &url]));
        assert!(text.contains("+ rule_items[0]") && text.contains("used 0, left 9"), "{text}{error}");
        assert_eq!(code, Some(0));
    }
}

#[test]
fn what_the_gateway_answers_itself_is_told() {
    let (scene, upstream) = (Scene::new(), Upstream::start());
    let file = scene.gateway(&upstream);
    let (text, _, code) = said(&run(&["explain", &file, "/elsewhere"]));
    assert!(text.contains("the gateway answers 404 itself: no route takes it"), "{text}");
    assert_eq!(code, Some(3));
    let (text, _, code) = said(&run(&["explain", &file, "TRACE", "/shop"]));
    assert!(text.contains("the gateway answers 405 itself: TRACE is not served here"), "{text}");
    assert_eq!(code, Some(3));
}

#[test]
fn what_is_said_wrongly_is_told_in_a_sentence() {
    let (mut scene, upstream) = (Scene::new(), Upstream::start());
    let file = scene.gateway(&upstream);
    let wrong = scene.file("wrong.yaml", "rule_name: r\nglobal_threshold: {query_per_minuet: 5}\n");
    for (arguments, part) in [
        (&["explain", &file][..], "the URL of a request"),
        (&["explain", &file, "GET", "shop"], "expected a URL such as"),
        (&["explain", &file, "G T", "/shop"], "expected a method"),
        (&["explain", &file, "/shop", "-H", "nothing"], "expected a header"),
        (&["explain", &file, "/shop", "--from", "here"], "--from"),
        (&["explain", &file, "--curl", "curl 'a"], "quotes do not end"),
        (&["explain", &file, "/shop", "--curl", "curl a"], "cannot be used with"),
    ] {
        let (_, error, code) = said(&run(arguments));
        assert!(code == Some(2) && error.contains(part), "{arguments:?}: {code:?} {error}");
    }
    let (_, error, code) = said(&run(&["explain", &wrong, "/"]));
    assert!(code == Some(1) && error.contains("query_per_minute") && error.contains(":2:"), "{error}");
    let (_, error, code) = said(&run(&["explain", &file, "/shop", "-H", "host: a", "-H", "host: b"]));
    assert!(code == Some(1) && error.contains("one header `host`, got several"), "{code:?} {error}");
    let url = scene.redis.url();
    scene.redis.kill();
    let asked = ["explain", &file, "/shop", "-H", "x-api-key: a", "--redis", &url];
    let (text, error, code) = said(&run(&asked));
    assert!(code == Some(1) && text.is_empty() && error.contains("cannot be used"), "{code:?} {text} {error}");
}
