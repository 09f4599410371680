//! What the filter may see of a request, and the usual way to give it that.

use std::borrow::Cow;
use std::net::SocketAddr;

use http::header::{AsHeaderName, COOKIE, HOST, HeaderMap};
use http::{Method, Uri};

use crate::bindings::slidegate::filter::types::Header;
use crate::edit::fields;

/// A request that the filter may ask about, for as long as it is undecided.
///
/// The filter pulls: a getter runs only if a rule of the configuration needs what it returns.
/// Everything is bytes, because HTTP allows header values that are not UTF-8.
pub trait Request: Send + Sync {
    /// The method, as in `GET`.
    fn method(&self) -> Cow<'_, [u8]>;

    /// The path with its query, as it came: undecoded.
    fn path(&self) -> Cow<'_, [u8]>;

    /// `:authority`, or the `host` field, with the port if there is one. Empty if there is neither.
    fn authority(&self) -> Cow<'_, [u8]>;

    /// `https` or `http`, by which the client asked. Empty if that is not known.
    fn scheme(&self) -> &str {
        ""
    }

    /// The first field of this lower-case name. For `cookie` all fields, joined with `; `, since a
    /// client may split them (RFC 9113, section 8.2.3).
    fn header(&self, name: &str) -> Option<Vec<u8>>;

    /// Every field of this lower-case name, in the order received.
    fn header_values(&self, name: &str) -> Vec<Vec<u8>>;

    /// All header fields, those of one name in the order received.
    fn headers(&self) -> Vec<Header>;

    /// Whether there is, or may be, a body.
    fn has_body(&self) -> bool {
        true
    }

    /// The peer of the connection. `None` if it has no such address, as on a Unix socket.
    fn source_address(&self) -> Option<SocketAddr>;

    /// The route that the host chose, for `_match_route_` and `_match_route_prefix_`.
    fn route_name(&self) -> &str {
        ""
    }

    /// The upstream that the host chose, for `_match_service_`: `outbound|port||name`.
    fn service_name(&self) -> &str {
        ""
    }
}

/// A [`Request`] that owns what it shows, made of the types of the `http` crate.
#[derive(Clone, Debug, Default)]
pub struct HttpRequest {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    source: Option<SocketAddr>,
    route: String,
    service: String,
    is_bodiless: bool,
}

impl HttpRequest {
    /// A request as a server received it, with no address, route or service.
    pub fn new(method: Method, uri: Uri, headers: HeaderMap) -> Self {
        Self { method, uri, headers, ..Self::default() }
    }

    /// Adds the address of the peer.
    #[must_use]
    pub fn with_source(mut self, source: SocketAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// Says that there is no body; else there may be one.
    #[must_use]
    pub fn without_body(mut self) -> Self {
        self.is_bodiless = true;
        self
    }

    /// Adds the name of the route chosen.
    #[must_use]
    pub fn with_route(mut self, route: impl Into<String>) -> Self {
        self.route = route.into();
        self
    }

    /// Adds the name of the upstream chosen, as `outbound|port||name`.
    #[must_use]
    pub fn with_service(mut self, service: impl Into<String>) -> Self {
        self.service = service.into();
        self
    }
}

impl<B> From<&http::Request<B>> for HttpRequest {
    fn from(request: &http::Request<B>) -> Self {
        Self::new(request.method().clone(), request.uri().clone(), request.headers().clone())
    }
}

impl Request for HttpRequest {
    fn method(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.method.as_str().as_bytes())
    }

    fn path(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.uri.path_and_query().map_or("", |path| path.as_str()).as_bytes())
    }

    fn authority(&self) -> Cow<'_, [u8]> {
        if let Some(authority) = self.uri.authority() {
            // Whoever put credentials before the host did not mean them as part of its name.
            let host = authority.as_str().rsplit('@').next().unwrap_or_default();
            return Cow::Borrowed(host.as_bytes());
        }
        Cow::Borrowed(self.headers.get(HOST).map_or(&[], |host| host.as_bytes()))
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        if name == COOKIE.as_str() {
            return joined(&self.headers, COOKIE, b"; ");
        }
        self.headers.get(name).map(|value| value.as_bytes().to_vec())
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        self.headers.get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect()
    }

    fn headers(&self) -> Vec<Header> {
        fields(&self.headers)
    }

    fn has_body(&self) -> bool {
        !self.is_bodiless
    }

    fn source_address(&self) -> Option<SocketAddr> {
        self.source
    }

    fn route_name(&self) -> &str {
        &self.route
    }

    fn service_name(&self) -> &str {
        &self.service
    }
}

/// All values of a field as one, or nothing if there is no such field.
fn joined(headers: &HeaderMap, name: impl AsHeaderName, separator: &[u8]) -> Option<Vec<u8>> {
    let values: Vec<&[u8]> = headers.get_all(name).iter().map(|value| value.as_bytes()).collect();
    (!values.is_empty()).then(|| values.join(separator))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn request(uri: &str, fields: &[(&'static str, &[u8])]) -> HttpRequest {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        HttpRequest::new(Method::GET, uri.parse().unwrap(), headers)
    }

    #[test]
    fn split_cookies_are_one_value() {
        let request = request("/", &[("cookie", b"a=1"), ("cookie", b"b=2; c=3")]);
        assert_eq!(request.header("cookie").unwrap(), b"a=1; b=2; c=3");
        assert_eq!(request.header_values("cookie").len(), 2);
    }

    #[test]
    fn other_fields_show_their_first_value_byte_for_byte() {
        let request = request("/", &[("x-key", b"\xff\xfe"), ("x-key", b"second")]);
        assert_eq!(request.header("x-key").unwrap(), b"\xff\xfe");
        assert_eq!(request.header("x-none"), None);
        assert_eq!(request.header("not a name"), None);
    }

    #[test]
    fn authority_prefers_the_target_over_the_host_field() {
        let fields: &[(&str, &[u8])] = &[("host", b"field.example:1")];
        assert_eq!(&*request("/a", fields).authority(), b"field.example:1");
        assert_eq!(&*request("http://u:p@target.example:2/a", fields).authority(), b"target.example:2");
        assert_eq!(&*request("/a", &[]).authority(), b"");
    }

    #[test]
    fn path_keeps_its_query_undecoded() {
        assert_eq!(&*request("/a%20b?c=%41&c", &[]).path(), b"/a%20b?c=%41&c");
    }
}
