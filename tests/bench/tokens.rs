//! Limits on tokens, at the gateway as it ships: what reading a stream takes, what the first token waits, what settling
//! asks of Redis, and how many answers are charged right.

mod paced;

use std::time::Instant;

use slidegate_engine::tokens::{Usage, UsageReader};
use slidegate_engine_tests::answers;
use slidegate_tests::{
    gateway_process::{Gateway, wait_until},
    http_client::HttpClient,
    raw_upstream::{RawConnection, RawUpstream},
    redis_server::RedisServer,
};

use crate::{
    Effort,
    load::cpu_seconds,
    redis_usage::RedisUsage,
    sample::{median, percentile},
    table::{Table, number, thousands},
};

const ASKED: &str = r#"{"model":"m","stream":true}"#;

/// What is sent at a time of a long stream: some events that came together.
const PIECE: usize = 4_000;

/// Limits on tokens that nobody reaches, and one on requests, which asks Redis and reads no answer.
const TOKENS: &str = "{rule_name: tokens, global_threshold: {token_per_hour: 1000000000000}, reserve: 100}";
/// The same, but what is given back of a reservation is an eighth of the limit, and hardly waits for a question.
const URGENT: &str = "{rule_name: tokens, global_threshold: {token_per_hour: 1000000000000}, reserve: 130000000000}";
const REQUESTS: &str = "{rule_name: requests, global_threshold: {query_per_hour: 1000000000000}}";

/// A gateway, and what was found of it in each round.
struct Place {
    name: &'static str,
    gateway: Gateway,
    rounds: Vec<Round>,
}

/// What one round found.
struct Round {
    /// Of long streams: bytes a second, and the gateway's CPU for 100 bytes in microseconds.
    bytes_per_second: f64,
    cpu_us: f64,
    /// Until the first event of a short one, in microseconds.
    first_us: f64,
    /// Of one short stream after the other: scripts that Redis ran for each, and its CPU in microseconds.
    calls: f64,
    redis_cpu_us: f64,
}

pub(crate) fn measure(effort: &Effort) -> Vec<Table> {
    let redis = RedisServer::start();
    let long = stream(effort.of(1_000, 20_000));
    let bytes = long.len();
    let upstream = RawUpstream::start(move |connection| serve(&long, connection));
    let place = |name, filter: Option<&str>| {
        let filter = filter.map(|filter| format!("redis: {}\nfilter: {filter}\n", redis.url())).unwrap_or_default();
        let settings = format!("upstream: {}\nworkers: 1\nlog: {{access: false}}\n{filter}", upstream.url());
        Place { name, gateway: Gateway::serve(&settings), rounds: Vec::new() }
    };
    let mut places = [
        place("no limiter", None),
        place("limit on requests", Some(REQUESTS)),
        place("limit on tokens", Some(TOKENS)),
        place("the same, an eighth of it given back", Some(URGENT)),
    ];
    let (rounds, long, short) = (effort.of(1, 9), effort.of(2, 10), effort.of(50, 1_000));
    // The first round warms everything up.
    for round in 0..=rounds {
        for place in &mut places {
            let found = place.round(&redis, bytes, long, short);
            if round > 0 {
                place.rounds.push(found);
            }
        }
    }
    vec![gateway(&places, bytes, rounds, short), paced::measure(effort), charged()]
}

fn gateway(places: &[Place; 4], bytes: usize, rounds: usize, short: usize) -> Table {
    let note = format!(
        "One client, one worker; {rounds} rounds that take turns, medians, and differences and ratios within a round. \
         Throughput and CPU are of streams of {} KB in events of 120 bytes that tell no usage before their end, \
         {PIECE} bytes at a time; the first event, and what Redis runs, of {short} short ones, one after the other, \
         which tell 320 tokens. To reach: the first event 100 µs later at most than with a limit on requests, which \
         waits for Redis as well; 0.95 of the throughput; 2 µs of guest for 100 bytes; one call for each request, as \
         settlements go with the next question.",
        bytes / 1_000
    );
    let head = [
        "",
        "MB/s",
        "ratio",
        "CPU, µs in 100 bytes",
        "added",
        "first event, µs",
        "added",
        "Redis calls each",
        "Redis CPU, µs",
    ];
    let mut table = Table::new("Limits on tokens", note, &head);
    let [without, ..] = places;
    for place in places {
        let of = |figure: &dyn Fn(&Round) -> f64| median(place.rounds.iter().map(figure));
        let against = |figure: &dyn Fn(&Round, &Round) -> f64| {
            median(place.rounds.iter().zip(&without.rounds).map(|(own, other)| figure(own, other)))
        };
        table.row([
            place.name.to_owned(),
            number(of(&|round| round.bytes_per_second / 1e6), 0),
            number(against(&|own, other| own.bytes_per_second / other.bytes_per_second), 2),
            number(of(&|round| round.cpu_us), 3),
            number(against(&|own, other| own.cpu_us - other.cpu_us), 3),
            number(of(&|round| round.first_us), 0),
            number(against(&|own, other| own.first_us - other.first_us), 0),
            number(of(&|round| round.calls), 2),
            number(of(&|round| round.redis_cpu_us), 1),
        ]);
    }
    table
}

/// Of the answers in tests/answers, those that are charged what the provider bills.
fn charged() -> Table {
    let answers = answers::all();
    let told: Vec<_> = answers.iter().filter_map(|answer| Some((read(&answer.body), answer.usage?))).collect();
    let note = "The answers of tests/answers that tell a usage, read here; a test charges them on every host. Right is \
                what the provider bills. Stock's arithmetic is input and output as the provider names them (`charge: \
                stock`), read as well as ours are: its plugin charges a compressed answer, or one in several pieces, \
                nothing.";
    let mut table = Table::new("Answers charged what the provider bills", note, &["", "right", "of", "tokens"]);
    let mut row = |name: &str, charge: &dyn Fn(&Usage) -> u64| {
        let charged: Vec<u64> = told.iter().map(|(read, _)| read.as_ref().map_or(0, charge)).collect();
        let right = charged.iter().zip(&told).filter(|(charged, (_, bill))| **charged == bill.billed()).count();
        let tokens = thousands(charged.iter().sum());
        table.row([name.to_owned(), right.to_string(), told.len().to_string(), tokens]);
    };
    row("billed", &Usage::billed);
    row("stock's arithmetic", &|usage| usage.stock);
    table
}

/// What an answer tells, read as it comes.
fn read(body: &[u8]) -> Option<Usage> {
    let mut reader = UsageReader::default();
    body.chunks(PIECE).for_each(|piece| reader.feed(piece));
    reader.usage()
}

// === impl Place ===

impl Place {
    fn round(&self, redis: &RedisServer, bytes: usize, long: usize, short: usize) -> Round {
        let mut client = self.gateway.client();
        let (cpu, begun) = (cpu_seconds(self.gateway.id()), Instant::now());
        for _ in 0..long {
            let answer = client.send("POST", "/long", &[], ASKED.as_bytes());
            assert!(answer.status() == 200 && answer.body.len() == bytes, "{:?}", answer.head);
        }
        let (seconds, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds(self.gateway.id()) - cpu);
        let before = RedisUsage::of(redis);
        let first: Vec<f64> = (0..short).map(|_| first_event_us(&mut client)).collect();
        let open = "slidegate_token_reservations_open";
        wait_until("all is settled", || self.gateway.metrics().sum(open, &[]) == 0.0);
        let (calls, redis_cpu_us) = RedisUsage::of(redis).since(&before, short as u64);
        let total = (bytes * long) as f64;
        Round {
            bytes_per_second: total / seconds,
            cpu_us: cpu * 1e6 / total * 100.0,
            first_us: percentile(first, 0.5),
            calls,
            redis_cpu_us,
        }
    }
}

/// Asks for a short stream and reads it to its end: microseconds to the first of it.
fn first_event_us(client: &mut HttpClient) -> f64 {
    let request = format!("POST /short HTTP/1.1\r\nhost: a.test\r\ncontent-length: {}\r\n\r\n{ASKED}", ASKED.len());
    let begun = Instant::now();
    client.write(request.as_bytes()).expect("the gateway reads");
    let head = client.read_head().expect("an answer");
    let mut first = None;
    let read = client.read_body("POST", &head, |_| {
        first.get_or_insert_with(|| begun.elapsed());
    });
    assert!(read.is_ok() && head.status == 200, "{head:?}");
    first.expect("a body").as_nanos() as f64 / 1e3
}

/// A stream of OpenAI's of so many events, which tells its usage at its end.
fn stream(events: usize) -> Vec<u8> {
    let mut text = String::new();
    for event in 0..events {
        text += &format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"word{event:06} \"}}}}]}}\n\n"
        );
    }
    text += "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":300,\"total_tokens\":320}}\n\ndata: [DONE]\n\n";
    text.into_bytes()
}

/// The long stream or a short one, as the path says.
fn serve(long: &[u8], mut connection: RawConnection) {
    let short = stream(3);
    while let Some(head) = connection.read_head() {
        connection.read(ASKED.len());
        let body = if head.starts_with("POST /long ") { long } else { &short };
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut is_taken = connection.write(head.as_bytes());
        for piece in body.chunks(PIECE) {
            is_taken &= connection.write(&[format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
        }
        if !is_taken || !connection.write(b"0\r\n\r\n") {
            return;
        }
    }
}
