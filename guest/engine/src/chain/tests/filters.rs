//! Several filters: what each does to a request, and what the next one makes of it.

use super::{trial::Trial, *};

/// A limiter on requests by the header `user`, with its windows in Redis, and what else is given.
fn by_user(rule_name: &str, extra: Json) -> Json {
    let mut filter = json!({
        "rule_name": rule_name,
        "rule_items": [{"limit_by_per_header": "user", "limit_keys": [{"key": "*", "query_per_minute": 5}]}],
        "redis": {"service_name": "redis.static"},
    });
    if let (Some(filter), Json::Object(extra)) = (filter.as_object_mut(), extra) {
        filter.extend(extra);
    }
    filter
}

/// A limiter on all requests together, in memory.
fn in_memory(rule_name: &str, limit: u64) -> Json {
    json!({"rule_name": rule_name, "global_threshold": {"limit": limit, "window": "60s"},
        "show_limit_quota_header": true})
}

fn chain(filters: &[Json]) -> Engine {
    Engine::configure(json!({"filters": filters}).to_string().as_bytes()).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// A chain that begins with a filter of the tests.
fn behind(trial: Trial, filters: &[Json]) -> Engine {
    let mut engine = chain(filters);
    engine.filters.insert(0, Filter::Trial(trial));
    engine
}

fn of_user(user: &str) -> Sample {
    Sample { headers: vec![("user", user.into()), ("session", b"s1".to_vec())], ..request() }
}

/// Requests that are all there still and alike.
impl<'a> Requests for &'a Sample {
    type View = &'a Sample;

    fn view(&self, _: u64) -> Option<&'a Sample> {
        Some(self)
    }
}

/// The keys that the commands which are due ask about, or what else they ask; calls are named from `first` on.
fn keys(engine: &mut Engine, first: u64) -> Vec<String> {
    let mut asked = Vec::new();
    send_all(engine, 0, |_, command| {
        let words: Vec<_> = command.words().collect();
        let key = if words[0] == b"EVALSHA" { words[3] } else { words[1] };
        asked.push(String::from_utf8(key.to_vec()).unwrap());
        Ok(first + asked.len() as u64 - 1)
    });
    asked
}

fn sets(name: &str, value: &str) -> HeaderEdit {
    HeaderEdit::Set(name.into(), value.into())
}

fn user(name: &str) -> Result<Reply, CallError> {
    Ok(Reply::Single(Value::Bulk(name.into())))
}

#[test]
fn each_of_two_limiters_charges_a_request() {
    let mut engine = chain(&[by_user("a", json!({})), by_user("b", json!({}))]);
    assert_eq!(engine.on_request(1, &of_user("u"), 0), Step::Wait);
    assert_eq!(keys(&mut engine, 100), ["slidegate:{a:limit_by_per_header:user:u}:60"]);
    engine.on_reply(100, admitted(4), 0);
    assert!(verdicts_among(&mut engine, &&of_user("u")).is_empty(), "it waits for the second");
    assert_eq!(keys(&mut engine, 101), ["slidegate:{b:limit_by_per_header:user:u}:60"]);
    engine.on_reply(101, admitted(4), 0);
    assert_eq!(verdicts_among(&mut engine, &&of_user("u")), [(1, pass())]);
    assert_idle(&engine);
    let counted: Vec<_> = raised(&mut engine).into_iter().filter(|event| event.contains("decisions")).collect();
    assert_eq!(counted, ["slidegate_decisions_total admitted 1"; 2], "each by its own name");
}

#[test]
fn what_the_first_has_charged_stays_charged_when_the_second_refuses() {
    let mut engine = chain(&[in_memory("a", 3), in_memory("b", 1)]);
    let Step::Pass(Pass { edits, .. }) = engine.on_request(1, &request(), 0) else { panic!("both have room") };
    let told = [sets("x-ratelimit-limit", "3"), sets("x-ratelimit-remaining", "2")];
    assert_eq!(edits.response, told, "a response passes the second first, so the first has the last word");
    for remaining in ["1", "0"] {
        let Step::Respond(response) = engine.on_request(2, &request(), 0) else { panic!("the second has no room") };
        let value = |name: &str| {
            response.headers.iter().filter(|(each, _)| each == name).map(|(_, value)| &value[..]).collect::<Vec<_>>()
        };
        assert_eq!(value("x-ratelimit-limit"), [b"3"], "its answer passes the first as any response does");
        assert_eq!(value("x-ratelimit-remaining"), [remaining.as_bytes()]);
        assert_eq!(value("x-ratelimit-reset"), [b"60"]);
    }
    let Step::Respond(response) = engine.on_request(3, &request(), 0) else { panic!("neither has room") };
    assert_eq!(
        response.headers.iter().find(|(name, _)| name == "x-ratelimit-limit").unwrap().1,
        b"3",
        "the first answers itself"
    );
    let notes =
        core::iter::from_fn(|| Some(engine.poll(&Gone, 0)).filter(|effect| !matches!(effect, Effect::Wait { .. })));
    let rules = notes.filter_map(|effect| match effect {
        Effect::Annotate { stream, fields } => Some((stream, fields[1].1.clone())),
        _ => None,
    });
    assert_eq!(rules.collect::<Vec<_>>(), [(2, "b".into()), (2, "b".into()), (3, "a".into())]);
}

#[test]
fn a_limiter_counts_by_what_a_filter_before_it_sets() {
    let edits = Edits { request: vec![sets("User", "set"), HeaderEdit::Remove("session".into())], ..Edits::default() };
    let mut engine = behind(Trial::Edits(edits.clone()), &[by_user("a", json!({}))]);
    assert_eq!(engine.on_request(1, &of_user("u"), 0), Step::Wait);
    assert_eq!(keys(&mut engine, 100), ["slidegate:{a:limit_by_per_header:user:set}:60"]);
    engine.on_reply(100, admitted(4), 0);
    assert_eq!(verdicts(&mut engine), [(1, Verdict::Pass(edits.into()))], "the last needs no request any more");
    assert_idle(&engine);
}

#[test]
fn a_limiter_counts_by_what_a_filter_before_it_has_asked_for() {
    let mut engine = behind(Trial::Session { service: 0 }, &[by_user("a", json!({})), in_memory("b", 1)]);
    assert_eq!(engine.on_request(1, &of_user("u"), 0), Step::Wait);
    assert_eq!(keys(&mut engine, 100), ["s1"]);
    engine.on_reply(100, user("anne"), 0);
    assert!(verdicts_among(&mut engine, &&of_user("u")).is_empty());
    assert_eq!(keys(&mut engine, 101), ["slidegate:{a:limit_by_per_header:user:anne}:60"]);
    engine.on_reply(101, admitted(4), 0);
    let settled = verdicts_among(&mut engine, &&of_user("u"));
    let [(1, Verdict::Pass(Pass { edits, .. }))] = &settled[..] else { panic!("{settled:?}") };
    assert_eq!(edits.request, [sets("user", "anne")]);
    assert_eq!(edits.response.len(), 2, "of the third");
    assert_idle(&engine);
    // The third refuses the next one at once, behind those who made it wait.
    engine.on_request(2, &of_user("u"), 0);
    keys(&mut engine, 102);
    engine.on_reply(102, user("bob"), 0);
    verdicts_among(&mut engine, &&of_user("u"));
    keys(&mut engine, 103);
    engine.on_reply(103, admitted(4), 0);
    let settled = verdicts_among(&mut engine, &&of_user("u"));
    assert!(matches!(&settled[..], [(2, Verdict::Respond(response))] if response.status == 429), "{settled:?}");
    assert_idle(&engine);
}

#[test]
fn a_stream_that_ends_between_two_filters_goes_nowhere() {
    type End = fn(&mut Engine);
    let ends: [(&str, End); 3] = [
        ("while it waits for the first", |engine| {
            engine.on_done(1, StreamEnd::Client, 0);
            engine.on_reply(100, admitted(4), 0);
        }),
        ("when the first has settled it", |engine| {
            engine.on_reply(100, admitted(4), 0);
            engine.on_done(1, StreamEnd::Client, 0);
        }),
        ("and its name is another's", |engine| {
            engine.on_reply(100, admitted(4), 0);
            assert_eq!(
                engine.on_request(1, &Sample::default(), 0),
                Step::Pass(Pass::default()),
                "no limit is met without a user"
            );
        }),
    ];
    for (when, end) in ends {
        let mut engine = chain(&[by_user("a", json!({})), by_user("b", json!({}))]);
        engine.on_request(1, &of_user("u"), 0);
        keys(&mut engine, 100);
        end(&mut engine);
        assert!(verdicts_among(&mut engine, &&of_user("u")).is_empty(), "{when}");
        assert!(keys(&mut engine, 101).is_empty(), "{when}");
        assert_idle(&engine);
    }
    // While it waits for the second, and where the adapter knows it no more.
    let mut engine = chain(&[by_user("a", json!({})), by_user("b", json!({}))]);
    for (stream, is_there) in [(1, true), (2, false)] {
        engine.on_request(stream, &of_user("u"), 0);
        keys(&mut engine, 100);
        engine.on_reply(100, admitted(4), 0);
        let settled = if is_there { verdicts_among(&mut engine, &&of_user("u")) } else { verdicts(&mut engine) };
        assert!(settled.is_empty());
        assert_eq!(keys(&mut engine, 101).len(), usize::from(is_there));
        engine.on_done(stream, StreamEnd::Client, 0);
        engine.on_reply(101, admitted(4), 0);
        assert!(verdicts_among(&mut engine, &&of_user("u")).is_empty());
        assert_idle(&engine);
    }
}

#[test]
fn where_redis_fails_between_two_filters_each_has_its_own_failure_mode() {
    for (modes, status) in [(["open", "closed"], Some(503)), (["closed", "open"], Some(503)), (["open", "local"], None)]
    {
        let filters = ["a", "b"]
            .into_iter()
            .zip(modes)
            .map(|(name, mode)| by_user(name, json!({"failure_mode": mode, "headers": ["x-slidegate-degraded"]})));
        let mut engine = chain(&filters.collect::<Vec<_>>());
        engine.on_request(1, &of_user("u"), 0);
        keys(&mut engine, 100);
        engine.on_reply(100, Err(CallError::Timeout), 0);
        let mut settled = verdicts_among(&mut engine, &&of_user("u"));
        if modes[0] == "open" {
            assert!(settled.is_empty(), "it goes on to the second");
            send_all(&mut engine, 0, |_, _| Err(CallError::Connect));
            settled = verdicts_among(&mut engine, &&of_user("u"));
        }
        let ended = match &settled[..] {
            [(1, Verdict::Pass(Pass { edits, .. }))] => {
                assert_eq!(
                    edits.response,
                    [sets("x-slidegate-degraded", "open;cause=timeout")],
                    "the first has the last word"
                );
                None
            }
            [(1, Verdict::Respond(response))] => Some(response.status),
            other => panic!("{other:?}"),
        };
        assert_eq!(ended, status, "{modes:?}");
        assert_idle(&engine);
    }
}

#[test]
fn the_breaker_of_a_redis_is_one_for_all_filters() {
    let mut engine = chain(&[by_user("a", json!({})), by_user("b", json!({}))]);
    assert_eq!(engine.configuration().services.len(), 1);
    let mut calls = 0;
    for _ in 0..10 {
        engine.on_request(1, &of_user("u"), 0);
        loop {
            let before = calls;
            send_all(&mut engine, 0, |_, _| {
                calls += 1;
                Err(CallError::Connect)
            });
            verdicts_among(&mut engine, &&of_user("u"));
            if calls == before {
                break;
            }
        }
    }
    assert_eq!(calls, crate::store::circuit_breaker::FAILURES_MAX, "of both filters together");
}

#[test]
fn streams_that_one_reply_settles_go_on_together() {
    let mut engine = chain(&[by_user("a", json!({})), by_user("b", json!({}))]);
    for stream in 1..=3 {
        assert_eq!(engine.on_request(stream, &of_user("u"), 0), Step::Wait);
    }
    assert_eq!(keys(&mut engine, 100).len(), 1);
    engine.on_reply(100, admitted(4), 0);
    assert!(verdicts_among(&mut engine, &&of_user("u")).is_empty());
    assert_eq!(keys(&mut engine, 101).len(), 2, "two for the first filter, and the one that the second has seen");
    engine.on_reply(101, doubles([2, 0, 3, 1_000_000, 0]), 0);
    assert!(verdicts_among(&mut engine, &&of_user("u")).is_empty());
    assert!(keys(&mut engine, 103).is_empty(), "they wait behind the first of them");
    engine.on_reply(102, admitted(4), 0);
    assert_eq!(verdicts_among(&mut engine, &&of_user("u")), [(1, pass())]);
    assert_eq!(keys(&mut engine, 103).len(), 1);
    engine.on_reply(103, doubles([1, 0, 1, 1_000_000, 2_000_000]), 0);
    let settled = verdicts_among(&mut engine, &&of_user("u"));
    assert!(matches!(&settled[..], [(2, Verdict::Pass(_)), (3, Verdict::Respond(_))]), "{settled:?}");
    assert_idle(&engine);
}

#[test]
fn a_clock_that_one_filter_sees_set_makes_all_forget_what_is_refused() {
    let mut engine = chain(&[
        by_user("a", json!({})),
        json!({
            "rule_name": "b", "redis": {"service_name": "redis.static"},
            "rule_items": [{"limit_by_per_header": "session", "limit_keys": [{"key": "*", "query_per_minute": 5}]}],
        }),
    ]);
    let only = |name: &'static str| Sample { headers: vec![(name, b"v".to_vec())], ..request() };
    let at = |clock_s: i64, admitted: i64, wait_us: i64| {
        doubles([admitted, clock_s * 1_000_000, 5 * admitted, 9_000_000, wait_us])
    };
    let ask = |engine: &mut Engine, name, reply: Result<Reply, CallError>| {
        let step = engine.on_request(1, &only(name), 0);
        if step == Step::Wait {
            keys(engine, 100);
            engine.on_reply(100, reply, 0);
            verdicts_among(engine, &&only(name));
        }
        step == Step::Wait
    };
    assert!(ask(&mut engine, "session", at(9_000, 0, 9_000_000)));
    assert!(!ask(&mut engine, "session", at(9_000, 1, 0)), "it is known to be refused");
    assert!(ask(&mut engine, "user", at(9_000, 1, 0)));
    assert!(!ask(&mut engine, "session", at(9_000, 1, 0)));
    assert!(ask(&mut engine, "user", at(90_000, 1, 0)), "the clock was set");
    assert!(ask(&mut engine, "session", at(90_000, 1, 0)), "what it said before holds no more");
}

#[test]
fn what_waiting_streams_carry_is_bounded_with_all_that_waits() {
    let long = "n".repeat(20_000);
    let edits = Edits { response: vec![sets("x-long", &long)], ..Edits::default() };
    let mut engine = behind(Trial::Edits(edits), &[by_user("a", json!({}))]);
    let waiting =
        (0..2_000).filter(|stream| engine.on_request(*stream, &of_user(&stream.to_string()), 0) == Step::Wait).count();
    assert!((200..500).contains(&waiting), "{waiting}");
    (0..2_000).for_each(|stream| engine.on_done(stream, StreamEnd::Client, 0));
    send_all(&mut engine, 0, |_, _| Err(CallError::Connect));
    assert!(verdicts(&mut engine).is_empty());
    assert_idle(&engine);
}

#[test]
fn policies_of_one_name_are_counted_together_whichever_filter_has_them() {
    let mut engine = chain(&[
        in_memory("r", 5),
        in_memory("other", 5),
        json!({"rule_name": "r", "global_threshold": {"limit": 5, "window": "10s"}}),
    ]);
    for stream in 0..6 {
        engine.on_request(stream, &request(), 0);
    }
    let decisions = changes(&mut engine).into_iter().filter(|(metric, _)| metric.name == "slidegate_decisions_total");
    let mut of_rules: Vec<_> =
        decisions.map(|(metric, value)| format!("{} {} {value}", metric.labels[0].1, metric.labels[1].1)).collect();
    of_rules.sort();
    assert_eq!(of_rules, ["other admitted 5", "r admitted 5", "r admitted 5", "r refused 1"]);
}

#[test]
fn limiters_that_count_under_one_name_share_their_windows_in_memory_as_in_redis() {
    let mut engine = chain(&[in_memory("r", 4), in_memory("r", 4)]);
    let warnings = &engine.configuration().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("counts a request that meets both again"), "{warnings:?}");
    let passed = (0..4).filter(|stream| matches!(engine.on_request(*stream, &request(), 0), Step::Pass(_))).count();
    assert_eq!(passed, 2);
}
