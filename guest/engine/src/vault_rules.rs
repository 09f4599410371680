//! What a configuration says of a vault for cookies.

use alloc::{string::String, vec::Vec};
use core::fmt;

/// A filter that keeps values of cookies in Redis.
#[derive(Clone)]
pub struct VaultRules {
    /// The names of the cookies.
    pub cookies: Vec<String>,
    /// What ids are made with: the first makes them, any may have made one.
    pub secrets: Vec<String>,
    /// What keys begin with.
    pub key_prefix: String,
    /// How long a value is kept from when it was set, in milliseconds.
    pub keep_ms: u64,
    /// Whether a request passes without a cookie whose value cannot be looked up.
    pub fails_open: bool,
    /// Where, by index.
    pub redis: u32,
}

/// Shows no secret.
impl fmt::Debug for VaultRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VaultRules of {:?}", self.cookies)
    }
}
