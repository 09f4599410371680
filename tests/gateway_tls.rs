//! TLS on the gateway's listeners, seen by strangers (curl) and by clients of our own: versions of HTTP, who is let in,
//! certificates that change, and clients that take their time.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use hyper::Version;
use slidegate::tls::{ALPN_HTTP1, ClientTls};
use slidegate_tests::{
    certificates::Authority,
    gateway_process::{Directory, Gateway, PATIENCE, wait_until},
    tls_client::{BOTH, TlsClient, client_tls},
    upstream::Upstream,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{client::TlsStream, rustls::HandshakeKind};

/// An authority, and a gateway whose certificate it has signed.
struct Secured {
    gateway: Gateway,
    upstream: Upstream,
    authority: Authority,
    directory: Directory,
}

const ADDRESS: &str = "127.0.0.1";

impl Secured {
    /// With these fields of `tls`, and these of the file, beside the certificate.
    fn start(of_tls: &str, more: &str) -> Self {
        let (directory, upstream) = (Directory::new(), Upstream::start());
        let authority = Authority::new(directory.path(), "ca");
        authority.sign("server", &[ADDRESS, "gate.example"]);
        let gateway = Gateway::serve(&settings(directory.path(), &upstream, of_tls, more));
        Self { gateway, upstream, authority, directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn trusting(&self, alpn: &[&[u8]]) -> ClientTls {
        client_tls(&self.authority.certificate(), None, alpn)
    }

    fn connect(&self, alpn: &[&[u8]]) -> TlsClient {
        TlsClient::connect(&self.trusting(alpn), self.gateway.listen()).expect("a connection")
    }

    fn failed(&self, reason: &str) -> f64 {
        self.gateway.metrics().sum("slidegate_tls_handshakes_failed_total", &[("reason", reason)])
    }

    /// A conversation in bytes, in HTTP/1.1.
    fn talk(&self, conversation: impl AsyncFnOnce(&mut TlsStream<tokio::net::TcpStream>) -> io::Result<()>) {
        self.talk_as(&self.trusting(&[ALPN_HTTP1]), conversation);
    }

    /// The same, by a client that may have been here before.
    fn talk_as(
        &self,
        tls: &ClientTls,
        conversation: impl AsyncFnOnce(&mut TlsStream<tokio::net::TcpStream>) -> io::Result<()>,
    ) {
        let address = self.gateway.listen();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let talked = runtime.block_on(async {
            let mut stream = tls.connect(ADDRESS, tokio::net::TcpStream::connect(address).await?).await?;
            tokio::time::timeout(PATIENCE, conversation(&mut stream)).await?
        });
        talked.unwrap_or_else(|error| panic!("{error}; the gateway said:\n{}", self.gateway.log()));
    }

    /// A stranger that trusts the authority asks for a path.
    fn curl(&self, path: &str, args: &[&str]) -> Output {
        curl(&self.authority.certificate(), self.gateway.listen(), path, args)
    }
}

fn settings(directory: &Path, upstream: &Upstream, of_tls: &str, more: &str) -> String {
    let directory = directory.display();
    format!(
        "tls: {{cert: {directory}/server.pem, key: {directory}/server.key{of_tls}}}\nupstream: {}\n{more}",
        upstream.url()
    )
}

fn curl(ca: &Path, address: SocketAddr, path: &str, args: &[&str]) -> Output {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "60", "-w", " %{http_version} %{http_code}", "--cacert"]).arg(ca);
    curl.args(args).arg(format!("https://{address}{path}"));
    curl.output().expect("curl runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn https_is_served_in_both_versions_and_everybody_behind_is_told() {
    let filter = "filter: {rule_name: r, rule_items: [{limit_by_header: x-forwarded-proto, limit_keys: [{key: https, \
                  query_per_day: 3}]}]}\n";
    let secured = Secured::start("", filter);
    assert_eq!(said(&secured.curl("/", &["--http1.1"])), "hello\n 1.1 200");
    // Whatever a client says of itself.
    assert_eq!(said(&secured.curl("/", &["--http2", "-H", "x-forwarded-proto: http"])), "hello\n 2 200");
    let seen = secured.upstream.seen();
    assert_eq!(
        seen.iter().map(|seen| seen.text("x-forwarded-proto").unwrap_or_default()).collect::<Vec<_>>(),
        ["https"; 2]
    );
    // A proxy's form of the target names the scheme.
    let mut whole = secured.connect(&[ALPN_HTTP1]);
    assert_eq!(whole.get("https://gate.example/x", &[]).expect("an answer").status, 200);
    assert_eq!(secured.upstream.last().uri.path(), "/x");
    assert_eq!(said(&secured.curl("/", &["--http2", "-o", "/dev/null"])), " 2 429", "the filter sees it, too");
}

#[test]
fn the_protocol_is_the_one_that_both_like_best() {
    let secured = Secured::start("", "");
    for (alpn, version) in [(BOTH, Version::HTTP_2), (&[ALPN_HTTP1][..], Version::HTTP_11), (&[], Version::HTTP_11)] {
        let answer = secured.connect(alpn).get("/", &[]).expect("an answer");
        assert_eq!((answer.status, answer.version), (200, version));
    }
}

#[test]
fn a_client_without_the_certificate_that_is_asked_for_gets_nowhere() {
    let secured = Secured::start("", "");
    let other = Authority::new(secured.directory.path(), "other");
    secured.authority.sign("client", &[]);
    secured.authority.sign_expired("late", &[]);
    other.sign("stranger", &[]);
    let of_tls = format!(", client_ca: {}", secured.file("ca.pem").display());
    let gateway = Gateway::serve(&settings(secured.directory.path(), &secured.upstream, &of_tls, ""));
    let ask = |name: &str| {
        let (certificate, key) = (secured.file(&format!("{name}.pem")), secured.file(&format!("{name}.key")));
        let shown = ["--cert", certificate.to_str().expect("text"), "--key", key.to_str().expect("text")];
        curl(&secured.file("ca.pem"), gateway.listen(), "/", if name.is_empty() { &[] } else { &shown })
    };
    assert_eq!(said(&ask("client")), "hello\n 2 200");
    for (name, reason) in [("", "no_certificate"), ("stranger", "untrusted"), ("late", "untrusted")] {
        let failed = || gateway.metrics().sum("slidegate_tls_handshakes_failed_total", &[("reason", reason)]);
        let (before, output) = (failed(), ask(name));
        assert!(!output.status.success() && said(&output).ends_with(" 000"), "{name}: {output:?}");
        wait_until("the handshake is counted", || failed() == before + 1.0);
    }
    assert_eq!(secured.upstream.requests(), 1);
}

#[test]
fn an_old_version_is_refused_where_the_settings_say_so() {
    let secured = Secured::start(", min_version: 1.3", "");
    assert_eq!(said(&secured.curl("/", &["--tls-max", "1.3"])), "hello\n 2 200");
    assert!(!secured.curl("/", &["--tls-max", "1.2"]).status.success());
    let lenient = Secured::start("", "");
    assert_eq!(said(&lenient.curl("/", &["--tls-max", "1.2"])), "hello\n 2 200");
    assert!(!lenient.curl("/", &["--tls-max", "1.1"]).status.success());
}

#[test]
fn what_is_no_handshake_holds_nobody_and_not_for_long() {
    let secured = Secured::start("", "timeouts: {request_headers: 1s}\nlimits: {connections: 40}\n");
    let begun = [0x16, 3, 1, 2, 0, 1, 0];
    let slow: Vec<TcpStream> = (0..40)
        .map(|number| {
            let mut stream = TcpStream::connect(secured.gateway.listen()).expect("a connection");
            stream.write_all(if number % 2 == 0 { &begun } else { b"" }).expect("an open socket");
            stream
        })
        .collect();
    wait_until("a newcomer is served", || secured.curl("/", &[]).status.success());
    for mut stream in slow {
        let mut rest = Vec::new();
        // One that had to make room is reset.
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty(), "{rest:?}");
    }
    let mut plain = TcpStream::connect(secured.gateway.listen()).expect("a connection");
    plain.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").expect("an open socket");
    let mut alert = Vec::new();
    let _ = plain.read_to_end(&mut alert);
    assert!(!alert.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&alert));
    wait_until("it is counted", || secured.failed("no_tls") == 1.0 && secured.failed("time") >= 1.0);
    // Who does not trust the gateway is counted as well.
    Authority::new(secured.directory.path(), "other");
    assert!(!curl(&secured.file("other.pem"), secured.gateway.listen(), "/", &[]).status.success());
    wait_until("it is counted", || secured.failed("distrusted") == 1.0);
    assert_eq!(secured.gateway.log_lines("handshake"), [""; 0], "strangers write no log");
}

#[test]
fn large_bodies_trickles_and_tunnels_pass_as_without_tls() {
    let secured = Secured::start("", "");
    let file = secured.file("body");
    fs::write(&file, vec![b'x'; 3 << 20]).expect("a file");
    let data = format!("@{}", file.display());
    for version in ["--http1.1", "--http2"] {
        let large = secured.file("large");
        assert!(secured.curl("/bytes/20000000", &[version, "-o", large.to_str().expect("text")]).status.success());
        assert!(fs::read(&large).expect("a body") == vec![b'0'; 20_000_000], "{version}");
        assert!(said(&secured.curl("/", &[version, "--data-binary", &data])).starts_with("hello\n"));
        assert_eq!(secured.upstream.last().body_bytes, 3 << 20);
        assert!(said(&secured.curl("/trickle/20", &[version])).starts_with(&"0".repeat(20)));
    }
    secured.talk(async |stream| {
        stream.write_all(b"GET /upgrade HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n").await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        stream.write_all(b"ping").await?;
        let mut echoed = [0; 4];
        stream.read_exact(&mut echoed).await?;
        assert_eq!(&echoed, b"ping");
        // One side says that it has no more to say; the other then ends, too.
        stream.shutdown().await?;
        assert_eq!(stream.read(&mut echoed).await?, 0);
        Ok(())
    });
}

#[test]
fn a_client_that_comes_again_takes_its_session_up_again() {
    let secured = Secured::start("", "");
    let tls = secured.trusting(&[ALPN_HTTP1]);
    let come = || {
        let mut kind = None;
        secured.talk_as(&tls, async |stream| {
            stream.write_all(b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n").await?;
            stream.read_to_end(&mut Vec::new()).await?;
            kind = stream.get_ref().1.handshake_kind();
            Ok(())
        });
        kind
    };
    // Each connection is given one ticket, so it is given again with each.
    assert_eq!(
        [come(), come(), come()],
        [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed].map(Some)
    );
}

#[test]
fn a_client_that_has_said_all_it_has_to_say_is_answered() {
    let secured = Secured::start("", "");
    secured.talk(async |stream| {
        stream.write_all(b"GET /delay/2500 HTTP/1.1\r\nhost: a\r\n\r\n").await?;
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        assert!(answer.contains("HTTP/1.1 200 OK") && answer.ends_with("hello\n"), "{answer}");
        Ok(())
    });
}

#[test]
fn a_client_that_leaves_is_noticed_while_the_upstream_is_silent() {
    let secured = Secured::start("", "");
    let mut leaving = Command::new("curl")
        .args(["-sk", "--http1.1", &format!("https://{}/delay/600000", secured.gateway.listen())])
        .spawn()
        .expect("curl runs");
    let in_flight = || secured.gateway.metrics().sum("slidegate_requests_in_flight", &[]);
    wait_until("it has asked", || in_flight() == 1.0);
    leaving.kill().expect("it runs");
    leaving.wait().expect("it ends");
    wait_until("it is noticed", || in_flight() == 0.0);
    assert_eq!(secured.gateway.metrics().sum("slidegate_requests_total", &[("code", "gone")]), 1.0);
}

#[test]
fn certificates_change_under_load_and_no_request_fails() {
    let secured = Arc::new(Secured::start("", "limits: {connections: 1000}\n"));
    let (is_over, failures, answers) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let load: Vec<_> = (0..4)
        .map(|number| {
            let (secured, is_over) = (Arc::clone(&secured), Arc::clone(&is_over));
            let (failures, answers) = (Arc::clone(&failures), Arc::clone(&answers));
            thread::spawn(move || {
                let tls = secured.trusting(if number % 2 == 0 { BOTH } else { &[ALPN_HTTP1] });
                // From one half, each request on a connection of its own; from the other half all on one.
                let mut kept = None;
                while !is_over.load(Ordering::Relaxed) {
                    let mut client = kept.take().unwrap_or_else(|| TlsClient::connect(&tls, secured.gateway.listen()));
                    let is_good = client
                        .as_mut()
                        .is_ok_and(|client| client.get("/", &[]).is_ok_and(|answer| answer.status == 200));
                    (if is_good { &answers } else { &failures }).fetch_add(1, Ordering::Relaxed);
                    kept = Some(client).filter(|client| number < 2 && client.is_ok());
                }
            })
        })
        .collect();
    let mut shown = vec![serial(&secured)];
    for change in 1..=5 {
        // In two steps, as people do it: for a moment they do not fit each other.
        secured.authority.sign("server", &[ADDRESS]);
        wait_until("the new one is shown", || serial(&secured) != *shown.last().expect("one at least"));
        shown.push(serial(&secured));
        let before = answers.load(Ordering::Relaxed);
        wait_until("requests go on", || answers.load(Ordering::Relaxed) > before + 20);
        assert_eq!(failures.load(Ordering::Relaxed), 0, "after change {change}: {}", secured.gateway.log());
    }
    is_over.store(true, Ordering::Relaxed);
    load.into_iter().for_each(|thread| thread.join().expect("a thread ends"));
    assert_eq!(failures.load(Ordering::Relaxed), 0);
}

#[test]
fn certificates_change_when_the_link_of_their_folder_does() {
    let (directory, upstream) = (Directory::new(), Upstream::start());
    let authority = Authority::new(directory.path(), "ca");
    let file = |name: &str| directory.path().join(name);
    for version in ["v1", "v2"] {
        authority.sign("server", &[ADDRESS]);
        fs::create_dir(file(version)).expect("a folder");
        for name in ["server.pem", "server.key"] {
            fs::rename(file(name), file(version).join(name)).expect("a file");
        }
    }
    // As certbot and Kubernetes do.
    let lead_to = |version: &str| {
        std::os::unix::fs::symlink(version, file("new")).expect("a link");
        fs::rename(file("new"), file("current")).expect("a link");
    };
    lead_to("v1");
    let gateway = Gateway::serve(&settings(&file("current"), &upstream, "", ""));
    let secured = Secured { gateway, upstream, authority, directory: Directory::new() };
    let first = serial(&secured);
    lead_to("v2");
    wait_until("the second one is shown", || serial(&secured) != first);
    lead_to("v1");
    wait_until("the first one is shown again", || serial(&secured) == first);
}

/// The number of the certificate that the gateway shows.
fn serial(secured: &Secured) -> String {
    let address = secured.gateway.listen();
    let command = format!("openssl s_client -connect {address} </dev/null 2>/dev/null | openssl x509 -noout -serial");
    said(&Command::new("sh").args(["-c", &command]).output().expect("openssl runs"))
}

#[test]
fn a_broken_new_pair_is_refused_and_the_old_one_stays() {
    let secured = Secured::start("", "");
    let (mut kept, before) = (secured.connect(BOTH), serial(&secured));
    assert!(kept.get("/", &[]).is_ok());
    let key = fs::read(secured.file("server.key")).expect("a key");
    secured.authority.sign("other", &[ADDRESS]);
    fs::copy(secured.file("other.key"), secured.file("server.key")).expect("a file");
    secured.gateway.wait_log("tls.key: expected the key of the certificate in `cert`, got one that belongs to another");
    fs::remove_file(secured.file("server.pem")).expect("a file");
    let line = secured.gateway.wait_log("server.pem`: no such file");
    assert!(line.contains("tls.cert: expected a file that can be read"), "{line}");
    assert_eq!(serial(&secured), before);
    assert_eq!(kept.get("/", &[]).expect("an answer").status, 200, "what is open goes on");
    assert!(secured.connect(BOTH).get("/", &[]).is_ok());
    // And back: what is whole again is taken.
    fs::write(secured.file("server.key"), key).expect("a file");
    secured.authority.sign("server", &[ADDRESS]);
    wait_until("the new one is shown", || serial(&secured) != before);
    for text in [secured.gateway.log(), secured.gateway.printed(), secured.gateway.ask_admin("/config").1] {
        assert!(!text.contains("PRIVATE KEY"), "{text}");
    }
}

#[test]
fn tls_comes_and_goes_with_the_settings_on_each_listener() {
    let (directory, upstream) = (Directory::new(), Upstream::start());
    let authority = Authority::new(directory.path(), "ca");
    authority.sign("server", &[ADDRESS]);
    let gateway = Gateway::serve(&format!("upstream: {}\n", upstream.url()));
    assert_eq!(gateway.get("/", &[]).0, 200);
    assert_eq!(upstream.last().text("x-forwarded-proto").as_deref(), Some("http"));
    let tls = format!("{{cert: {0}/server.pem, key: {0}/server.key}}", directory.path().display());
    gateway.write_file(&format!(
        "listen: 127.0.0.1:0\nadmin: {{listen: \"127.0.0.1:0\", tls: {tls}}}\ntls: {tls}\nupstream: {}\n",
        upstream.url()
    ));
    let ca = authority.certificate();
    wait_until("it is secured", || said(&curl(&ca, gateway.listen(), "/", &[])) == "hello\n 2 200");
    assert_eq!(said(&curl(&ca, gateway.admin(), "/readyz", &[])), "serving\n 2 200");
    let shown = said(&curl(&ca, gateway.admin(), "/config", &[]));
    assert!(shown.contains("server.key") && shown.contains("\"min_version\": \"1.2\""), "{shown}");
    gateway.write_settings(&format!("upstream: {}\n", upstream.url()));
    wait_until("it is plain again", || {
        gateway.client().try_send("GET", "/", &[], b"").is_ok_and(|answer| answer.status() == 200)
    });
    assert_eq!(gateway.ask_admin("/readyz").0, 200);
}
