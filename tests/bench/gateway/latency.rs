//! One request at a time: what a decision in Redis adds, against one round trip to that Redis.

use std::net::SocketAddr;

use slidegate_tests::redis_server::RedisServer;

use super::{CONNECTIONS, REDIS, Subject, WITHOUT};
use crate::{
    Effort,
    line::{Line, PING},
    load::{Run, USERS},
    sample::percentile,
    table::{Table, number},
};

/// p50, p99 and p99.9 of one round, microseconds.
type Figures = [f64; 3];

const SHARES: Figures = [0.5, 0.99, 0.999];

/// What one round found, at each place.
struct Round {
    ping: Figures,
    without: Figures,
    with: Figures,
}

/// Something of a round, at one of the percentiles.
type Part = fn(&Round, usize) -> f64;

/// Microseconds at rest, and what is left of the difference after a round trip; and under as much load as the gateways
/// answer.
pub(super) fn measure(effort: &Effort, subjects: &[Subject], redis: &RedisServer) -> Table {
    let find = |name: &str| subjects.iter().find(|subject| subject.name == name).expect("a gateway of this name");
    let (rounds, count) = (effort.of(2, 15), effort.of(100, 1_000));
    let rest = at_rest(rounds, count, redis, find(WITHOUT).gateway.listen(), find(REDIS).gateway.listen());
    let overload = overloaded(find(WITHOUT), find(REDIS));
    let note = format!(
        "Microseconds. At rest: one request at a time on a kept connection, {rounds} rounds of {count} requests to \
         each place, in turns. Overloaded: the runs of the table of throughput, {CONNECTIONS} requests in flight and \
         as much load as the gateway answers. Medians of the rounds' percentiles, differences within a round. To \
         reach: 30 above the round trip, at p50 and at rest."
    );
    let mut table =
        Table::new("Latency of a decision", note, &["what", "p50", "p99", "p99.9", "least p50", "worst p50"]);
    let rows: [(&str, &[Round], Part); 8] = [
        ("at rest: round trip to Redis, PING", &rest, |round, at| round.ping[at]),
        ("at rest: gateway without limiter", &rest, |round, at| round.without[at]),
        ("at rest: gateway with the limit in Redis", &rest, |round, at| round.with[at]),
        ("at rest: added by the decision", &rest, |round, at| round.with[at] - round.without[at]),
        ("at rest: added, less the round trip", &rest, |round, at| round.with[at] - round.without[at] - round.ping[at]),
        ("overloaded: gateway without limiter", &overload, |round, at| round.without[at]),
        ("overloaded: gateway with the limit in Redis", &overload, |round, at| round.with[at]),
        ("overloaded: added by the decision", &overload, |round, at| round.with[at] - round.without[at]),
    ];
    for (name, rounds, part) in rows {
        let of = |at: usize, share: f64| number(percentile(rounds.iter().map(|round| part(round, at)), share), 0);
        table.row([name.to_owned(), of(0, 0.5), of(1, 0.5), of(2, 0.5), of(0, 0.0), of(0, 1.0)]);
    }
    table
}

fn at_rest(rounds: usize, count: usize, redis: &RedisServer, without: SocketAddr, with: SocketAddr) -> Vec<Round> {
    let mut ping = Line::connect(SocketAddr::from(([127, 0, 0, 1], redis.port())));
    let (mut without, mut with) = (Line::connect(without), Line::connect(with));
    let figures = |line: &mut Line, request: &dyn Fn(usize) -> Vec<u8>| {
        let times: Vec<f64> = (0..count).map(|n| line.ask(&request(n))).collect();
        SHARES.map(|share| percentile(times.iter().copied(), share))
    };
    let mut round = || Round {
        ping: figures(&mut ping, &|_| PING.to_vec()),
        without: figures(&mut without, &get),
        with: figures(&mut with, &get),
    };
    // The first round warms everything up.
    round();
    (0..rounds).map(|_| round()).collect()
}

fn overloaded(without: &Subject, with: &Subject) -> Vec<Round> {
    let figures = |run: &Run| [run.p50_ms, run.p99_ms, run.p999_ms].map(|ms| ms * 1e3);
    let pairs = without.runs.iter().zip(&with.runs);
    pairs.map(|(without, with)| Round { ping: [0.0; 3], without: figures(without), with: figures(with) }).collect()
}

fn get(n: usize) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nhost: shop.example.com\r\nx-api-key: user-{:06}\r\n\r\n", n % USERS).into_bytes()
}
