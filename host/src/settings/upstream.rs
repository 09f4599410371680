//! Where requests go: a server's address and the HTTP version to speak to it.

use std::fmt;
use std::sync::Arc;

use hyper::http::uri::{Authority, Uri};

use super::tls::UpstreamTls;

/// An upstream server, as in `http://127.0.0.1:9001`, `https://orders.internal` or `h2c://grpc.internal:50051`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Upstream {
    pub(crate) protocol: Protocol,
    /// Host and port; the port is always there.
    pub(crate) authority: Authority,
    /// The name that `_match_service_` is compared with: `outbound|port||host`.
    pub(crate) service_name: String,
    /// How its connections are secured, where they are.
    pub(crate) tls: Option<Arc<UpstreamTls>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1 over TCP.
    Http1,
    /// HTTP/2 over TCP with prior knowledge, as gRPC servers speak it.
    H2c,
    /// HTTP/2 or HTTP/1.1 over TLS, as the server chooses.
    Https,
}

impl Upstream {
    /// Reads an upstream's URL.
    ///
    /// # Errors
    /// What was expected instead, as a sentence's end.
    pub(crate) fn parse(url: &str) -> Result<Self, &'static str> {
        const FORM: &str = "`http://host:port`, `https://host:port`, or `h2c://host:port` for HTTP/2 without TLS";
        let uri: Uri = url.parse().map_err(|_| FORM)?;
        let (protocol, default_port) = match uri.scheme_str() {
            Some("http") => (Protocol::Http1, 80),
            Some("h2c") => (Protocol::H2c, 80),
            Some("https") => (Protocol::Https, 443),
            _ => return Err(FORM),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err("no path or query after the port: requests keep their own");
        }
        let given = uri.authority().ok_or(FORM)?;
        if given.as_str().contains('@') || given.host().is_empty() || given.port_u16() == Some(0) {
            return Err(FORM);
        }
        let port = match (given.port_u16(), given.as_str().len() == given.host().len()) {
            (Some(port), _) => port,
            (None, true) => default_port,
            (None, false) => return Err(FORM),
        };
        let authority = format!("{}:{port}", given.host()).parse().map_err(|_| FORM)?;
        let host = given.host().trim_start_matches('[').trim_end_matches(']');
        Ok(Self { protocol, authority, service_name: format!("outbound|{port}||{host}"), tls: None })
    }
}

impl Upstream {
    /// Its host, an IPv6 address without brackets.
    pub(crate) fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.protocol {
            Protocol::Http1 => "http",
            Protocol::H2c => "h2c",
            Protocol::Https => "https",
        };
        write!(out, "{scheme}://{}", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_address_and_service_name() {
        let cases = [
            ("http://127.0.0.1:9001", "http://127.0.0.1:9001", "outbound|9001||127.0.0.1"),
            ("http://orders/", "http://orders:80", "outbound|80||orders"),
            ("h2c://[::1]:50051", "h2c://[::1]:50051", "outbound|50051||::1"),
            ("https://orders", "https://orders:443", "outbound|443||orders"),
        ];
        for (url, shown, service_name) in cases {
            let upstream = Upstream::parse(url).expect(url);
            assert_eq!((upstream.to_string().as_str(), upstream.service_name.as_str()), (shown, service_name));
        }
    }

    #[test]
    fn what_is_no_upstream_is_refused() {
        for url in [
            "",
            "127.0.0.1:9001",
            "ftp://a:1",
            "http://a:0",
            "http://a:99999",
            "http://a:",
            "http://a:1/base",
            "http://a:1?x",
            "http://user@a:1",
        ] {
            assert!(Upstream::parse(url).is_err(), "{url}");
        }
    }
}
