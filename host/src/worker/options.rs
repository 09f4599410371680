//! What a worker may be told.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::bindings::slidegate::filter::types::Moment;
use crate::instance::InstanceLimits;
use crate::redis::{RedisDirectory, RedisTransport};

/// Two clocks in one: one that never runs backwards, and that of the wall.
pub type Clock = Arc<dyn Fn() -> Moment + Send + Sync>;

/// What a [`Worker`](crate::Worker) may be told beyond its configuration.
#[derive(Clone)]
pub struct WorkerOptions {
    /// Where Redis services are. By default every service name is a host name.
    pub redis: Arc<dyn RedisTransport>,
    /// What the instance may use.
    pub limits: InstanceLimits,
    /// The clock of windows kept inside the instance. By default the machine's.
    pub clock: Clock,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        let start = Instant::now();
        Self {
            redis: Arc::new(RedisDirectory::new()),
            limits: InstanceLimits::default(),
            clock: Arc::new(move || Moment { monotonic: nanoseconds(start.elapsed()), wall: wall() }),
        }
    }
}

/// Of a clock that stands before 1970, nothing is known.
fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanoseconds)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
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
