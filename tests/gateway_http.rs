//! HTTP as strangers speak it: each odd request gets a defined answer, none of them is blamed on the upstream, and none
//! gets around a route or a limit by its spelling.

use std::{
    collections::BTreeSet,
    fmt::Write,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, body::Body, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use slidegate_tests::{
    gateway_process::{Gateway, wait_until},
    http_client::Answer,
    http2_client::{Http2Client, kind},
    raw_upstream::RawUpstream,
    upstream::Upstream,
};
use socket2::SockRef;
use tokio::{net::TcpStream, runtime::Builder};

/// Flags of frames in HTTP/2.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Limits nothing that these tests send.
const WIDE: &str = "filter: {rule_name: wide, global_threshold: {query_per_day: 1000000}}\n";

/// Sends bytes on a connection of their own, says that no more come, and reads the answer.
fn raw(gateway: &Gateway, method: &str, bytes: impl AsRef<[u8]>) -> Option<Answer> {
    let mut client = gateway.client();
    // The gateway may answer, and close, before it has read everything.
    let _ = client.write(bytes.as_ref());
    let _ = client.finish();
    client.read_answer(method).ok()
}

fn status(gateway: &Gateway, request: impl AsRef<[u8]>) -> u16 {
    raw(gateway, "GET", request).map_or(0, |answer| answer.status())
}

fn blamed(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("slidegate_upstream_errors_total", &[])
}

#[test]
fn a_body_that_is_none_is_the_clients_fault() {
    let upstream = Upstream::start();
    for url in [upstream.url(), upstream.h2c_url()] {
        let gateway = Gateway::serve(&format!("upstream: {url}\n{WIDE}"));
        let chunks = [
            "zz\r\n\r\n",
            "5\r\nhello",
            "5\r\nhelloX\r\n0\r\n\r\n",
            "5\r\nhello\r\n-1\r\n\r\n",
            "ffffffffffffffffff\r\n\r\n",
            "5;\n\r\nhello\r\n0\r\n\r\n",
            "5\r\nhel",
        ];
        for chunk in chunks {
            let request = format!("POST /up HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n{chunk}");
            assert_eq!(status(&gateway, request), 400, "{chunk:?} to {url}");
        }
        assert_eq!(status(&gateway, "POST /up HTTP/1.1\r\nhost: a.test\r\ncontent-length: 10\r\n\r\nhalf"), 400);
        let line = gateway.wait_printed("status=400");
        assert!(line.contains("details=\"gateway.bad_request\""), "{line}");
        assert_eq!(blamed(&gateway), 0.0);
        assert_eq!(gateway.get("/", &[]).0, 200);
    }
    assert!(upstream.seen().iter().all(|seen| seen.uri.path() != "/up" || !seen.is_whole));
}

#[test]
fn a_request_may_have_so_many_fields_and_no_more() {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&format!("upstream: {}\n{WIDE}", upstream.url()));
    let request = |fields: usize| {
        let mut request = "GET /many HTTP/1.1\r\nhost: a.test\r\n".to_owned();
        (1..fields).for_each(|index| write!(request, "x-{index}: v\r\n").expect("a string grows"));
        request + "\r\n"
    };
    assert_eq!(status(&gateway, request(256)), 200);
    assert_eq!(status(&gateway, request(257)), 431);
    let answers = over_http2(&gateway, &[(256, "/two"), (257, "/more")], |(fields, path)| {
        // The host is no field in HTTP/2.
        (0..*fields).fold(Request::get(format!("http://a.test{path}")), |request, index| {
            request.header(format!("x-{index}"), "v")
        })
    });
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 431]);
    assert_eq!(upstream.requests(), 2);
}

#[test]
fn no_transfer_coding_but_chunked_is_known() {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&format!("upstream: {}\n{WIDE}", upstream.url()));
    for coding in [
        "gzip, chunked",
        "gzip\r\ntransfer-encoding: chunked",
        "chunked, chunked",
        "identity, chunked",
        "deflate,chunked",
    ] {
        let request = format!("POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: {coding}\r\n\r\n0\r\n\r\n");
        assert_eq!(status(&gateway, request), 501, "{coding:?}");
    }
    for coding in ["gzip", "chunked, gzip", "chunked;q=1"] {
        let request = format!("POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: {coding}\r\n\r\n0\r\n\r\n");
        assert!([400, 501].contains(&status(&gateway, request)), "{coding:?}");
    }
    let request = "POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: Chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    assert_eq!((status(&gateway, request), upstream.requests()), (200, 1));
}

#[test]
fn a_target_is_a_path_or_a_url_of_the_web() {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&format!("upstream: {}\n{WIDE}", upstream.url()));
    for target in [
        "evil.test",
        "evil.test:80",
        "ftp://a.test/",
        "ws://a.test/",
        "https://a.test/x",
        "file:///etc/passwd",
        "*",
        "a.test/x",
        "?x",
    ] {
        assert_eq!(status(&gateway, format!("GET {target} HTTP/1.1\r\nhost: a.test\r\n\r\n")), 400, "{target}");
    }
    for target in ["http://a.test/x", "HTTP://a.test/x?y", "//", "/x"] {
        assert_eq!(status(&gateway, format!("GET {target} HTTP/1.1\r\nhost: a.test\r\n\r\n")), 200, "{target}");
    }
    for host in ["a.test:99999", "a.test:x", ".", "a@b", "a b", "[::1"] {
        assert_eq!(status(&gateway, format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")), 400, "{host}");
    }
    // A proxy that took TLS off leaves the scheme of HTTP/2 as it was.
    let answers = over_http2(&gateway, &["http://a.test/x", "https://a.test/x", "ftp://a.test/x"], |target| {
        Request::get(*target)
    });
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 200, 400]);
}

#[test]
fn a_refused_head_is_not_cut() {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&format!(
        "upstream: {}\nfilter: {{rule_name: one, global_threshold: {{query_per_day: 1}}}}\n",
        upstream.url()
    ));
    assert_eq!(gateway.get("/", &[]).0, 200);
    let answer = raw(&gateway, "HEAD", "HEAD /refused HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("an answer");
    assert_eq!((answer.status(), answer.head.number("content-length")), (429, 17));
    let line = gateway.wait_printed("path=\"/refused\"");
    assert!(line.contains("status=429") && line.contains("broken_off=false"), "{line}");
    assert_eq!(
        raw(&gateway, "HEAD", "HEAD /none HTTP/1.1\r\nhost: a.test:x\r\n\r\n").expect("an answer").status(),
        400
    );
    let line = gateway.wait_printed("path=\"/none\"");
    assert!(line.contains("status=400") && line.contains("broken_off=false"), "{line}");
}

#[test]
fn who_says_no_more_still_gets_an_answer() {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&format!("upstream: {}\n{WIDE}", upstream.url()));
    for path in ["/delay/300", "/bytes/1000000", "/trickle/10"] {
        let answer = raw(&gateway, "GET", format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n\r\n")).expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
    }
    let answer = raw(&gateway, "POST", "POST /delay/200 HTTP/1.1\r\nhost: a.test\r\ncontent-length: 3\r\n\r\nabc")
        .expect("an answer");
    assert_eq!((answer.status(), upstream.last().body_bytes), (200, 3));
    // Both requests of a pipeline, though nothing follows them.
    let mut client = gateway.client();
    client.write("GET /delay/100 HTTP/1.1\r\nhost: a.test\r\n\r\n".repeat(2).as_bytes()).expect("the gateway reads");
    client.finish().expect("the connection is open");
    assert_eq!([0, 1].map(|_| client.read_answer("GET").expect("an answer").status()), [200, 200]);
    assert_eq!(client.read_to_end(|_| ()).expect("the gateway closes"), 0);
}

/// Whether it has closed its socket or only its side: the difference shows as soon as something is sent to it.
#[test]
fn who_leaves_is_noticed_while_the_upstream_is_silent() {
    let upstream = Upstream::start();
    for url in [upstream.url(), upstream.h2c_url()] {
        let gateway = Gateway::serve(&format!("upstream: {url}\n{WIDE}"));
        let in_flight = || gateway.metrics().sum("slidegate_requests_in_flight", &[]);
        let requests = [
            "GET /delay/50000 HTTP/1.1\r\nhost: a.test\r\n\r\n",
            "POST /delay/50000 HTTP/1.1\r\nhost: a.test\r\ncontent-length: 3\r\n\r\nabc",
        ];
        let mut clients = requests.map(|request| {
            let mut client = gateway.client();
            client.write(request.as_bytes()).expect("the gateway reads");
            client
        });
        wait_until("both wait", || in_flight() == 2.0);
        let before = Instant::now();
        drop(clients);
        wait_until("nobody waits", || in_flight() == 0.0);
        assert!(before.elapsed() < Duration::from_secs(30));
        assert_eq!(gateway.metrics().sum("slidegate_requests_total", &[("code", "gone")]), 2.0);
        // Of two that wait, the one that has closed its side is asked.
        clients = requests.map(|request| {
            let mut client = gateway.client();
            client.write(request.replace("50000", "2500").as_bytes()).expect("the gateway reads");
            client
        });
        clients[1].finish().expect("the connection is open");
        let [mut open, mut half_closed] = clients;
        assert_eq!(open.read_head().expect("an answer").status, 200);
        assert_eq!([0, 1].map(|_| half_closed.read_head().expect("an answer").status), [100, 200]);
    }
}

#[test]
fn nobody_is_asked_whether_he_is_there_after_his_answer() {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&format!("upstream: {}\ntimeouts: {{response: 1s}}\n{WIDE}", upstream.url()));
    let clients = [(); 20].map(|()| {
        let mut client = gateway.client();
        client.write(b"GET /delay/5000 HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("the gateway reads");
        client.finish().expect("the connection is open");
        client
    });
    for mut client in clients {
        let mut head = client.read_head().expect("an answer");
        if head.status == 100 {
            head = client.read_head().expect("an answer");
        }
        assert_eq!(head.status, 504);
        client.read_body("GET", &head, |_| ()).expect("a body");
        assert_eq!(client.read_to_end(|_| ()).expect("the gateway closes"), 0);
    }
}

/// Such as one of server-sent events. A reset tells; one that has closed its side cannot be asked any more.
#[test]
fn who_leaves_in_the_middle_of_an_answer_is_noticed_while_the_upstream_is_silent() {
    let upstream = RawUpstream::start(|mut connection| {
        connection.read_head();
        connection.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
        connection.wait();
    });
    let gateway = Gateway::serve(&format!("upstream: {}\n{WIDE}", upstream.url()));
    let in_flight = || gateway.metrics().sum("slidegate_requests_in_flight", &[]);
    let mut clients = [0, 1, 2].map(|_| gateway.client());
    for client in &mut clients {
        client.write(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("the gateway reads");
        assert_eq!(client.read_head().expect("an answer").status, 200);
        client.read_raw(10).expect("the first chunk");
    }
    let [stays, resets, closes] = clients;
    let before = Instant::now();
    SockRef::from(&resets.writer()).set_linger(Some(Duration::ZERO)).expect("a socket takes the option");
    drop(resets);
    wait_until("one has left", || in_flight() == 2.0);
    assert!(before.elapsed() < Duration::from_secs(8));
    drop(closes);
    wait_until("another one has left", || in_flight() == 1.0);
    assert!(before.elapsed() < Duration::from_secs(40));
    drop(stays);
}

#[test]
fn trace_is_not_served_and_options_counts_its_hops() {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&format!("upstream: {}\n{WIDE}", upstream.url()));
    let trace =
        raw(&gateway, "TRACE", "TRACE / HTTP/1.1\r\nhost: a.test\r\ncookie: secret=1\r\n\r\n").expect("an answer");
    assert_eq!((trace.status(), trace.text().contains("secret")), (405, false));
    assert!(
        trace.head.text("allow").is_some_and(|allow| allow.contains("GET") && !allow.contains("TRACE")),
        "{trace:?}"
    );
    let options = |hops: &str| {
        raw(&gateway, "OPTIONS", format!("OPTIONS /x HTTP/1.1\r\nhost: a.test\r\n{hops}\r\n")).expect("an answer")
    };
    let last = options("max-forwards: 0\r\n");
    assert_eq!((last.status(), last.head.text("allow").is_some(), upstream.requests()), (200, true, 0));
    for bad in ["max-forwards: x\r\n", "max-forwards: -1\r\n", "max-forwards: 1\r\nmax-forwards: 1\r\n"] {
        assert_eq!((options(bad).status(), upstream.requests()), (400, 0), "{bad}");
    }
    assert_eq!(
        (options("max-forwards: 3\r\n").status(), upstream.last().text("max-forwards").as_deref()),
        (200, Some("2"))
    );
    assert_eq!((options("").status(), upstream.last().text("max-forwards")), (200, None));
    // Of other methods it says nothing.
    assert_eq!(status(&gateway, "GET / HTTP/1.1\r\nhost: a.test\r\nmax-forwards: 0\r\n\r\n"), 200);
}

#[test]
fn what_only_the_gateway_may_say_is_not_passed_on() {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&format!("upstream: {}\n{WIDE}", upstream.url()));
    let mut client = gateway.client();
    client.get("/", &[("x-slidegate-degraded", "open"), ("X-SlideGate-Anything", "1"), ("x-slide", "1")]);
    let seen = upstream.last();
    let own: Vec<_> = seen.headers.keys().filter(|name| name.as_str().starts_with("x-slidegate")).collect();
    assert!(own.is_empty() && seen.text("x-slide").is_some(), "{own:?}");
}

/// Applications behind CGI take them for fields of other names: PHP a dot for a hyphen, lighttpd any sign.
#[test]
fn names_that_servers_read_in_different_ways_reach_nobody() {
    let upstream = Upstream::start();
    let odd = ["x.user", "x~user", "X|User.", "x.key", "x.mse.consumer", "x+slidegate-a", "x-forwarded.for"];
    let fields = odd.map(|name| format!("{name}: root\r\n")).concat();
    let post = format!(
        "POST / HTTP/1.1\r\nhost: a.test\r\nx-user: alice\r\nx_team: a\r\n{fields}trailer: x-sum, {}\r\n\
         transfer-encoding: chunked\r\n\r\n0\r\nx-sum: 7\r\n{fields}\r\n",
        odd.join(", ")
    );
    let over_http1 = |gateway: &Gateway| status(gateway, &post);
    let over_http2 = |gateway: &Gateway| {
        let mut client = Http2Client::connect(gateway.listen(), 1 << 20).expect("the gateway accepts");
        // Literal fields with new names.
        let literal = |name: &str, value: &str| {
            let text = |text: &str| [&[u8::try_from(text.len()).expect("a short text")], text.as_bytes()].concat();
            [vec![0], text(&name.to_ascii_lowercase()), text(value)].concat()
        };
        let block = |names: &[&str]| names.iter().flat_map(|name| literal(name, "root")).collect::<Vec<u8>>();
        let declared = literal("trailer", &format!("x-sum, {}", odd.join(", ")));
        let head = [client.header_block(b"POST", "/"), block(&["x-user", "x_team"]), block(&odd), declared].concat();
        let stream = client.headers(END_HEADERS, &head).expect("the gateway reads");
        let trailers = [block(&["x-sum"]), block(&odd)].concat();
        client.frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &trailers).expect("the gateway reads");
        assert!(client.read_to_end_of(stream).expect("the connection goes on"));
    };
    let seen = || {
        let seen = upstream.last();
        let named = |fields: &HeaderMap| {
            let names = fields.keys().map(|name| name.as_str().to_owned());
            names.filter(|name| name.starts_with('x') && !name.starts_with("x-forwarded-")).collect::<BTreeSet<_>>()
        };
        (named(&seen.headers), seen.trailers.as_ref().map(named).unwrap_or_default())
    };
    let set = |names: &[&str]| names.iter().map(|name| name.to_ascii_lowercase()).collect::<BTreeSet<_>>();
    let limit = "filter: {rule_name: r, rule_items: [{limit_by_per_header: x.key, limit_keys: [{key: root, \
                 query_per_day: 2}]}]}\n";
    let strict = Gateway::serve(&format!("upstream: {}\n{limit}", upstream.url()));
    for _ in 0..2 {
        assert_eq!(over_http1(&strict), 200);
        assert_eq!(seen(), (set(&["x-user", "x_team"]), set(&["x-sum"])));
        over_http2(&strict);
        assert_eq!(seen(), (set(&["x-user", "x_team"]), set(&["x-sum"])));
    }
    let told = strict.log().matches("read in different ways").count();
    assert_eq!((told, strict.log().contains("name=x.user")), (1, true), "{}", strict.log());
    // What is only the gateway's to say is so in any spelling.
    let all = Gateway::serve(&format!("upstream: {}\nheader_names: all\n{limit}", upstream.url()));
    let passed = ["x-user", "x_team", "x.user", "x~user", "x|user.", "x.key"];
    assert_eq!(over_http1(&all), 200);
    assert_eq!(seen(), (set(&passed), set(&["x-sum", "x.user", "x~user", "x|user.", "x.key"])));
    over_http2(&all);
    assert_eq!(seen(), (set(&passed), set(&["x-sum", "x.user", "x~user", "x|user.", "x.key"])));
    assert_eq!((over_http1(&all), all.log().contains("read in different ways")), (429, false));
}

/// A limited route beside a free one to the same upstream.
fn routes(upstream: &Upstream, more: &str) -> Gateway {
    let url = upstream.url();
    Gateway::serve(&format!(
        "routes:
  - {{name: login, path_prefix: /login, upstream: \"{url}\"}}
  - {{name: scope, path_prefix: \"/@scope\", upstream: \"{url}\"}}
  - {{name: rest, upstream: \"{url}\"}}
filter:
  _rules_:
    - {{_match_route_: [login], rule_name: login, global_threshold: {{query_per_day: 1}}}}
    - {{_match_route_: [scope], rule_name: scope, global_threshold: {{query_per_day: 1}}}}
{more}"
    ))
}

#[test]
fn a_route_is_met_by_every_spelling_of_its_path() {
    let upstream = Upstream::start();
    let gateway = routes(&upstream, "");
    assert_eq!([gateway.get("/login", &[]).0, gateway.get("/@scope/x", &[]).0], [200, 200]);
    for path in [
        "/login",
        "//login",
        "///login//x",
        "/%6Cogin",
        "/%6c%6f%67%69%6e?x=1",
        "/./login",
        "/x/../login",
        "/x/%2e%2e/login",
        "/x/.%2E/login",
        "/../login",
        "/login;a=1",
        "/login%3Ba=1",
        "/login/.",
        "/x/..//login",
        "http://a.test//login",
        "/%40scope/x",
        "/%40%73cope",
    ] {
        assert_eq!(status(&gateway, format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n\r\n")), 429, "{path}");
    }
    for path in [
        "/login%2F",
        "/x%2Flogin",
        "/..%2flogin",
        "/x\\..\\login",
        "/%5Clogin",
        "/login%00",
        "/%zz",
        "/x/..;/login",
        "/%u006cogin",
    ] {
        assert_eq!(status(&gateway, format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n\r\n")), 400, "{path}");
    }
    let before = upstream.requests();
    assert_eq!(gateway.get("/a/./b/%7Ec//d/../%c3%a4?q=%2F//&r=..", &[]).0, 200);
    assert_eq!(upstream.last().uri.to_string(), "/a/b/~c/%C3%A4?q=%2F//&r=..");
    assert_eq!(gateway.get("/logins", &[]).0, 200);
    assert_eq!(upstream.requests(), before + 2);
}

#[test]
fn the_filter_sees_the_path_that_is_forwarded() {
    let upstream = Upstream::start();
    let filter = "filter: {rule_name: p, rule_items: [{limit_by_header: \":path\", limit_keys: [{key: /login, \
                  query_per_day: 1}]}]}\n";
    let gateway = Gateway::serve(&format!("upstream: {}\n{filter}", upstream.url()));
    assert_eq!(
        ["/login", "/%6cogin", "//login", "/x/../login", "/else"].map(|path| gateway.get(path, &[]).0),
        [200, 429, 429, 429, 200]
    );
}

#[test]
fn other_spellings_may_be_refused_or_left_alone() {
    let upstream = Upstream::start();
    let refusing = routes(&upstream, "normalize_path: refuse\n");
    for path in ["//x", "/%78", "/x/../y", "/x;a", "/%252e", "/%c0%ae", "/x%2Fy"] {
        assert_eq!(refusing.get(path, &[]).0, 400, "{path}");
    }
    for path in ["/x", "/a%20b", "/%c3%a4/", "/x?y=//%78"] {
        assert_eq!(refusing.get(path, &[]).0, 200, "{path}");
    }
    let lenient = routes(&upstream, "normalize_path: off\n");
    for path in ["//login", "/%6cogin", "/a%2Fb/..//c;d", "/x?y"] {
        assert_eq!((lenient.get(path, &[]).0, upstream.last().uri.to_string().as_str()), (200, path));
    }
}

#[test]
fn a_route_is_met_by_every_spelling_of_its_host() {
    let upstream = Upstream::start();
    let url = upstream.url();
    let gateway = Gateway::serve(&format!(
        "routes:
  - {{name: api, host: api.test, upstream: \"{url}\"}}
  - {{name: six, host: \"[::1]\", upstream: \"{url}\"}}
  - {{name: sub, host: \"*.sub.test\", upstream: \"{url}\"}}
  - {{name: rest, upstream: \"{url}\"}}
filter:
  _rules_:
    - {{_match_route_: [api, six, sub], rule_name: api, rejected_code: 420, global_threshold: {{query_per_day: 1}}}}
"
    ));
    let ask = |host: &str| status(&gateway, format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"));
    assert_eq!(ask("api.test"), 200);
    for host in [
        "api.test",
        "api.test.",
        "API.Test",
        "api.test:80",
        "api.test.:8080",
        "api.test:",
        "[::1]",
        "[0:0:0:0:0:0:0:1]:80",
        "a.sub.test.",
    ] {
        assert_eq!(ask(host), 420, "{host}");
    }
    assert_eq!(status(&gateway, "GET http://API.test./ HTTP/1.1\r\nhost: else.test\r\n\r\n"), 420);
    assert_eq!(ask("else.test"), 200);
}

#[test]
fn a_client_cannot_say_who_it_is() {
    let upstream = Upstream::start();
    let filter = "filter: {rule_name: c, rule_items: [{limit_by_per_consumer: '', limit_keys: [{key: \"*\", \
                  query_per_day: 1}]}]}\n";
    let ask = |gateway: &Gateway| {
        let statuses = ["a", "a"].map(|consumer| gateway.get("/", &[("x-mse-consumer", consumer)]).0);
        (statuses, upstream.last().text("x-mse-consumer"))
    };
    let stranger = Gateway::serve(&format!("upstream: {}\n{filter}", upstream.url()));
    assert_eq!(ask(&stranger), ([200, 200], None));
    for trusted in ["true", "[127.0.0.0/8]", "[10.0.0.1, 127.0.0.1, \"::1\"]"] {
        let gateway = Gateway::serve(&format!("upstream: {}\ntrusted_consumer: {trusted}\n{filter}", upstream.url()));
        assert_eq!(ask(&gateway), ([200, 429], Some("a".to_owned())), "{trusted}");
    }
    for trusted in ["false", "[]", "[10.0.0.0/8]"] {
        let gateway = Gateway::serve(&format!("upstream: {}\ntrusted_consumer: {trusted}\n{filter}", upstream.url()));
        assert_eq!(ask(&gateway), ([200, 200], None), "{trusted}");
    }
}

#[test]
fn clients_of_grpc_are_answered_in_their_terms() {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&format!(
        "routes: [{{name: one, path_prefix: /shop, upstream: \"{}\"}}, {{name: away, path_prefix: /away, upstream: \
         \"h2c://127.0.0.1:1\"}}]
filter: {{rule_name: g, rule_items: [{{limit_by_header: x-key, limit_keys: [{{key: k, query_per_day: 1}}]}}], headers: \
[retry-after]}}\n",
        upstream.h2c_url()
    ));
    let ask = |kind: &str| {
        over_http2(&gateway, &[("/shop/Add", "k"), ("/away", ""), ("/none", "")], |(path, key)| {
            Request::post(format!("http://a.test{path}")).header("content-type", kind).header("x-key", *key)
        })
    };
    let field =
        |answer: &Seen, name: &str| answer.headers.get(name).map(|value| value.to_str().expect("text").to_owned());
    let statuses = |answers: &[Seen]| {
        answers.iter().map(|answer| (answer.status, field(answer, "grpc-status"))).collect::<Vec<_>>()
    };
    assert_eq!(statuses(&ask("application/json")), [(200, None), (502, None), (404, None)]);
    assert_eq!(statuses(&ask("application/grpc-web")), [(429, None), (502, None), (404, None)]);
    for kind in ["application/grpc", "application/grpc+proto"] {
        let answers = ask(kind);
        assert_eq!(statuses(&answers), ["8", "14", "12"].map(|status| (200, Some(status.to_owned()))), "{kind}");
        let refused = &answers[0];
        assert_eq!(field(refused, "content-type").as_deref(), Some("application/grpc"));
        assert_eq!(field(refused, "grpc-message").as_deref(), Some("Too many requests"));
        assert!(refused.is_trailers_only && field(refused, "retry-after").is_some(), "{refused:?}");
    }
}

#[test]
fn refusals_have_the_fields_and_the_type_that_the_filter_says() {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&format!(
        "upstream: {}
filter:
  rule_name: own
  rule_items: [{{limit_by_header: x-key, limit_keys: [{{key: k, query_per_day: 1}}]}}]
  rejected_code: 420
  rejected_msg: '{{\"error\": \"slow down\"}}'
  rejected_content_type: application/json
  rejected_headers: {{Access-Control-Allow-Origin: \"*\", X-Code: 7}}
  headers: [retry-after]
",
        upstream.h2c_url()
    ));
    let fields = |answer: &Answer| {
        ["access-control-allow-origin", "x-code", "retry-after"].map(|name| answer.head.text(name).is_some())
    };
    let mut client = gateway.client();
    let admitted = client.get("/", &[("x-key", "k")]);
    assert_eq!((admitted.status(), fields(&admitted)), (200, [false; 3]));
    let refused = client.get("/", &[("x-key", "k")]);
    assert_eq!(
        (refused.status(), refused.text().as_str(), fields(&refused)),
        (420, "{\"error\": \"slow down\"}", [true; 3])
    );
    assert_eq!(
        [refused.head.text("access-control-allow-origin"), refused.head.text("x-code")].map(Option::unwrap),
        ["*", "7"]
    );
    let types: Vec<_> = refused
        .head
        .headers
        .iter()
        .filter(|(name, _)| name == "content-type")
        .map(|(_, value)| value.as_slice())
        .collect();
    assert_eq!(types, [b"application/json"]);

    let kinds = ["text/plain", "application/grpc"];
    let answers = over_http2(&gateway, &kinds, |kind| {
        Request::post("http://a.test/").header("content-type", *kind).header("x-key", "k")
    });
    let all = |answer: &Seen, name: &str| -> Vec<String> {
        answer.headers.get_all(name).iter().map(|value| value.to_str().expect("text").to_owned()).collect()
    };
    for answer in &answers {
        assert_eq!(
            (all(answer, "access-control-allow-origin"), all(answer, "x-code")),
            (vec!["*".to_owned()], vec!["7".to_owned()])
        );
        assert_eq!(all(answer, "retry-after").len(), 1);
    }
    let [plain, grpc] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(
        (plain.status, all(plain, "content-type"), &plain.body[..]),
        (420, vec!["application/json".to_owned()], &b"{\"error\": \"slow down\"}"[..])
    );
    // A client of gRPC reads no other type; the text is its message.
    assert_eq!(
        (grpc.status, all(grpc, "content-type"), grpc.is_trailers_only),
        (200, vec!["application/grpc".to_owned()], true)
    );
    assert_eq!(
        (all(grpc, "grpc-status"), all(grpc, "grpc-message")),
        (vec!["8".to_owned()], vec!["{\"error\": \"slow down\"}".to_owned()])
    );
}

#[test]
fn header_bytes_that_http2_does_not_have_reach_nobody() {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&format!("upstream: {}\n{WIDE}", upstream.url()));
    let mut other = gateway.client();
    assert_eq!(other.get("/", &[]).status(), 200);
    for field in [
        b"\x00\x01x\x01\x00".as_slice(),
        b"\x00\x01x\x02a\n",
        b"\x00\x01X\x01a",
        b"\x00\x03x y\x01a",
        b"\x00\x01x\x03a\rb",
    ] {
        // GET, http, path /, a host, and the field.
        let block = [b"\x82\x86\x84\x41\x06a.test".as_slice(), field].concat();
        let length = u8::try_from(block.len()).expect("a short block");
        let head = [0, 0, length, 1, 5, 0, 0, 0, 1];
        let mut client = gateway.client();
        client
            .write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
            .expect("the gateway reads");
        client.write(&[&head[..], &block].concat()).expect("the gateway reads");
        client.read_to_end(|_| ()).expect("the gateway closes");
    }
    assert_eq!((other.get("/", &[]).status(), upstream.requests()), (200, 2));
    wait_until("nothing is in flight", || gateway.metrics().sum("slidegate_requests_in_flight", &[]) == 0.0);
    assert_eq!(blamed(&gateway), 0.0);
}

/// What came back over HTTP/2.
#[derive(Debug)]
struct Seen {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
    is_trailers_only: bool,
}

/// Asks one after the other over one HTTP/2 connection.
fn over_http2<T>(gateway: &Gateway, asked: &[T], request: impl Fn(&T) -> hyper::http::request::Builder) -> Vec<Seen> {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(async {
        let socket = TcpStream::connect(gateway.listen()).await.expect("the gateway listens");
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.expect("HTTP/2");
        tokio::spawn(connection);
        let mut seen = Vec::new();
        for each in asked {
            let request = request(each).body(Full::new(Bytes::new())).expect("a request");
            let (parts, body) = sender.send_request(request).await.expect("an answer").into_parts();
            let is_trailers_only = body.is_end_stream();
            let body = body.collect().await.expect("the whole body").to_bytes();
            seen.push(Seen { status: parts.status.as_u16(), headers: parts.headers, body, is_trailers_only });
        }
        seen
    })
}
