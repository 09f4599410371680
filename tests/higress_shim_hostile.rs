//! The plugin for Higress under what no gateway should do to it and some Redis will: replies of every shape, replies
//! that never come or that nobody asked for, and more keys than it could remember. It decides by its failure mode, says
//! why, and stays small.

use std::{cell::RefCell, net::SocketAddr, rc::Rc};

use serde_json::{Value, json};
use slidegate_higress_host::{Exchange, Gateway, Interceptor, Plugin, Request, Sent, StreamId, Upstream, Worker};
use slidegate_tests::{plugins::slidegate, redis_server::RedisServer};

const REDIS: &str = "outbound|6379||redis.dns";
const START_NS: u64 = 20_777 * 86_400 * 1_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;
const MIB: usize = 1 << 20;

fn config(failure_mode: &str) -> Value {
    json!({
        "rule_name": "r",
        "rule_items": [{"limit_by_per_header": "x-key", "limit_keys": [{"key": "*", "query_per_minute": 1}]}],
        "redis": {"service_name": "redis.dns", "timeout": 1000},
        "failure_mode": failure_mode,
    })
}

fn worker(failure_mode: &str, host: SocketAddr) -> Worker {
    let plugin = Plugin::new("slidegate", &slidegate(), config(failure_mode).to_string());
    let gateway = Gateway::new().at_ns(START_NS).redis(REDIS, &[host]).plugin(plugin);
    gateway.start().unwrap_or_else(|error| panic!("{error}")).worker().unwrap()
}

fn nobody() -> SocketAddr {
    ([127, 0, 0, 1], 1).into()
}

fn get(key: &str) -> Request {
    Request::get("example.com", "/").with("x-key", key)
}

fn finished(worker: &mut Worker, stream: StreamId) -> Exchange {
    let exchange = worker.finish_exchange(stream, &Upstream::ok());
    assert!(!exchange.reset && exchange.misuse.is_empty(), "{exchange:?} {:?}", worker.log());
    assert_eq!(worker.failure(0), None);
    exchange
}

fn status(worker: &mut Worker, key: &str) -> u16 {
    let stream = worker.send(&get(key));
    finished(worker, stream).status()
}

fn log(worker: &mut Worker) -> String {
    worker.take_log().iter().map(|line| format!("{:?} {}\n", line.level, line.text)).collect()
}

/// Answers every command so.
struct Always(Vec<u8>);

impl Interceptor for Always {
    fn command(&mut self, _cluster: &str, _query: Vec<u8>) -> Sent {
        Sent::Answer(self.0.clone())
    }
}

/// Swallows every command.
struct Never;

impl Interceptor for Never {
    fn command(&mut self, _cluster: &str, _query: Vec<u8>) -> Sent {
        Sent::Never
    }
}

fn strange_replies() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 26] = [
        b"",
        b"\r\n",
        b"+OK\r\n",
        b"+\r\n",
        b"-ERR no\r\n",
        b"-\r\n",
        b":1\r\n",
        b":-9223372036854775808\r\n",
        b":99999999999999999999999999\r\n",
        b"$-1\r\n",
        b"$-2\r\n",
        b"$5\r\nab\r\n",
        b"$99999999999999999999\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*1\r\n:1\r\n",
        b"*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n",
        b"*5\r\n:-1\r\n:-1\r\n:-1\r\n:-1\r\n:-1\r\n",
        b"*4\r\n:9223372036854775807\r\n:9223372036854775807\r\n:9223372036854775807\r\n:9223372036854775807\r\n",
        b"*2\r\n*1\r\n:1\r\n*1\r\n:0\r\n",
        b"*2147483647\r\n:1\r\n",
        b"*4294967296\r\n",
        b"%1\r\n+a\r\n:1\r\n",
        b"_\r\n",
        b"hello",
        b"\xff\xfe\x00",
    ];
    let mut replies: Vec<_> = texts.iter().map(|text| text.to_vec()).collect();
    replies.push(b"*1\r\n".repeat(50_000));
    replies.push([b"*100000\r\n".to_vec(), b":1\r\n".repeat(100_000)].concat());
    for length in 0..80 {
        replies.push([format!("${length}\r\n").as_bytes(), &vec![0xff; length], b"\r\n"].concat());
        replies.push([format!("${length}\r\n").as_bytes(), &vec![0x40; length], b"\r\n"].concat());
    }
    for count in 1..12 {
        replies.push([format!("*{count}\r\n").into_bytes(), b":0\r\n".repeat(count)].concat());
    }
    replies
}

#[test]
fn a_reply_of_the_wrong_shape_is_decided_by_the_failure_mode() {
    let server = RedisServer::start();
    let host = ([127, 0, 0, 1], server.port()).into();
    for (mode, failed) in [("open", 200), ("closed", 503)] {
        let mut worker = worker(mode, host);
        let mut now_ns = START_NS;
        for reply in strange_replies() {
            let shown = reply[..reply.len().min(60)].escape_ascii().to_string();
            worker.intercept(Always(reply));
            // Long enough for whatever is tried again only after a while.
            now_ns += 3_600 * SECOND_NS;
            worker.set_clock_ns(now_ns);
            worker.pump();
            let seen = status(&mut worker, "a");
            assert!([200, 429, failed].contains(&seen), "{mode} {shown}: {seen}");
            worker.pump();
        }
        assert!(worker.memory_bytes(0) < 8 * MIB, "{} bytes", worker.memory_bytes(0));
        let told = log(&mut worker);
        assert!(told.contains("redis.dns") && told.contains("reply"), "{told}");
    }
}

#[test]
fn what_is_no_reply_of_the_script_is_a_failure_and_names_its_cause() {
    for (reply, cause) in [
        (b"+OK\r\n".as_slice(), "reply"),
        (b"$-1\r\n", "reply"),
        (b"*0\r\n", "reply"),
        (b"-NOAUTH Authentication required.\r\n", "auth"),
        (b"-READONLY You can't write against a read only replica.\r\n", "read"),
        (b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", "memory"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "loading"),
        (b"-MOVED 3999 127.0.0.1:6381\r\n", "redirect"),
    ] {
        let shown = reply.escape_ascii().to_string();
        let mut worker = worker("closed", nobody());
        worker.intercept(Always(reply.to_vec()));
        assert_eq!(status(&mut worker, "a"), 503, "{shown}");
        let told = log(&mut worker).to_lowercase();
        assert!(told.contains(cause) && told.contains("redis.dns"), "{shown}: {told}");
    }
}

#[test]
fn a_huge_reply_is_not_kept() {
    let mut worker = worker("open", nobody());
    let size = 64 * MIB;
    worker.intercept(Always([format!("${size}\r\n").into_bytes(), vec![b'x'; size], b"\r\n".to_vec()].concat()));
    for index in 0..5 {
        assert_eq!(status(&mut worker, &index.to_string()), 200);
    }
    assert!(worker.memory_bytes(0) < 8 * MIB, "{} bytes", worker.memory_bytes(0));
    assert!(log(&mut worker).contains("reply"));
}

#[test]
fn commands_that_are_never_answered_are_given_up_in_bounded_memory() {
    let mut worker = worker("open", nobody());
    worker.intercept(Never);
    let streams: Vec<_> = (0..20_000).map(|index| worker.send(&get(&index.to_string()))).collect();
    let waiting = streams.iter().filter(|stream| worker.upstream(**stream).is_none()).count();
    assert!(waiting > 1_000, "{waiting} wait");
    let full = worker.memory_bytes(0);
    assert!(full < 64 * MIB, "{full} bytes");
    // By far longer than the time limit and whatever is added to it for connecting.
    worker.set_clock_ns(START_NS + 600 * SECOND_NS);
    worker.pump();
    for stream in streams {
        assert_eq!(finished(&mut worker, stream).status(), 200);
    }
    assert!(log(&mut worker).contains("timeout"));
    let mut after = Vec::new();
    for round in 2..6 {
        let streams: Vec<_> = (0..20_000).map(|index| worker.send(&get(&index.to_string()))).collect();
        worker.set_clock_ns(START_NS + 600 * round * SECOND_NS);
        worker.pump();
        streams.into_iter().for_each(|stream| drop(finished(&mut worker, stream)));
        after.push(worker.memory_bytes(0));
    }
    // What those that wait take is taken once; giving up takes some more, once.
    assert!(after[0] <= full + full / 2, "{} bytes after {full}", after[0]);
    assert_eq!(after, [after[0]; 4], "each round takes more");
    assert_eq!(worker.contexts(0), 0);
}

#[test]
fn callbacks_that_nobody_waits_for_do_nothing() {
    let server = RedisServer::start();
    let mut worker = worker("open", ([127, 0, 0, 1], server.port()).into());
    for token in [0, 1, 7, 8, 4_000_000_000, u32::MAX] {
        for status in [0, 1, 2, u32::MAX] {
            worker.forge_redis_reply(0, token, status, b"*1\r\n:1\r\n");
        }
    }
    assert_eq!([status(&mut worker, "a"), status(&mut worker, "a")], [200, 429]);
    let waiting = worker.send(&get("b"));
    assert!(worker.upstream(waiting).is_none());
    (0..400).for_each(|token| worker.forge_redis_reply(0, token, 0, b"+OK\r\n"));
    // Its own token was among those, so the reply that comes now is nobody's.
    assert_eq!(finished(&mut worker, waiting).status(), 200);
    assert!(worker.wait(std::time::Duration::from_secs(10), |worker| worker.pending() == 0));
    assert_eq!(worker.failure(0), None);
}

/// Remembers the greatest number of commands that were out at a time.
struct Watching(Rc<RefCell<usize>>);

impl Interceptor for Watching {
    fn command(&mut self, _cluster: &str, query: Vec<u8>) -> Sent {
        *self.0.borrow_mut() += 1;
        Sent::On(query)
    }
}

#[test]
fn a_hundred_thousand_keys_are_limited_in_bounded_memory() {
    let server = RedisServer::start();
    let mut worker = worker("open", ([127, 0, 0, 1], server.port()).into());
    let sent = Rc::new(RefCell::new(0));
    worker.intercept(Watching(Rc::clone(&sent)));
    let mut after_ten_thousand = 0;
    for batch in 0..1_000 {
        let keys: Vec<_> = (0..100).map(|index| format!("client-{batch}-{index}")).collect();
        for expected in [200, 429] {
            let streams: Vec<_> = keys.iter().map(|key| worker.send(&get(key))).collect();
            for stream in streams {
                assert_eq!(finished(&mut worker, stream).status(), expected);
            }
        }
        if batch == 99 {
            after_ten_thousand = worker.memory_bytes(0);
        }
    }
    let keys: usize = redis::cmd("DBSIZE").query(&mut server.connection()).unwrap();
    assert_eq!(keys, 100_000);
    assert!(after_ten_thousand <= 4 * MIB, "{after_ten_thousand} bytes after 10,000 keys");
    assert!(worker.memory_bytes(0) <= 8 * MIB, "{} bytes after 100,000 keys", worker.memory_bytes(0));
    assert!(*sent.borrow() >= 100_000);
    assert_eq!(worker.contexts(0), 0);
}
