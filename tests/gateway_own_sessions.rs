//! Sessions that the gateway keeps itself, on a real Redis: from a response that sets one to a log-out, over several
//! gateways, and what nobody can make of them.

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use slidegate_tests::{
    gateway_process::{Gateway, wait_until},
    http_client::Answer,
    redis_server::RedisServer,
    session_browser::Browser,
    upstream::Upstream,
};

const NAME: &str = "__Host-session";

/// A gateway before this upstream; `extra` are fields of its session.
fn serve(upstream: &Upstream, redis: &RedisServer, extra: &str) -> Gateway {
    let (upstream, redis) = (upstream.url(), redis.url());
    Gateway::serve(&format!(
        "upstream: {upstream}
redis: {{names: {{redis.static: \"{redis}\"}}}}
filters:
  - session: {{format: own, secrets: [new, old], fields: {{user: x-user, role: x-role}}, user: user, redis: \
  {{service_name: redis.static}}, {extra}}}
  - rule_name: users
    rule_items: [{{limit_by_per_session: user, limit_keys: [{{key: \"*\", query_per_hour: 1000}}]}}]
    redis: {{service_name: redis.static}}
"
    ))
}

/// Lets the application say this of the session.
fn order(browser: &mut Browser, gateway: &Gateway, order: &str) -> Answer {
    browser.get(gateway, "/answer", &[("answer-x-slidegate-session-set", order)])
}

fn log_in(browser: &mut Browser, gateway: &Gateway, user: &str) -> Answer {
    order(browser, gateway, &format!(r#"{{"fields": {{"user": "{user}"}}}}"#))
}

/// Whom the upstream is told to deal with.
fn known(browser: &mut Browser, gateway: &Gateway, upstream: &Upstream) -> Option<String> {
    assert_eq!(browser.get(gateway, "/", &[("x-user", "root"), ("x_user", "root")]).status(), 200);
    let seen = upstream.last();
    assert_eq!((seen.text("x_user"), seen.text("x-slidegate-session-set")), (None, None));
    assert!(!seen.text("cookie").unwrap_or_default().contains(NAME), "the application does not see the cookie");
    seen.text("x-user")
}

fn keys(redis: &RedisServer) -> BTreeSet<String> {
    redis::cmd("KEYS").arg("slidegate:session:*").query(&mut redis.connection()).expect("Redis answers")
}

#[test]
fn who_logs_in_is_known_at_every_gateway_until_they_log_out() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let [one, other] = [(); 2].map(|()| serve(&upstream, &redis, "remember: 0"));
    let mut alice = Browser::default();
    assert_eq!(known(&mut alice, &one, &upstream), None);
    let answer = log_in(&mut alice, &one, "alice");
    let set = answer.head.text("set-cookie").expect("a cookie");
    assert!(set.starts_with(&format!("{NAME}=")) && set.ends_with("; Path=/; HttpOnly; Secure; SameSite=Lax"), "{set}");
    assert_eq!(answer.head.text("x-slidegate-session-set"), None);
    for gateway in [&one, &other] {
        assert_eq!(known(&mut alice, gateway, &upstream).as_deref(), Some("alice"));
    }
    // Who reads Redis has no session by it, and each has an end.
    let keys = keys(&redis);
    let id = alice.cookie(NAME).expect("it is kept").split('.').next().unwrap_or_default().to_owned();
    assert!(keys.len() == 1 && keys.iter().all(|key| !key.contains(&id)), "{keys:?}");
    let left: u64 = redis.tell(&["PTTL", keys.first().expect("one")]).parse().expect("a number");
    assert!((1_000_000..=1_800_000).contains(&left), "{left}");

    let removal = order(&mut alice, &other, "delete").head.text("set-cookie").expect("a removal");
    assert!(removal.contains("Max-Age=0"), "{removal}");
    assert_eq!((alice.cookie(NAME), self::keys(&redis).len()), (None, 0));
    alice.keep(NAME, &set[NAME.len() + 1..set.find(';').expect("attributes")]);
    for gateway in [&one, &other] {
        assert_eq!(known(&mut alice, gateway, &upstream), None, "the old cookie leads nowhere");
    }
    one.wait_printed("session_set=\"begun\"");
    other.wait_printed("session_set=\"deleted\"");
    let log = [one.log(), one.printed(), other.log(), other.printed()].concat();
    assert!(!log.contains(&id) && !log.contains("alice"), "{log}");
}

#[test]
fn nobody_but_the_application_sets_a_session() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream, &redis, "");
    let mut mallory = Browser::default();
    let claims =
        [("x-slidegate-session-set", r#"{"fields": {"user": "root"}}"#), ("x_slidegate_session_set", "delete")];
    let answer = mallory.get(&gateway, "/answer", &claims);
    assert_eq!((answer.status(), answer.head.text("set-cookie"), keys(&redis).len()), (200, None, 0));
    // An id of one's own choice, one of somebody else's without its signature, and one that was signed for another.
    let mut alice = Browser::default();
    log_in(&mut alice, &gateway, "alice");
    let cookie = alice.cookie(NAME).expect("a cookie").to_owned();
    let (id, signature) = cookie.split_once('.').expect("a signature");
    let last = if id.ends_with('A') { 'Q' } else { 'A' };
    let other = format!("{}{last}.{signature}", &id[..id.len() - 1]);
    for forged in ["AAAAAAAAAAAAAAAAAAAAAAAAAAAA", id, &format!("{id}."), &other, &format!("{cookie}x")] {
        mallory.keep(NAME, forged);
        assert_eq!(known(&mut mallory, &gateway, &upstream), None, "{forged}");
        // Nor is it what a session gets that begins then.
        log_in(&mut mallory, &gateway, "mallory");
        assert!(mallory.cookie(NAME).is_some_and(|fresh| fresh != forged && fresh != cookie));
    }
    assert_eq!(known(&mut alice, &gateway, &upstream).as_deref(), Some("alice"));
}

#[test]
fn a_session_that_becomes_anothers_has_a_new_id() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream, &redis, "remember: 0");
    let mut browser = Browser::default();
    log_in(&mut browser, &gateway, "alice");
    let mut thief = browser.clone();
    log_in(&mut browser, &gateway, "admin");
    assert_eq!(known(&mut thief, &gateway, &upstream), None, "who had the id before has nothing now");
    assert_eq!(known(&mut browser, &gateway, &upstream).as_deref(), Some("admin"));
    let before = browser.clone();
    order(&mut browser, &gateway, r#"{"fields": {"user": "admin", "role": "all"}, "rotate": true}"#);
    assert!(before.cookie(NAME) != browser.cookie(NAME));
    assert_eq!(known(&mut before.clone(), &gateway, &upstream), None);
    assert_eq!(known(&mut browser, &gateway, &upstream).as_deref(), Some("admin"));
    assert_eq!(upstream.last().text("x-role").as_deref(), Some("all"));
    assert_eq!(keys(&redis).len(), 1);
}

/// Which session was used longest ago is told by milliseconds.
fn await_next_millisecond() {
    let now_ms = || SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_millis();
    wait_until("the clock to go on", {
        let before_ms = now_ms();
        move || now_ms() > before_ms + 1
    });
}

#[test]
fn of_a_user_so_many_sessions_are_open_over_all_gateways() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let limits = "remember: 0, max_per_user: 3";
    let gateways = [(); 2].map(|()| serve(&upstream, &redis, limits));
    let mut browsers: Vec<Browser> = Vec::new();
    for at in 0..5 {
        let mut browser = Browser::default();
        await_next_millisecond();
        assert!(log_in(&mut browser, &gateways[at % 2], "alice").head.text("set-cookie").is_some());
        browsers.push(browser);
    }
    let open = |browsers: &mut [Browser], gateway: &Gateway| -> Vec<bool> {
        browsers.iter_mut().map(|browser| known(browser, gateway, &upstream).is_some()).collect()
    };
    for gateway in &gateways {
        assert_eq!(open(&mut browsers, gateway), [false, false, true, true, true]);
    }
    // Others have their own; a new id takes no place; who logs out makes room.
    log_in(&mut Browser::default(), &gateways[0], "bob");
    order(&mut browsers[2], &gateways[0], r#"{"fields": {"user": "alice"}, "rotate": true}"#);
    order(&mut browsers[3], &gateways[1], "delete");
    let mut sixth = Browser::default();
    log_in(&mut sixth, &gateways[1], "alice");
    browsers.push(sixth);
    assert_eq!(open(&mut browsers, &gateways[0]), [false, false, true, false, true, true]);
    // The one that was used longest ago ends, not the one that began first.
    await_next_millisecond();
    known(&mut browsers[2], &gateways[0], &upstream);
    let mut seventh = Browser::default();
    log_in(&mut seventh, &gateways[0], "alice");
    browsers.push(seventh);
    assert_eq!(open(&mut browsers, &gateways[1]).iter().filter(|is_open| **is_open).count(), 3);
    assert!(known(&mut browsers[2], &gateways[1], &upstream).is_some());
}

#[test]
fn many_that_log_in_at_once_are_not_one_too_many() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateways = [(); 2].map(|()| serve(&upstream, &redis, "max_per_user: 3, when_full: refuse_newest"));
    let begun: usize = std::thread::scope(|scope| {
        let logins: Vec<_> = (0..16)
            .map(|at| {
                let gateway = &gateways[at % 2];
                scope.spawn(move || {
                    let answer = log_in(&mut Browser::default(), gateway, "alice");
                    let is_begun = answer.head.text("set-cookie").is_some();
                    assert_eq!(answer.status(), if is_begun { 200 } else { 403 });
                    usize::from(is_begun)
                })
            })
            .collect();
        logins.into_iter().map(|login| login.join().expect("it comes back")).sum()
    });
    assert_eq!(begun, 3);
    let refused = log_in(&mut Browser::default(), &gateways[0], "alice");
    assert!(refused.text().contains("\"too_many_sessions\""), "{}", refused.text());
    gateways[0].wait_printed("session_set=\"refused\"");
}

#[test]
fn without_redis_nobody_logs_in_and_it_is_said() {
    let (mut redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream, &redis, "");
    let mut browser = Browser::default();
    log_in(&mut browser, &gateway, "alice");
    redis.kill();
    let answer = log_in(&mut Browser::default(), &gateway, "zebra7");
    assert_eq!((answer.status(), answer.head.text("set-cookie")), (200, None));
    assert_eq!(answer.head.text("x-slidegate-session-set"), None);
    gateway.wait_printed("session_set=\"unavailable;cause=");
    assert!(gateway.metrics().sum("slidegate_session_writes_total", &[("outcome", "unavailable")]) >= 1.0);
    assert!(!(gateway.log() + &gateway.printed()).contains("zebra7"));
}

#[test]
fn secrets_change_while_sessions_last() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let serve_with = |secrets: &str| {
        let (upstream, redis) = (upstream.url(), redis.url());
        Gateway::serve(&format!(
            "upstream: {upstream}\nredis: {{names: {{redis.static: \"{redis}\"}}}}\nfilter: {{session: {{format: own, \
             secrets: {secrets}, fields: {{user: x-user}}, user: user, redis: {{service_name: redis.static}}}}}}\n"
        ))
    };
    let [old, both, new] = ["[old]", "[new, old]", "[new]"].map(serve_with);
    let (mut early, mut late) = (Browser::default(), Browser::default());
    log_in(&mut early, &old, "alice");
    log_in(&mut late, &both, "alice");
    let mut at =
        |gateway: &Gateway| [&mut early, &mut late].map(|browser| known(browser, gateway, &upstream).is_some());
    assert_eq!([at(&old), at(&both), at(&new)], [[true, false], [true, true], [false, true]]);
    assert!(!new.ask_admin("/config").1.contains("new\""), "{}", new.ask_admin("/config").1);
}
