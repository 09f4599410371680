//! The gateway as it ships, on loopback: what the limiter takes of its throughput, and what it adds to a request's
//! latency.

pub(crate) mod filter;
mod latency;
mod processes;

use std::thread;

use slidegate_tests::{
    gateway_process::{Gateway, indented},
    redis_server::RedisServer,
};

use crate::{
    Effort,
    load::{Run, Target, USERS},
    sample::median,
    table::{Table, number, thousands},
    upstream::Upstream,
};

/// Requests in flight.
const CONNECTIONS: usize = 32;

/// A limit that this bench does not reach, and one that it does at once.
pub(crate) const WIDE: u64 = 1_000_000_000;
pub(crate) const NARROW: u64 = 2;

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
    let processes = processes::measure(effort, &redis, &upstream);
    vec![throughput, processes, latency::measure(effort, &subjects, &redis)]
}

/// A gateway with this filter, in front of this upstream.
pub(crate) fn serve(redis: &RedisServer, upstream: &Upstream, filter: Option<&str>, args: &[&str]) -> Gateway {
    Gateway::serve_with(&settings(redis, upstream, filter), args)
}

/// The settings of such a gateway.
pub(crate) fn settings(redis: &RedisServer, upstream: &Upstream, filter: Option<&str>) -> String {
    let filter = filter.map(|filter| format!("filter: {filter}\n")).unwrap_or_default();
    let redis = indented(&format!("names: {{redis.static: \"{}\"}}", redis.url()));
    format!("upstream: \"{}\"\nlog: {{access: false}}\nredis:\n{redis}{filter}", upstream.url())
}

fn subjects(redis: &RedisServer, upstream: &Upstream) -> Vec<Subject> {
    let start = |name, filter: Option<String>, admits_at_most| {
        let gateway = serve(redis, upstream, filter.as_deref(), &[]);
        Subject { name, gateway, admits_at_most, admitted: 0, runs: Vec::new() }
    };
    let (global, each, narrow) = (filter::global(WIDE), filter::each(WIDE), filter::each(NARROW));
    let users = USERS as u64;
    vec![
        start(WITHOUT, None, None),
        start("local, one key", Some(filter::local(&global)), None),
        start("local, a key for each user", Some(filter::local(&each)), None),
        start("Redis, one key", Some(filter::in_redis(&global, "one")), None),
        start(REDIS, Some(filter::in_redis(&each, "each")), None),
        start("local, refusing", Some(filter::local(&narrow)), Some(NARROW * users)),
        start("Redis, refusing", Some(filter::in_redis(&narrow, "narrow")), Some(NARROW * users)),
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
        "wrk, {CONNECTIONS} connections, {USERS} users, {} cores for wrk, gateway, upstream and Redis together; \
         medians of {rounds} rounds of {seconds} s that take turns, ratios within a round. CPU is the gateway's per \
         request. To reach: 0.85 with Redis.",
        thread::available_parallelism().map_or(1, usize::from),
    );
    let head = ["gateway", "requests/s", "with/without", "CPU, µs", "p50, ms", "p99, ms", "p99.9, ms"];
    let mut table = Table::new("Throughput of the gateway", note, &head);
    let without: Vec<f64> = subjects
        .iter()
        .filter(|subject| subject.name == WITHOUT)
        .flat_map(|subject| subject.of(|run| run.per_second))
        .collect();
    for subject in subjects.iter() {
        let ratio = median(subject.of(|run| run.per_second).zip(&without).map(|(with, without)| with / without));
        table.row([
            subject.name.to_owned(),
            thousands(median(subject.of(|run| run.per_second)) as u64),
            number(ratio, 2),
            number(median(subject.of(|run| run.cpu_us)), 1),
            number(median(subject.of(|run| run.p50_ms)), 2),
            number(median(subject.of(|run| run.p99_ms)), 2),
            number(median(subject.of(|run| run.p999_ms)), 2),
        ]);
    }
    table
}

// === impl Subject ===

impl Subject {
    fn round(&mut self, upstream: &Upstream, seconds: usize, counts: bool) {
        let before = upstream.requests();
        let run = Target::gateway(&self.gateway).run(CONNECTIONS, seconds);
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
