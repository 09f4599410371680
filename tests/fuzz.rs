//! Fuzzing, for as long as `SLIDEGATE_FUZZ_SECONDS` says (20 for each target, all at once): whatever configuration,
//! request, reply, body, session or page is handed to the engine, it never panics, says the same thing twice, and
//! settles every stream once. Whatever a proxy asks a gateway, it is answered in the protocol's own terms. What fails
//! is shrunk and printed.

#[path = "fuzz/calls.rs"]
mod calls;

use std::cell::{Cell, RefCell};

use proptest::{prelude::*, sample::Index, test_runner::TestCaseError};
use slidegate_engine::{
    Engine,
    config::ConfigError,
    tokens::{OutputBoundReader, Usage, UsageReader},
};
use slidegate_tests::{
    fuzzing::{
        answer::any_bytes,
        caching::{CachingGateways, any_cache_event, cache_configurations},
        configuration::{PASSWORD, any_configuration, corpus},
        fuzz,
        host::Host,
        request::any_event,
        session::{any_session, check_session},
    },
    gateway_process::{Gateway, wait_until},
    grpc_client::{GrpcAnswer, GrpcClient},
};

#[test]
fn configurations() {
    let accepted = Cell::new(0_u64);
    let cases = fuzz((any_configuration(), prop::collection::vec(any_event(), 0..6)), |(json, events)| {
        match (Engine::configure(&json), Engine::configure(&json)) {
            (Ok(engine), Ok(again)) => {
                accepted.set(accepted.get() + 1);
                prop_assert!(!engine.describe().is_empty() && !engine.describe().contains(PASSWORD));
                prop_assert_eq!(shown(&engine), shown(&again));
                Host::new(engine).run(&events)
            }
            (Err(errors), Err(again)) => {
                prop_assert_eq!(&errors, &again);
                check_errors(&errors)
            }
            _ => Err(TestCaseError::fail("accepted once, refused once")),
        }
    });
    assert!(
        accepted.get() * 50 > cases,
        "only {} of {cases} were accepted: the fuzzer has gone astray",
        accepted.get()
    );
    println!("{cases} configurations, {} accepted", accepted.get());
}

#[test]
fn requests() {
    let configurations: Vec<Vec<u8>> = corpus().iter().map(|document| document.to_string().into_bytes()).collect();
    let cases = fuzz((any::<Index>(), prop::collection::vec(any_event(), 0..60)), |(at, events)| {
        let engine = Engine::configure(at.get::<Vec<u8>>(&configurations)).expect("the corpus is good");
        Host::new(engine).run(&events)
    });
    println!("{cases} sequences of requests, replies and the like");
}

#[test]
fn caches() {
    let configurations = cache_configurations();
    let shown = Cell::new(0);
    let cases = fuzz((any::<Index>(), prop::collection::vec(any_cache_event(), 0..150)), |(at, events)| {
        shown.set(shown.get() + CachingGateways::new(at.get(&configurations)).run(&events)?);
        Ok(())
    });
    assert!(shown.get() as u64 * 8 > cases, "only {} pages of {cases} cases: the fuzzer is astray", shown.get());
    println!("{cases} histories of caches, in which {} pages were shown that were kept", shown.get());
}

#[test]
fn bodies() {
    let cases = fuzz((any_bytes(), any::<Index>()), |(body, cut)| {
        let (first, second) = body.split_at(cut.index(body.len() + 1));
        prop_assert_eq!(told(&[&body]), told(&[first, second]));
        Ok(())
    });
    println!("{cases} bodies");
}

#[test]
fn sessions() {
    let found = Cell::new(0);
    let cases = fuzz(any_session(), |session| {
        found.set(found.get() + check_session(&session)?);
        Ok(())
    });
    assert!(found.get() * 25 > cases as usize, "only {} of {cases} told anything: the fuzzer is astray", found.get());
    println!("{cases} sessions, {} told something", found.get());
}

/// What a proxy asks in gRPC, whole or spoilt: ext_authz and the rate limit service of one gateway, ext_proc of one
/// that wants to see bodies.
#[test]
fn calls_of_proxies() {
    const LIMIT: u64 = 20;
    let serve = |limit: &str| {
        Gateway::serve(&format!(
            "decide: {{listen: 127.0.0.1:0}}
filter: {{rule_name: fuzzed, rule_items: [{{limit_by_per_header: x-key, limit_keys: [{{key: \"*\", {limit}}}]}}]}}
"
        ))
    };
    let gateways = [serve(&format!("query_per_day: {LIMIT}")), serve("token_per_day: 1000")];
    let clients = gateways.each_ref().map(|gateway| RefCell::new(GrpcClient::connect(gateway.decide())));
    let (answered, passed) = (Cell::new(0_u64), Cell::new(0_u64));
    let cases = fuzz(calls::any_call(), |call| {
        let client = &clients[usize::from(call.path == calls::PROCESS)];
        let answer = client.borrow_mut().send("POST", call.path, "application/grpc", call.body.clone());
        // Answered, invalid, too large, not set up for it, or in a form that is not understood; and trailers leave no
        // place for what was kept of a body.
        let is_told = match answer.status() {
            Some(0 | 3 | 8 | 9 | 12) => true,
            status => status == Some(13) && call.path == calls::PROCESS,
        };
        prop_assert!(is_told, "{answer:?}");
        if answer.status() == Some(0) {
            answered.set(answered.get() + 1);
            check_answer(&call, &answer)?;
            let is_passed = call.path == calls::CHECK && answer.message.get(1).number_of(1) == 0;
            passed.set(passed.get() + u64::from(is_passed && call.is_whole));
        }
        Ok(())
    });
    assert!(answered.get() * 16 > cases, "only {} of {cases} were answered: the fuzzer is astray", answered.get());
    let most = LIMIT * calls::KEYS.len() as u64;
    assert!((1..=most).contains(&passed.get()), "{} requests passed", passed.get());
    for gateway in &gateways {
        wait_until("no call is open", || gateway.metrics().find("slidegate_requests_in_flight", &[]) == Some(0.0));
        assert!(gateway.peak_memory_bytes() < 300 << 20, "{}", gateway.peak_memory_bytes());
    }
    println!("{cases} calls, {} answered, {} of them by letting a whole request pass", answered.get(), passed.get());
}

/// Holds an answer against itself and the call.
fn check_answer(call: &calls::ProxyCall, answer: &GrpcAnswer) -> Result<(), TestCaseError> {
    const OVER_LIMIT: u64 = 2;
    match call.path {
        calls::CHECK => {
            let (is_denied, status) =
                (answer.message.get(1).number_of(1) != 0, answer.message.get(2).get(1).number_of(1));
            prop_assert_eq!(is_denied, (400..600).contains(&status), "{:?}", answer);
        }
        calls::LIMIT => {
            let statuses = answer.message.all(2);
            let is_over = statuses.iter().any(|status| status.number_of(1) == OVER_LIMIT);
            prop_assert_eq!(answer.message.number_of(1) == OVER_LIMIT, is_over, "{:?}", answer);
            prop_assert!(!call.is_whole || statuses.len() == call.parts, "{answer:?}");
        }
        _ => prop_assert!(answer.messages.len() <= call.parts || !call.is_whole, "{answer:?}"),
    }
    Ok(())
}

/// What a body says, as an answer and as a request.
fn told(pieces: &[&[u8]]) -> (Option<Usage>, Option<u64>) {
    let (mut usage, mut bound) = (UsageReader::default(), OutputBoundReader::default());
    for piece in pieces {
        usage.feed(piece);
        bound.feed(piece);
    }
    (usage.usage(), bound.bound().output_max())
}

/// What can be seen of a configured engine.
fn shown(engine: &Engine) -> String {
    format!("{}\n{:?}\n{:?}", engine.describe(), engine.configuration(), engine.metrics())
}

fn check_errors(errors: &[ConfigError]) -> Result<(), TestCaseError> {
    prop_assert!(!errors.is_empty());
    for error in errors {
        prop_assert!(!error.message.is_empty() && !error.to_string().contains(['\n', '\r']), "{error:?}");
        prop_assert!(!error.to_string().contains(PASSWORD), "{error}");
    }
    Ok(())
}
