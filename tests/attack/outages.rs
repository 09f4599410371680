//! What fails beside the gateway while strangers ask: nobody reads its logs, its Redis says nothing.

use std::{
    io::Write,
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use slidegate_tests::{
    gateway_process::{Directory, binary, wait_until},
    http_client::HttpClient,
    upstream::Upstream,
};

use crate::{
    Attack,
    report::Figures,
    scene::{Bystander, Effort, Gate, under_attack},
};

pub(crate) const ALL: &[Attack] =
    &[("logs_that_nobody_reads", unread_logs), ("a_redis_that_says_nothing", silent_redis)];

/// What requests may hold in each worker's instance while they wait for Redis, which has two workers here.
const WAITING_BYTES_MAX: u64 = 2 * (8 << 20);

/// How many requests wait for the silent Redis.
const WAITING: usize = 1_000;

/// Both outputs go into pipes that are full after some hundred requests.
fn unread_logs(effort: Effort) -> Figures {
    let (upstream, directory) = (Upstream::start(), Directory::new());
    // The address stands in the log, which nobody reads, so it is chosen here.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let file = directory.path().join("gate.yaml");
    std::fs::write(&file, format!("listen: {free}\nupstream: {}\n", upstream.url()))
        .expect("a temporary file can be written");
    let mut command = Command::new(binary());
    command.arg("serve").arg(&file).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut gateway = command.spawn().expect("the gateway's binary runs");
    wait_until("the gateway listens", || TcpStream::connect(free).is_ok());
    let bystander = Bystander::start(free);
    let mut client = HttpClient::connect(free);
    let long = "x".repeat(200);
    let start = Instant::now();
    let (mut asked, mut lost) = (0, 0);
    while asked < 3_000 || start.elapsed() < effort.lasts() {
        let answer = client.try_send("GET", &format!("/{long}"), &[], b"");
        asked += 1;
        if !answer.is_ok_and(|answer| answer.status() == 200) {
            lost += 1;
            break;
        }
    }
    let (others, others_lost, worst_wait) = bystander.stop();
    // Safe: it is a child of this process that has not been waited for.
    let told = Command::new("kill").args(["-TERM", &gateway.id().to_string()]).status().expect("`kill` runs");
    assert!(told.success());
    let deadline = Instant::now() + Duration::from_secs(45);
    let mut ended = None;
    while ended.is_none() && Instant::now() < deadline {
        ended = gateway.try_wait().expect("a child can be waited for");
        thread::sleep(Duration::from_millis(20));
    }
    let _ = gateway.kill();
    let _ = gateway.wait();
    let figures = Figures {
        attack: "logs into pipes that nobody reads, then SIGTERM".to_owned(),
        by: "raw client",
        asked: asked + others,
        lost: lost + others_lost,
        worst_wait,
        memory: None,
    };
    assert_eq!(figures.lost, 0, "{figures:?}");
    assert!(ended.is_some(), "SIGTERM does not end it: {figures:?}");
    figures
}

/// Connections are accepted and commands taken, but nothing is ever answered.
fn silent_redis(effort: Effort) -> Figures {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let settings = format!(
        "workers: 2
redis: {{names: {{redis.static: \"redis://{}\"}}}}
filter:
  rule_name: silent
  rule_items: [{{limit_by_per_header: x-key, limit_keys: [{{key: \"*\", query_per_hour: 1000000}}]}}]
  redis: {{service_name: redis.static, timeout: 1000}}
",
        silent.local_addr().expect("an address")
    );
    let attack = format!("{WAITING} requests at a time wait for a Redis that says nothing, values of 256 `%`");
    let gate = Gate { settings: &settings, may_keep: WAITING_BYTES_MAX };
    under_attack(&attack, "raw client", gate, Duration::ZERO, |gateway| {
        let start = Instant::now();
        let value = "%".repeat(256);
        while start.elapsed() < effort.lasts() {
            let mut waiting: Vec<HttpClient> = (0..WAITING).map(|_| gateway.client()).collect();
            for (index, client) in waiting.iter_mut().enumerate() {
                let request = format!("GET / HTTP/1.1\r\nhost: a.test\r\nx-key: {index}{value}\r\n\r\n");
                client.writer().write_all(request.as_bytes()).expect("the gateway reads");
            }
            for client in &mut waiting {
                // It fails open, so each is answered by the upstream.
                assert_eq!(client.read_answer("GET").expect("an answer").status(), 200);
            }
        }
        assert_eq!(gateway.metrics().sum("slidegate_component_traps_total", &[]), 0.0);
        silent
    })
}
