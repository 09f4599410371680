//! Where in a request a session is.

use alloc::string::String;

/// Where a request has its session's id, or the whole session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionSource {
    /// In the cookie of this name.
    Cookie(String),
    /// In the header of this name, in lower case.
    Header(String),
}
