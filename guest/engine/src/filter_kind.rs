//! The kinds of filters there are.

/// The kinds of filters there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterKind {
    /// Limits.
    Limiter,
    /// Whose session a request is of.
    Session,
    /// Values of cookies.
    CookieVault,
    /// Responses.
    Cache,
}
