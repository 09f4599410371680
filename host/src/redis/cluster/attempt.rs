//! Commands on their way to nodes.

use tokio::sync::oneshot;

use crate::redis::connection::Started;
use crate::redis::server_access::LinkError;
use crate::redis::url::Address;

/// A command on its way to a node.
pub(super) struct Attempt {
    /// Of the node.
    pub(super) address: Address,
    pub(super) started: Started,
}

/// A first attempt: made, or waiting for the map.
pub(super) enum First {
    Made(Attempt),
    Mapless(oneshot::Receiver<Result<Attempt, LinkError>>),
    /// As many wait for the map as may.
    Full,
}
