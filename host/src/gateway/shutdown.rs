//! Graceful shutdown: first a word to clients, then no new requests (draining), then nothing.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How long a kept connection may be quiet, once the process is to end or its place is needed, until it is closed.
/// Whoever asks for something meanwhile is told in the answer that it is the last.
pub(crate) const LAST_WORD: Duration = Duration::from_secs(1);

/// When connections have to end.
#[derive(Clone, Default)]
pub(crate) struct Shutdown {
    /// Soon: connections are still accepted, but clients are told to go elsewhere.
    pub(crate) lame_duck: CancellationToken,
    /// No new requests; those in flight go on.
    pub(crate) drain: CancellationToken,
    /// At once.
    pub(crate) stop: CancellationToken,
}

impl Shutdown {
    /// Whether an answer should be the last of its connection.
    pub(crate) fn is_near(&self) -> bool {
        self.lame_duck.is_cancelled() || self.drain.is_cancelled()
    }
}
