//! Which route a request takes.

use std::sync::Arc;

use crate::gateway::access_log::RouteLabels;
use crate::gateway::client::{Endpoint, Pool};
use crate::gateway::telemetry::RouteMetrics;
use crate::settings::{HostPattern, PathRules, RouteSettings, Upstream, comparable_host};

/// A route of the file, with what the gateway keeps for it.
pub(crate) struct Route {
    /// Its name is what `_match_route_` sees.
    pub(crate) labels: Arc<RouteLabels>,
    pub(crate) pool: Pool,
    /// What `_match_service_` sees.
    pub(crate) service_name: String,
    host: HostPattern,
    /// As the paths of requests are compared.
    path_prefix: Vec<u8>,
}

/// All routes. The closest host wins, then the longest path prefix; the order in the file does not matter.
pub(crate) struct Routes {
    routes: Vec<Arc<Route>>,
    /// What is counted for requests that no route takes.
    pub(crate) unrouted: Arc<RouteLabels>,
}

impl Routes {
    /// Routes whose prefixes have been read by these rules before. `endpoint` finds, or makes, that of an upstream.
    pub(crate) fn new(
        settings: &[RouteSettings],
        rules: PathRules,
        mut endpoint: impl FnMut(&Upstream) -> Arc<Endpoint>,
    ) -> Self {
        let mut route = |route: &RouteSettings| {
            let prefix = rules
                .read(&route.path_prefix)
                .map_or_else(|_| route.path_prefix.as_bytes().to_vec(), |read| read.compared.into_owned());
            let pool = Pool::new(route.upstreams.iter().map(&mut endpoint).collect());
            let upstream = pool.only().map(|only| only.upstream.authority.clone());
            Arc::new(Route {
                labels: Arc::new(RouteLabels {
                    name: route.name.clone(),
                    metrics: RouteMetrics::new(&route.name),
                    upstream,
                }),
                pool,
                service_name: route.service_name().to_owned(),
                host: route.host.clone(),
                path_prefix: prefix,
            })
        };
        Self {
            routes: settings.iter().map(&mut route).collect(),
            unrouted: Arc::new(RouteLabels { name: String::new(), metrics: RouteMetrics::new("-"), upstream: None }),
        }
    }

    /// The upstreams of all routes.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.routes.iter().flat_map(|route| route.pool.endpoints())
    }

    /// The route for a host (without port, in any of its spellings) and a path (without query, as it is compared).
    pub(crate) fn find(&self, host: &str, path: &[u8]) -> Option<&Arc<Route>> {
        let host = comparable_host(host);
        let mut best = None;
        for route in &self.routes {
            let Some(closeness) = route.host.closeness(&host).filter(|_| is_under(path, &route.path_prefix)) else {
                continue;
            };
            let rank = (closeness, route.path_prefix.len());
            if best.is_none_or(|(best_rank, _)| rank > best_rank) {
                best = Some((rank, route));
            }
        }
        best.map(|(_, route)| route)
    }
}

/// Whole segments are compared: `/orders` takes `/orders` and `/orders/7`, not `/orders2`. `/` takes everything, `*` of
/// OPTIONS included.
fn is_under(path: &[u8], prefix: &[u8]) -> bool {
    if prefix == b"/" {
        return true;
    }
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || prefix.ends_with(b"/") || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Timeouts;

    fn found(routes: &[(&str, &str)], host: &str, path: &str) -> Option<String> {
        let settings: Vec<RouteSettings> = routes
            .iter()
            .map(|(host, path_prefix)| RouteSettings {
                name: format!("{host}{path_prefix}"),
                host: HostPattern::parse(host).expect("a pattern"),
                path_prefix: (*path_prefix).to_owned(),
                upstreams: vec![Upstream::parse("http://127.0.0.1:1").expect("a URL")],
            })
            .collect();
        let endpoint = |upstream: &Upstream| Arc::new(Endpoint::new(upstream, &Timeouts::default(), 1));
        Routes::new(&settings, PathRules::Off, endpoint)
            .find(host, path.as_bytes())
            .map(|route| route.labels.name.clone())
    }

    #[test]
    fn host_counts_before_path() {
        let routes = [("*", "/orders/long"), ("*.example.com", "/"), ("a.example.com", "/orders"), ("*", "/orders")];
        let name = |host, path| found(&routes, host, path);
        assert_eq!(name("A.example.com", "/orders/long").as_deref(), Some("a.example.com/orders"));
        assert_eq!(name("a.example.com", "/else").as_deref(), Some("*.example.com/"));
        assert_eq!(name("b.test", "/orders/long/1").as_deref(), Some("*/orders/long"));
        assert_eq!(name("b.test", "/orders/longer").as_deref(), Some("*/orders"));
        assert_eq!(name("b.test", "/"), None);
    }

    #[test]
    fn prefixes_end_at_segments() {
        let is_under = |path: &str, prefix: &str| super::is_under(path.as_bytes(), prefix.as_bytes());
        assert!(is_under("/orders", "/orders") && is_under("/orders/", "/orders") && is_under("*", "/"));
        assert!(!is_under("/orders2", "/orders") && !is_under("/order", "/orders"));
        assert!(is_under("/orders/x", "/orders/") && !is_under("/orders", "/orders/"));
    }
}
