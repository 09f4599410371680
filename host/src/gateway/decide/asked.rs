//! A request that somebody else has, as it asks about it.

use std::net::SocketAddr;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Uri};

use super::grpc::GrpcError;
use crate::gateway::admission::RouteNames;

/// A request that somebody else has.
pub(super) struct AskedRequest {
    /// Its head; its host stands in the target or in a field.
    pub(super) parts: Parts,
    /// Whose it is.
    pub(super) client: SocketAddr,
    /// It came over TLS.
    pub(super) is_secure: bool,
    /// How whoever asks calls its route and upstream, if it says.
    pub(super) names: Option<RouteNames>,
}

/// A head that is told part by part. One without a host has none but in its fields.
///
/// # Errors
/// It is none.
pub(super) fn head(method: &[u8], path: &[u8], host: &[u8], headers: HeaderMap) -> Result<Parts, GrpcError> {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.headers = headers;
    parts.method = Method::from_bytes(method).map_err(|_| GrpcError::invalid("the request's method is none"))?;
    parts.uri = target(path).ok_or_else(|| GrpcError::invalid("the request's path is none"))?;
    if !host.is_empty() {
        let host = HeaderValue::from_bytes(host).map_err(|_| GrpcError::invalid("the request's host is none"))?;
        parts.headers.insert(header::HOST, host);
    }
    Ok(parts)
}

/// A path with its query as a target.
pub(super) fn target(path: &[u8]) -> Option<Uri> {
    let target = Some(path).filter(|path| !path.is_empty()).and_then(|path| PathAndQuery::try_from(path).ok())?;
    Uri::builder().path_and_query(target).build().ok()
}
