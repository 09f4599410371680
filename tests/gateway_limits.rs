//! Clients that take up more than their share: the gateway stays small, goes on serving others, and is as it was when
//! they have left.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use slidegate_tests::{
    footprint::Footprint,
    gateway_process::{Gateway, wait_until},
    http_client::{HttpClient, stream_from},
    http2_client::{Http2Client, kind},
    raw_upstream::RawUpstream,
    upstream::Upstream,
};

/// The largest window that HTTP/2 knows.
const WINDOW_MAX: u32 = i32::MAX.unsigned_abs();

/// Floods come from several addresses, since each of them may have so many requests at once.
const SOURCES: [&str; 4] = ["127.0.1.1", "127.0.1.2", "127.0.1.3", "127.0.1.4"];

/// What the gateway may use while clients flood it, in bytes.
const PEAK_MAX: u64 = 150 << 20;

fn rig(more: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&format!("upstream: {}\nlog: {{access: false}}\n{more}", upstream.url()));
    (upstream, gateway)
}

fn connections(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("slidegate_connections", &[])
}

fn refused(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metrics().sum("slidegate_connections_refused_total", &[("reason", reason)])
}

fn in_flight(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("slidegate_requests_in_flight", &[])
}

/// Whether the server has closed this connection, or does so soon.
fn is_closed(client: &mut HttpClient) -> bool {
    client.read_to_end(|_| ()).is_ok_and(|bytes| bytes == 0)
}

/// Runs a flood of clients that are dropped at its end: memory stays in bounds, others are served meanwhile, and what
/// was taken is given back.
fn assert_survives<C>(gateway: &mut Gateway, requests: f64, flood: impl FnOnce(&Gateway) -> Vec<C>) {
    for _ in 0..20 {
        assert_eq!(gateway.get("/", &[]).0, 200);
    }
    let start = Footprint::of(gateway).resident_bytes;
    let clients = flood(gateway);
    wait_until("the flood is under way", || in_flight(gateway) >= requests);
    for _ in 0..20 {
        assert_eq!(gateway.get("/", &[]).0, 200);
        thread::sleep(Duration::from_millis(50));
    }
    let peak = gateway.peak_memory_bytes();
    drop(clients);
    wait_until("nothing is in flight", || in_flight(gateway) == 0.0);
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut end = Footprint::of(gateway).resident_bytes;
    while end > start + start / 5 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(200));
        end = Footprint::of(gateway).resident_bytes;
    }
    let figures = format!("{} MB at the start, {} MB at most, {} MB at the end", start >> 20, peak >> 20, end >> 20);
    println!("{figures}");
    assert!(peak < PEAK_MAX && end <= start + start / 5, "{figures}");
    assert!(gateway.is_running() && !gateway.log().contains("panic"));
}

#[test]
fn streams_that_read_nothing_take_little() {
    let (_upstream, mut gateway) = rig("");
    assert_survives(&mut gateway, 2_000.0, |gateway| {
        let sources = SOURCES.iter().cycle().take(20);
        sources
            .map(|source| {
                let mut client =
                    Http2Client::connect_from(source, gateway.listen(), WINDOW_MAX).expect("the gateway accepts");
                // More than it takes at once; the rest is refused.
                for _ in 0..200 {
                    client.get("/bytes/10000000").expect("the gateway reads");
                }
                client
            })
            .collect()
    });
}

#[test]
fn connections_that_read_nothing_take_little() {
    let (_upstream, mut gateway) = rig("");
    assert_survives(&mut gateway, 1_000.0, |gateway| {
        let sources = SOURCES.iter().cycle().take(1_000);
        sources
            .map(|source| {
                let mut client = HttpClient::connect_from(source, gateway.listen());
                client.write(b"GET /bytes/10000000 HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("the gateway reads");
                client
            })
            .collect()
    });
}

#[test]
fn a_large_body_comes_whole_to_a_client_that_reads_late() {
    let (_upstream, gateway) = rig("");
    let mut client = gateway.client();
    client.write(b"GET /bytes/30000000 HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("the gateway reads");
    thread::sleep(Duration::from_millis(500));
    assert_eq!(client.read_answer("GET").expect("an answer").body.len(), 30_000_000);
    let mut client = Http2Client::connect(gateway.listen(), WINDOW_MAX).expect("the gateway accepts");
    let streams: Vec<u32> = (0..10).map(|_| client.get("/bytes/1000000").expect("the gateway reads")).collect();
    thread::sleep(Duration::from_millis(500));
    let (mut bytes, mut ended) = (0, 0);
    while ended < streams.len() {
        let frame = client.read_frame().expect("the connection goes on");
        if frame.kind == kind::DATA {
            bytes += frame.payload.len();
            ended += usize::from(frame.flags & 1);
        }
    }
    assert_eq!(bytes, 10_000_000);
}

/// With room for a byte, the library takes all of a small body, but for its end.
#[test]
fn a_stream_whose_window_stays_shut_is_reset_and_the_others_go_on() {
    let late_end = RawUpstream::start(|mut connection| {
        while connection.read_head().is_some() {
            connection.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
            thread::sleep(Duration::from_millis(200));
            connection.write(b"0\r\n\r\n");
        }
    });
    let upstream = Upstream::start();
    let routes = format!(
        "routes: [{{host: '*', path_prefix: /late, upstream: '{}'}}, {{host: '*', upstream: '{}'}}]",
        late_end.url(),
        upstream.url()
    );
    let gateway = Gateway::serve(&format!("{routes}\ntimeouts: {{idle: 1s, response: 1s, connect: 1s}}\n"));
    for window in [0, 1] {
        let mut client = Http2Client::connect(gateway.listen(), window).expect("the gateway accepts");
        let paths = ["/bytes/1000", "/chunked/1000", "/trailers", "/late"];
        let stuck = paths.map(|path| client.get(path).expect("the gateway reads"));
        wait_until("all are answered", || in_flight(&gateway) == paths.len() as f64);
        thread::sleep(Duration::from_millis(500));
        assert_eq!(in_flight(&gateway), paths.len() as f64, "a window of {window}");
        let mut reset = Vec::new();
        while reset.len() < stuck.len() {
            let frame = client.read_frame().expect("the connection goes on");
            assert!(
                !stuck.contains(&frame.stream) || frame.flags & 1 == 0 || frame.kind == kind::RST_STREAM,
                "{frame:?}"
            );
            if frame.kind == kind::RST_STREAM {
                reset.push(frame.stream);
            }
        }
        reset.sort_unstable();
        assert_eq!(reset, stuck);
        wait_until("nothing is in flight", || in_flight(&gateway) == 0.0);
        // The library does not tell whether the last byte of a known length has gone out.
        let cut = |line: &&str| line.contains("broken_off=true") && !line.contains("/bytes/");
        let were_cut = || gateway.printed().lines().filter(cut).count() == (paths.len() - 1) * (1 + window as usize);
        wait_until("the log says that they were cut", were_cut);
        let empty = client.get("/status/204").expect("the gateway reads");
        assert!(client.read_to_end_of(empty).expect("the connection goes on"));
    }
}

/// However many of its pieces the server still has when its body has ended.
#[test]
fn the_log_says_of_an_answer_in_several_pieces_that_it_is_whole() {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&format!("upstream: {}\n", upstream.url()));
    let mut client = Http2Client::connect(gateway.listen(), WINDOW_MAX).expect("the gateway accepts");
    let paths = ["/bytes/12000", "/chunked/12000", "/bytes/40000", "/trailers"];
    let mut open: BTreeSet<u32> =
        paths.repeat(10).into_iter().map(|path| client.get(path).expect("the gateway reads")).collect();
    while !open.is_empty() {
        let frame = client.read_frame().expect("the connection goes on");
        assert_ne!(frame.kind, kind::RST_STREAM);
        if frame.flags & 1 == 1 && [kind::HEADERS, kind::DATA].contains(&frame.kind) {
            open.remove(&frame.stream);
        }
    }
    let lines =
        || gateway.printed().lines().filter(|line| line.contains("HTTP/2.0")).map(str::to_owned).collect::<Vec<_>>();
    wait_until("all are logged", || lines().len() == 10 * paths.len());
    let cut: Vec<_> = lines().into_iter().filter(|line| !line.ends_with("broken_off=false")).collect();
    assert!(cut.is_empty(), "{} of them, such as {}", cut.len(), cut[0]);
}

#[test]
fn what_came_before_an_answer_broke_off_reaches_a_client_that_has_room_for_it_later() {
    let upstream = RawUpstream::start(|mut connection| {
        connection.read_head();
        connection.write(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n0123456789");
    });
    let gateway = Gateway::serve(&format!("upstream: {}\n", upstream.url()));
    let mut client = Http2Client::connect(gateway.listen(), 5).expect("the gateway accepts");
    let stream = client.get("/").expect("the gateway reads");
    let mut bytes = Vec::new();
    while bytes.len() < 5 {
        let frame = client.read_frame().expect("the connection goes on");
        if frame.kind == kind::DATA {
            bytes.extend(frame.payload);
        }
    }
    thread::sleep(Duration::from_millis(300));
    client.frame(kind::WINDOW_UPDATE, 0, stream, &100_u32.to_be_bytes()).expect("the gateway reads");
    loop {
        let frame = client.read_frame().expect("the connection goes on");
        match frame.kind {
            kind::DATA => bytes.extend(frame.payload),
            kind::RST_STREAM => break,
            _ => {}
        }
    }
    assert_eq!(bytes, b"0123456789");
}

#[test]
fn no_address_may_have_more_connections_than_its_limit() {
    let (_upstream, gateway) = rig("limits: {connections_per_address: 3}\n");
    let mut slow: Vec<HttpClient> = (0..3).map(|_| gateway.client()).collect();
    for client in &mut slow {
        client.write(b"GET /delay/15000 HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("the gateway reads");
    }
    wait_until("all three are asking", || in_flight(&gateway) == 3.0);
    for _ in 0..5 {
        assert!(is_closed(&mut gateway.client()));
    }
    assert_eq!(refused(&gateway, "address"), 5.0);
    gateway.wait_log("connections are turned away");
    assert_eq!(gateway.log_lines("connections are turned away").len(), 1);
    // Another address is served; which address a client has is for its socket to say.
    let other = stream_from("127.0.0.2", gateway.listen());
    assert!(ask(other).starts_with("HTTP/1.1 200"));
    drop(slow);
    wait_until("they are gone", || connections(&gateway) == 0.0);
    assert_eq!(gateway.get("/", &[]).0, 200);
    gateway.wait_log("no more connections are turned away");
}

#[test]
fn no_address_may_have_more_requests_at_once_than_its_limit() {
    let (_upstream, gateway) = rig("limits: {requests_per_address: 3, requests: 4}\n");
    let mut slow = Http2Client::connect(gateway.listen(), 65_535).expect("the gateway accepts");
    for _ in 0..3 {
        slow.get("/delay/15000").expect("the gateway reads");
    }
    wait_until("all three are asking", || in_flight(&gateway) == 3.0);
    let refused = gateway.client().send("GET", "/", &[], b"");
    assert_eq!((refused.status(), refused.head.header("retry-after")), (503, Some(b"1".as_slice())));
    // Another address is served, as long as there are not too many of all.
    assert!(ask(stream_from("127.0.0.2", gateway.listen())).starts_with("HTTP/1.1 200"));
    let mut other = stream_from("127.0.0.2", gateway.listen());
    other.write_all(b"GET /delay/15000 HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("the gateway reads");
    wait_until("a fourth is asking", || in_flight(&gateway) == 4.0);
    assert!(ask(stream_from("127.0.0.3", gateway.listen())).starts_with("HTTP/1.1 503"));
    let overloaded = |reason| gateway.metrics().sum("slidegate_requests_overloaded_total", &[("reason", reason)]);
    assert_eq!([overloaded("address"), overloaded("requests"), overloaded("descriptors")], [1.0, 1.0, 0.0]);
    drop((slow, other));
    wait_until("nothing is in flight", || in_flight(&gateway) == 0.0);
    assert_eq!(gateway.get("/", &[]).0, 200);
}

#[test]
fn a_flood_leaves_a_bounded_number_of_connections_to_the_upstream() {
    let (_upstream, gateway) = rig("workers: 1\ntimeouts: {upstream_idle: 60s}\n");
    assert_eq!(gateway.get("/", &[]).0, 200);
    let descriptors = || gateway.metrics().sum("process_open_fds", &[]);
    let before = descriptors();
    let mut clients: Vec<Http2Client> =
        (0..7).map(|_| Http2Client::connect(gateway.listen(), 65_535).expect("the gateway accepts")).collect();
    for client in &mut clients {
        for _ in 0..100 {
            client.get("/delay/6000").expect("the gateway reads");
        }
    }
    wait_until("all are asking", || in_flight(&gateway) == 700.0);
    assert!(descriptors() > before + 700.0);
    wait_until("nothing is in flight", || in_flight(&gateway) == 0.0);
    drop(clients);
    wait_until("most connections are closed", || descriptors() < before + 300.0);
    // Some are kept, for those who come next.
    assert!(descriptors() > before + 200.0);
}

fn ask(mut client: TcpStream) -> String {
    client.write_all(b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n").expect("the gateway reads");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn idle_connections_make_room_for_new_ones() {
    let (_upstream, gateway) = rig("limits: {connections: 4}\n");
    let mut silent = gateway.client();
    let mut kept: Vec<HttpClient> = (0..3).map(|_| gateway.client()).collect();
    for client in &mut kept {
        assert_eq!(client.get("/", &[]).status(), 200);
        thread::sleep(Duration::from_millis(10));
    }
    // The one that never asked goes first, then the one that has been quiet for longest; the others are served as
    // before.
    let mut newcomers = Vec::new();
    for _ in 0..2 {
        let mut client = gateway.client();
        client.write(b"GET /delay/60000 HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("the gateway reads");
        newcomers.push(client);
        wait_until("it is served", || in_flight(&gateway) == newcomers.len() as f64);
    }
    assert!(is_closed(&mut silent) && is_closed(&mut kept[0]));
    assert_eq!((kept[1].get("/", &[]).status(), kept[2].get("/", &[]).status()), (200, 200));
    assert_eq!(gateway.metrics().sum("slidegate_connections_let_go_total", &[]), 2.0);
    assert_eq!(refused(&gateway, "connections"), 0.0);
    for client in &mut kept[1..] {
        client.write(b"GET /delay/60000 HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("the gateway reads");
    }
    wait_until("all are busy", || in_flight(&gateway) == 4.0);
    assert!(is_closed(&mut gateway.client()));
    assert_eq!(refused(&gateway, "connections"), 1.0);
}

#[test]
fn tunnels_are_requests_of_their_address_until_they_end() {
    let (_upstream, gateway) = rig("limits: {requests_per_address: 2}\n");
    let tunnels = [tunnel(&gateway), tunnel(&gateway)];
    assert_eq!(gateway.get("/", &[]).0, 503);
    assert!(ask(stream_from("127.0.0.2", gateway.listen())).starts_with("HTTP/1.1 200"));
    drop(tunnels);
    wait_until("they are gone", || in_flight(&gateway) == 0.0);
    assert_eq!(gateway.get("/", &[]).0, 200);
}

#[test]
fn tunnels_count_and_are_never_idle() {
    let (_upstream, gateway) = rig("limits: {connections: 2}\n");
    let tunnels: Vec<HttpClient> = (0..2).map(|_| tunnel(&gateway)).collect();
    thread::sleep(Duration::from_millis(50));
    assert!(is_closed(&mut gateway.client()));
    assert_eq!(connections(&gateway), 2.0);
    for mut tunnel in tunnels {
        tunnel.write(b"still here").expect("the tunnel is open");
        assert_eq!(tunnel.read_raw(10).expect("the echo"), b"still here");
    }
    wait_until("they are gone", || connections(&gateway) == 0.0);
    assert_eq!(gateway.get("/", &[]).0, 200);
}

fn tunnel(gateway: &Gateway) -> HttpClient {
    let mut client = gateway.client();
    client
        .write(b"GET /upgrade HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
        .expect("the gateway reads");
    assert_eq!(client.read_head().expect("an answer").status, 101);
    client
}

#[test]
fn a_body_that_trickles_is_ended_and_one_that_comes_steadily_is_not() {
    let (upstream, gateway) = rig("limits: {body_time: 1s}\n");
    for (head, piece) in [("content-length: 100000", &b"x"[..]), ("transfer-encoding: chunked", b"1\r\nx\r\n")] {
        let mut slow = gateway.client();
        slow.write(format!("POST / HTTP/1.1\r\nhost: a.test\r\n{head}\r\n\r\n").as_bytes()).expect("the gateway reads");
        let mut writer = slow.writer();
        let trickling = thread::spawn(move || {
            while writer.write_all(piece).is_ok() {
                thread::sleep(Duration::from_millis(100));
            }
        });
        assert_eq!(slow.read_head().expect("an answer").status, 408);
        drop(slow);
        trickling.join().expect("the client ends");
    }
    // Three seconds for 9 KiB: more than it gets without a byte, less than those bytes buy.
    let mut steady = gateway.client();
    steady.write(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 9216\r\n\r\n").expect("the gateway reads");
    for _ in 0..9 {
        steady.write(&[b'x'; 1024]).expect("the gateway reads");
        thread::sleep(Duration::from_millis(333));
    }
    assert_eq!(steady.read_answer("POST").expect("an answer").status(), 200);
    assert_eq!(upstream.last().body_bytes, 9216);
}

/// An upstream that answers before it has read a body, and reads none of it.
fn early_answers() -> RawUpstream {
    RawUpstream::start(|mut connection| {
        connection.read_head();
        connection.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        connection.wait();
    })
}

/// A body keeps a connection to the upstream busy, whatever was answered.
#[test]
fn a_body_that_goes_on_after_its_answer_counts_and_is_timed() {
    let upstream = early_answers();
    let limits = "limits: {requests_per_address: 2, body_time: 2s}";
    let gateway = Gateway::serve(&format!("upstream: {}\nlog: {{access: false}}\n{limits}\n", upstream.url()));
    let mut slow: Vec<HttpClient> = (0..2).map(|_| gateway.client()).collect();
    for client in &mut slow {
        client
            .write(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 100000\r\n\r\nabc")
            .expect("the gateway reads");
        assert_eq!(client.read_answer("POST").expect("an answer").status(), 200);
    }
    wait_until("both are answered", || in_flight(&gateway) == 0.0);
    assert_eq!(gateway.get("/", &[]).0, 503);
    // A byte now and then buys nothing.
    let writers: Vec<TcpStream> = slow.iter().map(HttpClient::writer).collect();
    let trickling = thread::spawn(move || {
        while writers.iter().any(|mut writer| writer.write_all(b"x").is_ok()) {
            thread::sleep(Duration::from_millis(50));
        }
    });
    // Writing on ends with a reset.
    assert!(slow.iter_mut().all(|client| client.read_raw(1).is_err()));
    wait_until("they are gone", || connections(&gateway) == 0.0);
    assert_eq!(gateway.get("/", &[]).0, 200);
    trickling.join().expect("the clients end");
}

/// It holds the connection to the upstream, which takes no more of it, whether its client stays or not.
#[test]
fn a_body_that_nobody_takes_after_its_answer_is_given_up() {
    let upstream = early_answers();
    let more = "limits: {requests_per_address: 1, body_time: 1s}\ntimeouts: {response: 1s}";
    let gateway = Gateway::serve(&format!("upstream: {}\nlog: {{access: false}}\n{more}\n", upstream.url()));
    let mut client = gateway.client();
    client.write(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 1000000000\r\n\r\n").expect("the gateway reads");
    let mut writer = client.writer();
    // More than all buffers on the way hold.
    let flooding = thread::spawn(move || while writer.write_all(&[b'x'; 64 << 10]).is_ok() {});
    assert_eq!(client.read_answer("POST").expect("an answer").status(), 200);
    wait_until("it is answered", || in_flight(&gateway) == 0.0);
    assert_eq!(gateway.get("/", &[]).0, 503);
    wait_until("its place is free", || gateway.get("/", &[]).0 == 200);
    flooding.join().expect("the client ends");
}

#[test]
fn a_kept_connection_goes_by_limits_that_a_reload_changes() {
    let (upstream, gateway) = rig("limits: {requests_per_address: 2}\n");
    let mut kept = gateway.client();
    assert_eq!(kept.get("/", &[]).status(), 200);
    gateway.replace_settings(&format!("upstream: {}\nlimits: {{requests_per_address: 1}}\n", upstream.url()));
    gateway.wait_log("settings reloaded");
    let mut slow = gateway.client();
    slow.write(b"GET /delay/15000 HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("the gateway reads");
    wait_until("it is asking", || in_flight(&gateway) == 1.0);
    assert_eq!(kept.get("/", &[]).status(), 503);
}

#[test]
fn an_answer_that_is_taken_byte_by_byte_is_ended_and_one_that_is_taken_steadily_is_not() {
    const LENGTH: usize = 30_000_000;
    let (_upstream, gateway) = rig("limits: {answer_time: 1s}\n");
    for path in ["bytes", "chunked"] {
        let mut slow = gateway.client();
        slow.write(format!("GET /{path}/{LENGTH} HTTP/1.1\r\nhost: a.test\r\n\r\n").as_bytes())
            .expect("the gateway reads");
        assert_eq!(slow.read_head().expect("an answer").status, 200);
        wait_until("it is ended", || {
            // More than nothing, and far less than a KiB in a second.
            slow.read_raw(1).expect("what came before");
            thread::sleep(Duration::from_millis(50));
            in_flight(&gateway) == 0.0
        });
        assert!(slow.read_to_end(|_| ()).is_ok_and(|rest| rest < LENGTH as u64 / 2), "{path}");
    }
    // Waited for longer than that in all, by one that takes what buys the time.
    let mut steady = gateway.client();
    steady.write(b"GET /bytes/10000000 HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("the gateway reads");
    assert_eq!(steady.read_head().expect("an answer").status, 200);
    for _ in 0..100 {
        steady.read_raw(100_000).expect("the whole body");
        thread::sleep(Duration::from_millis(30));
    }
}

#[test]
fn a_stream_whose_window_opens_byte_by_byte_is_ended() {
    let upstream = RawUpstream::start(|mut connection| {
        connection.read_head();
        connection.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        while connection.write(&b"32\r\n01234567890123456789012345678901234567890123456789\r\n".repeat(100)) {}
    });
    let gateway = Gateway::serve(&format!("upstream: {}\nlimits: {{answer_time: 1s}}\n", upstream.url()));
    let mut client = Http2Client::connect(gateway.listen(), 1).expect("the gateway accepts");
    let stream = client.get("/").expect("the gateway reads");
    wait_until("it is answered", || in_flight(&gateway) == 1.0);
    wait_until("it is ended", || {
        // A piece now and then, which is far less than a KiB in a second.
        client.frame(kind::WINDOW_UPDATE, 0, stream, &50_u32.to_be_bytes()).expect("the connection goes on");
        thread::sleep(Duration::from_millis(300));
        in_flight(&gateway) == 0.0
    });
    assert!(!client.read_to_end_of(stream).expect("the connection goes on"));
}

/// It has taken nothing of a piece until it has taken all of it, as far as the piece's source can tell.
#[test]
fn a_stream_that_takes_a_piece_by_drops_is_ended_before_it_has_taken_that() {
    let (_upstream, gateway) = rig("limits: {answer_time: 1s}\n");
    for path in ["/bytes/10000000", "/chunked/10000000"] {
        let mut client = Http2Client::connect(gateway.listen(), 10).expect("the gateway accepts");
        let stream = client.get(path).expect("the gateway reads");
        let before = Instant::now();
        wait_until("it is answered", || in_flight(&gateway) == 1.0);
        wait_until("it is ended", || {
            client.frame(kind::WINDOW_UPDATE, 0, stream, &1_u32.to_be_bytes()).expect("the connection goes on");
            thread::sleep(Duration::from_millis(100));
            in_flight(&gateway) == 0.0
        });
        assert!(
            before.elapsed() < Duration::from_secs(40),
            "{path}: a piece is 8 KiB, and each of those buys a second"
        );
        assert!(!client.read_to_end_of(stream).expect("the connection goes on"));
    }
}

#[test]
fn streams_that_are_reset_at_once_end_their_connection_and_nothing_else() {
    let (_upstream, mut gateway) = rig("");
    let mut client = Http2Client::connect(gateway.listen(), WINDOW_MAX).expect("the gateway accepts");
    for _ in 0..2_000 {
        let Ok(stream) = client.get("/delay/1000") else { break };
        if client.frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes()).is_err() {
            break;
        }
    }
    client.read_to_end().expect("the gateway ends the connection");
    assert_well(&mut gateway);
}

#[test]
fn a_header_block_without_end_ends_its_connection() {
    let (_upstream, mut gateway) = rig("");
    let start = Footprint::of(&gateway).resident_bytes;
    let mut client = Http2Client::connect(gateway.listen(), WINDOW_MAX).expect("the gateway accepts");
    let block = client.header_block(b"GET", "/");
    let stream = client.headers(0, &block).expect("the gateway reads");
    // A field of 100 bytes, over and over.
    let field = [&[0x00, 3][..], b"x-a", &[100], &[b'v'; 100]].concat().repeat(100);
    for _ in 0..5_000 {
        if client.frame(kind::CONTINUATION, 0, stream, &field).is_err() {
            break;
        }
    }
    client.read_to_end().expect("the gateway ends the connection");
    assert!(Footprint::of(&gateway).resident_bytes < start + (20 << 20));
    assert_well(&mut gateway);
}

#[test]
fn settings_and_pings_that_are_never_read_take_little() {
    let (_upstream, mut gateway) = rig("");
    let start = Footprint::of(&gateway).resident_bytes;
    for (kind, payload) in [(kind::SETTINGS, &[0, 4, 0, 0, 255, 255][..]), (kind::PING, b"12345678")] {
        let mut client = Http2Client::connect(gateway.listen(), WINDOW_MAX).expect("the gateway accepts");
        client.give_up_writing_after(Duration::from_secs(1));
        for _ in 0..1_000_000 {
            if client.frame(kind, 0, 0, payload).is_err() {
                break;
            }
        }
        assert!(Footprint::of(&gateway).resident_bytes < start + (20 << 20));
        assert_well(&mut gateway);
    }
}

#[test]
fn a_thousand_connections_at_once_find_room() {
    let (_upstream, gateway) = rig("");
    // Nothing is accepted meanwhile, so all of them wait in the system's queue.
    gateway.freeze();
    let at_once = Duration::from_millis(900);
    let waiting: Vec<TcpStream> = (0..1_000)
        .map(|_| TcpStream::connect_timeout(&gateway.listen(), at_once).expect("room in the queue"))
        .collect();
    gateway.thaw();
    for client in waiting {
        assert!(ask(client).starts_with("HTTP/1.1 200"));
    }
}

#[test]
fn with_few_descriptors_others_are_still_served() {
    let upstream = Upstream::start();
    let redis = slidegate_tests::redis_server::RedisServer::start();
    let settings = format!(
        "upstream: {}
redis: {{names: {{redis.static: \"redis://127.0.0.1:{}\"}}}}
filter:
  rule_name: few
  rule_items: [{{limit_by_per_header: x-key, limit_keys: [{{key: \"*\", query_per_hour: 3}}]}}]
  redis: {{service_name: redis.static}}
log: {{access: false}}
",
        upstream.url(),
        redis.port()
    );
    let gateway = Gateway::serve_limited(&settings, 256);
    let hogs: Vec<HttpClient> = (0..400).map(|_| gateway.client()).collect();
    // Busy ones too, more than there are descriptors for their upstreams.
    let mut busy: Vec<HttpClient> = (0..150).map(|_| gateway.client()).collect();
    for client in &mut busy {
        // Those that were turned away cannot be written to.
        let _ = client.write(b"GET /delay/2000 HTTP/1.1\r\nhost: a.test\r\n\r\n");
    }
    // The limit holds, so Redis is reached; the admin port answers; whatever is answered is an answer.
    let mut statuses = Vec::new();
    wait_until("the limit is reached", || {
        let mut client = gateway.client();
        let status = client.try_send("GET", "/", &[("x-key", "k")], b"").map_or(0, |answer| answer.status());
        statuses.push(status);
        status == 429
    });
    assert!(statuses.iter().filter(|status| **status == 200).count() <= 3, "{statuses:?}");
    assert!(statuses.iter().all(|status| [0, 200, 429, 503].contains(status)), "{statuses:?}");
    assert_eq!(gateway.ask_admin("/healthz").0, 200);
    assert!(gateway.log_lines("cannot accept").is_empty(), "{}", gateway.log());
    assert!(gateway.log_lines("connections are turned away").len() <= 2, "{}", gateway.log());
    drop((hogs, busy));
}

/// The gateway is as it was: nothing in flight, and it serves.
fn assert_well(gateway: &mut Gateway) {
    wait_until("nothing is in flight", || in_flight(gateway) == 0.0);
    assert_eq!(gateway.get("/", &[]), (200, "hello\n".to_owned()));
    assert!(gateway.is_running() && !gateway.log().contains("panic"), "{}", gateway.log());
}
