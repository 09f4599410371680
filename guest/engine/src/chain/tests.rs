//! The state machine, driven by hand: every order in which replies, ends and reused ids can come.

mod bounds;
mod cache;
mod calls;
mod filters;
mod following;
mod metrics;
mod own_sessions;
mod sessions;
mod two;
mod vaults;

use alloc::{
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use serde_json::{Value as Json, json};

use super::*;
use crate::{
    redis::Value,
    rule::samples::Sample,
    telemetry::{MetricKind, MetricValue},
    verdict::{Edits, HeaderEdit},
};

const MS: u64 = 1_000_000;

fn engine(extra: Json) -> Engine {
    let mut config = json!({"rule_name": "r", "global_threshold": {"query_per_second": 2},
        "redis": {"service_name": "redis.static"}});
    if let (Some(config), Json::Object(extra)) = (config.as_object_mut(), extra) {
        config.extend(extra);
    }
    Engine::configure(config.to_string().as_bytes()).expect("the configuration is good")
}

/// One that asks Redis about each request alone.
fn plain_engine() -> Engine {
    engine(json!({"remember_refusals": false, "coalesce": false}))
}

fn request() -> Sample {
    Sample { authority: Some(b"example.test".to_vec()), ..Sample::default() }
}

/// Hands each command that is due to `send`, as an adapter does.
fn send_all(engine: &mut Engine, now_ns: u64, mut send: impl FnMut(u32, &Command) -> Result<u64, CallError>) {
    while let Some((service, command)) = engine.next_command(now_ns) {
        let sent = send(service, &command);
        engine.called(sent, now_ns);
    }
}

/// Dispatches what is queued, naming calls 100, 101, ...; returns the commands' names.
fn dispatch(engine: &mut Engine, first: u64) -> Vec<String> {
    let mut sent = Vec::new();
    send_all(engine, 0, |service, command| {
        assert_eq!(service, 0);
        sent.push(String::from_utf8_lossy(command.words().next().unwrap()).into_owned());
        Ok(first + sent.len() as u64 - 1)
    });
    sent
}

/// What the script returns for one limit: how many are admitted, Redis' clock, room, reset, retry.
fn doubles(numbers: [i64; 5]) -> Result<Reply, CallError> {
    Ok(Reply::Single(Value::Bulk(numbers.iter().flat_map(|number| (*number as f64).to_be_bytes()).collect())))
}

fn admitted(remaining: i64) -> Result<Reply, CallError> {
    doubles([1, 0, remaining + 1, 1_000_000, 0])
}

fn refused(retry_us: i64) -> Result<Reply, CallError> {
    doubles([0, 0, 0, retry_us, retry_us])
}

/// Shows no request again: for an engine of one filter, that never needs it.
struct Gone;

impl Requests for Gone {
    type View = Sample;

    fn view(&self, _: u64) -> Option<Self::View> {
        None
    }
}

/// The streams that were settled, in order, and how.
fn verdicts(engine: &mut Engine) -> Vec<(u64, Verdict)> {
    verdicts_among(engine, &Gone)
}

fn verdicts_among(engine: &mut Engine, requests: &impl Requests) -> Vec<(u64, Verdict)> {
    let mut effects: Vec<Effect> = engine.effects.drain(..).collect();
    while let Some((waiter, settled)) = engine.shared.settled.pop_front() {
        effects.extend(engine.settle(waiter, settled, requests, 0));
        effects.extend(engine.effects.drain(..));
    }
    let settled = |effect| match effect {
        Effect::Settle { stream, verdict } => Some((stream, verdict)),
        _ => None,
    };
    effects.into_iter().filter_map(settled).collect()
}

/// A pass that changes nothing.
fn pass() -> Verdict {
    Verdict::Pass(Pass::default())
}

/// One that sets these headers of the response.
fn pass_with<const N: usize>(headers: [(&str, &str); N]) -> Pass {
    let response = headers.map(|(name, value)| HeaderEdit::Set(name.into(), value.into()));
    Edits { response: response.into(), ..Edits::default() }.into()
}

/// The counters raised, but those of single rules.
fn raised(engine: &mut Engine) -> Vec<String> {
    recorded(engine, |metric| metric.kind == MetricKind::Counter && metric.name != "slidegate_item_decisions_total")
}

fn recorded(engine: &mut Engine, is_wanted: impl Fn(&Metric) -> bool) -> Vec<String> {
    let spelt = |(metric, value): &(Metric, u64)| {
        is_wanted(metric).then(|| format!("{} {} {value}", metric.name, metric.labels.last().unwrap().1))
    };
    changes(engine).iter().filter_map(spelt).collect()
}

/// The metrics that changed, and by how much; gauges, what they are; histograms, the sum of their values.
fn changes(engine: &mut Engine) -> Vec<(Metric, u64)> {
    let changes = engine.take_metrics();
    let value = |value: &MetricValue| match value {
        MetricValue::Counter(value) | MetricValue::Gauge(value) => *value,
        MetricValue::Histogram(buckets) => buckets.iter().map(|bucket| bucket.sum_us).sum(),
    };
    changes.iter().map(|change| (engine.metrics()[change.metric].clone(), value(&change.value))).collect()
}

fn lines(engine: &mut Engine) -> Vec<String> {
    core::iter::from_fn(|| engine.shared.telemetry.take_line()).map(|(_, line)| line).collect()
}

#[test]
fn a_stream_waits_for_its_own_reply() {
    let mut engine = plain_engine();
    for stream in [1, 2, 3] {
        assert_eq!(engine.on_request(stream, &request(), 0), Step::Wait);
    }
    assert_eq!(dispatch(&mut engine, 100), ["EVALSHA"; 3]);
    engine.on_reply(102, refused(900_000), MS);
    engine.on_reply(100, admitted(1), MS);
    let settled = verdicts(&mut engine);
    assert_eq!(settled[1], (1, pass()));
    let (3, Verdict::Respond(response)) = &settled[0] else { panic!("{settled:?}") };
    assert_eq!((response.status, &response.body[..]), (429, &b"Too many requests"[..]));
    assert_eq!(response.headers, [("x-ratelimit-reset".into(), "1".into())]);
    assert_eq!(response.details, "cluster-key-rate-limit.rejected");
    assert_eq!(
        raised(&mut engine),
        [
            "slidegate_redis_calls_total redis.static 3",
            "slidegate_decisions_total refused 1",
            "slidegate_decisions_total admitted 1"
        ]
    );
}

#[test]
fn a_reply_is_applied_once_and_an_unknown_one_never() {
    let mut engine = engine(json!({}));
    engine.on_request(1, &request(), 0);
    dispatch(&mut engine, 100);
    engine.on_reply(7, admitted(1), 0);
    assert!(verdicts(&mut engine).is_empty());
    engine.on_reply(100, admitted(1), 0);
    engine.on_reply(100, refused(1), 0);
    assert_eq!(verdicts(&mut engine), [(1, pass())]);
}

#[test]
fn a_reply_for_a_stream_that_left_does_not_settle_its_successor() {
    let mut engine = plain_engine();
    engine.on_request(1, &request(), 0);
    dispatch(&mut engine, 100);
    engine.on_done(1, StreamEnd::Client, 0);
    assert_eq!(engine.on_request(1, &request(), 0), Step::Wait);
    dispatch(&mut engine, 200);
    engine.on_reply(100, refused(1), 0);
    assert!(verdicts(&mut engine).is_empty(), "the first stream is gone, the second waits for its own reply");
    engine.on_reply(200, admitted(0), 0);
    assert_eq!(verdicts(&mut engine), [(1, pass())]);
}

#[test]
fn an_unknown_script_is_sent_once_by_its_text() {
    let mut engine = engine(json!({}));
    engine.on_request(1, &request(), 0);
    assert_eq!(dispatch(&mut engine, 100), ["EVALSHA"]);
    let noscript = || Ok(Reply::Error("NOSCRIPT No matching script.".into()));
    engine.on_reply(100, noscript(), 0);
    assert_eq!(dispatch(&mut engine, 101), ["EVAL"]);
    engine.on_reply(101, admitted(1), 0);
    assert_eq!(verdicts(&mut engine), [(1, pass())]);
    engine.on_request(2, &request(), 0);
    assert_eq!(dispatch(&mut engine, 102), ["EVALSHA"]);
    engine.on_reply(102, noscript(), 0);
    dispatch(&mut engine, 103);
    engine.on_reply(103, noscript(), 0);
    assert!(dispatch(&mut engine, 104).is_empty(), "no third attempt");
    assert_eq!(verdicts(&mut engine), [(2, pass())]);
}

#[test]
fn a_timeout_is_not_asked_again() {
    let mut engine = engine(json!({}));
    engine.on_request(1, &request(), 0);
    dispatch(&mut engine, 100);
    engine.on_reply(100, Err(CallError::Timeout), 0);
    assert!(dispatch(&mut engine, 101).is_empty(), "it may have been charged already");
    assert_eq!(verdicts(&mut engine), [(1, pass())]);
}

#[test]
fn a_request_that_meets_only_dry_limits_is_never_refused() {
    let key = json!([{"key": "*", "query_per_second": 1}]);
    let items = json!([
        {"limit_by_per_header": "dry", "dry_run": true, "limit_keys": key},
        {"limit_by_per_header": "wet", "limit_keys": key},
    ]);
    let config = json!({"rule_name": "r", "rule_items": items, "failure_mode": "closed",
        "redis": {"service_name": "redis.static"}});
    let mut engine = Engine::configure(config.to_string().as_bytes()).expect("the configuration is good");
    assert!(engine.configuration().refuse_on_trap);
    for (stream, header) in [(1, "dry"), (2, "wet")] {
        engine.on_request(stream, &Sample { headers: vec![(header, b"v".to_vec())], ..request() }, 0);
    }
    send_all(&mut engine, 0, |_, _| Err(CallError::Connect));
    let settled = verdicts(&mut engine);
    assert_eq!(settled[0], (1, pass()));
    assert!(matches!(&settled[1], (2, Verdict::Respond(response)) if response.status == 503));
}

#[test]
fn a_configuration_that_only_tries_refuses_nothing_on_a_trap() {
    assert!(engine(json!({"failure_mode": "closed"})).configuration().refuse_on_trap);
    assert!(!engine(json!({"failure_mode": "closed", "dry_run": true})).configuration().refuse_on_trap);
}

#[test]
fn every_failure_meets_the_failure_mode_and_says_its_cause() {
    let error = |text: &str| Ok(Reply::Error(text.into()));
    let failures = [
        (Err(CallError::Connect), "connect"),
        (Err(CallError::Timeout), "timeout"),
        (Err(CallError::Disconnected), "connect"),
        (Err(CallError::Protocol), "bad_reply"),
        (Err(CallError::TooLarge), "bad_reply"),
        (error("NOAUTH Authentication required."), "auth"),
        (error("WRONGPASS invalid username-password pair"), "auth"),
        (error("ERR AUTH <password> called without any password configured for the default user."), "auth"),
        (error("ERR Protocol error: unauthenticated multibulk length"), "auth"),
        (error("LOADING Redis is loading the dataset in memory"), "loading"),
        (error("READONLY You can't write against a read only replica."), "read_only"),
        (error("OOM command not allowed"), "out_of_memory"),
        (error("WRONGTYPE Operation, key slidegate:{r:global_threshold}:1"), "wrong_type"),
        (error("ERR user_script:88: bad argument #2 to 'read' (data string too short) script: 2a26"), "wrong_type"),
        (error("MOVED 866 127.0.0.1:1"), "cluster_redirect"),
        (error("ERR something else"), "bad_reply"),
        (Ok(Reply::Single(Value::Nil)), "bad_reply"),
        (Ok(Reply::Many(vec![Value::Integer(1)])), "bad_reply"),
    ];
    for (mode, expected) in [("open", None), ("closed", Some(503)), ("local", None)] {
        for (reply, cause) in &failures {
            let mut engine = engine(json!({"failure_mode": mode}));
            engine.on_request(1, &request(), 0);
            dispatch(&mut engine, 100);
            raised(&mut engine);
            engine.on_reply(100, reply.clone(), 0);
            let settled = verdicts(&mut engine);
            let status = match &settled[..] {
                [(1, Verdict::Respond(response))] => Some(response.status),
                [(1, Verdict::Pass(_))] => None,
                other => panic!("{other:?}"),
            };
            assert_eq!(status, expected, "{mode}, {cause}");
            let counters = [
                format!("slidegate_redis_failures_total {cause} 1"),
                format!("slidegate_degraded_decisions_total {mode} 1"),
            ];
            assert_eq!(raised(&mut engine), counters, "{mode}, {cause}");
            let said = lines(&mut engine);
            assert!(said.len() == 1 && said[0].contains(cause) && said[0].contains("redis.static:80"), "{said:?}");
            assert!(!said[0].contains("slidegate:"), "a key holds what a client sent: {said:?}");
        }
    }
}

#[test]
fn one_line_for_a_change_of_state_not_for_a_request() {
    let mut engine = engine(json!({}));
    let mut call = 100;
    let mut ask = |engine: &mut Engine, reply: Result<Reply, CallError>| {
        engine.on_request(1, &request(), 0);
        dispatch(engine, call);
        engine.on_reply(call, reply, 0);
        call += 1;
        lines(engine)
    };
    assert_eq!(ask(&mut engine, Err(CallError::Connect)).len(), 1);
    assert_eq!(ask(&mut engine, Err(CallError::Connect)).len(), 0);
    assert_eq!(ask(&mut engine, Err(CallError::Timeout)).len(), 1);
    assert_eq!(ask(&mut engine, admitted(1)), ["Redis redis.static:80 answers again (it failed: timeout)"]);
    assert_eq!(ask(&mut engine, admitted(1)).len(), 0);
}

#[test]
fn refusals_and_degraded_decisions_are_noted_and_no_others() {
    let mut engine =
        engine(json!({"remember_refusals": false, "coalesce": false, "failure_mode": "local", "local_share": 0.5}));
    let mut notes = |stream: u64, reply: Result<Reply, CallError>| {
        engine.on_request(stream, &request(), 0);
        dispatch(&mut engine, stream);
        engine.on_reply(stream, reply, 0);
        let effects =
            core::iter::from_fn(|| Some(engine.poll(&Gone, 0)).filter(|effect| !matches!(effect, Effect::Wait { .. })));
        let said = |effect| match effect {
            Effect::Annotate { stream, fields } => Some((stream, fields)),
            _ => None,
        };
        let notes: Vec<_> = effects.filter_map(said).collect();
        assert!(notes.iter().all(|(noted, _)| *noted == stream));
        let field = |(name, value): (&str, String)| format!("{name}={value}");
        notes.into_iter().flat_map(|(_, fields)| fields).map(field).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(notes(1, admitted(1)), "");
    assert_eq!(notes(2, refused(900_000)), "decision=refused rule=r limit=2 remaining=0 retry_after=1");
    assert_eq!(notes(3, Err(CallError::Timeout)), "decision=passed rule=r degraded=local;cause=timeout");
    let refused = "decision=refused rule=r limit=1 remaining=0 retry_after=1 degraded=local;cause=connect";
    assert_eq!(notes(4, Err(CallError::Connect)), refused);
}

#[test]
fn a_local_window_stands_in_with_its_share() {
    let mut engine =
        engine(json!({"global_threshold": {"query_per_minute": 10}, "failure_mode": "local", "local_share": 0.3}));
    let (mut passed, mut calls) = (0, 0);
    for _ in 0..10 {
        let step = engine.on_request(1, &request(), 0);
        send_all(&mut engine, 0, |_, _| {
            calls += 1;
            Err(CallError::Connect)
        });
        match (step, verdicts(&mut engine).pop()) {
            (Step::Wait, Some((1, Verdict::Pass(_)))) | (Step::Pass(_), None) => passed += 1,
            (Step::Wait, Some((1, Verdict::Respond(response)))) | (Step::Respond(response), None) => {
                assert_eq!(response.status, 429)
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((passed, calls), (3, 5), "the windows go on while the breaker is open");
}

#[test]
fn without_redis_windows_are_local() {
    let config =
        json!({"rule_name": "r", "global_threshold": {"query_per_second": 2}, "show_limit_quota_header": true});
    let mut engine = Engine::configure(config.to_string().as_bytes()).unwrap();
    assert!(engine.configuration().services.is_empty() && engine.configuration().edits_responses);
    for (stream, remaining) in [(1, "1"), (2, "0")] {
        let edits = pass_with([("x-ratelimit-limit", "2"), ("x-ratelimit-remaining", remaining)]);
        assert_eq!(engine.on_request(stream, &request(), 0), Step::Pass(edits));
    }
    let Step::Respond(response) = engine.on_request(3, &request(), 999 * MS) else {
        panic!("the third in a second is refused")
    };
    assert_eq!(response.headers.len(), 3);
    assert!(matches!(engine.on_request(4, &request(), 1_001 * MS), Step::Pass(_)));
}

#[test]
fn nothing_refuses_in_dry_run() {
    let mut engine = engine(json!({"dry_run": true, "failure_mode": "closed"}));
    engine.on_request(1, &request(), 0);
    dispatch(&mut engine, 100);
    engine.on_reply(100, doubles([1, 0, 0, 5, 5]), 0);
    engine.on_request(2, &request(), 0);
    send_all(&mut engine, 0, |_, _| Err(CallError::Connect));
    assert_eq!(verdicts(&mut engine), [(1, pass()), (2, pass())]);
    assert!(raised(&mut engine).contains(&"slidegate_decisions_total would_refuse 1".into()));
}

#[test]
fn who_refuses_without_asking_is_counted_too() {
    let keys = json!([{"key": "*", "query_per_minute": 9}]);
    let config = json!({"rule_name": "r", "rule_items": [
        {"limit_by_per_header": "x-absent", "limit_keys": keys},
        {"name": "missing", "limit_by_per_header": "x-absent", "on_missing": "refuse", "limit_keys": keys},
    ]});
    let mut engine = Engine::configure(config.to_string().as_bytes()).unwrap();
    let of_items = |engine: &mut Engine| -> Vec<String> {
        let metrics = changes(engine).into_iter().map(|(metric, _)| metric);
        metrics
            .filter(|metric| metric.name == "slidegate_item_decisions_total")
            .map(|metric| format!("{:?}", metric.labels))
            .collect()
    };
    assert!(matches!(engine.on_request(1, &request(), 0), Step::Respond(_)));
    let counted = of_items(&mut engine);
    assert!(counted.len() == 1 && counted[0].contains("missing") && counted[0].contains("refused"), "{counted:?}");
}

#[test]
fn what_left_is_forgotten() {
    let mut engine = engine(json!({"show_limit_quota_header": true}));
    for stream in 0..1_000 {
        engine.on_request(stream, &request(), 0);
        dispatch(&mut engine, stream);
        engine.on_reply(stream, admitted(1), 0);
        engine.on_done(stream, StreamEnd::Client, 0);
        verdicts(&mut engine);
    }
    assert_idle(&engine);
}

fn assert_idle(engine: &Engine) {
    let Engine { filters, shared, effects, .. } = engine;
    assert!(shared.streams.len() == 0 && shared.store.is_idle() && shared.settled.is_empty() && effects.is_empty());
    assert!(shared.budget.is_empty(), "{:?}", shared.budget);
    assert_eq!(filters.iter().map(flights).sum::<usize>(), 0);
    assert_eq!(filters.iter().map(known_streams).sum::<usize>(), 0);
}

/// Of how many streams a filter knows something.
fn known_streams(filter: &Filter) -> usize {
    match filter {
        Filter::Limiter(limiter) => limiter.streams(),
        Filter::Session(session) => session.streams(),
        Filter::Vault(vault) => vault.streams(),
        Filter::Cache(cache) => cache.streams(),
        Filter::Trial(_) => 0,
    }
}

/// What is stored and kept for those who wait, in bytes.
fn kept(filter: &Filter) -> usize {
    if let Filter::Cache(cache) = filter { cache.kept() } else { 0 }
}

/// In how many places requests may wait for a call that is on its way.
fn flights(filter: &Filter) -> usize {
    match filter {
        Filter::Limiter(limiter) => limiter.flights(),
        Filter::Session(session) => session.flights(),
        Filter::Vault(vault) => vault.flights(),
        Filter::Cache(cache) => cache.flights(),
        Filter::Trial(_) => 0,
    }
}
