//! A mistake.

use alloc::string::String;
use core::fmt;

/// How the message begins that is about a name which nobody reads.
pub(crate) const UNKNOWN: &str = "there is no such field here";
/// The message about a name that an object has twice.
pub(crate) const REPEATED: &str = "this field is there twice";

/// One mistake in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where, as in `rule_items[0].limit_keys[2].key`; empty for the whole document.
    pub path: String,
    /// What was seen and what was expected.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}: {}", self.path, self.message)
    }
}
