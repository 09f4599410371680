//! One instance, driven by hand.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use slidegate::{BodyStep, CallError, ConfigureError, HeaderEdit, Instance, InstanceLimits, Module, Reply, Step, Trap, Value, Verdict};

use crate::fixture::{module, request, status};

fn instance() -> Instance {
    configured(b"ph")
}

fn configured(json: &[u8]) -> Instance {
    let mut instance = Instance::new(module()).unwrap();
    instance.configure(json).unwrap();
    instance
}

fn on_request(instance: &mut Instance, stream: u64, path: &str) -> Result<Step, Trap> {
    instance.on_request(stream, request(path), 0)
}

fn ok() -> Result<&'static Reply, CallError> {
    static OK: std::sync::LazyLock<Reply> = std::sync::LazyLock::new(|| Reply::Single(Value::Status("OK".to_owned())));
    Ok(&OK)
}

#[test]
fn configuration_and_description_come_back() {
    let mut instance = Instance::new(module()).unwrap();
    let configuration = instance.configure(b"p").unwrap();
    assert_eq!(configuration.redis.len(), 1);
    assert_eq!(configuration.redis[0].service_name, "redis.test");
    assert_eq!(configuration.redis[0].port, 6379);
    assert_eq!(configuration.redis[0].timeout_ms, 200);
    assert_eq!(instance.describe().unwrap(), "redis.test");
}

#[test]
fn configuration_errors_are_no_traps() {
    let mut instance = Instance::new(module()).unwrap();
    let error = instance.configure(b"e").unwrap_err();
    assert!(matches!(&error, ConfigureError::Invalid(errors) if errors.len() == 1));
    assert_eq!(error.to_string(), "bad.path: is bad");
    instance.configure(b"p").unwrap();
}

#[test]
fn hooks_decide_at_once() {
    let mut instance = instance();
    assert_eq!(on_request(&mut instance, 1, "/p").unwrap(), Step::Done(Verdict::Pass(Vec::new())));
    let Step::Done(Verdict::Pass(edits)) = on_request(&mut instance, 2, "/e").unwrap() else { panic!() };
    assert!(matches!(&edits[..], [HeaderEdit::Set(header)] if header.name == "x-edited" && header.value == b"yes"));
    let Step::Done(Verdict::Respond(response)) = on_request(&mut instance, 3, "/r").unwrap() else { panic!() };
    assert_eq!((response.status, &response.body[..]), (429, &b"no"[..]));
    assert_eq!(response.details, "fixture.refused");
    assert!(instance.take_outcomes().is_empty());
}

#[test]
fn what_a_log_should_say_of_a_stream_is_kept_until_it_ends() {
    let mut instance = instance();
    let said = vec![("why".to_owned(), "no".to_owned())];
    on_request(&mut instance, 1, "/r").unwrap();
    on_request(&mut instance, 2, "/r").unwrap();
    on_request(&mut instance, 3, "/p").unwrap();
    assert_eq!(instance.take_annotations(1), said);
    assert!(instance.take_annotations(1).is_empty(), "once");
    instance.on_done(2, 0).unwrap();
    for gone_or_silent in [2, 3, 4] {
        assert!(instance.take_annotations(gone_or_silent).is_empty());
    }
}

#[test]
fn a_reply_settles_its_stream_once() {
    let mut instance = instance();
    assert_eq!(on_request(&mut instance, 1, "/w").unwrap(), Step::Wait);
    let calls = instance.take_calls();
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].service, &calls[0].command[..]), (0, &[b"PING".to_vec()][..]));
    instance.on_redis_reply(calls[0].id, ok(), 0).unwrap();
    let outcomes = instance.take_outcomes();
    assert!(matches!(&outcomes[..], [(1, Verdict::Pass(edits))] if edits.len() == 1));
    // The second delivery of the same reply does not reach the component.
    instance.on_redis_reply(calls[0].id, ok(), 0).unwrap();
    assert!(instance.take_outcomes().is_empty());
}

#[test]
fn every_kind_of_reply_arrives() {
    let error = Reply::Error("NOSCRIPT".to_owned());
    let bulk = Reply::Single(Value::Bulk(b"x".to_vec()));
    let many = Reply::Many(vec![Value::Nil, Value::Integer(1)]);
    let replies = [(Ok(&error), 503), (Ok(&bulk), 503), (Ok(&many), 503), (Err(CallError::Timeout), 504), (ok(), 0)];
    let mut instance = instance();
    for (stream, (reply, expected)) in (1..).zip(replies) {
        on_request(&mut instance, stream, "/w").unwrap();
        let call = instance.take_calls().remove(0);
        instance.on_redis_reply(call.id, reply, 0).unwrap();
        let outcomes = instance.take_outcomes();
        assert_eq!((outcomes.len(), outcomes[0].0, status(&outcomes[0].1)), (1, stream, expected));
    }
}

#[test]
fn the_first_of_several_answers_counts() {
    let mut instance = instance();
    let Step::Done(verdict) = on_request(&mut instance, 1, "/2").unwrap() else { panic!() };
    assert_eq!(status(&verdict), 429);
    assert!(instance.take_outcomes().is_empty());
}

#[test]
fn streams_that_do_not_exist_cannot_be_settled() {
    let mut instance = instance();
    assert_eq!(on_request(&mut instance, 1, "/o").unwrap(), Step::Done(Verdict::Pass(Vec::new())));
    assert!(instance.take_outcomes().is_empty());
}

#[test]
fn a_late_reply_for_a_stream_that_ended_settles_nothing() {
    let mut instance = instance();
    on_request(&mut instance, 1, "/w").unwrap();
    let call = instance.take_calls().remove(0);
    instance.on_done(1, 0).unwrap();
    instance.on_redis_reply(call.id, ok(), 0).unwrap();
    assert!(instance.take_outcomes().is_empty());
    instance.on_done(1, 0).unwrap();
}

#[test]
fn a_service_that_is_not_configured_gets_no_calls() {
    let mut instance = instance();
    // The fixture passes when a call is refused.
    assert_eq!(on_request(&mut instance, 1, "/k").unwrap(), Step::Done(Verdict::Pass(Vec::new())));
    assert!(instance.take_calls().is_empty());
}

#[test]
fn hooks_of_unknown_streams_pass() {
    let mut instance = instance();
    let headers = Arc::new(HeaderMap::new());
    assert_eq!(instance.on_response_headers(9, 200, headers, 0).unwrap(), Step::Done(Verdict::Pass(Vec::new())));
    assert_eq!(instance.on_request_body(9, b"", true, 0).unwrap(), BodyStep::Pass);
    instance.on_redis_reply(77, ok(), 0).unwrap();
}

#[test]
fn bodies_are_held_and_freed() {
    let mut instance = instance();
    on_request(&mut instance, 1, "/p").unwrap();
    assert_eq!(instance.on_request_body(1, b"a", false, 0).unwrap(), BodyStep::Hold);
    assert_eq!(instance.on_request_body(1, b"long", false, 0).unwrap(), BodyStep::Pass);
    assert_eq!(instance.on_request_body(1, b"", true, 0).unwrap(), BodyStep::Hold);
    let call = instance.take_calls().remove(0);
    instance.on_redis_reply(call.id, Err(CallError::Connect), 0).unwrap();
    let outcomes = instance.take_outcomes();
    assert_eq!((outcomes[0].0, status(&outcomes[0].1)), (1, 504));
}

#[test]
fn a_response_that_has_begun_cannot_be_replaced() {
    let mut instance = instance();
    on_request(&mut instance, 1, "/p").unwrap();
    assert_eq!(instance.on_response_body(1, b"", true, 0).unwrap(), BodyStep::Hold);
    let call = instance.take_calls().remove(0);
    instance.on_redis_reply(call.id, Err(CallError::Connect), 0).unwrap();
    assert!(instance.take_outcomes().is_empty());
    // Nor does a request's body come after its response.
    assert_eq!(instance.on_request_body(1, b"", true, 0).unwrap(), BodyStep::Pass);
    assert!(instance.take_calls().is_empty());
}

#[test]
fn a_trap_is_an_error_and_ends_the_instance() {
    let mut instance = instance();
    let trap = on_request(&mut instance, 1, "/u").unwrap_err();
    let text = trap.to_string();
    assert!(text.contains("unreachable") && !text.contains('\n'), "{text}");
    let again = on_request(&mut instance, 2, "/p").unwrap_err();
    assert!(again.to_string().contains("trapped before"), "{again}");
    let mut fresh = Instance::new(module()).unwrap();
    assert!(matches!(fresh.configure(b"t"), Err(ConfigureError::Trap(_))));
}

#[test]
fn saying_respond_without_an_answer_breaks_the_contract() {
    let mut instance = instance();
    let trap = on_request(&mut instance, 1, "/x").unwrap_err();
    assert!(trap.to_string().contains("http-response"), "{trap}");
}

#[test]
fn a_runaway_call_is_stopped() {
    let limits = InstanceLimits { call_time: Duration::from_millis(100), ..InstanceLimits::default() };
    let mut instance = Instance::with_limits(module(), limits).unwrap();
    instance.configure(b"p").unwrap();
    let trap = on_request(&mut instance, 1, "/l").unwrap_err();
    assert!(trap.to_string().contains("too long"), "{trap}");
}

#[test]
fn memory_is_bounded_and_counted() {
    const MIB: usize = 1024 * 1024;
    let limits = InstanceLimits { memory_bytes: 8 * MIB, ..InstanceLimits::default() };
    let mut instance = Instance::with_limits(module(), limits).unwrap();
    instance.configure(b"p").unwrap();
    assert_eq!(instance.memory_bytes(), 2 * 65_536);
    // The fixture allocates until it gets no more.
    let trap = on_request(&mut instance, 1, "/m").unwrap_err();
    assert!(trap.to_string().contains("more memory than"), "{trap}");
    assert!(instance.memory_bytes() > 7 * MIB && instance.memory_bytes() <= 8 * MIB);
    let limits = InstanceLimits { memory_bytes: 65_536, ..limits };
    assert!(Instance::with_limits(module(), limits).is_err());
}

/// Each value of a header that one of so many entries lists.
fn many_entries(count: usize, key: impl Fn(usize) -> String) -> Vec<u8> {
    let entries: Vec<String> = (0..count).map(|index| format!("{{\"key\":\"{}\",\"query_per_day\":1}}", key(index))).collect();
    format!("{{\"rule_name\":\"r\",\"rule_items\":[{{\"limit_by_per_header\":\"x\",\"limit_keys\":[{}]}}]}}", entries.join(","))
        .into_bytes()
}

#[test]
fn a_large_configuration_gets_the_memory_that_it_needs() {
    let json = many_entries(150_000, |index| format!("customer-{index:08}"));
    assert!(json.len() > 6_500_000, "{}", json.len());
    let module = Module::embedded().unwrap();
    let mut instance = Instance::new(&module).unwrap();
    instance.configure(&json).unwrap_or_else(|error| panic!("{:.500}", error.to_string()));
    // And there is room for requests beside it.
    on_request(&mut instance, 1, "/").unwrap();
}

#[test]
fn a_configuration_that_takes_too_long_is_a_mistake_in_words() {
    let json = many_entries(20_000, |index| format!("regexp:^user-{index}-[a-z]+$"));
    let limits = InstanceLimits { configure_time: Duration::from_millis(100), ..InstanceLimits::default() };
    let error = Instance::with_limits(&Module::embedded().unwrap(), limits).unwrap().configure(&json).unwrap_err();
    assert!(matches!(&error, ConfigureError::Invalid(_)), "{error}");
    assert!(error.to_string().contains("takes more than 0.1 s of CPU time to read: expected fewer"), "{error}");
}

#[test]
fn what_is_no_component_is_an_error() {
    assert!(Module::from_bytes(b"").is_err());
    assert!(Module::from_bytes(b"\0asm\x01\0\0\0").is_err());
    assert!(Module::from_file("does/not/exist.wasm").unwrap_err().to_string().contains("does/not/exist.wasm"));
    // An empty component compiles, and exports nothing.
    let error = Module::from_bytes(b"\0asm\x0d\0\x01\0").unwrap_err().to_string();
    assert!(error.contains("slidegate:filter"), "{error}");
}
