//! A Redis that takes commands and answers none, and strangers who send all they can meanwhile: the component, with the memory that the host
//! gives it, neither traps nor forgets what it limits.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method};
use slidegate::{CallError, HttpRequest, Instance, Module, Step, Verdict};

/// The longest value that is spelt out in a key, of bytes that take three each there.
const VALUE_BYTES: usize = 256;

const REQUESTS: u64 = 20_000;

/// Logins are limited in memory; all else by a value of the client's in a Redis.
fn instance(mode: &str) -> Instance {
    let config = format!(
        r#"{{"_rules_": [
            {{"_match_domain_": ["login.test"], "rule_name": "login", "global_threshold": {{"query_per_day": 3}}}},
            {{"_match_domain_": ["shop.test"], "rule_name": "shop", "failure_mode": "{mode}", "redis": {{"service_name": "redis.static"}},
              "rule_items": [{{"limit_by_per_header": "x-key", "limit_keys": [{{"key": "*", "query_per_day": 3}}]}}]}}]}}"#
    );
    let mut instance = Instance::new(&Module::embedded().expect("the host carries it")).expect("it starts");
    instance.configure(config.as_bytes()).expect("the configuration is good");
    instance
}

/// The status of an answer, 0 for a pass, none for a request that waits.
fn ask(instance: &mut Instance, stream: u64, host: &str, value: &str, now_ns: u64) -> Option<u16> {
    let mut headers = HeaderMap::new();
    headers.insert("x-key", HeaderValue::from_str(value).expect("a header's value"));
    let uri = format!("http://{host}/").parse().expect("a URI");
    match instance.on_request(stream, Arc::new(HttpRequest::new(Method::GET, uri, headers)), now_ns).expect("no trap") {
        Step::Done(Verdict::Pass(_)) => Some(0),
        Step::Done(Verdict::Respond(response)) => Some(response.status),
        Step::Wait => None,
    }
}

#[test]
fn twenty_thousand_waiting_requests_neither_trap_nor_reset_a_limit_in_memory() {
    for (mode, at_once) in [("open", 0), ("closed", 503), ("local", 0)] {
        let mut instance = instance(mode);
        let logins = |instance: &mut Instance, now_ns| [1, 2, 3, 4].map(|stream| ask(instance, stream, "login.test", "", now_ns));
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
        for call in calls {
            instance.on_redis_reply(call, Err(CallError::Timeout), 1_000_000_000).expect("no trap");
        }
        assert_eq!(instance.take_outcomes().len() as u64, waiting, "{mode}: who waited is settled");
        assert_eq!(logins(&mut instance, 2_000_000_000), [Some(429); 4], "{mode}");
    }
}

#[test]
fn nor_do_as_many_who_wait_behind_one_call() {
    let mut instance = instance("open");
    let waiting = (0..10 * REQUESTS).filter(|stream| ask(&mut instance, *stream, "shop.test", "a", 0).is_none()).count();
    let calls = instance.take_calls();
    assert_eq!(calls.len(), 1);
    assert!(instance.memory_bytes() < 50 << 20, "{} bytes", instance.memory_bytes());
    instance.on_redis_reply(calls[0].id, Err(CallError::Timeout), 1).expect("no trap");
    assert_eq!(instance.take_outcomes().len(), waiting);
}
