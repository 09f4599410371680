//! gRPC as far as decisions need it: calls of one message that are answered with one, and the messages of others (its
//! document `PROTOCOL-HTTP2`).

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts as RequestParts;
use hyper::http::response::Parts;
use hyper::{Method, StatusCode};
use percent_encoding::percent_decode;
use prost::Message;

use crate::gateway::answer::{self, GRPC_MESSAGE, GRPC_STATUS, LocalReply};
use crate::gateway::headers::GRPC;
use crate::gateway::plain_body::{PeerBody, PlainBody};

/// The most that a message may be, in bytes.
const MESSAGE_MAX: usize = 1 << 20;

const MESSAGE_TOO_LARGE: &str = "a message has more than 1 MiB";

/// What stands before a message: whether it is compressed, and its length.
const FRAME_HEAD: usize = 5;

/// How long a call, or the first message of a longer one, may take to come.
pub(super) const CALL_TIME: Duration = Duration::from_secs(5);

const INVALID_ARGUMENT: u16 = 3;
const DEADLINE_EXCEEDED: u16 = 4;
const NOT_FOUND: u16 = 5;
const PERMISSION_DENIED: u16 = 7;
const RESOURCE_EXHAUSTED: u16 = 8;
const FAILED_PRECONDITION: u16 = 9;
const UNIMPLEMENTED: u16 = 12;
const INTERNAL: u16 = 13;
const UNAVAILABLE: u16 = 14;
const UNAUTHENTICATED: u16 = 16;

/// What can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GrpcMethod {
    /// Envoy's external authorization.
    Check,
    /// Envoy's rate limit service.
    ShouldRateLimit,
    /// Envoy's external processing.
    Process,
    /// Whether decisions are made here.
    HealthCheck,
}

impl GrpcMethod {
    /// What a request calls, if it is something that there is.
    pub(super) fn of(request: &RequestParts) -> Option<Self> {
        match (&request.method, request.uri.path()) {
            (&Method::POST, "/envoy.service.auth.v3.Authorization/Check") => Some(Self::Check),
            (&Method::POST, "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit") => {
                Some(Self::ShouldRateLimit)
            }
            (&Method::POST, "/envoy.service.ext_proc.v3.ExternalProcessor/Process") => Some(Self::Process),
            (&Method::POST, "/grpc.health.v1.Health/Check") => Some(Self::HealthCheck),
            _ => None,
        }
    }
}

/// The services that there are.
pub(super) const SERVICES: [&str; 4] = [
    "envoy.service.auth.v3.Authorization",
    "envoy.service.ratelimit.v3.RateLimitService",
    "envoy.service.ext_proc.v3.ExternalProcessor",
    "grpc.health.v1.Health",
];

/// Why a call is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GrpcError {
    code: u16,
    reason: &'static str,
    /// For the access log.
    details: &'static str,
}

impl GrpcError {
    pub(super) fn invalid(reason: &'static str) -> Self {
        Self { code: INVALID_ARGUMENT, reason, details: "decide.bad_request" }
    }

    pub(super) fn not_found(reason: &'static str) -> Self {
        Self { code: NOT_FOUND, reason, details: "decide.not_found" }
    }

    pub(super) fn untrusted(reason: &'static str) -> Self {
        Self { code: PERMISSION_DENIED, reason, details: "decide.untrusted_peer" }
    }

    pub(super) fn unimplemented() -> Self {
        Self { code: UNIMPLEMENTED, reason: "there is no such method here", details: "decide.unimplemented" }
    }

    fn compressed() -> Self {
        let reason = "compressed messages are not understood here";
        Self { code: UNIMPLEMENTED, reason, details: "decide.unimplemented" }
    }

    pub(super) fn too_large(reason: &'static str) -> Self {
        Self { code: RESOURCE_EXHAUSTED, reason, details: "decide.too_large" }
    }

    /// Whoever calls is not set up as it has to be.
    pub(super) fn precondition(reason: &'static str) -> Self {
        Self { code: FAILED_PRECONDITION, reason, details: "decide.precondition" }
    }

    pub(super) fn internal(reason: &'static str) -> Self {
        Self { code: INTERNAL, reason, details: "decide.internal" }
    }

    pub(super) fn broken_off() -> Self {
        Self::invalid("the call broke off")
    }

    pub(super) fn late() -> Self {
        Self { code: DEADLINE_EXCEEDED, reason: "the call did not come in time", details: "decide.late" }
    }

    pub(super) fn details(&self) -> &'static str {
        self.details
    }

    /// How HTTP would call it, for logs and counters.
    pub(super) fn status(&self) -> StatusCode {
        match self.code {
            PERMISSION_DENIED => StatusCode::FORBIDDEN,
            NOT_FOUND => StatusCode::NOT_FOUND,
            DEADLINE_EXCEEDED => StatusCode::REQUEST_TIMEOUT,
            RESOURCE_EXHAUSTED => StatusCode::PAYLOAD_TOO_LARGE,
            UNIMPLEMENTED => StatusCode::NOT_IMPLEMENTED,
            FAILED_PRECONDITION => StatusCode::PRECONDITION_FAILED,
            INTERNAL => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The form with trailers only.
    pub(super) fn answer(&self) -> Parts {
        let mut parts = answer::grpc_parts(self.code, self.reason.as_bytes());
        if self.code == UNIMPLEMENTED {
            // Perhaps it is no call, but a request of gRPC that somebody asks about over HTTP: 200 would let it pass.
            // Clients of gRPC understand this status as the same.
            parts.status = StatusCode::NOT_FOUND;
        }
        parts
    }

    /// What comes behind messages that were answered before.
    pub(super) fn trailers(&self) -> HeaderMap {
        let mut trailers = answer::grpc_parts(self.code, self.reason.as_bytes()).headers;
        trailers.remove(header::CONTENT_TYPE);
        trailers
    }
}

/// The answer to what looks like a call, and is none.
pub(super) fn unsupported_type() -> LocalReply {
    let reason = "expected a call of gRPC: HTTP/2, and content-type application/grpc";
    LocalReply::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason, "decide.content_type")
}

/// Whether messages are said to be what is understood here. Without a word on it they are.
pub(super) fn is_protobuf(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    let format = kind.get(GRPC.len()..).unwrap_or_default().split(|byte| *byte == b';').next().unwrap_or_default();
    format.trim_ascii().is_empty() || format.trim_ascii().eq_ignore_ascii_case(b"+proto")
}

/// The message of a call.
///
/// # Errors
/// It does not come, is too large, or is none.
pub(super) async fn read<M: Message + Default>(body: PeerBody) -> Result<M, GrpcError> {
    let read = tokio::time::timeout(CALL_TIME, Limited::new(body, FRAME_HEAD + MESSAGE_MAX).collect()).await;
    match read {
        Ok(Ok(read)) => message(&read.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(GrpcError::too_large(MESSAGE_TOO_LARGE)),
        Ok(Err(_)) => Err(GrpcError::broken_off()),
        Err(_) => Err(GrpcError::late()),
    }
}

/// The one message that these bytes frame.
///
/// # Errors
/// They frame none, or more than one, or it is not of this type.
fn message<M: Message + Default>(framed: &[u8]) -> Result<M, GrpcError> {
    let Some((head, message)) = framed.split_first_chunk::<FRAME_HEAD>() else {
        return Err(GrpcError::invalid("the call has no message"));
    };
    match message_length(*head)? == message.len() {
        true => decoded(message),
        false => Err(GrpcError::invalid("the call is not one whole message")),
    }
}

/// The length of the message behind this head.
///
/// # Errors
/// It is too large, or compressed.
fn message_length([flag, a, b, c, d]: [u8; FRAME_HEAD]) -> Result<usize, GrpcError> {
    match (flag, u32::from_be_bytes([a, b, c, d]) as usize) {
        (_, length) if length > MESSAGE_MAX => Err(GrpcError::too_large(MESSAGE_TOO_LARGE)),
        (0, length) => Ok(length),
        _ => Err(GrpcError::compressed()),
    }
}

fn decoded<M: Message + Default>(message: impl Buf) -> Result<M, GrpcError> {
    M::decode(message).map_err(|_| GrpcError::invalid("the message is not what this method takes"))
}

/// Whether the first message in these bytes is there as a whole.
///
/// # Errors
/// It will be too large, or compressed.
pub(super) fn has_message(bytes: &[u8]) -> Result<bool, GrpcError> {
    let Some((head, rest)) = bytes.split_first_chunk::<FRAME_HEAD>() else { return Ok(false) };
    Ok(message_length(*head)? <= rest.len())
}

/// Takes the first message off these bytes, if it is there as a whole.
///
/// # Errors
/// It is not of this type, will be too large, or is compressed.
pub(super) fn take_message<M: Message + Default>(bytes: &mut BytesMut) -> Result<Option<M>, GrpcError> {
    let Some(head) = bytes.first_chunk::<FRAME_HEAD>() else { return Ok(None) };
    let length = message_length(*head)?;
    if bytes.len() < FRAME_HEAD + length {
        return Ok(None);
    }
    bytes.advance(FRAME_HEAD);
    decoded(bytes.split_to(length).freeze()).map(Some)
}

/// A message as an answer.
pub(super) fn answer(message: &impl Message) -> (Parts, PlainBody) {
    (head(), PlainBody::with_trailers(framed(message), trailers()))
}

/// The head of an answer.
pub(super) fn head() -> Parts {
    let mut parts = answer::parts(StatusCode::OK);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(GRPC));
    parts
}

/// A message in its frame.
pub(super) fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut framed = BytesMut::with_capacity(FRAME_HEAD + length);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // It fails for lack of room alone, and there is enough.
    message.encode(&mut framed).unwrap_or_default();
    framed.freeze()
}

/// What comes behind the messages of an answer that is well.
pub(super) fn trailers() -> HeaderMap {
    [(GRPC_STATUS, HeaderValue::from_static("0"))].into_iter().collect()
}

/// Takes an answer in gRPC's terms out of them, if it is in such: its message is the body.
pub(super) fn unwrapped(parts: &mut Parts) -> Option<Bytes> {
    let status = parts.headers.remove(GRPC_STATUS)?;
    let code = status.to_str().ok().and_then(|code| code.parse().ok());
    parts.status = match code {
        Some(RESOURCE_EXHAUSTED) => StatusCode::TOO_MANY_REQUESTS,
        Some(UNAVAILABLE) => StatusCode::SERVICE_UNAVAILABLE,
        Some(UNAUTHENTICATED) => StatusCode::UNAUTHORIZED,
        _ => StatusCode::FORBIDDEN,
    };
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    let message = parts.headers.remove(GRPC_MESSAGE);
    Some(message.map_or_else(Bytes::new, |message| percent_decode(message.as_bytes()).collect::<Vec<u8>>().into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::decide::authz::AuthzCheck;
    use crate::gateway::decide::rate_limit::RateLimitCall;

    fn frame(flag: u8, length: u32, message: &[u8]) -> Vec<u8> {
        [&[flag][..], &length.to_be_bytes(), message].concat()
    }

    fn code(framed: &[u8]) -> Option<u16> {
        message::<RateLimitCall>(framed).err().map(|error| error.code)
    }

    #[test]
    fn one_whole_message_is_a_call() {
        assert_eq!(code(&frame(0, 0, b"")), None);
        assert_eq!(code(&frame(0, 3, b"\x0a\x01a")), None);
        for bad in
            [&b""[..], b"\0\0\0\0", &frame(0, 4, b"\x0a\x01a"), &frame(0, 2, b"\x0a\x01a"), &frame(0, 1, b"\x0a")]
        {
            assert_eq!(code(bad), Some(INVALID_ARGUMENT), "{bad:?}");
        }
        assert_eq!(code(&frame(1, 3, b"\x0a\x01a")), Some(UNIMPLEMENTED));
        assert_eq!(code(&frame(0, u32::MAX, b"")), Some(RESOURCE_EXHAUSTED));
    }

    /// Whatever bytes come, they are a message or none; and what nobody knows is skipped.
    #[test]
    fn no_message_does_harm() {
        let whole = frame(0, 9, b"\x0a\x07\x22\x05\x12\x03\x12\x01G");
        assert!(message::<AuthzCheck>(&whole).is_ok());
        let unknown = [&b"\x0a\x00"[..], b"\xfa\x3f\x03abc", b"\xf8\x3f\x7f"].concat();
        assert!(message::<AuthzCheck>(&frame(0, unknown.len() as u32, &unknown)).is_ok());
        let nested = vec![0x0b; 60_000];
        assert!(message::<AuthzCheck>(&frame(0, nested.len() as u32, &nested)).is_err());
        let mut state = 1_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            for _ in 0..random() % 4 {
                let at = 5 + random() as usize % (bytes.len() - 5);
                bytes[at] = random() as u8;
            }
            bytes.truncate(5 + random() as usize % (bytes.len() - 4));
            let length = (bytes.len() - 5) as u32;
            bytes[1..5].copy_from_slice(&length.to_be_bytes());
            drop((message::<AuthzCheck>(&bytes), message::<RateLimitCall>(&bytes)));
        }
    }

    #[test]
    fn what_was_said_to_a_client_of_grpc_is_told_by_a_status() {
        let mut parts = answer::grpc_parts(RESOURCE_EXHAUSTED, "zu viel 100 %".as_bytes());
        let message = unwrapped(&mut parts).expect("one in gRPC");
        assert_eq!((parts.status.as_u16(), &message[..]), (429, b"zu viel 100 %".as_slice()));
        assert_eq!(parts.headers.len(), 1, "{:?}", parts.headers);
        assert_eq!(unwrapped(&mut answer::parts(StatusCode::OK)), None);
    }
}
