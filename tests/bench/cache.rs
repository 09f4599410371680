//! Responses that are kept in Redis, at the gateway as it ships: what is stored, what is fetched, what outlives its
//! upstream and what only passes, beside nginx' `proxy_cache` and Varnish, whose caches are their own memory's.

mod outage;
mod systems;

use std::net::{Ipv4Addr, SocketAddr};

use slidegate_tests::{http_client::HttpClient, redis_server::RedisServer};

use self::systems::{HOST, Kept, KeptBy, PAGES, Traffic, page};
use crate::{
    Effort,
    line::{Line, PING},
    load::Run,
    redis_usage::RedisUsage,
    sample::median,
    table::{Table, number, thousands},
    upstream::Upstream,
};

/// Requests in flight, where there are many.
const CONNECTIONS: usize = 32;

/// What a body has, in thousands of bytes.
const SIZES: [usize; 3] = [1, 10, 100];

/// As large as one may be that is kept.
const LARGEST: usize = 980;

/// Bodies of another size are not loaded, but asked for one at a time.
const ALONE_ONLY: [(Traffic, KeptBy); 2] = [(Traffic::Proxied, KeptBy::Redis), (Traffic::Hit, KeptBy::Redis)];

/// What a system does with one kind of request, and what was found of it.
struct Subject {
    kept_by: KeptBy,
    traffic: Traffic,
    kilobytes: usize,
    rounds: Vec<Round>,
}

/// What one round found.
struct Round {
    run: Run,
    /// Of each request: commands that Redis ran, and its CPU time in microseconds.
    commands: f64,
    redis_cpu_us: f64,
    /// One request at a time: the median, in microseconds.
    alone_us: f64,
}

/// What is measured in front of.
struct Scene {
    redis: RedisServer,
    upstream: Upstream,
    kept: Kept,
}

/// Throughput, CPU time and latency, and what they ask of Redis; and what clients see of an outage.
pub(crate) fn measure(effort: &Effort) -> Vec<Table> {
    let (redis, upstream) = (RedisServer::start(), Upstream::answering(0, page));
    let kept = Kept::start(&redis, &upstream);
    let scene = Scene { redis, upstream, kept };
    let mut tables: Vec<Table> = SIZES.iter().map(|kilobytes| scene.table(effort, *kilobytes)).collect();
    tables.extend([scene.largest(effort), outage::measure(effort)]);
    tables
}

// === impl Scene ===

impl Scene {
    fn table(&self, effort: &Effort, kilobytes: usize) -> Table {
        let (rounds, seconds, alone) = (effort.of(1, 5), 1, effort.of(100, 1_000));
        let subject = |(traffic, kept_by)| Subject { kept_by, traffic, kilobytes, rounds: Vec::new() };
        let mut subjects: Vec<Subject> = Traffic::ALL
            .into_iter()
            .flat_map(|traffic| KeptBy::ALL.map(|kept_by| (traffic, kept_by)))
            .filter(|(traffic, kept_by)| *traffic != Traffic::Proxied || *kept_by != KeptBy::Varnish)
            .map(subject)
            .collect();
        let mut pings = Vec::new();
        // The first is not counted: connections are made, pages are stored.
        for round in 0..=rounds {
            for subject in &mut subjects {
                let found = subject.round(self, round, seconds, alone);
                if round > 0 {
                    subject.rounds.push(found);
                }
            }
            pings.push(self.ping(alone));
        }
        let note = format!(
            "wrk with {CONNECTIONS} requests in flight for pages of {kilobytes},000 bytes; one worker each (Varnish \
             has threads), 2 cores for wrk, the system, the upstream and Redis together. Proxied: no cache is \
             configured. Hit: {PAGES} pages that are stored and fresh. Miss: pages that nobody has asked for, which \
             are stored. Stale: {PAGES} pages whose upstream refuses connections. Pass: what says `no-store`. \
             Medians of {rounds} rounds of {seconds} s that take turns; then {alone} requests one after the other, \
             whose median is in the last columns, and what that is more than proxied (of Varnish, than what passes). \
             Commands are as Redis counts them, those within scripts among them: a miss is three calls. A round trip \
             to Redis (PING) takes {} µs. To reach: 0.9 of what is proxied for hits of 1 KB; to add a round trip and \
             50 µs at 10 KB.",
            number(median(pings), 0)
        );
        let head = [
            "requests",
            "system",
            "requests/s",
            "÷ proxied",
            "CPU, µs",
            "p50, ms",
            "p99, ms",
            "commands each",
            "Redis CPU, µs",
            "alone, µs",
            "added, µs",
        ];
        let mut table = Table::new(&format!("Responses kept: {kilobytes} KB"), note, &head);
        for subject in &subjects {
            table.row(subject.cells(&subjects));
        }
        table
    }

    /// Bodies as large as they may be, one at a time.
    fn largest(&self, effort: &Effort) -> Table {
        let (rounds, alone) = (effort.of(1, 9), effort.of(10, 200));
        let mut found = ALONE_ONLY.map(|_| Vec::new());
        for _ in 0..rounds {
            for ((traffic, kept_by), found) in ALONE_ONLY.iter().zip(&mut found) {
                let subject = Subject { kept_by: *kept_by, traffic: *traffic, kilobytes: LARGEST, rounds: Vec::new() };
                subject.assert_does(self);
                found.push(subject.alone_us(self, alone));
            }
        }
        let note = format!(
            "Pages of {LARGEST},000 bytes, the most that is kept, one request after the other: medians of {rounds} \
             rounds of {alone}. To reach: less than a backend of 5 ms takes."
        );
        let mut table = Table::new("Responses kept: the largest", note, &["requests", "system", "alone, µs"]);
        for ((traffic, kept_by), found) in ALONE_ONLY.iter().zip(found) {
            table.row([traffic.name().to_owned(), kept_by.name_with(*traffic).to_owned(), number(median(found), 0)]);
        }
        table
    }

    fn ping(&self, count: usize) -> f64 {
        let mut line = Line::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.redis.port())));
        median((0..count).map(|_| line.ask(PING)))
    }
}

// === impl Subject ===

impl Subject {
    fn round(&self, scene: &Scene, round: usize, seconds: usize, alone: usize) -> Round {
        self.assert_does(scene);
        let mut target = scene.kept.running(self.kept_by, self.traffic).target().clone();
        target.is_each_new = self.traffic == Traffic::Miss;
        target.message = self.traffic.message(self.kilobytes, round);
        let asked = scene.upstream.requests();
        let before = RedisUsage::of(&scene.redis);
        let run = target.run(CONNECTIONS, seconds);
        let used = RedisUsage::of(&scene.redis);
        scene.upstream.settle();
        let reached = scene.upstream.requests() - asked;
        let what = format!(
            "{}, {}, {} KB: {run:?}, {reached} reached",
            self.traffic.name(),
            self.kept_by.name(),
            self.kilobytes
        );
        assert_eq!(run.not_2xx, 0, "{what}");
        match self.traffic {
            Traffic::Proxied | Traffic::Miss | Traffic::Pass => assert!(reached >= run.requests, "{what}"),
            // Those of the first round are stored by then.
            Traffic::Hit => assert!(round == 0 || reached == 0, "{what}"),
            Traffic::Stale => assert_eq!(reached, 0, "{what}"),
        }
        Round {
            run,
            commands: used.commands_since(&before, run.requests),
            redis_cpu_us: used.since(&before, run.requests).1,
            alone_us: self.alone_us(scene, alone),
        }
    }

    /// What ours says of itself is what is measured.
    fn assert_does(&self, scene: &Scene) {
        let expected = match (self.kept_by, self.traffic) {
            (KeptBy::Redis, Traffic::Hit) => "HIT",
            (KeptBy::Redis, Traffic::Stale) => "STALE",
            (KeptBy::Redis, Traffic::Miss | Traffic::Pass) => "MISS",
            _ => return,
        };
        let mut client = HttpClient::connect(self.address(scene));
        let mut ask = |which: String| client.get(&self.traffic.path(self.kilobytes, &which), &[("host", HOST)]);
        let is_miss = self.traffic == Traffic::Miss;
        let which = || if is_miss { format!("check/{}", scene.kept.another()) } else { "0".to_owned() };
        ask(which());
        let answer = ask(which());
        assert_eq!((answer.status(), answer.body.len()), (200, self.kilobytes * 1_000), "{:?}", answer.head);
        assert_eq!(answer.head.text("x-cache").as_deref(), Some(expected), "{:?}", answer.head);
    }

    fn address(&self, scene: &Scene) -> SocketAddr {
        scene.kept.running(self.kept_by, self.traffic).target().address
    }

    fn alone_us(&self, scene: &Scene, count: usize) -> f64 {
        let mut line = Line::connect(self.address(scene));
        let ask = |number: usize| {
            let which = match self.traffic {
                // Nobody asks for one twice.
                Traffic::Miss => format!("alone/{}/{number}", scene.kept.another()),
                _ => (number % PAGES).to_string(),
            };
            let path = self.traffic.path(self.kilobytes, &which);
            line.ask(format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes())
        };
        median((0..count).map(ask))
    }

    fn of(&self, figure: fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(figure))
    }

    /// A row of the table, beside the same system without a cache, or what comes closest to that.
    fn cells(&self, all: &[Subject]) -> Vec<String> {
        let plain = if self.kept_by == KeptBy::Varnish { Traffic::Pass } else { Traffic::Proxied };
        let base = all.iter().find(|other| other.kept_by == self.kept_by && other.traffic == plain);
        let base = base.expect("each is measured without");
        let each = |compare: fn(&Round, &Round) -> f64| {
            median(self.rounds.iter().zip(&base.rounds).map(|(with, without)| compare(with, without)))
        };
        let is_ours = self.kept_by == KeptBy::Redis && self.traffic != Traffic::Proxied;
        let of_redis = |figure: f64, digits| if is_ours { number(figure, digits) } else { String::new() };
        let added = each(|with, without| with.alone_us - without.alone_us);
        vec![
            self.traffic.name().to_owned(),
            self.kept_by.name_with(self.traffic).to_owned(),
            thousands(self.of(|round| round.run.per_second) as u64),
            number(each(|with, without| with.run.per_second / without.run.per_second), 2),
            number(self.of(|round| round.run.cpu_us), 1),
            number(self.of(|round| round.run.p50_ms), 2),
            number(self.of(|round| round.run.p99_ms), 2),
            of_redis(self.of(|round| round.commands), 2),
            of_redis(self.of(|round| round.redis_cpu_us), 1),
            number(self.of(|round| round.alone_us), 0),
            if self.traffic == plain { String::new() } else { number(added, 0) },
        ]
    }
}
