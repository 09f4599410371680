//! Where requests go that pass.

/// What is said of an address that is none.
const FORM: &str = "expected `http://host:port` or `https://host:port`";

/// The upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamUrl {
    /// Whether by TLS, which is the host's.
    pub is_secure: bool,
    /// Host and port.
    pub authority: String,
    /// The name that `_match_service_` is compared with: `outbound|port||host`.
    pub service_name: String,
}

impl UpstreamUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(url: &str) -> Result<UpstreamUrl, &'static str> {
        let (is_secure, default_port, rest): (_, u16, _) = match url.split_once("://") {
            Some(("http", rest)) => (false, 80, rest),
            Some(("https", rest)) => (true, 443, rest),
            _ => return Err(FORM),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err("no path or query after the port: requests keep their own");
        }
        // Of an IPv6 address the last colon is one of its own, unless it is behind the bracket.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| FORM)?),
            _ => (authority, default_port),
        };
        let is_bracketed = host.starts_with('[') && host.ends_with(']');
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let is_name = |character: char| character.is_ascii_alphanumeric() || "-._~".contains(character);
        let is_good = match is_bracketed {
            true => name.parse::<std::net::Ipv6Addr>().is_ok(),
            false => !host.is_empty() && host.chars().all(is_name),
        };
        if !is_good || port == 0 {
            return Err(FORM);
        }
        let service_name = format!("outbound|{port}||{name}");
        Ok(UpstreamUrl { is_secure, authority: format!("{host}:{port}"), service_name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_a_host_and_a_port() {
        for (url, is_secure, authority, service_name) in [
            ("http://127.0.0.1:9001", false, "127.0.0.1:9001", "outbound|9001||127.0.0.1"),
            ("http://orders/", false, "orders:80", "outbound|80||orders"),
            ("https://orders.internal", true, "orders.internal:443", "outbound|443||orders.internal"),
            ("http://[::1]:9001", false, "[::1]:9001", "outbound|9001||::1"),
            ("http://[::1]", false, "[::1]:80", "outbound|80||::1"),
        ] {
            let expected = UpstreamUrl { is_secure, authority: authority.into(), service_name: service_name.into() };
            assert_eq!(UpstreamUrl::parse(url), Ok(expected), "{url}");
        }
    }

    #[test]
    fn whatever_else_is_refused() {
        for url in [
            "",
            "orders:80",
            "h2c://orders",
            "http://",
            "http://:80",
            "http://orders:",
            "http://orders:0",
            "http://orders:65536",
            "http://orders:80/path",
            "http://orders?a=b",
            "http://user:word@orders",
            "http://or ders",
            "http://[::1",
            "http://[orders]:80",
            "http://::1:80",
        ] {
            assert!(UpstreamUrl::parse(url).is_err(), "{url}");
        }
    }
}
