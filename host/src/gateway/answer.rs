//! Local replies: answers that do not come from an upstream, but from the gateway itself or from the filter.

use bytes::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::response::Parts;
use hyper::{Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use slidegate::Header;

use crate::gateway::headers::GRPC;
use crate::gateway::telemetry::{self, Overload};

/// Why the gateway answers instead of the upstream.
#[derive(Debug)]
pub(crate) struct LocalReply {
    pub(crate) status: StatusCode,
    /// For the client: one line without its end.
    pub(crate) reason: &'static str,
    /// For the access log.
    pub(crate) details: &'static str,
    /// Whether the answer says which methods are served.
    names_methods: bool,
}

pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(crate) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What gRPC's messages escape: all but printable ASCII, and the percent sign.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// The methods that the gateway passes on, so far as they have names that everybody knows.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

impl LocalReply {
    pub(crate) fn new(status: StatusCode, reason: &'static str, details: &'static str) -> Self {
        Self { status, reason, details, names_methods: status == StatusCode::METHOD_NOT_ALLOWED }
    }

    /// The answer to an OPTIONS request that may go no further (RFC 9110, section 7.6.2).
    pub(crate) fn last_hop() -> Self {
        Self {
            names_methods: true,
            ..Self::new(StatusCode::OK, "the request may go no further", "gateway.max_forwards")
        }
    }

    /// The response's head and body.
    pub(crate) fn answer(&self, is_grpc: bool) -> (Parts, Bytes) {
        if is_grpc {
            return (grpc_parts(grpc_status(self.status), self.reason.as_bytes()), Bytes::new());
        }
        let mut parts = parts(self.status);
        parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        if self.names_methods {
            parts.headers.insert(header::ALLOW, METHODS);
        }
        (parts, Bytes::from(format!("{}\n", self.reason)))
    }
}

/// gRPC's form with trailers only: its status stands in the headers, HTTP's says nothing.
pub(crate) fn grpc_parts(status: u16, message: &[u8]) -> Parts {
    let mut parts = parts(StatusCode::OK);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(GRPC));
    parts.headers.insert(GRPC_STATUS, HeaderValue::from(status));
    let message = percent_encode(message.trim_ascii_end(), ESCAPED).to_string();
    if let Some(message) = HeaderValue::try_from(message).ok().filter(|message| !message.is_empty()) {
        parts.headers.insert(GRPC_MESSAGE, message);
    }
    parts
}

/// What gRPC says a status of HTTP means (its document `http-grpc-status-mapping`), and `RESOURCE_EXHAUSTED` for what
/// is too large.
pub(crate) fn grpc_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 | 405 | 501 => 12,
        413 | 429 | 431 => 8,
        502..=504 => 14,
        _ => 2,
    }
}

/// The filter's answer as HTTP. A status that no final response can have becomes 500, as the contract asks; so does an
/// answer that the filter built wrongly in part, without that part.
///
/// The component speaks gRPC itself; what the library answers in its place, or another component, is put into gRPC's
/// terms here.
pub(crate) fn from_filter(response: slidegate::Response, is_grpc: bool) -> (Parts, Bytes) {
    let status = StatusCode::from_u16(response.status).ok().filter(|status| !status.is_informational());
    if status.is_none() {
        tracing::error!(status = response.status, "the filter answers with a status that cannot be sent; sending 500");
    }
    let mut parts = parts(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
    for field in &response.headers {
        match (HeaderName::from_bytes(field.name.as_bytes()), HeaderValue::from_bytes(&field.value)) {
            // The body's length is known better here.
            (Ok(header::CONTENT_LENGTH | header::TRANSFER_ENCODING), _) => {}
            (Ok(name), Ok(value)) => {
                parts.headers.append(name, value);
            }
            _ => tracing::warn!(
                name = field.name,
                "the filter answers with a header that cannot be sent; leaving it out"
            ),
        }
    }
    if is_grpc && !parts.headers.contains_key(GRPC_STATUS) {
        let grpc = grpc_parts(grpc_status(parts.status), &response.body);
        parts.status = grpc.status;
        parts.headers.extend(grpc.headers);
        return (parts, Bytes::new());
    }
    // What was kept is as its upstream said it: whoever is told no type there is told none here.
    let may_lack_type = response.body.is_empty() || parts.headers.contains_key(header::AGE);
    if !may_lack_type && !parts.headers.contains_key(header::CONTENT_TYPE) {
        parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    (parts, Bytes::from(response.body))
}

/// The answer, which counts as one, to a request for whose body, or that of its answer, there is no room.
pub(crate) fn no_room() -> slidegate::Response {
    telemetry::overloaded(Overload::Bodies);
    slidegate::Response {
        status: 503,
        headers: vec![Header { name: "retry-after".to_owned(), value: b"1".to_vec() }],
        body: format!("{}\n", Overload::Bodies.words()).into_bytes(),
        details: "gateway.overloaded".to_owned(),
    }
}

/// The answer to a request whose body is more than a filter that holds it may be shown.
pub(crate) fn too_large() -> slidegate::Response {
    slidegate::Response {
        status: 413,
        headers: Vec::new(),
        body: b"the request's body is larger than can be looked at\n".to_vec(),
        details: "gateway.body_too_large".to_owned(),
    }
}

pub(crate) fn parts(status: StatusCode) -> Parts {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = status;
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(status: u16, headers: &[(&str, &[u8])], body: &[u8]) -> (Parts, Bytes) {
        let header = |(name, value): &(&str, &[u8])| Header { name: (*name).to_owned(), value: value.to_vec() };
        let response = slidegate::Response {
            status,
            headers: headers.iter().map(header).collect(),
            body: body.to_vec(),
            details: String::new(),
        };
        from_filter(response, false)
    }

    #[test]
    fn a_status_that_cannot_be_sent_is_500() {
        for status in [0, 99, 100, 199, 1000, u16::MAX] {
            assert_eq!(from(status, &[], b"").0.status, 500, "{status}");
        }
        for status in [200, 429, 599, 999] {
            assert_eq!(from(status, &[], b"").0.status, status);
        }
    }

    #[test]
    fn headers_that_cannot_be_sent_are_left_out() {
        let (parts, body) = from(
            429,
            &[("retry-after", b"5"), ("bad name", b"1"), ("x-a", b"a\r\nb: c"), ("content-length", b"9")],
            b"no",
        );
        assert_eq!(parts.headers.len(), 2);
        assert_eq!(
            (&parts.headers["retry-after"], &parts.headers["content-type"]),
            (&"5".parse().unwrap(), &"text/plain".parse().unwrap())
        );
        assert_eq!(body, "no");
    }

    #[test]
    fn clients_of_grpc_get_their_status() {
        for (status, expected) in [(404, "12"), (400, "13"), (502, "14"), (503, "14"), (504, "14"), (418, "2")] {
            let status = StatusCode::from_u16(status).expect("a status");
            let (parts, body) = LocalReply::new(status, "not here", "gateway.x").answer(true);
            let field = |name: &str| parts.headers[name].to_str().expect("text").to_owned();
            assert_eq!(
                (parts.status.as_u16(), body.len(), field("content-type").as_str()),
                (200, 0, "application/grpc")
            );
            assert_eq!((field("grpc-status").as_str(), field("grpc-message").as_str()), (expected, "not here"));
        }
    }

    #[test]
    fn what_was_not_put_into_terms_of_grpc_is_put_so() {
        let response = |headers| slidegate::Response {
            status: 503,
            headers,
            body: "100 % später\n".into(),
            details: String::new(),
        };
        let header = |name: &str, value: &str| Header { name: name.to_owned(), value: value.as_bytes().to_vec() };
        let (parts, body) =
            from_filter(response(vec![header("content-type", "text/plain"), header("retry-after", "1")]), true);
        assert_eq!((parts.status.as_u16(), body.len(), parts.headers.len()), (200, 0, 4));
        assert_eq!(
            (&parts.headers["grpc-status"], &parts.headers["retry-after"]),
            (&"14".parse().unwrap(), &"1".parse().unwrap())
        );
        assert_eq!(parts.headers["content-type"], "application/grpc");
        assert_eq!(parts.headers["grpc-message"], "100 %25 sp%C3%A4ter");
        let own = from_filter(response(vec![header("grpc-status", "8")]), true).0;
        assert_eq!((own.status.as_u16(), &own.headers["grpc-status"]), (503, &"8".parse().unwrap()));
    }

    #[test]
    fn who_may_not_do_this_is_told_what_is_served() {
        let refused = LocalReply::new(StatusCode::METHOD_NOT_ALLOWED, "no", "gateway.x").answer(false).0;
        assert!(refused.headers["allow"].to_str().expect("text").contains("GET"));
        assert!(LocalReply::last_hop().answer(false).0.headers.contains_key("allow"));
        assert!(
            !LocalReply::new(StatusCode::NOT_FOUND, "no", "gateway.x").answer(false).0.headers.contains_key("allow")
        );
    }

    #[test]
    fn a_content_type_is_given_only_where_one_is_missing() {
        let json = from(200, &[("content-type", b"application/json")], b"{}").0;
        assert_eq!(json.headers["content-type"], "application/json");
        assert!(from(200, &[], b"").0.headers.is_empty());
        assert_eq!(from(200, &[], b"<p>").0.headers["content-type"], "text/plain");
        assert!(!from(200, &[("age", b"1")], b"<p>").0.headers.contains_key("content-type"));
    }
}
