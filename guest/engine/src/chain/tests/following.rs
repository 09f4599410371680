//! What filters see of a stream after its request's headers, and what they make of it.

use super::{
    trial::{Say, Trial, TrialScript},
    *,
};
use crate::{
    body::{BodyChange, BodyCoding, BodyPiece, Interest},
    wants::{ResponseHead, ResponseOrigin, ResponseView, Wants},
};

/// A response with values of `x`.
struct Answer(u16, &'static [&'static str]);

impl ResponseView for Answer {
    fn head(&self) -> ResponseHead {
        ResponseHead { status: self.0, origin: ResponseOrigin::Upstream, end: false }
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.header_values(name).into_iter().next()
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        assert_eq!(name, "x");
        self.1.iter().map(|value| value.as_bytes().to_vec()).collect()
    }
}

const NOTHING: Wants =
    Wants { request_body: Interest::None, response_headers: false, response_body: Interest::None, done: false };

const ALL: Wants =
    Wants { request_body: Interest::Watch, response_headers: true, response_body: Interest::Watch, done: true };

/// Holds the request's body.
const HOLDS: Wants = Wants { request_body: Interest::Hold, ..ALL };

/// Holds the response's body.
const HOLDS_ANSWER: Wants = Wants { response_body: Interest::Hold, ..ALL };

/// The filters of the tests in this order, with a Redis that they may ask, and before a limiter that nothing meets.
fn chain<const N: usize>(scripts: [&TrialScript; N]) -> Engine {
    let mut engine = engine(json!({"exempt": {"headers": {"x-free": "1"}}}));
    let trials = scripts.into_iter().map(|script| Filter::Trial(Trial::Follow(script.clone())));
    engine.filters.splice(0..0, trials);
    engine
}

fn free() -> Sample {
    Sample { headers: vec![("x-free", b"1".to_vec())], ..request() }
}

fn piece(bytes: &str) -> BodyPiece<'_> {
    BodyPiece { bytes: bytes.as_bytes(), coding: BodyCoding::Identity, end: false }
}

fn last(bytes: &str) -> BodyPiece<'_> {
    BodyPiece { end: true, ..piece(bytes) }
}

fn wanting(wants: Wants) -> Pass {
    Pass { wants, ..Pass::default() }
}

fn now(wants: Wants) -> Say {
    Say::Now(Verdict::Pass(wanting(wants)))
}

fn with(body: BodyChange, wants: Wants) -> Pass {
    Pass { body, wants, ..Pass::default() }
}

fn appends(value: &str, wants: Wants) -> Say {
    let edit = |kind: &str| HeaderEdit::Append("x".into(), format!("{value}{kind}").into_bytes());
    let edits = Edits { request: vec![edit("q")], response: vec![edit("p")] };
    Say::Now(Verdict::Pass(Pass { edits, wants, ..Pass::default() }))
}

fn response(status: u16) -> Response {
    Response { status, headers: vec![], body: Vec::from(*b"no").into(), details: "trial", grpc_status: 8 }
}

fn values(edits: &[HeaderEdit]) -> String {
    let value = |edit: &HeaderEdit| match edit {
        HeaderEdit::Set(_, value) | HeaderEdit::Append(_, value) => String::from_utf8(value.clone()).unwrap(),
        HeaderEdit::Remove(_) => String::new(),
    };
    edits.iter().map(value).collect::<Vec<_>>().join(" ")
}

/// Answers what is asked, and returns how streams were settled.
fn answered(engine: &mut Engine) -> Vec<(u64, Verdict)> {
    let mut calls = Vec::new();
    send_all(engine, 0, |_, _| {
        calls.push(1_000 + calls.len() as u64);
        Ok(1_000 + calls.len() as u64 - 1)
    });
    for call in calls {
        engine.on_reply(call, Ok(Reply::Single(Value::Nil)), 0);
    }
    verdicts_among(engine, &&free())
}

#[test]
fn who_wants_nothing_hears_nothing_more() {
    let script = TrialScript::new(NOTHING, []);
    let mut engine = chain([&script]);
    assert_eq!(engine.on_request(1, &free(), 0), Step::Pass(Pass::default()));
    assert_eq!(engine.on_request_body(1, last("a"), 0), Step::Pass(Pass::default()));
    assert_eq!(engine.on_response_headers(1, &Answer(200, &[]), 0), Step::Pass(Pass::default()));
    assert_eq!(engine.on_response_body(1, last("b"), 0), Step::Pass(Pass::default()));
    engine.on_done(1, StreamEnd::Whole, 0);
    assert_eq!(script.saw(), ["request"]);
    assert_idle(&engine);
}

#[test]
fn a_stream_is_shown_to_its_end_a_request_forwards_and_a_response_backwards() {
    let (a, b) = (TrialScript::new(ALL, []), TrialScript::new(ALL, []));
    let mut engine = chain([&a, &b]);
    assert_eq!(engine.on_request(1, &free(), 0), Step::Pass(wanting(ALL)));
    assert_eq!(engine.on_request_body(1, piece("q1"), 0), Step::Pass(wanting(ALL)));
    assert_eq!(engine.on_request_body(1, last(""), 0), Step::Pass(wanting(ALL)));
    assert_eq!(engine.on_response_headers(1, &Answer(200, &["u"]), 0), Step::Pass(wanting(ALL)));
    assert_eq!(engine.on_response_body(1, piece("p1"), 0), Step::Pass(wanting(ALL)));
    assert_eq!(engine.on_response_body(1, last("p2"), 0), Step::Pass(wanting(ALL)));
    engine.on_done(1, StreamEnd::Whole, 0);
    for script in [a, b] {
        assert_eq!(script.saw(), ["request", ">q1", ">.", "200 x=u", "<p1", "<p2.", "Whole"]);
    }
    engine.on_retire(0);
    assert_idle(&engine);
}

#[test]
fn a_response_passes_the_last_filter_first() {
    let (a, b) =
        (TrialScript::new(ALL, [now(ALL), appends("a", ALL)]), TrialScript::new(ALL, [now(ALL), appends("b", ALL)]));
    let mut engine = chain([&a, &b]);
    engine.on_request(1, &free(), 0);
    let Step::Pass(pass) = engine.on_response_headers(1, &Answer(200, &["u"]), 0) else { panic!("it passes") };
    assert_eq!((values(&pass.edits.request).as_str(), values(&pass.edits.response).as_str()), ("", "bp ap"));
    assert_eq!((a.saw()[1].as_str(), b.saw()[1].as_str()), ("200 x=ubp", "200 x=u"));
}

#[test]
fn headers_may_be_changed_with_the_body_that_they_wait_for() {
    let a = TrialScript::new(HOLDS, [appends("1", HOLDS), Say::Wait, appends("2", HOLDS)]);
    let mut engine = chain([&a]);
    let Step::Pass(pass) = engine.on_request(1, &free(), 0) else { panic!("it passes") };
    assert_eq!((values(&pass.edits.request).as_str(), pass.wants.request_body), ("1q", Interest::Hold));
    assert_eq!(engine.on_request_body(1, piece("a"), 0), Step::Wait);
    let Step::Pass(pass) = engine.on_request_body(1, piece("b"), 0) else { panic!("it passes") };
    assert_eq!((values(&pass.edits.request).as_str(), pass.body), ("2q", BodyChange::Keep));
}

#[test]
fn what_is_wanted_is_the_most_that_a_filter_wants_and_changes_with_each_hook() {
    let done = Wants { done: true, ..NOTHING };
    let (a, b) = (
        TrialScript::new(NOTHING, [now(HOLDS), now(done)]),
        TrialScript::new(HOLDS_ANSWER, [now(HOLDS_ANSWER), now(NOTHING)]),
    );
    let mut engine = chain([&a, &b]);
    let both = Wants { request_body: Interest::Hold, response_body: Interest::Hold, ..ALL };
    assert_eq!(engine.on_request(1, &free(), 0), Step::Pass(wanting(both)));
    assert_eq!(engine.on_request_body(1, piece("q"), 0), Step::Pass(wanting(done)));
    engine.on_done(1, StreamEnd::Upstream, 0);
    assert_eq!(a.saw(), ["request", ">q", "Upstream"]);
    assert_eq!(b.saw(), ["request", ">q"]);
    assert_idle(&engine);
}

#[test]
fn a_request_waits_for_redis_with_its_body_while_more_of_it_comes() {
    let script = TrialScript::new(ALL, [now(HOLDS), Say::Ask, Say::Wait, Say::Now(Verdict::Pass(wanting(ALL)))]);
    let mut engine = chain([&script]);
    engine.on_request(1, &free(), 0);
    assert_eq!(engine.on_request_body(1, piece("a"), 0), Step::Wait);
    assert_eq!(engine.on_request_body(1, piece("b"), 0), Step::Wait);
    assert_eq!(answered(&mut engine), [(1, Verdict::Pass(wanting(ALL)))]);
    assert_eq!(engine.on_request_body(1, last("c"), 0), Step::Pass(wanting(ALL)));
    assert_eq!(script.saw(), ["request", ">a", ">b", ">c."]);
    engine.on_done(1, StreamEnd::Client, 0);
    assert_idle(&engine);
}

#[test]
fn who_answers_in_the_middle_is_the_last_to_be_asked_and_the_others_get_to_know() {
    let (a, b) = (
        TrialScript::new(ALL, [appends("a", ALL)]),
        TrialScript::new(HOLDS, [now(HOLDS), Say::Ask, Say::Now(Verdict::Respond(response(429)))]),
    );
    let mut engine = chain([&a, &b]);
    engine.on_request(1, &free(), 0);
    assert_eq!(engine.on_request_body(1, last("q"), 0), Step::Wait);
    assert_eq!(answered(&mut engine), [(1, Verdict::Respond(response(429)))]);
    assert_eq!((a.saw(), b.saw().len()), (vec!["request".into(), ">q.".into(), "Answered".into()], 2));
    engine.on_done(1, StreamEnd::Answered, 0);
    assert!(a.saw().is_empty() && b.saw().is_empty());
    assert_idle(&engine);
}

#[test]
fn who_answers_a_request_tells_those_before_it() {
    for asks in [false, true] {
        let answer = Say::Now(Verdict::Respond(response(403)));
        let (a, c) = (TrialScript::new(ALL, []), TrialScript::new(ALL, []));
        let b = TrialScript::new(ALL, if asks { vec![Say::Ask, answer] } else { vec![answer] });
        let mut engine = chain([&a, &b, &c]);
        let step = engine.on_request(1, &free(), 0);
        if asks {
            assert_eq!((step, answered(&mut engine)), (Step::Wait, vec![(1, Verdict::Respond(response(403)))]));
        } else {
            assert_eq!(step, Step::Respond(response(403)));
        }
        assert_eq!((a.saw(), c.saw()), (vec!["request".into(), "Answered".into()], Vec::<String>::new()));
        assert_idle(&engine);
    }
}

#[test]
fn an_answer_may_take_the_place_of_a_response_until_its_body_comes() {
    let respond = || Say::Now(Verdict::Respond(response(502)));
    let (a, b) = (TrialScript::new(ALL, []), TrialScript::new(ALL, [now(ALL), respond()]));
    let mut engine = chain([&a, &b]);
    engine.on_request(1, &free(), 0);
    assert_eq!(engine.on_response_headers(1, &Answer(200, &[]), 0), Step::Respond(response(502)));
    assert_eq!(a.saw(), ["request", "Answered"]);
    assert_idle(&engine);
    let a = TrialScript::new(ALL, [now(ALL), now(ALL), respond()]);
    let mut engine = chain([&a]);
    engine.on_request(1, &free(), 0);
    engine.on_response_headers(1, &Answer(200, &[]), 0);
    assert_eq!(
        engine.on_response_body(1, piece("p"), 0),
        Step::Pass(Pass::default()),
        "too late, and nobody's any more"
    );
    assert_idle(&engine);
}

#[test]
fn a_held_body_is_replaced_and_ended() {
    let says = [
        now(HOLDS_ANSWER),
        now(HOLDS_ANSWER),
        Say::Wait,
        Say::Now(Verdict::Pass(with(BodyChange::Replace(b"AB".to_vec()), HOLDS_ANSWER))),
        Say::Now(Verdict::Pass(with(BodyChange::End(b"end".to_vec()), HOLDS_ANSWER))),
    ];
    let script = TrialScript::new(HOLDS_ANSWER, says);
    let mut engine = chain([&script]);
    engine.on_request(1, &free(), 0);
    engine.on_response_headers(1, &Answer(200, &[]), 0);
    assert_eq!(engine.on_response_body(1, piece("a"), 0), Step::Wait);
    let replaced = with(BodyChange::Replace(b"AB".to_vec()), HOLDS_ANSWER);
    assert_eq!(engine.on_response_body(1, piece("b"), 0), Step::Pass(replaced));
    let ended = with(BodyChange::End(b"end".to_vec()), HOLDS_ANSWER);
    assert_eq!(engine.on_response_body(1, piece("c"), 0), Step::Pass(ended));
    engine.on_done(1, StreamEnd::Whole, 0);
    assert_eq!(script.saw(), ["request", "200 x=", "<a", "<b", "<c", "Whole"]);
}

#[test]
fn nobody_changes_or_keeps_what_is_only_watched() {
    let change = |wants| Say::Now(Verdict::Pass(with(BodyChange::End(b"x".to_vec()), wants)));
    let script = TrialScript::new(ALL, [now(ALL), change(ALL), Say::Wait, now(ALL), change(ALL), Say::Wait]);
    let mut engine = chain([&script]);
    engine.on_request(1, &free(), 0);
    for bytes in ["a", "b"] {
        assert_eq!(engine.on_request_body(1, piece(bytes), 0), Step::Pass(wanting(ALL)));
    }
    engine.on_response_headers(1, &Answer(200, &[]), 0);
    for bytes in ["a", "b"] {
        assert_eq!(engine.on_response_body(1, piece(bytes), 0), Step::Pass(wanting(ALL)));
    }
}

#[test]
fn of_two_that_hold_a_body_the_slower_one_lets_it_go() {
    let replace = |bytes: &[u8]| Say::Now(Verdict::Pass(with(BodyChange::Replace(bytes.to_vec()), HOLDS)));
    let (a, b) = (
        TrialScript::new(HOLDS, [now(HOLDS), replace(b"A")]),
        TrialScript::new(HOLDS, [now(HOLDS), Say::Ask, Say::Wait]),
    );
    let mut engine = chain([&a, &b]);
    engine.on_request(1, &free(), 0);
    assert_eq!(engine.on_request_body(1, piece("a"), 0), Step::Wait);
    assert_eq!(engine.on_request_body(1, piece("b"), 0), Step::Wait, "the first has nothing against it");
    let settled = answered(&mut engine);
    assert_eq!(
        settled,
        [(1, Verdict::Pass(with(BodyChange::Replace(b"Ab".to_vec()), HOLDS)))],
        "what came after it too"
    );
    assert_eq!(engine.on_request_body(1, last("c"), 0), Step::Pass(wanting(HOLDS)));
    // Of two changes the last one's holds.
    let (a, b) =
        (TrialScript::new(HOLDS, [now(HOLDS), replace(b"A")]), TrialScript::new(HOLDS, [now(HOLDS), replace(b"B")]));
    let mut engine = chain([&a, &b]);
    engine.on_request(1, &free(), 0);
    let Step::Pass(pass) = engine.on_request_body(1, piece("a"), 0) else { panic!("it passes") };
    assert_eq!(pass.body, BodyChange::Replace(b"B".to_vec()));
    // But for an end, behind which nothing goes on.
    let end = BodyChange::End(b"A".to_vec());
    let ends = Say::Now(Verdict::Pass(with(end.clone(), HOLDS)));
    let (a, b) = (TrialScript::new(HOLDS, [now(HOLDS), ends]), TrialScript::new(HOLDS, [now(HOLDS), replace(b"B")]));
    let mut engine = chain([&a, &b]);
    engine.on_request(1, &free(), 0);
    let Step::Pass(pass) = engine.on_request_body(1, piece("a"), 0) else { panic!("it passes") };
    assert_eq!(pass.body, end);
}

#[test]
fn a_response_that_comes_before_its_request_ended_ends_the_wait_for_that() {
    let script = TrialScript::new(ALL, [now(HOLDS), Say::Ask]);
    let mut engine = chain([&script]);
    engine.on_request(1, &free(), 0);
    assert_eq!(engine.on_request_body(1, piece("a"), 0), Step::Wait);
    assert_eq!(engine.on_response_headers(1, &Answer(400, &[]), 0), Step::Pass(wanting(ALL)));
    assert!(answered(&mut engine).is_empty(), "it waits no more");
    assert_eq!(engine.on_request_body(1, piece("b"), 0), Step::Pass(wanting(ALL)));
    assert_eq!(script.saw(), ["request", ">a", "400 x=", ">b"], "who watches its request sees more of it");
    // Nor is a request decided on that somebody else has answered, but who passed it still follows.
    let (a, b) = (TrialScript::new(ALL, []), TrialScript::new(ALL, [Say::Ask]));
    let mut engine = chain([&a, &b]);
    assert_eq!(engine.on_request(1, &free(), 0), Step::Wait);
    assert_eq!(engine.on_response_headers(1, &Answer(503, &[]), 0), Step::Pass(wanting(ALL)));
    assert!(answered(&mut engine).is_empty());
    engine.on_done(1, StreamEnd::Whole, 0);
    assert_eq!(
        (a.saw(), b.saw()),
        (["request", "503 x=", "Whole"].map(String::from).into(), ["request", "Answered"].map(String::from).into())
    );
    assert_idle(&engine);
}

#[test]
fn a_response_waits_until_all_have_settled_it() {
    let (a, b) =
        (TrialScript::new(ALL, [now(ALL), Say::Ask, appends("a", ALL)]), TrialScript::new(ALL, [now(ALL), Say::Ask]));
    let mut engine = chain([&a, &b]);
    engine.on_request(1, &free(), 0);
    assert_eq!(engine.on_response_headers(1, &Answer(200, &[]), 0), Step::Wait);
    let settled = answered(&mut engine);
    let [(1, Verdict::Pass(pass))] = &settled[..] else { panic!("once: {settled:?}") };
    assert_eq!((values(&pass.edits.response).as_str(), pass.wants), ("ap", ALL));
}

#[test]
fn a_stream_that_ends_is_forgotten_wherever_it_waits() {
    for hooks in 1..4 {
        let asks = [vec![Say::Ask], vec![now(HOLDS), Say::Ask], vec![now(HOLDS), now(ALL), Say::Ask]];
        let (a, b) = (TrialScript::new(ALL, []), TrialScript::new(ALL, asks[hooks - 1].clone()));
        let mut engine = chain([&a, &b]);
        let step = engine.on_request(1, &free(), 0);
        let step = if hooks > 1 { engine.on_request_body(1, piece("q"), 0) } else { step };
        let step = if hooks > 2 { engine.on_response_headers(1, &Answer(200, &[]), 0) } else { step };
        assert_eq!(step, Step::Wait);
        engine.on_done(1, StreamEnd::Client, 0);
        // A request that waits has not got to the upstream.
        let ending = if hooks > 1 { "Client" } else { "Answered" };
        assert_eq!([a.saw().pop().unwrap(), b.saw().pop().unwrap()], [ending; 2]);
        assert!(answered(&mut engine).is_empty());
        assert_idle(&engine);
        // A later one of its name is another.
        engine.on_request(1, &free(), 0);
        assert_eq!((a.saw(), b.saw()), (vec!["request".into()], vec!["request".into()]));
    }
}
