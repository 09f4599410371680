//! A connection that is made, signed in, and has its database selected.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ConnectionAddr, RedisConnectionInfo, RedisResult, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::redis::reply;

/// Commands that may wait inside the crate. More than an instance may have on their way, so that
/// handing one over never waits: a command that waited could be overtaken.
const BUFFERED_COMMANDS: usize = 1 << 20;

/// Where a connection goes, and as whom.
#[derive(Clone)]
pub(in crate::redis) struct Target {
    pub(in crate::redis) address: ConnectionAddr,
    pub(in crate::redis) username: Option<String>,
    pub(in crate::redis) password: Option<String>,
    pub(in crate::redis) database: i64,
}

/// The task that reads and writes the socket of a connection.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Why there is no connection.
#[derive(Clone, Debug)]
pub(super) enum LinkError {
    /// Name not resolved, connection refused, lost while signing in, too slow.
    Unreachable(String),
    /// The server answered AUTH or SELECT with this error.
    Refused(String),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(reason) => f.write_str(reason),
            Self::Refused(text) => write!(f, "the server answered `{text}`"),
        }
    }
}

impl Target {
    /// Connects, signs in, selects the database. AUTH and SELECT are commands of ours, because the
    /// crate's own set-up does not hand on what the server answers to them.
    pub(super) async fn connect(&self) -> Result<(MultiplexedConnection, Driver), LinkError> {
        let (mut connection, mut driver) = match &self.address {
            ConnectionAddr::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(unreachable)?;
                stream.set_nodelay(true).map_err(unreachable)?;
                open(stream).await?
            }
            #[cfg(unix)]
            ConnectionAddr::Unix(path) => open(tokio::net::UnixStream::connect(path).await.map_err(unreachable)?).await?,
            other => return Err(LinkError::Unreachable(format!("addresses like {other} are not supported"))),
        };
        tokio::select! {
            result = self.set_up(&mut connection) => result?,
            () = &mut driver => return Err(LinkError::Unreachable("connection lost while signing in".to_owned())),
        }
        Ok((connection, driver))
    }

    async fn set_up(&self, connection: &mut MultiplexedConnection) -> Result<(), LinkError> {
        if let Some(password) = &self.password {
            let mut auth = redis::cmd("AUTH");
            if let Some(username) = &self.username {
                auth.arg(username);
            }
            accepted(connection, auth.arg(password)).await?;
        }
        if self.database != 0 {
            accepted(connection, redis::cmd("SELECT").arg(self.database)).await?;
        }
        Ok(())
    }
}

async fn open<S>(stream: S) -> Result<(MultiplexedConnection, Driver), LinkError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let info = RedisConnectionInfo::default().set_skip_set_lib_name();
    // Deadlines are counted from the call, so they are not the crate's business.
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None).set_pipeline_buffer_size(BUFFERED_COMMANDS);
    let (connection, driver) = MultiplexedConnection::new_with_config(&info, stream, config).await.map_err(unreachable)?;
    Ok((connection, Box::pin(driver)))
}

async fn accepted(connection: &mut MultiplexedConnection, command: &Cmd) -> Result<(), LinkError> {
    match connection.send_packed_command(command).await {
        Ok(Value::ServerError(error)) => Err(LinkError::Refused(reply::text(&error))),
        Ok(_) => Ok(()),
        Err(error) => Err(unreachable(error)),
    }
}

fn unreachable(error: impl fmt::Display) -> LinkError {
    LinkError::Unreachable(error.to_string())
}

/// A usable connection. Ends its driver when nobody waits for it any more.
pub(super) struct Link {
    connection: MultiplexedConnection,
    driver: AbortHandle,
    pub(super) generation: u64,
    made: Instant,
    /// When a reply last came, in nanoseconds after `made`.
    heard: AtomicU64,
}

/// A command that was handed to the connection.
pub(super) struct Sent {
    pub(super) link: Arc<Link>,
    /// When, in nanoseconds after the link was made.
    pub(super) at: u64,
    pub(super) reply: PendingReply,
}

type PendingReply = Pin<Box<dyn Future<Output = RedisResult<Value>> + Send>>;

impl Link {
    pub(super) fn new(connection: MultiplexedConnection, driver: AbortHandle, generation: u64) -> Self {
        Self { connection, driver, generation, made: Instant::now(), heard: AtomicU64::new(0) }
    }

    /// Hands a command to the connection before returning, so that order is kept.
    pub(super) fn send(self: &Arc<Self>, command: &[Vec<u8>]) -> Sent {
        let mut packed = Cmd::with_capacity(command.len(), command.iter().map(Vec::len).sum());
        for argument in command {
            packed.arg(argument);
        }
        let mut connection = self.connection.clone();
        let mut reply: PendingReply = Box::pin(async move { connection.send_packed_command(&packed).await });
        let at = self.elapsed();
        // The first poll enters the connection's queue. Unconstrained, since a task that has used
        // up its budget would be told to come back later, and another command would overtake.
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(outcome) = pin!(tokio::task::unconstrained(&mut reply)).poll(&mut context) {
            reply = Box::pin(std::future::ready(outcome));
        }
        Sent { link: Arc::clone(self), at, reply }
    }

    /// Takes note that a reply came.
    pub(super) fn heard(&self) {
        self.heard.fetch_max(self.elapsed(), Ordering::Relaxed);
    }

    /// Whether a reply came after this moment.
    pub(super) fn heard_since(&self, at: u64) -> bool {
        self.heard.load(Ordering::Relaxed) > at
    }

    fn elapsed(&self) -> u64 {
        let elapsed: Duration = self.made.elapsed();
        u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
