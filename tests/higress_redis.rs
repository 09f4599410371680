//! What becomes of plugins' calls of Redis, by a plugin that asks `PING` and tells all it sees of the answer.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    thread,
    time::Duration,
};

use slidegate_higress_host::{
    Broken, Gateway, Interceptor, Module, Plugin, Request, Sent, Upstream, Worker, puppet::puppet,
};
use slidegate_tests::redis_server::RedisServer;

fn made(body: &str) -> Module {
    puppet("proxy_abi_version_0_2_100", body).unwrap_or_else(|error| panic!("{error}"))
}

/// What was logged since it was last looked at, in one line.
fn said(worker: &mut Worker) -> String {
    worker.take_log().iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join(" ")
}

fn get() -> Request {
    Request::get("example.com", "/path?a=b")
}

const CLUSTER: &str = "outbound|6379||redis.dns";

/// Asks `PING`, holds the request, and tells of the reply and of what it may then do.
fn asking(init: &str) -> String {
    format!(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) {init} (i32.const 1))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (global.set $stream (local.get 0))
            (call $say_number (call $redis_call '{CLUSTER}' '*1\r\n$4\r\nPING\r\n' (i32.const 24)))
            (call $say_number (i32.load (i32.const 24)))
            (i32.const 4))
        (func (export "proxy_on_redis_call_response") (param i32 i32 i32 i32)
            (call $say_number (local.get 2))
            (call $say_number (call $get_buffer (i32.const 9) (i32.const 0) (local.get 3) (i32.const 16) (i32.const 20)))
            (call $say_result)
            (call $say_number (call $get_header (i32.const 0) ':path' (i32.const 16) (i32.const 20)))
            (call $say_number (call $continue (i32.const 0)))
            (call $say_number (call $choose (global.get $stream)))
            (call $say_number (call $get_header (i32.const 0) ':path' (i32.const 16) (i32.const 20)))
            (drop (call $continue (i32.const 0))))"#
    )
}

fn init(options: &str, password: &str, timeout_ms: u32) -> String {
    // An empty text has no place of its own; its size is what counts.
    let password = if password.is_empty() { "(i32.const 0) (i32.const 0)".to_owned() } else { format!("'{password}'") };
    format!(
        "(call $say_number (call $redis_init '{CLUSTER}{options}' (i32.const 0) (i32.const 0) {password} (i32.const \
         {timeout_ms})))"
    )
}

fn gateway(body: &str, hosts: &[SocketAddr]) -> Gateway {
    Gateway::new().redis(CLUSTER, hosts).plugin(Plugin::new("puppet", &made(body), "{}"))
}

fn address(server: &RedisServer) -> SocketAddr {
    ([127, 0, 0, 1], server.port()).into()
}

fn asked(body: &str, hosts: &[SocketAddr]) -> String {
    let mut worker = gateway(body, hosts).start().unwrap().worker().unwrap();
    let stream = worker.send(&get());
    worker.wait(Duration::from_secs(5), |worker| worker.upstream(stream).is_some() || worker.pending() == 0);
    said(&mut worker)
}

/// A server that answers the first bytes it gets so, and then hangs up.
fn impostor(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1_024]);
            let _ = stream.write_all(answer);
        }
    });
    address
}

#[test]
fn a_reply_belongs_to_the_root_until_the_stream_is_chosen() {
    let server = RedisServer::start();
    assert_eq!(asked(&asking(""), &[address(&server)]), "00 07 00 00 +PONG\r\n 02 00 00 00");
}

#[test]
fn every_way_of_getting_no_reply_is_a_one_and_no_bytes() {
    let silent = RedisServer::start();
    silent.pause();
    let failed = "00 00 07 01 00  02 00 00 00";
    for (name, host) in [
        ("nobody listens", ([127, 0, 0, 1], 1).into()),
        ("hangs up", impostor(b"")),
        ("hangs up in the middle", impostor(b"$5\r\nab")),
        ("speaks something else", impostor(b"HTTP/1.1 400\r\n")),
        ("never answers", address(&silent)),
    ] {
        assert_eq!(asked(&asking(&init("", "", 100)), &[host]), failed, "{name}");
    }
    assert_eq!(asked(&asking(""), &[]), "10 00", "a cluster without hosts");
    assert!(asked(&asking("").replace("||redis", "||other"), &[]).starts_with("02 00"), "no such cluster");
}

#[test]
fn replies_to_the_password_and_the_database_are_nobodys_and_errors_are_replies() {
    let server = RedisServer::start_with(&["--requirepass", "pw"]);
    let hosts = [address(&server)];
    assert_eq!(
        asked(&asking(&init("?db=3&buffer_flush_timeout=0", "pw", 1_000)), &hosts),
        "00 00 07 00 00 +PONG\r\n 02 00 00 00"
    );
    for password in ["", "wrong"] {
        let said = asked(&asking(&init("", password, 1_000)), &hosts);
        assert!(said.starts_with("00 00 07 00 00 -NOAUTH Authentication required."), "{said}");
    }
}

#[test]
fn another_init_by_whom_ever_fails_what_is_on_the_way() {
    let silent = RedisServer::start();
    silent.pause();
    let other = made(&format!(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) {} (i32.const 1))"#,
        init("", "", 1_000)
    ));
    let gateway = gateway(&asking(""), &[address(&silent)]).plugin(Plugin::new("other", &other, "{}"));
    let mut worker = gateway.start().unwrap().worker().unwrap();
    let streams = [worker.send(&get()), worker.send(&get())];
    assert_eq!((worker.pending(), said(&mut worker).as_str()), (2, "00 00 07 00 11"));
    worker.reconfigure(1, "{\"again\":1}").unwrap();
    worker.pump();
    assert_eq!(worker.pending(), 0);
    let failed = |chosen: &str| format!("01 00  02 00 {chosen}");
    // The puppet knows of its last stream only, and continues that twice.
    assert_eq!(said(&mut worker), format!("00 {} {}", failed("00 00"), failed("00 02")));
    assert!(worker.upstream(streams[0]).is_none() && worker.upstream(streams[1]).is_some());
}

#[test]
fn a_root_that_has_left_is_told_nothing_and_a_dead_stream_cannot_be_chosen() {
    let silent = RedisServer::start();
    silent.pause();
    let mut worker = gateway(&asking(&init("", "", 60_000)), &[address(&silent)]).start().unwrap().worker().unwrap();
    let stream = worker.send(&get());
    worker.abort(stream);
    worker.close(stream);
    assert_eq!((worker.pending(), said(&mut worker).as_str()), (1, "00 00 07"));
    worker.reconfigure(0, "{\"again\":1}").unwrap();
    worker.pump();
    // The root that asked has left, so nobody is told.
    assert_eq!((worker.pending(), said(&mut worker).as_str()), (0, "00"));
    let stream = worker.send(&get());
    worker.abort(stream);
    silent.resume();
    assert!(worker.wait(Duration::from_secs(5), |worker| worker.pending() == 0));
    assert_eq!(said(&mut worker), "00 11 00 00 +PONG\r\n 02 00 02 02");
}

struct Mute;

impl Interceptor for Mute {
    fn command(&mut self, _cluster: &str, query: Vec<u8>) -> Sent {
        if query.ends_with(b"PING\r\n") { Sent::Answer(b":5\r\n".to_vec()) } else { Sent::Never }
    }

    fn reply(&mut self, reply: &Result<Vec<u8>, Broken>) {
        assert_eq!(reply.as_deref(), Ok(b":5\r\n".as_slice()));
    }
}

#[test]
fn replies_can_be_put_in_by_a_test() {
    let mut worker = gateway(&asking(""), &[([127, 0, 0, 1], 1).into()]).start().unwrap().worker().unwrap();
    worker.intercept(Mute);
    assert_eq!(worker.exchange(&get(), &Upstream::ok()).status(), 200);
    assert_eq!(said(&mut worker), "00 07 00 00 :5\r\n 02 00 00 00");
}
