//! Fuzzing, for as long as `SLIDEGATE_FUZZ_SECONDS` says (20 for each target, all at once): whatever configuration,
//! request, reply, body, session or page is handed to the engine, it never panics, says the same thing twice, and
//! settles every stream once. What fails is shrunk and printed.

use std::cell::Cell;

use proptest::{prelude::*, sample::Index, test_runner::TestCaseError};
use slidegate_engine::{
    Engine,
    config::ConfigError,
    tokens::{OutputBoundReader, Usage, UsageReader},
};
use slidegate_tests::fuzzing::{
    answer::any_bytes,
    caching::{CachingGateways, any_cache_event, cache_configurations},
    configuration::{PASSWORD, any_configuration, corpus},
    fuzz,
    host::Host,
    request::any_event,
    session::{any_session, check_session},
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
