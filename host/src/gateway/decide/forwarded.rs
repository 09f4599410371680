//! Questions over HTTP. A proxy says in `x-forwarded-*` what its client has asked for (forward-auth); or it asks as the
//! client did, with the same method, path and host, as Envoy does.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use super::asked::{AskedRequest, target};
use crate::gateway::admission::Caller;
use crate::gateway::answer::LocalReply;
use crate::gateway::headers::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};

const X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// In which Envoy names a client from outside.
pub(super) const X_ENVOY_EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");

/// Whether the request that is asked about is another one than that which asks.
pub(super) fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(X_FORWARDED_URI)
}

/// The request that a trusted peer asks about.
///
/// # Errors
/// It does not say which one, or says it in two ways.
pub(super) fn asked(mut parts: Parts, caller: Caller) -> Result<AskedRequest, LocalReply> {
    let headers = &mut parts.headers;
    let method = taken(headers, X_FORWARDED_METHOD)?;
    let uri = taken(headers, X_FORWARDED_URI)?;
    let host = taken(headers, X_FORWARDED_HOST)?;
    let scheme = taken(headers, X_FORWARDED_PROTO)?;
    let is_secure = scheme.is_some_and(|scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https"));
    let client = match (&uri, &method) {
        (Some(_), _) => last_address(headers, &X_FORWARDED_FOR),
        (None, None) => last_address(headers, &X_ENVOY_EXTERNAL_ADDRESS),
        (None, Some(_)) => return Err(bad("x-forwarded-method came without x-forwarded-uri")),
    };
    if let Some(uri) = uri {
        let own_host = parts.uri.authority().and_then(|own| HeaderValue::from_str(own.as_str()).ok());
        parts.uri = target(uri.as_bytes()).ok_or_else(|| bad("x-forwarded-uri is no path"))?;
        if let Some(method) = method {
            parts.method = Method::from_bytes(method.as_bytes()).map_err(|_| bad("x-forwarded-method is no method"))?;
        }
        if let Some(host) = host.or(own_host) {
            parts.headers.insert(header::HOST, host);
        }
    }
    let client = client.map_or(caller.client, |client| SocketAddr::new(client, 0));
    Ok(AskedRequest { parts, client, is_secure, names: None })
}

fn bad(reason: &'static str) -> LocalReply {
    LocalReply::new(StatusCode::BAD_REQUEST, reason, "decide.bad_request")
}

/// A field that is there once at most, which rules see in what it says and not by itself.
fn taken(headers: &mut HeaderMap, name: HeaderName) -> Result<Option<HeaderValue>, LocalReply> {
    let mut values = headers.get_all(&name).iter();
    let (first, another) = (values.next().cloned(), values.next());
    if another.is_some() {
        return Err(bad("a field of x-forwarded-method, -uri, -host and -proto is there twice"));
    }
    headers.remove(name);
    Ok(first)
}

/// The last address of a list: that is the one that the proxy has seen itself. None if it is none.
pub(super) fn last_address(headers: &HeaderMap, name: &HeaderName) -> Option<IpAddr> {
    let last = headers.get_all(name).iter().next_back()?.to_str().ok()?.rsplit(',').next()?.trim();
    address(last)
}

/// An address, with or without a port.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    bare.parse().ok().or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn asked_of(fields: &[(&'static str, &'static str)]) -> Result<AskedRequest, StatusCode> {
        let request = Request::get("/decide").header("host", "gate.test");
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        let caller = Caller { client: ([10, 0, 0, 1], 1234).into(), is_secure: false };
        asked(parts, caller).map_err(|refusal| refusal.status)
    }

    #[test]
    fn what_is_forwarded_counts_and_is_seen_once() {
        let asked = asked_of(&[
            ("x-forwarded-method", "DELETE"),
            ("x-forwarded-uri", "/orders/7?a=b"),
            ("x-forwarded-host", "shop.test"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-for", "1.1.1.1, 2.2.2.2"),
        ])
        .expect("a request");
        assert_eq!((asked.parts.method.as_str(), asked.parts.uri.to_string().as_str()), ("DELETE", "/orders/7?a=b"));
        assert_eq!((asked.client.to_string().as_str(), asked.is_secure), ("2.2.2.2:0", true));
        let names: Vec<&str> = asked.parts.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(
            (names, &asked.parts.headers["host"]),
            (vec!["host", "x-forwarded-for"], &"shop.test".parse().unwrap())
        );
    }

    #[test]
    fn without_a_target_the_own_one_counts() {
        let asked = asked_of(&[("x-forwarded-for", "1.1.1.1")]).expect("a request");
        assert_eq!((asked.parts.uri.path(), &asked.parts.headers["host"]), ("/decide", &"gate.test".parse().unwrap()));
        assert_eq!(asked.client.to_string(), "10.0.0.1:1234");
        let of_envoy = asked_of(&[("x-envoy-external-address", "1.1.1.1")]).expect("a request");
        assert_eq!(of_envoy.client.to_string(), "1.1.1.1:0");
    }

    #[test]
    fn what_cannot_be_told_for_sure_is_refused() {
        for fields in [
            &[("x-forwarded-method", "GET")][..],
            &[("x-forwarded-uri", "")],
            &[("x-forwarded-uri", "/a"), ("x-forwarded-uri", "/b")],
            &[("x-forwarded-uri", "/a b")],
            &[("x-forwarded-uri", "/a"), ("x-forwarded-method", "G T")],
            &[("x-forwarded-uri", "/a"), ("x-forwarded-host", "a"), ("x-forwarded-host", "b")],
        ] {
            assert_eq!(asked_of(fields).err(), Some(StatusCode::BAD_REQUEST), "{fields:?}");
        }
    }

    #[test]
    fn addresses_come_with_and_without_ports() {
        for (text, expected) in [
            ("1.2.3.4", Some("1.2.3.4")),
            ("1.2.3.4:5", Some("1.2.3.4")),
            ("::1", Some("::1")),
            ("[::1]", Some("::1")),
            ("[::1]:5", Some("::1")),
            ("::ffff:1.2.3.4", Some("1.2.3.4")),
            ("unknown", None),
            ("", None),
        ] {
            assert_eq!(address(text), expected.map(|text| text.parse().expect("an address")), "{text}");
        }
    }
}
