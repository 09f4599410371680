//! How decisions for other proxies are counted and logged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::gateway::access_log::RouteLabels;
use crate::gateway::telemetry::RouteMetrics;

/// By the protocol in which decisions are asked for: as routes of these names.
pub(crate) struct DecisionLabels {
    pub(crate) http: Arc<RouteLabels>,
    pub(crate) authz: Arc<RouteLabels>,
    pub(crate) rate_limit: Arc<RouteLabels>,
    pub(crate) process: Arc<RouteLabels>,
    pub(crate) health: Arc<RouteLabels>,
    /// It was told that somebody asks in a way that does not show what is needed.
    is_blindness_told: AtomicBool,
}

impl DecisionLabels {
    pub(crate) fn new() -> Self {
        let labels = |name: &str| {
            Arc::new(RouteLabels { name: name.to_owned(), metrics: RouteMetrics::new(name), upstream: None })
        };
        Self {
            http: labels("decide-http"),
            authz: labels("decide-ext_authz"),
            rate_limit: labels("decide-ratelimit"),
            process: labels("decide-ext_proc"),
            health: labels("decide-health"),
            is_blindness_told: AtomicBool::new(false),
        }
    }

    /// Tells whoever looks after the gateway, once, that somebody asks in a way that does not show what is needed.
    pub(crate) fn tell_blindness(&self, reason: &str) {
        if !self.is_blindness_told.swap(true, Ordering::Relaxed) {
            tracing::warn!("{reason}; whoever asks otherwise at `decide` is refused (told once)");
        }
    }
}
