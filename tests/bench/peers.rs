//! Other limiters that run here as whole systems, each as its users would run it, beside ours: same load, same
//! upstream, same machine, rounds that take turns. `just bench` installs them into `target/peers`.

pub(crate) mod lua;
pub(crate) mod systems;

use slidegate_tests::{http_client::HttpClient, redis_server::RedisServer};

use self::systems::{Running, System, Verdicts};
use crate::{
    Effort,
    gateway::NARROW,
    load::{Run, Target, USERS},
    sample::median,
    table::{Table, number, thousands},
    upstream::Upstream,
};

/// Requests in flight.
const CONNECTIONS: usize = 32;

/// A system, and what became of it.
struct Peer {
    system: System,
    running: Running,
    runs: Vec<Run>,
}

/// What they do with requests that pass, with requests that are over their limit, and what each leaves out.
pub(crate) fn measure(effort: &Effort) -> Vec<Table> {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let passing = "wrk with 32 requests in flight from 1,000 users whom no limit stops; 2 cores for wrk, the system, \
                   the upstream and Redis together. CPU is the system's own processes', per request; latencies are \
                   those of overload.";
    let refusing =
        "The same, of users who are all at their limit: 2 in an hour, or the nearest that a system can express.";
    let table = |verdicts, title, note: &str| {
        let mut peers: Vec<Peer> =
            System::all(verdicts).map(|system| Peer::start(system, verdicts, &redis, &upstream)).collect();
        let (rounds, seconds) = (effort.of(1, 3), effort.of(1, 2));
        for round in 0..=rounds {
            for peer in &mut peers {
                let run = peer.run(verdicts, &upstream, if round == 0 { 1 } else { seconds });
                // The first is not counted: connections are made, keys reach their limits.
                if round > 0 {
                    peer.runs.push(run);
                }
            }
        }
        let note = format!("{note} Medians of {rounds} rounds of {seconds} s that take turns.");
        let mut table =
            Table::new(title, note, &["system", "requests/s", "CPU, µs", "p50, ms", "p99, ms", "p99.9, ms"]);
        for peer in &peers {
            let of = |figure: fn(&Run) -> f64| median(peer.runs.iter().map(figure));
            table.row([
                peer.system.name().to_owned(),
                thousands(of(|run| run.per_second) as u64),
                number(of(|run| run.cpu_us), 1),
                number(of(|run| run.p50_ms), 2),
                number(of(|run| run.p99_ms), 2),
                number(of(|run| run.p999_ms), 2),
            ]);
        }
        table
    };
    vec![
        table(Verdicts::Pass, "Beside others: requests that pass", passing),
        table(Verdicts::Refuse, "Beside others: requests over the limit", refusing),
        differences(),
    ]
}

/// What the figures do not show.
fn differences() -> Table {
    let note = "As they are measured here, only ours in Redis counts for several nodes; all others decide in their own \
                memory and wait for nobody.";
    let mut table =
        Table::new("Beside others: what each does", note, &["system", "how it counts", "what it leaves out"]);
    for (system, counts, lacks) in systems::DIFFERENCES {
        table.row([system, counts, lacks].map(str::to_owned));
    }
    table
}

// === impl Peer ===

impl Peer {
    fn start(system: System, verdicts: Verdicts, redis: &RedisServer, upstream: &Upstream) -> Self {
        Peer { running: system.start(verdicts, redis, upstream), system, runs: Vec::new() }
    }

    /// One run, in which it did what it was asked to.
    fn run(&mut self, verdicts: Verdicts, upstream: &Upstream, seconds: usize) -> Run {
        let target: &Target = self.running.target();
        let before = upstream.requests();
        let run = target.run(CONNECTIONS, seconds);
        upstream.settle();
        let (name, reached) = (self.system.name(), upstream.requests() - before);
        let mut client = HttpClient::connect(target.address);
        if self.system.answers_alone() {
            assert_eq!((run.not_2xx, reached), (0, 0), "{name} answers everything itself");
            let question = systems::throttle("user-000001", verdicts.limit());
            let answer =
                client.send("POST", "/throttle", &[("content-type", "application/json")], question.as_bytes()).text();
            assert!(answer.contains(&format!("\"allowed\":{}", verdicts == Verdicts::Pass)), "{name}: {answer}");
        } else if verdicts == Verdicts::Pass {
            assert!(
                run.not_2xx == 0 && reached >= run.requests,
                "{name}: of {} requests, {reached} reached the upstream",
                run.requests
            );
        } else {
            let most = NARROW * USERS as u64 + run.requests / 100;
            assert!(
                reached <= most,
                "{name}: of {} requests, {reached} reached the upstream, at most {most} should",
                run.requests
            );
            assert_eq!(client.get("/", &[("x-api-key", "user-000001")]).status(), 429, "{name} refuses");
        }
        run
    }
}
