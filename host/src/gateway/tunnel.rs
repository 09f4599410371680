//! Upgraded connections, as WebSockets are: bytes both ways until one side ends.

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use crate::gateway::access_log::Record;

/// Joins a client's and an upstream's connection once both have switched. Neither side is timed: quiet is normal here.
///
/// `record` is kept until the tunnel ends. Nothing else is: what the request was served with may have been replaced
/// long before.
pub(crate) async fn run(client: OnUpgrade, upstream: OnUpgrade, mut record: Record) {
    let switched = tokio::try_join!(client, upstream);
    let copied = match switched {
        Ok((client, upstream)) => copy(client, upstream).await,
        Err(error) => {
            tracing::debug!(%error, "a connection was not upgraded");
            None
        }
    };
    record.is_cut |= copied.is_none();
    record.bytes_sent = copied.unwrap_or(0);
}

/// Returns the bytes sent to the client, if the tunnel ended in order.
async fn copy(client: Upgraded, upstream: Upgraded) -> Option<u64> {
    let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
    match copy_bidirectional(&mut client, &mut upstream).await {
        Ok((_, sent)) => Some(sent),
        Err(error) => {
            tracing::debug!(%error, "a tunnel ended early");
            None
        }
    }
}
