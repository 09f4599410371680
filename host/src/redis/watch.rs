//! Asks each service every so often how it is, so that what is told of it is true without traffic too.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::directory::{RedisDirectory, is_same};
use super::health::{RedisState, RedisStatus, ServiceHealth};
use super::server::RedisServer;
use crate::bindings::exports::slidegate::filter::filter::RedisService;

/// Between two questions to one that answers, and to one that does not.
const WHILE_UP: Duration = Duration::from_secs(2);
const WHILE_DOWN: Duration = Duration::from_millis(500);

/// How long an answer may take at least, in milliseconds: longer than an attempt to connect.
const PATIENCE_MS: u32 = 1_200;

/// Knows how the services of a configuration are doing; ends asking them when dropped.
pub struct RedisWatch {
    watched: Vec<(Arc<ServiceHealth>, AbortHandle)>,
}

impl RedisWatch {
    /// How each of the services is doing.
    pub fn statuses(&self) -> Vec<RedisStatus> {
        self.watched.iter().map(|(health, _)| health.status()).collect()
    }
}

impl Drop for RedisWatch {
    fn drop(&mut self) {
        self.watched.iter().for_each(|(_, asking)| asking.abort());
    }
}

impl fmt::Debug for RedisWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisWatch").field("statuses", &self.statuses()).finish()
    }
}

impl RedisDirectory {
    /// Connects to each of these services at once, on a connection of its own, asks it every two seconds how it is
    /// (twice a second while it is not well), and tells the log what became of it, and what there is about it that
    /// spoils limits.
    ///
    /// ```
    /// use slidegate::{RedisDirectory, RedisService, RedisState};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let service = RedisService {
    ///     service_name: "127.0.0.1".to_owned(),
    ///     port: 1,
    ///     username: String::new(),
    ///     password: String::new(),
    ///     timeout_ms: 100,
    ///     database: 0,
    /// };
    /// let watch = RedisDirectory::new().watch(&[service], &tokio::runtime::Handle::current());
    /// assert_ne!(watch.statuses()[0].state, RedisState::Up, "nobody has answered");
    /// # }
    /// ```
    pub fn watch(&self, services: &[RedisService], runtime: &Handle) -> RedisWatch {
        let is_first = |(index, service): &(usize, &RedisService)| {
            !services.iter().take(*index).any(|other| is_same(other, service))
        };
        let watch = |(_, service): (usize, &RedisService)| {
            let health = self.health(service);
            let asking = runtime.spawn(ask_for_ever(self.clone(), service.clone(), Arc::clone(&health)));
            (health, asking.abort_handle())
        };
        RedisWatch { watched: services.iter().enumerate().filter(is_first).map(watch).collect() }
    }

    /// Connects to a service, signs in, and asks it what it is. To be awaited inside a Tokio runtime.
    ///
    /// # Errors
    ///
    /// Why it cannot be used, in one line without credentials.
    pub async fn ask(&self, service: &RedisService) -> Result<RedisServer, String> {
        let health = Arc::new(self.silent_health(service));
        let connection = self.open_with(&patient(service), Arc::clone(&health));
        let asked = RedisServer::ask(&*connection, true, self.is_cluster(service)).await;
        match (asked, health.state()) {
            // Why there is no connection is known better by whoever tried to make it.
            (Err(_), RedisState::Down(cause)) => Err(cause),
            (Err(refused), _) => Err(refused.told(self.has_tls(service))),
            (Ok(server), _) => server.usable(),
        }
    }
}

/// The service, with time enough to learn why there is no connection.
fn patient(service: &RedisService) -> RedisService {
    RedisService { timeout_ms: service.timeout_ms.max(PATIENCE_MS), ..service.clone() }
}

async fn ask_for_ever(directory: RedisDirectory, service: RedisService, health: Arc<ServiceHealth>) {
    let service = patient(&service);
    let (has_tls, is_cluster) = (directory.has_tls(&service), directory.is_cluster(&service));
    let mut may_ask = true;
    let mut connection = directory.open_with(&service, Arc::clone(&health));
    loop {
        let asked = RedisServer::ask(&*connection, may_ask, is_cluster).await;
        if let Ok(server) = &asked {
            // Each refusal would be a line in Redis' own log of them.
            may_ask &= server.is_known();
            health.warn(server.warnings());
        }
        let answer = asked.map_err(|refused| refused.told(has_tls)).and_then(RedisServer::usable);
        if answer.is_err() {
            // Whoever has its address next is to be asked.
            connection = directory.open_with(&service, Arc::clone(&health));
        }
        health.asked(answer.map(|server| server.name().map(|name| format!(", {name}")).unwrap_or_default()));
        tokio::time::sleep(if health.state() == RedisState::Up { WHILE_UP } else { WHILE_DOWN }).await;
    }
}
