//! Plugins of other people, unmodified, through all their hooks: what runs them as a gateway does may be believed about
//! ours.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use slidegate_higress_host::{
    Exchange, Gateway, HttpMessage, LogLine, Metric, Plugin, Request, StartError, Upstream, Worker, abi::LogLevel,
};
use slidegate_tests::{plugins::gpustack, redis_server::RedisServer};

const REDIS: &str = "outbound|80||redis.static";
const CHAT: &str = r#"{"model":"m1","stream":false,"messages":[{"role":"user","content":"write to admin@example.com at 192.168.0.1"}]}"#;

/// A minute that has just begun.
const START_NS: u64 = 29_919_000 * 60 * 1_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;

fn plugin(name: &str, config: &Value) -> Plugin {
    Plugin::new(name, &gpustack(name), config.to_string())
}

fn one(name: &str, config: &Value) -> Worker {
    Gateway::new().plugin(plugin(name, config)).start().unwrap_or_else(|error| panic!("{error}")).worker().unwrap()
}

fn chat() -> Request {
    Request::post("ai.example.com", "/v1/chat/completions", "application/json", &[CHAT])
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn well(exchange: Exchange) -> Exchange {
    assert!(exchange.misuse.is_empty(), "{:?}", exchange.misuse);
    assert!(!exchange.reset);
    exchange
}

fn texts(lines: &[LogLine]) -> String {
    lines.iter().map(|line| format!("{:?} {}\n", line.level, line.text)).collect()
}

mod rate_limit {
    use super::*;

    fn config(query_limits: &Value, redis: &Value) -> Value {
        json!({
            "rule_name": "r",
            "redis": redis,
            "limit_combinations": [{
                "name": "a",
                "match": [{"type": "limit_by_header", "source": "header", "name": "x-mse-consumer", "value": "c1"}],
                "query_limits": query_limits,
            }],
        })
    }

    fn redis(password: &str) -> Value {
        json!({"service_name": "redis.static", "database": 2, "password": password, "timeout": 300})
    }

    fn gateway(config: &Value, hosts: &[SocketAddr]) -> Gateway {
        let gateway =
            Gateway::new().logging(LogLevel::Debug).redis(REDIS, hosts).plugin(plugin("gpustack-rate-limit", config));
        gateway.start().unwrap_or_else(|error| panic!("{error}"))
    }

    fn address(server: &RedisServer) -> SocketAddr {
        ([127, 0, 0, 1], server.port()).into()
    }

    fn request() -> Request {
        Request::get("ai.example.com", "/v1/chat/completions").with("x-mse-consumer", "c1")
    }

    fn worker(gateway: &Gateway) -> Worker {
        let mut worker = gateway.worker().unwrap();
        worker.set_clock_ns(START_NS);
        worker
    }

    fn statuses(worker: &mut Worker, count: usize) -> Vec<u16> {
        (0..count).map(|_| well(worker.exchange(&request(), &Upstream::ok())).status()).collect()
    }

    #[test]
    fn admits_refuses_and_admits_after_the_window_on_a_redis_with_a_password_and_databases() {
        let server = RedisServer::start_with(&["--requirepass", "pw"]);
        let gateway = gateway(&config(&json!({"per_minute": 2}), &redis("pw")), &[address(&server)]);
        let mut worker = worker(&gateway);
        assert_eq!(statuses(&mut worker, 2), [200, 200], "{}", texts(&worker.log()));
        let refused = well(worker.exchange(&request(), &Upstream::ok()));
        assert_eq!(
            (refused.status(), refused.details.as_str(), refused.upstream),
            (429, "gpustack-rate-limit.rejected", None)
        );
        assert_eq!(refused.client.as_ref().unwrap().headers.text("content-type").as_deref(), Some("application/json"));
        json_of(&String::from_utf8_lossy(&refused.client.as_ref().unwrap().body));

        let url = format!("redis://:pw@127.0.0.1:{}/2", server.port());
        let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
        assert_eq!(keys, ["r|a|header:x-mse-consumer=c1|q:60s"]);

        worker.set_clock_ns(START_NS + 61 * SECOND_NS);
        assert_eq!(statuses(&mut worker, 1), [200]);
        assert_eq!(worker.failure(0), None);
        assert!(!gateway.metrics().is_empty());
    }

    #[test]
    fn workers_share_the_window_and_interleaved_streams_are_told_apart() {
        let server = RedisServer::start();
        let gateway = gateway(&config(&json!({"per_minute": 10}), &redis("")), &[address(&server)]);
        let mut workers = [worker(&gateway), worker(&gateway)];
        let streams: Vec<Vec<_>> =
            workers.iter_mut().map(|worker| (0..16).map(|_| worker.send(&request())).collect()).collect();
        for (worker, streams) in workers.iter().zip(&streams) {
            assert!(
                streams.iter().all(|stream| worker.upstream(*stream).is_none() && !worker.is_over(*stream)),
                "all wait"
            );
        }
        let mut seen = Vec::new();
        for (worker, streams) in workers.iter_mut().zip(streams) {
            seen.extend(
                streams.into_iter().map(|stream| well(worker.finish_exchange(stream, &Upstream::ok())).status()),
            );
        }
        assert_eq!(seen.iter().filter(|status| **status == 200).count(), 10, "{seen:?}");
        assert_eq!(seen.iter().filter(|status| **status == 429).count(), 22, "{seen:?}");
    }

    #[test]
    fn lets_all_pass_when_redis_is_not_there_refuses_or_fails() {
        let with_password = RedisServer::start_with(&["--requirepass", "pw"]);
        let nobody: SocketAddr = ([127, 0, 0, 1], 1).into();
        let limits = json!({"per_minute": 1});
        for (name, gateway) in [
            ("refused", gateway(&config(&limits, &redis("")), &[nobody])),
            ("no host", gateway(&config(&limits, &redis("")), &[])),
            ("wrong password", gateway(&config(&limits, &redis("wrong")), &[address(&with_password)])),
            ("unknown cluster", gateway(&config(&limits, &json!({"service_name": "elsewhere.static"})), &[nobody])),
        ] {
            let mut worker = worker(&gateway);
            assert_eq!(statuses(&mut worker, 3), [200; 3], "{name}: {}", texts(&worker.log()));
            assert_eq!(worker.failure(0), None, "{name}");
            let told = worker.log().iter().any(|line| line.level >= LogLevel::Warn);
            assert!(told, "{name}: {}", texts(&worker.log()));
        }
    }

    #[test]
    fn one_slow_command_fails_its_neighbours_and_all_pass() {
        let server = RedisServer::start();
        let gateway = gateway(&config(&json!({"per_minute": 100}), &redis("")), &[address(&server)]);
        let mut worker = worker(&gateway);
        server.pause();
        let streams: Vec<_> = (0..5).map(|_| worker.send(&request())).collect();
        assert_eq!(worker.pending(), 6, "a SELECT and five commands");
        let first = well(worker.finish_exchange(streams[0], &Upstream::ok()));
        assert_eq!(first.status(), 200);
        worker.pump();
        assert_eq!(worker.pending(), 0, "the connection was given up with all that was on it");
        for stream in &streams[1..] {
            assert_eq!(well(worker.finish_exchange(*stream, &Upstream::ok())).status(), 200);
        }
        server.resume();
        assert_eq!(statuses(&mut worker, 1), [200], "by a new connection");
        assert_eq!(worker.failure(0), None);
    }

    #[test]
    fn a_reply_for_a_stream_that_has_left_is_nobodys() {
        let server = RedisServer::start();
        let gateway = gateway(&config(&json!({"per_minute": 100}), &redis("")), &[address(&server)]);
        let mut worker = worker(&gateway);
        let (gone, stays) = (worker.send(&request()), worker.send(&request()));
        worker.abort(gone);
        let gone = worker.close(gone).unwrap();
        assert!(gone.reset && gone.client.is_none() && gone.upstream.is_none());
        assert_eq!(well(worker.finish_exchange(stays, &Upstream::ok())).status(), 200);
        assert!(worker.wait(Duration::from_secs(5), |worker| worker.pending() == 0));
        assert_eq!((worker.failure(0), worker.contexts(0)), (None, 0));
        let mut connection = server.connection();
        redis::cmd("SELECT").arg(2).exec(&mut connection).unwrap();
        let counted: u64 =
            redis::cmd("ZCARD").arg("r|a|header:x-mse-consumer=c1|q:60s").query(&mut connection).unwrap();
        assert_eq!(counted, 2, "the command was not taken back");
    }

    #[test]
    fn a_configuration_that_it_refuses_does_not_start() {
        let gateway = Gateway::new().plugin(plugin("gpustack-rate-limit", &json!({"limit_combinations": 5})));
        let StartError { plugin, reason, log } = gateway.start().unwrap_err();
        assert_eq!((plugin.as_str(), reason.as_str()), ("gpustack-rate-limit", "`proxy_on_configure` refused"));
        assert!(log.iter().any(|line| line.level >= LogLevel::Warn), "{}", texts(&log));
    }
}

#[test]
fn go_ip_acl_refuses_by_the_consumers_address() {
    let config =
        json!({"consumers": {"c1": {"deniedCidrs": ["192.0.2.0/24"]}, "c2": {"allowedCidrs": ["192.0.2.0/24"]}}});
    let mut worker = one("gpustack-ip-acl", &config);
    let request = |consumer: &str| Request::get("example.com", "/v1/x").with("x-mse-consumer", consumer);
    let denied = well(worker.exchange(&request("c1"), &Upstream::ok()));
    assert_eq!(
        (denied.status(), denied.details.as_str(), denied.upstream.is_none()),
        (403, "gpustack.ip.acl.rejected", true)
    );
    assert!(json_of(&denied.body())["message"].is_string());
    assert_eq!(denied.header("content-length"), Some(denied.body().len().to_string()));
    assert_eq!(well(worker.exchange(&request("c2"), &Upstream::ok())).status(), 200);
    let mut elsewhere = request("c2");
    elsewhere.source = Some("[2001:db8::1]:1234".parse().unwrap());
    assert_eq!(well(worker.exchange(&elsewhere, &Upstream::ok())).status(), 403);
}

#[test]
fn go_transformer_rewrites_headers_queries_and_both_bodies() {
    let config = json!({
        "reqRules": [
            {"operate": "remove", "headers": [{"key": "X-Remove"}], "querys": [{"key": "k1"}]},
            {"operate": "rename", "headers": [{"oldKey": "X-Not-Renamed", "newKey": "X-Renamed"}]},
            {"operate": "replace", "body": [{"key": "a3", "newValue": "t3-new", "value_type": "string"}]},
            {"operate": "dedupe", "headers": [{"key": "X-Twice", "strategy": "RETAIN_LAST"}]},
        ],
        "respRules": [
            {"operate": "add", "headers": [{"key": "x-added", "value": "1"}]},
            {"operate": "replace", "body": [{"key": "b", "newValue": "new", "value_type": "string"}]},
        ],
    });
    let mut worker = one("transformer", &config);
    let request =
        Request::post("example.com", "/post?k1=v&k2=w", "application/json", &["{\"a1\":\"t1\",", "\"a3\":\"t3\"}"]);
    let request = request.with("x-remove", "1").with("x-not-renamed", "2").with("x-twice", "3").with("x-twice", "4");
    let upstream = Upstream::new(200, &[("content-type", "application/json")], &["{\"b\":", "\"old\"}"]);
    let seen = well(worker.exchange(&request, &upstream));
    let sent = seen.upstream.as_ref().unwrap();
    assert_eq!(json_of(&String::from_utf8_lossy(&sent.body)), json!({"a1": "t1", "a3": "t3-new"}));
    for (name, value) in [
        ("x-remove", None),
        ("x-not-renamed", None),
        ("x-renamed", Some("2")),
        ("x-twice", Some("4")),
        (":path", Some("/post?k2=w")),
    ] {
        assert_eq!(sent.headers.text(name).as_deref(), value, "{name}");
    }
    assert_eq!(sent.headers.all("x-twice").len(), 1);
    assert_eq!(json_of(&seen.body()), json!({"b": "new"}));
    assert_eq!(seen.header("x-added").as_deref(), Some("1"));
    assert_eq!(seen.route_selections, 2, "edited headers make the gateway choose the route anew");
}

#[test]
fn go_set_header_pre_route_makes_the_gateway_choose_another_route() {
    use slidegate_higress_host::Route;
    let config = json!({"routeNameHeader": "x-route", "enableOnPathSuffix": ["/v1/chat/completions"]});
    let gateway = Gateway::new().plugin(plugin("gpustack-set-header-pre-route", &config)).routed(|headers| {
        let name = headers.text("x-route").map_or("first".to_owned(), |route| format!("after-{route}"));
        Route { name, cluster: "outbound|80||backend.static".to_owned() }
    });
    let mut worker = gateway.start().unwrap().worker().unwrap();
    let seen = well(worker.exchange(&chat(), &Upstream::ok()));
    assert_eq!(seen.upstream_header("x-route").as_deref(), Some("first"));
    assert_eq!(seen.route_selections, 2);
    let other = well(worker.exchange(&Request::get("example.com", "/other"), &Upstream::ok()));
    assert_eq!((other.upstream_header("x-route"), other.route_selections), (None, 1));
}

#[test]
fn go_ai_statistics_counts_tokens_of_whole_and_of_streamed_answers() {
    let attribute =
        json!({"key": "question", "value_source": "request_body", "value": "messages.0.content", "apply_to_log": true});
    let mut worker = one("ai-statistics", &json!({"enable": true, "attributes": [attribute]}));
    let usage = |input: u32, output: u32| {
        json!({"prompt_tokens": input, "completion_tokens": output,
        "total_tokens": input + output})
    };
    let whole = json!({"id": "1", "model": "m1", "choices": [], "usage": usage(11, 7)}).to_string();
    let seen = well(worker.exchange(&chat(), &Upstream::new(200, &[("content-type", "application/json")], &[&whole])));
    assert_eq!(seen.body(), whole);
    let log = seen.property("ai_log").unwrap().replace("\\\"", "\"");
    assert!(
        log.contains("\"input_token\":11") && log.contains("\"output_token\":7") && log.contains("admin@example.com"),
        "{log}"
    );

    let last = format!("data: {}\n\n", json!({"id": "2", "model": "m1", "choices": [], "usage": usage(3, 4)}));
    let first = "data: {\"id\":\"2\",\"model\":\"m1\",\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
    let pieces = [first, &last, "data: [DONE]\n\n"];
    let seen = well(worker.exchange(&chat(), &Upstream::new(200, &[("content-type", "text/event-stream")], &pieces)));
    assert_eq!(seen.body(), pieces.concat());
    let metric = |name: &str| {
        worker
            .gateway()
            .metric(&format!("route.route.upstream.outbound|80||backend.static.model.m1.consumer.none.metric.{name}"))
    };
    assert_eq!((metric("input_token"), metric("output_token")), (Some(Metric::Counter(14)), Some(Metric::Counter(11))));
}

#[test]
fn rust_ai_data_masking_masks_restores_and_refuses() {
    let mail = json!({"regex": "%{EMAILLOCALPART}@%{HOSTNAME:domain}", "type": "replace", "restore": true,
        "value": "****@$domain"});
    let address = json!({"regex": "%{IP}", "type": "replace", "restore": false, "value": "***.***.***.***"});
    let config = json!({
        "deny_openai": true, "deny_words": ["forbidden"], "deny_code": 403, "deny_message": "blocked",
            "replace_roles": [mail, address],
    });
    let mut worker = one("ai-data-masking", &config);
    let answer = json!({"id": "1", "model": "m1", "choices": [{"index": 0,
        "message": {"role": "assistant", "content": "wrote to ****@example.com"}}]});
    let upstream = Upstream::new(200, &[("content-type", "application/json")], &[&answer.to_string()]);
    let seen = well(worker.exchange(&chat(), &upstream));
    let sent = json_of(&String::from_utf8_lossy(&seen.upstream.as_ref().unwrap().body));
    assert_eq!(sent["messages"][0]["content"], "write to ****@example.com at ***.***.***.***");
    assert_eq!(json_of(&seen.body())["choices"][0]["message"]["content"], "wrote to admin@example.com");
    let pieces = [&CHAT[..60], &CHAT[60..].replace("192.168.0.1", "forbidden places")];
    let refused = well(
        worker
            .exchange(&Request::post("ai.example.com", "/v1/chat/completions", "application/json", &pieces), &upstream),
    );
    assert_eq!((refused.status(), refused.upstream.is_none()), (403, true));
    assert_eq!(json_of(&refused.body())["choices"][0]["message"]["content"], "blocked");
    assert_eq!(worker.failure(0), None);
}

#[test]
fn go_ext_auth_waits_for_what_its_service_says() {
    let config = json!({"route_match_regexes": [".*"], "authz": {
        "endpoint_mode": "forward_auth",
        "endpoint": {"service_name": "auth.dns", "service_port": 8090, "path": "/auth", "request_method": "GET"},
        "timeout": 1000,
        "authorization_response": {"allowed_upstream_headers": [{"exact": "x-user"}]},
    }});
    let gateway = Gateway::new().logging(LogLevel::Debug).plugin(plugin("gpustack-ext-auth", &config)).http(
        "outbound|8090||auth.dns",
        |asked| {
            let status = match asked.headers.text("authorization")?.as_str() {
                "Bearer good" => "200",
                "Bearer broken" => return None,
                _ => "401",
            };
            Some(HttpMessage {
                headers: [(":status", status), ("x-user", "u1")].into_iter().collect(),
                ..HttpMessage::default()
            })
        },
    );
    let mut worker = gateway.start().unwrap_or_else(|error| panic!("{error}")).worker().unwrap();
    let mut asked =
        |token: &str| well(worker.exchange(&chat().with("authorization", format!("Bearer {token}")), &Upstream::ok()));
    let good = asked("good");
    assert_eq!((good.status(), good.upstream_header("x-user").as_deref()), (200, Some("u1")));
    assert_eq!(asked("bad").status(), 401);
    assert_eq!(asked("broken").status(), 403);
}

#[test]
fn a_chain_of_plugins_sees_the_request_in_order_and_the_response_in_reverse() {
    let server = RedisServer::start();
    let acl = json!({"consumers": {"c1": {"deniedCidrs": ["10.0.0.0/8"]}}});
    let limits = json!({
        "rule_name": "r",
        "redis": {"service_name": "redis.static"},
        "limit_combinations": [{
            "name": "a",
            "match": [{"type": "limit_by_header", "source": "header", "name": "x-mse-consumer", "value": "c1"}],
            "query_limits": {"per_minute": 1},
        }],
    });
    let marks = |name: &str| {
        json!({"reroute": false, "respRules": [{"operate": "append",
        "headers": [{"key": "x-order", "appendValue": name}]}]})
    };
    let gateway = Gateway::new()
        .redis(REDIS, &[([127, 0, 0, 1], server.port()).into()])
        .plugin(plugin("gpustack-ip-acl", &acl))
        .plugin(plugin("transformer", &marks("first")))
        .plugin(plugin("gpustack-rate-limit", &limits))
        .plugin(plugin("transformer", &marks("second")));
    let mut worker = gateway.start().unwrap_or_else(|error| panic!("{error}")).worker().unwrap();
    let request = chat().with("x-mse-consumer", "c1");
    let order = |seen: &Exchange| {
        let values = seen.client.as_ref().unwrap().headers.all("x-order").join(b",".as_slice());
        String::from_utf8(values).unwrap()
    };
    let admitted = well(worker.exchange(&request, &Upstream::ok()));
    assert_eq!((admitted.status(), order(&admitted)), (200, "second,first".to_owned()));
    assert_eq!(
        admitted.upstream.as_ref().unwrap().body,
        CHAT.as_bytes(),
        "held while Redis was asked, and sent on whole"
    );
    // The plugin behind the one that answers never saw the request, so it does not see the response.
    let refused = well(worker.exchange(&request, &Upstream::ok()));
    assert_eq!((refused.status(), order(&refused)), (429, "first".to_owned()));
    assert_eq!((0..4).map(|plugin| worker.contexts(plugin)).sum::<usize>(), 0);
}
