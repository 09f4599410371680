//! Logs that cannot be written, or that nobody reads, cost lines and no request; what is in them stays one line.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, ChildStderr, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use slidegate_tests::{
    gateway_process::{Directory, Gateway, PATIENCE, binary, wait_until},
    http_client::HttpClient,
    http2_client::{Http2Client, kind},
    metrics::Metrics,
    upstream::Upstream,
};

/// A gateway whose streams are ours to read, or not.
struct Bare {
    process: Child,
    listen: SocketAddr,
    admin: SocketAddr,
    out: Option<BufReader<ChildStdout>>,
    err: Option<BufReader<ChildStderr>>,
    _directory: Directory,
}

impl Bare {
    /// Starts it with this standard output and reads its log until it serves.
    fn start(upstream: &Upstream, format: &str, out: Stdio) -> Self {
        Self::start_as(Command::new(binary()), upstream, format, out)
    }

    /// As [`Bare::start`], by a command that ends up as the gateway with its arguments.
    fn start_as(mut command: Command, upstream: &Upstream, format: &str, out: Stdio) -> Self {
        let directory = Directory::new();
        let file = directory.path().join("gate.yaml");
        let filter = "filter: {rule_name: wide, global_threshold: {query_per_day: 1000000}}";
        let settings = format!(
            "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nupstream: {}\nlog: {{format: {format}}}\n{filter}\n",
            upstream.url()
        );
        std::fs::write(&file, settings).expect("a temporary file can be written");
        command
            .arg("serve")
            .arg(&file)
            .env_remove("SLIDEGATE_LOG")
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(Stdio::piped());
        let mut process = command.spawn().expect("the gateway's binary runs");
        let mut err = BufReader::new(process.stderr.take().expect("piped"));
        let out = process.stdout.take().map(BufReader::new);
        let mut line = String::new();
        while !line.contains("serving") {
            line.clear();
            assert!(err.read_line(&mut line).expect("a line of text") > 0, "the gateway ended at its start");
        }
        let address = |field: &str| {
            let after = line.split_once(field).map(|(_, after)| after.trim_start_matches(['=', '"', ':']));
            let value = after.and_then(|after| after.split([' ', '"']).next()).and_then(|value| value.parse().ok());
            value.unwrap_or_else(|| panic!("no address `{field}` in `{line}`"))
        };
        let (listen, admin) = (address("listen"), address("admin"));
        Bare { process, listen, admin, out, err: Some(err), _directory: directory }
    }

    /// So many requests on four connections, each of which must be answered.
    fn serves(&self, requests: usize, path: &str) {
        let mut clients: Vec<_> = (0..4).map(|_| HttpClient::connect(self.listen)).collect();
        for index in 0..requests {
            let answer = clients[index % 4]
                .try_send("GET", path, &[], b"")
                .unwrap_or_else(|error| panic!("request {index}: {error}"));
            assert_eq!((answer.status(), answer.text().as_str()), (200, "hello\n"), "request {index}");
        }
    }

    fn dropped(&self, stream: &str) -> f64 {
        let text = HttpClient::connect(self.admin).get("/metrics", &[]).text();
        Metrics::parse(&text).find("slidegate_log_lines_dropped_total", &[("stream", stream)]).expect("it is counted")
    }

    fn is_healthy(&self) -> bool {
        HttpClient::connect(self.admin).get("/healthz", &[]).status() == 200
    }

    /// SIGTERM, and the end in order.
    fn ends(&mut self) {
        let command = format!("kill -TERM {}", self.process.id());
        assert!(Command::new("sh").args(["-c", &command]).status().expect("`sh` runs").success());
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait().expect("a child can be waited for") {
                assert_eq!(status.code(), Some(0));
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the gateway does not end");
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // Both fail only when it has already gone.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_reader_that_leaves_takes_no_request_with_it() {
    let upstream = Upstream::start();
    for format in ["text", "json"] {
        let mut gateway = Bare::start(&upstream, format, Stdio::piped());
        gateway.serves(20, "/");
        drop((gateway.out.take(), gateway.err.take()));
        gateway.serves(500, "/");
        wait_until("lines are dropped", || gateway.dropped("stdout") >= 500.0);
        assert!(gateway.is_healthy());
        gateway.ends();
    }
}

#[test]
fn a_reader_that_does_not_read_makes_nobody_wait() {
    let upstream = Upstream::start();
    let mut gateway = Bare::start(&upstream, "text", Stdio::piped());
    let path = format!("/{}", "long".repeat(110));
    // More than the pipe, what waits and what is being written hold together.
    gateway.serves(5_000, &path);
    assert!(gateway.dropped("stdout") > 0.0, "nothing was dropped: the test proves nothing");
    assert!(gateway.is_healthy());

    // Once it reads again, whole lines come, and later requests are logged.
    let mut out = gateway.out.take().expect("piped");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).expect("text");
        text
    });
    wait_until("what waited is read", || {
        let before = gateway.dropped("stdout");
        gateway.serves(1, "/");
        gateway.dropped("stdout") == before
    });
    gateway.serves(50, "/later");
    gateway.ends();
    let text = reader.join().expect("the reader ends");
    assert!(
        text.lines().all(|line| line.contains(" access: ") && line.ends_with("broken_off=false")),
        "a line is not whole"
    );
    assert!(text.contains("path=\"/later\""), "nothing is logged after the pause");
}

#[test]
fn a_gateway_ends_although_nobody_reads_its_logs() {
    let upstream = Upstream::start();
    let mut gateway = Bare::start(&upstream, "json", Stdio::piped());
    gateway.serves(1_000, &format!("/{}", "long".repeat(110)));
    gateway.ends();
}

#[test]
fn a_full_disk_takes_no_request_with_it() {
    let upstream = Upstream::start();
    let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let mut gateway = Bare::start(&upstream, "text", Stdio::from(full));
    gateway.serves(300, "/");
    wait_until("lines are dropped", || gateway.dropped("stdout") >= 300.0);
    assert_eq!(gateway.dropped("stderr"), 0.0);
    gateway.ends();
}

#[test]
fn a_file_that_may_not_grow_takes_no_request_with_it() {
    let (upstream, directory) = (Upstream::start(), Directory::new());
    let log = File::create(directory.path().join("access.log")).expect("a file");
    let mut command = Command::new("sh");
    // In blocks of 512 bytes; no file of any kind may be larger, and no part of what the filter runs in is one.
    command.args(["-c", "ulimit -f 16 && exec \"$0\" \"$@\""]).arg(binary());
    let mut gateway = Bare::start_as(command, &upstream, "text", Stdio::from(log));
    gateway.serves(300, "/");
    wait_until("lines are dropped", || gateway.dropped("stdout") > 0.0);
    gateway.ends();
}

#[test]
fn a_file_takes_every_line() {
    let (upstream, directory) = (Upstream::start(), Directory::new());
    let path = directory.path().join("access.log");
    let mut gateway = Bare::start(&upstream, "json", Stdio::from(File::create(&path).expect("a file")));
    gateway.serves(2_000, "/");
    gateway.ends();
    assert_eq!(gateway.err.take().map(|mut err| err.read_to_string(&mut String::new()).is_ok()), Some(true));
    let text = std::fs::read_to_string(&path).expect("a file");
    let paths = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["path"].clone());
    assert_eq!(paths.filter(|path| path == "/").count(), 2_000);
}

#[test]
fn what_clients_choose_is_cut_and_escaped() {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&format!("upstream: {}\n", upstream.url()));
    let mut client = gateway.client();
    let (path, host) = (format!("/{}", "p".repeat(20_000)), format!("{}.test", "h".repeat(20_000)));
    client.write(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).expect("the gateway reads");
    assert_eq!(client.read_answer("GET").expect("an answer").status(), 200);
    client.write(b"GET /\xc2\x9b\xe2\x80\xa8 HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("the gateway reads");
    let _ = client.read_answer("GET");
    assert_eq!(gateway.get("/last", &[]).0, 200);
    gateway.wait_printed("path=\"/last\"");
    let printed = gateway.printed();
    assert!(printed.lines().all(|line| line.len() < 2_000), "a line is {} bytes long", printed.len());
    assert!(
        printed.contains(&format!("{}…", "p".repeat(511))) && printed.contains(&format!("{}…", "h".repeat(512))),
        "{printed}"
    );
    assert!(printed.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{2028}'), "{printed}");
}

#[test]
fn what_strangers_do_in_http2_is_no_warning_of_a_library() {
    let upstream = Upstream::start();
    let settings = format!("upstream: {}\n", upstream.url());
    for (level, is_shown) in [("debug", true), ("info", false)] {
        let mut leveled = Command::new("env");
        leveled.arg(format!("SLIDEGATE_LOG={level}"));
        let gateway = Gateway::serve_by(leveled, &settings, &[]);
        let mut client = Http2Client::connect(gateway.listen(), 65_535).expect("the gateway listens");
        // Nobody has asked for it.
        client.frame(kind::PING, 1, 0, &[7; 8]).expect("the gateway reads");
        let stream = client.get("/").expect("the gateway reads");
        assert!(client.read_to_end_of(stream).expect("an answer"));
        match is_shown {
            true => drop(gateway.wait_log("recv PING ack")),
            false => assert_eq!(gateway.log_lines("recv PING ack"), [""; 0]),
        }
    }
}
