//! Other proxies, as they are, that ask the gateway for decisions, configured as its README shows it: what their
//! clients get, and what becomes of requests while nobody decides.

use std::{net::SocketAddr, thread, time::Duration};

use slidegate_tests::{
    asking_proxies::{Surroundings, envoy_over_http, envoy_with, shown},
    gateway_process::{Gateway, wait_until},
    http_client::{Answer, HttpClient},
    model::ModelServer,
    program::{Program, free_address},
    upstream::Upstream,
};

/// A gateway that decides at an address that stays, and an upstream.
struct Scene {
    decide: SocketAddr,
    upstream: Upstream,
    more: &'static str,
    gateway: Option<Gateway>,
}

impl Scene {
    fn new(more: &'static str) -> Self {
        let mut scene = Scene { decide: free_address(), upstream: Upstream::start(), more, gateway: None };
        scene.begin();
        scene
    }

    /// Starts the gateway, with windows that are empty.
    fn begin(&mut self) {
        self.gateway = Some(Gateway::serve(&format!(
            "decide: {{listen: {}{}}}
filter:
  rule_name: shop
  headers: [x-ratelimit, retry-after]
  rule_items: [{{limit_by_per_header: x-api-key, limit_keys: [{{key: \"*\", query_per_hour: 2}}]}}]
  _rules_:
    - {{_match_route_: [orders], rule_name: orders, headers: [x-ratelimit, retry-after], rule_items: [
        {{limit_by_per_header: x-api-key, limit_keys: [{{key: \"*\", query_per_hour: 2}}]}},
        {{limit_by_per_ip: from-remote-addr, limit_keys: [{{key: 127.0.0.1, query_per_hour: 2}}]}}]}}
",
            self.decide, self.more
        )));
    }

    fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().expect("it runs")
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings { decide: self.decide.port(), upstream: self.upstream.port() }
    }
}

fn ask(proxy: &Program, key: &str) -> Answer {
    HttpClient::connect(proxy.address()).get("/orders?a=b", &[("x-api-key", key), ("host", "shop.test")])
}

fn field(answer: &Answer, name: &str) -> Option<String> {
    answer.head.text(name)
}

/// What clients of a proxy get while decisions are made.
fn decided(proxy: &Program, key: &str, has_quota: bool) {
    for left in ["1", "0"] {
        let passed = ask(proxy, key);
        assert_eq!((passed.status(), passed.text().as_str()), (200, "hello\n"), "{passed:?}");
        assert_eq!(field(&passed, "x-ratelimit-remaining").as_deref(), has_quota.then_some(left), "{passed:?}");
    }
    let refused = ask(proxy, key);
    assert_eq!(refused.status(), 429, "{refused:?}");
    assert!(refused.text().starts_with("Too many requests"), "{refused:?}");
    let wait: u64 = field(&refused, "retry-after").expect("a time").parse().expect("seconds");
    assert!((3_500..=3_660).contains(&wait), "{wait}");
    assert_eq!(field(&refused, "x-ratelimit-remaining").as_deref(), Some("0"), "{refused:?}");
}

/// A request with a body goes on as it is, and shows its upstream nothing of the question.
fn passed_on(scene: &Scene, proxy: &Program) {
    let body = vec![b'b'; 20_000];
    let answer = HttpClient::connect(proxy.address()).send("POST", "/orders", &[("x-api-key", "whole")], &body);
    assert_eq!(answer.status(), 200, "{answer:?}");
    let seen = scene.upstream.last();
    assert_eq!((seen.method.as_str(), seen.uri.path(), seen.body_bytes), ("POST", "/orders", 20_000));
    assert_eq!(seen.text("x-forwarded-uri"), None);
}

/// What they get while none are: the gateway is gone and comes back, and it hangs.
fn undecided(scene: &mut Scene, proxies: &[(&Program, u16)], is_hanging_told: bool) {
    scene.gateway = None;
    for (proxy, expected) in proxies {
        assert_eq!(ask(proxy, "gone").status(), *expected, "while it is gone");
    }
    scene.begin();
    for (proxy, _) in proxies {
        let key = format!("back-{}", proxy.id());
        wait_until("it is asked again", || {
            let answer = ask(proxy, &key);
            answer.status() == 429
        });
    }
    if is_hanging_told {
        scene.gateway().freeze();
        thread::scope(|scope| {
            for (proxy, expected) in proxies {
                scope.spawn(move || assert_eq!(ask(proxy, "hanging").status(), *expected, "while it hangs"));
            }
        });
        scene.gateway().thaw();
    }
}

#[test]
fn nginx_asks_by_a_subrequest() {
    let mut scene = Scene::new(", refuse_with: 403");
    let text = shown("nginx");
    let closed = text.lines().filter(|line| !line.contains("= @open;")).collect::<Vec<_>>().join("\n");
    assert_ne!(text.lines().count(), closed.lines().count());
    let (open, closed) = (scene.surroundings().nginx(&text), scene.surroundings().nginx(&closed));
    decided(&open, "a", true);
    decided(&closed, "b", true);
    passed_on(&scene, &open);
    undecided(&mut scene, &[(&open, 200), (&closed, 500)], true);
}

#[test]
fn caddy_asks_as_forward_auth_does() {
    let mut scene = Scene::new("");
    let text = shown("caddy");
    let closed = format!("{}}}\n", text.split_once("\thandle_errors").expect("a way to let pass").0);
    let (open, closed) = (scene.surroundings().caddy(&text), scene.surroundings().caddy(&closed));
    decided(&open, "a", true);
    decided(&closed, "b", true);
    passed_on(&scene, &open);
    undecided(&mut scene, &[(&open, 200), (&closed, 502)], false);
    scene.gateway().freeze();
    // Caddy says 504 of what is slow, and 502 of what is not there.
    assert_eq!([&open, &closed].map(|proxy| ask(proxy, "hanging").status()), [200, 504]);
    scene.gateway().thaw();
}

#[test]
fn traefik_asks_by_its_middleware() {
    let mut scene = Scene::new("");
    let traefik = scene.surroundings().traefik(&shown("traefik"));
    // It listens before it has read where requests go.
    wait_until("it knows where requests go", || ask(&traefik, "begin").status() != 404);
    decided(&traefik, "a", false);
    passed_on(&scene, &traefik);
    undecided(&mut scene, &[(&traefik, 500)], false);
    // It waits for half a minute; what comes meanwhile counts.
    scene.gateway().freeze();
    thread::scope(|scope| {
        let answer = scope.spawn(|| ask(&traefik, "hanging").status());
        thread::sleep(Duration::from_millis(300));
        scene.gateway().thaw();
        assert_eq!(answer.join().expect("an answer"), 200);
    });
}

#[test]
fn haproxy_asks_by_lua() {
    let mut scene = Scene::new("");
    let text = shown("haproxy");
    let open = text.lines().filter(|line| !line.contains("-m str nothing")).collect::<Vec<_>>().join("\n") + "\n";
    assert_ne!(text.lines().count(), open.lines().count());
    let (open, closed) = (scene.surroundings().haproxy(&open), scene.surroundings().haproxy(&text));
    decided(&open, "a", true);
    decided(&closed, "b", true);
    passed_on(&scene, &open);
    undecided(&mut scene, &[(&open, 200), (&closed, 503)], true);
}

#[test]
fn envoy_asks_in_grpc() {
    let mut scene = Scene::new("");
    let text = shown("envoy");
    let closed = text.replace("failure_mode_allow: true", "failure_mode_allow: false");
    let (open, closed) = (scene.surroundings().envoy(&text), scene.surroundings().envoy(&closed));
    decided(&open, "a", true);
    decided(&closed, "b", true);
    // The route that it names, and the address that it tells.
    let by_address = || HttpClient::connect(open.address()).get("/", &[("host", "shop.test")]).status();
    assert_eq!([by_address(), by_address(), by_address()], [200, 200, 429]);
    undecided(&mut scene, &[(&open, 200), (&closed, 503)], true);
}

#[test]
fn envoy_asks_over_http() {
    let mut scene = Scene::new("");
    let text = envoy_over_http(&shown("envoy http"));
    let closed = text.replace("failure_mode_allow: true", "failure_mode_allow: false");
    let (open, closed) = (scene.surroundings().envoy(&text), scene.surroundings().envoy(&closed));
    decided(&open, "a", true);
    decided(&closed, "b", true);
    passed_on(&scene, &open);
    undecided(&mut scene, &[(&open, 200), (&closed, 403)], true);
}

#[test]
fn envoy_asks_for_limits() {
    let mut scene = Scene::new("");
    let text = envoy_with(&shown("envoy rate limit"));
    let closed = text.replace("failure_mode_deny: false", "failure_mode_deny: true");
    let (open, closed) = (scene.surroundings().envoy(&text), scene.surroundings().envoy(&closed));
    let told: Vec<u16> = (0..3).map(|_| ask(&open, "ignored").status()).collect();
    assert_eq!(told, [200, 200, 429]);
    let refused = ask(&closed, "ignored");
    assert_eq!((refused.status(), refused.text().as_str()), (429, "Too many requests"));
    assert!(field(&refused, "retry-after").is_some(), "{refused:?}");
    undecided(&mut scene, &[(&open, 200), (&closed, 500)], true);
}

/// A gateway that limits tokens by what Envoy shows it; Envoy is before a model.
struct TokenScene {
    model: ModelServer,
    decide: SocketAddr,
    gateway: Option<Gateway>,
}

const COMPLETIONS: &str = "/v1/chat/completions";

/// Asks for a stream that tells its usage.
const STREAM: &str = r#"{"model": "m", "stream": true, "stream_options": {"include_usage": true}}"#;

impl TokenScene {
    /// A hundred tokens an hour for each user, on these terms.
    fn new(terms: &str) -> Self {
        let mut scene = Self::without_gateway();
        scene.begin(terms);
        scene
    }

    fn without_gateway() -> Self {
        TokenScene { model: ModelServer::start(), decide: free_address(), gateway: None }
    }

    fn begin(&mut self, terms: &str) {
        self.gateway = Some(Gateway::serve(&format!(
            "decide: {{listen: {}}}
filter:
  rule_name: tokens
  rule_items: [{{limit_by_per_header: x-user, limit_keys: [{{key: \"*\", token_per_hour: 100}}]}}]
  headers: [x-ratelimit-tokens, retry-after]
  error_format: openai
{terms}",
            self.decide
        )));
    }

    fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().expect("it runs")
    }

    /// Envoy as README shows it, changed so.
    fn envoy(&self, changes: &[(&str, &str)]) -> Program {
        let route = "- match: {prefix: /}";
        let text = envoy_with(&shown("envoy ext_proc"))
            .replace(route, "- name: chat\n                          match: {prefix: /}");
        let changed = changes.iter().fold(text, |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        });
        let upstream = self.model.url().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        Surroundings { decide: self.decide.port(), upstream }.envoy(&changed)
    }

    /// Waits until nothing is reserved any more: what was charged.
    fn charged(&self) -> u64 {
        let sum = |metric: &str| self.gateway().metrics().sum(metric, &[]) as u64;
        wait_until("no call is open", || sum("slidegate_requests_in_flight") == 0);
        wait_until("all is settled", || sum("slidegate_token_reservations_open") == 0);
        sum("slidegate_tokens_charged_total")
    }
}

fn complete(proxy: &Program, user: &str, manner: &str, body: &str) -> Answer {
    complete_with(proxy, &[("x-user", user), ("x-model", manner)], body)
}

fn complete_with(proxy: &Program, fields: &[(&str, &str)], body: &str) -> Answer {
    let fields = [&[("host", "a.test"), ("content-type", "application/json")], fields].concat();
    HttpClient::connect(proxy.address()).send("POST", COMPLETIONS, &fields, body.as_bytes())
}

#[test]
fn envoy_shows_what_limits_on_tokens_count() {
    let scene = TokenScene::new("");
    let envoy = scene.envoy(&[]);
    let manner = "prompt=12;tokens=30";
    for asked in 1..=3 {
        let answer = complete(&envoy, "a", manner, STREAM);
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert!(answer.body == ModelServer::body(COMPLETIONS, STREAM, manner), "as the model said it");
        assert!(field(&answer, "x-ratelimit-limit-tokens").is_some(), "{answer:?}");
        assert_eq!(scene.charged(), 42 * asked);
    }
    let refused = complete(&envoy, "a", manner, STREAM);
    assert_eq!(refused.status(), 429, "{refused:?}");
    let wait: u64 = field(&refused, "retry-after").expect("a time").parse().expect("seconds");
    assert!((3_400..=3_660).contains(&wait), "{wait}");
    let error: serde_json::Value = serde_json::from_str(&refused.text()).expect("JSON");
    assert_eq!(error["error"]["code"], "rate_limit_exceeded", "{error}");
    assert_eq!(field(&refused, "content-type").as_deref(), Some("application/json"));
    assert_eq!(scene.model.record().asked, 3);
    let line = scene.gateway().wait_printed("status=429");
    assert!(
        line.contains("decide-ext_proc") && line.contains("unit=\"tokens\"") && line.contains(COMPLETIONS),
        "{line}"
    );

    // In pieces, in a coding, and as a whole.
    for (at, (user, manner, body)) in [
        ("b", "prompt=12;tokens=30;split=3", STREAM),
        ("c", "prompt=12;tokens=30;gzip", STREAM),
        ("d", "prompt=12;tokens=30", r#"{"model": "m"}"#),
    ]
    .into_iter()
    .enumerate()
    {
        let fields = [("x-user", user), ("x-model", manner), ("accept-encoding", "compress, gzip")];
        assert_eq!(complete_with(&envoy, &fields, body).status(), 200, "{manner}");
        assert_eq!(scene.charged(), 42 * (at as u64 + 4), "{manner}");
    }
    // What fails takes nothing, and what no rule is about is not followed.
    assert_eq!(complete(&envoy, "e", "status=500", STREAM).status(), 500);
    assert_eq!(complete_with(&envoy, &[], STREAM).status(), 200);
    assert_eq!(scene.charged(), 42 * 6);
}

#[test]
fn envoy_shows_bodies_whether_or_not_it_is_told_which() {
    let scene = TokenScene::new("");
    for (user, changes) in [
        ("a", &[("allow_mode_override: true", "allow_mode_override: false")][..]),
        (
            "b",
            &[
                ("allow_mode_override: true", "allow_mode_override: false"),
                ("request_body_mode: STREAMED", "request_body_mode: BUFFERED"),
            ],
        ),
        (
            "c",
            &[
                ("response_body_mode: STREAMED", "response_body_mode: BUFFERED"),
                ("allow_mode_override: true", "allow_mode_override: false"),
            ],
        ),
    ] {
        let envoy = scene.envoy(changes);
        let before = scene.charged();
        assert_eq!(complete(&envoy, user, "prompt=12;tokens=88", STREAM).status(), 200, "{changes:?}");
        assert_eq!(scene.charged() - before, 100, "{changes:?}");
        assert_eq!(complete(&envoy, user, "tokens=1", STREAM).status(), 429, "{changes:?}");
    }
    // One that shows none, or in a way that is not understood, lets nothing pass for free.
    for change in [
        ("response_body_mode: STREAMED", "response_body_mode: NONE"),
        ("response_body_mode: STREAMED", "response_body_mode: FULL_DUPLEX_STREAMED"),
    ] {
        let envoy = scene.envoy(&[change]);
        assert_eq!(complete(&envoy, "d", "tokens=1", STREAM).status(), 403, "{change:?}");
    }
    scene.gateway().wait_printed("decide.needs_bodies");
}

#[test]
fn envoy_lets_requests_be_read_before_they_go_on() {
    let scene = TokenScene::new("  request_usage: true\n");
    let envoy = scene.envoy(&[]);
    let body = r#"{"model": "m", "stream": true, "messages": []}"#;
    for (asked, manner) in ["", ";split=1", ";split=7"].into_iter().enumerate() {
        let answer = complete(&envoy, &format!("user-{asked}"), &format!("prompt=12;tokens=30{manner}"), body);
        assert_eq!(answer.status(), 200, "{answer:?}");
        let stream = answer.text();
        assert!(stream.contains("word29 ") && stream.ends_with("data: [DONE]\n\n"), "{stream}");
        assert!(!stream.contains("\"usage\":{"), "{stream}");
        assert_eq!(scene.charged(), 42 * (asked as u64 + 1));
    }
    let sent = scene.model.record().last_body;
    let sent: serde_json::Value = serde_json::from_slice(&sent).expect("JSON");
    assert_eq!(sent["stream_options"]["include_usage"], true, "{sent}");
}

#[test]
fn envoy_lets_a_stream_be_ended() {
    let scene = TokenScene::new("  reserve: 20\n  on_exhausted: cut\n");
    let envoy = scene.envoy(&[]);
    let answer = complete(&envoy, "a", "prompt=10;tokens=400;pause=2", STREAM);
    assert_eq!(answer.status(), 200, "{answer:?}");
    let stream = answer.text();
    assert!(stream.contains("\"finish_reason\":\"length\"") && stream.ends_with("data: [DONE]\n\n"), "{stream}");
    assert!(!stream.contains("word399 "), "{stream}");
    let charged = scene.charged();
    assert!((50..=150).contains(&charged), "{charged}");
    assert_eq!(scene.gateway().metrics().sum("slidegate_token_answers_cut_total", &[]), 1.0);
    assert_eq!(complete(&envoy, "a", "tokens=1", STREAM).status(), 429);
}

/// A client that has asked for a long stream, and has read so far.
fn reading(proxy: &Program, user: &str, until: &str) -> HttpClient {
    let mut client = HttpClient::connect(proxy.address());
    let (manner, length) = ("tokens=60;pause=100", STREAM.len());
    let fields = format!("host: a.test\r\nx-user: {user}\r\nx-model: {manner}\r\ncontent-length: {length}\r\n");
    let head = format!("POST {COMPLETIONS} HTTP/1.1\r\n{fields}\r\n");
    client.write(&[head.as_bytes(), STREAM.as_bytes()].concat()).expect("the proxy reads");
    assert_eq!(client.read_head().expect("an answer").status, 200);
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains(until) {
        bytes.extend(client.read_raw(1).expect("the stream goes on so far"));
    }
    client
}

/// Whether a stream goes on to its end.
fn goes_on(client: &mut HttpClient) -> bool {
    let mut bytes = Vec::new();
    while let Ok(more) = client.read_raw(1) {
        bytes.extend(more);
        if bytes.ends_with(b"\r\n0\r\n\r\n") {
            return true;
        }
    }
    false
}

#[test]
fn who_leaves_envoy_pays_what_was_seen() {
    let scene = TokenScene::new("");
    let envoy = scene.envoy(&[]);
    drop(reading(&envoy, "a", "word5 "));
    scene.model.wait(|record| record.left == 1);
    let charged = scene.charged();
    assert!((STREAM.len().div_ceil(4) as u64 + 9..80).contains(&charged), "{charged}");
    scene.gateway().wait_printed("broken_off=true");
}

#[test]
fn envoy_goes_on_or_fails_while_nobody_decides_on_tokens() {
    let mut scene = TokenScene::new("");
    let (open, closed) = (scene.envoy(&[]), scene.envoy(&[("failure_mode_allow: true", "failure_mode_allow: false")]));
    let (mut going_on, mut broken) = (reading(&open, "a", "word5 "), reading(&closed, "b", "word5 "));
    scene.gateway = None;
    assert!(goes_on(&mut going_on), "a stream under way goes on");
    assert!(!goes_on(&mut broken), "a stream under way breaks off");
    assert_eq!(complete(&open, "c", "tokens=1", STREAM).status(), 200);
    assert_eq!(complete(&closed, "c", "tokens=1", STREAM).status(), 500);
    scene.begin("");
    for (user, proxy) in [("open", &open), ("closed", &closed)] {
        wait_until("it is asked again", || complete(proxy, user, "tokens=90", STREAM).status() == 429);
    }
}

#[test]
fn a_gateway_that_ends_sees_envoys_streams_to_their_end() {
    let mut scene = TokenScene::new("");
    let envoy = scene.envoy(&[("failure_mode_allow: true", "failure_mode_allow: false")]);
    let mut client = reading(&envoy, "a", "word5 ");
    scene.gateway().terminate();
    assert!(goes_on(&mut client));
    scene.gateway().wait_printed("broken_off=false");
    assert!(scene.gateway.as_mut().expect("it runs").wait_exit().success());
}

#[test]
fn envoy_names_its_route_to_limits_on_tokens() {
    let mut scene = TokenScene::without_gateway();
    scene.gateway = Some(Gateway::serve(&format!(
        "decide: {{listen: {}}}
filter:
  _rules_:
    - _match_route_: [chat]
      rule_name: by-address
      rule_items: [{{limit_by_per_ip: from-remote-addr, limit_keys: [{{key: 127.0.0.1, query_per_hour: 1}}]}}]
    - _match_domain_: [\"*\"]
      rule_name: tokens
      global_threshold: {{token_per_hour: 1}}
",
        scene.decide
    )));
    let envoy = scene.envoy(&[]);
    let told = [(); 2].map(|()| complete(&envoy, "a", "tokens=9", STREAM).status());
    assert_eq!(told, [200, 429]);
}

/// Those of Kubernetes cannot be run here; that they are what they are for can be read.
#[test]
fn resources_of_kubernetes_say_where_decisions_are_made() {
    let resource = |name: &str| -> serde_json::Value { serde_saphyr::from_str(&shown(name)).expect("YAML") };
    let (istio, policy) = (resource("istio"), resource("istio policy"));
    let mesh = istio["data"]["mesh"].as_str().expect("a mesh's configuration");
    let mesh: serde_json::Value = serde_saphyr::from_str(mesh).expect("YAML");
    assert_eq!(mesh["extensionProviders"][0]["name"], policy["spec"]["provider"]["name"]);
    assert_eq!(mesh["extensionProviders"][0]["envoyExtAuthzGrpc"]["port"], 9191);
    assert_eq!(policy["spec"]["action"], "CUSTOM");
    let gateway = resource("envoy gateway");
    assert_eq!(gateway["kind"], "SecurityPolicy");
    assert_eq!(gateway["spec"]["extAuth"]["grpc"]["backendRefs"][0]["port"], 9191);
}
