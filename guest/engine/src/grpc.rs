//! Answers for clients of gRPC, which take an HTTP status for a fault of the network between, and so do not see why
//! they are refused.

use alloc::{format, rc::Rc, string::String};

pub use crate::request::is_grpc;
use crate::{request::GRPC_TYPE, verdict::Response};

/// `RESOURCE_EXHAUSTED`: the client has used up what it may ask for.
pub(crate) const RESOURCE_EXHAUSTED: u8 = 8;

/// `UNAVAILABLE`: nothing is wrong with the request, and it may be tried again.
pub(crate) const UNAVAILABLE: u8 = 14;

/// `PERMISSION_DENIED`: who asks may not do this.
pub(crate) const PERMISSION_DENIED: u8 = 7;

/// `UNAUTHENTICATED`: nobody knows who asks.
pub(crate) const UNAUTHENTICATED: u8 = 16;

impl Response {
    /// The same answer in the form that has trailers only: HTTP says 200, and gRPC's status and message stand among the
    /// headers.
    ///
    /// ```
    /// use slidegate_engine::Response;
    ///
    /// let refusal = Response {
    ///     status: 429,
    ///     headers: vec![("content-type".to_owned(), b"text/plain".to_vec())],
    ///     body: b"too many".to_vec().into(),
    ///     details: "slidegate.refused",
    ///     grpc_status: 8,
    /// };
    /// let answer = refusal.into_grpc();
    /// assert_eq!((answer.status, answer.body.len()), (200, 0));
    /// assert!(answer.headers.contains(&("grpc-message".to_owned(), b"too many".to_vec())));
    /// ```
    #[must_use]
    pub fn into_grpc(self) -> Response {
        let Response { mut headers, body, details, grpc_status, .. } = self;
        headers.retain(|(name, _)| name != "content-type");
        headers.push(("content-type".into(), GRPC_TYPE.into()));
        headers.push(("grpc-status".into(), format!("{grpc_status}").into_bytes()));
        if let message @ [_, ..] = body.trim_ascii_end() {
            headers.push(("grpc-message".into(), percent_encoded(message).into_bytes()));
        }
        Response { status: 200, headers, body: Rc::default(), details, grpc_status }
    }
}

/// As gRPC wants its messages: whatever is no printable ASCII, and the percent sign, is escaped.
fn percent_encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b' '..=b'~' if byte != b'%' => text.push(char::from(byte)),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use super::*;

    #[test]
    fn the_protocol_is_known_by_its_content_type() {
        for kind in [
            "application/grpc",
            "application/grpc+proto",
            "Application/GRPC+json",
            "application/grpc; x=1",
            "application/grpc;x",
        ] {
            assert!(is_grpc(kind.as_bytes()), "{kind}");
        }
        for kind in
            ["", "application/grpc-web", "application/grpc-web+proto", "application/grpcs", "application/json", "grpc"]
        {
            assert!(!is_grpc(kind.as_bytes()), "{kind}");
        }
        assert!(!is_grpc(b"application/gr\xff"));
    }

    #[test]
    fn an_answer_becomes_trailers() {
        let response = Response {
            status: 429,
            headers: vec![("content-type".into(), "application/json".into()), ("retry-after".into(), "5".into())],
            body: Rc::new("100 % später\n".into()),
            details: "d",
            grpc_status: RESOURCE_EXHAUSTED,
        };
        let Response { status, headers, body, .. } = response.into_grpc();
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), str::from_utf8(value).unwrap())).collect();
        assert_eq!((status, body.len()), (200, 0));
        assert_eq!(
            headers,
            [
                ("retry-after", "5"),
                ("content-type", "application/grpc"),
                ("grpc-status", "8"),
                ("grpc-message", "100 %25 sp%C3%A4ter")
            ]
        );
    }
}
