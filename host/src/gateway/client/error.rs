//! Why an upstream gave no response.

use std::error::Error;

/// Why there is no response.
#[derive(Debug, Clone)]
pub(crate) enum ClientError {
    ConnectTimeout,
    Connect(String),
    /// The response's head is larger than the gateway takes.
    TooLarge,
    /// What came back is not HTTP.
    NotHttp(String),
    /// The connection was lost.
    Reset(String),
}

/// Why a connection gave no response.
pub(super) fn client_error(error: &hyper::Error) -> ClientError {
    // What breaks the rules of HTTP/2 is refused by the library below; what is too large as well, which it does not tell apart.
    let breaks_rules = || chain(error).filter_map(|error| error.downcast_ref::<h2::Error>()).any(h2::Error::is_library);
    match error {
        _ if error.is_parse_too_large() => ClientError::TooLarge,
        _ if error.is_parse() || breaks_rules() => ClientError::NotHttp(causes(error)),
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
