//! A mistake.

use alloc::{format, string::String};
use core::fmt;

/// How the message begins that is about a name which nobody reads.
pub(crate) const UNKNOWN: &str = "there is no such field here";
/// The message about a name that an object has twice.
pub(crate) const REPEATED: &str = "this field is there twice";

/// What a number of mistakes that are not told stands between.
const COUNT: (&str, &str) = ("and ", " more mistakes");

/// One mistake in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where, as in `rule_items[0].limit_keys[2].key`; empty for the whole document.
    pub path: String,
    /// What was seen and what was expected.
    pub message: String,
}

impl ConfigError {
    /// That there are so many more than are told.
    pub(crate) fn count(more: usize) -> ConfigError {
        ConfigError { path: String::new(), message: format!("{}{more}{}", COUNT.0, COUNT.1) }
    }

    /// Whether a message says only how many more mistakes there are: it is about nothing in the document.
    pub fn is_count(message: &str) -> bool {
        let more = message.strip_prefix(COUNT.0).and_then(|rest| rest.strip_suffix(COUNT.1));
        more.is_some_and(|more| !more.is_empty() && more.bytes().all(|byte| byte.is_ascii_digit()))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}: {}", self.path, self.message)
    }
}
