//! One request at a time: what a decision in Redis adds, against one round trip to that Redis.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Instant,
};

use slidegate_tests::redis_server::RedisServer;

use super::{REDIS, Subject, USERS, WITHOUT};
use crate::{
    Effort,
    sample::{median, percentile},
    table::{Table, number},
};

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// A kept connection to something that answers each request with as many bytes as the first.
struct Line {
    stream: TcpStream,
    answer: Vec<u8>,
}

/// Microseconds of one round, a figure for each place.
struct Round {
    ping: f64,
    without: f64,
    with: f64,
}

/// A number from a round.
type Figure = fn(&Round) -> f64;

/// Microseconds at the median, and what is left of the difference after a round trip.
pub(super) fn measure(effort: &Effort, subjects: &[Subject], redis: &RedisServer) -> Table {
    let listen = |name: &str| subjects.iter().find(|subject| subject.name == name).expect("a gateway of this name").gateway.listen();
    let (rounds, count) = (effort.of(2, 15), effort.of(100, 1_000));
    let mut ping = Line::connect(SocketAddr::from(([127, 0, 0, 1], redis.port())));
    let (mut without, mut with) = (Line::connect(listen(WITHOUT)), Line::connect(listen(REDIS)));
    let mut measured = Vec::new();
    for round in 0..=rounds {
        let p50 = |line: &mut Line, request: &dyn Fn(usize) -> Vec<u8>| median((0..count).map(|n| line.ask(&request(n))));
        let figures = Round { ping: p50(&mut ping, &|_| PING.to_vec()), without: p50(&mut without, &get), with: p50(&mut with, &get) };
        // The first round warms everything up.
        if round > 0 {
            measured.push(figures);
        }
    }
    let note = format!(
        "Microseconds, one request at a time on a kept connection: medians of {rounds} rounds of {count} requests to each place, in turns; \
         differences within a round. To reach: 30 above the round trip."
    );
    let mut table = Table::new("Latency of a decision", note, &["what", "p50", "least round", "worst round"]);
    let rows: [(&str, Figure); 5] = [
        ("round trip to Redis, PING", |round| round.ping),
        ("gateway without limiter", |round| round.without),
        ("gateway with the limit in Redis", |round| round.with),
        ("added by the decision", |round| round.with - round.without),
        ("added, less the round trip", |round| round.with - round.without - round.ping),
    ];
    for (name, figure) in rows {
        let of = |share: f64| number(percentile(measured.iter().map(figure), share), 0);
        table.row([name.to_owned(), of(0.5), of(0.0), of(1.0)]);
    }
    table
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
