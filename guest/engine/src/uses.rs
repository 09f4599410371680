//! Which parts of requests and responses the rules look at.

use alloc::{
    collections::BTreeSet,
    string::{String, ToString},
};

use crate::{
    config::FilterRules,
    rule::{ErrorFormat, ErrorFormatChoice, Policy, Scope, Source, hits},
    session::{OnMissingSession, SessionRules},
};

/// Parts of requests and of their responses. An adapter need not be able to show any other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uses {
    /// The method.
    pub method: bool,
    /// The path with its query.
    pub path: bool,
    /// The host that the request is for.
    pub authority: bool,
    /// The peer's address.
    pub source_address: bool,
    /// The route that the host chose.
    pub route_name: bool,
    /// The upstream that the host chose.
    pub service_name: bool,
    /// By which scheme the client asked.
    pub scheme: bool,
    /// Whether there is a body.
    pub has_body: bool,
    /// The request's body.
    pub request_body: bool,
    /// The response's headers.
    pub response_headers: bool,
    /// The response's body.
    pub response_body: bool,
    /// All headers of requests, whatever their names.
    pub all_headers: bool,
    /// Headers by their names, in lower case.
    pub headers: BTreeSet<String>,
}

impl Uses {
    /// Those that these rules look at.
    pub(crate) fn of(filters: &[FilterRules]) -> Uses {
        let mut uses = Uses::default();
        for rules in filters {
            match rules {
                FilterRules::Limiter(ruleset) => {
                    ruleset.scoped.iter().for_each(|(scope, _)| uses.add_scope(scope));
                    ruleset.policies().for_each(|policy| uses.add_policy(policy));
                }
                FilterRules::Session(rules) => uses.add_session(rules),
                FilterRules::Vault(_) => {
                    uses.add_header("cookie");
                    uses.response_headers = true;
                }
                FilterRules::Cache(_) => uses.add_cache(),
            }
        }
        uses
    }

    fn add_session(&mut self, rules: &SessionRules) {
        rules.source_headers().iter().for_each(|header| self.add_header(header));
        self.method |= rules.on_missing != OnMissingSession::Anonymous;
        if matches!(rules.on_missing, OnMissingSession::Redirect(_)) {
            self.add_header("accept");
        }
        self.path |= !rules.public.is_empty();
        // What changes nothing tells its method.
        self.method |= rules.follows_responses();
        self.response_headers |= rules.follows_responses();
    }

    fn add_cache(&mut self) {
        (self.method, self.path, self.authority, self.service_name) = (true, true, true, true);
        (self.scheme, self.has_body) = (true, true);
        (self.response_headers, self.response_body, self.all_headers) = (true, true, true);
    }

    fn add_scope(&mut self, scope: &Scope) {
        match scope {
            Scope::Route(_) | Scope::RoutePrefix(_) => self.route_name = true,
            Scope::RouteAndService(..) => (self.route_name, self.service_name) = (true, true),
            Scope::Domain(_) => self.authority = true,
            Scope::Service(_) => self.service_name = true,
        }
    }

    fn add_policy(&mut self, policy: &Policy) {
        let exempt = &policy.exempt;
        self.route_name |= !exempt.routes.is_empty();
        self.method |= !exempt.methods.is_empty();
        self.source_address |= !exempt.networks.is_empty();
        exempt.headers.iter().for_each(|(name, _)| self.add_header(name));
        if policy.counts_tokens() {
            self.add_header("content-length");
            (self.has_body, self.request_body) = (true, true);
            (self.response_headers, self.response_body) = (true, true);
        }
        if policy.error_format != ErrorFormatChoice::Always(ErrorFormat::Plain) {
            self.add_header("content-type");
        }
        self.path |= policy.error_format == ErrorFormatChoice::Auto || policy.may_request_usage();
        for item in &policy.items {
            match &item.limit_by.source {
                Source::Ip(client) => {
                    self.source_address = true;
                    client.header.iter().for_each(|name| self.add_header(name));
                }
                Source::Header(name) | Source::Session(name) => self.add_header(name),
                Source::Consumer => self.add_header(hits::CONSUMER),
                Source::Param(_) => self.path = true,
                Source::Cookie(_) => self.add_header("cookie"),
            }
        }
    }

    fn add_header(&mut self, name: &str) {
        match name {
            ":authority" => self.authority = true,
            ":path" | hits::PATH_ONLY => self.path = true,
            ":method" => self.method = true,
            name => {
                self.headers.insert(name.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::Config;

    fn uses(document: &Value) -> Uses {
        let config = Config::read(document.to_string().as_bytes()).expect("the configuration is good");
        Uses::of(&config.filters)
    }

    fn by(name: &str, value: &str) -> Uses {
        let key = if name.ends_with("ip") { "0.0.0.0/0" } else { "*" };
        uses(
            &json!({"rule_name": "r", "rule_items": [{name: value, "limit_keys": [{"key": key, "query_per_day": 1}]}]}),
        )
    }

    fn header(name: &str) -> Uses {
        Uses { headers: BTreeSet::from([name.into()]), ..Uses::default() }
    }

    #[test]
    fn a_threshold_looks_at_nothing() {
        assert_eq!(uses(&json!({"rule_name": "r", "global_threshold": {"query_per_day": 1}})), Uses::default());
    }

    #[test]
    fn rules_look_at_what_they_count_by() {
        let path = || Uses { path: true, ..Uses::default() };
        for (name, value, expected) in [
            ("limit_by_per_header", "X-Api-Key", header("x-api-key")),
            ("limit_by_per_header", ":authority", Uses { authority: true, ..Uses::default() }),
            ("limit_by_per_header", ":method", Uses { method: true, ..Uses::default() }),
            ("limit_by_per_header", ":path", path()),
            ("limit_by_per_param", "q", path()),
            ("limit_by_per_cookie", "sid", header("cookie")),
            ("limit_by_per_consumer", "", header("x-mse-consumer")),
            ("limit_by_per_ip", "from-remote-addr", Uses { source_address: true, ..Uses::default() }),
            (
                "limit_by_per_ip",
                "from-header-:authority",
                Uses { source_address: true, authority: true, ..Uses::default() },
            ),
            ("limit_by_per_ip", "from-header-x-real-ip", Uses { source_address: true, ..header("x-real-ip") }),
        ] {
            assert_eq!(by(name, value), expected, "{name}: {value}");
        }
    }

    #[test]
    fn tokens_are_guessed_by_a_length_and_errors_formatted_by_a_path() {
        let tokens = |format: &str| {
            uses(&json!({"rule_name": "r", "error_format": format, "global_threshold": {"token_per_day": 1}}))
        };
        let headers = ["content-length", "content-type"].map(String::from).into();
        let answers = Uses {
            has_body: true,
            request_body: true,
            response_headers: true,
            response_body: true,
            headers,
            ..Uses::default()
        };
        assert_eq!(tokens("openai"), answers.clone());
        assert_eq!(tokens("auto"), Uses { path: true, ..answers });
    }

    #[test]
    fn a_cache_looks_at_all_that_tells_requests_apart() {
        let cache = uses(&json!({"filters": [{"cache": {"redis": {"service_name": "redis.static"}}}]}));
        let expected = Uses {
            method: true,
            path: true,
            authority: true,
            service_name: true,
            scheme: true,
            has_body: true,
            response_headers: true,
            response_body: true,
            all_headers: true,
            ..Uses::default()
        };
        assert_eq!(cache, expected);
    }

    #[test]
    fn a_session_is_read_where_it_stands_and_its_absence_answered_by_more() {
        let session = |fields: Value| {
            let mut session = json!({"format": "express", "cookie": "sid", "secrets": ["a secret of some length"],
                "fields": {"user_id": "x-user-id"}, "redis": {"service_name": "redis.static"}});
            fields.as_object().unwrap().iter().for_each(|(name, value)| session[name] = value.clone());
            uses(&json!({"filters": [{"session": session}]}))
        };
        let plain = session(json!({}));
        assert!(plain.headers.contains("cookie") && !plain.path, "{plain:?}");
        let refusing = session(json!({"on_missing": 401}));
        assert!(refusing.method && !refusing.headers.contains("accept"), "{refusing:?}");
        let redirecting = session(json!({"on_missing": {"redirect": "/login"}, "public": ["/assets/*"]}));
        assert!(redirecting.method && redirecting.path && redirecting.headers.contains("accept"), "{redirecting:?}");
    }

    #[test]
    fn so_do_scopes_and_exemptions() {
        let policy = |scope: &str| json!({scope: ["a"], "rule_name": scope, "global_threshold": {"query_per_day": 1}});
        let scoped = |scope: &str| uses(&json!({"_rules_": [policy(scope)]}));
        assert_eq!(scoped("_match_domain_"), Uses { authority: true, ..Uses::default() });
        assert_eq!(scoped("_match_route_"), Uses { route_name: true, ..Uses::default() });
        assert_eq!(scoped("_match_service_"), Uses { service_name: true, ..Uses::default() });
        let exempt =
            json!({"methods": ["OPTIONS"], "networks": ["10.0.0.0/8"], "routes": ["a"], "headers": {"x-probe": "1"}});
        let exempting = uses(&json!({"rule_name": "r", "exempt": exempt, "global_threshold": {"query_per_day": 1}}));
        assert_eq!(exempting, Uses { method: true, source_address: true, route_name: true, ..header("x-probe") });
    }
}
