//! The promise in real time: four gateways, one Redis, 32 clients that ask as fast as they can, a limit of 100 per
//! second.
//!
//! Redis knows when it admitted what: up to 100, every call that admitted something is a slot of the window, with its
//! microsecond on Redis' clock, and it stays there for a second. A watcher that reads the window a few times a second
//! misses none.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use redis::Connection;
use slidegate_tests::{
    gateway_process::Gateway, http_client::HttpClient, oracle::Oracle, redis_server::RedisServer,
    redis_windows::Stored, upstream::Upstream,
};

const LIMIT: u64 = 100;
const WINDOW_US: u64 = 1_000_000;
const GATEWAYS: usize = 4;
const CLIENTS: usize = 32;
const DURATION: Duration = Duration::from_secs(20);
const KEY: &str = "slidegate:{load:global_threshold}:1";

/// Far below the second for which every admission can be seen.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Reads a window's set until it is stopped, and collects every admission in it.
struct Watcher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<u64, u64>>,
}

/// What the clients got.
#[derive(Debug, Default)]
struct Answers {
    admitted: u64,
    refused: u64,
    others: Vec<String>,
}

#[test]
fn no_second_holds_more_than_the_limit_and_hardly_any_room_is_wasted() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let settings = format!(
        "upstream: {}
redis: {{names: {{redis.static: \"{}\"}}}}
filter:
  rule_name: load
  global_threshold: {{query_per_second: {LIMIT}}}
  failure_mode: closed
  redis: {{service_name: redis.static, timeout: 10000}}
log: {{access: false}}
",
        upstream.url(),
        redis.url()
    );
    let gateways: Vec<Gateway> = (0..GATEWAYS).map(|_| Gateway::serve(&settings)).collect();
    let watcher = Watcher::start(redis.connection());
    let until = Instant::now() + DURATION;
    let clients: Vec<_> = gateways
        .iter()
        .cycle()
        .take(CLIENTS)
        .map(|gateway| {
            let client = gateway.client();
            thread::spawn(move || ask_until(client, until))
        })
        .collect();
    let answers =
        clients.into_iter().map(|client| client.join().expect("a client ends")).fold(Answers::default(), Answers::and);
    let admissions = watcher.stop();

    assert!(answers.others.is_empty(), "{:?}", answers.others.first());
    let counted: u64 = admissions.values().sum();
    assert_eq!(
        (counted, upstream.requests()),
        (answers.admitted, answers.admitted),
        "Redis, the upstream and the clients agree"
    );
    let mut oracle = Oracle::default();
    admissions.iter().for_each(|(at_us, cost)| oracle.admit(*at_us, *cost));
    let greatest = oracle.greatest_in_any(WINDOW_US);
    assert!(greatest <= LIMIT, "{greatest} admissions in one second");
    let allowed = LIMIT * DURATION.as_secs();
    assert!(answers.admitted * 100 >= allowed * 95, "{} of {allowed} admitted", answers.admitted);
    assert!(answers.refused > answers.admitted, "there was more demand than room: {} refused", answers.refused);
    println!("{} admitted of {allowed}, {} refused, at most {greatest} in a second", answers.admitted, answers.refused);
}

fn ask_until(mut client: HttpClient, until: Instant) -> Answers {
    let mut answers = Answers::default();
    while Instant::now() < until && answers.others.is_empty() {
        match client.try_send("GET", "/", &[], b"") {
            Ok(answer) if answer.status() == 200 => answers.admitted += 1,
            Ok(answer) if answer.status() == 429 => {
                answers.refused += 1;
                // So that the machine has time for those who are let in.
                thread::sleep(Duration::from_millis(1));
            }
            other => answers.others.push(format!("{other:?}")),
        }
    }
    answers
}

impl Answers {
    fn and(mut self, other: Answers) -> Answers {
        self.admitted += other.admitted;
        self.refused += other.refused;
        self.others.extend(other.others);
        self
    }
}

// === impl Watcher ===

impl Watcher {
    fn start(mut connection: Connection) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut admissions = BTreeMap::new();
            loop {
                // Looked at before, so that the last look sees all there is.
                let is_last = stopped.load(Ordering::SeqCst);
                look(&mut connection, &mut admissions);
                if is_last {
                    return admissions;
                }
                thread::sleep(LOOK_EVERY);
            }
        });
        Watcher { stop, thread }
    }

    /// Every admission: its microsecond, and how many there were in it.
    fn stop(self) -> BTreeMap<u64, u64> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("the watcher ends")
    }
}

/// What each slot admitted is its step from the total before it; before the oldest, from what had left.
fn look(connection: &mut Connection, admissions: &mut BTreeMap<u64, u64>) {
    let Stored { left, slots } = Stored::read(connection, KEY);
    let before = slots.iter().skip(1).map(|(total, _)| *total).chain([left]);
    for ((total, at_us), before) in slots.iter().zip(before) {
        let step = total.checked_sub(before).expect("a running total");
        let seen = admissions.entry(*at_us).or_default();
        *seen = (*seen).max(step);
    }
}
