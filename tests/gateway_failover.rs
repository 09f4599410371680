//! An upstream that is killed and started again under load, behind two gateways that share a cache: whoever asks for a
//! page that was ever kept gets it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use slidegate_tests::{
    gateway_process::{Gateway, wait_until},
    http_client::HttpClient,
    raw_upstream::RawUpstream,
    redis_server::RedisServer,
    upstream::Upstream,
};

/// Pages that are asked for, and clients that ask for all of them in turn, half at either gateway.
const PAGES: usize = 8;
const CLIENTS: usize = 6;

/// How often the upstream is killed.
const DEATHS: u64 = 2;

/// What all clients have seen so far.
#[derive(Debug, Default)]
struct Seen {
    /// The life of the upstream that pages are made in from now on.
    life: AtomicU64,
    stale: AtomicU64,
    /// Pages of the latest life.
    anew: AtomicU64,
    is_over: AtomicBool,
}

impl Seen {
    /// Asks for all pages in turn until it is over.
    fn ask(&self, mut client: HttpClient) {
        while !self.is_over.load(Ordering::SeqCst) {
            for page in 0..PAGES {
                self.ask_for(page, &mut client);
            }
        }
    }

    fn ask_for(&self, page: usize, client: &mut HttpClient) {
        let life = self.life.load(Ordering::SeqCst);
        let made = life.to_string();
        let control = "max-age=1, stale-if-error=600";
        let headers = [("host", "site.test"), ("answer-cache-control", control), ("answer-x-life", &made)];
        let answer = client.get(&format!("/page/{page}"), &headers);
        assert_eq!((answer.status(), answer.text().as_str()), (200, "hello\n"), "{:?}", answer.head);
        let of: u64 = answer.head.text("x-life").and_then(|life| life.parse().ok()).expect("when it was made");
        let count = |counter: &AtomicU64, counts: bool| counter.fetch_add(u64::from(counts), Ordering::SeqCst);
        count(&self.stale, answer.head.text("x-cache").as_deref() == Some("STALE"));
        count(&self.anew, of > 0 && of == self.life.load(Ordering::SeqCst));
    }
}

#[test]
fn nobody_who_asks_for_a_page_that_is_kept_sees_that_the_upstream_is_gone() {
    let (redis, mut upstream) = (RedisServer::start(), Upstream::start());
    let port = upstream.port();
    let settings = format!(
        "upstream: {}\nredis: {{names: {{pages.static: \"{}\"}}}}\nfilter: {{filters: [{{cache: {{redis: \
         {{service_name: pages.static}}}}}}]}}\n",
        upstream.url(),
        redis.url()
    );
    let gateways = [(); 2].map(|()| Gateway::serve(&settings));
    let seen = Seen::default();
    for page in 0..PAGES {
        wait_until("it is kept", || {
            seen.ask_for(page, &mut gateways[0].client());
            redis.tell(&["DBSIZE"]).parse::<usize>().expect("a number") >= 2 * (page + 1)
        });
    }
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (seen, gateway) = (&seen, &gateways[number % gateways.len()]);
            scope.spawn(move || {
                // Else the others would go on for ever.
                let _over = Over(&seen.is_over);
                seen.ask(gateway.client());
            });
        }
        let _over = Over(&seen.is_over);
        let goes_on = |what: &str, counter: &AtomicU64, more: u64| {
            let before = counter.load(Ordering::SeqCst);
            wait_until(what, || counter.load(Ordering::SeqCst) >= before + more || seen.is_over.load(Ordering::SeqCst));
        };
        for life in 1..=DEATHS {
            drop(upstream);
            goes_on("pages are stale, and shown", &seen.stale, 500);
            seen.anew.store(0, Ordering::SeqCst);
            seen.life.store(life, Ordering::SeqCst);
            upstream = Upstream::start_on(port);
            goes_on("pages are made anew", &seen.anew, 500);
            assert!(upstream.requests() > 0);
        }
    });
    for gateway in &gateways {
        let metrics = gateway.metrics();
        assert!(metrics.sum("slidegate_cache_requests_total", &[("outcome", "stale")]) > 0.0);
        assert_eq!(metrics.sum("slidegate_requests_total", &[("code", "5xx")]), 0.0);
    }
}

/// A backend that takes longer to fail than anybody waits for another who asks it: it says so late, or nothing at all.
#[test]
fn nobody_who_asks_for_a_page_that_is_kept_sees_that_the_upstream_fails_slowly() {
    for (says, top) in [(true, ""), (false, "timeouts: {response: 3s}\n")] {
        for workers in [1, 2] {
            let (redis, fails) = (RedisServer::start(), Arc::new(AtomicBool::new(false)));
            let is_failing = Arc::clone(&fails);
            let backend = RawUpstream::start(move |mut connection| {
                while connection.read_head().is_some() {
                    let answer = if is_failing.load(Ordering::SeqCst) {
                        thread::sleep(Duration::from_millis(if says { 2_500 } else { 20_000 }));
                        "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 3\r\n\r\nbad"
                    } else {
                        "HTTP/1.1 200 OK\r\ncache-control: max-age=1\r\ncontent-length: 4\r\n\r\ngood"
                    };
                    if !connection.write(answer.as_bytes()) {
                        return;
                    }
                }
            });
            let settings = format!(
                "{top}workers: {workers}\nupstream: {}\nredis: {{names: {{pages.static: \"{}\"}}}}\nfilter: {{cache: \
                 {{redis: {{service_name: pages.static}}}}}}\n",
                backend.url(),
                redis.url()
            );
            let gateway = Gateway::serve(&settings);
            let ask = || gateway.client().get("/page", &[("host", "site.test")]);
            wait_until("it is kept", || ask().head.text("x-cache").as_deref() == Some("HIT"));
            // It is stale by then.
            thread::sleep(Duration::from_millis(2_100));
            fails.store(true, Ordering::SeqCst);
            let answers = thread::scope(|scope| {
                let asked: Vec<_> = (0..20).map(|_| scope.spawn(ask)).collect();
                asked.into_iter().map(|client| client.join().expect("a client")).collect::<Vec<_>>()
            });
            for answer in answers {
                let seen = (answer.status(), answer.head.text("x-cache"), answer.text());
                assert_eq!(seen, (200, Some("STALE".to_owned()), "good".to_owned()), "{says} {workers}");
            }
        }
    }
}

/// Ends all clients when the first of them does, whatever for.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
