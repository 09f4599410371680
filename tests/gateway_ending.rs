//! How a gateway ends, and how what it serves ends: nothing is lost at SIGTERM, nothing old is kept by what lasts,
//! nothing goes in circles.

use std::{
    io,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use slidegate_tests::{
    footprint::Footprint,
    gateway_process::{Gateway, wait_until},
    http_client::HttpClient,
    http2_client::{Http2Client, kind},
    redis_server::RedisServer,
    upstream::Upstream,
};

const CLIENTS: usize = 100;

fn rig(more: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&format!("upstream: {}\nlog: {{access: false}}\n{more}", upstream.url()));
    (upstream, gateway)
}

/// Asks on one kept connection until it is told that it gets no more answers there.
fn ask_until_told(mut client: HttpClient, answered: &AtomicUsize) -> io::Result<()> {
    loop {
        let answer = client.try_send("GET", "/", &[], b"")?;
        answered.fetch_add(1, Ordering::Relaxed);
        if answer.status() != 200 {
            return Err(io::Error::other(format!("status {}", answer.status())));
        }
        if answer.head.text("connection").is_some_and(|value| value == "close") {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn no_kept_connection_loses_a_request_at_sigterm() {
    for settings in ["timeouts: {lame_duck: 1s}\n", ""] {
        let (_upstream, mut gateway) = rig(settings);
        let answered = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (client, answered) = (gateway.client(), Arc::clone(&answered));
                thread::spawn(move || ask_until_told(client, &answered))
            })
            .collect();
        wait_until("all are served", || answered.load(Ordering::Relaxed) >= 3 * CLIENTS);
        gateway.terminate();
        let lost: Vec<String> = clients
            .into_iter()
            .filter_map(|client| client.join().expect("a client ends").err())
            .map(|error| error.to_string())
            .collect();
        assert_eq!(lost, Vec::<String>::new(), "with `{settings}`");
        assert_eq!(gateway.wait_exit().code(), Some(0));
    }
}

#[test]
fn a_lame_duck_is_not_ready_and_still_serves_whoever_comes() {
    let (_upstream, mut gateway) = rig("timeouts: {lame_duck: 2s}\n");
    let mut kept = gateway.client();
    assert_eq!(kept.get("/", &[]).head.text("connection"), None);
    let mut multiplexed = Http2Client::connect(gateway.listen(), 65_535).expect("the gateway accepts");
    let first = multiplexed.get("/").expect("the gateway reads");
    assert!(multiplexed.read_to_end_of(first).expect("an answer"));
    let in_flight = multiplexed.get("/delay/500").expect("the gateway reads");
    gateway.terminate();
    gateway.wait_log("lame duck");
    // HTTP/2 is told at once and answered all the same; HTTP/1.1 is told with its next answer.
    let mut kinds = Vec::new();
    while !kinds.contains(&kind::GOAWAY) {
        kinds.push(multiplexed.read_frame().expect("the connection goes on").kind);
    }
    assert!(multiplexed.read_to_end_of(in_flight).expect("an answer"));
    for mut client in [kept, gateway.client()] {
        let answer = client.get("/", &[]);
        assert_eq!((answer.status(), answer.head.text("connection").as_deref()), (200, Some("close")));
        assert_eq!(client.read_to_end(|_| ()).expect("the gateway closes"), 0);
    }
    gateway.wait_log("draining");
    assert_eq!(gateway.wait_exit().code(), Some(0));
}

#[test]
fn a_second_signal_ends_a_lame_duck() {
    let (_upstream, mut gateway) = rig("timeouts: {lame_duck: 1h}\n");
    gateway.terminate();
    gateway.wait_log("lame duck");
    gateway.terminate();
    assert_eq!(gateway.wait_exit().code(), Some(0));
    gateway.wait_log("told again to end");
}

#[test]
fn connections_that_say_nothing_do_not_hold_up_the_end() {
    let (_upstream, mut gateway) = rig("");
    let mut kept = gateway.client();
    assert_eq!(kept.get("/", &[]).status(), 200);
    let silent = gateway.client();
    let mut multiplexed = Http2Client::connect(gateway.listen(), 65_535).expect("the gateway accepts");
    let first = multiplexed.get("/").expect("the gateway reads");
    assert!(multiplexed.read_to_end_of(first).expect("an answer"));
    let start = Instant::now();
    gateway.terminate();
    assert_eq!(gateway.wait_exit().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    gateway.wait_log("all connections have ended");
    drop((kept, silent, multiplexed));
}

#[test]
fn a_redis_that_says_nothing_does_not_hold_up_the_end() {
    // One that took a connection before it fell silent, and one that never says anything.
    let (redis, silent) = (RedisServer::start(), TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let ports = [redis.port(), silent.local_addr().expect("a bound listener has an address").port()];
    for port in ports {
        let (upstream, mut gateway) = rig(&format!(
            "workers: 2
timeouts: {{drain: 1s}}
redis: {{names: {{redis.static: \"redis://127.0.0.1:{port}\"}}}}
filter:
  rule_name: hanging
  rule_items: [{{limit_by_per_header: x-key, limit_keys: [{{key: \"*\", query_per_hour: 1000}}]}}]
  failure_mode: closed
  redis: {{service_name: redis.static, timeout: 60000}}
"
        ));
        if port == redis.port() {
            (0..4).for_each(|_| assert_eq!(gateway.get("/", &[("x-key", "before")]).0, 200));
            redis.pause();
        }
        let mut waiting: Vec<HttpClient> = (0..20).map(|_| gateway.client()).collect();
        for (index, client) in waiting.iter_mut().enumerate() {
            client
                .write(format!("GET / HTTP/1.1\r\nhost: a.test\r\nx-key: {index}\r\n\r\n").as_bytes())
                .expect("the gateway reads");
        }
        let in_flight = || gateway.metrics().sum("slidegate_requests_in_flight", &[]);
        wait_until("all wait", || in_flight() == 20.0);
        let start = Instant::now();
        gateway.terminate();
        assert_eq!(gateway.wait_exit().code(), Some(0));
        // A second to drain, and five at most beyond that.
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        gateway.wait_log("the time to drain is over");
        for mut client in waiting {
            client.read_to_end(|_| ()).expect("nobody is left without an end");
        }
        assert_eq!(upstream.requests(), if port == redis.port() { 4 } else { 0 }, "what was not decided does not pass");
    }
}

#[test]
fn a_request_that_comes_back_is_508_and_two_gateways_in_a_row_are_no_loop() {
    let (upstream, gateway) = rig("");
    let own = format!("upstream: http://{}\n", gateway.listen());
    gateway.write_settings(&own);
    wait_until("the file is read", || gateway.metrics().sum("slidegate_reloads_total", &[("result", "ok")]) == 1.0);
    let (status, body) = gateway.get("/", &[]);
    assert_eq!((status, body.as_str()), (508, "the request came back here\n"));
    assert_eq!(gateway.metrics().sum("slidegate_requests_total", &[]), 2.0);
    assert_eq!(upstream.requests(), 0);

    let inner = Gateway::serve(&format!("upstream: {}\n", upstream.url()));
    let outer = Gateway::serve(&format!("upstream: http://{}\n", inner.listen()));
    assert_eq!(outer.get("/", &[("via", "1.1 slidegate, 2.0 elsewhere (a, b)")]).0, 200);
    let via = upstream.last().text("via").expect("who passed it on");
    assert_eq!(via.split(", ").count(), 5, "{via}");
    // A loop of two is seen by the first that sees it again.
    inner.write_settings(&format!("upstream: http://{}\n", outer.listen()));
    wait_until("the file is read", || inner.metrics().sum("slidegate_reloads_total", &[("result", "ok")]) == 1.0);
    assert_eq!((outer.get("/", &[]).0, inner.get("/", &[]).0), (508, 508));
}

#[test]
fn what_lasts_keeps_nothing_of_the_settings_it_began_with() {
    const ROUNDS: usize = 12;
    let (upstream, redis) = (Upstream::start(), RedisServer::start());
    let settings = |limit: usize| {
        format!(
            "workers: 2
upstream: {}
redis: {{names: {{redis.static: \"redis://127.0.0.1:{}\"}}}}
filter:
  rule_name: lasting
  rule_items: [{{limit_by_per_header: x-key, limit_keys: [{{key: \"*\", query_per_hour: {limit}}}]}}]
  redis: {{service_name: redis.static}}
log: {{access: false}}
",
            upstream.url(),
            redis.port()
        )
    };
    let gateway = Gateway::serve(&settings(1_000));
    // Each lane connects to Redis.
    (0..10).for_each(|_| assert_eq!(gateway.get("/", &[("x-key", "k")]).0, 200));
    let start = Footprint::of(&gateway).descriptors;
    let mut lasting = Vec::new();
    for round in 1..=ROUNDS {
        let mut tunnel = gateway.client();
        tunnel
            .write(b"GET /upgrade HTTP/1.1\r\nhost: a.test\r\nx-key: k\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
            .expect("the gateway reads");
        assert_eq!(tunnel.read_head().expect("an answer").status, 101);
        let mut events = gateway.client();
        events.write(b"GET /trickle/1000000 HTTP/1.1\r\nhost: a.test\r\nx-key: k\r\n\r\n").expect("the gateway reads");
        assert_eq!(events.read_head().expect("an answer").status, 200);
        lasting.push((tunnel, events));
        gateway.write_settings(&settings(1_000 + round));
        wait_until("the file is read", || {
            gateway.metrics().sum("slidegate_reloads_total", &[("result", "ok")]) == round as f64
        });
        (0..4).for_each(|_| assert_eq!(gateway.get("/", &[("x-key", "k")]).0, 200));
    }
    // Two for each that lasts, and those to Redis and of the pools, which are as many as at the start or so.
    let allowed = start + 4 * ROUNDS + 8;
    wait_until("old connections to Redis are closed", || Footprint::of(&gateway).descriptors <= allowed);
    for (mut tunnel, mut events) in lasting {
        tunnel.write(b"still here").expect("the tunnel is open");
        assert_eq!(tunnel.read_raw(10).expect("the echo"), b"still here");
        events.read_raw(1).expect("events go on");
    }
}
