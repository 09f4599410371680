//! What an operator sets up: clusters, plugins in their order, and the routes. Starting it is a gateway's way of
//! starting: a throw-away instance of every plugin first, whose refusal is everybody's, then one instance for each
//! worker.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    abi::LogLevel,
    headers::Headers,
    module::Module,
    shared::{Metric, Shared},
    stream::Route,
    worker::Worker,
};

/// Chooses a route by the request's headers, as often as the gateway is made to choose anew.
pub type Router = Arc<dyn Fn(&Headers) -> Route + Send + Sync>;

/// Answers what plugins ask by `proxy_http_call`; None is a connection that breaks.
pub type Responder = Arc<dyn Fn(&HttpMessage) -> Option<HttpMessage> + Send + Sync>;

/// A request or a response of a plugin's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpMessage {
    /// Headers, pseudo-headers among them.
    pub headers: Headers,
    /// The whole body.
    pub body: Vec<u8>,
    /// Trailers, or none.
    pub trailers: Headers,
}

/// What happens to streams when a plugin's VM has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FailStrategy {
    /// They are answered 503. The default, as in a `WasmPlugin`.
    #[default]
    Close,
    /// They go on without the plugin.
    Open,
}

/// One plugin of the chain.
#[derive(Debug, Clone)]
pub struct Plugin {
    /// Its name, which logs and the property `plugin_name` carry.
    pub name: String,
    /// Its code.
    pub module: Module,
    /// The document that `proxy_on_configure` reads.
    pub config: Vec<u8>,
    /// Plugins with the same code, VM id and environment live in one VM, as they do in a gateway.
    pub vm_id: String,
    /// The environment, which WASI shows.
    pub environment: Vec<(String, String)>,
    /// What happens when it traps.
    pub fail: FailStrategy,
}

/// A gateway that has accepted its plugins.
#[derive(Clone)]
pub struct Gateway {
    pub(super) plugins: Vec<Plugin>,
    pub(super) directory: Directory,
    pub(super) shared: Shared,
    pub(super) router: Option<Router>,
    pub(super) log_level: LogLevel,
    pub(super) clock_ns: Option<u64>,
}

/// Why a gateway does not start.
#[derive(Debug)]
pub struct StartError {
    /// The plugin at fault.
    pub plugin: String,
    /// What it did.
    pub reason: String,
    /// What was logged until then.
    pub log: Vec<LogLine>,
}

/// A line that a plugin, or its host about it, logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How bad it is.
    pub level: LogLevel,
    /// Whose it is.
    pub plugin: String,
    /// The text.
    pub text: String,
}

/// The clusters, by name. Tests may change them while the gateway runs, as a control plane does.
#[derive(Clone, Default)]
pub(super) struct Directory(Arc<Mutex<BTreeMap<String, Cluster>>>);

#[derive(Clone)]
enum Cluster {
    Redis(RedisCluster),
    Http(Responder),
}

#[derive(Debug, Clone, Default)]
pub(super) struct RedisCluster {
    pub(super) hosts: Vec<SocketAddr>,
    pub(super) connect_timeout: Duration,
}

// === impl Plugin ===

impl Plugin {
    /// A plugin of this code with this document, with all else as a `WasmPlugin` leaves it.
    pub fn new(name: &str, module: &Module, config: impl AsRef<[u8]>) -> Self {
        Plugin {
            name: name.to_owned(),
            module: module.clone(),
            config: config.as_ref().to_vec(),
            vm_id: String::new(),
            environment: Vec::new(),
            fail: FailStrategy::default(),
        }
    }

    /// The same with another way to fail.
    #[must_use]
    pub fn failing(self, fail: FailStrategy) -> Self {
        Plugin { fail, ..self }
    }
}

// === impl Gateway ===

impl Default for Gateway {
    fn default() -> Self {
        Gateway {
            plugins: Vec::new(),
            directory: Directory::default(),
            shared: Shared::default(),
            router: None,
            log_level: LogLevel::Info,
            clock_ns: None,
        }
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("plugins", &self.plugins)
            .field("log_level", &self.log_level)
            .finish_non_exhaustive()
    }
}

impl Gateway {
    /// A gateway without plugins and clusters.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more plugin, after those that are there.
    #[must_use]
    pub fn plugin(mut self, plugin: Plugin) -> Self {
        self.plugins.push(plugin);
        self
    }

    /// With a cluster of Redis servers.
    #[must_use]
    pub fn redis(self, cluster: &str, hosts: &[SocketAddr]) -> Self {
        self.set_redis(cluster, hosts);
        self
    }

    /// With a cluster that answers plugins' HTTP calls.
    #[must_use]
    pub fn http(
        self,
        cluster: &str,
        responder: impl Fn(&HttpMessage) -> Option<HttpMessage> + Send + Sync + 'static,
    ) -> Self {
        self.directory.lock().insert(cluster.to_owned(), Cluster::Http(Arc::new(responder)));
        self
    }

    /// With routes. Without, each request says its own.
    #[must_use]
    pub fn routed(mut self, router: impl Fn(&Headers) -> Route + Send + Sync + 'static) -> Self {
        self.router = Some(Arc::new(router));
        self
    }

    /// With another level of logs than info.
    #[must_use]
    pub fn logging(mut self, level: LogLevel) -> Self {
        self.log_level = level;
        self
    }

    /// With a clock that stands at this many nanoseconds since 1970 from the start, as [`Worker::set_clock_ns`] sets it
    /// later.
    #[must_use]
    pub fn at_ns(mut self, now_ns: u64) -> Self {
        self.clock_ns = Some(now_ns);
        self
    }

    /// Tries all plugins in throw-away VMs, as the main thread does before any worker hears of them.
    ///
    /// # Errors
    ///
    /// The first plugin that does not load, or refuses its configuration.
    pub fn start(self) -> Result<Self, StartError> {
        self.worker()?;
        Ok(self)
    }

    /// A new worker, with VMs of its own.
    ///
    /// # Errors
    ///
    /// As [`Gateway::start`].
    pub fn worker(&self) -> Result<Worker, StartError> {
        Worker::start(self.clone())
    }

    /// Replaces a cluster's hosts; those of all clusters that were never named, for the name `*`. Connections to hosts
    /// that are gone stay until they break.
    pub fn set_redis(&self, cluster: &str, hosts: &[SocketAddr]) {
        let redis = RedisCluster { hosts: hosts.to_vec(), connect_timeout: Duration::from_secs(1) };
        self.directory.lock().insert(cluster.to_owned(), Cluster::Redis(redis));
    }

    /// The value behind a metric, as the admin port would show it: all workers' together.
    pub fn metric(&self, name: &str) -> Option<Metric> {
        self.shared.lock().metrics.get(name).cloned()
    }

    /// The names of all metrics that plugins defined.
    pub fn metrics(&self) -> Vec<String> {
        self.shared.lock().metrics.keys().cloned().collect()
    }
}

// === impl StartError ===

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.plugin, self.reason)?;
        self.log.iter().try_for_each(|line| writeln!(f, "  {:?} {}", line.level, line.text))
    }
}

impl std::error::Error for StartError {}

// === impl Directory ===

impl Directory {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Cluster>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn find(&self, name: &str) -> Option<Cluster> {
        let clusters = self.lock();
        let is_meant = |pattern: &str| pattern.strip_prefix('*').is_some_and(|end| name.ends_with(end));
        clusters
            .get(name)
            .or_else(|| clusters.iter().find(|(pattern, _)| is_meant(pattern)).map(|(_, cluster)| cluster))
            .cloned()
    }

    /// A cluster that speaks something else has no Redis hosts.
    pub(super) fn redis(&self, name: &str) -> Option<RedisCluster> {
        match self.find(name)? {
            Cluster::Redis(redis) => Some(redis),
            Cluster::Http(_) => Some(RedisCluster::default()),
        }
    }

    /// None: unknown. None within: known, and nothing to send HTTP to.
    pub(super) fn http(&self, name: &str) -> Option<Option<Responder>> {
        match self.find(name)? {
            Cluster::Http(responder) => Some(Some(responder)),
            Cluster::Redis(_) => Some(None),
        }
    }

    pub(super) fn hosts(&self, name: &str) -> Vec<SocketAddr> {
        self.redis(name).map(|redis| redis.hosts).unwrap_or_default()
    }
}
