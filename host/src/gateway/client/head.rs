//! The head of a request to an upstream, in either version of HTTP. Which one is known only when there is a connection.

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::Extensions;
use hyper::http::request::Parts;
use hyper::http::uri::{self, Authority, PathAndQuery, Scheme};
use hyper::{Method, Request, Uri, Version};

/// What is sent before a body.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) target: PathAndQuery,
    pub(crate) headers: HeaderMap,
    /// Another protocol that the client asks for, as in `websocket`. Only HTTP/1.1 can do that.
    pub(crate) upgrade: Option<HeaderValue>,
    /// Whether the client takes trailers.
    pub(crate) trailers: bool,
    /// What the library does beside.
    pub(crate) extensions: Extensions,
}

impl Head {
    /// As HTTP/1.1. With `host`, that is whom the request is for; otherwise whom the client has named.
    pub(super) fn into_http1(self, host: Option<&Authority>) -> Parts {
        let mut headers = self.headers;
        if let Some(upgrade) = self.upgrade {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, upgrade);
        } else if self.trailers {
            // RFC 9110, section 10.1.4: `te` is announced in `connection`.
            headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
        }
        if let Some(host) = host.and_then(|host| HeaderValue::from_str(host.as_str()).ok()) {
            headers.insert(header::HOST, host);
        }
        let mut of_uri = uri::Parts::default();
        of_uri.path_and_query = Some(self.target);
        parts(self.method, of_uri, Version::HTTP_11, headers, self.extensions)
    }

    /// As HTTP/2, where `:authority` is the upstream's; the client's host is in `x-forwarded-host`.
    pub(super) fn into_http2(self, scheme: Scheme, authority: Authority) -> Parts {
        let mut headers = self.headers;
        headers.remove(header::HOST);
        let mut of_uri = uri::Parts::default();
        of_uri.scheme = Some(scheme);
        of_uri.authority = Some(authority);
        of_uri.path_and_query = Some(self.target);
        parts(self.method, of_uri, Version::HTTP_2, headers, self.extensions)
    }
}

fn parts(method: Method, of_uri: uri::Parts, version: Version, headers: HeaderMap, extensions: Extensions) -> Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = method;
    // Each part was valid before, and scheme and host come together.
    parts.uri = Uri::from_parts(of_uri).unwrap_or_default();
    parts.version = version;
    parts.headers = headers;
    parts.extensions = extensions;
    parts
}
