//! Redis behind TLS: an own authority, a client certificate that the server asks for, and every way in which one of the
//! two does not trust the other, told in the log, while the failure mode decides.

use std::{fs, path::Path, process::Output};

use slidegate_tests::{
    certificates::Authority,
    gateway_process::{self, Directory, Gateway, wait_until},
    redis_server::{RedisServer, free_port},
    upstream::Upstream,
};

/// A Redis with TLS, and what it takes to be trusted by it.
struct Secured {
    redis: RedisServer,
    tls_port: u16,
    directory: Directory,
}

impl Secured {
    fn start(asks_clients: bool) -> Self {
        Self::start_with(asks_clients, &[])
    }

    /// `ca.pem` has signed everything; the server's certificate holds 127.0.0.1 and `redis.example`.
    fn start_with(asks_clients: bool, more: &[&str]) -> Self {
        let directory = Directory::new();
        let authority = Authority::new(directory.path(), "ca");
        let (certificate, key) = authority.sign("server", &["127.0.0.1", "redis.example"]);
        authority.sign("client", &[]);
        let tls_port = free_port();
        let (port, ca) = (tls_port.to_string(), authority.certificate());
        let args = [
            "--tls-port",
            &port,
            "--tls-cert-file",
            text(&certificate),
            "--tls-key-file",
            text(&key),
            "--tls-ca-cert-file",
            text(&ca),
            "--tls-auth-clients",
            if asks_clients { "yes" } else { "no" },
        ];
        Secured { redis: RedisServer::start_with(&[&args[..], more].concat()), tls_port, directory }
    }

    fn url(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.tls_port)
    }

    /// A file of the directory.
    fn file(&self, name: &str) -> String {
        text(&self.directory.path().join(name)).to_owned()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is text")
}

fn settings(upstream: &Upstream, redis: &str) -> String {
    format!(
        "upstream: {}
workers: 1
redis: {{names: {{r: {redis}}}}}
filter:
  rule_name: tls
  rule_items: [{{limit_by_per_header: x-key, limit_keys: [{{key: \"*\", limit: 3, window: 2s}}]}}]
  failure_mode: closed
  redis: {{service_name: r, timeout: 2000}}
",
        upstream.url()
    )
}

/// Limits are kept, and Redis has the keys.
fn check_counts(gateway: &Gateway, redis: &RedisServer) {
    assert_eq!(gateway.statuses("x-key", "a", 4), [200, 200, 200, 429], "{}", gateway.log());
    assert!(redis.tell(&["DBSIZE"]).parse::<u64>().is_ok_and(|keys| keys > 0));
    wait_until("the window has gone by", || gateway.statuses("x-key", "a", 1) == [200]);
}

/// Nothing is admitted, and the log says why.
fn check_refused(redis: &str, reason: &str) {
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&settings(&upstream, redis));
    assert_eq!(gateway.statuses("x-key", "a", 3), [503; 3]);
    let line = gateway.wait_log("no connection to Redis r:6379");
    assert!(line.contains(reason), "{line}");
    assert_eq!(
        gateway.log_lines("no connection to Redis").len(),
        1,
        "a line for a change of state, not for each request"
    );
    assert_eq!(upstream.requests(), 0);
}

#[test]
fn an_own_authority_is_trusted() {
    let (secured, upstream) = (Secured::start(false), Upstream::start());
    let redis = format!("{{url: \"{}\", ca: {}}}", secured.url(), secured.file("ca.pem"));
    let gateway = Gateway::serve(&settings(&upstream, &redis));
    check_counts(&gateway, &secured.redis);
    let shown = gateway.ask_admin("/config").1;
    assert!(shown.contains("ca.pem") && shown.contains("rediss://"), "{shown}");
}

#[test]
fn files_are_relative_to_the_gateways_own_and_a_client_certificate_is_shown() {
    let (secured, upstream) = (Secured::start(true), Upstream::start());
    let redis = format!("{{url: \"{}\", ca: ca.pem, cert: client.pem, key: client.key}}", secured.url());
    let file = secured.file("gate.yaml");
    fs::write(&file, settings(&upstream, &redis)).expect("the directory can be written to");
    let output = gateway_process::run(&["check", &file]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && told.contains("127.0.0.1") && told.contains("with TLS"), "{output:?}");
    let absolute = redis.replace("ca.pem", &secured.file("ca.pem")).replace("client.", &secured.file("client."));
    check_counts(&Gateway::serve(&settings(&upstream, &absolute)), &secured.redis);
}

#[test]
fn the_systems_authorities_are_trusted_without_an_own_one() {
    let (secured, upstream) = (Secured::start(false), Upstream::start());
    // What OpenSSL reads its authorities from is how a system says whom it trusts.
    let system = [("SSL_CERT_FILE", secured.file("ca.pem"))];
    let gateway = Gateway::serve_in(&settings(&upstream, &format!("\"{}\"", secured.url())), &system);
    check_counts(&gateway, &secured.redis);
    check_refused(&format!("\"{}\"", secured.url()), "nobody who is trusted has signed");
}

#[test]
fn authorities_of_the_system_are_read_again_when_that_is_asked_for() {
    let (secured, upstream) = (Secured::start(false), Upstream::start());
    Authority::new(secured.directory.path(), "other");
    let system = secured.file("system.pem");
    let trust = |name: &str| {
        fs::copy(secured.file(name), &system).expect("a temporary file can be copied");
    };
    trust("other.pem");
    let settings = settings(&upstream, &format!("\"{}\"", secured.url()));
    let gateway = Gateway::serve_in(&settings, &[("SSL_CERT_FILE", system.clone())]);
    gateway.wait_log("nobody who is trusted has signed");
    trust("ca.pem");
    gateway.hang_up();
    gateway.wait_log("settings reloaded");
    wait_until("Redis is trusted", || gateway.ask_admin("/readyz").0 == 200);
    check_counts(&gateway, &secured.redis);
}

#[test]
fn a_server_of_another_authority_is_not_trusted() {
    let secured = Secured::start(false);
    Authority::new(secured.directory.path(), "other");
    check_refused(
        &format!("{{url: \"{}\", ca: {}}}", secured.url(), secured.file("other.pem")),
        "nobody who is trusted has signed",
    );
}

#[test]
fn a_server_of_another_name_is_not_trusted_and_the_expected_name_can_be_given() {
    let (secured, upstream) = (Secured::start(false), Upstream::start());
    let with_name =
        |name: &str| format!("{{url: \"{}\", ca: {}, server_name: {name}}}", secured.url(), secured.file("ca.pem"));
    check_refused(&with_name("other.example"), "other.example");
    check_counts(&Gateway::serve(&settings(&upstream, &with_name("redis.example"))), &secured.redis);
    let by_name = format!("{{url: \"rediss://localhost:{}\", ca: {}}}", secured.tls_port, secured.file("ca.pem"));
    check_refused(&by_name, "localhost");
}

#[test]
fn a_server_that_asks_for_a_certificate_refuses_who_has_none_or_another_authoritys() {
    let secured = Secured::start(true);
    check_refused(&format!("{{url: \"{}\", ca: {}}}", secured.url(), secured.file("ca.pem")), "received fatal alert");
    Authority::new(secured.directory.path(), "other").sign("stranger", &[]);
    let [ca, certificate, key] = ["ca.pem", "stranger.pem", "stranger.key"].map(|name| secured.file(name));
    check_refused(
        &format!("{{url: \"{}\", ca: {ca}, cert: {certificate}, key: {key}}}", secured.url()),
        "received fatal alert",
    );
}

#[test]
fn a_port_without_tls_and_one_with_it_are_not_mixed_up() {
    let secured = Secured::start(false);
    let plain = secured.redis.port();
    check_refused(
        &format!("{{url: \"rediss://127.0.0.1:{plain}\", ca: {}}}", secured.file("ca.pem")),
        "it did not answer TLS; is it a plain port?",
    );
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&settings(&upstream, &format!("\"redis://127.0.0.1:{}\"", secured.tls_port)));
    assert_eq!(gateway.statuses("x-key", "a", 3), [503; 3]);
    let line = gateway.wait_log("no connection to Redis r:6379");
    assert!(line.contains("is it a port for TLS? Then the URL begins with `rediss`"), "{line}");
}

#[test]
fn the_nodes_of_a_cluster_are_reached_with_tls() {
    let bus = free_port().to_string();
    let args = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--tls-cluster", "yes"];
    let (secured, upstream) = (Secured::start_with(true, &args), Upstream::start());
    secured.redis.tell(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    wait_until("the cluster serves", || secured.redis.tell(&["CLUSTER", "INFO"]).contains("cluster_state:ok"));
    let [ca, certificate, key] = ["ca.pem", "client.pem", "client.key"].map(|name| secured.file(name));
    let url = format!("rediss+cluster://127.0.0.1:{}", secured.tls_port);
    let gateway =
        Gateway::serve(&settings(&upstream, &format!("{{url: \"{url}\", ca: {ca}, cert: {certificate}, key: {key}}}")));
    check_counts(&gateway, &secured.redis);
}

#[test]
fn sentinels_and_their_master_are_reached_with_tls() {
    let (secured, upstream) = (Secured::start(true), Upstream::start());
    let [ca, certificate, key] = ["ca.pem", "server.pem", "server.key"].map(|name| secured.file(name));
    let port = free_port();
    let sentinel = RedisServer::start_sentinel(&format!(
        "sentinel monitor main 127.0.0.1 {} 1\ntls-replication yes\ntls-port {port}\ntls-ca-cert-file {ca}\n\
         tls-cert-file {certificate}\ntls-key-file {key}\n",
        secured.tls_port
    ));
    let [certificate, key] = ["client.pem", "client.key"].map(|name| secured.file(name));
    let url = format!("rediss+sentinel://127.0.0.1:{port}/main");
    let gateway =
        Gateway::serve(&settings(&upstream, &format!("{{url: \"{url}\", ca: {ca}, cert: {certificate}, key: {key}}}")));
    check_counts(&gateway, &secured.redis);
    drop(sentinel);
}

#[test]
fn mistakes_are_found_before_anything_is_served() {
    let (directory, upstream) = (Directory::new(), Upstream::start());
    let authority = Authority::new(directory.path(), "ca");
    authority.sign("one", &[]);
    authority.sign("two", &[]);
    fs::write(directory.path().join("text.pem"), "no PEM\n").expect("the directory can be written to");
    let check = |redis: &str| -> Output {
        let file = directory.path().join("gate.yaml");
        fs::write(&file, settings(&upstream, redis)).expect("the directory can be written to");
        gateway_process::run(&["check", text(&file)])
    };
    for (redis, mistake) in [
        ("{url: \"rediss://h\", ca: none.pem}", "redis.names.r.ca: expected a file that can be read, got `none.pem`: "),
        (
            "{url: \"rediss://h\", ca: text.pem}",
            "redis.names.r.ca: expected certificates in PEM, found none (got `text.pem`)",
        ),
        (
            "{url: \"rediss://h\", ca: ca.pem, cert: one.pem}",
            "redis.names.r.key: missing; expected the key of the certificate in `cert`",
        ),
        (
            "{url: \"rediss://h\", ca: ca.pem, key: one.key}",
            "redis.names.r.cert: missing; expected the certificate of the key in `key`",
        ),
        (
            "{url: \"rediss://h\", ca: ca.pem, cert: one.pem, key: two.key}",
            "redis.names.r.key: expected the key of the certificate in `cert`, got one that belongs to another",
        ),
        (
            "{url: \"rediss://h\", ca: ca.pem, cert: one.pem, key: text.pem}",
            "redis.names.r.key: expected a private key in PEM, found none",
        ),
        (
            "{url: \"rediss://h\", ca: ca.pem, server_name: \"a b\"}",
            "redis.names.r.server_name: expected a host name or an IP address, without port (got `a b`)",
        ),
        ("{url: \"redis://h\", ca: ca.pem}", "redis.names.r.ca: expected only with a URL that says TLS"),
        (
            "{url: \"rediss://h\", certificate: one.pem}",
            "redis.names.r.certificate: there is no such field here; did you mean `cert`?",
        ),
        ("{ca: ca.pem}", "redis.names.r.url: is missing: expected a URL"),
        ("\"tls://h\"", "redis.names.r: not a usable Redis URL: expected `redis://host:port/database`"),
    ] {
        let output = check(redis);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(mistake), "{redis}: {told}");
    }
    let good = check("{url: \"rediss://h\", ca: ca.pem, cert: one.pem, key: one.key, server_name: other}");
    assert!(good.status.success(), "{good:?}");
}

#[test]
fn a_renewed_certificate_is_taken_up_with_the_next_reload() {
    let (secured, upstream) = (Secured::start(true), Upstream::start());
    let authority = Authority::new(secured.directory.path(), "other");
    authority.sign("mine", &[]);
    let [ca, certificate, key] = ["ca.pem", "mine.pem", "mine.key"].map(|name| secured.file(name));
    let redis = format!("{{url: \"{}\", ca: {ca}, cert: {certificate}, key: {key}}}", secured.url());
    let gateway = Gateway::serve(&settings(&upstream, &redis));
    assert_eq!(gateway.statuses("x-key", "a", 1), [503]);
    for (from, to) in [("client.pem", &certificate), ("client.key", &key)] {
        fs::copy(secured.file(from), to).expect("the directory can be written to");
    }
    gateway.hang_up();
    gateway.wait_log("settings reloaded");
    check_counts(&gateway, &secured.redis);
}
