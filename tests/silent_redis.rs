//! A Redis that takes commands and answers none, and strangers who send all they can meanwhile: the component, with the
//! memory that the host gives it, neither traps nor forgets what it limits.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, Method};
use slidegate::{
    CallError, CallReply, HttpRequest, Instance, Module, Moment, RedisDirectory, Step, Verdict, Worker, WorkerOptions,
};
use slidegate_tests::redis_server::RedisServer;
use tokio::runtime::Builder;

/// The longest value that is spelt out in a key, of bytes that take three each there.
const VALUE_BYTES: usize = 256;

const REQUESTS: u64 = 20_000;

/// How long a call may wait for its answer.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Logins are limited in memory; all else by a value of the client's in a Redis.
fn filter(mode: &str) -> String {
    format!(
        r#"{{"_rules_": [
            {{"_match_domain_": ["login.test"], "rule_name": "login", "global_threshold": {{"query_per_day": 3}}}},
            {{"_match_domain_": ["shop.test"], "rule_name": "shop", "failure_mode": "{mode}",
              "redis": {{"service_name": "redis.static", "timeout": {}}},
              "rule_items": [{{"limit_by_per_header": "x-key", "limit_keys": [{{"key": "*", "query_per_day": 3}}]}}]}}]}}"#,
        TIMEOUT.as_millis()
    )
}

fn instance(mode: &str) -> Instance {
    let mut instance = Instance::new(&Module::embedded().expect("the host carries it")).expect("it starts");
    instance.configure(filter(mode).as_bytes(), Moment::default()).expect("the configuration is good");
    instance
}

fn at(ns: u64) -> Moment {
    Moment { monotonic: ns, wall: ns }
}

/// The status of an answer, 0 for a pass, none for a request that waits.
fn ask(instance: &mut Instance, stream: u64, host: &str, value: &str, now_ns: u64) -> Option<u16> {
    let mut headers = HeaderMap::new();
    headers.insert("x-key", HeaderValue::from_str(value).expect("a header's value"));
    let uri = format!("http://{host}/").parse().expect("a URI");
    match instance
        .on_request(stream, Arc::new(HttpRequest::new(Method::GET, uri, headers)), at(now_ns))
        .expect("no trap")
    {
        Step::Pass(_) => Some(0),
        Step::Respond(response) => Some(response.status),
        Step::Wait => None,
    }
}

#[test]
fn twenty_thousand_waiting_requests_neither_trap_nor_reset_a_limit_in_memory() {
    for (mode, at_once) in [("open", 0), ("closed", 503), ("local", 0)] {
        let mut instance = instance(mode);
        let logins = |instance: &mut Instance, now_ns| {
            [1, 2, 3, 4].map(|stream| ask(instance, stream, "login.test", "", now_ns))
        };
        assert_eq!(logins(&mut instance, 0), [Some(0), Some(0), Some(0), Some(429)]);
        let (mut waiting, mut calls) = (0, Vec::new());
        for stream in 10..10 + REQUESTS {
            let value = format!("{stream:%>VALUE_BYTES$}");
            match ask(&mut instance, stream, "shop.test", &value, stream) {
                None => waiting += 1,
                Some(status) => assert_eq!(status, at_once, "{mode}"),
            }
            calls.extend(instance.take_calls().into_iter().map(|call| call.id));
        }
        assert!(waiting > 0 && waiting < REQUESTS / 2, "{mode}: {waiting}");
        // The host's limit is 64 MiB, and the windows that stand in take their part of it.
        assert!(instance.memory_bytes() < 50 << 20, "{mode}: {} bytes", instance.memory_bytes());
        assert_eq!(logins(&mut instance, 1_000_000_000), [Some(429); 4], "{mode}");
        let replies = calls.into_iter().map(|call| CallReply { call, reply: Err(CallError::Timeout) }).collect();
        instance.on_redis_replies(replies, at(1_000_000_000)).expect("no trap");
        assert_eq!(instance.take_outcomes().len() as u64, waiting, "{mode}: who waited is settled");
        assert_eq!(logins(&mut instance, 2_000_000_000), [Some(429); 4], "{mode}");
    }
}

#[test]
fn nor_do_as_many_who_wait_behind_one_call() {
    let mut instance = instance("open");
    let waiting =
        (0..10 * REQUESTS).filter(|stream| ask(&mut instance, *stream, "shop.test", "a", 0).is_none()).count();
    let calls = instance.take_calls();
    assert_eq!(calls.len(), 1);
    assert!(instance.memory_bytes() < 50 << 20, "{} bytes", instance.memory_bytes());
    let reply = CallReply { call: calls[0].id, reply: Err(CallError::Timeout) };
    instance.on_redis_replies(vec![reply], at(1)).expect("no trap");
    assert_eq!(instance.take_outcomes().len(), waiting);
}
/// One verdict by the host's worker, and how long it took.
async fn decide(worker: &Worker, host: &str, value: &str) -> (Option<u16>, Duration) {
    let mut headers = HeaderMap::new();
    headers.insert("x-key", HeaderValue::from_str(value).expect("a header's value"));
    let uri = format!("http://{host}/").parse().expect("a URI");
    let asked = Instant::now();
    let verdict = worker.open(Arc::new(HttpRequest::new(Method::GET, uri, headers))).on_request().await;
    let status = match verdict {
        Verdict::Pass(_) => None,
        Verdict::Respond(response) => Some(response.status),
    };
    (status, asked.elapsed())
}

/// Has the runtime for as long as a worker has it in one turn when many replies come, again and again: half of its
/// time.
async fn keep_busy() {
    loop {
        let until = Instant::now() + Duration::from_millis(2);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        tokio::task::yield_now().await;
    }
}

/// A Redis that was well falls silent; then as many requests as that come at once, on a runtime of one thread that has
/// other work too.
fn all_at_once(mode: &str, expected: Option<u16>, value: fn(u64) -> String) {
    let server = RedisServer::start();
    let mut directory = RedisDirectory::new();
    directory.insert_any(&server.url()).expect("a URL");
    let module = Module::embedded().expect("the host carries it");
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(async {
        let options = WorkerOptions::default().with_redis(directory);
        let worker = Worker::start(&module, filter(mode).as_bytes(), options).expect("the configuration is good");
        for expected in [None, None, None, Some(429)] {
            assert_eq!(decide(&worker, "login.test", "").await.0, expected);
        }
        assert_eq!(decide(&worker, "shop.test", "before").await.0, None);
        server.pause();
        let busy = tokio::spawn(keep_busy());
        let ask = |request| {
            let (worker, value) = (worker.clone(), value(request));
            tokio::spawn(async move { decide(&worker, "shop.test", &value).await })
        };
        let asked: Vec<_> = (0..REQUESTS).map(ask).collect();
        let (mut waited, mut longest) = (0, Duration::ZERO);
        for request in asked {
            let (status, took) = request.await.expect("no panic");
            assert_eq!(status, expected, "{mode}");
            waited += u64::from(took >= TIMEOUT / 2);
            longest = longest.max(took);
        }
        busy.abort();
        // The others found no room to wait, and were decided at once.
        assert!(waited >= REQUESTS / 4, "{mode}: {waited} waited for Redis");
        assert!(longest < TIMEOUT * 3 / 2, "{mode}: one waited for {longest:?}");
        assert!(worker.memory_bytes() < 50 << 20, "{mode}: {} bytes", worker.memory_bytes());
        assert_eq!((decide(&worker, "login.test", "").await.0, worker.traps()), (Some(429), 0), "{mode}");
    });
}

#[test]
fn calls_that_time_out_at_once_keep_their_deadlines_on_a_busy_runtime() {
    for (mode, expected) in [("open", None), ("closed", Some(503)), ("local", None)] {
        all_at_once(mode, expected, |request| format!("key-{request}"));
    }
}

#[test]
fn and_so_do_all_who_wait_behind_one_call() {
    all_at_once("open", None, |_| "one".to_owned());
}
