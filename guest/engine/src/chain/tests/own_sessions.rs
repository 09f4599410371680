//! Sessions of ours: what responses make of them, on a small Redis of its own.

use alloc::collections::BTreeMap;

use super::{
    sessions::{WALL_NS, configured, passed, session, told, with_cookie},
    *,
};
use crate::{
    session::SESSION_SET,
    wants::{ResponseHead, ResponseOrigin, ResponseView},
};

fn own(extra: Json) -> Engine {
    let mut all = json!({
        "format": "own", "secrets": ["new", "old"], "idle": "10m", "absolute": "1h", "key_prefix": "s:",
    });
    extra.as_object().into_iter().flatten().for_each(|(name, value)| all[name] = value.clone());
    let mut engine = configured(&session(all));
    engine.add_random(&(0..=255).cycle().take(1_024).collect::<Vec<u8>>());
    engine
}

/// A response that says these things of its session.
struct Sets<'a> {
    values: &'a [&'a str],
    origin: ResponseOrigin,
}

impl ResponseView for Sets<'_> {
    fn head(&self) -> ResponseHead {
        ResponseHead { status: 200, origin: self.origin, end: true }
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.header_values(name).into_iter().next()
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        if name == SESSION_SET {
            self.values.iter().map(|value| value.as_bytes().to_vec()).collect()
        } else {
            Vec::new()
        }
    }
}

/// Strings of Redis, as far as these sessions need them.
#[derive(Default)]
struct Strings(BTreeMap<Vec<u8>, Vec<u8>>);

impl Strings {
    fn reply(&mut self, command: &Command) -> Reply {
        let words: Vec<&[u8]> = command.words().collect();
        Reply::Single(match &words[..] {
            [b"GETRANGE", key, ..] => Value::Bulk(self.0.get(*key).cloned().unwrap_or_default()),
            [b"SET", key, _, b"PX", _, b"XX"] if !self.0.contains_key(*key) => Value::Nil,
            [b"SET", key, value, b"PX", kept_ms, ..] => {
                assert!(str::from_utf8(kept_ms).unwrap().parse::<u64>().unwrap() <= 660_000);
                self.0.insert(key.to_vec(), value.to_vec());
                Value::Status("OK".to_string())
            }
            [b"DEL", key] => Value::Integer(self.0.remove(*key).map_or(0, |_| 1)),
            [b"PEXPIRE", key, _] => Value::Integer(self.0.contains_key(*key).into()),
            other => panic!("{other:?}"),
        })
    }
}

/// What comes of an exchange.
#[derive(Debug, Default, PartialEq, Eq)]
struct Came {
    /// What the upstream is told.
    told: Vec<String>,
    /// The cookies that are set.
    cookies: Vec<String>,
    /// What the log says of what was set.
    said: String,
    status: u16,
}

/// A browser and an application with the filter between them.
struct Scene {
    engine: Engine,
    strings: Strings,
    is_away: bool,
    /// Redis refuses commands of this name.
    refused: &'static str,
    stream: u64,
    calls: u64,
    /// And answers these too late.
    late: &'static str,
    /// The commands that were sent, by name.
    sent: Vec<String>,
}

impl Scene {
    fn new(engine: Engine) -> Scene {
        Scene {
            engine,
            strings: Strings::default(),
            is_away: false,
            refused: "",
            late: "",
            stream: 0,
            calls: 0,
            sent: Vec::new(),
        }
    }

    /// Carries out what is to be done; returns what the stream comes to, if it waited, and what the log is told.
    fn settle(&mut self, now_ns: u64, notes: &mut Vec<(&'static str, String)>) -> Option<Verdict> {
        let mut settled = None;
        let mut replies = Vec::new();
        loop {
            match self.engine.poll(&Gone, now_ns) {
                Effect::Call { command, .. } => {
                    self.calls += 1;
                    let name = String::from_utf8_lossy(command.words().next().unwrap()).into_owned();
                    let reply = match name.as_str() {
                        _ if self.is_away => Err(CallError::Timeout),
                        name if name == self.refused => Ok(Reply::Error("OOM command not allowed".to_string())),
                        name if name == self.late => {
                            self.strings.reply(&command);
                            Err(CallError::Timeout)
                        }
                        _ => Ok(self.strings.reply(&command)),
                    };
                    self.sent.push(name);
                    replies.push((self.calls, reply));
                    self.engine.called(Ok(self.calls), now_ns);
                }
                Effect::Settle { verdict, .. } => settled = Some(verdict),
                Effect::Annotate { fields, .. } => notes.extend(fields),
                Effect::Draw { bytes } => self.engine.add_random(&(0..bytes).map(|at| at as u8).collect::<Vec<_>>()),
                Effect::Log { line, .. } => assert!(!line.contains("alice"), "{line}"),
                Effect::Wait { .. } if replies.is_empty() => return settled,
                Effect::Wait { .. } => {
                    for (call, reply) in replies.drain(..) {
                        self.engine.on_reply(call, reply, now_ns);
                    }
                }
            }
        }
    }

    /// A request with this cookie, at this second, whose response says this of its session.
    fn exchange(&mut self, second: u64, cookie: &str, sets: &[&str]) -> Came {
        self.exchange_with(second, cookie, sets, ResponseOrigin::Upstream)
    }

    fn exchange_with(&mut self, second: u64, cookie: &str, values: &[&str], origin: ResponseOrigin) -> Came {
        let now_ns = second * 1_000 * MS;
        self.engine.set_wall_clock(WALL_NS + now_ns);
        self.stream += 1;
        let request = with_cookie(cookie);
        let mut notes = Vec::new();
        let step = self.engine.on_request(self.stream, &request, now_ns);
        let settled = self.settle(now_ns, &mut notes);
        let pass = match step {
            Step::Wait => passed(settled.expect("it is settled")),
            Step::Pass(pass) => pass,
            Step::Respond(response) => panic!("{response:?}"),
        };
        let edited = Edited { request: &request, edits: &pass.edits.request };
        assert_eq!(edited.header("cookie").filter(|cookie| cookie.windows(4).any(|part| part == b"sid=")), None);
        assert!(pass.wants.response_headers && edited.header(SESSION_SET).is_none());
        let told = told(&request, &pass);

        let step = self.engine.on_response_headers(self.stream, &Sets { values, origin }, now_ns);
        let settled = self.settle(now_ns, &mut notes);
        let verdict = match (step, settled) {
            (Step::Wait, Some(verdict)) => verdict,
            (Step::Pass(pass), None) => Verdict::Pass(pass),
            (Step::Respond(response), None) => Verdict::Respond(response),
            other => panic!("{other:?}"),
        };
        self.engine.on_done(self.stream, StreamEnd::Whole, now_ns);
        assert_idle(&self.engine);
        let (status, edits) = match verdict {
            Verdict::Pass(pass) => (200, pass.edits.response),
            Verdict::Respond(response) => (response.status, Vec::new()),
        };
        let is_stored_by_nobody = edits.contains(&HeaderEdit::Set("cache-control".to_string(), b"no-store".to_vec()));
        let sets_cookie = |edit: &HeaderEdit| edit.name() == "set-cookie";
        assert_eq!(is_stored_by_nobody, edits.iter().any(sets_cookie), "{edits:?}");
        let is_removed = edits.contains(&HeaderEdit::Remove(SESSION_SET.to_string()));
        assert_eq!(is_removed, status == 200 && !values.is_empty(), "{edits:?}");
        let cookies = edits.into_iter().filter_map(|edit| match edit {
            HeaderEdit::Append(name, value) if name == "set-cookie" => Some(String::from_utf8(value).unwrap()),
            _ => None,
        });
        let mut said = notes.into_iter().filter(|(name, _)| *name == "session_set").map(|(_, said)| said);
        Came { told, cookies: cookies.collect(), said: said.next_back().unwrap_or_default(), status }
    }
}

/// The cookie that a browser sends back.
fn sent_back(came: &Came) -> String {
    let [cookie] = &came.cookies[..] else { panic!("{came:?}") };
    assert!(cookie.ends_with("; Path=/; HttpOnly; Secure; SameSite=Lax"), "{cookie}");
    cookie.split(';').next().unwrap().to_string()
}

const ALICE: &str = r#"{"fields": {"user": "alice", "role": "admin"}}"#;
const BOB: &str = r#"{"fields": {"user": "bob"}}"#;
const REMOVAL: &str = "sid=; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Lax";

#[test]
fn who_logs_in_is_known_until_they_log_out() {
    let mut scene = Scene::new(own(json!({})));
    let login = scene.exchange(0, "theme=dark", &[ALICE]);
    let cookie = sent_back(&login);
    assert_eq!((login.told.len(), login.said.as_str()), (0, "begun"));
    let [key] = &scene.strings.0.keys().cloned().collect::<Vec<_>>()[..] else { panic!() };
    let key = String::from_utf8(key.clone()).unwrap();
    assert!(key.starts_with("s:{") && !key.contains(&cookie[4..32]), "{key} {cookie}");

    let known = scene.exchange(1, &format!("theme=dark; {cookie}"), &[]);
    assert_eq!((known.told, known.cookies.len()), (vec!["x-user=alice".to_string(), "x-role=admin".into()], 0));
    let changed = scene.exchange(1, &cookie, &[r#"{"fields": {"user": "alice"}}"#]);
    assert_eq!((changed.said.as_str(), changed.cookies.len()), ("changed", 0));
    assert_eq!(scene.exchange(1, &cookie, &[]).told, ["x-user=alice"], "what was read before is void");

    let logout = scene.exchange(2, &cookie, &["delete"]);
    assert_eq!((logout.told, logout.cookies), (vec!["x-user=alice".to_string()], vec![REMOVAL.to_string()]));
    assert_eq!(scene.exchange(2, &cookie, &[]).told, [""; 0]);
    assert!(scene.strings.0.is_empty());
}

#[test]
fn an_id_is_new_whenever_rights_change() {
    let mut scene = Scene::new(own(json!({})));
    let alice = sent_back(&scene.exchange(0, "", &[ALICE]));
    for (second, order, said) in [
        (1, r#"{"fields": {"user": "alice"}, "rotate": true}"#, "rotated"),
        (2, BOB, "begun"),
        (3, r#"{"fields": {"user": "alice"}, "rotate": false}"#, "begun"),
    ] {
        let before = sent_back(&scene.exchange(0, "", &[ALICE]));
        let after = scene.exchange(second, &before, &[order]);
        assert_eq!(after.said, if second == 3 { "changed" } else { said });
        if second < 3 {
            let after = sent_back(&after);
            assert!(after != before && after != alice);
            assert_eq!(scene.exchange(second, &before, &[]).told, [""; 0], "the old id leads nowhere");
            assert_eq!(scene.exchange(second, &after, &[]).told.len(), 1);
        }
    }
}

#[test]
fn no_id_of_a_request_is_ever_taken_for_a_new_session() {
    let mut scene = Scene::new(own(json!({})));
    let mut ended = sent_back(&scene.exchange(0, "", &[ALICE]));
    scene.exchange(0, &ended, &["delete"]);
    for cookie in ["sid=chosen", ended.clone().as_str(), "sid=a; sid=b"] {
        let login = scene.exchange(1, cookie, &[BOB]);
        let fresh = sent_back(&login);
        assert!(fresh != cookie && fresh != ended);
        assert_eq!(scene.exchange(2, cookie, &[]).told, [""; 0]);
        ended = fresh;
    }
}

#[test]
fn what_has_ended_elsewhere_is_not_made_good_again() {
    for order in [ALICE, r#"{"fields": {"user": "alice"}, "rotate": true}"#] {
        let mut scene = Scene::new(own(json!({})));
        let cookie = sent_back(&scene.exchange(0, "", &[ALICE]));
        assert_eq!(scene.exchange(1, &cookie, &[]).told.len(), 2);
        scene.strings.0.clear();
        let came = scene.exchange(1, &cookie, &[order]);
        assert_eq!((came.told.len(), came.said.as_str(), came.cookies.len()), (2, "gone", 0), "it was remembered");
        assert_eq!(scene.exchange(1, &cookie, &[]).told, [""; 0]);
        assert!(scene.strings.0.is_empty());
    }
}

#[test]
fn a_new_id_that_cannot_be_written_logs_nobody_out() {
    for refused in ["SET", "DEL"] {
        let mut scene = Scene::new(own(json!({})));
        let cookie = sent_back(&scene.exchange(0, "", &[ALICE]));
        scene.refused = refused;
        let came = scene.exchange(1, &cookie, &[r#"{"fields": {"user": "alice"}, "rotate": true}"#]);
        assert!(came.said.starts_with("unavailable;cause=") && came.cookies.is_empty(), "{came:?}");
        scene.refused = "";
        assert_eq!(scene.exchange(2, &cookie, &[]).told, ["x-user=alice", "x-role=admin"], "{refused}");
    }
}

#[test]
fn nothing_is_left_of_a_session_whose_id_nobody_gets() {
    for before in [&[][..], &[ALICE]] {
        let mut scene = Scene::new(own(json!({})));
        let cookie = if before.is_empty() { String::new() } else { sent_back(&scene.exchange(0, "", before)) };
        scene.late = "SET";
        let came = scene.exchange(1, &cookie, &[r#"{"fields": {"user": "alice"}, "rotate": true}"#]);
        assert_eq!((came.said.as_str(), came.cookies.len()), ("unavailable;cause=timeout", 0));
        assert_eq!(scene.strings.0.len(), before.len());
        assert_eq!(scene.sent.last().map(String::as_str), Some("DEL"));
    }
    // Among so many of a user, who may have one more at once.
    let mut engine = own(json!({"max_per_user": 3}));
    assert!(matches!(engine.on_request(1, &with_cookie(""), 0), Step::Pass(_)));
    let sets = Sets { values: &[ALICE], origin: ResponseOrigin::Upstream };
    assert_eq!(engine.on_response_headers(1, &sets, 0), Step::Wait);
    let (mut calls, mut sent) = (0, Vec::new());
    let mut send = |engine: &mut Engine| {
        send_all(engine, 0, |_, command| {
            calls += 1;
            sent.push(command.words().map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>());
            Ok(calls)
        })
    };
    send(&mut engine);
    engine.on_reply(1, Err(CallError::Timeout), 0);
    send(&mut engine);
    let [begin, end, leave] = &sent[..] else { panic!("{sent:?}") };
    let (sessions, record, digest) = (begin[3].as_str(), begin[4].as_str(), begin[7].as_str());
    assert_eq!(
        (&end[..], &leave[..]),
        (&["DEL", record].map(str::to_string)[..], &["ZREM", sessions, digest].map(str::to_string)[..])
    );
}

#[test]
fn a_session_ends_when_its_time_is_over_whatever_its_id() {
    let mut scene = Scene::new(own(json!({})));
    let mut cookie = sent_back(&scene.exchange(0, "", &[ALICE]));
    for second in [600, 1_200, 3_599] {
        let order = r#"{"fields": {"user": "alice"}, "rotate": true}"#;
        cookie = sent_back(&scene.exchange(second, &cookie, &[order]));
    }
    assert_eq!(scene.exchange(3_599, &cookie, &[]).told, ["x-user=alice"]);
    assert_eq!(scene.exchange(3_600, &cookie, &[]).told, [""; 0]);
    // Who asks is what keeps it.
    scene.sent.clear();
    let cookie = sent_back(&scene.exchange(4_000, "", &[ALICE]));
    scene.exchange(4_000, &cookie, &[]);
    scene.exchange(4_000, &cookie, &[]);
    scene.exchange(4_001, &cookie, &[]);
    assert_eq!(scene.sent, ["SET", "GETRANGE", "PEXPIRE", "GETRANGE", "PEXPIRE"]);
}

#[test]
fn without_redis_no_cookie_is_set_and_it_is_said() {
    let mut scene = Scene::new(own(json!({"remember": "30s"})));
    let cookie = sent_back(&scene.exchange(0, "", &[ALICE]));
    scene.is_away = true;
    let login = scene.exchange(1, "", &[ALICE]);
    assert_eq!((login.cookies.len(), login.said.as_str(), login.status), (0, "unavailable;cause=timeout", 200));
    let logout = scene.exchange(2, &cookie, &["delete"]);
    assert_eq!((logout.cookies, logout.said.as_str()), (vec![REMOVAL.to_string()], "unavailable;cause=timeout"));
    scene.is_away = false;
    scene.exchange(3, &cookie, &[]);
    scene.is_away = true;
    let logout = scene.exchange(4, &cookie, &["delete"]);
    assert_eq!((logout.cookies, logout.said.as_str()), (vec![REMOVAL.to_string()], "unavailable;cause=timeout"));
    let counted: Vec<_> = raised(&mut scene.engine).into_iter().filter(|line| line.contains("_writes_")).collect();
    assert_eq!(counted, ["slidegate_session_writes_total begun 1", "slidegate_session_writes_total unavailable 3"]);
}

#[test]
fn what_is_no_order_changes_nothing() {
    let mut scene = Scene::new(own(json!({})));
    let cookie = sent_back(&scene.exchange(0, "", &[ALICE]));
    let long = "x".repeat(4_097);
    for (values, said) in [
        (&["{}"][..], "malformed;cause=malformed"),
        (&[&long], "malformed;cause=too_long"),
        (&[ALICE, BOB], "malformed;cause=ambiguous"),
        (&[r#"{"fields": {"role": "admin"}}"#], "malformed;cause=nobody"),
        (&[r#"{"fields": {"user": null}}"#], "malformed;cause=value"),
    ] {
        for cookie in ["", &cookie] {
            let came = scene.exchange(1, cookie, values);
            assert_eq!((came.said.as_str(), came.cookies.len()), (said, 0));
        }
    }
    let hosts = scene.exchange_with(1, &cookie, &["delete"], ResponseOrigin::Host);
    assert_eq!((hosts.said.as_str(), hosts.cookies.len()), ("", 0), "it is not the application's word");
    assert_eq!(scene.exchange(2, &cookie, &[]).told.len(), 2);
}

#[test]
fn without_clock_or_randomness_no_session_begins() {
    let mut scene = Scene::new(own(json!({})));
    scene.engine.set_wall_clock(0);
    let step = scene.engine.on_request(1, &with_cookie(""), 0);
    assert!(matches!(step, Step::Pass(_)));
    let sets = Sets { values: &[ALICE], origin: ResponseOrigin::Upstream };
    assert!(matches!(scene.engine.on_response_headers(1, &sets, 0), Step::Pass(_)));
    let mut notes = Vec::new();
    scene.settle(0, &mut notes);
    assert_eq!(notes.pop().unwrap().1, "unavailable;cause=no_clock");

    let mut engine = configured(&session(json!({"format": "own", "secrets": "s"})));
    engine.on_request(1, &with_cookie(""), 0);
    engine.on_response_headers(1, &sets, 0);
    let Effect::Annotate { fields, .. } = engine.poll(&Gone, 0) else { panic!() };
    assert_eq!(fields[0].1, "unavailable;cause=no_random");
    assert_eq!(engine.poll(&Gone, 0), Effect::Draw { bytes: 1_024 });
}

#[test]
fn an_answer_that_nobody_waits_for_any_more_leaves_nothing() {
    let mut scene = Scene::new(own(json!({})));
    scene.engine.set_wall_clock(WALL_NS);
    assert!(matches!(scene.engine.on_request(1, &with_cookie(""), 0), Step::Pass(_)));
    let sets = Sets { values: &[ALICE], origin: ResponseOrigin::Upstream };
    assert_eq!(scene.engine.on_response_headers(1, &sets, 0), Step::Wait);
    scene.engine.on_done(1, StreamEnd::Client, 0);
    assert!(scene.settle(0, &mut Vec::new()).is_none());
    assert_idle(&scene.engine);
}

#[test]
fn of_a_user_there_are_so_many_sessions() {
    for (when_full, reply, status, said) in
        [("end_oldest", 1, 200, "begun"), ("refuse_newest", 0, 403, "refused"), ("refuse_newest", 1, 200, "begun")]
    {
        let mut engine = own(json!({"max_per_user": 3, "when_full": when_full}));
        assert!(matches!(engine.on_request(1, &with_cookie(""), 0), Step::Pass(_)));
        let sets = Sets { values: &[ALICE], origin: ResponseOrigin::Upstream };
        assert_eq!(engine.on_response_headers(1, &sets, 0), Step::Wait);
        let mut words = Vec::new();
        send_all(&mut engine, 0, |_, command| {
            words = command.words().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            Ok(100)
        });
        let [name, _, count, sessions, key, _, kept, digest, now, max, ends, prefix, replaced, longest] = &words[..]
        else {
            panic!("{words:?}")
        };
        assert_eq!([name, count, kept, max, replaced, longest], ["EVALSHA", "2", "601000", "3", "", "3600000"]);
        assert_eq!((now.as_str(), ends == "1"), ("1800000000000", when_full == "end_oldest"));
        assert!(key == &format!("{prefix}{digest}") && sessions.starts_with(&prefix[..10]), "{words:?}");
        engine.on_reply(100, Ok(Reply::Single(Value::Integer(reply))), 0);
        let mut came = (0, String::new());
        loop {
            match engine.poll(&Gone, 0) {
                Effect::Annotate { fields, .. } => came.1 = fields[0].1.clone(),
                Effect::Settle { verdict: Verdict::Pass(_), .. } => came.0 = 200,
                Effect::Settle { verdict: Verdict::Respond(response), .. } => came.0 = response.status,
                Effect::Wait { .. } => break,
                _ => {}
            }
        }
        assert_eq!((came.0, came.1.as_str()), (status, said));
        engine.on_done(1, StreamEnd::Whole, 0);
        assert_idle(&engine);
    }
}

#[test]
fn a_record_that_says_no_end_is_none() {
    let mut scene = Scene::new(own(json!({})));
    let cookie = sent_back(&scene.exchange(0, "", &[ALICE]));
    for text in [r#"{"fields": {"user": "root"}}"#, r#"{"ends_ms": "x", "fields": {"user": "root"}}"#, "[]"] {
        scene.strings.0.values_mut().for_each(|value| *value = text.as_bytes().to_vec());
        assert_eq!(scene.exchange(2, &cookie, &[]).told, [""; 0], "{text}");
        scene.exchange(9, "", &[]);
    }
}
