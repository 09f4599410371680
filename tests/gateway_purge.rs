//! Responses that are purged by hand: through a gateway's admin port and by the command, who may, who hears of it, and
//! what is said to who cannot be meant.

use std::{fs, path::PathBuf, process::Output};

use slidegate_tests::{
    gateway_process::{Directory, Gateway, run, run_with, wait_until},
    http_client::{Answer, HttpClient},
    redis_server::RedisServer,
    upstream::Upstream,
};

const SITE: (&str, &str) = ("host", "site.test");
const TOKEN: &str = "an-admin-token-of-tests";

/// A settings file, and what it leads to.
struct Scene {
    redis: RedisServer,
    upstream: Upstream,
    directory: Directory,
}

impl Scene {
    fn new() -> Scene {
        Scene { redis: RedisServer::start(), upstream: Upstream::start(), directory: Directory::new() }
    }

    /// A file whose admin port takes this token, and whose filters are these.
    fn file(&self, token: &str, filters: &str) -> PathBuf {
        let file = self.directory.path().join("gate.yaml");
        let settings = format!(
            "listen: 127.0.0.1:0
admin: {{listen: 127.0.0.1:0{token}}}
upstream: {}
redis: {{names: {{pages.static: \"{}\"}}}}
{filters}
",
            self.upstream.url(),
            self.redis.url()
        );
        fs::write(&file, settings).expect("a temporary file can be written");
        file
    }

    fn cached(&self) -> PathBuf {
        let cache = "{cache: {key: {query: [a]}, redis: {service_name: pages.static}}}";
        self.file(&format!(", token: {TOKEN}"), &format!("filters: [{cache}]"))
    }
}

fn get(gateway: &Gateway, path: &str, page: &str) -> Answer {
    let headers =
        [SITE, ("answer-cache-control", "max-age=600"), ("answer-surrogate-key", "news site"), ("answer-x-page", page)];
    gateway.client().get(path, &headers)
}

/// What the cache says, and whose page it is.
fn shown(answer: &Answer) -> (String, String) {
    let text = |name: &str| answer.head.text(name).unwrap_or_default();
    (text("x-cache"), text("x-page"))
}

fn store(gateways: &[Gateway], path: &str, page: &str) {
    get(&gateways[0], path, page);
    for gateway in gateways {
        wait_until("it is stored", || shown(&get(gateway, path, page)) == ("HIT".to_owned(), page.to_owned()));
    }
}

fn order(gateway: &Gateway, token: Option<&str>, body: &str) -> (u16, String) {
    let authorization = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<(&str, &str)> = authorization.iter().map(|value| ("authorization", value.as_str())).collect();
    let answer = HttpClient::connect(gateway.admin()).send("POST", "/cache/purge", &headers, body.as_bytes());
    (answer.status(), answer.text())
}

/// How much was purged, failed or was refused, by the metric.
fn counted(gateway: &Gateway, result: &str) -> Option<f64> {
    gateway.metrics().find("slidegate_purges_total", &[("result", result)])
}

fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (output.status.code(), String::from_utf8(text).expect("text"))
}

#[test]
fn what_is_purged_is_void_in_every_gateway_and_the_log_tells_of_it() {
    let scene = Scene::new();
    let file = scene.cached();
    let gateways = [(); 2].map(|()| Gateway::serve_file(&file).with_admin_token(TOKEN));
    store(&gateways, "/page?a=secret", "old");
    // The query counts as the cache is configured, and another address stays.
    store(&gateways, "/other", "other");
    // However its host is spelt.
    let spelt = ["site.test.", "site.test:80", "SITE.test:443"];
    let ask = |host: &str, page: &str| {
        let headers = [("host", host), ("answer-cache-control", "max-age=600"), ("answer-x-page", page)];
        shown(&gateways[1].client().get("/page?a=secret", &headers))
    };
    for host in spelt {
        wait_until("it is stored", || ask(host, "old") == ("HIT".to_owned(), "old".to_owned()));
    }
    let url = r#"{"urls": ["https://Site.test/page?b=1&a=secret#top"]}"#;
    assert_eq!(order(&gateways[0], Some(TOKEN), url), (200, "{\"purged\":{\"tags\":0,\"urls\":1}}\n".to_owned()));
    assert_eq!(shown(&get(&gateways[1], "/page?a=secret", "new")), ("MISS".to_owned(), "new".to_owned()));
    assert_eq!(shown(&get(&gateways[1], "/other", "new")), ("HIT".to_owned(), "other".to_owned()));
    for host in spelt {
        assert_eq!(ask(host, "new"), ("MISS".to_owned(), "new".to_owned()), "{host}");
    }
    let line = gateways[0].wait_log("purged");
    assert!(line.contains("site.test/page") && line.contains("127.0.0.1:") && line.contains("url"), "{line}");

    // Of what was fetched less than a second after a purge nobody knows on which side it is.
    assert_eq!(order(&gateways[1], Some(TOKEN), r#"{"tags": ["news", "none"]}"#).0, 200);
    for gateway in &gateways {
        wait_until("it is void", || shown(&get(gateway, "/other", "newest")).1 == "newest");
    }
    assert_eq!(gateways[1].log_lines("purged").len(), 2);
    let told = |gateway| ["url", "tag", "failed", "refused"].map(|result| counted(gateway, result));
    let told = [told(&gateways[0]), told(&gateways[1])].map(|counts| counts.map(|count| count.expect("a counter")));
    assert_eq!(told, [[1.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0]]);
    for gateway in &gateways {
        let log = gateway.log();
        assert!(!log.contains("secret") && !log.contains("news") && !log.contains(TOKEN), "{log}");
    }
}

#[test]
fn nobody_without_the_token_changes_anything() {
    let scene = Scene::new();
    let gateway = Gateway::serve_file(&scene.cached()).with_admin_token(TOKEN);
    let gateways = [gateway];
    store(&gateways, "/page", "old");
    let [gateway] = &gateways;
    let all = r#"{"urls": ["http://site.test/page"], "tags": ["news"]}"#;
    let close = format!("{TOKEN}x");
    for token in [None, Some(""), Some("wrong"), Some(close.as_str()), Some(&TOKEN[1..])] {
        let (status, text) = order(gateway, token, all);
        assert!(status == 401 && text.contains("admin.token"), "{status} {text}");
    }
    assert_eq!(counted(gateway, "refused"), Some(5.0));
    assert_eq!(HttpClient::connect(gateway.admin()).get("/cache/purge", &[]).status(), 405);
    assert_eq!(shown(&get(gateway, "/page", "new")), ("HIT".to_owned(), "old".to_owned()));
    assert!(gateway.wait_log("refused").contains("127.0.0.1:"));
    let (_, config) = gateway.ask_admin("/config");
    assert!(!config.contains(TOKEN) && config.contains("***"), "{config}");

    let open = Gateway::serve_file(&scene.file("", "filters: [{cache: {redis: {service_name: pages.static}}}]"));
    for token in [None, Some(TOKEN)] {
        let (status, text) = order(&open, token, all);
        assert!(status == 403 && text.contains("have no `admin.token`"), "{status} {text}");
    }
    assert_eq!(shown(&get(gateway, "/page", "new")), ("HIT".to_owned(), "old".to_owned()));
}

#[test]
fn an_order_that_cannot_be_meant_is_told_why() {
    let mut scene = Scene::new();
    let gateway = Gateway::serve_file(&scene.cached()).with_admin_token(TOKEN);
    let numbered = |count: u32| {
        let tags: Vec<String> = (0..count).map(|number| format!("\"{number}\"")).collect();
        format!("{{\"tags\": [{}]}}", tags.join(","))
    };
    let (many, more) = (numbered(1_000), numbered(10_000));
    let long = format!("{{\"tags\": [\"{}\"]}}", "a".repeat(70_000));
    let path = format!("{{\"urls\": [\"http://site.test/{}\"]}}", "a".repeat(5_000));
    for (body, status, reason) in [
        ("", 400, "expected a JSON object"),
        ("{}", 400, "got neither"),
        (r#"{"tag": ["a"]}"#, 400, "did you mean `tags`?"),
        (r#"{"tags": ["a", ""]}"#, 400, "got one of 0 bytes (2 of 2)"),
        (r#"{"urls": ["/page"]}"#, 400, "expected a URL such as"),
        (r#"{"urls": ["http://site.test/a%2fb"]}"#, 422, "this gateway refuses it"),
        (&path, 422, "its key would be too long"),
        (&many, 400, "at most 100 tags at once, got 1000"),
        (&more, 413, "at most 65536 bytes"),
        (&long, 413, "at most 65536 bytes"),
    ] {
        let (got, text) = order(&gateway, Some(TOKEN), body);
        assert!((got, text.contains(reason)) == (status, true), "{got} {text}");
    }
    scene.redis.kill();
    let (status, text) = order(&gateway, Some(TOKEN), r#"{"tags": ["a"]}"#);
    assert!(status == 503 && text.contains("pages.static") && text.contains("cannot be used"), "{status} {text}");
    // One was of a URL that is never kept, and one of a URL whose key would be too long.
    assert_eq!(counted(&gateway, "failed"), Some(3.0));
    let limits = "filter: {rule_name: r, global_threshold: {query_per_day: 1}}";
    let other = Gateway::serve_file(&scene.file(&format!(", token: {TOKEN}"), limits)).with_admin_token(TOKEN);
    let (status, text) = order(&other, Some(TOKEN), r#"{"tags": ["a"]}"#);
    assert!(status == 404 && text.contains("no filter"), "{status} {text}");
}

#[test]
fn the_command_purges_by_a_file_and_through_a_gateway() {
    let mut scene = Scene::new();
    let file = scene.cached();
    let gateways = [Gateway::serve_file(&file).with_admin_token(TOKEN)];
    let [gateway] = &gateways;
    let file = file.to_str().expect("a temporary path is text");
    store(&gateways, "/page", "1");
    let purged = said(&run(&["cache", "purge", file, "http://site.test/page"]));
    assert_eq!(purged, (Some(0), "purged: 1 by URL, 0 by tag\n".to_owned()));
    wait_until("what comes next is not void", || {
        shown(&get(gateway, "/page", "2")) == ("HIT".to_owned(), "2".to_owned())
    });
    let tags = said(&run(&["cache", "purge", file, "--tag", "site", "--tag", "x", "-o", "json"]));
    assert!(tags.0 == Some(0) && tags.1.contains("\"tags\": 2"), "{tags:?}");
    wait_until("it is void", || shown(&get(gateway, "/page", "3")).1 == "3");

    let admin = format!("http://{}", gateway.admin());
    let remote = ["cache", "purge", "--gateway", &admin, "http://site.test/page"];
    wait_until("what comes next is not void", || {
        shown(&get(gateway, "/page", "4")) == ("HIT".to_owned(), "4".to_owned())
    });
    let with = |token: &str| said(&run_with(&remote, &[("SLIDEGATE_ADMIN_TOKEN", token)], b""));
    let wrong = with("another-token-that-is-long");
    assert!(wrong.0 == Some(1) && wrong.1.contains("it answered 401"), "{wrong:?}");
    assert_eq!(with(TOKEN), (Some(0), "purged: 1 by URL, 0 by tag\n".to_owned()));
    assert_eq!(shown(&get(gateway, "/page", "5")), ("MISS".to_owned(), "5".to_owned()));
    let held = scene.directory.path().join("token");
    fs::write(&held, format!("{TOKEN}\n")).expect("a temporary file can be written");
    let by_file = [&remote[..], &["--token-file", held.to_str().expect("text")]].concat();
    assert_eq!(said(&run(&by_file)).0, Some(0));

    // The token is for nobody who is there by a slip.
    let proxy = format!("http://{}", gateway.listen());
    let asked = scene.upstream.requests();
    let slipped =
        run_with(&["cache", "purge", "--gateway", &proxy, "--tag", "a"], &[("SLIDEGATE_ADMIN_TOKEN", TOKEN)], b"");
    let (code, text) = said(&slipped);
    assert!(code == Some(1) && text.contains("no gateway's admin port"), "{text}");
    assert!(scene.upstream.requests() > asked, "it is the proxy that was asked");
    assert_eq!(scene.upstream.last().text("authorization"), None);

    for (args, code, reason) in [
        (&["cache", "purge"][..], 2, "got neither"),
        (&["cache", "purge", file], 2, "expected a URL or a tag"),
        (&["cache", "purge", file, "/page"], 2, "expected a URL such as"),
        (&["cache", "purge", file, "--tag", ""], 2, "got one of 0 bytes"),
        (&["cache", "purge", "--gateway", "nowhere", "--tag", "a"], 2, "expected a URL such as"),
        (&["cache", "purge", "--gateway", "http://a", "--ca", "x", "--tag", "a"], 2, "begins with `https://`"),
        (&["cache", "purge", "missing.yaml", "--tag", "a"], 1, "missing.yaml"),
        (&remote[..], 1, "SLIDEGATE_ADMIN_TOKEN"),
    ] {
        let (got, text) = said(&run(args));
        assert!((got, text.contains(reason)) == (Some(code), true), "{got:?} {text}");
    }
    scene.redis.kill();
    let (code, text) = said(&run(&["cache", "purge", file, "--tag", "a"]));
    assert!(code == Some(1) && text.contains("cannot be used"), "{text}");
    let other = RedisServer::start();
    assert_eq!(said(&run(&["cache", "purge", file, "--tag", "a", "--redis", &other.url()])).0, Some(0));
    assert_eq!(other.tell(&["ZCARD", "slidegate:c:purges"]), "1");
}

#[test]
fn a_token_that_is_none_is_no_token() {
    let scene = Scene::new();
    let filters = "filters: [{cache: {redis: {service_name: pages.static}}}]";
    for (token, reason) in [
        (", token: hush", "admin.token"),
        (", token: \"\"", "admin.token"),
        (", token: null", "admin.token"),
        (", token: \"a token with spaces in it\"", "admin.token"),
        (", token_file: missing", "admin.token_file"),
    ] {
        let file = scene.file(token, filters);
        let (code, text) = said(&run(&["check", file.to_str().expect("text")]));
        assert!(code == Some(1) && text.contains(reason) && !text.contains("hush"), "{text}");
    }
    let held = scene.directory.path().join("held");
    fs::write(&held, format!("{TOKEN}\n")).expect("a temporary file can be written");
    let gateway = Gateway::serve_file(&scene.file(", token_file: held", filters));
    assert_eq!(order(&gateway, Some(TOKEN), r#"{"tags": ["a"]}"#).0, 200);
    // A new token counts from the next reload on.
    fs::write(&held, "another-token-of-tests").expect("a temporary file can be written");
    wait_until("the new token counts", || {
        order(&gateway, Some("another-token-of-tests"), r#"{"tags": ["a"]}"#).0 == 200
    });
    assert_eq!(order(&gateway, Some(TOKEN), r#"{"tags": ["a"]}"#).0, 401);
}

#[test]
fn what_is_stored_is_told_and_neither_bodies_nor_cookies() {
    let mut scene = Scene::new();
    let cache = "{cache: {key: {group: {cookie: sid}}, redis: {service_name: pages.static}}}";
    let file = scene.file("", &format!("filters: [{cache}]"));
    let gateway = Gateway::serve_file(&file).with_admin_token(TOKEN);
    let file = file.to_str().expect("a temporary path is text");
    let ask = |more: &[&str]| said(&run(&[&["cache", "get", file, "http://site.test/page?a"], more].concat()));
    let json = |more: &[&str]| {
        let (code, text) = ask(&[more, &["-o", "json"]].concat());
        assert_eq!(code, Some(0), "{text}");
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON")
    };
    let (code, text) = ask(&[]);
    assert!(code == Some(0) && text.contains("answer    upstream") && text.contains("stored    nothing"), "{text}");
    let page = [
        SITE,
        ("accept-language", "de"),
        ("cookie", "sid=hush"),
        ("answer-cache-control", "max-age=600, stale-if-error=60"),
        ("answer-vary", "accept-language"),
        ("answer-surrogate-key", "news"),
    ];
    let mut client = gateway.client();
    wait_until("it is stored", || client.get("/page?a", &page).head.text("x-cache").as_deref() == Some("HIT"));
    let found = json(&["-H", "accept-language: de", "-H", "cookie: sid=hush"]);
    assert_eq!((found["answer"].as_str(), found["stored"]["status"].as_u64()), (Some("stored"), Some(200)), "{found}");
    assert_eq!(found["stored"]["size"].as_u64(), Some(6), "{found}");
    assert_eq!(found["variants"], serde_json::json!({"count": 1, "by": ["accept-language"]}));
    assert_eq!(found["stored"]["tags"].as_array().map(Vec::len), Some(1));
    let until = |name: &str| found["stored"][name].as_u64().expect("a time");
    assert_eq!(until("stale_until_ms") - until("fresh_until_ms"), 60_000);
    let key = found["key"].as_str().expect("a key");
    assert_eq!(scene.redis.tell(&["EXISTS", key]), "1");
    for (more, answer) in [
        (&["-H", "accept-language: fr", "-H", "cookie: sid=hush"][..], "upstream"),
        (&["-H", "accept-language: de"], "upstream"),
        (&["-H", "range: bytes=0-1"], "upstream"),
    ] {
        assert_eq!(json(more)["answer"].as_str(), Some(answer), "{more:?}");
    }
    let (_, text) = ask(&["-H", "accept-language: de", "-H", "cookie: sid=hush"]);
    assert!(
        !text.contains("hush") && !text.contains("hello") && text.contains("variants  1, by accept-language"),
        "{text}"
    );
    assert_eq!(said(&run(&["cache", "purge", file, "--tag", "news"])).0, Some(0));
    let void = json(&["-H", "accept-language: de", "-H", "cookie: sid=hush"]);
    assert_eq!(void["answer"].as_str(), Some("upstream"));
    assert!(void["reason"].as_str().is_some_and(|reason| reason.ends_with("is stored, and void")), "{void}");

    for (args, code, reason) in [
        (&["cache", "get", file][..], 2, "URL"),
        (&["cache", "get", file, "/page"], 2, "expected a URL such as"),
        (&["cache", "get", file, "http://site.test/", "-H", "x"], 2, "expected a header such as"),
        (&["cache", "get", file, "http://site.test/%00"], 1, "this gateway refuses it"),
        (&["cache", "get", "missing.yaml", "http://site.test/"], 1, "missing.yaml"),
    ] {
        let (got, text) = said(&run(args));
        assert!((got, text.contains(reason)) == (Some(code), true), "{got:?} {text}");
    }
    scene.redis.kill();
    let (code, text) = ask(&[]);
    assert!(code == Some(1) && text.contains("pages.static") && text.contains("cannot be used"), "{text}");
    let limits = scene.file("", "filter: {rule_name: r, global_threshold: {query_per_day: 1}}");
    let (code, text) = said(&run(&["cache", "get", limits.to_str().expect("text"), "http://site.test/"]));
    assert!(code == Some(1) && text.contains("no filter"), "{text}");
}
