//! An upstream that is killed and started again under load: what clients see of it.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use slidegate_tests::{http_client::HttpClient, redis_server::RedisServer};

use super::systems::{HOST, KeptBy, PAGES, Traffic, fill, page};
use crate::{
    Effort,
    peers::systems::Running,
    table::{Table, number, thousands},
    upstream::Upstream,
};

/// Each asks for all pages in turn.
const CLIENTS: usize = 8;

/// The upstream is there, is not, and is again.
const PHASES: usize = 3;

/// What clients saw in one phase.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    answers: u64,
    errors: u64,
    longest: Duration,
}

pub(super) fn measure(effort: &Effort) -> Table {
    let seconds = effort.of(2, 10);
    let note = format!(
        "{CLIENTS} clients ask for {PAGES} pages of 1,000 bytes in turn, each fresh for a second and good for an hour \
         in place of an error. The upstream is there for {seconds} s, is killed, and is started again {seconds} s \
         later. To reach: no error, with two gateways that share what is kept."
    );
    let head =
        ["system", "answers/s", "while it is away", "errors", "longest wait, ms", "while it is away", "and after"];
    let mut table = Table::new("Responses kept: an upstream dies under load", note, &head);
    for (kept_by, name) in [
        (KeptBy::Redis, "slidegate, two gateways"),
        (KeptBy::Nginx, "nginx `proxy_cache`"),
        (KeptBy::Varnish, "Varnish, with grace"),
    ] {
        let redis = RedisServer::start();
        let upstream = Upstream::answering(0, page);
        let count = if kept_by == KeptBy::Redis { 2 } else { 1 };
        let running: Vec<Running> = (0..count).map(|_| kept_by.before(&redis, &upstream)).collect();
        let addresses: Vec<SocketAddr> = running.iter().map(|running| running.target().address).collect();
        let [before, away, after] = outage(upstream, &addresses, Duration::from_secs(seconds as u64));
        let per_second = |seen: Seen| thousands(seen.answers / seconds as u64);
        let longest = |seen: Seen| number(seen.longest.as_secs_f64() * 1_000.0, 0);
        let errors = before.errors + away.errors + after.errors;
        assert!(kept_by != KeptBy::Redis || errors == 0, "{before:?} {away:?} {after:?}");
        table.row([
            name.to_owned(),
            per_second(before),
            per_second(away),
            thousands(errors),
            longest(before),
            longest(away),
            longest(after),
        ]);
    }
    table
}

/// What all clients saw, phase by phase.
fn outage(upstream: Upstream, addresses: &[SocketAddr], each: Duration) -> [Seen; PHASES] {
    fill(addresses[0], &[1]);
    let phase = AtomicUsize::new(0);
    thread::scope(|scope| {
        let phase = &phase;
        let ask = |client: usize| ask_until_over(addresses[client % addresses.len()], phase);
        let clients: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || ask(client))).collect();
        let port = upstream.address().port();
        thread::sleep(each);
        phase.store(1, Ordering::SeqCst);
        drop(upstream);
        thread::sleep(each);
        let _again = Upstream::answering(port, page);
        phase.store(2, Ordering::SeqCst);
        thread::sleep(each);
        phase.store(PHASES, Ordering::SeqCst);
        let mut all = [Seen::default(); PHASES];
        for client in clients {
            for (all, seen) in all.iter_mut().zip(client.join().expect("a client ends")) {
                all.answers += seen.answers;
                all.errors += seen.errors;
                all.longest = all.longest.max(seen.longest);
            }
        }
        all
    })
}

fn ask_until_over(address: SocketAddr, phase: &AtomicUsize) -> [Seen; PHASES] {
    let mut seen = [Seen::default(); PHASES];
    let mut client = HttpClient::connect(address);
    for which in (0..PAGES).cycle() {
        let at = phase.load(Ordering::SeqCst);
        let Some(seen) = seen.get_mut(at) else { break };
        let path = Traffic::Stale.path(1, &which.to_string());
        let begun = Instant::now();
        match client.try_send("GET", &path, &[("host", HOST)], b"") {
            Ok(answer) if answer.status() == 200 => seen.answers += 1,
            Ok(_) => seen.errors += 1,
            Err(_) => {
                seen.errors += 1;
                client = HttpClient::connect(address);
            }
        }
        seen.longest = seen.longest.max(begun.elapsed());
    }
    seen
}
