//! Upstreams behind TLS: whom the gateway trusts, who it says it is, and everything else as with upstreams that are
//! not.

use std::{fs, path::PathBuf, process::Command};

use hyper::Version;
use slidegate::tls::{ALPN_HTTP1, ALPN_HTTP2};
use slidegate_tests::{
    certificates::Authority,
    gateway_process::{self, Directory, Gateway, wait_until},
    http_client::HttpClient,
    raw_upstream::RawUpstream,
    tls_client::{BOTH, TlsClient, client_tls, server_tls},
    upstream::Upstream,
};

/// An authority, and what it has signed.
struct Signed {
    authority: Authority,
    directory: Directory,
}

impl Signed {
    /// `server` holds 127.0.0.1, `named` only a name, `late` has expired, `client` is what a gateway shows, `foreign`
    /// is of somebody else.
    fn new() -> Self {
        let directory = Directory::new();
        let authority = Authority::new(directory.path(), "ca");
        authority.sign("server", &["127.0.0.1"]);
        authority.sign("named", &["orders.example"]);
        authority.sign_expired("late", &["127.0.0.1"]);
        authority.sign("client", &[]);
        Authority::new(directory.path(), "other").sign("foreign", &[]);
        Self { authority, directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn upstream(&self, name: &str, alpn: &[&[u8]], asks_clients: bool) -> Upstream {
        let (certificate, key) = (self.file(&format!("{name}.pem")), self.file(&format!("{name}.key")));
        let ca = self.authority.certificate();
        Upstream::start_tls(server_tls((&certificate, &key), asks_clients.then_some(&*ca), alpn))
    }

    /// A gateway in front of it that trusts the authority.
    fn gateway(&self, upstream: &Upstream, more: &str) -> Gateway {
        let ca = self.file("ca.pem");
        Gateway::serve(&format!("upstream: {}\nupstream_tls: {{ca: {}}}\n{more}", upstream.https_url(), ca.display()))
    }
}

#[test]
fn the_upstream_chooses_the_version_and_streams_in_both() {
    let signed = Signed::new();
    for (alpn, version) in [(BOTH, Version::HTTP_2), (&[ALPN_HTTP1][..], Version::HTTP_11), (&[], Version::HTTP_11)] {
        let upstream = signed.upstream("server", alpn, false);
        let gateway = signed.gateway(&upstream, "workers: 1\n");
        let mut client = gateway.client();
        let answer = client.send("POST", "/x?y=z", &[("te", "trailers")], &vec![b'b'; 300_000]);
        assert_eq!((answer.status(), answer.text().as_str()), (200, "hello\n"), "{}", gateway.log());
        let seen = upstream.last();
        assert_eq!(
            (seen.version, seen.body_bytes, seen.text("x-forwarded-proto").as_deref()),
            (version, 300_000, Some("http"))
        );
        assert_eq!(seen.uri.path_and_query().map(|target| target.as_str().to_owned()).as_deref(), Some("/x?y=z"));
        // Whatever it speaks, a request over TLS is for whom the certificate names.
        let address = upstream.https_url().replace("https://", "");
        let authority = seen.uri.authority().map(ToString::to_string).or(seen.text("host"));
        assert_eq!(authority.as_deref(), Some(address.as_str()));
        assert_eq!(seen.text("x-forwarded-host"), Some(gateway.listen().to_string()));
        assert_eq!(client.get("/trailers", &[("te", "trailers")]).trailers.len(), 1);
        // The first byte is there long before the last.
        client.write(b"GET /trickle/50 HTTP/1.1\r\nhost: a\r\n\r\n").expect("an open connection");
        let head = client.read_head().expect("a head");
        let mut pieces = 0;
        client.read_body("GET", &head, |_| pieces += 1).expect("a body");
        assert!(pieces > 10, "{pieces} pieces");
        let before = upstream.requests();
        assert!((0..20).all(|_| client.get("/", &[]).status() == 200));
        assert_eq!(upstream.requests(), before + 20);
    }
}

#[test]
fn who_is_not_trusted_gets_no_request() {
    let signed = Signed::new();
    let answer = |upstream: &Upstream, tls: &str| {
        let gateway = Gateway::serve(&format!("upstream: {}\n{tls}", upstream.https_url()));
        let (status, text) = gateway.get("/", &[]);
        let log = if status == 200 { String::new() } else { gateway.wait_printed("gateway.upstream_tls") };
        assert_eq!(log.is_empty(), status == 200);
        assert_eq!(log.contains(" cause=\""), status != 200, "{log}");
        (status, text.trim_end().to_owned())
    };
    let file = |name: &str| signed.file(name).display().to_string();
    let ca = format!("ca: {}", file("ca.pem"));
    let shown = format!("cert: {}, key: {}", file("client.pem"), file("client.key"));
    let untrusted = (502, "the upstream's certificate is not trusted".to_owned());
    let unknown = (502, "the upstream does not trust this gateway".to_owned());
    let good = (200, "hello".to_owned());
    let (server, named) = (signed.upstream("server", BOTH, false), signed.upstream("named", BOTH, false));
    let (late, asking) = (signed.upstream("late", BOTH, false), signed.upstream("server", BOTH, true));
    for (upstream, tls, expected) in [
        (&server, format!("upstream_tls: {{{ca}}}\n"), &good),
        (&server, String::new(), &untrusted),
        (&server, format!("upstream_tls: {{ca: {}}}\n", file("other.pem")), &untrusted),
        (&named, format!("upstream_tls: {{{ca}}}\n"), &untrusted),
        (&named, format!("upstream_tls: {{{ca}, server_name: orders.example}}\n"), &good),
        (&server, format!("upstream_tls: {{{ca}, server_name: orders.example}}\n"), &untrusted),
        (&late, format!("upstream_tls: {{{ca}}}\n"), &untrusted),
        (&asking, format!("upstream_tls: {{{ca}, {shown}}}\n"), &good),
    ] {
        assert_eq!(&answer(upstream, &tls), expected, "{tls}");
    }
    // With TLS 1.3 a server tells only after the handshake that it wants a certificate, whatever is spoken then.
    let asking_http1 = signed.upstream("server", &[ALPN_HTTP1], true);
    for upstream in [&asking, &asking_http1] {
        assert_eq!(answer(upstream, &format!("upstream_tls: {{{ca}}}\n")), unknown);
        let foreign = format!("cert: {}, key: {}", file("foreign.pem"), file("foreign.key"));
        assert_eq!(answer(upstream, &format!("upstream_tls: {{{ca}, {foreign}}}\n")), unknown);
    }
    assert_eq!(asking_http1.requests(), 0);
    assert_eq!((late.requests(), asking.requests()), (0, 1));
    let host = format!("orders.example:{}", named.port());
    assert_eq!(named.last().uri.authority().map(ToString::to_string), Some(host));
    let plain = Upstream::start();
    let (status, text) = answer(&plain, &format!("upstream_tls: {{{ca}}}\n"));
    assert_eq!((status, text.as_str()), (502, "the upstream does not speak TLS"));
}

/// It closes without having read what came after the handshake, as many servers do.
#[test]
fn that_an_upstream_does_not_trust_is_told_though_it_resets_the_connection() {
    let signed = Signed::new();
    let files = signed.directory.path().display();
    let tls = format!("upstream_tls: {{ca: {files}/ca.pem, cert: {files}/foreign.pem, key: {files}/foreign.key}}\n");
    for alpn in [BOTH, &[ALPN_HTTP1]] {
        let upstream = signed.upstream("server", alpn, true);
        let port = upstream.port();
        let resetting = RawUpstream::start(move |connection| connection.relay(port));
        let gateway = Gateway::serve(&format!("upstream: {}\n{tls}", resetting.https_url()));
        for round in 0..50 {
            let (status, text) = gateway.get("/", &[]);
            assert_eq!((status, text.trim_end()), (502, "the upstream does not trust this gateway"), "round {round}");
        }
    }
}

/// Whom the system trusts is in no file that the settings name: it is looked at when a person asks for a reload.
#[test]
fn authorities_of_the_system_are_read_again_when_that_is_asked_for() {
    let signed = Signed::new();
    let upstream = signed.upstream("server", BOTH, false);
    let system = signed.file("system.pem");
    let trust = |name: &str| {
        fs::copy(signed.file(name), &system).expect("a temporary file can be copied");
    };
    trust("other.pem");
    let settings = format!("upstream: {}\n", upstream.https_url());
    let gateway = Gateway::serve_in(&settings, &[("SSL_CERT_FILE", system.display().to_string())]);
    assert_eq!(gateway.get("/", &[]).0, 502);
    trust("ca.pem");
    gateway.hang_up();
    gateway.wait_log("settings reloaded");
    assert_eq!(gateway.get("/", &[]).0, 200);
    gateway.hang_up();
    gateway.wait_log("settings are as before");
}

#[test]
fn a_certificate_that_has_signed_itself_is_trusted_for_itself_alone() {
    let directory = Directory::new();
    let file = |name: &str| directory.path().join(name);
    let upstream = |name: &str| {
        let (certificate, key) = Authority::sign_itself(directory.path(), name, &["127.0.0.1"]);
        Upstream::start_tls(server_tls((&certificate, &key), None, BOTH))
    };
    let (trusted, other) = (upstream("trusted"), upstream("other"));
    let status = |upstream: &Upstream, more: &str| {
        let ca = file("trusted.pem");
        let tls = format!("upstream_tls: {{ca: {}{more}}}\n", ca.display());
        Gateway::serve(&format!("upstream: {}\n{tls}", upstream.https_url())).get("/", &[]).0
    };
    assert_eq!(status(&trusted, ""), 200);
    assert_eq!(status(&trusted, ", server_name: orders.example"), 502, "its name counts");
    assert_eq!(status(&other, ""), 502);
    // So it is with a client's.
    let client_ca = format!(", client_ca: {}", file("other.pem").display());
    let [certificate, key] = ["trusted.pem", "trusted.key"].map(|name| file(name).display().to_string());
    let gateway = Gateway::serve(&format!(
        "upstream: {}\nupstream_tls: {{ca: {certificate}}}\ntls: {{cert: {certificate}, key: {key}{client_ca}}}\n",
        trusted.https_url()
    ));
    let ask = |name: &str| {
        let identity = (file(&format!("{name}.pem")), file(&format!("{name}.key")));
        let tls = client_tls(&file("trusted.pem"), Some((&identity.0, &identity.1)), BOTH);
        let mut client = TlsClient::connect(&tls, gateway.listen()).ok()?;
        client.get("/", &[]).ok().map(|answer| answer.status)
    };
    assert_eq!((ask("other"), ask("trusted")), (Some(200), None));
}

#[test]
fn a_tunnel_goes_to_an_upstream_that_likes_http2_better() {
    let signed = Signed::new();
    let upstream = signed.upstream("server", BOTH, false);
    let gateway = signed.gateway(&upstream, "workers: 1\n");
    assert_eq!(gateway.get("/", &[]).0, 200);
    assert_eq!(upstream.last().version, Version::HTTP_2);
    let mut client = gateway.client();
    client
        .write(b"GET /upgrade HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
        .expect("an open connection");
    assert_eq!(client.read_head().expect("a head").status, 101, "{}", gateway.log());
    client.write(b"ping").expect("an open tunnel");
    assert_eq!(client.read_raw(4).expect("an echo"), b"ping");
    assert_eq!(upstream.last().version, Version::HTTP_11);
    assert_eq!(gateway.get("/", &[]).0, 200);
    assert_eq!(upstream.last().version, Version::HTTP_2);
}

#[test]
fn strangers_cannot_have_an_upstream_left_out_that_speaks_http2_alone() {
    let signed = Signed::new();
    let (alone, both) = (signed.upstream("server", &[ALPN_HTTP2], false), signed.upstream("server", BOTH, false));
    let gateway = Gateway::serve(&format!(
        "upstreams: [{}, {}]\nupstream_tls: {{ca: {}}}\nworkers: 1\ntimeouts: {{upstream_ejection: 1h}}\n",
        alone.https_url(),
        both.https_url(),
        signed.file("ca.pem").display()
    ));
    for _ in 0..10 {
        let mut client = gateway.client();
        client
            .write(b"GET /upgrade HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
            .expect("an open connection");
        assert_eq!(client.read_head().expect("a head").status, 101, "{}", gateway.log());
    }
    let mut client = gateway.client();
    assert!((0..10).all(|_| client.get("/", &[]).status() == 200));
    assert_eq!(alone.requests(), 5);
    assert_eq!(gateway.log_lines("an upstream does not answer"), [""; 0]);
}

#[test]
fn many_at_once_find_out_together_what_it_speaks() {
    let signed = Signed::new();
    for alpn in [BOTH, &[ALPN_HTTP1]] {
        let upstream = signed.upstream("server", alpn, false);
        let gateway = signed.gateway(&upstream, "workers: 1\n");
        let clients: Vec<HttpClient> = (0..50)
            .map(|_| {
                let mut client = gateway.client();
                client.write(b"GET /delay/20 HTTP/1.1\r\nhost: a\r\n\r\n").expect("an open connection");
                client
            })
            .collect();
        for mut client in clients {
            assert_eq!(client.read_answer("GET").expect("an answer").status(), 200);
        }
        assert_eq!(upstream.requests(), 50);
    }
}

#[test]
fn certificates_for_upstreams_change_without_a_restart() {
    let signed = Signed::new();
    let upstream = signed.upstream("server", BOTH, false);
    fs::copy(signed.file("other.pem"), signed.file("trusted.pem")).expect("a file");
    let gateway = Gateway::serve(&format!(
        "upstream: {}\nupstream_tls: {{ca: {}}}\n",
        upstream.https_url(),
        signed.file("trusted.pem").display()
    ));
    assert_eq!(gateway.get("/", &[]).0, 502);
    fs::copy(signed.file("ca.pem"), signed.file("trusted.pem")).expect("a file");
    wait_until("it is trusted", || gateway.get("/", &[]).0 == 200);
}

#[test]
fn a_file_that_refused_settings_name_is_followed_like_those_in_force() {
    let signed = Signed::new();
    let (plain, secured) = (Upstream::start(), signed.upstream("server", BOTH, false));
    let gateway = Gateway::serve(&format!("upstream: {}\n", plain.url()));
    let folder = signed.file("later");
    gateway.write_settings(&format!(
        "upstream: {}\nupstream_tls: {{ca: {}/ca.pem}}\n",
        secured.https_url(),
        folder.display()
    ));
    gateway.wait_log("the settings were not reloaded");
    assert_eq!((gateway.get("/", &[]).0, plain.requests()), (200, 1));
    fs::create_dir(&folder).expect("a folder");
    fs::copy(signed.file("ca.pem"), folder.join("ca.pem")).expect("a file");
    wait_until("it is taken", || gateway.get("/", &[]).0 == 200 && secured.requests() > 0);
}

#[test]
fn curl_passes_from_edge_to_upstream_over_tls_alone() {
    let signed = Signed::new();
    let upstream = signed.upstream("server", BOTH, false);
    let directory = signed.directory.path().display();
    let gateway =
        signed.gateway(&upstream, &format!("tls: {{cert: {directory}/server.pem, key: {directory}/server.key}}\n"));
    let url = format!("https://{}/bytes/3000000", gateway.listen());
    let output =
        Command::new("curl").args(["-sS", "--cacert"]).arg(signed.file("ca.pem")).arg(url).output().expect("curl runs");
    assert_eq!(output.stdout.len(), 3_000_000, "{output:?}");
    assert_eq!(upstream.last().text("x-forwarded-proto").as_deref(), Some("https"));
}

#[test]
fn check_connects_over_tls() {
    let signed = Signed::new();
    let upstream = signed.upstream("server", BOTH, false);
    let check = |tls: &str| {
        let file = signed.file("gate.yaml");
        fs::write(&file, format!("upstream: {}\n{tls}", upstream.https_url())).expect("a file");
        let output = gateway_process::run(&["check", "--connect", file.to_str().expect("text")]);
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, said) = check("upstream_tls: {ca: ca.pem}\n");
    assert!(code == Some(0) && said.contains(": takes connections, TLS, HTTP/2"), "{said}");
    let (code, said) = check("upstream_tls: {ca: other.pem}\n");
    assert!(
        code == Some(1) && said.contains("takes no connection: TLS: nobody who is trusted has signed its certificate"),
        "{said}"
    );
    for alpn in [BOTH, &[ALPN_HTTP1]] {
        let asking = signed.upstream("server", alpn, true);
        let check = |shown: &str| {
            let settings = format!("upstream: {}\nupstream_tls: {{ca: ca.pem{shown}}}\n", asking.https_url());
            fs::write(signed.file("gate.yaml"), settings).expect("a file");
            let file = signed.file("gate.yaml");
            let output = gateway_process::run(&["check", "--connect", file.to_str().expect("text")]);
            (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
        };
        let (code, said) = check("");
        assert!(code == Some(1) && said.contains("takes no connection: it wants a client's certificate"), "{said}");
        let (code, said) = check(", cert: foreign.pem, key: foreign.key");
        assert!(code == Some(1) && said.contains("it does not trust the certificate shown to it"), "{said}");
        let (code, said) = check(", cert: client.pem, key: client.key");
        assert!(code == Some(0) && said.contains("takes connections, TLS"), "{said}");
    }
    // Each way to one, once.
    let file = signed.file("gate.yaml");
    let route = |path: &str, ca: &str| {
        format!("  - {{path_prefix: {path}, upstream: {}, upstream_tls: {{ca: {ca}}}}}\n", upstream.https_url())
    };
    fs::write(
        &file,
        format!("routes:\n{}{}{}", route("/a", "other.pem"), route("/b", "ca.pem"), route("/c", "ca.pem")),
    )
    .expect("a file");
    let output = gateway_process::run(&["check", "--connect", file.to_str().expect("text")]);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(
        (said.matches(": takes connections, TLS").count(), said.matches(" takes no connection: TLS").count()),
        (1, 1),
        "{said}"
    );
}

#[test]
fn each_mistake_names_field_and_file() {
    let signed = Signed::new();
    for (settings, expected) in [
        (
            "upstream: https://a\nupstream_tls: {ca: none.pem}",
            "upstream_tls.ca: expected a file that can be read, got `none.pem`: no such file",
        ),
        (
            "upstream: https://a\nupstream_tls: {ca: client.key}",
            "upstream_tls.ca: expected certificates in PEM, found a private key (got `client.key`)",
        ),
        (
            "upstream: https://a\nupstream_tls: {cert: client.pem}",
            "upstream_tls.key: missing; expected the key of the certificate in `cert`",
        ),
        (
            "upstream: https://a\nupstream_tls: {cert: client.pem, key: server.key}",
            "upstream_tls.key: expected the key of the certificate in `cert`, got one that belongs to another (got \
             `server.key`)",
        ),
        (
            "upstream: https://a\nupstream_tls: {ca: ca.pem, server_name: \"a:1\"}",
            "upstream_tls.server_name: expected a host name or an IP address, without port",
        ),
        ("upstream: https://a\nupstream_tls: {verify: false}", "upstream_tls.verify: there is no such field here"),
        (
            "upstream: http://a\nupstream_tls: {ca: ca.pem}",
            "upstream_tls: expected only with an upstream that says TLS, such as `https://host:port`",
        ),
        (
            "routes: [{upstream: http://a, upstream_tls: {ca: ca.pem}}]",
            "routes[0].upstream_tls: expected only with an upstream that says TLS",
        ),
        (
            "routes: [{upstream: https://a, upstream_tls: {ca: none.pem}}]",
            "routes[0].upstream_tls.ca: expected a file that can be read, got `none.pem`",
        ),
        (
            "upstream: https://u:hush@a",
            "upstream: expected `http://host:port`, `https://host:port`, or `h2c://host:port` for HTTP/2 without TLS, \
             got `https://***@a`",
        ),
        ("upstream: https://a/b", "upstream: expected no path or query after the port"),
        (
            "upstream: http://a\nupstreams: [http://b]",
            "upstreams: expected only one of `upstreams` and `upstream`, got both",
        ),
        ("upstreams: []", "upstreams: expected an array of URLs such as `http://127.0.0.1:9001`, got an empty array"),
        ("upstreams: http://a", "upstreams: expected an array of URLs such as `http://127.0.0.1:9001`, got a text"),
        ("upstreams: [http://a, 7]", "upstreams[1]: expected a URL such as `http://127.0.0.1:9001`, got `7`"),
        (
            "upstreams: [http://a, \"http://a:80/\"]",
            "upstreams[1]: expected each upstream once, got `http://a:80` again",
        ),
        ("routes: [{upstreams: [http://a, ftp://b]}]", "routes[0].upstreams[1]: expected `http://host:port`"),
    ] {
        let file = signed.file("gate.yaml");
        fs::write(&file, settings).expect("a file");
        let output = gateway_process::run(&["check", file.to_str().expect("text")]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(1) && said.contains(expected) && !said.contains("hush"),
            "{settings}: {said}"
        );
    }
}
