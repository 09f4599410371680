//! What no host of `wasi:http` tells, and so no rule may depend on: it would meet no request, and limit nobody.

use slidegate_document::{ConfigError, Content, Node, Path};
use slidegate_engine::{
    Uses,
    config::Config,
    rule::{OnMissing, Policy, RuleItem, Source},
};

const PEER: &str = "looks at the peer's address, which HTTP components are not told: count by a header that a proxy in \
                    front of the host writes, as in `from-header-x-forwarded-for`";
const NO_PEER: &str = "counts by the peer's address where the header has none, which HTTP components are not told: \
                       expected `on_missing: refuse` or `on_missing: count` beside it";
const ROUTE: &str = "looks at the route, which HTTP components are not told";
const WINDOW: &str = "is missing: expected the Redis that counts, as windows without one are kept in an instance, and \
                      how many of those there are is up to the host";

/// Mistakes in a configuration that the engine finds none in: what depends on what is not shown.
pub fn mistakes(json: &[u8], config: &Config, uses: &Uses) -> Vec<ConfigError> {
    let mut found = Vec::new();
    if let Ok(document) = Node::parse(json) {
        look(Path::Root, &document, &mut found);
    }
    let is_about = |mistake: &ConfigError, messages: &[&str]| messages.contains(&mistake.message.as_str());
    // What the rules are decides; by how they are spelt is found where.
    for (is_used, messages) in [
        (config.policies().any(needs_peer), &[PEER, NO_PEER][..]),
        (uses.route_name, &[ROUTE]),
        (config.policies().any(|policy| policy.redis.is_none()), &[WINDOW]),
    ] {
        if !is_used {
            found.retain(|mistake| !is_about(mistake, messages));
        } else if !found.iter().any(|mistake| is_about(mistake, messages)) {
            found.extend(messages.first().map(|message| mistake(Path::Root, message)));
        }
    }
    found
}

fn needs_peer(policy: &Policy) -> bool {
    let by_peer = |item: &RuleItem| match &item.limit_by.source {
        Source::Ip(client) => client.header.is_none() || item.on_missing == OnMissing::Pass,
        _ => false,
    };
    !policy.exempt.networks.is_empty() || policy.items.iter().any(by_peer)
}

/// Looks for such fields in a value.
fn look(path: Path<'_>, node: &Node, found: &mut Vec<ConfigError>) {
    match &node.content {
        Content::Object(members) => {
            if node.get("rule_name").is_some() && node.get("redis").is_none_or(Node::is_null) {
                found.push(mistake(Path::Field(&path, "redis"), WINDOW));
            }
            for member in members {
                let is_exempt = matches!(path, Path::Field(_, "exempt"));
                let path = Path::Field(&path, &member.name);
                if let Some(message) = unshown(&member.name, &member.value, node, is_exempt) {
                    found.push(mistake(path, message));
                }
                look(path, &member.value, found);
            }
        }
        Content::List(elements) => {
            for (index, element) in elements.iter().enumerate() {
                look(Path::Element(&path, index), element, found);
            }
        }
        _ => {}
    }
}

/// Why a field cannot be used, going by its name, its value and the object that it stands in, maybe an `exempt`.
fn unshown(name: &str, value: &Node, beside: &Node, is_exempt: bool) -> Option<&'static str> {
    if value.is_null() {
        return None;
    }
    match name {
        "limit_by_per_ip" if value.as_str().is_some_and(|value| value.starts_with("from-header-")) => {
            let on_missing = beside.get("on_missing").and_then(Node::as_str);
            (!matches!(on_missing, Some("refuse" | "count"))).then_some(NO_PEER)
        }
        "limit_by_per_ip" => Some(PEER),
        "networks" if is_exempt => Some(PEER),
        "_match_route_" | "_match_route_prefix_" => Some(ROUTE),
        "routes" if is_exempt => Some(ROUTE),
        _ => None,
    }
}

fn mistake(path: Path<'_>, message: &str) -> ConfigError {
    ConfigError { path: path.to_string(), message: message.into() }
}

#[cfg(test)]
mod tests {
    use slidegate_engine::Engine;

    use super::*;

    fn told(json: &str) -> Vec<(String, &'static str)> {
        let engine = Engine::configure(json.as_bytes()).expect("the engine takes it");
        let config = Config::read(json.as_bytes()).expect("it is the same");
        let known = |mistake: ConfigError| {
            let message = [PEER, NO_PEER, ROUTE, WINDOW].into_iter().find(|message| *message == mistake.message);
            (mistake.path, message.expect("a message of this file"))
        };
        mistakes(json.as_bytes(), &config, &engine.configuration().uses).into_iter().map(known).collect()
    }

    fn item(fields: &str) -> String {
        let keys = r#""limit_keys": [{"key": "0.0.0.0/0", "query_per_day": 1}]"#;
        format!(r#"{{"rule_name": "r", "redis": {{"service_name": "r"}}, "rule_items": [{{{fields}, {keys}}}]}}"#)
    }

    #[test]
    fn whose_address_it_is_must_stand_in_the_request() {
        let place = |message| vec![("rule_items[0].limit_by_per_ip".to_owned(), message)];
        assert_eq!(told(&item(r#""limit_by_per_ip": "from-remote-addr""#)), place(PEER));
        assert_eq!(told(&item(r#""limit_by_per_ip": "from-header-x-real-ip""#)), place(NO_PEER));
        for on_missing in ["refuse", "count"] {
            let told =
                told(&item(&format!(r#""limit_by_per_ip": "from-header-x-real-ip", "on_missing": "{on_missing}""#)));
            assert_eq!(told, [], "{on_missing}");
        }
    }

    #[test]
    fn what_chooses_rules_must_be_shown_too() {
        let policy = |fields: &str| {
            let redis = r#""redis": {"service_name": "r"}, "global_threshold": {"query_per_day": 1}"#;
            format!(r#"{{"rule_name": "r", {redis}, {fields}}}"#)
        };
        let exempt = policy(r#""exempt": {"networks": ["10.0.0.0/8"], "routes": ["a"], "methods": ["OPTIONS"]}"#);
        assert_eq!(told(&exempt), [("exempt.networks".into(), PEER), ("exempt.routes".into(), ROUTE)]);
        for (scope, expected) in [
            ("_match_route_", vec![("_rules_[0]._match_route_".to_owned(), ROUTE)]),
            ("_match_route_prefix_", vec![("_rules_[0]._match_route_prefix_".to_owned(), ROUTE)]),
            ("_match_service_", vec![]),
            ("_match_domain_", vec![]),
        ] {
            let json = format!(r#"{{"_rules_": [{}]}}"#, policy(&format!(r#""{scope}": ["a"]"#)));
            assert_eq!(told(&json), expected, "{scope}");
        }
        let headers = policy(r#""exempt": {"headers": {"routes": ["a"], "networks": ["b"]}}"#);
        assert_eq!(told(&headers), []);
    }

    #[test]
    fn a_window_is_kept_in_redis() {
        let json = r#"{"filters": [{"rule_name": "r", "global_threshold": {"query_per_day": 1}}]}"#;
        assert_eq!(told(json), [("filters[0].redis".into(), WINDOW)]);
    }
}
