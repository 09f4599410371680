//! What a request says of its own body.

/// What gRPC calls its messages.
pub(crate) const GRPC_TYPE: &str = "application/grpc";

/// Whether a request's `content-type` is gRPC's. `application/grpc-web` is another protocol.
pub fn is_grpc(content_type: &[u8]) -> bool {
    let (name, rest) = content_type.split_at_checked(GRPC_TYPE.len()).unwrap_or((&[], &[]));
    name.eq_ignore_ascii_case(GRPC_TYPE.as_bytes())
        && matches!(rest.trim_ascii_start().first(), None | Some(b'+' | b';'))
}
