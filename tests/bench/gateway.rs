//! The gateway as it ships, on loopback: what the limiter takes of its throughput, and what it adds to a request's latency.

mod latency;
mod load;
mod upstream;

use std::thread;

use slidegate_tests::{
    gateway_process::{Gateway, indented},
    redis_server::RedisServer,
};

use self::{load::Run, upstream::Upstream};
use crate::{
    Effort,
    sample::median,
    table::{Table, number, thousands},
};

/// How many users the load comes from; each sends a header of its own.
pub(super) const USERS: usize = 1_000;

/// A limit that this bench does not reach, and one that it does at once.
const WIDE: u64 = 1_000_000_000;
const NARROW: u64 = 2;

/// A gateway, and what it lets through.
struct Subject {
    name: &'static str,
    gateway: Gateway,
    /// At most so many requests reach the upstream; all of them if there is none.
    admits_at_most: Option<u64>,
    admitted: u64,
    runs: Vec<Run>,
}

/// Throughput with and without the limiter, and latency against a round trip to Redis.
pub(crate) fn measure(effort: &Effort) -> Vec<Table> {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let mut subjects = subjects(&redis, &upstream);
    let throughput = throughput(effort, &mut subjects, &upstream);
    vec![throughput, latency::measure(effort, &subjects, &redis)]
}

fn subjects(redis: &RedisServer, upstream: &Upstream) -> Vec<Subject> {
    let global = |limit: u64| format!(r#"{{rule_name: bench, global_threshold: {{limit: {limit}, window: "1h"}}"#);
    let each = |limit: u64| {
        let keys = format!(r#"[{{key: "*", limit: {limit}, window: "1h"}}]"#);
        format!("{{rule_name: bench, rule_items: [{{limit_by_per_header: x-api-key, limit_keys: {keys}}}]")
    };
    let local = |filter: String| Some(format!("{filter}}}"));
    let in_redis = |filter: String| Some(format!("{filter}, redis: {{service_name: redis.static}}}}"));
    // Rule names tell the keys of one gateway from another's; windows of an hour outlast the bench.
    let named = |filter: Option<String>, name: &str| filter.map(|filter| filter.replace("rule_name: bench", &format!("rule_name: {name}")));
    let start = |name, filter: Option<String>, admits_at_most| {
        let filter = filter.map(|filter| format!("filter: {filter}\n")).unwrap_or_default();
        let redis = indented(&format!("names: {{redis.static: \"{}\"}}", redis.url()));
        let gateway = Gateway::serve(&format!("upstream: \"{}\"\nlog: {{access: false}}\nredis:\n{redis}{filter}", upstream.url()));
        Subject { name, gateway, admits_at_most, admitted: 0, runs: Vec::new() }
    };
    let users = USERS as u64;
    vec![
        start(WITHOUT, None, None),
        start("local, one key", local(global(WIDE)), None),
        start("local, a key for each user", local(each(WIDE)), None),
        start("Redis, one key", named(in_redis(global(WIDE)), "one"), None),
        start(REDIS, named(in_redis(each(WIDE)), "each"), None),
        start("local, refusing", local(each(NARROW)), Some(NARROW * users)),
        start("Redis, refusing", named(in_redis(each(NARROW)), "narrow"), Some(NARROW * users)),
    ]
}

/// The gateway that others are compared with.
const WITHOUT: &str = "without limiter";
/// The one whose latency is measured.
const REDIS: &str = "Redis, a key for each user";

fn throughput(effort: &Effort, subjects: &mut [Subject], upstream: &Upstream) -> Table {
    let (rounds, seconds) = (effort.of(1, 5), effort.of(1, 2));
    // The first of a whole bench is not counted: connections are made, keys reach their limits.
    for round in effort.of(1, 0)..=rounds {
        for subject in &mut *subjects {
            let seconds = if round == 0 { 1 } else { seconds };
            subject.round(upstream, seconds, round > 0);
        }
    }
    let note = format!(
        "wrk, {} connections, {USERS} users, {} cores for wrk, gateway, upstream and Redis together; medians of {rounds} rounds of {seconds} s that \
         take turns, ratios within a round. CPU is the gateway's per request. To reach: 0.85 with Redis.",
        load::CONNECTIONS,
        thread::available_parallelism().map_or(1, usize::from),
    );
    let head = ["gateway", "requests/s", "with/without", "CPU, µs", "p50, ms", "p99, ms"];
    let mut table = Table::new("Throughput of the gateway", note, &head);
    let without: Vec<f64> =
        subjects.iter().filter(|subject| subject.name == WITHOUT).flat_map(|subject| subject.of(|run| run.per_second)).collect();
    for subject in subjects.iter() {
        let ratio = median(subject.of(|run| run.per_second).zip(&without).map(|(with, without)| with / without));
        table.row([
            subject.name.to_owned(),
            thousands(median(subject.of(|run| run.per_second)) as u64),
            number(ratio, 2),
            number(median(subject.of(|run| run.cpu_us)), 1),
            number(median(subject.of(|run| run.p50_ms)), 2),
            number(median(subject.of(|run| run.p99_ms)), 2),
        ]);
    }
    table
}

// === impl Subject ===

impl Subject {
    fn round(&mut self, upstream: &Upstream, seconds: usize, counts: bool) {
        let before = upstream.requests();
        let run = load::run(&self.gateway, seconds);
        upstream.settle();
        let admitted = upstream.requests() - before;
        self.admitted += admitted;
        // Answers that were on their way when wrk stopped are counted by the upstream alone.
        let refused = run.requests.saturating_sub(admitted);
        match self.admits_at_most {
            None => assert!(
                run.not_2xx == 0 && admitted >= run.requests,
                "{}: of {} requests, {admitted} were admitted",
                self.name,
                run.requests
            ),
            Some(most) => {
                assert!(self.admitted <= most, "{}: {} were admitted, at most {most} may be", self.name, self.admitted);
                assert!(run.not_2xx >= refused, "{}: {refused} were refused, {} were told so", self.name, run.not_2xx);
                assert!(run.requests > 0, "{}: nothing was answered", self.name);
            }
        }
        if counts {
            self.runs.push(run);
        }
    }

    fn of<'a>(&'a self, figure: impl Fn(&Run) -> f64 + 'a) -> impl Iterator<Item = f64> + 'a {
        self.runs.iter().map(figure)
    }
}
