//! How decisions for other proxies are counted and logged.

use std::sync::Arc;

use crate::gateway::access_log::RouteLabels;
use crate::gateway::telemetry::RouteMetrics;

/// By the protocol in which decisions are asked for: as routes of these names.
pub(crate) struct DecisionLabels {
    pub(crate) http: Arc<RouteLabels>,
    pub(crate) authz: Arc<RouteLabels>,
    pub(crate) rate_limit: Arc<RouteLabels>,
    pub(crate) health: Arc<RouteLabels>,
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
            health: labels("decide-health"),
        }
    }
}
