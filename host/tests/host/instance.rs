//! One instance, driven by hand.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use slidegate::{
    BodyChange, CallError, CallId, CallReply, Coding, ConfigureError, Ending, HeaderEdit, Instance, InstanceLimits,
    Interest, Module, Moment, Origin, Outcome, Pass, Piece, Reply, Response, ResponseHead, Step, Trap, Value, Wants,
};

use crate::fixture::{module, request};

const NOW: Moment = Moment { monotonic: 5, wall: 1_800_000_000_000_000_000 };

/// What a stream of the fixture wants that holds all bodies.
const ALL: Wants =
    Wants { request_body: Interest::Hold, response_headers: true, response_body: Interest::Hold, done: true };

fn instance() -> Instance {
    configured(b"ph")
}

fn configured(json: &[u8]) -> Instance {
    let mut instance = Instance::new(module()).unwrap();
    instance.configure(json, NOW).unwrap();
    instance
}

fn on_request(instance: &mut Instance, stream: u64, path: &str) -> Result<Step, Trap> {
    instance.on_request(stream, request(path), NOW)
}

/// A pass that wants all hooks.
fn pass() -> Pass {
    Pass { wants: ALL, ..Pass::default() }
}

fn piece(bytes: &[u8], end: bool) -> Piece<'_> {
    Piece { bytes, coding: Coding::Identity, end }
}

fn head(status: u16) -> ResponseHead {
    ResponseHead { status, origin: Origin::Upstream, end: false }
}

/// The status of an answer; 0 for an outcome that is none.
fn status(outcome: &Outcome) -> u16 {
    match outcome {
        Outcome::Pass(_) => 0,
        Outcome::Respond(Response { status, .. }) => *status,
    }
}

fn ok() -> Result<Reply, CallError> {
    Ok(Reply::Single(Value::Status("OK".to_owned())))
}

/// Delivers the reply to one call.
fn reply(instance: &mut Instance, call: CallId, reply: Result<Reply, CallError>) {
    instance.on_redis_replies(vec![CallReply { call, reply }], NOW).unwrap();
}

#[test]
fn configuration_and_description_come_back() {
    let mut instance = Instance::new(module()).unwrap();
    let configuration = instance.configure(b"p", NOW).unwrap();
    assert_eq!(configuration.redis.len(), 1);
    assert_eq!(configuration.redis[0].service_name, "redis.test");
    assert_eq!(configuration.redis[0].port, 6379);
    assert_eq!(configuration.redis[0].timeout_ms, 200);
    assert_eq!(instance.describe().unwrap(), "redis.test");
}

#[test]
fn configuration_errors_are_no_traps() {
    let mut instance = Instance::new(module()).unwrap();
    let error = instance.configure(b"e", NOW).unwrap_err();
    assert!(matches!(&error, ConfigureError::Invalid(errors) if errors.len() == 1));
    assert_eq!(error.to_string(), "bad.path: is bad");
    instance.configure(b"p", NOW).unwrap();
}

#[test]
fn hooks_decide_at_once() {
    let mut instance = instance();
    assert_eq!(on_request(&mut instance, 1, "/p").unwrap(), Step::Pass(pass()));
    let Step::Pass(Pass { request_edits, response_edits, .. }) = on_request(&mut instance, 2, "/e").unwrap() else {
        panic!()
    };
    assert!(
        matches!(&request_edits[..], [HeaderEdit::Set(header)] if header.name == "x-edited" && header.value == b"yes")
    );
    assert!(response_edits.is_empty());
    let Step::Pass(edited) = on_request(&mut instance, 3, "/d").unwrap() else { panic!() };
    assert_eq!((edited.request_edits, edited.response_edits), (Vec::new(), request_edits));
    let Step::Respond(response) = on_request(&mut instance, 4, "/r").unwrap() else { panic!() };
    assert_eq!((response.status, &response.body[..]), (429, &b"no"[..]));
    assert_eq!(response.details, "fixture.refused");
    assert!(instance.take_outcomes().is_empty());
}

#[test]
fn the_filter_hears_no_more_of_a_stream_that_wants_nothing() {
    let mut instance = configured(b"p");
    assert_eq!(on_request(&mut instance, 1, "/p").unwrap(), Step::Pass(Pass::default()));
    // The fixture would trap at this status, and hold that piece.
    assert_eq!(instance.on_response_headers(1, head(599), Arc::default(), NOW).unwrap(), Step::Pass(Pass::default()));
    assert_eq!(instance.on_request_body(1, piece(b"", false), NOW).unwrap(), Step::Pass(Pass::default()));
    assert!(format!("{instance:?}").contains("streams: 0"), "{instance:?}");
    // Nor of one that it answered.
    on_request(&mut instance, 2, "/r").unwrap();
    instance.describe().unwrap();
    assert!(format!("{instance:?}").contains("streams: 0"), "{instance:?}");
}

#[test]
fn time_comes_when_it_was_asked_for() {
    let mut instance = instance();
    assert_eq!(instance.next_wake(), None);
    assert_eq!(on_request(&mut instance, 1, "/a").unwrap(), Step::Wait);
    assert_eq!(instance.next_wake(), Some(NOW.monotonic));
    instance.on_wake(NOW).unwrap();
    assert!(matches!(&instance.take_outcomes()[..], [(1, Outcome::Pass(pass))] if pass.request_edits.len() == 1));
    assert_eq!(instance.next_wake(), None);
}

#[test]
fn metrics_are_what_changed_since_the_last_time() {
    let mut instance = instance();
    let defined = instance.metrics().unwrap();
    assert!(
        matches!(&defined[..], [metric, _] if metric.name == "fixture_requests_total" && metric.help == "Requests")
    );
    assert!(matches!(&defined[1].kind, slidegate::Kind::Histogram(bounds) if bounds[..] == [1.0, 10.0]));
    assert_eq!(instance.take_metrics().unwrap(), []);
    (1..=3).for_each(|stream| drop(on_request(&mut instance, stream, "/p").unwrap()));
    assert_eq!(instance.take_metrics().unwrap(), [(0, slidegate::Change::Counter(3))]);
    assert_eq!(instance.take_metrics().unwrap(), []);
}

#[test]
fn a_command_that_no_host_sends_is_refused_and_one_more_may_be_sent_at_the_end() {
    let mut instance = instance();
    assert_eq!(on_request(&mut instance, 1, "/n").unwrap(), Step::Pass(pass()));
    assert!(instance.take_calls().is_empty());
    instance.on_retire(NOW).unwrap();
    assert_eq!(instance.take_calls().len(), 1);
}

#[test]
fn what_a_log_should_say_of_a_stream_is_kept_until_it_ends() {
    let mut instance = instance();
    let said = vec![("why".to_owned(), "no".to_owned())];
    on_request(&mut instance, 1, "/r").unwrap();
    assert_eq!(instance.take_annotations(1), said);
    assert!(instance.take_annotations(1).is_empty(), "once");
    on_request(&mut instance, 2, "/r").unwrap();
    instance.on_done(2, Ending::Whole, NOW).unwrap();
    on_request(&mut instance, 3, "/p").unwrap();
    for gone_or_silent in [2, 3, 4] {
        assert!(instance.take_annotations(gone_or_silent).is_empty());
    }
}

#[test]
fn nothing_is_kept_of_what_was_said_of_streams_that_are_over_and_nobody_took() {
    let mut instance = instance();
    for stream in 1..=100 {
        on_request(&mut instance, stream, "/r").unwrap();
    }
    assert!(instance.take_annotations(99).is_empty());
    assert_eq!(instance.take_annotations(100).len(), 1);
    assert!(format!("{instance:?}").contains("streams: 1,"), "{instance:?}");
    // Of one that is not over, it is kept.
    on_request(&mut instance, 101, "/p").unwrap();
    instance.on_request_body(101, piece(b"A piece", false), NOW).unwrap();
    on_request(&mut instance, 102, "/p").unwrap();
    assert_eq!(instance.take_annotations(101).len(), 2);
}

#[test]
fn a_reply_settles_its_stream_once() {
    let mut instance = instance();
    assert_eq!(on_request(&mut instance, 1, "/w").unwrap(), Step::Wait);
    let calls = instance.take_calls();
    assert_eq!(calls.len(), 1);
    assert!(calls[0].service == 0 && calls[0].command.words().eq([b"PING"]), "{calls:?}");
    reply(&mut instance, calls[0].id, ok());
    let outcomes = instance.take_outcomes();
    assert!(matches!(&outcomes[..], [(1, Outcome::Pass(pass))] if pass.request_edits.len() == 1));
    // The second delivery of the same reply does not reach the component.
    reply(&mut instance, calls[0].id, ok());
    assert!(instance.take_outcomes().is_empty());
}

#[test]
fn every_kind_of_reply_arrives() {
    let error = Reply::Error("NOSCRIPT".to_owned());
    let bulk = Reply::Single(Value::Bulk(b"x".to_vec()));
    let many = Reply::Many(vec![Value::Nil, Value::Integer(1)]);
    let replies = [(Ok(error), 503), (Ok(bulk), 503), (Ok(many), 503), (Err(CallError::Timeout), 504), (ok(), 0)];
    let mut instance = instance();
    for (stream, (replied, expected)) in (1..).zip(replies) {
        on_request(&mut instance, stream, "/w").unwrap();
        let call = instance.take_calls().remove(0);
        reply(&mut instance, call.id, replied);
        let outcomes = instance.take_outcomes();
        assert_eq!((outcomes.len(), outcomes[0].0, status(&outcomes[0].1)), (1, stream, expected));
    }
}

#[test]
fn the_first_of_several_answers_counts() {
    let mut instance = instance();
    let Step::Respond(response) = on_request(&mut instance, 1, "/2").unwrap() else { panic!() };
    assert_eq!(response.status, 429);
    assert!(instance.take_outcomes().is_empty());
}

#[test]
fn streams_that_do_not_exist_cannot_be_settled() {
    let mut instance = instance();
    assert_eq!(on_request(&mut instance, 1, "/o").unwrap(), Step::Pass(pass()));
    assert!(instance.take_outcomes().is_empty());
}

#[test]
fn a_late_reply_for_a_stream_that_ended_settles_nothing() {
    let mut instance = instance();
    on_request(&mut instance, 1, "/w").unwrap();
    let call = instance.take_calls().remove(0);
    instance.on_done(1, Ending::Client, NOW).unwrap();
    reply(&mut instance, call.id, ok());
    assert!(instance.take_outcomes().is_empty());
    instance.on_done(1, Ending::Client, NOW).unwrap();
}

#[test]
fn a_service_that_is_not_configured_gets_no_calls() {
    let mut instance = instance();
    // The fixture passes when a call is refused.
    assert_eq!(on_request(&mut instance, 1, "/k").unwrap(), Step::Pass(pass()));
    assert!(instance.take_calls().is_empty());
}

#[test]
fn hooks_of_unknown_streams_pass() {
    let mut instance = instance();
    let headers = Arc::new(HeaderMap::new());
    assert_eq!(instance.on_response_headers(9, head(200), headers, NOW).unwrap(), Step::Pass(Pass::default()));
    assert_eq!(instance.on_request_body(9, piece(b"", true), NOW).unwrap(), Step::Pass(Pass::default()));
    reply(&mut instance, 77, ok());
}

#[test]
fn bodies_are_held_and_freed_and_changed() {
    let mut instance = instance();
    on_request(&mut instance, 1, "/p").unwrap();
    assert_eq!(instance.on_request_body(1, piece(b"a", false), NOW).unwrap(), Step::Wait);
    assert_eq!(instance.on_request_body(1, piece(b"long", false), NOW).unwrap(), Step::Pass(pass()));
    let changed = |body| Step::Pass(Pass { body, ..pass() });
    assert_eq!(
        instance.on_request_body(1, piece(b"R", false), NOW).unwrap(),
        changed(BodyChange::Replace(b"no".to_vec()))
    );
    assert_eq!(instance.on_request_body(1, piece(b"E", false), NOW).unwrap(), changed(BodyChange::End(b"no".to_vec())));
    assert_eq!(instance.on_request_body(1, piece(b"", true), NOW).unwrap(), Step::Wait);
    let call = instance.take_calls().remove(0);
    reply(&mut instance, call.id, Err(CallError::Connect));
    let outcomes = instance.take_outcomes();
    assert_eq!((outcomes[0].0, status(&outcomes[0].1)), (1, 504));
}

#[test]
fn what_is_watched_goes_on_whatever_the_filter_says() {
    let mut instance = configured(b"pw");
    on_request(&mut instance, 1, "/p").unwrap();
    let watched = Wants { request_body: Interest::Watch, response_body: Interest::Watch, ..ALL };
    for bytes in [b"a".as_slice(), b"long", b"R", b"E"] {
        let step = instance.on_response_body(1, piece(bytes, false), NOW).unwrap();
        assert_eq!(step, Step::Pass(Pass { wants: watched, ..Pass::default() }), "{bytes:?}");
    }
}

#[test]
fn a_response_is_replaced_before_its_body_begins_and_not_after() {
    let mut instance = instance();
    on_request(&mut instance, 1, "/p").unwrap();
    let Step::Respond(response) = instance.on_response_headers(1, head(502), Arc::default(), NOW).unwrap() else {
        panic!()
    };
    assert_eq!(response.status, 418);

    on_request(&mut instance, 2, "/p").unwrap();
    assert_eq!(instance.on_response_body(2, piece(b"", true), NOW).unwrap(), Step::Wait);
    let call = instance.take_calls().remove(0);
    reply(&mut instance, call.id, Err(CallError::Connect));
    // It was answered too late, and passes.
    assert!(matches!(&instance.take_outcomes()[..], [(2, Outcome::Pass(_))]));
    // Nor does a request's body come after its response.
    assert_eq!(instance.on_request_body(2, piece(b"", true), NOW).unwrap(), Step::Pass(pass()));
    assert!(instance.take_calls().is_empty());
    // Who says `respond` in its body hears no more of it.
    on_request(&mut instance, 3, "/p").unwrap();
    assert_eq!(instance.on_response_body(3, piece(b"X", false), NOW).unwrap(), Step::Pass(Pass::default()));
    assert_eq!(instance.on_response_body(3, piece(b"", true), NOW).unwrap(), Step::Pass(Pass::default()));
    assert!(instance.take_calls().is_empty());
}

#[test]
fn a_request_is_shown_no_more_once_its_response_has_begun_whether_or_not_that_is_shown() {
    let mut instance = configured(b"pb");
    on_request(&mut instance, 1, "/p").unwrap();
    assert_eq!(instance.on_request_body(1, piece(b"a", false), NOW).unwrap(), Step::Wait);
    let unchanged =
        Step::Pass(Pass { wants: Wants { request_body: Interest::Hold, ..Wants::default() }, ..Pass::default() });
    assert_eq!(instance.on_response_headers(1, head(200), Arc::default(), NOW).unwrap(), unchanged);
    assert_eq!(instance.on_request_body(1, piece(b"b", false), NOW).unwrap(), unchanged);
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
    assert!(matches!(fresh.configure(b"t", NOW), Err(ConfigureError::Trap(_))));
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
    instance.configure(b"p", NOW).unwrap();
    let trap = on_request(&mut instance, 1, "/l").unwrap_err();
    assert!(trap.to_string().contains("too long"), "{trap}");
}

#[test]
fn memory_is_bounded_and_counted() {
    const MIB: usize = 1024 * 1024;
    let limits = InstanceLimits { memory_bytes: 8 * MIB, ..InstanceLimits::default() };
    let mut instance = Instance::with_limits(module(), limits).unwrap();
    instance.configure(b"p", NOW).unwrap();
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
    let entries: Vec<String> =
        (0..count).map(|index| format!("{{\"key\":\"{}\",\"query_per_day\":1}}", key(index))).collect();
    format!(
        "{{\"rule_name\":\"r\",\"rule_items\":[{{\"limit_by_per_header\":\"x\",\"limit_keys\":[{}]}}]}}",
        entries.join(",")
    )
    .into_bytes()
}

#[test]
fn a_large_configuration_gets_the_memory_that_it_needs() {
    let json = many_entries(150_000, |index| format!("customer-{index:08}"));
    assert!(json.len() > 6_500_000, "{}", json.len());
    let module = Module::embedded().unwrap();
    let mut instance = Instance::new(&module).unwrap();
    instance.configure(&json, NOW).unwrap_or_else(|error| panic!("{:.500}", error.to_string()));
    // And there is room for requests beside it.
    on_request(&mut instance, 1, "/").unwrap();
}

#[test]
fn a_configuration_that_takes_too_long_is_a_mistake_in_words() {
    let json = many_entries(20_000, |index| format!("regexp:^user-{index}-[a-z]+$"));
    let limits = InstanceLimits { configure_time: Duration::from_millis(100), ..InstanceLimits::default() };
    let error = Instance::with_limits(&Module::embedded().unwrap(), limits).unwrap().configure(&json, NOW).unwrap_err();
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
