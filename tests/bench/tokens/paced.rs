//! Hundreds of streams at once from a model that takes its time between events, as models do: whether all of it still
//! comes through, how much later, and for how much CPU.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener as StdTcpListener},
    sync::LazyLock,
    time::{Duration, Instant},
};

use slidegate_tests::{background_server::BackgroundServer, gateway_process::Gateway, redis_server::RedisServer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::{Builder, Runtime},
    task::JoinSet,
    time::{self, MissedTickBehavior},
};

use super::{ASKED, REQUESTS, TOKENS};
use crate::{
    Effort,
    load::cpu_seconds,
    sample::{median, percentile},
    table::{Table, number, thousands},
};

/// Streams at once, and how many events each has in a second.
const STREAMS: usize = 400;
const EVENTS_PER_SECOND: u64 = 50;

/// What an event begins with, before the time at which it was sent: so many digits.
const STAMP: &str = "\"sent\":";
const STAMP_DIGITS: usize = 12;

/// Model and client are one process and have one clock.
static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

struct Place {
    name: &'static str,
    gateway: Gateway,
    rounds: Vec<Round>,
}

/// What one round found.
struct Round {
    events_per_second: f64,
    bytes_per_second: f64,
    /// Share of a core that the gateway took.
    cpu: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// What a client got of a stream.
#[derive(Default)]
struct Got {
    bytes: usize,
    delays_us: Vec<f64>,
}

pub(crate) fn measure(effort: &Effort) -> Table {
    let redis = RedisServer::start();
    let events = effort.of(20, 200) as u64;
    let clients = runtime();
    let server = BackgroundServer::start(clients.block_on(async { listener() }), move |it| model(it, events));
    let place = |name, filter: Option<&str>| {
        let filter = filter.map(|filter| format!("redis: {}\nfilter: {filter}\n", redis.url())).unwrap_or_default();
        let settings = format!("upstream: http://{}\nworkers: 1\nlog: {{access: false}}\n{filter}", server.address());
        Place { name, gateway: Gateway::serve(&settings), rounds: Vec::new() }
    };
    let mut places =
        [place("no limiter", None), place("limit on requests", Some(REQUESTS)), place("limit on tokens", Some(TOKENS))];
    let rounds = effort.of(1, 9);
    for round in 0..=rounds {
        for place in &mut places {
            let found = place.round(&clients, events);
            // The first warms everything up.
            if round > 0 {
                place.rounds.push(found);
            }
        }
    }
    table(&places, rounds)
}

fn table(places: &[Place; 3], rounds: usize) -> Table {
    let note = format!(
        "{STREAMS} streams at once through one worker, each of {EVENTS_PER_SECOND} events of some 200 bytes a second, \
         as a model paces them; model, clients, Redis and gateway share the machine. {rounds} rounds that take turns, \
         medians. The delay of an event is from the model's write to the client's read. To reach: 0.95 of the \
         throughput."
    );
    let head = ["", "events/s", "KB/s", "ratio", "CPU, % of a core", "CPU, µs an event", "delay p50, ms", "p99, ms"];
    let mut table = Table::new("Limits on tokens: many paced streams", note, &head);
    let [without, ..] = places;
    for place in places {
        let of = |figure: &dyn Fn(&Round) -> f64| median(place.rounds.iter().map(figure));
        let pairs = place.rounds.iter().zip(&without.rounds);
        let ratio = median(pairs.map(|(own, other)| own.bytes_per_second / other.bytes_per_second));
        table.row([
            place.name.to_owned(),
            thousands(of(&|round| round.events_per_second) as u64),
            thousands((of(&|round| round.bytes_per_second) / 1e3) as u64),
            number(ratio, 3),
            number(of(&|round| round.cpu * 100.0), 0),
            number(of(&|round| round.cpu * 1e6 / round.events_per_second), 1),
            number(of(&|round| round.p50_ms), 2),
            number(of(&|round| round.p99_ms), 2),
        ]);
    }
    table
}

impl Place {
    fn round(&self, clients: &Runtime, events: u64) -> Round {
        let (address, id) = (self.gateway.listen(), self.gateway.id());
        let (cpu, begun) = (cpu_seconds(id), Instant::now());
        let all = clients.block_on(async {
            let mut streams = JoinSet::new();
            for _ in 0..STREAMS {
                streams.spawn(read(address));
            }
            streams.join_all().await
        });
        let (seconds, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds(id) - cpu);
        let bytes: usize = all.iter().map(|got| got.bytes).sum();
        let delays_us: Vec<f64> = all.into_iter().flat_map(|got| got.delays_us).collect();
        assert_eq!(delays_us.len() as u64, events * STREAMS as u64, "events came");
        Round {
            events_per_second: delays_us.len() as f64 / seconds,
            bytes_per_second: bytes as f64 / seconds,
            cpu: cpu / seconds,
            p50_ms: percentile(delays_us.iter().copied(), 0.5) / 1e3,
            p99_ms: percentile(delays_us, 0.99) / 1e3,
        }
    }
}

/// One that takes all connections at once: a gateway that hears of many admissions together makes as many, and a second
/// goes by until one that was not taken is tried again.
fn listener() -> StdTcpListener {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
    let listener = socket.listen(2 * STREAMS as u32).expect("it listens");
    listener.into_std().expect("a socket")
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime can be built")
}

/// One stream to its end.
async fn read(gateway: SocketAddr) -> Got {
    let mut socket = TcpStream::connect(gateway).await.expect("the gateway accepts");
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{ASKED}",
        ASKED.len()
    );
    socket.write_all(request.as_bytes()).await.expect("the gateway reads");
    let (mut got, mut rest) = (Got::default(), Vec::new());
    loop {
        rest.reserve(16 << 10);
        let read = socket.read_buf(&mut rest).await.expect("the gateway answers");
        if read == 0 {
            return got;
        }
        got.bytes += read;
        let now_us = now_us();
        let mut from = 0;
        while let Some(at) = find(&rest[from..], STAMP.as_bytes()) {
            let digits = from + at + STAMP.len();
            let Some(stamp) = rest.get(digits..digits + STAMP_DIGITS) else { break };
            let sent_us: u64 = str::from_utf8(stamp).ok().and_then(|text| text.parse().ok()).expect("a stamp");
            got.delays_us.push((now_us - sent_us) as f64);
            from = digits + STAMP_DIGITS;
        }
        let kept = from.max(rest.len().saturating_sub(STAMP.len() + STAMP_DIGITS));
        rest.drain(..kept);
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn now_us() -> u64 {
    u64::try_from(BEGUN.elapsed().as_micros()).expect("a short while")
}

/// A model whose streams have so many events.
async fn model(listener: TcpListener, events: u64) {
    for seat in 0.. {
        let (socket, _) = listener.accept().await.expect("descriptors for all");
        socket.set_nodelay(true).expect("a socket");
        tokio::spawn(serve(socket, events, seat));
    }
}

/// Answers one request after the other. Nobody waits for it when it has failed: the client counts its events.
async fn serve(mut socket: TcpStream, events: u64, seat: u64) -> Option<()> {
    let pause = Duration::from_millis(1_000 / EVENTS_PER_SECOND);
    let mut asked = Vec::new();
    loop {
        asked.clear();
        while !asked.ends_with(ASKED.as_bytes()) {
            if socket.read_buf(&mut asked).await.ok()? == 0 {
                return None;
            }
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        socket.write_all(head.as_bytes()).await.ok()?;
        // Not all at the same moment.
        let first = time::Instant::now() + pause * u32::try_from(seat % 20).ok()? / 20;
        let mut ticks = time::interval_at(first, pause);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for event in 0..events {
            ticks.tick().await;
            let text = format!(
                "data: {{\"id\":\"chatcmpl-{seat:04}\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\",{STAMP}{:0STAMP_DIGITS$},\
                 \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"word{event:06} \
                 \"}},\"finish_reason\":null}}]}}\n\n",
                now_us()
            );
            socket.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await.ok()?;
        }
        let end = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":300,\"total_tokens\":320}}\n\ndata: [DONE]\n\n";
        socket.write_all(format!("{:x}\r\n{end}\r\n0\r\n\r\n", end.len()).as_bytes()).await.ok()?;
    }
}
