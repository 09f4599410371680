//! Other proxies, as they are, that ask the gateway for decisions, configured as its README shows it: what their
//! clients get, and what becomes of requests while nobody decides.

use std::{net::SocketAddr, thread, time::Duration};

use slidegate_tests::{
    asking_proxies::{Surroundings, envoy_over_http, envoy_with, shown},
    gateway_process::{Gateway, wait_until},
    http_client::{Answer, HttpClient},
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
