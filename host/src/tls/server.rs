//! The side that accepts.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificate::Certificate;
use super::pinned::client_verifier;
use super::roots::own_roots;
use super::version::{MinVersion, provider};
use crate::option_error::OptionError;

/// What somebody says of TLS on a listener.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerOptions {
    /// The certificate in PEM that is shown to clients, and those that lead to its root.
    pub certificate: Vec<u8>,
    /// The key of `certificate`, in PEM.
    pub key: Vec<u8>,
    /// Certificates in PEM, one of which has to have signed each client's, or to be it. Without, clients need none.
    pub client_ca: Option<Vec<u8>>,
    /// The least version that clients have to speak.
    pub min_version: MinVersion,
}

impl fmt::Debug for ServerOptions {
    /// Shows none of it: there is a key among it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions").finish_non_exhaustive()
    }
}

/// How connections of clients are secured. Cheap to clone.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    certificate: Certificate,
}

impl ServerTls {
    /// `alpn` are the protocols that clients may choose from, the one liked best first.
    ///
    /// ```no_run
    /// use slidegate::tls::{ALPN_HTTP1, ALPN_HTTP2, MinVersion, ServerOptions, ServerTls};
    ///
    /// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    /// let options = ServerOptions {
    ///     certificate: std::fs::read("server.pem")?,
    ///     key: std::fs::read("server.key")?,
    ///     client_ca: None,
    ///     min_version: MinVersion::Tls12,
    /// };
    /// let tls = ServerTls::new(&options, &[ALPN_HTTP2, ALPN_HTTP1])?;
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:8443").await?;
    /// let (socket, _client) = listener.accept().await?;
    /// let stream = tls.accept(socket).await?;
    /// assert!(stream.get_ref().1.alpn_protocol().is_some());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What is wrong with the options.
    pub fn new(options: &ServerOptions, alpn: &[&[u8]]) -> Result<Self, OptionError> {
        let certificate = Certificate::from_pem(&options.certificate, &options.key)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(options.min_version.versions())
            .map_err(|error| OptionError::new("cert", format!("TLS cannot be used: {error}")))?;
        let builder = match &options.client_ca {
            Some(pem) => {
                let (roots, trusted) = own_roots("client_ca", pem)?;
                builder.with_client_cert_verifier(client_verifier(roots, trusted)?)
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certificate.key())));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        if options.client_ca.is_some() {
            // A session that is taken up again does not show its certificate again, which may have expired meanwhile.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        } else if let Ok(tickets) = rustls::crypto::ring::Ticketer::new() {
            // What is to be remembered of a client is kept by the client. One ticket a connection, which is enough to
            // take the session up again: each one costs some microseconds and 200 bytes, and most are never used.
            config.ticketer = tickets;
            config.send_tls13_tickets = 1;
        }
        Ok(Self { config: Arc::new(config), certificate })
    }

    /// What is shown to clients.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Shakes hands on a connection that was accepted.
    ///
    /// # Errors
    /// It broke, what came is no TLS, or one of both does not trust the other.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}
