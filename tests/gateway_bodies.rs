//! What a filter may do with bodies and answers, in the gateway: hold, replace and end bodies, answer in the middle,
//! put its own answer in place of another. The filter is that of the host library's tests: a piece that begins with `R`
//! is replaced by `no`, `E` ends the body with `no`, `X` answers 418, one of a single byte waits, for Redis if it is
//! the last.

mod component_file;

use std::{sync::mpsc, time::Duration};

use slidegate_tests::{
    gateway_process::Gateway,
    http_client::{Answer, HttpClient},
    http2_client::{Http2Client, kind},
    raw_upstream::RawUpstream,
    redis_server::RedisServer,
    upstream::Upstream,
};

use self::component_file::Component;

/// A gateway whose filter holds (`ph`), watches (`pw`) or does not look at bodies (`p`).
struct Site {
    upstream: Upstream,
    gateway: Gateway,
    redis: RedisServer,
    component: Component,
}

fn serve(component: &Component, upstream: &str, redis: &RedisServer, mode: &str) -> Gateway {
    serve_with(component, upstream, redis, mode, "")
}

/// With more settings.
fn serve_with(component: &Component, upstream: &str, redis: &RedisServer, mode: &str, more: &str) -> Gateway {
    let redis = redis.url();
    let filter = format!("redis: {{names: {{redis.test: \"{redis}\"}}}}\nfilter: {{m: {mode}}}\n");
    component.serve(&format!("upstream: {upstream}\nworkers: 1\n{filter}{more}"))
}

impl Site {
    fn start(mode: &str) -> Self {
        let (component, upstream, redis) = (
            Component::of_module(include_str!("../host/tests/host/filter.wat")),
            Upstream::start(),
            RedisServer::start(),
        );
        let gateway = serve(&component, &upstream.url(), &redis, mode);
        Site { upstream, gateway, redis, component }
    }

    /// Another one, of whose upstream nothing listens.
    fn before_nobody(&self, mode: &str) -> Gateway {
        serve(&self.component, "http://127.0.0.1:1", &self.redis, mode)
    }

    fn client(&self) -> HttpClient {
        self.gateway.client()
    }

    fn post(&self, path: &str, body: &[u8]) -> Answer {
        self.client().send("POST", path, &[], body)
    }

    /// How many bytes of the last request's body came to the upstream, and the length that it was told.
    fn came(&self) -> (u64, Option<String>) {
        let seen = self.upstream.seen().pop().expect("a request came");
        (seen.body_bytes, seen.headers.get("content-length").map(|value| value.to_str().expect("text").to_owned()))
    }
}

fn told(length: u64) -> (u64, Option<String>) {
    (length, Some(length.to_string()))
}

#[test]
fn a_request_that_is_held_goes_on_with_what_the_filter_made_of_its_body() {
    let site = Site::start("ph");
    assert_eq!(site.post("/p", b"a body that passes").status(), 200);
    assert_eq!(site.came(), told(18));
    assert_eq!(site.post("/p", b"R body that is replaced").status(), 200);
    assert_eq!(site.came(), told(2));
    assert_eq!(site.post("/p", b"E body that ends").status(), 200);
    assert_eq!(site.came(), told(2));
    // Without a body, the filter waits for Redis all the same, which says that it may pass, with a change to its
    // headers.
    assert_eq!(site.client().get("/p", &[]).status(), 200);
    let seen = site.upstream.seen().pop().expect("a request came");
    assert_eq!((seen.body_bytes, seen.headers.get("x-edited").map(|value| value.as_bytes())), (0, Some(&b"yes"[..])));
}

#[test]
fn a_request_that_is_held_may_be_answered_before_the_upstream_hears_of_it() {
    let site = Site::start("ph");
    let answer = site.post("/p", b"X body that is refused");
    assert_eq!((answer.status(), answer.text().as_str()), (418, "no"));
    assert_eq!(site.upstream.requests(), 0);
}

#[test]
fn a_filter_that_keeps_a_request_too_long_is_not_taken_for_a_slow_client() {
    let site = Site::start("ph");
    let more = "timeouts: {response: 1s}\nlimits: {body_time: 200ms}\n";
    let gateway = serve_with(&site.component, &site.upstream.url(), &site.redis, "ph", more);
    let answer = gateway.client().send("POST", "/p", &[], b"W body that waits for ever");
    assert_eq!((answer.status(), answer.text().as_str()), (504, "the filter did not let the request go in time\n"));
    gateway.wait_printed("details=\"gateway.filter_timeout\"");
    // The client is still the one that is late with the rest of a body.
    let mut client = gateway.client();
    client.write(b"POST /p HTTP/1.1\r\nhost: a.test\r\ncontent-length: 9\r\n\r\nW").expect("the gateway reads");
    assert_eq!(client.read_head().expect("an answer").status, 408);
}

#[test]
fn what_is_watched_goes_on_unchanged() {
    let site = Site::start("pw");
    for body in [&b"R body"[..], b"E body", b"a"] {
        assert_eq!(site.post("/p", body).status(), 200);
        assert_eq!(site.came(), told(body.len() as u64), "{body:?}");
    }
    let answer = site.client().get("/bytes/100000", &[]);
    assert_eq!((answer.status(), answer.head.number("content-length")), (200, 100_000));
}

#[test]
fn an_upstream_is_let_go_with_the_client_though_its_response_is_watched() {
    let site = Site::start("pw");
    let (left, has_left) = mpsc::channel();
    let upstream = RawUpstream::start(move |mut connection| {
        connection.read_head();
        connection.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
        // Nothing more is said, until the other side is gone.
        let more = connection.read(1);
        left.send(more).expect("the test waits");
    });
    let gateway = serve(&site.component, &upstream.url(), &site.redis, "pw");
    let mut client = Http2Client::connect(gateway.listen(), 65_535).expect("the gateway accepts");
    let stream = client.get("/p").expect("the gateway reads");
    while client.read_frame().expect("an answer").kind != kind::DATA {}
    // The reason is `CANCEL`. The connection stays.
    client.frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes()).expect("the gateway reads");
    assert_eq!(has_left.recv_timeout(Duration::from_secs(10)), Ok(None));
}

#[test]
fn the_filter_gets_to_know_how_a_response_ended() {
    let site = Site::start("pw");
    let endings = |gateway: &Gateway, digit: char| gateway.wait_log(&format!("over {digit}"));
    assert_eq!(site.client().get("/bytes/100000", &[]).status(), 200);
    endings(&site.gateway, '0');
    // An upstream that breaks off, and one that is not there.
    let upstream = RawUpstream::start(|mut connection| {
        connection.read_head();
        connection.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
    });
    let gateway = serve(&site.component, &upstream.url(), &site.redis, "pw");
    let mut client = gateway.client();
    client.write(b"GET /p HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("the gateway reads");
    assert_eq!(client.read_head().expect("an answer").status, 200);
    endings(&gateway, '2');
    let upstream = RawUpstream::answering("nonsense\r\n\r\n");
    let gateway = serve(&site.component, &upstream.url(), &site.redis, "pw");
    assert_eq!(gateway.client().get("/d", &[]).status(), 418, "in place of 502");
    // A client that leaves in the middle of a body, and one that does before there is an answer.
    for head in ["HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", ""] {
        let (came, has_come) = mpsc::channel();
        let upstream = RawUpstream::start(move |mut connection| {
            connection.read_head();
            connection.write(head.as_bytes());
            came.send(()).expect("the test waits");
            connection.read(1);
        });
        let gateway = serve(&site.component, &upstream.url(), &site.redis, "pw");
        let mut client = gateway.client();
        client.write(b"GET /p HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("the gateway reads");
        has_come.recv_timeout(Duration::from_secs(10)).expect("the upstream is asked");
        if !head.is_empty() {
            assert_eq!(client.read_head().expect("an answer").status, 200);
        }
        drop(client);
        endings(&gateway, '1');
    }
}

#[test]
fn a_response_that_is_held_loses_its_length_and_nothing_else() {
    let site = Site::start("ph");
    let answer = site.client().get("/bytes/100000", &[]);
    assert_eq!((answer.status(), answer.text().len(), answer.head.header("content-length")), (200, 100_000, None));
    // Each of its bytes waits alone, and is kept until the end, when Redis says that it may go on.
    let answer = site.client().get("/trickle/5", &[]);
    assert_eq!((answer.status(), answer.text().len(), answer.head.text("x-edited")), (200, 5, Some("yes".to_owned())));
}

#[test]
fn the_log_tells_what_the_filter_said_while_it_saw_the_bodies() {
    for mode in ["ph", "pw"] {
        let body = "A body of which something is said";
        let upstream =
            RawUpstream::answering(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
        let site = Site::start(mode);
        for (at, method, path, body) in [(&site.upstream.url(), "POST", "/p", body), (&upstream.url(), "GET", "/p", "")]
        {
            let gateway = serve(&site.component, at, &site.redis, mode);
            assert_eq!(gateway.client().send(method, path, &[], body.as_bytes()).status(), 200);
            let line = gateway.wait_printed("status=200");
            assert!(line.contains("rule=\"yes\""), "{mode} {method}: {line}");
        }
    }
}

#[test]
fn the_filters_answer_takes_the_place_of_the_gateways_own() {
    let site = Site::start("pw");
    let gateway = site.before_nobody("pw");
    assert_eq!(gateway.client().get("/p", &[]).status(), 418);
    gateway.wait_printed("details=\"fixture.refused\"");
    assert_eq!(site.before_nobody("p").client().get("/p", &[]).status(), 502);
}

#[test]
fn the_filters_histograms_have_the_filters_buckets() {
    let site = Site::start("p");
    let (_, text) = site.gateway.ask_admin("/metrics");
    let bounds: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("fixture_bytes_bucket{le=\"")?.split_once('"')).collect();
    assert_eq!(bounds, [("1", "} 0"), ("10", "} 0"), ("+Inf", "} 0")]);
}

#[test]
fn changes_to_a_response_are_made_to_whatever_comes_without_a_call() {
    let site = Site::start("p");
    for (gateway, status) in [(&site.gateway, 200), (&site.before_nobody("p"), 502)] {
        for (path, edited) in [("/d", Some("yes".to_owned())), ("/p", None)] {
            let answer = gateway.client().get(path, &[]);
            assert_eq!((answer.status(), answer.head.text("x-edited")), (status, edited), "{path}");
        }
    }
}
