//! The gateway as a proxy: what has to arrive arrives as it was sent, in HTTP/1.1 and HTTP/2, and what is meant for one
//! connection stays there.

use std::{io::Write, thread};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Version, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use slidegate_tests::{
    gateway_process::{Gateway, wait_until},
    http_client::HttpClient,
    upstream::Upstream,
};
use tokio::{net::TcpStream, runtime::Builder};

const MEGABYTE: u64 = 1 << 20;

/// More than any buffer between client and upstream.
const LARGE: u64 = 100 * MEGABYTE;

/// A gateway may grow by so much while a large body passes.
const GROWTH_MAX: u64 = 24 * MEGABYTE;

/// A gateway with a filter that never refuses in front of an upstream.
fn rig(scheme: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let url = if scheme == "h2c" { upstream.h2c_url() } else { upstream.url() };
    let filter = "{rule_name: wide, global_threshold: {query_per_second: 1000000}, show_limit_quota_header: true}";
    let gateway = Gateway::serve(&format!("upstream: {url}\nfilter: {filter}\n"));
    (upstream, gateway)
}

#[test]
fn a_request_arrives_as_it_was_sent_with_where_it_came_from() {
    let (upstream, gateway) = rig("http");
    let headers = [
        ("x-forwarded-for", "1.1.1.1, 2.2.2.2"),
        ("x-forwarded-for", "3.3.3.3"),
        ("x-forwarded-proto", "https"),
        ("x-own", "a"),
        ("x-own", "b"),
    ];
    let mut client = gateway.client();
    let answer = client.send("PATCH", "/a%20b/%2Bd/c?q=%zz&r=1;2&&=", &headers, b"some body");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hello\n"));
    let seen = upstream.last();
    assert_eq!((seen.method.as_str(), seen.uri.to_string().as_str()), ("PATCH", "/a%20b/%2Bd/c?q=%zz&r=1;2&&="));
    assert_eq!((seen.body_bytes, seen.is_whole), (9, true));
    assert_eq!(seen.body_sum, b"some body".iter().map(|byte| u64::from(*byte)).sum::<u64>());
    assert_eq!(seen.text("content-length").as_deref(), Some("9"));
    assert_eq!(seen.text("host"), Some(gateway.listen().to_string()));
    assert_eq!(seen.text("x-forwarded-for").as_deref(), Some("1.1.1.1, 2.2.2.2, 3.3.3.3, 127.0.0.1"));
    assert_eq!(seen.text("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(seen.text("x-forwarded-host"), Some(gateway.listen().to_string()));
    assert!(seen.text("via").is_some_and(|via| via.starts_with("1.1 slidegate-")));
    assert_eq!(seen.headers.get_all("x-own").iter().collect::<Vec<_>>(), ["a", "b"]);
}

/// A trace is its participants' own: the gateway has no span in it, and so changes nothing, not even what is malformed.
#[test]
fn a_trace_passes_untouched() {
    for scheme in ["http", "h2c"] {
        let (upstream, gateway) = rig(scheme);
        for traceparent in ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "cc-00-of-a-later-version"] {
            let states = ["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "vendor@tenant= spaces within,"];
            let headers = [
                ("TraceParent", traceparent),
                ("tracestate", states[0]),
                ("tracestate", states[1]),
                ("baggage", "user=a%20b;p=1, other=2"),
            ];
            assert_eq!(gateway.get("/traced", &headers).0, 200);
            let seen = upstream.last();
            assert_eq!(seen.headers.get_all("traceparent").iter().collect::<Vec<_>>(), [traceparent], "{scheme}");
            assert_eq!(seen.headers.get_all("tracestate").iter().collect::<Vec<_>>(), states, "{scheme}");
            assert_eq!(seen.text("baggage").as_deref(), Some("user=a%20b;p=1, other=2"), "{scheme}");
        }
        gateway.get("/", &[]);
        assert_eq!(upstream.last().text("traceparent"), None, "none is made up");
    }
}

#[test]
fn what_is_meant_for_one_connection_stays_there() {
    let (upstream, gateway) = rig("http");
    let mut client = gateway.client();
    let headers = [
        ("connection", "keep-alive, X-Hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=9"),
        ("proxy-connection", "keep-alive"),
        ("te", "gzip, trailers"),
        ("upgrade", "websocket"),
        ("x-end-to-end", "1"),
    ];
    let answer = client.get("/hop", &headers);
    let seen = upstream.last();
    for name in ["x-hop", "keep-alive", "proxy-connection", "upgrade"] {
        assert_eq!(seen.text(name), None, "{name} was passed on to the upstream");
    }
    assert_eq!(seen.text("te").as_deref(), Some("trailers"));
    assert_eq!(seen.text("x-end-to-end").as_deref(), Some("1"));
    for name in ["x-private", "keep-alive"] {
        assert_eq!(answer.head.text(name), None, "{name} was passed on to the client");
    }
    assert_eq!(answer.head.text("x-public").as_deref(), Some("2"));
    assert_eq!(client.get("/again", &[]).status(), 200, "the client's connection was kept");
}

#[test]
fn statuses_without_body_have_none_and_the_connection_goes_on() {
    let (upstream, gateway) = rig("http");
    let mut client = gateway.client();
    for status in [204, 304, 200, 404, 500] {
        let answer = client.get(&format!("/status/{status}"), &[]);
        assert_eq!((answer.status(), answer.body.len()), (status, 0));
        assert_eq!(answer.head.number("x-ratelimit-limit"), 1_000_000, "{answer:?}");
    }
    let answer = client.send("HEAD", "/bytes/4096", &[], b"");
    assert_eq!((answer.status(), answer.head.number("content-length"), answer.body.len()), (200, 4096, 0));
    assert_eq!(upstream.last().method, "HEAD");
    let answer = client.send("OPTIONS", "*", &[], b"");
    assert_eq!((answer.status(), upstream.last().uri.to_string().as_str()), (200, "*"));
    assert_eq!(client.get("/", &[]).text(), "hello\n");
}

#[test]
fn chunks_and_trailers_pass_both_ways() {
    let (upstream, gateway) = rig("http");
    let mut client = gateway.client();
    let request = "POST /trailers HTTP/1.1\r\nhost: a.test\r\nte: trailers\r\ntransfer-encoding: chunked\r\ntrailer: \
                   x-check\r\n\r\n";
    client.write(request.as_bytes()).expect("the gateway reads");
    client.write(b"4\r\nfour\r\n3;ext=1\r\nsix\r\n0\r\nx-check: 7\r\n\r\n").expect("the gateway reads");
    let answer = client.read_answer("POST").expect("an answer");
    let seen = upstream.last();
    assert_eq!((seen.body_bytes, seen.is_whole, seen.text("host").as_deref()), (7, true, Some("a.test")));
    assert_eq!(seen.trailers.expect("the request's trailers")["x-check"], "7");
    assert_eq!(answer.body, b"00000");
    assert_eq!(answer.trailers, [("x-sum".to_owned(), b"5".to_vec())]);
}

#[test]
fn a_body_arrives_whatever_the_method_and_whoever_tells_its_length() {
    let (upstream, gateway) = rig("http");
    for method in ["GET", "DELETE", "POST"] {
        for framed in ["content-length: 5\r\n\r\nhello", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"] {
            let mut client = gateway.client();
            client.write(format!("{method} / HTTP/1.1\r\nhost: a\r\n{framed}").as_bytes()).expect("it is sent");
            assert_eq!(client.read_answer(method).expect("an answer").status(), 200, "{method} {framed}");
            let seen = upstream.last();
            assert_eq!((seen.method.as_str(), seen.body_bytes, seen.is_whole), (method, 5, true), "{framed}");
        }
    }
    gateway.client().get("/", &[]);
    assert_eq!(upstream.last().text("transfer-encoding"), None, "where there is none, none is announced");
}

#[test]
fn a_body_is_asked_for_before_it_is_sent() {
    let (upstream, gateway) = rig("http");
    let mut client = gateway.client();
    client
        .write(b"PUT /x HTTP/1.1\r\nhost: a.test\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        .expect("the gateway reads");
    assert_eq!(client.read_head().expect("an interim answer").status, 100);
    client.write(b"abc").expect("the gateway reads");
    let answer = client.read_answer("PUT").expect("an answer");
    assert_eq!((answer.status(), upstream.last().body_bytes), (200, 3));
}

#[test]
fn a_refused_upload_need_not_be_sent() {
    let upstream = Upstream::start();
    let filter = "{rule_name: one, global_threshold: {query_per_hour: 1}}";
    let gateway = Gateway::serve(&format!("upstream: {}\nfilter: {filter}\n", upstream.url()));
    assert_eq!(gateway.get("/", &[]).0, 200);
    let mut client = gateway.client();
    client
        .write(b"PUT /x HTTP/1.1\r\nhost: a.test\r\nexpect: 100-continue\r\ncontent-length: 1000000\r\n\r\n")
        .expect("the gateway reads");
    let answer = client.read_answer("PUT").expect("an answer");
    assert_eq!((answer.status(), upstream.requests()), (429, 1));
}

#[test]
fn large_bodies_stream_both_ways_without_being_kept() {
    let (upstream, gateway) = rig("http");
    assert_eq!(gateway.get("/", &[]).0, 200);
    let before = gateway.peak_memory_bytes();
    let down = thread::scope(|scope| {
        let down = [format!("/bytes/{LARGE}"), format!("/chunked/{LARGE}")]
            .map(|path| scope.spawn(|| download(&gateway, path)));
        let up = scope.spawn(|| upload(&gateway));
        up.join().expect("the upload ends");
        down.map(|download| download.join().expect("the download ends"))
    });
    assert_eq!(down, [LARGE; 2]);
    let uploaded = upstream.seen().into_iter().find(|seen| seen.method == "POST").expect("the upload arrived");
    assert_eq!((uploaded.body_bytes, uploaded.is_whole, uploaded.body_sum), (LARGE, true, LARGE * u64::from(b'u')));
    let growth = gateway.peak_memory_bytes() - before;
    assert!(growth < GROWTH_MAX, "the gateway grew by {growth} bytes");
}

fn download(gateway: &Gateway, path: impl AsRef<str>) -> u64 {
    let mut client = gateway.client();
    client
        .write(format!("GET {} HTTP/1.1\r\nhost: a.test\r\n\r\n", path.as_ref()).as_bytes())
        .expect("the gateway reads");
    let head = client.read_head().expect("an answer");
    let mut length = 0;
    client.read_body("GET", &head, |piece| length += piece.len() as u64).expect("the whole body");
    length
}

fn upload(gateway: &Gateway) {
    let mut client = gateway.client();
    client
        .write(format!("POST /up HTTP/1.1\r\nhost: a.test\r\ncontent-length: {LARGE}\r\n\r\n").as_bytes())
        .expect("the gateway reads");
    let piece = vec![b'u'; usize::try_from(MEGABYTE).expect("a small number")];
    for _ in 0..LARGE / MEGABYTE {
        client.write(&piece).expect("the gateway reads");
    }
    assert_eq!(client.read_answer("POST").expect("an answer").status(), 200);
}

#[test]
fn a_slow_client_holds_the_upstream_back() {
    let (_upstream, gateway) = rig("http");
    let before = gateway.peak_memory_bytes();
    let mut client = gateway.client();
    client.write(format!("GET /bytes/{LARGE} HTTP/1.1\r\nhost: a.test\r\n\r\n").as_bytes()).expect("the gateway reads");
    let head = client.read_head().expect("an answer");
    // Long enough for a gateway without back-pressure to swallow it all.
    thread::sleep(std::time::Duration::from_millis(500));
    let growth = gateway.peak_memory_bytes() - before;
    assert!(growth < GROWTH_MAX, "the gateway grew by {growth} bytes");
    let mut length = 0;
    client.read_body("GET", &head, |piece| length += piece.len() as u64).expect("the whole body");
    assert_eq!(length, LARGE);
}

#[test]
fn a_tunnel_carries_bytes_both_ways_until_one_side_ends() {
    let (upstream, gateway) = rig("http");
    let mut client = gateway.client();
    client
        .write(b"GET /upgrade HTTP/1.1\r\nhost: a.test\r\nconnection: keep-alive, Upgrade\r\nupgrade: echo\r\n\r\n")
        .expect("the gateway reads");
    let head = client.read_head().expect("an answer");
    assert_eq!((head.status, head.text("upgrade").as_deref()), (101, Some("echo")));
    assert_eq!(upstream.last().text("upgrade").as_deref(), Some("echo"));
    for message in [b"first".to_vec(), vec![0xff; 200_000]] {
        let mut writer = client.writer();
        let sent = message.clone();
        let sender = thread::spawn(move || writer.write_all(&sent));
        assert!(client.read_raw(message.len()).expect("the echo") == message);
        sender.join().expect("the sender ends").expect("the tunnel is open");
    }
    client.finish().expect("the tunnel is open");
    assert_eq!(client.read_to_end(|_| ()).expect("the tunnel ends"), 0);
    wait_until("the tunnel is logged", || gateway.printed().contains("status=101"));
}

#[test]
fn an_upgrade_that_the_upstream_ignores_is_an_ordinary_request() {
    let (_upstream, gateway) = rig("http");
    let mut client = gateway.client();
    let answer = client.get("/", &[("connection", "upgrade"), ("upgrade", "echo")]);
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hello\n"));
    assert_eq!(client.get("/", &[]).text(), "hello\n");
}

#[test]
fn http2_from_end_to_end_and_across_versions() {
    for upstream_speaks in ["http", "h2c"] {
        let (upstream, gateway) = rig(upstream_speaks);
        let version = if upstream_speaks == "h2c" { Version::HTTP_2 } else { Version::HTTP_11 };
        assert_eq!(gateway.get("/one", &[]).0, 200);
        assert_eq!(upstream.last().version, version);
        over_http2(&gateway, &upstream, version);
    }
}

/// Many requests at once over one HTTP/2 connection, one of them with trailers, one large.
fn over_http2(gateway: &Gateway, upstream: &Upstream, version: Version) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(async {
        let socket = TcpStream::connect(gateway.listen()).await.expect("the gateway listens");
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.expect("HTTP/2");
        tokio::spawn(connection);
        let ask = |path: &str, body: Vec<u8>| {
            let request = Request::post(format!("http://h2.test{path}"))
                .header("te", "trailers")
                .body(Full::new(Bytes::from(body)));
            let mut sender = sender.clone();
            async move {
                let response = sender.send_request(request.expect("a request")).await.expect("an answer");
                (response.status(), response.into_body().collect().await.expect("the whole body"))
            }
        };
        let (trailers, large, uploaded) =
            tokio::join!(ask("/trailers", vec![]), ask("/chunked/5000000", vec![]), ask("/up", vec![b'x'; 3_000_000]));
        assert_eq!(trailers.1.trailers().expect("trailers")["x-sum"], "5");
        assert_eq!(large.1.to_bytes().len(), 5_000_000);
        assert_eq!((uploaded.0.as_u16(), uploaded.1.to_bytes().as_ref()), (200, b"hello\n".as_slice()));
        let answers: Vec<_> = (0..50).map(|index| tokio::spawn(ask(&format!("/{index}"), vec![b'y'; index]))).collect();
        for answer in answers {
            assert_eq!(answer.await.expect("a task ends").0, 200);
        }
    });
    let up = upstream.seen().into_iter().find(|seen| seen.uri.path() == "/up").expect("the upload arrived");
    assert_eq!((up.version, up.body_bytes, up.is_whole), (version, 3_000_000, true));
    assert_eq!(up.text("x-forwarded-host").as_deref(), Some("h2.test"));
    assert!(up.text("via").is_some_and(|via| via.starts_with("2.0 slidegate-")));
}

#[test]
fn an_http2_client_may_send_long_headers_and_may_leave() {
    let (upstream, gateway) = rig("http");
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(async {
        let socket = TcpStream::connect(gateway.listen()).await.expect("the gateway listens");
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.expect("HTTP/2");
        tokio::spawn(connection);
        let request = |path: &str, long: usize| {
            let request = Request::get(format!("http://h2.test{path}")).header("x-long", "v".repeat(long));
            request.body(Full::new(Bytes::new())).expect("a request")
        };
        let response = sender.send_request(request("/long", 100 << 10)).await.expect("an answer");
        assert_eq!(response.status(), 200);
        let too_long = sender.send_request(request("/longer", 200 << 10)).await;
        assert!(too_long.is_err() || too_long.is_ok_and(|response| response.status() == 431));
        let cut = sender.send_request(request("/bytes/1000000000", 1)).await.expect("an answer");
        assert_eq!(cut.status(), 200);
    });
    // The connection's task goes with it, and closes the socket.
    drop(runtime);
    let long = upstream.seen().into_iter().find(|seen| seen.uri.path() == "/long").and_then(|seen| seen.text("x-long"));
    assert_eq!(long.map(|value| value.len()), Some(100 << 10));
    assert!(upstream.seen().iter().all(|seen| seen.uri.path() != "/longer"));
    wait_until("nothing is in flight", || gateway.metrics().sum("slidegate_requests_in_flight", &[]) == 0.0);
    assert_eq!(gateway.get("/", &[]).0, 200);
}

#[test]
fn routes_are_chosen_by_host_and_path_and_limited_by_name() {
    let (orders, shop, rest) = (Upstream::start(), Upstream::start(), Upstream::start());
    let gateway = Gateway::serve(&format!(
        "routes:
  - {{name: rest, upstream: \"{}\"}}
  - {{name: orders, path_prefix: /orders, upstream: \"{}\"}}
  - {{name: shop, host: \"*.shop.test\", upstream: \"{}\"}}
filter:
  _rules_:
    - {{_match_route_: [orders], rule_name: orders, global_threshold: {{query_per_day: 1}}}}
    - {{_match_domain_: [\"*.shop.test\"], rule_name: shop, global_threshold: {{query_per_day: 2}}}}
",
        rest.url(),
        orders.url(),
        shop.url()
    ));
    let mut client = HttpClient::connect(gateway.listen());
    let mut ask = |host: &str, path: &str| {
        client.write(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).expect("the gateway reads");
        client.read_answer("GET").expect("an answer").status()
    };
    let statuses = [
        ask("x", "/orders/1"),
        ask("x", "/orders"),
        ask("x", "/orders2"),
        ask("A.shop.test", "/orders"),
        ask("a.SHOP.test:80", "/"),
        ask("a.shop.test", "/"),
        ask("a.shop.test", "/"),
        ask("a.shop.test", "/"),
    ];
    // Neither routes nor `_match_domain_` care for letter case, so that `SHOP` meets the limit too.
    assert_eq!(statuses, [200, 429, 200, 200, 200, 429, 429, 429]);
    assert_eq!((orders.requests(), rest.requests(), shop.requests()), (1, 1, 2));
}
