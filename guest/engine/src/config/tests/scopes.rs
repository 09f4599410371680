//! `_rules_`: which requests a configuration is for, and what stands beside it.

use super::*;
use crate::rule::Scope;

/// An element of `_rules_` with limits and these fields.
fn rule(fields: Value) -> Value {
    with(fields)
}

fn rules(rules: Value) -> Value {
    json!({"_rules_": rules})
}

fn scope(fields: Value) -> Scope {
    ruleset(config(&rules(json!([rule(fields)])))).scoped.remove(0).0
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

#[test]
fn categories() {
    assert_eq!(scope(json!({"_match_route_": ["a", "ns/b"]})), Scope::Route(texts(&["a", "ns/b"])));
    assert_eq!(scope(json!({"_match_route_": "a"})), Scope::Route(texts(&["a"])));
    assert_eq!(scope(json!({"_match_route_": 5})), Scope::Route(texts(&["5"])));
    assert_eq!(scope(json!({"_match_domain_": ["*.x", ""]})), Scope::Domain(texts(&["*.x", ""])));
    assert_eq!(scope(json!({"_match_service_": ["a.dns:80"]})), Scope::Service(texts(&["a.dns:80"])));
    assert_eq!(scope(json!({"_match_route_prefix_": ["a"]})), Scope::RoutePrefix(texts(&["a"])));
    assert_eq!(
        scope(json!({"_match_route_": ["a"], "_match_service_": ["s"]})),
        Scope::RouteAndService(texts(&["a"]), texts(&["s"]))
    );
    assert_eq!(
        scope(json!({"_match_route_": null, "_match_domain_": ["x"], "_match_service_": []})),
        Scope::Domain(texts(&["x"]))
    );
}

#[test]
fn what_loses_is_told() {
    let scope_and_warnings = |fields: Value| {
        let mut config = config(&rules(json!([rule(fields)])));
        let last = config.warnings.pop();
        assert!(last.is_some_and(|last| last.contains("passes without a limit")), "what is outside is told of last");
        let warnings = config.warnings.clone();
        (ruleset(config).scoped.remove(0).0, warnings)
    };
    let (scope, warnings) =
        scope_and_warnings(json!({"_match_route_": ["a"], "_match_domain_": ["d"], "_match_route_prefix_": ["p"]}));
    assert_eq!(scope, Scope::Route(texts(&["a"])));
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].starts_with("_rules_[0]._match_domain_: is not looked at"), "{warnings:?}");
    assert!(warnings[1].starts_with("_rules_[0]._match_route_prefix_: is not looked at"), "{warnings:?}");
    for domain in ["a.test:80", "http://a.test", "a.test/b"] {
        let (_, warnings) = scope_and_warnings(json!({"_match_domain_": ["d", domain]}));
        assert!(warnings[0].starts_with("_rules_[0]._match_domain_[1]: is met by no host"), "{warnings:?}");
    }
    let (scope, warnings) = scope_and_warnings(json!({"_match_domain_": ["d"], "_match_service_": ["s"]}));
    assert_eq!(scope, Scope::Domain(texts(&["d"])));
    assert!(warnings[0].starts_with("_rules_[0]._match_service_: "), "{warnings:?}");
    let (scope, warnings) = scope_and_warnings(json!({"_match_route_": ["", "a"]}));
    assert_eq!(scope, Scope::Route(texts(&["a"])));
    assert_eq!(warnings, ["_rules_[0]._match_route_[0]: is empty and therefore not looked at"]);
}

#[test]
fn a_rule_for_nothing_is_refused() {
    for fields in
        [json!({}), json!({"_match_route_": []}), json!({"_match_service_": [""]}), json!({"_match_domain_": null})]
    {
        refuses(rules(json!([rule(fields)])), "_rules_[0]", "expected at least one of `_match_route_`");
    }
    refuses(
        rules(json!([rule(json!({"_match_route_": [{}]}))])),
        "_rules_[0]._match_route_[0]",
        "expected a text, got an object",
    );
    refuses(rules(json!(["a"])), "_rules_[0]", "expected an object, got a text");
}

#[test]
fn rules_stand_alone() {
    let document = json!({"redis": {"service_name": "r"},
        "_rules_": [{"_match_route_": "a", "global_threshold": {"query_per_second": 1}}]});
    refuses(document, "_rules_[0].rule_name", "is missing");
    let document = json!({
        "redis": {"service_name": "r"},
        "_plugin_id_": "p",
        "_rules_": [{"_match_route_": "a", "rule_name": "x", "global_threshold": {"query_per_second": 1}}]
    });
    let config = config(&document);
    assert!(config.limiters().next().unwrap().fallback.is_none());
    assert_eq!(config.limiters().next().unwrap().scoped[0].1.redis, None);
    assert_eq!(config.services, []);
    assert!(config.warnings[0].contains("the elements of `_rules_` inherit nothing"), "{:?}", config.warnings);
    refuses(
        json!({"rule_name": "top", "_rules_": [rule(json!({"_match_route_": "a"}))]}),
        "",
        "expected `global_threshold` or `rule_items`",
    );
    refuses(
        rules(json!([rule(json!({"_match_route_": "a", "_rules_": []}))])),
        "_rules_[0]._rules_",
        "it stands at the top only",
    );
}

#[test]
fn the_top_level_is_for_the_other_requests() {
    let mut document = with(json!({"_plugin_id_": "x.default", "_rules_": [rule(json!({"_match_route_": "a"}))]}));
    let rules = ruleset(config(&document));
    assert_eq!(rules.scoped.len(), 1);
    assert!(rules.fallback.is_some());
    document["_rules_"] = json!([]);
    assert!(ruleset(config(&document)).scoped.is_empty());
    document["_rules_"] = json!(null);
    assert!(ruleset(config(&document)).fallback.is_some());
    for nothing in [json!({"_rules_": []}), json!({"_plugin_id_": "p"}), json!({})] {
        refuses(nothing, "", "nothing is configured");
    }
}

#[test]
fn equal_services_are_one() {
    let redis = |name: &str, database: u32| json!({"service_name": name, "database": database});
    let config = config(&rules(json!([
        rule(json!({"_match_route_": "a", "redis": redis("z", 0)})),
        rule(json!({"_match_route_": "b", "redis": redis("a", 0)})),
        rule(json!({"_match_route_": "c", "redis": {"service_name": "z", "service_port": 6379, "timeout": 1000}})),
        rule(json!({"_match_route_": "d", "redis": redis("z", 1)})),
        rule(json!({"_match_route_": "e"}))
    ])));
    let indices: Vec<Option<u32>> =
        config.limiters().flat_map(|ruleset| &ruleset.scoped).map(|(_, policy)| policy.redis).collect();
    assert_eq!(indices, [Some(0), Some(1), Some(0), Some(2), None]);
    let names: Vec<(&str, u32)> =
        config.services.iter().map(|service| (service.service_name.as_str(), service.database)).collect();
    assert_eq!(names, [("z", 0), ("a", 0), ("z", 1)]);
}
