//! One gateway process and four of them on the same Redis: how many decisions they come to, and what that asks of
//! Redis.

use slidegate_tests::{gateway_process::Gateway, redis_server::RedisServer};

use super::{NARROW, WIDE, filter, serve};
use crate::{
    Effort,
    load::{Load, Run, Target},
    redis_usage::RedisUsage,
    sample::median,
    table::{Table, number, thousands},
    upstream::Upstream,
};

/// Requests in flight, over all processes.
const IN_FLIGHT: usize = 64;

/// Some gateways that count together.
struct Group {
    keys: &'static str,
    gateways: Vec<Gateway>,
    runs: Vec<Together>,
}

/// A run against a group.
struct Together {
    per_second: f64,
    calls: f64,
    redis_cpu_us: f64,
    cpu_us: f64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
}

/// A number from a run.
type Figure = fn(&Together) -> f64;

pub(super) fn measure(effort: &Effort, redis: &RedisServer, upstream: &Upstream) -> Table {
    let (rounds, seconds) = (effort.of(1, 3), effort.of(1, 2));
    let mut groups = groups(redis, upstream);
    // The first of a whole bench is not counted: connections are made, keys reach their limits.
    for round in effort.of(1, 0)..=rounds {
        for group in &mut groups {
            let run = group.run(redis, upstream, if round == 0 { 1 } else { seconds });
            if round > 0 {
                group.runs.push(run);
            }
        }
    }
    let note = format!(
        "wrk with {IN_FLIGHT} requests in flight over all processes, every process with one worker and so with one \
         filter instance, all on one Redis; medians of {rounds} rounds of {seconds} s that take turns. Calls are \
         Redis' own count of scripts. Latencies are the worst process' under as much load as it answers. To reach: 0.1 \
         calls for a decision on one hot key."
    );
    let head = [
        "keys",
        "processes",
        "decisions/s",
        "Redis calls each",
        "Redis CPU, µs",
        "gateway CPU, µs",
        "p50, ms",
        "p99, ms",
        "p99.9, ms",
    ];
    let mut table = Table::new("Decisions per second, and what they ask of Redis", note, &head);
    for group in &groups {
        let of = |figure: Figure| median(group.runs.iter().map(figure));
        table.row([
            group.keys.to_owned(),
            group.gateways.len().to_string(),
            thousands(of(|run| run.per_second) as u64),
            number(of(|run| run.calls), 3),
            number(of(|run| run.redis_cpu_us), 1),
            number(of(|run| run.cpu_us), 1),
            number(of(|run| run.p50_ms), 2),
            number(of(|run| run.p99_ms), 2),
            number(of(|run| run.p999_ms), 2),
        ]);
    }
    table
}

fn groups(redis: &RedisServer, upstream: &Upstream) -> Vec<Group> {
    let kinds = [
        ("one hot key", filter::global(WIDE)),
        ("1,000 users", filter::each(WIDE)),
        ("1,000 users, all at their limit", filter::each(NARROW)),
    ];
    let mut groups = Vec::new();
    for (index, (keys, filter)) in kinds.into_iter().enumerate() {
        for processes in [1, 4] {
            let filter = filter::in_redis(&filter, &format!("processes-{index}-{processes}"));
            let gateways = (0..processes).map(|_| serve(redis, upstream, Some(&filter), &["--workers", "1"])).collect();
            groups.push(Group { keys, gateways, runs: Vec::new() });
        }
    }
    groups
}

// === impl Group ===

impl Group {
    fn run(&self, redis: &RedisServer, upstream: &Upstream, seconds: usize) -> Together {
        let before = RedisUsage::of(redis);
        let load = |gateway| Load::start(&Target::gateway(gateway), IN_FLIGHT / self.gateways.len(), seconds);
        let loads: Vec<Load> = self.gateways.iter().map(load).collect();
        let runs: Vec<Run> = loads.into_iter().map(Load::finish).collect();
        upstream.settle();
        let decisions = runs.iter().map(|run| run.requests).sum();
        let (calls, redis_cpu_us) = RedisUsage::of(redis).since(&before, decisions);
        let worst = |figure: fn(&Run) -> f64| runs.iter().map(figure).fold(0.0, f64::max);
        Together {
            per_second: runs.iter().map(|run| run.per_second).sum(),
            calls,
            redis_cpu_us,
            cpu_us: runs.iter().map(|run| run.cpu_us * run.requests as f64).sum::<f64>() / decisions as f64,
            p50_ms: worst(|run| run.p50_ms),
            p99_ms: worst(|run| run.p99_ms),
            p999_ms: worst(|run| run.p999_ms),
        }
    }
}
