//! What a request would meet, told by the component with a real Redis behind it: nothing is charged, and what it tells
//! is what the script decides.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method};
use slidegate::{
    CallError, ExplainedVerdict, Explanation, HttpRequest, LimitState, Module, Question, RedisDirectory, Reply,
    RuleOutcome, Value, Verdict, Worker, WorkerOptions,
};
use slidegate_tests::redis_server::RedisServer;

const FILTER: &str = r#"{"rule_name": "r", "rule_match": "all", "redis": {"service_name": "redis.static"}, "rule_items": [
    {"limit_by_per_header": "x-key", "limit_keys": [{"key": "*", "query_per_minute": 5}]},
    {"limit_by_per_header": "x-other", "limit_keys": [{"key": "*", "query_per_minute": 5}]},
    {"limit_by_per_header": "x-many", "limit_keys": [{"key": "*", "query_per_hour": 1000}]}]}"#;

fn request() -> Arc<HttpRequest> {
    let mut headers = HeaderMap::new();
    for (name, value) in [("x-key", "a"), ("x-many", "b")] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Arc::new(HttpRequest::new(Method::GET, "/".parse().expect("a path"), headers))
}

/// Asks Redis as a tool would, past the filter.
fn answers(redis: &mut redis::Connection, questions: &[Question]) -> Vec<Result<Reply, CallError>> {
    let ask = |question: &Question| {
        let mut command = redis::Cmd::new();
        question.command.words().for_each(|word| {
            command.arg(word);
        });
        let bulk = |value| match value {
            redis::Value::BulkString(bytes) => Value::Bulk(bytes),
            other => panic!("{other:?}"),
        };
        Ok(match command.query(redis).expect("a question that changes nothing is answered") {
            redis::Value::Array(values) => Reply::Many(values.into_iter().map(bulk).collect()),
            single => Reply::Single(bulk(single)),
        })
    };
    questions.iter().map(ask).collect()
}

fn states(explanation: &Explanation) -> Vec<LimitState> {
    let rules = explanation.filters.iter().flat_map(|filter| &filter.rules);
    rules.flat_map(|rule| &rule.limits).map(|limit| limit.state.expect("its state is known")).collect()
}

#[tokio::test]
async fn what_it_tells_of_redis_is_what_the_script_decides_and_nothing_is_charged() {
    let server = RedisServer::start();
    let mut connection = server.connection();
    let mut directory = RedisDirectory::new();
    directory.insert_any(&server.url()).expect("a URL");
    let module = Module::embedded().expect("the host carries it");
    let options = WorkerOptions::default().with_redis(directory);
    let worker = Worker::start(&module, FILTER.as_bytes(), options).expect("the configuration is good");
    for sent in 0..=6_u64 {
        let unknown = worker.explain(request(), &[]).expect("an instance");
        let filter = &unknown.filters[0];
        assert_eq!(
            (filter.kind.as_str(), filter.policy.as_deref(), filter.verdict),
            ("limiter", Some(""), ExplainedVerdict::Depend)
        );
        assert!(
            matches!(&filter.rules[0].outcome, RuleOutcome::Applies(entry) if entry == "rule_items[0].limit_keys[0]")
        );
        assert!(matches!(&filter.rules[1].outcome, RuleOutcome::Skipped(_)));
        for _ in 0..3 {
            let known = worker.explain(request(), &answers(&mut connection, &unknown.questions)).expect("an instance");
            let [by_key, by_many] = states(&known)[..] else { panic!("{known:?}") };
            let used = sent.min(5);
            assert_eq!((by_key.used, by_key.left, by_many.used, by_many.left), (used, 5 - used, used, 1_000 - used));
            assert_eq!(by_many.room_after_us, 0);
            let verdict = if used < 5 { ExplainedVerdict::Pass } else { ExplainedVerdict::Respond };
            assert_eq!(
                (known.filters[0].verdict, by_key.room_after_us == 0, known.questions.len()),
                (verdict, used < 5, 0)
            );
            assert!(by_key.room_after_us <= 60_000_001, "{by_key:?}");
        }
        let passes = matches!(worker.open(request()).on_request().await, Verdict::Pass(_));
        assert_eq!(passes, sent < 5, "as it was told");
    }
}

#[tokio::test]
async fn the_configuration_says_what_it_needs_of_requests() {
    let module = Module::embedded().expect("the host carries it");
    let worker =
        Worker::start(&module, FILTER.as_bytes(), WorkerOptions::default()).expect("the configuration is good");
    let uses = &worker.configuration().uses;
    assert_eq!(uses.parts, slidegate::Parts::empty());
    let slidegate::HeaderNames::Named(names) = &uses.headers else { panic!("{uses:?}") };
    assert_eq!(names, &["content-type", "x-key", "x-many", "x-other"]);
    let cache = br#"{"filters": [{"cache": {"redis": {"service_name": "redis.static"}}}]}"#;
    let worker = Worker::start(&module, cache, WorkerOptions::default()).expect("the configuration is good");
    let uses = &worker.configuration().uses;
    // Pages of `http` and `https` are not the same, and what a body says is not part of a key.
    assert!(uses.parts.contains(slidegate::Parts::SCHEME | slidegate::Parts::HAS_BODY), "{uses:?}");
    assert!(matches!(uses.headers, slidegate::HeaderNames::All), "{uses:?}");
}

#[tokio::test]
async fn a_limit_behind_a_session_is_told_by_whose_it_is() {
    let filters = r#"{"filters": [
        {"session": {"format": "json", "cookie": "sid", "key_prefix": "s:", "fields": {"user": "x-user"},
            "redis": {"service_name": "redis.static"}}},
        {"rule_name": "r", "redis": {"service_name": "redis.static"}, "rule_items": [
            {"limit_by_per_session": "user", "limit_keys": [{"key": "*", "query_per_minute": 5}]}]}]}"#;
    let server = RedisServer::start();
    let mut connection = server.connection();
    server.tell(&["SET", "s:a", r#"{"user": "alice"}"#]);
    let mut directory = RedisDirectory::new();
    directory.insert_any(&server.url()).expect("a URL");
    let module = Module::embedded().expect("the host carries it");
    let options = WorkerOptions::default().with_redis(directory);
    let worker = Worker::start(&module, filters.as_bytes(), options).expect("the configuration is good");
    let request = |cookie: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert("cookie", HeaderValue::from_static(cookie));
        headers.insert("x-user", HeaderValue::from_static("alice"));
        Arc::new(HttpRequest::new(Method::GET, "/".parse().expect("a path"), headers))
    };
    assert!(matches!(worker.open(request("sid=a")).on_request().await, Verdict::Pass(_)));
    for (cookie, rounds, limits) in [("sid=a", 3, 1), ("sid=b", 2, 0), ("", 1, 0)] {
        let (mut replies, mut asked) = (Vec::new(), 0);
        let told = loop {
            asked += 1;
            let told = worker.explain(request(cookie), &replies).expect("an instance");
            if told.questions.is_empty() {
                break told;
            }
            replies.extend(answers(&mut connection, &told.questions));
        };
        let kinds: Vec<_> = told.filters.iter().map(|filter| (filter.kind.as_str(), filter.verdict)).collect();
        assert_eq!(kinds, [("session", ExplainedVerdict::Pass), ("limiter", ExplainedVerdict::Pass)], "{cookie}");
        let used: Vec<u64> = states(&told).iter().map(|state| state.used).collect();
        assert_eq!((asked, used), (rounds, vec![1; limits]), "{cookie}");
    }
}
