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
