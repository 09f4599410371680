//! The plugin for Higress as it ships, in the gateway for plugins with a real Redis: what it does among other streams,
//! workers and configurations. What it decides for each request is in `cases/`.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use slidegate_higress_host::{Exchange, Gateway, Metric, Plugin, Request, StreamId, Upstream, Worker, abi::Version};
use slidegate_tests::{
    oracle::Oracle,
    plugins::{gpustack, slidegate},
    redis_server::RedisServer,
    script_clock::ScriptClock,
};

const REDIS: &str = "outbound|6379||redis.dns";
const MINUTE_US: u64 = 60_000_000;
const START_US: u64 = 20_777 * 86_400 * 1_000_000;

fn limit(per_minute: u64) -> Value {
    json!({"rule_name": "r", "global_threshold": {"query_per_minute": per_minute},
        "redis": {"service_name": "redis.dns"}})
}

fn by_key(per_minute: u64) -> Value {
    json!({
        "rule_name": "r",
        "rule_items": [{"limit_by_per_header": "x-key", "limit_keys": [{"key": "*", "query_per_minute": per_minute}]}],
        "redis": {"service_name": "redis.dns", "timeout": 200},
        "show_limit_quota_header": true,
    })
}

fn plugin(config: &Value) -> Plugin {
    Plugin::new("slidegate", &slidegate(), config.to_string())
}

fn address(server: &RedisServer) -> SocketAddr {
    ([127, 0, 0, 1], server.port()).into()
}

fn gateway(config: &Value, server: &RedisServer) -> Gateway {
    let gateway = Gateway::new().redis(REDIS, &[address(server)]).plugin(plugin(config));
    gateway.start().unwrap_or_else(|error| panic!("{error}"))
}

fn get(key: &str) -> Request {
    Request::get("example.com", "/").with("x-key", key)
}

fn finished(worker: &mut Worker, stream: StreamId) -> Exchange {
    let exchange = worker.finish_exchange(stream, &Upstream::ok());
    assert!(!exchange.reset && exchange.misuse.is_empty(), "{exchange:?} {:?}", worker.log());
    assert_eq!((worker.failure(0), exchange.route_selections), (None, 1));
    exchange
}

fn status(worker: &mut Worker, request: &Request) -> u16 {
    let stream = worker.send(request);
    finished(worker, stream).status()
}

fn counted(gateway: &Gateway, ending: &str) -> u64 {
    let count = |name: &String| match gateway.metric(name) {
        Some(Metric::Counter(count)) => count,
        other => panic!("{name} is {other:?}"),
    };
    gateway.metrics().iter().filter(|name| name.ends_with(ending)).map(count).sum()
}

fn log(worker: &Worker) -> String {
    worker.log().iter().map(|line| format!("{:?} {}\n", line.level, line.text)).collect()
}

/// The same numbers each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn it_is_built_for_the_interface_that_every_gateway_has() {
    assert_eq!(slidegate().version(), Version::V0_2_1);
}

#[test]
fn two_workers_with_interleaved_streams_keep_every_window_and_agree_on_what_is_left() {
    const LIMIT: u64 = 40;
    let server = RedisServer::start();
    let gateway = gateway(&by_key(LIMIT), &server);
    let mut workers = [gateway.worker().unwrap(), gateway.worker().unwrap()];
    let clock = ScriptClock::default();
    workers.iter_mut().for_each(|worker| worker.intercept(clock.clone()));
    let mut dice = Dice(7);
    let (mut now_us, mut oracles, mut sent, mut admitted) =
        (START_US, [Oracle::default(), Oracle::default(), Oracle::default()], 0, 0);
    while now_us < START_US + 6 * MINUTE_US {
        now_us += dice.below(4_000_000);
        clock.set(now_us);
        workers.iter_mut().for_each(|worker| worker.set_clock_ns(now_us * 1_000));
        // A burst on both workers, all of it waiting before any reply is delivered.
        let burst: Vec<_> = (0..1 + dice.below(12)).map(|_| (dice.below(2) as usize, dice.below(3) as usize)).collect();
        let streams: Vec<_> =
            burst.iter().map(|&(worker, key)| (worker, key, workers[worker].send(&get(&key.to_string())))).collect();
        let mut refused = [false; 3];
        for (worker, key, stream) in streams {
            sent += 1;
            if finished(&mut workers[worker], stream).status() == 200 {
                admitted += 1;
                oracles[key].admit(now_us, 1);
            } else {
                refused[key] = true;
            }
        }
        for (oracle, refused) in oracles.iter().zip(refused) {
            assert!(oracle.admitted_within(now_us, MINUTE_US - 1) <= LIMIT);
            // A limit this small is exact, to the microsecond.
            assert!(!refused || oracle.admitted_within(now_us, MINUTE_US + 1) == LIMIT, "refused with room left");
        }
    }
    assert!(oracles.iter().all(|oracle| oracle.greatest_in_any(MINUTE_US - 1) == LIMIT), "the load reaches the limit");
    // The plugin tells what it counted at its tick.
    workers.iter_mut().for_each(|worker| {
        worker.set_clock_ns((now_us + 2_000_000) * 1_000);
        worker.pump();
    });
    let refused = counted(&gateway, "decision.refused.metric.slidegate_decisions_total");
    assert_eq!(
        (counted(&gateway, "decision.admitted.metric.slidegate_decisions_total"), refused),
        (admitted, sent - admitted)
    );
    assert!(refused > 0);

    clock.set(now_us + 3 * MINUTE_US);
    workers.iter_mut().for_each(|worker| worker.set_clock_ns((now_us + 3 * MINUTE_US) * 1_000));
    for turn in 0..LIMIT {
        let worker = &mut workers[turn as usize % 2];
        let stream = worker.send(&get("0"));
        assert_eq!(finished(worker, stream).header("x-ratelimit-remaining"), Some((LIMIT - 1 - turn).to_string()));
    }
    assert!(workers.iter_mut().all(|worker| status(worker, &get("0")) == 429));
}

#[test]
fn each_of_many_waiting_streams_gets_its_own_outcome() {
    let server = RedisServer::start();
    let mut worker = gateway(&by_key(1), &server).worker().unwrap();
    server.pause();
    let streams: Vec<_> = (0..200).map(|index| (index, worker.send(&get(&(index % 100).to_string())))).collect();
    assert!(streams.iter().all(|(_, stream)| worker.upstream(*stream).is_none() && !worker.is_over(*stream)));
    server.resume();
    let mut passed = vec![0; 100];
    for (index, stream) in streams {
        let seen = finished(&mut worker, stream);
        passed[index % 100] += usize::from(seen.status() == 200);
        assert_eq!(seen.upstream_header("x-key"), (seen.status() == 200).then(|| (index % 100).to_string()));
    }
    assert_eq!(passed, vec![1; 100]);
    assert_eq!(worker.contexts(0), 0);
}

#[test]
fn a_body_that_comes_while_redis_is_asked_goes_on_whole_or_nowhere() {
    let server = RedisServer::start();
    let mut worker = gateway(&limit(1), &server).worker().unwrap();
    let post = Request::post("example.com", "/", "text/plain", &["first,", "second,", "third"]);
    let stream = worker.send(&post);
    assert!(worker.upstream(stream).is_none());
    assert_eq!(finished(&mut worker, stream).upstream.unwrap().body, b"first,second,third");
    let stream = worker.send(&post);
    let refused = finished(&mut worker, stream);
    assert_eq!(
        (refused.status(), refused.details.as_str(), refused.upstream),
        (429, "cluster-key-rate-limit.rejected", None)
    );
}

#[test]
fn streams_that_leave_while_they_wait_take_nothing_with_them() {
    let server = RedisServer::start();
    let mut worker = gateway(&by_key(100), &server).worker().unwrap();
    for _ in 0..5 {
        let streams: Vec<_> = (0..40).map(|_| worker.send(&get("a"))).collect();
        for stream in streams.iter().step_by(2) {
            worker.abort(*stream);
            assert!(worker.close(*stream).unwrap().upstream.is_none());
        }
        for stream in streams.iter().skip(1).step_by(2) {
            finished(&mut worker, *stream);
        }
        assert!(worker.wait(Duration::from_secs(10), |worker| worker.pending() == 0));
    }
    assert_eq!((worker.failure(0), worker.contexts(0)), (None, 0));
}

#[test]
fn one_command_that_takes_too_long_fails_its_neighbours_by_the_failure_mode_and_is_told_once() {
    let server = RedisServer::start();
    for (mode, expected) in [("open", 200), ("closed", 503)] {
        let mut config = by_key(1);
        config["failure_mode"] = mode.into();
        let mut worker = gateway(&config, &server).worker().unwrap();
        server.pause();
        let streams: Vec<_> = (0..32).map(|index| worker.send(&get(&format!("{mode}{index}")))).collect();
        for stream in streams {
            assert_eq!(finished(&mut worker, stream).status(), expected);
        }
        server.resume();
        let told = log(&worker);
        assert_eq!(told.matches("fails (timeout)").count(), 1, "{told}");
        assert!(told.contains("redis.dns"), "{told}");
    }
}

#[test]
fn a_worker_outlives_its_redis() {
    let mut server = RedisServer::start();
    let mut worker = gateway(&by_key(1), &server).worker().unwrap();
    assert_eq!([status(&mut worker, &get("a")), status(&mut worker, &get("a"))], [200, 429]);
    server.kill();
    let down: Vec<_> = (0..20).map(|index| status(&mut worker, &get(&format!("down{index}")))).collect();
    assert_eq!(down, [200; 20], "{}", log(&worker));
    server.restart_empty();
    let limits_again = (0..2_000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        status(&mut worker, &get("b")) == 429
    });
    assert!(limits_again, "{}", log(&worker));
}

#[test]
fn a_password_and_a_database_are_used_and_a_wrong_password_is_told_as_such() {
    let server = RedisServer::start_with(&["--requirepass", "secret"]);
    let config = |password: &str| {
        let mut config = limit(1);
        config["redis"] = json!({"service_name": "redis.dns", "password": password, "database": 5});
        config
    };
    let mut worker = gateway(&config("secret"), &server).worker().unwrap();
    assert_eq!([status(&mut worker, &get("a")), status(&mut worker, &get("a"))], [200, 429]);
    let client = redis::Client::open(format!("redis://:secret@127.0.0.1:{}/5", server.port())).unwrap();
    let size: u64 = redis::cmd("DBSIZE").query(&mut client.get_connection().unwrap()).unwrap();
    assert_eq!(size, 1);
    let mut worker = gateway(&config("wrong"), &server).worker().unwrap();
    assert_eq!([status(&mut worker, &get("a")), status(&mut worker, &get("a"))], [200, 200]);
    let told = log(&worker);
    assert!(told.contains("auth") && !told.contains("wrong") && !told.contains("secret"), "{told}");
}

#[test]
fn a_new_configuration_leaves_no_waiting_stream_behind_and_a_bad_one_changes_nothing() {
    let server = RedisServer::start();
    let mut worker = gateway(&limit(3), &server).worker().unwrap();
    server.pause();
    let waiting: Vec<_> = (0..4).map(|_| worker.send(&get("a"))).collect();
    // The same cluster is told again, so what waits has failed, and passes.
    worker.reconfigure(0, limit(5).to_string()).unwrap();
    server.resume();
    for stream in waiting {
        assert_eq!(finished(&mut worker, stream).status(), 200);
    }
    let refused = worker.reconfigure(0, json!({"rule_name": "r", "global_treshold": {}}).to_string()).unwrap_err();
    assert!(refused.to_string().contains("global_threshold"), "{refused}");
    let passed = (0..8).filter(|_| status(&mut worker, &get("a")) == 200).count();
    assert!(passed <= 5, "{passed} passed a limit of 5");
    assert_eq!(status(&mut worker, &get("a")), 429);
    // Twice the same, as each start of a gateway does.
    worker.reconfigure(0, limit(5).to_string()).unwrap();
    assert_eq!(status(&mut worker, &get("a")), 429);
    assert_eq!(worker.contexts(0), 0);
}

#[test]
fn two_plugins_of_the_same_image_in_one_vm_keep_to_their_own_configurations() {
    let server = RedisServer::start();
    let mut other = by_key(1);
    other["rule_name"] = "other".into();
    let gateway = Gateway::new().redis(REDIS, &[address(&server)]).plugin(plugin(&limit(3))).plugin(plugin(&other));
    let mut worker = gateway.start().unwrap_or_else(|error| panic!("{error}")).worker().unwrap();
    assert_eq!(worker.memory_bytes(0), worker.memory_bytes(1));
    let seen: Vec<_> = ["a", "a", "b", "c", "d"].map(|key| status(&mut worker, &get(key))).to_vec();
    assert_eq!(seen, [200, 429, 200, 429, 429], "{}", log(&worker));
}

#[test]
fn answers_of_plugins_behind_carry_the_quota_and_those_of_plugins_before_do_not() {
    let server = RedisServer::start();
    let acl = json!({"consumers": {"denied": {"deniedCidrs": ["0.0.0.0/0"]}}}).to_string();
    let acl = Plugin::new("gpustack-ip-acl", &gpustack("gpustack-ip-acl"), acl);
    for (plugins, remaining) in [([plugin(&by_key(9)), acl.clone()], Some("8")), ([acl, plugin(&by_key(9))], None)] {
        let gateway = plugins.into_iter().fold(Gateway::new().redis(REDIS, &[address(&server)]), Gateway::plugin);
        let mut worker = gateway.start().unwrap_or_else(|error| panic!("{error}")).worker().unwrap();
        let stream = worker.send(&get("a").with("x-mse-consumer", "denied"));
        let denied = finished(&mut worker, stream);
        assert_eq!((denied.status(), denied.details.as_str()), (403, "gpustack.ip.acl.rejected"));
        assert_eq!(denied.header("x-ratelimit-remaining").as_deref(), remaining);
    }
}

#[test]
fn a_configuration_that_is_refused_names_what_is_wrong() {
    for (config, named) in [
        ("", "empty"),
        ("{", "JSON"),
        ("[]", "object"),
        (r#"{"rule_name": "r", "redis": {"service_name": "redis.dns"}}"#, "global_threshold"),
        (
            r#"{"rule_name": "r", "global_threshold": {"query_per_second": 0}, "redis": {"service_name": "redis.dns"}}"#,
            "query_per_second",
        ),
        (r#"{"rule_name": "r", "global_threshold": {"query_per_second": 1}, "redis": {}}"#, "service_name"),
    ] {
        let error = Gateway::new()
            .plugin(Plugin::new("slidegate", &slidegate(), config))
            .start()
            .expect_err(config)
            .to_string();
        assert!(error.contains("`proxy_on_configure` refused") && error.contains(named), "{config}: {error}");
    }
}

/// A stream of OpenAI's that tells its usage, cut into pieces of so many bytes.
fn streamed(worker: &mut Worker, stream: StreamId, tokens: u64, split: usize) -> Vec<u8> {
    let delta = r#"data: {"choices":[{"index":0,"delta":{"content":"\"usage\": 9 "}}],"usage":null}"#;
    let delta = format!("{delta}\n\n").repeat(20);
    let usage = format!("{{\"prompt_tokens\":10,\"completion_tokens\":{tokens},\"total_tokens\":{}}}", tokens + 10);
    let body = format!("{delta}data: {{\"choices\":[],\"usage\":{usage}}}\n\ndata: [DONE]\n\n").into_bytes();
    let headers = [(":status", "200"), ("content-type", "text/event-stream")].into_iter().collect();
    worker.response_headers(stream, &headers, false);
    body.chunks(split).for_each(|piece| worker.response_body(stream, piece, false));
    worker.response_body(stream, b"", true);
    body
}

#[test]
fn tokens_are_reserved_and_settled_over_workers_however_answers_are_split() {
    let server = RedisServer::start();
    let document = json!({
        "rule_name": "r",
        "rule_items": [{"limit_by_per_header": "x-key", "limit_keys": [{"key": "*", "token_per_hour": 1_000}]}],
        "redis": {"service_name": "redis.dns", "timeout": 200},
        "reserve": 100,
        "headers": ["x-ratelimit-tokens", "retry-after"],
        "error_format": "auto",
    });
    let gateway = gateway(&document, &server);
    let mut workers = [gateway.worker().unwrap(), gateway.worker().unwrap()];
    let chat = || {
        Request::post("example.com", "/v1/chat/completions", "application/json", &["{\"stream\":true}"])
            .with("x-key", "a")
    };
    workers.iter_mut().for_each(|worker| worker.set_clock_ns(START_US * 1_000));
    // Twenty at once on a budget for ten.
    let asked: Vec<_> = (0..20).map(|turn| (turn % 2, workers[turn % 2].send(&chat()))).collect();
    let (open, refused): (Vec<_>, Vec<_>) =
        asked.into_iter().partition(|(worker, stream)| workers[*worker].wait_for_upstream(*stream));
    assert_eq!((open.len(), refused.len()), (10, 10));
    for (worker, stream) in refused {
        let answer = workers[worker].client(stream).expect("a refusal");
        let body: Value = serde_json::from_slice(&answer.body).expect("OpenAI's error");
        assert_eq!(body["error"]["code"], "rate_limit_exceeded");
        assert!(answer.headers.get("retry-after").is_some());
    }
    for (turn, (worker, stream)) in open.into_iter().enumerate() {
        let worker = &mut workers[worker];
        let sent = worker.upstream(stream).expect("it went on");
        assert_eq!(sent.headers.text("accept-encoding").as_deref(), Some("identity"), "what comes can be read");
        let body = streamed(worker, stream, 20, [1, 7, 64, 100_000][turn % 4]);
        let answer = worker.client(stream).expect("an answer");
        assert!(answer.complete && answer.body == body, "it passes as it is");
        assert_eq!(worker.close(stream).map(|exchange| exchange.misuse), Some(Vec::new()));
    }
    // They took 30 each, and what was reserved beyond is free again.
    for worker in &mut workers {
        // What was settled at once, and then what waited.
        for now_us in [START_US, START_US + 2_000_000] {
            worker.set_clock_ns(now_us * 1_000);
            worker.pump();
            while worker.pending() > 0 {
                worker.pump();
            }
        }
    }
    let stream = workers[0].send(&chat());
    assert!(workers[0].wait_for_upstream(stream));
    streamed(&mut workers[0], stream, 20, 100);
    let answer = workers[0].client(stream).expect("an answer");
    assert_eq!(answer.headers.text("x-ratelimit-remaining-tokens").as_deref(), Some("600"));
}
