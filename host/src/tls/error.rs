//! Why handshakes fail.

use std::io;

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
        match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidMessage(_)) => Self::NoTls,
            Some(rustls::Error::NoCertificatesPresented) => Self::NoCertificate,
            Some(rustls::Error::InvalidCertificate(_)) => Self::Untrusted,
            Some(rustls::Error::AlertReceived(alert)) => match alert {
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
}
