//! Where the Redis services are that a configuration calls by name.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::access::RedisAccess;
use super::announced::Announced;
use super::cluster::Cluster;
use super::connection::{Connection, ServerChoice};
use super::health::ServiceHealth;
use super::sentinel::Sentinels;
use super::server_access::ServerAccess;
use super::transport::{RedisConnection, RedisTransport};
use super::url::{Address, Identity, RedisUrl, Topology};
use crate::bindings::exports::slidegate::filter::filter::RedisService;
use crate::option_error::OptionError;
use crate::tls::ClientTls;

/// Maps service names to Redis servers.
///
/// A configuration names a service by `service_name` and `service_port`. The first of these that is
/// known decides: an entry for `name:port`, an entry for `name`, the entry for any name, and at
/// last the name itself as a host name. An entry is a [`RedisAccess`], mostly just a URL. What it
/// leaves out, credentials and database, comes from the configuration.
#[derive(Clone, Default)]
pub struct RedisDirectory {
    names: HashMap<String, Entry>,
    any: Option<Entry>,
    /// Of the services that were opened, shared by all who open them here or by a clone.
    healths: Arc<Mutex<Healths>>,
    /// Of a directory before this one, for services that are the same here.
    before: Arc<[KnownService]>,
}

type Healths = Vec<(RedisService, Arc<ServiceHealth>)>;

/// A service, what was said of how it is reached, and its state.
type KnownService = (RedisService, Option<RedisAccess>, Arc<ServiceHealth>);

#[derive(Clone)]
struct Entry {
    /// What it was made of.
    access: RedisAccess,
    url: RedisUrl,
    tls: Option<ClientTls>,
    /// For the sentinels.
    sentinel: Identity,
    announced: Announced,
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
    /// If the URL is none that leads to Redis, or something beside it does not fit.
    ///
    /// ```
    /// use slidegate::{RedisAccess, RedisDirectory};
    ///
    /// let mut directory = RedisDirectory::new();
    /// directory.insert("limits", "redis://127.0.0.1:6379/1")?;
    /// directory.insert("cluster", RedisAccess { password: Some("secret".into()),
    /// ..RedisAccess::from("redis+cluster://10.0.0.1,10.0.0.2") })?;
    /// assert_eq!(directory.insert("typo", "radis://127.0.0.1").unwrap_err().field(), "url");
    /// # Ok::<(), slidegate::OptionError>(())
    /// ```
    pub fn insert(&mut self, name: impl Into<String>, access: impl Into<RedisAccess>) -> Result<(), OptionError> {
        self.names.insert(name.into(), Entry::new(&access.into())?);
        Ok(())
    }

    /// Sets the entry for every name that has none of its own.
    ///
    /// # Errors
    ///
    /// As [`RedisDirectory::insert`].
    pub fn insert_any(&mut self, access: impl Into<RedisAccess>) -> Result<(), OptionError> {
        self.any = Some(Entry::new(&access.into())?);
        Ok(())
    }

    /// Goes on with what is known in `before` of services that are the same here, reached as before: the log is told
    /// only of what changes, though this is a new directory. To be called before anything is opened.
    #[must_use]
    pub fn after(mut self, before: &RedisDirectory) -> Self {
        let healths = before.healths.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |(service, health): &(RedisService, Arc<ServiceHealth>)| {
            (service.clone(), before.access(service), Arc::clone(health))
        };
        self.before = healths.iter().map(known).collect();
        self
    }

    /// Whether each entry that is secured in one of them is so in both, and trusts the same authorities. Those of the
    /// system may have changed since one of them was made.
    pub fn trusts_as(&self, other: &Self) -> bool {
        fn tls(entry: Option<&Entry>) -> Option<&ClientTls> {
            entry?.tls.as_ref()
        }
        let is_same = |one: Option<&Entry>, other: Option<&Entry>| match (tls(one), tls(other)) {
            (Some(one), Some(other)) => one.trusts_as(other),
            (one, other) => one.is_none() && other.is_none(),
        };
        let names: BTreeSet<&String> = self.names.keys().chain(other.names.keys()).collect();
        is_same(self.any.as_ref(), other.any.as_ref())
            && names.into_iter().all(|name| is_same(self.names.get(name), other.names.get(name)))
    }

    /// Where a service is, for people: address and database, no credentials.
    pub fn address(&self, service: &RedisService) -> String {
        let entry = self.resolve(service);
        let with_tls = if entry.tls.is_some() { " with TLS" } else { "" };
        format!("{}{with_tls}, database {}", entry.url.topology, entry.url.database.unwrap_or_default())
    }

    /// What its configuration says of a service and its URL says differently, in which the URL wins. Shows no
    /// credentials.
    ///
    /// # Errors
    ///
    /// What the two cannot both be.
    pub fn overruled(&self, service: &RedisService) -> Result<Vec<String>, String> {
        let Some(entry) = self.entry(service) else { return Ok(Vec::new()) };
        let (url, name) = (&entry.url, format!("{}:{}", service.service_name, service.port));
        if matches!(url.topology, Topology::Cluster(_)) && url.database.is_none() && service.database != 0 {
            return Err(format!(
                "Redis {name} is a cluster, which has only database 0; expected no `database`, got {}",
                service.database
            ));
        }
        let mut overruled = Vec::new();
        if let Some(database) =
            url.database.filter(|database| service.database != 0 && *database != i64::from(service.database))
        {
            overruled.push(format!(
                "Redis {name}: the database is {database}, as its URL says, not {} of the filter's `redis`",
                service.database
            ));
        }
        let is_given = !service.username.is_empty() || !service.password.is_empty();
        let of_service = Identity { username: non_empty(&service.username), password: non_empty(&service.password) };
        if is_given && !url.identity.is_empty() && url.identity != of_service {
            overruled.push(format!(
                "Redis {name}: user and password are those of its entry, not those of the filter's `redis`"
            ));
        }
        Ok(overruled)
    }

    /// The entry that stands for a service; none for a host name.
    fn entry(&self, service: &RedisService) -> Option<&Entry> {
        let with_port = format!("{}:{}", service.service_name, service.port);
        self.names.get(&with_port).or_else(|| self.names.get(&service.service_name)).or(self.any.as_ref())
    }

    /// What was said of how a service is reached.
    fn access(&self, service: &RedisService) -> Option<RedisAccess> {
        self.entry(service).map(|entry| entry.access.clone())
    }

    /// The entry of a service, completed by what its configuration says.
    fn resolve(&self, service: &RedisService) -> Entry {
        let mut entry =
            self.entry(service).cloned().unwrap_or_else(|| Entry::of_host(&service.service_name, service.port));
        let url = &mut entry.url;
        if url.identity.is_empty() {
            url.identity = Identity { username: non_empty(&service.username), password: non_empty(&service.password) };
        }
        url.database = url.database.or(Some(i64::from(service.database)));
        entry
    }
}

impl RedisTransport for RedisDirectory {
    fn open(&self, service: &RedisService) -> Arc<dyn RedisConnection> {
        self.open_with(service, self.health(service))
    }
}

impl RedisDirectory {
    /// A connection that reports to this.
    pub(super) fn open_with(&self, service: &RedisService, health: Arc<ServiceHealth>) -> Arc<dyn RedisConnection> {
        let timeout = Duration::from_millis(u64::from(service.timeout_ms));
        let entry = self.resolve(service);
        match entry.url.topology.clone() {
            Topology::Server(address) => {
                Arc::new(Connection::new(ServerChoice::Fixed(entry.server_access(address)), health, timeout))
            }
            Topology::Sentinel { sentinels, master } => {
                Arc::new(Connection::new(ServerChoice::Master(entry.sentinels(sentinels, master)), health, timeout))
            }
            Topology::Cluster(seeds) => Arc::new(Cluster::new(
                seeds,
                entry.server_access(Address::nowhere()),
                entry.announced.clone(),
                health,
                timeout,
            )),
        }
    }

    /// The state of a service, one for all who use it.
    pub(super) fn health(&self, service: &RedisService) -> Arc<ServiceHealth> {
        let mut healths = self.healths.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, health)) = healths.iter().find(|(known, _)| is_same(known, service)) {
            return Arc::clone(health);
        }
        let access = self.access(service);
        let before = self.before.iter().find(|(known, reached_by, _)| is_same(known, service) && *reached_by == access);
        let health = match before {
            Some((_, _, health)) => Arc::clone(health),
            None => Arc::new(ServiceHealth::new(service.service_name.clone(), service.port, self.address(service))),
        };
        healths.push((service.clone(), Arc::clone(&health)));
        health
    }

    /// A state of a service for a single question.
    pub(super) fn silent_health(&self, service: &RedisService) -> ServiceHealth {
        ServiceHealth::silent(service.service_name.clone(), service.port, self.address(service))
    }

    /// Whether connections to the service are secured.
    pub(super) fn has_tls(&self, service: &RedisService) -> bool {
        self.resolve(service).tls.is_some()
    }

    /// Whether the service is used as a cluster.
    pub(super) fn is_cluster(&self, service: &RedisService) -> bool {
        matches!(self.resolve(service).url.topology, Topology::Cluster(_))
    }
}

/// Whether two services are one, but for the time that an answer may take.
pub(super) fn is_same(one: &RedisService, other: &RedisService) -> bool {
    RedisService { timeout_ms: other.timeout_ms, ..one.clone() } == *other
}

impl fmt::Debug for RedisDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = |entry: &Entry| entry.url.topology.to_string();
        let names: HashMap<_, _> = self.names.iter().map(|(name, of)| (name, entry(of))).collect();
        f.debug_struct("RedisDirectory").field("names", &names).field("any", &self.any.as_ref().map(entry)).finish()
    }
}

impl Entry {
    fn new(access: &RedisAccess) -> Result<Self, OptionError> {
        let mut url = RedisUrl::parse(&access.url)
            .map_err(|reason| OptionError::new("url", format!("not a usable Redis URL: {reason}")))?;
        let Identity { username, password } = &mut url.identity;
        for (field, of_url, given) in
            [("username", username, &access.username), ("password", password, &access.password)]
        {
            if of_url.is_some() && given.is_some() {
                return Err(OptionError::new(field, "expected only with a URL that has none"));
            }
            *of_url = of_url.take().or_else(|| given.clone());
        }
        if !url.has_tls {
            let given = [
                ("ca", access.ca.is_some()),
                ("cert", access.certificate.is_some()),
                ("key", access.key.is_some()),
                ("server_name", access.server_name.is_some()),
            ];
            if let Some((field, _)) = given.into_iter().find(|(_, is_given)| *is_given) {
                return Err(OptionError::new(
                    field,
                    "expected only with a URL that says TLS, such as `rediss://host:port`",
                ));
            }
        }
        let sentinel =
            Identity { username: access.sentinel_username.clone(), password: access.sentinel_password.clone() };
        if !matches!(url.topology, Topology::Sentinel { .. }) && !sentinel.is_empty() {
            let field = if sentinel.username.is_some() { "sentinel_username" } else { "sentinel_password" };
            return Err(OptionError::new(
                field,
                "expected only with a URL that names sentinels, `redis+sentinel://host:port/master`",
            ));
        }
        if sentinel.username.is_some() && sentinel.password.is_none() {
            return Err(OptionError::new("sentinel_password", "missing; expected the password of `sentinel_username`"));
        }
        let tls = url.has_tls.then(|| ClientTls::new(&access.tls_options())).transpose()?;
        if matches!(url.topology, Topology::Server(_)) && !access.announced.is_empty() {
            return Err(OptionError::new(
                "announced",
                "expected only with a URL that names sentinels or nodes of a cluster",
            ));
        }
        let announced = Announced::read(&access.announced).map_err(|reason| OptionError::new("announced", reason))?;
        Ok(Self { access: access.clone(), url, tls, sentinel, announced })
    }

    /// A name that is a host name.
    fn of_host(host: &str, port: u16) -> Self {
        let topology = Topology::Server(Address::Tcp(host.to_owned(), port));
        let url = RedisUrl { topology, has_tls: false, identity: Identity::default(), database: None };
        Self {
            access: RedisAccess::default(),
            url,
            tls: None,
            sentinel: Identity::default(),
            announced: Announced::default(),
        }
    }

    fn server_access(&self, address: Address) -> ServerAccess {
        let RedisUrl { identity, database, .. } = &self.url;
        ServerAccess {
            address,
            tls: self.tls.clone(),
            identity: identity.clone(),
            database: database.unwrap_or_default(),
        }
    }

    fn sentinels(&self, addresses: Vec<Address>, master: String) -> Sentinels {
        let sentinel =
            |address| ServerAccess { address, tls: self.tls.clone(), identity: self.sentinel.clone(), database: 0 };
        Sentinels {
            sentinels: addresses.into_iter().map(sentinel).collect(),
            master,
            access: self.server_access(Address::nowhere()),
            announced: self.announced.clone(),
        }
    }
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
