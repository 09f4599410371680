//! One request at a time: what a decision in Redis adds, against one round trip to that Redis.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Instant,
};

use slidegate_tests::redis_server::RedisServer;

use super::{CONNECTIONS, REDIS, Subject, WITHOUT};
use crate::{
    Effort,
    load::{Run, USERS},
    sample::percentile,
    table::{Table, number},
};

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// A kept connection to something that answers each request with as many bytes as the first.
struct Line {
    stream: TcpStream,
    answer: Vec<u8>,
}

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
        "Microseconds. At rest: one request at a time on a kept connection, {rounds} rounds of {count} requests to each place, in turns. \
         Overloaded: the runs of the table of throughput, {CONNECTIONS} requests in flight and as much load as the gateway answers. Medians of the rounds' \
         percentiles, differences within a round. To reach: 30 above the round trip, at p50 and at rest."
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

impl Line {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        stream.set_nodelay(true).expect("a TCP socket takes the option");
        Line { stream, answer: vec![0; 4 << 10] }
    }

    /// Sends a request and reads its answer, which fits one segment; returns microseconds.
    fn ask(&mut self, request: &[u8]) -> f64 {
        let begun = Instant::now();
        self.stream.write_all(request).expect("the connection stays open");
        let mut length = 0;
        while !is_whole(&self.answer[..length]) {
            let read = self.stream.read(&mut self.answer[length..]).expect("the connection stays open");
            assert!(read > 0, "the connection was closed after {length} bytes");
            length += read;
        }
        let us = begun.elapsed().as_nanos() as f64 / 1_000.0;
        let answer = &self.answer[..length];
        assert!(answer.starts_with(b"+PONG") || answer.starts_with(b"HTTP/1.1 200"), "{}", answer.escape_ascii());
        us
    }
}

/// `+PONG`, or the upstream's only answer.
fn is_whole(answer: &[u8]) -> bool {
    answer == b"+PONG\r\n"
        || answer.ends_with(b"\r\n\r\nhello\n")
        || answer.len() > 6 && !answer.starts_with(b"HTTP/1.1 200") && answer[0] != b'+'
}
