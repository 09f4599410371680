//! What is counted beside decisions and calls.

use super::*;

fn values(engine: &mut Engine, name: &str) -> Vec<String> {
    recorded(engine, |metric| metric.name == name)
}

#[test]
fn calls_and_waits_are_timed() {
    let mut engine = plain_engine();
    engine.on_request(1, &request(), MS);
    send_all(&mut engine, 3 * MS, |_, _| Ok(1));
    engine.on_reply(1, admitted(1), 10 * MS);
    let timed = recorded(&mut engine, |metric| metric.kind == MetricKind::Histogram);
    assert_eq!(
        timed,
        ["slidegate_redis_call_duration_seconds redis.static 7000", "slidegate_decision_duration_seconds r 9000"]
    );
}

#[test]
fn the_breakers_gauge_says_whether_it_is_open() {
    let mut engine = plain_engine();
    let ask = |engine: &mut Engine, now_ns: u64, reply: Result<Reply, CallError>| {
        engine.on_request(1, &request(), now_ns);
        send_all(engine, now_ns, |_, _| Ok(1));
        engine.on_reply(1, reply, now_ns);
        values(engine, "slidegate_redis_breaker_open")
    };
    for _ in 1..crate::store::circuit_breaker::FAILURES_MAX {
        assert_eq!(ask(&mut engine, 0, Err(CallError::Connect)), [""; 0]);
    }
    assert_eq!(ask(&mut engine, 0, Err(CallError::Connect)), ["slidegate_redis_breaker_open redis.static 1"]);
    assert_eq!(ask(&mut engine, 60 * MS, Err(CallError::Connect)), [""; 0]);
    assert_eq!(ask(&mut engine, 600 * MS, admitted(1)), ["slidegate_redis_breaker_open redis.static 0"]);
    assert_eq!(ask(&mut engine, 600 * MS, admitted(1)), [""; 0]);
}

#[test]
fn a_key_of_the_wrong_type_closes_an_open_breaker() {
    let mut engine = plain_engine();
    let ask = |engine: &mut Engine, now_ns: u64, reply: Result<Reply, CallError>| {
        let step = engine.on_request(1, &request(), now_ns);
        send_all(engine, now_ns, |_, _| Ok(1));
        engine.on_reply(1, reply, now_ns);
        verdicts(engine);
        step
    };
    let wrong = || Ok(Reply::Error("WRONGTYPE Operation, key slidegate:{r:global_threshold}:1".into()));
    for _ in 0..100 {
        assert_eq!(ask(&mut engine, 0, wrong()), Step::Wait, "Redis is well");
    }
    for _ in 0..crate::store::circuit_breaker::FAILURES_MAX {
        ask(&mut engine, 1_000 * MS, Err(CallError::Connect));
    }
    assert_eq!(ask(&mut engine, 1_000 * MS, admitted(1)), Step::Pass(Pass::default()), "it is open");
    assert_eq!(ask(&mut engine, 1_050 * MS, wrong()), Step::Wait, "a probe");
    assert_eq!(ask(&mut engine, 1_050 * MS, admitted(1)), Step::Wait);
}

#[test]
fn each_rule_of_a_decision_is_counted() {
    let item = |header: &str, dry: bool| {
        json!({"limit_by_per_header": header, "dry_run": dry,
        "limit_keys": [{"key": "*", "query_per_minute": 1}]})
    };
    let config = json!({
        "rule_name": "r", "rule_match": "all", "global_threshold": {"query_per_minute": 3},
        "rule_items": [item("a", false), item("b", false), item("dry", true)],
    });
    let mut engine = Engine::configure(config.to_string().as_bytes()).expect("the configuration is good");
    let mut counted = |headers: &[&'static str]| {
        let headers = headers.iter().map(|name| (*name, b"v".to_vec())).collect();
        engine.on_request(1, &Sample { headers, ..request() }, 0);
        let of_items =
            changes(&mut engine).into_iter().map(|(metric, _)| metric).filter(|metric| metric.name.contains("item"));
        of_items.map(|metric| format!("{} {}", metric.labels[1].1, metric.labels[2].1)).collect::<Vec<_>>()
    };
    assert_eq!(counted(&["a", "dry"]), ["global_threshold admitted", "1 admitted", "3 admitted"]);
    assert_eq!(counted(&["a", "b"]), ["1 refused"], "the others had room");
    assert_eq!(counted(&["b", "dry"]), ["global_threshold admitted", "2 admitted", "3 would_refuse"]);
    assert_eq!(counted(&[]), ["global_threshold admitted"]);
    assert_eq!(counted(&["a", "dry"]), ["global_threshold refused", "1 refused"]);
}

#[test]
fn who_would_refuse_for_what_is_missing_and_only_tries_is_counted() {
    let keys = json!([{"key": "*", "query_per_minute": 1}]);
    let item = |header: &str, rest: Json| {
        let mut item = json!({"limit_by_per_header": header, "limit_keys": keys});
        rest.as_object().into_iter().flatten().for_each(|(name, value)| item[name] = value.clone());
        item
    };
    let tries = item("absent", json!({"on_missing": "refuse", "dry_run": true}));
    let config = |items: Json, redis: bool| {
        let mut config = json!({"rule_name": "r", "rule_match": "all", "rule_items": items});
        if redis {
            config["redis"] = json!({"service_name": "redis.static"});
        }
        Engine::configure(config.to_string().as_bytes()).expect("the configuration is good")
    };
    let with_a = || Sample { headers: vec![("a", b"v".to_vec())], ..request() };
    let decisions = |engine: &mut Engine| {
        let decisions = changes(engine).into_iter().filter(|(metric, _)| metric.name.ends_with("decisions_total"));
        let labels =
            |metric: &Metric| metric.labels[1..].iter().map(|(_, value)| value.clone()).collect::<Vec<_>>().join(" ");
        decisions.map(|(metric, value)| format!("{} {value}", labels(&metric))).collect::<Vec<_>>()
    };
    let mut alone = config(json!([tries]), false);
    assert_eq!(alone.on_request(1, &request(), 0), Step::Pass(Pass::default()));
    assert_eq!(decisions(&mut alone), ["would_refuse 1", "1 would_refuse 1"]);
    let mut beside = config(json!([tries, item("a", json!({}))]), false);
    assert_eq!(beside.on_request(1, &with_a(), 0), Step::Pass(Pass::default()));
    assert_eq!(decisions(&mut beside), ["would_refuse 1", "2 admitted 1", "1 would_refuse 1"]);
    assert!(matches!(beside.on_request(2, &with_a(), 0), Step::Respond(_)));
    assert_eq!(decisions(&mut beside), ["refused 1", "2 refused 1"], "another rule refuses it");
    let mut asking = config(json!([tries, item("a", json!({}))]), true);
    assert_eq!(asking.on_request(1, &with_a(), 0), Step::Wait);
    send_all(&mut asking, 0, |_, _| Ok(1));
    asking.on_reply(1, admitted(1), MS);
    assert_eq!(decisions(&mut asking), ["would_refuse 1", "2 admitted 1", "1 would_refuse 1"]);
}

#[test]
fn a_line_names_the_rule_whose_key_is_wrong_and_no_value() {
    let by_key = json!([{"limit_by_per_header": "u", "limit_keys": [{"key": "*", "query_per_minute": 3}]}]);
    let mut engine = engine(json!({"global_threshold": {"query_per_minute": 9}, "rule_items": by_key}));
    let secret = Sample { headers: vec![("u", b"Bearer SECRET\n\xe2\x80\xa8".to_vec())], ..request() };
    let mut key = String::new();
    engine.on_request(1, &secret, 0);
    send_all(&mut engine, 0, |_, command| {
        key = String::from_utf8_lossy(command.words().nth(4).unwrap()).into_owned();
        Ok(1)
    });
    assert!(key.contains("SECRET"));
    engine.on_reply(1, Ok(Reply::Error(format!("WRONGTYPE Operation against a key, key {key}"))), 0);
    let said = lines(&mut engine);
    assert!(said.len() == 1 && said[0].contains("rule r, item 1") && !said[0].contains("SECRET"), "{said:?}");
}

#[test]
fn no_line_can_be_broken_by_what_redis_says() {
    let mut engine = plain_engine();
    for text in ["ERR a\rb", "ERR c\u{2028}d", "ERR e\u{9b}31mf", "ERR g\n[error] h", "ERR i\u{202e}j"] {
        engine.on_request(1, &request(), 0);
        send_all(&mut engine, 0, |_, _| Ok(1));
        engine.on_reply(1, Ok(Reply::Error(text.into())), 0);
    }
    for line in lines(&mut engine) {
        assert!(!line.contains(crate::is_unprintable), "{line:?}");
    }
}
