//! A connection that is made, signed in, and has its database selected.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use redis::ConnectionAddr;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::pipeline::{Outcome, Pipeline};
use crate::bindings::slidegate::filter::redis::{CallError, Reply};

/// Longer than any attempt to connect may take; that has a deadline of its own.
const SIGN_IN_MAX: Duration = Duration::from_secs(1 << 32);

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
    pub(super) async fn connect(&self) -> Result<(Pipeline, Driver), LinkError> {
        let (pipeline, mut driver) = match &self.address {
            ConnectionAddr::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(unreachable)?;
                stream.set_nodelay(true).map_err(unreachable)?;
                open(stream)
            }
            #[cfg(unix)]
            ConnectionAddr::Unix(path) => open(tokio::net::UnixStream::connect(path).await.map_err(unreachable)?),
            other => return Err(LinkError::Unreachable(format!("addresses like {other} are not supported"))),
        };
        tokio::select! {
            result = self.set_up(&pipeline) => result?,
            () = &mut driver => return Err(lost()),
        }
        Ok((pipeline, driver))
    }

    async fn set_up(&self, pipeline: &Pipeline) -> Result<(), LinkError> {
        let username = self.username.as_ref().map(String::as_bytes);
        if let Some(password) = &self.password {
            let command: Vec<&[u8]> = [b"AUTH".as_slice()].into_iter().chain(username).chain([password.as_bytes()]).collect();
            accepted(pipeline, &command).await?;
        }
        if self.database != 0 {
            accepted(pipeline, &[b"SELECT", self.database.to_string().as_bytes()]).await?;
        }
        Ok(())
    }
}

/// A connection before signing in.
fn open(socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> (Pipeline, Driver) {
    let (pipeline, driver) = Pipeline::new(socket);
    (pipeline, Box::pin(driver))
}

/// How long the server may take is the business of who awaits this.
async fn accepted(pipeline: &Pipeline, command: &[&[u8]]) -> Result<(), LinkError> {
    let command: Vec<Vec<u8>> = command.iter().map(|argument| argument.to_vec()).collect();
    let now = Instant::now();
    let reply = pipeline.send(&command, now, now + SIGN_IN_MAX).ok_or_else(lost)?;
    match reply.await {
        Ok(Ok(Reply::Error(text))) => Err(LinkError::Refused(text)),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(lost()),
    }
}

fn lost() -> LinkError {
    LinkError::Unreachable("connection lost while signing in".to_owned())
}

fn unreachable(error: impl fmt::Display) -> LinkError {
    LinkError::Unreachable(error.to_string())
}

/// A usable connection. Ends its driver when nobody waits for it any more.
pub(super) struct Link {
    pipeline: Pipeline,
    driver: AbortHandle,
    pub(super) generation: u64,
}

/// A command that was handed to the connection.
pub(super) struct Sent {
    /// Kept for the driver's sake.
    link: Arc<Link>,
    reply: oneshot::Receiver<Outcome>,
}

impl Link {
    pub(super) fn new(pipeline: Pipeline, driver: AbortHandle, generation: u64) -> Self {
        Self { pipeline, driver, generation }
    }

    /// Hands a command to the connection before returning, so that order is kept. `None`, and nothing
    /// is sent, if the connection has ended or does not answer.
    pub(super) fn send(self: &Arc<Self>, command: &[Vec<u8>], now: Instant, deadline: Instant) -> Option<Sent> {
        let reply = self.pipeline.send(command, now, deadline)?;
        Some(Sent { link: Arc::clone(self), reply })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Sent {
    /// Waits for the reply, at most until the deadline.
    pub(super) async fn reply(self) -> Outcome {
        let outcome = self.reply.await.unwrap_or(Err(CallError::Disconnected));
        drop(self.link);
        outcome
    }
}
