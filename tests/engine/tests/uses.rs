//! A configuration says what of requests it uses, and asks for nothing else: a host need not fetch it.

use proptest::{prelude::*, sample::Index};
use serde_json::json;
use slidegate_engine::Engine;
use slidegate_engine_tests::{
    fuzzing::{
        configuration::corpus,
        host::Host,
        request::{Event, any_event},
    },
    plain_request::PlainRequest,
    promises::runner,
};

#[test]
fn no_configuration_asks_for_what_it_does_not_say_it_uses() {
    let configurations: Vec<Vec<u8>> = corpus().iter().map(|document| document.to_string().into_bytes()).collect();
    let check = |(at, events): (Index, Vec<Event>)| {
        Host::new(Engine::configure(at.get::<Vec<u8>>(&configurations)).expect("the corpus is good")).run(&events)
    };
    let outcome = runner(2_000).run(&(any::<Index>(), prop::collection::vec(any_event(), 1..12)), check);
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn nor_does_a_rule_by_a_part_that_is_no_header() {
    for (field, value) in [
        ("limit_by_per_ip", "from-header-:authority"),
        ("limit_by_per_ip", "from-header-:path"),
        ("limit_by_per_header", ":authority"),
        ("limit_by_per_header", ":method"),
        ("limit_by_per_header", ":path-only"),
    ] {
        let key = if field == "limit_by_per_ip" { "0.0.0.0/0" } else { "*" };
        let item = json!({field: value, "limit_keys": [{"key": key, "query_per_day": 1}]});
        let document = json!({"rule_name": "r", "rule_items": [item]}).to_string();
        let engine = Engine::configure(document.as_bytes()).unwrap_or_else(|errors| panic!("{document}: {errors:?}"));
        Host::new(engine).request(&PlainRequest::default()).unwrap_or_else(|failure| panic!("{document}: {failure}"));
    }
}
