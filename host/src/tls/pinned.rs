//! Certificates that are trusted for themselves: one that has signed itself, as `openssl req -x509` makes them, is its
//! own authority. The checks of the library below refuse it as a server's or a client's, because it may sign others.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::error::is_an_authoritys;
use super::version::provider;
use crate::option_error::OptionError;

/// Checks the other side's certificate as ever, and takes one that is among those to be trusted, byte for byte, though
/// it may sign others. Its key, its name and its time are checked all the same.
#[derive(Debug)]
struct PinnedVerifier<V: ?Sized> {
    trusted: Vec<CertificateDer<'static>>,
    inner: Arc<V>,
}

/// Trusts servers whose certificate one of these has signed, or is.
///
/// # Errors
/// None of them can be used.
pub(super) fn server_verifier(
    roots: Arc<RootCertStore>,
    trusted: Vec<CertificateDer<'static>>,
) -> Result<Arc<dyn ServerCertVerifier>, OptionError> {
    let inner = WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
    let inner = inner.map_err(|error| OptionError::new("ca", format!("cannot be used: {error}")))?;
    Ok(Arc::new(PinnedVerifier { trusted, inner }))
}

/// Trusts clients whose certificate one of these has signed, or is; all have to show one.
///
/// # Errors
/// None of them can be used.
pub(super) fn client_verifier(
    roots: RootCertStore,
    trusted: Vec<CertificateDer<'static>>,
) -> Result<Arc<dyn ClientCertVerifier>, OptionError> {
    let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    let inner = inner.map_err(|error| OptionError::new("client_ca", format!("cannot be used: {error}")))?;
    Ok(Arc::new(PinnedVerifier { trusted, inner }))
}

impl<V: ?Sized> PinnedVerifier<V> {
    /// Whether nothing else is wrong with this certificate than that it may sign others, and it is one of those to be
    /// trusted. The library looks at that right after its time.
    fn is_pinned(&self, certificate: &CertificateDer<'_>, error: &Error) -> bool {
        is_an_authoritys(error) && self.trusted.iter().any(|trusted| trusted == certificate)
    }
}

/// What both traits ask of signatures, as it is without pinned certificates.
macro_rules! signatures_as_ever {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.inner.verify_tls12_signature(message, certificate, signature)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.inner.verify_tls13_signature(message, certificate, signature)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.inner.supported_verify_schemes()
        }
    };
}

impl ServerCertVerifier for PinnedVerifier<WebPkiServerVerifier> {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.inner.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(error) if self.is_pinned(certificate, &error) => {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    signatures_as_ever!();
}

impl ClientCertVerifier for PinnedVerifier<dyn ClientCertVerifier> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.inner.verify_client_cert(certificate, intermediates, now) {
            Err(error) if self.is_pinned(certificate, &error) => Ok(ClientCertVerified::assertion()),
            verified => verified,
        }
    }

    signatures_as_ever!();
}
