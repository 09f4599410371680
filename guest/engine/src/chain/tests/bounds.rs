//! What waits is bounded: in bytes, and in time.

use super::*;
use crate::{
    body::{BodyCoding, BodyPiece, Interest},
    wants::{ResponseHead, ResponseOrigin, ResponseView},
};

/// The host's own answer, or an upstream's.
struct Head(ResponseOrigin);

impl ResponseView for Head {
    fn head(&self) -> ResponseHead {
        ResponseHead { status: 400, origin: self.0, end: false }
    }

    fn header(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn header_values(&self, _: &str) -> Vec<Vec<u8>> {
        Vec::new()
    }
}

/// A configuration that counts by the header `u`.
fn by_user(extra: Json) -> Engine {
    let mut config = json!({
        "rule_name": "r", "redis": {"service_name": "redis.static", "timeout": 1000},
        "rule_items": [{"limit_by_per_header": "u", "limit_keys": [{"key": "*", "query_per_minute": 3}]}],
    });
    if let (Some(config), Json::Object(extra)) = (config.as_object_mut(), extra) {
        config.extend(extra);
    }
    Engine::configure(config.to_string().as_bytes()).expect("the configuration is good")
}

fn of_user(user: Vec<u8>) -> Sample {
    Sample { headers: vec![("u", user)], ..request() }
}

/// A value that is as long as possible in a key.
fn long(number: usize) -> Vec<u8> {
    format!("{number:%>256}").into_bytes()
}

fn send(engine: &mut Engine, next_call: &mut u64, now_ns: u64) {
    send_all(engine, now_ns, |_, _| {
        *next_call += 1;
        Ok(*next_call)
    });
}

#[test]
fn what_waits_for_a_silent_redis_is_bounded_and_the_rest_gets_the_failure_mode_at_once() {
    for (mode, status) in [("open", None), ("closed", Some(503)), ("local", None)] {
        let mut engine = by_user(json!({"failure_mode": mode, "headers": ["x-slidegate-degraded"]}));
        let shown = format!("{mode};cause=overloaded");
        let (mut calls, mut waiting) = (0, 0);
        for number in 0..20_000 {
            match engine.on_request(number, &of_user(long(usize::try_from(number).unwrap())), 0) {
                Step::Wait => waiting += 1,
                Step::Pass(edits) => {
                    assert_eq!(status, None);
                    assert_eq!(edits, pass_with([("x-slidegate-degraded", &shown)]));
                }
                Step::Respond(response) => assert_eq!(Some(response.status), status),
            }
            send(&mut engine, &mut calls, 0);
        }
        assert!((1_000..8_000).contains(&waiting), "{mode}: {waiting}");
        assert_eq!(flights(&engine.filters[0]) as u64, waiting);
        let said = lines(&mut engine);
        assert!(said.len() == 1 && said[0].contains("overloaded") && !said[0].contains("%%"), "{said:?}");
        // They are answered after all, and there is room again.
        for call in 1..=calls {
            engine.on_reply(call, admitted(1), MS);
        }
        assert_eq!(verdicts(&mut engine).len() as u64, waiting);
        (0..20_000).for_each(|stream| engine.on_done(stream, StreamEnd::Client, 0));
        assert_idle(&engine);
        assert_eq!(engine.on_request(1, &of_user(long(1)), MS), Step::Wait);
    }
}

#[test]
fn so_are_those_who_wait_behind_one_call() {
    let mut engine = by_user(json!({}));
    let mut calls = 0;
    for stream in 0..100_000 {
        engine.on_request(stream, &of_user(b"a".to_vec()), 0);
        send(&mut engine, &mut calls, 0);
    }
    assert_eq!(calls, 1);
    let waiting = engine.shared.streams.len();
    assert!((5_000..20_000).contains(&waiting), "{waiting}");
    engine.on_reply(1, Err(CallError::Timeout), 0);
    assert_eq!(verdicts(&mut engine).len(), waiting);
    assert_idle(&engine);
}

#[test]
fn streams_that_leave_while_they_wait_free_their_room_with_their_call() {
    let mut engine = by_user(json!({}));
    let mut calls = 0;
    for round in 0..5 {
        for number in 0..3_000 {
            engine.on_request(number, &of_user(long(usize::try_from(number / 2).unwrap())), 0);
            send(&mut engine, &mut calls, 0);
            engine.on_done(number, StreamEnd::Client, 0);
        }
        let made = calls;
        for call in 1..=made {
            engine.on_reply(call, if round % 2 == 0 { admitted(1) } else { Err(CallError::Disconnected) }, 0);
            send(&mut engine, &mut calls, 0);
        }
        assert!(verdicts(&mut engine).is_empty());
        assert_idle(&engine);
    }
}

#[test]
fn a_call_without_an_answer_is_given_up_with_all_who_joined_it() {
    let mut engine = by_user(json!({}));
    let mut calls = 0;
    let mut ask = |engine: &mut Engine, stream: u64, ms: u64| {
        let step = engine.on_request(stream, &of_user(b"a".to_vec()), ms * MS);
        send(engine, &mut calls, ms * MS);
        (step, calls)
    };
    assert_eq!(ask(&mut engine, 1, 0), (Step::Wait, 1));
    assert_eq!(ask(&mut engine, 2, 1_499), (Step::Wait, 1), "it joins");
    assert_eq!(ask(&mut engine, 3, 1_500), (Step::Wait, 2), "it does not");
    assert_eq!(verdicts(&mut engine), [(1, pass()), (2, pass())]);
    assert!(raised(&mut engine).contains(&"slidegate_redis_failures_total timeout 1".into()));
    engine.on_reply(1, refused(1), 1_600 * MS);
    assert!(verdicts(&mut engine).is_empty(), "the answer that comes late is nobody's");
    engine.on_reply(2, admitted(1), 2_999 * MS);
    assert_eq!(verdicts(&mut engine), [(3, pass())]);
    assert_idle(&engine);
}

#[test]
fn an_answer_that_comes_late_but_first_is_taken() {
    let mut engine = by_user(json!({}));
    engine.on_request(1, &of_user(b"a".to_vec()), 0);
    send(&mut engine, &mut 0, 0);
    engine.on_reply(1, refused(1_000_000), 9_000 * MS);
    assert!(matches!(&verdicts(&mut engine)[..], [(1, Verdict::Respond(response))] if response.status == 429));
}

#[test]
fn any_step_gives_up_what_is_overdue() {
    type Then = fn(&mut Engine);
    let steps: [Then; 3] = [
        |engine| engine.tick(1_500 * MS),
        |engine| engine.on_reply(77, admitted(1), 1_500 * MS),
        |engine| drop(engine.on_request(9, &Sample::default(), 1_500 * MS)),
    ];
    for step in steps {
        let mut engine = by_user(json!({"coalesce": false}));
        let mut calls = 0;
        for stream in 1..=3 {
            engine.on_request(stream, &of_user(b"a".to_vec()), 0);
            send(&mut engine, &mut calls, 0);
        }
        step(&mut engine);
        assert_eq!(verdicts(&mut engine).len(), 3);
    }
}

#[test]
fn a_rule_begins_so_many_new_keys_in_a_second() {
    let mut engine =
        by_user(json!({"max_new_keys_per_second": 10, "coalesce": false, "headers": ["x-slidegate-degraded"]}));
    let mut calls = 0;
    let mut asked = |engine: &mut Engine, users: core::ops::Range<u32>, ms: u64| {
        let before = calls;
        for user in users {
            let step = engine.on_request(u64::from(user), &of_user(format!("user-{user}").into_bytes()), ms * MS);
            let shown = pass_with([("x-slidegate-degraded", "open;cause=new_keys")]);
            assert!(step == Step::Wait || step == Step::Pass(shown), "{step:?}");
            send(engine, &mut calls, ms * MS);
        }
        for call in before + 1..=calls {
            engine.on_reply(call, admitted(1), ms * MS);
        }
        calls - before
    };
    assert_eq!(asked(&mut engine, 0..50, 0), 10);
    assert_eq!(asked(&mut engine, 0..10, 500), 10, "they are known");
    assert_eq!(asked(&mut engine, 20..30, 999), 0);
    assert_eq!(asked(&mut engine, 20..40, 1_000), 10);
    assert_eq!(raised(&mut engine).iter().filter(|event| event.contains("new_keys")).count(), 1);
    let said = lines(&mut engine);
    assert!(said.len() == 1 && said[0].contains("rule r, item 1") && !said[0].contains("user-"), "{said:?}");
}

#[test]
fn what_is_refused_from_memory_is_asked_for_again_after_a_while() {
    for (bound, ms) in [(json!(true), 5_000), (json!("2s"), 2_000), (json!("1m"), 30_000)] {
        let mut engine = by_user(json!({"remember_refusals": bound}));
        let mut calls = 0;
        let mut asks = |engine: &mut Engine, ms: u64| {
            let step = engine.on_request(1, &of_user(b"a".to_vec()), ms * MS);
            send(engine, &mut calls, ms * MS);
            step == Step::Wait
        };
        assert!(asks(&mut engine, 0));
        engine.on_reply(1, refused(30_000_000), 0);
        assert!(!asks(&mut engine, 1) && !asks(&mut engine, ms - 1), "{bound}");
        assert!(asks(&mut engine, ms + 1), "{bound}");
    }
}

#[test]
fn of_a_request_whose_body_was_waited_for_nothing_is_left_however_it_ends() {
    let body =
        |bytes: &'static str, end: bool| BodyPiece { bytes: bytes.as_bytes(), coding: BodyCoding::Identity, end };
    for redis in [true, false] {
        let mut config =
            json!({"rule_name": "r", "reserve": "max_tokens", "global_threshold": {"token_per_day": 9_000}});
        if redis {
            config["redis"] = json!({"service_name": "redis.static", "timeout": 1000});
        }
        // How much has come of the body: nothing, its beginning, or all, so that Redis is asked about it.
        for came in 0..3 {
            let mut ends: Vec<fn(&mut Engine)> = vec![
                |_| {},
                |engine| {
                    assert!(matches!(engine.on_response_headers(1, &Head(ResponseOrigin::Host), 0), Step::Pass(_)))
                },
                |engine| {
                    assert!(matches!(engine.on_response_headers(1, &Head(ResponseOrigin::Upstream), 0), Step::Pass(_)));
                },
                // The stream's name is used again.
                |engine| assert!(matches!(engine.on_request(1, &request(), 0), Step::Pass(_))),
            ];
            for end in &mut ends {
                let mut engine = Engine::configure(config.to_string().as_bytes()).expect("the configuration is good");
                let Step::Pass(Pass { wants, .. }) = engine.on_request(1, &request(), 0) else { panic!("no body yet") };
                assert_eq!(wants.request_body, Interest::Hold);
                if came > 0 {
                    assert_eq!(engine.on_request_body(1, body("{", false), 0), Step::Wait);
                }
                let mut calls = 0;
                if came > 1 {
                    let step = engine.on_request_body(1, body("}", true), 0);
                    assert_eq!(step == Step::Wait, redis, "{step:?}");
                    send(&mut engine, &mut calls, 0);
                }
                end(&mut engine);
                // What the adapter has no reason to tell is told only where somebody still wants to know.
                if engine.knows(1) {
                    engine.on_done(1, StreamEnd::Client, 0);
                }
                for _ in 0..2 {
                    (1..=calls).for_each(|call| engine.on_reply(call, admitted(1), 0));
                    engine.tick(MS * 1_000);
                    send(&mut engine, &mut calls, MS * 1_000);
                }
                verdicts(&mut engine);
                assert_idle(&engine);
            }
        }
    }
}
