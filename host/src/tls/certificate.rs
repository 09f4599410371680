//! Who a side of a connection says it is: a certificate, those that lead to its root, and its key.

use std::fmt;
use std::sync::Arc;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, RootCertStore};

use super::error::is_an_authoritys;
use super::version::provider;
use crate::option_error::OptionError;

/// A certificate with its key, which fits it. Cheap to clone.
#[derive(Clone)]
pub struct Certificate(Arc<CertifiedKey>);

impl Certificate {
    /// From PEM: certificates, the own one first, and a key without a passphrase.
    ///
    /// # Errors
    /// Which of both is wrong, and how.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, OptionError> {
        let chain = certificates("cert", certificate)?;
        let key = private_key(key)?;
        if let Some(Err(error)) = chain.first().map(ParsedCertificate::try_from) {
            return Err(OptionError::new("cert", format!("the first certificate cannot be read: {error}")));
        }
        let fitting = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            Error::InconsistentKeys(_) => OptionError::new(
                "key",
                "expected the key of the certificate in `cert`, got one that belongs to another",
            ),
            // What the library says of it names only its kinds again.
            _ => OptionError::new(
                "key",
                "expected a private key that can sign: RSA of 2048 bits or more, ECDSA on P-256 or P-384, or Ed25519",
            ),
        })?;
        Ok(Self(Arc::new(fitting)))
    }

    /// Why the other side will probably not accept the certificate at this time, in words: it has expired, or is not
    /// valid yet.
    pub fn out_of_time(&self, now: UnixTime) -> Option<String> {
        out_of_time(self.0.cert.first()?, now)
    }

    pub(super) fn key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

/// Why certificates of authorities, in PEM, are of no use at this time, in words: each has expired, or is not valid
/// yet. What is said is of the first. They are trusted here all the same, as their time is no part of what a signature
/// says; others may look at it.
pub fn authorities_out_of_time(pem: &[u8], now: UnixTime) -> Option<String> {
    let all = certificates("ca", pem).ok()?;
    let told: Option<Vec<String>> = all.iter().map(|certificate| out_of_time(certificate, now)).collect();
    told?.into_iter().next()
}

/// Whether none of these certificates, in PEM, is an authority's, as far as can be told at this time: none may sign
/// others, or has signed itself. Then nobody is trusted for them, not even who shows one of them.
pub fn are_no_authorities(pem: &[u8], now: UnixTime) -> bool {
    let is_none = |certificate: &CertificateDer<'_>| {
        let complaint = complaint(certificate, now);
        let signed_by_another = webpki::EndEntityCert::try_from(certificate)
            .is_ok_and(|certificate| certificate.issuer() != certificate.subject());
        // The library looks at what it may sign right after its time.
        signed_by_another
            && complaint.is_some_and(|error| !is_an_authoritys(&error) && out_of_time_of(&error).is_none())
    };
    certificates("ca", pem).is_ok_and(|all| all.iter().all(is_none))
}

fn out_of_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Option<String> {
    complaint(certificate, now).as_ref().and_then(out_of_time_of)
}

/// What is wrong with a certificate first, where nobody is trusted: that it leads nowhere, unless there is something
/// about itself.
fn complaint(certificate: &CertificateDer<'_>, now: UnixTime) -> Option<Error> {
    let certificate = ParsedCertificate::try_from(certificate).ok()?;
    let algorithms = provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&certificate, &RootCertStore::empty(), &[], now, algorithms).err()
}

/// What a complaint says of a certificate's time.
fn out_of_time_of(complaint: &Error) -> Option<String> {
    let days = |from: UnixTime, until: UnixTime| until.as_secs().saturating_sub(from.as_secs()) / (24 * 3600);
    match complaint {
        Error::InvalidCertificate(CertificateError::Expired) => Some("has expired".to_owned()),
        Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) => {
            Some(match days(*not_after, *time) {
                0 => "has expired today".to_owned(),
                1 => "has expired a day ago".to_owned(),
                days => format!("has expired {days} days ago"),
            })
        }
        Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            Some("is not valid yet".to_owned())
        }
        _ => None,
    }
}

/// The certificates in a file, of which there is at least one.
pub(super) fn certificates(field: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, OptionError> {
    const EXPECTED: &str = "expected certificates in PEM";
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ if has_section(pem, b"PRIVATE KEY-----") => {
            let swapped = if field == "cert" { ": are `cert` and `key` swapped?" } else { "" };
            Err(OptionError::new(field, format!("{EXPECTED}, found a private key{swapped}")))
        }
        Ok(_) => Err(OptionError::new(field, format!("{EXPECTED}, found none"))),
        // What exactly is broken would have to be quoted.
        Err(_) => Err(OptionError::new(field, format!("{EXPECTED}, found some that is broken"))),
    }
}

/// The private key in a file.
fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, OptionError> {
    const EXPECTED: &str = "expected a private key in PEM";
    let problem = if has_section(pem, b"ENCRYPTED PRIVATE KEY-----") || has_section(pem, b"Proc-Type: 4,ENCRYPTED") {
        "without a passphrase, found an encrypted one; `openssl pkey -in FILE -out FILE` takes the passphrase off"
    } else {
        match PrivateKeyDer::from_pem_slice(pem) {
            Ok(key) => return Ok(key),
            Err(_) if has_section(pem, b"PRIVATE KEY-----") => "found one that is broken",
            Err(_) if has_section(pem, b"BEGIN CERTIFICATE-----") => {
                "found a certificate: are `cert` and `key` swapped?"
            }
            Err(_) => "found none",
        }
    };
    Err(OptionError::new("key", format!("{EXPECTED}, {problem}")))
}

fn has_section(pem: &[u8], mark: &[u8]) -> bool {
    pem.windows(mark.len()).any(|window| window == mark)
}
