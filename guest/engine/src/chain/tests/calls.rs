//! Fewer calls than requests: the negative cache, single flight, and the circuit breaker.

use super::*;
use crate::store::circuit_breaker::FAILURES_MAX;

/// Dispatches what is queued; returns for how many requests each call asks, and with which command.
fn asked(engine: &mut Engine, first: u64, now_ns: u64) -> Vec<String> {
    let mut sent = Vec::new();
    send_all(engine, now_ns, |_, command| {
        let words: Vec<_> = command.words().collect();
        let units = f64::from_be_bytes(*words.last().unwrap().first_chunk().unwrap());
        sent.push(format!("{} {units}", words[0].escape_ascii()));
        Ok(first + sent.len() as u64 - 1)
    });
    sent
}

/// The reply that admits so many, of a limit with so much room; one more fits after so many microseconds.
fn batch(admitted: i64, room: i64, retry_us: i64) -> Result<Reply, CallError> {
    doubles([admitted, 0, room, 1_000_000, retry_us])
}

fn streams(settled: &[(u64, Verdict)], passed: bool) -> Vec<u64> {
    settled
        .iter()
        .filter(|(_, outcome)| matches!(outcome, Verdict::Pass(_)) == passed)
        .map(|(stream, _)| *stream)
        .collect()
}

fn status(step: &Step) -> Option<u16> {
    match step {
        Step::Respond(response) => Some(response.status),
        Step::Pass(_) | Step::Wait => None,
    }
}

#[test]
fn who_comes_while_a_call_is_out_goes_with_the_next_and_the_first_are_admitted() {
    let mut engine = engine(json!({"remember_refusals": false, "show_limit_quota_header": true,
            "global_threshold": {"query_per_second": 9}}));
    for stream in 1..=3 {
        assert_eq!(engine.on_request(stream, &request(), 0), Step::Wait);
    }
    assert_eq!(asked(&mut engine, 100, 0), ["EVALSHA 1"]);
    for stream in 4..=6 {
        assert_eq!(engine.on_request(stream, &request(), 0), Step::Wait);
    }
    assert!(asked(&mut engine, 101, 0).is_empty());
    engine.on_reply(100, batch(1, 5, 0), MS);
    assert_eq!(streams(&verdicts(&mut engine), true), [1]);
    assert_eq!(asked(&mut engine, 101, MS), ["EVALSHA 5"]);
    engine.on_request(7, &request(), MS);
    engine.on_reply(101, batch(3, 3, 1_500_000), 2 * MS);
    let settled = verdicts(&mut engine);
    assert_eq!(
        settled.iter().map(|(stream, _)| *stream).collect::<Vec<_>>(),
        [2, 3, 4, 5, 6],
        "in the order they came"
    );
    assert_eq!((streams(&settled, true), streams(&settled, false)), (vec![2, 3, 4], vec![5, 6]));
    for ((stream, verdict), remaining) in settled.iter().zip(["2", "1", "0"]) {
        let told = pass_with([("x-ratelimit-limit", "9"), ("x-ratelimit-remaining", remaining)]);
        assert_eq!(*verdict, Verdict::Pass(told), "{stream}");
    }
    assert_eq!(asked(&mut engine, 102, 2 * MS), ["EVALSHA 1"], "who came last asks alone");
    engine.on_reply(102, batch(1, 1, 0), 3 * MS);
    assert_eq!(streams(&verdicts(&mut engine), true), [7]);
    (1..=7).for_each(|stream| engine.on_done(stream, StreamEnd::Client, 0));
    assert_idle(&engine);
    let counters = raised(&mut engine);
    for counter in ["slidegate_redis_calls_total redis.static 3", "slidegate_redis_calls_saved_total coalesced 4"] {
        assert!(counters.iter().any(|raised| raised == counter), "{counter}: {counters:?}");
    }
}

#[test]
fn the_last_place_is_known_to_be_the_last() {
    let mut engine = engine(json!({}));
    engine.on_request(1, &request(), 0);
    assert_eq!(asked(&mut engine, 100, 0), ["EVALSHA 1"]);
    engine.on_reply(100, batch(1, 1, 0), MS);
    assert_eq!(streams(&verdicts(&mut engine), true), [1]);
    assert_eq!(status(&engine.on_request(2, &request(), 999 * MS)), Some(429), "until the oldest cost leaves");
    assert_eq!(engine.on_request(3, &request(), 1_000 * MS), Step::Wait);
    assert_eq!(asked(&mut engine, 101, 1_000 * MS), ["EVALSHA 1"]);
}

#[test]
fn who_asks_something_else_does_not_wait() {
    let items = json!([{"limit_by_per_header": "user", "limit_keys": [{"key": "*", "query_per_second": 1}]}]);
    let config = json!({"rule_name": "r", "rule_items": items, "redis": {"service_name": "redis.static"}});
    let mut engine = Engine::configure(config.to_string().as_bytes()).unwrap();
    for (stream, user) in [(1, "a"), (2, "b"), (3, "a")] {
        engine.on_request(stream, &Sample { headers: vec![("user", user.into())], ..request() }, 0);
    }
    assert_eq!(asked(&mut engine, 100, 0), ["EVALSHA 1", "EVALSHA 1"]);
    engine.on_reply(101, batch(1, 1, 0), 0);
    assert_eq!(verdicts(&mut engine), [(2, pass())]);
    engine.on_reply(100, batch(1, 2, 0), 0);
    assert_eq!(asked(&mut engine, 102, 0), ["EVALSHA 1"]);
}

#[test]
fn policies_that_share_a_key_do_not_share_a_call() {
    let policy = |limit: u64, host: &str| {
        json!({"_match_domain_": [host], "rule_name": "r",
        "global_threshold": {"query_per_second": limit}, "redis": {"service_name": "redis.static"}})
    };
    let config = json!({"_rules_": [policy(1, "one"), policy(2, "two")]});
    let mut engine = Engine::configure(config.to_string().as_bytes()).unwrap();
    for (stream, host) in [(1, "one"), (2, "two")] {
        engine.on_request(stream, &Sample { authority: Some(host.into()), ..Sample::default() }, 0);
    }
    assert_eq!(asked(&mut engine, 100, 0), ["EVALSHA 1", "EVALSHA 1"]);
    engine.on_reply(101, batch(1, 2, 0), 0);
    engine.on_reply(100, batch(0, 0, 1), 0);
    assert_eq!(streams(&verdicts(&mut engine), true), [2]);
    assert_idle(&engine);
}

#[test]
fn who_leaves_while_it_waits_takes_no_room() {
    let mut engine = engine(json!({}));
    for stream in 1..=4 {
        engine.on_request(stream, &request(), 0);
    }
    asked(&mut engine, 100, 0);
    engine.on_done(3, StreamEnd::Client, 0);
    assert_eq!(engine.on_request(3, &request(), 0), Step::Wait, "its id is another's now, who waits last");
    engine.on_reply(100, batch(1, 9, 0), 0);
    assert_eq!(asked(&mut engine, 101, 0), ["EVALSHA 3"]);
    engine.on_done(2, StreamEnd::Client, 0);
    engine.on_reply(101, batch(2, 2, 1_000_000), 0);
    let settled = verdicts(&mut engine);
    assert_eq!(
        (streams(&settled, true), streams(&settled, false)),
        (vec![1, 4], vec![3]),
        "2 had gone with the call, and was charged"
    );
    for stream in [1, 4, 3] {
        engine.on_done(stream, StreamEnd::Client, 0);
    }
    assert_idle(&engine);
}

#[test]
fn when_all_who_waited_have_left_no_call_is_made() {
    let mut engine = engine(json!({}));
    engine.on_request(1, &request(), 0);
    engine.on_request(2, &request(), 0);
    asked(&mut engine, 100, 0);
    engine.on_done(2, StreamEnd::Client, 0);
    engine.on_done(1, StreamEnd::Client, 0);
    engine.on_reply(100, batch(1, 2, 0), 0);
    assert!(asked(&mut engine, 101, 0).is_empty() && verdicts(&mut engine).is_empty());
    assert_idle(&engine);
}

#[test]
fn a_call_that_fails_settles_all_who_wait_for_it_and_behind_it() {
    for (mode, passes) in [("open", true), ("closed", false), ("local", true)] {
        let mut engine = engine(json!({"failure_mode": mode, "global_threshold": {"query_per_second": 100}}));
        engine.on_request(0, &request(), 0);
        asked(&mut engine, 100, 0);
        (1..=20).for_each(|stream| assert_eq!(engine.on_request(stream, &request(), 0), Step::Wait));
        engine.on_reply(100, batch(1, 100, 0), 0);
        assert_eq!(asked(&mut engine, 101, 0), ["EVALSHA 20"]);
        (21..=40).for_each(|stream| assert_eq!(engine.on_request(stream, &request(), 0), Step::Wait));
        verdicts(&mut engine);
        engine.on_reply(101, Err(CallError::Timeout), 1_000 * MS);
        assert_eq!(streams(&verdicts(&mut engine), passes), (1..=40).collect::<Vec<_>>(), "{mode}");
        assert!(asked(&mut engine, 102, 0).is_empty(), "none is asked again");
        let degraded = format!("slidegate_degraded_decisions_total {mode} 40");
        assert!(raised(&mut engine).contains(&degraded), "{mode}");
        (0..=40).for_each(|stream| engine.on_done(stream, StreamEnd::Client, 0));
        assert_idle(&engine);
    }
}

#[test]
fn a_batch_whose_script_is_unknown_goes_again_as_a_whole() {
    let mut engine = engine(json!({}));
    (1..=3).for_each(|stream| assert_eq!(engine.on_request(stream, &request(), 0), Step::Wait));
    asked(&mut engine, 100, 0);
    engine.on_reply(100, batch(1, 3, 0), 0);
    assert_eq!(asked(&mut engine, 101, 0), ["EVALSHA 2"]);
    engine.on_reply(101, Ok(Reply::Error("NOSCRIPT No matching script.".into())), 0);
    engine.on_request(4, &request(), 0);
    assert_eq!(asked(&mut engine, 102, 0), ["EVAL 2"]);
    engine.on_reply(102, batch(2, 3, 0), 0);
    assert_eq!(streams(&verdicts(&mut engine), true), [1, 2, 3]);
    assert_eq!(asked(&mut engine, 103, 0), ["EVALSHA 1"]);
}

#[test]
fn a_known_refusal_costs_no_call_until_room_appears() {
    let mut engine = engine(json!({}));
    engine.on_request(1, &request(), 0);
    asked(&mut engine, 100, 10 * MS);
    engine.on_reply(100, batch(0, 0, 500_000), 14 * MS);
    assert_eq!(streams(&verdicts(&mut engine), false), [1]);
    for now_ns in [14 * MS, 300 * MS, 510 * MS - 1] {
        let step = engine.on_request(2, &request(), now_ns);
        let Step::Respond(response) = step else { panic!("{step:?}") };
        assert_eq!((response.status, &response.headers[..]), (429, &[("x-ratelimit-reset".into(), "1".into())][..]));
    }
    assert!(asked(&mut engine, 101, 0).is_empty());
    assert!(raised(&mut engine).contains(&"slidegate_redis_calls_saved_total known_refusal 3".into()));
    assert_eq!(engine.on_request(2, &request(), 510 * MS), Step::Wait, "500 ms after it was asked");
    assert_eq!(asked(&mut engine, 101, 510 * MS), ["EVALSHA 1"]);
    engine.on_reply(101, batch(1, 1, 0), 511 * MS);
    assert_eq!(verdicts(&mut engine), [(2, pass())]);
}

#[test]
fn a_known_refusal_ends_when_a_call_with_the_minimum_delay_finds_room() {
    let mut engine = engine(json!({}));
    engine.on_request(1, &request(), 0);
    asked(&mut engine, 100, 10 * MS);
    // Redis' clock is a minute ahead: 2 ms on the way.
    engine.on_reply(100, doubles([1, 60_012_000, 9, 1_000_000, 0]), 14 * MS);
    engine.on_request(2, &request(), 20 * MS);
    asked(&mut engine, 101, 20 * MS);
    // 8 ms on the way: room comes at 528 ms.
    engine.on_reply(101, doubles([0, 60_028_000, 0, 500_000, 500_000]), 40 * MS);
    for now_ns in [40 * MS, 526 * MS - 1] {
        assert_eq!(status(&engine.on_request(3, &request(), now_ns)), Some(429));
    }
    assert_eq!(engine.on_request(3, &request(), 526 * MS), Step::Wait);
}

#[test]
fn who_waits_behind_a_refusal_is_refused_with_it() {
    let mut engine = engine(json!({}));
    (1..=5).for_each(|stream| assert_eq!(engine.on_request(stream, &request(), 0), Step::Wait));
    asked(&mut engine, 100, 0);
    engine.on_reply(100, batch(0, 0, 500_000), MS);
    assert_eq!(streams(&verdicts(&mut engine), false), [1, 2, 3, 4, 5]);
    assert!(asked(&mut engine, 101, MS).is_empty());
    (1..=5).for_each(|stream| engine.on_done(stream, StreamEnd::Client, 0));
    assert_idle(&engine);
}

#[test]
fn both_can_be_switched_off() {
    let mut engine = plain_engine();
    for stream in [1, 2] {
        engine.on_request(stream, &request(), 0);
    }
    assert_eq!(asked(&mut engine, 100, 0), ["EVALSHA 1", "EVALSHA 1"]);
    engine.on_reply(100, batch(0, 0, 500_000), 0);
    engine.on_request(3, &request(), MS);
    assert_eq!(asked(&mut engine, 102, MS), ["EVALSHA 1"]);
}

#[test]
fn a_failing_redis_is_only_probed() {
    let mut engine = engine(json!({"headers": ["x-slidegate-degraded"], "failure_mode": "closed"}));
    let fail = |engine: &mut Engine, now_ns: u64| {
        assert_eq!(engine.on_request(1, &request(), now_ns), Step::Wait);
        send_all(engine, now_ns, |_, _| Err(CallError::Connect));
        verdicts(engine)
    };
    for _ in 0..FAILURES_MAX {
        let settled = fail(&mut engine, 0);
        let [(1, Verdict::Respond(response))] = &settled[..] else { panic!("{settled:?}") };
        assert_eq!(response.headers, [("x-slidegate-degraded".into(), "closed;cause=connect".into())]);
    }
    let said = lines(&mut engine);
    assert!(said.len() == 2 && said[1].contains("5 times in a row (connect)"), "{said:?}");
    for _ in 0..1_000 {
        assert_eq!(status(&engine.on_request(1, &request(), 49 * MS)), Some(503));
    }
    assert!(asked(&mut engine, 100, 49 * MS).is_empty() && lines(&mut engine).is_empty());
    assert!(raised(&mut engine).contains(&"slidegate_redis_calls_saved_total breaker 1000".into()));
    assert_eq!(engine.on_request(1, &request(), 50 * MS), Step::Wait, "the probe");
    assert_eq!(asked(&mut engine, 100, 50 * MS), ["EVALSHA 1"]);
    assert_eq!(status(&engine.on_request(2, &request(), 51 * MS)), Some(503), "nobody waits behind a probe");
    engine.on_reply(100, Err(CallError::Timeout), 60 * MS);
    assert_eq!(status(&engine.on_request(2, &request(), 159 * MS)), Some(503));
    assert_eq!(engine.on_request(2, &request(), 160 * MS), Step::Wait);
    asked(&mut engine, 101, 160 * MS);
    engine.on_reply(101, batch(1, 2, 0), 161 * MS);
    verdicts(&mut engine);
    assert!(lines(&mut engine).iter().any(|line| line.contains("answers again")));
    assert_eq!(engine.on_request(3, &request(), 161 * MS), Step::Wait);
    assert_eq!(asked(&mut engine, 102, 161 * MS), ["EVALSHA 1"]);
}

#[test]
fn a_second_probe_does_not_wait_behind_one_that_is_lost() {
    let mut engine = engine(json!({}));
    for _ in 0..FAILURES_MAX {
        engine.on_request(1, &request(), 0);
        send_all(&mut engine, 0, |_, _| Err(CallError::Connect));
    }
    verdicts(&mut engine);
    for (stream, now_ms) in [(2, 50), (3, 550), (4, 1_050)] {
        assert_eq!(engine.on_request(stream, &request(), now_ms * MS), Step::Wait);
        assert_eq!(asked(&mut engine, 98 + stream, now_ms * MS), ["EVALSHA 1"], "a call of its own at {now_ms} ms");
    }
    engine.on_reply(102, batch(1, 2, 0), 1_051 * MS);
    assert_eq!(streams(&verdicts(&mut engine), true), [4]);
}

#[test]
fn a_clock_of_redis_that_was_set_is_told_once_in_a_while() {
    let mut engine = engine(json!({"remember_refusals": false}));
    let mut ask = |call: u64, at_s: u64, clock_s: u64| {
        engine.on_request(call, &request(), at_s * 1_000 * MS);
        asked(&mut engine, call, at_s * 1_000 * MS);
        engine.on_reply(call, doubles([1, clock_s as i64 * 1_000_000, 9, 1_000_000, 0]), (at_s * 1_000 + 1) * MS);
        lines(&mut engine)
    };
    assert!(ask(1, 100, 86_400).is_empty() && ask(2, 101, 86_401).is_empty());
    let back = "the clock of Redis redis.static:80 stepped back by 82800 s: what is in use stays so for a window and a \
                slot at most";
    assert_eq!(ask(3, 102, 3_602), [back]);
    assert!(ask(4, 103, 3_603).is_empty(), "it goes on from there");
    assert!(ask(5, 104, 86_404).is_empty() && ask(6, 105, 3_605).is_empty(), "servers that differ do not fill the log");
    assert_eq!(
        ask(7, 113, 86_413),
        ["the clock of Redis redis.static:80 stepped ahead by 82800 s: windows have passed by it"]
    );
}

#[test]
fn a_refusal_that_is_known_is_asked_about_anew_once_the_clock_of_redis_was_set() {
    let rule = |name: &str| {
        json!({"_match_domain_": [name], "rule_name": name,
        "global_threshold": {"limit": 1, "window": "10s"}, "redis": {"service_name": "redis.static"}})
    };
    let config = json!({"_rules_": [rule("a.test"), rule("b.test")]}).to_string();
    let mut engine = Engine::configure(config.as_bytes()).unwrap();
    let of = |host: &str| Sample { authority: Some(host.into()), ..request() };
    let mut ask = |call: u64, host: &str, now_ns: u64, admitted: i64, clock_s: i64| {
        let step = engine.on_request(call, &of(host), now_ns);
        if step == Step::Wait {
            asked(&mut engine, call, now_ns);
            engine.on_reply(
                call,
                doubles([admitted, clock_s * 1_000_000, admitted, 10_000_000, 10_000_000]),
                now_ns + MS,
            );
        }
        status(&step)
    };
    ask(1, "a.test", 0, 0, 86_400);
    assert_eq!(ask(2, "a.test", MS, 0, 0), Some(429), "from memory");
    ask(3, "b.test", 2 * MS, 1, 0);
    assert_eq!(ask(4, "a.test", 3 * MS, 0, 0), None, "Redis is asked");
    assert_eq!(ask(5, "a.test", 4 * MS, 0, 0), Some(429), "and what it says now is remembered");
}

#[test]
fn a_refusal_that_is_known_holds_while_redis_is_away() {
    let mut engine = engine(json!({}));
    engine.on_request(1, &request(), 0);
    asked(&mut engine, 100, 0);
    engine.on_reply(100, batch(0, 0, 900_000), 0);
    verdicts(&mut engine);
    for now_ms in [0, 899] {
        assert_eq!(status(&engine.on_request(2, &request(), now_ms * MS)), Some(429));
    }
    assert_eq!(engine.on_request(2, &request(), 900 * MS), Step::Wait);
}

#[test]
fn a_redis_that_comes_and_goes_does_not_fill_the_log() {
    let mut engine = engine(json!({}));
    let mut said = 0;
    for call in 0..10_000 {
        let now_ns = call * MS;
        engine.on_request(1, &request(), now_ns);
        asked(&mut engine, call, now_ns);
        let answer = doubles([1, call as i64 * 1_000, 1, 1_000_000, 0]);
        engine.on_reply(call, if call % 2 == 0 { Err(CallError::Timeout) } else { answer }, now_ns);
        verdicts(&mut engine);
        said += lines(&mut engine).len();
    }
    assert!((2..=7).contains(&said), "{said} lines in ten seconds");
    engine.on_request(1, &request(), 20_000 * MS);
    asked(&mut engine, 10_000, 20_000 * MS);
    engine.on_reply(10_000, doubles([1, 20_000_000, 1, 1_000_000, 0]), 20_000 * MS);
    assert!(lines(&mut engine).iter().all(|line| line.contains("answers again")));
}
