//! What is checked before a request counts as one, and the request as the filter sees it.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Method, StatusCode, Version};

use slidegate::Header;

use crate::gateway::answer::LocalReply;
use crate::gateway::headers::{self, Hops};
use crate::gateway::routes::{Route, Routes};
use crate::gateway::via;
use crate::settings::{AmbiguousPath, PathRules, Settings};

/// Who sends a request, and over what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) client: SocketAddr,
    /// Its connection has TLS.
    pub(crate) is_secure: bool,
}

/// What is known of a request once it counts as one.
pub(crate) struct Admitted {
    pub(crate) authority: Authority,
    /// The path and query that the filter sees and the upstream gets.
    pub(crate) target: PathAndQuery,
    /// The path that routes are compared with.
    pub(crate) path: Vec<u8>,
}

/// Checks a request's head: all that can be said before its route is known.
///
/// # Errors
/// It is none that a reverse proxy serves, or one that the gateway and an upstream might read in different ways.
pub(crate) fn admit(parts: &Parts, is_secure: bool, rules: PathRules) -> Result<Admitted, LocalReply> {
    check_method(&parts.method)?;
    if parts.headers.len() > headers::FIELDS_MAX {
        let reason = "the request has too many header fields";
        return Err(LocalReply::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, reason, "gateway.bad_request"));
    }
    if headers::has_foreign_coding(&parts.headers) {
        let reason = "the body is in a transfer coding that is not known here";
        return Err(LocalReply::new(StatusCode::NOT_IMPLEMENTED, reason, "gateway.bad_request"));
    }
    if via::is_known(&parts.headers) {
        let reason = "the request came back here";
        return Err(LocalReply::new(StatusCode::LOOP_DETECTED, reason, "gateway.loop"));
    }
    check_form(parts, is_secure)?;
    let authority = authority(parts)?;
    let read = rules.read(parts.uri.path()).map_err(|AmbiguousPath(reason)| bad(reason))?;
    let target = match &read.forwarded {
        Cow::Borrowed(_) => parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")),
        Cow::Owned(path) => {
            let target = parts.uri.query().map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
            PathAndQuery::from_maybe_shared(target).map_err(|_| bad("the path is none"))?
        }
    };
    Ok(Admitted { authority, target, path: read.compared.into_owned() })
}

/// What the filter sees of a request, and what its client wants of the connection.
///
/// # Errors
/// As of [`admit`].
pub(crate) fn view(
    mut parts: Parts,
    caller: Caller,
    has_body: bool,
    settings: &Settings,
    routes: &Routes,
) -> Result<(FilteredRequest, Wishes), LocalReply> {
    let admitted = admit(&parts, caller.is_secure, settings.normalize_path)?;
    let route = routes.find(admitted.authority.host(), &admitted.path).cloned();
    let wishes = prepare(&mut parts, caller, &admitted.authority, settings);
    let upgrade = wishes.upgrade.clone();
    Ok((FilteredRequest::new(parts, admitted, caller, route, has_body, upgrade), wishes))
}

fn bad(reason: &'static str) -> LocalReply {
    LocalReply::new(StatusCode::BAD_REQUEST, reason, "gateway.bad_request")
}

fn check_method(method: &Method) -> Result<(), LocalReply> {
    let reason = match *method {
        Method::CONNECT => "CONNECT is not served here",
        // It would show a client's script what proxies added, and cookies that it must not read.
        Method::TRACE => "TRACE is not served here",
        _ => return Ok(()),
    };
    Err(LocalReply::new(StatusCode::METHOD_NOT_ALLOWED, reason, "gateway.bad_request"))
}

/// RFC 9112, section 3.2: a path, an `http` URL, with TLS also an `https` one, or `*` of OPTIONS. In HTTP/2 each
/// request has a scheme, and a proxy that took TLS off may leave it `https`.
fn check_form(parts: &Parts, is_secure: bool) -> Result<(), LocalReply> {
    let is_served = |scheme: &Scheme| {
        *scheme == Scheme::HTTP || (*scheme == Scheme::HTTPS && (is_secure || parts.version == Version::HTTP_2))
    };
    let is_web = parts.uri.scheme().is_none_or(is_served);
    let is_whole = parts.uri.authority().is_none() || parts.uri.scheme().is_some();
    let is_path = match parts.uri.path() {
        "*" => parts.method == Method::OPTIONS,
        path => path.starts_with('/'),
    };
    if is_web && is_whole && is_path { Ok(()) } else { Err(bad("the target is neither a path nor an http URL")) }
}

/// The host a request is for: of its target, or else of its only `host` field.
///
/// # Errors
/// The request has none, or several, or something that is no host.
/// Without a host no rule can be matched, so letting such a request pass would be a way around every limit.
fn authority(parts: &Parts) -> Result<Authority, LocalReply> {
    let mut fields = parts.headers.get_all(header::HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(bad("more than one host field"));
    }
    let authority = match (parts.uri.authority(), field) {
        (Some(authority), _) => authority.clone(),
        (None, Some(field)) => {
            Authority::try_from(field.as_bytes()).map_err(|_| bad("the host field is not a host"))?
        }
        (None, None) => return Err(bad("the request names no host")),
    };
    if is_host(&authority) { Ok(authority) } else { Err(bad("the host field is not a host")) }
}

/// A name or an address, and a port that is one.
fn is_host(authority: &Authority) -> bool {
    let port = authority.as_str().strip_prefix(authority.host());
    let is_port = |port: &str| port.is_empty() || port == ":" || authority.port_u16().is_some();
    let is_address = |host: &str| {
        host.strip_prefix('[')
            .is_none_or(|rest| rest.strip_suffix(']').is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok()))
    };
    !authority.host().trim_matches('.').is_empty() && is_address(authority.host()) && port.is_some_and(is_port)
}

/// What a client asked for beyond a response.
pub(crate) struct Wishes {
    /// Another protocol on this connection, as in `websocket`.
    pub(crate) upgrade: Option<HeaderValue>,
    pub(crate) trailers: bool,
    /// What it says of the proxies it may pass.
    pub(crate) hops: Hops,
}

/// Makes the client's headers those of a request that a proxy passes on, so that the filter sees what the upstream
/// will.
pub(crate) fn prepare(parts: &mut Parts, caller: Caller, authority: &Authority, settings: &Settings) -> Wishes {
    let client = caller.client.ip();
    headers::remove_odd_names(&mut parts.headers, settings.header_names);
    settle(&mut parts.headers, client, authority, settings);
    let hops = if parts.method == Method::OPTIONS { headers::count_hop(&mut parts.headers) } else { Hops::Unlimited };
    let upgrade = headers::remove_hop_by_hop(&mut parts.headers);
    let trailers = headers::keep_te_trailers(&mut parts.headers);
    // The server side of this connection answers the expectation itself, when the body is first asked for.
    parts.headers.remove(header::EXPECT);
    headers::add_forwarded(&mut parts.headers, client, caller.is_secure, authority, parts.version);
    Wishes { upgrade, trailers, hops }
}

/// What a peer may not say of itself goes, and the host is the one that counts: the target's, whatever the field says.
pub(crate) fn settle(headers: &mut HeaderMap, peer: IpAddr, authority: &Authority, settings: &Settings) {
    headers::remove_claims(headers, settings.trusted_consumer.counts(peer));
    if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
        headers.insert(header::HOST, host);
    }
}

/// A request as the filter sees it.
pub(crate) struct FilteredRequest {
    pub(crate) method: Method,
    /// Taken out when the request is decided: the filter's stream keeps the view longer than it may read it.
    headers: Mutex<HeaderMap>,
    pub(crate) target: PathAndQuery,
    pub(crate) authority: Authority,
    pub(crate) client: SocketAddr,
    pub(crate) route: Option<Arc<Route>>,
    is_secure: bool,
    has_body: bool,
    /// The protocol that it asks for, of which its headers do not tell any more.
    upgrade: Option<HeaderValue>,
    /// How somebody else calls its route and its upstream. That counts in place of what this gateway calls them.
    called: Option<RouteNames>,
}

/// How somebody calls a route and its upstream; empty where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RouteNames {
    pub(crate) route: String,
    pub(crate) service: String,
}

impl FilteredRequest {
    /// A request whose headers are as the upstream will get them.
    pub(crate) fn new(
        parts: Parts,
        admitted: Admitted,
        caller: Caller,
        route: Option<Arc<Route>>,
        has_body: bool,
        upgrade: Option<HeaderValue>,
    ) -> Self {
        Self {
            method: parts.method,
            headers: Mutex::new(parts.headers),
            target: admitted.target,
            authority: admitted.authority,
            client: caller.client,
            route,
            is_secure: caller.is_secure,
            has_body,
            upgrade,
            called: None,
        }
    }

    /// The same with names of somebody else's.
    pub(crate) fn called(self, names: Option<RouteNames>) -> Self {
        Self { called: names, ..self }
    }

    /// The headers, for sending them on. The view has none afterwards.
    pub(crate) fn take_headers(&self) -> HeaderMap {
        std::mem::take(&mut *self.fields())
    }

    fn fields(&self) -> MutexGuard<'_, HeaderMap> {
        self.headers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl slidegate::Request for FilteredRequest {
    fn method(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.method.as_str().as_bytes())
    }

    fn path(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.target.as_str().as_bytes())
    }

    fn authority(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.authority.as_str().as_bytes())
    }

    fn scheme(&self) -> &str {
        if self.is_secure { "https" } else { "http" }
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        if name == header::COOKIE.as_str() {
            let headers = self.fields();
            let values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
            return (!values.is_empty()).then(|| values.join(b"; ".as_slice()));
        }
        let headers = self.fields();
        let value = headers::first(&headers, name).or_else(|| headers::spelt_otherwise(&headers, name).next());
        value.map(|value| value.as_bytes().to_vec())
    }

    fn headers(&self) -> Vec<Header> {
        let field = |(name, value): (&HeaderName, &HeaderValue)| Header {
            name: name.as_str().to_owned(),
            value: value.as_bytes().to_vec(),
        };
        let upgrade = self.upgrade.as_ref().map(|upgrade| (&header::UPGRADE, upgrade));
        self.fields().iter().chain(upgrade).map(field).collect()
    }

    fn has_body(&self) -> bool {
        self.has_body
    }

    /// Fields that are spelt otherwise come first, so that the last one is a proxy's that writes the name as it is.
    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        let headers = self.fields();
        headers::spelt_otherwise(&headers, name)
            .chain(headers.get_all(name))
            .map(|value| value.as_bytes().to_vec())
            .collect()
    }

    fn source_address(&self) -> Option<SocketAddr> {
        Some(self.client)
    }

    fn route_name(&self) -> &str {
        match (&self.called, &self.route) {
            (Some(names), _) => &names.route,
            (None, route) => route.as_ref().map_or("", |route| &route.labels.name),
        }
    }

    fn service_name(&self) -> &str {
        match (&self.called, &self.route) {
            (Some(names), _) => &names.service,
            (None, route) => route.as_ref().map_or("", |route| &route.service_name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    fn read(request: hyper::http::request::Builder) -> Result<String, StatusCode> {
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        admit(&parts, false, PathRules::Normalize)
            .map(|admitted| admitted.authority.to_string())
            .map_err(|refusal| refusal.status)
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
        for host in
            ["", "u:p@a", "a b", "a/b", ":80", "a:x", "a:99999", "a:1:2", ".", "..:80", "[a]", "[::1", "[1.2.3.4]:80"]
        {
            assert_eq!(read(Request::get("/x").header("host", host)), bad, "{host}");
        }
        assert_eq!(read(Request::get("/x").header("host", b"\xff".as_slice())), bad);
        assert_eq!(read(Request::get("/x").header("host", "a").header("host", "a")), bad);
        assert_eq!(read(Request::connect("a:443").header("host", "a")), Err(StatusCode::METHOD_NOT_ALLOWED));
        assert_eq!(read(Request::trace("/").header("host", "a")), Err(StatusCode::METHOD_NOT_ALLOWED));
        assert_eq!(read(Request::get("/x").header("host", "a.:")), Ok("a.:".to_owned()));
    }

    #[test]
    fn an_underscore_for_a_hyphen_hides_no_field() {
        let request = |fields: &[(&'static str, &'static str)]| {
            let builder =
                fields.iter().fold(Request::get("http://a/"), |request, (name, value)| request.header(*name, *value));
            let (parts, ()) = builder.body(()).expect("a request").into_parts();
            let caller = Caller { client: ([127, 0, 0, 1], 1).into(), is_secure: false };
            let admitted = admit(&parts, false, PathRules::Normalize).unwrap_or_else(|_| panic!("admitted"));
            FilteredRequest::new(parts, admitted, caller, None, false, None)
        };
        let view = request(&[("x_api_key", "a"), ("x-user_id", "b"), ("x.tenant", "c"), ("to_ken", "d")]);
        let first = |name: &str| {
            slidegate::Request::header(&view, name).map(|value| String::from_utf8_lossy(&value).into_owned())
        };
        assert_eq!(
            ["x-api-key", "x_api-key", "x_api_key"].map(first),
            ["a", "a", "a"].map(|value| Some(value.to_owned()))
        );
        assert_eq!(["x-user-id", "x_user_id"].map(first), ["b", "b"].map(|value| Some(value.to_owned())));
        assert_eq!(["x-tenant", "token", "x-api-ke", "a"].map(first), [None, None, None, None]);
        let both = request(&[("x-forwarded-for", "1.1.1.1"), ("x_forwarded_for", "9.9.9.9")]);
        assert_eq!(slidegate::Request::header(&both, "x-forwarded-for").as_deref(), Some(&b"1.1.1.1"[..]));
        assert_eq!(slidegate::Request::header_values(&both, "x-forwarded-for"), [b"9.9.9.9", b"1.1.1.1"]);
    }

    #[test]
    fn a_target_is_a_path_or_a_url_of_the_web() {
        let bad = Err(StatusCode::BAD_REQUEST);
        for target in ["evil.test", "evil.test:80", "ftp://a/x", "ws://a/x", "https://a", "HTTPS://a/x", "*"] {
            assert_eq!(read(Request::get(target).header("host", "a")), bad, "{target}");
        }
        for target in ["/x", "http://a/x", "HTTP://a/x?y"] {
            assert_eq!(read(Request::get(target).header("host", "a")), Ok("a".to_owned()), "{target}");
        }
        assert_eq!(read(Request::get("https://a/x").version(Version::HTTP_2)), Ok("a".to_owned()));
        assert_eq!(read(Request::get("ftp://a/x").version(Version::HTTP_2)), bad);
        assert_eq!(read(Request::options("*").header("host", "a")), Ok("a".to_owned()));
    }

    #[test]
    fn the_target_that_is_passed_on_is_the_one_that_is_compared() {
        let (parts, ()) = Request::get("/x/..//%6Cogin;a=1?q=%zz&r=//..")
            .header("host", "a")
            .body(())
            .expect("a request")
            .into_parts();
        let admitted = admit(&parts, false, PathRules::Normalize).unwrap_or_else(|refusal| panic!("{refusal:?}"));
        assert_eq!((admitted.target.as_str(), &*admitted.path), ("/login;a=1?q=%zz&r=//..", b"/login".as_slice()));
    }
}
