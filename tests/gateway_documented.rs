//! The six documented configurations, as written, over real HTTP and a real Redis: each admits, refuses, and admits
//! again where its window is short enough to wait for. (Minutes, hours and days pass in the cases, by virtual time.)

use std::{
    thread,
    time::{Duration, Instant},
};

use slidegate_tests::{
    documented,
    gateway_process::{Gateway, indented},
    http_client::{Answer, HttpClient},
    redis_server::RedisServer,
    upstream::Upstream,
};

const SECOND: u64 = 1;
const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;
const DAY: u64 = 86_400;

/// One of the six behind a gateway, in front of an upstream of its own.
struct Rig {
    upstream: Upstream,
    client: HttpClient,
    refused_status: u16,
    refused_body: &'static str,
    // Dropped last: the gateway must not lose its Redis before it ends.
    _gateway: Gateway,
    _redis: RedisServer,
}

/// What marks a request, and the limit that it meets.
struct Probe {
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    limit: u64,
    window_s: u64,
}

impl Rig {
    fn new(filter: &str) -> Self {
        let (redis, upstream) = (RedisServer::start(), Upstream::start());
        let gateway = Gateway::serve(&format!(
            "upstream: {}\ntrusted_consumer: true\nredis: {{names: {{redis.static: \"{}\"}}}}\nfilter:\n{}",
            upstream.url(),
            redis.url(),
            indented(filter)
        ));
        let client = gateway.client();
        Rig {
            upstream,
            client,
            refused_status: 429,
            refused_body: "Too many requests",
            _gateway: gateway,
            _redis: redis,
        }
    }

    fn ask(&mut self, probe: &Probe) -> Answer {
        self.client.get(probe.path, probe.headers)
    }

    /// Uses a limit up: the first request tells the whole limit, the last one that nothing is left, the next is
    /// refused. What is admitted reaches the upstream, what is refused does not. After a window of a second there is
    /// room again.
    fn exhaust(&mut self, probe: &Probe) {
        let (started, before) = (Instant::now(), self.upstream.requests());
        let mut admitted = 0;
        let refused = loop {
            let answer = self.ask(probe);
            if self.upstream.requests() == before + admitted {
                break answer;
            }
            admitted += 1;
            assert_eq!((answer.status(), answer.text().as_str()), (200, "hello\n"));
            assert_eq!(answer.head.number("x-ratelimit-limit"), probe.limit);
            assert!(answer.head.number("x-ratelimit-remaining") >= probe.limit.saturating_sub(admitted), "{answer:?}");
            assert_eq!(answer.head.text("x-ratelimit-reset"), None, "only a refusal says when to come again");
            assert!(admitted <= 20 * probe.limit, "{} requests were admitted", admitted);
        };
        if started.elapsed() < Duration::from_secs(probe.window_s) {
            assert_eq!(admitted, probe.limit);
        }
        self.assert_refusal(probe, &refused);
        if probe.window_s == SECOND {
            thread::sleep(Duration::from_millis(1_010));
            self.assert_first(probe);
        }
    }

    fn assert_refusal(&self, probe: &Probe, refused: &Answer) {
        assert_eq!((refused.status(), refused.text().as_str()), (self.refused_status, self.refused_body));
        assert_eq!(refused.head.text("content-type").as_deref(), Some("text/plain"));
        assert_eq!(refused.head.number("x-ratelimit-limit"), probe.limit);
        assert_eq!(refused.head.number("x-ratelimit-remaining"), 0);
        let reset = refused.head.number("x-ratelimit-reset");
        // Above 100, time is cut into slots of a 64th of the window or less, which leave whole.
        let slot_s = if probe.limit > 100 { probe.window_s.div_ceil(64) } else { 0 };
        assert!((1..=probe.window_s + slot_s).contains(&reset), "reset in {reset} s of {}", probe.window_s);
    }

    /// The first request to a limit has all of it.
    fn assert_first(&mut self, probe: &Probe) {
        let answer = self.ask(probe);
        assert_eq!((answer.status(), answer.text().as_str()), (200, "hello\n"));
        assert_eq!(answer.head.number("x-ratelimit-limit"), probe.limit);
        assert_eq!(answer.head.number("x-ratelimit-remaining"), probe.limit - 1);
    }

    /// A request that no rule is for passes, and hears of no limit.
    fn assert_unlimited(&mut self, path: &str, headers: &[(&str, &str)]) {
        let answer = self.client.get(path, headers);
        assert_eq!((answer.status(), answer.text().as_str()), (200, "hello\n"));
        assert!(answer.head.headers.iter().all(|(name, _)| !name.contains("ratelimit")), "{answer:?}");
    }
}

#[test]
fn all_requests_together() {
    let mut rig = Rig::new(documented::GLOBAL);
    rig.exhaust(&Probe { path: "/any?x=1", headers: &[], limit: 1_000, window_s: MINUTE });
}

#[test]
fn by_request_parameter() {
    let mut rig = Rig::new(documented::PARAM);
    rig.exhaust(&Probe {
        path: "/?apikey=9a342114-ba8a-11ec-b1bf-00163e1250b5",
        headers: &[],
        limit: 10,
        window_s: MINUTE,
    });
    rig.exhaust(&Probe {
        path: "/?apikey=a6a6d7f2-ba8a-11ec-bec2-00163e1250b5",
        headers: &[],
        limit: 100,
        window_s: HOUR,
    });
    rig.exhaust(&Probe { path: "/p?x=1&apikey=abc", headers: &[], limit: 10, window_s: SECOND });
    rig.assert_first(&Probe { path: "/?apikey=abd", headers: &[], limit: 10, window_s: SECOND });
    rig.exhaust(&Probe { path: "/?apikey=b%201", headers: &[], limit: 100, window_s: MINUTE });
    rig.assert_first(&Probe { path: "/?apikey=c", headers: &[], limit: 1_000, window_s: HOUR });
    rig.assert_first(&Probe { path: "/?apikey=d", headers: &[], limit: 1_000, window_s: HOUR });
    rig.assert_unlimited("/?key=abc", &[("apikey", "abc")]);
}

#[test]
fn by_request_header() {
    let mut rig = Rig::new(documented::HEADER);
    rig.exhaust(&Probe { path: "/", headers: &[("x-ca-key", "102234")], limit: 10, window_s: MINUTE });
    rig.exhaust(&Probe { path: "/", headers: &[("X-CA-Key", "308239")], limit: 10, window_s: HOUR });
    rig.exhaust(&Probe { path: "/", headers: &[("x-ca-key", "a")], limit: 10, window_s: SECOND });
    rig.exhaust(&Probe { path: "/", headers: &[("x-ca-key", "b"), ("x-ca-key", "a")], limit: 100, window_s: MINUTE });
    rig.assert_first(&Probe { path: "/", headers: &[("x-ca-key", "")], limit: 1_000, window_s: HOUR });
    rig.assert_first(&Probe { path: "/", headers: &[("x-ca-key", "A")], limit: 1_000, window_s: HOUR });
    rig.assert_unlimited("/?x-ca-key=102234", &[]);
}

#[test]
fn by_client_ip() {
    let mut rig = Rig::new(documented::CLIENT_IP);
    rig.exhaust(&Probe { path: "/", headers: &[("x-forwarded-for", "1.1.1.1")], limit: 10, window_s: DAY });
    rig.exhaust(&Probe { path: "/", headers: &[("x-forwarded-for", "1.1.1.9, 1.1.1.1")], limit: 100, window_s: DAY });
    rig.assert_first(&Probe { path: "/", headers: &[("x-forwarded-for", "1.1.1.8:99")], limit: 100, window_s: DAY });
    rig.assert_first(&Probe { path: "/", headers: &[("x-forwarded-for", "2.2.2.2")], limit: 1_000, window_s: DAY });
    rig.assert_first(&Probe { path: "/", headers: &[("x-forwarded-for", "2001:db8::1")], limit: 1_000, window_s: DAY });
    // The gateway adds the address of its own client, for lack of another.
    rig.assert_first(&Probe { path: "/", headers: &[], limit: 1_000, window_s: DAY });
    // What is no address is not free: the gateway's own client counts again.
    let unknown = rig.client.get("/", &[("x-forwarded-for", "unknown")]);
    assert_eq!(unknown.head.number("x-ratelimit-remaining"), 998);
}

#[test]
fn by_consumer() {
    let mut rig = Rig::new(documented::CONSUMER);
    rig.exhaust(&Probe { path: "/", headers: &[("x-mse-consumer", "consumer1")], limit: 10, window_s: SECOND });
    rig.exhaust(&Probe { path: "/", headers: &[("x-mse-consumer", "consumer2")], limit: 100, window_s: HOUR });
    rig.exhaust(&Probe { path: "/", headers: &[("x-mse-consumer", "alice")], limit: 10, window_s: SECOND });
    rig.exhaust(&Probe { path: "/", headers: &[("x-mse-consumer", "bob")], limit: 100, window_s: MINUTE });
    rig.assert_first(&Probe { path: "/", headers: &[("x-mse-consumer", "carol")], limit: 1_000, window_s: HOUR });
    rig.assert_unlimited("/", &[]);
}

#[test]
fn by_cookie_with_a_refusal_in_json() {
    let mut rig = Rig::new(documented::COOKIE);
    rig.refused_status = 200;
    rig.refused_body = r#"{"code":-1,"msg":"Too many requests"}"#;
    rig.exhaust(&Probe { path: "/", headers: &[("cookie", "key1=value1")], limit: 10, window_s: MINUTE });
    rig.exhaust(&Probe { path: "/", headers: &[("cookie", "x=1; key1=value2")], limit: 100, window_s: HOUR });
    rig.exhaust(&Probe { path: "/", headers: &[("cookie", "x=1"), ("cookie", "key1=a")], limit: 10, window_s: SECOND });
    rig.exhaust(&Probe { path: "/", headers: &[("cookie", "key1=b; key1=a")], limit: 100, window_s: MINUTE });
    rig.assert_first(&Probe { path: "/", headers: &[("cookie", "key1=c")], limit: 1_000, window_s: HOUR });
    rig.assert_unlimited("/", &[("cookie", "key=value1")]);
}
