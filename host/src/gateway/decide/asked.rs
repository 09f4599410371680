//! A request that somebody else has, as it asks about it.

use std::net::SocketAddr;

use hyper::http::request::Parts;

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
