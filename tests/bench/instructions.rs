//! What a filter adds to a request of the gateway, in instructions.

use std::process::Command;

use slidegate_tests::{
    gateway_process::{Directory, Gateway},
    redis_server::RedisServer,
};

use crate::{
    Effort, callgrind,
    gateway::{WIDE, filter, settings},
    load::{Target, USERS},
    table::{Table, thousands},
    upstream::Upstream,
};

/// Requests in flight.
const CONNECTIONS: usize = 8;

/// What is measured: its name, its filter, and how many instructions it should add at most.
type Row = (&'static str, Option<String>, Option<u64>);

/// Counts the instructions of the gateway's process.
pub(crate) fn measure(effort: &Effort) -> Vec<Table> {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let (warm_up, seconds) = (effort.of(1, 4), effort.of(2, 15));
    let note = format!(
        "Instructions in user space for a request, by callgrind: one worker, wrk with {CONNECTIONS} connections and \
         {USERS} users, {seconds} s after a warm-up. A gateway that waits for others wakes up for fewer requests at a \
         time and takes more, so that the machine should have nothing else to do; what is added depends on that less."
    );
    let mut table = Table::new("Instructions of a request", note, &["gateway", "instructions", "added", "to reach"]);
    let mut without = None;
    for (name, filter, most) in rows() {
        let counted = instructions(&settings(&redis, &upstream, filter.as_deref()), warm_up, seconds);
        let base = *without.get_or_insert(counted);
        let added = most.map_or_else(String::new, |_| thousands(counted.saturating_sub(base)));
        table.row([name.to_owned(), thousands(counted), added, most.map_or_else(String::new, thousands)]);
    }
    vec![table]
}

/// The gateway that others are compared with comes first.
fn rows() -> Vec<Row> {
    let (global, each) = (filter::global(WIDE), filter::each(WIDE));
    let long_name = "n".repeat(60);
    vec![
        ("without limiter", None, None),
        ("local, one key", Some(filter::local(&global)), Some(12_000)),
        ("local, a key for each user", Some(filter::local(&each)), Some(16_000)),
        (
            "local, a key for each user, a rule name of 60 letters",
            Some(filter::local_named(&each, &long_name)),
            Some(32_000),
        ),
        ("Redis, one key", Some(filter::in_redis(&global, "one")), Some(18_000)),
        ("Redis, a key for each user", Some(filter::in_redis(&each, "each")), Some(25_000)),
    ]
}

/// How many a request takes of a gateway with these settings.
fn instructions(settings: &str, warm_up: usize, seconds: usize) -> u64 {
    let directory = Directory::new();
    let counts = directory.path().join("counts");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(callgrind::arguments(&counts));
    let mut gateway = Gateway::serve_by(valgrind, settings, &["--workers", "1"]);
    let target = Target::gateway(&gateway);
    let warm = target.run(CONNECTIONS, warm_up);
    assert!(
        warm.requests > USERS as u64,
        "only {} requests before anything is counted: not every user has a window",
        warm.requests
    );
    callgrind::count(gateway.id(), "on");
    let run = target.run(CONNECTIONS, seconds);
    callgrind::count(gateway.id(), "off");
    assert_eq!(run.not_2xx, 0, "every request is admitted");
    gateway.terminate();
    gateway.wait_exit();
    callgrind::total(&counts) / run.requests
}
