//! What is checked before a request counts as one, and the request as the filter sees it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::{Authority, PathAndQuery};
use hyper::{Method, StatusCode};

use crate::gateway::answer::Refusal;
use crate::gateway::headers;
use crate::gateway::routes::Route;
use crate::gateway::via;

/// The host a request is for: of its target, or else of its only `host` field.
///
/// # Errors
/// The request has none, or several, or something that is no host; or it is a CONNECT, which a reverse proxy does not serve.
/// Without a host no rule can be matched, so letting such a request pass would be a way around every limit.
pub(crate) fn authority(parts: &Parts) -> Result<Authority, Refusal> {
    let bad = |reason: &'static str| Refusal::new(StatusCode::BAD_REQUEST, reason, "gateway.bad_request");
    if parts.method == Method::CONNECT {
        let reason = "CONNECT is not served here";
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, reason, "gateway.bad_request"));
    }
    if via::is_known(&parts.headers) {
        let reason = "the request came back here";
        return Err(Refusal::new(StatusCode::LOOP_DETECTED, reason, "gateway.loop"));
    }
    let mut fields = parts.headers.get_all(header::HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(bad("more than one host field"));
    }
    let authority = match (parts.uri.authority(), field) {
        (Some(authority), _) => authority.clone(),
        (None, Some(field)) => Authority::try_from(field.as_bytes()).map_err(|_| bad("the host field is not a host"))?,
        (None, None) => return Err(bad("the request names no host")),
    };
    match authority.as_str().contains('@') || authority.host().is_empty() {
        true => Err(bad("the host field is not a host")),
        false => Ok(authority),
    }
}

/// What a client asked for beyond a response.
pub(crate) struct Wishes {
    /// Another protocol on this connection, as in `websocket`.
    pub(crate) upgrade: Option<HeaderValue>,
    pub(crate) trailers: bool,
}

/// Makes the client's headers those of a request that a proxy passes on, so that the filter sees what the upstream will.
pub(crate) fn prepare(parts: &mut Parts, client: SocketAddr, authority: &Authority) -> Wishes {
    let upgrade = headers::remove_hop_by_hop(&mut parts.headers);
    let trailers = headers::keep_te_trailers(&mut parts.headers);
    // The server side of this connection answers the expectation itself, when the body is first asked for.
    parts.headers.remove(header::EXPECT);
    headers::add_forwarded(&mut parts.headers, client.ip(), authority, parts.version);
    Wishes { upgrade, trailers }
}

/// A request as the filter sees it.
pub(crate) struct View {
    pub(crate) method: Method,
    /// Taken out when the request is decided: the filter's stream keeps the view longer than it may read it.
    headers: Mutex<HeaderMap>,
    pub(crate) target: PathAndQuery,
    pub(crate) authority: Authority,
    pub(crate) client: SocketAddr,
    pub(crate) route: Option<Arc<Route>>,
}

impl View {
    /// A request whose headers are as the upstream will get them.
    pub(crate) fn new(parts: Parts, authority: Authority, client: SocketAddr, route: Option<Arc<Route>>) -> Self {
        Self {
            method: parts.method,
            headers: Mutex::new(parts.headers),
            target: parts.uri.into_parts().path_and_query.unwrap_or(PathAndQuery::from_static("/")),
            authority,
            client,
            route,
        }
    }

    /// The headers, for sending them on. The view has none afterwards.
    pub(crate) fn take_headers(&self) -> HeaderMap {
        std::mem::take(&mut *self.headers())
    }

    fn headers(&self) -> MutexGuard<'_, HeaderMap> {
        self.headers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl slidegate::Request for View {
    fn method(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.method.as_str().as_bytes())
    }

    fn path(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.target.as_str().as_bytes())
    }

    fn authority(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.authority.as_str().as_bytes())
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        if name == header::COOKIE.as_str() {
            let headers = self.headers();
            let values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
            return (!values.is_empty()).then(|| values.join(b"; ".as_slice()));
        }
        self.headers().get(name).map(|value| value.as_bytes().to_vec())
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        self.headers().get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect()
    }

    fn source_address(&self) -> Option<SocketAddr> {
        Some(self.client)
    }

    fn route_name(&self) -> &str {
        self.route.as_ref().map_or("", |route| &route.name)
    }

    fn service_name(&self) -> &str {
        self.route.as_ref().map_or("", |route| &route.upstream.service_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    fn read(request: hyper::http::request::Builder) -> Result<String, StatusCode> {
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        authority(&parts).map(|authority| authority.to_string()).map_err(|refusal| refusal.status)
    }

    #[test]
    fn the_target_wins_over_the_field() {
        assert_eq!(read(Request::get("http://a:1/x").header("host", "b")), Ok("a:1".to_owned()));
        assert_eq!(read(Request::get("/x").header("host", "[::1]:80")), Ok("[::1]:80".to_owned()));
    }

    #[test]
    fn a_request_without_one_proper_host_is_refused() {
        let bad = Err(StatusCode::BAD_REQUEST);
        assert_eq!(read(Request::get("/x")), bad);
        for host in ["", "u:p@a", "a b", "a/b", ":80"] {
            assert_eq!(read(Request::get("/x").header("host", host)), bad, "{host}");
        }
        assert_eq!(read(Request::get("/x").header("host", b"\xff".as_slice())), bad);
        assert_eq!(read(Request::get("/x").header("host", "a").header("host", "a")), bad);
        assert_eq!(read(Request::connect("a:443").header("host", "a")), Err(StatusCode::METHOD_NOT_ALLOWED));
    }
}
