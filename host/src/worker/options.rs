//! What a worker may be told.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::instance::InstanceLimits;
use crate::redis::{RedisDirectory, RedisTransport};

/// A clock in nanoseconds that never runs backwards.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What a [`Worker`](crate::Worker) may be told beyond its configuration.
#[derive(Clone)]
pub struct WorkerOptions {
    /// Where Redis services are. By default every service name is a host name.
    pub redis: Arc<dyn RedisTransport>,
    /// What the instance may use.
    pub limits: InstanceLimits,
    /// The clock of windows kept inside the instance. By default the machine's monotonic clock.
    pub clock: Clock,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        let start = Instant::now();
        Self {
            redis: Arc::new(RedisDirectory::new()),
            limits: InstanceLimits::default(),
            clock: Arc::new(move || u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)),
        }
    }
}

impl WorkerOptions {
    /// The same options with another way to Redis.
    #[must_use]
    pub fn with_redis(mut self, redis: impl RedisTransport) -> Self {
        self.redis = Arc::new(redis);
        self
    }
}

impl fmt::Debug for WorkerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerOptions").field("limits", &self.limits).finish_non_exhaustive()
    }
}
