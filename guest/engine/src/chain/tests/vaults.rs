//! Vaults: what browsers and upstreams get of cookies, on a small Redis of their own.

use alloc::collections::BTreeMap;

use super::{
    sessions::{Only, WALL_NS, configured, passed, with_cookie},
    *,
};
use crate::wants::{ResponseHead, ResponseOrigin, ResponseView};

fn vault(extra: Json) -> Json {
    let mut vault =
        json!({"cookies": ["token", "id"], "secrets": ["new", "old"], "redis": {"service_name": "r.static"}});
    extra.as_object().into_iter().flatten().for_each(|(name, value)| vault[name] = value.clone());
    json!({"cookie_vault": vault})
}

/// A response that sets these cookies, and, maybe, a session.
struct Sets<'a> {
    cookies: &'a [&'a str],
    session: Option<&'a str>,
}

impl ResponseView for Sets<'_> {
    fn head(&self) -> ResponseHead {
        // A plugin that logs users in answers itself.
        let origin = if self.session.is_some() { ResponseOrigin::Upstream } else { ResponseOrigin::Host };
        ResponseHead { status: 200, origin, end: true }
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.header_values(name).into_iter().next()
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        let of = |values: &[&str]| values.iter().map(|value| value.as_bytes().to_vec()).collect();
        match (name, self.session) {
            ("set-cookie", _) => of(self.cookies),
            (crate::session::SESSION_SET, Some(order)) => of(&[order]),
            _ => Vec::new(),
        }
    }
}

struct Scene {
    engine: Engine,
    strings: BTreeMap<Vec<u8>, Vec<u8>>,
    is_away: bool,
    /// Replies are given in the reverse of their order.
    is_reversed: bool,
    stream: u64,
    calls: u64,
    kept_ms: Vec<String>,
    notes: Vec<String>,
}

impl Scene {
    fn new(document: &Json) -> Scene {
        let mut engine = configured(document);
        engine.add_random(&[7; 1_024]);
        Scene {
            engine,
            strings: BTreeMap::new(),
            is_away: false,
            is_reversed: false,
            stream: 0,
            calls: 0,
            kept_ms: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn reply(&mut self, command: &Command) -> Result<Reply, CallError> {
        if self.is_away {
            return Err(CallError::Connect);
        }
        let words: Vec<&[u8]> = command.words().collect();
        Ok(Reply::Single(match &words[..] {
            [b"GETRANGE", key, ..] => Value::Bulk(self.strings.get(*key).cloned().unwrap_or_default()),
            [b"SET", key, value, b"PX", kept_ms, ..] => {
                self.kept_ms.push(String::from_utf8(kept_ms.to_vec()).unwrap());
                self.strings.insert(key.to_vec(), value.to_vec());
                Value::Status("OK".to_string())
            }
            [b"DEL", key] => Value::Integer(self.strings.remove(*key).map_or(0, |_| 1)),
            [b"PEXPIRE", ..] => Value::Integer(1),
            other => panic!("{other:?}"),
        }))
    }

    fn settle(&mut self, request: &Sample) -> Option<Verdict> {
        let (mut settled, mut replies) = (None, Vec::new());
        loop {
            match self.engine.poll(&Only(request), 0) {
                Effect::Call { command, .. } => {
                    self.calls += 1;
                    replies.push((self.calls, self.reply(&command)));
                    self.engine.called(Ok(self.calls), 0);
                }
                Effect::Settle { verdict, .. } => settled = Some(verdict),
                Effect::Annotate { fields, .. } => {
                    self.notes.extend(fields.into_iter().map(|(name, value)| format!("{name}={value}")));
                }
                Effect::Draw { .. } => self.engine.add_random(&[7; 1_024]),
                Effect::Log { line, .. } => assert!(!line.contains("eyJh"), "{line}"),
                Effect::Wait { .. } if replies.is_empty() => return settled,
                Effect::Wait { .. } => {
                    if self.is_reversed {
                        replies.reverse();
                    }
                    for (call, reply) in replies.drain(..) {
                        self.engine.on_reply(call, reply, 0);
                    }
                }
            }
        }
    }

    fn decided(&mut self, step: Step, request: &Sample) -> Pass {
        let settled = self.settle(request);
        match (step, settled) {
            (Step::Wait, Some(verdict)) => passed(verdict),
            (Step::Pass(pass), None) => pass,
            other => panic!("{other:?}"),
        }
    }

    /// What the upstream gets as cookies for these, and what the browser is set for those.
    fn exchange(&mut self, sent: &str, sets: &Sets<'_>) -> (Option<String>, Vec<String>) {
        self.engine.set_wall_clock(WALL_NS);
        self.stream += 1;
        let request = with_cookie(sent);
        let step = self.engine.on_request(self.stream, &request, 0);
        let pass = self.decided(step, &request);
        assert!(pass.wants.response_headers);
        let edited = Edited { request: &request, edits: &pass.edits.request };
        let cookie = edited.header("cookie").map(|value| String::from_utf8(value).unwrap());
        let step = self.engine.on_response_headers(self.stream, sets, 0);
        let pass = self.decided(step, &request);
        self.engine.on_done(self.stream, StreamEnd::Whole, 0);
        assert_idle(&self.engine);
        let mut set = sets.header_values("set-cookie");
        for edit in pass.edits.response {
            match edit {
                HeaderEdit::Remove(name) if name == "set-cookie" => set.clear(),
                HeaderEdit::Append(name, value) if name == "set-cookie" => set.push(value),
                HeaderEdit::Remove(_) => {}
                HeaderEdit::Set(name, _) if name == "cache-control" => {}
                other => panic!("{other:?}"),
            }
        }
        (cookie, set.into_iter().map(|cookie| String::from_utf8(cookie).unwrap()).collect())
    }

    fn set(&mut self, cookies: &[&str]) -> Vec<String> {
        self.exchange("", &Sets { cookies, session: None }).1
    }

    fn sent(&mut self, cookies: &str) -> Option<String> {
        self.exchange(cookies, &Sets { cookies: &[], session: None }).0
    }
}

/// What a browser sends back of what it was set.
fn pairs(set: &[String]) -> String {
    set.iter().map(|cookie| cookie.split(';').next().unwrap()).collect::<Vec<_>>().join("; ")
}

#[test]
fn the_upstream_gets_back_what_it_set_and_the_browser_never_has_it() {
    for is_reversed in [false, true] {
        let mut scene = Scene::new(&vault(json!({"keep": "2h"})));
        scene.is_reversed = is_reversed;
        let set = scene.set(&["a=1; Path=/", "token=eyJh.one; Path=/; HttpOnly", "id=eyJh.two; Max-Age=60", "b=2"]);
        assert_eq!((set[0].as_str(), set[3].as_str(), set.len()), ("a=1; Path=/", "b=2", 4), "in their order");
        assert!(set[1].ends_with("; Path=/; HttpOnly") && set[2].ends_with("; Max-Age=60"), "{set:?}");
        assert!(set.iter().all(|cookie| !cookie.contains("eyJh")), "{set:?}");
        assert_eq!(scene.kept_ms, ["7200000", "60000"]);
        let sent = scene.sent(&pairs(&set));
        assert_eq!(sent.as_deref(), Some("a=1; token=eyJh.one; id=eyJh.two; b=2"));
        assert!(scene.strings.keys().all(|key| !pairs(&set).contains(str::from_utf8(&key[16..]).unwrap())));
        assert!(scene.notes.is_empty(), "{:?}", scene.notes);
    }
}

#[test]
fn what_is_unknown_or_forged_is_dropped() {
    let mut scene = Scene::new(&vault(json!({})));
    let token = pairs(&scene.set(&["token=eyJh.one"]));
    let id = token.replace("token=", "id=");
    let unknown = format!("token={}", "A".repeat(43));
    for (sent, goes_on) in [
        ("", Some("")),
        ("a=1; token=eyJh.root", Some("a=1")),
        (unknown.as_str(), None),
        (id.as_str(), None),
        (&format!("{token}; {token}"), Some("token=eyJh.one")),
        (&format!("TOKEN=x; {token}"), Some("token=eyJh.one")),
    ] {
        assert_eq!(scene.sent(sent).as_deref(), goes_on, "{sent}");
    }
    // Somebody has written to Redis.
    scene.strings.values_mut().for_each(|value| *value = b"eyJh.root".to_vec());
    assert_eq!(scene.sent(&token), None);
    let counted = raised(&mut scene.engine);
    for line in ["kept 1", "restored 2", "unknown 1", "forged 4"] {
        assert!(counted.contains(&format!("slidegate_vault_cookies_total {line}")), "{line} {counted:?}");
    }
}

#[test]
fn who_logs_out_has_no_value_any_more() {
    let mut scene = Scene::new(&vault(json!({})));
    let token = pairs(&scene.set(&["token=eyJh.one"]));
    let deleted = Sets { cookies: &["token=gone; Max-Age=0; Path=/", "id=; Max-Age=0"], session: None };
    let (sent, set) = scene.exchange(&token, &deleted);
    assert_eq!(
        (sent.as_deref(), &set[..]),
        (Some("token=eyJh.one"), &["token=; Max-Age=0; Path=/".to_string(), "id=; Max-Age=0".into()][..])
    );
    assert!(scene.strings.is_empty());
    assert_eq!(scene.sent(&token), None);

    // One of an older path is cleared, and the new one is the same.
    let anew = Sets { cookies: &["token=; Path=/old; Max-Age=0", "token=eyJh.one; Path=/"], session: None };
    let token = pairs(&scene.set(&["token=eyJh.one"]));
    scene.exchange(&token, &anew);
    assert_eq!(scene.sent(&token).as_deref(), Some("token=eyJh.one"));
}

#[test]
fn without_redis_the_cookie_is_left_out_and_it_is_said() {
    let mut scene = Scene::new(&vault(json!({})));
    let token = pairs(&scene.set(&["token=eyJh.one"]));
    scene.is_away = true;
    // Nor is anybody logged out, whatever the application makes of that.
    let deleted = Sets { cookies: &["token=; Max-Age=0", "b=2"], session: None };
    let (sent, set) = scene.exchange(&format!("a=1; {token}"), &deleted);
    assert_eq!((sent.as_deref(), &set[..]), (Some("a=1"), &["b=2".to_string()][..]));
    assert_eq!(scene.set(&["token=eyJh.two", "a=1"]), ["a=1"]);
    assert_eq!(scene.notes, ["cookie_vault=unavailable;cause=connect"; 2]);
}

#[test]
fn values_are_bounded() {
    let mut scene = Scene::new(&vault(json!({})));
    let long = format!("token={}", "t".repeat(30_000));
    let token = pairs(&scene.set(&[&long]));
    assert_eq!(scene.sent(&token), Some(long));
    let three = ["token", "id", "id"].map(|name| format!("{name}={}{}", name.len(), "u".repeat(40_000)));
    let three: Vec<&str> = three.iter().map(String::as_str).collect();
    let both = pairs(&scene.set(&three[..2]));
    assert_eq!(scene.sent(&format!("{both}; x={}", "y".repeat(20_000))).map(|sent| sent.len()), Some(60_011));
    let huge = format!("token={}", "t".repeat(1_000_000));
    assert_eq!(scene.set(&[&huge, "a=1"]), ["a=1"]);
    let many: Vec<String> = (0..300).map(|at| format!("token={at}{}", "t".repeat(40_000))).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(scene.set(&many), [""; 0], "more than an instance has room for");
    assert!(scene.notes.pop().unwrap().contains("overloaded"));
}

#[test]
fn what_waits_takes_no_more_than_came_however_it_is_cut() {
    let mut engine = configured(&vault(json!({})));
    let request = with_cookie(&format!("token={};{}", "A".repeat(43), "a;".repeat(50_000)));
    let waiting = (1..=200).take_while(|stream| engine.on_request(*stream, &request, 0) == Step::Wait).count();
    // 8 MiB are shared by all that wait.
    assert!((40..=83).contains(&waiting), "{waiting}");
    let forged = with_cookie(&"token=x;a;".repeat(12_000));
    let Step::Pass(pass) = engine.on_request(201, &forged, 0) else { panic!("it waits") };
    let edited = Edited { request: &forged, edits: &pass.edits.request };
    assert_eq!(edited.header("cookie").map(|cookie| cookie.len()), Some(23_999));
}

#[test]
fn a_session_that_begins_keeps_its_cookie_beside_a_vault_wherever_that_stands() {
    let session = json!({"session": {
        "format": "own", "cookie": "sid", "secrets": "s", "fields": {"user": "x-user"}, "user": "user",
        "redis": {"service_name": "r.static"},
    }});
    for is_first in [true, false] {
        for is_reversed in [true, false] {
            let mut filters = vec![session.clone(), vault(json!({}))];
            if is_first {
                filters.reverse();
            }
            let mut scene = Scene::new(&json!({"filters": filters}));
            scene.is_reversed = is_reversed;
            let sets = Sets { cookies: &["token=eyJh.one", "a=1"], session: Some(r#"{"fields": {"user": "alice"}}"#) };
            let (_, set) = scene.exchange("", &sets);
            let names: Vec<&str> = set.iter().map(|cookie| cookie.split('=').next().unwrap()).collect();
            assert_eq!(names, ["token", "a", "sid"], "{is_first} {is_reversed}");
            assert!(set.iter().all(|cookie| !cookie.contains("eyJh")), "{set:?}");
            let (sent, _) = scene.exchange(&pairs(&set), &Sets { cookies: &[], session: None });
            assert_eq!(sent.as_deref(), Some("token=eyJh.one; a=1"));
        }
    }
}
