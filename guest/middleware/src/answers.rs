//! Responses that are made here.

use slidegate_engine::{Response as EngineResponse, grpc, request::RequestView};
use wasip3::{
    http::types::{ErrorCode, Fields, Response},
    wit_future, wit_stream,
};

use crate::heads::RequestHead;

/// What the engine answers, in terms that the client understands.
pub(crate) fn of_engine(head: &RequestHead, response: EngineResponse) -> Response {
    let is_grpc = head.header("content-type").is_some_and(|kind| grpc::is_grpc(&kind));
    let EngineResponse { status, headers, body, .. } = if is_grpc { response.into_grpc() } else { response };
    response_of(status, headers, body.to_vec())
}

/// An answer of a line of text.
pub(crate) fn of_text(status: u16, text: &str) -> Response {
    response_of(status, Vec::new(), format!("{text}\n").into_bytes())
}

/// Why there is no response of the upstream.
pub(crate) fn of_failure(error: &ErrorCode) -> Response {
    match error {
        ErrorCode::DnsTimeout
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => of_text(504, "the upstream does not answer in time"),
        ErrorCode::HttpRequestBodySize(_) => of_text(413, "the body is longer than what is held of one"),
        _ => of_text(502, "the upstream cannot be reached, or has broken off"),
    }
}

fn response_of(status: u16, headers: Vec<(String, Vec<u8>)>, body: Vec<u8>) -> Response {
    let fields = Fields::new();
    // A text, unless something else is said. What the host forbids is left out.
    if !headers.iter().any(|(name, _)| name == "content-type") && !body.is_empty() {
        let _ = fields.append("content-type", b"text/plain");
    }
    for (name, value) in &headers {
        let _ = fields.append(name, value);
    }
    let _ = fields.set("content-length", &[body.len().to_string().into_bytes()]);
    let (mut bytes, read) = wit_stream::new();
    let (response, _) = Response::new(fields, Some(read), wit_future::new(|| Ok(None)).1);
    let _ = response.set_status_code(status);
    if !body.is_empty() {
        wasip3::spawn_local(async move {
            bytes.write_all(body).await;
        });
    }
    response
}
