//! One server, and how a connection to it is made: opened, secured, signed in, its database selected.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, RedisConnectionInfo, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::connection::{Pipeline, Refusal, WAITING_MAX};
use super::location::{Address, Identity};
use super::tls::Tls;
use crate::bindings::slidegate::filter::redis::Reply;

/// Longer than any attempt to connect may take; that has a deadline of its own.
const SIGN_IN_MAX: Duration = Duration::from_secs(1 << 32);

/// Where a connection goes, and as whom.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) address: Address,
    pub(super) tls: Option<Tls>,
    pub(super) identity: Identity,
    pub(super) database: i64,
}

/// A connection that is ready for commands, and the future that reads and writes its socket.
pub(super) struct Opened {
    pub(super) pipeline: Pipeline,
    pub(super) driver: Driver,
}

/// A connection for a few questions whose answers may be nested, which those to the filter never are.
pub(super) struct Conversation {
    connection: MultiplexedConnection,
    driver: Driver,
}

type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

/// Why there is no connection.
#[derive(Clone, Debug)]
pub(super) enum LinkError {
    /// Name not resolved, connection refused, not to be trusted, lost while signing in, too slow.
    Unreachable(String),
    /// The server answered this error, to AUTH for example.
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

impl From<Refusal> for LinkError {
    fn from(refusal: Refusal) -> Self {
        Self::Unreachable(match refusal {
            Refusal::Ended => "the connection was lost at once".to_owned(),
            Refusal::Full => format!("{WAITING_MAX} commands wait already"),
        })
    }
}

impl Target {
    /// Makes a connection, signs in, selects the database.
    pub(super) async fn connect(&self) -> Result<Opened, LinkError> {
        let (pipeline, driver) = Pipeline::new(self.dial().await?);
        let mut opened = Opened { pipeline, driver: Box::pin(driver) };
        if let Some(password) = &self.identity.password {
            let username = self.identity.username.as_ref().map(String::as_bytes);
            let command: Vec<&[u8]> = [b"AUTH".as_slice()].into_iter().chain(username).chain([password.as_bytes()]).collect();
            opened.accepted(&command).await?;
        }
        if self.database != 0 {
            opened.accepted(&[b"SELECT", self.database.to_string().as_bytes()]).await?;
        }
        if self.tls.is_some() {
            // A server may refuse our certificate only after it has shown its own: with the first answer it is known that it did
            // not. Which answer does not matter.
            opened.ask(&[b"PING"]).await?;
        }
        Ok(opened)
    }

    /// Makes a connection of another kind, and signs in.
    pub(super) async fn converse(&self) -> Result<Conversation, LinkError> {
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        // Whoever asks has a deadline.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let made = MultiplexedConnection::new_with_config(&info, self.dial().await?, config).await;
        let (connection, driver) = made.map_err(unreachable)?;
        let mut conversation = Conversation { connection, driver: Box::pin(driver) };
        if let Some(password) = &self.identity.password {
            let mut auth = redis::cmd("AUTH");
            if let Some(username) = &self.identity.username {
                auth.arg(username);
            }
            conversation.ask(auth.arg(password)).await?;
        }
        Ok(conversation)
    }

    async fn dial(&self) -> Result<Box<dyn Socket>, LinkError> {
        match &self.address {
            Address::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(unreachable)?;
                stream.set_nodelay(true).map_err(unreachable)?;
                match &self.tls {
                    Some(tls) => Ok(Box::new(tls.secure(host, stream).await.map_err(untrusted)?)),
                    None => Ok(Box::new(stream)),
                }
            }
            #[cfg(unix)]
            Address::Unix(path) => Ok(Box::new(tokio::net::UnixStream::connect(path).await.map_err(unreachable)?)),
            #[cfg(not(unix))]
            Address::Unix(_) => Err(LinkError::Unreachable("this system has no Unix sockets".to_owned())),
        }
    }
}

impl Opened {
    /// One command on a connection that nobody else uses yet. How long the server may take is the business of who awaits this.
    pub(super) async fn ask(&mut self, command: &[&[u8]]) -> Result<Reply, LinkError> {
        let command: Vec<Vec<u8>> = command.iter().map(|argument| argument.to_vec()).collect();
        let now = Instant::now();
        let Ok(reply) = self.pipeline.send(&command, false, now, now + SIGN_IN_MAX) else { return Err(self.lost()) };
        let reply = tokio::select! {
            reply = reply => reply.ok().and_then(Result::ok),
            () = &mut self.driver => None,
        };
        reply.ok_or_else(|| self.lost())
    }

    async fn accepted(&mut self, command: &[&[u8]]) -> Result<(), LinkError> {
        match self.ask(command).await? {
            Reply::Error(text) => Err(LinkError::Refused(text)),
            _ => Ok(()),
        }
    }

    fn lost(&self) -> LinkError {
        let why = self.pipeline.end().map(|why| format!(": {why}")).unwrap_or_default();
        LinkError::Unreachable(format!("connection lost while signing in{why}"))
    }
}

impl Conversation {
    /// One question, and its answer; an error is none.
    pub(super) async fn ask(&mut self, command: &Cmd) -> Result<Value, LinkError> {
        let answer = tokio::select! {
            answer = self.connection.send_packed_command(command) => answer.map_err(unreachable)?,
            () = &mut self.driver => return Err(LinkError::Unreachable("the connection was lost".to_owned())),
        };
        match answer {
            Value::ServerError(error) => {
                let details = error.details().map(|details| format!(" {details}")).unwrap_or_default();
                Err(LinkError::Refused(format!("{}{details}", error.code())))
            }
            answer => Ok(answer),
        }
    }
}

fn unreachable(error: impl fmt::Display) -> LinkError {
    LinkError::Unreachable(error.to_string())
}

fn untrusted(error: io::Error) -> LinkError {
    LinkError::Unreachable(format!("TLS: {error}"))
}
