//! Filters that tell whose session a request is of.

use super::*;
use crate::{
    store::failure::FailureCause,
    wants::{ResponseHead, ResponseOrigin, ResponseView},
};

/// A time since 1970.
pub(super) const WALL_NS: u64 = 1_800_000_000_000_000_000;

/// What clients claim.
const CLAIMS: [(&str, &str); 4] = [("x-user", "root"), ("x_user", "root"), ("x-role", "admin"), ("x_role", "admin")];

pub(super) fn session(extra: Json) -> Json {
    let mut session = json!({
        "format": "json", "cookie": "sid", "key_prefix": "s:", "redis": {"service_name": "redis.static"},
        "fields": {"user": "x-user", "role": "x-role"}, "user": "user",
    });
    if let (Some(session), Json::Object(extra)) = (session.as_object_mut(), extra) {
        session.extend(extra);
    }
    json!({"session": session})
}

pub(super) fn configured(document: &Json) -> Engine {
    let mut engine = Engine::configure(document.to_string().as_bytes()).expect("the configuration is good");
    engine.set_wall_clock(WALL_NS);
    engine
}

fn reading(extra: Json) -> Engine {
    configured(&session(extra))
}

/// A request with this cookie, whose client claims all it can.
pub(super) fn with_cookie(cookie: &str) -> Sample {
    by_method("GET", cookie)
}

fn by_method(method: &str, cookie: &str) -> Sample {
    let mut headers: Vec<_> = CLAIMS.iter().map(|(name, value)| (*name, value.as_bytes().to_vec())).collect();
    headers.push(("cookie", cookie.as_bytes().to_vec()));
    headers.push((":method", method.as_bytes().to_vec()));
    Sample { headers, ..request() }
}

fn record(text: &str) -> Result<Reply, CallError> {
    Ok(Reply::Single(Value::Bulk(text.as_bytes().to_vec())))
}

fn nothing() -> Result<Reply, CallError> {
    Ok(Reply::Single(Value::Nil))
}

/// The headers that the upstream gets, of those that are told and those that clients claim.
pub(super) fn told(request: &Sample, pass: &Pass) -> Vec<String> {
    let edited = Edited { request, edits: &pass.edits.request };
    let values = CLAIMS.iter().flat_map(|(name, _)| {
        let spelt = move |value: Vec<u8>| format!("{name}={}", String::from_utf8(value).unwrap());
        edited.header_values(name).into_iter().map(spelt)
    });
    values.collect()
}

/// How a request goes on that Redis answers so; none: without asking.
fn asked(engine: &mut Engine, request: &Sample, reply: Option<Result<Reply, CallError>>, now_ns: u64) -> Verdict {
    match (engine.on_request(1, request, now_ns), reply) {
        (Step::Pass(pass), None) => Verdict::Pass(pass),
        (Step::Respond(response), None) => Verdict::Respond(response),
        (Step::Wait, Some(reply)) => {
            assert_eq!(sent(engine, 100, now_ns), 1);
            engine.on_reply(100, reply, now_ns);
            verdicts(engine).pop().expect("it is settled").1
        }
        (step, reply) => panic!("{step:?} with {reply:?}"),
    }
}

/// Sends what is queued, naming calls from this one on; returns how many there were.
fn sent(engine: &mut Engine, first: u64, now_ns: u64) -> u64 {
    let mut calls = first..;
    send_all(engine, now_ns, |_, _| Ok(calls.next().unwrap()));
    calls.start - first
}

pub(super) fn passed(verdict: Verdict) -> Pass {
    match verdict {
        Verdict::Pass(pass) => pass,
        Verdict::Respond(response) => panic!("{response:?}"),
    }
}

fn status(verdict: &Verdict) -> u16 {
    match verdict {
        Verdict::Pass(_) => 200,
        Verdict::Respond(response) => response.status,
    }
}

struct SetsCookie(&'static str);

impl ResponseView for SetsCookie {
    fn head(&self) -> ResponseHead {
        ResponseHead { status: 200, origin: ResponseOrigin::Upstream, end: true }
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.header_values(name).into_iter().next()
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        if name == "set-cookie" { vec![b"theme=dark".to_vec(), self.0.as_bytes().to_vec()] } else { Vec::new() }
    }
}

/// A hash cannot be asked for in part. Who has such a record is nobody, and nothing is said of Redis by it.
#[test]
fn a_record_that_is_longer_than_the_host_takes_is_too_long() {
    let mut engine = reading(json!({"format": "hash", "cookie": "sid", "key_prefix": "s:", "remember": 0}));
    let request = with_cookie("sid=c3e1");
    for _ in 0..20 {
        let pass = passed(asked(&mut engine, &request, Some(Err(CallError::TooLarge)), 0));
        assert_eq!(told(&request, &pass), [""; 0]);
    }
    let raised = raised(&mut engine);
    assert!(!raised.iter().any(|raised| raised.contains("failures")), "{raised:?}");
    let alice = Ok(Reply::Many(vec![Value::Bulk(b"alice".to_vec()); 2]));
    let pass = passed(asked(&mut engine, &request, Some(alice), 0));
    assert_eq!(told(&request, &pass), ["x-user=alice", "x-role=alice"]);
}

#[test]
fn what_the_session_tells_takes_the_place_of_what_the_client_claims() {
    let mut engine = reading(json!({}));
    let request = with_cookie("sid=c3e1");
    let reply = record(r#"{"user":"alice","role":7}"#);
    let pass = passed(asked(&mut engine, &request, Some(reply), 0));
    assert_eq!(told(&request, &pass), ["x-user=alice", "x-role=7"]);
    let settings = engine.configuration();
    assert!(settings.edits_requests && settings.refuse_on_trap && settings.uses.response_headers);
    assert_eq!(settings.uses.headers, ["cookie".to_string()].into());
}

#[test]
fn nothing_that_a_client_claims_goes_on_whatever_happens() {
    let user = || record(r#"{"user":"alice"}"#);
    for (cookie, reply, expected) in [
        ("", None, &[][..]),
        ("sid=a; sid=b", None, &[]),
        ("sid=a:b", None, &[]),
        ("sid=a", Some(nothing()), &[]),
        ("sid=a", Some(user()), &["x-user=alice"]),
        ("sid=a", Some(record(r#"{"user":""}"#)), &[]),
        ("sid=a", Some(record(r#"{"user":"a\nb"}"#)), &[]),
        ("sid=a", Some(record("{}")), &[]),
        ("sid=a", Some(record("[]")), &[]),
        ("sid=a", Some(record("\u{80}")), &[]),
        ("sid=a", Some(Ok(Reply::Error("WRONGTYPE no".into()))), &[]),
        ("sid=a", Some(Ok(Reply::Error("NOPERM no".into()))), &[]),
        ("sid=a", Some(Ok(Reply::Many(vec![]))), &[]),
        ("sid=a", Some(Err(CallError::Connect)), &[]),
        ("sid=a", Some(Err(CallError::Timeout)), &[]),
    ] {
        let mut engine = reading(json!({}));
        let request = with_cookie(cookie);
        let pass = passed(asked(&mut engine, &request, reply, 0));
        assert_eq!(told(&request, &pass), expected, "{cookie}");
    }
}

#[test]
fn nor_while_the_breaker_is_open_or_calls_are_refused() {
    let mut engine = reading(json!({}));
    let request = with_cookie("sid=a");
    let mut waited = 0;
    for stream in 0..20 {
        let step = engine.on_request(stream, &request, 0);
        send_all(&mut engine, 0, |_, _| Err(CallError::Connect));
        let pass = match (step, verdicts(&mut engine).pop()) {
            (Step::Wait, Some((_, Verdict::Pass(pass)))) => {
                waited += 1;
                pass
            }
            (Step::Pass(pass), None) => pass,
            other => panic!("{other:?}"),
        };
        assert!(told(&request, &pass).is_empty());
    }
    assert!((1..20).contains(&waited), "{waited}");
    assert_idle(&engine);
}

#[test]
fn who_has_no_session_is_answered_as_configured() {
    let login = json!({"on_missing": {"redirect": "/login"}});
    let page = |method: &str, accept: &str| {
        let mut request = by_method(method, "");
        request.headers.push(("accept", accept.as_bytes().to_vec()));
        request
    };
    let at = |path: &str, accept: &str| Sample { path: path.into(), ..page("GET", accept) };
    for (extra, request, expected) in [
        (json!({}), page("GET", "text/html"), 200),
        (json!({"on_missing": 401}), page("GET", "text/html"), 401),
        (json!({"on_missing": 401}), page("OPTIONS", "*/*"), 200),
        (login.clone(), page("GET", "application/xml, Text/HTML ;q=0.9, */*;q=0.8"), 302),
        (login.clone(), page("HEAD", "application/xhtml+xml"), 302),
        (login.clone(), page("POST", "text/html"), 401),
        (login.clone(), page("GET", "*/*"), 401),
        (login.clone(), page("GET", "application/json"), 401),
        (login.clone(), with_cookie(""), 401),
        (json!({"on_missing": 401, "public": ["/health", "/a/*"]}), at("/a/b.css?x=/../", "*/*"), 200),
        (json!({"on_missing": 401, "public": ["/health", "/a/*"]}), at("/health", "*/*"), 200),
        (json!({"on_missing": 401, "public": ["/health", "/a/*"]}), at("/health/", "*/*"), 401),
        (json!({"on_missing": 401, "public": ["/health", "/a/*"]}), at("/a/../b", "*/*"), 401),
        (json!({"on_missing": 401, "public": ["/health", "/a/*"]}), at("/a/%2e%2e/b", "*/*"), 401),
        (login.clone(), at("/login?next=/", "text/html"), 200),
        (login.clone(), at("/login2", "text/html"), 302),
    ] {
        let verdict = asked(&mut reading(extra.clone()), &request, None, 0);
        assert_eq!(status(&verdict), expected, "{extra}");
        if let Verdict::Respond(response) = verdict {
            let header =
                |name: &str| response.headers.iter().find(|(each, _)| each == name).map(|(_, value)| &value[..]);
            assert_eq!(header("cache-control"), Some(&b"no-store"[..]));
            assert_eq!(header("location"), (expected == 302).then_some(&b"/login"[..]));
            assert_eq!(header("www-authenticate").is_some(), expected == 401);
        }
    }
    // It takes part in the answer however long the question is on its way.
    let mut engine = reading(login);
    let mut request = page("GET", "text/html");
    request.headers.retain(|(name, _)| *name != "cookie");
    request.headers.push(("cookie", b"sid=a".to_vec()));
    assert_eq!(status(&asked(&mut engine, &request, Some(nothing()), 0)), 302);
}

#[test]
fn an_outage_logs_nobody_out_and_lets_nobody_in() {
    for extra in [json!({"on_missing": 401}), json!({"on_missing": {"redirect": "/login"}})] {
        for reply in [Err(CallError::Timeout), Ok(Reply::Error("LOADING Redis is loading".into()))] {
            let verdict = asked(&mut reading(extra.clone()), &with_cookie("sid=a"), Some(reply), 0);
            assert_eq!(status(&verdict), 503);
        }
    }
    let verdict = asked(&mut reading(json!({"on_missing": 401})), &with_cookie("sid=a"), Some(record("{}")), 0);
    assert_eq!(status(&verdict), 401, "a visitor's session is none of a user");
}

#[test]
fn what_was_read_is_gone_by_for_a_moment() {
    let mut engine = reading(json!({"remember": "2s"}));
    let (alice, bob) = (with_cookie("sid=a"), with_cookie("sid=b"));
    let user = |name: &str| Some(record(&format!(r#"{{"user":"{name}"}}"#)));
    assert_eq!(told(&alice, &passed(asked(&mut engine, &alice, user("alice"), 0))), ["x-user=alice"]);
    assert_eq!(told(&alice, &passed(asked(&mut engine, &alice, None, 1_999 * MS))), ["x-user=alice"]);
    assert_eq!(told(&bob, &passed(asked(&mut engine, &bob, user("bob"), 1_999 * MS))), ["x-user=bob"]);
    assert_eq!(told(&alice, &passed(asked(&mut engine, &alice, Some(nothing()), 2_000 * MS))), [""; 0]);
    assert_eq!(told(&alice, &passed(asked(&mut engine, &alice, None, 2_999 * MS))), [""; 0]);
    assert_eq!(told(&alice, &passed(asked(&mut engine, &alice, user("alice"), 3_000 * MS))), ["x-user=alice"]);
    assert_eq!(told(&bob, &passed(asked(&mut engine, &bob, None, 3_000 * MS))), ["x-user=bob"]);

    let mut engine = reading(json!({"remember": 0}));
    for _ in 0..3 {
        passed(asked(&mut engine, &alice, user("alice"), 0));
        assert_idle(&engine);
    }
}

#[test]
fn an_outage_is_not_remembered() {
    let mut engine = reading(json!({}));
    let request = with_cookie("sid=a");
    passed(asked(&mut engine, &request, Some(Err(CallError::Timeout)), 0));
    let pass = passed(asked(&mut engine, &request, Some(record(r#"{"user":"alice"}"#)), 0));
    assert_eq!(told(&request, &pass), ["x-user=alice"]);
}

#[test]
fn who_asks_the_same_meanwhile_shares_the_call() {
    let mut engine = reading(json!({}));
    let requests = ["sid=a", "theme=dark; sid=a", "sid=b"].map(with_cookie);
    for (stream, request) in (1..).zip(&requests) {
        assert_eq!(engine.on_request(stream, request, 0), Step::Wait);
    }
    assert_eq!(dispatch(&mut engine, 100), ["GETRANGE", "GETRANGE"]);
    engine.on_done(1, StreamEnd::Client, 0);
    engine.on_reply(101, record(r#"{"user":"bob"}"#), 0);
    engine.on_reply(100, record(r#"{"user":"alice"}"#), 0);
    let settled: Vec<_> = verdicts(&mut engine)
        .into_iter()
        .map(|(stream, verdict)| (stream, told(&requests[stream as usize - 1], &passed(verdict))))
        .collect();
    let expected = [(3, vec!["x-user=bob".to_string()]), (2, vec!["x-user=alice".to_string()])];
    assert!(settled.iter().all(|each| expected.contains(each)) && settled.len() == 2, "{settled:?}");
    for stream in [2, 3] {
        engine.on_done(stream, StreamEnd::Whole, 0);
    }
    assert_idle(&engine);
}

#[test]
fn what_many_are_told_at_one_time_is_bounded() {
    let mut engine = reading(json!({}));
    let request = with_cookie("sid=a");
    let asking = 3_000;
    for stream in 1..=asking {
        assert_eq!(engine.on_request(stream, &request, 0), Step::Wait);
    }
    assert_eq!(dispatch(&mut engine, 100).len(), 1);
    let role = "r".repeat(4_000);
    engine.on_reply(100, record(&format!(r#"{{"user":"alice","role":"{role}"}}"#)), 0);
    let settled: Vec<Verdict> = verdicts(&mut engine).into_iter().map(|(_, verdict)| verdict).collect();
    assert_eq!(settled.len() as u64, asking);
    let knows = |verdict: Verdict| !told(&request, &passed(verdict)).is_empty();
    let known = settled.into_iter().filter(|verdict| knows(verdict.clone())).count();
    assert!((900..1_100).contains(&known), "{known}");
    let recent = engine.on_request(asking + 1, &request, 0);
    assert!(matches!(recent, Step::Pass(pass) if !told(&request, &pass).is_empty()), "who comes then is told");
}

#[test]
fn who_logs_out_is_nobody_at_once() {
    let mut engine = reading(json!({"remember": "5m"}));
    let request = with_cookie("sid=a");
    let alice = || Some(record(r#"{"user":"alice"}"#));
    for (cookie, is_void) in [("other=1", false), ("sid=; Max-Age=0", true), (" sid = b", true), ("sidx=1", false)] {
        let reply = alice().filter(|_| !engine_knows(&engine));
        passed(asked(&mut engine, &request, reply, 0));
        assert_eq!(engine.on_response_headers(1, &SetsCookie(cookie), 0), Step::Pass(Pass::default()));
        assert_eq!(engine_knows(&engine), !is_void, "{cookie}");
        engine.on_done(1, StreamEnd::Whole, 0);
        assert_idle(&engine);
    }

    // What is on its way may be from before.
    let mut engine = reading(json!({"remember": "5m"}));
    passed(asked(&mut engine, &request, alice(), 0));
    let late = 400_000 * MS;
    assert_eq!(engine.on_request(2, &request, late), Step::Wait);
    sent(&mut engine, 200, late);
    engine.on_response_headers(1, &SetsCookie("sid=b"), late);
    assert_eq!(engine.on_request(3, &request, late), Step::Wait);
    assert_eq!(sent(&mut engine, 300, late), 1, "it asks anew");
    engine.on_reply(300, nothing(), late);
    engine.on_reply(200, alice().unwrap(), late);
    let settled = verdicts(&mut engine);
    assert_eq!(settled.len(), 2);
    assert_eq!(told(&request, &passed(asked(&mut engine, &request, None, late))), [""; 0]);
}

/// Whether the session `a` is remembered.
fn engine_knows(engine: &Engine) -> bool {
    let key = hmac_sha256::Hash::hash(b"s:a");
    match &engine.filters[0] {
        Filter::Session(filter) => filter.knows(&key),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_session_ends_when_it_says_so() {
    let spring = json!({"format": "spring", "cookie": "SESSION", "remember": "1m"});
    // Used last at the time of these tests, and good for five seconds.
    let accessed = WALL_NS / MS;
    let fields = [accessed.to_string(), "5".into(), "\"admin\"".into(), "\"alice\"".into()];
    let record = || Some(Ok(Reply::Many(fields.iter().map(|field| Value::Bulk(field.clone().into_bytes())).collect())));
    let request = with_cookie("SESSION=aWQ=");
    let mut engine = reading(spring.clone());
    let mut told_at = |wait_ms: u64, reply: Option<_>| {
        engine.set_wall_clock(WALL_NS + wait_ms * MS);
        told(&request, &passed(asked(&mut engine, &request, reply, wait_ms * MS)))
    };
    assert_eq!(told_at(0, record()), ["x-user=alice", "x-role=admin"]);
    assert_eq!(told_at(4_999, None), ["x-user=alice", "x-role=admin"]);
    assert_eq!(told_at(5_000, record()), [""; 0]);

    // It ends while the question is on its way.
    let mut engine = reading(spring.clone());
    engine.on_request(1, &request, 0);
    dispatch(&mut engine, 100);
    engine.set_wall_clock(WALL_NS + 5_000 * MS);
    engine.on_reply(100, record().unwrap(), 5_000 * MS);
    assert_eq!(told(&request, &passed(verdicts(&mut engine).pop().unwrap().1)), [""; 0]);

    // So Spring ends a session, whatever its clock says.
    let ended = [(accessed + 60_000).to_string(), "0".into(), "\"admin\"".into(), "\"alice\"".into()];
    let ended = Ok(Reply::Many(ended.map(|field: String| Value::Bulk(field.into_bytes())).into()));
    assert_eq!(told(&request, &passed(asked(&mut reading(spring.clone()), &request, Some(ended), 0))), [""; 0]);

    // As long as nobody knows the time, whatever ends has ended.
    let mut engine = reading(spring);
    engine.set_wall_clock(0);
    assert_eq!(told(&request, &passed(asked(&mut engine, &request, record(), 0))), [""; 0]);
}

#[test]
fn limits_follow_the_user_that_a_session_tells() {
    let limiter = json!({
        "rule_name": "users",
        "rule_items": [{"limit_by_per_header": "x-user", "limit_keys": [{"key": "*", "query_per_minute": 1}]}],
    });
    let mut engine = configured(&json!({"filters": [session(json!({})), limiter]}));
    let requests = [with_cookie("sid=a"), with_cookie("sid=b"), with_cookie("sid=c"), with_cookie("")];
    let mut status_of = |at: usize, user: Option<&str>| {
        let stream = 10 + at as u64;
        let view = Only(&requests[at]);
        let mut step = engine.on_request(stream, &requests[at], 0);
        if step == Step::Wait {
            dispatch(&mut engine, 100);
            engine.on_reply(100, user.map_or_else(nothing, |user| record(&format!(r#"{{"user":"{user}"}}"#))), 0);
            loop {
                match engine.poll(&view, 0) {
                    Effect::Settle { verdict: Verdict::Pass(pass), .. } => step = Step::Pass(pass),
                    Effect::Settle { verdict: Verdict::Respond(response), .. } => step = Step::Respond(response),
                    Effect::Wait { .. } => break,
                    _ => {}
                }
            }
        }
        match step {
            Step::Pass(_) => 200,
            Step::Respond(response) => response.status,
            Step::Wait => panic!("it waits"),
        }
    };
    assert_eq!(status_of(0, Some("alice")), 200);
    assert_eq!(status_of(1, Some("alice")), 429, "the other browser of the same user");
    assert_eq!(status_of(2, Some("bob")), 200);
    assert_eq!((status_of(3, None), status_of(3, None)), (200, 200), "nobody has no limit here");
}

/// Shows one request whatever is asked for.
pub(super) struct Only<'a>(pub(super) &'a Sample);

impl<'a> Requests for Only<'a> {
    type View = &'a Sample;

    fn view(&self, _: u64) -> Option<&'a Sample> {
        Some(self.0)
    }
}

#[test]
fn what_was_found_is_counted_and_its_cause_noted() {
    let mut engine = reading(json!({}));
    let mut said = |cookie: &str, reply| {
        let request = with_cookie(cookie);
        raised(&mut engine);
        let mut notes = Vec::new();
        if engine.on_request(1, &request, 0) == Step::Wait {
            dispatch(&mut engine, 100);
            engine.on_reply(100, reply, 0);
        }
        loop {
            match engine.poll(&Gone, 0) {
                Effect::Annotate { fields, .. } => notes.extend(fields),
                Effect::Wait { .. } => break,
                Effect::Log { line, .. } => assert!(!line.contains("c3e1"), "{line}"),
                _ => {}
            }
        }
        let counted: Vec<_> = raised(&mut engine).into_iter().filter(|line| line.contains("sessions")).collect();
        let notes: Vec<_> = notes.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        (counted.join(" "), notes.join(" "))
    };
    let mut check = |cookie: &str, reply, outcome: &str, note: &str| {
        let counted = format!("slidegate_sessions_total {outcome} 1");
        assert_eq!(said(cookie, reply), (counted, note.to_string()), "{cookie}");
    };
    check("", nothing(), "absent", "");
    check("sid=a; sid=b", nothing(), "ambiguous", "session=ambiguous");
    check("sid=c3e1", record(r#"{"user":"a"}"#), "found", "");
    check("sid=c3e2", nothing(), "unknown", "session=unknown");
    check("sid=c3e3", record("{}"), "anonymous", "session=anonymous");
    let quoted = Ok(Reply::Error("ERR no, with 's:c3e14'".into()));
    let cause = FailureCause::BadReply;
    check("sid=c3e14", quoted, "unavailable", &format!("session=unavailable;cause={cause}"));
}

#[test]
fn a_cookie_that_is_not_taken_does_not_go_on() {
    for (cookie, reply, goes_on) in [
        ("sid=a; b=1; sid=x", None, Some("b=1")),
        ("sid=a; sid=x", None, None),
        ("sid=a; b=1; SID=x", None, Some("b=1")),
        ("b=1; sid=a:b", None, Some("b=1")),
        ("b=1; sid=a", Some(record("[]")), Some("b=1")),
        ("b=1; sid=a", Some(Ok(Reply::Error("WRONGTYPE no".into()))), Some("b=1")),
        // The application makes the same of these.
        ("b=1; sid=a", Some(record("{}")), Some("b=1; sid=a")),
        ("b=1; sid=a", Some(nothing()), Some("b=1; sid=a")),
        ("b=1; sid=a", Some(Err(CallError::Timeout)), Some("b=1; sid=a")),
        ("b=1; sid=a", Some(record(r#"{"user":"a"}"#)), Some("b=1; sid=a")),
        ("b=1", None, Some("b=1")),
    ] {
        let request = with_cookie(cookie);
        let pass = passed(asked(&mut reading(json!({})), &request, reply, 0));
        let edited = Edited { request: &request, edits: &pass.edits.request };
        let cookie_then = edited.header("cookie").map(|value| String::from_utf8(value).unwrap());
        assert_eq!(cookie_then.as_deref(), goes_on, "{cookie}");
    }
}

#[test]
fn what_may_have_changed_the_session_voids_it() {
    let alice = || Some(record(r#"{"user":"alice"}"#));
    for (method, is_void) in [("GET", false), ("HEAD", false), ("OPTIONS", false), ("POST", true), ("DELETE", true)] {
        let mut engine = reading(json!({"remember": "5m"}));
        let request = by_method(method, "sid=a");
        passed(asked(&mut engine, &request, alice(), 0));
        engine.on_response_headers(1, &SetsCookie("other=1"), 0);
        assert_eq!(engine_knows(&engine), !is_void, "{method}");
        // It may have been done though nobody has seen the answer.
        passed(asked(&mut engine, &request, alice().filter(|_| is_void), 0));
        engine.on_done(1, StreamEnd::Client, 0);
        assert_eq!(engine_knows(&engine), !is_void, "{method}");
        assert_idle(&engine);
    }
    let mut engine = reading(json!({"remember": "5m"}));
    passed(asked(&mut engine, &with_cookie("sid=a"), Some(record(r#"{"cart":1}"#)), 0));
    assert!(!engine_knows(&engine), "a visitor may log in at any time");
}

#[test]
fn who_it_is_must_be_said() {
    let status_of = |extra: Json, text: &str| {
        let extra = [extra, json!({"on_missing": 401})];
        let mut all = json!({});
        extra.iter().filter_map(Json::as_object).flatten().for_each(|(name, value)| all[name] = value.clone());
        status(&asked(&mut reading(all), &with_cookie("sid=a"), Some(record(text)), 0))
    };
    for text in [r#"{"role":"guest"}"#, r#"{"user":false,"role":"x"}"#, r#"{"user":0}"#, r#"{"user":""}"#, "{}"] {
        assert_eq!(status_of(json!({}), text), 401, "{text}");
        assert_eq!(status_of(json!({"user": null}), text), 401, "{text}");
    }
    assert_eq!(status_of(json!({}), r#"{"user":"alice"}"#), 200);
    assert_eq!(status_of(json!({"user": null}), r#"{"user":"alice"}"#), 401, "all of them have to be there");
    assert_eq!(status_of(json!({"user": null}), r#"{"user":"alice","role":"x"}"#), 200);
}

#[test]
fn a_header_that_servers_read_otherwise_is_ambiguous() {
    for (headers, expected) in [
        (&[("x-session", "a")][..], Ok(&["x-session=a"][..])),
        (&[("x-session", "a"), ("x_session", "a")], Ok(&["x-session=a", "x_session=a"])),
        (&[("x-session", "a"), ("x_session", "b")], Err("ambiguous")),
        (&[("x_session", "a")], Err("ambiguous")),
        (&[("x-session", "a:b")], Err("malformed")),
    ] {
        let mut engine = reading(json!({"header": "x-session", "cookie": null}));
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes().to_vec())).collect();
        let request = Sample { headers, ..request() };
        let reply = expected.is_ok().then(|| record(r#"{"user":"alice"}"#));
        let pass = passed(asked(&mut engine, &request, reply, 0));
        let edited = Edited { request: &request, edits: &pass.edits.request };
        let goes_on: Vec<String> = ["x-session", "x_session"]
            .iter()
            .flat_map(|name| edited.header_values(name).into_iter().map(move |value| (name, value)))
            .map(|(name, value)| format!("{name}={}", String::from_utf8(value).unwrap()))
            .collect();
        assert_eq!(goes_on, expected.unwrap_or_default(), "{expected:?}");
        let counted = raised(&mut engine).into_iter().any(|line| line.contains(expected.err().unwrap_or("found")));
        assert!(counted, "{expected:?}");
    }
}
