//! Decisions for other proxies, as a proxy asks for them: over HTTP and in gRPC, well and badly.

use std::{io, time::Duration};

use slidegate::tls::{ALPN_HTTP1, ALPN_HTTP2};
use slidegate_tests::{
    certificates::Authority,
    gateway_process::{Directory, Gateway, indented, run_with, wait_until},
    grpc_client::{GrpcAnswer, GrpcClient, framed},
    http_client::{Answer, HttpClient},
    http2_client::{Http2Client, kind},
    protobuf::Proto,
    redis_server::RedisServer,
    tls_client::{TlsClient, client_tls},
    upstream::Upstream,
};

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
const LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
const PROCESS: &str = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// A gateway that decides by these rules, and no more.
fn deciding(decide: &str, rules: &str) -> Gateway {
    Gateway::serve(&format!(
        "decide: {{listen: 127.0.0.1:0{decide}}}
filter:
  rule_name: decided
  headers: [x-ratelimit, retry-after]
  rule_items:
{rules}
"
    ))
}

/// So many requests an hour for each value of a header.
fn by_key(limit: u32) -> String {
    format!("    - {{limit_by_per_header: x-key, limit_keys: [{{key: \"*\", query_per_hour: {limit}}}]}}")
}

fn client(gateway: &Gateway) -> HttpClient {
    HttpClient::connect(gateway.decide())
}

/// Forward-auth for a request.
fn forwarded(client: &mut HttpClient, method: &str, uri: &str, host: &str, more: &[(&str, &str)]) -> Answer {
    let fields = [
        ("x-forwarded-method", method),
        ("x-forwarded-uri", uri),
        ("x-forwarded-host", host),
        ("x-forwarded-proto", "http"),
    ];
    client.get("/decide", &[&fields, more].concat())
}

fn field(answer: &Answer, name: &str) -> Option<String> {
    answer.head.text(name)
}

#[test]
fn over_http_a_status_says_it_and_headers_say_how_much_is_left() {
    let gateway = deciding("", &by_key(2));
    let mut client = client(&gateway);
    let mut ask = || forwarded(&mut client, "GET", "/orders?a=b", "shop.test", &[("x-key", "k")]);
    let told =
        |answer: &Answer| (answer.status(), field(answer, "x-ratelimit-limit"), field(answer, "x-ratelimit-remaining"));
    let (two, left) = (Some("2".to_owned()), |left: &str| Some(left.to_owned()));
    assert_eq!(told(&ask()), (200, two.clone(), left("1")));
    assert_eq!(told(&ask()), (200, two.clone(), left("0")));
    let refused = ask();
    assert_eq!(told(&refused), (429, two, left("0")));
    assert_eq!(refused.text(), "Too many requests");
    let wait: u64 = field(&refused, "retry-after").expect("a time").parse().expect("seconds");
    assert!((3_500..=3_660).contains(&wait), "{wait}");
    let line = gateway.wait_printed("429");
    assert!(
        line.contains("path=\"/orders\"") && line.contains("host=\"shop.test\"") && line.contains("decide-http"),
        "{line}"
    );
    wait_until("decisions are counted", || {
        let metrics = gateway.metrics();
        let requests = |code| metrics.sum("slidegate_requests_total", &[("route", "decide-http"), ("code", code)]);
        [requests("2xx"), requests("4xx")] == [2.0, 1.0]
    });
    assert_eq!(gateway.metrics().sum("slidegate_decisions_total", &[("decision", "refused")]), 1.0);
    assert_eq!(gateway.metrics().find("slidegate_requests_in_flight", &[]), Some(0.0));
}

#[test]
fn rules_see_the_request_that_is_asked_about() {
    let rules = "    - {limit_by_header: \":path-only\", limit_keys: [{key: /login, query_per_hour: 1}]}
    - {limit_by_per_param: id, limit_keys: [{key: \"*\", query_per_hour: 1}]}
    - {limit_by_header: \":method\", limit_keys: [{key: DELETE, query_per_hour: 1}]}
    - {limit_by_header: \":authority\", limit_keys: [{key: admin.test, query_per_hour: 1}]}
    - {limit_by_header: x-forwarded-uri, limit_keys: [{key: /plain, query_per_hour: 1}]}
    - {limit_by_per_ip: from-remote-addr, limit_keys: [{key: 9.9.0.0/16, query_per_hour: 1}]}";
    let gateway = deciding("", rules);
    let mut client = client(&gateway);
    for (method, uri, host, fields, expected) in [
        ("GET", "/login", "a.test", &[][..], [200, 429]),
        ("GET", "/x/..//%6Cogin", "a.test", &[], [429, 429]),
        ("GET", "/x?id=7", "a.test", &[], [200, 429]),
        ("DELETE", "/x", "a.test", &[], [200, 429]),
        ("GET", "/x", "ADMIN.test.", &[], [200, 429]),
        // A field that was taken for the request is none of its own.
        ("GET", "/plain", "a.test", &[], [200, 200]),
        ("GET", "/x", "a.test", &[("x-forwarded-for", "1.1.1.1, 9.9.1.2")], [200, 429]),
        ("GET", "/x", "a.test", &[("x-forwarded-for", "9.9.1.2, 1.1.1.1")], [200, 200]),
    ] {
        let told = [(); 2].map(|()| forwarded(&mut client, method, uri, host, fields).status());
        assert_eq!(told, expected, "{method} {uri} {host} {fields:?}");
    }
    // Asked as the client asked, without a word of forwarding.
    assert_eq!(client.send("DELETE", "/y", &[("host", "b.test")], b"").status(), 429);
    assert_eq!(client.get("/login", &[("host", "b.test")]).status(), 429);
}

#[test]
fn only_those_may_ask_who_are_trusted() {
    let gateway = deciding("", &by_key(1));
    assert_eq!(forwarded(&mut client(&gateway), "GET", "/", "a.test", &[("x-key", "k")]).status(), 200);
    let gateway = deciding(", trusted_peers: [127.0.0.1, 10.0.0.0/8]", &by_key(1));
    let mut stranger = HttpClient::connect_from("127.0.0.2", gateway.decide());
    for _ in 0..3 {
        let refused =
            forwarded(&mut stranger, "GET", "/", "a.test", &[("x-key", "k"), ("x-forwarded-for", "127.0.0.1")]);
        assert_eq!(refused.status(), 403, "{}", refused.text());
        assert_eq!(stranger.get("/", &[("x-key", "k")]).status(), 403);
    }
    let mut in_grpc = GrpcClient::connect_from([127, 0, 0, 2], gateway.decide());
    let refused = in_grpc.call(CHECK, &check("GET", "/", "a.test", &[("x-key", "k")]));
    assert_eq!((refused.http_status, refused.status()), (200, Some(7)));
    assert_eq!(in_grpc.call(PROCESS, &process::request(&[("x-key", "k")])).status(), Some(7));
    assert_eq!(in_grpc.call(HEALTH, &Proto::default()).status(), Some(7));
    // They have used up nothing.
    assert_eq!(forwarded(&mut client(&gateway), "GET", "/", "a.test", &[("x-key", "k")]).status(), 200);
    assert!(gateway.wait_printed("decide.untrusted_peer").contains("403"));
}

#[test]
fn a_status_that_lets_requests_pass_is_no_refusal() {
    let gateway = deciding(", refuse_with: 403", &by_key(1));
    let mut client = client(&gateway);
    let ask = |client: &mut HttpClient| forwarded(client, "GET", "/", "a.test", &[("x-key", "k")]);
    assert_eq!(ask(&mut client).status(), 200);
    let refused = ask(&mut client);
    assert_eq!((refused.status(), refused.text().as_str()), (403, "Too many requests"));
    assert!(field(&refused, "retry-after").is_some() && field(&refused, "x-ratelimit-limit").is_some());

    let gateway = Gateway::serve(
        "decide: {listen: 127.0.0.1:0}
filter: {rule_name: r, rejected_code: 200, global_threshold: {query_per_day: 1}}
",
    );
    let mut client = HttpClient::connect(gateway.decide());
    assert_eq!([(); 2].map(|()| ask(&mut client).status()), [200, 403]);
}

#[test]
fn requests_of_grpc_are_refused_by_a_status_of_http() {
    let gateway = deciding("", &by_key(1));
    let mut client = client(&gateway);
    let grpc = [("x-key", "k"), ("content-type", "application/grpc")];
    let told = [(); 2].map(|()| forwarded(&mut client, "POST", "/a.Service/Method", "a.test", &grpc).status());
    assert_eq!(told, [200, 429]);
    assert_eq!(client.send("POST", "/a.Service/Method", &grpc, b"").status(), 429);
    let mut in_http2 = GrpcClient::connect(gateway.decide());
    let unknown = in_http2.call("/a.Service/Method", &Proto::default());
    assert_eq!((unknown.http_status, unknown.status()), (404, Some(12)));
}

#[test]
fn what_is_not_told_for_sure_is_refused() {
    let gateway = deciding("", &by_key(1));
    let mut client = client(&gateway);
    let uri = ("x-forwarded-uri", "/a");
    for fields in [
        &[("x-forwarded-method", "GET")][..],
        &[("x-forwarded-uri", "")],
        &[("x-forwarded-uri", "http://a.test/a")],
        &[("x-forwarded-uri", "/a"), ("x-forwarded-uri", "/b")],
        &[uri, ("x-forwarded-host", "a.test"), ("x-forwarded-host", "b.test")],
        &[uri, ("x-forwarded-host", "a b")],
        &[uri, ("x-forwarded-method", "G T")],
    ] {
        assert_eq!(client.get("/decide", fields).status(), 400, "{fields:?}");
    }
    assert_eq!(client.get("/decide", &[uri, ("x-forwarded-method", "TRACE")]).status(), 405);
    client.write(b"GET /decide HTTP/1.1\r\nx-forwarded-uri: /a\r\n\r\n").expect("a connection");
    assert_eq!(client.read_answer("GET").expect("an answer").status(), 400, "no host");
    for path in [CHECK, LIMIT, HEALTH] {
        assert_eq!(client.send("POST", path, &[("content-type", "application/grpc")], b"").status(), 415);
    }
    let large = "v".repeat(100_000);
    assert_eq!(forwarded(&mut client, "GET", "/", "a.test", &[("x-large", &large)]).status(), 200);
    let many: Vec<(String, &str)> = (0..300).map(|at| (format!("x-{at}"), "v")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(forwarded(&mut client, "GET", "/", "a.test", &many).status(), 431);
}

#[test]
fn what_a_session_tells_goes_back_to_the_proxy() {
    let redis = RedisServer::start();
    let record = r#"{"user": "alice"}"#;
    redis.tell(&["SET", "app:sid-1", record]);
    let gateway = Gateway::serve(&format!(
        "decide: {{listen: 127.0.0.1:0}}
redis: {}
filters:
  - session: {{format: json, header: x-sid, key_prefix: \"app:\", fields: {{user: x-user}}}}
  - rule_name: decided
    headers: [x-ratelimit]
    rule_items: [{{limit_by_per_session: user, limit_keys: [{{key: \"*\", query_per_hour: 2}}]}}]
",
        redis.url()
    ));
    let mut client = client(&gateway);
    let mut ask = |more: &[(&str, &str)]| forwarded(&mut client, "GET", "/", "a.test", more);
    let known = ask(&[("x-sid", "sid-1"), ("x-user", "mallory")]);
    assert_eq!((known.status(), field(&known, "x-user").as_deref()), (200, Some("alice")), "{}", gateway.log());
    let unknown = ask(&[("x-sid", "sid-2"), ("x-user", "mallory")]);
    assert_eq!((unknown.status(), field(&unknown, "x-user")), (200, None));
    // In both spellings that applications may take for one.
    assert_eq!(field(&unknown, "x-envoy-auth-headers-to-remove").as_deref(), Some("x_user,x-user"));
    // In others, and where nobody could take them away, nobody passes.
    for spelling in ["x_user", "X.User", "x~user"] {
        let hidden = ask(&[("x-sid", "sid-2"), (spelling, "mallory")]);
        assert_eq!((hidden.status(), field(&hidden, "x-user")), (400, None), "{spelling}");
    }
    assert_eq!(ask(&[("x-sid", "sid-2"), ("x_other", "mallory")]).status(), 200);
    let mut in_grpc = GrpcClient::connect(gateway.decide());
    let hidden = [("x-sid", "sid-2"), ("x_user", "mallory"), ("x.user", "mallory")];
    let answer = in_grpc.call(CHECK, &check("GET", "/", "a.test", &hidden));
    let removed: Vec<String> = answer.message.get(3).all(5).iter().map(Proto::text).collect();
    assert_eq!((removed.len(), removed.contains(&"x.user".to_owned())), (3, true), "{removed:?}");
    let answer = in_grpc.call(CHECK, &check("GET", "/", "a.test", &[("x-sid", "sid-1")]));
    assert_eq!(answer.message.get(1).number_of(1), 0);
    let set = answer.message.get(3).get(2);
    assert_eq!((set.get(1).get(1).text(), set.get(1).get(2).text()), ("x-user".to_owned(), "alice".to_owned()));
    let answer = in_grpc.call(CHECK, &check("GET", "/", "a.test", &[("x-sid", "sid-2"), ("x-user", "mallory")]));
    assert_eq!(answer.message.get(3).all(5).iter().map(Proto::text).collect::<Vec<_>>(), ["x_user", "x-user"]);
    assert_eq!(ask(&[("x-sid", "sid-1")]).status(), 429);
}

/// A call about a request, with its headers apart.
fn check(method: &str, path: &str, host: &str, headers: &[(&str, &str)]) -> Proto {
    let raw =
        |map: Proto, (name, value): &(&str, &str)| map.message(1, &Proto::default().bytes(1, name).bytes(3, value));
    let headers = headers.iter().fold(Proto::default(), raw);
    check_with(&request(method, path, host).message(13, &headers), "127.0.0.1", &[])
}

fn request(method: &str, path: &str, host: &str) -> Proto {
    Proto::default().bytes(2, method).bytes(4, path).bytes(5, host).bytes(6, "http")
}

fn check_with(request: &Proto, source: &str, extensions: &[(&str, &str)]) -> Proto {
    let socket = Proto::default().bytes(2, source).number(3, 4321);
    let peer = Proto::default().message(1, &Proto::default().message(1, &socket));
    let context = Proto::default().message(1, &peer).message(4, &Proto::default().message(2, request));
    Proto::default()
        .message(1, &extensions.iter().fold(context, |context, (name, value)| context.entry(10, name, value)))
}

/// What Envoy is told: the status of its client's answer, or none if the request passes.
fn denied(answer: &GrpcAnswer) -> Option<u64> {
    assert_eq!((answer.http_status, answer.status()), (200, Some(0)), "{answer:?}");
    let is_denied = answer.message.get(1).number_of(1) != 0;
    is_denied.then(|| answer.message.get(2).get(1).number_of(1))
}

fn options(list: &[Proto]) -> Vec<(String, String, u64)> {
    list.iter().map(|option| (option.get(1).get(1).text(), option.get(1).get(2).text(), option.number_of(3))).collect()
}

#[test]
fn envoy_is_told_in_its_own_terms() {
    let gateway = deciding("", &by_key(1));
    let mut client = GrpcClient::connect(gateway.decide());
    let mut ask =
        || client.call(CHECK, &check("GET", "/orders?a=b", "shop.test", &[(":path", "/orders"), ("x-key", "k")]));
    let passed = ask();
    assert_eq!(denied(&passed), None);
    let told = options(&passed.message.get(3).all(6));
    assert!(told.contains(&("x-ratelimit-remaining".to_owned(), "0".to_owned(), 2)), "{told:?}");
    let refused = ask();
    assert_eq!(denied(&refused), Some(429));
    let response = refused.message.get(2);
    assert_eq!(response.get(3).text(), "Too many requests");
    assert!(options(&response.all(2)).iter().any(|(name, _, action)| name == "retry-after" && *action == 2));
    let line = gateway.wait_printed("429");
    assert!(line.contains("decide-ext_authz") && line.contains("path=\"/orders\""), "{line}");
}

#[test]
fn envoys_headers_come_in_two_forms_and_cookies_joined() {
    let rules = "    - {limit_by_per_cookie: sid, limit_keys: [{key: \"*\", query_per_hour: 1}]}
    - {limit_by_per_header: x-key, limit_keys: [{key: \"*\", query_per_hour: 1}]}";
    let gateway = deciding("", rules);
    let mut client = GrpcClient::connect(gateway.decide());
    let mut ask = |request: &Proto| denied(&client.call(CHECK, &check_with(request, "1.2.3.4", &[])));
    let joined = |value: &str| request("GET", "/", "a.test").entry(3, "cookie", value);
    assert_eq!(
        [ask(&joined("a=1,sid=x")), ask(&joined("sid=x; b=2")), ask(&joined("b=2,c=3,sid=x"))],
        [None, Some(429), Some(429)]
    );
    let raw = |name: &str, value: &[u8]| Proto::default().bytes(1, name).bytes(3, value);
    let apart = Proto::default().message(1, &raw("cookie", b"a=1")).message(1, &raw("cookie", b"sid=x"));
    assert_eq!(ask(&request("GET", "/", "a.test").message(13, &apart)), Some(429));
    let bytes = Proto::default().message(1, &raw("x-key", b"\xff\xfe"));
    assert_eq!([(); 2].map(|()| ask(&request("GET", "/", "a.test").message(13, &bytes))), [None, Some(429)]);
    assert_eq!(ask(&request("GET", "/", "a.test").entry(3, "x-key", b"\xff\xfe")), Some(429), "in the map, too");
}

#[test]
fn envoy_names_the_client_the_route_and_the_service() {
    let gateway = Gateway::serve(
        "decide: {listen: 127.0.0.1:0}
filter:
  _rules_:
    - {_match_route_: [orders], rule_name: a, global_threshold: {query_per_hour: 1}}
    - {_match_service_: [pay.test], rule_name: b, global_threshold: {query_per_hour: 1}}
    - _match_domain_: [ip.test]
      rule_name: c
      rule_items: [{limit_by_per_ip: from-remote-addr, limit_keys: [{key: 0.0.0.0/0, query_per_hour: 1}]}]
",
    );
    let mut client = GrpcClient::connect(gateway.decide());
    let mut twice = |request: &Proto, source: &str, extensions: &[(&str, &str)]| {
        [(); 2].map(|()| denied(&client.call(CHECK, &check_with(request, source, extensions))))
    };
    let plain = request("GET", "/", "a.test");
    assert_eq!(twice(&plain, "1.1.1.1", &[]), [None, None]);
    assert_eq!(twice(&plain, "1.1.1.1", &[("route", "orders")]), [None, Some(429)]);
    assert_eq!(twice(&plain, "1.1.1.1", &[("service", "outbound|80||pay.test")]), [None, Some(429)]);
    let by_address = request("GET", "/", "ip.test");
    assert_eq!(twice(&by_address, "1.1.1.1", &[]), [None, Some(429)]);
    assert_eq!(twice(&by_address, "1.1.1.2", &[]), [None, Some(429)]);
    let external = by_address.clone().entry(3, "x-envoy-external-address", "1.1.1.1");
    assert_eq!(twice(&external, "1.1.1.3", &[]), [Some(429), Some(429)]);
    // Who comes over no socket of IP is counted as the proxy that asks.
    assert_eq!(twice(&by_address, "/run/a.sock", &[]), [None, Some(429)]);
    // Without a host no rule can be found.
    assert_eq!(twice(&request("GET", "/", ""), "1.1.1.1", &[]), [Some(400), Some(400)]);
}

#[test]
fn what_is_no_call_is_told_so() {
    let gateway = deciding("", &by_key(1));
    let mut client = GrpcClient::connect(gateway.decide());
    let framed = |flag: u8, length: u32, message: &[u8]| [&[flag][..], &length.to_be_bytes(), message].concat();
    for (path, body, expected) in [
        (CHECK, Vec::new(), 3),
        (CHECK, framed(0, 0, b""), 3),
        (CHECK, framed(0, 9, b"\x0a"), 3),
        (CHECK, framed(0, 2, b"\x0a\x09"), 3),
        (CHECK, framed(0, 3, b"\xff\xff\xff"), 3),
        (CHECK, framed(1, 0, b""), 12),
        (CHECK, framed(0, 2 << 20, b""), 8),
        (LIMIT, framed(0, 2 << 20, &vec![0; 2 << 20]), 8),
        (LIMIT, framed(0, 0, b""), 3),
        (HEALTH, framed(0, 3, b"\x0a\x01x"), 5),
        ("/grpc.health.v1.Health/Watch", framed(0, 0, b""), 12),
        ("/nothing", framed(0, 0, b""), 12),
    ] {
        let answer = client.send("POST", path, "application/grpc+proto", body.clone());
        assert_eq!(answer.status(), Some(expected), "{path} {:?} {answer:?}", &body[..body.len().min(9)]);
    }
    for (content_type, expected) in [("application/grpc+json", 415), ("application/json", 415)] {
        assert_eq!(client.send("POST", CHECK, content_type, framed(0, 0, b"")).http_status, expected);
    }
    assert_eq!(client.send("GET", CHECK, "application/grpc", Vec::new()).status(), Some(12));
    let health = client.call(HEALTH, &Proto::default());
    assert_eq!((health.status(), health.message.number_of(1)), (Some(0), 1));
    assert_eq!(
        client.call(HEALTH, &Proto::default().bytes(1, "envoy.service.auth.v3.Authorization")).status(),
        Some(0)
    );
}

/// Numbers below what is asked for, the same in each run.
fn random_below() -> impl FnMut(usize) -> usize {
    let mut state = 88_172_645_463_325_252_u64;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).expect("a small number")
    }
}

/// Whatever bytes come, each call is answered, and nothing is let pass that was not decided.
#[test]
fn hostile_messages_do_no_harm() {
    let gateway = deciding("", &by_key(1));
    let mut client = GrpcClient::connect(gateway.decide());
    let whole = check("GET", "/", "a.test", &[("x-key", "k"), ("cookie", "a=b")]);
    let mut random = random_below();
    for round in 0..1_500 {
        let mut bytes = whole.0.clone();
        for _ in 0..random(4) {
            let at = random(bytes.len());
            bytes[at] = u8::try_from(random(256)).expect("a byte");
        }
        bytes.truncate(bytes.len() - random(2) * random(bytes.len()));
        let path = if round % 3 == 0 { LIMIT } else { CHECK };
        let answer = client.call(path, &Proto(bytes));
        assert!(answer.status().is_some(), "{answer:?}");
    }
    let deep = Proto((0..200).fold(Vec::new(), |inner: Vec<u8>, _| Proto::default().bytes(1, inner).0));
    assert!(client.call(CHECK, &deep).status().is_some());
    assert_eq!(client.call(CHECK, &Proto(vec![0x0b; 100_000])).status(), Some(3));
    let unknown = whole.clone().number(77, 1).bytes(78, vec![0; 1_000]);
    assert!(denied(&client.call(CHECK, &unknown)).is_some(), "what nobody knows is passed over");
    let huge = request("GET", "/", "a.test").entry(3, "x-large", "v".repeat(200_000));
    assert_eq!(client.call(CHECK, &check_with(&huge, "1.1.1.1", &[])).status(), Some(8));
    let many = (0..300).fold(request("GET", "/", "a.test"), |request, at| request.entry(3, &format!("x-{at}"), "v"));
    assert_eq!(denied(&client.call(CHECK, &check_with(&many, "1.1.1.1", &[]))), Some(431));
    assert!(gateway.peak_memory_bytes() < 300 << 20);
}

/// Streams reset at once, pings, settings and headers without end, from a peer that is trusted: others are told what is
/// true meanwhile, and what was taken is given back.
#[test]
fn floods_of_http2_do_no_harm() {
    let gateway = deciding("", &by_key(1));
    let flood = |frames: &dyn Fn(&mut Http2Client) -> io::Result<()>, times: usize| {
        let mut client = Http2Client::connect(gateway.decide(), 65_535).expect("the gateway accepts");
        client.give_up_writing_after(Duration::from_secs(1));
        // The gateway may have had enough of it at any time.
        let _ = (0..times).try_for_each(|_| frames(&mut client));
        client
    };
    let resets = |client: &mut Http2Client| {
        let stream = client.get("/")?;
        client.frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes())
    };
    let pings = |client: &mut Http2Client| client.frame(kind::PING, 0, 0, &[0; 8]);
    let settings = |client: &mut Http2Client| client.frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]);
    let mut held: Vec<Http2Client> = (0..10).map(|_| flood(&resets, 1_000)).collect();
    held.extend([flood(&pings, 20_000), flood(&settings, 20_000)]);
    let mut endless = flood(&|_| Ok(()), 0);
    let block = endless.header_block(b"GET", "/");
    let stream = endless.headers(0, &block).expect("the gateway reads");
    // A literal field that is new: `a: b`.
    let more = [0, 1, b'a', 1, b'b'].repeat(2_000);
    let _ = (0..2_000).try_for_each(|_| endless.frame(kind::CONTINUATION, 0, stream, &more));
    let mut others = client(&gateway);
    let mut ask = || forwarded(&mut others, "GET", "/", "a.test", &[("x-key", "k")]).status();
    assert_eq!([ask(), ask(), ask()], [200, 429, 429]);
    drop((held, endless));
    wait_until("nothing is in flight", || gateway.metrics().find("slidegate_requests_in_flight", &[]) == Some(0.0));
    assert!(gateway.peak_memory_bytes() < 300 << 20, "{}", gateway.peak_memory_bytes());
}

/// A call to process a request of which nothing more is told, on a connection that is to take so much of its answer.
fn begun_call(gateway: &Gateway, window: u32) -> Http2Client {
    let mut client = Http2Client::connect(gateway.decide(), window).expect("a connection");
    let mut block = client.header_block(b"POST", PROCESS);
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("a short text"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    let stream = client.headers(4, &block).expect("a stream");
    client.frame(kind::DATA, 0, stream, &framed(&process::request(&[]))).expect("a message");
    client
}

#[test]
fn a_call_that_nobody_goes_on_with_ends() {
    for (window, told) in [(65_535, "decide.late"), (0, "status=0")] {
        let gateway =
            Gateway::serve("decide: {listen: 127.0.0.1:0}\ntimeouts: {connect: 1s, response: 1s, idle: 1s}\n");
        let _silent = begun_call(&gateway, window);
        gateway.wait_printed(told);
        wait_until("it has ended", || gateway.metrics().find("slidegate_requests_in_flight", &[]) == Some(0.0));
    }
}

#[test]
fn one_request_too_many_is_none_that_passes() {
    let gateway = Gateway::serve("decide: {listen: 127.0.0.1:0}\nlimits: {requests: 1}\n");
    // It is under way as long as the request is that it is about, of which nothing more is told.
    let _stuck = begun_call(&gateway, 65_535);
    // Not asked by a question: it would be the one that may be under way, and the other one too many.
    wait_until("a request is in flight", || gateway.metrics().sum("slidegate_requests_in_flight", &[]) == 1.0);
    assert_eq!(client(&gateway).get("/", &[]).status(), 503);
    let refused = client(&gateway).send("POST", "/a.B/C", &[("content-type", "application/grpc")], b"");
    assert_eq!(refused.status(), 503);
}

/// What Envoy shows of a request or of its response.
mod process {
    use super::Proto;

    fn headers(fields: &[(&str, &str)]) -> Proto {
        let field =
            |map: Proto, (name, value): &(&str, &str)| map.message(1, &Proto::default().bytes(1, name).bytes(3, value));
        Proto::default().message(1, &fields.iter().fold(Proto::default(), field))
    }

    /// A request's head; its body is still to come.
    pub(super) fn request_head(fields: &[(&str, &str)]) -> Proto {
        let head = [(":method", "POST"), (":path", "/v1/chat/completions"), (":authority", "a.test")];
        headers(&[&head, fields].concat())
    }

    /// The first message, with this head.
    pub(super) fn first(head: &Proto) -> Proto {
        // Bodies are streamed.
        Proto::default().message(2, head).message(11, &Proto::default().number(1, 1).number(2, 1))
    }

    pub(super) fn request(fields: &[(&str, &str)]) -> Proto {
        first(&request_head(fields))
    }

    pub(super) fn response(status: &str) -> Proto {
        Proto::default().message(3, &headers(&[(":status", status), ("content-type", "text/event-stream")]))
    }

    pub(super) fn request_body(body: &[u8], is_last: bool) -> Proto {
        Proto::default().message(4, &piece(body, is_last))
    }

    pub(super) fn response_body(body: &[u8], is_last: bool) -> Proto {
        Proto::default().message(5, &piece(body, is_last))
    }

    pub(super) fn response_trailers() -> Proto {
        Proto::default().message(7, &Proto::default())
    }

    fn piece(body: &[u8], is_last: bool) -> Proto {
        Proto::default().bytes(1, body).number(2, u64::from(is_last))
    }
}

/// An event of a stream, with this text and that usage.
fn event(text: &str, usage: u64) -> String {
    let usage = if usage > 0 { format!(",\"usage\":{{\"total_tokens\":{usage}}}") } else { String::new() };
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]{usage}}}\n\n")
}

/// A gateway that limits tokens, a hundred an hour for each user, on these terms.
fn limiting_tokens(terms: &str) -> Gateway {
    Gateway::serve(&format!(
        "decide: {{listen: 127.0.0.1:0}}
filter:
  rule_name: tokens
  rule_items: [{{limit_by_per_header: x-user, limit_keys: [{{key: \"*\", token_per_hour: 100}}]}}]
  headers: [x-ratelimit-tokens, retry-after]
{terms}"
    ))
}

/// Which of the kinds of answers these are, by their fields.
fn kinds(answer: &GrpcAnswer) -> Vec<u32> {
    answer.messages.iter().map(|message| message.fields()[0].0).collect()
}

#[test]
fn a_request_and_its_answer_are_processed_part_by_part() {
    let gateway = limiting_tokens("");
    let mut client = GrpcClient::connect(gateway.decide());
    let mut ask = |user: &str, usage: u64| {
        let user = [("x-user", user), ("accept-encoding", "zebra, gzip"), ("content-length", "15")];
        client.call_with(
            PROCESS,
            &[
                process::request(&user),
                process::request_body(b"{\"stream\":true}", true),
                process::response("200"),
                process::response_body(event("a", 0).as_bytes(), false),
                process::response_body(event("b", usage).as_bytes(), false),
                process::response_body(b"", true),
            ],
        )
    };
    let passed = ask("a", 100);
    assert_eq!((passed.http_status, passed.status()), (200, Some(0)));
    // As it asks for no more behind the last piece, nothing is kept of it.
    assert_eq!(kinds(&passed), [1, 3, 2, 4, 4, 4]);
    let change = passed.messages[0].get(1).get(1);
    let set: Vec<(String, String)> =
        change.get(2).all(1).iter().map(|set| (set.get(1).get(1).text(), set.get(1).get(3).text())).collect();
    assert_eq!(set, [("accept-encoding".to_owned(), "gzip".to_owned())], "an answer that can be read");
    let mode = passed.messages[0].get(9);
    assert_eq!([2, 4].map(|part| mode.number_of(part)), [1, 1], "the answer is wanted, with its body");
    let told = passed.messages[2].get(2).get(1).get(2).all(1);
    assert!(told.iter().any(|set| set.get(1).get(1).text() == "x-ratelimit-limit-tokens"), "{told:?}");
    assert!(passed.messages[3].get(4).get(1).get(3).0.is_empty(), "it goes on as it is");
    let refused = ask("a", 1);
    assert_eq!((refused.status(), kinds(&refused)), (Some(0), vec![7]));
    let immediate = refused.messages[0].get(7);
    assert_eq!((immediate.get(1).number_of(1), immediate.get(4).number_of(1)), (429, 8));
    assert_eq!(immediate.get(3).text(), "Too many requests");
    let set = immediate.get(2).all(1);
    assert!(set.iter().any(|set| set.get(1).get(1).text() == "retry-after"), "{set:?}");
    assert_eq!(kinds(&ask("b", 1)).len(), 6);
    let metrics = gateway.metrics();
    wait_until("calls are counted", || {
        let codes =
            |code| gateway.metrics().sum("slidegate_requests_total", &[("route", "decide-ext_proc"), ("code", code)]);
        [codes("2xx"), codes("4xx")] == [2.0, 1.0]
    });
    assert_eq!(metrics.sum("slidegate_tokens_charged_total", &[]), 101.0);
    assert_eq!(gateway.metrics().find("slidegate_requests_in_flight", &[]), Some(0.0));
}

#[test]
fn a_request_whose_body_is_read_first_waits_for_that() {
    let gateway = limiting_tokens("  reserve: max_tokens\n");
    let mut client = GrpcClient::connect(gateway.decide());
    let mut ask = |body: &[u8]| {
        let part = body.len() / 2;
        let request = process::request(&[("x-user", "a")]);
        let pieces = [process::request_body(&body[..part], false), process::request_body(&body[part..], true)];
        let answer = [process::response("200"), process::response_body(event("a", 100).as_bytes(), true)];
        client.call_with(PROCESS, &[&[request], &pieces[..], &answer[..]].concat())
    };
    let passed = ask(b"{\"stream\":true,\"max_tokens\":9}");
    assert_eq!((passed.status(), kinds(&passed)), (Some(0), vec![1, 3, 3, 2, 4]));
    assert_eq!(passed.messages[0].get(9).number_of(3), 2, "it is to come as a whole");
    // In pieces it comes all the same: what was kept of it goes with the last.
    assert_eq!(passed.messages[1].get(3).get(1).get(3).number_of(2), 1, "taken out");
    assert_eq!(passed.messages[2].get(3).get(1).get(3).get(1).text(), "{\"stream\":true,\"max_tokens\":9}");
    let refused = ask(b"{\"stream\":true,\"max_tokens\":50}");
    assert_eq!((refused.status(), kinds(&refused)), (Some(0), vec![1, 3, 7]));
    assert_eq!(refused.messages[2].get(7).get(1).number_of(1), 429);
}

#[test]
fn what_nobody_wants_to_see_is_not_asked_for() {
    let gateway = limiting_tokens("");
    let mut client = GrpcClient::connect(gateway.decide());
    // No rule is about this one.
    let answer = client.call_with(PROCESS, &[process::request(&[]), process::response("200")]);
    assert_eq!((answer.status(), kinds(&answer)), (Some(0), vec![1, 2]));
    for message in &answer.messages {
        assert_eq!([3, 4].map(|part| message.get(9).number_of(part)), [0, 0], "no bodies");
        assert_eq!([5, 6].map(|part| message.get(9).number_of(part)), [2, 2], "no trailers");
    }
    // Where they come all the same, they go on as they are.
    let answer = client
        .call_with(PROCESS, &[process::request(&[]), process::request_body(b"{}", true), process::response("200")]);
    assert_eq!((answer.status(), kinds(&answer)), (Some(0), vec![1, 3, 2]));
    // Trailers end an answer, too.
    let answer = client.call_with(
        PROCESS,
        &[
            process::request(&[("x-user", "t"), ("content-length", "2")]),
            process::request_body(b"{}", true),
            process::response("200"),
            process::response_body(event("a", 7).as_bytes(), false),
            process::response_trailers(),
        ],
    );
    assert_eq!((answer.status(), kinds(&answer)), (Some(0), vec![1, 3, 2, 4, 6]));
    wait_until("it is counted", || gateway.metrics().sum("slidegate_tokens_charged_total", &[]) == 7.0);
}

#[test]
fn what_is_processed_out_of_order_is_told_so() {
    let gateway = limiting_tokens("");
    let mut client = GrpcClient::connect(gateway.decide());
    let user = [("x-user", "a")];
    let begun = || process::request(&user);
    let config = |request: u64, response: u64| {
        let modes = Proto::default().number(1, request).number(2, response);
        Proto::default().message(2, &process::request_head(&user)).message(11, &modes)
    };
    for (messages, expected) in [
        (vec![], 3),
        (vec![process::response("200")], 3),
        (vec![process::request_body(b"{}", true)], 3),
        (vec![Proto::default()], 3),
        (vec![begun(), Proto::default()], 3),
        (vec![begun(), Proto::default().bytes(77, "what nobody knows")], 3),
        (vec![begun(), begun()], 3),
        (vec![begun(), process::response_body(b"a", false)], 3),
        (vec![begun(), process::response_trailers()], 3),
        (vec![begun(), process::response("200"), process::response("200")], 3),
        (vec![begun(), process::response("")], 3),
        (vec![begun(), process::response("2000")], 3),
        (vec![begun(), process::request_body(b"", true), process::request_body(b"", true)], 3),
        // Those without a target, or with two.
        (vec![process::first(&Proto::default())], 3),
        (vec![process::request(&[(":path", "/other")])], 3),
        // Nobody would hear what is answered.
        (vec![begun().number(10, 1)], 9),
    ] {
        let answer = client.call_with(PROCESS, &messages);
        assert_eq!((answer.http_status, answer.status()), (200, Some(expected)), "{messages:?} {answer:?}");
    }
    let head = |flag: u8, length: u32| [&[flag][..], &length.to_be_bytes()].concat();
    for (behind, expected) in [(head(1, 0), 12), (head(0, 2 << 20), 8), (head(0, 9), 3), (vec![0, 0], 3)] {
        for first in [Vec::new(), framed(&begun())] {
            let answer = client.send("POST", PROCESS, "application/grpc", [first, behind.clone()].concat());
            assert_eq!(answer.status(), Some(expected), "{behind:?} {answer:?}");
        }
    }
    // Not all that has to be seen would be shown: the request is refused, as it would be free.
    let silent = Proto::default().message(2, &process::request_head(&user));
    for first in [silent, config(1, 0), config(0, 1), config(1, 3), config(4, 1)] {
        let refused = client.call(PROCESS, &first);
        assert_eq!((refused.status(), kinds(&refused)), (Some(0), vec![7]), "{first:?}");
        assert_eq!(refused.message.get(7).get(1).number_of(1), 403);
        assert!(refused.message.get(7).get(3).text().contains("processing_mode"), "{refused:?}");
    }
    // They have all ended, and have taken nothing but what came of requests that got on their way.
    wait_until("no call is open", || gateway.metrics().find("slidegate_requests_in_flight", &[]) == Some(0.0));
    assert_eq!(gateway.metrics().sum("slidegate_token_reservations_open", &[]), 0.0);
}

/// Whatever bytes come, each call is answered, and no body is kept.
#[test]
fn hostile_parts_do_no_harm() {
    let gateway = limiting_tokens("");
    let mut client = GrpcClient::connect(gateway.decide());
    let whole = [
        process::request(&[("x-user", "a"), ("content-encoding", "gzip")]),
        process::request_body(b"{\"stream\":true}", true),
        process::response("200"),
        process::response_body(event("a", 1).as_bytes(), false),
        process::response_body(b"", true),
    ];
    let mut random = random_below();
    for _ in 0..1_000 {
        let mut messages = whole.to_vec();
        for _ in 0..random(3) {
            let (one, other) = (random(messages.len()), random(messages.len()));
            messages.swap(one, other);
        }
        for _ in 0..random(3) {
            let message = random(messages.len());
            let at = random(messages[message].0.len());
            messages[message].0[at] = u8::try_from(random(256)).expect("a byte");
        }
        messages.truncate(1 + random(5));
        let answer = client.call_with(PROCESS, &messages);
        assert!(answer.status().is_some(), "{answer:?}");
    }
    // A body without end, of pieces as large as there may be.
    let piece = vec![b'a'; (1 << 20) - 64];
    let mut messages = vec![process::request(&[("x-user", "z")]), process::response("200")];
    messages.extend((0..100).map(|_| process::response_body(&piece, false)));
    let answer = client.call_with(PROCESS, &messages);
    assert_eq!((answer.status(), answer.messages.len()), (Some(0), 102));
    assert!(gateway.peak_memory_bytes() < 300 << 20, "{}", gateway.peak_memory_bytes());
}

/// What shows no bodies cannot say what a limit on tokens counts.
#[test]
fn with_limits_on_tokens_all_but_processing_is_refused() {
    let gateway = limiting_tokens("");
    let refused = forwarded(&mut client(&gateway), "GET", "/", "a.test", &[]);
    assert_eq!(refused.status(), 403);
    assert!(refused.text().contains("limits on tokens need ext_proc"), "{}", refused.text());
    let mut in_grpc = GrpcClient::connect(gateway.decide());
    assert_eq!(denied(&in_grpc.call(CHECK, &check("GET", "/", "a.test", &[]))), Some(403));
    let limit = in_grpc.call(LIMIT, &limits("a.test", &[&[("x-none", "a")]]));
    assert_eq!((limit.status(), limit.message.number_of(1)), (Some(0), 2));
    assert_eq!(in_grpc.call(HEALTH, &Proto::default()).status(), Some(0));
    gateway.wait_printed("decide.needs_bodies");
    gateway.wait_log("limits on tokens need ext_proc");
    assert_eq!(gateway.log_lines("limits on tokens need ext_proc").len(), 1);
}

fn descriptor(entries: &[(&str, &str)]) -> Proto {
    entries.iter().fold(Proto::default(), |descriptor, (key, value)| descriptor.entry(1, key, value))
}

fn limits(domain: &str, descriptors: &[&[(&str, &str)]]) -> Proto {
    let call = Proto::default().bytes(1, domain);
    descriptors.iter().fold(call, |call, entries| call.message(2, &descriptor(entries)))
}

#[test]
fn the_rate_limit_service_tells_what_is_left() {
    let gateway = Gateway::serve(
        "decide: {listen: 127.0.0.1:0}
filter:
  rule_name: whole
  rule_match: all
  headers: [x-ratelimit, ratelimit, retry-after]
  rule_items:
    - {limit_by_per_header: x-key, limit_keys: [{key: \"*\", query_per_minute: 3}]}
    - {limit_by_per_header: x-user, limit_keys: [{key: \"*\", query_per_minute: 1}]}
  _rules_:
    - _match_route_: [orders]
      _match_domain_: []
      rule_name: by-route
      global_threshold: {query_per_minute: 1}
    - _match_domain_: [ip.test]
      rule_name: by-address
      rule_items: [{limit_by_per_ip: from-remote-addr, limit_keys: [{key: 0.0.0.0/0, query_per_minute: 1}]}]
"
        .replace("      _match_domain_: []\n", "")
        .as_str(),
    );
    let mut client = GrpcClient::connect(gateway.decide());
    let mut ask = |call: &Proto| {
        let answer = client.call(LIMIT, call);
        assert_eq!(answer.status(), Some(0), "{answer:?}");
        answer.message
    };
    let first = ask(&limits("shop.test", &[&[("x-key", "k")]]));
    let status = first.get(2);
    assert_eq!((first.number_of(1), status.number_of(1), status.number_of(3)), (1, 1, 2));
    assert_eq!((status.get(2).number_of(1), status.get(2).number_of(2)), (3, 2), "three a minute");
    assert!(first.all(3).iter().any(|header| header.get(1).text() == "x-ratelimit-remaining"));
    // Two descriptors are one request: what one of them refuses, the other is not charged for.
    let both = limits("shop.test", &[&[("x-key", "k")], &[("x-user", "u")]]);
    let passed = ask(&both);
    assert_eq!((passed.number_of(1), passed.all(2).len()), (1, 2));
    let refused = ask(&both);
    assert_eq!((refused.number_of(1), refused.get(5).text().as_str()), (2, "Too many requests"));
    assert!((1..=61).contains(&refused.get(2).get(4).number_of(1)), "{refused:?}");
    assert_eq!(ask(&limits("shop.test", &[&[("x-key", "k")]])).number_of(1), 1);
    assert_eq!(ask(&limits("shop.test", &[&[("x-key", "k")]])).number_of(1), 2);
    // Those that contradict each other are decided one after the other.
    let apart = limits("shop.test", &[&[("x-key", "a")], &[("x-key", "k")], &[("x-key", "b")]]);
    let codes = |message: &Proto| message.all(2).iter().map(|status| status.number_of(1)).collect::<Vec<_>>();
    let told = ask(&apart);
    assert_eq!((told.number_of(1), codes(&told)), (2, vec![1, 2, 0]));
    // As often as it counts.
    let twice = limits("shop.test", &[&[("x-key", "c")]]).number(3, 2);
    assert_eq!([ask(&twice).number_of(1), ask(&twice).number_of(1)], [1, 2]);
    let route = limits("shop.test", &[&[("generic_key", "orders")]]);
    assert_eq!([ask(&route).number_of(1), ask(&route).number_of(1)], [1, 2]);
    let address = |address: &str| limits("ip.test", &[&[("remote_address", address)]]);
    assert_eq!(["1.1.1.1", "1.1.1.2", "1.1.1.1"].map(|from| ask(&address(from)).number_of(1)), [1, 1, 2]);
    // Nobody's address is the proxy's.
    let nobodys = limits("ip.test", &[&[("x-none", "a")]]);
    assert_eq!([ask(&nobodys).number_of(1), ask(&nobodys).number_of(1)], [1, 2]);
    for bad in [
        limits("a b", &[&[("x-key", "k")]]),
        limits("shop.test", &[&[("bad name", "k")]]),
        limits("shop.test", &[&[("remote_address", "nobody")]]),
        limits("shop.test", &[&[("x-key", "k")]]).number(3, 101),
    ] {
        let answer = client.call(LIMIT, &bad);
        assert!(matches!(answer.status(), Some(3)) || answer.message.number_of(1) == 2, "{answer:?}");
    }
}

#[test]
fn a_gateway_may_pass_requests_on_and_decide_for_others() {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&format!(
        "routes: [{{name: orders, path_prefix: /orders, upstream: \"{}\"}}]
decide: {{listen: 127.0.0.1:0}}
workers: 2
filter:
  _rules_: [{{_match_route_: [orders], rule_name: shared, global_threshold: {{query_per_hour: 2}}}}]
",
        upstream.url()
    ));
    let mut client = client(&gateway);
    assert_eq!(gateway.get("/orders", &[]).0, 200);
    assert_eq!(forwarded(&mut client, "GET", "/orders/7", "a.test", &[]).status(), 200);
    assert_eq!(forwarded(&mut client, "GET", "/orders/7", "a.test", &[]).status(), 429);
    assert_eq!(gateway.get("/orders", &[]).0, 429);
    assert_eq!(forwarded(&mut client, "GET", "/else", "a.test", &[]).status(), 200);
    assert_eq!(upstream.requests(), 1);
}

#[test]
fn what_keeps_answers_is_a_mistake_with_its_line() {
    let told = |text: &str| {
        let output = run_with(&["check", "-"], &[], text.as_bytes());
        assert!(!output.status.success(), "{text}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let redis = "redis: {service_name: r}";
    for (filter, place) in [
        (format!("- cache: {{{redis}}}"), "4:5: filters[0].cache: keeps answers"),
        (format!("- cookie_vault: {{cookies: a, {redis}}}"), "4:5: filters[0].cookie_vault: takes cookies out"),
        (
            format!("- session: {{format: own, {redis}}}"),
            "4:23: filters[0].session.format: begins, renews and ends sessions",
        ),
    ] {
        let said = told(&format!("decide: {{listen: :1}}\nadmin: :2\nfilters:\n{}", indented(&filter)));
        assert!(said.contains(place) && said.contains("without `decide`"), "{said}");
    }
    for (text, place) in [
        ("decide: {listen: :1}\nlisten: :2\n", "2:9: listen: expected only with"),
        ("decide: {}\n", "1:1: decide.listen: is missing"),
        (
            "decide: {listen: :1, trusted_peers: [a]}\n",
            "1:38: decide.trusted_peers[0]: expected an address or a network",
        ),
        ("decide: {listen: :1, trusted_peers: 10.0.0.0/8}\n", "decide.trusted_peers: expected a list"),
        ("decide: {listen: :1, refuse_with: 200}\n", "decide.refuse_with: expected a whole number from 400 to 599"),
        ("decide: {listen: :1, trusted: []}\n", "decide.trusted: there is no such field"),
        ("decide: null\n", "expected an array of routes, or `upstream`"),
    ] {
        let said = told(text);
        assert!(said.contains(place), "{said}");
    }
    let output = run_with(&["check", "-", "--listen", ":1"], &[], b"decide: {listen: ':2'}\n");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("--listen: the file leads to no upstream"), "{said}");
    let output =
        run_with(&["check", "-"], &[], b"decide: {listen: \":1\", trusted_peers: [10.0.0.0/8], refuse_with: 403}\n");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("decide   0.0.0.0:1 for only 10.0.0.0/8, refusing with 403 in place of 429"), "{said}");
}

#[test]
fn proxies_may_be_asked_for_certificates() {
    let directory = Directory::new();
    let (authority, proxies) = (Authority::new(directory.path(), "ca"), Authority::new(directory.path(), "proxies"));
    let (certificate, key) = authority.sign("gate", &["127.0.0.1"]);
    let (own, own_key) = proxies.sign("nginx", &["nginx.test"]);
    let gateway = deciding(
        &format!(
            ", tls: {{cert: {}, key: {}, client_ca: {}}}",
            certificate.display(),
            key.display(),
            proxies.certificate().display()
        ),
        &by_key(1),
    );
    let identity = Some((own.as_path(), own_key.as_path()));
    for (key, protocols) in [("one", &[ALPN_HTTP1][..]), ("two", &[ALPN_HTTP2])] {
        let tls = client_tls(&authority.certificate(), identity, protocols);
        let mut client = TlsClient::connect(&tls, gateway.decide()).expect("a handshake");
        let fields = [("x-forwarded-uri", "/"), ("x-forwarded-host", "a.test"), ("x-key", key)];
        let told = [(); 2].map(|()| client.get("/decide", &fields).expect("an answer").status);
        assert_eq!(told, [200, 429]);
    }
}

#[test]
fn new_settings_hold_for_decisions_too() {
    let settings = |limit: u32, more: &str| {
        format!(
            "decide: {{listen: 127.0.0.1:0{more}}}
filter: {{rule_name: r, global_threshold: {{query_per_day: {limit}}}}}
"
        )
    };
    let gateway = Gateway::serve(&settings(1, ""));
    let mut client = client(&gateway);
    let mut ask = || forwarded(&mut client, "GET", "/", "a.test", &[]).status();
    assert_eq!([ask(), ask()], [200, 429]);
    gateway.write_settings(&settings(1, ", refuse_with: 403"));
    gateway.wait_log("settings reloaded");
    assert_eq!(ask(), 403, "and the window is the one from before");
    gateway.write_settings("decide: {listen: 127.0.0.1:0}\nfilters: [{cache: {redis: {service_name: a}}}]\n");
    gateway.wait_log("filters[0].cache: keeps answers");
    assert_eq!(ask(), 403);
    gateway.terminate();
    gateway.wait_log("draining");
    std::thread::sleep(Duration::from_millis(10));
}
