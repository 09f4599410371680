//! Upstreams of HTTP/2 under load: those that serve few requests at a time on a connection, and those that leave it
//! after some.

use std::{
    sync::{
        Arc, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use slidegate_tests::{
    certificates::Authority,
    gateway_process::{Directory, Gateway, wait_until},
    http_client::HttpClient,
    raw_upstream::{RawConnection, RawUpstream},
    tls_client::{BOTH, server_tls},
    upstream::Upstream,
};

/// So many connections a lane makes to an upstream at most.
const CONNECTIONS_MAX: usize = 16;

/// A client that has begun to read an answer, and reads no further.
fn stalled(gateway: &Gateway) -> HttpClient {
    let mut client = gateway.client();
    client.write(b"GET /bytes/20000000 HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("the gateway reads");
    assert_eq!(client.read_head().expect("an answer").status, 200, "{}", gateway.log());
    client
}

#[test]
fn clients_that_take_nothing_leave_streams_for_others() {
    let directory = Directory::new();
    let authority = Authority::new(directory.path(), "ca");
    let (certificate, key) = authority.sign("server", &["127.0.0.1"]);
    let ca = format!("upstream_tls: {{ca: {}}}\n", authority.certificate().display());
    let plain = Upstream::start_with_streams(2, None);
    let secured = Upstream::start_with_streams(2, Some(server_tls((&certificate, &key), None, BOTH)));
    for settings in [format!("upstream: {}\n", plain.h2c_url()), format!("upstream: {}\n{ca}", secured.https_url())] {
        let gateway = Gateway::serve(&format!("{settings}workers: 1\ntimeouts: {{response: 5s}}\n"));
        let mut clients: Vec<HttpClient> = (0..9).map(|_| stalled(&gateway)).collect();
        for _ in 0..10 {
            assert_eq!(gateway.get("/", &[]).0, 200, "{}", gateway.log());
        }
        clients[0].read_raw(20_000_000).expect("the answer goes on");
    }
}

#[test]
fn who_has_no_stream_left_is_passed_over_and_waited_for_if_there_is_no_other() {
    let (few, other) = (Upstream::start_with_streams(1, None), Upstream::start());
    let serve = |upstreams: &str| {
        Gateway::serve(&format!("upstreams: [{upstreams}]\nworkers: 1\ntimeouts: {{upstream_ejection: 1h}}\n"))
    };
    let gateway = serve(&format!("{}, {}", few.h2c_url(), other.url()));
    let _stalled: Vec<HttpClient> = (0..CONNECTIONS_MAX * 2 + 4).map(|_| stalled(&gateway)).collect();
    assert_eq!(few.requests(), CONNECTIONS_MAX as u64);
    assert!((0..10).all(|_| gateway.get("/", &[]).0 == 200));
    assert_eq!(few.requests(), CONNECTIONS_MAX as u64);
    assert_eq!(gateway.log_lines("an upstream does not answer"), [""; 0]);

    let alone = Upstream::start_with_streams(1, None);
    let gateway = serve(&alone.h2c_url());
    let mut stalled: Vec<HttpClient> = (0..CONNECTIONS_MAX).map(|_| stalled(&gateway)).collect();
    let mut waiting = gateway.client();
    waiting.write(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("the gateway reads");
    wait_until("it has come", || gateway.metrics().sum("slidegate_requests_in_flight", &[]) == 17.0);
    assert_eq!(alone.requests(), CONNECTIONS_MAX as u64);
    stalled.pop();
    assert_eq!(waiting.read_answer("GET").expect("an answer").status(), 200);
}

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;

const MAX_CONCURRENT_STREAMS: u16 = 3;

/// An upstream and how it answers, without a body.
struct Answering {
    /// So many requests on a connection at a time.
    allowed: u32,
    /// As nginx does it: after so many on a connection it says that it looks at no further one, and answers those.
    leaves_after: usize,
    connections: AtomicUsize,
    /// Nothing is answered while a test has this.
    gate: RwLock<()>,
}

impl Answering {
    fn new(allowed: u32, leaves_after: usize) -> Arc<Self> {
        Arc::new(Self { allowed, leaves_after, connections: AtomicUsize::new(0), gate: RwLock::new(()) })
    }

    fn start(self: &Arc<Self>) -> RawUpstream {
        let answering = Arc::clone(self);
        RawUpstream::start(move |mut connection| answering.serve(&mut connection))
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn serve(&self, connection: &mut RawConnection) {
        let settings = [&MAX_CONCURRENT_STREAMS.to_be_bytes()[..], &self.allowed.to_be_bytes()].concat();
        if connection.read(24).is_none() || !connection.write_frame(SETTINGS, 0, 0, &settings) {
            return;
        }
        self.connections.fetch_add(1, Ordering::SeqCst);
        let mut begun = 0;
        while let Some((kind, flags, stream, payload)) = connection.read_frame() {
            match kind {
                SETTINGS if flags & ACK == 0 => drop(connection.write_frame(SETTINGS, ACK, 0, &[])),
                PING if flags & ACK == 0 => drop(connection.write_frame(PING, ACK, 0, &payload)),
                HEADERS if begun < self.leaves_after => {
                    begun += 1;
                    if begun == self.leaves_after {
                        connection.write_frame(GOAWAY, 0, 0, &[stream.to_be_bytes(), [0; 4]].concat());
                    }
                    drop(self.gate.read());
                    // `:status: 200`.
                    connection.write_frame(HEADERS, 5, stream, &[0x88]);
                }
                _ => {}
            }
        }
    }
}

/// So many clients that have asked, each on a connection of its own.
fn asking(gateway: &Gateway, clients: usize) -> Vec<HttpClient> {
    let ask = |_| {
        let mut client = gateway.client();
        client.write(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("the gateway reads");
        client
    };
    (0..clients).map(ask).collect()
}

/// All of them are answered well.
fn expect_answers(clients: Vec<HttpClient>, gateway: &Gateway) {
    for mut client in clients {
        let answer = client.read_answer("GET").expect("an answer");
        assert_eq!(answer.status(), 200, "{}: {}", answer.text(), gateway.log());
    }
    assert_eq!(gateway.log_lines("an upstream does not answer"), [""; 0]);
}

fn wait_in_flight(gateway: &Gateway, requests: usize) {
    let in_flight = || gateway.metrics().sum("slidegate_requests_in_flight", &[]);
    wait_until("so many are in flight", || in_flight() == requests as f64);
}

#[test]
fn many_at_once_cost_no_request_however_little_each_connection_takes() {
    for (allowed, leaves_after, clients) in [(1, 1, 300), (1, usize::MAX, 300), (10, 10, 500), (10, 30, 500)] {
        let answering = Answering::new(allowed, leaves_after);
        let upstream = answering.start();
        let gateway = Gateway::serve(&format!("upstream: {}\nworkers: 1\n", upstream.h2c_url()));
        // All are there before the first is answered.
        let closed = answering.gate.write();
        let asking = asking(&gateway, clients);
        wait_in_flight(&gateway, clients);
        drop(closed);
        expect_answers(asking, &gateway);
        assert!(answering.connections() >= clients / leaves_after);
    }
}

#[test]
fn who_waits_for_busy_upstreams_is_sent_to_the_first_that_has_room() {
    const WAITING: usize = 20;
    let upstreams = [Answering::new(1, usize::MAX), Answering::new(1, usize::MAX)];
    let [slow, other] = [0, 1].map(|place: usize| upstreams[place].start());
    let gateway = Gateway::serve(&format!("upstreams: [{}, {}]\nworkers: 1\n", slow.h2c_url(), other.h2c_url()));
    let [slow_closed, other_closed] = [0, 1].map(|place: usize| upstreams[place].gate.write());
    let asking = asking(&gateway, 2 * CONNECTIONS_MAX + WAITING);
    wait_in_flight(&gateway, 2 * CONNECTIONS_MAX + WAITING);
    wait_until("both are busy", || upstreams.iter().all(|upstream| upstream.connections() == CONNECTIONS_MAX));
    drop(other_closed);
    wait_in_flight(&gateway, CONNECTIONS_MAX);
    drop(slow_closed);
    expect_answers(asking, &gateway);
}

#[test]
fn slow_requests_on_connections_that_the_upstream_ends_leave_place_for_others() {
    let clients = 2 * CONNECTIONS_MAX;
    let answering = Answering::new(100, 1);
    let upstream = answering.start();
    let gateway = Gateway::serve(&format!("upstream: {}\nworkers: 1\n", upstream.h2c_url()));
    let closed = answering.gate.write();
    let asking = asking(&gateway, clients);
    wait_until("each has a connection", || answering.connections() == clients);
    drop(closed);
    expect_answers(asking, &gateway);
}

#[test]
fn upstreams_that_leave_connections_under_load_cost_no_request() {
    const CLIENTS: usize = 30;
    for (requests, each) in [(1, 5), (7, 40), (100, 100)] {
        let answering = Answering::new(1000, requests);
        let upstream = answering.start();
        let gateway = Gateway::serve(&format!("upstream: {}\nworkers: 1\n", upstream.h2c_url()));
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut client = gateway.client();
                    for round in 0..each {
                        // Whatever the method: the upstream did not look at it.
                        let (method, body) = [("GET", ""), ("POST", "some body")][round % 2];
                        let answer = client.send(method, "/", &[], body.as_bytes());
                        assert_eq!(answer.status(), 200, "{requests} requests on a connection: {}", answer.text());
                    }
                });
            }
        });
        let least = CLIENTS * each / requests;
        assert!(answering.connections() >= least, "each connection serves {requests} requests");
    }
}
