//! A million distinct keys: the memory of a gateway stays bounded, and Redis forgets them when their windows are over.

use std::{
    thread,
    time::{Duration, Instant},
};

use slidegate_tests::{
    footprint::Footprint,
    gateway_process::{Gateway, wait_until},
    http_client::HttpClient,
    redis_server::RedisServer,
    upstream::Upstream,
};

use crate::{Fault, figures::Figures};

const KEYS: usize = 1_000_000;

/// Each request brings so many keys that no other has.
const KEYS_PER_REQUEST: usize = 10;

const CLIENTS: usize = 8;

/// Of the windows: keys leave Redis while others come.
const WINDOW_SECONDS: usize = 4;

/// What a million keys may cost a gateway, in bytes of its process and of its instances: what is remembered of the
/// latest.
const RESIDENT_MAX: u64 = 128 << 20;
const INSTANCE_MAX: u64 = 64 << 20;

/// What all keys together would cost, at the least, if they were kept: more than is allowed.
const KEY_BYTES_MIN: u64 = 100;

pub(crate) fn all() -> Vec<Fault> {
    vec![("a_million_keys", || vec![many_keys("closed", true), many_keys("local", false)])]
}

/// Asks with a million keys, every tenth request twice: the second time it is refused, which is remembered too.
fn many_keys(mode: &str, with_redis: bool) -> Figures {
    const { assert!(KEYS as u64 * KEY_BYTES_MIN > INSTANCE_MAX) };
    let (mut redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = Gateway::serve(&settings(&upstream, &redis, mode));
    ask(&gateway, "warm", 0, 100, mode);
    let warm = Footprint::of(&gateway);
    if !with_redis {
        redis.kill();
    }
    let requests = KEYS / KEYS_PER_REQUEST / CLIENTS;
    let began = Instant::now();
    let clients: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn({
                    let gateway = &gateway;
                    move || ask(gateway, "key", client * requests, requests, mode)
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("a client ends")).collect()
    });
    let lasted = began.elapsed();
    let mut after = Footprint::of(&gateway);
    after.resident_bytes = gateway.peak_memory_bytes();
    assert_eq!(after.in_flight, 0, "{mode}");
    assert!(after.resident_bytes <= warm.resident_bytes + RESIDENT_MAX, "{mode}: {warm:?} {after:?}");
    assert!(after.instance_bytes <= warm.instance_bytes + INSTANCE_MAX, "{mode}: {warm:?} {after:?}");
    if with_redis {
        wait_until("Redis has forgotten all of them", || {
            redis::cmd("DBSIZE").query::<u64>(&mut redis.connection()).expect("a number") == 0
        });
    }
    let sum = |fits: fn(&Asked) -> usize| clients.iter().map(fits).sum::<usize>();
    let all = sum(|asked| asked.admitted + asked.refused);
    Figures {
        fault: format!("1,000,000 keys: {} MB more at most", (after.resident_bytes - warm.resident_bytes) >> 20),
        mode: if with_redis { mode.to_owned() } else { format!("{mode}, no Redis") },
        rates: (None, all as f64 / lasted.as_secs_f64()),
        decisions: if with_redis { [sum(|asked| asked.admitted), sum(|asked| asked.refused), 0] } else { [0, 0, all] },
        worst_wait: clients.iter().map(|asked| asked.worst_wait).max().unwrap_or_default(),
        recovery: None,
    }
}

/// What one client met with.
struct Asked {
    admitted: usize,
    refused: usize,
    worst_wait: Duration,
}

fn ask(gateway: &Gateway, prefix: &str, from: usize, requests: usize, mode: &str) -> Asked {
    let mut client = gateway.client();
    let mut asked = Asked { admitted: 0, refused: 0, worst_wait: Duration::ZERO };
    for request in from..from + requests {
        let status = asked.once(&mut client, prefix, request);
        assert_eq!(status, 200, "{mode}: request {request} has keys of its own");
        if request.is_multiple_of(10) {
            let began = Instant::now();
            let status = asked.once(&mut client, prefix, request);
            // On a machine that stands still, the window may be over.
            assert!(
                status == 429 || began.elapsed() > Duration::from_secs(1),
                "{mode}: {status} for keys that are used up"
            );
        }
    }
    asked
}

impl Asked {
    fn once(&mut self, client: &mut HttpClient, prefix: &str, request: usize) -> u16 {
        let values: Vec<(String, String)> =
            (0..KEYS_PER_REQUEST).map(|key| (format!("x-{key}"), format!("{prefix}-{request}"))).collect();
        let headers: Vec<(&str, &str)> = values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let sent = Instant::now();
        let status = client.get("/", &headers).status();
        self.worst_wait = self.worst_wait.max(sent.elapsed());
        match status {
            200 => self.admitted += 1,
            _ => self.refused += 1,
        }
        status
    }
}

fn settings(upstream: &Upstream, redis: &RedisServer, mode: &str) -> String {
    let rule = |key| {
        format!(
            "    - {{limit_by_per_header: x-{key}, limit_keys: [{{key: \"*\", limit: 1, window: \
             {WINDOW_SECONDS}s}}]}}\n"
        )
    };
    let rules: String = (0..KEYS_PER_REQUEST).map(rule).collect();
    format!(
        "upstream: {}
redis: {{names: {{redis.static: \"{}\"}}}}
filter:
  rule_name: many
  rule_match: all
  rule_items:
{rules}  failure_mode: {mode}
  redis: {{service_name: redis.static, timeout: 10000}}
log: {{access: false}}
",
        upstream.url(),
        redis.url()
    )
}
