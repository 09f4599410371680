//! Sessions in Redis, at the gateway as it ships: what it takes to tell an upstream who asks, when Redis is asked and
//! when it is remembered, beside the same work done by hand in nginx with Lua; of sessions that an application keeps,
//! and of those that Slidegate does.

use std::net::{Ipv4Addr, SocketAddr};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use sha1_smol::Sha1;
use slidegate_tests::{http_client::HttpClient, redis_server::RedisServer, upstream::Upstream as Witness};

use crate::{
    Effort,
    gateway::serve,
    line::{Line, PING},
    load::{Run, USERS},
    peers::{
        lua::on_access,
        systems::{Nginx, Running},
    },
    redis_usage::RedisUsage,
    sample::median,
    table::{Table, number, thousands},
    upstream::Upstream,
};

/// Requests in flight, where there are many.
const CONNECTIONS: usize = 32;

/// What the application signs its cookies with, as Flask-Session does.
const SECRET: &str = "what nobody may know";

/// A proxy, and what was found of it.
struct Subject<'a> {
    name: &'static str,
    /// What each user sends.
    cookies: &'a [String],
    /// Which of the others tells what it does without sessions.
    base: usize,
    running: Running,
    rounds: Vec<Round>,
}

/// What one round found.
struct Round {
    run: Run,
    /// Of each request: commands that Redis ran, and its CPU time in microseconds.
    commands: f64,
    redis_cpu_us: f64,
    /// One request at a time: the median, in microseconds.
    alone_us: f64,
}

/// Throughput, CPU time and latency of all, and what they ask of Redis.
pub(crate) fn measure(effort: &Effort) -> Vec<Table> {
    let (redis, upstream) = (&RedisServer::start(), &Upstream::start());
    keep_sessions(redis);
    assert_all_tell(redis);
    let cookies: Vec<String> = (1..=USERS).map(|user| format!("session={}", cookie(user))).collect();
    let own_cookies = log_in(redis);
    let ours =
        |filter: Option<String>| Running::gateway(serve(redis, upstream, filter.as_deref(), &["--workers", "1"]));
    let theirs = |nginx: &Nginx| Running::nginx(nginx, upstream.address());
    let start = |name, base, running| Subject { name, cookies: &cookies, base, running, rounds: Vec::new() };
    let mut subjects = [
        start("slidegate, no session", 0, ours(None)),
        start("slidegate, remembered", 0, ours(Some(session_filter("5m")))),
        start("slidegate, asked each time", 0, ours(Some(session_filter("0")))),
        Subject { cookies: &own_cookies, ..start("slidegate, its own, remembered", 0, ours(Some(own_filter("1m")))) },
        Subject {
            cookies: &own_cookies,
            ..start("slidegate, its own, asked each time", 0, ours(Some(own_filter("0"))))
        },
        start("nginx, no session", 5, theirs(&Nginx { workers: Some(1), ..Nginx::default() })),
        start("nginx with Lua, asked each time", 5, theirs(&by_hand(redis))),
    ];
    let (rounds, seconds, alone) = (effort.of(1, 9), effort.of(1, 2), effort.of(100, 2_000));
    let mut ping = Line::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, redis.port())));
    let mut pings = Vec::new();
    // The first is not counted: connections are made, sessions are read for the first time.
    for round in 0..=rounds {
        for subject in &mut subjects {
            let found = subject.round(redis, seconds, alone);
            if round > 0 {
                subject.rounds.push(found);
            }
        }
        pings.push(median((0..alone).map(|_| ping.ask(PING))));
    }
    let note = format!(
        "wrk with {CONNECTIONS} requests in flight of {USERS} users with a session each, in a cookie that is signed as \
         Flask-Session does; the upstream is told whose it is in a header. One worker each, the same upstream and the \
         same Redis. nginx does it by some lines of Lua with `lua-nginx-redis`, which check the signature, GET the \
         record and search it for one member. Medians of {rounds} rounds of {seconds} s that take turns; then {alone} \
         requests one after the other, whose median is in the last columns. A round trip to Redis (PING) takes {} µs. \
         To reach: one command when Redis is asked, none when it is remembered. A session of Slidegate's own takes a \
         second one then (PEXPIRE), as it lasts from its last use.",
        number(median(pings), 0)
    );
    let mut table = Table::new(
        "Sessions",
        note,
        &[
            "system",
            "requests/s",
            "CPU, µs",
            "CPU of the session, µs",
            "commands each",
            "Redis CPU, µs",
            "p99, ms",
            "alone, µs",
            "added, µs",
        ],
    );
    for (index, subject) in subjects.iter().enumerate() {
        let base = &subjects[subject.base];
        let of = |figure: fn(&Round) -> f64| median(subject.rounds.iter().map(figure));
        let added = |figure: fn(&Round) -> f64, digits| {
            let each = subject.rounds.iter().zip(&base.rounds).map(|(with, without)| figure(with) - figure(without));
            if index == subject.base { String::new() } else { number(median(each), digits) }
        };
        table.row([
            subject.name.to_owned(),
            thousands(of(|round| round.run.per_second) as u64),
            number(of(|round| round.run.cpu_us), 1),
            added(|round| round.run.cpu_us, 1),
            number(of(|round| round.commands), 2),
            number(of(|round| round.redis_cpu_us), 1),
            number(of(|round| round.run.p99_ms), 2),
            number(of(|round| round.alone_us), 0),
            added(|round| round.alone_us, 0),
        ]);
    }
    vec![table]
}

impl Subject<'_> {
    fn round(&self, redis: &RedisServer, seconds: usize, alone: usize) -> Round {
        let mut target = self.running.target().clone();
        target.message = message(self.cookies);
        let before = RedisUsage::of(redis);
        let run = target.run(CONNECTIONS, seconds);
        let used = RedisUsage::of(redis);
        assert_eq!(run.not_2xx, 0, "{} lets all pass", self.name);
        let mut line = Line::connect(target.address);
        let times: Vec<f64> =
            self.cookies.iter().cycle().take(alone).map(|cookie| line.ask(&request(cookie))).collect();
        Round {
            run,
            commands: used.commands_since(&before, run.requests),
            redis_cpu_us: used.since(&before, run.requests).1,
            alone_us: median(times),
        }
    }
}

/// Reads the sessions, and remembers each for so long.
fn session_filter(remember: &str) -> String {
    format!(
        "{{session: {{format: flask-session, cookie: session, secrets: {SECRET}, fields: {{user_id: x-user-id}}, \
         remember: {remember}, redis: {{service_name: redis.static}}}}}}"
    )
}

/// The same of sessions that Slidegate keeps.
fn own_filter(remember: &str) -> String {
    format!(
        "{{session: {{format: own, cookie: own, secrets: {SECRET}, fields: {{user_id: x-user-id}}, user: user_id, \
         remember: {remember}, redis: {{service_name: redis.static}}}}}}"
    )
}

/// The cookies of all users, who log in at an application.
fn log_in(redis: &RedisServer) -> Vec<String> {
    let application = Witness::start();
    let gateway = gateway(redis, &application, &own_filter("0"));
    let mut client = HttpClient::connect(gateway.target().address);
    let mut cookie_of = |user: usize| {
        let order = format!(r#"{{"fields": {{"user_id": {user}}}}}"#);
        let answer = client.get("/answer", &[("answer-x-slidegate-session-set", &order)]);
        let set = answer.head.text("set-cookie").expect("a cookie");
        set.split(';').next().expect("a pair").to_owned()
    };
    let cookies: Vec<String> = (1..=USERS).map(&mut cookie_of).collect();
    assert_eq!(client.get("/", &[("cookie", &cookies[6])]).status(), 200);
    assert_eq!(application.last().text("x-user-id").as_deref(), Some("7"));
    cookies
}

/// A gateway with this filter before an upstream that tells what it was sent.
fn gateway(redis: &RedisServer, upstream: &Witness, filter: &str) -> Running {
    Running::gateway(slidegate_tests::gateway_process::Gateway::serve(&format!(
        "upstream: \"{}\"\nredis: {{names: {{redis.static: \"{}\"}}}}\nfilter: {filter}\n",
        upstream.url(),
        redis.url()
    )))
}

/// The same in Lua.
fn by_hand(redis: &RedisServer) -> Nginx {
    on_access(&format!(
        "ngx.req.clear_header('x-user-id')
      local id, signature = (ngx.var.cookie_session or ''):match('^(.+)%.([^.]+)$')
      if not id then return end
      local key = ngx.hmac_sha1('{SECRET}', 'flask-session')
      local expected = ngx.encode_base64(ngx.hmac_sha1(key, id), true):gsub('%+', '-'):gsub('/', '_')
      if signature ~= expected then return end
      local redis = require('nginx.redis'):new()
      redis:set_timeout(1000)
      assert(redis:connect('127.0.0.1', {}))
      local record = redis:get('session:' .. id)
      redis:set_keepalive(60000, 64)
      local user = type(record) == 'string' and record:match('\"user_id\": *(%d+)')
      if user then ngx.req.set_header('x-user-id', user) end",
        redis.port()
    ))
}

/// What the application has left of each user.
fn keep_sessions(redis: &RedisServer) {
    let mut commands = redis::pipe();
    for user in 1..=USERS {
        let record = format!(
            r#"{{"_permanent": true, "user_id": {user}, "name": "user {user}", "csrf_token": "3f1d1f3c0b7e4b2c8a5d", "cart": [1, 2, 3]}}"#
        );
        commands.cmd("SET").arg(format!("session:{}", id(user))).arg(record).ignore();
    }
    commands.exec(&mut redis.connection()).expect("Redis keeps the sessions");
}

/// Each of what is compared tells the upstream whose session it is, and believes no other signature.
fn assert_all_tell(redis: &RedisServer) {
    let witness = Witness::start();
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, witness.port()));
    let ours = |remember| gateway(redis, &witness, &session_filter(remember));
    for running in [ours("5m"), ours("0"), Running::nginx(&by_hand(redis), at)] {
        let mut client = HttpClient::connect(running.target().address);
        for (cookie, expected) in [(cookie(7), Some("7".to_owned())), (format!("{}A", cookie(7)), None)] {
            let headers = [("cookie", &*format!("session={cookie}")), ("x-user-id", "1")];
            assert_eq!(client.get("/", &headers).status(), 200);
            assert_eq!(witness.last().text("x-user-id").as_deref(), expected.as_deref(), "{cookie}");
        }
    }
}

/// The body of the Lua function that makes a user's request for wrk.
fn message(cookies: &[String]) -> String {
    let cookies: Vec<String> = cookies.iter().map(|cookie| format!("'{cookie}'")).collect();
    format!(
        "cookies = cookies or {{ {} }}
  return wrk.format(nil, nil, {{ ['cookie'] = cookies[user], ['user-agent'] = 'wrk', ['accept'] = '*/*' }})",
        cookies.join(", ")
    )
}

fn request(cookie: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nhost: shop.example.com\r\ncookie: {cookie}\r\n\r\n").into_bytes()
}

/// As long as those of Flask-Session.
fn id(user: usize) -> String {
    format!("Zk3b9cVtQ0mY7rXw2LhN8sDpTfUeGaJ1oKi4BqC{user:04}")
}

/// An id and its signature (itsdangerous, key derivation `hmac`).
fn cookie(user: usize) -> String {
    let id = id(user);
    let signature = hmac_sha1(&hmac_sha1(SECRET.as_bytes(), b"flask-session"), id.as_bytes());
    format!("{id}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// RFC 2104, for keys of a block at most.
fn hmac_sha1(key: &[u8], text: &[u8]) -> [u8; 20] {
    let padded = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let hash = |parts: [&[u8]; 2]| {
        let mut hash = Sha1::new();
        parts.iter().for_each(|part| hash.update(part));
        hash.digest().bytes()
    };
    hash([&padded(0x5c), &hash([&padded(0x36), text])])
}
