//! Whose session a request is of, through a gateway on a real Redis: what the upstream is told, and what no client can
//! tell it.

use redis::Cmd;
use slidegate_engine::session::SessionRecord;
use slidegate_tests::{
    gateway_process::Gateway,
    redis_server::RedisServer,
    sessions::{self, LibrarySession},
    upstream::Upstream,
};

const FILTERS: &str = "filters:
  - session:
      format: json
      cookie: sid
      key_prefix: \"app:\"
      fields: {user: x-user, role: x-role}
      user: user
      remember: 5m
      redis: {service_name: redis.static}
  - rule_name: users
    rule_items: [{limit_by_per_header: x-user, limit_keys: [{key: \"*\", query_per_hour: 3}]}]
    redis: {service_name: redis.static}
";

fn serve(upstream: &Upstream, redis: &RedisServer, filters: &str) -> Gateway {
    let (upstream, redis) = (upstream.url(), redis.url());
    Gateway::serve(&format!(
        "upstream: {upstream}\nredis: {{names: {{redis.static: \"{redis}\"}}}}\nworkers: 1\n{filters}"
    ))
}

fn say(redis: &RedisServer, words: &[&[u8]]) {
    let mut command = Cmd::new();
    for word in words {
        command.arg(*word);
    }
    command.exec(&mut redis.connection()).expect("the server does it");
}

fn set(redis: &RedisServer, key: &str, record: &str) {
    say(redis, &[b"SET", key.as_bytes(), record.as_bytes()]);
}

/// What the upstream got of these headers.
fn told(upstream: &Upstream, names: &[&str]) -> Vec<String> {
    let last = upstream.last();
    let values = names.iter().filter_map(|name| last.text(name).map(|value| format!("{name}: {value}")));
    values.collect()
}

/// Sessions as their libraries left them, of formats that say nothing of their end.
fn lasting() -> impl Iterator<Item = LibrarySession> {
    let formats = ["php", "flask-session", "rack", "django"];
    sessions::all().into_iter().filter(move |session| {
        formats.contains(&session.format.as_str())
            && session.case.starts_with("plain")
            && session.expected().is_ok()
            && session.settings(&[]).secrets.is_empty()
    })
}

#[test]
fn records_of_real_libraries_tell_the_upstream_who_asks() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let mut formats = std::collections::BTreeSet::new();
    for session in lasting() {
        let SessionRecord::String(record) = session.record() else { panic!("{session:?} is no string") };
        let key = session.key().expect("it is kept");
        say(&redis, &[b"SET", key, record]);
        let prefix = session.settings(&[]).key_prefix;
        let filter = format!(
            "filter: {{session: {{format: {}, cookie: {}, key_prefix: \"{prefix}\", fields: {{user_id: x-user, name: \
             x-name}}, redis: {{service_name: redis.static}}}}}}",
            session.format, session.name
        );
        let gateway = serve(&upstream, &redis, &filter);
        let cookie = String::from_utf8(session.header().to_vec()).expect("a cookie is text");
        let name = format!("{}, {}", session.format, session.case);
        assert_eq!(gateway.get("/", &[("cookie", &cookie), ("x-user", "1"), ("X_User", "1")]).0, 200, "{name}");
        assert_eq!(told(&upstream, &["x-user", "x_user", "x-name"]), ["x-user: 42", "x-name: alice"], "{name}");
        formats.insert(session.format.clone());
    }
    assert_eq!(formats.len(), 4, "{formats:?}");
}

#[test]
fn nothing_that_a_client_sends_makes_it_another() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream, &redis, FILTERS);
    set(&redis, "app:a", r#"{"user": "alice"}"#);
    let names = ["x-user", "x_user", "x-role", "x_role"];
    for (headers, expected) in [
        (&[("x-user", "root"), ("X_USER", "root"), ("X-Role", "admin")][..], &[][..]),
        (&[("cookie", "sid=b"), ("x-user", "root")], &[]),
        (&[("cookie", "sid=a"), ("x-user", "root"), ("x-role", "admin")], &["x-user: alice"]),
        // Nor can it have what is told removed, as a field of its connection.
        (&[("cookie", "sid=a"), ("connection", "keep-alive, x-user")], &["x-user: alice"]),
        (&[("cookie", "sid=a; sid=b"), ("x-user", "root")], &[]),
        (&[("cookie", "sid=a"), ("cookie", "sid=b")], &[]),
    ] {
        let status = gateway.get("/", headers).0;
        if status == 200 {
            assert_eq!(told(&upstream, &names), expected, "{headers:?}");
        }
        assert_eq!(status, 200, "{headers:?}");
    }
}

#[test]
fn two_browsers_share_a_limit_and_redis_that_is_gone_makes_nobody_of_both() {
    let (mut redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream, &redis, FILTERS);
    for (session, user) in [("a1", "alice"), ("a2", "alice"), ("b1", "bob")] {
        set(&redis, &format!("app:{session}"), &format!(r#"{{"user": "{user}"}}"#));
    }
    let status = |session: &str| gateway.get("/", &[("cookie", &format!("sid={session}"))]).0;
    assert_eq!(["a1", "a2", "a1", "a2", "a1"].map(status), [200, 200, 200, 429, 429]);
    assert_eq!(status("b1"), 200);
    let metrics = gateway.metrics();
    let sessions = |outcome: &str| metrics.sum("slidegate_sessions_total", &[("session", "sid"), ("outcome", outcome)]);
    assert_eq!([sessions("found"), sessions("unknown")], [6.0, 0.0]);
    let saved = metrics.sum("slidegate_redis_calls_saved_total", &[("by", "known_session")]);
    assert_eq!(saved, 3.0, "each session is asked for once");
    redis.kill();
    for _ in 0..8 {
        assert_eq!(gateway.get("/", &[("cookie", "sid=zebra7"), ("x-user", "bob")]).0, 200);
        assert!(told(&upstream, &["x-user", "x_user"]).is_empty());
    }
    assert!(gateway.metrics().sum("slidegate_sessions_total", &[("outcome", "unavailable")]) >= 8.0);
    assert!(!gateway.log().contains("zebra7"), "{}", gateway.log());
}

#[test]
fn no_secret_of_an_application_is_shown() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let filter = "filter: {session: {format: express, secrets: [hush hush, hush], fields: {user: x-user}, \
                  redis: {service_name: redis.static}}}";
    let gateway = serve(&upstream, &redis, filter);
    let (status, shown) = gateway.ask_admin("/config");
    assert!(status == 200 && shown.contains("connect.sid") && !shown.contains("hush"), "{shown}");
}

#[test]
fn no_trailer_tells_what_a_header_may_not() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream, &redis, FILTERS);
    set(&redis, "app:a", r#"{"user": "alice"}"#);
    let head = "POST / HTTP/1.1\r\nhost: a\r\ncookie: sid=a\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, x-user, \
                x_user, x-role, cookie\r\n\r\n";
    let trailers = "0\r\nx-sum: 7\r\nx-user: root\r\nX_User: root\r\nx-role: admin\r\ncookie: sid=b\r\n\r\n";
    let mut client = gateway.client();
    client.write(format!("{head}{trailers}").as_bytes()).expect("the gateway reads");
    assert_eq!(client.read_answer("POST").expect("an answer").status(), 200);
    assert_eq!(told(&upstream, &["x-user", "x-role"]), ["x-user: alice"]);
    let trailers = upstream.last().trailers.expect("the rest goes on");
    assert_eq!(trailers.keys().map(ToString::to_string).collect::<Vec<_>>(), ["x-sum"]);
}

#[test]
fn long_cookies_beside_one_that_is_not_taken_stop_no_instance() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let filter = "filter: {session: {format: signed-flask, secrets: hush, fields: {user: x-user}}}";
    let gateway = serve(&upstream, &redis, filter);
    let long = "y".repeat(100_000);
    for cookie in [format!("session=a; x={long}"), format!("x={long}; session=a")] {
        assert_eq!(gateway.get("/", &[("cookie", &cookie)]).0, 200);
        assert_eq!(upstream.last().text("cookie").map(|cookie| cookie.len()), Some(long.len() + 2));
    }
    // Nor many, which go on as they came.
    assert_eq!(gateway.get("/", &[("cookie", &format!("session=*;{}", "a;".repeat(59_000)))]).0, 200);
    assert_eq!(upstream.last().text("cookie").map(|cookie| cookie.len()), Some(2 * 59_000 - 1));
    assert!(!gateway.log().contains("failed"), "{}", gateway.log());
}

#[test]
fn what_an_application_orders_of_sessions_is_for_no_client() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream, &redis, FILTERS);
    let orders = [
        ("answer-x-slidegate-session-set", r#"{"fields": {"user": "alice"}}"#),
        ("answer-x_slidegate_session_set", "delete"),
    ];
    let headers = [&orders[..], &[("answer-x-other", "1"), ("connection", "upgrade"), ("upgrade", "echo")]].concat();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    for (path, status) in [("/answer", 200), ("/upgrade", 101)] {
        let mut client = gateway.client();
        client.write(format!("GET {path} HTTP/1.1\r\nhost: a\r\n{headers}\r\n").as_bytes()).expect("it is sent");
        let head = client.read_head().expect("a head");
        let names: Vec<&str> = head.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert!(names.contains(&"x-other") && !names.iter().any(|name| name.contains("session")), "{path}: {names:?}");
        assert_eq!(head.status, status, "{path}");
    }
}
