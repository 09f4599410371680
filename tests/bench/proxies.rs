//! Other proxies that ask the gateway for decisions, configured as its README shows it: what that adds to each of them,
//! beside asking for nothing, and beside an answer that nothing is counted for.

use std::net::SocketAddr;

use slidegate_tests::{
    asking_proxies::{Surroundings, envoy_over_http, envoy_with, shown},
    gateway_process::{Gateway, indented, wait_until},
    http_client::HttpClient,
    program::Program,
    redis_server::RedisServer,
};

use crate::{
    Effort,
    gateway::{WIDE, filter},
    line::{Line, PING},
    load::{Run, Target, USERS},
    sample::median,
    table::{Table, number, thousands},
    upstream::Upstream,
};

/// Requests in flight, where there are many.
const CONNECTIONS: usize = 32;

/// Whom a proxy asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// Nobody.
    None,
    /// A gateway without a filter.
    Trivial,
    /// One that counts each user's requests in Redis.
    Redis,
}

/// A proxy, and the way it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    EnvoyGrpc,
    EnvoyHttp,
    EnvoyRateLimit,
    Nginx,
    Caddy,
    Traefik,
    HaProxy,
}

struct Subject {
    way: Way,
    decision: Decision,
    proxy: Program,
    rounds: Vec<Round>,
}

/// What one round found.
struct Round {
    /// One request at a time: the median, in microseconds.
    alone_us: f64,
    run: Run,
}

/// Latency and throughput of each proxy, by whom it asks.
pub(crate) fn measure(effort: &Effort) -> Vec<Table> {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let names = indented(&format!("names: {{redis.static: \"{}\"}}", redis.url()));
    let each = filter::in_redis(&filter::each(WIDE), "each");
    let head = format!("decide: {{listen: 127.0.0.1:0, refuse_with: 403}}\nlog: {{access: false}}\nredis:\n{names}");
    let trivial = Gateway::serve(&head);
    let counting = Gateway::serve(&format!("{head}filter: {each}\n"));
    let start = |(way, decision): (Way, Decision)| {
        let gateway = if decision == Decision::Redis { &counting } else { &trivial };
        let ports = Surroundings { decide: gateway.decide().port(), upstream: upstream.address().port() };
        let proxy = way.start(decision, &ports);
        // Some listen before they know where requests go.
        wait_until("requests are passed on", || HttpClient::connect(proxy.address()).get("/", &[]).status() == 200);
        Subject { way, decision, proxy, rounds: Vec::new() }
    };
    let mut subjects: Vec<Subject> =
        Way::ALL.into_iter().flat_map(|way| Decision::ALL.map(|decision| (way, decision))).map(start).collect();
    let (rounds, seconds, count) = (effort.of(1, 5), 1, effort.of(100, 1_000));
    let mut pings = Vec::new();
    // The first is not counted: connections are made.
    for round in 0..=rounds {
        for subject in &mut subjects {
            let found = subject.round(seconds, count);
            if round > 0 {
                subject.rounds.push(found);
            }
        }
        let redis = SocketAddr::from(([127, 0, 0, 1], redis.port()));
        pings.push(median_us(&mut Line::connect(redis), count, |_| PING.to_vec()));
    }
    vec![table(&subjects, median(pings), rounds, count)]
}

fn table(subjects: &[Subject], ping_us: f64, rounds: usize, count: usize) -> Table {
    let note = format!(
        "Proxies as host/README.md configures them, with one thread that serves (Caddy and Traefik have as many as \
         they want). Nobody: the proxy asks for nothing. Trivial: it asks a gateway without a filter. Redis: one that \
         counts the requests of each of {USERS} users there; a round trip to it (PING) takes {} µs. Medians of \
         {rounds} rounds that take turns: {count} requests one after the other on a kept connection, microseconds; \
         then wrk with {CONNECTIONS} connections for a second, on the same two cores as all else. Added: to what it \
         takes if nobody is asked. Above: what Redis takes more than trivial, less a round trip. To reach: 60 above \
         for Envoy in gRPC, 150 added for nginx.",
        number(ping_us, 0)
    );
    let head = ["proxy", "asks", "alone, µs", "added, µs", "above, µs", "requests/s", "÷ nobody", "p99, ms"];
    let mut table = Table::new("Decisions for other proxies", note, &head);
    for subject in subjects {
        let other = |decision: Decision| {
            let is_other = |other: &&Subject| other.way == subject.way && other.decision == decision;
            subjects.iter().find(is_other).expect("each proxy is measured in all ways")
        };
        let less = |decision: Decision, figure: fn(&Round) -> f64| {
            median(subject.rounds.iter().zip(&other(decision).rounds).map(|(one, two)| figure(one) - figure(two)))
        };
        let of = |figure: fn(&Round) -> f64| median(subject.rounds.iter().map(figure));
        let is_asking = subject.decision != Decision::None;
        let is_counting = subject.decision == Decision::Redis;
        let shown = |is_shown: bool, text: String| if is_shown { text } else { String::new() };
        let per_second = |round: &Round| round.run.per_second;
        let ratio = of(per_second) / median(other(Decision::None).rounds.iter().map(per_second));
        table.row([
            subject.way.name().to_owned(),
            subject.decision.name().to_owned(),
            number(of(|round| round.alone_us), 0),
            shown(is_asking, number(less(Decision::None, |round| round.alone_us), 0)),
            shown(is_counting, number(less(Decision::Trivial, |round| round.alone_us) - ping_us, 0)),
            thousands(of(per_second) as u64),
            shown(is_asking, number(ratio, 2)),
            number(of(|round| round.run.p99_ms), 2),
        ]);
    }
    table
}

/// The median of so many requests, one after the other.
fn median_us(line: &mut Line, count: usize, request: impl Fn(usize) -> Vec<u8>) -> f64 {
    median((0..count).map(|n| line.ask(&request(n))).collect::<Vec<f64>>())
}

fn get(n: usize) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nhost: shop.test\r\nx-api-key: user-{:06}\r\n\r\n", n % USERS).into_bytes()
}

// === impl Subject ===

impl Subject {
    fn round(&self, seconds: usize, count: usize) -> Round {
        let alone_us = median_us(&mut Line::connect(self.proxy.address()), count, get);
        let run = Target::proxy(self.proxy.address(), self.proxy.id()).run(CONNECTIONS, seconds);
        assert_eq!(run.not_2xx, 0, "{:?} {:?}: all requests pass", self.way, self.decision);
        Round { alone_us, run }
    }
}

// === impl Decision ===

impl Decision {
    const ALL: [Decision; 3] = [Decision::None, Decision::Trivial, Decision::Redis];

    fn name(self) -> &'static str {
        match self {
            Decision::None => "nobody",
            Decision::Trivial => "trivial",
            Decision::Redis => "Redis",
        }
    }
}

// === impl Way ===

impl Way {
    const ALL: [Way; 7] =
        [Way::EnvoyGrpc, Way::EnvoyHttp, Way::EnvoyRateLimit, Way::Nginx, Way::Caddy, Way::Traefik, Way::HaProxy];

    fn name(self) -> &'static str {
        match self {
            Way::EnvoyGrpc => "Envoy, ext_authz in gRPC",
            Way::EnvoyHttp => "Envoy, ext_authz over HTTP",
            Way::EnvoyRateLimit => "Envoy, rate limit service",
            Way::Nginx => "nginx, auth_request",
            Way::Caddy => "Caddy",
            Way::Traefik => "Traefik, ForwardAuth",
            Way::HaProxy => "HAProxy, Lua",
        }
    }

    /// A proxy that passes on what it may, or whatever comes if it asks nobody.
    fn start(self, decision: Decision, ports: &Surroundings) -> Program {
        let is_asking = decision != Decision::None;
        match self {
            _ if !is_asking && matches!(self, Way::EnvoyGrpc | Way::EnvoyHttp | Way::EnvoyRateLimit) => {
                ports.envoy(&envoy_over_http(""))
            }
            Way::EnvoyGrpc => ports.envoy(&shown("envoy")),
            Way::EnvoyHttp => ports.envoy(&envoy_over_http(&shown("envoy http"))),
            Way::EnvoyRateLimit => {
                let by_user = "actions: [{request_headers: {header_name: x-api-key, descriptor_key: x-api-key}}]";
                let by_address = "actions: [{remote_address: {}}, {generic_key: {descriptor_value: orders}}]";
                let text = shown("envoy rate limit");
                assert!(text.contains(by_address), "README has another descriptor");
                ports.envoy(&envoy_with(&text.replace(by_address, by_user)))
            }
            Way::Nginx if is_asking => ports.nginx(&shown("nginx")),
            Way::Nginx => ports.nginx(&without(&shown("nginx"), &["auth_request", "add_header", "error_page"])),
            Way::Caddy if is_asking => ports.caddy(&shown("caddy")),
            Way::Caddy => ports.caddy("http://:8000 {\n\tbind 127.0.0.1\n\treverse_proxy 127.0.0.1:9001\n}\n"),
            Way::Traefik if is_asking => ports.traefik(&shown("traefik")),
            Way::Traefik => ports.traefik(&shown("traefik").replace("middlewares: [slidegate], ", "")),
            Way::HaProxy if is_asking => ports.haproxy(&shown("haproxy")),
            Way::HaProxy => ports.haproxy(&without(&shown("haproxy"), &["http-re", "lua-load"])),
        }
    }
}

/// A text without the lines that have one of these in them.
fn without(text: &str, signs: &[&str]) -> String {
    let is_left = |line: &&str| !signs.iter().any(|sign| line.contains(sign));
    text.split_inclusive('\n').filter(is_left).collect()
}
