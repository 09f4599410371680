//! What somebody says about a Redis: a URL, and what a URL has no room for.

use std::collections::BTreeMap;
use std::fmt;

use super::url::RedisUrl;
use crate::tls::ClientOptions;

/// How a Redis is reached. Made from a URL, and completed field by field.
///
/// | URL | leads to |
/// | --- | --- |
/// | `redis://user:password@host:port/database` | one server |
/// | `unix:///path?db=1&user=...&pass=...` | one server, by its socket |
/// | `redis+sentinel://user:password@host:port,host:port/master/database` | the master that these sentinels know |
/// | `redis+cluster://user:password@host:port,host:port` | the cluster that these nodes belong to |
///
/// `rediss` in place of `redis` means TLS, to sentinels and nodes too. User, password and database
/// are those of the servers. The port of a sentinel is 26379 if not given. RESP2 is spoken whatever the URL says.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RedisAccess {
    /// One of those above.
    pub url: String,
    /// The user, if the URL names none.
    pub username: Option<String>,
    /// The password, if the URL has none.
    pub password: Option<String>,
    /// With TLS: certificates in PEM, one of which has signed the server's. Without, those that the system trusts.
    pub ca: Option<Vec<u8>>,
    /// With TLS: the certificate in PEM that is shown to the server, and those that lead to its root.
    pub certificate: Option<Vec<u8>>,
    /// The key of `certificate`, in PEM.
    pub key: Option<Vec<u8>>,
    /// With TLS: the name that the server's certificate must hold, if that is not the address.
    pub server_name: Option<String>,
    /// With Sentinel: the user that signs in to the sentinels. Without a password nobody does.
    pub sentinel_username: Option<String>,
    /// With Sentinel: the password for the sentinels.
    pub sentinel_password: Option<String>,
    /// With Sentinel or a cluster: addresses that these announce, `host:port` or `host`, and where they really are,
    /// seen from here.
    pub announced: BTreeMap<String, String>,
}

impl RedisAccess {
    /// Whether the URL is one of those above.
    pub fn has_url(&self) -> bool {
        RedisUrl::parse(&self.url).is_ok()
    }

    /// What it says of TLS.
    pub(super) fn tls_options(&self) -> ClientOptions {
        ClientOptions {
            ca: self.ca.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            server_name: self.server_name.clone(),
        }
    }
}

impl From<&str> for RedisAccess {
    fn from(url: &str) -> Self {
        Self { url: url.to_owned(), ..Self::default() }
    }
}

impl From<&String> for RedisAccess {
    fn from(url: &String) -> Self {
        Self::from(url.as_str())
    }
}

impl fmt::Debug for RedisAccess {
    /// Shows none of the texts, as any of them may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisAccess").finish_non_exhaustive()
    }
}
