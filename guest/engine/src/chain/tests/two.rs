//! Two of something: what is remembered of one is not taken for the other.

use super::*;

/// Two policies by host, `a.test` and `b.test`, with one name and what else is given of each.
fn two(a: Json, b: Json) -> Engine {
    let policy = |host: &str, extra: Json| {
        let mut policy =
            json!({"_match_domain_": [host], "rule_name": "r", "global_threshold": {"limit": 5, "window": "10s"}});
        if let (Some(policy), Json::Object(extra)) = (policy.as_object_mut(), extra) {
            policy.extend(extra);
        }
        policy
    };
    let config = json!({"_rules_": [policy("a.test", a), policy("b.test", b)]});
    Engine::configure(config.to_string().as_bytes()).expect("the configuration is good")
}

fn redis(name: &str) -> Json {
    json!({"redis": {"service_name": name}})
}

fn to(host: &str) -> Sample {
    Sample { authority: Some(host.as_bytes().to_vec()), ..Sample::default() }
}

type Headers = Vec<(String, Vec<u8>)>;

/// Asks for a host; the calls made are answered with this reply. Returns to which services calls went, and the status,
/// 0 for a pass.
fn ask(engine: &mut Engine, host: &str, now_ns: u64, reply: &Result<Reply, CallError>) -> (Vec<u32>, u16, Headers) {
    let step = engine.on_request(1, &to(host), now_ns);
    let mut called = Vec::new();
    send_all(engine, now_ns, |service, _| {
        called.push(service);
        Ok(called.len() as u64)
    });
    if !called.is_empty() {
        engine.on_reply(1, reply.clone(), now_ns);
    }
    let outcome = match step {
        Step::Wait => verdicts(engine).pop().expect("it was answered").1,
        Step::Pass(edits) => Verdict::Pass(edits),
        Step::Respond(response) => Verdict::Respond(response),
    };
    match outcome {
        Verdict::Pass(_) => (called, 0, Vec::new()),
        Verdict::Respond(response) => (called, response.status, response.headers),
    }
}

#[test]
fn a_key_that_one_redis_refuses_is_asked_for_at_the_other() {
    let mut engine = two(redis("one.static"), redis("two.static"));
    assert_eq!(ask(&mut engine, "a.test", 0, &refused(9_000_000)).1, 429);
    assert_eq!(ask(&mut engine, "a.test", MS, &admitted(1)).0, [0; 0], "known");
    let (called, status, _) = ask(&mut engine, "b.test", 2 * MS, &admitted(4));
    assert_eq!((called.as_slice(), status), (&[1][..], 0));
    assert_eq!(ask(&mut engine, "a.test", 3 * MS, &admitted(4)).1, 429, "still");
}

#[test]
fn a_call_to_one_redis_is_not_waited_for_by_who_asks_the_other() {
    let mut engine = two(redis("one.static"), redis("two.static"));
    for (stream, host) in [(1, "a.test"), (2, "b.test"), (3, "a.test"), (4, "b.test")] {
        assert_eq!(engine.on_request(stream, &to(host), 0), Step::Wait);
    }
    let mut called = Vec::new();
    send_all(&mut engine, 0, |service, _| {
        called.push(service);
        Ok(100 + u64::from(service))
    });
    assert_eq!(called, [0, 1]);
    engine.on_reply(101, admitted(1), 0);
    assert_eq!(verdicts(&mut engine), [(2, pass())]);
    engine.on_reply(100, Err(CallError::Timeout), 0);
    assert_eq!(verdicts(&mut engine), [(1, pass()), (3, pass())], "4 waits for another call");
}

#[test]
fn a_breaker_stops_the_calls_of_its_own_redis_only() {
    let mut engine = two(redis("one.static"), redis("two.static"));
    for _ in 0..10 {
        ask(&mut engine, "a.test", 0, &Err(CallError::Connect));
    }
    assert_eq!(ask(&mut engine, "a.test", 0, &admitted(1)).0, [0; 0]);
    assert_eq!(ask(&mut engine, "b.test", 0, &admitted(1)).0, [1]);
}

#[test]
fn windows_that_stand_in_for_two_redis_are_two() {
    let with_local = |name: &str| json!({"redis": {"service_name": name}, "failure_mode": "local"});
    for (a, b) in [(with_local("one.static"), with_local("two.static")), (with_local("one.static"), json!({}))] {
        let mut engine = two(a, b);
        for host in ["a.test", "b.test"] {
            let statuses: Vec<_> = (0..6).map(|_| ask(&mut engine, host, 0, &Err(CallError::Connect)).1).collect();
            assert_eq!(statuses, [0, 0, 0, 0, 0, 429], "{host}");
        }
    }
}

#[test]
fn of_two_limits_on_one_key_only_the_one_that_refused_is_answered_from_memory() {
    let wider = json!({"redis": {"service_name": "one.static"}, "headers": ["retry-after"],
        "global_threshold": {"limit": 10, "window": "10s"}});
    let narrow = json!({"redis": {"service_name": "one.static"}, "headers": ["retry-after"]});
    let mut engine = two(narrow, wider);
    let retry = |headers: &Headers| String::from_utf8(headers[0].1.clone()).unwrap();
    let (_, status, headers) = ask(&mut engine, "b.test", 0, &refused(5_000_000));
    assert_eq!((status, retry(&headers)), (429, "5".into()));
    let (called, status, headers) = ask(&mut engine, "a.test", MS, &refused(8_000_000));
    assert_eq!((called.as_slice(), status, retry(&headers)), (&[0][..], 429, "8".into()), "a lower limit waits longer");
    let (called, _, headers) = ask(&mut engine, "a.test", MS, &admitted(1));
    assert_eq!((called.len(), retry(&headers)), (0, "8".into()));
    assert_eq!(
        ask(&mut engine, "b.test", MS, &refused(5_000_000)).0,
        [0],
        "nor is the shorter wait taken for the longer"
    );
}

#[test]
fn where_no_header_tells_of_the_wait_a_lower_limit_is_refused_without_asking() {
    let wider = json!({"redis": {"service_name": "one.static"}, "headers": [],
        "global_threshold": {"limit": 10, "window": "10s"}});
    let mut engine = two(json!({"redis": {"service_name": "one.static"}, "headers": []}), wider);
    ask(&mut engine, "b.test", 0, &refused(5_000_000));
    let (called, status, headers) = ask(&mut engine, "a.test", MS, &admitted(1));
    assert_eq!((called.len(), status, headers.len()), (0, 429, 0));
}

/// A configuration of one policy whose requests meet two limits, by the header `u` and together.
fn with_two_limits() -> Engine {
    let by_user = json!([{"limit_by_per_header": "u", "limit_keys": [{"key": "*", "query_per_minute": 3}]}]);
    engine(json!({"global_threshold": {"query_per_minute": 9}, "rule_items": by_user,
            "headers": ["ratelimit", "retry-after"]}))
}

fn of_user(user: &str) -> Sample {
    Sample { headers: vec![("u", user.as_bytes().to_vec())], ..request() }
}

/// The script's reply for two limits.
fn two_limits(admitted: i64, rooms: [[i64; 3]; 2]) -> Result<Reply, CallError> {
    let numbers = [admitted, 0].into_iter().chain(rooms.into_iter().flatten());
    Ok(Reply::Single(Value::Bulk(numbers.flat_map(|number| (number as f64).to_be_bytes()).collect())))
}

#[test]
fn a_plan_of_which_one_limit_is_known_is_asked_for() {
    let mut engine = with_two_limits();
    let calls = |engine: &mut Engine, user: &str, reply: Result<Reply, CallError>| {
        let step = engine.on_request(1, &of_user(user), 0);
        let mut called = 0;
        send_all(engine, 0, |_, _| {
            called += 1;
            Ok(1)
        });
        if called > 0 {
            engine.on_reply(1, reply, 0);
        }
        let outcome = verdicts(engine).pop();
        match (step, outcome) {
            (Step::Respond(response), _) | (_, Some((_, Verdict::Respond(response)))) => {
                (called, String::from_utf8(response.headers[1].1.clone()).unwrap())
            }
            other => panic!("{other:?}"),
        }
    };
    let all_full = |user_room: i64| {
        two_limits(0, [[0, 4_000_000, 4_000_000], [user_room, 50_000_000, if user_room > 0 { 0 } else { 50_000_000 }]])
    };
    let (called, shown) = calls(&mut engine, "a", all_full(2));
    assert_eq!((called, shown.as_str()), (1, r#""r-60s";r=0;t=4, "r-60s.2";r=2;t=50"#));
    assert_eq!(
        calls(&mut engine, "a", all_full(2)),
        (0, shown.clone()),
        "as long as all together refuse, nobody charges user a"
    );
    let (called, shown) = calls(&mut engine, "b", all_full(0));
    assert_eq!((called, shown.as_str()), (1, r#""r-60s";r=0;t=4, "r-60s.2";r=0;t=50"#), "of user b nothing was known");
    // The user's limit refuses, and others go on charging the one of all: that is to be asked for.
    let mut engine = with_two_limits();
    let user_full = |room: i64| two_limits(0, [[room, 4_000_000, 0], [0, 50_000_000, 50_000_000]]);
    assert_eq!(calls(&mut engine, "a", user_full(5)).0, 1);
    assert_eq!(calls(&mut engine, "a", user_full(1)), (1, r#""r-60s";r=1;t=4, "r-60s.2";r=0;t=50"#.into()));
}
