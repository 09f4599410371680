//! One of the gateway's Redis clients: a cluster with a database.

use std::fmt;

use slidegate_engine::redis::{CallError, Service};

use crate::gateway::{BAD_ARGUMENT, Gateway, INTERNAL_FAILURE, Level, Status};

/// Configuring a client closes its connection, and with it fails what others have on the way, so it is done again at
/// most each so often.
const RENEWAL_PAUSE_NS: u64 = 10_000_000_000;

/// A service as the gateway knows it.
#[derive(Debug)]
pub(super) struct Client {
    service: Service,
    /// The gateway's name for the service.
    cluster: String,
    /// Whether the gateway took its configuration.
    is_configured: bool,
    /// Why the gateway took no command the last time, as logged.
    refusal: Option<Status>,
    renewed_ns: Option<u64>,
    /// When a command last ran out of time.
    timed_out_ns: Option<u64>,
}

impl Client {
    pub(super) fn new(service: &Service) -> Self {
        Client {
            service: service.clone(),
            cluster: format!("outbound|{}||{}", service.port, service.service_name),
            is_configured: false,
            refusal: None,
            renewed_ns: None,
            timed_out_ns: None,
        }
    }

    pub(super) fn is_same(&self, other: &Client) -> bool {
        self.service == other.service
    }

    pub(super) fn is_same_cluster(&self, other: &Client) -> bool {
        self.cluster == other.cluster
    }

    pub(super) fn is_same_database(&self, other: &Client) -> bool {
        self.is_same_cluster(other) && self.service.database == other.service.database
    }

    pub(super) fn timeout_ns(&self) -> u64 {
        u64::from(self.service.timeout_ms) * 1_000_000
    }

    /// Configures the gateway's client. Commands are to be sent at once: held back for others to join them, as the
    /// gateway does by default, each would cost its request up to 3 ms.
    pub(super) fn init(&mut self, gateway: &impl Gateway) -> Result<(), Status> {
        let Service { username, password, timeout_ms, database, .. } = &self.service;
        let database = if *database == 0 { String::new() } else { format!("db={database}&") };
        let options = format!("{}?{database}buffer_flush_timeout=0&max_buffer_size_before_flush=0", self.cluster);
        let result = gateway.redis_init(&options, username, password, *timeout_ms);
        self.is_configured = result.is_ok();
        result
    }

    /// Configures the client again, if that has not just been done.
    pub(super) fn renew(&mut self, gateway: &impl Gateway, now_ns: u64) -> bool {
        if self.renewed_ns.is_some_and(|then_ns| now_ns.saturating_sub(then_ns) < RENEWAL_PAUSE_NS) {
            return false;
        }
        self.renewed_ns = Some(now_ns);
        self.init(gateway).is_ok()
    }

    /// Sends a command. A cluster that was unknown has a client without a configuration when it comes back.
    pub(super) fn call(&mut self, gateway: &impl Gateway, query: &[u8]) -> Result<u32, Status> {
        if !self.is_configured {
            self.init(gateway)?;
        }
        let result = gateway.redis_call(&self.cluster, query);
        self.is_configured = result != Err(BAD_ARGUMENT);
        result
    }

    /// Takes note of whether the gateway takes commands; returns a line when that changed.
    pub(super) fn note(&mut self, refusal: Option<Status>) -> Option<(Level, String)> {
        if self.refusal == refusal {
            return None;
        }
        self.refusal = refusal;
        let cluster = &self.cluster;
        Some(match refusal {
            None => (Level::Info, format!("the gateway takes commands for cluster {cluster} again")),
            Some(BAD_ARGUMENT) => (
                Level::Warn,
                format!("the gateway knows no cluster {cluster}: is there such a service, with this port?"),
            ),
            Some(INTERNAL_FAILURE) => {
                (Level::Warn, format!("cluster {cluster} has no host that the gateway could send to"))
            }
            Some(status) => {
                (Level::Warn, format!("the gateway takes no commands for cluster {cluster} (status {status})"))
            }
        })
    }

    /// Why a command has no reply; the gateway does not say. A command that ran out of time takes with it what was sent
    /// before on the same connection.
    pub(super) fn why_lost(&mut self, sent_ns: u64, now_ns: u64) -> CallError {
        if now_ns.saturating_sub(sent_ns) >= self.timeout_ns() {
            self.timed_out_ns = Some(now_ns);
        }
        if self.timed_out_ns.is_some_and(|then_ns| sent_ns <= then_ns) {
            CallError::Timeout
        } else {
            CallError::Disconnected
        }
    }
}

/// Names the service without its password.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Service { service_name, port, database, username, password, timeout_ms } = &self.service;
        let user = if username.is_empty() { "no user" } else { username };
        let password = if password.is_empty() { "no password" } else { "a password" };
        write!(f, "Redis {service_name}:{port} (database {database}, {user}, {password}, timeout {timeout_ms} ms)")
    }
}
