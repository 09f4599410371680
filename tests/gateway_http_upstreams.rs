//! HTTP as upstreams speak it: what is wrong with an answer does not reach the client, and what an upstream did not do
//! is asked for again where that cannot make it do it twice.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use slidegate_tests::{
    gateway_process::{Gateway, wait_until},
    http2_client::{Http2Client, kind},
    raw_upstream::{RawConnection, RawUpstream},
    upstream::Upstream,
};

fn gateway(upstream: &RawUpstream, more: &str) -> Gateway {
    Gateway::serve(&format!("upstream: {}\nworkers: 1\n{more}", upstream.url()))
}

fn blamed(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("slidegate_upstream_errors_total", &[])
}

#[test]
fn chunks_count_whatever_length_is_claimed() {
    for head in [
        "content-length: 3\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 300",
        "content-length: 1\r\ncontent-length: 2\r\ntransfer-encoding: chunked",
    ] {
        let upstream =
            RawUpstream::answering(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"));
        let gateway = gateway(&upstream, "");
        let mut client = gateway.client();
        let answer = client.get("/", &[]);
        assert_eq!(
            (answer.status(), answer.text().as_str(), answer.head.text("content-length")),
            (200, "hello world", None),
            "{head}"
        );
        assert_eq!(client.get("/", &[]).text(), "hello world", "what follows is the next answer");
    }
}

#[test]
fn an_answer_that_cannot_be_read_is_502() {
    let coding = "the upstream answered in a transfer coding that is not known here\n";
    let no_http = "the upstream's answer is not HTTP\n";
    for (head, told) in [
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", coding),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n", coding),
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd", no_http),
        ("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", no_http),
        ("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", no_http),
        ("HTTP/1.1 2000 OK\r\n\r\n", no_http),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", no_http),
        ("HTTP/3.0 200 OK\r\n\r\n", no_http),
        ("SSH-2.0-OpenSSH_9.2\r\n", no_http),
    ] {
        let upstream = RawUpstream::answering(head);
        let gateway = gateway(&upstream, "");
        assert_eq!(gateway.get("/", &[]), (502, told.to_owned()), "{head:?}");
        assert_eq!(gateway.metrics().sum("slidegate_upstream_errors_total", &[("cause", "reset")]), 1.0, "{head:?}");
        gateway.wait_printed("details=\"gateway.upstream_reset\"");
    }
    // An answer that ends in the middle may have been one.
    let upstream = RawUpstream::start(|mut connection| {
        connection.read_head();
        connection.write(b"HTTP/1.1 200 OK\r\ncontent-le");
    });
    assert_eq!(gateway(&upstream, "").get("/", &[]), (502, "the upstream broke off before it answered\n".to_owned()));
}

#[test]
fn one_that_speaks_another_protocol_is_told_so() {
    // Before it is asked, as SSH does.
    let upstream = RawUpstream::start(|mut connection| {
        connection.write(b"SSH-2.0-OpenSSH_9.2\r\n");
        connection.wait();
    });
    assert_eq!(gateway(&upstream, "").get("/", &[]), (502, "the upstream's answer is not HTTP\n".to_owned()));
    let upstream = RawUpstream::start(|mut connection| {
        connection.read(24);
        connection.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        connection.wait();
    });
    let (status, told) = http2_gateway(&upstream, "").get("/", &[]);
    assert_eq!(
        (status, told.as_str()),
        (502, "the upstream's answer is not HTTP/2, or has a larger header than passes here\n")
    );
}

#[test]
fn a_body_that_cannot_be_read_breaks_off_after_all_that_could() {
    for (chunks, readable) in [
        ("zz\r\n", ""),
        ("-1\r\nx\r\n", ""),
        ("ffffffffffffffffff\r\n", ""),
        ("5\r\nhello\r\nzz\r\n", "hello"),
        ("5\r\nhelloXX", "hello"),
    ] {
        let upstream = RawUpstream::answering(format!(
            "HTTP/1.1 201 Created\r\nx-own: 1\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"
        ));
        let gateway = gateway(&upstream, "");
        let mut client = gateway.client();
        client.write(b"GET /broken HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("the gateway reads");
        let head = client.read_head().unwrap_or_else(|error| panic!("{chunks:?}: no head: {error}"));
        assert_eq!((head.status, head.text("x-own").as_deref()), (201, Some("1")), "{chunks:?}");
        let mut body = Vec::new();
        assert!(
            client.read_body("GET", &head, |piece| body.extend_from_slice(piece)).is_err(),
            "{chunks:?}: a whole body"
        );
        assert_eq!(String::from_utf8_lossy(&body), readable, "{chunks:?}");
        assert!(
            gateway.wait_printed("path=\"/broken\"").contains("status=201")
                && gateway.printed().contains("broken_off=true")
        );

        let mut client = Http2Client::connect(gateway.listen(), 65_535).expect("the gateway accepts");
        let stream = client.get("/broken").expect("the gateway reads");
        let mut kinds = Vec::new();
        while kinds.last() != Some(&kind::RST_STREAM) {
            let frame = client.read_frame().expect("the connection goes on");
            kinds.extend((frame.stream == stream).then_some(frame.kind));
        }
        let expected = if readable.is_empty() {
            &[kind::HEADERS, kind::RST_STREAM][..]
        } else {
            &[kind::HEADERS, kind::DATA, kind::RST_STREAM]
        };
        assert_eq!(kinds, expected, "{chunks:?}");
    }
}

#[test]
fn an_answer_may_have_so_many_fields_and_no_more() {
    for (fields, status) in [(255, 200), (256, 502)] {
        let many: String = (0..fields).map(|index| format!("x-{index}: v\r\n")).collect();
        let upstream = RawUpstream::answering(format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{many}\r\nok"));
        let gateway = gateway(&upstream, "");
        let answer = gateway.client().get("/", &[]);
        assert_eq!(answer.status(), status, "{fields}");
        assert_eq!(
            answer.text(),
            if status == 200 { "ok" } else { "the upstream's answer has more header fields than pass here\n" }
        );
    }
}

#[test]
fn interim_answers_are_passed_on() {
    let upstream = RawUpstream::start(|mut connection| {
        while connection.read_head().is_some() {
            connection.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n");
            thread::sleep(Duration::from_millis(50));
            connection.write(
                b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nconnection: x-own\r\nx-own: 1\r\n\r\n",
            );
            connection.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let gateway = gateway(&upstream, "");
    let mut client = gateway.client();
    // The second request comes while the first is being answered.
    client.write("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n".repeat(2).as_bytes()).expect("the gateway reads");
    for _ in 0..2 {
        assert_eq!(client.read_head().expect("an interim answer").status, 102);
        let hints = client.read_head().expect("an interim answer");
        assert_eq!((hints.status, hints.text("link").as_deref()), (103, Some("</a.css>; rel=preload")));
        assert_eq!(hints.text("x-own"), None);
        assert_eq!(client.read_answer("GET").expect("an answer").text(), "ok");
    }
    // HTTP/1.0 has none.
    let mut old = gateway.client();
    old.write(b"GET / HTTP/1.0\r\nhost: a.test\r\n\r\n").expect("the gateway reads");
    assert_eq!(old.read_answer("GET").expect("an answer").text(), "ok");
}

#[test]
fn hints_without_end_do_no_harm() {
    let upstream = RawUpstream::start(|mut connection| {
        connection.read_head();
        let hint = format!("HTTP/1.1 103 Early Hints\r\nx-long: {}\r\n\r\n", "v".repeat(10_000));
        while connection.write(hint.as_bytes()) {}
    });
    let gateway = gateway(&upstream, "timeouts: {response: 500ms}\n");
    let before = gateway.peak_memory_bytes();
    let mut client = gateway.client();
    client.write(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("the gateway reads");
    let last = loop {
        let head = client.read_head().expect("an answer");
        if head.status != 103 {
            break head.status;
        }
    };
    assert_eq!(last, 504);
    let growth = gateway.peak_memory_bytes() - before;
    assert!(growth < 8 << 20, "the gateway grew by {growth} bytes");
}

/// Answers the first request of a connection, and closes it when the second has come: what a server does that gave up
/// waiting.
fn impatient() -> RawUpstream {
    RawUpstream::start(|mut connection| {
        let Some(head) = connection.read_head() else { return };
        let body = if head.starts_with("HEAD") { "" } else { "ok" };
        connection.write(format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{body}").as_bytes());
        connection.read_head();
    })
}

#[test]
fn a_kept_connection_that_was_closed_costs_no_request() {
    let upstream = impatient();
    let gateway = gateway(&upstream, "");
    let mut client = gateway.client();
    for (method, path) in
        [("GET", "/1"), ("GET", "/2"), ("HEAD", "/3"), ("OPTIONS", "/4"), ("DELETE", "/5"), ("PUT", "/6")]
    {
        assert_eq!(client.send(method, path, &[], b"").status(), 200, "{method}");
    }
    // Each but the first was sent twice.
    assert_eq!((upstream.heads().len(), blamed(&gateway)), (11, 0.0));
}

#[test]
fn what_may_not_be_done_twice_is_sent_once() {
    let upstream = impatient();
    let gateway = gateway(&upstream, "");
    let mut client = gateway.client();
    for (method, body) in [("POST", ""), ("PATCH", ""), ("PUT", "body"), ("DELETE", "body")] {
        assert_eq!(client.get("/first", &[]).status(), 200);
        assert_eq!(client.send(method, "/once", &[], body.as_bytes()).status(), 502, "{method}");
    }
    assert_eq!(upstream.heads().iter().filter(|head| head.contains("/once")).count(), 4);
    assert_eq!(blamed(&gateway), 4.0);
}

#[test]
fn a_request_is_sent_twice_at_most() {
    let upstream = RawUpstream::start(|mut connection| {
        connection.read_head();
        if connection.index == 0 {
            connection.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            connection.read_head();
        }
    });
    let gateway = gateway(&upstream, "");
    let mut client = gateway.client();
    assert_eq!([client.get("/1", &[]).status(), client.get("/2", &[]).status()], [200, 502]);
    assert_eq!(upstream.heads().len(), 3);
    // A new connection is no excuse.
    assert_eq!((client.get("/3", &[]).status(), upstream.heads().len()), (502, 4));
}

#[test]
fn an_answer_that_has_begun_is_not_asked_for_again() {
    let upstream = RawUpstream::start(|mut connection| {
        connection.read_head();
        connection.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        connection.read_head();
        connection.write(b"HTTP/1.1 200 O");
    });
    let gateway = gateway(&upstream, "");
    let mut client = gateway.client();
    assert_eq!([client.get("/1", &[]).status(), client.get("/2", &[]).status()], [200, 502]);
    assert_eq!(upstream.heads().len(), 2);
}

/// Tells on which connection each request came.
fn numbering() -> RawUpstream {
    RawUpstream::start(|mut connection| {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{}", connection.index);
        while connection.read_head().is_some() && connection.write(answer.as_bytes()) {}
    })
}

#[test]
fn connections_are_kept_for_a_while_and_not_for_ever() {
    let upstream = numbering();
    let idle = gateway(&upstream, "timeouts: {upstream_idle: 1s}\n");
    let mut client = idle.client();
    assert_eq!([client.get("/", &[]).text(), client.get("/", &[]).text()], ["0", "0"]);
    thread::sleep(Duration::from_millis(1_500));
    assert_eq!(client.get("/", &[]).text(), "1");
    let upstream = numbering();
    let aged = gateway(&upstream, "timeouts: {upstream_age: 1s}\n");
    let mut client = aged.client();
    assert_eq!(client.get("/", &[]).text(), "0");
    let mut seen = String::new();
    // Busy all the time, and left all the same.
    wait_until("another connection is used", || {
        seen = client.get("/", &[]).text();
        seen == "1"
    });
}

/// One side of HTTP/2: sees to settings and pings, and calls `request` for the header block of each stream. It ends
/// when that says so.
fn serve_http2(connection: &mut RawConnection, mut request: impl FnMut(&mut RawConnection, u32) -> bool) {
    if connection.read(24).is_none() || !connection.write_frame(SETTINGS, 0, 0, &[]) {
        return;
    }
    while let Some((kind, flags, stream, payload)) = connection.read_frame() {
        let goes_on = match kind {
            SETTINGS if flags & ACK == 0 => connection.write_frame(SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => connection.write_frame(PING, ACK, 0, &payload),
            HEADERS => request(connection, stream),
            _ => true,
        };
        if !goes_on {
            return;
        }
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;

/// `:status: 200`, and no body.
fn answer_http2(connection: &mut RawConnection, stream: u32) -> bool {
    connection.write_frame(HEADERS, 5, stream, &[0x88])
}

fn reset(connection: &mut RawConnection, stream: u32, code: u32) -> bool {
    connection.write_frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

fn http2_gateway(upstream: &RawUpstream, more: &str) -> Gateway {
    Gateway::serve(&format!("upstream: {}\nworkers: 1\n{more}", upstream.h2c_url()))
}

#[test]
fn a_refused_stream_is_sent_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let upstream = RawUpstream::start(move |mut connection| {
        serve_http2(&mut connection, |connection, stream| match counted.fetch_add(1, Ordering::SeqCst) % 2 {
            0 => reset(connection, stream, REFUSED_STREAM),
            _ => answer_http2(connection, stream),
        });
    });
    let gateway = http2_gateway(&upstream, "");
    let mut client = gateway.client();
    // Whatever the method: the upstream did not look at it.
    for (method, body) in [("GET", ""), ("POST", ""), ("POST", "some body"), ("PATCH", "x")] {
        assert_eq!(client.send(method, "/", &[], body.as_bytes()).status(), 200, "{method} {body}");
    }
    assert_eq!((asked.load(Ordering::SeqCst), blamed(&gateway)), (8, 0.0));
}

#[test]
fn an_upstream_that_refuses_each_time_is_not_asked_for_ever() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let upstream = RawUpstream::start(move |mut connection| {
        serve_http2(&mut connection, |connection, stream| {
            counted.fetch_add(1, Ordering::SeqCst);
            reset(connection, stream, REFUSED_STREAM)
        });
    });
    let gateway = http2_gateway(&upstream, "");
    assert_eq!((gateway.get("/", &[]).0, asked.load(Ordering::SeqCst)), (502, 3));
}

#[test]
fn a_request_that_one_upstream_refuses_goes_to_another() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let refusing = RawUpstream::start(move |mut connection| {
        serve_http2(&mut connection, |connection, stream| {
            counted.fetch_add(1, Ordering::SeqCst);
            reset(connection, stream, REFUSED_STREAM)
        });
    });
    let good = Upstream::start();
    for (round, url) in [good.h2c_url(), good.url()].iter().enumerate() {
        let urls = format!("upstreams: [{}, {url}]", refusing.h2c_url());
        let gateway = Gateway::serve(&format!("{urls}\nworkers: 1\ntimeouts: {{upstream_ejection: 1h}}\n"));
        let mut client = gateway.client();
        for _ in 0..20 {
            assert_eq!(client.send("POST", "/", &[], b"some body").status(), 200, "{url}");
            assert_eq!(good.last().body_bytes, 9);
        }
        // It has its turns all the time, and no blame.
        assert_eq!((asked.load(Ordering::SeqCst), blamed(&gateway)), ((round + 1) * 10, 0.0));
        assert_eq!(gateway.log_lines("an upstream does not answer"), [""; 0]);
    }
}

#[test]
fn who_ends_one_stream_is_not_left_out() {
    let resetting = RawUpstream::start(|mut connection| {
        serve_http2(&mut connection, |connection, stream| reset(connection, stream, INTERNAL_ERROR));
    });
    let good = Upstream::start();
    let urls = format!("upstreams: [{}, {}]", resetting.h2c_url(), good.url());
    let gateway = Gateway::serve(&format!("{urls}\nworkers: 1\ntimeouts: {{upstream_ejection: 1h}}\n"));
    let mut client = gateway.client();
    let failed = (0..20).filter(|_| client.get("/", &[]).status() == 502).count();
    assert_eq!((failed, blamed(&gateway)), (10, 10.0));
    assert_eq!(gateway.log_lines("an upstream does not answer"), [""; 0]);
}

/// Reads the body of the stream that has just begun, until it ends or `enough` is read.
fn read_body_http2(connection: &mut RawConnection, enough: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < enough
        && let Some((kind, flags, _, payload)) = connection.read_frame()
    {
        match kind {
            DATA => {
                body.extend_from_slice(&payload);
                if flags & END_STREAM != 0 {
                    break;
                }
            }
            SETTINGS if flags & ACK == 0 => drop(connection.write_frame(SETTINGS, ACK, 0, &[])),
            _ => {}
        }
    }
    body
}

#[test]
fn a_body_that_is_sent_again_is_whole() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let upstream = RawUpstream::start(move |mut connection| {
        serve_http2(&mut connection, |connection, stream| {
            // Refused when a part of the body has come; answered if the next attempt has all of it.
            if counted.fetch_add(1, Ordering::SeqCst) == 0 {
                read_body_http2(connection, 1);
                return reset(connection, stream, REFUSED_STREAM);
            }
            let is_whole = read_body_http2(connection, usize::MAX) == b"first part, second part";
            if is_whole { answer_http2(connection, stream) } else { reset(connection, stream, INTERNAL_ERROR) }
        });
    });
    let gateway = http2_gateway(&upstream, "");
    let mut client = gateway.client();
    client
        .write(b"POST /up HTTP/1.1\r\nhost: a.test\r\ncontent-length: 23\r\n\r\nfirst part, ")
        .expect("the gateway reads");
    wait_until("the request is sent again", || asked.load(Ordering::SeqCst) == 2);
    client.write(b"second part").expect("the gateway reads");
    assert_eq!((client.read_answer("POST").expect("an answer").status(), asked.load(Ordering::SeqCst)), (200, 2));
}

#[test]
fn a_body_that_is_too_large_to_be_kept_is_sent_once() {
    let upstream = RawUpstream::start(|mut connection| {
        serve_http2(&mut connection, |connection, stream| {
            // As much as may be sent without leave.
            read_body_http2(connection, 65_535);
            connection.write_frame(WINDOW_UPDATE, 0, 0, &100_000_u32.to_be_bytes());
            connection.write_frame(WINDOW_UPDATE, 0, stream, &100_000_u32.to_be_bytes());
            read_body_http2(connection, 1);
            reset(connection, stream, REFUSED_STREAM)
        });
    });
    let gateway = http2_gateway(&upstream, "");
    let mut client = gateway.client();
    client.write(b"POST /up HTTP/1.1\r\nhost: a.test\r\ncontent-length: 300000\r\n\r\n").expect("the gateway reads");
    let _ = client.write(&vec![b'x'; 100_000]);
    assert_eq!((client.read_head().expect("an answer").status, blamed(&gateway)), (502, 1.0));
}

#[test]
fn what_a_leaving_upstream_did_not_look_at_is_sent_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let upstream = RawUpstream::start(move |mut connection| {
        let leaves = connection.index.is_multiple_of(2);
        serve_http2(&mut connection, |connection, stream| {
            counted.fetch_add(1, Ordering::SeqCst);
            // Stream 0, or this one, is the last that it looked at.
            let last = if leaves { 0 } else { stream };
            if !leaves {
                answer_http2(connection, stream);
            }
            connection.write_frame(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat());
            // A close with something unread would reset what was sent.
            connection.wait();
            false
        });
    });
    let gateway = http2_gateway(&upstream, "");
    let mut client = gateway.client();
    for (method, body) in [("POST", "some body"), ("GET", ""), ("POST", "")] {
        assert_eq!(client.send(method, "/", &[], body.as_bytes()).status(), 200, "{method} {body}: {}", gateway.log());
    }
    assert_eq!((asked.load(Ordering::SeqCst), blamed(&gateway)), (6, 0.0));
}

#[test]
fn what_an_upstream_may_have_done_is_not_sent_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let connections = Arc::new(AtomicUsize::new(0));
    let (counted, connected) = (Arc::clone(&asked), Arc::clone(&connections));
    let upstream = RawUpstream::start(move |mut connection| {
        connected.fetch_add(1, Ordering::SeqCst);
        serve_http2(&mut connection, |connection, stream| {
            counted.fetch_add(1, Ordering::SeqCst);
            reset(connection, stream, INTERNAL_ERROR)
        });
    });
    let gateway = http2_gateway(&upstream, "");
    assert_eq!([gateway.client().send("POST", "/", &[], b"x").status(), gateway.get("/", &[]).0], [502, 502]);
    assert_eq!((asked.load(Ordering::SeqCst), blamed(&gateway)), (2, 2.0));
    assert_eq!(connections.load(Ordering::SeqCst), 1, "the connection goes on");
}

#[test]
fn a_connection_that_fell_silent_is_left_after_one_timeout() {
    let upstream = RawUpstream::start(|mut connection| {
        let falls_silent = connection.index == 0;
        serve_http2(&mut connection, |connection, stream| {
            answer_http2(connection, stream);
            if falls_silent {
                // What was in flight is read by the time-out of the first request.
                connection.wait();
            }
            true
        });
    });
    let gateway = http2_gateway(&upstream, "timeouts: {response: 1s}\n");
    let mut client = gateway.client();
    assert_eq!([0, 1, 2, 3].map(|_| client.get("/", &[]).status()), [200, 504, 200, 200]);
}

#[test]
fn a_connection_on_which_others_are_answered_is_not_left() {
    let upstream = Upstream::start();
    let gateway =
        Gateway::serve(&format!("upstream: {}\nworkers: 1\ntimeouts: {{response: 500ms}}\n", upstream.h2c_url()));
    let late = thread::scope(|scope| {
        let late = scope.spawn(|| gateway.get("/delay/60000", &[]).0);
        let mut client = gateway.client();
        while !late.is_finished() {
            assert_eq!(client.get("/", &[]).status(), 200);
        }
        late.join().expect("a client ends")
    });
    assert_eq!((late, gateway.get("/", &[]).0), (504, 200));
}

/// A connection of HTTP/2 as an upstream sends on it, which may be no more than the gateway allows.
struct Flow {
    connection: i64,
    streams: HashMap<u32, i64>,
    initial: i64,
}

impl Flow {
    /// Sees what the gateway says of its windows.
    fn see(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let number = |bytes: &[u8]| i64::from(u32::from_be_bytes(bytes.try_into().expect("four bytes")));
        match kind {
            WINDOW_UPDATE if stream == 0 => self.connection += number(payload),
            WINDOW_UPDATE => *self.streams.entry(stream).or_insert(self.initial) += number(payload),
            SETTINGS if flags & ACK == 0 => {
                let initial = payload.chunks_exact(6).find(|setting| setting[..2] == [0, 4]);
                self.initial = initial.map_or(self.initial, |setting| number(&setting[2..]));
            }
            _ => {}
        }
    }

    /// Whether so many bytes may be sent on this stream; they count as sent then.
    fn take(&mut self, stream: u32, bytes: i64) -> bool {
        let window = self.streams.entry(stream).or_insert(self.initial);
        let may = bytes <= *window && bytes <= self.connection;
        if may {
            *window -= bytes;
            self.connection -= bytes;
        }
        may
    }
}

/// Streams a body without end, in such pieces, to whoever asks first, and answers all others on the same connection
/// with one piece.
fn stream_to_the_first(connection: &mut RawConnection, piece: usize) {
    let mut flow = Flow { connection: 65_535, streams: HashMap::new(), initial: 65_535 };
    let piece = vec![b'x'; piece];
    let length = i64::try_from(piece.len()).expect("a short piece");
    let mut first = None;
    if connection.read(24).is_none() || !connection.write_frame(SETTINGS, 0, 0, &[]) {
        return;
    }
    while let Some((kind, flags, stream, payload)) = connection.read_frame() {
        flow.see(kind, flags, stream, &payload);
        match kind {
            SETTINGS if flags & ACK == 0 => drop(connection.write_frame(SETTINGS, ACK, 0, &[])),
            PING if flags & ACK == 0 => drop(connection.write_frame(PING, ACK, 0, &payload)),
            HEADERS => {
                connection.write_frame(HEADERS, 4, stream, &[0x88]);
                if *first.get_or_insert(stream) != stream && flow.take(stream, length) {
                    connection.write_frame(DATA, END_STREAM, stream, &piece);
                }
            }
            _ => {}
        }
        if let Some(first) = first {
            while flow.take(first, length) && connection.write_frame(DATA, 0, first, &piece) {}
        }
    }
}

#[test]
fn a_client_that_takes_nothing_holds_up_nobody_on_the_same_connection() {
    for piece in [16_000, 20] {
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let upstream = RawUpstream::start(move |mut connection| {
            counted.fetch_add(1, Ordering::SeqCst);
            stream_to_the_first(&mut connection, piece);
        });
        let gateway = http2_gateway(&upstream, "timeouts: {response: 2s}\n");
        let mut stalled = gateway.client();
        stalled.write(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("the gateway reads");
        assert_eq!(stalled.read_head().expect("an answer").status, 200);
        // By then it has got what the system keeps for it.
        thread::sleep(Duration::from_secs(1));
        for _ in 0..10 {
            let answer = gateway.get("/", &[]);
            assert_eq!((answer.0, answer.1.len()), (200, piece), "pieces of {piece}: {}", gateway.log());
        }
        assert_eq!(connections.load(Ordering::SeqCst), 1, "pieces of {piece}");
        stalled.read_raw(10_000_000).expect("the answer goes on");
    }
}
