//! Answers that do not come from an upstream: the gateway's own, and the filter's.

use bytes::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::response::Parts;
use hyper::{Response, StatusCode};

/// Why the gateway answers instead of the upstream.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// For the client: one line without its end.
    pub(crate) reason: &'static str,
    /// For the access log.
    pub(crate) details: &'static str,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, reason: &'static str, details: &'static str) -> Self {
        Self { status, reason, details }
    }

    /// The response's head and body.
    pub(crate) fn answer(&self) -> (Parts, Bytes) {
        let mut parts = parts(self.status);
        parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        (parts, Bytes::from(format!("{}\n", self.reason)))
    }
}

/// The filter's answer as HTTP. A status that no final response can have becomes 500, as the contract asks; so does an
/// answer that the filter built wrongly in part, without that part.
pub(crate) fn from_filter(response: slidegate::Response) -> (Parts, Bytes) {
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
            _ => tracing::warn!(name = field.name, "the filter answers with a header that cannot be sent; leaving it out"),
        }
    }
    if !response.body.is_empty() && !parts.headers.contains_key(header::CONTENT_TYPE) {
        parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    (parts, Bytes::from(response.body))
}

fn parts(status: StatusCode) -> Parts {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = status;
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use slidegate::Header;

    fn from(status: u16, headers: &[(&str, &[u8])], body: &[u8]) -> (Parts, Bytes) {
        let header = |(name, value): &(&str, &[u8])| Header { name: (*name).to_owned(), value: value.to_vec() };
        from_filter(slidegate::Response {
            status,
            headers: headers.iter().map(header).collect(),
            body: body.to_vec(),
            details: String::new(),
        })
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
        let (parts, body) = from(429, &[("retry-after", b"5"), ("bad name", b"1"), ("x-a", b"a\r\nb: c"), ("content-length", b"9")], b"no");
        assert_eq!(parts.headers.len(), 2);
        assert_eq!(
            (&parts.headers["retry-after"], &parts.headers["content-type"]),
            (&"5".parse().unwrap(), &"text/plain".parse().unwrap())
        );
        assert_eq!(body, "no");
    }

    #[test]
    fn a_content_type_is_given_only_where_one_is_missing() {
        let json = from(200, &[("content-type", b"application/json")], b"{}").0;
        assert_eq!(json.headers["content-type"], "application/json");
        assert!(from(200, &[], b"").0.headers.is_empty());
    }
}
