//! Where the Redis services are that a configuration calls by name.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use super::connection::{Connection, Target};
use super::{RedisConnection, RedisTransport};
use crate::bindings::exports::slidegate::filter::filter::RedisService;

/// Maps service names to Redis servers.
///
/// A configuration names a service by `service_name` and `service_port`. The first of these that is
/// known decides: an entry for `name:port`, an entry for `name`, the entry for any name, and at
/// last the name itself as a host name. An entry is a URL: `redis://user:password@host:port/database`
/// or `unix:///path?db=1&user=...&pass=...`. What the URL leaves out, credentials and database, comes
/// from the configuration. RESP2 is spoken whatever the URL says; TLS is not supported yet.
#[derive(Clone, Default)]
pub struct RedisDirectory {
    names: HashMap<String, Entry>,
    any: Option<Entry>,
}

#[derive(Clone)]
struct Entry {
    info: ConnectionInfo,
    /// Whether the URL names a database; without, `info` says 0 all the same.
    has_database: bool,
}

impl RedisDirectory {
    /// A directory without entries: every service name is a host name.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry for a name, or for `name:port`. A later one for the same name replaces it.
    ///
    /// # Errors
    ///
    /// If the URL is not one of those above.
    pub fn insert(&mut self, name: impl Into<String>, url: &str) -> Result<(), RedisUrlError> {
        self.names.insert(name.into(), Entry::parse(url)?);
        Ok(())
    }

    /// Sets the entry for every name that has none of its own.
    ///
    /// # Errors
    ///
    /// If the URL is not one of those above.
    pub fn insert_any(&mut self, url: &str) -> Result<(), RedisUrlError> {
        self.any = Some(Entry::parse(url)?);
        Ok(())
    }

    /// Where a service is, for people: address and database, no credentials.
    pub fn address(&self, service: &RedisService) -> String {
        let target = self.resolve(service);
        format!("{}, database {}", target.address, target.database)
    }

    fn resolve(&self, service: &RedisService) -> Target {
        let with_port = format!("{}:{}", service.service_name, service.port);
        let entry = self.names.get(&with_port).or_else(|| self.names.get(&service.service_name)).or(self.any.as_ref());
        let database = i64::from(service.database);
        let Some(Entry { info, has_database }) = entry else {
            return Target {
                address: ConnectionAddr::Tcp(service.service_name.clone(), service.port),
                username: non_empty(&service.username),
                password: non_empty(&service.password),
                database,
            };
        };
        let settings = info.redis_settings();
        let has_credentials = settings.username().is_some() || settings.password().is_some();
        let own = |given: Option<&str>, configured: &str| match has_credentials {
            true => given.map(str::to_owned),
            false => non_empty(configured),
        };
        Target {
            address: info.addr().clone(),
            username: own(settings.username(), &service.username),
            password: own(settings.password(), &service.password),
            database: if *has_database { settings.db() } else { database },
        }
    }
}

impl RedisTransport for RedisDirectory {
    fn open(&self, service: &RedisService) -> Arc<dyn RedisConnection> {
        Arc::new(Connection::new(self.resolve(service), service))
    }
}

impl fmt::Debug for RedisDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = |entry: &Entry| entry.info.addr().to_string();
        let names: HashMap<_, _> = self.names.iter().map(|(name, of)| (name, entry(of))).collect();
        f.debug_struct("RedisDirectory").field("names", &names).field("any", &self.any.as_ref().map(entry)).finish()
    }
}

impl Entry {
    fn parse(url: &str) -> Result<Self, RedisUrlError> {
        let parsed = redis::parse_redis_url(url)
            .ok_or_else(|| RedisUrlError("expected `redis://host:port/database` or `unix:///path`".to_owned()))?;
        let has_database = match parsed.scheme() {
            "unix" | "redis+unix" | "valkey+unix" => parsed.query_pairs().any(|(name, _)| name == "db"),
            _ => !parsed.path().trim_matches('/').is_empty(),
        };
        let info = parsed.into_connection_info().map_err(|error| {
            let reason = error.to_string();
            // The crate puts its own category behind the reason.
            RedisUrlError(reason.split(" - ").next().unwrap_or_default().to_owned())
        })?;
        Ok(Self { info, has_database })
    }
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Why a URL does not lead to a Redis. Never shows the URL, which may carry a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisUrlError(String);

impl fmt::Display for RedisUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a usable Redis URL: {}", self.0)
    }
}

impl std::error::Error for RedisUrlError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> RedisService {
        RedisService {
            service_name: name.to_owned(),
            port: 6379,
            username: "configured".to_owned(),
            password: "secret".to_owned(),
            timeout_ms: 1_000,
            database: 3,
        }
    }

    #[test]
    fn the_closest_entry_decides() {
        let mut directory = RedisDirectory::new();
        assert_eq!(directory.address(&service("a.dns")), "a.dns:6379, database 3");
        directory.insert_any("redis://any:1").unwrap();
        assert_eq!(directory.address(&service("a.dns")), "any:1, database 3");
        directory.insert("a.dns", "redis://named:2/0").unwrap();
        assert_eq!(directory.address(&service("a.dns")), "named:2, database 0");
        directory.insert("a.dns:6379", "redis://ported:3/9").unwrap();
        assert_eq!(directory.address(&service("a.dns")), "ported:3, database 9");
    }

    #[test]
    fn credentials_come_from_the_url_or_from_the_configuration_never_mixed() {
        let mut directory = RedisDirectory::new();
        directory.insert("own", "redis://:p%40ss@host:1").unwrap();
        directory.insert("none", "redis://host:1").unwrap();
        let own = directory.resolve(&service("own"));
        assert_eq!((own.username, own.password.as_deref()), (None, Some("p@ss")));
        let configured = directory.resolve(&service("none"));
        assert_eq!(configured.username.as_deref(), Some("configured"));
        assert_eq!(configured.password.as_deref(), Some("secret"));
    }

    #[test]
    fn unix_sockets_are_addresses_too() {
        let mut directory = RedisDirectory::new();
        directory.insert("local", "unix:///run/redis.sock?db=5").unwrap();
        assert_eq!(directory.address(&service("local")), "/run/redis.sock, database 5");
    }

    #[test]
    fn bad_urls_are_refused_without_showing_them() {
        for url in ["", "http://h", "redis://", "rediss://h:1", "redis://h:1/x", "redis://:hush@h:port"] {
            let error = RedisDirectory::new().insert("a", url).unwrap_err().to_string();
            assert!(error.starts_with("not a usable Redis URL: "), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn debug_output_shows_no_password() {
        let mut directory = RedisDirectory::new();
        directory.insert("a", "redis://:hush@host:1").unwrap();
        assert!(!format!("{directory:?}").contains("hush"));
    }
}
