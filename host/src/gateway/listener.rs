//! Where clients come in: how an address is bound, and how connections are accepted on it, whatever serves them.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener, TcpStream as StdTcpStream};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::gateway::guests::{Guests, Seat};
use crate::gateway::listener_kind::ListenerKind;
use crate::gateway::serving::Serving;
use crate::settings::{Mistake, Settings};

/// Connections that may wait to be accepted; the system may allow fewer. The library's 128 are full in an instant.
const BACKLOG: i32 = 4_096;

/// How long accepting rests when the system gives no connection.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// How often it is looked whether a rush is over.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// Bound, so that failing to bind is an error of starting and not of running.
pub(crate) struct Listeners {
    pub(crate) proxy: Option<StdTcpListener>,
    pub(crate) admin: Option<StdTcpListener>,
    pub(crate) decide: Option<StdTcpListener>,
}

impl Listeners {
    /// Binds the addresses of the settings.
    ///
    /// # Errors
    /// An address is taken or not this machine's.
    pub(crate) fn bind(settings: &Settings) -> Result<Self, Mistake> {
        let bind =
            |kind: ListenerKind| kind.listen(settings).map(|listen| bind(kind.field(), listen.address)).transpose();
        let admin = bind(ListenerKind::Admin)?;
        Ok(Self { proxy: bind(ListenerKind::Proxy)?, admin, decide: bind(ListenerKind::Decide)? })
    }
}

fn bind(field: &str, address: SocketAddr) -> Result<StdTcpListener, Mistake> {
    let bound = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // Elsewhere this would let others listen on the same address.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        io::Result::Ok(socket.into())
    };
    bound().map_err(|error| Mistake::new(field, format!("cannot listen on `{address}`: {error}")))
}

/// A connection that was accepted, and its place.
pub(crate) struct Newcomer {
    pub(crate) socket: StdTcpStream,
    pub(crate) client: SocketAddr,
    pub(crate) seat: Seat,
}

/// A listener of one kind, in the event loop that accepts.
pub(crate) struct Listener {
    kind: ListenerKind,
    socket: TcpListener,
    guests: Arc<Guests>,
}

impl Listener {
    /// # Errors
    /// The event loop cannot take it.
    pub(crate) fn new(kind: ListenerKind, bound: StdTcpListener, guests: Arc<Guests>) -> io::Result<Self> {
        bound.set_nonblocking(true)?;
        Ok(Self { kind, socket: TcpListener::from_std(bound)?, guests })
    }

    /// # Errors
    /// The operating system does not know it any more.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts connections for ever, and hands on those that there is room for. Dropping the future closes nothing;
    /// dropping the listener does that.
    pub(crate) async fn accept(&self, serving: &ArcSwap<Serving>, mut take: impl FnMut(Newcomer)) -> Infallible {
        let mut look_around = tokio::time::interval(LOOK_AROUND);
        let mut is_accepting = true;
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                _ = look_around.tick() => {
                    self.guests.look_around();
                    continue;
                }
            };
            match accepted.and_then(|(socket, client)| Ok((socket.into_std()?, client))) {
                Ok((socket, client)) => {
                    if !std::mem::replace(&mut is_accepting, true) {
                        tracing::info!(listener = self.kind.field(), "connections can be accepted again");
                    }
                    // One that is turned away is closed.
                    if let Ok(seat) = self.guests.admit(client.ip(), &self.kind.limits(&serving.load().settings)) {
                        take(Newcomer { socket, client, seat });
                    }
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    if std::mem::replace(&mut is_accepting, false) {
                        tracing::error!(%error, listener = self.kind.field(), "cannot accept connections");
                    }
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
