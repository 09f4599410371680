//! Answers in JSON, which filters give by themselves.

use alloc::{
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use crate::{grpc, verdict::Response};

/// Redis cannot say, and who waits for it is refused then.
pub(crate) fn unavailable(body: Rc<Vec<u8>>) -> Response {
    Response {
        status: 503,
        headers: json_headers(),
        body,
        details: "slidegate.redis_unavailable",
        grpc_status: grpc::UNAVAILABLE,
    }
}

/// The fields of an answer that is for one request alone.
pub(crate) fn json_headers() -> Vec<(String, Vec<u8>)> {
    [("content-type", "application/json"), ("cache-control", "no-store")]
        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
        .into()
}
