//! The handshake of a connection on a listener with TLS: it takes no longer than a client may take for its first
//! request, and holds nobody but itself.

use tokio::time::{Instant, sleep, sleep_until};

use slidegate::tls::{HandshakeFailure, ServerTls};

use crate::gateway::guests::{Guest, Seat};
use crate::gateway::lingering::Lingering;
use crate::gateway::secured::Secured;
use crate::gateway::shutdown::{LAST_WORD, Shutdown};
use crate::gateway::socket::Socket;
use crate::gateway::telemetry::{self, FailedHandshake};

/// Shakes hands, until the deadline. None if there is no connection then, which is counted unless it had to go. Who is
/// refused is told why, in an alert that has to reach it.
pub(crate) async fn shake(
    tls: &ServerTls,
    socket: Socket<Seat>,
    lingering: &Lingering<Seat>,
    guest: &Guest,
    deadline: Instant,
    ending: &Shutdown,
) -> Option<Secured<Seat>> {
    let drained = async {
        ending.drain.cancelled().await;
        sleep(LAST_WORD).await;
    };
    lingering.unread().set(true);
    let failed = tokio::select! {
        accepted = tls.accept(socket) => match accepted {
            Ok(stream) => {
                lingering.unread().set(false);
                return Some(Secured::tls(stream));
            }
            Err(error) => {
                tracing::debug!(%error, "no handshake");
                telemetry::failed_handshake(FailedHandshake::Of(HandshakeFailure::of(&error)));
                return None;
            }
        },
        () = sleep_until(deadline) => Some(FailedHandshake::Time),
        // Nothing is lost to those who have asked for nothing.
        () = guest.asked_to_leave() => None,
        () = drained => None,
    };
    lingering.forget();
    failed.into_iter().for_each(telemetry::failed_handshake);
    None
}
