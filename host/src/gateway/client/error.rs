//! Why an upstream gave no response.

use std::error::Error;

use slidegate::tls::HandshakeFailure;

/// Why there is no response.
#[derive(Debug, Clone)]
pub(crate) enum ClientError {
    ConnectTimeout,
    Connect(String),
    /// No handshake of TLS.
    Tls(HandshakeFailure, String),
    /// It serves as many requests at a time as it will.
    Busy,
    /// The response's head is larger than the gateway takes.
    TooLarge,
    /// What came back is not HTTP.
    NotHttp(String),
    /// It did not come in time.
    Late,
    /// It did not look at the request, and says so (RFC 9113, section 8.7).
    Refused(String),
    /// It ended the request alone: the connection goes on.
    StreamReset(String),
    /// The connection was lost.
    Reset(String),
}

impl ClientError {
    /// Whether nothing was sent.
    pub(crate) fn is_unsent(&self) -> bool {
        matches!(self, Self::ConnectTimeout | Self::Connect(_) | Self::Tls(..) | Self::Busy)
    }

    /// Whether it tells that the upstream is not well. One that says too much, or that it does not want this request,
    /// at least says something; and a stranger may have asked for just that, or keep it busy.
    pub(crate) fn is_failure(&self) -> bool {
        !matches!(self, Self::Busy | Self::TooLarge | Self::Refused(_) | Self::StreamReset(_))
    }

    /// In words, for those who run the gateway.
    pub(crate) fn cause(&self) -> &str {
        match self {
            Self::ConnectTimeout => "no connection in time",
            Self::Busy => "as many requests at a time as it takes",
            Self::TooLarge => "a head that is too large",
            Self::Late => "no response in time",
            Self::Connect(cause) | Self::Tls(_, cause) | Self::NotHttp(cause) => cause,
            Self::Refused(cause) | Self::StreamReset(cause) | Self::Reset(cause) => cause,
        }
    }
}

/// Why a connection gave no response.
pub(super) fn client_error(error: &hyper::Error) -> ClientError {
    // What breaks the rules of HTTP/2 is refused by the library below; what is too large as well, which it does not
    // tell apart.
    let of_http2 = || chain(error).filter_map(|error| error.downcast_ref::<h2::Error>());
    let breaks_rules = || of_http2().any(h2::Error::is_library);
    match error {
        _ if error.is_parse_too_large() => ClientError::TooLarge,
        _ if error.is_parse() || breaks_rules() => ClientError::NotHttp(causes(error)),
        _ if of_http2().any(|error| error.is_remote() && error.is_reset()) => ClientError::StreamReset(causes(error)),
        _ => ClientError::Reset(causes(error)),
    }
}

/// An error and its causes.
pub(super) fn chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// An error and its causes, in words.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    chain(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
