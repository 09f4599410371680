//! The handshake of a connection on a listener with TLS: it takes no longer than a client may take for its first
//! request, and holds nobody but itself.

use tokio::time::{Instant, sleep, sleep_until};

use slidegate::tls::{HandshakeFailure, ServerTls};

use crate::gateway::ending::{Ending, LAST_WORD};
use crate::gateway::guests::{Guest, Seat};
use crate::gateway::secured::Secured;
use crate::gateway::socket::Socket;
use crate::gateway::telemetry::{self, FailedHandshake};

/// Shakes hands, until the deadline. None if there is no connection then, which is counted unless it had to go.
pub(crate) async fn shake(
    tls: &ServerTls,
    socket: Socket<Seat>,
    guest: &Guest,
    deadline: Instant,
    ending: &Ending,
) -> Option<Secured<Seat>> {
    let drained = async {
        ending.drain.cancelled().await;
        sleep(LAST_WORD).await;
    };
    let failed = tokio::select! {
        accepted = tls.accept(socket) => match accepted {
            Ok(stream) => return Some(Secured::tls(stream)),
            Err(error) => {
                tracing::debug!(%error, "no handshake");
                FailedHandshake::Of(HandshakeFailure::of(&error))
            }
        },
        () = sleep_until(deadline) => FailedHandshake::Time,
        // Nothing is lost to those who have asked for nothing.
        () = guest.asked_to_leave() => return None,
        () = drained => return None,
    };
    telemetry::failed_handshake(failed);
    None
}
