//! A gateway's life: settings change under load without losing a request, and SIGTERM ends it in order.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use slidegate_tests::{
    gateway_process::{Gateway, wait_until},
    http_client::HttpClient,
    upstream::Upstream,
};

/// Settings with this hourly limit for `x-key` and this route prefix.
fn settings(upstream: &Upstream, limit: u32, prefix: &str) -> String {
    format!(
        "routes: [{{name: all, path_prefix: {prefix}, upstream: \"{}\"}}]
filter:
  rule_name: life
  rule_items: [{{limit_by_per_header: x-key, limit_keys: [{{key: \"*\", query_per_hour: {limit}}}]}}]
log: {{access: false}}
",
        upstream.url()
    )
}

/// Clients that send requests until they are stopped, on kept connections.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(gateway: &Gateway, clients: usize) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |index| {
            let (mut client, stop, answered) = (gateway.client(), Arc::clone(&stop), Arc::clone(&answered));
            thread::spawn(move || {
                let mut failures = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    match client.try_send("POST", &format!("/a/{index}"), &[], b"some body") {
                        Ok(answer) if answer.status() == 200 && answer.body == b"hello\n" => {
                            answered.fetch_add(1, Ordering::SeqCst);
                        }
                        other => failures.push(format!("{other:?}")),
                    }
                    if failures.len() > 3 {
                        break;
                    }
                }
                failures
            })
        };
        let clients = (0..clients).map(client).collect();
        Load { stop, answered, clients }
    }

    fn wait_for(&self, more: u64) {
        let until = self.answered.load(Ordering::SeqCst) + more;
        wait_until("requests are answered", || {
            self.answered.load(Ordering::SeqCst) >= until || self.clients.iter().any(JoinHandle::is_finished)
        });
    }

    /// The failures of all clients.
    fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.clients.into_iter().flat_map(|client| client.join().expect("a client ends")).collect()
    }
}

fn reloads(gateway: &Gateway, result: &str) -> f64 {
    gateway.metrics().sum("slidegate_reloads_total", &[("result", result)])
}

fn statuses(gateway: &Gateway, key: &str, requests: usize) -> Vec<u16> {
    let mut client = gateway.client();
    (0..requests).map(|_| client.get("/a", &[("x-key", key)]).status()).collect()
}

#[test]
fn settings_change_under_load_without_losing_a_request_or_a_window() {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&settings(&upstream, 3, "/"));
    assert_eq!(statuses(&gateway, "kept", 4), [200, 200, 200, 429]);
    let load = Load::start(&gateway, 4);
    load.wait_for(50);

    // Another route and the same filter: what was counted still counts.
    gateway.write_settings(&settings(&upstream, 3, "/a"));
    wait_until("the file is read", || reloads(&gateway, "ok") == 1.0);
    assert_eq!(gateway.get("/b", &[]).0, 404);
    assert_eq!(statuses(&gateway, "kept", 1), [429]);
    load.wait_for(50);

    // Another file in its place, with another limit.
    gateway.replace_settings(&settings(&upstream, 5, "/a"));
    wait_until("the file is read", || reloads(&gateway, "ok") == 2.0);
    assert_eq!(statuses(&gateway, "new", 6), [200, 200, 200, 200, 200, 429]);
    load.wait_for(50);

    // A bad one: the old one stays, and the log says why.
    gateway.write_settings(&settings(&upstream, 5, "/a").replace("query_per_hour: 5", "query_per_hour: 0"));
    wait_until("the file is refused", || reloads(&gateway, "failed") == 1.0);
    let line = gateway.wait_log("query_per_hour");
    assert!(line.contains("ERROR") && line.contains("filter.rule_items[0].limit_keys[0].query_per_hour"), "{line}");
    gateway.wait_log("stay in force");
    assert_eq!(statuses(&gateway, "new", 1), [429]);
    load.wait_for(50);

    // No YAML at all, and then no change of meaning.
    gateway.replace_settings("routes: [");
    wait_until("the file is refused", || reloads(&gateway, "failed") == 2.0);
    gateway.replace_settings(&format!("# The same once more.\n{}", settings(&upstream, 5, "/a")));
    wait_until("the file is read", || reloads(&gateway, "unchanged") == 1.0);
    assert_eq!(statuses(&gateway, "new", 1), [429]);
    load.wait_for(50);

    assert_eq!(load.stop(), Vec::<String>::new());
}

#[test]
fn sighup_reads_the_file_again_and_says_so() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::serve(&settings(&upstream, 3, "/"));
    let load = Load::start(&gateway, 2);
    gateway.hang_up();
    wait_until("the file is read", || reloads(&gateway, "unchanged") == 1.0);
    gateway.wait_log("settings are as before");
    for round in 1..=5_u32 {
        gateway.write_settings(&settings(&upstream, 3 + round, "/"));
        gateway.hang_up();
        wait_until("the file is read", || reloads(&gateway, "ok") >= f64::from(round));
        load.wait_for(10);
    }
    assert_eq!(load.stop(), Vec::<String>::new());
    assert!(gateway.is_running());
}

#[test]
fn what_needs_another_process_is_kept_and_warned_about() {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&settings(&upstream, 3, "/"));
    gateway.write_settings(&format!("{}workers: 7\n", settings(&upstream, 3, "/a")));
    let line = gateway.wait_log("`workers` changed");
    assert!(line.contains("next start"), "{line}");
    wait_until("the rest is taken", || reloads(&gateway, "ok") == 1.0);
    assert_eq!((gateway.get("/b", &[]).0, gateway.get("/a", &[]).0), (404, 200));
}

#[test]
fn sigterm_lets_requests_in_flight_finish_and_takes_no_new_ones() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::serve(&settings(&upstream, 3, "/"));
    let (listen, admin) = (gateway.listen(), gateway.admin());
    let ask = |path: &'static str| {
        let mut client = HttpClient::connect(listen);
        thread::spawn(move || client.try_send("GET", path, &[], b""))
    };
    let mut idle = gateway.client();
    assert_eq!(idle.get("/", &[]).status(), 200);
    let (slow, trickling) = (ask("/delay/1500"), ask("/trickle/60"));
    wait_until("both reach the upstream", || upstream.requests() == 3);
    gateway.terminate();
    gateway.wait_log("draining");
    wait_until("nobody listens", || std::net::TcpStream::connect(listen).is_err());
    let mut health = HttpClient::connect(admin);
    let answer = health.get("/healthz", &[]);
    assert_eq!((answer.status(), answer.text().as_str()), (503, "draining\n"));
    let answer = health.get("/readyz", &[]);
    assert_eq!((answer.status(), answer.text().as_str()), (503, "draining\n"));
    assert_eq!(idle.read_to_end(|_| ()).expect("an idle connection is closed"), 0);
    let slow = slow.join().expect("the client ends").expect("an answer");
    assert_eq!((slow.status(), slow.body.as_slice()), (200, b"hello\n".as_slice()));
    let trickling = trickling.join().expect("the client ends").expect("an answer");
    assert_eq!((trickling.status(), trickling.body.len()), (200, 60));
    assert_eq!(gateway.wait_exit().code(), Some(0));
    gateway.wait_log("all connections have ended");
}

#[test]
fn draining_ends_when_its_time_is_over_or_at_a_second_signal() {
    let upstream = Upstream::start();
    let short = format!("{}timeouts: {{drain: 300ms}}\n", settings(&upstream, 3, "/"));
    for (settings, is_told_again, says) in
        [(short, false, "the time to drain is over"), (settings(&upstream, 3, "/"), true, "told again to end")]
    {
        let mut gateway = Gateway::serve(&settings);
        let before = upstream.requests();
        let mut client = gateway.client();
        client.write(b"GET /delay/50000 HTTP/1.1\r\nhost: a\r\n\r\n").expect("the gateway reads");
        wait_until("the request reaches the upstream", || upstream.requests() > before);
        gateway.terminate();
        gateway.wait_log("draining");
        if is_told_again {
            gateway.terminate();
        }
        assert_eq!(gateway.wait_exit().code(), Some(0));
        gateway.wait_log(says);
        assert!(client.read_answer("GET").is_err());
    }
}

#[test]
fn a_tunnel_is_drained_like_a_request() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::serve(&settings(&upstream, 3, "/"));
    let mut client = gateway.client();
    client
        .write(b"GET /upgrade HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
        .expect("the gateway reads");
    assert_eq!(client.read_head().expect("an answer").status, 101);
    gateway.terminate();
    gateway.wait_log("draining");
    thread::sleep(Duration::from_millis(50));
    client.write(b"still here").expect("the tunnel is open");
    assert_eq!(client.read_raw(10).expect("the echo"), b"still here");
    drop(client);
    assert_eq!(gateway.wait_exit().code(), Some(0));
}
