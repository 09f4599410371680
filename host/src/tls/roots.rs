//! Whom to trust.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::certificate;
use crate::option_error::OptionError;

/// Those who sign certificates, by their own, in PEM; and those certificates.
pub(super) fn own_roots(
    field: &'static str,
    pem: &[u8],
) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), OptionError> {
    let (mut roots, certificates) = (RootCertStore::empty(), certificate::certificates(field, pem)?);
    for certificate in &certificates {
        roots
            .add(certificate.clone())
            .map_err(|error| OptionError::new(field, format!("expected certificates that sign others: {error}")))?;
    }
    Ok((roots, certificates))
}

/// What the system trusts. Single certificates that cannot be used are the system's business, having none is not.
pub(super) fn system_roots() -> Result<RootCertStore, OptionError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(OptionError::new(
            "ca",
            "missing, and this system has no CA certificates; expected a file with some",
        ));
    }
    Ok(roots)
}
