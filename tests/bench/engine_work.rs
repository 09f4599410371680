//! What a request costs inside wasmtime: everything between its headers and its end, without Redis and without HTTP.

mod scenario;

use std::{sync::Arc, time::Instant};

use cpu_time::ThreadTime;
use slidegate::{CallReply, Instance, Module, Moment, Outcome, Reply, Step, Value, Wants};

pub(crate) use self::scenario::{Expected, Requests, Scenario, Store};
use crate::{
    Effort,
    sample::{median, percentile},
    table::{Table, number},
};

/// Between requests: the pace of a busy worker, so that windows slide while they are measured.
pub(crate) const STEP_NS: u64 = 12_000;

/// An instance with a scenario's configuration, and the requests it gets.
pub(crate) struct Bench {
    instance: Instance,
    requests: Requests,
    expected: Expected,
    stream: u64,
    now_ns: u64,
}

/// One round of one scenario.
struct Round {
    /// Wall time of each request, in nanoseconds.
    wall_ns: Vec<f64>,
    /// CPU time of the thread, nanoseconds a request.
    cpu_ns: f64,
}

/// Microseconds per request for each kind of rule, with windows here and in Redis.
pub(crate) fn measure(effort: &Effort) -> Vec<Table> {
    let module = effort.module();
    let scenarios = Scenario::all();
    let mut benches: Vec<Bench> = scenarios.iter().map(|scenario| Bench::new(&module, scenario)).collect();
    let (rounds, count) = (effort.of(2, 9), effort.of(500, 10_000));
    for bench in &mut benches {
        bench.round(count);
    }
    let mut measured: Vec<Vec<Round>> = benches.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (bench, rounds) in benches.iter_mut().zip(&mut measured) {
            rounds.push(bench.round(count));
        }
    }
    let note = format!(
        "Microseconds per request, from its headers to its end, through the host library; the reply of Redis is \
         canned. Each request has {} header fields. Medians of {rounds} rounds of {count} requests. To reach: 5 µs.",
        scenario::FIELDS
    );
    let mut table = Table::new("Work per request in wasmtime", note, &["rule", "windows", "p50", "p99", "CPU"]);
    for (scenario, rounds) in scenarios.iter().zip(&measured) {
        let wall =
            |share: f64| median(rounds.iter().map(|round| percentile(round.wall_ns.iter().copied(), share))) / 1_000.0;
        let cpu = median(rounds.iter().map(|round| round.cpu_ns)) / 1_000.0;
        table.row([
            scenario.name.into(),
            scenario.store.name().into(),
            number(wall(0.5), 1),
            number(wall(0.99), 1),
            number(cpu, 1),
        ]);
    }
    vec![table]
}

// === impl Bench ===

impl Bench {
    pub(crate) fn new(module: &Module, scenario: &Scenario) -> Self {
        let mut instance = Instance::new(module).expect("an instance can be made");
        let configuration = instance
            .configure(scenario.json().as_bytes(), Moment::default())
            .unwrap_or_else(|error| panic!("{}: {error}", scenario.name));
        assert!(configuration.warnings.is_empty(), "{}: {:?}", scenario.name, configuration.warnings);
        Bench { instance, requests: scenario.requests(), expected: scenario.expected, stream: 0, now_ns: 0 }
    }

    /// Linear memory of the instance.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.instance.memory_bytes()
    }

    /// Sends so many requests and returns how many were let through.
    pub(crate) fn send(&mut self, count: usize) -> usize {
        (0..count).filter(|_| self.request()).count()
    }

    /// Lets time pass.
    pub(crate) fn wait(&mut self, ns: u64) {
        self.now_ns += ns;
    }

    fn round(&mut self, count: usize) -> Round {
        let mut wall_ns = Vec::with_capacity(count);
        let mut passed = 0;
        let cpu = ThreadTime::now();
        for _ in 0..count {
            let begun = Instant::now();
            passed += usize::from(self.request());
            wall_ns.push(begun.elapsed().as_nanos() as f64);
        }
        let cpu_ns = cpu.elapsed().as_nanos() as f64 / count as f64;
        let (least, most) = match self.expected {
            Expected::Passes => (count, count),
            Expected::IsRefused => (0, self.requests.keys()),
        };
        assert!((least..=most).contains(&passed), "{passed} of {count} requests passed, expected {least} to {most}");
        Round { wall_ns, cpu_ns }
    }

    /// A whole request; true if it was let through.
    fn request(&mut self) -> bool {
        self.stream += 1;
        self.now_ns += STEP_NS;
        let (stream, now) = (self.stream, Moment { monotonic: self.now_ns, wall: self.now_ns });
        let step = self.instance.on_request(stream, self.requests.next(), now).expect("the component does not trap");
        let outcome = match step {
            Step::Pass(pass) => Outcome::Pass(pass),
            Step::Respond(response) => Outcome::Respond(response),
            Step::Wait => self.answer(stream, now),
        };
        if self.instance.next_wake().is_some_and(|at| at <= now.monotonic) {
            self.instance.on_wake(now).expect("the component does not trap");
        }
        match outcome {
            Outcome::Pass(pass) => {
                assert_eq!(pass.wants, Wants::default(), "a limiter wants nothing more of a request that passes");
                true
            }
            Outcome::Respond(_) => {
                self.instance.take_annotations(stream);
                false
            }
        }
    }

    /// Answers the one call that the stream waits for, as Redis would.
    fn answer(&mut self, stream: u64, now: Moment) -> Outcome {
        let reply = match self.expected {
            Expected::Passes => canned([1, 0, 99, 1_000_000, 0]),
            Expected::IsRefused => canned([0, 0, 0, 1_000_000, 500_000]),
        };
        let calls = self.instance.take_calls();
        assert_eq!(calls.len(), 1, "a request in Redis' hands makes one call");
        let replies = calls.iter().map(|call| CallReply { call: call.id, reply: Ok(reply.clone()) }).collect();
        self.instance.on_redis_replies(replies, now).expect("the component does not trap");
        match self.instance.take_outcomes().pop() {
            Some((settled, outcome)) if settled == stream => outcome,
            other => panic!("the reply settled {other:?}, expected stream {stream}"),
        }
    }
}

fn canned(numbers: [u32; 5]) -> Reply {
    Reply::Single(Value::Bulk(numbers.iter().flat_map(|number| f64::from(*number).to_be_bytes()).collect()))
}

impl Requests {
    fn next(&mut self) -> Arc<dyn slidegate::Request> {
        self.at = (self.at + 1) % self.requests.len();
        Arc::clone(&self.requests[self.at]) as Arc<dyn slidegate::Request>
    }
}
