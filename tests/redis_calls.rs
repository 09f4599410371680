//! Fewer calls than decisions, counted by Redis itself while a real gateway is under load: one call at a time for a
//! key, none for a key that is known to be full, and exactly one for a key that nobody else asks for.

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use slidegate_tests::{
    fault_proxy::{Ailment, FaultProxy},
    gateway_process::Gateway,
    redis_server::RedisServer,
    upstream::Upstream,
};

/// Requests in flight on a hot key.
const IN_FLIGHT: usize = 64;

/// How often a call may be faster than all that an instance has seen of late, while a run lasts.
const EARLY_MAX: u64 = 8;

/// An entry that no run here fills.
const NEVER_FULL: &str = r#"{key: "*", limit: 1000000000, window: 1h}"#;

/// What clients got, and what it cost Redis.
#[derive(Debug, Default, Clone, Copy)]
struct Outcome {
    passed: u64,
    refused: u64,
    calls: u64,
}

/// A gateway in front of an upstream that counts, and its Redis.
struct Site {
    redis: RedisServer,
    upstream: Upstream,
    gateway: Gateway,
    workers: u64,
}

impl Site {
    /// A gateway of so many workers, each with a filter instance of its own, that limits each value of `x-key` by this
    /// entry. Redis answers so much later than it could.
    fn start(workers: u64, entry: &str, proxy: impl FnOnce(&RedisServer) -> Option<u16>) -> Self {
        let (redis, upstream) = (RedisServer::start(), Upstream::start());
        let port = proxy(&redis).unwrap_or(redis.port());
        let gateway = Gateway::serve(&format!(
            "upstream: {}
workers: {workers}
redis: {{names: {{redis.static: \"redis://127.0.0.1:{port}\"}}}}
filter:
  rule_name: calls
  rule_items: [{{limit_by_per_header: x-key, limit_keys: [{entry}]}}]
  failure_mode: closed
  redis: {{service_name: redis.static, timeout: 30000}}
log: {{access: false}}
",
            upstream.url()
        ));
        Site { redis, upstream, gateway, workers }
    }

    /// Lets so many clients, each with a connection of its own, ask at once until `next` has no further key for them:
    /// by the client's number and that of its request.
    fn load(&self, clients: usize, next: impl Fn(usize, usize) -> Option<String> + Sync) -> Outcome {
        self.warm_up(clients);
        let (upstream, calls) = (self.upstream.requests(), self.calls());
        let start = Barrier::new(clients);
        let ask = |client: usize| {
            let mut http = self.gateway.client();
            start.wait();
            let (mut passed, mut refused) = (0, 0);
            for request in 0.. {
                let Some(key) = next(client, request) else { break };
                match http.get("/", &[("x-key", &key)]).status() {
                    200 => passed += 1,
                    429 => refused += 1,
                    other => panic!("{other}: {}", self.gateway.log()),
                }
            }
            (passed, refused)
        };
        let answers: Vec<(u64, u64)> = thread::scope(|scope| {
            let ask = &ask;
            let clients: Vec<_> = (0..clients).map(|client| scope.spawn(move || ask(client))).collect();
            clients.into_iter().map(|client| client.join().expect("a client ends")).collect()
        });
        let outcome = Outcome {
            passed: answers.iter().map(|(passed, _)| passed).sum(),
            refused: answers.iter().map(|(_, refused)| refused).sum(),
            calls: self.calls() - calls,
        };
        assert_eq!(self.upstream.requests() - upstream, outcome.passed, "what passed reached the upstream");
        outcome
    }

    /// Connects every worker to Redis, which then knows the script.
    fn warm_up(&self, clients: usize) {
        let mut kept: Vec<_> = (0..clients.max(4)).map(|_| self.gateway.client()).collect();
        for (n, client) in kept.iter_mut().enumerate() {
            assert_eq!(client.get("/", &[("x-key", &format!("warm-{n}"))]).status(), 200);
        }
    }

    /// Scripts that Redis was asked to run, those it did not know included.
    fn calls(&self) -> u64 {
        let text: String =
            redis::cmd("INFO").arg("commandstats").query(&mut self.redis.connection()).expect("Redis tells");
        let of = |command: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("cmdstat_")?.strip_prefix(command)?.strip_prefix(":calls="));
            line.and_then(|line| line.split(',').next())
                .map_or(0, |count| count.parse::<u64>().expect("a number of calls"))
        };
        of("evalsha") + of("eval")
    }
}

/// Redis as it is.
fn near(_: &RedisServer) -> Option<u16> {
    None
}

#[test]
fn keys_that_nobody_else_asks_for_cost_one_call_each() {
    let site = Site::start(2, NEVER_FULL, near);
    let outcome = site.load(16, |client, request| (request < 50).then(|| format!("{client}-{request}")));
    assert_eq!((outcome.passed, outcome.refused, outcome.calls), (16 * 50, 0, 16 * 50));
}

#[test]
fn a_hot_key_costs_a_tenth_of_a_call_for_a_decision_at_most() {
    let mut proxy = None;
    let site = Site::start(1, NEVER_FULL, |redis| {
        let late = FaultProxy::start(redis.port());
        late.set(Ailment::Late(Duration::from_millis(10)));
        Some(proxy.insert(late).port())
    });
    let outcome = site.load(IN_FLIGHT, |_, request| (request < 40).then(|| "hot".to_owned()));
    assert_eq!((outcome.passed, outcome.refused), (IN_FLIGHT as u64 * 40, 0));
    assert!(outcome.calls * 10 <= outcome.passed, "{outcome:?}");
}

#[test]
fn a_key_that_is_full_costs_each_instance_a_call_for_each_place_that_comes_free() {
    const LIMIT: usize = 20;
    for workers in [1, 2] {
        let site = Site::start(workers, &format!(r#"{{key: "*", limit: {LIMIT}, window: 2s}}"#), near);
        // Its places come free one by one.
        site.load(1, |_, request| {
            thread::sleep(Duration::from_millis(50));
            (request < LIMIT).then(|| "hot".to_owned())
        });
        let until = Instant::now() + Duration::from_secs(6);
        let flood = site.load(16, |_, _| {
            thread::sleep(Duration::from_millis(1));
            (Instant::now() < until).then(|| "hot".to_owned())
        });
        assert!((2 * LIMIT as u64..=4 * LIMIT as u64).contains(&flood.passed), "{workers} workers: {flood:?}");
        assert!(flood.refused > 100 * flood.passed, "not much of a flood: {flood:?}");
        // An instance asks once for each place, whoever gets it, once before it knows that the key is full, and again
        // if it asked too early: when a call is faster than all of late were. Without knowing who took the last place
        // it would be two for all.
        let most = site.workers * (flood.passed + 1 + EARLY_MAX);
        assert!(flood.calls <= most, "{workers} workers, {most} calls at most: {flood:?}");
    }
}
