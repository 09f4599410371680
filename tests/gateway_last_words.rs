//! What a client is told last has to reach it, also when it is still sending: refusals of large uploads, and alerts of
//! TLS.

use std::{
    fs, io,
    path::PathBuf,
    process::{Command, Output},
};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use slidegate::tls::{ALPN_HTTP1, ALPN_HTTP2, ClientTls};
use slidegate_tests::{
    certificates::Authority,
    gateway_process::{Directory, Gateway, PATIENCE, wait_until},
    http_client::HttpClient,
    tls_client::{BOTH, client_tls},
    upstream::Upstream,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Builder,
};

const ADDRESS: &str = "127.0.0.1";

/// Bytes of an upload that is refused.
const LARGE: usize = 50_000_000;

/// An authority, and a gateway whose certificate it has signed.
struct Scene {
    gateway: Gateway,
    _upstream: Upstream,
    authority: Authority,
    directory: Directory,
}

impl Scene {
    /// With these fields of `tls` beside the certificate, or without TLS; and these of the file.
    fn start(of_tls: Option<&str>, more: &str) -> Self {
        let (directory, upstream) = (Directory::new(), Upstream::start());
        let authority = Authority::new(directory.path(), "ca");
        authority.sign("server", &[ADDRESS]);
        let files = directory.path().display();
        let tls = of_tls.map(|more| format!("tls: {{cert: {files}/server.pem, key: {files}/server.key{more}}}\n"));
        let settings = format!("upstream: {}\nworkers: 1\n{}{more}", upstream.url(), tls.unwrap_or_default());
        Scene { gateway: Gateway::serve(&settings), _upstream: upstream, authority, directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn trusting(&self, alpn: &[&[u8]]) -> ClientTls {
        client_tls(&self.authority.certificate(), None, alpn)
    }

    fn curl(&self, url: &str, args: &[&str]) -> Output {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "60", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"]);
        curl.arg(self.authority.certificate()).args(args).arg(url).output().expect("curl runs")
    }

    /// A client that is refused before it has sent all.
    fn refused(&self) -> HttpClient {
        let mut client = self.gateway.client();
        client.write(b"GET / HTTP/1.1\r\nno field\r\n\r\nGET").expect("the gateway reads");
        assert_eq!(client.read_head().expect("an answer").status, 400);
        client
    }

    /// Asks in HTTP/2, whatever was agreed on.
    fn ask_http2(&self, alpn: &[&[u8]]) -> u16 {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        runtime.block_on(async {
            let socket = TcpStream::connect(self.gateway.listen()).await.expect("a connection");
            let stream = self.trusting(alpn).connect(ADDRESS, socket).await.expect("a handshake");
            let (mut sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a connection of HTTP/2");
            tokio::spawn(connection);
            let request = Request::get("https://a.test/").body(Empty::<Bytes>::new()).expect("a request");
            sender.send_request(request).await.expect("an answer").status().as_u16()
        })
    }

    /// Shakes hands, says this, and reads what comes until the other side ends the connection.
    fn say(&self, tls: &ClientTls, said: &[u8]) -> io::Result<Vec<u8>> {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        let talk = async {
            let mut stream = tls.connect(ADDRESS, TcpStream::connect(self.gateway.listen()).await?).await?;
            stream.write_all(said).await?;
            let mut answer = Vec::new();
            match stream.read_to_end(&mut answer).await {
                Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
                _ => Ok(answer),
            }
        };
        runtime.block_on(async { tokio::time::timeout(PATIENCE, talk).await? })
    }
}

/// A client that reads nothing before it has sent all: how most libraries do it.
const PYTHON: &str = r"
import http.client, ssl, sys
host, ca = sys.argv[1:]
if ca:
    connection = http.client.HTTPSConnection(host, context=ssl.create_default_context(cafile=ca), timeout=60)
else:
    connection = http.client.HTTPConnection(host, timeout=60)
connection.request('POST', '/', b'x' * 50_000_000)
print(connection.getresponse().status, end='')
";

#[test]
fn who_uploads_much_reads_why_it_is_refused() {
    let over = "filter: {rule_name: r, global_threshold: {query_per_day: 1}}\n";
    for of_tls in [None, Some("")] {
        let scene = Scene::start(of_tls, over);
        let (scheme, http2) = match of_tls {
            None => ("http", "--http2-prior-knowledge"),
            Some(_) => ("https", "--http2"),
        };
        let (host, body) = (scene.gateway.listen().to_string(), scene.file("body"));
        let url = format!("{scheme}://{host}/");
        assert_eq!(scene.curl(&url, &[]).stdout, b"200");
        fs::write(&body, vec![b'x'; LARGE]).expect("a file");
        let body = format!("@{}", body.display());
        for version in ["--http1.1", http2] {
            // With `Expect`, curl would ask before it sends.
            for round in 0..5 {
                let output = scene.curl(&url, &[version, "-H", "expect:", "--data-binary", &body]);
                assert_eq!(output.stdout, b"429", "{scheme} {version}, round {round}: {output:?}");
            }
        }
        let ca = of_tls.map(|_| scene.authority.certificate().display().to_string()).unwrap_or_default();
        let output = Command::new("python3").args(["-c", PYTHON, &host, &ca]).output().expect("Python runs");
        assert_eq!(output.stdout, b"429", "{scheme}: {output:?}");
        wait_until("all have left", || scene.gateway.metrics().sum("slidegate_connections", &[]) == 0.0);
    }
}

#[test]
fn who_is_refused_and_silent_from_then_on_loses_its_place() {
    let scene = Scene::start(None, "limits: {connections: 1}\n");
    let _silent = scene.refused();
    wait_until("its place is free", || scene.gateway.metrics().sum("slidegate_connections", &[]) == 0.0);
}

#[test]
fn who_sends_on_and_on_is_not_read_for_ever() {
    // What a client's and a server's system may hold that nobody has read, and much more than the gateway reads.
    const HELD_MAX: usize = 32 << 20;
    const SENT_MAX: usize = 1 << 30;
    let scene = Scene::start(None, "limits: {connections: 1}\n");
    let mut client = scene.refused();
    let piece = vec![b'x'; 1 << 20];
    let sent = (0..SENT_MAX / piece.len()).take_while(|_| client.write(&piece).is_ok()).count() * piece.len();
    assert!((HELD_MAX..SENT_MAX).contains(&sent), "{sent} bytes");
    wait_until("its place is free", || scene.gateway.metrics().sum("slidegate_connections", &[]) == 0.0);
}

#[test]
fn who_is_refused_by_tls_is_told_so() {
    let directory = Directory::new();
    Authority::new(directory.path(), "clients");
    let clients = format!(", client_ca: {}/clients.pem", directory.path().display());
    let (asking, open) = (Scene::start(Some(&clients), ""), Scene::start(Some(""), ""));
    // More than the gateway reads before it knows.
    let request =
        [b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 300000\r\n\r\n".as_slice(), &[b'x'; 300_000]].concat();
    for round in 0..20 {
        let refused = asking.say(&asking.trusting(BOTH), &request).expect_err("no certificate").to_string();
        assert!(refused.contains("CertificateRequired"), "round {round}: {refused}");
        let refused = open.say(&open.trusting(&[b"acme/9"]), &request).expect_err("nothing in common").to_string();
        assert!(refused.contains("NoApplicationProtocol"), "round {round}: {refused}");
    }
}

#[test]
fn what_was_agreed_on_is_spoken_and_nothing_else() {
    let scene = Scene::start(Some(""), "");
    let http1 = b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";
    for (alpn, status) in [(&[ALPN_HTTP1][..], 200), (&[], 200), (&[ALPN_HTTP2], 400)] {
        let answer = scene.say(&scene.trusting(alpn), http1).expect("an answer");
        assert!(answer.starts_with(format!("HTTP/1.1 {status}").as_bytes()), "{}", answer.escape_ascii());
        assert_eq!(scene.ask_http2(alpn), if alpn == [ALPN_HTTP1] { 400 } else { 200 });
    }
}
