//! The clock of Redis' host is set while a gateway asks it, or a replica with another clock takes over: a key is frozen
//! for a window and a slot at most, no answer names a longer wait, nothing is over the limit by the key's own time, and
//! the log tells it once.

use std::{
    thread,
    time::{Duration, Instant},
};

use slidegate_tests::{
    gateway_process::{Gateway, wait_until},
    http_client::HttpClient,
    redis_server::RedisServer,
    upstream::Upstream,
};

const DAY_S: i64 = 86_400;

const LIMIT: usize = 3;

const WINDOW: Duration = Duration::from_secs(3);

/// What a request takes on a machine that builds something else at the same time.
const BUSY: Duration = Duration::from_secs(1);

/// A rule with this width of its slots, which remembers refusals or asks each time.
struct Rule {
    route: &'static str,
    precision: &'static str,
    slot: Duration,
    remembers: bool,
}

const RULES: [Rule; 4] = [
    Rule { route: "exact", precision: "exact", slot: Duration::from_micros(1), remembers: true },
    Rule { route: "exact-asking", precision: "exact", slot: Duration::from_micros(1), remembers: false },
    Rule { route: "slots", precision: "500ms", slot: Duration::from_millis(500), remembers: true },
    Rule { route: "slots-asking", precision: "500ms", slot: Duration::from_millis(500), remembers: false },
];

/// A gateway with all of them, and what it was asked.
struct Scene {
    gateway: Gateway,
    client: HttpClient,
    began: Instant,
    /// How far the clock of Redis has been set ahead, all times together. Keys follow it ahead; back they do not go.
    jumped: Duration,
    /// By rule, when requests passed, by the key's own clock: not before, and not after.
    passed: [Vec<(Duration, Duration)>; RULES.len()],
    _upstream: Upstream,
}

impl Scene {
    fn new(redis: &RedisServer) -> Self {
        let upstream = Upstream::start();
        let route = |rule: &Rule| {
            format!("  - {{name: {0}, path_prefix: /{0}, upstream: \"{1}\"}}\n", rule.route, upstream.url())
        };
        let limit = |Rule { route, precision, remembers, .. }: &Rule| {
            let seconds = WINDOW.as_secs();
            format!(
                "    - {{_match_route_: [{route}], rule_name: {route}, precision: {precision}, remember_refusals: \
                 {remembers}, headers: [retry-after],
       failure_mode: closed, global_threshold: {{limit: {LIMIT}, window: {seconds}s}}, redis: {{service_name: \
       redis.static}}}}\n"
            )
        };
        let (routes, limits): (String, String) = (RULES.iter().map(route).collect(), RULES.iter().map(limit).collect());
        let names = format!("{{redis.static: \"{}\"}}", redis.url());
        let gateway = Gateway::serve(&format!(
            "routes:\n{routes}workers: 1\nredis: {{names: {names}}}\nfilter:\n  _rules_:\n{limits}"
        ));
        let client = gateway.client();
        let passed = [const { Vec::new() }; RULES.len()];
        Scene { gateway, client, began: Instant::now(), jumped: Duration::ZERO, passed, _upstream: upstream }
    }

    /// One request for each rule: their statuses.
    fn ask(&mut self) -> [u16; RULES.len()] {
        let mut statuses = [0; RULES.len()];
        for (rule, (status, passed)) in RULES.iter().zip(statuses.iter_mut().zip(&mut self.passed)) {
            let sent = self.began.elapsed() + self.jumped;
            let answer = self.client.get(&format!("/{}", rule.route), &[]);
            *status = answer.status();
            match *status {
                200 => passed.push((sent, self.began.elapsed() + self.jumped)),
                429 => {
                    let wait = Duration::from_secs(answer.head.number("retry-after"));
                    assert!(wait < WINDOW + rule.slot + Duration::from_secs(1), "{}: {wait:?}", rule.route);
                }
                503 => {}
                other => panic!("{}: status {other}", rule.route),
            }
        }
        statuses
    }

    /// All that each rule has room for now, and no more.
    fn fill(&mut self) {
        for _ in 0..LIMIT {
            assert_eq!(self.ask(), [200; RULES.len()]);
        }
        assert_eq!(self.ask(), [429; RULES.len()]);
    }

    /// Asks until each rule has let one more pass: for each, how long that took. Redis may be away for a moment.
    fn thaw(&mut self) -> [Duration; RULES.len()] {
        let (since, before) = (Instant::now(), self.passed.each_ref().map(Vec::len));
        let mut took = [None; RULES.len()];
        wait_until("each rule lets one more pass", || {
            self.ask();
            for (took, (passed, before)) in took.iter_mut().zip(self.passed.iter().zip(before)) {
                if took.is_none() && passed.len() > before {
                    *took = Some(since.elapsed());
                }
            }
            took.iter().all(Option::is_some)
        });
        took.map(Option::unwrap_or_default)
    }

    /// As [`Scene::thaw`], for windows that were full when the clock stepped back: each for as long as it says and no
    /// longer.
    fn thaw_frozen(&mut self, away: Duration) {
        for (rule, took) in RULES.iter().zip(self.thaw()) {
            assert!(took < WINDOW + rule.slot + away + BUSY, "{} was frozen for {took:?}", rule.route);
        }
    }

    /// No interval as long as the window has held more than the limit, and each rule goes on: its next window holds it
    /// all again.
    fn check(mut self, line: &str) {
        let end = Instant::now() + 2 * WINDOW;
        while Instant::now() < end {
            assert!(!self.ask().contains(&503), "Redis answers");
            thread::sleep(Duration::from_millis(10));
        }
        for (rule, passed) in RULES.iter().zip(&self.passed) {
            for more in passed.windows(LIMIT + 1) {
                let apart = more[LIMIT].1.saturating_sub(more[0].0);
                assert!(apart >= WINDOW, "{}: {} passed within {apart:?}", rule.route, more.len());
            }
            let lately = self.began.elapsed() + self.jumped - 2 * WINDOW;
            let went_on = passed.iter().filter(|(_, until)| *until >= lately).count();
            assert!(went_on >= LIMIT, "{}: {went_on} passed in the last two windows", rule.route);
        }
        let lines = self.gateway.log_lines("the clock of Redis");
        assert!(lines.len() == 1 && lines[0].contains("WARN") && lines[0].contains(line), "{lines:#?}");
    }
}

#[test]
fn a_clock_that_is_set_back_by_a_day() {
    let redis = RedisServer::start_with_clock(&[]);
    let mut scene = Scene::new(&redis);
    scene.fill();
    redis.set_clock(-DAY_S);
    scene.thaw_frozen(Duration::ZERO);
    scene.check("stepped back by 86");
}

#[test]
fn a_clock_that_jumps_ahead_and_is_corrected() {
    let redis = RedisServer::start_with_clock(&[]);
    let mut scene = Scene::new(&redis);
    scene.fill();
    redis.set_clock(DAY_S);
    scene.jumped += Duration::from_secs(DAY_S.unsigned_abs());
    for (rule, took) in RULES.iter().zip(scene.thaw()) {
        // By that clock its window has passed; what is remembered of a refusal goes by ours.
        let most = if rule.remembers { WINDOW + rule.slot } else { Duration::ZERO };
        assert!(took < most + WINDOW + BUSY, "{} was frozen for {took:?}", rule.route);
    }
    wait_until("each rule is full", || scene.ask() == [429; RULES.len()]);
    redis.set_clock(0);
    scene.thaw_frozen(Duration::ZERO);
    scene.check("stepped ahead by 86");
}

/// A replica with its clock so many seconds ahead takes the address of its master over.
fn fail_over(ahead_s: i64, line: &str) {
    let mut master = RedisServer::start_with(&["--repl-diskless-sync-delay", "0"]);
    let mut replica = RedisServer::start_with_clock(&["--replicaof", "127.0.0.1", &master.port().to_string()]);
    replica.set_clock(ahead_s);
    wait_until("the replica follows", || replica.tell(&["INFO", "replication"]).contains("master_link_status:up"));
    let mut scene = Scene::new(&master);
    scene.fill();
    master.wait_followed();
    master.kill();
    replica.take_over(master.port());
    scene.jumped += Duration::from_secs(u64::try_from(ahead_s).unwrap_or_default());
    scene.thaw_frozen(Duration::from_secs(2));
    scene.check(line);
}

#[test]
fn a_replica_that_takes_over_with_a_clock_a_day_behind() {
    fail_over(-DAY_S, "stepped back by 86");
}

#[test]
fn a_replica_that_takes_over_with_a_clock_a_day_ahead() {
    fail_over(DAY_S, "stepped ahead by 86");
}
