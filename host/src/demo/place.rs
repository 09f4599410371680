//! Where a demo is.

use std::net::SocketAddr;

use crate::settings::secret::url_shown;

/// The name that a demo's filter calls its Redis by.
pub(super) const REDIS_SERVICE: &str = "redis.demo";

/// Where a demo is, as its guide says it.
pub(super) struct DemoPlace {
    /// The gateway's URL.
    pub(super) url: String,
    /// The admin port's URL.
    pub(super) admin: String,
    /// Its Redis, as it may be shown; empty if it has none.
    pub(super) redis: String,
    /// A sentence about where windows are counted.
    pub(super) counts: String,
}

impl DemoPlace {
    pub(super) fn new(listen: SocketAddr, admin: Option<SocketAddr>, redis: Option<&str>) -> Self {
        let counts = match redis {
            Some(redis) => format!("Windows are counted in {}.", url_shown(redis)),
            None => "Windows are counted in this process; with `--redis redis://127.0.0.1:6379` in Redis.".to_owned(),
        };
        let admin = admin.map(|admin| format!("http://{admin}")).unwrap_or_default();
        let redis = redis.map(url_shown).unwrap_or_default();
        DemoPlace { url: format!("http://{listen}"), admin, redis, counts }
    }
}
