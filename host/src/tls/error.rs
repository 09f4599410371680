//! Why handshakes fail.

use std::io;

use rustls::{CertificateError, Error, OtherError};

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// The other side ended the connection without an answer.
    Ended,
    /// The other side speaks something else.
    NoTls,
    /// The other side did not show the certificate that it needs.
    NoCertificate,
    /// What the other side showed is not trusted: it has expired, is for another name, or of somebody unknown.
    Untrusted,
    /// The other side does not trust what it was shown.
    Distrusted,
    /// Anything else, such as no version in common.
    Other,
}

impl HandshakeFailure {
    /// Why this error ended a handshake.
    pub fn of(error: &io::Error) -> Self {
        use rustls::AlertDescription as Alert;
        match of_tls(error) {
            Some(Error::InvalidMessage(_)) => Self::NoTls,
            Some(Error::NoCertificatesPresented) => Self::NoCertificate,
            Some(Error::InvalidCertificate(_)) => Self::Untrusted,
            Some(Error::AlertReceived(alert)) => match alert {
                Alert::BadCertificate
                | Alert::CertificateExpired
                | Alert::CertificateRevoked
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::UnsupportedCertificate => Self::Distrusted,
                Alert::CertificateRequired => Self::NoCertificate,
                _ => Self::Other,
            },
            Some(_) => Self::Other,
            None => match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                    Self::Ended
                }
                _ => Self::Other,
            },
        }
    }

    /// Whether it may be that the other side knows nothing of TLS.
    pub fn is_no_tls(self) -> bool {
        matches!(self, Self::NoTls | Self::Ended)
    }

    /// What this error of a handshake says, for those who run this side: of a server's certificate that is not trusted,
    /// why.
    pub fn words(error: &io::Error) -> String {
        match of_tls(error) {
            Some(error) if is_an_authoritys(error) => MAY_SIGN.to_owned(),
            Some(Error::InvalidCertificate(reason)) => match reason {
                CertificateError::UnknownIssuer => {
                    "nobody who is trusted has signed its certificate; `ca` says whom to trust".to_owned()
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "its certificate has expired".to_owned()
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "its certificate is not valid yet".to_owned()
                }
                reason => format!("its certificate is not trusted: {reason}"),
            },
            _ => error.to_string(),
        }
    }
}

const MAY_SIGN: &str = "its certificate may sign others, as self-signed ones do: `ca` has to name it";

fn of_tls(error: &io::Error) -> Option<&Error> {
    error.get_ref().and_then(|error| error.downcast_ref())
}

/// Whether all that is wrong with a certificate is that it may sign others. The library looks at that right after its
/// time.
pub(super) fn is_an_authoritys(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(reason))) = error else { return false };
    matches!(reason.downcast_ref::<webpki::Error>(), Some(webpki::Error::CaUsedAsEndEntity))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn why_a_certificate_is_not_trusted_is_told_in_words() {
        let words = |reason: CertificateError| {
            HandshakeFailure::words(&io::Error::new(io::ErrorKind::InvalidData, Error::InvalidCertificate(reason)))
        };
        let of_library = |error: webpki::Error| CertificateError::Other(OtherError(Arc::new(error)));
        assert!(words(CertificateError::UnknownIssuer).starts_with("nobody who is trusted has signed"));
        assert!(words(CertificateError::Expired).ends_with("has expired"));
        assert!(words(of_library(webpki::Error::CaUsedAsEndEntity)).ends_with("`ca` has to name it"));
        assert!(words(of_library(webpki::Error::BadDer)).starts_with("its certificate is not trusted: "));
        assert_eq!(HandshakeFailure::words(&io::Error::other("x")), "x");
    }
}
