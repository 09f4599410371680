//! Whether decisions are made here, as `grpc.health.v1.Health/Check` says it.

use prost::Message;

use super::grpc::{GrpcError, SERVICES};

/// `HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HealthCall {
    /// Empty for the whole server.
    #[prost(string, tag = "1")]
    pub(super) service: String,
}

/// `HealthCheckResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HealthAnswer {
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}

const SERVING: i32 = 1;

/// Whoever can ask is served.
///
/// # Errors
/// There is no such service.
pub(super) fn answer(call: HealthCall) -> Result<HealthAnswer, GrpcError> {
    match call.service.is_empty() || SERVICES.contains(&call.service.as_str()) {
        true => Ok(HealthAnswer { status: SERVING }),
        false => Err(GrpcError::not_found("there is no such service here")),
    }
}
