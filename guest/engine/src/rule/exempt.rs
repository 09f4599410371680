//! Requests that a policy does not limit: health checks, preflights, trusted addresses.

use alloc::{string::String, vec::Vec};

use ipnet::IpNet;

use crate::{
    ip_set::IpSet,
    request::{self, RequestView},
};

/// Any value of a header will do.
const ANY: &str = "*";

/// `exempt`: what a request must have one of.
#[derive(Debug, Default)]
pub struct Exempt {
    /// Names of routes.
    pub routes: Vec<String>,
    /// Methods, in capitals as they are sent.
    pub methods: Vec<String>,
    /// Addresses of peers. No header is believed here.
    pub networks: Vec<IpNet>,
    /// Names of headers in lower case, each with the values that will do; `*` is any.
    pub headers: Vec<(String, Vec<String>)>,
    /// The networks, arranged for finding.
    set: IpSet,
}

impl Exempt {
    /// What a request must have one of.
    pub fn new(
        routes: Vec<String>,
        methods: Vec<String>,
        networks: Vec<IpNet>,
        headers: Vec<(String, Vec<String>)>,
    ) -> Exempt {
        Exempt { set: IpSet::new(networks.iter().copied()), routes, methods, networks, headers }
    }

    /// Whether no request is.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.methods.is_empty() && self.networks.is_empty() && self.headers.is_empty()
    }

    /// Whether this request is. Asks only for what is configured.
    #[inline]
    pub(crate) fn holds(&self, request: &impl RequestView) -> bool {
        self.holds_method(request)
            || self.holds_route(request)
            || self.holds_peer(request)
            || self.holds_header(request)
    }

    fn holds_method(&self, request: &impl RequestView) -> bool {
        !self.methods.is_empty()
            && request
                .header(":method")
                .is_some_and(|method| self.methods.iter().any(|known| known.as_bytes() == method))
    }

    fn holds_route(&self, request: &impl RequestView) -> bool {
        !self.routes.is_empty() && self.routes.contains(&request.route_name())
    }

    fn holds_peer(&self, request: &impl RequestView) -> bool {
        let peer = || request::address(request.source_address()?.as_bytes());
        !self.networks.is_empty() && peer().is_some_and(|peer| self.set.first_match(peer).is_some())
    }

    /// Several fields of one name are one too many: which of them a server goes by is not known.
    fn holds_header(&self, request: &impl RequestView) -> bool {
        let has = |(name, values): &(String, Vec<String>)| match request.header_values(name).as_slice() {
            [value] => values.iter().any(|known| known == ANY || known.as_bytes() == request::trim(value)),
            _ => false,
        };
        self.headers.iter().any(has)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::rule::samples::Sample;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| String::from(*text)).collect()
    }

    #[test]
    fn any_of_the_conditions_will_do() {
        let headers = vec![(String::from("x-probe"), texts(&["a", "b"])), (String::from("x-any"), texts(&["*"]))];
        let exempt = Exempt::new(texts(&["health"]), texts(&["OPTIONS"]), vec!["10.0.0.0/8".parse().unwrap()], headers);
        let with = |name, value: &str| Sample { headers: vec![(name, value.into())], ..Sample::default() };
        for (request, expected) in [
            (Sample { route: "health".into(), ..Sample::default() }, true),
            (Sample { route: "healthy".into(), ..Sample::default() }, false),
            (with(":method", "OPTIONS"), true),
            (with(":method", "options"), false),
            (Sample { source: Some("10.1.2.3:4"), ..Sample::default() }, true),
            (Sample { source: Some("[::ffff:10.1.2.3]:4"), ..Sample::default() }, true),
            (Sample { source: Some("11.1.2.3:4"), ..Sample::default() }, false),
            (with("x-forwarded-for", "10.1.2.3"), false),
            (with("x-probe", "b"), true),
            (with("x-probe", " a "), true),
            (with("x-probe", "c"), false),
            (with("x-any", ""), true),
            (
                Sample { headers: vec![("x-probe", b"a".to_vec()), ("x-probe", b"c".to_vec())], ..Sample::default() },
                false,
            ),
            (Sample::default(), false),
        ] {
            assert_eq!(exempt.holds(&request), expected, "{request:?}");
        }
    }

    #[test]
    fn nothing_is_asked_of_the_host_in_vain() {
        let request = Sample::default();
        assert!(Exempt::default().is_empty() && !Exempt::default().holds(&request));
        assert!(request.calls().is_empty());
    }
}
