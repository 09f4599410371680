//! Which route a request takes.

use std::sync::Arc;

use crate::gateway::telemetry::RouteMetrics;
use crate::settings::{HostPattern, PathRules, RouteSettings, Upstream, comparable_host};

/// A route of the file, with what the gateway keeps for it.
pub(crate) struct Route {
    /// What `_match_route_` sees.
    pub(crate) name: String,
    pub(crate) upstream: Upstream,
    pub(crate) metrics: RouteMetrics,
    host: HostPattern,
    /// As the paths of requests are compared.
    path_prefix: Vec<u8>,
}

/// All routes. The closest host wins, then the longest path prefix; the order in the file does not matter.
pub(crate) struct Routes {
    routes: Vec<Arc<Route>>,
    /// What is counted for requests that no route takes.
    pub(crate) unrouted: Arc<RouteMetrics>,
}

impl Routes {
    /// Routes whose prefixes have been read by these rules before.
    pub(crate) fn new(settings: &[RouteSettings], rules: PathRules) -> Self {
        let route = |route: &RouteSettings| {
            let prefix =
                rules.read(&route.path_prefix).map_or_else(|_| route.path_prefix.as_bytes().to_vec(), |read| read.compared.into_owned());
            Arc::new(Route {
                name: route.name.clone(),
                upstream: route.upstream.clone(),
                metrics: RouteMetrics::new(&route.name),
                host: route.host.clone(),
                path_prefix: prefix,
            })
        };
        Self { routes: settings.iter().map(route).collect(), unrouted: Arc::new(RouteMetrics::new("-")) }
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

/// Whole segments are compared: `/orders` takes `/orders` and `/orders/7`, not `/orders2`. `/` takes everything, `*` of OPTIONS included.
fn is_under(path: &[u8], prefix: &[u8]) -> bool {
    if prefix == b"/" {
        return true;
    }
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || prefix.ends_with(b"/") || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(routes: &[(&str, &str)], host: &str, path: &str) -> Option<String> {
        let settings: Vec<RouteSettings> = routes
            .iter()
            .map(|(host, path_prefix)| RouteSettings {
                name: format!("{host}{path_prefix}"),
                host: HostPattern::parse(host).expect("a pattern"),
                path_prefix: (*path_prefix).to_owned(),
                upstream: Upstream::parse("http://127.0.0.1:1").expect("a URL"),
            })
            .collect();
        Routes::new(&settings, PathRules::Off).find(host, path.as_bytes()).map(|route| route.name.clone())
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
