//! Upstreams that fail, clients that leave, requests that are none: each gets a defined answer, and the gateway goes
//! on.

use std::{fmt::Write, net::TcpListener, thread, time::Duration};

use slidegate_tests::{
    gateway_process::{Gateway, wait_until},
    http_client::Answer,
    upstream::Upstream,
};

const FILTER: &str = "filter: {rule_name: wide, rule_items: [{limit_by_per_header: x-key, limit_keys: [{key: \"*\", \
                      query_per_hour: 3}]}]}\n";

fn rig(more: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&format!("upstream: {}\n{FILTER}{more}", upstream.url()));
    (upstream, gateway)
}

/// Sends bytes on a connection of their own and reads what comes back; none if the gateway only closes.
fn raw(gateway: &Gateway, bytes: &[u8]) -> Option<Answer> {
    let mut client = gateway.client();
    // The gateway may close before it has read everything.
    let _ = client.write(bytes);
    client.read_answer("GET").ok()
}

fn raw_status(gateway: &Gateway, request: &str) -> u16 {
    raw(gateway, request.as_bytes()).map_or(0, |answer| answer.status())
}

fn in_flight(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("slidegate_requests_in_flight", &[])
}

/// The gateway is as it was: nothing in flight, and it serves.
fn assert_well(gateway: &mut Gateway) {
    wait_until("nothing is in flight", || in_flight(gateway) == 0.0);
    assert_eq!(gateway.get("/", &[]), (200, "hello\n".to_owned()));
    assert!(gateway.is_running());
    assert_eq!(gateway.metrics().sum("slidegate_component_traps_total", &[]), 0.0);
    assert!(!gateway.log().contains("panic"), "{}", gateway.log());
}

#[test]
fn an_upstream_that_is_away_is_502_until_it_is_back() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
    let gateway = Gateway::serve(&format!("upstream: http://127.0.0.1:{port}\n{FILTER}"));
    let (status, body) = gateway.get("/", &[]);
    assert_eq!((status, body.as_str()), (502, "the upstream cannot be reached\n"));
    let line = gateway.wait_printed("status=502");
    assert!(line.contains("details=\"gateway.upstream_connect\""), "{line}");
    assert_eq!(gateway.metrics().sum("slidegate_upstream_errors_total", &[("cause", "connect")]), 1.0);
    let _upstream = Upstream::start_on(port);
    assert_eq!(gateway.get("/", &[]), (200, "hello\n".to_owned()));
}

#[test]
fn an_upstream_that_does_not_answer_in_time_is_504() {
    let (_upstream, mut gateway) = rig("timeouts: {response: 200ms}\n");
    let (status, body) = gateway.get("/delay/60000", &[]);
    assert_eq!((status, body.as_str()), (504, "the upstream did not answer in time\n"));
    assert_eq!(gateway.metrics().sum("slidegate_upstream_errors_total", &[("cause", "timeout")]), 1.0);
    // Time counts to the headers, not to the end of the body.
    let (status, body) = gateway.get("/trickle/30", &[]);
    assert_eq!((status, body.len()), (200, 30));
    assert_well(&mut gateway);
}

#[test]
fn an_upstream_that_breaks_off_before_it_answers_is_502() {
    let (_upstream, mut gateway) = rig("");
    assert_eq!(gateway.get("/reset", &[]), (502, "the upstream broke off before it answered\n".to_owned()));
    assert_eq!(gateway.metrics().sum("slidegate_upstream_errors_total", &[("cause", "reset")]), 1.0);
    assert_well(&mut gateway);
}

#[test]
fn a_body_that_is_cut_is_not_passed_for_whole() {
    let (_upstream, mut gateway) = rig("");
    let mut client = gateway.client();
    let cut = client.try_send("GET", "/cut", &[], b"");
    assert!(cut.is_err(), "{cut:?}");
    let line = gateway.wait_printed("/cut");
    assert!(line.contains("status=200") && line.contains("sent=10 ") && line.contains("broken_off=true"), "{line}");
    assert_well(&mut gateway);
}

#[test]
fn an_upstream_may_refuse_an_upload_before_its_end() {
    let (_upstream, mut gateway) = rig("");
    let mut client = gateway.client();
    client
        .write(b"POST /early HTTP/1.1\r\nhost: a.test\r\ncontent-length: 100000000\r\n\r\nsome")
        .expect("the gateway reads");
    assert_eq!(client.read_head().expect("an answer").status, 413);
    drop(client);
    assert_well(&mut gateway);
}

#[test]
fn clients_that_leave_take_nothing_with_them() {
    let (upstream, mut gateway) = rig("");
    let mut uploading = gateway.client();
    uploading
        .write(b"POST /up HTTP/1.1\r\nhost: a.test\r\ncontent-length: 1000\r\n\r\nhalf")
        .expect("the gateway reads");
    let mut downloading = gateway.client();
    downloading.write(b"GET /bytes/1000000000 HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("the gateway reads");
    downloading.read_raw(100_000).expect("the download begins");
    let mut waiting = gateway.client();
    waiting.write(b"GET /delay/3000 HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("the gateway reads");
    wait_until("all three reach the upstream", || upstream.requests() == 3);
    assert_eq!(in_flight(&gateway), 3.0);
    drop((uploading, downloading, waiting));
    wait_until("the upstream hears of the upload's end", || {
        upstream.seen().iter().any(|seen| seen.uri.path() == "/up" && !seen.is_whole)
    });
    assert_well(&mut gateway);
}

#[test]
fn a_client_that_stops_in_the_middle_of_its_upload_is_408() {
    let (_upstream, mut gateway) = rig("timeouts: {response: 300ms, request_headers: 300ms}\n");
    let mut client = gateway.client();
    client.write(b"POST /up HTTP/1.1\r\nhost: a.test\r\ncontent-length: 1000\r\n\r\nhalf").expect("the gateway reads");
    assert_eq!(client.read_head().expect("an answer").status, 408);
    // One that never finishes its headers, and one that never begins, are let go.
    let mut slow = gateway.client();
    slow.write(b"GET / HTTP/1.1\r\nhost: a").expect("the gateway reads");
    let mut silent = gateway.client();
    slow.read_to_end(|_| ()).expect("the gateway closes");
    assert_eq!(silent.read_to_end(|_| ()).expect("the gateway closes"), 0);
    assert_well(&mut gateway);
}

#[test]
fn requests_without_a_proper_host_or_route_are_refused() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::serve(&format!(
        "routes: [{{name: a, host: a.test, path_prefix: /a, upstream: \"{url}\"}}, {{name: rest, host: b.test, \
         upstream: \"{url}\"}}]\n{FILTER}",
        url = upstream.url()
    ));
    for (request, status) in [
        ("GET /a HTTP/1.1\r\nhost: a.test\r\n\r\n", 200),
        ("GET http://a.test/a HTTP/1.1\r\nhost: elsewhere\r\n\r\n", 200),
        ("GET /b HTTP/1.1\r\nhost: a.test\r\n\r\n", 404),
        ("GET /a HTTP/1.1\r\nhost: c.test\r\n\r\n", 404),
        ("GET /a HTTP/1.1\r\n\r\n", 400),
        ("GET /a HTTP/1.0\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nhost:\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nhost: a.test\r\nhost: a.test\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nhost: user@a.test\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\nhost: a.test/a\r\n\r\n", 400),
        ("CONNECT a.test:443 HTTP/1.1\r\nhost: a.test\r\n\r\n", 405),
    ] {
        assert_eq!(raw_status(&gateway, request), status, "{request:?}");
    }
    assert_eq!(
        raw(&gateway, b"GET /a HTTP/1.1\r\nhost: a.test\r\nhost: \xff\r\n\r\n").map(|answer| answer.status()),
        Some(400)
    );
    assert_eq!(upstream.requests(), 2);
    assert_eq!(raw_status(&gateway, "GET / HTTP/1.0\r\nhost: b.test\r\n\r\n"), 200);
    wait_until("nothing is in flight", || in_flight(&gateway) == 0.0);
    assert!(gateway.is_running());
}

#[test]
fn headers_of_a_hundred_kilobytes_pass_and_larger_ones_are_431() {
    let (upstream, mut gateway) = rig("");
    let long = "v".repeat(100 << 10);
    let mut client = gateway.client();
    assert_eq!(client.get("/long", &[("x-long", &long)]).status(), 200);
    assert_eq!(upstream.last().text("x-long").map(|value| value.len()), Some(100 << 10));
    let mut many = String::new();
    (0..90).for_each(|index| write!(many, "x-{index}: {}\r\n", "w".repeat(1_000)).expect("a string grows"));
    assert_eq!(raw_status(&gateway, &format!("GET /many HTTP/1.1\r\nhost: a.test\r\n{many}\r\n")), 200);
    for too_long in ["v".repeat(200 << 10), "v".repeat(10 << 20)] {
        let status = raw_status(&gateway, &format!("GET / HTTP/1.1\r\nhost: a.test\r\nx-long: {too_long}\r\n\r\n"));
        assert!([0, 431].contains(&status), "{status}");
    }
    assert!(
        [0, 414, 431].contains(&raw_status(
            &gateway,
            &format!("GET /{} HTTP/1.1\r\nhost: a.test\r\n\r\n", "p".repeat(300 << 10))
        ))
    );
    assert_eq!(upstream.requests(), 2);
    assert_well(&mut gateway);
}

#[test]
fn header_bytes_that_are_not_text_pass_and_are_counted_as_they_are() {
    let (upstream, mut gateway) = rig("");
    let request = |key: &[u8]| [b"GET /raw HTTP/1.1\r\nhost: a.test\r\nx-key: ", key, b"\r\n\r\n"].concat();
    let statuses: Vec<u16> =
        (0..4).filter_map(|_| raw(&gateway, &request(b"\xff\x80"))).map(|answer| answer.status()).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
    assert_eq!(upstream.last().headers["x-key"].as_bytes(), b"\xff\x80");
    let other = raw(&gateway, &request(b"\xff\x81")).expect("an answer");
    assert_eq!((other.status(), other.head.header("x-raw")), (200, Some(b"\xff\xfe".as_slice())));
    // A long value is a key of its own too, and so is one that looks like a part of a key.
    for key in ["k".repeat(50 << 10).as_bytes(), b"}:x{%", b"*"] {
        let statuses: Vec<u16> =
            (0..4).filter_map(|_| raw(&gateway, &request(key))).map(|answer| answer.status()).collect();
        assert_eq!(statuses, [200, 200, 200, 429]);
    }
    assert_well(&mut gateway);
}

/// Applications behind CGI, WSGI or Rack see one name.
#[test]
fn a_key_whose_name_is_spelt_with_underscores_is_counted() {
    let (_upstream, gateway) = rig("");
    let spellings = ["x-key", "x_key", "X_Key", "x-key", "x_key"];
    assert_eq!(spellings.map(|name| gateway.get("/", &[(name, "one")]).0), [200, 200, 200, 429, 429]);
}

#[test]
fn what_a_client_may_not_say_is_not_believed_behind_a_body() {
    let (upstream, gateway) = rig("");
    let head = "POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, x-mse-consumer, \
                x-slidegate-a, x_mse_consumer";
    let trailers = "0\r\nx-sum: 7\r\nx-mse-consumer: boss\r\nx-slidegate-a: 1\r\nx_mse_consumer: boss\r\n\r\n";
    assert_eq!(raw_status(&gateway, &format!("{head}\r\n\r\n{trailers}")), 200);
    let names: Vec<String> =
        upstream.last().trailers.iter().flat_map(|fields| fields.keys()).map(ToString::to_string).collect();
    assert_eq!(names, ["x-sum"]);
}

#[test]
fn what_is_not_http_is_refused_or_dropped_and_smuggles_nothing() {
    // Short, for those that look like the beginning of something.
    let (upstream, mut gateway) = rig("timeouts: {request_headers: 500ms, response: 500ms}\n");
    let host = "host: a.test\r\n";
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a.test\r\n\r\n";
    let bad = [
        "\r\n\r\n\r\n".to_owned(),
        "hello\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}".to_owned(),
        format!("GET / HTTP/9.9\r\n{host}\r\n"),
        format!("G\0T / HTTP/1.1\r\n{host}\r\n"),
        format!("GET /a b HTTP/1.1\r\n{host}\r\n"),
        format!("GET / HTTP/1.1\r\n{host}no colon\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}x y: 1\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}x: a\0b\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{host}content-length: -1\r\n\r\n{smuggled}"),
        format!("POST / HTTP/1.1\r\n{host}content-length: 4\r\ncontent-length: 5\r\n\r\nabcde{smuggled}"),
        format!("POST / HTTP/1.1\r\n{host}content-length: 1e3\r\n\r\n{smuggled}"),
        format!("POST / HTTP/1.1\r\n{host}transfer-encoding: gzip\r\n\r\n{smuggled}"),
        format!("POST / HTTP/1.1\r\n{host}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("POST / HTTP/1.1\r\n{host}transfer-encoding: chunked\r\n\r\nzz\r\n\r\n{smuggled}"),
        format!("POST / HTTP/1.1\r\n{host}transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n\r\n{smuggled}"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnot a frame at all, but long enough to be read as one".to_owned(),
    ];
    for request in &bad {
        let status = raw_status(&gateway, request);
        assert!(!(200..400).contains(&status), "{request:?} was answered {status}");
    }
    // Both lengths: the chunks count, whatever else is claimed.
    let both = format!(
        "POST /both HTTP/1.1\r\n{host}content-length: {}\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        6 + smuggled.len()
    );
    let status = raw_status(&gateway, &both);
    assert!([0, 200, 400].contains(&status), "{status}");
    assert!(
        upstream
            .seen()
            .iter()
            .all(|seen| seen.uri.path() != "/smuggled" && (seen.uri.path() != "/both" || seen.body_bytes == 1))
    );
    assert_well(&mut gateway);
}

#[test]
fn queries_cookies_and_forwarded_fields_of_any_kind_are_only_data() {
    let upstream = Upstream::start();
    let filter = "filter:
  rule_name: parts
  rule_match: all
  rule_items:
    - {limit_by_per_param: id, limit_keys: [{key: \"*\", query_per_day: 1000000}]}
    - {limit_by_per_cookie: sid, limit_keys: [{key: \"regexp:^.\", query_per_day: 1000000}]}
    - {limit_by_per_ip: from-header-x-forwarded-for, limit_keys: [{key: \"::/0\", query_per_day: 1000000}]}
    - {limit_by_per_ip: from-header-x-real-ip, trusted_hops: 2, limit_keys: [{key: 0.0.0.0/0, query_per_day: 1000000}]}
";
    let mut gateway = Gateway::serve(&format!("upstream: {}\n{filter}", upstream.url()));
    let mut client = gateway.client();
    let texts = [
        "",
        "=",
        "&&&",
        "id",
        "id=",
        "id=%",
        "id=%zz",
        "id=%ff",
        "id=1;2",
        "id=a=b",
        "sid",
        "sid;sid",
        "sid=",
        "=sid",
        ";;",
        "%00",
        "[::1]:1",
        "]",
        "1.1.1.1,",
        ",",
        "1.2.3",
        "::ffff:1.2.3.4",
        "999.1.1.1",
        "fe80::1%eth0",
        "[",
        "\"sid=1\"",
    ];
    for text in texts {
        let path = format!("/?{}", text.replace(['"', ' '], ""));
        let headers = [("cookie", text), ("x-forwarded-for", text), ("x-real-ip", text)];
        let answer = client.try_send("GET", &path, &headers, b"").unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!((answer.status(), answer.text().as_str()), (200, "hello\n"), "{text:?}");
    }
    assert_eq!(upstream.requests(), texts.len() as u64);
    assert_well(&mut gateway);
}

#[test]
fn a_thousand_connections_that_say_nothing_are_no_obstacle() {
    let (_upstream, mut gateway) = rig("");
    let idle: Vec<_> = (0..1_000).map(|_| gateway.client()).collect();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let mut client = gateway.client();
            thread::spawn(move || {
                (0..100).map(|_| client.get("/", &[]).status()).filter(|status| *status == 200).count()
            })
        })
        .collect();
    assert!(threads.into_iter().all(|thread| thread.join().expect("a client ends") == 100));
    drop(idle);
    thread::sleep(Duration::from_millis(10));
    assert_well(&mut gateway);
}
