//! The side that connects.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificate::Certificate;
use super::pinned::server_verifier;
use super::roots::{own_roots, system_roots};
use super::version::{MinVersion, provider};
use crate::option_error::OptionError;

/// What somebody says of TLS to a server, beside its address. All of it may be left out.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClientOptions {
    /// Certificates in PEM, one of which has signed the server's, or is it. Without, those that the system trusts.
    pub ca: Option<Vec<u8>>,
    /// The certificate in PEM that is shown to the server, and those that lead to its root.
    pub certificate: Option<Vec<u8>>,
    /// The key of `certificate`, in PEM.
    pub key: Option<Vec<u8>>,
    /// The name that the server's certificate must hold, if that is not the address.
    pub server_name: Option<String>,
}

impl fmt::Debug for ClientOptions {
    /// Shows none of it: there is a key among it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions").finish_non_exhaustive()
    }
}

/// How connections to a server are secured. Cheap to clone.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    /// Whom servers have to be signed by.
    roots: Arc<RootCertStore>,
    server_name: Option<ServerName<'static>>,
    certificate: Option<Certificate>,
    unmet: Arc<UnmetRequest>,
}

/// Shows no certificate, and remembers that a server has asked for one.
#[derive(Debug, Default)]
struct UnmetRequest(AtomicBool);

impl ResolvesClientCert for UnmetRequest {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

impl ClientTls {
    /// ```
    /// use slidegate::tls::{ClientOptions, ClientTls};
    ///
    /// // Whom the system trusts is trusted, unless `ca` says whom.
    /// let options = ClientOptions { ca: Some(b"no certificate".to_vec()), ..ClientOptions::default() };
    /// let error = ClientTls::new(&options).expect_err("there is none");
    /// assert_eq!(error.field(), "ca");
    /// ```
    ///
    /// # Errors
    /// What is wrong with the options, or that the system trusts nobody.
    pub fn new(options: &ClientOptions) -> Result<Self, OptionError> {
        let (roots, trusted) = match &options.ca {
            Some(pem) => own_roots("ca", pem)?,
            None => (system_roots()?, Vec::new()),
        };
        let roots = Arc::new(roots);
        let certificate = match (&options.certificate, &options.key) {
            (Some(shown), Some(key)) => Some(Certificate::from_pem(shown, key)?),
            (Some(_), None) => {
                return Err(OptionError::new("key", "missing; expected the key of the certificate in `cert`"));
            }
            (None, Some(_)) => {
                return Err(OptionError::new("cert", "missing; expected the certificate of the key in `key`"));
            }
            (None, None) => None,
        };
        let server_name = options.server_name.clone().map(ServerName::try_from).transpose();
        let server_name = server_name
            .map_err(|_| OptionError::new("server_name", "expected a host name or an IP address, without port"))?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(MinVersion::default().versions())
            .map_err(|error| OptionError::new("ca", format!("TLS cannot be used: {error}")))?
            // Not dangerous: it checks what the usual one does.
            .dangerous()
            .with_custom_certificate_verifier(server_verifier(Arc::clone(&roots), trusted)?);
        let unmet = Arc::new(UnmetRequest::default());
        let config = builder.with_client_cert_resolver(match &certificate {
            Some(certificate) => Arc::new(SingleCertAndKey::from(certificate.key())),
            None => Arc::clone(&unmet) as Arc<dyn ResolvesClientCert>,
        });
        Ok(Self { config: Arc::new(config), roots, server_name, certificate, unmet })
    }

    /// The same, offering these protocols (ALPN), the one liked best first.
    #[must_use]
    pub fn with_alpn(&self, protocols: &[&[u8]]) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Self { config: Arc::new(config), ..self.clone() }
    }

    /// Whether both trust the same authorities. Those of the system may have changed since one of them was made.
    pub fn trusts_as(&self, other: &Self) -> bool {
        self.roots.roots == other.roots.roots
    }

    /// What is shown to the server.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// Whether a server has asked for a certificate since this was called last, and there was none to be shown. It may
    /// have gone on without, or may refuse that yet.
    pub fn was_asked_in_vain(&self) -> bool {
        self.unmet.0.swap(false, Ordering::Relaxed)
    }

    /// Shakes hands on a fresh connection to this host.
    ///
    /// # Errors
    /// It broke, or one of both does not trust the other; [`HandshakeFailure`](super::HandshakeFailure) tells which.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(&self, host: &str, stream: S) -> io::Result<TlsStream<S>> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned()).map_err(io::Error::other)?,
        };
        TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}
