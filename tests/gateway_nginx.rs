//! nginx, as Debian has it, on either side of the gateway: as upstreams that end their connections after some requests,
//! as nginx does by default after a thousand, and as the proxy in front of a listener with TLS.

use std::thread;

use slidegate_tests::{
    certificates::Authority,
    gateway_process::{Directory, Gateway},
    http_client::HttpClient,
    nginx::nginx,
    upstream::Upstream,
};

const CLIENTS: usize = 12;
const REQUESTS: usize = 40;

/// More than any window of a stream, in bytes.
const LARGE: usize = 300_000;

/// Many clients that ask for this and that, all of whom are answered well.
fn ask_all(gateway: &Gateway) {
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                let mut connection = gateway.client();
                for request in 0..REQUESTS {
                    // Whatever the method: what an upstream has not looked at may be sent again.
                    let (method, path, body, length) = match (client + request) % 3 {
                        0 => ("GET", "/", Vec::new(), 6),
                        1 => ("POST", "/", vec![b'b'; 2_000], 6),
                        _ => ("GET", "/large", Vec::new(), LARGE),
                    };
                    let answer = connection.send(method, path, &[], &body);
                    assert_eq!((answer.status(), answer.body.len()), (200, length), "{}", gateway.log());
                }
            });
        }
    });
    assert_eq!(gateway.log_lines("an upstream does not answer"), [""; 0]);
    assert_eq!(gateway.metrics().sum("slidegate_requests_total", &[]), (CLIENTS * REQUESTS) as f64);
}

#[test]
fn upstreams_of_nginx_that_end_connections_cost_no_request() {
    let directory = Directory::new();
    let authority = Authority::new(directory.path(), "ca");
    let (certificate, key) = authority.sign("server", &["127.0.0.1"]);
    let files = format!("ssl_certificate {}; ssl_certificate_key {};", certificate.display(), key.display());
    let trust = format!("upstream_tls: {{ca: {}}}\n", authority.certificate().display());
    for (scheme, listens, more, settings) in [
        ("h2c", "http2", "", ""),
        ("https", "ssl http2", files.as_str(), trust.as_str()),
        ("https", "ssl", files.as_str(), trust.as_str()),
        ("http", "", "", ""),
    ] {
        let serving = |address| {
            format!(
                "keepalive_requests 20; http2_max_concurrent_streams 5;
  server {{ listen {address} {listens}; {more} location / {{ return 200 \"hello\\n\"; }} location /large {{ root .; }} \
  }}"
            )
        };
        let nginx = nginx(serving, &[("large", "l".repeat(LARGE))]);
        let gateway = Gateway::serve(&format!("upstream: {scheme}://{}\n{settings}workers: 1\n", nginx.address()));
        ask_all(&gateway);
    }
}

#[test]
fn nginx_in_front_of_it_passes_on_over_tls() {
    let directory = Directory::new();
    let authority = Authority::new(directory.path(), "ca");
    // nginx looks for names, not for addresses.
    let (certificate, key) = authority.sign("server", &["gateway.test"]);
    let upstream = Upstream::start();
    let gateway = Gateway::serve(&format!(
        "upstream: {}\ntls: {{cert: {}, key: {}}}\n",
        upstream.url(),
        certificate.display(),
        key.display()
    ));
    let passing = |address| {
        format!(
            "upstream gateway {{ server {}; keepalive 4; }}
  server {{
    listen {address};
    location / {{
      proxy_pass https://gateway; proxy_http_version 1.1; proxy_set_header connection '';
      proxy_ssl_verify on; proxy_ssl_name gateway.test; proxy_ssl_trusted_certificate {};
    }}
  }}",
            gateway.listen(),
            authority.certificate().display()
        )
    };
    let nginx = nginx(passing, &[]);
    let mut client = HttpClient::connect(nginx.address());
    for round in 0..50 {
        let answer = client.send("POST", "/", &[], &vec![b'b'; 100 * round]);
        assert_eq!((answer.status(), answer.text().as_str()), (200, "hello\n"), "{}", gateway.log());
        assert_eq!(client.get("/bytes/200000", &[]).body.len(), 200_000);
    }
    assert_eq!(upstream.last().text("x-forwarded-proto").as_deref(), Some("https"));
}
