//! A Redis, gateways of every failure mode in front of it, an upstream behind each, clients that ask at a steady pace,
//! and what happens to them in between.

use std::{
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use redis::Cmd;
use slidegate_tests::{
    fault_proxy::FaultProxy,
    footprint::Footprint,
    gateway_process::{Gateway, PATIENCE, wait_until},
    redis_server::RedisServer,
    steady_load::{Answers, Load, Question, Traffic},
    upstream::Upstream,
};

/// Clients of each gateway.
pub(crate) const CLIENTS: usize = 40;

/// Between two requests of a client: long enough that one whose answers come 50 ms late keeps it.
const PACE: Duration = Duration::from_millis(80);

/// Until connections are made and memory has its size; then as long again, which is the time before the fault.
const CALM: Duration = Duration::from_millis(1_000);

/// Redis decides again for good when nothing else was decided for so long.
const SETTLED: Duration = Duration::from_millis(800);

/// Worker threads of each gateway.
pub(crate) const WORKERS: usize = 2;

/// How often the hot key may pass in a second.
pub(crate) const HOT_LIMIT: usize = 100;

/// How often the key with several limits may pass, in a second and in an hour.
pub(crate) const SEVERAL_LIMITS: [usize; 2] = [40, 200];

/// How often each of many keys may pass in an hour.
pub(crate) const EACH_LIMIT: usize = 20;

/// How many keys there are of that kind.
pub(crate) const EACH_KEYS: usize = 40;

/// What is particular about a scene.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    /// More arguments of `redis-server`.
    pub(crate) redis_args: &'static [&'static str],
    /// More fields of the filter's `redis`, each after a comma.
    pub(crate) filter_redis: &'static str,
    /// How long the filter waits for Redis.
    pub(crate) timeout: Duration,
    /// Whether a proxy stands between gateways and Redis.
    pub(crate) through_proxy: bool,
}

/// Everything that takes part.
pub(crate) struct Scene {
    pub(crate) setup: Setup,
    pub(crate) redis: RedisServer,
    pub(crate) proxy: Option<FaultProxy>,
    pub(crate) teams: Vec<Team>,
    /// From when to when Redis may have lost what it knew.
    pub(crate) forgotten: Vec<(Instant, Instant)>,
}

/// Gateways of one failure mode, which share their limits, and their upstream.
pub(crate) struct Team {
    pub(crate) mode: &'static str,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) upstream: Upstream,
}

/// What a team met with.
pub(crate) struct Course {
    pub(crate) answers: Answers,
    /// Each gateway under load before the fault, and after the load.
    pub(crate) footprints: Vec<[Footprint; 2]>,
}

/// When it happened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// Warmed up.
    pub(crate) calm: Instant,
    /// The fault began.
    pub(crate) broke: Instant,
    /// Redis can be used again.
    pub(crate) mended: Instant,
}

// === impl Setup ===

impl Default for Setup {
    fn default() -> Self {
        Setup { redis_args: &[], filter_redis: "", timeout: Duration::from_millis(500), through_proxy: false }
    }
}

impl Setup {
    /// For faults that no request should notice: not even on a machine that stands still for a moment.
    pub(crate) fn unharmed() -> Self {
        Setup { timeout: Duration::from_secs(10), ..Setup::default() }
    }
}

// === impl Scene ===

impl Scene {
    /// Starts everything but the load; `prepare` is done to Redis before gateways know it.
    pub(crate) fn start(setup: Setup, prepare: fn(&RedisServer)) -> Self {
        let redis = RedisServer::start_with(setup.redis_args);
        prepare(&redis);
        let proxy = setup.through_proxy.then(|| FaultProxy::start(redis.port()));
        let port = proxy.as_ref().map_or(redis.port(), FaultProxy::port);
        let teams = [("open", 1), ("closed", 2), ("local", 1)]
            .map(|(mode, gateways)| Team::start(mode, gateways, port, setup))
            .into();
        Scene { setup, redis, proxy, teams, forgotten: Vec::new() }
    }

    /// Lets the fault happen under load, and waits until nothing more comes of it.
    pub(crate) fn run(&mut self, fault: impl FnOnce(&mut Scene)) -> (Times, Vec<Course>) {
        let loads: Vec<Load> = self.teams.iter().map(Team::load).collect();
        wait_until("the load begins", || loads.iter().all(|load| load.answered() >= 100));
        thread::sleep(CALM);
        let calm = Instant::now();
        thread::sleep(CALM);
        let before: Vec<Vec<Footprint>> = self.teams.iter().map(Team::footprints).collect();
        let broke = Instant::now();
        fault(self);
        let times = Times { calm, broke, mended: Instant::now() };
        self.settle();
        let courses =
            self.teams.iter().zip(loads).zip(before).map(|((team, load), before)| team.end(load, before)).collect();
        (times, courses)
    }

    /// Waits until Redis decides again, and has for a while. If it never does, that is found in the answers.
    fn settle(&self) {
        let deadline = Instant::now() + PATIENCE;
        let degraded = || self.teams.iter().map(Team::degraded).sum::<u64>();
        let (mut last, mut since) = (degraded(), Instant::now());
        while since.elapsed() < SETTLED && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(50));
            let now = degraded();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
    }

    /// Does something after which Redis may have lost what it knew.
    pub(crate) fn forget(&mut self, act: impl FnOnce(&mut RedisServer)) {
        let began = Instant::now();
        act(&mut self.redis);
        self.forgotten.push((began, Instant::now()));
    }

    /// Says something to Redis.
    pub(crate) fn tell(&self, words: &[&str]) {
        tell(&self.redis, words);
    }
}

/// Says something to this Redis.
pub(crate) fn tell(redis: &RedisServer, words: &[&str]) {
    let mut command = Cmd::new();
    for word in words {
        command.arg(word);
    }
    command.exec(&mut redis.connection()).unwrap_or_else(|error| panic!("{words:?}: {error}"));
}

// === impl Team ===

impl Team {
    fn start(mode: &'static str, gateways: usize, redis_port: u16, setup: Setup) -> Self {
        let upstream = Upstream::start();
        let settings = settings(&upstream, mode, redis_port, setup, "");
        Team { mode, gateways: (0..gateways).map(|_| Gateway::serve(&settings)).collect(), upstream }
    }

    fn load(&self) -> Load {
        let addresses: Vec<SocketAddr> = self.gateways.iter().map(Gateway::listen).collect();
        Load::start(&addresses, CLIENTS * addresses.len(), PACE, &Arc::new(traffic()))
    }

    fn footprints(&self) -> Vec<Footprint> {
        self.gateways.iter().map(Footprint::of).collect()
    }

    fn end(&self, load: Load, before: Vec<Footprint>) -> Course {
        let answers = load.stop();
        wait_until("requests in flight end", || self.footprints().iter().all(|footprint| footprint.in_flight == 0));
        let footprints = before.into_iter().zip(self.footprints()).map(|(before, after)| [before, after]).collect();
        Course { answers, footprints }
    }

    /// The sum of a counter over its gateways.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.gateways.iter().map(|gateway| gateway.metrics().sum(name, labels) as u64).sum()
    }

    /// How many decisions were left to the failure mode.
    pub(crate) fn degraded(&self) -> u64 {
        self.sum("slidegate_degraded_decisions_total", &[])
    }
}

/// The settings of a gateway; `filter` is more fields of the filter, each in a line.
pub(crate) fn settings(upstream: &Upstream, mode: &str, redis_port: u16, setup: Setup, filter: &str) -> String {
    let ([second, hour], Setup { filter_redis, timeout, .. }) = (SEVERAL_LIMITS, setup);
    format!(
        "upstream: {}
redis: {{names: {{redis.static: \"redis://127.0.0.1:{redis_port}\"}}}}
workers: {WORKERS}
filter:
  rule_name: {mode}
  rule_items:
    - limit_by_header: x-load
      limit_keys:
        - {{key: hot, query_per_second: {HOT_LIMIT}}}
        - {{key: several, query_per_second: {second}, query_per_hour: {hour}}}
        - {{key: wide, query_per_hour: 1000000}}
    - {{limit_by_per_header: x-key, limit_keys: [{{key: \"*\", query_per_hour: {EACH_LIMIT}}}]}}
  headers: [x-ratelimit, x-slidegate-degraded]
  failure_mode: {mode}
  redis: {{service_name: redis.static, timeout: {}{filter_redis}}}
{filter}log: {{access: false}}
",
        upstream.url(),
        timeout.as_millis()
    )
}

/// A hot key, one that never runs out, one with several limits, and many that run out.
fn traffic() -> Traffic {
    let mut traffic = Traffic::default();
    let question =
        |header, value: String| Question { name: value.clone(), path: "/".into(), headers: vec![(header, value)] };
    for (value, turns) in [("hot", 120), ("several", 40), ("wide", 120)] {
        traffic.ask(turns, question("x-load", value.to_owned()));
    }
    for each in 0..EACH_KEYS {
        traffic.ask(3, question("x-key", format!("each-{each}")));
    }
    traffic
}
