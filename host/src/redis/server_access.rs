//! One server, and how a connection to it is made: opened, secured, signed in, its database selected.

use std::fmt;
use std::io;
use std::pin::{Pin, pin};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, RedisConnectionInfo, Value};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::Instant;

use super::dial;
use super::pipeline::{NotSent, Pipeline};
use super::printable::printable;
use super::url::{Address, Identity};
use crate::bindings::slidegate::filter::redis::Reply;
use crate::tls::{ClientTls, HandshakeFailure};

/// Longer than any attempt to connect may take; that has a deadline of its own.
const SIGN_IN_MAX: Duration = Duration::from_secs(1 << 32);

/// Most bytes of the answers in one conversation; the map of a cluster whose every slot stands alone has some three
/// million.
const ANSWERS_BYTES_MAX: u64 = 8 << 20;

/// So long before its deadline an attempt to shake hands is given up.
const SOONER: Duration = Duration::from_millis(5);

/// What is said of a plain connection that ends without an answer.
pub(super) const HINT_OF_TLS: &str = "; is it a port for TLS? Then the URL begins with `rediss`";

const NO_TLS: &str = "it did not answer TLS; is it a plain port? Then the URL begins with `redis`, not `rediss`";

/// Where a connection goes, and as whom.
#[derive(Clone)]
pub(super) struct ServerAccess {
    pub(super) address: Address,
    pub(super) tls: Option<ClientTls>,
    pub(super) identity: Identity,
    pub(super) database: i64,
}

/// A connection that is ready for commands, and the future that reads and writes its socket.
pub(super) struct Opened {
    pub(super) pipeline: Pipeline,
    pub(super) driver: BoxedDriver,
    is_plain: bool,
}

/// A connection for a few questions whose answers may be nested, which those to the filter never are.
pub(super) struct Conversation {
    connection: MultiplexedConnection,
    /// None when the connection has ended.
    driver: Option<BoxedDriver>,
}

type BoxedDriver = Pin<Box<dyn Future<Output = ()> + Send>>;

trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for S {}

/// Why there is no connection.
#[derive(Clone, Debug)]
pub(super) enum LinkError {
    /// Name not resolved, connection refused, not to be trusted, lost while signing in, too slow.
    Unreachable(String),
    /// The server answered this error, to AUTH for example.
    Refused(String),
}

impl LinkError {
    /// The error without a password that was sent: a server that does not know AUTH quotes what it got, the beginning
    /// of a long one too.
    fn without(self, password: &str) -> Self {
        let Self::Refused(text) = self else { return self };
        let said = text.split_once(", with args").map_or(text.as_str(), |(said, _)| said);
        Self::Refused(if password.is_empty() { said.to_owned() } else { said.replace(password, "***") })
    }
}

impl fmt::Display for LinkError {
    /// In one line, as it may quote a server.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(reason) => f.write_str(&printable(reason)),
            Self::Refused(text) => write!(f, "the server answered `{}`", printable(text)),
        }
    }
}

impl From<NotSent> for LinkError {
    fn from(refusal: NotSent) -> Self {
        Self::Unreachable(match refusal {
            NotSent::Ended => "the connection was lost at once".to_owned(),
            NotSent::Full => "as many commands wait already as may".to_owned(),
        })
    }
}

impl ServerAccess {
    /// Makes a connection, signs in, selects the database. The deadline is that of who awaits this.
    pub(super) async fn connect(&self, deadline: Instant) -> Result<Opened, LinkError> {
        let (pipeline, driver) = Pipeline::new(self.dial(deadline).await?);
        let mut opened = Opened { pipeline, driver: Box::pin(driver), is_plain: self.tls.is_none() };
        if let Some(password) = &self.identity.password {
            let username = self.identity.username.as_ref().map(String::as_bytes);
            let command: Vec<&[u8]> =
                [b"AUTH".as_slice()].into_iter().chain(username).chain([password.as_bytes()]).collect();
            opened.accepted(&command).await.map_err(|error| error.without(password))?;
        }
        if self.database != 0 {
            opened.accepted(&[b"SELECT", self.database.to_string().as_bytes()]).await?;
        }
        if self.tls.is_some() {
            // A server may refuse our certificate only after it has shown its own: with the first answer it is known
            // that it did not. Which answer does not matter.
            opened.ask(&[b"PING"]).await?;
        }
        Ok(opened)
    }

    /// Makes a connection of another kind, and signs in. The deadline is that of who awaits this.
    pub(super) async fn converse(&self, deadline: Instant) -> Result<Conversation, LinkError> {
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        // Whoever asks has a deadline.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let (answers, questions) = tokio::io::split(self.dial(deadline).await?);
        let socket = tokio::io::join(answers.take(ANSWERS_BYTES_MAX), questions);
        let made = MultiplexedConnection::new_with_config(&info, socket, config).await;
        let (connection, driver) = made.map_err(unreachable)?;
        let mut conversation = Conversation { connection, driver: Some(Box::pin(driver)) };
        if let Some(password) = &self.identity.password {
            let mut auth = redis::cmd("AUTH");
            if let Some(username) = &self.identity.username {
                auth.arg(username);
            }
            conversation.ask(auth.arg(password)).await.map_err(|error| error.without(password))?;
        }
        Ok(conversation)
    }

    async fn dial(&self, deadline: Instant) -> Result<Box<dyn ByteStream>, LinkError> {
        match &self.address {
            Address::Tcp(host, port) => {
                let stream = dial::connect(host, *port).await.map_err(unreachable)?;
                stream.set_nodelay(true).map_err(unreachable)?;
                match &self.tls {
                    // To be told why before whoever awaits this is told that time is over.
                    Some(tls) => match tokio::time::timeout_at(deadline - SOONER, tls.connect(host, stream)).await {
                        Ok(secured) => Ok(Box::new(secured.map_err(untrusted)?)),
                        Err(_) => Err(LinkError::Unreachable(NO_TLS.to_owned())),
                    },
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
    /// One command on a connection that nobody else uses yet. How long the server may take is the business of who
    /// awaits this.
    pub(super) async fn ask(&mut self, command: &[&[u8]]) -> Result<Reply, LinkError> {
        let command = command.iter().collect();
        let now = Instant::now();
        let Ok(mut reply) = self.pipeline.send(&command, false, now, now + SIGN_IN_MAX) else {
            return Err(self.lost());
        };
        let reply = tokio::select! {
            reply = &mut reply => reply.ok(),
            // It may have come together with the end, as from a server that has too many clients.
            () = &mut self.driver => reply.try_recv().ok(),
        };
        let reply = reply.and_then(Result::ok);
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
        let hint = if self.is_plain && self.pipeline.replies() == 0 { HINT_OF_TLS } else { "" };
        LinkError::Unreachable(format!("connection lost while signing in{why}{hint}"))
    }
}

impl Conversation {
    /// One question, and its answer; an error is none.
    pub(super) async fn ask(&mut self, command: &Cmd) -> Result<Value, LinkError> {
        let mut answer = pin!(self.connection.send_packed_command(command));
        let ended = match &mut self.driver {
            Some(driver) => tokio::select! {
                answer = answer.as_mut() => Some(answer),
                () = driver => None,
            },
            None => None,
        };
        let answer = match ended {
            Some(answer) => answer,
            None => {
                self.driver = None;
                // It may have come together with the end.
                answer.await
            }
        };
        let answer = answer.map_err(unreachable)?;
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
    LinkError::Unreachable(if HandshakeFailure::of(&error).is_no_tls() {
        NO_TLS.to_owned()
    } else {
        format!("TLS: {}", HandshakeFailure::words(&error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_quotes_a_password_does_not_make_it_shown() {
        for (text, said) in [
            ("ERR unknown command 'AUTH', with args beginning with: 'u' 'hush' ", "ERR unknown command 'AUTH'"),
            ("ERR unknown command `AUTH`, with args beginning with: `hu...", "ERR unknown command `AUTH`"),
            ("ERR invalid password \"hush\" for hush", "ERR invalid password \"***\" for ***"),
            (
                "WRONGPASS invalid username-password pair or user is disabled.",
                "WRONGPASS invalid username-password pair or user is disabled.",
            ),
        ] {
            let shown = LinkError::Refused(text.to_owned()).without("hush").to_string();
            assert_eq!(shown, format!("the server answered `{said}`"));
        }
        assert_eq!(LinkError::Refused("ERR no".to_owned()).without("").to_string(), "the server answered `ERR no`");
    }
}
