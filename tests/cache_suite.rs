//! The public suite of HTTP caches, through the gateway: what it requires of a cache, and what is best. Which of its
//! tests fail, and why each of them does, stands in `cache/failing.yaml`.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use slidegate_tests::{
    gateway_process::{Gateway, wait_until},
    redis_server::{RedisServer, free_port},
};

/// As many pass at least, of those that the suite requires, and of those for what is best.
const REQUIRED_MIN: usize = 140;
const OPTIMAL_MIN: usize = 70;

/// The suite's own server. Dropping it stops it.
struct SuiteServer {
    process: Child,
    port: u16,
}

impl SuiteServer {
    fn start() -> SuiteServer {
        for _ in 0..3 {
            let port = free_port();
            let process = suite("server", &port.to_string()).stdout(Stdio::null()).spawn().expect("node is there");
            let mut server = SuiteServer { process, port };
            let mut has_ended = false;
            wait_until("the suite's server listens, or has ended", || {
                has_ended = server.process.try_wait().expect("a child can be asked after").is_some();
                has_ended || TcpStream::connect(("localhost", port)).is_ok()
            });
            if !has_ended {
                return server;
            }
            // Somebody else may have taken the port meanwhile.
        }
        panic!("the suite's server ends each time: what it says stands above");
    }
}

impl Drop for SuiteServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn suite(deed: &str, place: &str) -> Command {
    let mut node = Command::new("node");
    node.arg("--no-warnings").arg(workspace().join("tests/cache/suite.mjs"));
    node.arg(deed).arg(workspace().join("target/cache-suite")).arg(place);
    node
}

#[test]
fn the_public_suite_passes_but_for_what_is_named() {
    let (redis, server) = (RedisServer::start(), SuiteServer::start());
    let gateway = Gateway::serve(&format!(
        "upstream: http://localhost:{}\nredis: {}\nfilter: {{cache: {{}}}}\n",
        server.port,
        redis.url()
    ));
    let output = suite("run", &format!("http://{}", gateway.listen())).output().expect("node is there");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "`just setup` installs it: {}", String::from_utf8_lossy(&output.stderr));
    let (mut passed, mut failed) = (BTreeMap::<&str, usize>::new(), BTreeMap::new());
    for line in told.lines() {
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (kind, _, name, result) = (word(), word(), word(), word());
        match result {
            "passed" => *passed.entry(kind).or_default() += 1,
            _ if kind == "check" => {}
            result => drop(failed.insert(name.to_owned(), format!("{kind}: {result}"))),
        }
    }
    let named = fs::read_to_string(workspace().join("tests/cache/failing.yaml")).expect("the file is there");
    let named: BTreeMap<String, String> = serde_saphyr::from_str(&named).expect("names, and why");
    let unnamed: Vec<_> = failed.iter().filter(|(name, _)| !named.contains_key(*name)).collect();
    assert!(unnamed.is_empty(), "{unnamed:#?}");
    let mended: Vec<_> = named.keys().filter(|name| !failed.contains_key(*name)).collect();
    assert!(mended.is_empty(), "named, and pass: {mended:?}");
    assert!(passed["required"] >= REQUIRED_MIN && passed["optimal"] >= OPTIMAL_MIN, "{passed:?}");
}
