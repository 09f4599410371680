//! TLS to Redis: whom to trust, who we are.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::access::{RedisAccess, RedisAccessError};

/// How connections to one Redis are secured. Cheap to clone.
#[derive(Clone)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    /// The name that the server's certificate must hold, instead of the address.
    server_name: Option<ServerName<'static>>,
}

impl Tls {
    /// Reads what the access says of TLS.
    pub(super) fn of(access: &RedisAccess) -> Result<Self, RedisAccessError> {
        let roots = match &access.ca {
            Some(pem) => own_roots(pem)?,
            None => system_roots()?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| RedisAccessError::new("url", format!("TLS cannot be used: {error}")))?
            .with_root_certificates(roots);
        let config = match (&access.certificate, &access.key) {
            (Some(certificate), Some(key)) => builder
                .with_client_auth_cert(certificates("cert", certificate)?, private_key(key)?)
                .map_err(|error| RedisAccessError::new("key", format!("expected the key of the certificate in `cert`: {error}")))?,
            (Some(_), None) => return Err(RedisAccessError::new("key", "missing; expected the key of the certificate in `cert`")),
            (None, Some(_)) => return Err(RedisAccessError::new("cert", "missing; expected the certificate of the key in `key`")),
            (None, None) => builder.with_no_client_auth(),
        };
        let server_name = access.server_name.clone().map(ServerName::try_from).transpose();
        let server_name =
            server_name.map_err(|_| RedisAccessError::new("server_name", "expected a host name or an IP address, without port"))?;
        Ok(Self { config: Arc::new(config), server_name })
    }

    /// Shakes hands on a fresh connection to this host.
    pub(super) async fn secure(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned()).map_err(io::Error::other)?,
        };
        TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

fn own_roots(pem: &[u8]) -> Result<RootCertStore, RedisAccessError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca", pem)? {
        roots.add(certificate).map_err(|error| RedisAccessError::new("ca", format!("expected certificates that sign others: {error}")))?;
    }
    Ok(roots)
}

/// What the system trusts. Single certificates that cannot be used are the system's business, having none is not.
fn system_roots() -> Result<RootCertStore, RedisAccessError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(RedisAccessError::new("ca", "missing, and this system has no CA certificates; expected a file with some"));
    }
    Ok(roots)
}

fn certificates(field: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, RedisAccessError> {
    const EXPECTED: &str = "expected certificates in PEM";
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| RedisAccessError::new(field, format!("{EXPECTED}: {error}")))?;
    if read.is_empty() { Err(RedisAccessError::new(field, format!("{EXPECTED}, found none"))) } else { Ok(read) }
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, RedisAccessError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| RedisAccessError::new("key", format!("expected a private key in PEM: {error}")))
}
