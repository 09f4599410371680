//! What pages of other people may not do in the browser of somebody who reaches the admin port: ask it, as that person,
//! by a name of theirs that leads here (DNS rebinding), or from their own origin.

use std::net::IpAddr;

use hyper::header::{self, HeaderMap};
use hyper::http::uri::Authority;
use hyper::{StatusCode, Uri};

/// Whether a request is one that no page of others made. `is_secret`: whoever asks has to show a token, which such a
/// page does not know.
///
/// # Errors
/// What is answered instead.
pub(super) fn check(uri: &Uri, headers: &HeaderMap, is_secret: bool) -> Result<(), (StatusCode, &'static str)> {
    let told = headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse().ok());
    let Some(host) = uri.authority().cloned().or(told) else {
        return Err((StatusCode::BAD_REQUEST, "expected a `host`\n"));
    };
    if !is_secret && !is_local(&host) {
        let reason = "expected an address or `localhost` as `host`: where no `admin.token` is set, a name may be \
                      one of other people, whose page asks here\n";
        return Err((StatusCode::MISDIRECTED_REQUEST, reason));
    }
    let own = |origin: &str| {
        let place = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        place.is_some_and(|place| place.eq_ignore_ascii_case(host.as_str()))
    };
    match headers.get(header::ORIGIN).map(|origin| origin.to_str().is_ok_and(own)) {
        None | Some(true) => Ok(()),
        Some(false) => Err((StatusCode::FORBIDDEN, "expected no `origin` but this place\n")),
    }
}

/// Names that nobody else can let lead here.
fn is_local(host: &Authority) -> bool {
    let name = host.host();
    // Nothing before it, and behind it nothing but a port.
    if host.as_str().strip_prefix(name).is_none_or(|rest| !rest.is_empty() && !rest.starts_with(':')) {
        return false;
    }
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    address.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(host: &str, origin: Option<&str>, is_secret: bool) -> Option<u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        origin.map(|origin| headers.insert(header::ORIGIN, origin.parse().unwrap()));
        check(&Uri::from_static("/api/v1/state"), &headers, is_secret).err().map(|(status, _)| status.as_u16())
    }

    #[test]
    fn names_of_others_are_no_hosts_without_a_token() {
        for host in ["127.0.0.1:9090", "[::1]:9090", "10.0.0.7", "localhost:9090", "LOCALHOST"] {
            assert_eq!(status(host, None, false), None, "{host}");
        }
        for host in ["gateway:9090", "127.0.0.1.example.com", "localhost.example.com:9090", "1", "[::1].a"] {
            let (open, secret) = (status(host, None, false), status(host, None, true));
            assert!(matches!(open, Some(400 | 421)), "{host}: {open:?}");
            assert!(matches!(secret, None | Some(400)), "{host}: {secret:?}");
        }
        assert_eq!(check(&Uri::from_static("/"), &HeaderMap::new(), false).unwrap_err().0, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn pages_of_another_origin_are_refused_with_and_without_a_token() {
        for is_secret in [false, true] {
            assert_eq!(status("127.0.0.1:9090", Some("http://127.0.0.1:9090"), is_secret), None);
            assert_eq!(status("127.0.0.1:9090", Some("https://127.0.0.1:9090"), is_secret), None);
            for origin in
                ["http://127.0.0.1", "http://127.0.0.1:8080", "null", "http://evil.example", "file://", "\u{e9}"]
            {
                assert_eq!(status("127.0.0.1:9090", Some(origin), is_secret), Some(403), "{origin}");
            }
        }
    }
}
