//! What is wrong with what was said of a connection.

use std::{error, fmt};

/// Why a connection cannot be made as it was asked for, by the part that is wrong. Shows neither a URL, which may carry
/// a password, nor what a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionError {
    field: &'static str,
    message: String,
}

impl OptionError {
    pub(crate) fn new(field: &'static str, message: impl Into<String>) -> Self {
        Self { field, message: message.into() }
    }

    /// Which part is wrong: of TLS `ca`, `cert`, `key`, `client_ca` or `server_name`; of a Redis also `url`,
    /// `username`, `password`, `sentinel_username`, `sentinel_password` or `announced`.
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// What is wrong with it, and what was expected.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for OptionError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.field, self.message)
    }
}

impl error::Error for OptionError {}
