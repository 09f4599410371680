//! nginx with Lua, which is how a limit in Redis is built by hand: one worker counts a fixed window with INCR and
//! EXPIRE, beside one worker of ours that counts a sliding one. `just bench` installs it into `target/peers`.

use slidegate_tests::{http_client::HttpClient, program::installed, redis_server::RedisServer};

use super::systems::{Nginx, Running};
use crate::{
    Effort,
    gateway::{WIDE, filter, serve},
    load::Run,
    sample::median,
    table::{Table, number, thousands},
    upstream::Upstream,
};

/// Requests in flight.
const CONNECTIONS: usize = 32;

struct Subject {
    name: &'static str,
    /// What it is told of limits, and which of the others tells what it does without.
    base: usize,
    running: Running,
    runs: Vec<Run>,
}

/// CPU time and throughput of both, with a key for each user and with one for all.
pub(crate) fn measure(effort: &Effort) -> Vec<Table> {
    let (redis, upstream) = (&RedisServer::start(), &Upstream::start());
    let ours =
        |filter: Option<String>| Running::gateway(serve(redis, upstream, filter.as_deref(), &["--workers", "1"]));
    let theirs = |key: Option<&str>| Running::nginx(&nginx(key, redis), upstream.address());
    let in_redis = |rules: &str, name: &str| Some(filter::in_redis(rules, name));
    let start = |name, base, running| Subject { name, base, running, runs: Vec::new() };
    let mut subjects = [
        start("slidegate, no limit", 0, ours(None)),
        start("slidegate in Redis, a key for each user", 0, ours(in_redis(&filter::each(WIDE), "lua-each"))),
        start("slidegate in Redis, one key", 0, ours(in_redis(&filter::global(WIDE), "lua-one"))),
        start("nginx, no limit", 3, theirs(None)),
        start("nginx with Lua in Redis, a key for each user", 3, theirs(Some("ngx.var.http_x_api_key"))),
        start("nginx with Lua in Redis, one key", 3, theirs(Some("'all'"))),
    ];
    let (rounds, seconds) = (effort.of(1, 5), effort.of(1, 2));
    for round in 0..=rounds {
        for subject in &mut subjects {
            let run = subject.running.target().run(CONNECTIONS, seconds);
            assert_eq!(run.not_2xx, 0, "{} lets all pass", subject.name);
            // The first is not counted: connections are made.
            if round > 0 {
                subject.runs.push(run);
            }
        }
    }
    assert_counts(&subjects[4].running, redis);
    let note = format!(
        "wrk with {CONNECTIONS} requests in flight from 1,000 users whom no limit stops, in front of the same upstream \
         and the same Redis; one worker each. nginx counts a fixed window with INCR and EXPIRE by `lua-nginx-redis`, \
         as Debian has both. Medians of {rounds} rounds of {seconds} s that take turns."
    );
    let mut table = Table::new(
        "Beside nginx with Lua",
        note,
        &["system", "requests/s", "CPU, µs", "CPU of the limit, µs", "p50, ms", "p99, ms"],
    );
    let of = |subject: &Subject, figure: fn(&Run) -> f64| median(subject.runs.iter().map(figure));
    for (index, subject) in subjects.iter().enumerate() {
        let cpu = of(subject, |run| run.cpu_us);
        let added = cpu - of(&subjects[subject.base], |run| run.cpu_us);
        table.row([
            subject.name.to_owned(),
            thousands(of(subject, |run| run.per_second) as u64),
            number(cpu, 1),
            if index == subject.base { String::new() } else { number(added, 1) },
            number(of(subject, |run| run.p50_ms), 2),
            number(of(subject, |run| run.p99_ms), 2),
        ]);
    }
    vec![table]
}

/// That it does what it is compared for: each request of a user raises that user's count.
fn assert_counts(running: &Running, redis: &RedisServer) {
    let count = || -> u64 {
        let mut connection = redis.connection();
        let keys: Vec<String> = redis::cmd("KEYS").arg("fixed:user-000001:*").query(&mut connection).expect("keys");
        keys.iter().map(|key| redis::cmd("GET").arg(key).query::<u64>(&mut connection).expect("a count")).sum()
    };
    let before = count();
    assert_eq!(HttpClient::connect(running.target().address).get("/", &[("x-api-key", "user-000001")]).status(), 200);
    assert_eq!((before > 0, count()), (true, before + 1), "nginx with Lua counts in Redis");
}

/// One worker, that counts by this key, a Lua expression, or does not count.
fn nginx(key: Option<&str>, redis: &RedisServer) -> Nginx {
    let Some(key) = key else { return Nginx { workers: Some(1), ..Nginx::default() } };
    on_access(&format!(
        "local key = {key}
      local redis = require('nginx.redis'):new()
      redis:set_timeout(1000)
      assert(redis:connect('127.0.0.1', {}))
      local name = 'fixed:' .. key .. ':' .. math.floor(ngx.time() / 3600)
      local count = assert(redis:incr(name))
      if count == 1 then redis:expire(name, 3600) end
      redis:set_keepalive(60000, 64)
      if count > {WIDE} then return ngx.exit(429) end",
        redis.port()
    ))
}

/// One worker, that runs this Lua for each request before it is passed on.
pub(crate) fn on_access(code: &str) -> Nginx {
    let lua = installed("lua");
    let lua = lua.display();
    Nginx {
        main: format!("load_module {lua}/ndk_http_module.so; load_module {lua}/ngx_http_lua_module.so;"),
        http: format!("lua_package_path '{lua}/?.lua;;';"),
        location: format!("access_by_lua_block {{ {code} }}"),
        workers: Some(1),
    }
}
