//! Which of the policies a request meets (higress-abi 6.2).

use alloc::{string::String, vec::Vec};
use core::cell::OnceCell;

use super::{Policy, Ruleset, Scope};
use crate::request::RequestView;

impl Ruleset {
    /// The policy for a request and its position: the first scoped one that matches, else the fallback, whose position
    /// is the number of scoped ones. `None` if nothing applies. A request without a host has an empty one: leaving it
    /// out frees nobody.
    #[inline]
    pub fn policy_for(&self, request: &impl RequestView) -> Option<(usize, &Policy)> {
        // Found out here: a call costs a guest more than to ask.
        if self.scoped.is_empty() { Some((0, self.fallback.as_ref()?)) } else { self.policy_in_place(request) }
    }

    #[inline(never)]
    fn policy_in_place(&self, request: &impl RequestView) -> Option<(usize, &Policy)> {
        let place =
            RequestTarget { request, authority: OnceCell::new(), route: OnceCell::new(), service: OnceCell::new() };
        let scoped = self.scoped.iter().enumerate().find(|(_, (scope, _))| place.is_in(scope));
        match (scoped, &self.fallback) {
            (Some((position, (_, policy))), _) => Some((position, policy)),
            (None, Some(policy)) => Some((self.scoped.len(), policy)),
            (None, None) => None,
        }
    }

    /// All policies, in the order of their positions.
    #[inline]
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.scoped.iter().map(|(_, policy)| policy).chain(&self.fallback)
    }

    /// The policy at a position that [`Ruleset::policy_for`] returned.
    #[inline]
    pub fn policy(&self, position: usize) -> Option<&Policy> {
        self.scoped.get(position).map(|(_, policy)| policy).or(self.fallback.as_ref())
    }
}

/// Where a request is going. What costs a host call is asked for when a scope needs it, and once.
struct RequestTarget<'a, View> {
    request: &'a View,
    authority: OnceCell<Vec<u8>>,
    route: OnceCell<String>,
    service: OnceCell<String>,
}

impl<View: RequestView> RequestTarget<'_, View> {
    #[inline]
    fn is_in(&self, scope: &Scope) -> bool {
        match scope {
            Scope::Route(routes) => self.is_route(routes),
            Scope::RouteAndService(routes, services) => self.is_route(routes) && self.is_service(services),
            Scope::RoutePrefix(prefixes) => prefixes.iter().any(|prefix| self.route().starts_with(prefix)),
            Scope::Domain(domains) => domains.iter().any(|domain| is_domain(self.host(), domain.as_bytes())),
            Scope::Service(services) => self.is_service(services),
        }
    }

    fn host(&self) -> &[u8] {
        host(self.authority.get_or_init(|| self.request.authority().unwrap_or_default()))
    }

    fn is_route(&self, routes: &[String]) -> bool {
        routes.iter().any(|route| route == self.route())
    }

    fn route(&self) -> &str {
        self.route.get_or_init(|| self.request.route_name())
    }

    /// `direction|port|subset|fqdn`; anything else is no service that can be named.
    fn is_service(&self, services: &[String]) -> bool {
        let mut parts = self.service.get_or_init(|| self.request.service_name()).split('|');
        let (Some(_), Some(port), Some(_), Some(fqdn), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        let is_named = |service: &String| {
            service == fqdn || service.rsplit_once(':').is_some_and(|(name, number)| name == fqdn && number == port)
        };
        services.iter().any(is_named)
    }
}

/// The name in an authority: without user, port and the dot that ends a complete name (RFC 1034, section 3.1). None of
/// these leads to another server.
fn host(authority: &[u8]) -> &[u8] {
    let name = authority.rsplit(|byte| *byte == b'@').next().unwrap_or(authority);
    without_dot(without_port(name))
}

fn without_dot(mut name: &[u8]) -> &[u8] {
    while let [shorter @ .., b'.'] = name {
        name = shorter;
    }
    name
}

/// `*x` by suffix, else `x*` by prefix, else exactly. Letter case does not matter, as in host names (RFC 9110, section
/// 4.2.3): a client that writes its host in capitals must not get around a limit.
fn is_domain(host: &[u8], domain: &[u8]) -> bool {
    let is = |part: Option<&[u8]>, wanted: &[u8]| part.is_some_and(|part| part.eq_ignore_ascii_case(wanted));
    match domain {
        [b'*', suffix @ ..] => {
            let suffix = without_dot(suffix);
            is(host.len().checked_sub(suffix.len()).and_then(|at| host.get(at..)), suffix)
        }
        [prefix @ .., b'*'] => is(host.get(..prefix.len()), prefix),
        domain => is(Some(host), without_dot(domain)),
    }
}

/// Up to the last colon, unless that is inside of brackets.
fn without_port(authority: &[u8]) -> &[u8] {
    match authority.iter().rposition(|byte| matches!(byte, b':' | b']')) {
        Some(at) if authority.get(at) == Some(&b':') => authority.get(..at).unwrap_or(authority),
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::samples::{Sample, policy};
    use alloc::{vec, vec::Vec};
    use proptest::prelude::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| String::from(*name)).collect()
    }

    /// The position of the policy for a request of this host, route and service.
    fn position(scopes: Vec<Scope>, fallback: bool, sample: &Sample) -> Option<usize> {
        let ruleset = Ruleset {
            scoped: scopes.into_iter().map(|scope| (scope, policy(Vec::new()))).collect(),
            fallback: fallback.then(|| policy(Vec::new())),
        };
        ruleset.policy_for(sample).map(|(position, _)| position)
    }

    fn sample(authority: &str, route: &str, service: &str) -> Sample {
        Sample { authority: Some(authority.into()), route: route.into(), service: service.into(), ..Sample::default() }
    }

    #[test]
    fn domains() {
        for (host, domain, expected) in [
            ("a.example.com", "a.example.com", true),
            ("a.example.com:8080", "a.example.com", true),
            ("A.example.com", "a.example.com", true),
            ("a.example.com", "*.example.com", true),
            ("a.b.example.com:1", "*.example.com", true),
            ("example.com", "*.example.com", false),
            ("example.com", "*example.com", true),
            ("api.one.test", "api.*", true),
            ("api", "api.*", false),
            ("anything", "*", true),
            ("", "*", true),
            ("", "", true),
            (":80", "", true),
            ("a", "", false),
            ("xa*", "*a*", true),
            ("xay", "*a*", false),
            ("[::1]:80", "[::1]", true),
            ("[::1]", "[::1]", true),
            ("::1", ":", true),
            ("a:", "a", true),
            ("a:b:1", "a:b", true),
            ("api.test.", "api.test", true),
            ("api.test.:80", "api.test", true),
            ("API.test..", "api.test", true),
            ("api.test", "api.test.", true),
            ("a.api.test.", "*.api.test", true),
            ("a.api.test", "*.api.test.", true),
            ("api.test.", "api.*", true),
            ("u:p@api.test:80", "api.test", true),
            ("api.test@other", "api.test", false),
            (".", "", true),
        ] {
            let matched = position(vec![Scope::Domain(names(&["other.test", domain]))], false, &sample(host, "", ""));
            assert_eq!(matched.is_some(), expected, "{host} {domain}");
        }
    }

    #[test]
    fn routes() {
        let request = sample("h", "team/orders", "");
        for (scope, expected) in [
            (Scope::Route(names(&["x", "team/orders"])), true),
            (Scope::Route(names(&["Team/orders"])), false),
            (Scope::Route(names(&["team/"])), false),
            (Scope::Route(names(&[])), false),
            (Scope::RoutePrefix(names(&["x", "team/"])), true),
            (Scope::RoutePrefix(names(&["orders"])), false),
        ] {
            assert_eq!(position(vec![scope], false, &request).is_some(), expected);
        }
    }

    #[test]
    fn services() {
        for (service, name, expected) in [
            ("outbound|80||a.dns", "a.dns", true),
            ("outbound|80||a.dns", "a.dns:80", true),
            ("outbound|80|v1|a.dns", "a.dns:80", true),
            ("outbound|80||a.dns", "a.dns:8080", false),
            ("outbound|80||a.dns", "b.dns", false),
            ("outbound|80||a:b", "a:b", true),
            ("outbound|80|a.dns", "a.dns", false),
            ("outbound|80||a.dns|", "a.dns", false),
            ("a.dns", "a.dns", false),
            ("", "", false),
        ] {
            let matched = position(vec![Scope::Service(names(&["other", name]))], false, &sample("h", "", service));
            assert_eq!(matched.is_some(), expected, "{service} {name}");
        }
        let both = |route: &str| Scope::RouteAndService(names(&[route]), names(&["a.dns"]));
        let request = sample("h", "r", "outbound|80||a.dns");
        assert_eq!(position(vec![both("r")], false, &request), Some(0));
        assert_eq!(position(vec![both("s")], false, &request), None);
        assert_eq!(position(vec![both("r")], false, &sample("h", "r", "outbound|80||b.dns")), None);
    }

    #[test]
    fn the_first_that_matches_then_the_fallback() {
        let scopes = || vec![Scope::Domain(names(&["a"])), Scope::Route(names(&["r"])), Scope::Domain(names(&["*"]))];
        assert_eq!(position(scopes(), true, &sample("a", "r", "")), Some(0));
        assert_eq!(position(scopes(), true, &sample("b", "r", "")), Some(1));
        assert_eq!(position(scopes(), true, &sample("b", "s", "")), Some(2));
        let narrow = || vec![Scope::Domain(names(&["a"]))];
        assert_eq!(position(narrow(), true, &sample("b", "", "")), Some(1));
        assert_eq!(position(narrow(), false, &sample("b", "", "")), None);
        assert_eq!(position(vec![], true, &sample("b", "", "")), Some(0));
        assert_eq!(position(vec![], true, &sample("", "", "")), Some(0));
        assert_eq!(position(vec![], true, &Sample::default()), Some(0), "a request without a host too");
        let route = Sample { route: "r".into(), ..Sample::default() };
        assert_eq!(position(scopes(), false, &route), Some(1));
        assert_eq!(position(narrow(), false, &Sample::default()), None);
    }

    #[test]
    fn the_host_is_asked_once_and_only_when_needed() {
        let request = sample("h", "r", "outbound|80||a.dns");
        let scopes = vec![
            Scope::Route(names(&["x"])),
            Scope::RoutePrefix(names(&["y", "z"])),
            Scope::RouteAndService(names(&["x"]), names(&["a.dns"])),
            Scope::Domain(names(&["h"])),
            Scope::Service(names(&["a.dns"])),
        ];
        assert_eq!(position(scopes, false, &request), Some(3));
        assert_eq!(request.calls(), ["route", "authority"]);
        let other = sample("h", "r", "outbound|80||a.dns");
        assert_eq!(position(vec![Scope::Route(names(&["x"]))], true, &other), Some(1));
        assert_eq!(other.calls(), ["route"]);
    }

    proptest! {
        #[test]
        fn nothing_panics(authority in prop::collection::vec(any::<u8>(), 0..20), domain in ".{0,6}",
            service in r"[|:a]{0,8}") {
            let request = Sample { authority: Some(authority), service: service.clone(), ..Sample::default() };
            position(vec![Scope::Domain(names(&[&domain])), Scope::Service(names(&[&service]))], false, &request);
        }
    }
}
