//! What is told of a refusal for tokens, as Higress' plugin tells it.

use super::*;

const TOKENS: &str = r#"{"rule_name": "r", "reserve": 5, "global_threshold": {"token_per_minute": 5}}"#;
const COUNT: &str = "metric.token_ratelimit_count";

/// Refuses a request, and tells what was asked for.
fn refused(filter: &mut Filter<Fake>, fake: &Fake, stream: u32) -> Vec<String> {
    assert_eq!(fake.hook(stream, || filter.on_request(stream, true)), Flow::Stop);
    let events = fake.take_changes();
    events.into_iter().filter(|event| event.contains("route.")).collect()
}

#[test]
fn a_refusal_for_tokens_is_told_to_the_log_of_models_and_counted_by_consumer() {
    let (mut filter, fake) = configured(TOKENS);
    assert_eq!(fake.hook(2, || filter.on_request(2, true)), Flow::Continue);
    assert_eq!(fake.property_of(2, "ai_log"), None);
    let of_nobody = format!("raise route.-.upstream.-.model.none.consumer.none.{COUNT} 1");
    assert_eq!(refused(&mut filter, &fake, 3), [of_nobody]);
    assert_eq!(fake.property_of(3, "ai_log").unwrap(), br#"{\"token_ratelimit_status\":\"limited\"}"#);
    fake.set_headers(&[("x-mse-consumer", "ann|a")]);
    fake.hook(4, || {
        fake.set_property("route_name", b"models");
        fake.set_property("cluster_name", b"outbound|80||m.dns");
        fake.set_property("ai_log", br#"{\"model\":\"m\"}"#);
    });
    let of_ann = format!("raise route.models.upstream.outbound_80__m.dns.model.none.consumer.ann_a.{COUNT} 1");
    assert_eq!(refused(&mut filter, &fake, 4), [of_ann]);
    let told = br#"{\"model\":\"m\",\"token_ratelimit_status\":\"limited\"}"#;
    assert_eq!(fake.property_of(4, "ai_log").unwrap(), told);
    // Each name is defined once in a virtual machine, after the answer.
    fake.set_headers(&[]);
    assert_eq!(fake.hook(5, || filter.on_request(5, true)), Flow::Stop);
    let events = fake.take_events();
    assert!(events.iter().all(|event| !event.starts_with("define")), "{events:?}");
    assert!(events[0].starts_with("respond 429 ai-token-ratelimit.rejected"), "{events:?}");
}

#[test]
fn consumers_are_whatever_requests_say_so_that_their_names_are_bounded() {
    let (mut filter, fake) = configured(TOKENS);
    fake.hook(2, || filter.on_request(2, true));
    let mut names = std::collections::BTreeSet::new();
    for number in 0..1_100 {
        fake.set_headers(&[("x-mse-consumer", &format!("c{number}"))]);
        names.extend(refused(&mut filter, &fake, 3));
    }
    assert_eq!(names.len(), 1_001);
    assert!(names.contains(&format!("raise route.other.upstream.other.model.none.consumer.other.{COUNT} 1")));
}

#[test]
fn a_refusal_for_requests_is_none_of_it() {
    let (mut filter, fake) = configured(r#"{"rule_name": "r", "global_threshold": {"query_per_minute": 1}}"#);
    fake.hook(2, || filter.on_request(2, true));
    assert_eq!(refused(&mut filter, &fake, 3), [""; 0]);
    assert_eq!(fake.property_of(3, "ai_log"), None);
}
